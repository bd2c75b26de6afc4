package client_test

import (
	"net/http"
	"testing"
	"time"
)

const gib = 1 << 30

// BenchmarkSaveGiB saves a target of 1 GiB, each time in a new process, and reports its
// memory and CPU time compared with go-tuf's updater and with a program that only
// receives, hashes and writes.
func BenchmarkSaveGiB(b *testing.B) {
	s := newShelf(b, gib)
	b.SetBytes(gib)
	var ours used
	n := 0
	for b.Loop() {
		u := s.of(b, "ours", "save").mustRun(b)
		ours.CPU, ours.Peak, n = ours.CPU+u.CPU, max(ours.Peak, u.Peak), n+1
	}
	ours.CPU /= max(1, time.Duration(n))
	bare, theirs := s.of(b, "bare", "save").mustRun(b), s.of(b, "go-tuf", "save").mustRun(b)
	b.ReportMetric(mibs(ours.Peak), "peak-MiB")
	b.ReportMetric(mibs(theirs.Peak), "peak-MiB-go-tuf")
	b.ReportMetric(ratio(ours.CPU, bare.CPU), "cpu/bare")
	b.ReportMetric(ratio(theirs.CPU, bare.CPU), "cpu/bare-go-tuf")
	b.ReportMetric(ratio(theirs.Peak, ours.Peak), "peak-go-tuf/ours")
}

// Memory does not grow with the size of the target.
func TestMemoryOfASave(t *testing.T) {
	s := newShelf(t, 256*mib)
	limit := uint64(32 * mib)
	if raced {
		limit *= 4 // the race detector shadows all memory
	}
	if u := s.of(t, "ours", "save").mustRun(t); uint64(u.Peak) > limit {
		t.Errorf("needed %.1f MiB of memory for a target of 256", mibs(u.Peak))
	}
}

// BenchmarkCutInTheMiddle saves a target whose first connection is cut at half of the
// file, and counts the bytes that were sent twice.
func BenchmarkCutInTheMiddle(b *testing.B) {
	const size = 64 * mib
	s := newShelf(b, size)
	twice := func(who string) float64 {
		one := s.of(b, who, "save")
		first := true
		s.does = func(w http.ResponseWriter) http.ResponseWriter {
			if first {
				first = false
				return &cutter{w, size / 2, hangUp}
			}
			return w
		}
		s.sent.Store(0)
		for try := 0; ; try++ {
			u := one.run(b)
			if u.Failed == 0 {
				break
			}
			if try == 3 {
				b.Fatalf("%s: %s", who, u.Error)
			}
		}
		s.busy.Wait() // an answer may have been read before it was counted
		return mibs(s.sent.Load() - size)
	}
	var ours float64
	for b.Loop() {
		ours = twice("ours")
	}
	b.ReportMetric(ours, "MiB-twice")
	b.ReportMetric(twice("go-tuf"), "MiB-twice-go-tuf")
	if ours > 0 {
		b.Errorf("%.1f MiB were fetched twice", ours)
	}
}
