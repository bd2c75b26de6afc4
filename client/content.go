package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/visum-dev/visum/tuf"
)

// set is a complete, verified set of content metadata under one root.
type set struct {
	timestamp *tuf.Timestamp
	snapshot  *tuf.Snapshot

	mu    sync.Mutex
	files map[string][]byte // role files by name, as on disk: what the set consists of
}

// fetch returns a tuf.Fetch that looks in the set first, then asks get and
// keeps what came.
func (s *set) fetch(get tuf.Fetch) tuf.Fetch {
	return func(f tuf.RoleFile) ([]byte, error) {
		name := roleName(f)
		s.mu.Lock()
		data, ok := s.files[name]
		s.mu.Unlock()
		if ok {
			return data, nil
		}
		data, err := get(f)
		if err == nil {
			s.mu.Lock()
			s.files[name] = data
			s.mu.Unlock()
		}
		return data, err
	}
}

// roleName is the name of a role's file, for URLs before escaping.
func roleName(f tuf.RoleFile) string { return fmt.Sprintf("%d.%s.json", f.Version, f.Role) }

// diskName is a name from metadata in a form that is safe on every disk.
func diskName(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' && b.Len() > 0 || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > 120 {
		sum := sha256.Sum256([]byte(name))
		return b.String()[:80] + hex.EncodeToString(sum[:16])
	}
	return b.String()
}

// content brings the newest set under the tip from the first place that
// delivers a complete and valid one.
func (c *Client) content(ctx context.Context, w *walk) (*set, *place, error) {
	var problems []error
	floors, err := c.state.floors()
	if err != nil {
		return nil, nil, err
	}
	for _, p := range c.places(w.tip, w.now) {
		if !p.content {
			continue
		}
		s, err := c.contentFrom(ctx, w, p, floors)
		if err == nil {
			return s, p, nil
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
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
func (c *Client) contentFrom(ctx context.Context, w *walk, p *place, floors *floors) (*set, error) {
	get := func(name string, limit int64) ([]byte, error) {
		data, err := readAll(ctx, p.source, "metadata/"+name, limit, c.cfg.MetadataTimeout)
		if err == nil || errors.Is(err, errTooLong) {
			w.answered = true
		}
		return data, err
	}
	data, err := get("timestamp.json", c.timestampLimit())
	if err != nil {
		return nil, err
	}
	ts, err := w.tip.Timestamp(data, floors.timestamp, w.now)
	if err != nil {
		return nil, err
	}
	if err := c.state.keepFloor("timestamp.json", ts.Bytes(), &floors.timestamp); err != nil {
		return nil, err
	}
	// The snapshot that was trusted last may well be the one that is asked for.
	snap, err := ts.Snapshot(floors.snapshot, floors.snapshot)
	if err != nil {
		f := ts.SnapshotFile()
		if data, err = get(fmt.Sprintf("%d.snapshot.json", f.Version), f.MaxLength); err != nil {
			return nil, err
		}
		if snap, err = ts.Snapshot(data, floors.snapshot); err != nil {
			return nil, err
		}
		if err := c.state.keepFloor("snapshot.json", data, &floors.snapshot); err != nil {
			return nil, err
		}
	}
	if err := floors.checkRoles(w.tip, snap); err != nil {
		return nil, err
	}
	s := &set{timestamp: ts, snapshot: snap, files: map[string][]byte{}}
	// All roles now: a set that lacks one is no set.
	err = snap.OpenRoles(s.fetch(func(f tuf.RoleFile) ([]byte, error) {
		if data, err := c.state.committedFile(roleName(f)); err == nil {
			return data, nil
		}
		return get(roleName(f), f.MaxLength)
	}))
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Client) timestampLimit() int64 {
	if c.cfg.Limits.Timestamp > 0 {
		return c.cfg.Limits.Timestamp
	}
	return 16 << 10
}
