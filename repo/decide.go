package repo

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// ReviewRecord says how a reviewer came to approve of a release; see package proof.
type ReviewRecord struct {
	Reviewer string        // name of a person or machine; may be ""
	Result   proof.Result  // of building it again from source; "": not done
	Builder  string        // who built it again, a URI; "" where it was not done
	Source   tuf.SourceRef // what was reviewed; zero: what the release says
	Policy   string        // sha256, lower-case hex, of the rules reviewed against; may be ""
	Valid    time.Duration // for how long; 0: 365 days
	// Reinstate says why bytes are approved that the party recalled or refused
	// before, under whatever path; without it the error wraps [ErrTakenBack] (rule K4).
	// It stands in the statement, so Unrecorded can't go with it. It takes the party's
	// recalls of these bytes back, in all of its roles.
	Reinstate string
	// SHA256 says which bytes were examined, in lower-case hex, as [Pending] has it: if
	// others are listed by now the error wraps [tuf.ErrMismatch]. "": whatever is listed.
	SHA256 string
	// Unrecorded makes no statement: for rules that a machine passes every few
	// minutes. The signature under the role is all there is then.
	Unrecorded bool
}

// Approve lists a path in the party's role exactly as other parties list it: those
// of them that do, in whatever order they decide, must agree. Who lists what the
// party lists already does not count as disagreeing, where others list something new;
// [ReviewRecord].SHA256 chooses between two that differ in their bytes.
//
// Bytes that the party recalled or refused before are not approved without
// [ReviewRecord].Reinstate: the error wraps [ErrTakenBack].
//
// The approval of a release is recorded: a statement, with what was said of how it
// was examined, that the keys of the role sign with the draft and that is
// published beside the file. Nothing said is the zero [ReviewRecord]: not built
// again; r may be nil, which is the same, and is not kept. Of a plain file, of which there may be a hundred thousand, a statement is
// made only where it was said how it was examined. Nor is one made, unless something
// is said, where the party lists the same bytes from the same source under the path
// and other release fields alone change, such as the rollout: what it stated of the
// bytes before goes on.
//
// Release fields that clients refuse are refused, with the error of
// [tuf.Release.Check].
func (tx *Tx) Approve(party, target string, r *ReviewRecord) error {
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	var x ReviewRecord
	if r != nil {
		x = *r
	}
	if x.Unrecorded && x.Reinstate != "" {
		return fmt.Errorf("repo: %s: %w: a reinstatement is recorded", text.Name(target), fs.ErrInvalid)
	}
	entry, err := tx.others(class, party, target, x.SHA256)
	if err != nil {
		return err
	}
	if err := judged(target, entry); err != nil {
		return err
	}
	subject, err := subjectOf(target, entry)
	if err != nil {
		return err
	}
	rel, isRelease := releaseOf(entry)
	listed, err := tx.listsAll(roles, target, entry)
	if err != nil {
		return err
	}
	if err := tx.mayApprove(party, class, subject, listed, x.Reinstate); err != nil {
		return err
	}
	stated, err := tx.sameReleases(roles, target, entry)
	if err != nil {
		return err
	}
	if isRelease && r == nil && !listed && !stated {
		r = &x
	}
	for _, role := range roles {
		if err := tx.put(role, target, entry); err != nil {
			return err
		}
	}
	if r == nil || r.Unrecorded {
		return nil
	}
	now := tx.repo.now()
	if isRelease && x.Source == (tuf.SourceRef{}) {
		x.Source = rel.Source
	}
	if x.Result == "" {
		x.Result = proof.NotDone
	}
	if x.Valid == 0 {
		x.Valid = 365 * 24 * time.Hour
	}
	return tx.state(class, party, subject, proof.ReviewType, func(s proof.Subject, by proof.Reviewer) payloader {
		by.Name = x.Reviewer
		return proof.Review{Subject: s, RepoID: tx.layout().RepoID, Reviewer: by, Source: x.Source, Result: x.Result, Builder: x.Builder,
			Policy: x.Policy, Reinstate: x.Reinstate, From: now, Until: now.Add(x.Valid).Truncate(time.Second)}
	})
}

// sameReleases is sameRelease of all roles.
func (tx *Tx) sameReleases(roles []string, target string, entry wire.Value) (bool, error) {
	for _, role := range roles {
		mine, err := tx.find(role, target)
		if err != nil || !sameRelease(target, mine, entry) {
			return false, err
		}
	}
	return true, nil
}

// sameRelease reports whether the party lists a release already of which others
// change no more than the fields that clients go by.
func sameRelease(target string, mine, theirs wire.Value) bool {
	if mine == nil || isPlain(mine) {
		return false
	}
	a, err := subjectOf(target, mine)
	if err != nil {
		return false
	}
	b, err := subjectOf(target, theirs)
	was, _ := releaseOf(mine)
	is, _ := releaseOf(theirs)
	return err == nil && a == b && was.Source == is.Source && was.Product == is.Product && was.Version == is.Version && was.Platform == is.Platform
}

// RefusalRecord is what [Tx.Refuse] publishes.
type RefusalRecord struct {
	Reason   string // required
	Reviewer string // a name, human-readable; "" for none
}

