package pkcs11

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// Curves as tokens state them in CKA_EC_PARAMS: an object identifier, or for ed25519 also
// a PrintableString.
var (
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
)

const nameEd25519 = "edwards25519"

// publicKey returns the public key that attributes describe: of a public key object, or
// of a private one that has them too. get returns nil for an attribute that the object
// does not have. kind is a text about the key, also for one that can't sign metadata; for
// that the error wraps [keys.ErrKind].
func publicKey(get func(attribute uint) []byte) (key tuf.Key, kind string, err error) {
	var public crypto.PublicKey
	switch n, ok := number(get(ckaKeyType)); {
	case !ok:
		return tuf.Key{}, "key without a type", fmt.Errorf("%w: the token does not state its type", keys.ErrKind)
	case n == ckkRSA:
		modulus, exponent := new(big.Int).SetBytes(get(ckaModulus)), new(big.Int).SetBytes(get(ckaPublicExponent))
		kind = fmt.Sprintf("RSA %d", modulus.BitLen())
		if exponent.BitLen() > 31 || modulus.BitLen() == 0 {
			return tuf.Key{}, kind, fmt.Errorf("%w: RSA without a usable modulus and exponent", keys.ErrKind)
		}
		public = &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}
	case n == ckkEC || n == ckkECEdwards:
		if public, kind, err = curveKey(get(ckaECParams), get(ckaECPoint)); err != nil {
			return tuf.Key{}, kind, err
		}
	default:
		kind = fmt.Sprintf("key of type 0x%x", n)
		return tuf.Key{}, kind, fmt.Errorf("%w: %s; use ed25519, P-256, P-384 or RSA", keys.ErrKind, kind)
	}
	if key, err = tuf.NewKey(public); err != nil {
		return tuf.Key{}, kind, fmt.Errorf("%w: %w", keys.ErrKind, err)
	}
	return key, kind, nil
}

// curveKey reads CKA_EC_PARAMS and CKA_EC_POINT. The standard has the point in an OCTET
// STRING; some modules return it bare.
func curveKey(params, point []byte) (public crypto.PublicKey, kind string, err error) {
	var oid asn1.ObjectIdentifier
	var name string
	rest, err := asn1.Unmarshal(params, &oid)
	if err != nil {
		rest, err = asn1.UnmarshalWithParams(params, &name, "printable")
	}
	if err != nil || len(rest) > 0 {
		return nil, "key on a curve without a name", fmt.Errorf("%w: the token does not name the curve", keys.ErrKind)
	}
	var curve elliptic.Curve
	size := ed25519.PublicKeySize
	switch {
	case oid.Equal(oidP256):
		curve, kind, size = elliptic.P256(), "P-256", 65
	case oid.Equal(oidP384):
		curve, kind, size = elliptic.P384(), "P-384", 97
	case oid.Equal(oidEd25519) || name == nameEd25519:
		kind = "ed25519"
	case name != "":
		return nil, "key on another curve", fmt.Errorf("%w: its curve is neither ed25519 nor P-256 nor P-384", keys.ErrKind)
	default:
		return nil, "key on curve " + oid.String(), fmt.Errorf("%w: its curve is %s; use ed25519, P-256 or P-384", keys.ErrKind, oid)
	}
	if len(point) != size {
		var inner []byte
		if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) > 0 || len(inner) != size {
			return nil, kind, fmt.Errorf("%w: %s with a point of %d bytes", keys.ErrKind, kind, len(point))
		}
		point = inner
	}
	if curve == nil {
		return ed25519.PublicKey(point), kind, nil
	}
	p, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, kind, fmt.Errorf("%w: %s with a point that is not on the curve", keys.ErrKind, kind)
	}
	return p, kind, nil
}
