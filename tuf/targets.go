package tuf

import (
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Targets is a verified targets role: the top-level one, a release role or hold of
// the charter, or a delegated role.
type Targets struct {
	doc         *document
	name        string
	keyIDs      []string // the keys that counted towards the threshold
	files       index
	delegations []delegation
	keys        keyring
	recalls     []Recall
	recalled    map[string][]int // of recalls, by SHA256
}

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
		wire.Field{Name: RecallMember, To: &recalls}, wire.Field{Name: RepoMember, To: &repo}, wire.Field{Name: RoleMember, To: &bound})
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

// RepoMember is the custom member of a targets role's signed part that names the
// repository that the role was signed for, by [Charter.RepoID]:
//
//	"x-visum-repo": "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"
//
// Without it, a role that a review centre signed for a staging repository, or for
// another vendor with the same key, would verify in this repository too.
const RepoMember = "x-visum-repo"

// RoleMember is the custom member of a targets role's signed part that names the
// role itself:
//
//	"x-visum-role": "review-agent"
//
// TUF metadata does not state its role, and one key often signs several roles, such
// as a release role and its hold. Without the member, a file signed for one of them
// would verify as another (mix-and-match).
const RoleMember = "x-visum-role"

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
	}{{RepoMember, "repository", repo, repoID}, {RoleMember, "role", role, doc.role}} {
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

// Role is the role's name.
func (t *Targets) Role() string { return t.name }

// Version is the role's version number.
func (t *Targets) Version() int64 { return t.doc.version }

// Expires is the role's own expiry.
func (t *Targets) Expires() time.Time { return t.doc.expires }

// Bytes returns a copy of the role as received; nil for the zero value.
func (t *Targets) Bytes() []byte {
	if t == nil || t.doc == nil {
		return nil
	}
	return clone(t.doc.raw)
}

// target is one role's entry for one path.
type target struct {
	length int64
	hashes hashes
	visum  wire.Value // custom.visum, canonical; nil if absent
}

// file returns this role's own entry for path.
func (t *Targets) file(path string) (target, bool, error) {
	v, ok := t.files.find(path)
	if !ok {
		return target{}, false, nil
	}
	x, err := parseTarget(v)
	if err != nil {
		return target{}, false, refuse(t.name, t.doc.version, ErrMalformed, "target %s: %v", text.Name(path), err)
	}
	return x, true, nil
}

func parseTarget(v wire.Value) (x target, err error) {
	var length, hv, custom wire.Value
	if err := v.Fields(wire.Field{Name: "length", To: &length}, wire.Field{Name: "hashes", To: &hv}, wire.Field{Name: "custom", To: &custom}); err != nil {
		return x, err
	}
	if x.length, err = length.Int(); err != nil || x.length < 0 {
		return x, syntaxf("length is %s", length)
	}
	if x.hashes, err = parseHashes(hv); err != nil {
		return x, err
	}
	if x.hashes == (hashes{}) {
		return x, syntaxf("no hash")
	}
	if custom.Kind() == '{' {
		if err := custom.Fields(wire.Field{Name: ReleaseMember, To: &x.visum}); err != nil {
			return x, err
		}
	}
	return x, nil
}
