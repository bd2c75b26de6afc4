package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/tuf"
)

// getter reads a metadata file of one place.
type getter = func(name string, limit int64) ([]byte, error)

// roleName is the name of a role's file, for URLs before escaping.
func roleName(f tuf.RoleFile) string { return fmt.Sprintf("%d.%s.json", f.Version, f.Role) }

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
		if !p.content {
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
	}
	return nil, nil, errors.Join(append([]error{ErrNoContent}, problems...)...)
}

// contentFrom reads timestamp, snapshot and the release roles of every class
// from one place. Whatever verified is a floor from then on, also when a later
// file of the set fails.
func (c *Client) contentFrom(ctx context.Context, w *walk, p *place) (*set, error) {
	get := func(name string, limit int64) ([]byte, error) {
		return readAll(ctx, p.source, "metadata/"+name, limit, c.cfg.MetadataTimeout)
	}
	ts, err := c.timestamp(w, get)
	if err != nil {
		return nil, err
	}
	snap, err := c.snapshot(w, ts, get)
	if err != nil {
		return nil, err
	}
	s := &set{timestamp: ts, snapshot: snap, files: map[string][]byte{}}
	// All roles now: a set that lacks one is no set.
	kept := false
	err = snap.OpenRoles(func(f tuf.RoleFile) ([]byte, error) {
		data, err := w.folder.committed(f)
		if err == nil {
			kept = true
			s.files[roleName(f)] = data
			return data, nil
		}
		return s.fetch(f, get)
	})
	if err != nil && kept {
		// A file on disk may be damaged: what is verified stays, the rest is asked for.
		err = snap.OpenRoles(func(f tuf.RoleFile) ([]byte, error) { return s.fetch(f, get) })
	}
	return s, err
}

func (s *set) fetch(f tuf.RoleFile, get getter) ([]byte, error) {
	data, err := get(roleName(f), f.MaxLength)
	if err == nil {
		s.fetched = true
		s.files[roleName(f)] = data
	}
	return data, err
}

func (c *Client) timestamp(w *walk, get getter) (*tuf.Timestamp, error) {
	limit := limitOr(c.cfg.Limits.Timestamp, 16<<10)
	prior, err := w.folder.prior("timestamp.json", limit)
	if err != nil {
		return nil, diskError{err}
	}
	data, err := get("timestamp.json", limit)
	if err != nil {
		return nil, err
	}
	ts, err := w.tip.Timestamp(data, prior, w.now)
	if err != nil {
		return nil, err
	}
	if err := w.folder.checkTimestamp(w.tip, ts); err != nil {
		return nil, err
	}
	if !bytes.Equal(ts.Bytes(), prior) {
		if err := w.folder.write("floor/timestamp.json", ts.Bytes()); err != nil {
			return nil, diskError{err}
		}
	}
	keys := floorKeys(w.tip)
	w.folder.raise("timestamp", keys["timestamp"], ts.Version())
	w.folder.raise("snapshot", keys["snapshot"], ts.SnapshotFile().Version)
	return ts, nil
}

func (c *Client) snapshot(w *walk, ts *tuf.Timestamp, get getter) (*tuf.Snapshot, error) {
	f := ts.SnapshotFile()
	prior, err := w.folder.prior("snapshot.json", limitOr(c.cfg.Limits.Snapshot, 16<<20))
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
		if err := w.folder.write("floor/snapshot.json", data); err != nil {
			return nil, diskError{err}
		}
	}
	return snap, w.folder.checkRoles(w.tip, snap)
}
