// Package ledgertest tests implementations of [signing.Ledger].
package ledgertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
)

const (
	one   = "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"
	other = "ffffffffffffffffffffffffffffffff"
)

// Run tests a ledger. The first call of the function that open returns must give a
// handle on an empty ledger; a further call gives another handle on the same ledger, or
// nil if the implementation supports only one handle.
func Run(t *testing.T, open func(t *testing.T) func() signing.Ledger) {
	t.Run("swap", func(t *testing.T) { swap(t, open(t)) })
	t.Run("slices", func(t *testing.T) { slices(t, open(t)()) })
	t.Run("identities", func(t *testing.T) { identities(t, open(t)()) })
	t.Run("context", func(t *testing.T) { ended(t, open(t)()) })
	t.Run("race", func(t *testing.T) { race(t, open(t)) })
}

func want(t *testing.T, l signing.Ledger, id, doc string) {
	t.Helper()
	data, err := l.Load(t.Context(), id)
	if doc == "" {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("Load: %q, %v; there is no document", data, err)
		}
		return
	}
	if err != nil || string(data) != doc {
		t.Fatalf("Load: %q, %v; want %q", data, err, doc)
	}
}

// swap: compare-and-swap, visible to every handle.
func swap(t *testing.T, open func() signing.Ledger) {
	ctx, l := t.Context(), open()
	want(t, l, one, "")
	conflict := func(old, new []byte) {
		t.Helper()
		if err := l.Swap(ctx, one, old, new); !errors.Is(err, repo.ErrConflict) {
			t.Fatalf("Swap(%q, %q): %v, want ErrConflict", old, new, err)
		}
	}
	conflict([]byte("a"), []byte("b"))
	conflict([]byte{}, []byte("b"))
	want(t, l, one, "")
	if err := l.Swap(ctx, one, nil, []byte("a")); err != nil {
		t.Fatal(err)
	}
	conflict(nil, []byte("b"))
	conflict([]byte("b"), []byte("c"))
	want(t, l, one, "a")
	if err := l.Swap(ctx, one, []byte("a"), []byte("b")); err != nil {
		t.Fatal(err)
	}
	want(t, l, one, "b")
	want(t, l, other, "")
	if again := open(); again != nil {
		want(t, again, one, "b")
		if err := again.Swap(ctx, one, []byte("b"), []byte("c")); err != nil {
			t.Fatal(err)
		}
		conflict([]byte("b"), []byte("d"))
		want(t, l, one, "c")
	}
}

// slices: the caller keeps ownership of its slices.
func slices(t *testing.T, l signing.Ledger) {
	doc := []byte("abc")
	if err := l.Swap(t.Context(), one, nil, doc); err != nil {
		t.Fatal(err)
	}
	doc[0] = 'x'
	data, err := l.Load(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	want(t, l, one, "abc")
	data[0] = 'y'
	want(t, l, one, "abc")
}

// identities: only 32 lower-case hex digits are a valid repository id.
func identities(t *testing.T, l signing.Ledger) {
	for _, id := range []string{"", "x", "../" + one, strings.ToUpper(one), one + "0", one[1:], "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d/", "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7\x00a"} {
		if err := l.Swap(t.Context(), id, nil, []byte("a")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Swap for %q: %v, want fs.ErrInvalid", id, err)
		}
		if _, err := l.Load(t.Context(), id); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Load for %q: %v, want fs.ErrInvalid", id, err)
		}
	}
}

// ended: a call with a cancelled context changes nothing.
func ended(t *testing.T, l signing.Ledger) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Swap(ctx, one, nil, []byte("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("Swap: %v", err)
	}
	want(t, l, one, "")
	if _, err := l.Load(ctx, one); !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v", err)
	}
}

// race: no writer loses what another has written.
func race(t *testing.T, open func() signing.Ledger) {
	const writers, each = 4, 10
	l := open()
	var all sync.WaitGroup
	for w := range writers {
		mine := l
		if again := open(); again != nil {
			mine = again
		}
		all.Go(func() {
			for n := range each {
				line := fmt.Appendf(nil, "%d %d\n", w, n)
				for {
					old, err := mine.Load(t.Context(), one)
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
						return
					}
					err = mine.Swap(t.Context(), one, old, append(bytes.Clone(old), line...))
					if err == nil {
						break
					}
					if !errors.Is(err, repo.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	data, err := l.Load(t.Context(), one)
	if n := bytes.Count(data, []byte("\n")); err != nil || n != writers*each {
		t.Fatalf("%d records of %d, %v", n, writers*each, err)
	}
}
