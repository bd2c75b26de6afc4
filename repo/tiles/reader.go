package tiles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Limits of what is read from a source, in bytes.
const (
	maxTile   = tlog.TileWidth * len(tlog.Hash{})
	maxBundle = tlog.TileWidth * (2 + tlog.MaxEntry)
)

// Published is a log at its newest checkpoint.
type Published struct {
	// Checkpoint is the file as it was read, whose signature of the log is verified.
	// [tlog.Policy.Checkpoint] verifies cosignatures.
	Checkpoint []byte
	// Tree is the tree of the checkpoint. Its methods verify what they read.
	Tree *tlog.Tree
}

// Open reads the newest checkpoint of the log below a prefix of a source, such as the one
// that [Prefix] returns, and verifies that key has signed it. The prefix ends with a slash
// or is empty. The error wraps [fs.ErrNotExist] if there is no checkpoint, [fs.ErrInvalid]
// if the prefix is not valid, [tlog.ErrMalformed] or [tlog.ErrSignature]. The tree reads from
// the source until ctx ends.
//
// A checkpoint proves that the log has signed this tree, not that it is the newest one, nor
// that others have seen the same.
func Open(ctx context.Context, src storage.Source, prefix string, key tlog.Key) (_ *Published, err error) {
	defer text.OneLine(&err)
	if key.Type != tlog.TypeLog || len(key.Public) != 32 {
		return nil, fmt.Errorf("tiles: %w: the key is not one of a log", fs.ErrInvalid)
	}
	name, err := nameOf(prefix, "checkpoint")
	if err != nil {
		return nil, err
	}
	data, err := storage.ReadAll(ctx, src, name, tlog.MaxNote)
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	h, err := openHead(data, key)
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	return &Published{data, &tlog.Tree{Size: h.size, Root: h.root, Read: Files(ctx, src, prefix)}}, nil
}

// Files returns a function that reads tiles and bundles by their paths, for the trees of
// checkpoints that were obtained elsewhere. The content is not verified; [tlog.Tree] does
// that. What is read is limited to the size that a tile can have. The function's errors are
// those of [repo.Log] for Tile; that of a larger file wraps [tuf.ErrTooLarge].
func Files(ctx context.Context, src storage.Source, prefix string) func(path string) ([]byte, error) {
	return tileReader(prefix, func(name string, limit int64) ([]byte, error) {
		return storage.ReadAll(ctx, src, name, limit)
	})
}

// files is [Files] of the log's storage.
func (l *Log) files(ctx context.Context) func(path string) ([]byte, error) {
	return tileReader(l.prefix, func(name string, limit int64) ([]byte, error) {
		data, err := l.storage.Read(ctx, name)
		if err == nil && int64(len(data)) > limit {
			return nil, fmt.Errorf("%s: %w: %d bytes, at most %d", text.Name(name), tuf.ErrTooLarge, len(data), limit)
		}
		return data, err
	})
}

func tileReader(prefix string, read func(name string, limit int64) ([]byte, error)) func(path string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		t, err := tlog.ParseTilePath(path)
		if err != nil {
			return nil, fmt.Errorf("tiles: %w: %w", fs.ErrInvalid, err)
		}
		name, err := nameOf(prefix, path)
		if err != nil {
			return nil, err
		}
		limit := maxTile
		if t.Level < 0 {
			limit = maxBundle
		}
		data, err := read(name, int64(limit))
		if err != nil {
			return nil, fmt.Errorf("tiles: %w", err)
		}
		return data, nil
	}
}

func nameOf(prefix, path string) (string, error) {
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		return "", fmt.Errorf("tiles: %w: prefix %s does not end with a slash", fs.ErrInvalid, text.Quote(prefix))
	}
	return prefix + path, storage.CheckName(prefix + path)
}

// remembered reads each file once.
func remembered(read func(string) ([]byte, error)) func(string) ([]byte, error) {
	have := map[string][]byte{}
	missing := map[string]bool{}
	return func(path string) ([]byte, error) {
		if data, ok := have[path]; ok {
			return data, nil
		}
		if missing[path] {
			return nil, fmt.Errorf("tiles: %s: %w", path, fs.ErrNotExist)
		}
		data, err := read(path)
		if err == nil {
			have[path] = data
		} else if errors.Is(err, fs.ErrNotExist) {
			missing[path] = true
		}
		return data, err
	}
}
