package client

import (
	"context"
	"errors"
	"fmt"
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
// One refresh runs at a time, also across processes that share Config.Dir; the
// others wait, or end with ctx.
func (c *Client) Refresh(ctx context.Context) (*View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unlock, err := c.state.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer unlock()

	w, err := c.replay()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	// A probe is due at the first refresh of a process, after every failure, and
	// when the charter says so; in between the serving place alone is asked.
	due := c.probed.IsZero() || w.clock.Before(c.probed) || w.clock.Sub(c.probed) >= w.tip.Charter().Probe().Every
	if err := c.roots(ctx, w, due); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if due || len(w.problems) > 0 {
		c.probed = time.Time{}
	}
	if w.settled {
		c.probed = w.clock
	}
	unconfirmed, err := c.state.confirm(w)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	c.tip.Store(w.tip)
	view := &View{client: c, tip: w.tip, evidence: w.evidence}
	if view.err = c.judge(w, unconfirmed); view.err == nil {
		view.set, view.place, view.err = c.content(ctx, w)
	}
	view.evidence = w.evidence
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if view.err == nil {
		if err := c.state.commit(w.tip, view.set); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		view.places = c.places(w.tip, w.now)
		c.log.Info("refreshed", "root", w.tip.Version(), "timestamp", view.set.timestamp.Version(), "place", view.place.name)
		return view, nil
	}
	c.log.Warn("not refreshed", "root", w.tip.Version(), "reason", view.err)
	return view, view.err
}

// judge says whether content may be used under the tip that the walk reached.
func (c *Client) judge(w *walk, unconfirmed time.Duration) error {
	var state error
	probe := w.tip.Charter().Probe()
	old := unconfirmed > probe.MaxAge
	if old {
		c.log.Warn("too few operators confirmed the newest root", "for", unconfirmed, "want", probe.MinOperators)
	}
	switch {
	case w.partial:
		state = ErrPartial
	case !w.answered:
		state = ErrDark
	case w.tip.Version() < c.state.load().Root:
		state = fmt.Errorf("%w: root v%d, seen v%d", ErrBehind, w.tip.Version(), c.state.load().Root)
	case old && probe.Enforce:
		state = fmt.Errorf("%w: for %s fewer than %d operators confirmed it", ErrStale, unconfirmed.Round(time.Second), probe.MinOperators)
	default:
		if err := w.tip.CheckExpiry(w.now); err != nil {
			state = fmt.Errorf("%w: %w", ErrStale, err)
		}
	}
	if state == nil {
		return nil
	}
	return errors.Join(append([]error{state}, w.problems...)...)
}
