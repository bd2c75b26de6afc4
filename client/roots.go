package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// maxSteps is how many new roots one refresh follows.
const maxSteps = 256

// search asks everybody for newer roots, unless this refresh did so already at
// this tip. It reports whether there was one.
func (c *Client) search(ctx context.Context, w *walk) (found bool, err error) {
	tip := w.tip
	if w.searched == tip.Version() {
		return false, nil
	}
	err = c.roots(ctx, w, everyone)
	if err == nil && !w.partial {
		w.searched = w.tip.Version()
	}
	return w.tip != tip, err
}

// roots walks from the tip as far as any place leads. It ends when want
// different operators said that there is no next root, or nobody is left to ask.
func (c *Client) roots(ctx context.Context, w *walk, want int) error {
	for ; w.steps < maxSteps; w.steps++ {
		next, err := c.nextRoot(ctx, w, want)
		if err != nil || next == nil {
			return err
		}
		if err := c.acceptRoot(w, next); err != nil {
			return err
		}
	}
	w.partial = true
	return nil
}

// follows makes a root that verified the tip, and keeps it.
func (c *Client) acceptRoot(w *walk, next *tuf.Root) error {
	// Before the root is kept: after it nobody would look for the fork again.
	c.noteFork(w, next)
	if err := w.session.keepRoot(next); err != nil {
		return err
	}
	c.log.Info("new root", "version", next.Version())
	w.advance(next)
	if !w.quiet {
		c.tip.Store(next) // certificates are judged at its time from now on
	}
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

// nextRoot asks the locations for the root after the tip; nil means there is none
// to be had. One location of each operator comes first; the others, and those that
// did not answer before, are asked when that was not enough: an honest location
// must not be hidden by a frozen one of the same operator. Nor by others that
// always come first: a probe of several operators asks in turn.
func (c *Client) nextRoot(ctx context.Context, w *walk, want int) (*tuf.Root, error) {
	n := w.tip.Version() + 1
	var none operators
	var locations []*location
	for _, p := range c.locations(w.tip, w.now) {
		switch {
		case w.none[p.key] == n:
			none.add(p)
		case w.bad[p.key]:
		case w.rateLimited(p):
			w.problems = append(w.problems, w.rateLimitError(p))
		default:
			locations = append(locations, p)
		}
	}
	// Locations that are asked also where enough operators said "none" without them.
	must := map[string]bool{}
	probing := want > 1 && want != everyone
	if probing {
		var eldest string
		// Whoever merely did not answer is asked in its turn, though it rests.
		locations, eldest = w.rootPoll.order(locations, w.isDown, func(p *location) bool { return w.isDown(p) && w.session.Health[p.key].Content })
		must[eldest], must[w.leader] = true, true
	}
	enough := func() bool { return want != everyone && len(none) >= want }
	var found *tuf.Root
	asked := map[string]*location{}
	i, first := 0, len(locations)
	q := inquiry[[]byte]{pace: w.pace, get: c.metadata(rootName(n), c.limits.Root)}
	q.next = func() *location {
		for i < len(locations) {
			p := locations[i]
			i++
			switch {
			case enough() && !must[p.key]:
			case i <= first && !must[p.key] && (w.down[p.key] || w.pace.late[p.key] || none.has(p)):
				locations = append(locations, p)
			case len(none) > 0 && want != everyone && w.pace.late[p.key]: // it had its chance in this refresh
			default:
				asked[p.key] = p
				delete(must, p.key)
				if probing {
					w.rootPoll.ask(p.key)
				}
				return p
			}
		}
		return nil
	}
	q.use = func(p *location, data []byte, err error) need {
		delete(asked, p.key)
		if found = c.rootFrom(w, p, data, err); found != nil {
			w.leader = p.key
			return nothingMore
		}
		if w.none[p.key] == n {
			none.add(p)
		}
		switch {
		case enough() && !slices.ContainsFunc(locations[i:], func(p *location) bool { return must[p.key] && !w.pace.late[p.key] }):
			return nothingMore
		case len(none) > 0 && want != everyone:
			return welcome
		}
		return required
	}
	if !enough() {
		if err := q.run(ctx); err != nil {
			return nil, err
		}
	}
	w.unanswered(asked, false)
	w.settled = len(none) >= probe(w.tip).MinOperators
	return found, nil
}

// rootFrom takes one location's answer, and notes what it did where it has no
// next root. No answer ends the walk: another location may have the root.
func (c *Client) rootFrom(w *walk, p *location, data []byte, err error) *tuf.Root {
	n := w.tip.Version() + 1
	if isAbsent(err) {
		w.answered = true
		w.none[p.key] = n
		w.served(p, false)
		return nil
	}
	if err == nil {
		done := c.noteParsing(p, len(data))
		var next *tuf.Root
		next, err = w.tip.Next(data)
		done()
		if err == nil {
			w.answered = true
			w.served(p, false)
			return next
		}
		w.keepEvidence(c, p.name, rootName(n), data, err)
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		w.answered = true
		w.bad[p.key] = true
	}
	w.failed(p, err, false)
	w.problems = append(w.problems, fmt.Errorf("%s: %w", text.Name(p.name), err))
	return nil
}

// walk looks for newer roots: at several operators at the first refresh of a
// process, after every failure, and when the charter says so; in between at the
// serving place alone.
func (c *Client) walk(ctx context.Context, w *walk) error {
	want := 1
	if due(w, c.probed) {
		want = probe(w.tip).MinOperators
	}
	err := c.roots(ctx, w, want)
	if err == nil && (w.tip.CheckExpiry(w.now) != nil || w.rolledBack()) {
		// There must be a newer one: no place is left out.
		_, err = c.search(ctx, w)
	}
	w.session.Turns.Roots = w.rootPoll.next(c.locations(w.tip, w.now), w.failing)
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

// due reports whether more operators than one are to be asked; last is when that
// was done before.
func due(w *walk, last time.Time) bool {
	return w.clock.Before(last) || w.clock.Sub(last) >= probe(w.tip).Every
}

// behind reports whether the walk ended below a root that was seen before.
func (w *walk) rolledBack() bool { return w.tip.Version() < w.session.Root }

// judge says whether content may be used under the tip that the walk reached.
func (c *Client) checkRoot(w *walk, unconfirmed time.Duration) error {
	var state error
	probe := probe(w.tip)
	old := unconfirmed > probe.MaxAge
	if old {
		c.log.Warn("too few operators confirmed the newest root", "for", unconfirmed, "want", probe.MinOperators)
	}
	switch {
	case w.partial:
		state = ErrPartial
	case !w.answered:
		state = ErrDark
	case w.rolledBack():
		state = fmt.Errorf("%w: root v%d, seen v%d", ErrBehind, w.tip.Version(), w.session.Root)
	case old && probe.Enforce:
		state = fmt.Errorf("%w: for %s fewer than %d operators confirmed it", ErrStale, unconfirmed.Round(time.Second), probe.MinOperators)
	default:
		if err := w.tip.CheckExpiry(w.now); err != nil {
			state = fmt.Errorf("%w: %w", ErrStale, err)
		} else if w.tip.Charter() == nil && !w.settled && len(w.bad) > 0 {
			// The specification ends an update here (5.3.4). With a charter the
			// roots alone say where content comes from, whoever else lies.
			state = fmt.Errorf("%w: what is shown as root v%d is none", ErrNoContent, w.tip.Version()+1)
		}
	}
	if state == nil {
		return nil
	}
	return join(append(append([]error{state}, w.problems...), c.without(w)...)...)
}

// without says which locations have no newer root.
func (c *Client) without(w *walk) (out []error) {
	next := w.tip.Version() + 1
	for _, p := range c.locations(w.tip, w.now) {
		if w.none[p.key] == next {
			out = append(out, fmt.Errorf("%s: has no root v%d", text.Name(p.name), next))
		}
	}
	return out
}

// confirm notes when enough operators last said that there is no newer root, and
// returns how long ago that was; for a new state, since it began.
func (s *session) confirm(w *walk) (ago time.Duration) {
	ago = w.now.Sub(s.Probed)
	switch {
	case s.Probed.IsZero() || ago < 0: // a clock that was ahead must not stop the counting
	case !w.settled:
		return ago
	case ago < time.Hour: // exact enough to know by, and spares a write at each refresh
		return 0
	}
	s.Probed = w.now
	return 0
}
