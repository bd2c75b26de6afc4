package walk

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/storage"
)

// Moved reports whether something was published since the walk began. Its findings may
// then mix two states.
func (s *Walker) Moved(ctx context.Context) bool {
	if s.looked {
		now, err := storage.ReadAll(ctx, s.Source, layout.TimestampName, s.limits.Timestamp)
		if err == nil && (s.timestamp == nil || !bytes.Equal(now, s.timestamp)) {
			return true
		}
	}
	if s.absent == 0 {
		return false
	}
	there, _, err := storage.Stat(ctx, s.Source, layout.RootName(s.absent))
	return err == nil && there
}

// Conflict turns an error that may result from a concurrent publish into [storage.ErrConflict].
func (s *Walker) Conflict(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, storage.ErrConflict) || ctx.Err() != nil || !s.Moved(ctx) {
		return err
	}
	return fmt.Errorf("the repository changed during this call: %w: %w", storage.ErrConflict, err)
}
