package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"golang.org/x/crypto/nacl/secretbox"
	"golang.org/x/crypto/scrypt"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// sealed encrypts a secret as securesystemslib does, written from the description of
// the format, with another order of members.
func sealed(t *testing.T, secret, pass string, n int) string {
	t.Helper()
	nonce := [24]byte{}
	rand.Read(nonce[:])
	salt := sha256.Sum256(fmt.Append(nil, pass, n)) // a fixed salt, because key derivation is slow
	key, ok := derivedKeys.Load(salt)
	if !ok {
		derived, err := scrypt.Key([]byte(pass), salt[:], n, 8, 1, 32)
		rawtuf.NoErr(t, err)
		key = [32]byte(derived)
		derivedKeys.Store(salt, key)
	}
	derived := key.([32]byte)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"ciphertext": %q, "cipher": {"nonce": %q, "name": "nacl/secretbox"}, "kdf": {"salt": %q, "params": {"p": 1, "r": 8, "N": %d}, "name": "scrypt"}}`,
		b64(secretbox.Seal(nil, []byte(secret), &nonce, &derived)), b64(nonce[:]), b64(salt[:]), n)
}

var derivedKeys sync.Map // by salt

// Files that other tools encrypted can be opened with their passphrase.
func TestKeysThatOthersEncrypted(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rawtuf.NoErr(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	rawtuf.NoErr(t, err)
	pkcs8 := func(k crypto.PrivateKey) string {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		rawtuf.NoErr(t, err)
		return string(der)
	}
	text := func(typ, der string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: []byte(der)}))
	}
	ec, err := x509.MarshalECPrivateKey(p256)
	rawtuf.NoErr(t, err)
	public := hex.EncodeToString(ed.Public().(ed25519.PublicKey))
	list := fmt.Sprintf(`[{"keytype": "ed25519", "scheme": "ed25519", "keyid_hash_algorithms": ["sha256"], "keyval": {"public": %q, "private": %q}}]`,
		public, hex.EncodeToString(ed))
	inTUF := func(typ, private string) string {
		return fmt.Sprintf(`{"keytype": %q, "keyval": {"private": %q}}`, typ, private)
	}
	const weak = 32768 // the weakest accepted strength, for fast tests
	path := filepath.Join(t.TempDir(), "k")
	for name, x := range map[string]struct {
		file string
		key  crypto.Signer
	}{
		"bare, PKCS8":                 {sealed(t, pkcs8(ed), "secret", weak), ed},
		"bare, OWASP":                 {sealed(t, pkcs8(p256), "secret", 131072), p256},
		"bare, PEM":                   {sealed(t, text("PRIVATE KEY", pkcs8(rsaKey)), "secret", weak), rsaKey},
		"bare, seed of securesystems": {sealed(t, fmt.Sprintf(`{"keytype":"ed25519","keyval":{"public":%q,"private":%q}}`, public, hex.EncodeToString(ed.Seed())), "secret", weak), ed},
		"bare, EC in TUF's form":      {sealed(t, inTUF("ecdsa", text("EC PRIVATE KEY", string(ec))), "secret", weak), p256},
		"bare, RSA in TUF's form":     {sealed(t, inTUF("rsa", text("RSA PRIVATE KEY", string(x509.MarshalPKCS1PrivateKey(rsaKey)))), "secret", weak), rsaKey},
		"cosign":                      {text("ENCRYPTED SIGSTORE PRIVATE KEY", sealed(t, pkcs8(p256), "secret", 65536)), p256},
		"old cosign":                  {text("ENCRYPTED COSIGN PRIVATE KEY", sealed(t, pkcs8(p256), "secret", weak)), p256},
		"go-tuf's old command line":   {`{"encrypted": true, "data": ` + sealed(t, list, "secret", weak) + "}", ed},
		"the same, not encrypted":     {`{"encrypted": false, "data": ` + list + "}", ed},
	} {
		t.Run(name, func(t *testing.T) {
			rawtuf.NoErr(t, os.WriteFile(path, []byte(x.file), 0o600))
			want, err := tuf.NewSigner(x.key)
			rawtuf.NoErr(t, err)
			got, err := loadKey(path, "", passphrase("secret"))
			rawtuf.NoErr(t, err)
			sameKey(t, want, got)
			if !rawtuf.Long && name != "old cosign" && name != "bare, PKCS8" {
				return
			}
			_, err = loadKey(path, "vendor root", passphrase("secret")) // the error can't state the reason
			wantErr(t, err, keys.ErrPurpose)
			_, _, err = keys.ReadPublic(path)
			wantErr(t, err, keys.ErrFile)
			if name == "the same, not encrypted" {
				return
			}
			for _, pass := range []func() ([]byte, error){nil, passphrase(""), passphrase("Secret")} {
				_, err = loadKey(path, "", pass)
				wantErr(t, err, keys.ErrPassphrase)
			}
		})
	}

	_, foreign, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	for name, file := range map[string]string{
		"an unusual strength":        sealed(t, pkcs8(ed), "secret", 16384),
		"no key inside":              sealed(t, "hello", "secret", weak),
		"nothing inside":             sealed(t, "", "secret", weak),
		"an empty list":              sealed(t, "[]", "secret", weak),
		"a list of two":              sealed(t, list[:len(list)-1]+","+list[1:], "secret", weak),
		"a list within":              sealed(t, "["+list+","+list+"]", "secret", weak),
		"short ed25519":              sealed(t, inTUF("ed25519", "abcd"), "secret", weak),
		"ed25519, no hex":            sealed(t, inTUF("ed25519", "x"), "secret", weak),
		"EC, no PEM":                 sealed(t, inTUF("ecdsa", "x"), "secret", weak),
		"EC, a public key":           sealed(t, inTUF("ecdsa", text("PUBLIC KEY", "x")), "secret", weak),
		"another public key":         sealed(t, fmt.Sprintf(`{"keytype":"ed25519","keyval":{"public":%q,"private":%q}}`, hex.EncodeToString(foreign[32:]), hex.EncodeToString(ed.Seed())), "secret", weak),
		"halves that do not match":   sealed(t, inTUF("ed25519", hex.EncodeToString(ed.Seed())+hex.EncodeToString(foreign[32:])), "secret", weak),
		"cosign around nothing":      text("ENCRYPTED SIGSTORE PRIVATE KEY", "x"),
		"data of no kind":            `{"encrypted": false, "data": 7}`,
		"encrypted, data of no kind": `{"encrypted": true, "data": 7}`,
		"KDF of no kind":             `{"kdf": 7}`,
	} {
		rawtuf.NoErr(t, os.WriteFile(path, []byte(file), 0o600))
		if _, err := loadKey(path, "", passphrase("secret")); err == nil {
			t.Errorf("%s: opened", name)
		} else {
			wantErr(t, err, keys.ErrFile)
		}
	}
}

// A file that securesystemslib's own code wrote can be opened too.
func TestSecuresystemslibWrote(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(ed)
	rawtuf.NoErr(t, err)
	data, err := encrypted.EncryptWithCustomKDFParameters(der, []byte("secret"), encrypted.OWASP)
	rawtuf.NoErr(t, err)
	path := filepath.Join(t.TempDir(), "k")
	rawtuf.NoErr(t, os.WriteFile(path, data, 0o600))
	want, err := tuf.NewSigner(ed)
	rawtuf.NoErr(t, err)
	got, err := loadKey(path, "", passphrase("secret"))
	rawtuf.NoErr(t, err)
	sameKey(t, want, got)
}
