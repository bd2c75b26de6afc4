package receipt

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Options configures [Open]. nil, and the zero value of each field, are safe.
type Options struct {
	// Roots are root files that are not in the receipt, such as those that the repository
	// has published since, in order of their versions. Those of versions that the receipt
	// has are ignored. They link the receipt to a newer pin, and show which keys were
	// rotated since.
	Roots [][]byte
	// UnsafeLoopback permits http:// locations on this machine. For development and tests.
	UnsafeLoopback bool
	// UnsafeSkipWait accepts a recovered root after the pin's without the waiting period.
	// Then the recovery keys alone can make a receipt for any bytes.
	UnsafeSkipWait bool
}

// Receipt is a verified receipt. Only [Open] creates a non-zero one. Its methods return
// copies.
type Receipt struct {
	contents   Contents
	decision   Decision
	statements []Statement
	root       *tuf.Root
	newest     *tuf.Root
	recovered  int64
	expires    time.Time
}

// Statement is a verified statement of a reviewer on the bytes.
type Statement struct {
	Party, Role string               // who issued it
	Number      int                  // of the role's statements on the bytes; the last one counts
	Review      *attestation.Review  // nil for a refusal
	Refusal     *attestation.Refusal // nil for a review
	KeyIDs      []string             // keys whose signatures counted
	Rotated     bool                 // the root of the decision no longer names them; see [attestation.Verified.Rotated]
}

// Open verifies a receipt from a pin on. opt may be nil. Nothing of the receipt is
// trusted: each file must verify as a client verifies it, at the time of the receipt.
// Today's date does not matter.
//
// Errors are [*tuf.Error]: [tuf.ErrMalformed] or [tuf.ErrTooLarge] for the form, also if
// a role is missing or not needed; [tuf.ErrMismatch] if the pin's root, the identity of
// the repository, the bytes, or a file that metadata lists is another one;
// [tuf.ErrThreshold] if a root, a role or a statement is not signed; [tuf.ErrVersion] if
// roots are missing; [tuf.ErrExpired] if a file was expired at the time of the receipt,
// or if that time is before the root's; [tuf.ErrWaiting] for a recovered root; or another
// error of [tuf.OpenPin] or [tuf.Snapshot.Approve]. A recall or a hold is no error of
// Open: see [Receipt.Err].
func Open(data, pin []byte, opt *Options) (*Receipt, error) {
	if opt == nil {
		opt = &Options{}
	}
	t := &tuf.Options{UnsafeLoopback: opt.UnsafeLoopback}
	t.Limits.Unlisted = t.Limits.WithDefaults().Targets // older snapshots list no lengths
	opened, err := tuf.OpenPin(pin, t)
	if err != nil {
		return nil, err
	}
	c, err := Read(data)
	if err != nil {
		return nil, err
	}
	r := &Receipt{contents: c}
	roots, err := r.link(opened.Root(), t, opt)
	if err != nil {
		return nil, err
	}
	if err := r.decide(); err != nil {
		return nil, err
	}
	if err := r.verifyStatements(roots); err != nil {
		return nil, err
	}
	return r, nil
}

