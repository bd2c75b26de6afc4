package repo

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
)

// Payload returns the bytes that a signer of the draft's file signs, as a
// [tuf.Signer] is given them, for keys that no Signer can be made of: sign them
// anywhere, with any tool, and hand the signature to [Draft.AddSignature]. role
// is the file's or statement's, as [Draft.Missing] lists it. The bytes are the
// caller's. The rules are those of [Draft.Sign], and the ledger records what was
// given out as if it were signed; storage and ledger set the pace. Where the draft has no such file the error wraps
// [ErrNoPart].
func (d *Draft) Payload(role string) ([]byte, error) { return d.payload(role, false) }

// PayloadFirst is Payload for a draft with the first root of a repository that
// was staged elsewhere; see [Draft.SignFirst].
func (d *Draft) PayloadFirst(role, digest string) ([]byte, error) {
	if err := d.first(digest); err != nil {
		return nil, err
	}
	return d.payload(role, true)
}

func (d *Draft) payload(role string, firstRoot bool) (_ []byte, err error) {
	defer oneLine(&err)
	ctx := context.Background() // a payload is for a ceremony, which nothing hurries
	f := d.part(role)
	if f == nil {
		return nil, fmt.Errorf("repo: payload of %s: %w (%s)", text.Name(role), ErrNoPart, d)
	}
	p, err := d.handle(ctx)
	if err != nil {
		return nil, err
	}
	s, err := d.repo.newSigning(ctx, p, d)
	if err != nil {
		return nil, err
	}
	x, err := s.item(f)
	if err != nil {
		return nil, err
	}
	s.items = []*item{x}
	if err := s.permit(firstRoot); err != nil {
		return nil, err
	}
	return append([]byte(nil), f.signed...), nil
}

// AddSignature adds to a file of the draft a signature that was made elsewhere,
// or replaces that of the same key. keyID is the id of a key that may sign the
// file, as [Draft.Missing] lists it. sig is in the form of the key's scheme: 64
// bytes for ed25519, ASN.1 DER over the sha256 for P-256, over the sha384 for
// P-384, PSS with sha256 for RSA.
//
// A signature that does not verify is [ErrSignature], a key that has no part in
// the file [ErrNoPart]; the draft stays as it was.
func (d *Draft) AddSignature(role, keyID string, sig []byte) (err error) {
	defer oneLine(&err)
	f := d.part(role)
	if f == nil {
		return fmt.Errorf("repo: signature of %s: %w (%s)", text.Quote(role), ErrNoPart, d)
	}
	k, ok := f.key(keyID)
	if !ok {
		return fmt.Errorf("repo: %s v%d: key %s: %w", roleText(f.role), f.version, text.Name(keyID), ErrNoPart)
	}
	// The id is computed, not believed: a draft comes from anywhere.
	if k.ID() != keyID || !k.Verifies(f.signed, sig) {
		return fmt.Errorf("repo: %s v%d: key %s: %w: %d bytes for a key of scheme %s", roleText(f.role), f.version, text.Name(keyID), ErrSignature, len(sig), text.Name(k.Scheme))
	}
	f.sigs[keyID] = hex.EncodeToString(sig)
	return nil
}
