//go:build cgo

package pkcs11

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

// softHSM is SoftHSM with tokens of the names "kinds" (a key of each kind), "pull" and
// "wrong" (a P-256 key each). A process initializes a module once, so all tests share it.
type softHSM struct {
	module, dir, util, tool string
}

const (
	hsmPIN      = "31415926"
	hsmWrongPIN = "16180339"
)

var hsmKinds = map[string]string{"ed25519": "EC:edwards25519", "P-256": "EC:prime256v1", "P-384": "EC:secp384r1", "RSA 2048": "rsa:2048"}

var shared struct {
	sync.Once
	hsm *softHSM
}

func newSoftHSM(t *testing.T) *softHSM {
	t.Helper()
	util := rawtuf.Program(t, "softhsm2-util", "Debian's softhsm2")
	tool := rawtuf.Program(t, "pkcs11-tool", "Debian's opensc")
	module := ""
	for _, dir := range []string{"/usr/lib/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm", "/opt/homebrew/lib/softhsm"} {
		if _, err := os.Stat(dir + "/libsofthsm2.so"); err == nil {
			module = dir + "/libsofthsm2.so"
			break
		}
	}
	if module == "" {
		rawtuf.Missing(t, "no libsofthsm2.so: install Debian's softhsm2")
	}
	shared.Do(func() {
		h := &softHSM{module, filepath.Join(tempDir, "tokens"), util, tool}
		rawtuf.NoErr(t, os.Mkdir(h.dir, 0o700))
		conf := filepath.Join(tempDir, "softhsm2.conf")
		rawtuf.NoErr(t, os.WriteFile(conf, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", h.dir), 0o600))
		rawtuf.NoErr(t, os.Setenv("SOFTHSM2_CONF", conf)) // of the module, and of programs
		for _, label := range []string{"kinds", "pull", "wrong"} {
			h.run(t, util, "--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", hsmPIN)
			if label != "kinds" {
				h.generate(t, label, "EC:prime256v1", "root", 1)
			}
		}
		for i, kind := range []string{"ed25519", "P-256", "P-384", "RSA 2048"} {
			h.generate(t, "kinds", hsmKinds[kind], kind, i+1)
			h.generate(t, "kinds", hsmKinds[kind], kind+" each", i+11, "--always-auth")
		}
		h.generate(t, "kinds", "EC:secp521r1", "P-521", 30)
		shared.hsm = h
	})
	if shared.hsm == nil {
		t.Fatal("SoftHSM could not be set up")
	}
	return shared.hsm
}

func (h *softHSM) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(name), err, out)
	}
	return string(out)
}

func (h *softHSM) generate(t *testing.T, token, kind, label string, id int, more ...string) {
	t.Helper()
	h.run(t, h.tool, append([]string{"--module", h.module, "--token-label", token, "--login", "--pin", hsmPIN, "--keypairgen", "--key-type", kind, "--id", fmt.Sprintf("%02d", id), "--label", label}, more...)...)
}

func (h *softHSM) open(ctx context.Context, attributes string, cfg Config) (tuf.Signer, error) {
	cfg.Module = h.module
	return keys.Open(ctx, "pkcs11:"+attributes, &keys.Options{Openers: map[string]keys.Opener{"pkcs11": Opener(cfg)}})
}

func right() *pins { return &pins{answers: []string{hsmPIN}} }

// The examiner signs a root and a role with a key of each kind, and go-tuf verifies them.
func TestSoftHSM(t *testing.T) {
	h := newSoftHSM(t)
	for kind := range hsmKinds {
		for _, each := range []string{"", "%20each"} {
			t.Run(kind+strings.TrimPrefix(each, "%20"), func(t *testing.T) {
				object := "token=kinds;object=" + strings.ReplaceAll(kind, " ", "%20") + each
				keystest.Run(t, keystest.Store{
					Open:    func(ctx context.Context) (tuf.Signer, error) { return h.open(ctx, object, Config{PIN: right().ask}) },
					Secrets: []string{hsmPIN, hsmWrongPIN},
					Failures: map[string]func(*testing.T) error{
						"no token": func(t *testing.T) error {
							_, err := h.open(t.Context(), "token=none", Config{PIN: right().ask})
							wantErr(t, err, ErrNotPresent)
							return err
						},
						"no key": func(t *testing.T) error {
							_, err := h.open(t.Context(), "token=kinds;object=none", Config{PIN: right().ask})
							wantErr(t, err, fs.ErrNotExist)
							return err
						},
						"several": func(t *testing.T) error {
							_, err := h.open(t.Context(), "token=kinds", Config{PIN: right().ask})
							wantErr(t, err, ErrAmbiguous)
							return err
						},
						"P-521": func(t *testing.T) error {
							_, err := h.open(t.Context(), "token=kinds;object=P-521", Config{PIN: right().ask})
							wantErr(t, err, keys.ErrKind)
							return err
						},
						"no module": func(t *testing.T) error {
							_, err := openWith(t.Context(), "token=kinds", "/none.so", "", Config{PIN: right().ask})
							wantErr(t, err, ErrModule)
							return err
						},
						"not a module": func(t *testing.T) error {
							_, err := openWith(t.Context(), "token=kinds", writeFile(t, "x.so", "no"), "", Config{PIN: right().ask})
							wantErr(t, err, ErrModule)
							return err
						},
					},
				})
			})
		}
	}
}

