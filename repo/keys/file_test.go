package keys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// TestGenerateKey derives a key from the passphrase twice at full strength; no other
// test does.
func TestGenerateKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.key")
	made, err := keys.Generate(path, "vendor root", []byte("correct horse"))
	rawtuf.NoErr(t, err)
	loaded, err := loadKey(path, "vendor root", passphrase("correct horse"))
	rawtuf.NoErr(t, err)
	sameKey(t, made, loaded)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	rawtuf.NoErr(t, err)
	if !bytes.Contains(data, []byte(`"N": 131072`)) || !bytes.Contains(data, []byte(`"type": "visum-key"`)) {
		t.Errorf("the file format has changed:\n%s", data)
	}
	key, label, err := keys.ReadPublic(path)
	if err != nil || key != made.Key() || label != "vendor root" {
		t.Errorf("public half: %v, %q, %v", key, label, err)
	}
}

// keyFileV1 is a key file of the first version, made with the passphrase "secret" at
// the weakest accepted strength, for fast tests. Such files exist in safes: they must
// stay readable.
const keyFileV1 = `{
  "type": "visum-key",
  "version": 1,
  "label": "vendor root",
  "public": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ff04b69cbce0224342931061636d042542cb4b4711b8f5db0d6396422137108d"}},
  "encrypted": {
    "kdf": {"name": "scrypt", "params": {"N": 32768, "r": 8, "p": 1}, "salt": "uuwvm/xi/XTDGOO7PaJY5imFTKMxti+QBrENQWgQZjY="},
    "cipher": {"name": "nacl/secretbox", "nonce": "P8xnRLdsyC3+zNp92bSVo1dt6HlEDoWH"},
    "ciphertext": "WsgwMG7Xtl14UDz3IBRLtvUSkDck3yM+xhVxuWtnwV5qoBZKps58WhQouApNYAcCYMvA+M6vLx27GPSqh1hGlEGoMcTE2rrEIy/rLIoJPYaSpvb1Ypj1ywEJin93j2gcnPiwD+kOrLJCSR2ozvaf0dx35tQ="
  }
}`

func TestKeyFileEncrypted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	rawtuf.NoErr(t, os.WriteFile(path, []byte(keyFileV1), 0o600))
	asked := 0
	count := func() ([]byte, error) { asked++; return []byte("secret"), nil }
	s, err := loadKey(path, "vendor root", count)
	rawtuf.NoErr(t, err)
	sameKey(t, s, s)
	_, err = loadKey(path, "timestamp", count)
	wantErr(t, err, keys.ErrPurpose)
	if asked != 1 {
		t.Errorf("asked %d times for the passphrase, not for the one key that it opens", asked)
	}
	gone := errors.New("no terminal")
	_, err = loadKey(path, "", func() ([]byte, error) { return nil, gone })
	wantErr(t, err, gone)
	for _, pass := range []func() ([]byte, error){nil, passphrase(""), passphrase("Secret")} {
		_, err = loadKey(path, "", pass)
		wantErr(t, err, keys.ErrPassphrase)
	}

	// A root key does not become a timestamp key by an edit of the unencrypted members.
	edit(t, path, `"vendor root"`, `"timestamp"`)
	_, err = loadKey(path, "timestamp", count)
	wantErr(t, err, keys.ErrFile)
	edit(t, path, `"timestamp"`, `"vendor root"`)

	// A change of the encrypted part is reported as a wrong passphrase; a change of the
	// format is not.
	edit(t, path, `"WsgwMG7X`, `"XsgwMG7X`)
	_, err = loadKey(path, "", count)
	wantErr(t, err, keys.ErrPassphrase)
	for _, x := range [][2]string{{`"N": 32768`, `"N": 1073741824`}, {"scrypt", "none"}, {"nacl/secretbox", "none"}, {"P8xn", ""}} {
		edit(t, path, x[0], x[1])
		_, err = loadKey(path, "", count)
		wantErr(t, err, keys.ErrFile)
		rawtuf.NoErr(t, os.WriteFile(path, []byte(keyFileV1), 0o600))
	}
}

// loadKey opens a key file for a purpose.
func loadKey(path, purpose string, pass func() ([]byte, error)) (tuf.Signer, error) {
	opts := &keys.Options{Purpose: purpose}
	if pass != nil {
		opts.Passphrase = func(_ context.Context, uri string) ([]byte, error) {
			if uri != keys.FileURI(path) {
				return nil, errors.New("asked for " + uri)
			}
			return pass()
		}
	}
	return keys.Open(context.Background(), keys.FileURI(path), opts)
}

