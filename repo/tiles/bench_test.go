package tiles

import (
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
)

// long is a log of many entries.
func long(t testing.TB, size int) *world {
	w := newWorld(t)
	var last []byte
	for from := 0; from < size; from += MaxLeaves {
		note, err := w.log().Append(t.Context(), last, leaves(int64(from), min(MaxLeaves, size-from)))
		w.must(err)
		last = note
	}
	return w
}

// The calls of an append do not depend on the length of the log, but for one read of a
// tile in each level, twice: before the append, and when it is read back.
func TestCallsOfAppend(t *testing.T) {
	count := func(size int) (reads, writes, ledger int) {
		s := &steps{}
		w := long(t, size)
		_, err := w.at(s).Append(t.Context(), w.last(), leaves(int64(size), 3))
		w.must(err)
		for _, step := range s.log {
			switch {
			case strings.HasPrefix(step, "read "):
				reads++
			case strings.HasSuffix(step, " ledger"):
				ledger++
			case step != "sign":
				writes++
			}
		}
		return reads, writes, ledger
	}
	r1, w1, l1 := count(10)
	r2, w2, l2 := count(100_000)
	t.Logf("10 entries: %d reads, %d writes, %d calls of the ledger; 100,000 entries: %d, %d, %d", r1, w1, l1, r2, w2, l2)
	// Checkpoint, pending, bundle and tile, the last two also as read back.
	if r1 > 6 || w1 != 4 || l1 != 3 {
		t.Error("more calls than before, at 10 entries")
	}
	if levels := 2; r2 > r1+2*levels || w2 != w1 || l2 != l1 {
		t.Error("more calls than at 10 entries")
	}
}

// The time of a batch of three leaves in a directory, with every file flushed to disk.
func BenchmarkAppendDir(b *testing.B) {
	from := long(b, 1000)
	dir := b.TempDir()
	s := storage.Dir(dir)
	for name, data := range from.store.Files {
		if err := s.Create(b.Context(), name, strings.NewReader(string(data))); err != nil {
			b.Fatal(err)
		}
	}
	ledger := signing.DirLedger(b.TempDir())
	doc, err := from.ledger.Load(b.Context(), ledgerID(origin))
	if err == nil {
		err = ledger.Swap(b.Context(), ledgerID(origin), nil, doc)
	}
	if err != nil {
		b.Fatal(err)
	}
	l, err := New(s, Config{Origin: origin, Signer: repotest.Signer("log"), Ledger: ledger})
	if err != nil {
		b.Fatal(err)
	}
	last, size := from.last(), int64(1000)
	for b.Loop() {
		if last, err = l.Append(b.Context(), last, leaves(size, 3)); err != nil {
			b.Fatal(err)
		}
		size += 3
	}
}

// The processor time of an append to logs of different lengths.
func BenchmarkAppendMemory(b *testing.B) {
	for name, size := range map[string]int{"10": 10, "100000": 100_000} {
		b.Run(name, func(b *testing.B) {
			w := long(b, size)
			l, last, at := w.log(), w.last(), int64(size)
			for b.Loop() {
				var err error
				if last, err = l.Append(b.Context(), last, leaves(at, 3)); err != nil {
					b.Fatal(err)
				}
				at += 3
			}
		})
	}
}
