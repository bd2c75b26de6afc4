package client

import (
	"context"
	"errors"
	"io/fs"
)

// replay starts a walk: it verifies all kept roots again, starting from the pin's root,
// or from the newest that this client has verified before. The first that fails is
// removed, with all after it.
func (c *Client) replay(ctx context.Context, s *session) (*walk, error) {
	w := newWalk(s, c.clock())
	w.remember()
	w.interrupted()
	for key := range c.avoided(w.clock) {
		w.down[key] = true
	}
	w.advance(c.pin.Root())
	if trusted := c.trusted.Load(); trusted != nil {
		w.advance(trusted)
		if former := c.former.Load(); former != nil {
			w.former = *former
		}
		w.changes = c.changes
	}
	for {
		n := w.trusted.Version() + 1
		data, err := c.store.Read("roots/"+rootName(n), c.limits.Root)
		if errors.Is(err, fs.ErrNotExist) {
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		next, by, err := follow(c.store, w.trusted, data, s.Recovered)
		if err == nil && by != nil && w.trusted.CheckExpiry(w.now) == nil {
			if alive, err := c.alive(ctx, w, by); alive || err != nil {
				return w, err
			}
		}
		if err != nil {
			c.log.Warn("a stored root does not verify; discarding it and later ones", "version", n, "error", err)
			w.keepEvidence(c, "state", rootName(n), data, err)
			s.dropRootsFrom(n)
			return w, nil
		}
		w.advance(next)
	}
}
