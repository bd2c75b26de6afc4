package client

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/layout"
)

// How long a call waits for one location before it asks the next one in addition (its
// patience). A late request continues until Config.MetadataTimeout, and its answer
// still counts if it arrives in time.
const (
	// answerPatience is for a location that does not answer at all.
	answerPatience = 5 * time.Second
	// filePatience is for all files that one call reads from one location: a location
	// cannot extend it by answering each request just in time.
	filePatience = 10 * time.Second
)

// pace is what one call knows about the speed of locations, by location.key.
type pace struct {
	waited map[string]time.Duration // how long the call waited for the location
	late   map[string]bool          // exceeded the patience
}

func newPace() *pace { return &pace{waited: map[string]time.Duration{}, late: map[string]bool{}} }

// impatient reduces the patience with a location to one second.
func (pc *pace) impatient(key string) { pc.waited[key] = filePatience - time.Second }

// need is what an inquiry still requires after an answer.
type need int

const (
	required need = iota // an answer; locations may use the whole timeout
	welcome              // more answers, from locations within the patience
	nothingMore
)

// inquiry asks locations for the same file until its need is met. The next location is
// asked when the one before has answered without meeting the need, or has exceeded the
// patience; requests then run in parallel.
type inquiry[T any] struct {
	pace *pace
	next func() *location // the location to ask now, nil: none is left
	// get makes the request on its own goroutine; it calls answered when the location
	// begins to answer.
	get  func(ctx context.Context, p *location, answered func()) (T, error)
	most int                                    // maximum of parallel requests; 0: unlimited
	use  func(p *location, v T, err error) need // called on the caller's goroutine
}

type request struct {
	location *location
	begun    time.Time
	begin    bool // it has begun to answer
}

// left returns how much longer the call waits for this request alone.
func (a *request) left(pc *pace) time.Duration {
	d := filePatience - pc.waited[a.location.key]
	if !a.begin {
		d = min(d, answerPatience)
	}
	return d - time.Since(a.begun)
}

// run returns when the need is met or no location is left; its error is that of ctx
// only. Its goroutines end before it returns.
func (q inquiry[T]) run(ctx context.Context) error {
	type event struct {
		from *request
		done bool
		v    T
		err  error
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	events := make(chan event)
	send := func(e event) {
		select {
		case events <- e:
		case <-ctx.Done():
		}
	}
	var young *request // the request that the call waits for alone
	open, exhausted, state := 0, false, required
	patience := time.NewTimer(math.MaxInt64)
	defer patience.Stop()
	var deadline time.Time // end of waiting for answers that are merely welcome
	for {
		if young == nil && !exhausted && (q.most == 0 || open < q.most) {
			if p := q.next(); p == nil {
				exhausted, deadline = true, time.Now().Add(answerPatience)
			} else {
				young = &request{location: p, begun: time.Now()}
				open++
				a := young
				running.Go(func() {
					v, err := q.get(ctx, a.location, func() { send(event{from: a}) })
					send(event{from: a, done: true, v: v, err: err})
				})
			}
		}
		if young == nil && exhausted && open == 0 {
			return outer.Err()
		}
		wait := time.Duration(math.MaxInt64)
		if young != nil {
			wait = young.left(q.pace)
		} else if exhausted && state == welcome {
			wait = time.Until(deadline)
		}
		patience.Reset(wait)
		select {
		case <-ctx.Done():
			return outer.Err()
		case <-patience.C:
			if young == nil {
				return nil
			}
			q.pace.waited[young.location.key] += max(0, time.Since(young.begun))
			q.pace.late[young.location.key] = true
			young = nil
		case e := <-events:
			if !e.done {
				e.from.begin = true
				continue
			}
			open--
			if e.from == young {
				q.pace.waited[young.location.key] += time.Since(young.begun)
				young = nil
			}
			if e.err != nil && ctx.Err() != nil {
				return outer.Err()
			}
			if state = max(state, q.use(e.from.location, e.v, e.err)); state == nothingMore {
				return nil
			}
		}
	}
}

// metadata returns a get function for one metadata file.
func (c *Client) metadata(name string, limit int64) func(context.Context, *location, func()) ([]byte, error) {
	return func(ctx context.Context, p *location, answered func()) ([]byte, error) {
		return readAll(ctx, p.source, layout.MetadataName(name), limit, c.cfg.MetadataTimeout, answered)
	}
}
