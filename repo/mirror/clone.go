package mirror

import (
	"context"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Clone updates the storage to to a byte-identical mirror of a source. It copies all roots,
// the current metadata, every listed target, and the review statements of the targets
// (checked when a role that lists the target has a new version). pin is a pin, or for a
// repository without a charter a root.json; of such a repository, roots before the pin
// are copied if they are readable. Clone works for any TUF repository with consistent
// snapshots (TUF section 6.2): it follows all delegations and hash bins, keeps unknown
// members, and without a charter accepts either of sha256 and sha512. Without consistent
// snapshots the error wraps [errors.ErrUnsupported]. Clone requires no key. It skips
// targets with names that [storage.CheckName] refuses, and reports each to
// [Options].Skipped; [Verify] of the mirror reports them too.
//
// Clone verifies everything before it writes it, as clients do, except expiries. It
// refuses content older than that of the storage (rollback); only a recovery without a
// regular successor may disappear. It fetches only missing files, and continues after an
// interruption when called again. It writes in the order of a publish, timestamp.json
// last, so clients of the mirror see either its old or its new state.
//
// If a publish is in progress on the source, or the source changes during the call, or
// another process writes to the storage, the error wraps [storage.ErrConflict]; call Clone
// again. Clone does not remove old files; see repo.Repo.Prune.
func Clone(ctx context.Context, to storage.Storage, from storage.Source, pin []byte, opt *Options) (err error) {
	defer text.OneLine(&err)
	opened, err := tuf.OpenPin(pin, opt.tuf())
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	err = oneState(ctx, from, func(from storage.Source) error {
		return storage.Batch(ctx, to, func(to storage.Storage) error {
			c := walk.NewCopier(from, to, opt.tuf(), opened.Root())
			c.Progress, c.Skipped = opt.progress, opt.skip
			return c.Run(ctx)
		})
	})
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	return nil
}

// oneState calls fn with the source, in one state if it is a [storage.Batcher].
func oneState(ctx context.Context, from storage.Source, fn func(storage.Source) error) error {
	s, ok := from.(storage.Storage)
	if !ok {
		return fn(from)
	}
	return storage.Batch(ctx, s, func(s storage.Storage) error { return fn(storage.SourceOf(s)) })
}
