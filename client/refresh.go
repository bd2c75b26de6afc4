package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Refresh learns the present state of the repository: the newest root, and the
// newest complete set of content under it. On success the View answers Find and
// Latest. Otherwise the error says which state of the world was met ([ErrDark],
// [ErrStale], [ErrBehind], [ErrPartial], [ErrNoContent]), joined with the
// reasons of each place; the View is then not nil and tells the root's version
// and what evidence was kept, but answers no question. After an error of the
// disk, or when ctx ends, the View is nil.
//
// Where no place answers at all it tries again, see Config.Retries. One refresh
// runs at a time, also across processes that share the state; the others wait,
// or end with ctx.
func (c *Client) Refresh(ctx context.Context) (*View, error) {
	for try := 0; ; try++ {
		view, again, err := c.refreshOnce(ctx)
		if !again || try >= c.cfg.Retries {
			return view, err
		}
		c.log.Info("no place answers; trying again", "try", try+1, "reason", err)
		if !pause(ctx, try) {
			return view, err
		}
		ctx = ownConnection(ctx)
	}
}

// pause waits half a second, doubled with each try, give or take a half: clients
// that failed together shall not come back together. False when ctx ends first.
func pause(ctx context.Context, try int) bool {
	d := 500 * time.Millisecond << min(try, 6)
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refreshOnce is one round over the places; again says that another may help.
func (c *Client) refreshOnce(ctx context.Context) (view *View, again bool, err error) {
	s, err := openState(ctx, c.store, c.log)
	if err != nil {
		return nil, false, failure(err)
	}
	defer s.close()
	defer c.closeIdle()
	view, again, err = c.refresh(ctx, s)
	// What was learned counts, also where the refresh failed.
	if saveErr := s.save(); saveErr != nil {
		view, err = nil, join(err, saveErr)
	}
	if view == nil || view.err != nil {
		c.probed, c.compared = time.Time{}, time.Time{} // look around the next time
	}
	if view == nil {
		return nil, false, failure(err)
	}
	if view.err != nil {
		c.log.Warn("not refreshed", "root", view.tip.Version(), "reason", view.err)
		return view, again, view.err
	}
	if at := view.set.timestamp.Expires(); !view.now.Before(at) {
		c.log.Warn("the timestamp has expired; Config.UnsafeStale accepts it", "expired", at, "now", view.now)
	}
	c.log.Info("refreshed", "root", view.tip.Version(), "timestamp", view.set.timestamp.Version(), "place", view.location.name)
	return view, false, nil
}

// refresh returns a View, or an error of the disk or of ctx.
func (c *Client) refresh(ctx context.Context, s *session) (view *View, again bool, err error) {
	w, err := c.replay(ctx, s)
	if err != nil {
		return nil, false, err
	}
	c.tip.Store(w.tip) // or each connection would read the kept roots anew, to judge its certificate
	for name, data := range s.broken {
		w.quarantine(c, name, data)
	}
	// With a charter a timestamp is asked for beside the next root: most of the
	// time there is none. Without one the specification's order is kept.
	tip := w.tip
	w.comparing = due(w, c.compared)
	if tip.Charter() != nil && tip.CheckExpiry(w.now) == nil {
		c.prefetchTimestamps(ctx, w)
		defer w.dropPrefetched()
	}
	if err := c.walk(ctx, w); err != nil {
		return nil, false, err
	}
	if w.tip != tip {
		w.dropPrefetched() // they may be older than the root
	}
	c.recordRoot(w)
	view = c.buildView(ctx, w)
	if view, err = c.overtaken(ctx, w, view); err != nil {
		return nil, false, err
	}
	if view.err == nil {
		s.Wait = nil // nothing is lost: who waited for a recovery begins anew, should it come to that again
	}
	if lacking(view.err) {
		known, settled := len(w.problems), w.settled
		found, err := c.search(ctx, w)
		if err != nil {
			return nil, false, err
		}
		if found || w.settled && !settled {
			c.recordRoot(w)
			w.dropPrefetched()
			view = c.buildView(ctx, w)
		}
		view.err = join(append([]error{view.err}, w.problems[known:]...)...)
	}
	if lacking(view.err) {
		known := len(w.problems)
		next, err := c.recovery(ctx, w)
		if err != nil {
			return nil, false, err
		}
		view.err = join(append([]error{view.err}, w.problems[known:]...)...)
		if next != nil {
			w.dropPrefetched()
			if err := c.walk(ctx, w); err != nil {
				return nil, false, err
			}
			c.recordRoot(w)
			view = c.buildView(ctx, w)
		}
	}
	view.evidence = w.evidence
	c.learn(w, view.location)
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	if disk, ok := errors.AsType[diskError](view.err); ok {
		return nil, false, disk
	}
	if w.comparing && w.compared {
		c.compared = w.clock
	}
	return view, w.transient && (errors.Is(view.err, ErrDark) || errors.Is(view.err, ErrNoContent)), nil
}

// lacking reports whether a refresh ended without content although roots were to
// be had: then everybody is asked for a newer root before it gives up.
func lacking(err error) bool {
	return errors.Is(err, ErrStale) || errors.Is(err, ErrNoContent) || errors.Is(err, ErrBehind)
}

// arrive notes how far the walk came.
func (c *Client) recordRoot(w *walk) {
	c.tip.Store(w.tip)
	w.session.Root = max(w.session.Root, w.tip.Version())
	w.session.recover(w.tip)
}