func passphrase(p string) func() ([]byte, error) {
	return func() ([]byte, error) { return []byte(p), nil }
}

func TestKeyFilePlain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "dev.key")
	made, err := keys.UnsafeGeneratePlain(path, "review-agent")
	rawtuf.NoErr(t, err)
	for _, label := range []string{"", "review-agent"} {
		loaded, err := loadKey(path, label, func() ([]byte, error) {
			t.Error("asked for the passphrase of a file without one")
			return nil, nil
		})
		rawtuf.NoErr(t, err)
		sameKey(t, made, loaded)
	}
	for _, label := range []string{"Review-agent", "review-agent ", "review", "timestamp"} {
		_, err = loadKey(path, label, nil)
		wantErr(t, err, keys.ErrPurpose)
	}
	rawtuf.OnDisk(t, dir, "dev.key")
}

func TestKeyFileNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	rawtuf.NoErr(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err := keys.UnsafeGeneratePlain(path, "x")
	wantErr(t, err, fs.ErrExist)
	if data, _ := os.ReadFile(path); string(data) != "precious" {
		t.Errorf("overwritten: %q", data)
	}
	_, err = keys.UnsafeGeneratePlain(filepath.Join(dir, "none", "k"), "x")
	wantErr(t, err, fs.ErrNotExist)
	rawtuf.OnDisk(t, dir, "k")
}

func TestKeyFileArguments(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	for _, empty := range [][]byte{nil, {}} {
		_, err := keys.Generate(path, "x", empty)
		wantErr(t, err, keys.ErrPassphrase)
		if !strings.Contains(err.Error(), "UnsafeGeneratePlain") {
			t.Errorf("the error does not name the remedy: %v", err)
		}
	}
	for _, label := range []string{"", " x", "x ", "a\nb", "a\x00b", "\xff", "a\u202eb", strings.Repeat("x", 101)} {
		_, err := keys.UnsafeGeneratePlain(path, label)
		wantErr(t, err, fs.ErrInvalid)
	}
	rawtuf.OnDisk(t, dir)
}

func TestKeyFileExposed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("mode bits have no meaning on Windows")
	}
	path := filepath.Join(t.TempDir(), "k")
	_, err := keys.UnsafeGeneratePlain(path, "x")
	rawtuf.NoErr(t, err)
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o601, 0o777} {
		rawtuf.NoErr(t, os.Chmod(path, mode))
		_, err = loadKey(path, "x", nil)
		wantErr(t, err, keys.ErrExposed)
		if _, _, err := keys.ReadPublic(path); err != nil {
			t.Errorf("public half: %v", err)
		}
	}
	for _, mode := range []fs.FileMode{0o600, 0o400, 0o700} {
		rawtuf.NoErr(t, os.Chmod(path, mode))
		_, err = loadKey(path, "x", nil)
		rawtuf.NoErr(t, err)
	}
}

