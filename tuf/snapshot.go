package tuf

import (
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Snapshot is a verified snapshot. Only [Timestamp.Snapshot] makes one. Safe
// for concurrent use.
type Snapshot struct {
	doc  *document
	root *Root
	now  time.Time
	ts   int64 // version of the timestamp that calls for it
	meta index

	mu    sync.Mutex
	roles map[roleVia]*Targets // verified already
	files map[string][]byte    // by role: what at least one delegator's keys signed
}

// roleVia is a role together with who vouched for its keys: a role that one
// delegator's keys signed says nothing to another delegator.
type roleVia struct {
	by   *Targets // nil: the charter, or root for "targets"
	role string
}

// Snapshot reads the snapshot that t calls for (specification, 5.5): listed
// length and hashes, signatures, version, rollback of its own version and of
// every listed role's against prior (the last trusted one, or nil; passed over
// where none of the present keys signed it), expiry.
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

// readSnapshot reads a snapshot that signed accepts. The list is not looked into
// before that.
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

// checkRollback compares with the snapshot trusted before, in one walk over
// both sorted lists.
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
			continue // was not usable then; no floor
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

// checkFloor holds the listed targets against the charter's floor. Approval
// does not read targets.json, so the list is where the floor is seen.
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

// Until is when the first of what was opened under s expires: s itself, later by
// [Options].UnsafeStale, and the roles that were needed so far.
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

// RoleBytes returns a copy of a role's file as received, once one of those who
// delegate to it has verified it under s; nil before.
func (s *Snapshot) RoleBytes(role string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.files[role])
}

// RoleFile says which version of a targets role the snapshot lists. The error
// wraps [ErrMismatch] where it lists none.
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

// Fetch brings the bytes of a role's file from wherever they are. It is called
// without a lock held. An error ends the search that asked: a role that can't
// be had is not a role that lists nothing. [Snapshot.Candidates] and
// [Snapshot.Recalls] continue with other roles then, so a Fetch whose source has
// failed should fail at once for the next file. A nil Fetch brings nothing: it is for
// decisions on roles that are open already.
type Fetch func(RoleFile) ([]byte, error)

// opened returns what was verified before, or nil.
func (s *Snapshot) opened(via roleVia) *Targets {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roles[via]
}

// role returns a verified targets role. What was verified for the same
// delegator is taken as it is; what was verified for another is verified again,
// without fetching it again.
func (s *Snapshot) role(via roleVia, keys roleKeys, ring keyring, whose string, get Fetch) (*Targets, error) {
	s.mu.Lock()
	t, data := s.roles[via], s.files[via.role]
	s.mu.Unlock()
	if t != nil {
		return t, nil
	}
	file, err := s.RoleFile(via.role)
	if err != nil {
		return nil, err
	}
	if m, err := s.listed(via.role); err == nil && m.length > s.root.opt.Limits.Targets {
		return nil, refuse(via.role, file.Version, ErrTooLarge, "%d bytes are listed, at most %d", m.length, s.root.opt.Limits.Targets)
	}
	if data == nil {
		if get == nil {
			return nil, refuse(via.role, file.Version, ErrUntrusted, "not opened yet, and there is no Fetch")
		}
		if data, err = get(file); err != nil {
			return nil, err
		}
	}
	if t, err = s.openTargets(via.role, data, keys, ring, whose); err != nil {
		attach(err, data)
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if first := s.roles[via]; first != nil {
		return first, nil
	}
	s.roles[via], s.files[via.role] = t, t.doc.raw
	return t, nil
}
