package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// maxSteps is how many new roots one refresh follows.
const maxSteps = 256

// everyone, as a number of operators to ask, leaves no place out.
const everyone = math.MaxInt

// walk is one refresh's search for newer roots.
type walk struct {
	session  *session
	tip      *tuf.Root
	now      time.Time // the clock, or the newest signed_at of the chain if that is later
	clock    time.Time
	steps    int
	answered bool // some place spoke, be it only to say "none"
	settled  bool // enough operators said that there is no newer root
	partial  bool // maxSteps reached
	evidence []string
	problems []error
	early    *early // nil: nothing was asked for ahead

	transient bool // a place failed that may well answer the next time

	// What places did in this refresh, by place.key.
	bad  map[string]bool      // gave what is no next root: not asked for roots again
	down map[string]bool      // did not answer, now or lately: asked last
	none map[string]int64     // said that there is no root of this version
	wait map[string]time.Time // asked not to be asked before
}

// advance makes root the tip.
func (w *walk) advance(root *tuf.Root) {
	w.tip, w.now, w.settled = root, later(w.now, root), false
}

// replay starts a walk: the pin's root, or the newest that this client verified
// already, then every root that was kept after it, through the same check as
// from the network. The first that fails cuts the tail.
func (c *Client) replay(s *session) (*walk, error) {
	clock := c.clock()
	w := &walk{session: s, now: clock, clock: clock, bad: map[string]bool{}, down: map[string]bool{}, none: map[string]int64{}, wait: map[string]time.Time{}}
	w.remember()
	w.advance(c.pin.Root())
	if tip := c.tip.Load(); tip != nil {
		w.advance(tip)
	}
	for {
		n := w.tip.Version() + 1
		data, err := c.store.Read("roots/"+rootName(n), c.limits.Root)
		if errors.Is(err, fs.ErrNotExist) {
			return w, nil
		}
		if err != nil {
			return nil, err
		}
		next, err := follow(c.store, w.tip, data, s.Recovered)
		if err != nil {
			c.log.Warn("a kept root does not follow; walking again from here", "version", n, "error", err)
			w.keepEvidence(c, "state", rootName(n), data, err)
			return w, s.dropRootsFrom(n)
		}
		w.advance(next)
	}
}

// roots walks from the tip as far as any place leads. It ends when want
// different operators said that there is no next root, or nobody is left to ask.
func (c *Client) roots(ctx context.Context, w *walk, want int) error {
	for ; w.steps < maxSteps; w.steps++ {
		next, err := c.nextRoot(ctx, w, want)
		if err != nil || next == nil {
			return err
		}
		// Before the root is kept: after it nobody would look for the fork again.
		c.noteFork(w, next)
		if err := w.session.keepRoot(next); err != nil {
			return err
		}
		c.log.Info("new root", "version", next.Version())
		w.advance(next)
	}
	w.partial = true
	return nil
}

// noteFork keeps evidence where next was signed by people who had another root
// before it than we. It is no reason to refuse: how else could it heal.
func (c *Client) noteFork(w *walk, next *tuf.Root) {
	charter := next.Charter()
	if charter == nil || charter.PrevRoot() == "" || strings.EqualFold(charter.PrevRoot(), w.tip.SHA256()) {
		return
	}
	why := fmt.Errorf("fork: root v%d follows a v%d with sha256 %.16s, ours has %.16s", next.Version(), w.tip.Version(), charter.PrevRoot(), w.tip.SHA256())
	w.keepEvidence(c, "fork", rootName(w.tip.Version()), w.tip.Bytes(), why)
	w.keepEvidence(c, "fork", rootName(next.Version()), next.Bytes(), why)
}

// nextRoot asks place after place for the root after the tip; nil means there
// is none to be had. One place of each operator comes first; the others, and
// those that did not answer before, are asked when that was not enough: an
// honest place must not be hidden by a frozen one of the same operator.
func (c *Client) nextRoot(ctx context.Context, w *walk, want int) (*tuf.Root, error) {
	none := map[string]bool{}
	places := c.places(w.tip, w.now)
	first := len(places)
	for i := 0; i < len(places) && len(none) < want; i++ {
		p := places[i]
		if i < first && (w.down[p.key] || none[p.operator]) {
			places = append(places, p)
			continue
		}
		next, err := c.askForRoot(ctx, w, p)
		if err != nil || next != nil {
			return next, err
		}
		if w.none[p.key] > w.tip.Version() && p.operator != "" {
			none[p.operator] = true
		}
	}
	w.settled = len(none) >= probe(w.tip).MinOperators
	return nil, nil
}

// askForRoot asks one place, and notes what it did where it has no next root.
// The error is only ever that of ctx: no answer ends the walk, another place may
// tell the truth.
func (c *Client) askForRoot(ctx context.Context, w *walk, p *place) (*tuf.Root, error) {
	n := w.tip.Version() + 1
	if w.bad[p.key] || w.none[p.key] == n {
		return nil, nil
	}
	if w.waits(p) {
		w.problems = append(w.problems, w.waiting(p))
		return nil, nil
	}
	data, err := readAll(ctx, p.source, "metadata/"+rootName(n), c.limits.Root, c.cfg.MetadataTimeout)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if errors.Is(err, fs.ErrNotExist) {
		w.answered = true
		w.none[p.key] = n
		w.well(p)
		return nil, nil
	}
	if err == nil {
		var next *tuf.Root
		if next, err = w.tip.Next(data); err == nil {
			w.answered = true
			w.well(p)
			return next, nil
		}
		w.keepEvidence(c, p.name, rootName(n), data, err)
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		w.answered = true
		w.bad[p.key] = true
	} else {
		w.down[p.key] = true
		w.failed(p, err)
	}
	w.problems = append(w.problems, fmt.Errorf("%s: %w", p.name, err))
	return nil, nil
}

func rootName(root int64) string { return fmt.Sprintf("%d.root.json", root) }

// probe says how many operators to ask, and how often. Without a charter there
// is one: whoever runs the sources.
func probe(root *tuf.Root) tuf.Probe {
	if root.Charter() == nil {
		return tuf.Probe{MinOperators: 1, Every: time.Hour, MaxAge: math.MaxInt64}
	}
	return root.Charter().Probe()
}
