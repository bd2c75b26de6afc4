package tlog

import (
	"errors"
	"fmt"
	"io/fs"

	merkle "golang.org/x/mod/sumdb/tlog"
)

// Tree is a log at one size. Its tiles come from a place that need not be trusted: what the
// methods return was verified with Root, whose signature is the caller's concern.
type Tree struct {
	Size int64 // entries
	Root Hash  // of the tree; [EmptyRoot] for no entries
	// Read returns a tile or a bundle by its path. For a partial one that does not exist
	// (an error that wraps [fs.ErrNotExist]) the full one is read. It must limit what it
	// reads: a tile has at most 8 KiB, a bundle at most 16 MiB.
	Read func(path string) ([]byte, error)
}

// EmptyRoot is the root of a tree without entries, RFC 6962.
var EmptyRoot = func() Hash {
	h, err := merkle.TreeHash(0, nil)
	if err != nil {
		panic(err)
	}
	return Hash(h)
}()

// LeafHash returns the hash of an entry in level 0 of a tree.
func LeafHash(entry []byte) Hash { return Hash(merkle.RecordHash(entry)) }

// read returns the bytes of a tile or bundle, or of the full one in place of it.
func (t *Tree) read(tile Tile) ([]byte, error) {
	data, err := t.Read(tile.Path())
	if errors.Is(err, fs.ErrNotExist) && tile.Width < TileWidth {
		data, err = t.Read(tile.full().Path())
	}
	if err != nil {
		return nil, readError{err}
	}
	return data, nil
}

// tileReader implements merkle.TileReader.
type tileReader struct{ *Tree }

func (r tileReader) Height() int                       { return tileHeight }
func (r tileReader) SaveTiles([]merkle.Tile, [][]byte) {}
func (r tileReader) ReadTiles(tiles []merkle.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, x := range tiles {
		t := Tile{x.L, x.N, x.W}
		data, err := r.read(t)
		if err != nil {
			return nil, err
		}
		if n := t.Width * len(Hash{}); len(data) < n || len(data)%len(Hash{}) != 0 || len(data) > TileWidth*len(Hash{}) {
			return nil, malformed("tile %s has %d bytes", t.Path(), len(data))
		} else {
			out[i] = data[:n]
		}
	}
	return out, nil
}

// hashes reads verified hashes of the tree.
func (t *Tree) hashes() merkle.HashReader {
	inner := merkle.TileHashReader(merkle.Tree{N: t.Size, Hash: merkle.Hash(t.Root)}, tileReader{t})
	return merkle.HashReaderFunc(func(indexes []int64) ([]merkle.Hash, error) {
		out, err := inner.ReadHashes(indexes)
		if err != nil && !errors.Is(err, ErrMalformed) && !isRead(err) {
			err = fmt.Errorf("tlog: tiles of the tree of %d entries: %w: %w", t.Size, ErrInclusion, err)
		}
		return out, err
	})
}

// readError marks the errors of Tree.Read.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

func isRead(err error) bool {
	_, ok := errors.AsType[readError](err)
	return ok
}

// Inclusion returns the hashes that prove an entry: those of [Proof]. The error wraps
// [ErrInclusion] if the tiles do not belong to the tree, and is else that of Read.
func (t *Tree) Inclusion(index int64) ([]Hash, error) {
	if index < 0 || index >= t.Size || t.Size > maxSize {
		return nil, fmt.Errorf("tlog: %w: entry %d of a tree of %d entries", ErrInclusion, index, t.Size)
	}
	proof, err := merkle.ProveRecord(t.Size, index, t.hashes())
	return ours(proof), err
}

// Consistency returns the hashes that prove that the tree of a smaller or the same size is
// the beginning of this one, for [CheckConsistency]. The errors are those of Inclusion.
func (t *Tree) Consistency(oldSize int64) ([]Hash, error) {
	if oldSize < 0 || oldSize > t.Size || t.Size > maxSize {
		return nil, fmt.Errorf("tlog: %w: a tree of %d entries is not the beginning of one of %d", ErrInclusion, oldSize, t.Size)
	}
	if oldSize == 0 || oldSize == t.Size {
		return nil, nil
	}
	proof, err := merkle.ProveTree(t.Size, oldSize, t.hashes())
	return ours(proof), err
}

// CheckConsistency checks a proof that the tree with oldSize and oldRoot is the beginning of
// the one with size and root. The error wraps [ErrInclusion].
func CheckConsistency(proof []Hash, oldSize int64, oldRoot Hash, size int64, root Hash) error {
	fail := fmt.Errorf("tlog: %w: the tree of %d entries is not the beginning of the one of %d entries", ErrInclusion, oldSize, size)
	switch {
	case oldSize < 0 || oldSize > size || size > maxSize:
		return fail
	case oldSize == 0 || oldSize == size:
		if len(proof) > 0 || oldSize == 0 && oldRoot != EmptyRoot || oldSize == size && oldRoot != root {
			return fail
		}
		return nil
	}
	hashes := make(merkle.TreeProof, len(proof))
	for i, h := range proof {
		hashes[i] = merkle.Hash(h)
	}
	if err := merkle.CheckTree(hashes, size, merkle.Hash(root), oldSize, merkle.Hash(oldRoot)); err != nil {
		return fail
	}
	return nil
}

