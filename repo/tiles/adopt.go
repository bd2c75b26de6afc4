package tiles

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Adoptable is what an empty ledger would take over from a storage.
type Adoptable struct {
	// Checkpoint is the newest checkpoint, whose signature is verified; nil if the log is
	// empty.
	Checkpoint []byte
	Size       int64     // entries, of the checkpoint
	Root       tlog.Hash // of the checkpoint's tree; zero for an empty log
	// Pending are the leaves of a batch that is not completed. The next call would append
	// them; nil if there is none.
	Pending [][]byte
}

// Adoptable returns what [Log.Adopt] would take over. It changes nothing. The error wraps
// [fs.ErrNotExist] if the storage has no log, [signing.ErrLedger] if the ledger is not
// empty, and [repo.ErrFork] if the tiles do not belong to the checkpoint, or a file was not
// written by a holder of the key.
func (l *Log) Adoptable(ctx context.Context) (_ *Adoptable, err error) {
	defer text.OneLine(&err)
	_, a, err := l.adoptable(ctx)
	return a, err
}

// Adopt fills an empty ledger, for a log whose ledger was lost. The ledger then permits the
// checkpoint and the pending leaves that a was found with, and nothing before them.
//
// It takes the word of the storage, so a person must compare a with the outside first: its
// size and root with what the cosigners of the log and its monitors have seen last, which
// must be this tree or the beginning of it, and its pending leaves with what was to be
// published. If a cosigner has seen a larger tree or another root, adopting leads to a
// fork that cosigners refuse; restore the storage, or start another log. Other handles
// that still have the lost ledger must not be used any more.
//
// The error wraps [repo.ErrConflict] if the storage has changed since a was returned; its
// other errors are those of [Log.Adoptable]. After an error nothing was changed, unless it
// is one of the ledger's medium.
func (l *Log) Adopt(ctx context.Context, a *Adoptable) (err error) {
	defer text.OneLine(&err)
	st, now, err := l.adoptable(ctx)
	if err != nil {
		return err
	}
	if a == nil || !bytes.Equal(a.Checkpoint, now.Checkpoint) || !slices.EqualFunc(a.Pending, now.Pending, bytes.Equal) {
		return fmt.Errorf("tiles: %w: the storage has a log of %s and %d pending leaves, other than those to adopt", repo.ErrConflict, st.head, len(now.Pending))
	}
	rec := st.rec
	if st.head.size > 0 {
		rec = rec.withHead(st.head)
	}
	if st.todo != nil {
		rec.body.Batch = &recordBatch{st.todo.Base, metafile.SHA256(st.pending)}
	}
	_, err = l.swap(ctx, rec)
	if err == errAgain {
		return fmt.Errorf("tiles: %w: another process has filled the ledger", signing.ErrLedger)
	}
	return err
}

func (l *Log) adoptable(ctx context.Context) (*state, *Adoptable, error) {
	st, err := l.read(ctx)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case st.rec.raw != nil:
		return nil, nil, fmt.Errorf("tiles: %w: it already has a record of log %s, up to %s", signing.ErrLedger, text.Name(l.key.Name), st.rec.head())
	case st.note == nil && st.pending == nil:
		return nil, nil, fmt.Errorf("tiles: log %s: no checkpoint: %w", text.Name(l.key.Name), fs.ErrNotExist)
	}
	a := &Adoptable{Checkpoint: st.note, Size: st.head.size, Root: st.head.root}
	if st.pending != nil {
		b, err := parseBatch(st.pending)
		switch {
		case err != nil:
			return nil, nil, fork("the pending batch can't be read: %s", text.Line(err.Error()))
		case len(b.Leaves) > 0 && b.Base > st.head.size:
			return nil, nil, fork("the pending batch is for a log of %d entries, the checkpoint has %d", b.Base, st.head.size)
		case len(b.Leaves) > 0 && b.Base == st.head.size:
			st.todo, a.Pending = b, b.Leaves
		}
	}
	if st.head.size > 0 {
		tree := &tlog.Tree{Size: st.head.size, Root: st.head.root, Read: remembered(l.files(ctx))}
		if _, err := tree.Bundle((st.head.size - 1) / tlog.TileWidth); err != nil {
			return nil, nil, damaged("tiles of the checkpoint", err)
		}
	}
	return st, a, nil
}
