package pkcs11

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

// fakeModule is the module of the helper in these tests, which is this test program.
const fakeModule = "/fake/module.so"

// testKey is the same key in both processes.
func testKey() *ecdsa.PrivateKey {
	der, err := hex.DecodeString("30770201010420" + strings.Repeat("11", 32) + "a00a06082a8648ce3d030107a14403420004" +
		"0217e617f0b6443928278f96999e69a23a4f2c152bdf6d6cdf66e5b80282d4ed194a7debcb97712d2dda3ca85aa8765a56f45fc758599652f2897c65306e5794")
	if err != nil {
		panic(err)
	}
	k, err := x509.ParseECPrivateKey(der)
	if err != nil || k.Curve != elliptic.P256() {
		panic(err)
	}
	return k
}

// runHelper is the helper, or a program that behaves as role says.
func runHelper(role string) {
	f := makeFake()
	f.add(panicking{}, "root", 1, testKey(), false)
	f.add(panicking{}, "each", 2, testKey(), true)
	modules.loaded = map[string]*module{fakeModule: {driver: f, path: fakeModule, tokens: map[tokenID]*token{}}}
	fmt.Fprintln(os.Stderr, "standard error of the helper")
	out := os.Stdout
	say := func(v any) {
		if err := writeLine(out, v); err != nil {
			os.Exit(1)
		}
	}
	switch role {
	case "serve":
		if err := Serve(context.Background(), os.Stdin, out); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case "blocks": // in each signature, until it is ended
		f.reached, f.release = make(chan struct{}), make(chan struct{})
		reached := f.reached
		go func() {
			<-reached
			os.WriteFile(os.Getenv("VISUM_TEST_REACHED"), nil, 0o600)
		}()
		Serve(context.Background(), os.Stdin, out)
		return
	case "garbage":
		fmt.Fprintln(out, "PIN: ")
	case "endless":
		for {
			fmt.Fprint(out, strings.Repeat("x", 4096))
		}
	case "ends":
	case "asks":
		for range 100 {
			say(reply{Ask: &Token{Label: "card"}})
		}
		time.Sleep(time.Hour)
	case "wrong key":
		say(reply{Key: &tuf.Key{Type: "ed25519", Scheme: "ed25519", Public: "00"}})
		time.Sleep(time.Hour)
	case "no key":
		say(reply{})
		time.Sleep(time.Hour)
	case "long error":
		say(reply{Error: "\x1b[2J" + strings.Repeat("x", 100000), Kinds: []string{"pin", "other"}})
		time.Sleep(time.Hour)
	case "wrong signature":
		key, _ := tuf.NewKey(testKey().Public())
		say(reply{Key: &key})
		say(reply{Key: &key, Signature: []byte("signature")})
		time.Sleep(time.Hour)
	}
}

type panicking struct{ testing.TB }

func (panicking) Helper() {}

func helperConfig(t *testing.T, role string, p *pins) Config {
	t.Helper()
	self, err := os.Executable()
	rawtuf.NoErr(t, err)
	return Config{Helper: self, Module: fakeModule, PIN: p.ask, Env: []string{"VISUM_TEST_HELPER=" + role, "VISUM_TEST_REACHED=" + filepath.Join(t.TempDir(), "reached")}}
}

// opener returns a function that opens with one opener, so with one helper.
func opener(cfg Config) func(ctx context.Context, uri, purpose string) (tuf.Signer, error) {
	opts := &keys.Options{Openers: map[string]keys.Opener{"pkcs11": Opener(cfg)}}
	return func(ctx context.Context, uri, purpose string) (tuf.Signer, error) {
		o := *opts
		o.Purpose = purpose
		return keys.Open(ctx, uri, &o)
	}
}

func TestHelper(t *testing.T) {
	t.Parallel()
	for _, label := range []string{"root", "each"} {
		p := &pins{answers: []string{fakePIN}}
		open := opener(helperConfig(t, "serve", p))
		keystest.Run(t, keystest.Store{
			Open:    func(ctx context.Context) (tuf.Signer, error) { return open(ctx, "pkcs11:object="+label, label) },
			Secrets: []string{fakePIN, "11111111"},
			Failures: map[string]func(*testing.T) error{
				"no key": func(t *testing.T) error {
					_, err := open(t.Context(), "pkcs11:object=none", "")
					wantErr(t, err, fs.ErrNotExist)
					return err
				},
				"no token": func(t *testing.T) error {
					_, err := open(t.Context(), "pkcs11:token=none", "")
					wantErr(t, err, ErrNotPresent)
					return err
				},
				"several": func(t *testing.T) error {
					_, err := open(t.Context(), "pkcs11:", "")
					wantErr(t, err, ErrAmbiguous)
					return err
				},
				"purpose": func(t *testing.T) error {
					_, err := open(t.Context(), "pkcs11:object=root", "online")
					wantErr(t, err, keys.ErrPurpose)
					return err
				},
				"wrong PIN": func(t *testing.T) error {
					wrong := &pins{answers: []string{"11111111"}}
					s, err := opener(helperConfig(t, "serve", wrong))(t.Context(), "pkcs11:object="+label, "")
					rawtuf.NoErr(t, err)
					for range 3 {
						_, err = s.Sign(t.Context(), []byte("payload"))
						wantErr(t, err, ErrPIN)
						wantErr(t, err, keys.ErrPassphrase)
					}
					if about := wrong.asked[2]; !about.PINCountLow || about.PINFinalTry { // presented once
						t.Errorf("%+v", about)
					}
					return err
				},
			},
		})
		if p.count() != 1 {
			t.Errorf("asked %d times", p.count())
		}
	}
}

