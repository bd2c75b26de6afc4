package tuf

import (
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// RecallMember is the custom member of a release role's signed part that tells
// products what they should not run any more:
//
//	"x-visum-recalled": [{"path": "...", "sha256": "...", "reason": "...", "at": "2018-11-12T09:00:00Z"}]
//
// A recall names bytes: no path of the role's class under which the same sha256 is
// listed is approved ([ErrRecalled]). path says under which one they were known; it
// must be in the class. To stock TUF clients a recalled release is one that the
// role does not list.
const RecallMember = "x-visum-recalled"

// Recall is a party's word that some bytes are bad, under whatever path of Class
// they are listed.
type Recall struct {
	Class   string // of the charter
	Path    string // under which the party knew them
	SHA256  string // lower-case hex
	Reason  string
	At      time.Time
	Party   string
	Role    string
	Version int64 // of the role
}

// maxRecalls bounds the recalls of one role.
const maxRecalls = 4096

// Recalls returns what the parties' roles recall, in order of paths, then of
// classes. Any one party's word is here; what to do about a release that runs
// already is the product's decision.
//
// The result holds what the roles say that can be read, and the error, which may
// stand beside it, is about the first that cannot: a role that expired does not
// silence another party's recall. For an approved target the recalls of its class
// are complete, for without one of the roles it would not be approved.
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
				if strings.HasPrefix(r.Path, class.Prefix) { // a party speaks of its own class only
					r.Class, r.Party, r.Role, r.Version = class.Name, role.Party, role.Role, t.doc.version
					out = append(out, r)
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Recall) int { return strings.Compare(a.Path, b.Path) })
	return out, first
}

// checkRecall looks for any party's word, of the class, against the bytes.
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
			r.fail("a recall names path, sha256 and at")
		}
		out = append(out, x)
	})
	return out, r.err
}
