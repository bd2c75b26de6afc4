package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// statement is a reviewer's word on a target, on its way in a draft. Its file,
// once signed, stands beside the target and never changes.
type statement struct {
	claim   proof.Claim // what payload states
	payload []byte
	file    *draftFile // what is signed; its role is the name in storage
}

// bytes is the file as it is published.
func (s *statement) bytes() ([]byte, error) {
	sigs := map[string][]byte{}
	for id, digits := range s.file.sigs {
		sig, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("repo: %s: signature of %s: %w", roleText(s.file.role), text.Name(id), err)
		}
		sigs[id] = sig
	}
	return proof.Seal(s.payload, sigs)
}

// Said is a verified statement, or one that could not be verified.
type Said struct {
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
func openStatement(data []byte, roots []*tuf.Root, party string, subject proof.Subject, now time.Time) (said Said) {
	said.Party = party
	root, older := roots[len(roots)-1], roots[:len(roots)-1]
	defer oneLine(&said.Err)
	if proof.Kind(data) == proof.RefusalType {
		v, err := proof.OpenRefusal(data, root, party, subject, older...)
		if said.Err = err; err == nil {
			x := v.Said()
			said.Refusal, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
		}
		return said
	}
	v, err := proof.OpenListed(data, root, party, subject, now, older...)
	if said.Err = err; err == nil {
		x := v.Said()
		said.Review, said.KeyIDs, said.Rotated = &x, v.KeyIDs(), v.Rotated()
	}
	return said
}

// maxStatements bounds a role's words on the same bytes.
const maxStatements = 1000

// statementName is where a role's n-th statement is stored.
func statementName(s proof.Subject, role string, n int) string {
	return "targets/" + proof.Name(s, role, n)
}

// said reads what a role has said of a subject, in order. A file that is too
// large to be a statement is not read to its end, and says nothing.
func (r *Repo) said(ctx context.Context, p *present, role ReleaseRole, subject proof.Subject) (out []Said, err error) {
	src := SourceOf(r.storage)
	for n := 1; n <= maxStatements; n++ {
		x := Said{Party: role.Party}
		name := statementName(subject, role.Role, n)
		data, err := readFrom(ctx, src, name, proof.MaxSize)
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
func (r *Repo) Statements(ctx context.Context, target string) (_ []Said, err error) {
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
	var out []Said
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
func (r *Repo) StatementsIn(ctx context.Context, d *Draft) (_ []Said, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.root == nil {
		return nil, errEmpty
	}
	var out []Said
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

// what a statement is, in a word.
func (s *statement) what() string {
	if s.claim.Kind == proof.RefusalType {
		return "refusal"
	}
	return "review"
}

var errEmpty = errors.New("repo: the repository is empty")

// number is what the name says. The rest of the name follows from the payload,
// see newStatement.
func (s *statement) number() int {
	_, n := splitStatement(s.file.role)
	return n
}

// splitStatement takes the last element of a statement's name apart; 0 where it is none.
func splitStatement(name string) (role string, n int) {
	base := name[strings.LastIndexByte(name, '/')+1:]
	base, ok := strings.CutSuffix(base, ".json")
	i := strings.LastIndexByte(base, '.')
	if !ok || i < 1 {
		return "", 0
	}
	if _, err := fmt.Sscanf(base[i+1:], "%d", &n); err != nil || fmt.Sprint(n) != base[i+1:] {
		return "", 0
	}
	return base[:i], n
}

// checkStatements verifies the draft's statements against what will be
// published. One that approves what clients may install must be about that.
func (n *publication) checkStatements(ctx context.Context, snap *tuf.Snapshot, get tuf.Fetch) error {
	for _, name := range slices.Sorted(maps.Keys(n.statements)) {
		s := n.statements[name]
		data, err := s.bytes()
		if err != nil {
			return err
		}
		subject, by := s.claim.Subject, s.claim.Reviewer
		if err := n.unsaid(ctx, s, data); err != nil {
			return err
		}
		if number := s.number(); number > 1 { // readers count from 1 until there is none
			before := statementName(subject, by.Role, number-1)
			if _, err := n.repo.storage.Read(ctx, before); err != nil && n.statements[before] == nil {
				return fmt.Errorf("repo: %s: the statement before it: %w", roleText(name), err)
			}
		}
		if s.claim.Kind == proof.ReviewType {
			if a, approved := snap.Approve(subject.Path, get); approved == nil {
				_, err = proof.Open(data, n.root, by.Party, a, n.repo.now())
				if err != nil {
					return fmt.Errorf("repo: %w", err)
				}
			}
		}
		if said := openStatement(data, []*tuf.Root{n.root}, by.Party, subject, n.repo.now()); said.Err != nil {
			return fmt.Errorf("repo: %w", said.Err)
		}
	}
	return nil
}

// unsaid refuses a statement in whose place another one is published: the same one
// with other signatures, or another word of the role.
func (n *publication) unsaid(ctx context.Context, s *statement, data []byte) error {
	name := s.file.role
	var there struct {
		Payload []byte `json:"payload"`
	}
	have, err := readFrom(ctx, SourceOf(n.repo.storage), name, proof.MaxSize)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && bytes.Equal(have, data):
		return nil
	case err != nil && !errors.Is(err, tuf.ErrTooLarge):
		return err
	case json.Unmarshal(have, &there) == nil && bytes.Equal(there.Payload, s.payload):
		return fmt.Errorf("repo: %s: %w, with other signatures", roleText(name), ErrPublished)
	}
	return fmt.Errorf("repo: %w: the role has said something else already in %s", ErrStale, roleText(name))
}

func (n *publication) writeStatements(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(n.statements)) {
		data, err := n.statements[name].bytes()
		if err != nil {
			return err
		}
		if err := n.repo.storage.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return fmt.Errorf("repo: %s: %w", roleText(name), err)
		}
	}
	return nil
}

// statementJSON is a statement on its way.
type statementJSON struct {
	Name       string            `json:"name"`
	Kind       string            `json:"kind"`
	Party      string            `json:"party"`
	Path       string            `json:"path"`
	Length     int64             `json:"length"`
	SHA256     string            `json:"sha256"`
	Needs      []need            `json:"needs"`
	Payload    []byte            `json:"payload"`
	Signatures map[string]string `json:"signatures"` // hex, by key id
}

func (s *statement) json() statementJSON {
	subject := s.claim.Subject
	return statementJSON{s.file.role, s.claim.Kind, s.claim.Reviewer.Party, subject.Path, subject.Length, subject.SHA256, s.file.signers, s.payload, s.file.sigs}
}
