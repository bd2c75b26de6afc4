package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
)

// PruneOptions controls [Repo.Prune].
type PruneOptions struct {
	// Drafts is the minimum age, since the last write, of an unlisted file that Prune
	// removes: an unpublished draft may list it. 0: Expiry.Release, which is as long as
	// a draft can wait before its roles expire. An hour suffices if drafts are
	// published at once.
	Drafts time.Duration
	// DryRun reports files without removing them.
	DryRun bool
}

// Prune removes metadata and target files that no client requests any more. It keeps
// every root, all published files, every file that a client with an unexpired timestamp
// may request, files that are not published yet (see [PruneOptions]), reviewers'
// statements, and every file whose name this package would not produce. The lifetime of
// timestamps is Expiry.Timestamp, which all handles on a repository should share. opt
// may be nil. Prune returns the removed files.
//
// The storage must be a [storage.Lister] and a [storage.Remover]; otherwise the error wraps
// [errors.ErrUnsupported]. Prune may run concurrently with publishers and other Prunes,
// and may be interrupted at any point: no remaining file needs a removed one. A file
// that a publisher writes again in the meantime stays. If the storage is a
// [storage.Cleaner], Prune also removes what processes that died left there a week ago or
// earlier.
func (r *Repo) Prune(ctx context.Context, opt *PruneOptions) (_ []storage.FileInfo, err error) {
	defer text.OneLine(&err)
	lister, ok := r.storage.(storage.Lister)
	remover, can := r.storage.(storage.Remover)
	if !ok || !can {
		return nil, fmt.Errorf("repo: the storage can't list and remove: %w", errors.ErrUnsupported)
	}
	var o PruneOptions
	if opt != nil {
		o = *opt
	}
	if o.Drafts <= 0 {
		o.Drafts = r.cfg.Expiry.Release
	}
	// Before the load: a file that is published after the load was written after this time,
	// even if the machine sleeps in between.
	now := r.now()
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.snap == nil {
		return nil, nil // nothing is published yet, so any file may be needed
	}
	k := &pruner{repo: r, ctx: ctx, present: p, now: now, drafts: max(o.Drafts, pruneMargin), keep: map[[16]byte]bool{}, read: map[string]*pastRole{}}
	var meta []storage.FileInfo
	for f, err := range lister.List(ctx, "metadata/") {
		if err != nil {
			return nil, err
		}
		meta = append(meta, f)
	}
	if err := k.keepSnapshots(meta); err != nil {
		return nil, err
	}
	var done []storage.FileInfo
	drop := func(f storage.FileInfo, before time.Time) error {
		if before.IsZero() || !f.Written.Before(before) {
			return nil
		}
		if !o.DryRun {
			if err := remover.Remove(ctx, f.Name, before); errors.Is(err, ErrConflict) {
				return nil // a publisher wrote it again
			} else if err != nil {
				return err
			}
		}
		done = append(done, f)
		r.progress(storage.Progress{Path: f.Name, Done: f.Size, Total: f.Size, Files: len(done)})
		return nil
	}
	// Sorted by version: the time at which a snapshot was superseded is that of the
	// next one.
	slices.SortFunc(meta, func(a, b storage.FileInfo) int {
		_, v := layout.SplitRoleName(a.Name)
		_, w := layout.SplitRoleName(b.Name)
		return int(min(max(v-w, -1), 1))
	})
	for _, f := range meta {
		if err := drop(f, k.metadataBefore(f.Name)); err != nil {
			return done, err
		}
	}
	for f, err := range lister.List(ctx, "targets/") {
		if err != nil {
			return done, err
		}
		if layout.IsTargetName(f.Name) && !k.keep[metafile.Key(f.Name)] {
			if err := drop(f, k.now.Add(-k.drafts)); err != nil {
				return done, err
			}
		}
	}
	if c, ok := r.storage.(storage.Cleaner); ok && !o.DryRun {
		if _, err := c.Clean(ctx, now.Add(-cleanAge)); err != nil {
			return done, fmt.Errorf("repo: %w", err)
		}
	}
	return done, nil
}

// cleanAge is longer than any write takes.
const cleanAge = 7 * 24 * time.Hour

type pruner struct {
	repo    *Repo
	ctx     context.Context
	present *present
	now     time.Time
	drafts  time.Duration
	keep    map[[16]byte]bool // by name; there may be a million
	read    map[string]*pastRole
	top     []string // every targets role that any root named
}

// pastRole holds the delegations of a role file.
type pastRole struct {
	names  []string
	prefix string // of hash bins; "" for none
}

// metadataBefore returns the time before which a file must have been written to be
// removed; zero if it stays.
func (k *pruner) metadataBefore(name string) time.Time {
	role, version := layout.SplitRoleName(name)
	if role == "" || role == "root" || k.keep[metafile.Key(name)] {
		return time.Time{}
	}
	last := k.present.listed(role)
	if role == "snapshot" {
		last = k.present.snap.Version()
	}
	if version > last {
		return k.now.Add(-k.drafts) // not published yet, or left by an interrupted publish
	}
	return k.now.Add(-pruneMargin)
}

