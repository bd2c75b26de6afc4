package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Form is a text form of a public key. The zero Form is none.
type Form int

// The forms that [WritePublic] writes and [ParsePublic] reads.
const (
	// FormPEM is PKIX in PEM ("PUBLIC KEY"), as openssl and cloud key services write it.
	FormPEM Form = iota + 1
	// FormOpenSSH is the line of an OpenSSH .pub file, without options.
	FormOpenSSH
	// FormTUF is the key object of TUF metadata: JSON with keytype, scheme and keyval.
	FormTUF
)

// String returns the name of the form in messages.
func (f Form) String() string {
	switch f {
	case FormPEM:
		return "PEM"
	case FormOpenSSH:
		return "OpenSSH"
	case FormTUF:
		return "TUF"
	}
	return fmt.Sprintf("Form(%d)", int(f))
}

// WritePublic returns the public key in the given form, ending in a line break.
// [ParsePublic] reads it back as the same key.
//
// FormTUF keeps the key exactly, with its id. FormPEM and FormOpenSSH hold the numbers
// of the key and nothing else: read back, they have the form that [tuf.NewKey] gives
// them, with the same [tuf.Key.Fingerprint]. The id differs if the metadata that key
// comes from encodes it in another way, for example as an uncompressed point.
//
// Errors: [ErrKind] for a key that can't verify metadata; [fs.ErrInvalid] for another
// form. The result belongs to the caller.
func WritePublic(key tuf.Key, form Form) ([]byte, error) {
	if _, err := key.Fingerprint(); err != nil {
		return nil, fmt.Errorf("keys: public key: %w: %w", ErrKind, err)
	}
	switch form {
	case FormPEM:
		public, err := decodePublic(key)
		if err != nil {
			return nil, fmt.Errorf("keys: public key: %w: %w", ErrKind, err)
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("keys: public key: %w: %w", ErrKind, err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
	case FormOpenSSH:
		public, err := decodePublic(key)
		if err != nil {
			return nil, fmt.Errorf("keys: public key: %w: %w", ErrKind, err)
		}
		p, err := ssh.NewPublicKey(public)
		if err != nil {
			return nil, fmt.Errorf("keys: public key: %w: %w", ErrKind, err)
		}
		return ssh.MarshalAuthorizedKey(p), nil
	case FormTUF:
		if !utf8.ValidString(key.Public) { // a PEM text may follow other bytes; JSON would change them
			return nil, fmt.Errorf("keys: public key: %w: its text is not UTF-8", ErrKind)
		}
		data, err := json.Marshal(publicOf(key))
		if err != nil {
			return nil, fmt.Errorf("keys: public key: %w", err)
		}
		return append(data, '\n'), nil
	}
	return nil, fmt.Errorf("keys: public key: %w: there is no %v", fs.ErrInvalid, form)
}

// decodePublic returns the numbers of a usable key.
func decodePublic(key tuf.Key) (crypto.PublicKey, error) {
	if block, _ := pem.Decode([]byte(key.Public)); block != nil {
		return x509.ParsePKIXPublicKey(block.Bytes)
	}
	raw, err := hex.DecodeString(key.Public)
	if err != nil {
		return nil, err
	}
	switch len(raw) {
	case ed25519.PublicKeySize:
		return ed25519.PublicKey(raw), nil
	case 1 + 2*32:
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P384(), raw)
}

// ParsePublic reads a public key in any [Form], at most 256 KiB; spaces and line breaks
// around it are ignored. label is the comment of an OpenSSH key if it has the form of a
// label of [Generate], and otherwise "". It is not authenticated.
//
// A key object of TUF may have further members, which are ignored, except duplicates and
// names that differ from a known one only in case. Data after a PEM block, several
// lines of OpenSSH keys, options before one, certificates and the keys of security tokens
// (sk-) are refused. Errors wrap [ErrFile].
func ParsePublic(data []byte) (key tuf.Key, label string, err error) {
	if len(data) > maxFile {
		return tuf.Key{}, "", fmt.Errorf("keys: public key: %w: larger than %d KiB", ErrFile, maxFile>>10)
	}
	key, label, err = parsePublic(data)
	if err != nil {
		return tuf.Key{}, "", fmt.Errorf("keys: public key: %w: %v", ErrFile, err)
	}
	return key, label, nil
}

func parsePublic(data []byte) (key tuf.Key, label string, err error) {
	defer text.OneLine(&err)
	data = bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(data, []byte("{")):
		key, err = parseKeyObject(data)
		return key, "", err
	case bytes.Contains(data, []byte("-----BEGIN ")): // PEM allows text before it
		block, rest := pem.Decode(data)
		if block == nil {
			return key, "", errors.New("not PEM")
		}
		if block.Type != "PUBLIC KEY" {
			return key, "", fmt.Errorf("PEM block is %s, not a public key", text.Quote(block.Type))
		}
		if len(bytes.TrimSpace(rest)) > 0 {
			return key, "", errors.New("data after the PEM block")
		}
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return key, "", err
		}
		key, err = tuf.NewKey(public)
		return key, "", err
	}
	return parseOpenSSH(string(data))
}

