package storagetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/visum-dev/visum/repo/storage"
)

var errCut = errors.New("line cut")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func conflict(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, storage.ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
}

func ended(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want the context's error", err)
	}
}

func absent(t *testing.T, s storage.Storage, name string) {
	t.Helper()
	if data, err := s.Read(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Read(%.80q) = %d bytes, %v; want fs.ErrNotExist", name, len(data), err)
	}
}

func holds(t *testing.T, s storage.Storage, name, want string) {
	t.Helper()
	got, err := s.Read(t.Context(), name)
	if err != nil {
		t.Fatalf("Read(%.80q): %v", name, err)
	}
	if string(got) != want {
		t.Fatalf("Read(%.80q) = %.40q (%d bytes), want %.40q (%d bytes)", name, got, len(got), want, len(want))
	}
}

// together calls fn n times concurrently.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// one returns the index of the only nil in errs; the others must be conflicts.
func one(t *testing.T, errs []error) int {
	t.Helper()
	winner := -1
	for i, err := range errs {
		switch {
		case err != nil:
			conflict(t, err)
		case winner >= 0:
			t.Fatalf("writers %d and %d both succeeded", winner, i)
		default:
			winner = i
		}
	}
	if winner < 0 {
		t.Fatal("no writer succeeded")
	}
	return winner
}

// pattern reads n bytes whose period is not a power of two.
func pattern(n int64) io.Reader { return io.LimitReader(&ring{}, n) }

var ringBytes = func() []byte {
	b := make([]byte, 251*300)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}()

type ring struct{ at int }

func (r *ring) Read(p []byte) (int, error) {
	n := copy(p, ringBytes[r.at:])
	r.at = (r.at + n) % len(ringBytes)
	return n, nil
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

// act is an empty reader that calls a function when it is read.
type act func()

func (a act) Read([]byte) (int, error) { a(); return 0, io.EOF }

// drip returns one byte at a time, and io.EOF together with the last byte.
type drip struct{ r io.Reader }

func (o drip) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := o.r.Read(p[:1])
	if s, ok := o.r.(interface{ Len() int }); ok && s.Len() == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}
