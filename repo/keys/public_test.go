package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

var forms = []keys.Form{keys.FormPEM, keys.FormOpenSSH, keys.FormTUF}

// newPrivates returns one new private key of each kind that signs metadata.
func newPrivates(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rawtuf.NoErr(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rawtuf.NoErr(t, err)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	rawtuf.NoErr(t, err)
	return map[string]crypto.Signer{"ed25519": ed, "p256": p256, "p384": p384, "rsa": r}
}

func TestWritePublic(t *testing.T) {
	t.Parallel()
	for name, private := range newPrivates(t) {
		key, err := tuf.NewKey(private.Public())
		rawtuf.NoErr(t, err)
		for _, form := range forms {
			data, err := keys.WritePublic(key, form)
			rawtuf.NoErr(t, err)
			back, label, err := keys.ParsePublic(data)
			if err != nil || back != key || label != "" {
				t.Errorf("%s, %v: %v, %q, %v\n%s", name, form, back, label, err, data)
			}
			path := filepath.Join(t.TempDir(), "k")
			rawtuf.NoErr(t, os.WriteFile(path, data, 0o644))
			if back, _, err = keys.ReadPublic(path); err != nil || back != key {
				t.Errorf("%s, %v: file: %v, %v", name, form, back, err)
			}
			if data[len(data)-1] != '\n' {
				t.Errorf("%s, %v: no line break at the end", name, form)
			}
		}
		if _, err := keys.WritePublic(key, 0); err == nil || keys.Form(0).String() != "Form(0)" {
			t.Error("wrote no form")
		} else {
			wantErr(t, err, fs.ErrInvalid)
		}
	}
}

// Other encodings in metadata stay as they are in the form of TUF, and are the same key
// in the others.
func TestWritePublicOtherEncodings(t *testing.T) {
	t.Parallel()
	privates := newPrivates(t)
	var all []tuf.Key
	for name, size := range map[string]string{"p256": "256", "p384": "384"} {
		public := privates[name].Public().(*ecdsa.PublicKey)
		point, err := public.Bytes()
		rawtuf.NoErr(t, err)
		k, err := tuf.NewKey(public)
		rawtuf.NoErr(t, err)
		typed := "ecdsa-sha2-nistp" + size
		all = append(all, tuf.Key{Type: k.Type, Scheme: k.Scheme, Public: hex.EncodeToString(point)},
			tuf.Key{Type: typed, Scheme: k.Scheme, Public: k.Public},
			tuf.Key{Type: k.Type, Scheme: k.Scheme, Public: strings.TrimSpace(k.Public)},
			tuf.Key{Type: k.Type, Scheme: k.Scheme, Public: "<a & \u2028 b>\n" + k.Public})
	}
	for _, key := range all {
		print, err := key.Fingerprint()
		rawtuf.NoErr(t, err)
		for _, form := range forms {
			data, err := keys.WritePublic(key, form)
			rawtuf.NoErr(t, err)
			back, _, err := keys.ParsePublic(data)
			rawtuf.NoErr(t, err)
			if got, err := back.Fingerprint(); err != nil || got != print || form == keys.FormTUF && back != key {
				t.Errorf("%v: %v, want %v", form, back, key)
			}
		}
	}
}

func TestWritePublicRefuses(t *testing.T) {
	t.Parallel()
	key, err := tuf.NewKey(newPrivates(t)["p256"].Public())
	rawtuf.NoErr(t, err)
	unusable := key
	unusable.Scheme = "ed25519"
	notText := key
	notText.Public = "\xff\n" + key.Public
	for _, form := range forms {
		for name, k := range map[string]tuf.Key{"zero": {}, "scheme": unusable, "ed25519": {Type: "ed25519", Scheme: "ed25519", Public: strings.Repeat("00", 32)}} {
			if _, err := keys.WritePublic(k, form); err == nil {
				t.Errorf("%s, %v: no error", name, form)
			} else {
				wantErr(t, err, keys.ErrKind)
			}
		}
	}
	_, err = keys.WritePublic(notText, keys.FormTUF)
	wantErr(t, err, keys.ErrKind)
}

func TestParsePublicRefuses(t *testing.T) {
	t.Parallel()
	privates := newPrivates(t)
	key, err := tuf.NewKey(privates["ed25519"].Public())
	rawtuf.NoErr(t, err)
	text := func(form keys.Form) string {
		data, err := keys.WritePublic(key, form)
		rawtuf.NoErr(t, err)
		return strings.TrimSpace(string(data))
	}
	line, block, object := text(keys.FormOpenSSH), text(keys.FormPEM), text(keys.FormTUF)
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	rawtuf.NoErr(t, err)
	long, err := ssh.NewPublicKey(p521.Public())
	rawtuf.NoErr(t, err)
	sk := ssh.Marshal(struct {
		Type        string
		Key         []byte
		Application string
	}{"sk-ssh-ed25519@openssh.com", privates["ed25519"].Public().(ed25519.PublicKey), "ssh:"})
	for name, bad := range map[string]string{
		"empty":              "",
		"words":              "no key",
		"two lines":          line + "\n" + line,
		"line after comment": line + " a\n" + line,
		"type in the bytes":  "ssh-ed25519 " + base64.StdEncoding.EncodeToString(ssh.Marshal(struct{ Type string }{"\x1b[2J\u202e"})),
		"options":            "no-pty " + line,
		"base64":             "ssh-ed25519 AAAA%",
		"cut":                line[:len(line)-8],
		"other type":         strings.Replace(line, "ssh-ed25519", "ssh-rsa", 1),
		"token":              "sk-ssh-ed25519@openssh.com " + line[len("ssh-ed25519 "):],
		"token inside":       "ssh-ed25519 " + base64.StdEncoding.EncodeToString(sk),
		"P-521":              strings.TrimSpace(string(ssh.MarshalAuthorizedKey(long))),
		"two blocks":         block + "\n" + block,
		"private":            string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})),
		"not DER":            string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})),
		"open block":         "-----BEGIN PUBLIC KEY-----\n",
		"array":              "[" + object + "]",
		"two objects":        object + object,
		"no keyval":          `{"keytype":"ed25519","scheme":"ed25519"}`,
		"no public":          `{"keytype":"ed25519","scheme":"ed25519","keyval":{}}`,
		"number":             `{"keytype":1,"scheme":"ed25519","keyval":{"public":"00"}}`,
		"unknown type":       strings.Replace(object, `"keytype":"ed25519"`, `"keytype":"x"`, 1),
		"small order":        `{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"` + strings.Repeat("00", 32) + `"}}`,
		"duplicate":          strings.Replace(object, "{", `{"keytype":"ed25519",`, 1),
		"another case":       strings.Replace(object, "{", `{"KeyType":"ed25519",`, 1),
		"control in text":    "ssh-ed25519\x1b[2J AAAA",
		"large":              line + strings.Repeat(" ", 256<<10) + "x",
	} {
		got, label, err := keys.ParsePublic([]byte(bad))
		if err == nil || got != (tuf.Key{}) || label != "" {
			t.Errorf("%s: %v, %q, %v", name, got, label, err)
			continue
		}
		wantErr(t, err, keys.ErrFile)
		if why := rawtuf.BadText(err.Error()); why != "" {
			t.Errorf("%s: %s", name, why)
		}
		if name == "private" && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, want := range map[string]string{
		line: "", line + " ann@laptop": "ann@laptop", line + "  vendor root \n": "vendor root", line + " a\u202eb": "",
		"\n" + block + "\n\n": "", "Bag Attributes\n" + block: "", " " + object + "\n": "",
		strings.Replace(object, "{", `{"x-owner":"@ann",`, 1): "",
	} {
		got, label, err := keys.ParsePublic([]byte(text))
		if err != nil || got != key || label != want {
			t.Errorf("%q: %v, %q, %v", text, got, label, err)
		}
	}
}

