package repo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
)

// addsAtOnce is the number of files that AddAll stores at the same time, each with one
// request to a bucket.
const addsAtOnce = 64

// NewFile is a file for [Tx.AddAll].
type NewFile struct {
	Path string                            // of the target
	Open func() (io.ReadSeekCloser, error) // called in any goroutine, once
}

// AddAll is [Tx.Add] for many files without release data. It reads and stores up to 64 of
// them at the same time, each as Add does, and lists them in the order of files. If one
// fails, the error is that of the first one in this order, and none is listed; those that
// are stored stay unlisted. [Config].Progress is called once for each file, in other
// goroutines than that of the call, one at a time.
func (tx *Tx) AddAll(party string, files []NewFile) error {
	for _, f := range files {
		class, _, err := tx.role(party, f.Path)
		if err != nil {
			return err
		}
		if err := fetchable(class, f.Path); err != nil {
			return err
		}
	}
	entries := make([]wire.Value, len(files))
	var mu sync.Mutex // of the progress
	done := 0
	err := together(tx.ctx, len(files), func(ctx context.Context, i int) (err error) {
		if entries[i], err = tx.store(ctx, files[i]); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		done++
		tx.repo.progress(storage.Progress{Path: "targets/" + files[i].Path, Files: done})
		return nil
	})
	if err != nil {
		return err
	}
	for i, f := range files {
		_, roles, err := tx.role(party, f.Path)
		if err == nil {
			err = tx.list(roles, f.Path, entries[i])
		}
		if err != nil {
			return err
		}
		entries[i] = nil
	}
	return nil
}

// store hashes a file and stores it.
func (tx *Tx) store(ctx context.Context, f NewFile) (entry wire.Value, err error) {
	fail := func(err error) (wire.Value, error) {
		return entry, fmt.Errorf("repo: %s: %w", text.Name(f.Path), err)
	}
	file, err := f.Open()
	if err != nil {
		return fail(err)
	}
	defer file.Close()
	h := sha256.New()
	n, err := io.CopyBuffer(h, ctxio.NewReader(ctx, file), make([]byte, 16<<10))
	if err != nil {
		return fail(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fail(err)
	}
	sum := h.Sum(nil)
	if entry, err = rolelist.NewEntry(n, sum, nil); err != nil {
		return fail(err)
	}
	// The stored bytes must be the hashed ones, even if the file changes in between.
	again := sha256.New()
	if err := tx.repo.storage.Create(ctx, layout.TargetName(f.Path, hex.EncodeToString(sum)), io.TeeReader(&sameFile{file, again, sum}, again)); err != nil {
		return fail(err)
	}
	return entry, nil
}

// together calls do for each number below n, up to addsAtOnce at the same time. The error is
// that of the lowest number of those that were called; after one, no more are called.
func together(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	var first error
	at := n
	next := make(chan int)
	for range min(addsAtOnce, n) {
		all.Go(func() {
			for i := range next {
				if inner.Err() != nil {
					continue
				}
				err := do(inner, i)
				if err == nil {
					continue
				}
				mu.Lock()
				// The calls that the first error has ended have no cause of their own.
				if first == nil || i < at && !errors.Is(err, context.Canceled) {
					first, at = err, i
				}
				mu.Unlock()
				cancel()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return first
}
