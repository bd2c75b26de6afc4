package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// set is a complete set of content under one root. Files that verified in an earlier
// refresh are read and verified again when they are first needed.
type set struct {
	timestamp *tuf.Timestamp
	floors    map[string]floor
	until     time.Time // when the first of its files expires

	mu       sync.Mutex
	snapshot *tuf.Snapshot // nil: not opened yet
	unlogged error         // why there is no proof of the log, under a rule
	ends     time.Time     // with the monotonic clock: when its proof of the log ends
}

// open returns the snapshot, and calls get if it has not been opened yet.
func (s *set) open(get func(tuf.RoleFile) ([]byte, error)) (*tuf.Snapshot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.snapshot != nil {
		return s.snapshot, nil
	}
	data, err := get(s.timestamp.SnapshotFile())
	if err != nil {
		return nil, err
	}
	snap, err := s.timestamp.Snapshot(data, nil)
	if err != nil {
		return nil, err
	}
	if err := checkRoles(s.floors, snap); err != nil {
		return nil, err
	}
	s.snapshot = snap
	return snap, nil
}

// offer is a verified timestamp, with the location that served it.
type offer struct {
	location *location
	ts       *tuf.Timestamp
	snap     *tuf.Snapshot // nil if it was not obtained
}

// content fetches the newest complete set that a location serves under the newest
// trusted root (TUF 5.4 to 5.6). If a probe is due, the timestamps of several operators
// are compared, in turn, so that no location can hide another's content forever.
//
// A timestamp is trusted when its set is complete. One whose files no location has does
// not block the set of another, unless that is older than what was trusted before this
// refresh. If no set is complete, the newest verified timestamp still becomes the floor
// of the next refresh.
func (c *Client) content(ctx context.Context, w *walk) (*set, *location, error) {
	prior, err := w.session.prior("timestamp.json", c.limits.Timestamp)
	if err != nil {
		return nil, nil, diskError{err}
	}
	want := 1
	if w.comparing {
		want = probe(w.trusted).MinOperators
	}
	var problems []error
	var newest, unproven *offer
	tried := map[string]bool{}
	rest, must := w.availableLocations(c), ""
	if want > 1 {
		rest, must = w.timestampPoll.order(rest, w.isDown, w.isDown)
	}
	for ; len(rest) > 0; want, must = 1, "" {
		var offers []*offer
		offers, rest, err = c.offers(ctx, w, rest, prior, want, must, &problems)
		w.session.Turns.Timestamps = w.timestampPoll.next(c.locations(w.trusted, w.now), w.failing)
		if err != nil {
			return nil, nil, err
		}
		for _, o := range offers {
			sum := hexSum(o.ts.Bytes())
			if tried[sum] {
				continue
			}
			tried[sum] = true
			s, err := c.complete(ctx, w, o)
			if err == nil && unproven != nil && unproven.ts.Version() > o.ts.Version() {
				err = c.restrict(ctx, w, unproven, o, s)
			}
			if errors.Is(err, tuf.ErrNotLogged) && o.snap != nil && (unproven == nil || unproven.ts.Version() < o.ts.Version()) {
				unproven = o
			}
			if err == nil {
				if newest != nil {
					c.log.Warn("a newer timestamp has no complete content; using an older one", "have", newest.ts.Version(), "use", o.ts.Version(), "location", text.Name(o.location.name))
				}
				return s, o.location, nil
			}
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			if disk, ok := errors.AsType[diskError](err); ok {
				return nil, nil, disk
			}
			problems = append(problems, err)
			if newest == nil || newest.ts.Version() < o.ts.Version() {
				newest = o
			}
		}
	}
	if newest != nil && !w.quiet {
		if err := c.trust(w, newest); err != nil {
			return nil, nil, err
		}
	}
	for _, p := range c.locations(w.trusted, w.now) {
		if p.content && w.rateLimited(p) {
			problems = append(problems, w.rateLimitError(p))
		}
	}
	return nil, nil, errors.Join(append([]error{ErrNoContent}, problems...)...)
}

// availableLocations lists the locations that serve content and may be asked now, those
// that failed recently last.
func (w *walk) availableLocations(c *Client) []*location {
	locations := slices.DeleteFunc(c.locations(w.trusted, w.now), func(p *location) bool { return !p.content || w.rateLimited(p) })
	w.sort(locations)
	return locations
}

