package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/visum-dev/visum/internal/tuftest"
)

// The test binary is the quickstart when this is set.
const asQuickstart = "VISUM_TEST_QUICKSTART"

// The quickstart of the tests tells its own use of memory at the end.
const peakLine = "\npeak memory in bytes: %d\n"

func TestMain(m *testing.M) {
	if os.Getenv(asQuickstart) != "" {
		if n, err := strconv.Atoi(os.Getenv(gateAfter)); err == nil {
			interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			out = &gate{n, interrupted.Done()}
		}
		main()
		fmt.Fprintf(os.Stderr, peakLine, tuftest.PeakMemory())
		return
	}
	os.Exit(m.Run())
}

// gateAfter is the number of lines after which a quickstart in a process of its own
// waits until it is interrupted.
const gateAfter = "VISUM_TEST_GATE"

// gate writes to standard output, and waits for an interruption after so many lines:
// the story could come to its end before the signal comes.
type gate struct {
	lines       int
	interrupted <-chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	n, err := os.Stdout.Write(p)
	for range bytes.Count(p, []byte("\n")) {
		if g.lines--; g.lines == 0 {
			<-g.interrupted
		}
	}
	return n, err
}

// quickstart returns a command that tells the story in a process of its own,
// with temp as the place for temporary folders.
func quickstart(t *testing.T, temp string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), asQuickstart+"=1", "TMPDIR="+temp, "TMP="+temp, "TEMP="+temp)
	return cmd
}

func nothingLeft(t *testing.T, temp string) {
	t.Helper()
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// The README's first command: every step has its outcome, nothing is left behind.
func TestStoryOfTheAgent(t *testing.T) {
	if testing.Short() {
		t.Skip("builds four programs; not with -short")
	}
	temp := t.TempDir()
	out, err := quickstart(t, temp).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"| agent 1.0: staying: client: no newer approved release: tuf: agent/agent-1.1",
		"| agent 1.1: running", "| agent 1.2: running",
		"0 of 1 needed keys of party review in the trusted root signed",
		"All 18 steps had exactly the outcome they should.",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(string(out), "agent 6.6.6: running") {
		t.Error("the thief's version ran")
	}
	nothingLeft(t, temp)
}

// A file of the user's goes the same way; -keep leaves everything to look at.
func TestStoryOfAFileKept(t *testing.T) {
	temp, keep := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	file := filepath.Join(t.TempDir(), "rules.dat")
	if err := os.WriteFile(file, bytes.Repeat([]byte("rule\n"), 1000), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := quickstart(t, temp, "-file", file, "-keep", keep).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	nothingLeft(t, temp)
	for _, name := range []string{"pin.json", "vendor/keys/new-root-1.key", "vendor/repository/metadata/4.root.json", "review/keys/root-1.key",
		"place-b/metadata/timestamp.json", "product/three/1.2-rules.dat"} {
		if _, err := os.Stat(filepath.Join(keep, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	if out, err := quickstart(t, temp, "-file", file, "-keep", keep).CombinedOutput(); err == nil || !strings.Contains(string(out), "is not empty") {
		t.Errorf("a folder in use: %v\n%s", err, out)
	}
	for _, bad := range [][]string{{"-file", filepath.Join(keep, "none")}, {"-file", keep}, {"extra"}} {
		if out, err := quickstart(t, temp, bad...).CombinedOutput(); err == nil {
			t.Errorf("%q accepted:\n%s", bad, out)
		}
	}
	nothingLeft(t, temp)
}
