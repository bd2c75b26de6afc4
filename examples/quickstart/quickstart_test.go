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

	"github.com/visum-dev/visum/internal/rawtuf"
)

// The test binary is the quickstart when this is set.
const asQuickstart = "VISUM_TEST_QUICKSTART"

// In tests, the quickstart prints its peak memory at the end.
const peakLine = "\npeak memory in bytes: %d\n"

func TestMain(m *testing.M) {
	if os.Getenv(asQuickstart) != "" {
		if n, err := strconv.Atoi(os.Getenv(gateAfter)); err == nil {
			interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			out = &gate{n, interrupted.Done()}
		}
		main()
		fmt.Fprintf(os.Stderr, peakLine, rawtuf.PeakMemory())
		return
	}
	os.Exit(m.Run())
}

// gateAfter is the number of lines after which a quickstart in a separate process
// waits for an interrupt.
const gateAfter = "VISUM_TEST_GATE"

// gate writes to standard output, and waits for an interrupt after that many lines.
// Without it the quickstart could end before the signal arrives.
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

// quickstart returns a command that runs the quickstart in a separate process, with
// temp as the folder for temporary files.
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

// With -v every step is printed. Every step has the expected result, and no file is
// left behind.
func TestAgent(t *testing.T) {
	if testing.Short() {
		t.Skip("builds four programs; not with -short")
	}
	temp := t.TempDir()
	out, err := quickstart(t, temp, "-v").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"| agent 1.0: no update: client: no newer approved release: tuf: agent/agent-1.1",
		"| agent 1.1: running", "| agent 1.2: running",
		"0 of 1 needed keys of party review in the trusted root signed",
		"All 18 steps had the expected result.", "Next, with a program of your own:",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("lacks %q", want)
		}
	}
	if strings.Contains(string(out), "agent 6.6.6: running") {
		t.Error("the attacker's version ran")
	}
	nothingLeft(t, temp)
}

// A file of the user passes through the same acts, and -keep leaves all files. Without
// -v the output has one line for each act, the table, and what to do next.
func TestFileKept(t *testing.T) {
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
		"location-b/metadata/timestamp.json", "product/three/1.2-rules.dat"} {
		if _, err := os.Stat(filepath.Join(keep, filepath.FromSlash(name))); err != nil {
			t.Error(err)
		}
	}
	acts, rest, ok := strings.Cut(string(out), "\n\nSummary\n")
	lines := strings.Split(acts, "\n")
	for i, line := range lines {
		if !strings.HasPrefix(line, fmt.Sprintf("%d. ", i+1)) || !strings.HasSuffix(line, " ... ok") {
			t.Errorf("act %d: %q", i+1, line)
		}
	}
	if !ok || len(lines) != 5 {
		t.Errorf("%d lines before the table, want one for each of 5 acts:\n%s", len(lines), out)
	}
	for _, want := range []string{"All 18 steps had the expected result.", "Kept in " + keep, "Next, with a program of your own:", "docs/operating.md"} {
		if !strings.Contains(rest, want) {
			t.Errorf("lacks %q:\n%s", want, out)
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

// Without -v, the lines of an act are printed if a step of it fails, and only then.
func TestFailedAct(t *testing.T) {
	for _, got := range []string{"refused", "signed"} {
		var buf bytes.Buffer
		n := &narrator{out: &buf}
		s := &demo{narrator: n}
		n.begin("1. An act")
		n.say("a line of it")
		s.check("a step", "refused", got)
		n.end(s.results[0].ok)
		err := s.summary()
		if failed := got == "signed"; failed != (err != nil) || failed != strings.Contains(buf.String(), "UNEXPECTED RESULT: a step: signed; expected refused") ||
			failed != strings.Contains(buf.String(), "... FAILED\n   a line of it\n") || failed == strings.Contains(buf.String(), "... ok\n") {
			t.Errorf("%s: %v\n%s", got, err, &buf)
		}
	}
}