// offers asks locations for their timestamps until want different operators have served
// one that verifies, and the location must has been asked. It returns these timestamps,
// the newest first, and the locations that were not asked or had not answered.
func (c *Client) offers(ctx context.Context, w *walk, locations []*location, prior []byte, want int, must string, problems *[]error) (out []*offer, rest []*location, err error) {
	var ops, responded operators
	asked, answered := map[string]*location{}, map[string]bool{}
	queue, i, first := slices.Clone(locations), 0, len(locations)
	probing := want > 1
	enough := func() bool { return len(out) > 0 && (len(ops) >= want || want == 1) }
	q := inquiry[[]byte]{pace: w.pace}
	q.next = func() *location {
		for i < len(queue) {
			p := queue[i]
			i++
			switch {
			case p.key == must && !w.pace.late[p.key]:
				must = ""
				fallthrough
			case !enough() && (len(out) == 0 || !w.down[p.key] && !w.pace.late[p.key] && !ops.has(p)):
				asked[p.key] = p
				if probing {
					w.timestampPoll.ask(p.key)
				}
				return p
			case i <= first && ops.has(p):
				queue = append(queue, p)
			}
		}
		return nil
	}
	q.get = func(ctx context.Context, p *location, begun func()) ([]byte, error) {
		if e := w.prefetched[p.key]; e != nil {
			return e.wait(ctx)
		}
		return c.metadata("timestamp.json", c.limits.Timestamp)(ctx, p, begun)
	}
	q.use = func(p *location, data []byte, err error) need {
		delete(asked, p.key)
		answered[p.key] = true
		var ts *tuf.Timestamp
		if err == nil {
			if ts, err = w.trusted.Timestamp(data, prior, w.now); err == nil {
				err = w.session.checkTimestamp(w.trusted, ts)
			}
		}
		if err != nil {
			*problems = append(*problems, fmt.Errorf("%s: %w", text.Name(p.name), err))
			// Without a charter the next root is not requested again, as in the specification.
			if errors.Is(err, tuf.ErrThreshold) && !w.quiet && w.trusted.Charter() != nil {
				w.unsigned = append(w.unsigned, unsigned{p, data, err})
			} else if w.faulty(c, p, err); !w.failing[p.key] {
				responded.add(p) // an absent or expired timestamp counts as an answer
			}
		} else {
			responded.add(p)
			out = append(out, &offer{location: p, ts: ts})
			ops.add(p)
		}
		switch {
		case enough() && (must == "" || w.pace.late[must]):
			return nothingMore
		case len(out) > 0:
			return welcome
		}
		return required
	}
	if err := q.run(ctx); err != nil {
		return nil, nil, err
	}
	w.unanswered(asked, true)
	var all operators
	for _, p := range locations {
		all.add(p)
	}
	if len(responded) >= min(len(all), probe(w.trusted).MinOperators) {
		w.compared = true
	}
	slices.SortStableFunc(out, func(a, b *offer) int { return cmp.Compare(b.ts.Version(), a.ts.Version()) })
	return out, slices.DeleteFunc(locations, func(p *location) bool { return answered[p.key] }), nil
}

// faulty records a location's failure to serve content that verifies.
func (w *walk) faulty(c *Client, p *location, err error) {
	var refused *tuf.Error
	// Without consistent snapshots a publish replaces files, so a mismatch is normal
	// while it runs.
	midst := errors.Is(err, tuf.ErrMismatch) && !w.trusted.ConsistentSnapshot()
	if errors.As(err, &refused) && refused.Evidence != nil && errors.Is(err, tuf.ErrUntrusted) && !midst {
		w.keepEvidence(c, p.name, refused.Role+".json", refused.Evidence, err)
	}
	w.failed(p, err, true)
}

// complete fetches the files of an offer: with a charter the release roles of every
// class, without one the top-level targets. Any location may serve them, the one that
// served the timestamp first: the offer determines the bytes. The complete set becomes
// trusted.
func (c *Client) complete(ctx context.Context, w *walk, o *offer) (*set, error) {
	s := &set{timestamp: o.ts, floors: maps.Clone(w.session.Floors)}
	if whole, err := w.session.whole(w, o.ts); err != nil {
		return nil, err
	} else if whole {
		s.until = w.session.Set.Until
		w.served(o.location, true)
		if err := c.proveKept(ctx, w, o, s); err != nil {
			return nil, err
		}
		return s, c.trust(w, o)
	}
	l := c.offerLoader(w, o)
	prior, err := w.session.prior("snapshot.json", c.limits.Snapshot)
	if err != nil {
		return nil, diskError{err}
	}
	// The snapshot that was trusted last may be the one that the timestamp lists.
	if s.snapshot, err = o.ts.Snapshot(prior, prior); err == nil {
		err = checkRoles(w.session.Floors, s.snapshot)
	} else {
		f := o.ts.SnapshotFile()
		l.verified = func(tuf.RoleFile) bool { return false }
		err = l.run(ctx, func(get fetch) error {
			data, err := get(f, f.Name(), "")
			if err != nil {
				return err
			}
			if s.snapshot, err = o.ts.Snapshot(data, prior); err != nil {
				return err
			}
			return checkRoles(w.session.Floors, s.snapshot)
		})
	}
	if err != nil {
		return nil, err
	}
	o.snap = s.snapshot
	l.verified = func(f tuf.RoleFile) bool { return o.snap.RoleBytes(f.Role) != nil }
	l.damaged = func(f tuf.RoleFile, data []byte) { w.quarantine(c, f.Role+".json", data) }
	err = l.run(ctx, func(get fetch) error {
		from := func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), keptRole(f)) }
		if o.snap.Root().Charter() != nil {
			return o.snap.OpenRoles(from)
		}
		return topLevel(o.snap, from)
	})
	err = errors.Join(err, c.keepRoles(o.snap, l.roles))
	if w.session.dropVersions(c.lastOf(w, o.snap), l.roles); err != nil {
		return nil, err
	}
	s.until = o.snap.Until()
	until := s.until // of the files; that of the proof is found again
	if err := c.prove(ctx, w, o, s); err != nil {
		return nil, err
	}
	if err := c.trust(w, o); err != nil {
		return nil, err
	}
	if err := w.session.raiseRoles(o.snap); err != nil {
		return nil, err
	}
	if c.cfg.UnsafeStale > 0 {
		until = time.Time{} // another process may not accept expired metadata
	}
	w.session.Set = &mark{w.trusted.Version(), hexSum(o.ts.Bytes()), hexSum(o.snap.Bytes()), until}
	w.served(o.location, true)
	w.session.sweep(s.snapshot)
	return s, c.keepLogged(w, s)
}

