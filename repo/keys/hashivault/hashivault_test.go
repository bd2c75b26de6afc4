package hashivault_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/hashivault"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

func token(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

func (v *transit) config() hashivault.Config {
	return hashivault.Config{Address: v.URL, Namespace: namespace, Token: token(goodToken)}
}

func open(ctx context.Context, uri, purpose string, cfg hashivault.Config) (tuf.Signer, error) {
	return keys.Open(ctx, uri, &keys.Options{Purpose: purpose, Openers: map[string]keys.Opener{"hashivault": hashivault.Opener(cfg)}})
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestTransit(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ed25519", "ecdsa-p256", "ecdsa-p384"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newTransit(t, "transit")
			v.add("vendor-root", kind)
			const other = "hvs.other-secret"
			failures := map[string]func(*testing.T) error{
				"other token": func(t *testing.T) error {
					cfg := v.config()
					cfg.Token = token(other)
					_, err := open(t.Context(), "hashivault://vendor-root", "", cfg)
					wantErr(t, err, fs.ErrPermission)
					return err
				},
			}
			for fault, want := range map[string]error{
				"denied": fs.ErrPermission, "overloaded": hashivault.ErrUnavailable, "sealed": hashivault.ErrUnavailable,
				"stale": hashivault.ErrUnavailable, "proxy": hashivault.ErrUnavailable, "redirect": nil, "not JSON": nil,
				"large": nil, "cut": nil, "wrong signature": nil, "other version": nil, "not base64": nil,
			} {
				failures[fault] = func(t *testing.T) error {
					s, err := open(t.Context(), "hashivault://vendor-root", "", v.config())
					rawtuf.NoErr(t, err)
					v.setFault(fault)
					defer v.setFault("")
					sig, err := s.Sign(t.Context(), []byte("payload"))
					if sig != nil {
						t.Errorf("%s: a signature", fault)
					}
					if want != nil {
						wantErr(t, err, want)
					}
					if !strings.HasPrefix(err.Error(), "keys: hashivault vendor-root: ") {
						t.Error(err)
					}
					return err
				}
			}
			keystest.Run(t, keystest.Store{
				Open: func(ctx context.Context) (tuf.Signer, error) {
					return open(ctx, "hashivault://vendor-root", "", v.config())
				},
				Secrets: []string{goodToken, other},
				Block: func(*testing.T) (<-chan struct{}, func()) {
					v.setFault("hang")
					return v.reached, func() { v.setFault("") }
				},
				Failures: failures,
			})
		})
	}
}

// Messages state what the server said, in one line.
func TestMessages(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	v.add("k", "ed25519")
	s, err := open(t.Context(), "hashivault://k", "", v.config())
	rawtuf.NoErr(t, err)
	for fault, want := range map[string]string{
		"sealed":   `status 503: the server can't answer now: "Vault is sealed"`,
		"denied":   `status 403: permission denied: "permission denied"`,
		"proxy":    `[token]`,
		"redirect": "a redirection is not followed",
		"large":    "larger than 1024 KiB",
	} {
		v.setFault(fault)
		if _, err := s.Sign(t.Context(), []byte("x")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", fault, err, want)
		}
	}
	v.setFault("")
	v.mu.Lock()
	delete(v.keys, "k")
	v.mu.Unlock()
	_, err = s.Sign(t.Context(), []byte("x"))
	wantErr(t, err, fs.ErrNotExist)
}

// A signer continues with its version after a rotation.
func TestVersionIsPinned(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "team/transit")
	v.add("k", "ecdsa-p256")
	const uri = "hashivault://k?mount=team/transit"
	first, err := open(t.Context(), uri, "", v.config())
	rawtuf.NoErr(t, err)
	v.add("k", "ecdsa-p256")
	second, err := open(t.Context(), uri, "", v.config())
	rawtuf.NoErr(t, err)
	named, err := open(t.Context(), uri+"&version=1", "", v.config())
	rawtuf.NoErr(t, err)
	if first.Key() == second.Key() || named.Key() != first.Key() {
		t.Error("the versions are not those that were opened")
	}
	for _, s := range []tuf.Signer{first, second, named} {
		sig, err := s.Sign(t.Context(), []byte("x"))
		if err != nil || !s.Key().Verifies([]byte("x"), sig) {
			t.Error(err)
		}
	}
	_, err = open(t.Context(), uri+"&version=3", "", v.config())
	wantErr(t, err, fs.ErrNotExist)
	_, err = open(t.Context(), "hashivault://k", "", v.config()) // another engine
	wantErr(t, err, fs.ErrNotExist)
}

func TestKeysThatCannotSign(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	for _, kind := range []string{"ecdsa-p521", "aes256-gcm96", "rsa-2048", "managed_key"} {
		v.add(kind, kind)
		_, err := open(t.Context(), "hashivault://"+kind, "", v.config())
		wantErr(t, err, keys.ErrKind)
	}
	v.add("derived", "ed25519")
	v.keys["derived"].derived = true
	_, err := open(t.Context(), "hashivault://derived", "", v.config())
	wantErr(t, err, keys.ErrKind)
	v.add("mixed", "ed25519")
	v.keys["mixed"].kind = "ecdsa-p256" // the public key is no PEM
	v.add("mixed", "ed25519")
	v.keys["mixed"].kind = "ecdsa-p384"
	_, err = open(t.Context(), "hashivault://none", "", v.config())
	wantErr(t, err, fs.ErrNotExist)
}

func TestPurpose(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	v.add("vendor-root", "ed25519")
	_, err := open(t.Context(), "hashivault://vendor-root", "vendor-root", v.config())
	rawtuf.NoErr(t, err)
	_, err = open(t.Context(), "hashivault://vendor-root", "timestamp", v.config())
	wantErr(t, err, keys.ErrPurpose)
}

