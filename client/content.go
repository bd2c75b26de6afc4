package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// getter reads a metadata file of one place.
type getter = func(name string, limit int64) ([]byte, error)

// roleName is the name of a role's file, for URLs before escaping.
func roleName(f tuf.RoleFile) string { return fmt.Sprintf("%d.%s.json", f.Version, f.Role) }

// set is a complete set of content under one root. Files that verified in an
// earlier refresh are read, and verified again, when they are first asked for.
type set struct {
	timestamp *tuf.Timestamp
	floors    map[string]floor

	mu       sync.Mutex
	snapshot *tuf.Snapshot // nil: not opened yet
}

// open returns the snapshot, which get brings where it was not opened yet.
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

// content brings the newest set under the tip from the first place that
// delivers a complete and valid one.
func (c *Client) content(ctx context.Context, w *walk) (*set, *place, error) {
	var problems []error
	places := c.places(w.tip, w.now)
	// Not to wait again for who is silent, unless nobody else is left.
	last := func(p *place) int {
		if w.down[p.key] {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(places, func(a, b *place) int { return last(a) - last(b) })
	for _, p := range places {
		if !p.content || w.waits(p) {
			continue
		}
		s, err := c.contentFrom(ctx, w, p)
		if err == nil {
			return s, p, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if disk, ok := errors.AsType[diskError](err); ok {
			return nil, nil, disk
		}
		problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
		var refused *tuf.Error
		if errors.As(err, &refused) && refused.Evidence != nil && errors.Is(err, tuf.ErrUntrusted) {
			w.keepEvidence(c, p.name, refused.Role+".json", refused.Evidence, err)
		}
		w.failed(p, err)
	}
	return nil, nil, errors.Join(append([]error{ErrNoContent}, problems...)...)
}

// contentFrom reads timestamp, snapshot and roles from one place: with a
// charter the release roles of every class, without one the top-level targets.
// Whatever verified is kept, also when a later file of the set fails.
func (c *Client) contentFrom(ctx context.Context, w *walk, p *place) (*set, error) {
	get := func(name string, limit int64) ([]byte, error) {
		if early := w.early; early != nil && name == "timestamp.json" && early.key == p.key {
			w.early = nil
			return early.wait()
		}
		return readAll(ctx, p.source, "metadata/"+name, limit, c.cfg.MetadataTimeout)
	}
	ts, err := c.timestamp(w, get)
	if err != nil {
		return nil, err
	}
	s := &set{timestamp: ts, floors: maps.Clone(w.session.Floors)}
	if whole, err := w.session.whole(w, ts); err != nil || whole {
		return s, err
	}
	if s.snapshot, err = c.snapshot(w, ts, get); err != nil {
		return nil, err
	}
	if err := c.roles(w, s.snapshot, get); err != nil {
		return nil, err
	}
	if err := w.session.raiseRoles(s.snapshot); err != nil {
		return nil, err
	}
	w.session.Set = &mark{w.tip.Version(), hexSum(ts.Bytes()), hexSum(s.snapshot.Bytes()), s.snapshot.Until()}
	return s, c.sweep(w.session, s.snapshot)
}

// whole reports whether the set that ts calls for is the one that is kept: it
// was complete when it came, and nothing of it has expired since.
func (s *session) whole(w *walk, ts *tuf.Timestamp) (bool, error) {
	m := s.Set
	if m == nil || m.Root != w.tip.Version() || m.Timestamp != hexSum(ts.Bytes()) || !w.now.Before(m.Until) {
		return false, nil
	}
	snap, err := s.prior("snapshot.json", ts.SnapshotFile().MaxLength)
	if err != nil {
		return false, diskError{err}
	}
	return hexSum(snap) == m.Snapshot, nil
}

// roles opens all roles that make a set complete: one that lacks a role is no set.
func (c *Client) roles(w *walk, snap *tuf.Snapshot, get getter) error {
	var fetched []string
	kept := map[string][]byte{} // by role: what was on disk
	read := func(disk bool) error {
		fetch := func(f tuf.RoleFile) ([]byte, error) {
			if disk {
				if data, err := c.store.Read(keptRole(f), f.MaxLength); err == nil {
					kept[f.Role] = data
					return data, nil
				}
			}
			fetched = append(fetched, f.Role)
			return get(roleName(f), f.MaxLength)
		}
		var err error
		if snap.Root().Charter() != nil {
			err = snap.OpenRoles(fetch)
		} else {
			err = topLevel(snap, fetch)
		}
		return err
	}
	err := read(true)
	if err != nil && len(kept) > 0 {
		// A file on disk may be damaged: what is verified stays, the rest is asked for.
		for role, data := range kept {
			if snap.RoleBytes(role) == nil {
				w.quarantine(c, role+".json", data)
			}
		}
		err = read(false)
	}
	return errors.Join(err, c.keepRoles(snap, fetched))
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

// keepRoles keeps those of the roles that verified.
func (c *Client) keepRoles(snap *tuf.Snapshot, roles []string) error {
	for _, role := range roles {
		data := snap.RoleBytes(role)
		f, err := snap.RoleFile(role)
		if err != nil || data == nil {
			continue
		}
		if err := c.store.Write(keptRole(f), data); err != nil {
			return diskError{err}
		}
	}
	return nil
}

// keptRole is the role's file in the store; below roles/ it differs between
// versions in the number alone.
func keptRole(f tuf.RoleFile) string { return "roles/" + keptName(f) }

func keptName(f tuf.RoleFile) string { return fmt.Sprintf("%d.%s.json", f.Version, diskName(f.Role)) }

// sweep removes the roles that the snapshot does not list any more.
func (c *Client) sweep(s *session, snap *tuf.Snapshot) error {
	have, err := s.store.List("roles")
	if err != nil {
		return diskError{err}
	}
	for _, role := range snap.Roles() {
		if f, err := snap.RoleFile(role); err == nil {
			delete(have, keptName(f))
		}
	}
	for name := range have {
		if err := s.store.Remove("roles/" + name); err != nil {
			return diskError{err}
		}
	}
	return nil
}

func (c *Client) timestamp(w *walk, get getter) (*tuf.Timestamp, error) {
	prior, err := w.session.prior("timestamp.json", c.limits.Timestamp)
	if err != nil {
		return nil, diskError{err}
	}
	data, err := get("timestamp.json", c.limits.Timestamp)
	if err != nil {
		return nil, err
	}
	ts, err := w.tip.Timestamp(data, prior, w.now)
	if err != nil {
		return nil, err
	}
	if err := w.session.checkTimestamp(w.tip, ts); err != nil {
		return nil, err
	}
	if !bytes.Equal(ts.Bytes(), prior) {
		// At no time at all, so that its age is no matter.
		if _, err := w.tip.Timestamp(prior, nil, time.Time{}); errors.Is(err, tuf.ErrMalformed) || errors.Is(err, tuf.ErrThreshold) {
			w.quarantine(c, "timestamp.json", prior)
		}
		if err := c.store.Write("timestamp.json", ts.Bytes()); err != nil {
			return nil, diskError{err}
		}
	}
	keys := w.tip.OnlineKeys()
	w.session.raise("timestamp", keys, ts.Version())
	w.session.raise("snapshot", keys, ts.SnapshotFile().Version)
	return ts, nil
}

func (c *Client) snapshot(w *walk, ts *tuf.Timestamp, get getter) (*tuf.Snapshot, error) {
	f := ts.SnapshotFile()
	prior, err := w.session.prior("snapshot.json", c.limits.Snapshot)
	if err != nil {
		return nil, diskError{err}
	}
	// The snapshot that was trusted last may well be the one that is asked for.
	snap, err := ts.Snapshot(prior, prior)
	if err != nil {
		data, err := get(fmt.Sprintf("%d.snapshot.json", f.Version), f.MaxLength)
		if err != nil {
			return nil, err
		}
		if snap, err = ts.Snapshot(data, prior); err != nil {
			return nil, err
		}
		if !json.Valid(prior) {
			w.quarantine(c, "snapshot.json", prior)
		}
		if err := c.store.Write("snapshot.json", data); err != nil {
			return nil, diskError{err}
		}
	}
	return snap, checkRoles(w.session.Floors, snap)
}

// early is a request that was made before its answer was needed.
type early struct {
	key    string // the place's
	done   chan struct{}
	cancel context.CancelFunc
	data   []byte
	err    error
}

// ahead asks the first place for its timestamp while the walk asks for roots.
func (c *Client) ahead(ctx context.Context, w *walk) *early {
	for _, p := range c.places(w.tip, w.now) {
		if !p.content || w.down[p.key] || w.waits(p) {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		e := &early{key: p.key, done: make(chan struct{}), cancel: cancel}
		go func() {
			defer close(e.done)
			e.data, e.err = readAll(ctx, p.source, "metadata/timestamp.json", c.limits.Timestamp, c.cfg.MetadataTimeout)
		}()
		return e
	}
	return nil
}

func (e *early) wait() ([]byte, error) {
	<-e.done
	return e.data, e.err
}

// drop ends what nobody waits for any more.
func (e *early) drop() {
	if e != nil {
		e.cancel()
		<-e.done
	}
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
