package storage

import "context"

// Batcher is a Storage in which each change is expensive, for example a push to a git
// host, and that can make several changes visible at once.
type Batcher interface {
	// Batch calls fn once with a storage that has the files of this storage at one time,
	// and the changes that fn makes in it. If fn returns nil, its changes become visible to
	// all handles, all at once; if nothing was changed, there is no write. If fn or Batch
	// returns an error, or if the process dies, nothing was changed, unless the result of
	// the write is unknown, which the error says.
	//
	// The error wraps [ErrConflict] and nothing was changed if a file that fn read, or
	// found missing, has been changed by another process since, or if a change is not
	// possible any more. Listings are not compared. An error of fn also wraps ErrConflict if
	// a file that it read has been changed since: this may be the cause of the error.
	//
	// The storage has the optional interfaces of this one. It is valid until Batch returns,
	// for use by several goroutines. Its Batch method adds to the same changes: if the inner
	// function fails, the changes that it made are dropped.
	Batch(ctx context.Context, fn func(Batched) error) error
}

// Batched is the storage of a running [Batcher.Batch].
type Batched interface {
	Storage
	// AfterCommit registers a function that is called once the changes made until then are
	// visible, before Batch returns. It is not called if they do not become visible. Several
	// functions are called in the order of registration, up to the first error, which Batch
	// returns.
	AfterCommit(fn func() error)
}

// Batch calls fn with a batch of a [Batcher], and with s itself if it is none.
func Batch(ctx context.Context, s Storage, fn func(Storage) error) error {
	b, ok := s.(Batcher)
	if !ok {
		return fn(s)
	}
	return b.Batch(ctx, func(s Batched) error { return fn(s) })
}

// AfterCommit calls fn once what was written to s is visible to all handles: at once, or
// at the end of the batch if s is [Batched].
func AfterCommit(s Storage, fn func() error) error {
	if b, ok := s.(Batched); ok {
		b.AfterCommit(fn)
		return nil
	}
	return fn()
}
