package proof

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Verified is a statement that has passed every check. Only [Open], [OpenListed]
// and [OpenRefusal] make one that is not zero.
type Verified[T Review | Refusal] struct {
	said   T
	keyIDs []string
}

// Said returns the statement; the zero T where v is zero.
func (v *Verified[T]) Said() (said T) {
	if v == nil {
		return said
	}
	return v.said
}

// KeyIDs returns the ids of the keys that counted, sorted. A copy.
func (v *Verified[T]) KeyIDs() []string {
	if v == nil {
		return nil
	}
	return slices.Clone(v.keyIDs)
}

// Open verifies the party's review of an approved target, with the keys of the
// newest root. Say whose word you want: every party may make statements.
//
// Errors: [tuf.ErrMalformed], [tuf.ErrTooLarge], [tuf.ErrThreshold];
// [tuf.ErrMismatch] where it is about other bytes, another repository or by
// another role; [tuf.ErrExpired] where it is not valid at now, which is the
// caller's clock; [tuf.ErrUntrusted] where root, or a, is zero or root has no
// such party in a's class. All are [*tuf.Error].
func Open(data []byte, root *tuf.Root, party string, a tuf.Approved, now time.Time) (*Verified[Review], error) {
	if a.IsZero() {
		return nil, refuse("statement", tuf.ErrUntrusted, "zero Approved")
	}
	if root == nil {
		return nil, refuse("statement", tuf.ErrUntrusted, "zero Root")
	}
	if c := root.Charter(); c == nil || a.RepoID() != c.RepoID() {
		return nil, refuse(a.Path(), tuf.ErrMismatch, "approved in another repository")
	}
	return OpenListed(data, root, party, SubjectOf(a), now)
}

// OpenListed is [Open] for who looks before every party has agreed: the party
// that publishes. That the subject is approved is not said here.
func OpenListed(data []byte, root *tuf.Root, party string, s Subject, now time.Time) (*Verified[Review], error) {
	e, role, keyIDs, err := verify(data, root, party, s)
	if err != nil {
		return nil, err
	}
	r, err := parse(e, s, parseReview)
	if err != nil {
		return nil, err
	}
	if err := matches(root, role, s, r.Subject, r.RepoID, r.Reviewer); err != nil {
		return nil, err
	}
	if now.Before(r.From) || !now.Before(r.Until) {
		x := refuse(s.Path, tuf.ErrExpired, "the review is valid from %s to %s, now is %s", stamp(r.From), stamp(r.Until), stamp(now))
		x.Expires = r.Until
		return nil, x
	}
	return &Verified[Review]{r, keyIDs}, nil
}

// OpenRefusal verifies the party's refusal of what is listed under a path, with
// the keys of the newest root. A refusal has no end. Errors are those of [Open].
func OpenRefusal(data []byte, root *tuf.Root, party string, s Subject) (*Verified[Refusal], error) {
	e, role, keyIDs, err := verify(data, root, party, s)
	if err != nil {
		return nil, err
	}
	r, err := parse(e, s, parseRefusal)
	if err != nil {
		return nil, err
	}
	if err := matches(root, role, s, r.Subject, r.RepoID, r.Reviewer); err != nil {
		return nil, err
	}
	return &Verified[Refusal]{r, keyIDs}, nil
}

// verify demands the threshold of one of the party's roles in the subject's
// class. Nothing in the payload is looked at before that.
func verify(data []byte, root *tuf.Root, party string, s Subject) (*envelope, tuf.ReleaseRole, []string, error) {
	fail := func(err error) (*envelope, tuf.ReleaseRole, []string, error) {
		return nil, tuf.ReleaseRole{}, nil, err
	}
	if root == nil {
		return fail(refuse(s.Path, tuf.ErrUntrusted, "zero Root"))
	}
	c := root.Charter()
	if c == nil {
		return fail(refuse(s.Path, tuf.ErrUntrusted, "a root without charter names no reviewer"))
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return fail(err)
	}
	var short *tuf.Error
	for _, class := range c.Classes() {
		if !strings.HasPrefix(s.Path, class.Prefix) {
			continue
		}
		for _, role := range class.Roles {
			if role.Party != party {
				continue
			}
			ids := e.signed(root, role)
			if len(ids) >= role.Threshold && role.Threshold > 0 {
				return e, role, ids, nil
			}
			if short == nil || len(ids) > short.Have {
				short = refuse(s.Path, tuf.ErrThreshold, "statement: %d of %d needed keys of %s for %s signed", len(ids), role.Threshold, text.Name(party), role.Role)
				short.Have, short.Want, short.KeyIDs, short.Evidence = len(ids), role.Threshold, ids, bytes.Clone(data)
			}
		}
	}
	if short == nil {
		return fail(refuse(s.Path, tuf.ErrUntrusted, "no class of root v%d has a role of party %s for it", root.Version(), text.Quote(party)))
	}
	return fail(short)
}

// parse reads the payload, which is verified by now.
func parse[T any](e *envelope, s Subject, read func(wire.Value) (T, error)) (T, error) {
	v, err := wire.Canonical(e.payload)
	if err == nil {
		var out T
		if out, err = read(v); err == nil {
			return out, nil
		}
	}
	var none T
	return none, refuse(s.Path, tuf.ErrMalformed, "statement: %v", err)
}

// matches holds what was signed against what was asked for.
func matches(root *tuf.Root, role tuf.ReleaseRole, want, have Subject, repoID string, by Reviewer) error {
	switch {
	case repoID != root.Charter().RepoID():
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about repository %s", text.Name(repoID))
	case have != want:
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about %s, %d bytes, sha256 %.16s", text.Name(have.Path), have.Length, have.SHA256)
	case by.Party != role.Party || by.Role != role.Role:
		return refuse(want.Path, tuf.ErrMismatch, "%s signed for %s, the statement says %s for %s", role.Party, role.Role, text.Name(by.Party), text.Name(by.Role))
	}
	return nil
}

// Kind returns the predicateType that an envelope claims, unverified: it tells
// which of the functions above to ask. "" where it can't be read.
func Kind(data []byte) string {
	e, err := parseEnvelope(data)
	if err != nil {
		return ""
	}
	v, err := wire.Canonical(e.payload)
	if err != nil {
		return ""
	}
	var kind wire.Value
	if v.Fields(wire.Field{Name: "predicateType", To: &kind}) != nil {
		return ""
	}
	s, _ := kind.Text()
	return s
}

// Name is where the role's n-th statement on a subject stands, n from 1, below
// the folder of targets. No target's file can have the name: there, the last
// element begins with its hash.
func Name(s Subject, role string, n int) string {
	dir, base := path.Split(s.Path)
	return dir + s.SHA256 + "." + base + ".reviews/" + role + "." + strconv.Itoa(n) + ".json"
}

func refuse(what string, err error, format string, args ...any) *tuf.Error {
	return &tuf.Error{Role: what, Err: err, Detail: fmt.Sprintf(format, args...)}
}
