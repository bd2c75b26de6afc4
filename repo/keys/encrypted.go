package keys

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/visum-dev/visum/tuf"
)

// Private keys that other tools encrypted in the format of securesystemslib: bare, in a
// PEM block (cosign), or in the key file of go-tuf's former command line.

func isEncryptedPEM(b *pem.Block) bool {
	return b.Type == "ENCRYPTED SIGSTORE PRIVATE KEY" || b.Type == "ENCRYPTED COSIGN PRIVATE KEY"
}

// foreignFile is the unencrypted envelope of such a file.
type foreignFile struct {
	KDF       json.RawMessage `json:"kdf"` // bare
	Encrypted json.RawMessage `json:"encrypted"`
	Data      json.RawMessage `json:"data"` // go-tuf's former command line
}

// isForeignJSON reports whether data is a file of another tool, by the members that
// only those tools write.
func isForeignJSON(data []byte) bool {
	var f foreignFile
	return json.Unmarshal(data, &f) == nil && (f.KDF != nil || f.Data != nil)
}

func (l *loader) foreignJSON(data []byte) (crypto.PrivateKey, error) {
	var f foreignFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	if f.KDF != nil {
		return l.encrypted(data)
	}
	if string(f.Encrypted) == "true" {
		return l.encrypted(f.Data)
	}
	if err := l.unlabelled(); err != nil {
		return nil, err
	}
	return l.parsed(parseSecret(f.Data))
}

// encrypted opens a key that is encrypted in the format of securesystemslib.
func (l *loader) encrypted(sealed []byte) (crypto.PrivateKey, error) {
	if err := l.unlabelled(); err != nil {
		return nil, err
	}
	pass, err := l.ask()
	if err != nil {
		return nil, err
	}
	data, err := decrypt(sealed, pass)
	if errors.Is(err, ErrPassphrase) {
		return nil, fmt.Errorf("keys: file %s: %w", l.path, err)
	} else if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	return l.parsed(parseSecret(data))
}

func (l *loader) parsed(private crypto.PrivateKey, err error) (crypto.PrivateKey, error) {
	if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	return private, nil
}

// parseSecret reads the decrypted content: PKCS#8, in DER or PEM, or a key in the TUF
// format, alone or as the only element of a list.
func parseSecret(data []byte) (crypto.PrivateKey, error) {
	switch text := strings.TrimSpace(string(data)); {
	case strings.HasPrefix(text, "["):
		var list []json.RawMessage
		if err := json.Unmarshal(data, &list); err != nil {
			return nil, err
		}
		if len(list) != 1 {
			return nil, fmt.Errorf("the file has %d keys, want 1", len(list))
		}
		return parseSecret(list[0])
	case strings.HasPrefix(text, "{"):
		return parseTUFKey(data)
	case strings.HasPrefix(text, "-----BEGIN"):
		return parsePrivatePEM(text)
	}
	return x509.ParsePKCS8PrivateKey(data)
}

func parseTUFKey(data []byte) (crypto.PrivateKey, error) {
	var k struct {
		Type  string `json:"keytype"`
		Value struct {
			Public  string `json:"public"`
			Private string `json:"private"`
		} `json:"keyval"`
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, err
	}
	if k.Type != "ed25519" {
		return parsePrivatePEM(k.Value.Private)
	}
	raw, err := hex.DecodeString(k.Value.Private)
	if err != nil || len(raw) != ed25519.SeedSize && len(raw) != ed25519.PrivateKeySize {
		return nil, errors.New("not an ed25519 private key in hex")
	}
	private := ed25519.NewKeyFromSeed(raw[:ed25519.SeedSize])
	// Signatures of this seed would not verify with another public key.
	public, err := tuf.NewKey(private.Public())
	if err != nil {
		return nil, err
	}
	if k.Value.Public != "" && !strings.EqualFold(k.Value.Public, public.Public) ||
		len(raw) == ed25519.PrivateKeySize && string(raw) != string(private) {
		return nil, errors.New("the public key does not belong to the private key")
	}
	return private, nil
}

func parsePrivatePEM(text string) (crypto.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("not PEM")
	}
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	return nil, fmt.Errorf("PEM block is %q, not a private key", block.Type)
}
