package tuf

import (
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Snapshot is a verified snapshot. Only [Timestamp.Snapshot] creates one. It is safe
// for concurrent use.
type Snapshot struct {
	doc  *document
	root *Root
	now  time.Time
	ts   int64 // version of the timestamp that lists it
	meta index
	head *Head // see Logged; nil: no proof
	// within is a logged snapshot that restricts the decisions; see Within.
	within *Snapshot

	mu    sync.Mutex
	roles map[roleVia]*Targets // verified roles
	files map[string][]byte    // by role: files that the keys of at least one delegator signed
}

// roleVia is a role together with its delegator, which states the role's keys. A
// role verified for one delegator must be verified again for another.
type roleVia struct {
	by   *Targets // nil: the charter, or root for "targets"
	role string
}

// Snapshot verifies the snapshot that t lists (specification, 5.5): length and
// hashes, signatures, version, rollback of its version and of the version of every
// listed role, floor, and expiry. prior is the last trusted snapshot, or nil; a
// prior that none of the current snapshot keys signed is ignored. Errors wrap
// [ErrUntrusted] or [ErrExpired].
func (t *Timestamp) Snapshot(data, prior []byte) (s *Snapshot, err error) {
	defer func() { attach(err, data) }()
	if t == nil || t.root == nil {
		return nil, refuse("snapshot", 0, ErrUntrusted, "zero Timestamp")
	}
	if err := t.root.check("snapshot", t.snapshot, t.root.opt.Limits.Snapshot, data); err != nil {
		return nil, err
	}
	if s, err = t.root.openSnapshot(data); err != nil {
		return nil, err
	}
	v := s.doc.version
	if v != t.snapshot.version {
		return nil, refuse("snapshot", v, ErrVersion, "the timestamp lists v%d", t.snapshot.version)
	}
	if was, err := t.root.readSnapshot(prior, func(d *document) error {
		if !d.signedByAny(t.root.roles["snapshot"], t.root.keys) {
			return ErrThreshold
		}
		return nil
	}); err == nil {
		if err := s.checkRollback(was); err != nil {
			return nil, err
		}
	}
	if err := s.checkFloor(); err != nil {
		return nil, err
	}
	if !t.now.Before(t.root.opt.lasts(s.doc.expires)) {
		return nil, expired("snapshot", v, s.doc.expires, t.now)
	}
	s.now, s.ts = t.now, t.doc.version
	return s, nil
}

func (r *Root) openSnapshot(data []byte) (*Snapshot, error) {
	return r.readSnapshot(data, func(d *document) error {
		_, err := d.threshold(r.roles["snapshot"], r.keys, "snapshot")
		return err
	})
}

// readSnapshot reads a snapshot that signed accepts. It parses the list of roles
// only after that.
func (r *Root) readSnapshot(data []byte, signed func(*document) error) (*Snapshot, error) {
	var meta wire.Value
	doc, err := open(data, "snapshot", "snapshot", r.opt.Limits, wire.Field{Name: "meta", To: &meta})
	if err != nil {
		return nil, err
	}
	if err := signed(doc); err != nil {
		return nil, err
	}
	x, err := newIndex(meta)
	if err != nil {
		return nil, malformed("snapshot", doc.version, err)
	}
	return &Snapshot{doc: doc, root: r, meta: x, roles: map[roleVia]*Targets{}, files: map[string][]byte{}}, nil
}

// checkRollback compares s with the previously trusted snapshot (specification,
// 5.5.5), in one pass over both sorted lists.
func (s *Snapshot) checkRollback(was *Snapshot) error {
	if v := s.doc.version; v < was.doc.version {
		return refuse("snapshot", v, ErrRollback, "trusted v%d", was.doc.version)
	}
	i := 0
	for _, old := range was.meta {
		name := old.name.String()
		for i < len(s.meta) && s.meta[i].name.Compare(name) < 0 {
			i++
		}
		if i == len(s.meta) || s.meta[i].name.Compare(name) != 0 {
			return refuse("snapshot", s.doc.version, ErrRollback, "%s is no longer listed", text.Name(name))
		}
		before, err := parseMetaFile(old.val)
		if err != nil {
			continue // the entry was unusable, so it is no floor
		}
		now, err := parseMetaFile(s.meta[i].val)
		if err != nil {
			return malformed("snapshot", s.doc.version, err)
		}
		if now.version < before.version {
			return refuse("snapshot", s.doc.version, ErrRollback, "lists %s v%d, trusted v%d", text.Name(name), now.version, before.version)
		}
	}
	return nil
}

// checkFloor compares the listed targets version with the charter's floor. The check
// is done here because an approval does not read targets.json.
func (s *Snapshot) checkFloor() error {
	c := s.root.charter
	if c == nil || c.floors.Targets == 0 {
		return nil
	}
	m, err := s.listed("targets")
	if err != nil {
		return err
	}
	if m.version < c.floors.Targets {
		return refuse("snapshot", s.doc.version, ErrRollback, "lists targets v%d, the charter's floor is v%d", m.version, c.floors.Targets)
	}
	return nil
}

// Version is the snapshot's version number.
func (s *Snapshot) Version() int64 { return s.doc.version }

// Expires is the snapshot's own expiry.
func (s *Snapshot) Expires() time.Time { return s.doc.expires }

// Bytes returns a copy of the snapshot as received; nil for the zero value.
func (s *Snapshot) Bytes() []byte {
	if s == nil || s.doc == nil {
		return nil
	}
	return clone(s.doc.raw)
}

// Root returns the root that the snapshot was verified under.
func (s *Snapshot) Root() *Root { return s.root }

// Until is the earliest expiry of s, extended by [Options].UnsafeStale, and of the
// roles opened under s so far.
func (s *Snapshot) Until() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.root.opt.lasts(s.doc.expires)
	for _, t := range s.roles {
		if t.doc.expires.Before(until) {
			until = t.doc.expires
		}
	}
	return until
}

