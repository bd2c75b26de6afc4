package tlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	merkle "golang.org/x/mod/sumdb/tlog"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/tuf/tlog"
)

func leaf(i int) []byte { return fmt.Appendf(nil, "entry %d", i) }

// plain is the tree of the first n leaves, computed by x/mod from hashes in memory.
func plain(t testing.TB, n int) (merkle.Hash, merkle.HashReader) {
	t.Helper()
	var stored []merkle.Hash
	r := merkle.HashReaderFunc(func(indexes []int64) (out []merkle.Hash, err error) {
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i := range n {
		h, err := merkle.StoredHashes(int64(i), leaf(i), r)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, h...)
	}
	root, err := merkle.TreeHash(int64(n), r)
	if err != nil {
		t.Fatal(err)
	}
	return root, r
}

// A log that grows in batches of all sizes, over borders of tiles, has the same roots and
// proofs as a tree in memory, and never changes a file.
func TestGrowth(t *testing.T) {
	const n = 70_000
	l := rawlog.NewLog("a.example/log")
	_, r := plain(t, n)
	next := func(size int) int {
		switch size {
		case 3:
			return 255
		case 258:
			return 254
		case 512:
			return 65_023
		}
		return min(size+1, 1000)
	}
	for size := 0; size < n; {
		var batch [][]byte
		for i := range min(next(size), n-size) {
			batch = append(batch, leaf(size+i))
		}
		before := size
		l.Append(batch...)
		size += len(batch)
		root, err := merkle.TreeHash(int64(size), r)
		if err != nil || l.Tree.Root != tlog.Hash(root) || l.Tree.Size != int64(size) {
			t.Fatalf("%d entries: root %x, want %x, %v", size, l.Tree.Root, root, err)
		}
		for _, i := range []int64{0, int64(before), int64(size) / 2, int64(size) - 1} {
			got, err := l.Tree.Inclusion(i)
			want, _ := merkle.ProveRecord(int64(size), i, r)
			if err != nil || !slices.EqualFunc(got, want, func(a tlog.Hash, b merkle.Hash) bool { return a == tlog.Hash(b) }) {
				t.Fatalf("%d entries, proof of %d: %v, %v", size, i, got, err)
			}
		}
		proof, err := l.Tree.Consistency(int64(before))
		if err != nil {
			t.Fatal(err)
		}
		was := tlog.EmptyRoot
		if before > 0 {
			h, _ := merkle.TreeHash(int64(before), r)
			was = tlog.Hash(h)
		}
		if err := tlog.CheckConsistency(proof, int64(before), was, int64(size), l.Tree.Root); err != nil {
			t.Fatal(err)
		}
		was[5] ^= 1
		if err := tlog.CheckConsistency(proof, int64(before), was, int64(size), l.Tree.Root); !errors.Is(err, tlog.ErrInclusion) {
			t.Fatalf("another tree of %d entries: %v", before, err)
		}
		list, err := l.Tree.Bundle(int64(before) / tlog.TileWidth)
		if err != nil || !bytes.Equal(list[before%tlog.TileWidth], leaf(before)) {
			t.Fatalf("bundle of entry %d: %v", before, err)
		}
	}
}

// An append reads and writes a few files, however long the log is.
func TestFilesOfAnAppend(t *testing.T) {
	l := rawlog.NewLog("a.example/log")
	var batch [][]byte
	for i := range 65_790 { // 256 bundles and one of 254
		batch = append(batch, leaf(i))
	}
	l.Append(batch...)
	read := map[string]bool{}
	tree := *l.Tree
	tree.Read = func(path string) ([]byte, error) { read[path] = true; return l.Read(path) }
	_, files, err := tree.Append([][]byte{leaf(1), leaf(2), leaf(3)})
	if err != nil || len(files) != 5 || len(read) > 4 {
		t.Errorf("%d files, %d read: %v, %v", len(files), len(read), read, err)
	}
}

// Whatever the tiles are, the methods return what belongs to the tree, or an error.
func TestWrongTiles(t *testing.T) {
	l := rawlog.NewLog("a.example/log")
	var batch [][]byte
	for i := range 300 {
		batch = append(batch, leaf(i))
	}
	l.Append(batch...)
	good := maps.Clone(l.Files)
	use := func() error {
		var all []error
		_, err := l.Tree.Inclusion(299)
		all = append(all, err)
		_, err = l.Tree.Consistency(3)
		all = append(all, err)
		for _, n := range []int64{0, 1} {
			_, err = l.Tree.Bundle(n)
			all = append(all, err)
		}
		next, _, err := l.Tree.Append([][]byte{leaf(300)})
		if err == nil {
			if root, _ := plain(t, 301); next.Root != tlog.Hash(root) {
				t.Error("the tree has another root")
			}
		}
		return errors.Join(append(all, err)...)
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	for path, data := range good {
		for what, bad := range map[string][]byte{
			"bit":     append([]byte{data[0] ^ 1}, data[1:]...),
			"end":     append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1),
			"shorter": data[:len(data)-1],
			"empty":   {},
			"longer":  append(bytes.Clone(data), 0),
		} {
			l.Files = maps.Clone(good)
			l.Files[path] = bad
			if err := use(); !errors.Is(err, tlog.ErrInclusion) && !errors.Is(err, tlog.ErrMalformed) {
				t.Errorf("%s, %s: %v", path, what, err)
			}
		}
		l.Files = maps.Clone(good)
		delete(l.Files, path)
		if err := use(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is missing: %v", path, err)
		}
	}
	l.Files = good
	if err := use(); err != nil {
		t.Errorf("healed: %v", err)
	}
	// The full tile takes the place of a partial one that was removed.
	old := *l.Tree
	batch = batch[:0]
	for i := range 212 {
		batch = append(batch, leaf(300+i))
	}
	l.Append(batch...)
	for path := range l.Files {
		if strings.HasPrefix(path, "tile/0/001.p/") || strings.HasPrefix(path, "tile/entries/001.p/") {
			delete(l.Files, path)
		}
	}
	if _, err := old.Inclusion(299); err != nil {
		t.Error(err)
	}
	if list, err := old.Bundle(1); err != nil || len(list) != 44 {
		t.Errorf("%d entries, %v", len(list), err)
	}
	for _, i := range []int64{-1, 300, 1 << 62} {
		if _, err := old.Inclusion(i); !errors.Is(err, tlog.ErrInclusion) {
			t.Errorf("entry %d: %v", i, err)
		}
		if _, err := old.Bundle(i); !errors.Is(err, tlog.ErrInclusion) && i != 300 {
			t.Errorf("bundle %d: %v", i, err)
		}
		if _, err := old.Consistency(i + 1); !errors.Is(err, tlog.ErrInclusion) && i >= 300 {
			t.Errorf("tree of %d: %v", i+1, err)
		}
	}
}

// The vectors of tlog-tiles, and what is not the path of a tile.
func TestTilePaths(t *testing.T) {
	for _, path := range []string{
		"tile/0/000", "tile/3/x123/x456/789", "tile/0/x001/234.p/7", "tile/entries/x001/234", "tile/entries/000.p/255", "tile/7/x001/000",
	} {
		if got, err := tlog.ParseTilePath(path); err != nil || got.Path() != path {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
	for _, path := range []string{
		"", "tile/0", "tile/0/", "tile/8/000", "tile/-1/000", "tile/00/000", "tile/0/0", "tile/0/0000", "tile/0/x000/001", "tile/0/001/002", "tile/0/x001/x002",
		"tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/07", "tile/0/000.p/", "tile/0/000.p/1.p/1", "tile/data/000", "tile/0/+01", "tile/0/-01", "/tile/0/000",
		"0/000", "tile/0/" + strings.Repeat("x999/", 18) + "999", "tile/0/" + strings.Repeat("x999/", 7) + "999",
	} {
		if got, err := tlog.ParseTilePath(path); !errors.Is(err, tlog.ErrMalformed) {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}
}

func TestBundles(t *testing.T) {
	var data []byte
	for _, entry := range [][]byte{{}, []byte("a"), make([]byte, tlog.MaxEntry)} {
		var err error
		if data, err = tlog.AppendEntry(data, entry); err != nil {
			t.Fatal(err)
		}
	}
	for width := range 4 {
		if got, err := tlog.ParseBundle(data, width); err != nil || len(got) != width {
			t.Errorf("%d: %d, %v", width, len(got), err)
		}
	}
	if _, err := tlog.ParseBundle(data, 4); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
	if _, err := tlog.ParseBundle(data[:len(data)-1], 1); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
	if _, err := tlog.ParseBundle(make([]byte, 2*257), 1); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
	if _, err := tlog.AppendEntry(nil, make([]byte, tlog.MaxEntry+1)); !errors.Is(err, tlog.ErrMalformed) {
		t.Error(err)
	}
}
