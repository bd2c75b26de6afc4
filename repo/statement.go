package repo

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// Statement is the result of reading one statement; Err tells whether it is valid.
type Statement struct {
	Party, Role string               // names of the party and its role
	Name        string               // storage name of the file
	Number      int                  // position in the role's statements on these bytes, from 1; the last one counts
	Review      *attestation.Review  // nil for a refusal
	Refusal     *attestation.Refusal // nil for a review
	KeyIDs      []string             // keys whose signatures counted
	// Rotated states that the keys have since been replaced, so that the keys of the
	// root at the statement's date verified it; see [attestation.Verified.Rotated].
	Rotated bool
	Err     error // why the statement is invalid; then Review and Refusal are nil
}

// openStatement verifies a statement file. roots ends with the newest root. now is
// compared with the expiry of reviews.
func openStatement(data []byte, roots []*tuf.Root, party string, subject attestation.Subject, now time.Time) (said Statement) {
	said.Party = party
	root, older := roots[len(roots)-1], roots[:len(roots)-1]
	defer text.OneLine(&said.Err)
	if attestation.Kind(data) == attestation.RefusalType {
		v, err := attestation.OpenRefusal(data, root, party, subject, older...)
		if said.Err = err; err == nil {
			x := v.Value()
			said.Refusal, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
		}
		return said
	}
	v, err := attestation.OpenListed(data, root, party, subject, now, older...)
	if said.Err = err; err == nil {
		x := v.Value()
		said.Review, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
	}
	return said
}

// said reads a role's statements on a subject, in order. A file that is too large for a
// statement is not read completely and is invalid.
func (r *Repo) said(ctx context.Context, p *present, role ReleaseRole, subject attestation.Subject) (out []Statement, err error) {
	src := storage.SourceOf(r.storage)
	for n := 1; n <= chain.MaxStatements; n++ {
		x := Statement{Party: role.Party}
		name := chain.StatementName(subject, role.Role, n)
		data, err := storage.ReadAll(ctx, src, name, attestation.MaxSize)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return out, nil
		case errors.Is(err, tuf.ErrTooLarge):
			x.Err = err
		case err != nil:
			return nil, err
		default:
			x = openStatement(data, p.chain.Roots, role.Party, subject, r.now())
		}
		x.Role, x.Name, x.Number = role.Role, name, n
		out = append(out, x)
	}
	return out, nil
}

// Statements returns the statements on the bytes that the parties now list under a
// path: for each role of the class, in the charter's order, from the first to the last.
// Each is verified with the keys of the newest root, or of the root at its date
// (Rotated). The Err of an invalid one states the reason. Statements needs no key.
func (r *Repo) Statements(ctx context.Context, target string) (_ []Statement, err error) {
	defer text.OneLine(&err)
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	tx := r.newTx(ctx, p)
	class, err := tx.class(target)
	if err != nil {
		return nil, err
	}
	var subjects []attestation.Subject
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

// StatementsIn returns a draft's statements, sorted by name and verified with the keys
// of the repository's newest root. A vendor can read in it what the review centre
// refused before it is published.
func (r *Repo) StatementsIn(ctx context.Context, d *Draft) (_ []Statement, err error) {
	defer text.OneLine(&err)
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	var out []Statement
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		s := d.statements[name]
		data, err := s.bytes()
		if err != nil {
			return nil, err
		}
		x := openStatement(data, p.chain.Roots, s.claim.Reviewer.Party, s.claim.Subject, r.now())
		x.Name, x.Role, x.Number = name, s.claim.Reviewer.Role, s.number()
		out = append(out, x)
	}
	return out, nil
}
