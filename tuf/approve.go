package tuf

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Approved is a target that may be downloaded and used: every party of its
// class lists the same bytes. Only [Snapshot.Approve], [Snapshot.Candidates]
// and [Snapshot.UnsafeTarget] create one. Every function that takes an Approved
// refuses the zero value.
type Approved struct {
	path    string
	class   string
	repoID  string
	length  int64
	hashes  layout.Hashes
	release *Release
	by      []Signoff
	basis   Basis
	single  bool // see RoleFile
}

// Basis is the input of a decision. The decision can be reproduced from the files
// of these versions, the files that the snapshot lists, and the time.
type Basis struct {
	Root, Timestamp, Snapshot int64     // versions
	RootSHA256                string    // see [Root.SHA256]
	Time                      time.Time // the now passed to [Root.Timestamp]
}

// Signoff is one role's part in an approval.
type Signoff struct {
	Party   string    `json:"party"`   // "" without a charter
	Role    string    `json:"role"`    // the role that lists the target: the party's release role or one delegated by it
	Version int64     `json:"version"` // version of that role
	KeyIDs  []string  `json:"key_ids"` // the keys that counted towards the threshold
	Expires time.Time `json:"expires"` // expiry of that role
}

// IsZero reports whether a is the zero value, which approves nothing.
func (a Approved) IsZero() bool { return len(a.by) == 0 }

// Path is the target's name in the repository, slash-separated. Never use it as a path on disk.
func (a Approved) Path() string { return a.path }

// Class is the name of the path's class in the charter; "" without a charter.
func (a Approved) Class() string { return a.class }

// RepoID is the repository's identity, see [Charter.RepoID]; "" without a charter.
func (a Approved) RepoID() string { return a.repoID }

// Length is the target's size in bytes.
func (a Approved) Length() int64 { return a.length }

// File is the name of the target's file below targets/, not escaped:
// agent/HASH.agent-1.0 with [Approved.Hash], or the path if root does not set
// consistent_snapshot (specification, 5.7.3).
func (a Approved) File() string {
	if a.single {
		return a.path
	}
	dir, base := path.Split(a.path)
	return dir + a.Hash() + "." + base
}

// Hash is the hash in the name of the target's file: SHA256, or SHA512 if only
// that is listed.
func (a Approved) Hash() string {
	if a.hashes.SHA256 == "" {
		return a.hashes.SHA512
	}
	return a.hashes.SHA256
}

// SHA256 is the target's hash in lower-case hex. Parties must list it; without a
// charter it is "" if only SHA512 is listed.
func (a Approved) SHA256() string { return a.hashes.SHA256 }

// SHA512 is the target's hash in lower-case hex, "" if it is not listed. A
// download must match it too.
func (a Approved) SHA512() string { return a.hashes.SHA512 }

// Release returns a copy of the release fields; ok is false for a target without
// release data.
func (a Approved) Release() (rel Release, ok bool) {
	if a.release == nil {
		return Release{}, false
	}
	rel = *a.release
	if rel.Rollout != nil {
		part := *rel.Rollout
		rel.Rollout = &part
	}
	return rel, true
}

// Basis returns the input of the decision.
func (a Approved) Basis() Basis { return a.basis }

// Signoffs returns a copy of the sign-offs, one entry for each role of the class.
func (a Approved) Signoffs() []Signoff {
	out := slices.Clone(a.by)
	for i := range out {
		out[i].KeyIDs = slices.Clone(out[i].KeyIDs)
	}
	return out
}

// String describes the target and its sign-offs in one line of printable ASCII of
// at most 4 kB.
func (a Approved) String() string {
	if a.IsZero() {
		return "no approved target"
	}
	var who []string
	for _, s := range a.by {
		keys := "1 key"
		if len(s.KeyIDs) > 1 {
			keys = fmt.Sprintf("%d keys", len(s.KeyIDs))
		}
		who = append(who, strings.TrimSpace(fmt.Sprintf("%s (%s v%d, %s)", s.Party, text.Name(s.Role), s.Version, keys)))
	}
	return text.Line(fmt.Sprintf("%s, %d bytes, %s %.16s, listed by %s", text.Name(a.path), a.length, a.hashes.Name(), a.Hash(), strings.Join(who, " and ")))
}

