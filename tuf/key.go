package tuf

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/visum-dev/visum/internal/edkey"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Key is a public key in the form of metadata. It is comparable. The zero Key
// verifies nothing.
type Key struct {
	Type   string `json:"keytype"` // keytype: ed25519, ecdsa, rsa; read also: ecdsa-sha2-nistp256, ecdsa-sha2-nistp384
	Scheme string `json:"scheme"`  // ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, rsassa-pss-sha256
	Public string `json:"public"`  // hex for ed25519, PEM (PKIX) for the others; read also: hex of an uncompressed point for ECDSA
}

// Key types and schemes of the specification. typeP256 and typeP384 are key types
// that other implementations write for ECDSA.
const (
	typeEd25519 = "ed25519"
	typeRSA     = "rsa"
	typeECDSA   = "ecdsa"
	typeP256    = "ecdsa-sha2-nistp256"
	typeP384    = "ecdsa-sha2-nistp384"

	schemeEd25519 = "ed25519"
	schemeRSA     = "rsassa-pss-sha256"
	schemeP256    = "ecdsa-sha2-nistp256"
	schemeP384    = "ecdsa-sha2-nistp384"
)

// NewKey returns the Key of a public key: ed25519, ECDSA on P-256 or P-384, or RSA
// of 2048 to 8192 bits (used with PSS). Other keys are an [ErrMalformed].
func NewKey(pub crypto.PublicKey) (Key, error) {
	var k Key
	switch p := pub.(type) {
	case ed25519.PublicKey:
		k = Key{typeEd25519, schemeEd25519, hex.EncodeToString(p)}
	case *ecdsa.PublicKey:
		k.Type, k.Scheme = typeECDSA, schemeP256
		if p.Curve == elliptic.P384() {
			k.Scheme = schemeP384
		}
	case *rsa.PublicKey:
		k.Type, k.Scheme = typeRSA, schemeRSA
	default:
		return Key{}, refuse("key", 0, ErrMalformed, "unsupported type %T", pub)
	}
	if k.Public == "" {
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return Key{}, malformed("key", 0, err)
		}
		k.Public = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	if _, err := k.public(); err != nil {
		return Key{}, malformed("key", 0, err)
	}
	return k, nil
}

