package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// Version 1.1 is published and reviewed; then single bytes of each served file are
// changed in turn. The agent stays at 1.0, or becomes exactly 1.1 if it did not need
// the changed byte. After each file is restored, the agent becomes 1.1.
func TestTamperedByte(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs and runs them some hundred times; not with -short")
	}
	s, err := newDemo(t.Context(), t.TempDir(), "", &narrator{out: t.Output(), verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, part := range []func() error{s.twoParties, s.vendorAlone, s.reviewRound} {
		if err := part(); err != nil {
			t.Fatal(err)
		}
	}
	machine := filepath.Join(s.machine("three"))
	exe := filepath.Join(machine, exeName("agent"))
	before := read(t, exe)
	after := read(t, filepath.Join(s.dir, "build", exeName("agent-1.1")))
	// update runs the agent as it was installed, without state, and returns its version.
	update := func() (version string) {
		t.Helper()
		if err := os.RemoveAll(machine); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(machine, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(exe, before, 0o755); err != nil {
			t.Fatal(err)
		}
		version, output, err := s.product.run(s.ctx, machine)
		if err != nil {
			t.Fatal(err)
		}
		switch got := read(t, exe); {
		case bytes.Equal(got, before) && version == "1.0":
		case bytes.Equal(got, after) && version == "1.1":
		default:
			t.Errorf("runs %q, and its binary of %d bytes was never published\n%s", version, len(got), strings.Join(output, "\n"))
		}
		return version
	}
	if got := update(); got != "1.1" {
		t.Fatalf("untouched: %s", got)
	}

	positions := 2 // in each file, including the first and the last byte
	if rawtuf.Long {
		positions = 6
	}
	var files []string
	err = filepath.WalkDir(s.a.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	stayed := map[string]int{}
	for _, file := range files {
		name := filepath.Base(file)
		data := read(t, file)
		changed := func(at int) {
			bad := bytes.Clone(data)
			bad[at] ^= 1
			// A new file, because targets are hard links to the vendor's files.
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if update() == "1.0" {
				stayed[name]++
			}
		}
		for i := range positions {
			changed(i * (len(data) - 1) / (positions - 1))
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := update(); got != "1.1" {
			t.Fatalf("%s restored: %s", name, got)
		}
	}
	// The changes must have an effect: a file that is needed and has one signature stops the update.
	for _, name := range []string{"timestamp.json", "2.vendor-agent.json", "2.review-agent.json"} {
		if stayed[name] != positions {
			t.Errorf("%s: the agent stayed in %d of %d cases", name, stayed[name], positions)
		}
	}
	t.Logf("changes that prevented the update, of %d: %v", positions, stayed)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
