package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// maxFound bounds the paths that [FindBytes] returns.
const maxFound = 1 << 16

// FindBytes returns, for each of some sha256 (lower-case hex), the paths under which any
// role of a repository lists these bytes, or states that they were recalled; sorted. It
// decides nothing: whether clients are offered the bytes under a path, [Receipt] tells.
// FindBytes reads all newest metadata, and no target.
//
// Metadata that does not verify is an error, and so are more than 65536 paths, which wrap
// [tuf.ErrTooLarge]. If another process published during the call, the error wraps
// [storage.ErrConflict]; call FindBytes again.
func FindBytes(ctx context.Context, from storage.Source, pin []byte, sums []string, opts *Options) (paths map[string][]string, err error) {
	defer text.OneLine(&err)
	err = oneState(ctx, from, func(from storage.Source) error {
		paths, err = findBytes(ctx, from, pin, sums, opts)
		return err
	})
	return paths, err
}

func findBytes(ctx context.Context, from storage.Source, pin []byte, sums []string, opts *Options) (paths map[string][]string, err error) {
	opened, err := tuf.OpenPin(pin, opts.tuf())
	if err != nil {
		return nil, fmt.Errorf("mirror: %w", err)
	}
	found := map[string]map[string]bool{} // paths by sha256
	for _, sum := range sums {
		found[sum] = map[string]bool{}
	}
	n := 0
	add := func(sum, path string) error {
		have := found[sum]
		if have == nil || have[path] {
			return nil
		}
		if n++; n > maxFound {
			return fmt.Errorf("%w: more than %d paths have these bytes", tuf.ErrTooLarge, maxFound)
		}
		have[path] = true
		return nil
	}
	s := newestOf(from, opened.Root(), opts)
	s.Metadata = func(context.Context, string, []byte) error { return nil }
	s.Role = func(_ context.Context, _ string, t *tuf.Targets) error {
		if err := s.Targets(t, func(x metafile.Target) error { return add(x.SHA256, x.Path) }); err != nil {
			return err
		}
		recalls, err := metafile.MemberOf(t, layout.RecallMember)
		if err != nil {
			return err
		}
		for r := range metafile.Recalls(recalls) {
			if err := add(r.SHA256, r.Path); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.Run(ctx, opened.Root()); err != nil {
		return nil, fmt.Errorf("mirror: %w", s.Conflict(ctx, err))
	}
	paths = map[string][]string{}
	for sum, have := range found {
		paths[sum] = slices.Sorted(maps.Keys(have))
	}
	return paths, nil
}

// newestOf returns a walker that stops at the first fault of what clients open. Roots
// before the pin's are not needed.
func newestOf(from storage.Source, pinned *tuf.Root, opts *Options) *walk.Walker {
	return &walk.Walker{Source: from, Options: opts.tuf(), Found: func(f walk.Fault) error {
		if role, v := layout.SplitRoleName(f.Name); role == "root" && v < pinned.Version() {
			return nil
		}
		return walk.FirstFault(f)
	}}
}
