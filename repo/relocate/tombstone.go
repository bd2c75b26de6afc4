package relocate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Tombstone fills to with what an old place serves once it is retired: every
// root, with the statements of recoveries, and nothing else. Clients that have slept since before the move find the
// way there; those that have seen the retirement never ask. Keep it up as long as
// the old name is yours, and repeat the call after each new root.
//
// to must have no content: an error that wraps [ErrPlaces] says so. Give it a
// folder of its own, and let the old address point there. The place should
// answer 404 to everything else, and let no cache keep that for long.
func Tombstone(ctx context.Context, r *repo.Repo, to repo.Storage) error {
	files, err := r.RootFiles(ctx)
	if err != nil {
		return err
	}
	if _, err := to.Read(ctx, "metadata/timestamp.json"); err == nil {
		return fmt.Errorf("%w: the tombstone has content, which clients would be served for ever: give it an empty folder", ErrPlaces)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// In order, so that what is there is a chain at every moment.
	for _, f := range files {
		old, err := to.Read(ctx, f.Name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = to.Create(ctx, f.Name, bytes.NewReader(f.Data))
		case err == nil && bytes.Equal(old, f.Data):
		case err == nil && strings.HasPrefix(f.Name, "metadata/recovery/"): // it was renewed, or replaced
			err = to.Replace(ctx, f.Name, old, f.Data)
		case err == nil:
			err = fmt.Errorf("%w: another root is there: %w", ErrPlaces, tuf.ErrMismatch)
		}
		if err != nil {
			return fmt.Errorf("relocate: %s: %w", f.Name, err)
		}
	}
	return nil
}
