package repo

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// item says what a part of the draft is, by the verified root and what leads to
// the role from there; what the draft says of it is not believed.
func (s *signing) item(f *draftFile) (*item, error) {
	x := &item{file: f}
	p := s.tx.present
	switch {
	case f.role == recoveryRole || s.draft.statements[f.role] != nil:
		return x, s.statementKeys(x)
	case f.role == "root":
		if s.tip != nil && s.draft.recovery == nil {
			env, err := openEnvelope(s.tip.Bytes())
			if err != nil {
				return nil, err
			}
			x.was, x.version, x.expires = env.signed, s.tip.Version(), s.tip.Expires()
		}
		return x, nil
	}
	if i := slices.IndexFunc(s.layout.lists(), func(n named) bool { return n.role == f.role }); i >= 0 {
		x.role, x.top = s.layout.lists()[i], f.role
		if p.under != nil {
			was := rootOf(p.under).lists()
			if i := slices.IndexFunc(was, func(n named) bool { return n.role == f.role }); i >= 0 {
				x.wasKeys = was[i].keys.Keys
			}
		}
	} else if err := s.delegated(x); err != nil {
		return nil, err
	}
	if x.version = p.listed(f.role); x.version > 0 {
		t, err := s.publishedRole(x)
		if err != nil {
			return nil, err
		}
		if t != nil {
			if x.was, err = signedOf(t); err != nil {
				return nil, err
			}
			x.expires = t.Expires()
		}
	}
	if f.base != x.version && !(f.version == x.version && string(x.was) == string(f.signed)) {
		return nil, fmt.Errorf("repo: %s v%d is published, the draft follows v%d: %w", text.Name(f.role), x.version, f.base, ErrConflict)
	}
	return x, nil
}

// statementKeys finds who signs a reviewer's statement: the role that the payload
// names.
func (s *signing) statementKeys(x *item) error {
	st := s.draft.statements[x.file.role]
	if st == nil {
		return nil
	}
	c, err := st.read()
	if err != nil {
		return err
	}
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

// delegated finds who signs a role that root does not name: the listing of the
// role above it, in the draft or else as it is published, up to one that root names.
func (s *signing) delegated(x *item) error {
	f := x.file
	if len(f.under) == 0 {
		return fmt.Errorf("repo: %s: %w: root has no such role", text.Name(f.role), tuf.ErrUntrusted)
	}
	if slices.Contains([]string{"root", "timestamp", "snapshot"}, f.role) {
		return fmt.Errorf("repo: %s: %w: root has a role of that name", text.Name(f.role), tuf.ErrUntrusted)
	}
	i := slices.IndexFunc(s.layout.lists(), func(n named) bool { return n.role == f.under[0] && n.party != "" })
	if i < 0 {
		return fmt.Errorf("repo: %s: %w: %s is no role of a party", text.Name(f.role), tuf.ErrUntrusted, text.Name(f.under[0]))
	}
	top := s.layout.lists()[i]
	var by *listing
	for depth, name := range f.under {
		if depth > 0 && names(s.layout, name) {
			return fmt.Errorf("repo: %s: %w: root names %s, nothing else leads to it", text.Name(f.role), tuf.ErrUntrusted, text.Name(name))
		}
		next, err := s.parent(by, name)
		if err != nil {
			return err
		}
		by = next
	}
	if !by.leadsTo(f.role) {
		return fmt.Errorf("repo: %s does not delegate to %s: %w", text.Name(by.role), text.Name(f.role), tuf.ErrUntrusted)
	}
	x.role = named{f.role, top.class, top.party, by.keysFor(f.role)}
	x.top, x.bin = top.role, by.bits() > 0
	if was := s.above[by.role]; was != nil && was.leadsTo(f.role) {
		x.wasKeys = was.keysFor(f.role).Keys
	}
	return nil
}

// parent reads one listing on the way to a delegated role.
func (s *signing) parent(by *listing, name string) (*listing, error) {
	if l := s.parents[name]; l != nil {
		return l, nil
	}
	if by != nil && !by.leadsTo(name) {
		return nil, fmt.Errorf("repo: %s does not delegate to %s: %w", text.Name(by.role), text.Name(name), tuf.ErrUntrusted)
	}
	var l *listing // as it is published; nil for none
	var err error
	if by == nil {
		l, err = s.tx.read(name)
	} else if by.from != nil {
		l, err = s.tx.readBelow(by, name)
	}
	if s.above[name] = l; err != nil {
		s.above[name] = nil
	}
	f := s.draft.files[name]
	if err != nil && !(f != nil && errors.Is(err, tuf.ErrUntrusted)) {
		return nil, err
	}
	if f != nil {
		published := l
		l = newListing(name)
		if err := l.take(f.signed); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", text.Name(name), err)
		}
		if published != nil {
			l.from = published.from
		}
	}
	if l == nil {
		return nil, fmt.Errorf("repo: no role %s: %w", text.Name(name), tuf.ErrUntrusted)
	}
	s.parents[name] = l
	return l, nil
}

// leadsTo reports whether l delegates to a role.
func (l *listing) leadsTo(role string) bool {
	if l.delegations == nil {
		return false
	}
	if b := l.delegations.SuccinctRoles; b != nil {
		digits, ok := strings.CutPrefix(role, b.NamePrefix+"-")
		return ok && len(digits) == (b.BitLength+3)/4 && isBin(digits, b.BitLength)
	}
	return l.product(role) >= 0
}

// isBin reports whether hex digits name one of 2^bits bins.
func isBin(digits string, bits int) bool {
	n := uint64(0)
	for i := range len(digits) {
		d := strings.IndexByte("0123456789abcdef", digits[i])
		if d < 0 {
			return false
		}
		n = n<<4 | uint64(d)
	}
	return n < 1<<bits
}

// publishedRole opens the published version of a role, nil where what is listed
// under its name belongs to no role of today.
func (s *signing) publishedRole(x *item) (*tuf.Targets, error) {
	p := s.tx.present
	t, err := p.snap.Role(x.top, s.tx.fetch)
	if x.top != x.file.role {
		for _, name := range append(slices.Clone(x.file.under[1:]), x.file.role) {
			if err != nil {
				break
			}
			t, err = p.snap.Delegated(t, name, s.tx.fetch)
		}
	}
	if errors.Is(err, tuf.ErrUntrusted) {
		return nil, nil // it was not there, or stood elsewhere
	}
	return t, err
}

// may reports whether a key has a part in a file, by the verified roots and by
// the root that the draft proposes.
func (s *signing) may(x *item, key tuf.Key) bool {
	in := func(parties []Party) bool {
		return slices.ContainsFunc(parties, func(p Party) bool { return slices.Contains(p.Keys, key) })
	}
	switch {
	case x.file.role == recoveryRole:
		return slices.ContainsFunc(rootOf(s.tip).recoveryKeys(), func(k tuf.Key) bool { return k == key })
	case x.file.role == "root":
		return in(s.layout.Parties) || s.tip != nil && s.draft.recovery == nil && in(rootOf(s.tip).Parties)
	}
	if !slices.Contains(x.role.keys.Keys, key) {
		return false
	}
	// A role below another party's one is not this key's, whatever it says there.
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
