package relocate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// PublishRootsOnly writes a roots-only copy for a retired location to to: every root and
// the recovery statements. Clients that were offline since before the move find the
// newest root there; clients with the retiring root never contact it. Serve the copy
// as long as you control the old host name, and repeat the call after each new root.
//
// to must have no content, or the error wraps [ErrLocations]. Use a separate folder and
// let the old address serve it. The server should answer 404 to all other requests
// and should not let caches keep these answers for long.
func PublishRootsOnly(ctx context.Context, r *repo.Repo, to repo.Storage) error {
	files, err := r.RootFiles(ctx)
	if err != nil {
		return err
	}
	return storage.Batch(ctx, to, func(to storage.Storage) error { return writeRootsOnly(ctx, to, files) })
}

func writeRootsOnly(ctx context.Context, to storage.Storage, files []storage.File) error {
	if _, err := to.Read(ctx, layout.TimestampName); err == nil {
		return fmt.Errorf("relocate: %w: the roots-only copy has content, which clients would get for ever: use an empty folder", ErrLocations)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// In order, so that the copy is a valid chain at every moment.
	for _, f := range files {
		old, err := to.Read(ctx, f.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = to.Create(ctx, f.Name, bytes.NewReader(f.Data))
		case err == nil && bytes.Equal(old, f.Data):
		case err == nil && strings.HasPrefix(f.Name, layout.RecoveryFolder): // a renewed or replaced statement
			err = to.Replace(ctx, f.Name, old, f.Data)
		case err == nil:
			err = fmt.Errorf("relocate: %w: a different root exists: %w", ErrLocations, tuf.ErrMismatch)
		}
		if err != nil {
			return fmt.Errorf("relocate: %s: %w", f.Name, err)
		}
	}
	return nil
}
