package attestation

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
// and [OpenRefusal] create a non-zero one.
type Verified[T Review | Refusal] struct {
	said    T
	keyIDs  []string
	root    int64
	rotated bool
}

// Value returns the statement; the zero T if v is zero.
func (v *Verified[T]) Value() (said T) {
	if v == nil {
		return said
	}
	return v.said
}

// KeyIDs returns a sorted copy of the ids of the keys that counted towards the
// threshold.
func (v *Verified[T]) KeyIDs() []string {
	if v == nil {
		return nil
	}
	return slices.Clone(v.keyIDs)
}

// Root returns the version of the root whose keys counted; 0 if v is zero.
func (v *Verified[T]) Root() int64 {
	if v == nil {
		return 0
	}
	return v.root
}

// Rotated reports that the keys were rotated since: the newest root no longer names
// enough of the keys that signed. Such a statement is historical evidence only. If
// the keys were rotated after a compromise, an attacker may have issued and
// backdated it, so it must not be a reason to trust anything today.
func (v *Verified[T]) Rotated() bool { return v != nil && v.rotated }

// Open verifies a party's review of an approved target, with the keys of root, the
// newest root. The caller names the party, because every party can issue statements.
//
// older holds verified roots before root, in any order. With it, a statement signed
// with keys that root no longer names is verified with the root that was current at
// the date of the statement, by the roots' signed_at; then [Verified.Rotated] is
// true. A statement dated after the root that removed its keys is refused. Open
// tries the 64 newest different sets of keys.
//
// Errors are [*tuf.Error]: [tuf.ErrMalformed], [tuf.ErrTooLarge], [tuf.ErrThreshold];
// [tuf.ErrMismatch] if the statement is about other bytes or another repository, or
// names another role; [tuf.ErrExpired] if it is not valid at now; [tuf.ErrUntrusted]
// if root or a is zero, or if root has no such party in a's class.
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

// OpenListed is [Open] for a subject that not all parties have listed yet. The
// result does not state that the subject is approved.
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
		e := refuse(s.Path, tuf.ErrExpired, "the review is valid from %s to %s, now is %s", text.Time(r.From), text.Time(r.Until), text.Time(now))
		e.Expires = r.Until
		return nil, e
	}
	return &Verified[Review]{r, x.keyIDs, x.root.Version(), x.next != nil}, nil
}

// OpenRefusal verifies a party's refusal of a subject, with the keys of root or, as
// in [Open], of older roots. A refusal does not expire. Errors are those of [Open].
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

// signed is an envelope that meets the threshold of one of the party's roles.
type signed struct {
	envelope *envelope
	root     *tuf.Root // names the keys
	next     *tuf.Root // its successor, which no longer names the keys; nil: root is the newest
	role     tuf.ReleaseRole
	keyIDs   []string
}

// maxKeySets bounds the sets of keys that are tried for one statement.
const maxKeySets = 64

// verify checks the threshold of one of the party's roles in the subject's class. It
// does not parse the payload.
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

// rolesOf returns the party's roles in the class of a path.
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

// verify looks for a role whose threshold is met.
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

// parse reads the payload of a verified envelope.
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

// matches compares the signed statement with the wanted subject, and its date with
// the root that removed the keys.
func (x *signed) matches(want, have Subject, repoID string, by Reviewer, made time.Time) error {
	switch role := x.role; {
	case repoID != x.root.Charter().RepoID():
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about repository %s", text.Name(repoID))
	case have != want:
		return refuse(want.Path, tuf.ErrMismatch, "the statement is about %s, %d bytes, sha256 %.16s", text.Name(have.Path), have.Length, have.SHA256)
	case by.Party != role.Party || by.Role != role.Role:
		return refuse(want.Path, tuf.ErrMismatch, "%s signed for %s, the statement names %s for %s", role.Party, role.Role, text.Name(by.Party), text.Name(by.Role))
	case x.next != nil && made.After(x.next.Charter().SignedAt()):
		return refuse(want.Path, tuf.ErrThreshold, "the statement is dated %s; root v%d of %s no longer names enough of its keys", text.Time(made), x.next.Version(), text.Time(x.next.Charter().SignedAt()))
	}
	return nil
}

// Kind returns the unverified predicateType of an envelope, to choose between
// [Open] and [OpenRefusal]; "" if it can't be read.
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

// Name is the name, below the targets folder, of the role's n-th statement on a
// subject; n counts from 1. No target's file can have this name, because the last
// element of its name begins with a hash.
func Name(s Subject, role string, n int) string {
	dir, base := path.Split(s.Path)
	return dir + s.SHA256 + "." + base + ".reviews/" + role + "." + strconv.Itoa(n) + ".json"
}

func refuse(what string, err error, format string, args ...any) *tuf.Error {
	return &tuf.Error{Role: what, Err: err, Detail: fmt.Sprintf(format, args...)}
}
