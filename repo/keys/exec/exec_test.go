//go:build unix

package exec_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/exec"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

// signScript signs with openssl: sign.sh KIND KEY. It is read by sh and never executed
// itself, because a file that a process just wrote may be "busy" for a moment. In the
// folder of the key, the file "block" makes it wait, with the fifo open.
const signScript = `set -eu
kind=$1 key=$2 dir=$(dirname "$2")
if [ "${3-}" = --public-key ]; then exec openssl pkey -in "$key" -pubout; fi
if [ -e "$dir/refuse" ]; then cat >/dev/null; echo "access denied" >&2; exit 3; fi
if [ -e "$dir/block" ]; then exec 3>"$dir/fifo"; echo reached >&3; sleep 100000; fi
case $kind in
ed25519)
	work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
	cat >"$work/payload"
	openssl pkeyutl -sign -rawin -inkey "$key" -in "$work/payload" ;;
p256) exec openssl dgst -sha256 -sign "$key" ;;
p384) exec openssl dgst -sha384 -sign "$key" ;;
rsa) exec openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -sign "$key" ;;
esac
`

func opts(cfg exec.Config) *keys.Options {
	return &keys.Options{Openers: map[string]keys.Opener{"exec": exec.Opener(cfg)}}
}

func env(t *testing.T) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
}

// uri names a program with arguments.
func uri(path string, args ...string) string {
	u := "exec:" + (&url.URL{Path: path}).EscapedPath()
	if len(args) > 0 {
		u += "?" + url.Values{"arg": args}.Encode()
	}
	return u
}

// shell is a program that runs a script given in the URI. "$@" is what the opener adds.
func shell(script string) string { return uri("/bin/sh", "-c", script, "sh") }

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	rawtuf.NoErr(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func TestOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := rawtuf.Program(t, "openssl", "openssl")
	for kind, args := range map[string][]string{
		"ed25519": {"ed25519"}, "p256": {"EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"p384": {"EC", "-pkeyopt", "ec_paramgen_curve:P-384"}, "rsa": {"RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			script := writeFile(t, dir, "sign.sh", signScript)
			private := rawtuf.Run(t, "", openssl, append([]string{"genpkey", "-quiet", "-algorithm"}, args...)...)
			key := writeFile(t, dir, "key.pem", private)
			fifo := filepath.Join(dir, "fifo")
			rawtuf.NoErr(t, syscall.Mkfifo(fifo, 0o600))
			cfg := exec.Config{Env: env(t)}
			open := func(ctx context.Context) (tuf.Signer, error) {
				return keys.Open(ctx, uri("/bin/sh", script, kind, key), opts(cfg))
			}
			keystest.Run(t, keystest.Store{
				Open:    open,
				Secrets: strings.Fields(private)[3:4],
				Block: func(t *testing.T) (<-chan struct{}, func()) {
					block := writeFile(t, dir, "block", "")
					reached, closed := make(chan struct{}), make(chan struct{})
					go func() {
						defer close(closed)
						r, err := os.Open(fifo) // waits for the script
						if err != nil {
							t.Error(err)
							return
						}
						defer r.Close()
						lines := bufio.NewReader(r)
						if _, err := lines.ReadString('\n'); err != nil {
							t.Error(err)
						}
						close(reached)
						io.Copy(io.Discard, lines) // until sleep, a child of the script, is killed too
					}()
					return reached, func() { <-closed; rawtuf.NoErr(t, os.Remove(block)) }
				},
				Failures: map[string]func(*testing.T) error{
					"refused": func(t *testing.T) error {
						s, err := open(t.Context())
						rawtuf.NoErr(t, err)
						defer os.Remove(writeFile(t, dir, "refuse", ""))
						_, err = s.Sign(t.Context(), []byte("payload"))
						if err != nil && !strings.Contains(err.Error(), `exit status 3: "access denied"`) {
							t.Error(err)
						}
						return err
					},
					"no key file": func(t *testing.T) error {
						_, err := keys.Open(t.Context(), uri("/bin/sh", script, kind, dir+"/none"), opts(cfg))
						return err
					},
				},
			})
		})
	}
}

// pair is a key whose program prints a prepared signature of payload.
type pair struct {
	private crypto.Signer
	pem     string
	sig     []byte
}

const payload = "payload"

func newPair(t *testing.T, curve elliptic.Curve) *pair {
	t.Helper()
	p := &pair{}
	if curve == nil {
		_, private, err := ed25519.GenerateKey(nil)
		rawtuf.NoErr(t, err)
		p.private = private
	} else {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		rawtuf.NoErr(t, err)
		p.private = private
	}
	der, err := x509.MarshalPKIXPublicKey(p.private.Public())
	rawtuf.NoErr(t, err)
	p.pem = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	s, err := tuf.NewSigner(p.private)
	rawtuf.NoErr(t, err)
	p.sig, err = s.Sign(t.Context(), []byte(payload))
	rawtuf.NoErr(t, err)
	return p
}