// listing is one role's entry for a path.
type listing struct {
	role    ReleaseRole
	version int64 // of the party's release role
	*found        // nil if the role does not list the path
}

// Approve decides whether one path is approved. All of these must hold:
//
//   - every role of the path's class lists it with the same length, hashes and
//     release fields;
//   - each of these roles has the version that the snapshot lists, is verified with
//     the charter's keys and has not expired;
//   - the release fields obey [Release.Check];
//   - no recall of these roles names the bytes, and no hold names the path;
//   - where a rule of the log is enforced, s is the result of [Snapshot.Logged] or
//     [Snapshot.Within].
//
// Otherwise the error wraps [ErrNoTarget] (no role lists the path), [ErrNotApproved],
// [ErrNotLogged], [ErrRelease], [ErrRecalled], [ErrHeld] or [ErrExpired], or it is the
// error of get.
//
// A root without a charter approves nothing: see [Snapshot.UnsafeTarget].
func (s *Snapshot) Approve(path string, get Fetch) (Approved, error) {
	class, err := s.classOf(path)
	if err != nil {
		return Approved{}, err
	}
	a, _, err := s.decide(class, path, get, &work{left: maxSearch})
	if err != nil {
		return Approved{}, err
	}
	return a, nil
}

// decide is Approve for a path of class, within a budget. If agreed is true, every
// party lists the content of a. err may still be set then: the target is recalled
// or held, or its release fields are malformed and a holds the readable ones.
func (s *Snapshot) decide(class *Class, path string, get Fetch, w *work) (a Approved, agreed bool, err error) {
	if err := s.checkLogged(path); err != nil {
		return Approved{}, false, err
	}
	if s.within != nil {
		return s.decideWithin(class, path, get, w)
	}
	return s.decideOwn(class, path, get, w)
}

func (s *Snapshot) decideOwn(class *Class, path string, get Fetch, w *work) (a Approved, agreed bool, err error) {
	list, err := s.listings(class, path, get, w)
	if err != nil {
		return Approved{}, false, err
	}
	if a, err = s.agree(class, path, list); err != nil {
		return a, errors.Is(err, ErrRelease), err
	}
	if err := s.checkRecall(class, a, get); err != nil {
		return a, true, err
	}
	return a, true, s.checkHold(class, path, get)
}

// OpenRoles fetches and verifies the release roles and the hold of every class.
// Afterwards a decision on a path that these roles list needs no Fetch. After an
// error of OpenRoles at least one class can't be decided on.
func (s *Snapshot) OpenRoles(get Fetch) error {
	if s == nil || s.root == nil || s.root.charter == nil {
		_, err := s.classOf("roles")
		return err
	}
	for i := range s.root.charter.classes {
		class := &s.root.charter.classes[i]
		for _, role := range class.Roles {
			if _, err := s.releaseRole(role, get); err != nil {
				return err
			}
		}
		if _, err := s.holdRole(class, get); err != nil {
			return err
		}
	}
	return nil
}

func (s *Snapshot) classOf(path string) (*Class, error) {
	if s == nil || s.root == nil {
		return nil, refuse(path, 0, ErrUntrusted, "zero Snapshot")
	}
	c := s.root.charter
	if c == nil {
		return nil, refuse(path, 0, ErrNotApproved, "root v%d has no charter and no review", s.root.doc.version)
	}
	class := c.class(path)
	if class == nil {
		return nil, refuse(path, 0, ErrNotApproved, "the path is in no class of the charter")
	}
	return class, nil
}

// listings searches every role of the class for the path.
func (s *Snapshot) listings(class *Class, path string, get Fetch, w *work) ([]listing, error) {
	var list []listing
	for _, role := range class.Roles {
		top, err := s.releaseRole(role, get)
		if err != nil {
			return nil, err
		}
		f, err := s.search(top, path, get, w)
		if err != nil {
			return nil, err
		}
		list = append(list, listing{role, top.doc.version, f})
	}
	return list, nil
}

// releaseRole returns a party's role, verified with the charter's keys.
func (s *Snapshot) releaseRole(r ReleaseRole, get Fetch) (*Targets, error) {
	via := roleVia{nil, r.Role}
	if t := s.opened(via); t != nil {
		return t, nil
	}
	return s.role(via, roleKeys{r.KeyIDs, r.Threshold}, s.root.keys, "party "+r.Party+" for "+r.Role, get)
}

