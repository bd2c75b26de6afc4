// Package logtest tests implementations of [repo.Log].
package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Open returns handles on one log, which is empty at first. A further call gives another
// handle on the same log, or nil if the implementation supports only one.
type Open func() repo.Log

// Run tests a log. open makes a new log for each test, and returns its public key and its
// handles. The log is only written by this package.
func Run(t *testing.T, open func(t *testing.T) (tlog.Key, Open)) {
	for _, x := range []struct {
		name string
		test func(*history)
	}{
		{"Empty", empty},
		{"Grow", grow},
		{"Files", files},
		{"After", after},
		{"AfterUnsigned", afterUnsigned},
		{"Limits", limits},
		{"Cancelled", cancelled},
		{"SlicesStayTheCallers", slices},
		{"Handles", handles},
		{"Race", race},
	} {
		t.Run(x.name, func(t *testing.T) {
			key, handle := open(t)
			h := &history{T: t, key: key, open: handle, log: handle(), files: map[string][]byte{}}
			h.tree = &tlog.Tree{Root: tlog.EmptyRoot, Read: func(path string) ([]byte, error) {
				if data, ok := h.files[path]; ok {
					return data, nil
				}
				return nil, fs.ErrNotExist
			}}
			x.test(h)
		})
	}
}

// history is a log and what must be in it, computed in memory.
type history struct {
	*testing.T
	key   tlog.Key
	open  Open
	log   repo.Log
	last  []byte // the newest checkpoint
	tree  *tlog.Tree
	files map[string][]byte
	seen  []*tlog.Tree // of all checkpoints
}

// leaves returns n new leaves, no two of which are equal.
func (h *history) leaves(n int) (out [][]byte) {
	for i := range n {
		out = append(out, fmt.Appendf(nil, "leaf %d", h.tree.Size+int64(i)))
	}
	return out
}

// expect adds leaves to what must be in the log.
func (h *history) expect(leaves [][]byte) {
	h.Helper()
	next, made, err := h.tree.Append(leaves)
	if err != nil {
		h.Fatal(err)
	}
	for _, f := range made {
		h.files[f.Path] = f.Data
	}
	h.tree = next
	h.seen = append(h.seen, next)
}

// append appends leaves, which must succeed.
func (h *history) append(leaves ...[]byte) {
	h.Helper()
	note, err := h.log.Append(h.Context(), h.last, leaves)
	if err != nil {
		h.Fatalf("Append of %d leaves to %d: %v", len(leaves), h.tree.Size, err)
	}
	h.expect(leaves)
	h.verify(note)
	h.last = note
}

// verify checks that a checkpoint is signed and is that of the expected tree.
func (h *history) verify(note []byte) {
	h.Helper()
	size, root := parse(h.T, note, h.key)
	if size != h.tree.Size || root != h.tree.Root {
		h.Fatalf("checkpoint of %d entries with root %x, want %d with %x", size, root, h.tree.Size, h.tree.Root)
	}
}

// same checks that the log is as expected, and was not changed by the last call.
func (h *history) same() {
	h.Helper()
	note, err := h.log.Checkpoint(h.Context())
	if h.tree.Size == 0 {
		if !errors.Is(err, fs.ErrNotExist) {
			h.Fatalf("Checkpoint of an empty log: %q, %v; want fs.ErrNotExist", note, err)
		}
		return
	}
	if err != nil {
		h.Fatal(err)
	}
	h.verify(note)
}

// parse verifies the signature of the log on a checkpoint.
func parse(t *testing.T, note []byte, key tlog.Key) (int64, tlog.Hash) {
	t.Helper()
	s, lines, err := tlog.SplitNote(note)
	if err != nil {
		t.Fatal(err)
	}
	origin, size, root, err := tlog.ParseCheckpointText(s)
	if err != nil || origin != key.Name {
		t.Fatalf("checkpoint of %q, want %q: %v", origin, key.Name, err)
	}
	signed := 0
	for _, line := range lines {
		public := tuf.Key{Type: "ed25519", Scheme: "ed25519", Public: fmt.Sprintf("%x", key.Public)}
		if line.By(key) && public.Verifies([]byte(s), line.Sig) {
			signed++
		}
	}
	if signed != 1 {
		t.Fatalf("the checkpoint has %d signatures of the log, want 1:\n%s", signed, note)
	}
	return size, root
}

