package relocate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
)

// expected is the content of the storage, which every location must serve. It is
// parsed without verification, because the storage is the operator's own; repo.Repo
// has verified the chain of roots.
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

func readExpected(ctx context.Context, s repo.Storage, roots int64) (*expected, error) {
	t := &expected{roots: roots}
	const stampName = layout.TimestampName
	data, err := s.Read(ctx, stampName)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	ts, err := metadata.Timestamp().FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("relocate: %s: %w", stampName, err)
	}
	t.timestamp = ts.Signed.Version
	t.ends("timestamp", ts.Signed.Expires)
	listed := ts.Signed.Meta["snapshot.json"]
	if listed == nil {
		return nil, fmt.Errorf("relocate: %s lists no snapshot", stampName)
	}
	t.snapshot = listed.Version
	name := layout.RoleName("snapshot", t.snapshot)
	if data, err = s.Read(ctx, name); err != nil {
		return nil, err
	}
	snap, err := metadata.Snapshot().FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("relocate: %s: %w", text.Name(name), err)
	}
	t.ends("snapshot", snap.Signed.Expires)
	t.metadata = append(t.metadata, name)
	for _, file := range slices.Sorted(maps.Keys(snap.Signed.Meta)) {
		role := strings.TrimSuffix(file, ".json")
		version := snap.Signed.Meta[file].Version
		if role == "targets" {
			t.targets = version
		}
		if err := t.role(ctx, s, role, version); err != nil {
			return nil, err
		}
	}
	t.metadata = append(t.metadata, stampName)
	slices.SortFunc(t.files, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.length, b.length), strings.Compare(a.name, b.name))
	})
	t.files = slices.Compact(t.files)
	return t, nil
}

func (t *expected) role(ctx context.Context, s repo.Storage, role string, version int64) error {
	name := layout.RoleName(role, version)
	data, err := s.Read(ctx, name)
	if err != nil {
		return err
	}
	md, err := metadata.Targets().FromBytes(data)
	if err != nil {
		return fmt.Errorf("relocate: %s: %w", text.Name(name), err)
	}
	t.metadata = append(t.metadata, name)
	t.ends(role, md.Signed.Expires)
	for path, f := range md.Signed.Targets {
		sum := f.Hashes["sha256"].String()
		t.files = append(t.files, target{layout.TargetName(path, sum), f.Length, sum})
	}
	return nil
}

func (t *expected) ends(role string, at time.Time) {
	if t.expires.IsZero() || at.Before(t.expires) {
		t.expires, t.first = at, role
	}
}