func (l listing) String() string {
	return fmt.Sprintf("%s (%s v%d)", l.role.Party, l.role.Role, l.version)
}

// missing returns an error unless every role lists the path.
func missing(path string, list []listing) error {
	var yes, no []string
	for _, l := range list {
		if l.found == nil {
			no = append(no, l.String())
		}
	}
	if len(no) == 0 {
		return nil
	}
	for _, l := range list {
		if l.found != nil {
			yes = append(yes, l.String())
		}
	}
	if len(yes) == 0 {
		return refuse(path, 0, ErrNoTarget, "listed by none of %s", strings.Join(no, ", "))
	}
	return refuse(path, 0, ErrNotApproved, "listed by %s, but not by %s", strings.Join(yes, ", "), strings.Join(no, ", "))
}

// agree compares the listings of all roles. It is the only function that creates
// an Approved under a charter. With an ErrRelease it returns a zero Approved that
// holds only the readable release fields.
func (s *Snapshot) agree(class *Class, path string, list []listing) (Approved, error) {
	if err := missing(path, list); err != nil {
		return Approved{}, err
	}
	first := list[0]
	if first.hashes.SHA256 == "" {
		return Approved{}, refuse(path, first.version, ErrMalformed, "%s lists no sha256", first)
	}
	// Every pair is compared: two roles may differ in a sha512 that a third does not list.
	for i, l := range list {
		for _, other := range list[i+1:] {
			if what := l.target.differs(other.target); what != "" {
				return Approved{}, refuse(path, 0, ErrNotApproved, "%s and %s list different %s", l, other.role.Party, what)
			}
		}
	}
	a := Approved{path: path, class: class.Name, repoID: s.root.charter.repoID, length: first.length, hashes: first.hashes, basis: s.basis()}
	if first.visum != nil {
		rel, err := parseRelease(first.visum)
		if err != nil {
			return Approved{release: &rel}, refuse(path, 0, ErrRelease, "%v", err)
		}
		a.release = &rel
	}
	for _, l := range list {
		a.by = append(a.by, l.signoffs(l.role.Party)...)
		// The download must match a hash that only one party lists too.
		a.hashes.SHA512 = max(a.hashes.SHA512, l.hashes.SHA512)
	}
	return a, nil
}

func (s *Snapshot) basis() Basis {
	return Basis{s.root.doc.version, s.ts, s.doc.version, s.root.sum, s.now}
}

func (f *found) signoffs(party string) (out []Signoff) {
	for _, t := range f.by {
		out = append(out, Signoff{party, t.name, t.doc.version, t.keyIDs, t.doc.expires})
	}
	return out
}

// checkHold looks for the path in the class's hold role. If the charter has a hold
// role, it must be available, valid and unexpired; otherwise no path is approved.
func (s *Snapshot) checkHold(class *Class, path string, get Fetch) error {
	t, err := s.holdRole(class, get)
	if err != nil || t == nil {
		return err
	}
	x, ok, err := t.file(path)
	if err != nil || !ok {
		return err
	}
	var r reader
	var reason, at, until wire.Value
	r.fields(x.visum, wire.Field{Name: "reason", To: &reason}, wire.Field{Name: "at", To: &at}, wire.Field{Name: "until", To: &until})
	why, start, end := r.text(reason), r.time(at), r.time(until)
	if until == nil {
		r.fail("hold without until")
	}
	switch last := start.Add(class.Hold.Max); {
	case at != nil && !start.After(s.now):
		if end.After(last) {
			end = last
		}
	case end.After(s.now.Add(class.Hold.Max)):
		// A hold without a past "at" has no known start. Counted from now, Max would
		// start again with every check, and the hold would never end.
		r.fail("held until %s, which is more than %s from now, and the hold has no past \"at\"", text.Time(end), class.Hold.Max)
	}
	if r.err != nil {
		return malformed(t.name, t.doc.version, r.err)
	}
	if s.now.Before(end) {
		return refuse(path, 0, ErrHeld, "until %s: %s", text.Time(end), text.Quote(why))
	}
	return nil
}

