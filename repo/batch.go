package repo

import (
	"context"
	"errors"

	"github.com/visum-dev/visum/repo/storage"
)

// batch calls fn with a handle whose storage shows one state and makes all changes
// visible at once, if the storage is a [storage.Batcher]. With other storages it is this
// handle.
func (r *Repo) batch(ctx context.Context, fn func(*Repo) error) error {
	if _, ok := r.storage.(storage.Batcher); !ok {
		return fn(r)
	}
	return storage.Batch(ctx, r.storage, func(s storage.Storage) error { return fn(r.with(s)) })
}

// view is batch for calls that only read. It begins again if another process published in
// the meantime: the ledger may have recorded more than the state contains.
func (r *Repo) view(ctx context.Context, fn func(*Repo) error) (err error) {
	for range maxReads {
		err = r.batch(ctx, fn)
		if _, ok := r.storage.(storage.Batcher); !ok || !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return err
}

// stageBatch is batch for calls that make a draft, which belongs to this handle.
func (r *Repo) stageBatch(ctx context.Context, fn func(*Repo) (*Draft, error)) (d *Draft, err error) {
	err = r.batch(ctx, func(in *Repo) error {
		if d, err = fn(in); err != nil {
			return err
		}
		if d.staged == in {
			d.staged = r
		}
		if d.repo == in {
			d.repo = r
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