// decide repeats the decision of a client at the time of the receipt.
func (r *Receipt) decide() error {
	c := r.contents
	charter := r.root.Charter()
	if charter == nil {
		return refuse(tuf.ErrNotApproved, "root v%d has no charter and no review", r.root.Version())
	}
	if c.RepoID != charter.RepoID() {
		return refuse(tuf.ErrMismatch, "repo_id is %s, that of the root %s", text.Quote(c.RepoID), charter.RepoID())
	}
	// Clients take the later of the clock and signed_at (docs/spec.md, 7.1).
	if signed := charter.SignedAt(); c.Time.Before(signed) {
		e := refuse(tuf.ErrExpired, "its time %s is before signed_at of root v%d, %s", text.Time(c.Time), r.root.Version(), text.Time(signed))
		e.Expires = signed
		return e
	}
	ts, err := r.root.Timestamp(c.Timestamp, nil, c.Time)
	if err != nil {
		return err
	}
	snap, err := ts.Snapshot(c.Snapshot, nil)
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	d, err := Decide(snap, c.Path, c.SHA256, func(f tuf.RoleFile) ([]byte, error) {
		needed[f.Role] = true
		data, ok := c.Roles[f.Role]
		if !ok {
			return nil, refuse(tuf.ErrMalformed, "role %s v%d is missing", text.Name(f.Role), f.Version)
		}
		return data, nil
	})
	if err != nil {
		return err
	}
	if d.Agreed.Length != c.Length {
		return refuse(tuf.ErrMismatch, "the roles list %d bytes, the receipt states %d", d.Agreed.Length, c.Length)
	}
	if len(d.Agreed.Signoffs) == 0 && len(c.Statements) > 0 {
		return refuse(tuf.ErrMalformed, "statements on bytes that the parties do not list")
	}
	r.decision = d
	for name := range c.Roles {
		if !needed[name] {
			return refuse(tuf.ErrMalformed, "role %s is not needed", text.Name(name))
		}
	}
	r.expires = slices.MinFunc([]time.Time{snap.Until(), ts.Expires(), r.root.Expires()}, time.Time.Compare)
	return nil
}

// Decision is the state of some bytes under one snapshot.
type Decision struct {
	// Agreed is the content that every party lists. Of recalled bytes that the parties do
	// not list, which is the usual case, it has no length, sha512 and sign-offs.
	Agreed   tuf.Agreed
	Approved tuf.Approved // zero if Stopped is not nil
	Stopped  error        // wraps [tuf.ErrRecalled] or [tuf.ErrHeld]; nil: approved
}

// Decide decides on the bytes with a sha256 under a path, or, if sha256 is "", on those
// that the parties list, else on those of the latest recall of the path. A maker of
// receipts keeps the files that get returns: they are the roles of the receipt.
//
// Errors are those of get and of [tuf.Snapshot.Approve]; [tuf.ErrMismatch] if the parties
// list other bytes and no recall names these.
func Decide(snap *tuf.Snapshot, path, sha256 string, get tuf.Fetch) (Decision, error) {
	agreed, err := snap.Agreed(path, get)
	differs := err == nil && sha256 != "" && agreed.SHA256 != sha256
	if differs {
		err = refuse(tuf.ErrMismatch, "the roles list sha256 %s under %s, not %s", agreed.SHA256, text.Name(path), text.Quote(sha256))
	}
	if err == nil {
		d := Decision{Agreed: agreed}
		d.Approved, err = snap.Approve(path, get)
		if errors.Is(err, tuf.ErrRecalled) || errors.Is(err, tuf.ErrHeld) {
			d.Stopped, err = err, nil
		}
		return d, err
	}
	if !differs && !errors.Is(err, tuf.ErrNotApproved) && !errors.Is(err, tuf.ErrNoTarget) {
		return Decision{}, err
	}
	// A party that recalls bytes no longer lists them.
	recalls, e := snap.RecallsOf(path, get)
	if e != nil {
		return Decision{}, e
	}
	var last *tuf.Recall
	for _, r := range recalls {
		named := r.SHA256 == sha256 || sha256 == "" && r.Path == path
		if named && (last == nil || r.At.After(last.At)) {
			last = &r
		}
	}
	if last == nil {
		return Decision{}, err
	}
	return Decision{
		Agreed:  tuf.Agreed{Path: path, Class: last.Class, RepoID: snap.Root().Charter().RepoID(), SHA256: last.SHA256},
		Stopped: &tuf.Error{Role: path, Err: tuf.ErrRecalled, Detail: fmt.Sprintf("by %s at %s: %s", text.Name(last.Party), text.Time(last.At), text.Quote(last.Reason))},
	}, nil
}

