package tiles

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// state is the log as the ledger and the storage have it.
type state struct {
	rec     *record
	note    []byte // the checkpoint file; nil: there is none
	head    head   // of note, verified
	pending []byte // the file; nil: there is none
	todo    *batch // the batch in pending that has to be completed; nil: nothing
}

// load reads the state and compares the storage with the ledger.
func (l *Log) load(ctx context.Context) (*state, error) {
	for range maxAttempts {
		st, err := l.read(ctx)
		if err != nil {
			return nil, err
		}
		refused := st.compare()
		if refused == nil {
			return st, nil
		}
		// Another process may have written between the reads. Every step of a writer is
		// consistent with the ledger of that time, so the refusal counts only if the ledger
		// is still the same.
		now, err := l.loadRecord(ctx)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(now.raw, st.rec.raw) {
			return nil, refused
		}
	}
	return nil, errBusy
}

func (l *Log) read(ctx context.Context) (st *state, err error) {
	st = &state{}
	if st.rec, err = l.loadRecord(ctx); err != nil {
		return nil, err
	}
	if st.pending, err = l.optional(ctx, l.pending); err != nil {
		return nil, err
	}
	if st.note, err = l.optional(ctx, l.prefix+"checkpoint"); err != nil || st.note == nil {
		return st, err
	}
	if st.head, err = openHead(st.note, l.key); err != nil {
		return nil, fmt.Errorf("tiles: %w: checkpoint in the storage: %w", repo.ErrFork, err)
	}
	return st, nil
}

// optional reads a file; nil if there is none.
func (l *Log) optional(ctx context.Context, name string) ([]byte, error) {
	data, err := l.storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	if data == nil {
		data = []byte{} // an empty file is none that this package wrote, but a file
	}
	return data, nil
}

// compare compares checkpoint and pending with the ledger (rule K6) and sets todo.
func (st *state) compare() error {
	if st.rec.raw == nil {
		if st.note == nil && st.pending == nil {
			return nil
		}
		return fmt.Errorf("tiles: %w: the storage has a log of %s; see Log.Adopt", signing.ErrNoLedger, st.head)
	}
	signed := st.rec.head()
	if st.head.size > signed.size || st.head.size == signed.size && st.head != signed {
		return fork("the checkpoint in the storage has %s, which the ledger has never recorded; its last is of %s", st.head, signed)
	}
	if err := st.comparePending(); err != nil {
		return err
	}
	if st.head.size < signed.size && st.todo == nil {
		return fork("the storage is older than the ledger: its checkpoint has %s, the last one that was signed %s, and no pending batch leads there; restore the newest copy of log/ and private/", st.head, signed)
	}
	return nil
}

func (st *state) comparePending() error {
	if st.pending == nil {
		return nil
	}
	permitted := st.rec.permits(st.pending)
	if permitted && st.rec.body.Batch.Base != st.head.size {
		return nil // completed; or the checkpoint is too old, which compare finds
	}
	b, err := parseBatch(st.pending)
	switch {
	case err != nil:
		return fork("the pending batch was not written by a holder of the ledger: %s; remove the file if no other copy is newer", text.Line(err.Error()))
	case len(b.Leaves) == 0:
		return nil
	case permitted:
		st.todo = b
	case b.Base >= st.head.size:
		return fork("the pending batch of %d leaves for a log of %d entries was not written by a holder of the ledger, or is older than the ledger; remove the file if no other copy is newer", len(b.Leaves), b.Base)
	}
	return nil
}

// follows compares the state with the checkpoint that the caller of Append has seen.
func (st *state) follows(seen head) error {
	switch {
	case seen == st.head:
		return nil
	case seen.size < st.head.size:
		return fmt.Errorf("tiles: %w: the log has %s, not %s any more", repo.ErrConflict, st.head, seen)
	default:
		return fork("the log has signed a tree of %s, and the storage has %s", seen, st.head)
	}
}

func fork(format string, args ...any) error {
	return fmt.Errorf("tiles: %w: %s", repo.ErrFork, fmt.Sprintf(format, args...))
}

// damaged adds ErrFork to an error of tiles that are missing or do not belong to the tree.
func damaged(what string, err error) error {
	if errors.Is(err, tlog.ErrInclusion) || errors.Is(err, tlog.ErrMalformed) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, tuf.ErrTooLarge) {
		return fmt.Errorf("tiles: %w: %s: %w", repo.ErrFork, what, err)
	}
	return fmt.Errorf("tiles: %s: %w", what, err)
}
