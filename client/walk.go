package client

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// everyone as a number of operators means all locations.
const everyone = math.MaxInt

// walk is one refresh's traversal of the root chain.
type walk struct {
	session    *session
	trusted    *tuf.Root
	now        time.Time // the clock, or signed_at of trusted if that is later
	clock      time.Time
	steps      int
	answered   bool // a location answered, even if only "not found"
	settled    bool // enough operators reported that there is no newer root
	partial    bool // maxSteps reached
	evidence   []string
	problems   []error
	prefetched map[string]*prefetch // by location.key: requests made in advance
	quiet      bool                 // a trial: nothing is recorded
	unsigned   []unsigned           // timestamps that the keys of trusted did not sign
	changes    []*tuf.Root          // roots whose change of the rule of the log is pending, at most maxChanges
	former     []*tuf.Root          // earlier roots with other online keys, at most maxFormer

	// The order of probes for the next root, and for timestamps.
	rootPoll, timestampPoll *poll

	leader   string // location.key of the location that served the trusted root in this refresh
	searched int64  // the trusted version when all locations were asked for the next root

	comparing bool // timestamps of several operators are to be compared
	compared  bool // they were, of as many operators as available

	transient bool // a location failed that may answer the next time

	// Observations of locations in this refresh, by location.key.
	pace    *pace
	failing map[string]bool      // recorded as failed
	bad     map[string]bool      // served an invalid next root: not asked for roots again
	down    map[string]bool      // did not answer, now or recently: asked last
	none    map[string]int64     // reported that there is no root of this version
	wait    map[string]time.Time // asked for a pause until then
}

// advance makes root the newest trusted root.
func (w *walk) advance(root *tuf.Root) {
	if w.trusted != nil && w.trusted.OnlineKeys() != root.OnlineKeys() {
		w.former = append(w.former, w.trusted)[max(0, len(w.former)+1-maxFormer):]
	}
	w.noteChange(root)
	w.trusted, w.now, w.settled = root, later(w.clock, root), false
}

// maxChanges is the number of pending changes whose proofs are sought, the oldest first:
// once they are in force, those that follow are sought.
const maxChanges = 64

// forked reports whether next was signed as the successor of another root than trusted.
func forked(trusted, next *tuf.Root) bool {
	charter := next.Charter()
	return charter != nil && charter.PrevRoot() != "" && !strings.EqualFold(charter.PrevRoot(), trusted.SHA256())
}

// noteChange records root, the next trusted root, if it changes the rule of the log and the
// change is pending.
func (w *walk) noteChange(root *tuf.Root) {
	switch {
	case !root.LogPending():
		w.changes = nil
	case w.trusted != nil && len(w.changes) < maxChanges && (root.ChangesLog(w.trusted) || forked(w.trusted, root)):
		w.changes = append(slices.Clone(w.changes), root)
	}
}

func newWalk(s *session, clock time.Time) *walk {
	return &walk{session: s, now: clock, clock: clock, rootPoll: newPoll(s.Turns.Roots), timestampPoll: newPoll(s.Turns.Timestamps), pace: newPace(), failing: map[string]bool{},
		bad: map[string]bool{}, down: map[string]bool{}, none: map[string]int64{}, wait: map[string]time.Time{}}
}

// probe returns how many operators to ask, and how often. Without a charter all sources
// count as one operator.
func probe(root *tuf.Root) tuf.Probe {
	if root.Charter() == nil {
		return tuf.Probe{MinOperators: 1, Every: time.Hour, MaxAge: math.MaxInt64}
	}
	return root.Charter().Probe()
}

// prefetch is a request that is made before its answer is needed.
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

// dropPrefetched cancels the requests that were made in advance.
func (w *walk) dropPrefetched() {
	for _, e := range w.prefetched {
		e.cancel()
		<-e.done
	}
	w.prefetched = nil
}

// unsigned is a timestamp that too few keys of the newest trusted root signed.
type unsigned struct {
	location *location
	data     []byte
	err      error
}

// maxFormer is the number of former sets of online keys whose timestamps are
// recognized.
const maxFormer = 3

func (w *walk) sort(locations []*location) {
	last := func(p *location) int {
		if w.down[p.key] { // also if it is late
			return 1
		}
		return 0
	}
	slices.SortStableFunc(locations, func(a, b *location) int { return last(a) - last(b) })
}
