package proof

import (
	"bytes"
	"cmp"
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
	said    T
	keyIDs  []string
	root    int64
	rotated bool
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

// Root returns the version of the root whose keys counted; 0 where v is zero.
func (v *Verified[T]) Root() int64 {
	if v == nil {
		return 0
	}
	return v.root
}

// Rotated reports that the keys were rotated since: under the newest root too few
// of those that signed are left. Such a statement says what was said then. Where
// the keys were replaced because they were stolen the thief may have dated it back:
// it is no ground to trust anything today.
func (v *Verified[T]) Rotated() bool { return v != nil && v.rotated }

// Open verifies the party's review of an approved target, with the keys of the
// newest root. Say whose word you want: every party may make statements.
//
// With older, the roots before the newest, each verified, in any order, what the
// newest root's keys no longer sign is verified with the keys of the root that was
// current when the statement was made, by its date and the roots' signed_at; then
// [Verified.Rotated] is true. What is dated after the root that took its keys away is
// refused, as is all such without older. Of the roots' different sets of keys the 64
// newest are tried.
//
// Errors: [tuf.ErrMalformed], [tuf.ErrTooLarge], [tuf.ErrThreshold];
// [tuf.ErrMismatch] where it is about other bytes, another repository or by
// another role; [tuf.ErrExpired] where it is not valid at now, which is the
// caller's clock; [tuf.ErrUntrusted] where root, or a, is zero or root has no
// such party in a's class. All are [*tuf.Error].
func Open(data []byte, root *tuf.Root, party string, a tuf.Approved, now time.Time, older ...*tuf.Root) (*Verified[Review], error) {
	if a.IsZero() {
		return nil, refuse("statement", tuf.ErrUntrusted, "zero Approved")
	}
	if root == nil {
		return nil, refuse("statement", tuf.ErrUntrusted, "zero Root")
	}
	if c := root.Charter(); c == nil || a.RepoID() != c.RepoID() {
		return nil, refuse(a.Path(), tuf.ErrMismatch, "approved in another repository")
	}
	return OpenListed(data, root, party, SubjectOf(a), now, older...)
}

// OpenListed is [Open] for who looks before every party has agreed: the party
// that publishes. That the subject is approved is not said here.
func OpenListed(data []byte, root *tuf.Root, party string, s Subject, now time.Time, older ...*tuf.Root) (*Verified[Review], error) {
	x, err := verify(data, root, party, s, older)
	if err != nil {
		return nil, err
	}
	r, err := parse(x.envelope, s, parseReview)
	if err != nil {
		return nil, err
	}
	if err := x.matches(s, r.Subject, r.RepoID, r.Reviewer, r.From); err != nil {
		return nil, err
	}
	if now.Before(r.From) || !now.Before(r.Until) {
		e := refuse(s.Path, tuf.ErrExpired, "the review is valid from %s to %s, now is %s", stamp(r.From), stamp(r.Until), stamp(now))
		e.Expires = r.Until
		return nil, e
	}
	return &Verified[Review]{r, x.keyIDs, x.root.Version(), x.next != nil}, nil
}

// OpenRefusal verifies the party's refusal of what is listed under a path, with
// the keys of the newest root, or with older of those before it, as [Open] does. A
// refusal has no end. Errors are those of [Open].
func OpenRefusal(data []byte, root *tuf.Root, party string, s Subject, older ...*tuf.Root) (*Verified[Refusal], error) {
	x, err := verify(data, root, party, s, older)
	if err != nil {
		return nil, err
	}
	r, err := parse(x.envelope, s, parseRefusal)
	if err != nil {
		return nil, err
	}
	if err := x.matches(s, r.Subject, r.RepoID, r.Reviewer, r.At); err != nil {
		return nil, err
	}
	return &Verified[Refusal]{r, x.keyIDs, x.root.Version(), x.next != nil}, nil
}

// signed is an envelope that enough keys of one of the party's roles signed.
type signed struct {
	envelope *envelope
	root     *tuf.Root // that names the keys
	next     *tuf.Root // the one after it, which does not; nil: root is the newest
	role     tuf.ReleaseRole
	keyIDs   []string
}

// maxKeySets bounds the sets of keys that one statement is tried with.
const maxKeySets = 64

// verify demands the threshold of one of the party's roles in the subject's
// class. Nothing in the payload is looked at before that.
func verify(data []byte, root *tuf.Root, party string, s Subject, older []*tuf.Root) (*signed, error) {
	if root == nil {
		return nil, refuse(s.Path, tuf.ErrUntrusted, "zero Root")
	}
	if root.Charter() == nil {
		return nil, refuse(s.Path, tuf.ErrUntrusted, "a root without charter names no reviewer")
	}
	e, err := parseEnvelope(data)
	if err != nil {
		return nil, err
	}
	roles := rolesOf(root, party, s.Path)
	x, first := e.verify(root, party, s, roles, data)
	if x != nil {
		return x, nil
	}
	older = slices.DeleteFunc(slices.Clone(older), func(r *tuf.Root) bool {
		return r == nil || r.Version() >= root.Version() || r.Charter() == nil || r.Charter().RepoID() != root.Charter().RepoID()
	})
	slices.SortFunc(older, func(a, b *tuf.Root) int { return cmp.Compare(b.Version(), a.Version()) })
	next, sets := root, 1
	for _, r := range older {
		was := roles
		roles = rolesOf(r, party, s.Path)
		if !slices.EqualFunc(roles, was, func(a, b tuf.ReleaseRole) bool {
			return a.Role == b.Role && a.Threshold == b.Threshold && r.KeySet(a.KeyIDs) == next.KeySet(b.KeyIDs)
		}) {
			if sets++; sets > maxKeySets {
				break
			}
			if x, _ := e.verify(r, party, s, roles, data); x != nil {
				x.next = next
				return x, nil
			}
		}
		next = r
	}
	return nil, first
}

// rolesOf are the party's roles in the class of a path.
func rolesOf(root *tuf.Root, party, path string) (out []tuf.ReleaseRole) {
	for _, class := range root.Charter().Classes() {
		for _, role := range class.Roles {
			if role.Party == party && strings.HasPrefix(path, class.Prefix) {
				out = append(out, role)
			}
		}
	}
	return out
}

// verify looks for a role of which enough keys signed.
func (e *envelope) verify(root *tuf.Root, party string, s Subject, roles []tuf.ReleaseRole, data []byte) (*signed, error) {
	var short *tuf.Error
	for _, role := range roles {
		ids := e.signed(root, role)
		if len(ids) >= role.Threshold && role.Threshold > 0 {
			return &signed{e, root, nil, role, ids}, nil
		}
		if short == nil || len(ids) > short.Have {
			short = refuse(s.Path, tuf.ErrThreshold, "statement: %d of %d needed keys of %s for %s signed", len(ids), role.Threshold, text.Name(party), role.Role)
			short.Have, short.Want, short.KeyIDs, short.Evidence = len(ids), role.Threshold, ids, bytes.Clone(data)
		}
	}
	if short == nil {
		short = refuse(s.Path, tuf.ErrUntrusted, "no class of root v%d has a role of party %s for it", root.Version(), text.Quote(party))
	}
	return nil, short
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

// matches holds what was signed against what was asked for, and its date against
// the root that took the keys away.
func (x *signed) matches(want, have Subject, repoID string, by Reviewer, made time.Time) error {
	switch role := x.role; {
	case repoID != x.root.Charter().RepoID():
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about repository %s", text.Name(repoID))
	case have != want:
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about %s, %d bytes, sha256 %.16s", text.Name(have.Path), have.Length, have.SHA256)
	case by.Party != role.Party || by.Role != role.Role:
		return refuse(want.Path, tuf.ErrMismatch, "%s signed for %s, the statement says %s for %s", role.Party, role.Role, text.Name(by.Party), text.Name(by.Role))
	case x.next != nil && made.After(x.next.Charter().SignedAt()):
		return refuse(want.Path, tuf.ErrThreshold, "the statement is dated %s; root v%d of %s no longer names enough of its keys", stamp(made), x.next.Version(), stamp(x.next.Charter().SignedAt()))
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
