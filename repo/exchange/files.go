package exchange

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// SendFiles writes the target files that a draft newly lists to the exchange, for a
// party that can't read the repository's storage, and returns their number. Send the
// files before the draft.
func (x *Exchange) SendFiles(ctx context.Context, d *repo.Draft) (n int, err error) {
	defer text.OneLine(&err)
	targets, err := x.repo.NewTargets(ctx, d)
	if err != nil {
		return 0, fmt.Errorf("exchange: %w", err)
	}
	for _, t := range targets {
		if err := transfer(ctx, x.storage, x.id+"/"+t.Name, x.target, t.Name, t.Length, t.SHA256); err != nil {
			return n, fmt.Errorf("exchange: %w", err)
		}
		n++
	}
	return n, nil
}

// FetchFiles writes the files of pending targets that the repository's storage lacks and
// the exchange has to the repository's storage, and returns their number. pending is the
// result of [repo.Repo.PendingIn], which counts only lists that their keys have signed,
// so length and sha256 are those of a party. Files that the exchange lacks are left out,
// and those with other bytes are skipped.
func (x *Exchange) FetchFiles(ctx context.Context, pending []repo.Pending) (n int, skipped []Skipped, err error) {
	defer text.OneLine(&err)
	for _, p := range pending {
		switch f, err := storage.SourceOf(x.target).Open(ctx, p.Name); {
		case err == nil:
			f.Close()
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return n, skipped, fmt.Errorf("exchange: %w", err)
		}
		switch err := transfer(ctx, x.target, p.Name, x.storage, x.id+"/"+p.Name, p.Length, p.SHA256); {
		case errors.Is(err, fs.ErrNotExist):
		case errors.Is(err, tuf.ErrMismatch):
			skipped = append(skipped, Skipped{x.id + "/" + p.Name, err})
		case err != nil:
			return n, skipped, fmt.Errorf("exchange: %w", err)
		default:
			n++
		}
	}
	return n, skipped, nil
}

// transfer copies a file whose length and hash are known.
func transfer(ctx context.Context, to storage.Storage, name string, from storage.Storage, source string, length int64, sha string) error {
	f, err := storage.SourceOf(from).Open(ctx, source)
	if err != nil {
		return fmt.Errorf("%s: %w", text.Name(source), err)
	}
	defer f.Close()
	if err := to.Create(ctx, name, &checked{r: io.LimitReader(f, length+1), sum: sha256.New(), want: sha}); err != nil {
		return fmt.Errorf("%s: %w", text.Name(name), err)
	}
	return nil
}

// checked is a reader that ends with an error if the bytes do not have the hash.
type checked struct {
	r    io.Reader
	sum  hash.Hash
	want string
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(c.sum.Sum(nil)) != c.want {
		return n, fmt.Errorf("%w: not the file with sha256 %.16s", tuf.ErrMismatch, c.want)
	}
	return n, err
}

// PruneFiles removes the target files in the exchange that no item lists newly and that
// were written before a time, and returns their names. before leaves the files to senders
// that have not sent the draft yet: a day ago is enough. If List skipped drafts, other
// parties may still need their files, so the caller should not call PruneFiles then.
func (x *Exchange) PruneFiles(ctx context.Context, items []*Item, before time.Time, dryRun bool) (removed []string, err error) {
	defer text.OneLine(&err)
	lister, ok1 := x.storage.(storage.Lister)
	remover, ok2 := x.storage.(storage.Remover)
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("exchange: the storage can't list or remove files: %w", errors.ErrUnsupported)
	}
	needed := map[string]bool{}
	for _, it := range items {
		if it.State == NotYet {
			return nil, nil // its targets are not known here
		}
		for _, t := range it.Targets {
			needed[t.Name] = true
		}
	}
	for f, err := range lister.List(ctx, x.id+"/targets/") {
		if err != nil {
			return removed, fmt.Errorf("exchange: %w", err)
		}
		if needed[strings.TrimPrefix(f.Name, x.id+"/")] || !f.Written.Before(before) {
			continue
		}
		if !dryRun {
			if err := remover.Remove(ctx, f.Name, before); errors.Is(err, storage.ErrConflict) {
				continue
			} else if err != nil {
				return removed, fmt.Errorf("exchange: %s: %w", text.Name(f.Name), err)
			}
		}
		removed = append(removed, f.Name)
	}
	return removed, nil
}