// Bundle returns the verified entries of bundle n, from entry n*256 to the end of the bundle
// or of the tree. The errors are those of Inclusion.
func (t *Tree) Bundle(n int64) ([][]byte, error) {
	first := n * TileWidth
	if n < 0 || n >= maxSize/TileWidth || first >= t.Size || t.Size > maxSize {
		return nil, fmt.Errorf("tlog: %w: bundle %d of a tree of %d entries", ErrInclusion, n, t.Size)
	}
	tile := Tile{entries, n, int(min(t.Size-first, TileWidth))}
	data, err := t.read(tile)
	if err != nil {
		return nil, err
	}
	out, err := ParseBundle(data, tile.Width)
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, len(out))
	for i := range out {
		indexes[i] = merkle.StoredHashIndex(0, first+int64(i))
	}
	want, err := t.hashes().ReadHashes(indexes)
	if err != nil {
		return nil, err
	}
	for i, entry := range out {
		if merkle.RecordHash(entry) != want[i] {
			return nil, fmt.Errorf("tlog: %w: entry %d of bundle %d is another one", ErrInclusion, i, n)
		}
	}
	return out, nil
}

// File is a tile or a bundle to write.
type File struct {
	Path string // below the URL of the log
	Data []byte // the hashes of a tile, or the entries of a bundle, each after its length
}

// Append returns the tree after an append of entries, and the files to write, all of which
// must be stored before the new tree is signed. It reads and verifies the right edge of
// this tree: a file of each level at most. Read of the new tree is that of this one.
func (t *Tree) Append(add [][]byte) (*Tree, []File, error) {
	if len(add) == 0 || t.Size < 0 || t.Size > maxSize-int64(len(add)) {
		return nil, nil, malformed("append of %d entries to %d", len(add), t.Size)
	}
	if t.Size == 0 && t.Root != EmptyRoot {
		return nil, nil, fmt.Errorf("tlog: %w: a tree of no entries has another root", ErrInclusion)
	}
	made := map[int64]merkle.Hash{} // by index, beyond those of this tree
	old := merkle.StoredHashCount(t.Size)
	stored := t.hashes()
	all := merkle.HashReaderFunc(func(indexes []int64) ([]merkle.Hash, error) {
		out := make([]merkle.Hash, len(indexes))
		var missing []int64
		var at []int
		for i, x := range indexes {
			if h, ok := made[x]; ok {
				out[i] = h
			} else {
				missing, at = append(missing, x), append(at, i)
			}
		}
		if len(missing) == 0 {
			return out, nil
		}
		got, err := stored.ReadHashes(missing)
		for i := range got {
			out[at[i]] = got[i]
		}
		return out, err
	})
	next := &Tree{Size: t.Size, Read: t.Read}
	for _, entry := range add {
		if len(entry) > MaxEntry {
			return nil, nil, malformed("an entry has %d bytes, at most %d", len(entry), MaxEntry)
		}
		hashes, err := merkle.StoredHashes(next.Size, entry, all)
		if err != nil {
			return nil, nil, err
		}
		for i, h := range hashes {
			made[old+int64(i)] = h
		}
		old += int64(len(hashes))
		next.Size++
	}
	root, err := merkle.TreeHash(next.Size, all)
	if err != nil {
		return nil, nil, err
	}
	next.Root = Hash(root)
	files, err := t.files(add, next.Size, all)
	return next, files, err
}

func (t *Tree) files(add [][]byte, size int64, all merkle.HashReader) (out []File, err error) {
	for _, tile := range newTiles(t.Size, size) {
		var data []byte
		if tile.Level == entries {
			data, err = t.bundle(tile, add)
		} else {
			data, err = merkle.ReadTileData(merkle.Tile{H: tileHeight, L: tile.Level, N: tile.N, W: tile.Width}, all)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, File{tile.Path(), data})
	}
	return out, nil
}

// bundle is a bundle of a tree that has grown by entries.
func (t *Tree) bundle(tile Tile, add [][]byte) (data []byte, err error) {
	first := tile.N * TileWidth
	var list [][]byte
	if first < t.Size {
		if list, err = t.Bundle(tile.N); err != nil {
			return nil, err
		}
	}
	from := max(first-t.Size, 0)
	list = append(list, add[from:from+int64(tile.Width-len(list))]...)
	for _, entry := range list {
		if data, err = AppendEntry(data, entry); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func ours(proof []merkle.Hash) []Hash {
	var out []Hash
	for _, h := range proof {
		out = append(out, Hash(h))
	}
	return out
}
