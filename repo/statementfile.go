package repo

import (
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// statement is a reviewer's statement on a target, as part of a draft. Its signed file
// is published alongside the target and never changes.
type statement struct {
	claim   attestation.Claim // parsed from the payload
	payload []byte
	file    *draftFile // the part to sign; its role is the storage name
}

// bytes returns the file as published.
func (s *statement) bytes() ([]byte, error) {
	sigs := map[string][]byte{}
	for id, digits := range s.file.sigs {
		sig, err := hex.DecodeString(digits)
		if err != nil {
			return nil, fmt.Errorf("repo: %s: signature of %s: %w", roleText(s.file.role), text.Name(id), err)
		}
		sigs[id] = sig
	}
	return attestation.Seal(s.payload, sigs)
}

// what returns the kind of the statement.
func (s *statement) what() string {
	if s.claim.Kind == attestation.RefusalType {
		return "refusal"
	}
	return "review"
}

// number returns the number in the name. The rest of the name follows from the payload,
// see newStatement.
func (s *statement) number() int {
	_, n := layout.SplitStatement(s.file.role)
	return n
}

func (s *statement) json() statementJSON {
	subject := s.claim.Subject
	return statementJSON{s.file.role, s.claim.Kind, s.claim.Reviewer.Party, subject.Path, subject.Length, subject.SHA256, s.file.signers, s.payload, s.file.sigs}
}

// statementJSON is the form of a statement in a draft.
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

// newStatement prepares a payload for signing. All data comes from the payload. A given
// name must match it.
func newStatement(name string, payload []byte, needs ...need) (*statement, error) {
	c, err := attestation.Read(payload)
	if err != nil {
		return nil, err
	}
	if err := storage.CheckName(name); err != nil {
		return nil, err
	}
	_, n := layout.SplitStatement(name)
	if n < 1 || n > chain.MaxStatements {
		return nil, fmt.Errorf("%w: not a statement name", fs.ErrInvalid)
	}
	if chain.StatementName(c.Subject, c.Reviewer.Role, n) != name {
		return nil, fmt.Errorf("%w: the name does not match the payload, a statement of %s on %s", tuf.ErrMismatch, text.Name(c.Reviewer.Role), text.Name(c.Subject.Path))
	}
	return &statement{c, payload, &draftFile{role: name, signed: attestation.PAE(payload), sigs: map[string]string{}, signers: needs}}, nil
}
