package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// The public log (docs/spec.md 22): proofs for roots that change its rule, and the proof of
// the snapshot.

const (
	headName      = "head.tlog-proof" // in the store
	loggedFolder  = "logged/"         // in the store
	waitPrecision = 10 * time.Minute  // of the running time in the state: not each refresh writes it
)

// waited returns the running time since a proof with a later quorum time was accepted, in
// this process or, if that is more, in others that share the state.
func (c *Client) waited(m *logMark) time.Duration {
	if m == nil {
		return 0
	}
	if !c.running.mark.Equal(m.Time) || c.running.begun.IsZero() {
		c.running = stopwatch{m.Time, m.Waited, time.Now()}
	}
	return max(m.Waited, c.running.base+time.Since(c.running.begun))
}

// proveRules looks for the proofs of roots that change the rule of the log, at all
// locations. What is found is kept, and the chain of roots is followed once more from there.
func (c *Client) proveRules(ctx context.Context, w *walk) error {
	for n, again := 0, true; again && n <= maxSteps; n++ {
		again = false
		// The newest root may be proven, too, although it changes nothing: after a fork of
		// roots it may be the first that is.
		roots := slices.Clone(w.changes)
		if w.trusted.LogPending() && !slices.Contains(roots, w.trusted) {
			roots = append(roots, w.trusted)
		}
		for _, r := range roots {
			found, err := c.proveRule(ctx, w, r)
			if err != nil {
				return err
			}
			if found {
				if again, err = c.applyRule(w, r); err != nil {
					return err
				}
			}
			if again {
				break // other roots may be pending now
			}
		}
	}
	return nil
}

// proveRule fetches what a root's pending change needs. It reports whether a file was added.
func (c *Client) proveRule(ctx context.Context, w *walk, r *tuf.Root) (found bool, err error) {
	first, later, change := r.LogFiles()
	keptFirst, keptLater, keptChange := keptProofs(r)
	keep := func(name string) func([]byte) error {
		return func(data []byte) error {
			if err := c.store.Write(name, data); err != nil {
				return diskError{err}
			}
			found = true
			return nil
		}
	}
	var until time.Time
	have, readErr := c.store.Read(keptFirst, tlog.MaxProof)
	if readErr == nil {
		until, readErr = r.LogNotice(have)
	}
	if readErr != nil {
		err = c.seek(ctx, w, nil, first, tlog.MaxProof, func(data []byte) (err error) {
			until, err = r.LogNotice(data)
			have = data
			return err
		}, keep(keptFirst))
		if err := disk(ctx, err); err != nil {
			return found, err
		}
	}
	if (readErr == nil || found) && !until.IsZero() && !w.now.Before(until) {
		second := func(data []byte) error {
			_, err := r.Logged(have, data)
			return err
		}
		err = c.seek(ctx, w, nil, later, tlog.MaxProof, second, keep(keptLater))
		if err := disk(ctx, err); err != nil {
			return found, err
		}
		if err != nil {
			// A location may have served one as the first that was cosigned later, to which
			// no second one fits.
			err = c.seek(ctx, w, nil, first, tlog.MaxProof, func(data []byte) error {
				earlier, err := r.LogNotice(data)
				if err == nil && !earlier.Before(until) {
					err = errors.New("it is not earlier than the kept one")
				}
				have = data
				return err
			}, keep(keptFirst))
			if err := disk(ctx, err); err != nil {
				return found, err
			}
			if found {
				err = c.seek(ctx, w, nil, later, tlog.MaxProof, second, keep(keptLater))
				if err := disk(ctx, err); err != nil {
					return found, err
				}
			}
		}
	}
	err = c.seek(ctx, w, nil, change, tuf.MaxLogChange, func(data []byte) error {
		got, err := r.LoggedByRecovery(data)
		if err == nil && got == r {
			err = errors.New("it changes nothing")
		}
		return err
	}, keep(keptChange))
	return found, disk(ctx, err)
}

