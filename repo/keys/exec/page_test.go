//go:build unix

package exec_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/exec"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

// programs returns the scripts of docs/keys.md by the name in their second line.
func programs(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/keys.md")
	rawtuf.NoErr(t, err)
	out := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)```sh\n(#!/bin/sh\n.*?)```").FindAllStringSubmatch(string(page), -1) {
		name := regexp.MustCompile(`sign-[a-z]+`).FindString(m[1])
		out[name] = m[1]
	}
	return out
}

func TestPageIsShell(t *testing.T) {
	t.Parallel()
	all := programs(t)
	for _, name := range []string{"sign-gcloud", "sign-az", "sign-offline", "sign-here"} {
		if all[name] == "" {
			t.Errorf("docs/keys.md has no %s", name)
			continue
		}
		rawtuf.Run(t, all[name], "sh", "-n")
		if n := strings.Count(all[name], "\n"); n > 20 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

// fakes are command lines of the services, reduced to what the page uses: they refuse
// other arguments, and sign with openssl.
func fakes() map[string]string {
	return map[string]string{
		"gcloud": `#!/bin/sh
set -eu
case "$*" in
"kms keys versions get-public-key 7 --location=europe-west3 --keyring=visum --key=root")
	exec openssl pkey -in "$FAKE_KEY" -pubout ;;
"kms asymmetric-sign --location=europe-west3 --keyring=visum --key=root --version=7 --digest-algorithm=sha256 --input-file="*" --signature-file=-")
	for arg do case $arg in --input-file=*) exec openssl dgst -sha256 -sign "$FAKE_KEY" "${arg#*=}" ;; esac; done ;;
esac
echo "ERROR: (gcloud) unexpected: $*" >&2
exit 2
`,
		// Signs a digest, and answers with r and s. The lengths of the numbers are those of P-256.
		"az": `#!/bin/sh
set -eu
case "$*" in
"keyvault key download --id https://n.vault.azure.net/keys/root/1 --encoding PEM --file "*" --output none")
	exec openssl pkey -in "$FAKE_KEY" -pubout -out "$9" ;;
"keyvault key sign --id https://n.vault.azure.net/keys/root/1 --algorithm ES256 --digest "*" --query signature || value || result --output tsv")
	printf %s "$9" | openssl base64 -d -A >"$TMPDIR/digest.$$"
	openssl pkeyutl -sign -inkey "$FAKE_KEY" -in "$TMPDIR/digest.$$" | openssl asn1parse -inform DER |
		sed -n 's/.*INTEGER *://p' | while read -r n; do printf %s 0000000000000000000000000000000000000000000000000000000000000000"$n" | tail -c 64; done |
		sed 's/../\\x&/g' | xargs -0 printf %b | openssl base64 -A ;;
*) echo "ERROR: unexpected: $*" >&2; exit 2 ;;
esac
`,
	}
}

// The programs of the page sign, with stand-ins for the commands of the services.
func TestPageSigns(t *testing.T) {
	t.Parallel()
	openssl := rawtuf.Program(t, "openssl", "openssl")
	dir := t.TempDir()
	private := rawtuf.Run(t, "", openssl, "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	key := writeFile(t, dir, "key.pem", private)
	bin := filepath.Join(dir, "bin")
	rawtuf.NoErr(t, os.Mkdir(bin, 0o700))
	for name, script := range fakes() {
		// Executed by its name, so it is written by another process: see signScript.
		rawtuf.Run(t, script, "sh", "-c", `cat >"$0" && chmod 700 "$0"`, filepath.Join(bin, name))
	}
	all := programs(t)
	for name, arg := range map[string]string{"sign-gcloud": "7", "sign-az": "https://n.vault.azure.net/keys/root/1"} {
		t.Run(name, func(t *testing.T) {
			script := writeFile(t, dir, name, all[name])
			cfg := exec.Config{Env: []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "FAKE_KEY=" + key, "TMPDIR=" + t.TempDir()}}
			keystest.Run(t, keystest.Store{
				Open: func(ctx context.Context) (tuf.Signer, error) {
					return keys.Open(ctx, uri("/bin/sh", script, arg), opts(cfg))
				},
				Failures: map[string]func(*testing.T) error{"another key": func(t *testing.T) error {
					_, err := keys.Open(t.Context(), uri("/bin/sh", script, "8"), opts(cfg))
					if err != nil && !strings.Contains(err.Error(), "unexpected") {
						t.Error(err)
					}
					return err
				}},
			})
		})
	}
}

// The ceremony, with files for the terminal and for the path of the private key.
func TestPageOffline(t *testing.T) {
	t.Parallel()
	openssl := rawtuf.Program(t, "openssl", "openssl")
	dir := t.TempDir()
	private := rawtuf.Run(t, "", openssl, "genpkey", "-quiet", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	key := writeFile(t, dir, "key.pem", private)
	public := writeFile(t, dir, "root.pem", rawtuf.Run(t, private, openssl, "pkey", "-pubout"))
	all := programs(t)
	here := writeFile(t, dir, "here", strings.ReplaceAll(all["sign-here"], "/root/root-key.pem", key))
	// Instead of a person, the script itself goes to the other computer.
	offline := strings.Replace(all["sign-offline"], "read -r answer </dev/tty", "sh "+here+" \"$disk\" >&2", 1)
	script := writeFile(t, dir, "offline", strings.ReplaceAll(offline, "/dev/tty", dir+"/tty"))
	s, err := keys.Open(t.Context(), uri("/bin/sh", script, dir, public), opts(exec.Config{Env: env(t)}))
	rawtuf.NoErr(t, err)
	for _, payload := range []string{"one", "two"} {
		sig, err := s.Sign(t.Context(), []byte(payload))
		if err != nil || !s.Key().Verifies([]byte(payload), sig) {
			t.Error(err)
		}
	}
	if shown, err := os.ReadFile(dir + "/tty"); err != nil || !strings.Contains(string(shown), "press return") {
		t.Errorf("%q, %v", shown, err)
	}
}
