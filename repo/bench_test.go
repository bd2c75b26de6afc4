package repo_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/repo"
)

// These benchmarks measure visum and then, once in the same run, the same work with
// go-tuf's metadata package. cpu-ms counts all processors and the garbage collector;
// gotuf/ours is the ratio of the two.

// rules returns one path of many.
func rules(i int) string { return fmt.Sprintf("agent/rules/%03d/%07d.rules", i%1000, i) }

func addRules(from, to int, content func(i int) string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for i := from; i < to; i++ {
			if err := tx.Add("vendor", rules(i), strings.NewReader(content(i)), nil); err != nil {
				return err
			}
		}
		return nil
	}
}

func changed(i int) string { return "changed " + strconv.Itoa(i) }

func approveRules(from, to int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for i := from; i < to; i++ {
			if err := tx.Approve("review", rules(i), nil); err != nil {
				return err
			}
		}
		return nil
	}
}

// noTargets is a storage that keeps metadata only: the cost of copying files is not
// measured.
type noTargets struct{ repo.Storage }

func (s noTargets) Create(ctx context.Context, name string, r io.Reader) error {
	if !strings.HasPrefix(name, "targets/") {
		return s.Storage.Create(ctx, name, r)
	}
	_, err := io.Copy(io.Discard, r)
	return err
}

// Read reports every target as present.
func (s noTargets) Read(ctx context.Context, name string) ([]byte, error) {
	if strings.HasPrefix(name, "targets/") && !strings.Contains(name, ".reviews/") {
		return []byte{}, nil
	}
	return s.Storage.Read(ctx, name)
}

// byHand is one targets file with go-tuf's types.
type byHand struct {
	signer signature.Signer
	file   []byte
}

func newByHand(b *testing.B) *byHand {
	_, key, err := ed25519.GenerateKey(nil)
	noErr(b, err)
	s, err := signature.LoadSigner(key, 0)
	noErr(b, err)
	return &byHand{signer: s}
}

func (h *byHand) first(n int) error {
	md := metadata.Targets(time.Now().Add(time.Hour).Truncate(time.Second).UTC())
	for i := range n {
		sum := sha256.Sum256([]byte("1"))
		md.Signed.Targets[rules(i)] = &metadata.TargetFiles{Length: 1, Hashes: metadata.Hashes{"sha256": sum[:]}, Path: rules(i)}
	}
	return h.write(md)
}

func (h *byHand) write(md *metadata.Metadata[metadata.TargetsType]) error {
	_, err := md.Sign(h.signer)
	if err == nil {
		h.file, err = md.ToBytes(false)
	}
	return err
}

func (h *byHand) change(i int) error {
	md, err := metadata.Targets().FromBytes(h.file)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("changed"))
	md.Signed.Targets[rules(i)] = &metadata.TargetFiles{Length: 7, Hashes: metadata.Hashes{"sha256": sum[:]}, Path: rules(i)}
	md.Signed.Version++
	md.ClearSignatures()
	return h.write(md)
}

// theirs reports the cost of f relative to ours.
func theirs(b *testing.B, ours time.Duration, f func() error) {
	b.Helper()
	start := cpuTime()
	noErr(b, f())
	took := cpuTime() - start
	b.ReportMetric(float64(took)/1e6, "gotuf-cpu-ms")
	b.ReportMetric(float64(took)/float64(ours), "gotuf/ours")
}

const hundredThousand = 100_000

// A hundred thousand files are listed and published for the first time.
func BenchmarkFirstPublish(b *testing.B) {
	var ours time.Duration
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		w.Elsewhere = noTargets{w.Store}
		b.StartTimer()
		start := cpuTime()
		w.Update(addRules(0, hundredThousand, strconv.Itoa))
		ours += cpuTime() - start
	}
	ours /= time.Duration(b.N)
	b.ReportMetric(float64(ours)/1e6, "cpu-ms/op")
	h := newByHand(b)
	theirs(b, ours, func() error { return h.first(hundredThousand) })
}

// One file of a hundred thousand changes at the vendor.
func BenchmarkOneChanged(b *testing.B) {
	w := newWorld(b)
	w.Elsewhere = noTargets{w.Store}
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(addRules(0, hundredThousand, strconv.Itoa)(tx), approveRules(0, hundredThousand)(tx))
	})
	h := newByHand(b)
	noErr(b, h.first(hundredThousand))
	i := 0
	start := cpuTime()
	for b.Loop() {
		w.Update(addRules(i, i+1, changed))
		i++
	}
	ours := (cpuTime() - start) / time.Duration(b.N)
	b.ReportMetric(float64(ours)/1e6, "cpu-ms/op")
	theirs(b, ours, func() error { return h.change(7) })
}

// peakHeap runs f once and returns the peak growth of the heap.
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
			case <-time.After(time.Millisecond):
			}
		}
	}()
	err := f()
	close(stop)
	return max(<-most, before) - before, err
}

// An artifact has 4 GiB. go-tuf's metadata package reads files whole.
func BenchmarkLargeFile(b *testing.B) {
	b.SetBytes(4 << 30)
	for b.Loop() {
		b.ReportMetric(float64(addLarge(b, 4<<30))/(1<<20), "peak-MiB")
	}
}

// A hundred thousand files are first published into a directory on disk, with each
// metadata file flushed.
func BenchmarkFolder(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := emptyWorld(b)
		w.Elsewhere = noTargets{repo.Folder(b.TempDir())}
		w.Update(w.Define)
		draft, err := w.Open().Stage(b.Context(), addRules(0, hundredThousand, strconv.Itoa))
		noErr(b, err)
		b.StartTimer()
		noErr(b, w.Open().Publish(b.Context(), draft))
	}
}
