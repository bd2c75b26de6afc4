package gotuf_test

import (
	"testing"

	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// A zero value is an error. Package tuf tests the conversion of real values.
func TestZeroValues(t *testing.T) {
	_, root := gotuf.Root(nil)
	_, root2 := gotuf.Root(&tuf.Root{})
	_, timestamp := gotuf.Timestamp(&tuf.Timestamp{})
	_, snapshot := gotuf.Snapshot(&tuf.Snapshot{})
	_, targets := gotuf.Targets(&tuf.Targets{})
	for i, err := range []error{root, root2, timestamp, snapshot, targets} {
		if err == nil {
			t.Errorf("%d: no error", i)
		}
	}
}