func TestKeyFileDamaged(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	_, err := keys.UnsafeGeneratePlain(good, "label-x")
	rawtuf.NoErr(t, err)
	other := filepath.Join(dir, "other")
	foreign, err := keys.UnsafeGeneratePlain(other, "label-x")
	rawtuf.NoErr(t, err)
	data, err := os.ReadFile(good)
	rawtuf.NoErr(t, err)
	key, _, err := keys.ReadPublic(good)
	rawtuf.NoErr(t, err)

	bad := filepath.Join(dir, "bad")
	for name, s := range map[string]string{
		"empty":           "",
		"no JSON":         "key",
		"no object":       "[]",
		"empty object":    "{}",
		"cut":             string(data[:len(data)/2]),
		"not PEM":         "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n",
		"empty PEM":       "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n",
		"empty OpenSSH":   "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n",
		"certificate":     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"encrypted PKCS8": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
		"huge":            strings.Repeat(" ", 1<<20) + string(data),
		"other type":      strings.Replace(string(data), "visum-key", "other", 1),
		"later version":   strings.Replace(string(data), `"version": 1`, `"version": 2, "more": 3`, 1),
		"unknown member":  strings.Replace(string(data), `"version": 1`, `"version": 1, "more": 3`, 1),
		"no label":        strings.Replace(string(data), "label-x", "", 1),
		"unusable scheme": strings.Replace(string(data), `"scheme": "ed25519"`, `"scheme": "rsa"`, 1),
		"neither":         strings.Replace(string(data), `"plain": {`, `"plain": null, "x": {`, 1),
		"both":            strings.Replace(string(data), `"plain"`, `"encrypted": {}, "plain"`, 1),
	} {
		rawtuf.NoErr(t, os.WriteFile(bad, []byte(s), 0o600))
		_, err := loadKey(bad, "", func() ([]byte, error) { return []byte("x"), nil })
		if !errors.Is(err, keys.ErrFile) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: Open: %v", name, err)
		}
		if _, _, err := keys.ReadPublic(bad); !errors.Is(err, keys.ErrFile) {
			t.Errorf("%s: ReadPublic: %v", name, err)
		}
	}
	// These faults can be detected only with the private half.
	for name, s := range map[string]string{
		"label changed outside": strings.Replace(string(data), "label-x", "label-y", 1),
		"another public key":    strings.Replace(string(data), key.Public, foreign.Key().Public, 1),
		"no private key":        strings.Replace(string(data), `"private": "`, `"private": "AAAA`, 1),
	} {
		rawtuf.NoErr(t, os.WriteFile(bad, []byte(s), 0o600))
		if _, err := loadKey(bad, "", nil); !errors.Is(err, keys.ErrFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = loadKey(filepath.Join(dir, "none"), "", nil)
	wantErr(t, err, fs.ErrNotExist)
	_, _, err = keys.ReadPublic(filepath.Join(dir, "none"))
	wantErr(t, err, fs.ErrNotExist)
}

func TestForeignKeys(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rawtuf.NoErr(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rawtuf.NoErr(t, err)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	rawtuf.NoErr(t, err)
	path := filepath.Join(t.TempDir(), "k")

	for name, private := range map[string]crypto.Signer{"ed25519": ed, "P-256": p256, "P-384": p384, "RSA": rsaKey} {
		want, err := tuf.NewSigner(private)
		rawtuf.NoErr(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		rawtuf.NoErr(t, err)
		open, err := ssh.MarshalPrivateKey(private, "a comment")
		rawtuf.NoErr(t, err)
		for form, block := range map[string]*pem.Block{"PKCS8": {Type: "PRIVATE KEY", Bytes: der}, "OpenSSH": open} {
			t.Run(name+" "+form, func(t *testing.T) {
				rawtuf.NoErr(t, os.WriteFile(path, append([]byte("some text before\n"), pem.EncodeToMemory(block)...), 0o644))
				got, err := loadKey(path, "", nil)
				rawtuf.NoErr(t, err)
				sameKey(t, want, got)
				_, err = loadKey(path, "vendor root", nil)
				wantErr(t, err, keys.ErrPurpose)
				key, label, err := keys.ReadPublic(path)
				if err != nil || key != want.Key() || label != "" {
					t.Errorf("public half: %v, %q, %v", key, label, err)
				}
			})
		}
		der, err = x509.MarshalPKIXPublicKey(private.Public())
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
		if key, _, err := keys.ReadPublic(path); err != nil || key != want.Key() {
			t.Errorf("%s: public PEM: %v, %v", name, key, err)
		}
		_, err = loadKey(path, "", nil)
		wantErr(t, err, keys.ErrFile)
	}
}

// openSSHKey was made by ssh-keygen with the passphrase "secret" and -a 1, for fast
// tests.
const openSSHKey = `-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBzYFrYEH
HzEBdN5KM8eO4fAAAAAQAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIKtqDjUbnPIaSr+0
LeE2T9o3nCpLRNZegsRmD6YGluzWAAAAkDg/p6MmXuKVNbZNnQzU+Jdgtr9FDofNvc5zrP
ReddJCj/qpZBbfq5GsGlZhXxovfLkzkyNTD4VqEBwGKU/7v4o5unARul4vUgVtb/HGS3El
iUxqj8/H7p1lYttUW41btUoUA2XIMwQh/TrwcYaMBGsqQN3kaxIdddBsLjbsoxAeQWU3S5
COJeIlQttuMKLntg==
-----END OPENSSH PRIVATE KEY-----
`

func TestOpenSSHEncrypted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "id_ed25519")
	rawtuf.NoErr(t, os.WriteFile(path, []byte(openSSHKey), 0o600))
	s, err := loadKey(path, "", passphrase("secret"))
	rawtuf.NoErr(t, err)
	sameKey(t, s, s)
	if want := "ab6a0e351b9cf21a4abfb42de1364fda379c2a4b44d65e82c4660fa60696ecd6"; s.Key().Public != want {
		t.Errorf("key %s, want %s", s.Key().Public, want)
	}
	for _, pass := range []func() ([]byte, error){nil, passphrase(""), passphrase("Secret")} {
		_, err = loadKey(path, "", pass)
		wantErr(t, err, keys.ErrPassphrase)
	}
	_, err = loadKey(path, "vendor root", func() ([]byte, error) {
		t.Error("asked for the passphrase of a key that can't be used")
		return nil, nil
	})
	wantErr(t, err, keys.ErrPurpose)
	if key, label, err := keys.ReadPublic(path); err != nil || key != s.Key() || label != "" {
		t.Errorf("public half: %v, %q, %v", key, label, err)
	}
}

// TestOpenSSHToken: the file of a security token yields an ed25519 key, but the token
// never signs a bare payload with it.
func TestOpenSSHToken(t *testing.T) {
	public := ssh.Marshal(struct {
		Type, Key, Application string
	}{"sk-ssh-ed25519@openssh.com", strings.Repeat("k", 32), "ssh:"})
	path := filepath.Join(t.TempDir(), "id_ed25519_sk")
	for _, cipher := range [][2]string{{"none", "none"}, {"aes256-ctr", "bcrypt"}} {
		data := append([]byte("openssh-key-v1\x00"), ssh.Marshal(struct {
			Cipher, KDF, Options string
			N                    uint32
			Public, Private      []byte
		}{cipher[0], cipher[1], "", 1, public, make([]byte, 64)})...)
		rawtuf.NoErr(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: data}), 0o600))
		_, _, err := keys.ReadPublic(path)
		wantErr(t, err, keys.ErrFile)
		_, err = loadKey(path, "", passphrase("x"))
		wantErr(t, err, keys.ErrFile)
	}
}

