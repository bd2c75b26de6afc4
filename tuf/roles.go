package tuf

import (
	"iter"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
)

// Role fetches and verifies a role that root names: "targets", a release role or a
// hold. It is for tools that examine a whole repository; use [Snapshot.Approve] to
// decide on a path. Errors are those of get, or wrap [ErrUntrusted] or [ErrExpired].
func (s *Snapshot) Role(name string, get Fetch) (*Targets, error) {
	if s == nil || s.root == nil {
		return nil, refuse(name, 0, ErrUntrusted, "zero Snapshot")
	}
	if name == "targets" {
		return s.topLevel(get)
	}
	if c := s.root.charter; c != nil {
		for i := range c.classes {
			class := &c.classes[i]
			for _, r := range class.Roles {
				if r.Role == name {
					return s.releaseRole(r, get)
				}
			}
			if class.Hold != nil && class.Hold.Role == name {
				return s.holdRole(class, get)
			}
		}
	}
	return nil, refuse(name, 0, ErrUntrusted, "root v%d names no such role", s.root.doc.version)
}

// Delegated fetches a role that by delegates to and verifies it with by's keys for
// it. s does not cache the result, so that traversing many roles needs the memory of
// one. Errors are those of get, or wrap [ErrUntrusted] or [ErrExpired].
func (s *Snapshot) Delegated(by *Targets, name string, get Fetch) (*Targets, error) {
	if s == nil || s.root == nil || by == nil || by.doc == nil {
		return nil, refuse(name, 0, ErrUntrusted, "zero Snapshot or Targets")
	}
	i := slices.IndexFunc(by.delegations, func(d delegation) bool { return d.covers(name) })
	if i < 0 {
		return nil, refuse(name, 0, ErrUntrusted, "%s v%d does not delegate to it", text.Name(by.name), by.doc.version)
	}
	file, err := s.RoleFile(name)
	if err != nil {
		return nil, err
	}
	data, err := get(file)
	if err != nil {
		return nil, err
	}
	t, err := s.openTargets(name, data, by.delegations[i].keys, by.keys, text.Name(name))
	attach(err, data)
	return t, err
}

// Delegates yields the names of the roles that t delegates to, in order of priority,
// including each hash bin.
func (t *Targets) Delegates() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range t.delegations {
			if d.succinct == nil {
				if !yield(d.name) {
					return
				}
				continue
			}
			for bin := range uint64(1) << d.succinct.bits {
				if !yield(layout.BinName(d.name, d.succinct.bits, uint32(bin))) {
					return
				}
			}
		}
	}
}