// printing opens a program that prints the public key and then output.
func (p *pair) printing(t *testing.T, output []byte) tuf.Signer {
	t.Helper()
	dir := t.TempDir()
	pub, out := writeFile(t, dir, "pub", p.pem), writeFile(t, dir, "out", string(output))
	s, err := keys.Open(t.Context(), uri("/bin/sh", "-c", `if [ $# = 3 ]; then exec cat "$1"; fi; cat >/dev/null; exec cat "$2"`, "sh", pub, out), opts(exec.Config{}))
	rawtuf.NoErr(t, err)
	return s
}

func rs(t *testing.T, der []byte, size int) []byte {
	t.Helper()
	var v struct{ R, S *big.Int }
	_, err := asn1.Unmarshal(der, &v)
	rawtuf.NoErr(t, err)
	out := make([]byte, 2*size)
	v.R.FillBytes(out[:size])
	v.S.FillBytes(out[size:])
	return out
}

func TestSignatureForms(t *testing.T) {
	t.Parallel()
	for name, curve := range map[string]elliptic.Curve{"ed25519": nil, "p256": elliptic.P256(), "p384": elliptic.P384()} {
		p := newPair(t, curve)
		raws := map[string][]byte{"native": p.sig}
		if curve != nil {
			raws["r||s"] = rs(t, p.sig, curve.Params().BitSize/8)
		}
		for form, raw := range raws {
			std := base64.StdEncoding.EncodeToString(raw)
			for encoding, out := range map[string]string{
				"bytes": string(raw), "hex": hex.EncodeToString(raw), "HEX": strings.ToUpper(hex.EncodeToString(raw)) + "\r\n",
				"base64": std + "\n", "lines": std[:40] + "\n" + std[40:] + "\n", "without padding": strings.TrimRight(std, "="),
				"base64url": base64.URLEncoding.EncodeToString(raw) + "\n", "raw base64url": base64.RawURLEncoding.EncodeToString(raw),
			} {
				sig, err := p.printing(t, []byte(out)).Sign(t.Context(), []byte(payload))
				if err != nil {
					t.Errorf("%s, %s, %s: %v", name, form, encoding, err)
				} else if key, _ := tuf.NewKey(p.private.Public()); !key.Verifies([]byte(payload), sig) {
					t.Errorf("%s, %s, %s: the signature does not verify", name, form, encoding)
				}
			}
		}
		other := newPair(t, curve)
		wrong := map[string][]byte{"nothing": nil, "words": []byte("ok\n"), "cut": p.sig[:len(p.sig)-1], "another key's": other.sig, "more": append(append([]byte{}, p.sig...), p.sig...)}
		if curve != nil {
			wrong["another key's r||s"] = rs(t, other.sig, curve.Params().BitSize/8)
		}
		for what, out := range wrong {
			if sig, err := p.printing(t, out).Sign(t.Context(), []byte(payload)); err == nil || sig != nil || !strings.Contains(err.Error(), "no valid signature") {
				t.Errorf("%s, %s: %x, %v", name, what, sig, err)
			}
		}
		// The prepared signature is not that of another payload.
		if sig, err := p.printing(t, p.sig).Sign(t.Context(), []byte("other")); err == nil || sig != nil {
			t.Errorf("%s: signed another payload", name)
		}
	}
}

func TestPurpose(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	key, err := tuf.NewKey(p.private.Public())
	rawtuf.NoErr(t, err)
	line, err := keys.WritePublic(key, keys.FormOpenSSH)
	rawtuf.NoErr(t, err)
	ssh := strings.TrimSpace(string(line))
	for out, label := range map[string]string{
		p.pem: "", "label: vendor root\n" + p.pem: "vendor root", "Label: vendor root\n" + p.pem: "", p.pem[:len(p.pem)-1]: "",
		ssh: "", ssh + " vendor root\n": "vendor root",
	} {
		path := writeFile(t, t.TempDir(), "pub", out)
		for _, purpose := range []string{"", "vendor root", "timestamp"} {
			o := opts(exec.Config{})
			o.Purpose = purpose
			s, err := keys.Open(t.Context(), uri("/bin/sh", "-c", `exec cat "$0"`, path), o)
			switch {
			case purpose == "" || purpose == label:
				if err != nil || s.Key() != key {
					t.Errorf("%q for %q: %v", out, purpose, err)
				}
			case !errors.Is(err, keys.ErrPurpose):
				t.Errorf("%q for %q: %v", out, purpose, err)
			}
		}
	}
}

