package repo

import (
	"fmt"
	"slices"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// item describes a part of the draft by the verified root and delegations; the draft's
// own description is not trusted.
func (s *signRequest) item(f *draftFile) (*item, error) {
	x := &item{file: f}
	p := s.tx.present
	switch {
	case f.role == facts.RecoveryRole || s.draft.statements[f.role] != nil:
		return x, s.statementKeys(x)
	case f.role == "root":
		if s.prev != nil && s.draft.recovery == nil {
			env, err := metafile.Open(s.prev.Bytes())
			if err != nil {
				return nil, err
			}
			x.was, x.version, x.expires = env.Signed, s.prev.Version(), s.prev.Expires()
		}
		return x, nil
	}
	if err := s.keysOf(x); err != nil {
		return nil, err
	}
	x.version = p.listed(f.role)
	was, err := s.before.open(f.role)
	if err != nil {
		return nil, err
	}
	if was != nil {
		x.was = was.Signed
		if x.expires, err = metafile.ExpiryOf(was.Signed); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", roleText(f.role), err)
		}
	}
	if f.base != x.version && !(f.version == x.version && string(x.was) == string(f.signed)) {
		return nil, s.tx.behind(f)
	}
	return x, nil
}

// trace finds the delegators of the draft's roles that the root does not name, before
// and after the draft.
func (s *signRequest) trace() error {
	was := &Root{}
	if under := s.tx.present.under; under != nil {
		was = rootOf(under)
	}
	restored, err := s.repo.newTx(s.ctx, s.tx.present).withoutCompromised(s.draft.override.compromised)
	if err != nil {
		return err
	}
	s.restored = restored.signed
	s.before = newEdition(s.tx, was, func(role string) wire.Value { return s.restored[role] })
	s.after = newEdition(s.tx, s.layout, func(role string) wire.Value {
		if f := s.draft.files[role]; f != nil {
			return f.signed
		}
		return nil
	})
	for _, e := range []*edition{s.before, s.after} {
		var wanted []string
		for role := range s.draft.files {
			if !e.named[role] {
				wanted = append(wanted, role)
			}
		}
		slices.Sort(wanted)
		if err := e.trace(wanted); err != nil {
			return err
		}
	}
	return nil
}

// keysOf finds the keys for a targets role, and those of its published version.
func (s *signRequest) keysOf(x *item) error {
	role := x.file.role
	for _, n := range s.layout.lists() {
		if n.role == role {
			x.role, x.top = n, role
		}
	}
	for _, n := range s.before.layout.lists() {
		if n.role == role {
			x.wasKeys = n.keys.Keys
		}
	}
	if x.wasKeys == nil {
		if by, err := s.before.delegator(role); err != nil {
			return err
		} else if by != nil {
			x.wasKeys = keysFor(by, role).Keys
		}
	}
	if x.top != "" {
		return nil
	}
	by, err := s.after.delegator(role)
	if err != nil {
		return err
	}
	tops := s.after.tops(role)
	if by == nil || len(tops) != 1 {
		return fmt.Errorf("repo: %s: %w: no unique delegator, it is below %d roles that the root names", roleText(role), tuf.ErrUntrusted, len(tops))
	}
	for _, n := range s.layout.lists() {
		if n.role == tops[0] && n.party != "" {
			x.role = named{role, n.class, n.party, keysFor(by, role)}
			x.top, x.bin = n.role, by.BinBits() > 0
			return nil
		}
	}
	return fmt.Errorf("repo: %s: %w: %s is not a role of a party", roleText(role), tuf.ErrUntrusted, roleText(tops[0]))
}

// delegator returns the role through which another one was reached, or nil.
func (e *edition) delegator(role string) (*rolelist.List, error) {
	way := e.way(role)
	if len(way) == 0 {
		return nil, nil
	}
	return e.open(way[len(way)-1])
}

// statementKeys finds the keys for a reviewer's statement: those of the role that the
// payload names.
func (s *signRequest) statementKeys(x *item) error {
	st := s.draft.statements[x.file.role]
	if st == nil {
		return nil
	}
	c := st.claim
	if repoID := c.RepoID(); repoID != s.layout.RepoID {
		return fmt.Errorf("repo: %s: %w: it is about repository %s", text.Name(x.file.role), tuf.ErrMismatch, text.Name(repoID))
	}
	for _, n := range s.layout.lists() {
		if n.role == c.Reviewer.Role && n.party == c.Reviewer.Party {
			x.role = n
		}
	}
	return nil
}

// may reports whether a key may sign a file, by the verified roots and by the root that
// the draft proposes.
func (s *signRequest) may(x *item, key tuf.Key) bool {
	in := func(parties []Party) bool {
		return slices.ContainsFunc(parties, func(p Party) bool { return slices.Contains(p.Keys, key) })
	}
	switch {
	case x.file.role == facts.RecoveryRole:
		return slices.ContainsFunc(rootOf(s.prev).recoveryKeys(), func(k tuf.Key) bool { return k == key })
	case x.file.role == "root":
		if len(s.fork) > 0 && in(rootOf(s.fork[len(s.fork)-1]).Parties) {
			return true
		}
		return in(s.layout.Parties) || s.prev != nil && s.draft.recovery == nil && in(rootOf(s.prev).Parties)
	}
	if !slices.Contains(x.role.keys.Keys, key) {
		return false
	}
	// A key must not sign roles below another party's role, even if these name the key.
	party, known := s.parties[key]
	return !known || x.top == x.file.role || x.top == "" || party == x.role.party
}

func (r *Root) recoveryKeys() (keys []tuf.Key) {
	if r.Recovery != nil {
		for _, o := range r.Recovery.Orgs {
			keys = append(keys, o.Keys...)
		}
	}
	return keys
}
