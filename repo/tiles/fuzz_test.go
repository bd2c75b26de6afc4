package tiles

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/visum-dev/visum/repo"
)

// FuzzHistory states a law: any history of appends and crashes gives one tree for each
// size, and every batch is in the log completely or not at all, decided when the next call
// returns. Each step is four bytes: the number of leaves, the call that fails, before or
// after its effect, once or for ever, and whether the caller asks for the newest checkpoint
// first.
func FuzzHistory(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0})
	f.Add([]byte{1, 5, 0, 0, 2, 9, 1, 0, 255, 12, 1, 1, 3, 7, 3, 0, 4, 0, 0, 1})
	f.Add([]byte{254, 0, 0, 1, 1, 4, 1, 1, 3, 5, 0, 1, 1, 6, 1, 1, 2, 11, 3, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		w := newWorld(t)
		var last []byte
		var open [][][]byte // batches of which one at most is in the log, after last
		// settle compares the newest checkpoint with what is possible.
		settle := func(note []byte, err error) {
			t.Helper()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			h := head{}
			if err == nil {
				h, err = openHead(note, w.log().key)
				w.must(err)
			}
			if h.size > w.tree.Size {
				for _, batch := range open {
					if next, _, err := w.tree.Append(batch); err == nil && (h == head{next.Size, next.Root}) {
						w.expect(batch)
						break
					}
				}
			}
			if h.size > 0 {
				w.holds(note)
			}
			last, open = note, nil
		}
		for i := 0; i+4 <= len(data) && i < 4*12; i += 4 {
			l := w.at(&steps{n: int(data[i+1]), after: data[i+2]&1 > 0, once: data[i+2]&2 > 0})
			if data[i+3]&1 > 0 {
				if note, err := l.Checkpoint(t.Context()); !errors.Is(err, errDead) {
					settle(note, err)
				}
			}
			var batch [][]byte
			for n := range max(1, int(data[i])) {
				batch = append(batch, fmt.Appendf(nil, "%d/%d", i, n))
			}
			note, err := l.Append(t.Context(), last, batch)
			switch {
			case err == nil: // so none of the open ones is in the log
				open = [][][]byte{batch}
				settle(note, nil)
			case errors.Is(err, repo.ErrConflict):
				size := w.tree.Size
				settle(w.log().Checkpoint(t.Context()))
				if w.tree.Size == size {
					t.Fatalf("a conflict without a reason: %v", err)
				}
			case errors.Is(err, errDead):
				open = append(open, batch)
			default:
				t.Fatal(err)
			}
		}
		settle(w.log().Checkpoint(t.Context()))
		w.append(1)
	})
}
