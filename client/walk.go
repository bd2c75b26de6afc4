package client

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// everyone, as a number of operators to ask, leaves no place out.
const everyone = math.MaxInt

// walk is one refresh's search for newer roots.
type walk struct {
	session    *session
	tip        *tuf.Root
	now        time.Time // the clock, or signed_at of the tip if that is later
	clock      time.Time
	steps      int
	answered   bool // some place spoke, be it only to say "none"
	settled    bool // enough operators said that there is no newer root
	partial    bool // maxSteps reached
	evidence   []string
	problems   []error
	prefetched map[string]*prefetch // by place.key: what was asked for ahead
	quiet      bool                 // a trial: what it meets is not noted
	unsigned   []unsigned           // timestamps that the tip's keys did not sign
	former     []*tuf.Root          // the last with other online keys, of maxFormer generations

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
	if w.tip != nil && w.tip.OnlineKeys() != root.OnlineKeys() {
		w.former = append(w.former, w.tip)[max(0, len(w.former)+1-maxFormer):]
	}
	w.tip, w.now, w.settled = root, later(w.clock, root), false
}

func newWalk(s *session, clock time.Time) *walk {
	return &walk{session: s, now: clock, clock: clock, rootPoll: newPoll(s.Turns.Roots), timestampPoll: newPoll(s.Turns.Timestamps), pace: newPace(), failing: map[string]bool{},
		bad: map[string]bool{}, down: map[string]bool{}, none: map[string]int64{}, wait: map[string]time.Time{}}
}

// probe says how many operators to ask, and how often. Without a charter there
// is one: whoever runs the sources.
func probe(root *tuf.Root) tuf.Probe {
	if root.Charter() == nil {
		return tuf.Probe{MinOperators: 1, Every: time.Hour, MaxAge: math.MaxInt64}
	}
	return root.Charter().Probe()
}

// early is a request that was made before its answer was needed.
type prefetch struct {
	done   chan struct{}
	cancel context.CancelFunc
	data   []byte
	err    error
}

func (e *prefetch) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-e.done:
		return e.data, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dropEarly ends the requests that were made ahead.
func (w *walk) dropPrefetched() {
	for _, e := range w.prefetched {
		e.cancel()
		<-e.done
	}
	w.prefetched = nil
}

// unsigned is a timestamp that not enough of the tip's keys signed.
type unsigned struct {
	location *location
	data     []byte
	err      error
}

// maxFormer is of how many generations of online keys timestamps are known.
const maxFormer = 3

func (w *walk) sort(locations []*location) {
	last := func(p *location) int {
		if w.down[p.key] { // also where it is late
			return 1
		}
		return 0
	}
	slices.SortStableFunc(locations, func(a, b *location) int { return last(a) - last(b) })
}