// disk returns the errors that end a refresh: those of the disk and of ctx.
func disk(ctx context.Context, err error) error {
	if d, ok := errors.AsType[diskError](err); ok {
		return d
	}
	return ctx.Err()
}

// applyRule follows the kept roots again from r, whose rule may be in force by now. It
// reports whether that changed anything.
func (c *Client) applyRule(w *walk, r *tuf.Root) (bool, error) {
	cur := provenRule(c.store, r)
	if cur == r {
		return false, nil
	}
	again := walk{trusted: r, clock: w.clock}
	again.advance(cur)
	if cur.LogPending() { // one of two members came into force
		again.changes = []*tuf.Root{cur}
	}
	for cur.Version() < w.trusted.Version() {
		data, err := c.store.Read("roots/"+rootName(cur.Version()+1), c.limits.Root)
		if err != nil {
			return false, diskError{err}
		}
		next, _, err := follow(c.store, cur, data, w.session.Recovered)
		if err != nil {
			return false, diskError{err} // it was verified in this refresh
		}
		again.advance(next)
		cur = next
	}
	c.log.Info("a change of the rule of the public log is in force", "root", r.Version())
	w.trusted, w.changes = cur, again.changes
	c.trusted.Store(cur)
	return true, nil
}

// seek asks all locations, the best first, for a metadata file until use accepts one of
// them, and passes that one to keep. Any location may serve the file: it proves itself.
func (c *Client) seek(ctx context.Context, w *walk, best *location, name string, limit int64, use, keep func([]byte) error) error {
	locations := slices.DeleteFunc(c.locations(w.trusted, w.now), func(p *location) bool { return w.rateLimited(p) })
	w.sort(locations)
	if best != nil {
		slices.SortStableFunc(locations, func(a, b *location) int { return preference(a, best, w) - preference(b, best, w) })
	}
	var problems []error
	var found []byte
	asked := map[string]*location{}
	next := each(locations)
	q := inquiry[[]byte]{pace: w.pace, get: c.metadata(name, limit)}
	q.next = func() *location {
		p := next()
		if p != nil {
			asked[p.key] = p
		}
		return p
	}
	q.use = func(p *location, data []byte, err error) need {
		delete(asked, p.key)
		if err == nil {
			if err = use(data); err == nil {
				found = data
				return nothingMore
			}
			if e, ok := errors.AsType[*tuf.Error](err); ok && errors.Is(err, tuf.ErrLogFork) {
				w.keepEvidence(c, p.name, "log-fork", e.Evidence, err)
			}
		} else if !isAbsent(err) {
			w.failed(p, err, false)
		}
		problems = append(problems, fmt.Errorf("%s: %w", text.Name(p.name), err))
		return required
	}
	if err := q.run(ctx); err != nil {
		return err
	}
	w.unanswered(asked, false)
	if found == nil {
		return errors.Join(append([]error{fmt.Errorf("%s: no location has a valid one", name)}, problems...)...)
	}
	return keep(found)
}

// proveKept is prove for the set that is kept, whose snapshot was not opened yet.
func (c *Client) proveKept(ctx context.Context, w *walk, o *offer, s *set) error {
	if w.trusted.LogRule() == nil {
		return nil
	}
	if _, err := s.open(func(f tuf.RoleFile) ([]byte, error) { return c.store.Read("snapshot.json", f.MaxLength) }); err != nil {
		return diskError{err}
	}
	if err := c.prove(ctx, w, o, s); err != nil {
		return err
	}
	return c.keepLogged(w, s)
}