// verifyStatements verifies the statements under the roots up to that of the decision.
func (r *Receipt) verifyStatements(older []*tuf.Root) error {
	subject := attestation.Subject{Path: r.decision.Agreed.Path, Length: r.decision.Agreed.Length, SHA256: r.decision.Agreed.SHA256}
	for _, f := range r.contents.Statements {
		party := ""
		for _, class := range r.root.Charter().Classes() {
			for _, role := range class.Roles {
				if class.Name == r.decision.Agreed.Class && role.Role == f.Role {
					party = role.Party
				}
			}
		}
		if party == "" {
			return refuse(tuf.ErrMalformed, "a statement of %s, which is no role of class %s", text.Name(f.Role), text.Name(r.decision.Agreed.Class))
		}
		s, err := OpenStatement(f, r.root, party, subject, r.contents.Time, older...)
		if err != nil {
			return err
		}
		r.statements = append(r.statements, s)
	}
	return nil
}

// OpenStatement verifies a statement as [Open] does, with the keys of root or of older
// roots, whether it is expired at a time or not. Errors are those of
// [attestation.OpenListed].
func OpenStatement(f StatementFile, root *tuf.Root, party string, subject attestation.Subject, at time.Time, older ...*tuf.Root) (Statement, error) {
	s := Statement{Party: party, Role: f.Role, Number: f.Number}
	by := attestation.Reviewer{}
	if attestation.Kind(f.Data) == attestation.RefusalType {
		v, err := attestation.OpenRefusal(f.Data, root, party, subject, older...)
		if err != nil {
			return Statement{}, err
		}
		x := v.Value()
		s.Refusal, s.KeyIDs, s.Rotated, by = &x, v.KeyIDs(), v.Rotated(), x.Reviewer
	} else {
		v, err := attestation.OpenListed(f.Data, root, party, subject, at, older...)
		var e *tuf.Error
		if errors.As(err, &e) && errors.Is(err, tuf.ErrExpired) {
			// A time at which the review is valid: until is after from, in whole seconds.
			v, err = attestation.OpenListed(f.Data, root, party, subject, e.Expires.Add(-time.Second), older...)
		}
		if err != nil {
			return Statement{}, err
		}
		x := v.Value()
		s.Review, s.KeyIDs, s.Rotated, by = &x, v.KeyIDs(), v.Rotated(), x.Reviewer
	}
	if by.Role != f.Role {
		return Statement{}, refuse(tuf.ErrMismatch, "a statement of %s is listed for %s", text.Name(by.Role), text.Name(f.Role))
	}
	return s, nil
}

// Approved is the decision of a client at the time of the receipt; zero if [Receipt.Err]
// is not nil.
func (r *Receipt) Approved() tuf.Approved { return r.decision.Approved }

// Err is nil if the bytes were approved at the time of the receipt. Otherwise it wraps
// [tuf.ErrRecalled] or [tuf.ErrHeld] and has the reason.
func (r *Receipt) Err() error { return r.decision.Stopped }

// Agreed is the content that every party listed.
func (r *Receipt) Agreed() tuf.Agreed {
	out := r.decision.Agreed
	out.Signoffs = slices.Clone(out.Signoffs)
	for i := range out.Signoffs {
		out.Signoffs[i].KeyIDs = slices.Clone(out.Signoffs[i].KeyIDs)
	}
	return out
}

// Statements are the verified statements of the reviewers, sorted by role and number. A
// receipt may lack statements, the last ones included.
func (r *Receipt) Statements() []Statement {
	out := slices.Clone(r.statements)
	for i := range out {
		out[i].KeyIDs = slices.Clone(out[i].KeyIDs)
	}
	return out
}

// Proofs are the proofs of public logs, which are not verified.
func (r *Receipt) Proofs() []Proof {
	out := slices.Clone(r.contents.Proofs)
	for i := range out {
		out[i].Data = bytes.Clone(out[i].Data)
	}
	return out
}

// Time is the time of the decision, which no key signed: see the package comment.
func (r *Receipt) Time() time.Time { return r.contents.Time }

// Expires is the earliest expiry of the files of the decision. From then on no client
// made this decision.
func (r *Receipt) Expires() time.Time { return r.expires }

// Reviewed is the latest date that a reviewer signed in a review of these bytes; zero if
// the receipt has no review.
func (r *Receipt) Reviewed() (at time.Time) {
	for _, s := range r.statements {
		if s.Review != nil && s.Review.From.After(at) {
			at = s.Review.From
		}
	}
	return at
}

