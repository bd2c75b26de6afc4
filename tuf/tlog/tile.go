package tlog

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	merkle "golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	// TileWidth is the number of hashes of a full tile, and of entries of a full bundle.
	TileWidth = 1 << tileHeight
	// MaxEntry is the maximum number of bytes of an entry.
	MaxEntry = 1<<16 - 1
	// entries is the level of tiles that have entries instead of hashes.
	entries = -1
)

// Tile identifies a tile of hashes or a bundle of entries (tlog-tiles).
type Tile struct {
	Level int   // of the hashes, from 0 to 7; -1: a bundle of entries
	N     int64 // its number within the level
	Width int   // hashes or entries, from 1 to 256
}

// Path returns the path below the URL of the log, such as tile/0/x001/234.p/7.
func (t Tile) Path() string {
	s := "tile/entries/"
	if t.Level != entries {
		s = "tile/" + strconv.Itoa(t.Level) + "/"
	}
	number := fmt.Sprintf("%03d", t.N%1000)
	for n := t.N / 1000; n > 0; n /= 1000 {
		number = fmt.Sprintf("x%03d/%s", n%1000, number)
	}
	if t.Width == TileWidth {
		return s + number
	}
	return s + number + ".p/" + strconv.Itoa(t.Width)
}

// ParseTilePath is the reverse of [Tile.Path]. The error wraps [ErrMalformed].
func ParseTilePath(path string) (Tile, error) {
	bad := malformed("%s is not the path of a tile", quote(path))
	level, rest, ok := strings.Cut(strings.TrimPrefix(path, "tile/"), "/")
	if !ok || len(path) > 100 {
		return Tile{}, bad
	}
	t := Tile{Level: entries, Width: TileWidth}
	if level != "entries" {
		n, ok := parseNumber(level)
		if !ok || n > 7 {
			return Tile{}, bad
		}
		t.Level = int(n)
	}
	if number, width, ok := strings.Cut(rest, ".p/"); ok {
		n, ok := parseNumber(width)
		if !ok || n < 1 || n >= TileWidth {
			return Tile{}, bad
		}
		rest, t.Width = number, int(n)
	}
	for part := range strings.SplitSeq(rest, "/") {
		n, err := strconv.ParseInt(strings.TrimPrefix(part, "x"), 10, 64)
		if err != nil || n < 0 || n > 999 || t.N > maxSize/1000 {
			return Tile{}, bad
		}
		t.N = t.N*1000 + n
	}
	if t.Path() != path || t.N >= maxSize/TileWidth {
		return Tile{}, bad
	}
	return t, nil
}

// full is the full tile of a partial one.
func (t Tile) full() Tile { return Tile{t.Level, t.N, TileWidth} }

// newTiles returns the tiles and bundles that a log writes when it grows from oldSize to
// newSize entries: at most one partial one of each level, at the new size.
func newTiles(oldSize, newSize int64) []Tile {
	if oldSize < 0 || newSize <= oldSize {
		return nil
	}
	var out []Tile
	for n := oldSize / TileWidth; n*TileWidth < newSize; n++ {
		out = append(out, Tile{entries, n, int(min(newSize-n*TileWidth, TileWidth))})
	}
	for _, t := range merkle.NewTiles(tileHeight, oldSize, newSize) {
		out = append(out, Tile{t.L, t.N, t.W})
	}
	return out
}

// AppendEntry appends an entry to a bundle, after its length. It needs an entry of at
// most [MaxEntry] bytes, or else the error wraps [ErrMalformed].
func AppendEntry(bundle, entry []byte) ([]byte, error) {
	if len(entry) > MaxEntry {
		return nil, malformed("an entry has %d bytes, at most %d", len(entry), MaxEntry)
	}
	return append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...), nil
}

// ParseBundle reads at least width entries, and at most [TileWidth], and returns the first
// ones, which share memory with data. It verifies nothing. The error wraps [ErrMalformed].
func ParseBundle(data []byte, width int) ([][]byte, error) {
	if width < 0 || width > TileWidth {
		return nil, malformed("bundle: width %d, want from 0 to %d", width, TileWidth)
	}
	out := make([][]byte, 0, width)
	for n := 0; len(data) > 0 || n < width; n++ {
		if len(data) < 2 || n == TileWidth {
			return nil, malformed("bundle: %d of %d entries", n, width)
		}
		size := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; len(data) < size {
			return nil, malformed("bundle: entry %d is cut off", n)
		}
		if n < width {
			out = append(out, data[:size:size])
		}
		data = data[size:]
	}
	return out, nil
}
