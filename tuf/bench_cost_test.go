package tuf_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// These benchmarks measure package tuf in the loop and go-tuf once after it, in the same
// run. The metric go-tuf/ours is the ratio of their times for decoding and verifying the
// same files. cpu-ms/op counts all processors, including the garbage collector; peak-MiB
// is the growth of the heap.

// measured runs ours as the benchmark, then theirs, which may be nil.
func measured(b *testing.B, ours, theirs func() error) {
	b.Helper()
	b.ReportAllocs()
	cpu := cpuTime()
	for b.Loop() {
		if err := ours(); err != nil {
			b.Fatal(err)
		}
	}
	each := b.Elapsed() / time.Duration(b.N)
	b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N)/1e6, "cpu-ms/op")
	peak, err := peakHeap(ours)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
	if theirs == nil {
		return
	}
	// Repeated for a second, so that small operations are measurable.
	n, start := 0, time.Now()
	for n == 0 || time.Since(start) < time.Second && n < 100 {
		if err := theirs(); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(time.Since(start))/float64(n)/float64(each), "go-tuf/ours")
}

// peakHeap runs f once and returns the greatest growth of the heap.
func peakHeap(f func() error) (uint64, error) {
	heap := func() uint64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	runtime.GC()
	before, stop, most := heap(), make(chan struct{}), make(chan uint64)
	go func() {
		var high uint64
		for {
			high = max(high, heap())
			select {
			case <-stop:
				most <- high
				return
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	err := f()
	last := heap()
	close(stop)
	return max(<-most, last, before) - before, err
}

// stockRoles verifies files with go-tuf: root by itself, each other file by its delegator.
func stockRoles(files map[string][]byte, delegated ...string) error {
	root, err := metadata.Root().FromBytes(files["root"])
	if err != nil {
		return err
	}
	if err := root.VerifyDelegate("root", root); err != nil {
		return err
	}
	if files["timestamp"] != nil {
		ts, err := metadata.Timestamp().FromBytes(files["timestamp"])
		if err == nil {
			err = root.VerifyDelegate("timestamp", ts)
		}
		if err != nil {
			return err
		}
	}
	if files["snapshot"] != nil {
		snap, err := metadata.Snapshot().FromBytes(files["snapshot"])
		if err == nil {
			err = root.VerifyDelegate("snapshot", snap)
		}
		if err != nil {
			return err
		}
	}
	if files["targets"] == nil {
		return nil
	}
	targets, err := metadata.Targets().FromBytes(files["targets"])
	if err == nil {
		err = root.VerifyDelegate("targets", targets)
	}
	if err != nil {
		return err
	}
	for _, role := range delegated {
		m, err := metadata.Targets().FromBytes(files[role])
		if err == nil {
			err = targets.VerifyDelegate(role, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkSnapshotBins verifies a snapshot of 16,384 hash bins, each with its length and
// hash, with a prior.
func BenchmarkSnapshotBins(b *testing.B) {
	r := rawtuf.NewPlain()
	meta := rawtuf.At(r.Roles["snapshot"], "meta")
	for i := range 1 << 14 {
		f := rawtuf.FileOf(fmt.Append(nil, i))
		f["version"] = 1 + i%100
		meta[fmt.Sprintf("bin-%04x.json", i)] = f
	}
	r.PublishSnapshot()
	before := r.Files["5.snapshot.json"]
	r.Bump()
	r.PublishSnapshot()
	data := r.Files["6.snapshot.json"]
	ts, err := newClient(b, r).root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	measured(b, func() error {
		_, err := ts.Snapshot(data, before)
		return err
	}, func() error {
		// go-tuf must read the prior too.
		for _, snap := range [][]byte{before, data} {
			if err := stockRoles(map[string][]byte{"root": r.Files["1.root.json"], "snapshot": snap}); err != nil {
				return err
			}
		}
		return nil
	})
}

// BenchmarkJunkSignatures opens a root with many signatures by unknown keys: refused
// beyond Limits.Signatures, and of linear cost with a higher limit.
func BenchmarkJunkSignatures(b *testing.B) {
	junk := func(n int) []byte {
		r := rawtuf.NewPlain()
		var sigs strings.Builder
		for i := range n {
			fmt.Fprintf(&sigs, `{"keyid":"%d","sig":""},`, i)
		}
		edit(r, "1.root.json", `"signatures":[`, `"signatures":[`+sigs.String())
		return r.Files["1.root.json"]
	}
	theirs := func(data []byte) func() error {
		return func() error { return stockRoles(map[string][]byte{"root": data}) }
	}
	b.Run("refused/20000", func(b *testing.B) {
		data := junk(20_000)
		b.SetBytes(int64(len(data)))
		measured(b, func() error {
			if _, err := tuf.OpenRoot(data, &tuf.Options{Limits: tuf.Limits{Root: 8 << 20}}); err == nil {
				return fmt.Errorf("taken")
			}
			return nil
		}, theirs(data))
	})
	for _, n := range []int{5_000, 10_000, 20_000} {
		b.Run(fmt.Sprintf("raised/%d", n), func(b *testing.B) {
			data := junk(n)
			b.SetBytes(int64(len(data)))
			measured(b, func() error {
				_, err := tuf.OpenRoot(data, &tuf.Options{Limits: tuf.Limits{Root: 8 << 20, Signatures: 30_000}})
				return err
			}, theirs(data))
		})
	}
}

// BenchmarkProduct verifies a typical repository, from the root on: 5 roles, 200
// targets, each of them looked up.
func BenchmarkProduct(b *testing.B) {
	release := func(i int) (path string, rel doc) {
		return fmt.Sprintf("lib/package-%03d.tar.gz", i), doc{"product": "package", "version": fmt.Sprintf("1.0.%d", i), "channel": "stable", "platform": "linux/amd64", "sequence": i + 1}
	}
	b.Run("plain", func(b *testing.B) {
		r := rawtuf.NewPlain()
		var paths []string
		for i := range 200 {
			path, rel := release(i)
			role := "lib"
			if i%2 == 0 {
				path, role = "top-"+path[4:], "targets"
			}
			r.AddTarget(path, path, rel, role)
			paths = append(paths, path)
		}
		r.Publish()
		files := map[string][]byte{"root": r.Files["1.root.json"], "timestamp": r.Files["timestamp.json"],
			"snapshot": r.Files["5.snapshot.json"], "targets": r.Files["5.targets.json"], "lib": r.Files["5.lib.json"]}
		get := from(r)
		measured(b, func() error {
			root, err := tuf.OpenRoot(files["root"], nil)
			if err != nil {
				return err
			}
			snap, err := (&client{root: root}).refresh(r)
			if err != nil {
				return err
			}
			for _, path := range paths {
				if _, err := snap.UnsafeTarget(path, get); err != nil {
					return err
				}
			}
			return nil
		}, func() error { return stockRoles(files, "lib") })
	})
	// With a charter: two parties and a hold, each target listed by both.
	b.Run("charter", func(b *testing.B) {
		r := rawtuf.New()
		var paths []string
		for i := range 200 {
			path, rel := release(i)
			path = "agent" + path[3:]
			r.AddTarget(path, path, rel, "vendor-agent", "review-agent")
			paths = append(paths, path)
		}
		r.Publish()
		pin, get := rawtuf.Marshal(r.Pin()), from(r)
		measured(b, func() error {
			p, err := tuf.OpenPin(pin, nil)
			if err != nil {
				return err
			}
			snap, err := (&client{root: p.Root()}).refresh(r)
			if err != nil {
				return err
			}
			for _, path := range paths {
				if _, err := snap.Approve(path, get); err != nil {
					return err
				}
			}
			return nil
		}, nil)
	})
}
