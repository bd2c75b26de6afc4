package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/visum-dev/visum/client"
)

// The pin in the source tree is valid, so a product can be built from this folder
// without changes.
func TestPin(t *testing.T) {
	c, err := client.New(pin, &client.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.PinFingerprint()) != 64 {
		t.Fatalf("fingerprint %q", c.PinFingerprint())
	}
	if demo {
		t.Fatal("built with the tag demo")
	}
}

// A program is present after the replacement, also if the replacement failed.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "agent")
	write := func(file, content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(exe, "old")
	if err := replace(filepath.Join(dir, "none"), exe); err == nil {
		t.Error("replaced by a missing file")
	}
	if data, err := os.ReadFile(exe); err != nil || string(data) != "old" {
		t.Fatalf("%q, %v", data, err)
	}
	write(exe+".new", "new")
	if err := replace(exe+".new", exe); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(exe); err != nil || string(data) != "new" {
		t.Fatalf("%q, %v", data, err)
	}
}
