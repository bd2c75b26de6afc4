package repo

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// ReviewRecord describes how a reviewer examined a release; see package attestation.
type ReviewRecord struct {
	Reviewer string             // name of a person or machine; may be ""
	Result   attestation.Result // of the rebuild from source; "": not rebuilt
	Builder  string             // URI of the builder of the rebuild; "" if not rebuilt
	Source   tuf.SourceRef      // the reviewed source; zero: the source that the release states
	Policy   string             // sha256, lower-case hex, of the review rules; may be ""
	Valid    time.Duration      // validity of the statement; 0: 365 days
	// Reinstate is the reason to approve bytes that the party recalled or refused before
	// under any path. Without a reason the error wraps [signing.ErrTakenBack] (rule K4). The
	// statement contains it, so it excludes Unrecorded. It revokes the party's recalls of
	// these bytes in all of its roles.
	Reinstate string
	// SHA256 identifies the examined bytes, in lower-case hex, as in [Pending]. If other
	// bytes are listed by now, the error wraps [tuf.ErrMismatch]. "": the listed bytes.
	SHA256 string
	// Unrecorded makes no statement, only the signature of the role. It is for rules
	// that a machine approves every few minutes.
	Unrecorded bool
}

// Approve lists a path in the party's role exactly as the other parties list it. All
// other parties that list the path must agree; a party that still lists the same as this
// one is ignored if another lists something new. [ReviewRecord].SHA256 selects between
// entries with different bytes.
//
// Bytes that the party recalled or refused before require [ReviewRecord].Reinstate;
// otherwise the error wraps [signing.ErrTakenBack].
//
// Approve records the approval of a release in a statement that describes the review. The
// keys of the role sign it with the draft, and it is published next to the file. A nil r
// is the zero [ReviewRecord]: not rebuilt. For a target without release data a statement
// is made only if r is not nil, because there may be a hundred thousand of them. If r is
// nil, no statement is made either if the party already lists the same bytes from the
// same source under the path and only other release fields change, such as the rollout:
// its earlier statement stays valid. Approve does not keep r.
//
// If clients would refuse the release fields, the error is that of [tuf.Release.Check].
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
		return fmt.Errorf("repo: %s: %w: Reinstate requires a statement, so it excludes Unrecorded", text.Name(target), fs.ErrInvalid)
	}
	entry, err := tx.others(class, party, target, x.SHA256)
	if err != nil {
		return err
	}
	if err := rolelist.CheckRelease(target, entry); err != nil {
		return err
	}
	subject, err := subjectOf(target, entry)
	if err != nil {
		return err
	}
	rel, isRelease := rolelist.ReleaseOf(entry)
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
		x.Result = attestation.NotDone
	}
	if x.Valid == 0 {
		x.Valid = 365 * 24 * time.Hour
	}
	return tx.state(class, party, subject, attestation.ReviewType, func(s attestation.Subject, by attestation.Reviewer) payloader {
		by.Name = x.Reviewer
		return attestation.Review{Subject: s, RepoID: tx.layout().RepoID, Reviewer: by, Source: x.Source, Result: x.Result, Builder: x.Builder,
			Policy: x.Policy, Reinstate: x.Reinstate, From: now, Until: now.Add(x.Valid).Truncate(time.Second)}
	})
}

// sameReleases reports whether sameRelease is true for all roles.
func (tx *Tx) sameReleases(roles []string, target string, entry wire.Value) (bool, error) {
	for _, role := range roles {
		mine, err := tx.find(role, target)
		if err != nil || !sameRelease(target, mine, entry) {
			return false, err
		}
	}
	return true, nil
}

// sameRelease reports whether the party already lists the same bytes of the same release
// and source, so that only other release fields change.
func sameRelease(target string, mine, theirs wire.Value) bool {
	if mine == nil || rolelist.IsPlain(mine) {
		return false
	}
	a, err := subjectOf(target, mine)
	if err != nil {
		return false
	}
	b, err := subjectOf(target, theirs)
	was, _ := rolelist.ReleaseOf(mine)
	is, _ := rolelist.ReleaseOf(theirs)
	return err == nil && a == b && was.Source == is.Source && was.Product == is.Product && was.Version == is.Version && was.Platform == is.Platform
}

// RefusalRecord is what [Tx.Refuse] publishes.
type RefusalRecord struct {
	Reason   string // required
	Reviewer string // a name, human-readable; "" for none
}

// Refuse records that the party does not approve the file that the other parties list
// under a path, and the reason. The keys of its role sign the statement. The vendor reads
// it in the draft ([Repo.StatementsIn]) or, after publication, next to the file. Refuse
// changes no metadata, because clients accept only files that all parties list.
//
// A file that the party already lists can't be refused, only recalled.
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
			return fmt.Errorf("repo: %s: %s already lists it, so it can only be recalled: %w", text.Name(target), roleText(role), fs.ErrInvalid)
		}
	}
	subject, err := subjectOf(target, entry)
	if err != nil {
		return err
	}
	return tx.state(class, party, subject, attestation.RefusalType, func(s attestation.Subject, by attestation.Reviewer) payloader {
		by.Name = r.Reviewer
		return attestation.Refusal{Subject: s, RepoID: tx.layout().RepoID, Reviewer: by, Reason: r.Reason, At: tx.repo.now()}
	})
}

// listsAll reports whether all roles list a path with this entry.
func (tx *Tx) listsAll(roles []string, target string, entry wire.Value) (bool, error) {
	for _, role := range roles {
		v, err := tx.find(role, target)
		if err != nil || v == nil || string(v) != string(entry) {
			return false, err
		}
	}
	return true, nil
}

// others returns the entry that other parties list under a path and the party does not,
// or else the one that they list as the party does. sha256 selects entries by their
// bytes; "": any. The selected entries must agree.
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
			return nil, fmt.Errorf("repo: %s: the other parties disagree: %s and %s list it differently: %w", text.Name(target), first, roleText(other.Role), tuf.ErrNotApproved)
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
		return nil, fmt.Errorf("repo: %s: %w: the examined file has sha256 %.16s, but %s", text.Name(target), tuf.ErrMismatch, text.Name(sha256), listed)
	}
	return nil, fmt.Errorf("repo: %s: %s: %w", text.Name(target), cmp.Or(lacks, "no other party has a role"), tuf.ErrNoTarget)
}

// roleNames returns the names of the party's roles in the class.
func (c Class) roleNames(party string) (out []string) {
	for _, role := range c.rolesOf(party) {
		out = append(out, role.Role)
	}
	return out
}

type payloader interface{ Payload() ([]byte, error) }

// state stages a statement of each of the party's roles. It replaces one about the same
// bytes that is already staged.
func (tx *Tx) state(class Class, party string, subject attestation.Subject, kind string, say func(attestation.Subject, attestation.Reviewer) payloader) error {
	for _, role := range class.Roles {
		if role.Party != party {
			continue
		}
		payload, err := say(subject, attestation.Reviewer{Party: party, Role: role.Role}).Payload()
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

// freeStatement returns the name of the role's next statement about a subject.
func (tx *Tx) freeStatement(s attestation.Subject, role string) (string, error) {
	for n := 1; n <= chain.MaxStatements; n++ {
		name := chain.StatementName(s, role, n)
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
	return "", fmt.Errorf("repo: %s: %s already has %d statements about it", text.Name(s.Path), roleText(role), chain.MaxStatements)
}