func TestURI(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	v.add("a.b_c-1", "ed25519")
	for _, bad := range []string{"hashivault:k", "hashivault://", "hashivault://a/b", "hashivault://..", "hashivault://%2e%2e", "hashivault://k%2f", "hashivault://k?mount=", "hashivault://k?mount=../sys",
		"hashivault://k?mount=a&mount=b", "hashivault://k?version=0", "hashivault://k?version=x", "hashivault://k?token=x", "hashivault://k#x", "hashivault://k?mount=%zz"} {
		_, err := open(t.Context(), bad, "", v.config())
		if err == nil {
			t.Errorf("%s: no error", bad)
		}
		wantErr(t, err, fs.ErrInvalid)
	}
	_, err := open(t.Context(), "HashiVault://a.b_c-1?mount=transit&version=1", "", v.config())
	rawtuf.NoErr(t, err)
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "vault.example:8200", "127.0.0.1:8200", "http://vault.example:8200", "https://ann:hunter2@vault.example", "https://vault.example?x=hunter2", "ftp://vault.example", "://hunter2"} {
		_, err := open(t.Context(), "hashivault://k", "", hashivault.Config{Address: bad, Token: token(goodToken)})
		wantErr(t, err, fs.ErrInvalid)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error has the password: %v", err)
		}
	}
	// The transport of the test answers instead of another machine.
	v := newTransit(t, "transit")
	v.add("k", "ed25519")
	cfg := v.config()
	cfg.Address, cfg.UnsafeHTTP = "http://vault.example/proxy", true
	asked := ""
	cfg.Client = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.String()
		return nil, errors.New("no route")
	})}
	_, err := open(t.Context(), "hashivault://k", "", cfg)
	if asked != "http://vault.example/proxy/v1/transit/keys/k" || err == nil || !strings.HasSuffix(err.Error(), "server vault.example: no route") {
		t.Errorf("%q, %v", asked, err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The client's own limit ends a request too.
func TestTimeout(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	v.add("k", "ed25519")
	cfg := v.config()
	v.setFault("hang")
	cfg.Client = &http.Client{Timeout: 20 * time.Millisecond}
	_, err := open(t.Context(), "hashivault://k", "", cfg)
	wantErr(t, err, context.DeadlineExceeded)
}

func TestToken(t *testing.T) {
	t.Parallel()
	v := newTransit(t, "transit")
	v.add("k", "ed25519")
	cfg := v.config()
	broken := errors.New("agent is down")
	for name, fn := range map[string]func(context.Context) (string, error){
		"nil": nil, "empty": token(" \n"), "two lines": token("hunter2\nX-Other: y"), "not ASCII": token("hunter2\u00e9"), "long": token(strings.Repeat("hunter2", 4000)),
		"error": func(context.Context) (string, error) { return "", broken }, "no file": hashivault.TokenFile(filepath.Join(t.TempDir(), "none")),
	} {
		cfg.Token = fn
		_, err := open(t.Context(), "hashivault://k", "", cfg)
		wantErr(t, err, hashivault.ErrNoToken)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "error" {
			wantErr(t, err, broken)
		}
		if name == "no file" {
			wantErr(t, err, fs.ErrNotExist)
		}
	}

	// A renewed token is used without opening the key again.
	path := filepath.Join(t.TempDir(), ".vault-token")
	rawtuf.NoErr(t, os.WriteFile(path, []byte(goodToken+"\n"), 0o600))
	cfg.Token = hashivault.TokenFile(path)
	s, err := open(t.Context(), "hashivault://k", "", cfg)
	rawtuf.NoErr(t, err)
	rawtuf.NoErr(t, os.WriteFile(path, []byte("hvs.expired"), 0o600))
	_, err = s.Sign(t.Context(), []byte("x"))
	wantErr(t, err, fs.ErrPermission)
	rawtuf.NoErr(t, os.WriteFile(path, []byte(goodToken), 0o600))
	_, err = s.Sign(t.Context(), []byte("x"))
	rawtuf.NoErr(t, err)
}

func TestFromEnv(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(home, ".vault-token"), []byte("from file\n"), 0o600))
	read := map[string]bool{}
	from := func(env map[string]string) (hashivault.Config, error) {
		return hashivault.FromEnv(func(name string) string { read[name] = true; return env[name] })
	}
	cfg, err := from(map[string]string{"VAULT_ADDR": "https://v:8200", "VAULT_NAMESPACE": "n", "VAULT_TOKEN": "t", "HOME": home})
	rawtuf.NoErr(t, err)
	if got, err := cfg.Token(t.Context()); err != nil || got != "t" || cfg.Address != "https://v:8200" || cfg.Namespace != "n" || cfg.UnsafeHTTP || cfg.Client != nil {
		t.Errorf("%q, %v, %+v", got, err, cfg)
	}
	for _, variable := range []string{"HOME", "USERPROFILE"} {
		cfg, err = from(map[string]string{"VAULT_ADDR": "https://v:8200", variable: home})
		rawtuf.NoErr(t, err)
		if got, err := cfg.Token(t.Context()); err != nil || got != "from file\n" {
			t.Errorf("%q, %v", got, err)
		}
	}
	_, err = from(nil)
	wantErr(t, err, fs.ErrInvalid)
	_, err = from(map[string]string{"VAULT_ADDR": "https://v:8200"})
	wantErr(t, err, hashivault.ErrNoToken)
	for name := range read {
		switch name {
		case "VAULT_ADDR", "VAULT_NAMESPACE", "VAULT_TOKEN", "HOME", "USERPROFILE":
		default:
			t.Errorf("reads %s, which is not documented", name)
		}
	}
}
