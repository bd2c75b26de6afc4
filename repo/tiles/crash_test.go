package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// grown is a log of a size, with an unbroken history.
func grown(t testing.TB, size int) *world {
	w := newWorld(t)
	if size > 2 {
		w.append(size - 2)
	}
	if size > 0 {
		w.append(min(size, 2))
	}
	return w
}

// newest returns the entries of the storage's log.
func (w *world) newest() [][]byte {
	w.Helper()
	at, err := w.log().read(w.Context())
	w.must(err)
	if at.head.size == 0 {
		return nil
	}
	w.must(at.compare())
	open, err := Open(w.Context(), w.store, "log/1/", w.log().key)
	w.must(err)
	var out [][]byte
	for n := int64(0); n*256 < open.Tree.Size; n++ {
		bundle, err := open.Tree.Bundle(n)
		w.must(err)
		out = append(out, bundle...)
	}
	return out
}

// A process dies before or after any call of storage, ledger or signer. The next call heals
// the log: the batch is in it completely or not at all, and the tree is the one of a run
// without a crash.
func TestCrash(t *testing.T) {
	rawtuf.Sequential(t)
	t.Parallel()
	crashes := 0
	for _, size := range []int{0, 1, 253, 254, 255, 256, 510, 511, 512} {
		for _, n := range []int{1, 3, 260} {
			if !rawtuf.Long && n == 260 && size != 255 {
				continue
			}
			start := grown(t, size)
			healthy := &steps{}
			batch, other := leaves(int64(size), n), [][]byte{[]byte("other")}
			clean := start.copy()
			_, err := clean.at(healthy).Append(t.Context(), clean.last(), batch)
			clean.must(err)
			for k := 1; k <= healthy.count; k++ {
				for _, after := range []bool{false, true} {
					for _, once := range []bool{false, true} {
						what := fmt.Sprintf("%d leaves after %d, call %d: %s, after its effect: %v, once: %v", n, size, k, healthy.log[k-1], after, once)
						if !rawtuf.Long && once != (k%3 == 0) {
							continue // by turns
						}
						crashes++
						w := start.copy()
						old := w.last()
						s := &steps{n: k, after: after, once: once}
						l := w.at(s)
						if _, err := l.Append(t.Context(), old, batch); !errors.Is(err, errDead) || errors.Is(err, repo.ErrConflict) || errors.Is(err, repo.ErrFork) {
							t.Fatalf("%s: %v", what, err)
						}
						if !once {
							l = w.log() // of another process
						}
						if k%2 == 0 { // the next call is Checkpoint
							if _, err := l.Checkpoint(t.Context()); err != nil && !errors.Is(err, fs.ErrNotExist) {
								t.Fatalf("%s: then Checkpoint: %v", what, err)
							}
						}
						// A caller that does not look first learns of the batch by a conflict.
						note, err := l.Append(t.Context(), old, other)
						if errors.Is(err, repo.ErrConflict) {
							w.expect(batch)
							w.holds(w.last())
							note, err = l.Append(t.Context(), w.last(), other)
						}
						if err != nil {
							t.Fatalf("%s: then Append: %v", what, err)
						}
						w.expect(other)
						w.holds(note)
					}
				}
			}
		}
	}
	t.Logf("%d crashes", crashes)
	if crashes < 500 {
		t.Errorf("only %d crashes", crashes)
	}
}

// The process that heals dies, too.
func TestCrashTwice(t *testing.T) {
	rawtuf.Sequential(t)
	t.Parallel()
	start := grown(t, 255)
	batch := leaves(255, 3)
	for k := 1; ; k++ {
		for _, after := range []bool{false, true} {
			first := start.copy()
			if _, err := first.at(&steps{n: k, after: after}).Append(t.Context(), first.last(), batch); err == nil {
				return
			}
			for m, more := 1, true; more; m++ {
				if !rawtuf.Long && (k+m)%3 != 0 {
					more = m < 40
					continue
				}
				w := first.copy()
				s := &steps{n: m, after: m%2 == 0}
				_, err := w.at(s).Append(t.Context(), start.last(), batch)
				more = s.count >= m
				if more && !errors.Is(err, errDead) {
					t.Fatalf("crashes at calls %d and %d: %v", k, m, err)
				}
				_, err = w.log().Append(t.Context(), start.last(), batch)
				if err != nil && !errors.Is(err, repo.ErrConflict) {
					t.Fatalf("crashes at calls %d and %d: %v", k, m, err)
				}
				w.expect(batch)
				w.holds(w.last())
			}
		}
	}
}