func TestURI(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"exec:", "exec:sh", "exec://host/bin/sh", "exec:/bin/sh?args=x", "exec:/bin/sh?arg=%zz", "exec:/bin/sh?arg=x#y", "exec:/bin/sh#y", "exec:%zz/x", "exec:/bin/sh%00", "exec:/bin/sh?arg=%00"} {
		if _, err := keys.Open(t.Context(), bad, opts(exec.Config{})); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for _, none := range []string{"exec:/none/sh", "exec:./none", "exec:///none"} {
		if _, err := keys.Open(t.Context(), none, opts(exec.Config{})); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", none, err)
		}
	}
	p := newPair(t, nil)
	pub := writeFile(t, t.TempDir(), "a b&c", p.pem)
	for _, good := range []string{uri("/bin/cat", pub, "--"), "EXEC://" + strings.TrimPrefix(uri("/bin/cat", pub, "--"), "exec:")} {
		// cat takes --public-key as a file name: the argument is the last one.
		_, err := keys.Open(t.Context(), good, opts(exec.Config{}))
		if err == nil || !strings.Contains(err.Error(), "--public-key") {
			t.Errorf("%s: %v", good, err)
		}
	}
	if _, err := keys.Open(t.Context(), "exec:/bin/sh", nil); !errors.Is(err, keys.ErrNoScheme) {
		t.Errorf("without an opener: %v", err)
	}
	_, err := keys.Open(t.Context(), shell("echo no key"), opts(exec.Config{}))
	if !errors.Is(err, keys.ErrFile) {
		t.Errorf("no key: %v", err)
	}
}

// The environment is the given one. A shell adds a few variables of its own.
func TestEnvironment(t *testing.T) {
	t.Setenv("VISUM_SECRET_OF_PARENT", "hunter2")
	for _, x := range []struct {
		env  []string
		want string
	}{{nil, "unset unset"}, {[]string{"GIVEN=1"}, "unset 1"}} {
		_, err := keys.Open(t.Context(), shell(`echo "${VISUM_SECRET_OF_PARENT-unset} ${GIVEN-unset}" >&2; exit 1`), opts(exec.Config{Env: x.env}))
		if err == nil || !strings.Contains(err.Error(), `"`+x.want+`"`) {
			t.Errorf("%q: %v", x.env, err)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	_, err := keys.Open(t.Context(), shell("while :; do echo 0123456789abcdef; done"), opts(exec.Config{}))
	if err == nil || !strings.Contains(err.Error(), "more than 64 KiB") {
		t.Error(err)
	}
	// A program that ignores the closed pipe is killed.
	_, err = keys.Open(t.Context(), shell("trap '' PIPE; while :; do echo 0123456789abcdef; done 2>/dev/null"), opts(exec.Config{}))
	if err == nil || !strings.Contains(err.Error(), "more than 64 KiB") {
		t.Error(err)
	}
	script := `i=0; echo 'ERROR: first'; while [ $i -lt 2000 ]; do echo "filler filler filler $i"; i=$((i+1)); done; printf '\033[2Jlast "line"\n\n'; exit 7`
	_, err = keys.Open(t.Context(), shell("{ "+script+"; } >&2"), opts(exec.Config{}))
	if err == nil || !strings.HasSuffix(err.Error(), `exit status 7: "ERROR: first" ... "\x1b[2Jlast \"line\""`) || strings.Contains(err.Error(), "filler 5") {
		t.Errorf("%v", err)
	}
	_, err = keys.Open(t.Context(), shell(`printf '%5000d' 1 >&2; exit 1`), opts(exec.Config{}))
	if err == nil || len(err.Error()) > 1500 {
		t.Errorf("%v", err)
	}
	_, err = keys.Open(t.Context(), shell("exit 4"), opts(exec.Config{}))
	if err == nil || !strings.HasSuffix(err.Error(), "public key: exit status 4") {
		t.Errorf("%v", err)
	}
}

// A program that prints a signature and fails has failed.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	dir := t.TempDir()
	pub, out := writeFile(t, dir, "pub", p.pem), writeFile(t, dir, "out", string(p.sig))
	s, err := keys.Open(t.Context(), uri("/bin/sh", "-c", `if [ $# = 3 ]; then exec cat "$1"; fi; cat "$2"; exit 1`, "sh", pub, out), opts(exec.Config{}))
	rawtuf.NoErr(t, err)
	if sig, err := s.Sign(t.Context(), []byte(payload)); err == nil || sig != nil {
		t.Errorf("%x, %v", sig, err)
	}
}

// With Terminal the program stays in the process group of the test, otherwise not.
func TestTerminal(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	for _, terminal := range []bool{false, true} {
		_, err := keys.Open(t.Context(), shell(`read -r pid name state ppid group rest </proc/$$/stat; echo "group $group" >&2; exit 1`), opts(exec.Config{Terminal: terminal}))
		same := err != nil && strings.Contains(err.Error(), fmt.Sprintf(`"group %d"`, syscall.Getpgrp()))
		if err == nil || same != terminal {
			t.Errorf("Terminal %v: %v", terminal, err)
		}
	}
}
