package repo

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// Examined says how a reviewer came to approve of a release; see package proof.
type Examined struct {
	Reviewer string        // name of a person or machine; may be ""
	Result   proof.Result  // of building it again from source; "": not done
	Builder  string        // who built it again, a URI; "" where it was not done
	Source   tuf.Source    // what was reviewed; zero: what the release says
	Policy   string        // sha256, lower-case hex, of the rules reviewed against; may be ""
	Valid    time.Duration // for how long; 0: 365 days
	// Reinstate says why bytes are approved that the party recalled or refused
	// before; without it that is an error when the draft is signed (rule K4). It
	// stands in the statement, so Unrecorded can't go with it.
	Reinstate string
	// Unrecorded makes no statement: for rules that a machine passes every few
	// minutes. The signature under the role is all there is then.
	Unrecorded bool
}

// Approve lists a path in the party's role exactly as the other parties list
// it. They must all list it, and agree.
//
// The approval of a release is recorded: a statement, with what was said of how it
// was examined, that the keys of the role sign with the draft and that is
// published beside the file. Nothing said is the zero [Examined]: not built
// again. Of a plain file, of which there may be a hundred thousand, a statement is
// made only where it was said how it was examined. Nor is one made, unless something
// is said, where the party lists the same bytes from the same source under the path
// and other release fields alone change, such as the rollout: what it stated of the
// bytes before goes on.
//
// Release fields that clients refuse are refused, with the error of
// [tuf.Release.Check].
func (tx *Tx) Approve(party, target string, how ...Examined) error {
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	entry, err := tx.others(class, party, target)
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
	if len(how) > 1 {
		return fmt.Errorf("repo: %s: %w: examined %d times", text.Name(target), fs.ErrInvalid, len(how))
	}
	if len(how) == 1 && how[0].Unrecorded && how[0].Reinstate != "" {
		return fmt.Errorf("repo: %s: %w: a reinstatement is recorded", target, fs.ErrInvalid)
	}
	rel, isRelease := releaseOf(entry)
	for _, role := range roles {
		mine, err := tx.find(role, target)
		if err != nil {
			return err
		}
		if isRelease && len(how) == 0 && !sameRelease(target, mine, entry) {
			how = []Examined{{}}
		}
		if err := errors.Join(tx.put(role, target, entry), tx.unrecall(role, target, subject.SHA256)); err != nil {
			return err
		}
	}
	if len(how) == 0 || how[0].Unrecorded {
		return nil
	}
	x, now := how[0], tx.repo.now()
	if isRelease && x.Source == (tuf.Source{}) {
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

// Refuse records that the party will not approve of what the others list under a
// path, and why: a statement that the keys of its role sign and that the vendor
// reads in the draft ([Repo.StatementsIn]) or, published, beside the file. It
// changes no metadata: what a party does not list no client takes. reviewer is a
// name, for people, and may be "".
//
// What the party lists already can't be refused, but recalled.
func (tx *Tx) Refuse(party, target, reason, reviewer string) error {
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	entry, err := tx.others(class, party, target)
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
		by.Name = reviewer
		return proof.Refusal{Subject: s, RepoID: tx.layout().RepoID, Reviewer: by, Reason: reason, At: tx.repo.now()}
	})
}

// others is what the other parties list under a path. They must all, and agree.
func (tx *Tx) others(class Class, party, target string) (wire.Value, error) {
	var entry wire.Value
	for _, other := range class.Roles {
		if other.Party == party {
			continue
		}
		v, err := tx.find(other.Role, target)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, fmt.Errorf("repo: %s: %s does not list it: %w", text.Name(target), roleText(other.Role), tuf.ErrNoTarget)
		}
		if entry != nil && string(entry) != string(v) {
			return nil, fmt.Errorf("repo: %s: the other parties disagree about it: %w", text.Name(target), tuf.ErrNotApproved)
		}
		entry = v
	}
	return entry, nil
}

func subjectOf(target string, v wire.Value) (proof.Subject, error) {
	e, err := parseEntry(v)
	if err != nil {
		return proof.Subject{}, fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return proof.Subject{Path: target, Length: e.length, SHA256: strings.ToLower(e.sha256)}, nil
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
		if err := CheckName(name); err != nil {
			return "", err
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

// class is the class that a target path belongs to.
func (tx *Tx) class(target string) (Class, error) {
	for _, c := range tx.layout().Classes {
		if strings.HasPrefix(target, c.Prefix) {
			return c, nil
		}
	}
	return Class{}, fmt.Errorf("repo: %s: the path is in no class: %w", text.Name(target), tuf.ErrNoTarget)
}