// A signer that refuses, or answers with a wrong signature, stops the log until it works
// again; the batch is pending meanwhile.
func TestSignerFails(t *testing.T) {
	w := grown(t, 3)
	good := w.signer.Signer
	for what, x := range map[string]struct {
		signer badSigner
		want   error
	}{
		"no answer":          {badSigner{good, nil, errDead}, errDead},
		"a wrong signature":  {badSigner{good, make([]byte, 64), nil}, repo.ErrSignature},
		"an empty signature": {badSigner{good, nil, nil}, repo.ErrSignature},
	} {
		w.signer.Signer = x.signer
		old := w.last()
		for range 2 { // the second call finds the batch pending
			if _, err := w.log().Append(t.Context(), old, leaves(w.tree.Size, 1)); !errors.Is(err, x.want) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		w.signer.Signer = good
		note, err := w.log().Checkpoint(t.Context())
		w.must(err)
		w.expect(leaves(w.tree.Size, 1))
		w.holds(note)
	}
}

// badSigner is a signer with an answer of its own.
type badSigner struct {
	tuf.Signer
	sig []byte
	err error
}

func (b badSigner) Sign(context.Context, []byte) ([]byte, error) { return b.sig, b.err }

// The ledger has recorded each tree before the signer is called, and each batch before it
// is written, and the storage has all files of a tree before both.
func TestOrder(t *testing.T) {
	w := grown(t, 254)
	s := &steps{}
	_, err := w.at(s).Append(t.Context(), w.last(), leaves(254, 3))
	w.must(err)
	var writes []string
	for _, step := range s.log {
		if step[:4] != "read" && step[:4] != "load" {
			writes = append(writes, step)
		}
	}
	want := []string{"swap ledger", "replace private/log-pending/1",
		"create log/1/tile/entries/000", "create log/1/tile/entries/001.p/1", "create log/1/tile/0/000", "create log/1/tile/0/001.p/1", "create log/1/tile/1/000.p/1",
		"swap ledger", "sign", "replace log/1/checkpoint"}
	if !slices.Equal(writes, want) {
		t.Errorf("writes\n%q, want\n%q", writes, want)
	}
	readBack := slices.Index(s.log, "create log/1/tile/1/000.p/1")
	for _, name := range []string{"entries/000", "entries/001.p/1", "0/000", "0/001.p/1", "1/000.p/1"} {
		if !slices.Contains(s.log[readBack:slices.Index(s.log, "sign")], "read log/1/tile/"+name) {
			t.Errorf("tile/%s is not read back before the signature", name)
		}
	}
}

// A storage that returns other bytes than were written: nothing is signed.
func TestReadBack(t *testing.T) {
	for _, name := range []string{"entries/000.p/6", "0/000.p/6"} {
		w := grown(t, 3)
		old, signed := w.last(), len(w.signer.roots)
		w.store.After = func(written string) error {
			if written == "log/1/tile/"+name {
				data := slices.Clone(w.store.Files[written])
				data[len(data)-1] ^= 1
				w.store.Files[written] = data
			}
			return nil
		}
		if _, err := w.log().Append(t.Context(), old, leaves(3, 3)); !errors.Is(err, repo.ErrFork) {
			t.Fatalf("a flipped bit in %s: %v", name, err)
		}
		w.store.After = nil
		w.refused("a flipped bit in "+name, repo.ErrFork)
		if len(w.signer.roots) != signed {
			t.Fatal("a tree was signed that the storage does not have")
		}
		delete(w.store.Files, "log/1/tile/"+name) // a person removes the damaged file
		note, err := w.log().Checkpoint(t.Context())
		w.must(err)
		w.expect(leaves(3, 3))
		w.holds(note)
	}
}

// Partial tiles whose full tiles exist may be removed.
func TestPartialTilesRemoved(t *testing.T) {
	w := grown(t, 255)
	w.append(2)
	for name := range w.store.Files {
		if name == "log/1/tile/entries/000.p/255" || name == "log/1/tile/0/000.p/255" || name == "log/1/tile/0/000.p/253" || name == "log/1/tile/entries/000.p/253" {
			delete(w.store.Files, name)
			delete(w.files, name[len("log/1/"):])
		}
	}
	note, err := w.log().Append(t.Context(), w.last(), leaves(257, 1))
	w.must(err)
	w.expect(leaves(257, 1))
	w.holds(note)
}