// Keys of one opener share a helper, and thereby a login.
func TestHelperIsShared(t *testing.T) {
	t.Parallel()
	p := &pins{answers: []string{fakePIN}}
	cfg := helperConfig(t, "serve", p)
	open := opener(cfg)
	for _, label := range []string{"root", "each", "root"} {
		s, err := open(t.Context(), "pkcs11:object="+label, "")
		rawtuf.NoErr(t, err)
		_, err = s.Sign(t.Context(), []byte("payload"))
		rawtuf.NoErr(t, err)
	}
	if p.count() != 1 {
		t.Errorf("asked %d times", p.count())
	}
	tokens, err := List(t.Context(), "pkcs11:", cfg)
	if err != nil || len(tokens) != 1 || len(tokens[0].Keys) != 2 || tokens[0].Keys[1].Kind != "P-256" || tokens[0].Module != fakeModule {
		t.Errorf("%+v, %v", tokens, err)
	}
	// The error of the question is what the caller gets, not that of the helper.
	boom := errors.New("no terminal")
	cfg.PIN = func(context.Context, Token) ([]byte, error) { return nil, boom }
	s, err := opener(cfg)(t.Context(), "pkcs11:object=root", "")
	rawtuf.NoErr(t, err)
	_, err = s.Sign(t.Context(), []byte("payload"))
	wantErr(t, err, boom)
}

// When the context ends, the helper is ended, although the token does not answer.
func TestHelperBlocks(t *testing.T) {
	t.Parallel()
	cfg := helperConfig(t, "blocks", &pins{answers: []string{fakePIN}})
	s, err := opener(cfg)(t.Context(), "pkcs11:object=root", "")
	rawtuf.NoErr(t, err)
	reached := strings.TrimPrefix(cfg.Env[1], "VISUM_TEST_REACHED=")
	for range 2 { // the second time in another process
		os.Remove(reached)
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error, 1)
		go func() {
			_, err := s.Sign(ctx, []byte("payload"))
			failed <- err
		}()
		for {
			if _, err := os.Stat(reached); err == nil {
				break
			}
			select {
			case err := <-failed:
				t.Fatal(err)
			case <-time.After(time.Millisecond):
			}
		}
		cancel()
		wantErr(t, <-failed, context.Canceled)
	}
}

func TestHelperMisbehaves(t *testing.T) {
	t.Parallel()
	for role, want := range map[string]string{
		"garbage": "not a line of the protocol", "endless": "a line of more than 1048576 bytes", "ends": `"standard error of the helper"`,
		"asks": "again and again", "wrong key": "can't sign metadata", "no key": "no public key", "long error": `\x1b[2Jxxx`,
	} {
		_, err := opener(helperConfig(t, role, &pins{answers: []string{fakePIN}}))(t.Context(), "pkcs11:object=root", "")
		if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 5000 || strings.Contains(err.Error(), fakePIN) {
			t.Errorf("%s: %v", role, err)
		}
		if role == "long error" {
			wantErr(t, err, ErrPIN)
		}
	}
	s, err := opener(helperConfig(t, "wrong signature", &pins{answers: []string{fakePIN}}))(t.Context(), "pkcs11:object=root", "")
	rawtuf.NoErr(t, err)
	_, err = s.Sign(t.Context(), []byte("payload"))
	wantErr(t, err, store.ErrSignature)
	_, err = s.Sign(t.Context(), make([]byte, maxPayload+1))
	wantErr(t, err, fs.ErrInvalid)
	for _, path := range []string{"visum-pkcs11", "./visum-pkcs11", filepath.Join(t.TempDir(), "visum-pkcs11")} {
		_, err = opener(Config{Helper: path, Module: fakeModule})(t.Context(), "pkcs11:", "")
		wantErr(t, err, ErrHelper)
		if strings.HasPrefix(path, "/") && !strings.Contains(err.Error(), "go install github.com/visum-dev/visum/cmd/visum-pkcs11") {
			t.Error(err)
		}
	}
}

// The helper ends with its input, and refuses what is not a request.
func TestServe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "", "\n": "request: not a line", "{}": "EOF", `{"op":"pin","pin":"MTIzNA=="}` + "\n": "", `{"op":"open","uri":"pkcs11:x=1"}` + "\n": "", `{"op":1234}` + "\n": "not a line"} {
		var out bytes.Buffer
		err := Serve(t.Context(), strings.NewReader(in), &out)
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
		var r reply
		if strings.HasPrefix(in, `{"op":"`) && (json.Unmarshal(out.Bytes(), &r) != nil || len(r.Kinds) != 1 || r.Kinds[0] != "invalid") {
			t.Errorf("%q: %s", in, out.Bytes())
		}
	}
}
