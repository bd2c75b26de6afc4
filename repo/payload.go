package repo

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
)

// Payload returns the bytes that a [tuf.Signer] would be given for the draft's file,
// for keys without a Signer: sign them with any tool and pass the signature to
// [Draft.AddSignature]. role is the file or statement as [Draft.Missing] lists it. The
// caller owns the bytes. The rules are those of [Draft.Sign], and the ledger records
// the file as if it were signed. The call reads storage and ledger and has no deadline.
// If the draft has no such file, the error wraps [ErrNoPart].
func (d *Draft) Payload(role string) ([]byte, error) { return d.payload(role, false) }

// PayloadFirst is [Draft.Payload] for a draft with the first root of a repository that
// was staged elsewhere; see [Draft.SignFirst].
func (d *Draft) PayloadFirst(role, digest string) ([]byte, error) {
	if err := d.first(digest); err != nil {
		return nil, err
	}
	return d.payload(role, true)
}

func (d *Draft) payload(role string, firstRoot bool) (_ []byte, err error) {
	defer text.OneLine(&err)
	ctx := context.Background() // payloads are for signing ceremonies, which have no deadline
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

// AddSignature adds an externally made signature to a file of the draft, or replaces
// the signature of the same key. keyID is a key that may sign the file, as
// [Draft.Missing] lists it. sig has the form of the key's scheme: 64 bytes for ed25519,
// ASN.1 DER over the sha256 for P-256 or the sha384 for P-384, PSS with sha256 for RSA.
//
// The error wraps [ErrSignature] if the signature does not verify, and [ErrNoPart] if
// the key may not sign the file. The draft is then unchanged.
func (d *Draft) AddSignature(role, keyID string, sig []byte) (err error) {
	defer text.OneLine(&err)
	f := d.part(role)
	if f == nil {
		return fmt.Errorf("repo: signature of %s: %w (%s)", text.Quote(role), ErrNoPart, d)
	}
	k, ok := f.key(keyID)
	if !ok {
		return fmt.Errorf("repo: %s v%d: key %s: %w", roleText(f.role), f.version, text.Name(keyID), ErrNoPart)
	}
	// The id is computed, since the draft is untrusted input.
	if k.ID() != keyID || !k.Verifies(f.signed, sig) {
		return fmt.Errorf("repo: %s v%d: key %s: %w: %d bytes for a key of scheme %s", roleText(f.role), f.version, text.Name(keyID), ErrSignature, len(sig), text.Name(k.Scheme))
	}
	f.sigs[keyID] = hex.EncodeToString(sig)
	return nil
}
