package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Refresh fetches the current state of the repository: the newest root, and the newest
// complete set of content under it. On success the View answers Find and Latest.
// Otherwise the error is a [*RefreshError], which wraps one of [ErrUnreachable],
// [ErrStale], [ErrRootRollback], [ErrMoreRoots] and [ErrNoContent]. After a disk error,
// or when ctx ends, the error is that one.
//
// Refresh retries if no location is reachable, see Config.Retries. Only one refresh
// runs at a time, also across processes that share the state; others wait until it ends
// or their ctx does.
func (c *Client) Refresh(ctx context.Context) (*View, error) {
	for try := 0; ; try++ {
		view, again, err := c.refreshOnce(ctx)
		if !again || try >= c.cfg.Retries {
			return view, err
		}
		c.log.Info("no location is reachable; trying again", "try", try+1, "reason", err)
		if !pause(ctx, try) {
			return view, err
		}
		ctx = ownConnection(ctx)
	}
}

// pause waits half a second, doubled with each try, with ±50 % jitter, so that clients
// do not retry in lockstep. It returns false if ctx ends first.
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

// refreshOnce asks the locations once; again reports that a retry may help.
func (c *Client) refreshOnce(ctx context.Context) (view *View, again bool, err error) {
	s, err := openState(ctx, c.store, c.log)
	if err != nil {
		return nil, false, failure(err)
	}
	defer s.close()
	defer c.closeIdle()
	view, again, err = c.refresh(ctx, s)
	// The state is saved even if the refresh failed.
	if saveErr := s.save(); saveErr != nil {
		view, err = nil, join(err, saveErr)
	}
	if view == nil || view.err != nil {
		c.probed, c.compared = time.Time{}, time.Time{} // probe the next time
	}
	if view == nil {
		return nil, false, failure(err)
	}
	if view.err != nil {
		c.log.Warn("not refreshed", "root", view.trusted.Version(), "reason", view.err)
		return nil, again, &RefreshError{Err: failure(view.err), Root: view.trusted, Evidence: view.evidence, ClockBehind: view.ClockBehind(), At: view.now}
	}
	if at := view.set.timestamp.Expires(); !view.now.Before(at) {
		c.log.Warn("the timestamp has expired; Config.UnsafeStale accepts it", "expired", at, "now", view.now)
	}
	c.log.Info("refreshed", "root", view.trusted.Version(), "timestamp", view.set.timestamp.Version(), "location", view.location.name)
	return view, false, nil
}

// refresh returns a View, or a disk error, or that of ctx.
func (c *Client) refresh(ctx context.Context, s *session) (view *View, again bool, err error) {
	w, err := c.replay(ctx, s)
	if err != nil {
		return nil, false, err
	}
	c.trusted.Store(w.trusted) // or each connection would read the kept roots again to verify its certificate
	for name, data := range s.broken {
		w.quarantine(c, name, data)
	}
	// With a charter a timestamp is requested in parallel with the next root, which
	// usually does not exist. Without one the order of the specification is kept (TUF
	// 5).
	trusted := w.trusted
	w.comparing = due(w, c.compared)
	if trusted.Charter() != nil && trusted.CheckExpiry(w.now) == nil {
		c.prefetchTimestamps(ctx, w)
		defer w.dropPrefetched()
	}
	if err := c.walk(ctx, w); err != nil {
		return nil, false, err
	}
	if w.trusted != trusted {
		w.dropPrefetched() // they may be older than the root
	}
	c.recordRoot(w)
	view = c.buildView(ctx, w)
	if view, err = c.overtaken(ctx, w, view); err != nil {
		return nil, false, err
	}
	if view.err == nil {
		s.Wait = nil // the repository works; a later recovery needs a new waiting period
	}
	if lacking(view.err) {
		known, settled := len(w.problems), w.settled
		found, err := c.search(ctx, w)
		if err != nil {
			return nil, false, err
		}
		if found {
			if err := c.proveRules(ctx, w); err != nil {
				return nil, false, err
			}
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
	return view, w.transient && (errors.Is(view.err, ErrUnreachable) || errors.Is(view.err, ErrNoContent)), nil
}

// lacking reports whether a refresh ended without content although roots were
// available: then all locations are asked for a newer root before it fails.
func lacking(err error) bool {
	return errors.Is(err, ErrStale) || errors.Is(err, ErrNoContent) || errors.Is(err, ErrRootRollback)
}

// recordRoot records the newest trusted root.
func (c *Client) recordRoot(w *walk) {
	c.trusted.Store(w.trusted)
	c.changes = w.changes
	w.session.Root = max(w.session.Root, w.trusted.Version())
	w.session.recover(w.trusted)
}

// RefreshError is the error of a [Client.Refresh] that ended without usable content.
type RefreshError struct {
	// Err is one of [ErrUnreachable], [ErrStale], [ErrRootRollback], [ErrMoreRoots] and
	// [ErrNoContent], joined with the errors of each location.
	Err error
	// Root is the newest trusted root, which may be newer than before the refresh.
	Root        *tuf.Root
	Evidence    []string      // as [View.Evidence]
	ClockBehind time.Duration // as [View.ClockBehind]
	At          time.Time     // the time used for verification
}

// Error returns the text of Err.
func (e *RefreshError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RefreshError) Unwrap() error { return e.Err }

// Decide returns the error as the [Decision] on a target: it is refused.
func (e *RefreshError) Decide(path string) Decision {
	return (&View{trusted: e.Root, now: e.At}).decision(path, tuf.Release{}, tuf.Approved{}, e.Err)
}
