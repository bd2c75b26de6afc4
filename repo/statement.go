package repo

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// Statement is a verified statement, or one that could not be verified.
type Statement struct {
	Party, Role string
	Name        string // of the file in storage
	Number      int    // of the role's words on these bytes, from 1; the last one counts
	Review      *proof.Review
	Refusal     *proof.Refusal
	KeyIDs      []string // that counted
	// Rotated: the keys were replaced since, and it was verified with those of the root
	// that was current at its date; see [proof.Verified.Rotated].
	Rotated bool
	Err     error // why it says nothing; then Review and Refusal are nil
}

// open verifies a statement file. now is for reviews, which end.
// roots end with the newest.
func openStatement(data []byte, roots []*tuf.Root, party string, subject proof.Subject, now time.Time) (said Statement) {
	said.Party = party
	root, older := roots[len(roots)-1], roots[:len(roots)-1]
	defer oneLine(&said.Err)
	if proof.Kind(data) == proof.RefusalType {
		v, err := proof.OpenRefusal(data, root, party, subject, older...)
		if said.Err = err; err == nil {
			x := v.Value()
			said.Refusal, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
		}
		return said
	}
	v, err := proof.OpenListed(data, root, party, subject, now, older...)
	if said.Err = err; err == nil {
		x := v.Value()
		said.Review, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
	}
	return said
}

// said reads what a role has said of a subject, in order. A file that is too
// large to be a statement is not read to its end, and says nothing.
func (r *Repo) said(ctx context.Context, p *present, role ReleaseRole, subject proof.Subject) (out []Statement, err error) {
	src := storage.SourceOf(r.storage)
	for n := 1; n <= maxStatements; n++ {
		x := Statement{Party: role.Party}
		name := statementName(subject, role.Role, n)
		data, err := storage.ReadAll(ctx, src, name, proof.MaxSize)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return out, nil
		case errors.Is(err, tuf.ErrTooLarge):
			x.Err = err
		case err != nil:
			return nil, err
		default:
			x = openStatement(data, p.chain.roots, role.Party, subject, r.now())
		}
		x.Role, x.Name, x.Number = role.Role, name, n
		out = append(out, x)
	}
	return out, nil
}

// Statements returns what the parties have said of the bytes that they list now
// under a path: for each of the roles of its class, in the charter's order, from
// its first word to its last. Each is verified with the keys of the newest root,
// or of the one that was current at its date (Rotated); where one is not good its
// Err says why. It needs no key.
func (r *Repo) Statements(ctx context.Context, target string) (_ []Statement, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.root == nil {
		return nil, errEmpty
	}
	tx := r.newTx(ctx, p)
	class, err := tx.class(target)
	if err != nil {
		return nil, err
	}
	var subjects []proof.Subject
	for _, role := range class.Roles {
		v, err := tx.find(role.Role, target)
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		s, err := subjectOf(target, v)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(subjects, s) {
			subjects = append(subjects, s)
		}
	}
	var out []Statement
	for _, role := range class.Roles {
		for _, s := range subjects {
			said, err := r.said(ctx, p, role, s)
			if err != nil {
				return nil, err
			}
			out = append(out, said...)
		}
	}
	return out, nil
}

// StatementsIn returns what a draft's statements say, verified with the keys of
// the repository's newest root, in order of their names: how a vendor reads what
// the centre refused before, or without, publishing it.
func (r *Repo) StatementsIn(ctx context.Context, d *Draft) (_ []Statement, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.root == nil {
		return nil, errEmpty
	}
	var out []Statement
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		s := d.statements[name]
		data, err := s.bytes()
		if err != nil {
			return nil, err
		}
		x := openStatement(data, p.chain.roots, s.claim.Reviewer.Party, s.claim.Subject, r.now())
		x.Name, x.Role, x.Number = name, s.claim.Reviewer.Role, s.number()
		out = append(out, x)
	}
	return out, nil
}