// Refuse records that the party will not approve of what the others list under a
// path, and why: a statement that the keys of its role sign and that the vendor
// reads in the draft ([Repo.StatementsIn]) or, published, beside the file. It
// changes no metadata: what a party does not list no client takes.
//
// What the party lists already can't be refused, but recalled.
func (tx *Tx) Refuse(party, target string, r RefusalRecord) error {
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	entry, err := tx.others(class, party, target, "")
	if err != nil {
		return err
	}
	for _, role := range roles {
		mine, err := tx.find(role, target)
		if err != nil {
			return err
		}
		if mine != nil && string(mine) == string(entry) {
			return fmt.Errorf("repo: %s: %s lists it, so it can only be recalled: %w", text.Name(target), roleText(role), fs.ErrInvalid)
		}
	}
	subject, err := subjectOf(target, entry)
	if err != nil {
		return err
	}
	return tx.state(class, party, subject, proof.RefusalType, func(s proof.Subject, by proof.Reviewer) payloader {
		by.Name = r.Reviewer
		return proof.Refusal{Subject: s, RepoID: tx.layout().RepoID, Reviewer: by, Reason: r.Reason, At: tx.repo.now()}
	})
}

// listsAll reports whether all of the roles list a path as this.
func (tx *Tx) listsAll(roles []string, target string, entry wire.Value) (bool, error) {
	for _, role := range roles {
		v, err := tx.find(role, target)
		if err != nil || v == nil || string(v) != string(entry) {
			return false, err
		}
	}
	return true, nil
}

// others is what other parties list under a path, and the party does not; where
// there is no such thing, what they list as the party does. sha256 says which bytes
// are meant; "": all. Those that list it must agree.
func (tx *Tx) others(class Class, party, target, sha256 string) (wire.Value, error) {
	var same, entry wire.Value
	var first, lacks, listed string
	for _, other := range class.Roles {
		if other.Party == party {
			continue
		}
		v, err := tx.find(other.Role, target)
		if err != nil {
			return nil, err
		}
		if v == nil {
			lacks = cmp.Or(lacks, roleText(other.Role)+" does not list it")
			continue
		}
		s, err := subjectOf(target, v)
		if err != nil {
			return nil, err
		}
		if sha256 != "" && s.SHA256 != sha256 {
			listed = cmp.Or(listed, fmt.Sprintf("%s lists sha256 %.16s", roleText(other.Role), s.SHA256))
			continue
		}
		if mine, err := tx.listsAll(class.roleNames(party), target, v); err != nil {
			return nil, err
		} else if mine {
			same = v
			continue
		}
		if entry != nil && string(entry) != string(v) {
			return nil, fmt.Errorf("repo: %s: the other parties disagree about it, %s and %s list it differently: %w", text.Name(target), first, roleText(other.Role), tuf.ErrNotApproved)
		}
		first = cmp.Or(first, roleText(other.Role))
		entry = v
	}
	switch {
	case entry != nil:
		return entry, nil
	case same != nil:
		return same, nil
	case listed != "":
		return nil, fmt.Errorf("repo: %s: %w: examined was sha256 %.16s, %s", text.Name(target), tuf.ErrMismatch, text.Name(sha256), listed)
	}
	return nil, fmt.Errorf("repo: %s: %s: %w", text.Name(target), cmp.Or(lacks, "no other party has a role"), tuf.ErrNoTarget)
}

// roleNames are the names of the party's roles in the class.
func (c Class) roleNames(party string) (out []string) {
	for _, role := range c.rolesOf(party) {
		out = append(out, role.Role)
	}
	return out
}

type payloader interface{ Payload() ([]byte, error) }

// state adds a statement of each of the party's roles to what is staged, in
// place of one on the same bytes that is staged already.
func (tx *Tx) state(class Class, party string, subject proof.Subject, kind string, say func(proof.Subject, proof.Reviewer) payloader) error {
	for _, role := range class.Roles {
		if role.Party != party {
			continue
		}
		payload, err := say(subject, proof.Reviewer{Party: party, Role: role.Role}).Payload()
		if err != nil {
			return fmt.Errorf("repo: %w", err)
		}
		name, err := tx.freeStatement(subject, role.Role)
		if err != nil {
			return err
		}
		n := need{party + " (" + role.Role + ")", keyMap(role.Keys.Keys), max(role.Threshold, 1), nil}
		if tx.statements[name], err = newStatement(name, payload, n); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(subject.Path), err)
		}
	}
	return nil
}

// freeStatement is the name of the role's next word on a subject.
func (tx *Tx) freeStatement(s proof.Subject, role string) (string, error) {
	for n := 1; n <= maxStatements; n++ {
		name := statementName(s, role, n)
		if err := storage.CheckName(name); err != nil {
			return "", err
		}
		if slices.ContainsFunc(tx.drafts, func(d *Draft) bool { return d.statements[name] != nil }) {
			continue
		}
		_, err := tx.repo.storage.Read(tx.ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("repo: %s: %s has said %d things of it", text.Name(s.Path), roleText(role), maxStatements)
}
