package rawtuf

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Program finds a program of another project that a test needs. Where it is missing
// the test is skipped with what to install, in CI it fails.
func Program(t testing.TB, name, install string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: install %s", name, install)
	}
	t.Skipf("needs %s: install %s", name, install)
	return ""
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
