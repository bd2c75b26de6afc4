package repo

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// checkStep refuses a version that skips too many numbers, so that a draft can't exhaust
// the version numbers of a role (fast-forward). Staging skips no more than that, and
// publishing requires that base is published.
func checkStep(role string, base, version int64) error {
	if version-base > maxSkip {
		return fmt.Errorf("%s v%d follows v%d, but at most %d numbers may be skipped: %w", roleText(role), version, base, maxSkip-1, tuf.ErrVersion)
	}
	return nil
}

// parseDraft reads a draft. The signed parts of the result are slices of the canonical
// form of data, not copies, because a draft may have 512 MiB.
func parseDraft(data []byte) (*Draft, error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return nil, err
	}
	var format, files, heals, statements, recovery wire.Value
	if err := closed(v, wire.Field{Name: "visum-draft", To: &format}, wire.Field{Name: "files", To: &files}, wire.Field{Name: "heals", To: &heals},
		wire.Field{Name: "statements", To: &statements}, wire.Field{Name: "recovery", To: &recovery}); err != nil {
		return nil, err
	}
	if n, err := format.Int(); err != nil || n != 1 {
		return nil, fmt.Errorf("format is %s, want 1", text.Bytes(format))
	}
	d := newDraft()
	err = elements(files, "files", func(v wire.Value) error {
		f, err := parseDraftFile(v, func(role string) error {
			switch role {
			case facts.RecoveryRole:
				return errors.New("not a role")
			case "timestamp", "snapshot":
				return errors.New("a draft can't contain it, publishing makes it")
			}
			return nil
		})
		if err != nil {
			return err
		}
		if d.files[f.role] != nil {
			return fmt.Errorf("%s occurs twice", roleText(f.role))
		}
		d.files[f.role] = f
		return checkStep(f.role, f.base, f.version)
	})
	if err != nil {
		return nil, err
	}
	if err := elements(heals, "heals", func(v wire.Value) error {
		if len(d.heals) == maxFork {
			return fmt.Errorf("heals has more than %d roots", maxFork)
		}
		d.heals = append(d.heals, v.JSON())
		return nil
	}); err != nil {
		return nil, err
	}
	if recovery != nil && recovery.Kind() != 'n' {
		if d.recovery, err = parseDraftFile(recovery, func(role string) error {
			if role != facts.RecoveryRole {
				return errors.New("not a recovery statement")
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	return d, elements(statements, "statements", func(v wire.Value) error {
		s, err := parseStatement(v)
		if err != nil {
			return err
		}
		if name := s.file.role; d.statements[name] != nil {
			return fmt.Errorf("%s occurs twice", roleText(name))
		}
		d.statements[s.file.role] = s
		return nil
	})
}

// closed reads the members of an object, and refuses unknown ones.
func closed(v wire.Value, fields ...wire.Field) error {
	if err := v.Fields(fields...); err != nil {
		return err
	}
next:
	for name := range v.Members() {
		for _, f := range fields {
			if name.Compare(f.Name) == 0 {
				continue next
			}
		}
		return fmt.Errorf("unknown member %s", text.Quote(name.String()))
	}
	return nil
}

// elements calls fn for each element of a list. A missing list and null are empty.
func elements(v wire.Value, what string, fn func(wire.Value) error) error {
	if k := v.Kind(); k != '[' && k != 'n' && k != 0 {
		return fmt.Errorf("%s must be a list", what)
	}
	for e := range v.Elements() {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// parseDraftFile reads one file. allowed returns an error for roles that are not allowed.
func parseDraftFile(v wire.Value, allowed func(role string) error) (*draftFile, error) {
	var role, base, under, needs, content wire.Value
	if err := closed(v, wire.Field{Name: "role", To: &role}, wire.Field{Name: "base", To: &base}, wire.Field{Name: "under", To: &under},
		wire.Field{Name: "needs", To: &needs}, wire.Field{Name: "content", To: &content}); err != nil {
		return nil, err
	}
	name, err := role.Text()
	if err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	f, err := parseContent(name, base, needs, content, allowed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", roleText(name), err)
	}
	return f, elements(under, "under", func(v wire.Value) error {
		s, err := v.Text()
		f.under = append(f.under, s)
		return err
	})
}

func parseContent(role string, base, needs, content wire.Value, allowed func(string) error) (*draftFile, error) {
	if err := allowed(role); err != nil {
		return nil, err
	}
	var after int64
	var err error
	if base != nil {
		if after, err = base.Int(); err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
	}
	signers, err := parseNeeds(needs)
	if err != nil {
		return nil, err
	}
	var signed, signatures wire.Value
	if err := content.Fields(wire.Field{Name: "signed", To: &signed}, wire.Field{Name: "signatures", To: &signatures}); err != nil {
		return nil, err
	}
	want := typeOf(role)
	if role == facts.RecoveryRole {
		want = chain.RecoveryType
	}
	f, err := newSigned(role, want, after, signed, signers...)
	if err != nil {
		return nil, err
	}
	return f, elements(signatures, "signatures", func(v wire.Value) error {
		var id, sig wire.Value
		if err := v.Fields(wire.Field{Name: "keyid", To: &id}, wire.Field{Name: "sig", To: &sig}); err != nil {
			return err
		}
		name, err := id.Text()
		if err != nil {
			return err
		}
		f.sigs[name], err = sig.Text()
		return err
	})
}

// parseNeeds reads the required signers, which are informative only.
func parseNeeds(v wire.Value) (needs []need, err error) {
	if v == nil {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(v.JSON()))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&needs); err != nil {
		return nil, fmt.Errorf("needs: %w", err)
	}
	return needs, nil
}

// parseStatement reads a statement. The unsigned description in the draft must match the
// payload, because only the payload is signed.
func parseStatement(v wire.Value) (*statement, error) {
	var name, kind, party, path, length, sum, needs, payload, signatures wire.Value
	if err := closed(v, wire.Field{Name: "name", To: &name}, wire.Field{Name: "kind", To: &kind}, wire.Field{Name: "party", To: &party},
		wire.Field{Name: "path", To: &path}, wire.Field{Name: "length", To: &length}, wire.Field{Name: "sha256", To: &sum},
		wire.Field{Name: "needs", To: &needs}, wire.Field{Name: "payload", To: &payload}, wire.Field{Name: "signatures", To: &signatures}); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	at, err := name.Text()
	if err != nil {
		return nil, fmt.Errorf("statement: name: %w", err)
	}
	fail := func(err error) (*statement, error) { return nil, fmt.Errorf("%s: %w", roleText(at), err) }
	encoded, err := payload.Text()
	if err != nil {
		return fail(fmt.Errorf("payload: %w", err))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return fail(fmt.Errorf("payload: %w", err))
	}
	signers, err := parseNeeds(needs)
	if err != nil {
		return fail(err)
	}
	s, err := newStatement(at, raw, signers...)
	if err != nil {
		return fail(err)
	}
	said, by := s.claim.Subject, s.claim.Reviewer
	for _, x := range []struct {
		what    string
		has, is wire.Value
	}{{"kind", kind, metafile.Text(s.claim.Kind)}, {"party", party, metafile.Text(by.Party)}, {"path", path, metafile.Text(said.Path)},
		{"length", length, wire.Value(fmt.Append(nil, said.Length))}, {"sha256", sum, metafile.Text(said.SHA256)}} {
		if string(x.has) != string(x.is) {
			return fail(fmt.Errorf("%w: %s is %s in the draft and %s in the signed payload", tuf.ErrMismatch, x.what, text.Bytes(x.has), text.Bytes(x.is)))
		}
	}
	if signatures == nil || signatures.Kind() == 'n' {
		return s, nil
	}
	if signatures.Kind() != '{' {
		return fail(errors.New("signatures must be an object"))
	}
	for id, sig := range signatures.Members() {
		if s.file.sigs[id.String()], err = sig.Text(); err != nil {
			return fail(err)
		}
	}
	return s, nil
}
