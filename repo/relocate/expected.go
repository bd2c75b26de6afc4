package relocate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// expected is the content of the storage, which every location must serve, verified as
// clients do, except expiries.
type expected struct {
	roots                        int64
	rootFiles                    []storage.File
	metadata                     []string // names in storage, timestamp.json last
	files                        []target
	timestamp, snapshot, targets int64
	expires                      time.Time // of the first role that expires
	first                        string    // name of that role
}

// recovered reports whether the newest root was introduced by a recovery.
func (t *expected) recovered() bool {
	return strings.HasPrefix(t.rootFiles[len(t.rootFiles)-1].Name, layout.RecoveryFolder)
}

type target struct {
	name   string // in storage
	length int64
	sha256 string
}

// readExpected reads the content of a storage from the first of its verified roots on.
func readExpected(ctx context.Context, s repo.Storage, chain []*tuf.Root) (*expected, error) {
	t := &expected{roots: chain[len(chain)-1].Version()}
	// The handle that verified the chain decides whether locations may be on loopback.
	opt := &tuf.Options{UnsafeLoopback: true}
	opt.Limits.Unlisted = opt.Limits.WithDefaults().Targets
	w := &walk.Walker{Source: storage.SourceOf(s), Options: opt}
	w.Found = func(f walk.Fault) error {
		switch {
		case f.Kind == walk.Missing && f.Name == layout.TimestampName: // there is no content yet
		case f.Kind == walk.Unfinished: // clients still get the content of the root before
		case strings.HasPrefix(f.Name, layout.RecoveryFolder): // an invalid recovery, which clients ignore
		default:
			return walk.FirstFault(f)
		}
		return nil
	}
	w.Metadata = func(_ context.Context, name string, _ []byte) error {
		if !layout.IsRootName(name) {
			t.metadata = append(t.metadata, name)
		}
		return nil
	}
	w.Role = func(_ context.Context, _ string, role *tuf.Targets) error {
		t.ends(role.Role(), role.Expires())
		if role.Role() == "targets" {
			t.targets = role.Version()
		}
		return w.Targets(role, func(x metafile.Target) error {
			if x.Unstorable == nil {
				t.files = append(t.files, target{x.Name, x.Length, x.SHA256})
			}
			return nil
		})
	}
	if err := w.Conflict(ctx, w.Run(ctx, chain[0])); err != nil {
		return nil, fmt.Errorf("relocate: %w", err)
	}
	if w.Snapshot == nil {
		return t, nil
	}
	t.timestamp, t.snapshot = w.Timestamp.Version(), w.Snapshot.Version()
	t.ends("timestamp", w.Timestamp.Expires())
	t.ends("snapshot", w.Snapshot.Expires())
	slices.SortFunc(t.files, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.length, b.length), strings.Compare(a.name, b.name))
	})
	t.files = slices.Compact(t.files)
	return t, nil
}

func (t *expected) ends(role string, at time.Time) {
	if t.expires.IsZero() || at.Before(t.expires) {
		t.expires, t.first = at, role
	}
}