// offerLoader loads the files of an offer, from its location first.
func (c *Client) offerLoader(w *walk, o *offer) *loader {
	return c.loader(w.pace, func() []*location {
		locations := w.availableLocations(c)
		slices.SortStableFunc(locations, func(a, b *location) int {
			return preference(a, o.location, w) - preference(b, o.location, w)
		})
		return locations
	}, func(p *location, err error) { w.faulty(c, p, err) })
}

// preference prefers the location of the offer to others that work.
func preference(p, offers *location, w *walk) int {
	switch {
	case w.down[p.key]:
		return 2
	case p.key == offers.key:
		return 0
	}
	return 1
}

// trust makes an offer's timestamp and snapshot the floors of the next refresh.
func (c *Client) trust(w *walk, o *offer) error {
	if err := c.replaceFile(w, "timestamp.json", o.ts.Bytes(), c.limits.Timestamp, func(prior []byte) bool {
		return !w.trusted.IsPrior(prior)
	}); err != nil {
		return err
	}
	if o.snap != nil {
		if err := c.replaceFile(w, "snapshot.json", o.snap.Bytes(), c.limits.Snapshot, func(prior []byte) bool { return !json.Valid(prior) }); err != nil {
			return err
		}
	}
	keys := w.trusted.OnlineKeys()
	w.session.raise("timestamp", keys, o.ts.Version())
	w.session.raise("snapshot", keys, o.ts.SnapshotFile().Version)
	return nil
}

// replaceFile writes a floor file if its content changes; a damaged one is kept as
// evidence.
func (c *Client) replaceFile(w *walk, name string, data []byte, limit int64, damaged func(prior []byte) bool) error {
	prior, err := w.session.prior(name, limit)
	if err != nil {
		return diskError{err}
	}
	if bytes.Equal(prior, data) {
		return nil
	}
	if damaged(prior) {
		w.quarantine(c, name, prior)
	}
	if err := c.store.Write(name, data); err != nil {
		return diskError{err}
	}
	delete(w.session.void, name)
	return nil
}

// whole reports whether the set of ts is the one that is kept: all its files were
// verified, and none has expired since.
func (s *session) whole(w *walk, ts *tuf.Timestamp) (bool, error) {
	m := s.Set
	if m == nil || m.Root != w.trusted.Version() || m.Timestamp != hexSum(ts.Bytes()) || !w.now.Before(m.Until) {
		return false, nil
	}
	snap, err := s.prior("snapshot.json", ts.SnapshotFile().MaxLength)
	if err != nil {
		return false, diskError{err}
	}
	return hexSum(snap) == m.Snapshot, nil
}

// topLevel opens the top-level targets of a repository without a charter.
func topLevel(snap *tuf.Snapshot, get tuf.Fetch) error {
	f, err := snap.RoleFile("targets")
	if err != nil {
		return err
	}
	data, err := get(f)
	if err != nil {
		return err
	}
	_, err = snap.Targets(data)
	return err
}

// prefetchTimestamps requests timestamps while roots are requested: from the first
// location, and if a probe is due from other operators whose turn it is.
func (c *Client) prefetchTimestamps(ctx context.Context, w *walk) {
	want := 1
	if w.comparing {
		want = probe(w.trusted).MinOperators
	}
	w.prefetched = map[string]*prefetch{}
	var ops operators
	locations := w.availableLocations(c)
	if want > 1 {
		locations, _ = w.timestampPoll.order(locations, w.isDown, w.isDown)
	}
	for _, p := range locations {
		if w.down[p.key] || ops.has(p) {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		e := &prefetch{done: make(chan struct{}), cancel: cancel}
		w.prefetched[p.key] = e
		go func() {
			defer close(e.done)
			e.data, e.err = readAll(ctx, p.source, layout.TimestampName, c.limits.Timestamp, c.cfg.MetadataTimeout, func() {})
		}()
		if ops.add(p); len(w.prefetched) == want {
			return
		}
	}
}
