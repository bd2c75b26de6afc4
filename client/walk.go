package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
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
	early    map[string]*early // by place.key: what was asked for ahead
	quiet    bool              // a trial: what it meets is not noted

	// Whom probes ask: for the next root, and for timestamps.
	rootPoll, timestampPoll *poll

	leader   string // place.key of who served the tip in this refresh
	searched int64  // the version of the tip at which everybody was asked for the next root

	comparing bool // timestamps of several operators are to be compared
	compared  bool // and were, of as many as there are

	transient bool // a place failed that may well answer the next time

	// What places did in this refresh, by place.key.
	pace    *pace
	failing map[string]bool      // were noted to have failed
	bad     map[string]bool      // gave what is no next root: not asked for roots again
	down    map[string]bool      // did not answer, now or lately: asked last
	none    map[string]int64     // said that there is no root of this version
	wait    map[string]time.Time // asked not to be asked before
}

// advance makes root the tip.
func (w *walk) advance(root *tuf.Root) {
	w.tip, w.now, w.settled = root, later(w.now, root), false
}

func newWalk(s *session, clock time.Time) *walk {
	return &walk{session: s, now: clock, clock: clock, rootPoll: newPoll(s.Turns.Roots), timestampPoll: newPoll(s.Turns.Timestamps), pace: newPace(), failing: map[string]bool{},
		bad: map[string]bool{}, down: map[string]bool{}, none: map[string]int64{}, wait: map[string]time.Time{}}
}

// replay starts a walk: the pin's root, or the newest that this client verified
// already, then every root that was kept after it, through the same check as
// from the network. The first that fails cuts the tail.
func (c *Client) replay(ctx context.Context, s *session) (*walk, error) {
	w := newWalk(s, c.clock())
	w.remember()
	w.interrupted()
	for key := range c.avoided(w.clock) {
		w.down[key] = true
	}
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
		next, by, err := follow(c.store, w.tip, data, s.Recovered)
		if err == nil && by != nil && w.tip.CheckExpiry(w.now) == nil {
			if alive, err := c.alive(ctx, w, by); alive || err != nil {
				return w, err
			}
		}
		if err != nil {
			c.log.Warn("a kept root does not follow; walking again from here", "version", n, "error", err)
			w.keepEvidence(c, "state", rootName(n), data, err)
			s.dropRootsFrom(n)
			return w, nil
		}
		w.advance(next)
	}
}

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

// errLate: a location did not answer in time, so that others were asked.
var errLate = errors.New("did not answer in time")

// nextRoot asks the locations for the root after the tip; nil means there is none
// to be had. One location of each operator comes first; the others, and those that
// did not answer before, are asked when that was not enough: an honest location
// must not be hidden by a frozen one of the same operator. Nor by others that
// always come first: a probe of several operators asks in turn.
func (c *Client) nextRoot(ctx context.Context, w *walk, want int) (*tuf.Root, error) {
	n := w.tip.Version() + 1
	var none operators
	var places []*place
	for _, p := range c.places(w.tip, w.now) {
		switch {
		case w.none[p.key] == n:
			none.add(p)
		case w.bad[p.key]:
		case w.waits(p):
			w.problems = append(w.problems, w.waiting(p))
		default:
			places = append(places, p)
		}
	}
	// Locations that are asked also where enough operators said "none" without them.
	must := map[string]bool{}
	probing := want > 1 && want != everyone
	if probing {
		var eldest string
		// Whoever merely did not answer is asked in its turn, though it rests.
		places, eldest = w.rootPoll.order(places, w.rests, func(p *place) bool { return w.rests(p) && w.session.Health[p.key].Content })
		must[eldest], must[w.leader] = true, true
	}
	enough := func() bool { return want != everyone && len(none) >= want }
	var found *tuf.Root
	asked := map[string]*place{}
	i, first := 0, len(places)
	q := inquiry[[]byte]{pace: w.pace, get: c.metadata(rootName(n), c.limits.Root)}
	q.next = func() *place {
		for i < len(places) {
			p := places[i]
			i++
			switch {
			case enough() && !must[p.key]:
			case i <= first && !must[p.key] && (w.down[p.key] || w.pace.late[p.key] || none.has(p)):
				places = append(places, p)
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
	q.use = func(p *place, data []byte, err error) need {
		delete(asked, p.key)
		if found = c.rootFrom(w, p, data, err); found != nil {
			w.leader = p.key
			return nothingMore
		}
		if w.none[p.key] == n {
			none.add(p)
		}
		switch {
		case enough() && !slices.ContainsFunc(places[i:], func(p *place) bool { return must[p.key] && !w.pace.late[p.key] }):
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

// unanswered notes which of the locations did not answer as long as the call
// waited for them.
func (w *walk) unanswered(asked map[string]*place, content bool) {
	for key, p := range asked {
		if w.pace.late[key] {
			w.failed(p, errLate, content)
			w.problems = append(w.problems, fmt.Errorf("%s: %w", text.Name(p.name), errLate))
		}
	}
}

// rootFrom takes one location's answer, and notes what it did where it has no
// next root. No answer ends the walk: another location may have the root.
func (c *Client) rootFrom(w *walk, p *place, data []byte, err error) *tuf.Root {
	n := w.tip.Version() + 1
	if isAbsent(err) {
		w.answered = true
		w.none[p.key] = n
		w.served(p, false)
		return nil
	}
	if err == nil {
		done := c.attempt(p, len(data))
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

// served notes that a location did what it is for, though perhaps late.
func (w *walk) served(p *place, content bool) {
	if w.pace.late[p.key] {
		w.fail(p.key, content)
		return
	}
	w.well(p, content)
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
