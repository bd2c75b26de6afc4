package rawtuf

import (
	"os"
	"testing"
)

// Long is set by VISUM_LONG=1. It runs whole matrices of tests instead of a part of
// them, and more repetitions.
var Long = os.Getenv("VISUM_LONG") != ""

// Sequential skips a long test in one goroutine with -short, which is set for the race
// detector: the detector has nothing to find in it.
func Sequential(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("long test in one goroutine, skipped with -short")
	}
}