// Root is the root of the decision.
func (r *Receipt) Root() *tuf.Root { return r.root }

// Newest is the newest root that Open knew: of the receipt, the pin, or [Options].Roots.
func (r *Receipt) Newest() *tuf.Root { return r.newest }

// Recovered is the version of the last recovered root that was accepted without its
// waiting period; 0: none.
func (r *Receipt) Recovered() int64 { return r.recovered }

// Rotated names, sorted, the roles of the decision whose keys [Receipt.Newest] no longer
// has as they were: timestamp, snapshot, and the roles and the hold of the class.
func (r *Receipt) Rotated() (out []string) {
	changed := func(role string, was, is []string) {
		if r.root.KeySet(was) != r.newest.KeySet(is) {
			out = append(out, role)
		}
	}
	for _, role := range []string{"snapshot", "timestamp"} {
		was, _ := r.root.RoleKeys(role)
		is, _ := r.newest.RoleKeys(role)
		changed(role, was, is)
	}
	is := map[string][]string{}
	for _, class := range r.newest.Charter().Classes() {
		for _, role := range class.Roles {
			is[role.Role] = role.KeyIDs
		}
		if class.Hold != nil {
			is[class.Hold.Role] = class.Hold.KeyIDs
		}
	}
	for _, class := range r.root.Charter().Classes() {
		if class.Name != r.decision.Agreed.Class {
			continue
		}
		for _, role := range class.Roles {
			changed(role.Role, role.KeyIDs, is[role.Role])
		}
		if class.Hold != nil {
			changed(class.Hold.Role, class.Hold.KeyIDs, is[class.Hold.Role])
		}
	}
	slices.Sort(out)
	return out
}

// Check reads a file to its end and returns an error that wraps [tuf.ErrMismatch] unless
// it has the bytes of the receipt. It does not check [Receipt.Err]. It reads at most one
// byte more than their length, if the parties list them.
func (r *Receipt) Check(file io.Reader) error {
	h, h512 := sha256.New(), sha512.New()
	if r.unlisted() {
		return r.checkSum(file)
	}
	n, err := io.Copy(io.MultiWriter(h, h512), io.LimitReader(file, r.decision.Agreed.Length+1))
	if err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	is := func(h hash.Hash, want string) bool { return want == "" || hex.EncodeToString(h.Sum(nil)) == want }
	if n != r.decision.Agreed.Length || !is(h, r.decision.Agreed.SHA256) || !is(h512, r.decision.Agreed.SHA512) {
		return refuse(tuf.ErrMismatch, "the file is not %s of %d bytes with sha256 %s", text.Name(r.decision.Agreed.Path), r.decision.Agreed.Length, r.decision.Agreed.SHA256)
	}
	return nil
}

// unlisted reports that the parties no longer list the bytes, so that a recall names them
// alone.
func (r *Receipt) unlisted() bool { return len(r.decision.Agreed.Signoffs) == 0 }

// checkSum is Check for bytes of which a recall states the sha256 alone.
func (r *Receipt) checkSum(file io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("receipt: %w", err)
	}
	if hex.EncodeToString(h.Sum(nil)) != r.decision.Agreed.SHA256 {
		return refuse(tuf.ErrMismatch, "the file is not the recalled one with sha256 %s", r.decision.Agreed.SHA256)
	}
	return nil
}

// String describes the receipt in one line of printable ASCII of at most 4 kB.
func (r *Receipt) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d bytes, sha256 %.16s: ", text.Name(r.decision.Agreed.Path), r.decision.Agreed.Length, r.decision.Agreed.SHA256)
	if r.decision.Stopped != nil {
		b.WriteString(r.decision.Stopped.Error())
	} else {
		b.WriteString("approved")
	}
	fmt.Fprintf(&b, ", as of %s under root v%d", text.Time(r.contents.Time), r.root.Version())
	if rotated := r.Rotated(); len(rotated) > 0 {
		fmt.Fprintf(&b, ", keys rotated by root v%d", r.newest.Version())
	}
	return text.Line(b.String())
}
