package tuf

import (
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Targets verifies the top-level targets role (specification, 5.6). Errors wrap
// [ErrUntrusted] or [ErrExpired].
func (s *Snapshot) Targets(data []byte) (*Targets, error) {
	if s == nil || s.root == nil {
		return nil, refuse("targets", 0, ErrUntrusted, "zero Snapshot")
	}
	return s.topLevel(func(RoleFile) ([]byte, error) { return data, nil })
}

func (s *Snapshot) topLevel(get Fetch) (*Targets, error) {
	return s.role(roleVia{nil, "targets"}, s.root.roles["targets"], s.root.keys, "targets", get)
}

// openTargets verifies a targets role with the snapshot's entry and the keys of one
// delegator.
func (s *Snapshot) openTargets(role string, data []byte, keys roleKeys, ring keyring, whose string) (*Targets, error) {
	m, err := s.listed(role)
	if err != nil {
		return nil, err
	}
	if err := s.root.check(role, m, s.root.opt.Limits.Targets, data); err != nil {
		return nil, err
	}
	var files, delegations, recalls, repo, bound wire.Value
	doc, err := open(data, role, "targets", s.root.opt.Limits, wire.Field{Name: "targets", To: &files}, wire.Field{Name: "delegations", To: &delegations},
		wire.Field{Name: layout.RecallMember, To: &recalls}, wire.Field{Name: layout.RepoMember, To: &repo}, wire.Field{Name: layout.RoleMember, To: &bound})
	if err != nil {
		return nil, err
	}
	t := &Targets{doc: doc, name: role}
	if t.keyIDs, err = doc.threshold(keys, ring, whose); err != nil {
		return nil, err
	}
	if doc.version != m.version {
		return nil, refuse(role, doc.version, ErrVersion, "snapshot v%d lists v%d", s.doc.version, m.version)
	}
	if err := s.root.checkBinding(doc, repo, bound); err != nil {
		return nil, err
	}
	if !s.now.Before(doc.expires) {
		return nil, expired(role, doc.version, doc.expires, s.now)
	}
	if t.files, err = newIndex(files); err != nil {
		return nil, malformed(role, doc.version, err)
	}
	if dropNull(&delegations); delegations != nil {
		if err := t.parseDelegations(delegations); err != nil {
			return nil, malformed(role, doc.version, err)
		}
		if err := s.root.checkOwners(t); err != nil {
			return nil, err
		}
	}
	if t.recalls, err = parseRecalls(recalls); err != nil {
		return nil, malformed(role, doc.version, err)
	}
	if len(t.recalls) > 0 {
		t.recalled = map[string][]int{}
	}
	for i, r := range t.recalls {
		t.recalled[r.SHA256] = append(t.recalled[r.SHA256], i)
	}
	return t, nil
}

// checkBinding refuses a role that names another repository than r's, or another
// role. Files of earlier versions name neither.
func (r *Root) checkBinding(doc *document, repo, role wire.Value) error {
	repoID := ""
	if r.charter != nil {
		repoID = r.charter.repoID
	}
	for _, x := range []struct {
		member, what string
		signed       wire.Value
		want         string
	}{{layout.RepoMember, "repository", repo, repoID}, {layout.RoleMember, "role", role, doc.role}} {
		if x.signed == nil {
			continue
		}
		have, err := x.signed.Text()
		if err != nil {
			return refuse(doc.role, doc.version, ErrMalformed, "%s: %v", x.member, err)
		}
		if have != x.want {
			return refuse(doc.role, doc.version, ErrMismatch, "signed for %s %s, this is %s", x.what, text.Name(have), text.Name(x.want))
		}
	}
	return nil
}

// checkOwners refuses delegations to roles that the charter names: their keys come
// from the charter, and one name must not mean two lists. Root's own roles are
// refused by parseDelegations, in plain repositories too.
//
// The one exception is targets.json, which leads standard TUF clients to the
// release roles. The keys that it gives them are not compared with the charter's:
// no decision of this package uses them, and after a root has changed the release
// keys the published targets.json has the old ones until the next publication.
func (r *Root) checkOwners(t *Targets) error {
	c := r.charter
	if c == nil {
		return nil
	}
	owned := map[string]string{} // by the name in lower case, for some file systems ignore case
	for _, cl := range c.classes {
		for _, role := range cl.Roles {
			if t.name != "targets" {
				owned[strings.ToLower(role.Role)] = role.Role
			}
		}
		if cl.Hold != nil {
			owned[strings.ToLower(cl.Hold.Role)] = cl.Hold.Role
		}
	}
	for i := range t.delegations {
		d := &t.delegations[i]
		role, found := owned[strings.ToLower(d.name)]
		if d.succinct != nil { // one of its bins may have the name
			found = false
			bins := delegation{name: strings.ToLower(d.name), succinct: d.succinct}
			for name := range owned {
				if bins.covers(name) {
					role, found = owned[name], true
				}
			}
		}
		if found {
			return refuse(t.name, t.doc.version, ErrMalformed, "delegates to %s, which is the charter's role %s", text.Name(d.name), role)
		}
	}
	return nil
}

// opened returns a role that was verified before, or nil.
func (s *Snapshot) opened(via roleVia) *Targets {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roles[via]
}

// role returns a verified targets role. A role that was verified for the same
// delegator is returned as it is. A role that was verified for another delegator is
// verified again without being fetched again.
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
