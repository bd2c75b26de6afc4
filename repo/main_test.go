package repo_test

import (
	"os"
	"runtime/debug"
	"testing"
)

// TestMain collects garbage less often: the heaps of these tests are small and live
// shortly, and a fifth of the package's time was spent on collecting them.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
