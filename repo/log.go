package repo

import (
	"context"
	"errors"
)

// Log is an append-only public log in the form of C2SP tlog-tiles, with the publishers of
// one repository as its only writers. Package repo/tiles keeps one in a [Storage]; package
// repo/logtest tests implementations.
//
// Methods must be safe for concurrent use, also by other processes on other handles of the
// same log. When Append returns a checkpoint, the checkpoint and all files of its tree are
// durable and visible to all handles. Errors of the underlying medium are returned wrapped.
type Log interface {
	// Append adds the leaves in this order, as one batch, and returns a checkpoint that the
	// log has signed, whose last leaf is the last of them. There must be at least one leaf,
	// or the error wraps [io/fs.ErrInvalid]. A leaf has at most 65,535 bytes and may be
	// empty; the error of a larger leaf, or of a batch beyond the limits of the
	// implementation, wraps [github.com/visum-dev/visum/tuf.ErrTooLarge]. After both errors
	// nothing has changed. Append keeps no slice of the caller.
	//
	// after is the checkpoint, with the log's signature, that the caller has seen last, and
	// nil for an empty log. If it is not a checkpoint that the log has signed, the error is
	// not [ErrConflict], and nothing has changed. If the log has grown beyond it, also by
	// finishing a batch of an earlier call, the error wraps [ErrConflict] and no leaf of this
	// call is in the log or will be: ask for the newest checkpoint and decide.
	//
	// After any other error, or after the process dies, none or all of the leaves are in the
	// log once the next call of Append or Checkpoint, by any handle, has returned without
	// error or with ErrConflict. Ask for the newest checkpoint and look. The error wraps
	// [ErrFork] if the stored log does not continue what the log has signed.
	Append(ctx context.Context, after []byte, leaves [][]byte) (checkpoint []byte, err error)

	// Checkpoint returns the newest checkpoint, after it has finished the batch of an earlier
	// call if there is one; the caller owns the slice. The error wraps [io/fs.ErrNotExist] if
	// the log is empty, and [ErrFork] as that of Append does.
	Checkpoint(ctx context.Context) ([]byte, error)

	// Tile returns a tile of hashes or a bundle of entries by its path, such as
	// "tile/0/000" or "tile/entries/x001/234.p/7"; the caller owns the slice. The content is
	// not verified: a [github.com/visum-dev/visum/tuf/tlog.Tree] does that. The error wraps
	// [io/fs.ErrNotExist] if there is no such file, also if a full tile has replaced a partial
	// one, and [io/fs.ErrInvalid] if the path is not that of a tile.
	Tile(ctx context.Context, path string) ([]byte, error)
}

// ErrFork: the stored log does not continue what its key has signed, as after a backup was
// restored or a file was changed. Nothing was signed: a key never signs two trees of one
// size. Compare the log with what its cosigners have seen, and restore it.
var ErrFork = errors.New("the log does not continue what its key has signed")