// holdRole returns the verified hold role of a class, nil if the charter has none.
func (s *Snapshot) holdRole(class *Class, get Fetch) (*Targets, error) {
	h := class.Hold
	if h == nil {
		return nil, nil
	}
	return s.role(roleVia{nil, h.Role}, roleKeys{h.KeyIDs, h.Threshold}, s.root.keys, "the hold of class "+class.Name, get)
}

// UnsafeTarget finds a path in a TUF repository without a charter (specification,
// 5.6 and 5.7). The targets keys alone decide; there is no independent review. It
// refuses a root with a charter. Errors are those of [Snapshot.Approve].
func (s *Snapshot) UnsafeTarget(path string, get Fetch) (Approved, error) {
	if s == nil || s.root == nil {
		return Approved{}, refuse(path, 0, ErrUntrusted, "zero Snapshot")
	}
	if s.root.charter != nil {
		return Approved{}, refuse(path, 0, ErrNotApproved, "root v%d has a charter: use Approve", s.root.doc.version)
	}
	top, err := s.topLevel(get)
	if err != nil {
		return Approved{}, err
	}
	x, err := s.search(top, path, get, &work{left: maxSearch})
	if err != nil {
		return Approved{}, err
	}
	if x == nil {
		return Approved{}, refuse(path, 0, ErrNoTarget, "not listed by targets v%d or its delegations", top.doc.version)
	}
	a := Approved{path: path, length: x.length, hashes: x.hashes, basis: s.basis(), single: !s.root.consistent}
	if rel, err := parseRelease(x.visum); err == nil {
		a.release = &rel
	}
	a.by = x.signoffs("")
	return a, nil
}

// Recalls returns the recalls of all release roles, sorted by path, then by class.
// One party is enough for a recall. The product decides what to do about a recalled
// release that is already running.
//
// Recalls may return recalls together with an error: the error is about the first
// role that can't be read, and the result holds the recalls of the other roles, so
// that an expired role does not suppress another party's recall. For an approved
// target the recalls of its class are complete, because the approval needed all of
// its roles.
func (s *Snapshot) Recalls(get Fetch) ([]Recall, error) {
	if s == nil || s.root == nil || s.root.charter == nil {
		_, err := s.classOf("roles")
		return nil, err
	}
	out, first := s.ownRecalls(get)
	if s.within != nil { // what is not logged does not take a recall back
		more, err := s.within.ownRecalls(get)
		for _, r := range more {
			if !slices.ContainsFunc(out, func(o Recall) bool {
				return o.Path == r.Path && o.Class == r.Class && o.Role == r.Role && o.SHA256 == r.SHA256
			}) {
				out = append(out, r)
			}
		}
		if first == nil {
			first = err
		}
	}
	slices.SortStableFunc(out, func(a, b Recall) int { return strings.Compare(a.Path, b.Path) })
	return out, first
}

func (s *Snapshot) ownRecalls(get Fetch) (out []Recall, first error) {
	for _, class := range s.root.charter.classes {
		for _, role := range class.Roles {
			t, err := s.releaseRole(role, get)
			if err != nil {
				if first == nil {
					first = err
				}
				continue
			}
			for _, r := range t.recalls {
				if strings.HasPrefix(r.Path, class.Prefix) { // a role can recall only paths of its class
					r.Class, r.Party, r.Role, r.Version = class.Name, role.Party, role.Role, t.doc.version
					out = append(out, r)
				}
			}
		}
	}
	return out, first
}

// checkRecall refuses bytes that any role of the class recalls.
func (s *Snapshot) checkRecall(class *Class, a Approved, get Fetch) error {
	for _, role := range class.Roles {
		t, err := s.releaseRole(role, get)
		if err != nil {
			return err
		}
		for _, i := range t.recalled[a.hashes.SHA256] {
			if r := t.recalls[i]; strings.HasPrefix(r.Path, class.Prefix) {
				under := ""
				if r.Path != a.path {
					under = " as " + text.Name(r.Path)
				}
				return refuse(a.path, 0, ErrRecalled, "by %s at %s%s: %s", text.Name(role.Party), text.Time(r.At), under, text.Quote(r.Reason))
			}
		}
	}
	return nil
}