// prove proves the snapshot of a set, where a rule of the log is in force. Without a proof,
// an enforced rule restricts the set to what the last proven one approves too.
func (c *Client) prove(ctx context.Context, w *walk, o *offer, s *set) error {
	rule := w.trusted.LogRule()
	if rule == nil {
		return nil
	}
	prior, err := w.session.prior(headName, tlog.MaxProof)
	if err != nil {
		return diskError{err}
	}
	state := tuf.LogState{Prior: prior, Offline: c.cfg.Offline}
	if m := w.session.Log; m != nil {
		state.Newest, state.Waited = m.Time, c.waited(m)
		if state.Waited >= m.Waited+waitPrecision {
			m.Waited = state.Waited
		}
	}
	logged, err := s.snapshot.Logged(prior, state)
	if logged != nil && (w.session.Log == nil || headTime(logged).After(w.session.Log.Time)) { // the state was lost, the proof was not
		c.accepted(w, rule, logged)
	}
	if err != nil || !w.now.Before(w.session.Log.Renew) {
		var proof []byte
		seekErr := c.seek(ctx, w, o.location, s.snapshot.LogProofName(), tlog.MaxProof, func(data []byte) error {
			got, err := s.snapshot.Logged(data, state)
			if err == nil && (logged == nil || headTime(got).After(headTime(logged))) {
				logged, proof = got, data
			}
			return err
		}, func([]byte) error { return nil })
		if err := disk(ctx, seekErr); err != nil {
			return err
		}
		if logged != nil && proof == nil { // the kept one is good, and there is no newer one
			w.session.Log.Renew = w.now.Add(waitPrecision)
		} else if proof != nil {
			if err := c.acceptProof(w, rule, logged, proof); err != nil {
				return err
			}
		}
		if err = seekErr; err != nil && !errors.Is(err, tuf.ErrNotLogged) && !errors.Is(err, tuf.ErrExpired) {
			err = fmt.Errorf("%w: %w", tuf.ErrNotLogged, err)
		}
	}
	if logged != nil {
		s.use(w.now, o, rule, logged)
		return nil
	}
	s.unlogged = err
	if !rule.Enforce {
		c.log.Warn("the content is not proven to be in the public log", "timestamp", o.ts.Version(), "reason", err)
		return nil
	}
	last, lastErr := c.lastLogged(w)
	if lastErr == nil {
		last, lastErr = s.snapshot.Within(last)
	}
	if lastErr == nil {
		lastErr = c.openWithin(ctx, w, o, last) // their expiry is that of the view, too
	}
	if lastErr != nil {
		return errors.Join(err, fmt.Errorf("and the last proven content is of no use: %w", lastErr))
	}
	c.log.Warn("the content is not proven to be in the public log; it only takes away from the last one that is", "timestamp", o.ts.Version(), "reason", err)
	s.use(w.now, o, rule, last)
	return nil
}

// restrict restricts a proven set by a newer one without a proof: what takes away is not
// passed over.
func (c *Client) restrict(ctx context.Context, w *walk, newer, o *offer, s *set) error {
	snap, err := newer.snap.Within(s.snapshot)
	if err == nil {
		err = c.openWithin(ctx, w, newer, snap)
	}
	if err != nil {
		return fmt.Errorf("a newer set is not proven: %w", err)
	}
	s.unlogged = fmt.Errorf("%w: timestamp v%d has no proof", tuf.ErrNotLogged, newer.ts.Version())
	s.use(w.now, o, w.trusted.LogRule(), snap)
	if err := c.trust(w, newer); err != nil { // its versions are floors
		return err
	}
	return w.session.raiseRoles(newer.snap)
}