// empty: before the first append there is neither a checkpoint nor a tile.
func empty(h *history) {
	h.same()
	for _, path := range []string{"tile/0/000", "tile/0/000.p/1", "tile/entries/000", "tile/entries/x001/234.p/7"} {
		if data, err := h.log.Tile(h.Context(), path); !errors.Is(err, fs.ErrNotExist) {
			h.Errorf("Tile(%q) = %q, %v; want fs.ErrNotExist", path, data, err)
		}
	}
	for _, path := range []string{"", "checkpoint", "tile/", "tile/0/0", "tile/0/000/", "tile/00/000", "tile/8/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/../../checkpoint", "/tile/0/000", "tile/0/x001", "tile/entries/000\n"} {
		if data, err := h.log.Tile(h.Context(), path); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			h.Errorf("Tile(%q) = %q, %v; want fs.ErrInvalid", path, data, err)
		}
	}
}

// grow: batches of many sizes, over borders of tiles.
func grow(h *history) {
	for _, n := range []int{1, 1, 3, 249, 1, 1, 1, 254, 1, 2, 300, 1} {
		h.append(h.leaves(n)...)
		h.same()
	}
	h.append([]byte{})
	h.append([]byte("the same"), []byte("the same"))
	h.append(bytes.Repeat([]byte{0xff}, tlog.MaxEntry))
	h.append([]byte("a\nb\n\n— c d\n"), []byte{0, 0xff, '\n'})
	h.same()
}

// files: all files of the trees of all checkpoints can be read, or full ones in place of
// partial ones, and have exactly the content of tlog-tiles.
func files(h *history) {
	for _, n := range []int{2, 253, 2, 600} {
		h.append(h.leaves(n)...)
	}
	full := 0
	for path, want := range h.files {
		got, err := h.log.Tile(h.Context(), path)
		tile, _ := tlog.ParseTilePath(path)
		if tile.Width == tlog.TileWidth {
			full++
		} else if errors.Is(err, fs.ErrNotExist) {
			tile.Width = tlog.TileWidth
			if h.files[tile.Path()] != nil {
				continue // a log may remove it
			}
		}
		if err != nil || !bytes.Equal(got, want) {
			h.Errorf("Tile(%q): %d bytes, %v; want %d bytes", path, len(got), err, len(want))
		}
	}
	if full != 6 {
		h.Fatalf("%d full files, want 3 of entries and 3 of hashes", full)
	}
	for _, old := range h.seen {
		tree := &tlog.Tree{Size: old.Size, Root: old.Root, Read: func(path string) ([]byte, error) { return h.log.Tile(h.Context(), path) }}
		if _, err := tree.Bundle((old.Size - 1) / tlog.TileWidth); err != nil {
			h.Errorf("the last entries of %d: %v", old.Size, err)
		}
	}
}

// after: an append after another checkpoint than the newest is a conflict.
func after(h *history) {
	h.append(h.leaves(2)...)
	first := h.last
	h.append(h.leaves(1)...)
	for what, note := range map[string][]byte{"an empty log": nil, "an earlier checkpoint": first} {
		if _, err := h.log.Append(h.Context(), note, h.leaves(1)); !errors.Is(err, repo.ErrConflict) {
			h.Errorf("Append after %s: %v, want ErrConflict", what, err)
		}
		h.same()
	}
	// Signatures of others on the checkpoint are allowed.
	other := tlog.Key{Name: "other.example", Type: tlog.TypeCosigner, Public: make([]byte, 32)}
	h.last = append(bytes.Clone(h.last), other.SignatureLine(make([]byte, 72))...)
	h.append(h.leaves(1)...)
}

