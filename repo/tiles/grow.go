package tiles

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf/tlog"
)

// settled returns the state after it has completed what is pending.
func (l *Log) settled(ctx context.Context) (*state, error) {
	for range maxAttempts {
		st, err := l.load(ctx)
		if err != nil || st.todo == nil {
			return st, err
		}
		if _, err := l.finish(ctx, st); err != nil && !errors.Is(err, errAgain) {
			return nil, err
		}
	}
	return nil, errBusy
}

// propose records a batch in the ledger and writes it to pending. From then on it will be
// in the log. st must have nothing to do. errAgain: the batch will never be in the log.
func (l *Log) propose(ctx context.Context, st *state, leaves [][]byte) (*state, error) {
	last := st.pending
	if b := st.rec.body.Batch; b != nil && b.Base == st.head.size {
		// The batch of another call was recorded but is not in pending. Either that process
		// has died, or it is about to write. Its record can't be replaced before a barrier
		// ensures that its compare-and-swap fails: pending would get a batch that the
		// ledger does not know any more, which no call would complete.
		_, barrier, err := newBatch(st.head.size, nil)
		if err != nil {
			return nil, fmt.Errorf("tiles: %w", err)
		}
		if err := l.replace(ctx, l.pending, last, barrier); err != nil {
			return nil, err
		}
		last = barrier
	}
	b, data, err := newBatch(st.head.size, leaves)
	if err != nil {
		return nil, fmt.Errorf("tiles: %w", err)
	}
	rec := *st.rec
	rec.body.Batch = &recordBatch{b.Base, metafile.SHA256(data)}
	next, err := l.swap(ctx, &rec)
	if err != nil {
		return nil, err
	}
	if err := l.replace(ctx, l.pending, last, data); err != nil {
		return nil, err
	}
	return &state{next, st.note, st.head, data, b}, nil
}

// complete finishes the batch of this call, which is in pending, and returns its
// checkpoint. Its errors never wrap ErrConflict, because the leaves will be in the log.
func (l *Log) complete(ctx context.Context, st *state) ([]byte, error) {
	want := st.head.size + int64(len(st.todo.Leaves))
	for range maxAttempts {
		note, err := l.finish(ctx, st)
		if err == nil {
			return note, nil
		}
		if errors.Is(err, errAgain) {
			st, err = l.load(ctx)
		}
		switch {
		case errors.Is(err, repo.ErrConflict):
			return nil, fmt.Errorf("tiles: the batch is pending: %v", err)
		case err != nil:
			return nil, err
		case st.head.size == want:
			return st.note, nil // another process has finished it
		case st.head.size > want:
			return nil, fmt.Errorf("tiles: the log has this batch as its entries up to %d, and another process has appended more, up to %d", want, st.head.size)
		case st.todo == nil:
			return nil, fork("the pending batch has disappeared")
		}
	}
	return nil, fmt.Errorf("tiles: the batch is pending: the log kept changing during %d attempts", maxAttempts)
}

// finish completes the batch in pending: files, ledger, signature, checkpoint. Whatever it
// writes is a function of the checkpoint and pending. It returns the new checkpoint.
func (l *Log) finish(ctx context.Context, st *state) ([]byte, error) {
	base := &tlog.Tree{Size: st.head.size, Root: st.head.treeRoot(), Read: remembered(l.files(ctx))}
	next, files, err := base.Append(st.todo.Leaves)
	if err != nil {
		return nil, damaged("tiles of the last checkpoint", err)
	}
	to := head{next.Size, next.Root}
	signed := st.rec.head()
	if signed.size > st.head.size && signed != to {
		return nil, fork("the pending batch leads to %s, and the ledger has recorded %s", to, signed)
	}
	err = storage.Batch(ctx, l.storage, func(s storage.Storage) error {
		for _, f := range files {
			if err := create(ctx, s, l.prefix+f.Path, f.Data); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, repo.ErrFork):
		return nil, err
	case errors.Is(err, repo.ErrConflict):
		return nil, errAgain
	case err != nil:
		return nil, fmt.Errorf("tiles: %w", err)
	}
	if err := l.readBack(ctx, st.head, to); err != nil {
		return nil, damaged("tiles as read back from the storage", err)
	}
	if signed != to {
		if _, err := l.swap(ctx, st.rec.withHead(to)); err != nil {
			return nil, err
		}
	}
	note, err := l.sign(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := l.replace(ctx, l.prefix+"checkpoint", st.note, note); err != nil {
		return nil, err
	}
	return note, nil
}

// create creates a file of a tree. A file with other content is not part of any tree that
// the log can have.
func create(ctx context.Context, s storage.Storage, name string, data []byte) error {
	for range maxAttempts {
		err := s.Create(ctx, name, bytes.NewReader(data))
		if !errors.Is(err, repo.ErrConflict) {
			return err
		}
		have, err := s.Read(ctx, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since
		case err != nil:
			return err
		case !bytes.Equal(have, data):
			return fork("%s has another content than the pending batch gives it", name)
		}
	}
	return fmt.Errorf("%s: the file is created and removed again and again", name)
}

// readBack reads the new part of the tree from the storage, without what was read before.
// It verifies that all entries of its bundles, the last leaf too, are included in the tree,
// whose root was computed from the leaves, and that the tree begins with the last one. A
// signature on a tree that can't be served would end the log.
func (l *Log) readBack(ctx context.Context, from, to head) error {
	tree := &tlog.Tree{Size: to.size, Root: to.root, Read: remembered(l.files(ctx))}
	for n := from.size / tlog.TileWidth; n*tlog.TileWidth < to.size; n++ {
		if _, err := tree.Bundle(n); err != nil {
			return err
		}
	}
	proof, err := tree.Consistency(from.size)
	if err != nil {
		return err
	}
	return tlog.CheckConsistency(proof, from.size, from.treeRoot(), to.size, to.root)
}

// sign returns the checkpoint of a tree, which the ledger has recorded.
func (l *Log) sign(ctx context.Context, h head) ([]byte, error) {
	msg := tlog.CheckpointText(l.key.Name, h.size, h.root)
	sig, err := l.signer.Sign(ctx, []byte(msg))
	if err != nil {
		return nil, fmt.Errorf("tiles: checkpoint of %d entries: %w", h.size, err)
	}
	if !ed25519.Verify(l.key.Public, []byte(msg), sig) {
		return nil, fmt.Errorf("tiles: checkpoint of %d entries: %w", h.size, repo.ErrSignature)
	}
	return []byte(msg + "\n" + l.key.SignatureLine(sig)), nil
}

// replace is a compare-and-swap of a file. errAgain: nothing was changed.
func (l *Log) replace(ctx context.Context, name string, old, new []byte) error {
	err := l.storage.Replace(ctx, name, old, new)
	if errors.Is(err, repo.ErrConflict) {
		return errAgain
	}
	if err != nil {
		return fmt.Errorf("tiles: %w", err)
	}
	return nil
}
