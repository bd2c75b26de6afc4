package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Version 1.1 is published and reviewed; then a byte of each file that is served
// is changed in turn. The agent never becomes anything but 1.1, byte for byte,
// and does that only where the changed byte was none that it needs; where all is
// as it was published, it becomes 1.1 at once.
func TestTamperedByte(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs and runs them some hundred times; not with -short")
	}
	s, err := newStory(t.Context(), t.TempDir(), "")
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
	// look runs the agent as it was installed, with no memory, and tells what became of it.
	look := func() (version string) {
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
		version, said, err := s.product.run(s.ctx, machine)
		if err != nil {
			t.Fatal(err)
		}
		switch got := read(t, exe); {
		case bytes.Equal(got, before) && version == "1.0":
		case bytes.Equal(got, after) && version == "1.1":
		default:
			t.Errorf("runs %q, and its binary has %d bytes that nobody published\n%s", version, len(got), strings.Join(said, "\n"))
		}
		return version
	}
	if got := look(); got != "1.1" {
		t.Fatalf("untouched: %s", got)
	}

	const places = 6 // of each file, the first byte and the last among them
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
			// A new file: targets are links to the vendor's own.
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if look() == "1.0" {
				stayed[name]++
			}
		}
		for i := range places {
			changed(i * (len(data) - 1) / (places - 1))
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := look(); got != "1.1" {
			t.Fatalf("%s healed: %s", name, got)
		}
	}
	// The changes must have mattered: what is needed, and has no second signature, stops the update.
	for _, name := range []string{"timestamp.json", "2.vendor-agent.json", "2.review-agent.json"} {
		if stayed[name] != places {
			t.Errorf("%s: the agent stayed in %d of %d cases", name, stayed[name], places)
		}
	}
	t.Logf("changes that kept the update away, of %d: %v", places, stayed)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
