package tuf

import (
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// RecallMember is the custom member of a release role's signed part that lists
// the releases that products should no longer run:
//
//	"x-visum-recalled": [{"path": "...", "sha256": "...", "reason": "...", "at": "2018-11-12T09:00:00Z"}]
//
// A recall names bytes: a path of the role's class with the same sha256 is not
// approved ([ErrRecalled]). path is the path at the time of the recall; it must be
// in the class. Standard TUF clients do not read this member; for them the role
// no longer lists the release.
const RecallMember = "x-visum-recalled"

// Recall is a party's statement that some bytes must not be used, under any path
// of Class.
type Recall struct {
	Class   string    // of the charter
	Path    string    // the path at the time of the recall
	SHA256  string    // lower-case hex
	Reason  string    // human-readable
	At      time.Time // time of the recall
	Party   string    // the party that recalled
	Role    string    // the role that lists the recall
	Version int64     // of the role
}

// maxRecalls bounds the recalls of one role.
const maxRecalls = 4096

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
	var out []Recall
	var first error
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
	slices.SortStableFunc(out, func(a, b Recall) int { return strings.Compare(a.Path, b.Path) })
	return out, first
}

// checkRecall refuses bytes that any role of the class recalls.
func (s *Snapshot) checkRecall(class *Class, a Approved, get Fetch) error {
	for _, role := range class.Roles {
		t, err := s.releaseRole(role, get)
		if err != nil {
			return err
		}
		for _, i := range t.recalled[a.hashes.sha256] {
			if r := t.recalls[i]; strings.HasPrefix(r.Path, class.Prefix) {
				under := ""
				if r.Path != a.path {
					under = " as " + text.Name(r.Path)
				}
				return refuse(a.path, 0, ErrRecalled, "by %s at %s%s: %s", text.Name(role.Party), stamp(r.At), under, text.Quote(r.Reason))
			}
		}
	}
	return nil
}

func parseRecalls(v wire.Value) (out []Recall, err error) {
	var r reader
	r.list(v, RecallMember, maxRecalls, func(e wire.Value) {
		var path, sha256, reason, at wire.Value
		r.fields(e, wire.Field{Name: "path", To: &path}, wire.Field{Name: "sha256", To: &sha256},
			wire.Field{Name: "reason", To: &reason}, wire.Field{Name: "at", To: &at})
		x := Recall{Path: r.text(path), SHA256: strings.ToLower(r.text(sha256)), Reason: r.text(reason), At: r.time(at)}
		if x.Path == "" || !isSHA256(x.SHA256) || at == nil {
			r.fail("a recall must have path, sha256 and at")
		}
		out = append(out, x)
	})
	return out, r.err
}
