package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// maxSteps is how many new roots one refresh follows.
const maxSteps = 256

// walk is one refresh's search for newer roots.
type walk struct {
	tip      *tuf.Root
	now      time.Time // the clock, or the newest signed_at of the chain if that is later
	clock    time.Time
	answered bool // some place spoke, be it only to say "none"
	settled  bool // enough operators said that there is no newer root
	partial  bool // maxSteps reached
	evidence []string
	problems []error
}

// advance makes root the tip.
func (w *walk) advance(root *tuf.Root) {
	w.tip, w.now = root, later(w.now, root)
}

// replay starts a walk: the pin's root, then every root that was kept, through
// the same check as from the network. The first that fails cuts the tail.
func (c *Client) replay() (*walk, error) {
	clock := c.cfg.Now().UTC()
	w := &walk{now: clock, clock: clock}
	w.advance(c.pin.Root())
	for {
		n := w.tip.Version() + 1
		data, err := c.state.root(n)
		if errors.Is(err, fs.ErrNotExist) {
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		next, err := w.tip.Next(data)
		if err != nil {
			c.log.Warn("a kept root does not follow; walking again from here", "version", n, "error", err)
			w.keepEvidence(c, "state", rootName(n), data, err)
			return w, c.state.dropRootsFrom(n)
		}
		w.advance(next)
	}
}

// roots walks from the tip as far as any place leads. With probe, it ends when
// as many different operators as the charter asks said that there is no next
// root; without, when the first place said so.
func (c *Client) roots(ctx context.Context, w *walk, probe bool) error {
	bad := map[string]bool{}
	for range maxSteps {
		next, err := c.nextRoot(ctx, w, probe, bad)
		if err != nil || next == nil {
			return err
		}
		if err := c.state.keepRoot(next); err != nil {
			return err
		}
		c.log.Info("new root", "version", next.Version())
		w.advance(next)
	}
	w.partial = true
	return nil
}

// nextRoot asks place after place for the root after the tip; nil means there
// is none to be had.
func (c *Client) nextRoot(ctx context.Context, w *walk, probe bool, bad map[string]bool) (*tuf.Root, error) {
	n := w.tip.Version() + 1
	file := rootName(n)
	want := 1
	if probe {
		want = w.tip.Charter().Probe().MinOperators
	}
	none := map[string]bool{}
	for _, p := range c.places(w.tip, w.now) {
		if bad[p.name] || p.operator != "" && none[p.operator] {
			continue
		}
		data, err := readAll(ctx, p.source, "metadata/"+file, c.rootLimit(), c.cfg.MetadataTimeout)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			w.answered = true
			if p.operator != "" {
				none[p.operator] = true
			}
			if len(none) >= want || c.cfg.Offline {
				w.settled = len(none) >= w.tip.Charter().Probe().MinOperators
				return nil, nil
			}
			continue
		case errors.Is(err, errTooLong):
			w.answered = true
			bad[p.name] = true
			w.problems = append(w.problems, fmt.Errorf("%s: %w", p.name, err))
			continue
		case err != nil:
			w.problems = append(w.problems, fmt.Errorf("%s: %w", p.name, err))
			continue
		}
		w.answered = true
		next, err := w.tip.Next(data)
		if err != nil {
			// Never the end of the cycle: another place may tell the truth.
			bad[p.name] = true
			w.problems = append(w.problems, fmt.Errorf("%s: %w", p.name, err))
			w.keepEvidence(c, p.name, file, data, err)
			continue
		}
		return next, nil
	}
	return nil, nil
}

func rootName(root int64) string { return fmt.Sprintf("%d.root.json", root) }

func (c *Client) rootLimit() int64 {
	if c.cfg.Limits.Root > 0 {
		return c.cfg.Limits.Root
	}
	return 512 << 10
}

// keepEvidence files what was refused. That it can't be kept must not stop an update.
func (w *walk) keepEvidence(c *Client, from, name string, data []byte, why error) {
	file, err := c.state.keepEvidence(from, name, data, why, w.clock)
	if err != nil {
		c.log.Warn("evidence not kept", "error", err)
		return
	}
	c.log.Warn("refused", "place", from, "reason", why, "evidence", file)
	w.evidence = append(w.evidence, file)
}