// ID is the TUF key id: the sha256 of the key's canonical form, in hex
// (specification, 4.2).
func (k Key) ID() string {
	b := []byte(`{"keytype":`)
	b = wire.AppendString(b, k.Type)
	b = append(b, `,"keyval":{"public":`...)
	b = wire.AppendString(b, k.Public)
	b = append(b, `},"scheme":`...)
	b = wire.AppendString(b, k.Scheme)
	b = append(b, '}')
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Fingerprint is the sha256 of the public key itself, in hex, independent of its id
// and encoding. Thresholds count fingerprints. An error is the reason why the key
// can't be used; no signature by such a key counts.
func (k Key) Fingerprint() (string, error) {
	pub, err := k.public()
	if err != nil {
		return "", err
	}
	return fingerprint(pub), nil
}

func fingerprint(pub crypto.PublicKey) string {
	der, _ := x509.MarshalPKIXPublicKey(pub) // after an error, all such keys together would count as one
	return hexSum256(der)
}

// Verifies reports whether sig is the key's signature of payload under its
// scheme. A key that can't be used verifies nothing. Verifies checks neither the
// trust in the key nor a threshold: see [Root.Signed].
func (k Key) Verifies(payload, sig []byte) bool {
	pub, err := k.public()
	return err == nil && verifies(pub, payload, sig)
}

// public decodes the key and checks it completely. For an RSA key that takes
// milliseconds; keys of unverified files are decoded by cheapPublic.
func (k Key) public() (crypto.PublicKey, error) {
	pub, err := k.cheapPublic()
	if err == nil && primeModulus(pub) {
		return nil, fmt.Errorf("RSA modulus is a prime number: signatures can be computed from the public key")
	}
	return pub, err
}

// cheapPublic decodes the key. Type, scheme, curve and size must be one of the
// combinations here; no other key verifies. It leaves out the [primeModulus] check.
func (k Key) cheapPublic() (crypto.PublicKey, error) {
	switch k.Type {
	case typeEd25519:
		raw, err := hex.DecodeString(k.Public)
		if err != nil || len(raw) != ed25519.PublicKeySize || k.Scheme != schemeEd25519 || edkey.SmallOrder(raw) {
			return nil, fmt.Errorf("not a key of scheme ed25519")
		}
		return ed25519.PublicKey(raw), nil
	case typeECDSA, typeP256, typeP384:
		pub, err := parseECDSA(k.Public)
		if err != nil {
			return nil, err
		}
		p, ok := pub.(*ecdsa.PublicKey)
		switch {
		case ok && p.Curve == elliptic.P256() && k.Scheme == schemeP256 && k.Type != typeP384:
			return p, nil
		case ok && p.Curve == elliptic.P384() && k.Scheme == schemeP384 && k.Type != typeP256:
			return p, nil
		}
	case typeRSA:
		pub, err := parsePEM(k.Public)
		if err != nil {
			return nil, err
		}
		p, ok := pub.(*rsa.PublicKey)
		// No signature verifies with an even exponent or modulus; every one does with
		// exponent 1. Exponents below 65537 are obsolete.
		if ok && p.N.BitLen() >= 2048 && p.N.BitLen() <= 8192 && p.N.Bit(0) == 1 && p.E >= 65537 && p.E&1 == 1 && k.Scheme == schemeRSA {
			return p, nil
		}
	}
	return nil, fmt.Errorf("unsupported key: type %s with scheme %s, or curve, size or exponent not allowed", text.Quote(k.Type), text.Quote(k.Scheme))
}

// knownKind reports whether keys of this type and scheme are supported.
func (k Key) knownKind() bool {
	switch k.Type {
	case typeEd25519:
		return k.Scheme == schemeEd25519
	case typeECDSA, typeP256, typeP384:
		return k.Scheme == schemeP256 || k.Scheme == schemeP384
	case typeRSA:
		return k.Scheme == schemeRSA
	}
	return false
}

// primeModulus reports whether pub is an RSA key whose modulus is a prime number:
// signatures can be computed from such a public key. The test costs as much as one
// signature (2 ms for 2048 bits, 0.1 s for 8192). So it is applied to single keys
// and to keys with a valid signature, not to all keys of an unverified file.
func primeModulus(pub crypto.PublicKey) bool {
	p, ok := pub.(*rsa.PublicKey)
	return ok && p.N.ProbablyPrime(0)
}

// parseECDSA reads PEM or the hex of an uncompressed point, which go-tuf wrote
// before v2. The length of a point determines its curve.
func parseECDSA(s string) (crypto.PublicKey, error) {
	curve := elliptic.P256()
	switch len(s) {
	case 2 * (1 + 2*32):
	case 2 * (1 + 2*48):
		curve = elliptic.P384()
	default:
		return parsePEM(s)
	}
	point, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(curve, point)
}

func parsePEM(s string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(s))
	if block == nil {
		return nil, fmt.Errorf("public key is not PEM")
	}
	return x509.ParsePKIXPublicKey(block.Bytes)
}

// verifies reports whether sig is the key's signature of msg.
func verifies(pub crypto.PublicKey, msg, sig []byte) bool {
	switch p := pub.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(p, msg, sig)
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P384() {
			sum := sha512.Sum384(msg)
			return ecdsa.VerifyASN1(p, sum[:], sig)
		}
		sum := sha256.Sum256(msg)
		return ecdsa.VerifyASN1(p, sum[:], sig)
	case *rsa.PublicKey:
		sum := sha256.Sum256(msg)
		return rsa.VerifyPSS(p, crypto.SHA256, sum[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	}
	return false
}

// parseKey reads one key object. It keeps keys that can't be used: such a key is an
// error only if its signature is needed for a threshold.
func parseKey(v wire.Value) (Key, error) {
	var typ, scheme, val, public wire.Value
	if err := v.Fields(wire.Field{Name: "keytype", To: &typ}, wire.Field{Name: "scheme", To: &scheme}, wire.Field{Name: "keyval", To: &val}); err != nil {
		return Key{}, err
	}
	if val.Kind() == '{' {
		if err := val.Fields(wire.Field{Name: "public", To: &public}); err != nil {
			return Key{}, err
		}
	}
	// A key of another form is an unknown key, not malformed metadata.
	var k Key
	k.Type, _ = typ.Text()
	k.Scheme, _ = scheme.Text()
	k.Public, _ = public.Text()
	return k, nil
}

func hexSum256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
