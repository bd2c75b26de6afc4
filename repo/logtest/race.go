package logtest

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf/tlog"
)

// race: several writers append at the same time. Every batch is in the log once, in one
// piece, and all checkpoints are of one history.
func race(h *history) {
	const writers, each, size = 4, 3, 3
	var mu sync.Mutex
	var notes [][]byte
	keep := func(note []byte) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, note)
	}
	var all sync.WaitGroup
	for w := range writers {
		log := h.open()
		if log == nil {
			log = h.log
		}
		all.Go(func() {
			for n := range each {
				var batch [][]byte
				for i := range size {
					batch = append(batch, fmt.Appendf(nil, "writer %d, batch %d, leaf %d", w, n, i))
				}
				for {
					last, err := log.Checkpoint(h.Context())
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						if errors.Is(err, repo.ErrConflict) {
							continue
						}
						h.Errorf("Checkpoint: %v", err)
						return
					}
					note, err := log.Append(h.Context(), last, batch)
					if errors.Is(err, repo.ErrConflict) {
						continue
					}
					if err == nil {
						keep(note)
					} else if errors.Is(err, repo.ErrFork) {
						h.Errorf("Append: %v", err)
						return
					} // otherwise the leaves are in the log: nothing fails here
					break
				}
			}
		})
	}
	all.Wait()
	last, err := h.log.Checkpoint(h.Context())
	if err != nil {
		h.Fatal(err)
	}
	h.last = last
	end, root := parse(h.T, last, h.key)
	tree := &tlog.Tree{Size: end, Root: root, Read: func(path string) ([]byte, error) { return h.log.Tile(h.Context(), path) }}
	var entries [][]byte
	for n := int64(0); n*tlog.TileWidth < end; n++ {
		bundle, err := tree.Bundle(n)
		if err != nil {
			h.Fatal(err)
		}
		entries = append(entries, bundle...)
	}
	if len(entries) != writers*each*size {
		h.Fatalf("%d entries of %d", len(entries), writers*each*size)
	}
	next := [writers]int{}
	for i := 0; i < len(entries); i += size {
		for j := range size {
			var w, n, leaf int
			if _, err := fmt.Sscanf(string(entries[i+j]), "writer %d, batch %d, leaf %d", &w, &n, &leaf); err != nil || leaf != j || n != next[w] {
				h.Fatalf("entry %d is %q", i+j, entries[i+j])
			}
			if j == size-1 {
				next[w]++
			}
		}
		h.expect(entries[i : i+size])
	}
	h.verify(last)
	for _, note := range notes {
		n, root := parse(h.T, note, h.key)
		was := h.seen[n/size-1]
		if was.Size != n || was.Root != root {
			h.Errorf("a checkpoint of %d entries has root %x, in the final log it is %x", n, root, was.Root)
		}
	}
}
