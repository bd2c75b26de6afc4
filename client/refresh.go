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
	f, err := c.state.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	defer f.close()
	defer c.rest()
	view, err := c.refresh(ctx, f)
	// What was learned counts, also where the refresh failed.
	if saveErr := f.save(); saveErr != nil {
		view, err = nil, errors.Join(err, saveErr)
	}
	if view == nil || view.err != nil {
		c.probed = time.Time{} // look around the next time
	}
	if view == nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if view.err != nil {
		c.log.Warn("not refreshed", "root", view.tip.Version(), "reason", view.err)
		return view, view.err
	}
	f.sweep()
	c.log.Info("refreshed", "root", view.tip.Version(), "timestamp", view.set.timestamp.Version(), "place", view.place.name)
	return view, nil
}

// refresh returns a View, or an error of the disk or of ctx.
func (c *Client) refresh(ctx context.Context, f *folder) (*View, error) {
	w, err := c.replay(f)
	if err != nil {
		return nil, err
	}
	if err := c.walk(ctx, w); err != nil {
		return nil, err
	}
	f.Root = max(f.Root, w.tip.Version())
	if err := f.recover(w.tip); err != nil {
		return nil, err
	}
	view := &View{client: c, tip: w.tip, err: c.judge(w, f.confirm(w))}
	if view.err == nil {
		view.set, view.place, view.err = c.content(ctx, w)
	}
	view.evidence = w.evidence
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if disk, ok := errors.AsType[diskError](view.err); ok {
		return nil, disk
	}
	if view.err == nil {
		if err := f.commit(w.tip, view.set); err != nil {
			return nil, err
		}
	}
	return view, nil
}

// walk looks for newer roots: at several operators at the first refresh of a
// process, after every failure, and when the charter says so; in between at the
// serving place alone.
func (c *Client) walk(ctx context.Context, w *walk) error {
	probe := w.tip.Charter().Probe()
	want := 1
	if c.probed.IsZero() || w.clock.Before(c.probed) || w.clock.Sub(c.probed) >= probe.Every {
		want = probe.MinOperators
	}
	err := c.roots(ctx, w, want)
	if err == nil && !w.partial && (w.tip.CheckExpiry(w.now) != nil || w.behind()) {
		// There must be a newer one: no place is left out.
		err = c.roots(ctx, w, everyone)
	}
	// What was verified counts, whatever came after.
	c.tip.Store(w.tip)
	if err != nil {
		return err
	}
	if w.settled {
		c.probed = w.clock
	} else if want > 1 || len(w.problems) > 0 {
		c.probed = time.Time{}
	}
	return nil
}

// behind reports whether the walk ended below a root that was seen before.
func (w *walk) behind() bool { return w.tip.Version() < w.folder.Root }

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
	case w.behind():
		state = fmt.Errorf("%w: root v%d, seen v%d", ErrBehind, w.tip.Version(), w.folder.Root)
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
