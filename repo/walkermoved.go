package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/storage"
)

// moved reports whether something was published since the walk began. Its findings may
// then mix two states.
func (s *walker) moved(ctx context.Context) bool {
	if s.looked {
		now, err := storage.ReadAll(ctx, s.src, layout.TimestampName, s.limits.Timestamp)
		if err == nil && (s.timestamp == nil || !bytes.Equal(now, s.timestamp)) {
			return true
		}
	}
	if s.absent == 0 {
		return false
	}
	there, _, err := storage.Stat(ctx, s.src, layout.RootName(s.absent))
	return err == nil && there
}

// conflict turns an error that may result from a concurrent publish into [ErrConflict].
func (s *walker) conflict(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrConflict) || ctx.Err() != nil || !s.moved(ctx) {
		return err
	}
	return fmt.Errorf("repo: the repository changed during this call: %w: %w", ErrConflict, err)
}
