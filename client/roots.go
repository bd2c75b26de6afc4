package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// maxSteps is the number of new roots that one refresh follows (TUF 5.3.3).
const maxSteps = 256

// search asks all locations for newer roots, unless this refresh did so already with
// the same newest root. It reports whether there was one.
func (c *Client) search(ctx context.Context, w *walk) (found bool, err error) {
	trusted := w.trusted
	if w.searched == trusted.Version() {
		return false, nil
	}
	err = c.roots(ctx, w, everyone)
	if err == nil && !w.partial {
		w.searched = w.trusted.Version()
	}
	return w.trusted != trusted, err
}

// roots follows the root chain as far as any location serves it (TUF 5.3). It ends when
// want different operators reported that there is no next root, or when all locations
// have been asked.
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

// acceptRoot makes a verified root the newest trusted root, and stores it.
func (c *Client) acceptRoot(w *walk, next *tuf.Root) error {
	// Before the root is stored: a later refresh would not look for the fork again.
	c.noteFork(w, next)
	if err := w.session.keepRoot(next); err != nil {
		return err
	}
	c.log.Info("new root", "version", next.Version())
	w.advance(next)
	if !w.quiet {
		c.trusted.Store(next) // certificates are verified at its time from now on
	}
	return nil
}

// noteFork keeps evidence if next was signed as the successor of another root than
// ours. It is not refused, because otherwise a fork could not be repaired.
func (c *Client) noteFork(w *walk, next *tuf.Root) {
	charter := next.Charter()
	if !forked(w.trusted, next) {
		return
	}
	why := fmt.Errorf("fork: root v%d follows a v%d with sha256 %.16s, ours has %.16s", next.Version(), w.trusted.Version(), charter.PrevRoot(), w.trusted.SHA256())
	w.keepEvidence(c, "fork", rootName(w.trusted.Version()), w.trusted.Bytes(), why)
	w.keepEvidence(c, "fork", rootName(next.Version()), next.Bytes(), why)
}

// nextRoot asks the locations for the root after trusted; nil means that none is available.
// One location of each operator comes first. The others, and those that failed
// recently, are asked if that was not enough: a frozen mirror must not hide the honest
// one of the same operator. A probe of several operators takes turns, so that the first
// locations cannot hide the others.
func (c *Client) nextRoot(ctx context.Context, w *walk, want int) (*tuf.Root, error) {
	n := w.trusted.Version() + 1
	var none operators
	var locations []*location
	for _, p := range c.locations(w.trusted, w.now) {
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
	// Locations that are asked even if enough operators answered without them.
	must := map[string]bool{}
	probing := want > 1 && want != everyone
	if probing {
		var eldest string
		// A location that merely did not answer is asked in its turn, although it is
		// down.
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
			case len(none) > 0 && want != everyone && w.pace.late[p.key]: // it was asked in this refresh already
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
	w.settled = len(none) >= probe(w.trusted).MinOperators
	return found, nil
}

// rootFrom processes one location's answer, and records a failure if it is not the next
// root. No answer ends the search: another location may have the root.
func (c *Client) rootFrom(w *walk, p *location, data []byte, err error) *tuf.Root {
	n := w.trusted.Version() + 1
	if isAbsent(err) {
		w.answered = true
		w.none[p.key] = n
		w.served(p, false)
		return nil
	}
	if err == nil {
		done := c.noteParsing(p, len(data))
		var next *tuf.Root
		next, err = w.trusted.Next(data)
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

// walk looks for newer roots. It asks several operators at the first refresh of a
// process, after every failure, and as often as the charter requires; otherwise only
// the location that serves the content.
func (c *Client) walk(ctx context.Context, w *walk) error {
	want, probing := 1, due(w, c.probed)
	if probing {
		want = probe(w.trusted).MinOperators
	}
	err := c.roots(ctx, w, want)
	if err == nil && (w.trusted.CheckExpiry(w.now) != nil || w.rolledBack()) {
		// A newer root was seen before, so all locations are asked.
		_, err = c.search(ctx, w)
	}
	w.session.Turns.Roots = w.rootPoll.next(c.locations(w.trusted, w.now), w.failing)
	if err == nil && probing {
		err = c.proveRules(ctx, w)
	}
	// Verified roots count, whatever failed later.
	c.trusted.Store(w.trusted)
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

// due reports whether several operators are to be asked; last is when that was last
// done.
func due(w *walk, last time.Time) bool {
	return w.clock.Before(last) || w.clock.Sub(last) >= probe(w.trusted).Every
}

// rolledBack reports whether the newest trusted root is older than one seen before.
func (w *walk) rolledBack() bool { return w.trusted.Version() < w.session.Root }

// checkRoot returns nil if content may be used under the newest trusted root.
func (c *Client) checkRoot(w *walk, unconfirmed time.Duration) error {
	var state error
	probe := probe(w.trusted)
	old := unconfirmed > probe.MaxAge
	if old {
		c.log.Warn("too few operators confirmed the newest root", "for", unconfirmed, "want", probe.MinOperators)
	}
	switch {
	case w.partial:
		state = ErrMoreRoots
	case !w.answered:
		state = ErrUnreachable
	case w.rolledBack():
		state = fmt.Errorf("%w: root v%d, seen v%d", ErrRootRollback, w.trusted.Version(), w.session.Root)
	case old && probe.Enforce:
		state = fmt.Errorf("%w: for %s fewer than %d operators confirmed it", ErrStale, unconfirmed.Round(time.Second), probe.MinOperators)
	default:
		if err := w.trusted.CheckExpiry(w.now); err != nil {
			state = fmt.Errorf("%w: %w", ErrStale, err)
		} else if w.trusted.Charter() == nil && !w.settled && len(w.bad) > 0 {
			// An invalid next root aborts the update (TUF 5.3.4). With a charter it
			// does not: the trusted roots alone determine where content comes from.
			state = fmt.Errorf("%w: invalid root v%d", ErrNoContent, w.trusted.Version()+1)
		}
	}
	if state == nil {
		return nil
	}
	return join(append(append([]error{state}, w.problems...), c.without(w)...)...)
}

// without returns which locations reported that there is no newer root.
func (c *Client) without(w *walk) (out []error) {
	next := w.trusted.Version() + 1
	for _, p := range c.locations(w.trusted, w.now) {
		if w.none[p.key] == next {
			out = append(out, fmt.Errorf("%s: has no root v%d", text.Name(p.name), next))
		}
	}
	return out
}

// confirm records when enough operators last reported that there is no newer root, and
// returns how long ago that was; for a new state, since its creation.
func (s *session) confirm(w *walk) (ago time.Duration) {
	ago = w.now.Sub(s.Probed)
	switch {
	case s.Probed.IsZero() || ago < 0: // a clock that was ahead must not stop the counting
	case !w.settled:
		return ago
	case ago < time.Hour: // precise enough, and saves a write per refresh
		return 0
	}
	s.Probed = w.now
	return 0
}