// parseOpenSSH reads one line of a .pub file. It does not use ssh.ParseAuthorizedKey,
// which skips lines and options.
func parseOpenSSH(line string) (key tuf.Key, label string, err error) {
	if strings.ContainsAny(line, "\r\n") {
		return key, "", errors.New("more than one line")
	}
	kind, rest, _ := strings.Cut(line, " ")
	blob, comment, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
	switch {
	case strings.HasPrefix(kind, "sk-"):
		// The public key has a common type, but the token does not sign the payload alone.
		return key, "", fmt.Errorf("%s: a security token adds data to the payload, so TUF clients can't verify its signature", text.Quote(kind))
	case kind != ssh.KeyAlgoED25519 && kind != ssh.KeyAlgoECDSA256 && kind != ssh.KeyAlgoECDSA384 && kind != ssh.KeyAlgoRSA:
		return key, "", errors.New("neither PEM nor a key object of TUF nor an OpenSSH key of type ed25519, ECDSA on P-256 or P-384, or RSA")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(blob)
	if err != nil {
		return key, "", err
	}
	public, err := ssh.ParsePublicKey(raw)
	if err != nil {
		return key, "", err
	}
	p, ok := public.(ssh.CryptoPublicKey)
	if !ok || public.Type() != kind {
		return key, "", fmt.Errorf("the key bytes are of type %s, not %s", text.Quote(public.Type()), kind)
	}
	if key, err = tuf.NewKey(p.CryptoPublicKey()); err != nil {
		return key, "", err
	}
	if comment = strings.TrimSpace(comment); badLabel(comment) == "" {
		label = comment
	}
	return key, label, nil
}

// parseKeyObject reads the key object of metadata with the parser of metadata, so that
// both read the same key.
func parseKeyObject(data []byte) (key tuf.Key, err error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return key, err
	}
	var typ, scheme, val, public wire.Value
	if err := v.Fields(wire.Field{Name: "keytype", To: &typ}, wire.Field{Name: "scheme", To: &scheme}, wire.Field{Name: "keyval", To: &val}); err != nil {
		return key, err
	}
	if err := val.Fields(wire.Field{Name: "public", To: &public}); err != nil {
		return key, fmt.Errorf("member keyval: %w", err)
	}
	for _, m := range []struct {
		name string
		from wire.Value
		to   *string
	}{{"keytype", typ, &key.Type}, {"scheme", scheme, &key.Scheme}, {"public", public, &key.Public}} {
		if *m.to, err = m.from.Text(); err != nil {
			return tuf.Key{}, fmt.Errorf("member %s: %w", m.name, err)
		}
	}
	if _, err := key.Fingerprint(); err != nil {
		return tuf.Key{}, err
	}
	return key, nil
}