// The forms are those of the programs that people use.
func TestPublicWithSSHKeygen(t *testing.T) {
	t.Parallel()
	keygen := rawtuf.Program(t, "ssh-keygen", "openssh-client")
	for _, kind := range [][]string{{"-t", "ed25519"}, {"-t", "ecdsa", "-b", "256"}, {"-t", "ecdsa", "-b", "384"}, {"-t", "rsa", "-b", "2048"}} {
		path := filepath.Join(t.TempDir(), "id")
		rawtuf.Run(t, "", keygen, append([]string{"-q", "-N", "", "-C", "vendor root", "-f", path}, kind...)...)
		private, err := keys.Open(t.Context(), keys.FileURI(path), nil)
		rawtuf.NoErr(t, err)
		key, label, err := keys.ReadPublic(path + ".pub")
		if err != nil || key != private.Key() || label != "vendor root" {
			t.Errorf("%v: %v, %q, %v", kind, key, label, err)
		}
		ours := filepath.Join(t.TempDir(), "ours.pub")
		data, err := keys.WritePublic(key, keys.FormOpenSSH)
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, os.WriteFile(ours, data, 0o600))
		want, got := rawtuf.Run(t, "", keygen, "-l", "-f", path+".pub"), rawtuf.Run(t, "", keygen, "-l", "-f", ours)
		if strings.Fields(want)[1] != strings.Fields(got)[1] {
			t.Errorf("%v: ssh-keygen reads %s, want %s", kind, got, want)
		}
		if kind[1] == "ed25519" {
			continue // ssh-keygen writes no PKIX for ed25519
		}
		pkcs8 := rawtuf.Run(t, "", keygen, "-e", "-m", "PKCS8", "-f", path+".pub")
		if key, _, err := keys.ParsePublic([]byte(pkcs8)); err != nil || key != private.Key() {
			t.Errorf("%v: PKIX: %v, %v", kind, key, err)
		}
	}
}

func TestPublicWithOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := rawtuf.Program(t, "openssl", "openssl")
	for _, kind := range [][]string{{"ed25519"}, {"EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, {"EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, {"RSA", "-pkeyopt", "rsa_keygen_bits:2048"}} {
		private := rawtuf.Run(t, "", openssl, append([]string{"genpkey", "-quiet", "-algorithm"}, kind...)...)
		theirs := rawtuf.Run(t, private, openssl, "pkey", "-pubout")
		key, _, err := keys.ParsePublic([]byte(theirs))
		rawtuf.NoErr(t, err)
		ours, err := keys.WritePublic(key, keys.FormPEM)
		rawtuf.NoErr(t, err)
		if string(ours) != theirs {
			t.Errorf("%v: wrote\n%swant\n%s", kind, ours, theirs)
		}
		if text := rawtuf.Run(t, string(ours), openssl, "pkey", "-pubin", "-noout", "-text_pub"); !strings.Contains(text, "ublic-Key") && !strings.Contains(text, "ublic key") {
			t.Errorf("%v: openssl reads %s", kind, text)
		}
	}
}

// Everything that is read can be written in every form, and is read back as the same key.
func FuzzPublic(f *testing.F) {
	for _, private := range newPrivates(f) {
		key, err := tuf.NewKey(private.Public())
		rawtuf.NoErr(f, err)
		for _, form := range forms {
			data, err := keys.WritePublic(key, form)
			rawtuf.NoErr(f, err)
			f.Add(data)
		}
		if p, ok := private.Public().(*ecdsa.PublicKey); ok {
			point, err := p.Bytes()
			rawtuf.NoErr(f, err)
			f.Add(fmt.Appendf(nil, `{"keytype":"ecdsa","scheme":%q,"keyval":{"public":"%x"}}`, key.Scheme, point))
			text, err := json.Marshal("x\u2028<\n" + key.Public)
			rawtuf.NoErr(f, err)
			f.Add(fmt.Appendf(nil, `{"keytype":"ecdsa","scheme":%q,"keyval":{"public":%s}}`, key.Scheme, text))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, label, err := keys.ParsePublic(data)
		if err != nil {
			if why := rawtuf.BadText(err.Error()); why != "" {
				t.Fatal(why)
			}
			return
		}
		if len(label) > 100 {
			t.Fatalf("label %q", label)
		}
		print, err := key.Fingerprint()
		rawtuf.NoErr(t, err)
		for _, form := range forms {
			text, err := keys.WritePublic(key, form)
			rawtuf.NoErr(t, err)
			back, label, err := keys.ParsePublic(text)
			if err != nil || label != "" {
				t.Fatalf("%v: %v, label %q\n%s", form, err, label, text)
			}
			got, err := back.Fingerprint()
			if err != nil || got != print || form == keys.FormTUF && back != key {
				t.Fatalf("%v: %+v, want %+v, %v", form, back, key, err)
			}
			again, err := keys.WritePublic(back, form)
			if err != nil || string(again) != string(text) {
				t.Fatalf("%v: wrote %q, then %q", form, text, again)
			}
		}
	})
}
