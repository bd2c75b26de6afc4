package tuf

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
)

// Signer signs metadata with a key in a file, an agent, an HSM or a service.
type Signer interface {
	// Key is the public key. It must not change.
	Key() Key
	// Sign returns the signature of payload under the key's scheme. It may wait for
	// a person; it must return when ctx ends.
	Sign(ctx context.Context, payload []byte) ([]byte, error)
}

// NewSigner returns a Signer for a crypto.Signer. [NewKey] must accept its public
// key; otherwise the error wraps [ErrMalformed].
func NewSigner(s crypto.Signer) (Signer, error) {
	k, err := NewKey(s.Public())
	if err != nil {
		return nil, err
	}
	return &cryptoSigner{k, s}, nil
}

type cryptoSigner struct {
	key    Key
	signer crypto.Signer
}

func (c *cryptoSigner) Key() Key { return c.key }

func (c *cryptoSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch p := c.signer.Public().(type) {
	case ed25519.PublicKey:
		return c.signer.Sign(rand.Reader, payload, crypto.Hash(0))
	case *ecdsa.PublicKey:
		if p.Curve.Params().BitSize == 384 {
			sum := sha512.Sum384(payload)
			return c.signer.Sign(rand.Reader, sum[:], crypto.SHA384)
		}
		sum := sha256.Sum256(payload)
		return c.signer.Sign(rand.Reader, sum[:], crypto.SHA256)
	case *rsa.PublicKey:
		sum := sha256.Sum256(payload)
		return c.signer.Sign(rand.Reader, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256})
	}
	return nil, fmt.Errorf("tuf: signer: unsupported key")
}
