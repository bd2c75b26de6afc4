//go:build unix

package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// An interrupted quickstart leaves no server and no temporary folder, in every act and
// with both forms of output.
func TestInterrupted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, make([]byte, 4<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args   []string
		signal syscall.Signal
		after  int // lines of output
	}{
		"while building":   {[]string{"-v"}, syscall.SIGINT, 6},
		"while delivering": {[]string{"-v", "-file", file}, syscall.SIGTERM, 14},
		"without -v":       {[]string{"-file", file}, syscall.SIGINT, 2},
	} {
		t.Run(name, func(t *testing.T) {
			temp := t.TempDir()
			cmd := quickstart(t, temp, tt.args...)
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", gateAfter, tt.after))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := 0
			for s := bufio.NewScanner(out); s.Scan(); {
				if lines++; lines == tt.after {
					cmd.Process.Signal(tt.signal)
				}
			}
			err = cmd.Wait()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 130 {
				t.Errorf("got %v, want exit status 130", err)
			}
			nothingLeft(t, temp)
		})
	}
}

// A large file is distributed in constant memory.
func TestMemoryStaysSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("writes about 1 GB; not with -short")
	}
	temp := t.TempDir()
	file := filepath.Join(temp, "large")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Truncate(file, 120<<20); err != nil {
		t.Fatal(err)
	}
	cmd := quickstart(t, temp, "-file", file)
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	var peak int64
	if _, err := fmt.Sscanf(errs.String(), peakLine, &peak); err != nil || peak == 0 {
		t.Fatalf("no peak memory in the output: %v\n%s", err, errs.String())
	}
	t.Logf("%d MiB resident for a file of 120 MiB", peak>>20)
	if peak > 100<<20 { // less than the file; on a busy machine the garbage collector is late
		t.Errorf("%d MiB resident, at most 100", peak>>20)
	}
}
