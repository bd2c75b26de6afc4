package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// Errors of keys, to be tested with errors.Is. Errors of the file system are returned
// wrapped.
var (
	// ErrFile: the file is not a private key of a supported kind, or is inconsistent.
	ErrFile = errors.New("not a usable key file")
	// ErrPurpose: the key has another purpose than the requested one, or its file has
	// no label that states its purpose.
	ErrPurpose = errors.New("key has another purpose")
	// ErrKind: the agent has the key but can't sign metadata with it.
	ErrKind = errors.New("key of a kind that can't sign metadata")
	// ErrExposed: users other than the owner may open the file.
	ErrExposed = errors.New("key file is accessible to other users")
	// ErrPassphrase: the passphrase is wrong, empty or missing.
	ErrPassphrase = errors.New("wrong passphrase")
)

// ownFile is the JSON form of a key file.
//
// Label and public key are stored twice, and both copies must agree: unencrypted, to be
// readable without the passphrase, and encrypted, to be protected against changes. So
// relabelling a root key as a timestamp key requires the passphrase.
type ownFile struct {
	Type      string          `json:"type"`
	Version   int             `json:"version"`
	Label     string          `json:"label"`
	Public    publicKey       `json:"public"`
	Encrypted json.RawMessage `json:"encrypted,omitempty"` // securesystemslib: scrypt and NaCl secretbox around a keySecret
	Plain     *keySecret      `json:"plain,omitempty"`     // instead of Encrypted
}

const fileType, fileVersion = "visum-key", 1

// publicKey has the form of a key in TUF metadata.
type publicKey struct {
	Type   string `json:"keytype"`
	Scheme string `json:"scheme"`
	Value  struct {
		Public string `json:"public"`
	} `json:"keyval"`
}

type keySecret struct {
	Label   string `json:"label"`
	Private []byte `json:"private"` // PKCS#8, which has the public key in it
}

// Generate creates a new ed25519 key and writes it to the file path, which only its
// owner can read. It never overwrites a file: the error wraps [fs.ErrExist] if path
// exists. The directory must exist.
//
// label states the purpose of the key, such as "vendor root" or "review-agent", and is
// compared with [Options].Purpose. It is 1 to 100 bytes of printable text. It is not
// secret.
//
// The file is encrypted with the passphrase (scrypt with the parameters that OWASP
// recommends, then NaCl secretbox). This takes about half a second and 128 MiB of
// memory, now and at each load. An empty passphrase is [ErrPassphrase]. Generate does
// not keep the slice.
func Generate(path, label string, passphrase []byte) (tuf.Signer, error) {
	if len(passphrase) == 0 {
		return nil, keyError(path, ErrPassphrase, "it is empty; UnsafeGeneratePlain makes a key without encryption")
	}
	return generate(path, label, func(f *ownFile, secret keySecret) error {
		data, err := json.Marshal(secret)
		if err != nil {
			return err
		}
		f.Encrypted, err = encrypted.EncryptWithCustomKDFParameters(data, passphrase, encrypted.OWASP)
		return err
	})
}

// UnsafeGeneratePlain is [Generate] without encryption: read access to the file or a
// backup of it discloses the key, and write access permits changing the label. For
// development, and for files that are protected by other means.
func UnsafeGeneratePlain(path, label string) (tuf.Signer, error) {
	return generate(path, label, func(f *ownFile, secret keySecret) error {
		f.Plain = &secret
		return nil
	})
}