// TestForeignKeysRefused: these key types must not sign here.
func TestForeignKeysRefused(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rawtuf.NoErr(t, err)
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	rawtuf.NoErr(t, err)
	path := filepath.Join(t.TempDir(), "k")
	for name, private := range map[string]any{"P-521": p521, "RSA 1024": small} {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
		if _, err := loadKey(path, "", nil); !errors.Is(err, keys.ErrFile) {
			t.Errorf("%s: Open: %v", name, err)
		}
		if _, _, err := keys.ReadPublic(path); !errors.Is(err, keys.ErrFile) {
			t.Errorf("%s: ReadPublic: %v", name, err)
		}
	}
}

func sameKey(t *testing.T, want, got tuf.Signer) {
	t.Helper()
	if want.Key() != got.Key() {
		t.Fatalf("loaded %v, want %v", got.Key(), want.Key())
	}
	sig, err := got.Sign(t.Context(), []byte("payload"))
	rawtuf.NoErr(t, err)
	if k := want.Key(); k.Type == "ed25519" {
		pub, err := hex.DecodeString(k.Public)
		rawtuf.NoErr(t, err)
		if !ed25519.Verify(pub, []byte("payload"), sig) {
			t.Fatal("signature does not verify")
		}
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

// edit replaces the first old in a file, which must be there.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	data, err := os.ReadFile(path)
	rawtuf.NoErr(t, err)
	if !bytes.Contains(data, []byte(old)) {
		t.Fatalf("%s is not in %s", old, path)
	}
	data = bytes.Replace(data, []byte(old), []byte(new), 1)
	if !json.Valid(data) {
		t.Fatal("edit broke the JSON")
	}
	rawtuf.NoErr(t, os.WriteFile(path, data, 0o600))
}

// The key files that openssl and ssh-keygen write are read as they are.
func TestKeysOfOtherTools(t *testing.T) {
	t.Parallel()
	openssl, keygen := rawtuf.Program(t, "openssl", "openssl"), rawtuf.Program(t, "ssh-keygen", "openssh-client")
	path := filepath.Join(t.TempDir(), "k")
	for _, kind := range [][]string{{"-algorithm", "ed25519"}, {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}} {
		rawtuf.Run(t, "", openssl, append(append([]string{"genpkey"}, kind...), "-out", path)...)
		s, err := loadKey(path, "", nil)
		rawtuf.NoErr(t, err)
		public := rawtuf.Run(t, "", openssl, "pkey", "-in", path, "-pubout")
		block, _ := pem.Decode([]byte(public))
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		rawtuf.NoErr(t, err)
		if want, err := tuf.NewKey(pub); err != nil || s.Key() != want {
			t.Errorf("%q: %v, want %v", kind, s.Key(), want)
		}
	}
	for _, pass := range []string{"", "secret"} {
		rawtuf.NoErr(t, os.RemoveAll(path))
		rawtuf.Run(t, "", keygen, "-q", "-t", "ed25519", "-N", pass, "-a", "1", "-f", path)
		s, err := loadKey(path, "", passphrase(pass))
		rawtuf.NoErr(t, err)
		sameKey(t, s, s)
	}
}
