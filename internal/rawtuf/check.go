package rawtuf

import (
	"io/fs"
	"os"
	"strings"
	"testing"
)

// NoErr ends the test if there is an error.
func NoErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// OnDisk checks that dir has exactly these files, in this order.
func OnDisk(t testing.TB, dir string, want ...string) {
	t.Helper()
	var got []string
	NoErr(t, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			got = append(got, path)
		}
		return err
	}))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("files are %q, want %q", got, want)
	}
}
