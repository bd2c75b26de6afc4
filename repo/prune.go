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

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
)

// PruneOptions says how [Repo.Prune] goes about it.
type PruneOptions struct {
	// Drafts is how long a file that nothing lists is kept, from when it was last
	// written: a draft on its way may list it. 0: as long as a draft can wait
	// until what it signs has expired, Expiry.Release. Where drafts don't travel, an
	// hour will do.
	Drafts time.Duration
	// DryRun: nothing is removed, only said.
	DryRun bool
}

// Prune removes metadata and target files that no client asks for any more. It
// keeps every root; whatever is published; whatever a client may ask for that
// holds a timestamp which has not expired, by Expiry.Timestamp, which all
// handles on a repository should share; what is not published yet (see
// [PruneOptions]); reviewers' statements, which are the record; and every file
// whose name is not of this package's making. opt may be nil. It returns what was
// removed.
//
// The storage must be a [Lister] and a [Remover]; otherwise the error wraps
// [errors.ErrUnsupported]. It may run beside publishers and other Prunes, and be
// killed at any point: nothing that it removes is needed by anything that it has
// not removed yet. What a publisher writes again meanwhile stays.
func (r *Repo) Prune(ctx context.Context, opt *PruneOptions) (_ []storage.FileInfo, err error) {
	defer oneLine(&err)
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
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	if p.snap == nil {
		return nil, nil // nothing is published yet, so everything may come to be
	}
	k := &pruner{repo: r, ctx: ctx, present: p, now: r.now(), drafts: max(o.Drafts, pruneMargin), keep: map[[16]byte]bool{}, read: map[string]*pastRole{}}
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
				return nil // somebody has use for it again
			} else if err != nil {
				return err
			}
		}
		done = append(done, f)
		r.progress(storage.Progress{Path: f.Name, Done: f.Size, Total: f.Size, Files: len(done)})
		return nil
	}
	// Snapshots in order: the age of one is seen from the next.
	slices.SortFunc(meta, func(a, b storage.FileInfo) int {
		_, v := splitRoleName(a.Name)
		_, w := splitRoleName(b.Name)
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
		if isTargetName(f.Name) && !k.keep[short(f.Name)] {
			if err := drop(f, k.now.Add(-k.drafts)); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

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

// pastRole is what matters of a role file: where the search goes on from it.
type pastRole struct {
	names  []string
	prefix string // of hash bins; "" for none
}

// metadataBefore is the time before which a file must have been written to be
// removed, zero where it stays.
func (k *pruner) metadataBefore(name string) time.Time {
	role, version := splitRoleName(name)
	if role == "" || role == "root" || k.keep[short(name)] {
		return time.Time{}
	}
	last := k.present.listed(role)
	if role == "snapshot" {
		last = k.present.snap.Version()
	}
	if version > last {
		return k.now.Add(-k.drafts) // not published yet, or left by a publish that was killed
	}
	return k.now.Add(-pruneMargin)
}

// keepSnapshots marks what clients may ask for: by the present snapshot, and by
// each older one that a timestamp may still be good for. When the last such
// timestamp was signed is seen from the snapshot that was published after it. Which
// that was, the snapshots say themselves: the listing may lack some of them, and
// have others that never came to be published.
func (k *pruner) keepSnapshots(meta []storage.FileInfo) error {
	tops := map[string]bool{}
	for _, root := range k.present.chain.roots {
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
		if role, v := splitRoleName(f.Name); role == "snapshot" {
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
			return nil // and what was published before that was over before
		}
		if at, data, err = k.before(at, before); err != nil {
			return err
		}
	}
	return nil
}

// before reads the snapshot that was published before v; nil where it is gone. Of
// those that earlier versions of this package made it is the next lower one.
func (k *pruner) before(v, before int64) (int64, []byte, error) {
	first, last := v-1, max(v-maxSkip, 1)
	if before > 0 {
		first, last = before, before
	}
	for n := first; n >= last; n-- {
		data, err := k.repo.storage.Read(k.ctx, roleName("snapshot", n))
		if !errors.Is(err, fs.ErrNotExist) {
			return n, data, err
		}
	}
	return 0, nil, nil // removed by another Prune, which begins with the oldest
}

// keepSnapshot marks a snapshot and what it lists, and returns the version of the
// one that was published before it; 0 where it does not say.
func (k *pruner) keepSnapshot(version int64, data []byte) (before int64, err error) {
	k.keep[short(roleName("snapshot", version))] = true
	listed, before, err := parseSnapshot(data)
	if err != nil {
		return 0, fmt.Errorf("repo: snapshot v%d: %w", version, err)
	}
	// Not what it lists but what a search comes to: of roles that once were,
	// such as hash bins of another number, nobody asks.
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

// role marks a role's file, and the targets that it lists, once.
func (k *pruner) role(role string, version int64) (*pastRole, error) {
	name := roleName(role, version)
	if r := k.read[name]; r != nil {
		return r, nil
	}
	if err := k.ctx.Err(); err != nil {
		return nil, err
	}
	r := &pastRole{}
	k.read[name] = r
	k.keep[short(name)] = true
	data, err := k.repo.storage.Read(k.ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // Verify complains where it must
	}
	if err != nil {
		return nil, err
	}
	l, err := parseListing(role, data)
	if err != nil {
		return nil, fmt.Errorf("%s v%d: %w", roleText(role), version, err)
	}
	for path, v := range l.targets {
		x, err := parseListed(path, v)
		if err != nil {
			return nil, fmt.Errorf("repo: %s v%d: %s: %w", roleText(role), version, text.Name(path), err)
		}
		k.keep[short(x.name)] = true // one that no storage can hold is not there
		if x.sha512 != "" {
			k.keep[short(TargetName(path, x.sha512))] = true
		}
	}
	if d := l.delegations; d != nil && d.SuccinctRoles != nil {
		r.prefix = d.SuccinctRoles.NamePrefix + "-"
	} else {
		r.names = l.delegates()
	}
	return r, nil
}

// parseSnapshot reads the versions that a snapshot lists, and which one was
// published before it; 0 where it does not say, or says what can't be.
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
