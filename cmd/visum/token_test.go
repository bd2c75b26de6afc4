package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys/pkcs11"
)

// watcher is a program for exec: keys. Before it signs, it looks at the arguments and the
// environment of all processes, and at all files below the working directory, for the PIN:
// watcher KEY PIN-FILE REPORT [--public-key].
func watcher() {
	if len(os.Args) == 4 {
		pin, err := os.ReadFile(os.Args[2])
		if err == nil {
			err = os.WriteFile(os.Args[3], []byte(watch(strings.TrimSpace(string(pin)))), 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Args = append(os.Args[:2:2], os.Args[4:]...)
	signer()
}

// watch counts processes, and what contains the PIN.
func watch(pin string) string {
	var processes, helpers, found int
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range paths {
		args, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			continue // it has ended
		}
		env, _ := os.ReadFile(dir + "/environ")
		processes++
		if program, _, _ := strings.Cut(string(args), "\x00"); filepath.Base(program) == "visum-pkcs11" {
			helpers++
		}
		if strings.Contains(string(args)+string(env), pin) {
			found++
		}
	}
	return fmt.Sprintf("processes with the PIN %d of %v, helpers %v\n", found, processes > 2, helpers > 0)
}

// secretIn reports whether a file below a directory contains the PIN; except are the files
// that may.
func secretIn(t *testing.T, dir, pin string, except ...string) (found []string) {
	t.Helper()
	rawtuf.NoErr(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), pin) {
			for _, e := range except {
				if filepath.Join(dir, e) == path {
					return nil
				}
			}
			found = append(found, path)
		}
		return err
	}))
	return found
}

// The same script runs with the tool that loads modules itself, and with the static one
// that starts visum-pkcs11.
func TestTokens(t *testing.T) {
	if !rawtuf.Long {
		t.Skip("runs hundreds of processes; set VISUM_LONG=1")
	}
	rawtuf.Program(t, "softhsm2-util", "Debian's softhsm2")
	rawtuf.Program(t, "pkcs11-tool", "Debian's opensc")
	module := "/usr/lib/softhsm/libsofthsm2.so"
	if _, err := os.Stat(module); err != nil {
		rawtuf.Missing(t, "no "+module+": install Debian's softhsm2")
	}
	page, err := os.ReadFile("../../docs/keys.md")
	rawtuf.NoErr(t, err)
	_, section, _ := strings.Cut(string(page), "### SoftHSM\n")
	_, section, _ = strings.Cut(section, "```\n")
	section, _, _ = strings.Cut(section, "```")
	// Each has its own PIN, because they run at the same time.
	for _, x := range []struct{ name, pin string }{{"linked", "2718281828"}, {"static", "3141592653"}} {
		t.Run(x.name, func(t *testing.T) {
			var bin string
			if x.name == "static" {
				bin = buildStatic(t)
			} else if !pkcs11.Linked {
				t.Skip("these tests were built without cgo")
			}
			testscript.Run(t, testscript.Params{Dir: "testdata/token", RequireExplicitExec: true, RequireUniqueNames: true,
				Condition: func(cond string) (bool, error) { return cond == x.name || cond == "long" && rawtuf.Long, nil },
				Setup: func(e *testscript.Env) error {
					e.Setenv("HOME", e.WorkDir)
					e.Setenv("GORACE", os.Getenv("GORACE"))
					e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/config")
					e.Setenv("SOFTHSM2_CONF", e.WorkDir+"/softhsm2.conf")
					e.Setenv("HSM", module)
					path, err := exec.LookPath("watcher")
					if err != nil {
						return err
					}
					e.Setenv("WATCHER", "exec:/"+strings.TrimPrefix(filepath.ToSlash(path), "/"))
					if bin != "" {
						e.Setenv("PATH", bin+string(os.PathListSeparator)+e.Getenv("PATH"))
						e.Setenv("BIN", bin)
					}
					// The commands of the page, with answers to what they ask.
					shown := strings.NewReplacer("--free", "--free --so-pin 87654321 --pin $(cat pin)", "--login", "--login --pin $(cat pin)").Replace(section)
					for name, content := range map[string]string{"page.sh": shown, "pin": x.pin, "tty": x.pin + "\n", "wrong-tty": "1" + x.pin + "\n"} {
						if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(content), 0o600); err != nil {
							return err
						}
					}
					e.Defer(func() {
						if found := secretIn(t, e.WorkDir, x.pin, "pin", "tty", "wrong-tty"); len(found) > 0 {
							t.Errorf("the PIN is in %q", found)
						}
					})
					return os.Mkdir(filepath.Join(e.WorkDir, "tokens"), 0o700)
				}})
		})
	}
}

// buildStatic builds the tool without cgo and the helper with it, into one folder.
func buildStatic(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the tool")
	}
	rawtuf.Program(t, "go", "Go")
	rawtuf.Program(t, "gcc", "gcc")
	bin := t.TempDir()
	for _, x := range []struct{ cgo, name string }{{"0", "visum"}, {"1", "visum-pkcs11"}} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(bin, x.name), "github.com/visum-dev/visum/cmd/"+x.name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+x.cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return bin
}
