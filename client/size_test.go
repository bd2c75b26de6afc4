package client_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// A stripped program that only embeds this package is no larger than one that
// only embeds go-tuf's updater.
func TestSizeOfABinary(t *testing.T) {
	if !rawtuf.Long {
		t.Skip("links two programs; set VISUM_LONG=1")
	}
	size := func(name string) int64 {
		out := filepath.Join(t.TempDir(), name)
		if msg, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/size/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, msg)
		}
		fi, err := os.Stat(out)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	ours, theirs := size("ours"), size("gotuf")
	t.Logf("ours %.2f MB, go-tuf's updater %.2f MB", float64(ours)/1e6, float64(theirs)/1e6)
	if ours > theirs {
		t.Errorf("%d bytes, go-tuf's updater takes %d", ours, theirs)
	}
}
