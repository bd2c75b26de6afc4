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

// Errors of keys, to be found with errors.Is. Errors of the file system
// are passed on, wrapped.
var (
	// ErrFile: not a private key of a kind that is known and allowed, or a
	// file that contradicts itself.
	ErrFile = errors.New("not a usable key file")
	// ErrPurpose: the key is not for what it is to be used for, or its file
	// can't say what it is for.
	ErrPurpose = errors.New("key is for something else")
	// ErrKind: the agent holds the key but can't sign metadata with it.
	ErrKind = errors.New("key of a kind that can't sign metadata")
	// ErrExposed: others than the owner may open the file.
	ErrExposed = errors.New("key file is open to others")
	// ErrPassphrase: the passphrase is wrong, or missing.
	ErrPassphrase = errors.New("wrong passphrase")
)

// ownFile is the file as it is written, in JSON.
//
// Label and public key stand outside for whoever has no passphrase, and inside
// what is encrypted, where nobody without it can change them: the two must
// agree. So renaming a root key to a timestamp key takes the passphrase.
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

// Generate makes a new ed25519 key and the file path for it, readable only to
// its owner. Nothing is ever overwritten: the error wraps [fs.ErrExist] when
// path is taken. The folder must exist.
//
// label says what the key is for, such as "vendor root" or "review-agent", and
// is what [Options] ask for; it is at most 100 bytes of printable text and not
// empty. It is no secret.
//
// The file is encrypted with the passphrase (scrypt with the parameters that
// OWASP recommends, then NaCl secretbox); this takes about half a second and 128
// MiB of memory, now and at each load. An empty passphrase is [ErrPassphrase].
// The slice stays the caller's and is not kept.
func Generate(path, label string, passphrase []byte) (tuf.Signer, error) {
	if len(passphrase) == 0 {
		return nil, keyError(path, ErrPassphrase, "it is empty; for a key without encryption there is UnsafeGeneratePlain")
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

// UnsafeGeneratePlain is [Generate] without encryption: whoever reads the
// file or a backup of it has the key, and whoever writes to it can change the
// label. For development, and where something else guards the file.
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

// parseOwn reads our own format and checks all that can be checked without
// the passphrase.
func parseOwn(data []byte) (*ownFile, error) {
	// A later version may have other members: say that it is later, not that
	// they are unknown.
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
		return nil, fmt.Errorf("version %d, only %d is known here", head.Version, fileVersion)
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
		return nil, errors.New(`needs one of "encrypted" and "plain"`)
	}
	return &f, nil
}

// open takes the private key out of secret, which must be about the same key
// and label as the outside.
func (f *ownFile) open(secret *keySecret) (crypto.PrivateKey, error) {
	if secret.Label != f.Label {
		return nil, fmt.Errorf("label is %q outside and %q inside", f.Label, secret.Label)
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
	return nil, errors.New("public key outside does not belong to the private key inside")
}

func decrypt(sealed, passphrase []byte) ([]byte, error) {
	data, err := encrypted.Decrypt(sealed, passphrase)
	// The only error of that package that tells nothing about the file's form.
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
		return "empty; it says what the key is for"
	case len(label) > 100:
		return "longer than 100 bytes"
	case !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "not printable text"
	case strings.TrimSpace(label) != label:
		return "begins or ends with a space"
	}
	return ""
}

// keyError: one of the sentinels, and for people the reason.
func keyError(path string, sentinel error, format string, args ...any) error {
	return fmt.Errorf("keys: file %s: %w: %s", path, sentinel, fmt.Sprintf(format, args...))
}
