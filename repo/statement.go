package repo

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// statement is a reviewer's word on a target, on its way in a draft. Its file,
// once signed, stands beside the target and never changes.
type statement struct {
	kind    string // proof.ReviewType or proof.RefusalType
	party   string
	subject proof.Subject
	payload []byte
	file    *draftFile // what is signed; its role is the name in storage
}

// newStatement prepares a payload for signing. What it says of party and subject
// is held against the payload at publishing.
func newStatement(name, kind, party string, subject proof.Subject, payload []byte, needs ...need) (*statement, error) {
	if kind != proof.ReviewType && kind != proof.RefusalType {
		return nil, fmt.Errorf("a statement of type %.80q", kind)
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if target := TargetName(subject.Path, subject.SHA256) + ".reviews/"; !strings.HasPrefix(name, target) {
		return nil, fmt.Errorf("%.200q is no name for a statement on %.200q", name, subject.Path)
	}
	return &statement{kind, party, subject, payload,
		&draftFile{role: name, signed: proof.PAE(payload), sigs: map[string]string{}, signers: needs}}, nil
}

// bytes is the file as it is published.
func (s *statement) bytes() ([]byte, error) {
	sigs := map[string][]byte{}
	for id, text := range s.file.sigs {
		sig, err := hex.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("repo: %s: signature of %.16s: %w", s.file.role, id, err)
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
	Err         error    // why it says nothing; then Review and Refusal are nil
}

// open verifies a statement file. now is for reviews, which end.
func openStatement(data []byte, root *tuf.Root, party string, subject proof.Subject, now time.Time) (said Said) {
	said.Party = party
	if proof.Kind(data) == proof.RefusalType {
		v, err := proof.OpenRefusal(data, root, party, subject)
		if said.Err = err; err == nil {
			x := v.Said()
			said.Refusal, said.KeyIDs = &x, v.KeyIDs()
		}
		return said
	}
	v, err := proof.OpenListed(data, root, party, subject, now)
	if said.Err = err; err == nil {
		x := v.Said()
		said.Review, said.KeyIDs = &x, v.KeyIDs()
	}
	return said
}

// maxStatements bounds a role's words on the same bytes.
const maxStatements = 1000

// statementName is where a role's n-th statement is stored.
func statementName(s proof.Subject, role string, n int) string {
	return "targets/" + proof.Name(s, role, n)
}

// said reads what a role has said of a subject, in order.
func (r *Repo) said(ctx context.Context, root *tuf.Root, role ReleaseRole, subject proof.Subject) (out []Said, err error) {
	for n := 1; n <= maxStatements; n++ {
		name := statementName(subject, role.Role, n)
		data, err := r.storage.Read(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		x := openStatement(data, root, role.Party, subject, r.now())
		x.Role, x.Name, x.Number = role.Role, name, n
		out = append(out, x)
	}
	return out, nil
}

// Statements returns what the parties have said of the bytes that they list now
// under a path: for each of the roles of its class, in the charter's order, from
// its first word to its last. Each is verified with the keys of the newest root;
// where one is not good its Err says why. It needs no key.
func (r *Repo) Statements(ctx context.Context, target string) ([]Said, error) {
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
			said, err := r.said(ctx, p.root, role, s)
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
func (r *Repo) StatementsIn(ctx context.Context, d *Draft) ([]Said, error) {
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
		x := openStatement(data, p.root, s.party, s.subject, r.now())
		x.Name, x.Role, x.Number = name, s.role(), s.number()
		out = append(out, x)
	}
	return out, nil
}

// said is the draft's statements as changes: their payloads, whole.
func (d *Draft) said() (out []Change) {
	for _, name := range slices.Sorted(maps.Keys(d.statements)) {
		s := d.statements[name]
		out = append(out, Change{Role: clean(s.role()), Kind: Added, What: s.what(), Name: clean(s.subject.Path), New: s.words()})
	}
	return out
}

// words are all that the payload says.
func (s *statement) words() string {
	v, err := wire.Canonical(s.payload)
	if err != nil {
		return clean(string(s.payload)) // nobody will accept it
	}
	d := newDocument()
	t := d.thing("", "")
	d.walk("statement", "", t, v)
	return t.all()
}

// what a statement is, in a word.
func (s *statement) what() string {
	if s.kind == proof.RefusalType {
		return "refusal"
	}
	return "review"
}

var errEmpty = errors.New("repo: the repository is empty")

// role and number are what the name says; both are held against the payload.
func (s *statement) role() string {
	role, _ := splitStatement(s.file.role)
	return role
}

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
		number := s.number()
		if number < 1 || number > maxStatements || statementName(s.subject, s.role(), number) != name {
			return fmt.Errorf("repo: %s: not the name of a statement: %w", name, fs.ErrInvalid)
		}
		if number > 1 { // readers count from 1 until there is none
			if _, err := n.repo.storage.Read(ctx, statementName(s.subject, s.role(), number-1)); err != nil {
				return fmt.Errorf("repo: %s: the word before it: %w", name, err)
			}
		}
		if s.kind == proof.ReviewType {
			if a, approved := snap.Approve(s.subject.Path, get); approved == nil {
				_, err = proof.Open(data, n.root, s.party, a, n.repo.now())
				if err != nil {
					return fmt.Errorf("repo: %w", err)
				}
			}
		}
		said := openStatement(data, n.root, s.party, s.subject, n.repo.now())
		if said.Err != nil {
			return fmt.Errorf("repo: %w", said.Err)
		}
		if by := said.by(); by != s.role() {
			return fmt.Errorf("repo: %s: it is the word of %s: %w", name, by, tuf.ErrMismatch)
		}
	}
	return nil
}

func (s Said) by() string {
	if s.Review != nil {
		return s.Review.Reviewer.Role
	}
	return s.Refusal.Reviewer.Role
}

func (n *publication) writeStatements(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(n.statements)) {
		data, err := n.statements[name].bytes()
		if err != nil {
			return err
		}
		if err := n.repo.storage.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return fmt.Errorf("repo: %s: %w", name, err)
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
	return statementJSON{s.file.role, s.kind, s.party, s.subject.Path, s.subject.Length, s.subject.SHA256, s.file.signers, s.payload, s.file.sigs}
}

func (j statementJSON) open() (*statement, error) {
	s, err := newStatement(j.Name, j.Kind, j.Party, proof.Subject{Path: j.Path, Length: j.Length, SHA256: j.SHA256}, j.Payload, j.Needs...)
	if err == nil && j.Signatures != nil {
		s.file.sigs = j.Signatures
	}
	return s, err
}

// read is what the payload states, which alone is signed.
func (s *statement) read() (proof.Claim, error) {
	c, err := proof.Read(s.payload)
	if err != nil {
		err = fmt.Errorf("repo: %s: %w", s.file.role, err)
	}
	return c, err
}