// afterUnsigned: what the log has not signed is refused, and is no conflict, so that the
// caller does not try again.
func afterUnsigned(h *history) {
	h.append(h.leaves(3)...)
	change := func(at int) []byte {
		out := bytes.Clone(h.last)
		out[at] ^= 1
		return out
	}
	text, _, err := tlog.SplitNote(h.last)
	if err != nil {
		h.Fatal(err)
	}
	other := tlog.Key{Name: h.key.Name, Type: tlog.TypeLog, Public: bytes.Repeat([]byte{7}, 32)}
	for what, note := range map[string][]byte{
		"an empty file":                {},
		"a text":                       []byte(text),
		"a changed size":               change(len(h.key.Name) + 1),
		"a changed signature":          change(len(h.last) - 4),
		"another key of the same name": []byte(text + "\n" + other.SignatureLine(make([]byte, 64))),
		"two signatures":               append(bytes.Clone(h.last), h.last[len(text)+1:]...),
		"too many bytes":               append(bytes.Clone(h.last), bytes.Repeat([]byte("x"), 1<<20)...),
	} {
		if note, err := h.log.Append(h.Context(), note, h.leaves(1)); err == nil || errors.Is(err, repo.ErrConflict) {
			h.Errorf("Append after %s: %q, %v; want an error that is not ErrConflict", what, note, err)
		}
		h.same()
	}
	h.append(h.leaves(1)...)
}

// limits: leaves that no log can have are refused, and nothing changes.
func limits(h *history) {
	for range 2 { // at first in an empty log
		large := make([]byte, tlog.MaxEntry+1)
		for _, batch := range [][][]byte{{large}, {[]byte("small"), large}} {
			if _, err := h.log.Append(h.Context(), h.last, batch); !errors.Is(err, tuf.ErrTooLarge) {
				h.Errorf("Append of %d bytes: %v, want tuf.ErrTooLarge", len(large), err)
			}
			h.same()
		}
		for _, none := range [][][]byte{nil, {}} {
			if _, err := h.log.Append(h.Context(), h.last, none); !errors.Is(err, fs.ErrInvalid) {
				h.Errorf("Append of no leaves: %v, want fs.ErrInvalid", err)
			}
			h.same()
		}
		h.append(h.leaves(1)...)
	}
}

// cancelled: a call with a context that has ended changes nothing.
func cancelled(h *history) {
	ctx, cancel := context.WithCancel(h.Context())
	cancel()
	for range 2 {
		_, err := h.log.Append(ctx, h.last, h.leaves(1))
		_, err2 := h.log.Checkpoint(ctx)
		_, err3 := h.log.Tile(ctx, "tile/0/000.p/1")
		for _, err := range []error{err, err2, err3} {
			if !errors.Is(err, context.Canceled) {
				h.Errorf("got %v, want the context's error", err)
			}
		}
		h.same()
		h.append(h.leaves(1)...)
	}
}

// slices: the caller keeps ownership of what it gives and gets.
func slices(h *history) {
	leaf := []byte("leaf")
	given := [][]byte{leaf}
	note, err := h.log.Append(h.Context(), nil, given)
	if err != nil {
		h.Fatal(err)
	}
	h.last = bytes.Clone(note)
	h.expect([][]byte{[]byte("leaf")})
	leaf[0], given[0], note[0] = 'X', nil, 'X'
	h.same()
	for range 2 {
		note, err = h.log.Checkpoint(h.Context())
		tile, err2 := h.log.Tile(h.Context(), "tile/entries/000.p/1")
		if err := errors.Join(err, err2); err != nil {
			h.Fatal(err)
		}
		if !bytes.Equal(tile, h.files["tile/entries/000.p/1"]) {
			h.Fatalf("the bundle is %q", tile)
		}
		h.verify(note)
		note[0], tile[0] = 'X', 'X'
	}
	h.append(h.leaves(1)...)
}

// handles: what one handle appends, another one sees and continues.
func handles(h *history) {
	first, second := h.log, h.open()
	if second == nil {
		h.Skip("the implementation supports only one handle")
	}
	for range 3 {
		h.log = first
		h.append(h.leaves(2)...)
		h.log = second
		h.same()
		h.append(h.leaves(1)...)
		h.log = first
		h.same()
	}
}