// openWithin opens the roles of a restricted snapshot and of the one that restricts it.
func (c *Client) openWithin(ctx context.Context, w *walk, o *offer, snap *tuf.Snapshot) error {
	l := c.offerLoader(w, o)
	l.verified = snap.Verified
	return l.run(ctx, func(get fetch) error {
		for x := range snap.Both() {
			if err := x.OpenRoles(func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), keptRole(f)) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// use makes a proven or restricted snapshot that of the set, under an enforced rule until
// the first of its proofs and files expires.
func (s *set) use(now time.Time, o *offer, rule *tuf.LogRule, snap *tuf.Snapshot) {
	s.snapshot, o.snap = snap, snap
	if !rule.Enforce {
		return
	}
	shorten := func(until time.Time) {
		if s.until.IsZero() || until.Before(s.until) {
			s.until = until
		}
	}
	for x := range snap.Both() {
		shorten(x.Until())
		if head, ok := x.Head(); ok {
			shorten(head.Until)
			s.ends = time.Now().Add(head.Until.Sub(now)) // by a clock that can't be set back
		}
	}
}

func headTime(s *tuf.Snapshot) time.Time {
	h, _ := s.Head()
	return h.Time
}

// acceptProof keeps a proof.
func (c *Client) acceptProof(w *walk, rule *tuf.LogRule, logged *tuf.Snapshot, proof []byte) error {
	if err := c.store.Write(headName, proof); err != nil {
		return diskError{err}
	}
	delete(w.session.void, headName)
	c.accepted(w, rule, logged)
	return nil
}

// accepted records an accepted proof.
func (c *Client) accepted(w *walk, rule *tuf.LogRule, logged *tuf.Snapshot) {
	m := logMark{}
	if w.session.Log != nil {
		m = *w.session.Log
	}
	head, _ := logged.Head()
	at := head.Time
	if !at.Equal(m.Time) {
		m.Waited = head.Waited
		c.running = stopwatch{}
	}
	m.Time = at
	if at.After(w.now) {
		at = w.now // no cosigner decides when the next proof is sought
	}
	age := rule.MaxAge
	if c.cfg.Offline {
		age = rule.OfflineMaxAge
	}
	m.Renew = at.Add(age / 2)
	w.session.Log = &m
	c.waited(&m) // the time runs from now
}

// keepLogged keeps a proven set as the last one, under an enforced rule.
func (c *Client) keepLogged(w *walk, s *set) error {
	rule := w.trusted.LogRule()
	if rule == nil || !rule.Enforce || s.unlogged != nil {
		return nil
	}
	m := w.session.Log
	changed := m.Root != w.trusted.Version() || m.At.IsZero()
	proof, err := c.store.Read(headName, tlog.MaxProof)
	if err != nil {
		return diskError{err}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"timestamp.json", s.timestamp.Bytes()}, {"snapshot.json", s.snapshot.Bytes()}, {headName, proof}} {
		if have, err := c.store.Read(loggedFolder+f.name, c.limits.Snapshot); err == nil && bytes.Equal(have, f.data) {
			continue
		}
		if err := c.store.Write(loggedFolder+f.name, f.data); err != nil {
			return diskError{err}
		}
		changed = true
	}
	if changed {
		m.At, m.Root = w.now, w.trusted.Version()
	}
	return nil
}

// lastOf yields a snapshot and, under a rule, the last proven one, whose roles stay.
func (c *Client) lastOf(w *walk, snap *tuf.Snapshot) []*tuf.Snapshot {
	if w.trusted.LogRule() != nil {
		if last, err := c.lastLogged(w); err == nil {
			return []*tuf.Snapshot{snap, last}
		}
	}
	return []*tuf.Snapshot{snap}
}

// lastLogged opens the last proven set, as of the time when it was verified: its timestamp
// may have expired since. [tuf.Snapshot.Within] checks the rest for now.
func (c *Client) lastLogged(w *walk) (*tuf.Snapshot, error) {
	m := w.session.Log
	if m == nil || m.At.IsZero() || m.Root != w.trusted.Version() {
		return nil, fmt.Errorf("there is none under root v%d", w.trusted.Version())
	}
	var data [3][]byte
	for i, f := range []struct {
		name  string
		limit int64
	}{{"timestamp.json", c.limits.Timestamp}, {"snapshot.json", c.limits.Snapshot}, {headName, tlog.MaxProof}} {
		var err error
		if data[i], err = c.store.Read(loggedFolder+f.name, f.limit); err != nil {
			return nil, err
		}
	}
	ts, err := w.trusted.Timestamp(data[0], nil, m.At)
	if err != nil {
		return nil, err
	}
	snap, err := ts.Snapshot(data[1], nil)
	if err != nil {
		return nil, err
	}
	return snap.Logged(data[2], tuf.LogState{Newest: m.Time, Waited: c.waited(m) - max(0, w.now.Sub(m.At)), Offline: c.cfg.Offline})
}
