package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/repo/storage"
)

// moved reports whether something was published since the survey began: then what
// it found may be no fault, for it read a part before and a part after.
func (s *survey) moved(ctx context.Context) bool {
	if s.looked {
		now, err := storage.ReadAll(ctx, s.src, timestampName, s.limits.Timestamp)
		if err == nil && (s.timestamp == nil || !bytes.Equal(now, s.timestamp)) {
			return true
		}
	}
	if s.absent == 0 {
		return false
	}
	there, _, err := storage.Stat(ctx, s.src, rootName(s.absent))
	return err == nil && there
}

// conflict tells an error that comes of a publish meanwhile from a fault.
func (s *survey) conflict(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrConflict) || ctx.Err() != nil || !s.moved(ctx) {
		return err
	}
	return fmt.Errorf("repo: what is published has changed since this began: %w: %w", ErrConflict, err)
}
