//go:build unix

package client_test

import (
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// prepareChild sets limits of a child process.
func prepareChild(what string) error {
	if !strings.Contains(what, "full disk") {
		return nil
	}
	// Files larger than this cause an error, as on a full disk.
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 700 << 10, Max: 700 << 10})
}

// readOnly returns a directory that is read-only, also for root.
func readOnly(t *testing.T) string {
	dir := t.TempDir()
	mountReadOnly(t, dir)
	return dir
}

// mountReadOnly makes a directory read-only until the test ends.
func mountReadOnly(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		must(t, os.Chmod(dir, 0o500))
		t.Cleanup(func() { os.Chmod(dir, 0o700) })
		return
	}
	bindReadOnly(t, dir)
}

// A file that cannot grow: there is an error, nothing is left, and without the limit it
// works.
func TestFilesThatCantGrow(t *testing.T) {
	d := newDepot(t, 1, mib)
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	mustWrite(t, file, []byte("old"))
	out, err := d.process("save on a full disk", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), syscall.EFBIG.Error()) {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"agent"}) || size(t, file) != 3 {
		t.Errorf("left %q, agent has %d bytes", got, size(t, file))
	}
	if got := d.records(); len(got) > 0 {
		t.Errorf("left %q", got)
	}
	if out, err := d.process("save", file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.holds(file)
}