func generate(path, label string, seal func(*ownFile, keySecret) error) (tuf.Signer, error) {
	if why := badLabel(label); why != "" {
		return nil, fmt.Errorf("keys: label %.110q: %w: %s", label, fs.ErrInvalid, why)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	signer, err := tuf.NewSigner(private)
	if err != nil {
		return nil, err
	}
	secret := keySecret{Label: label}
	if secret.Private, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		return nil, err
	}
	f := ownFile{Type: fileType, Version: fileVersion, Label: label, Public: publicOf(signer.Key())}
	if err := seal(&f, secret); err != nil {
		return nil, fmt.Errorf("keys: file %s: %w", path, err)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeFile(path, append(data, '\n')); err != nil {
		return nil, fmt.Errorf("keys: file: %w", err)
	}
	return signer, nil
}

func writeFile(path string, data []byte) error {
	w, err := durable.Create(path)
	if err != nil {
		return err
	}
	defer w.Abort()
	w.SetPerm(0o600)
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.CommitNew()
}

// isOwn reports whether data is JSON with a type of its own, such as a file of this
// package in any version. A key object of TUF has a keytype instead.
func isOwn(data []byte) bool {
	var head struct {
		Type json.RawMessage `json:"type"`
	}
	return json.Unmarshal(data, &head) == nil && head.Type != nil
}

// parseOwn reads the format of this package and checks everything that can be checked
// without the passphrase.
func parseOwn(data []byte) (*ownFile, error) {
	// A later version may have other members: the error should report the version, not
	// an unknown member.
	var head struct {
		Type    string `json:"type"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Type != fileType {
		return nil, fmt.Errorf("type is %q, not %q", head.Type, fileType)
	}
	if head.Version != fileVersion {
		return nil, fmt.Errorf("version is %d, only %d is supported", head.Version, fileVersion)
	}
	var f ownFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, err
	}
	if why := badLabel(f.Label); why != "" {
		return nil, fmt.Errorf("label %.110q: %s", f.Label, why)
	}
	if _, err := f.Public.key().Fingerprint(); err != nil {
		return nil, err
	}
	if (len(f.Encrypted) == 0) == (f.Plain == nil) {
		return nil, errors.New(`exactly one of "encrypted" and "plain" is required`)
	}
	return &f, nil
}

// open returns the private key of secret, whose key and label must be those of the
// unencrypted part.
func (f *ownFile) open(secret *keySecret) (crypto.PrivateKey, error) {
	if secret.Label != f.Label {
		return nil, fmt.Errorf("label is %q in the file and %q in its protected part", f.Label, secret.Label)
	}
	private, err := x509.ParsePKCS8PrivateKey(secret.Private)
	if err != nil {
		return nil, err
	}
	if s, ok := private.(crypto.Signer); ok {
		if k, err := tuf.NewKey(s.Public()); err == nil && k == f.Public.key() {
			return private, nil
		}
	}
	return nil, errors.New("the public key does not belong to the private key")
}

func decrypt(sealed, passphrase []byte) ([]byte, error) {
	data, err := encrypted.Decrypt(sealed, passphrase)
	// All other errors of that package are about the format of the file.
	if err != nil && strings.HasSuffix(err.Error(), "decryption failed") {
		return nil, ErrPassphrase
	}
	return data, err
}

func (f *ownFile) decrypt(passphrase []byte) (*keySecret, error) {
	data, err := decrypt(f.Encrypted, passphrase)
	if err != nil {
		return nil, err
	}
	var secret keySecret
	if err := json.Unmarshal(data, &secret); err != nil {
		return nil, err
	}
	return &secret, nil
}

func publicOf(k tuf.Key) publicKey {
	p := publicKey{Type: k.Type, Scheme: k.Scheme}
	p.Value.Public = k.Public
	return p
}

func (p publicKey) key() tuf.Key {
	return tuf.Key{Type: p.Type, Scheme: p.Scheme, Public: p.Value.Public}
}

func badLabel(label string) string {
	switch {
	case label == "":
		return "empty; it must state the purpose of the key"
	case len(label) > 100:
		return "longer than 100 bytes"
	case !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "not printable text"
	case strings.TrimSpace(label) != label:
		return "begins or ends with a space"
	}
	return ""
}

// keyError wraps a sentinel and adds a human-readable reason.
func keyError(path string, sentinel error, format string, args ...any) error {
	return fmt.Errorf("keys: file %s: %w: %s", path, sentinel, fmt.Sprintf(format, args...))
}
