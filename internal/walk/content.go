package walk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// openContent opens timestamp and snapshot under the newest root whose keys signed
// them; nil if there are none.
func (s *Walker) openContent(ctx context.Context) (timestamp, snapshot []byte, err error) {
	timestamp, err = storage.ReadAll(ctx, s.Source, layout.TimestampName, s.limits.Timestamp)
	s.looked = err == nil || errors.Is(err, fs.ErrNotExist)
	if err != nil {
		return nil, nil, errors.Join(s.end(nil), s.report(ctx, layout.TimestampName, err))
	}
	s.timestamp = timestamp
	var first error
	var at string
	for _, root := range slices.Backward(s.Trusted()) {
		name := layout.TimestampName
		var ts *tuf.Timestamp
		var snap *tuf.Snapshot
		if ts, err = root.Timestamp(timestamp, nil, chain.LongAgo); err == nil {
			name = layout.MetadataName(ts.SnapshotFile().Name())
			if snapshot, err = storage.ReadAll(ctx, s.Source, name, ts.SnapshotFile().MaxLength); err == nil {
				snap, err = ts.Snapshot(snapshot, nil)
			}
		}
		if err == nil {
			s.Timestamp, s.Snapshot, s.Under = ts, snap, root
			break
		}
		if first == nil {
			first, at = err, name
		}
		if !errors.Is(err, tuf.ErrUntrusted) {
			break
		}
	}
	if err := s.end(s.Under); err != nil {
		return nil, nil, err
	}
	if s.Snapshot == nil {
		return nil, nil, s.report(ctx, at, first)
	}
	if s.Under != s.Newest() {
		if err := s.Found(Fault{Unfinished, layout.RootName(s.Newest().Version()),
			fmt.Sprintf("timestamp and snapshot are still those of root v%d: a publish was interrupted, the next Update or Renew completes it", s.Under.Version()), first}); err != nil {
			return nil, nil, err
		}
	}
	if err := s.dated(layout.TimestampName, s.Timestamp.Expires()); err != nil {
		return nil, nil, err
	}
	return timestamp, snapshot, s.dated(layout.MetadataName(s.Timestamp.SnapshotFile().Name()), s.Snapshot.Expires())
}

// topRoles returns the targets roles that a root names itself.
func topRoles(root *tuf.Root) []string {
	roles := []string{"targets"}
	if c := root.Charter(); c != nil {
		for _, class := range c.Classes() {
			for _, r := range class.Roles {
				roles = append(roles, r.Role)
			}
			if class.Hold != nil {
				roles = append(roles, class.Hold.Role)
			}
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// step is a role to open: one that the root names, or one that by delegates to.
type step struct {
	by   *tuf.Targets
	role string
}

// delegation is a role under one delegator.
type delegation struct{ by, role string }

// walkRoles opens every role once for each delegator, since verification under one
// delegator does not carry over to another.
func (s *Walker) walkRoles(ctx context.Context) error {
	var stack []step
	for _, role := range slices.Backward(topRoles(s.Under)) {
		stack = append(stack, step{nil, role})
	}
	visited := map[delegation]bool{}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(visited) >= maxWalked {
			return fmt.Errorf("more than %d roles", maxWalked)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := s.openRole(ctx, at)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		names, err := s.children(ctx, t)
		if err != nil {
			return err
		}
		var next []step
		for _, role := range names {
			if len(visited) >= maxWalked {
				break
			}
			if pair := (delegation{t.Role(), role}); !visited[pair] {
				visited[pair] = true
				next = append(next, step{t, role})
			}
		}
		slices.Reverse(next)
		stack = append(stack, next...)
	}
	return nil
}

// children names the roles to which t delegates, and reports hash bins that no client
// can open.
func (s *Walker) children(ctx context.Context, t *tuf.Targets) ([]string, error) {
	if s.listed == nil {
		s.listed, s.own = slices.Sorted(slices.Values(s.Snapshot.Roles())), map[string]bool{"root": true, "timestamp": true, "snapshot": true}
		for _, role := range topRoles(s.Under) {
			s.own[role] = true
		}
	}
	names, bins, err := metafile.Delegated(t, s.listed, s.own)
	if err != nil {
		return nil, s.report(ctx, s.nameOf(t), err)
	}
	if bins > uint64(len(names)) {
		err := &tuf.Error{Role: t.Role(), Version: t.Version(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("the snapshot lists %d of its %d hash bins", len(names), bins)}
		return names, s.report(ctx, s.nameOf(t), err)
	}
	return names, nil
}

// nameOf returns the name of a role's file.
func (s *Walker) nameOf(t *tuf.Targets) string {
	f, err := s.Snapshot.RoleFile(t.Role())
	if err != nil {
		return layout.RoleName(t.Role(), t.Version())
	}
	return layout.MetadataName(f.Name())
}

// openRole opens one role and passes it on if it is new. t is nil if it can't be
// opened, which is reported.
func (s *Walker) openRole(ctx context.Context, at step) (t *tuf.Targets, err error) {
	name := at.role
	var data []byte
	get := func(f tuf.RoleFile) (got []byte, err error) {
		name = layout.MetadataName(f.Name())
		data, err = storage.ReadAll(ctx, s.Source, name, f.MaxLength)
		return data, err
	}
	if at.by == nil {
		t, err = s.Snapshot.Role(at.role, get)
	} else {
		t, err = s.Snapshot.Delegated(at.by, at.role, get)
	}
	if err != nil {
		if at.by != nil {
			err = fmt.Errorf("delegated by %s: %w", text.Name(at.by.Role()), err)
		}
		return nil, s.report(ctx, name, err)
	}
	if s.done[name] {
		return t, nil
	}
	s.done[name] = true
	s.Roles++
	if err := s.dated(name, t.Expires()); err != nil {
		return nil, err
	}
	if err := s.Role(ctx, name, t); err != nil {
		return nil, err
	}
	return t, s.Metadata(ctx, name, data)
}

// Others returns the further names under which clients may request the file, of those
// that a storage can hold: some clients prefer the longer hash, and some repositories
// serve both.
func (s *Walker) Others(x metafile.Target) []metafile.Target {
	if x.SHA256 == "" || x.SHA512 == "" || !s.Under.ConsistentSnapshot() {
		return nil
	}
	if x.Name = layout.TargetName(x.Path, x.SHA512); storage.CheckName(x.Name) != nil {
		return nil
	}
	return []metafile.Target{x}
}

// Targets calls fn for each target that t lists, until fn returns an error.
func (s *Walker) Targets(t *tuf.Targets, fn func(metafile.Target) error) error {
	targets, err := metafile.MemberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		x, err := metafile.ParseTarget(path.String(), v)
		if err == nil && x.SHA256 == "" && s.Under.Charter() != nil {
			err = errors.New("no sha256")
		}
		if err == nil && !s.Under.ConsistentSnapshot() {
			x.Name = "targets/" + x.Path
			x.Unstorable = storage.CheckName(x.Name)
		}
		if err != nil {
			return &tuf.Error{Role: t.Role(), Version: t.Version(), Err: tuf.ErrMalformed, Detail: fmt.Sprintf("target %s: %v", text.Name(path.String()), err)}
		}
		if err := fn(x); err != nil {
			return err
		}
	}
	return nil
}

// maxWalked bounds the roles of one walk.
const maxWalked = 1 << 20