// keepSnapshots marks the files that clients may request: through the current snapshot,
// and through each older one whose timestamp may still be valid. The last timestamp of
// a snapshot was signed before the next published snapshot. Each snapshot names its
// predecessor; the listing can't tell, since it may lack some snapshots and contain
// others that were never published.
func (k *pruner) keepSnapshots(meta []storage.FileInfo) error {
	tops := map[string]bool{}
	for _, root := range k.present.chain.Roots {
		if root.Charter() == nil {
			continue
		}
		for _, x := range rootOf(root).lists() {
			tops[x.role] = true
		}
	}
	k.top = slices.Sorted(maps.Keys(tops))
	written := map[int64]time.Time{}
	for _, f := range meta {
		if role, v := layout.SplitRoleName(f.Name); role == "snapshot" {
			written[v] = f.Written
		}
	}
	at, data := k.present.snap.Version(), k.present.snapshot
	for data != nil {
		before, err := k.keepSnapshot(at, data)
		if err != nil {
			return err
		}
		next, listed := written[at]
		if until := next.Add(k.repo.cfg.Expiry.Timestamp + pruneMargin); listed && !k.now.Before(until) {
			return nil // timestamps of older snapshots have expired too
		}
		if at, data, err = k.before(at, before); err != nil {
			return err
		}
	}
	return nil
}

// before reads the snapshot that was published before v; nil if it has been removed.
// For snapshots by earlier versions of this package it is the next lower version.
func (k *pruner) before(v, before int64) (int64, []byte, error) {
	first, last := v-1, max(v-maxSkip, 1)
	if before > 0 {
		first, last = before, before
	}
	for n := first; n >= last; n-- {
		data, err := k.repo.storage.Read(k.ctx, layout.RoleName("snapshot", n))
		if !errors.Is(err, fs.ErrNotExist) {
			return n, data, err
		}
	}
	return 0, nil, nil // removed by another Prune, which begins with the oldest
}

// keepSnapshot marks a snapshot and the files that clients reach from it. It returns
// the version of the snapshot published before it; 0 if the snapshot does not state it.
func (k *pruner) keepSnapshot(version int64, data []byte) (before int64, err error) {
	k.keep[metafile.Key(layout.RoleName("snapshot", version))] = true
	listed, before, err := parseSnapshot(data)
	if err != nil {
		return 0, fmt.Errorf("repo: snapshot v%d: %w", version, err)
	}
	// Only roles that a search reaches are marked. The snapshot also lists unreachable
	// ones, such as hash bins of a former number of bins, which no client requests.
	todo, seen := slices.Clone(k.top), map[string]bool{}
	for len(todo) > 0 {
		role := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		v, ok := listed[role]
		if !ok || seen[role] {
			continue
		}
		seen[role] = true
		r, err := k.role(role, v)
		if err != nil {
			return 0, err
		}
		todo = append(todo, r.names...)
		if r.prefix != "" {
			for name := range listed {
				if strings.HasPrefix(name, r.prefix) {
					todo = append(todo, name)
				}
			}
		}
	}
	return before, nil
}

// role marks a role's file and the targets that it lists, once.
func (k *pruner) role(role string, version int64) (*pastRole, error) {
	name := layout.RoleName(role, version)
	if r := k.read[name]; r != nil {
		return r, nil
	}
	if err := k.ctx.Err(); err != nil {
		return nil, err
	}
	r := &pastRole{}
	k.read[name] = r
	k.keep[metafile.Key(name)] = true
	data, err := k.repo.storage.Read(k.ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // Verify reports it if it is needed
	}
	if err != nil {
		return nil, err
	}
	l, err := rolelist.Parse(role, data)
	if err != nil {
		return nil, fmt.Errorf("%s v%d: %w", roleText(role), version, err)
	}
	for path, v := range l.Targets {
		x, err := metafile.ParseTarget(path, v)
		if err != nil {
			return nil, fmt.Errorf("repo: %s v%d: %s: %w", roleText(role), version, text.Name(path), err)
		}
		k.keep[metafile.Key(x.Name)] = true // one that no storage can hold does not exist
		if x.SHA512 != "" {
			k.keep[metafile.Key(layout.TargetName(path, x.SHA512))] = true
		}
	}
	if d := l.Delegations; d != nil && d.SuccinctRoles != nil {
		r.prefix = d.SuccinctRoles.NamePrefix + "-"
	} else {
		r.names = l.Delegates()
	}
	return r, nil
}

// parseSnapshot reads the versions that a snapshot lists, and the version of the
// snapshot published before it; 0 if it is absent or invalid.
func parseSnapshot(data []byte) (listed map[string]int64, before int64, err error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return nil, 0, err
	}
	var signed, meta, own, follows wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return nil, 0, err
	}
	if err := signed.Fields(wire.Field{Name: "meta", To: &meta}, wire.Field{Name: "version", To: &own}, wire.Field{Name: followsMember, To: &follows}); err != nil {
		return nil, 0, err
	}
	listed = map[string]int64{}
	for name, v := range meta.Members() {
		var version wire.Value
		if err := v.Fields(wire.Field{Name: "version", To: &version}); err != nil {
			return nil, 0, err
		}
		n, err := version.Int()
		if err != nil {
			return nil, 0, err
		}
		listed[strings.TrimSuffix(name.String(), ".json")] = n
	}
	version, err := own.Int()
	if err != nil {
		return nil, 0, err
	}
	if before, err = follows.Int(); err != nil || before < 1 || before >= version {
		before = 0
	}
	return listed, before, nil
}
