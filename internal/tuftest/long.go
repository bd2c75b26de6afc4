package tuftest

import (
	"os"
	"testing"
)

// Long is set by VISUM_LONG=1: matrices of tests, of which otherwise a part runs,
// run whole, and what is repeated is repeated more often.
var Long = os.Getenv("VISUM_LONG") != ""

// Sequential skips a test with -short, which is for the race detector: the test takes
// long there, and runs in one goroutine, so that the detector has nothing to find.
func Sequential(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs in one goroutine, and takes long: not with -short")
	}
}