// RoleBytes returns a copy of a role's file as received; nil until the role was
// verified under s for at least one delegator.
func (s *Snapshot) RoleBytes(role string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.files[role])
}

// RoleFile returns the version and length of a targets role in the snapshot. The
// error wraps [ErrMismatch] if the snapshot does not list the role.
func (s *Snapshot) RoleFile(role string) (RoleFile, error) {
	if s == nil || s.root == nil {
		return RoleFile{}, refuse(role, 0, ErrUntrusted, "zero Snapshot")
	}
	m, err := s.listed(role)
	if err != nil {
		return RoleFile{}, err
	}
	return s.root.roleFile(role, m, s.root.opt.Limits.Targets), nil
}

// Roles returns the names of the targets roles that the snapshot lists.
func (s *Snapshot) Roles() []string {
	var out []string
	for _, e := range s.meta {
		out = append(out, strings.TrimSuffix(e.name.String(), ".json"))
	}
	return out
}

func (s *Snapshot) listed(role string) (metaFile, error) {
	v, ok := s.meta.find(role + ".json")
	if !ok {
		return metaFile{}, refuse(role, 0, ErrMismatch, "snapshot v%d does not list the role", s.doc.version)
	}
	m, err := parseMetaFile(v)
	if err != nil {
		return metaFile{}, malformed("snapshot", s.doc.version, err)
	}
	return m, nil
}

// Fetch returns the bytes of a role's file, at most [RoleFile].MaxLength of them. It
// is called without a lock held and may be called concurrently. An error ends the
// search, because an unavailable role is not a role that lists nothing.
// [Snapshot.Candidates] and [Snapshot.Recalls] continue with other roles; so after a
// failure of its source a Fetch should fail at once for the next file. A nil Fetch
// is for decisions that need only roles that are open already.
type Fetch func(RoleFile) ([]byte, error)