// The salt of RSA-PSS is as long as the hash, as TUF's scheme has it; verifiers that
// accept other lengths would not show that.
func TestSoftHSMSalt(t *testing.T) {
	h := newSoftHSM(t)
	s, err := h.open(t.Context(), "token=kinds;object=RSA%202048", Config{PIN: right().ask})
	rawtuf.NoErr(t, err)
	sig, err := s.Sign(t.Context(), []byte("payload"))
	rawtuf.NoErr(t, err)
	block, _ := pem.Decode([]byte(s.Key().Public))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	rawtuf.NoErr(t, err)
	digest := sha256.Sum256([]byte("payload"))
	rawtuf.NoErr(t, rsa.VerifyPSS(public.(*rsa.PublicKey), crypto.SHA256, digest[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
}

// Sessions of many goroutines, of all kinds and with both uses of the PIN, in one login.
func TestSoftHSMConcurrent(t *testing.T) {
	h := newSoftHSM(t)
	var all sync.WaitGroup
	for kind := range hsmKinds {
		for _, each := range []string{"", "%20each"} {
			s, err := h.open(t.Context(), "token=kinds;object="+strings.ReplaceAll(kind, " ", "%20")+each, Config{PIN: right().ask})
			rawtuf.NoErr(t, err)
			for i := range 2 {
				all.Go(func() {
					for j := range 3 {
						payload := []byte{byte(i), byte(j)}
						if sig, err := s.Sign(t.Context(), payload); err != nil || !s.Key().Verifies(payload, sig) {
							t.Errorf("%s: %v", kind, err)
						}
					}
				})
			}
		}
	}
	all.Wait()
}

// The directory of a token is moved away and back, while another token stays.
func TestSoftHSMRemovedAndInserted(t *testing.T) {
	h := newSoftHSM(t)
	dir := h.tokenDir(t, "pull")
	p := right()
	s, err := h.open(t.Context(), "token=pull", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	other, err := h.open(t.Context(), "token=kinds;object=P-256", Config{PIN: right().ask})
	rawtuf.NoErr(t, err)
	sign := func(s tuf.Signer) error {
		sig, err := s.Sign(t.Context(), []byte("payload"))
		if err == nil && !s.Key().Verifies([]byte("payload"), sig) {
			t.Error("the signature does not verify")
		}
		return err
	}
	rawtuf.NoErr(t, sign(s))
	asked := p.count()
	for range 2 {
		away := filepath.Join(tempDir, "away")
		rawtuf.NoErr(t, os.Rename(dir, away))
		wantErr(t, sign(s), ErrNotPresent)
		_, err = h.open(t.Context(), "token=pull", Config{PIN: p.ask})
		wantErr(t, err, ErrNotPresent)
		rawtuf.NoErr(t, sign(other))
		rawtuf.NoErr(t, os.Rename(away, dir))
		if err := sign(s); err != nil {
			t.Error(err)
		}
		rawtuf.NoErr(t, sign(other))
	}
	if p.count() != asked {
		t.Errorf("asked %d times more", p.count()-asked)
	}
}

// tokenDir returns the directory of a token, which its serial number ends.
func (h *softHSM) tokenDir(t *testing.T, label string) string {
	t.Helper()
	tokens, err := List(t.Context(), "pkcs11:token="+label, Config{Module: h.module})
	rawtuf.NoErr(t, err)
	all, err := os.ReadDir(h.dir)
	rawtuf.NoErr(t, err)
	for _, d := range all {
		if serial := strings.ReplaceAll(d.Name(), "-", ""); len(tokens) == 1 && strings.HasSuffix(serial, tokens[0].Serial) {
			return filepath.Join(h.dir, d.Name())
		}
	}
	t.Fatalf("no directory of token %s, %d tokens", label, len(tokens))
	return ""
}

// A wrong PIN reaches the token once, and its flag is shown before the next one.
func TestSoftHSMWrongPIN(t *testing.T) {
	h := newSoftHSM(t)
	low := func() bool {
		t.Helper()
		tokens, err := List(t.Context(), "pkcs11:token=wrong", Config{Module: h.module})
		rawtuf.NoErr(t, err)
		if len(tokens) != 1 {
			t.Fatal("no token")
		}
		// Another program sees the same flag.
		shown := strings.Contains(section(h.run(t, h.tool, "--module", h.module, "--list-slots"), "wrong"), "user PIN count low")
		if shown != tokens[0].PINCountLow {
			t.Errorf("PINCountLow %v, pkcs11-tool %v", tokens[0].PINCountLow, shown)
		}
		return shown
	}
	p := &pins{answers: []string{hsmWrongPIN, hsmWrongPIN, hsmPIN}}
	s, err := h.open(t.Context(), "token=wrong", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	// What an earlier run of this test left, with -count.
	k := s.(*signer)
	k.drop()
	k.forget()
	k.pin, k.refused = nil, map[string]bool{}
	if low() {
		t.Fatal("a wrong PIN was presented already")
	}
	for i := range 2 {
		_, err = s.Sign(t.Context(), []byte("payload"))
		wantErr(t, err, ErrPIN)
		if strings.Contains(err.Error(), hsmWrongPIN) || strings.Contains(err.Error(), "presented again") != (i == 1) {
			t.Errorf("%v", err)
		}
		if !low() {
			t.Error("the token has not seen the wrong PIN")
		}
	}
	if _, err = s.Sign(t.Context(), []byte("payload")); err != nil {
		t.Error(err)
	}
	if low() {
		t.Error("the token has not seen the correct PIN")
	}
	if len(p.asked) != 3 || p.asked[0].PINCountLow || !p.asked[2].PINCountLow {
		t.Errorf("asked %+v", p.asked)
	}
}

// section returns what pkcs11-tool prints about one token.
func section(list, label string) string {
	_, list, _ = strings.Cut(list, ": "+label+"\n")
	list, _, _ = strings.Cut(list, "Slot ")
	return list
}

func TestSoftHSMList(t *testing.T) {
	h := newSoftHSM(t)
	s, err := h.open(t.Context(), "token=kinds;object=ed25519", Config{PIN: right().ask})
	rawtuf.NoErr(t, err)
	_, err = s.Sign(t.Context(), []byte("payload")) // private keys are visible after the login
	rawtuf.NoErr(t, err)
	tokens, err := List(t.Context(), "pkcs11:token=kinds;manufacturer=SoftHSM%20project", Config{Module: h.module})
	rawtuf.NoErr(t, err)
	if len(tokens) != 1 || len(tokens[0].Keys) != 9 || tokens[0].Module != h.module {
		t.Fatalf("%+v", tokens)
	}
	for _, k := range tokens[0].Keys {
		kind, each := strings.CutSuffix(k.Label, " each")
		if k.Kind == "key on curve 1.3.132.0.35" {
			if k.Key != (tuf.Key{}) || k.Label != "P-521" {
				t.Errorf("%+v", k)
			}
			continue
		}
		if k.Kind != kind || (k.PIN == PINEach) != each || len(k.ID) != 1 {
			t.Errorf("%+v", k)
		}
		s, err := h.open(t.Context(), strings.TrimPrefix(k.URI, "pkcs11:"), Config{PIN: right().ask})
		if err != nil || s.Key() != k.Key {
			t.Errorf("%s: %v", k.URI, err)
		}
	}
}

func BenchmarkSoftHSM(b *testing.B) {
	if shared.hsm == nil {
		b.Skip("only after the tests: go test -bench .")
	}
	for kind := range hsmKinds {
		b.Run(kind, func(b *testing.B) {
			s, err := shared.hsm.open(b.Context(), "token=kinds;object="+strings.ReplaceAll(kind, " ", "%20"), Config{PIN: right().ask})
			rawtuf.NoErr(b, err)
			for b.Loop() {
				if _, err := s.Sign(b.Context(), []byte("payload")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
