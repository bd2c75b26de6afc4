package rawtuf

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Program finds a program of another project that a test needs. Where it is missing
// the test is skipped with what to install, in CI it fails.
func Program(t testing.TB, name, install string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} { // not in every user's PATH
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	if err == nil {
		return path
	}
	Missing(t, "no "+name+": install "+install)
	return ""
}

// Missing skips a test that needs something which this machine lacks, in CI it fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// TUFJS needs Node.js, and the npm packages of tuf-js in dir, which is
// repo/testdata/tufjs.
func TUFJS(t testing.TB, dir string) {
	t.Helper()
	const npm = ", then run: npm ci --prefix repo/testdata/tufjs"
	Program(t, "node", "Debian's nodejs and npm"+npm)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "tuf-js")); err != nil {
		Missing(t, "no tuf-js: install Debian's npm"+npm)
	}
}

// Run runs a program with that standard input, and returns what it writes to standard output and error.
func Run(t testing.TB, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
