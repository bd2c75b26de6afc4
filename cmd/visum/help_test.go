package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/visum-dev/visum/cmd/visum/internal/cli"
)

var update = flag.Bool("update", false, "write testdata/help/visum.golden")

// The help of every command is checked in, so that a change of it is seen in review.
func TestHelp(t *testing.T) {
	var got bytes.Buffer
	if err := cli.WriteHelp(&got); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "help", "visum.golden")
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, got.Bytes()) {
		t.Errorf("the help differs from %s; go test ./cmd/visum -update: %v", path, err)
	}
}
