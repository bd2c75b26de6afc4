package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// walker walks a whole repository in a source, from a pin on, in the order of the
// client workflow (TUF 5), and verifies with package tuf what clients would open. It
// holds one branch of the delegations in memory.
type walker struct {
	src    storage.Source
	opt    *tuf.Options
	limits tuf.Limits
	now    time.Time // time for the expiry checks; zero: no checks

	// opened is called when the newest timestamp and snapshot are known; may be nil.
	opened func(timestamp, snapshot []byte) error
	// meta is called once for each verified metadata file, in the order of publishing;
	// role is called before it with what a role file lists.
	meta func(name string, data []byte) error
	role func(name string, t *tuf.Targets) error
	// found is called for each fault. If it returns an error, the walk ends; otherwise
	// it continues with the files that can still be checked.
	found func(Finding) error
	// recovery is called with the files in metadata/recovery for each root that a
	// recovery follows or may follow; may be nil.
	recovery func(chain.Recovery) error
	// rootsOnly skips everything but the roots.
	rootsOnly bool

	chain []*tuf.Root // the verified roots, in order; the last is the newest
	// believed is the index in chain from which roots are trusted: that of the pin's
	// root, or of the oldest root to which prev_root_sha256 leads back from there.
	believed int
	// recoveries by the version of the root before them. At the end of the chain, a
	// recovery counts only if content is signed under it.
	recoveries map[int64]chain.Recovery
	regular    int64  // version of the newest root that is not a recovery root
	absent     int64  // version of the first absent root; 0: the walk of the roots ended with a fault
	timestamp  []byte // as read; nil if there was none
	looked     bool   // the timestamp was read or is absent
	ts         *tuf.Timestamp
	snap       *tuf.Snapshot
	under      *tuf.Root // the root that verifies the content
	done       map[string]bool
	roles      int
	listed     []string        // the roles that the snapshot lists, sorted
	own        map[string]bool // the roles that the root names
}

// maxWalked bounds the roles of one walk.
const maxWalked = 1 << 20

// report makes a finding of an error.
func (s *walker) report(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.found(Finding{Kind: kindOf(err), Name: name, Text: err.Error(), Err: err})
}

// kindOf returns the kind of the finding for an error of opening a file.
func kindOf(err error) FindingKind {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return FileMissing
	case errors.Is(err, tuf.ErrExpired):
		return FileExpired
	case errors.Is(err, tuf.ErrUntrusted):
		return FileUntrusted
	}
	return FileUnreadable
}

// dated reports an expired file.
func (s *walker) dated(name string, expires time.Time) error {
	if s.now.IsZero() || s.now.Before(expires) {
		return nil
	}
	return s.found(Finding{Kind: FileExpired, Name: name, Text: fmt.Sprintf("since %s", text.Time(expires)), Err: tuf.ErrExpired})
}

// run walks everything; pinned is the trusted root.
func (s *walker) run(ctx context.Context, pinned *tuf.Root) error {
	s.done = map[string]bool{}
	s.limits = s.opt.Limits.WithDefaults()
	roots, err := s.walkRoots(ctx, pinned)
	if err != nil {
		return err
	}
	var timestamp, snapshot []byte
	if !s.rootsOnly {
		if timestamp, snapshot, err = s.openContent(ctx); err != nil {
			return err
		}
	}
	if s.snap != nil && s.opened != nil {
		if err := s.opened(timestamp, snapshot); err != nil {
			return err
		}
	}
	if s.snap != nil {
		if err := s.walkRoles(ctx); err != nil {
			return err
		}
		if err := s.meta(layout.MetadataName(s.ts.SnapshotFile().Name()), snapshot); err != nil {
			return err
		}
	}
	last := s.newest().Version()
	for v := range s.recoveries {
		last = max(last, v)
	}
	for n := int64(1); n <= last; n++ {
		if data, ok := roots[n]; ok {
			if err := s.meta(layout.RootName(n), data); err != nil {
				return err
			}
		}
		if f, ok := s.recoveries[n]; ok && s.recovery != nil {
			if err := s.recovery(f); err != nil {
				return err
			}
		}
	}
	if s.snap == nil {
		return nil
	}
	return s.meta(layout.TimestampName, timestamp)
}

func (s *walker) newest() *tuf.Root { return s.chain[len(s.chain)-1] }

// walkRoots reads every root. From the pin's root on, each must follow from the one
// before. Older roots, which clients with older pins need, must lead to the pin's root.
// In a repository without charter, older roots may be missing or have an unsupported
// form.
func (s *walker) walkRoots(ctx context.Context, pinned *tuf.Root) (files map[int64][]byte, err error) {
	files = map[int64][]byte{}
	s.recoveries = map[int64]chain.Recovery{}
	var last *tuf.Root // the end of an unbroken chain from root 1 on
	for n := int64(1); ; n++ {
		if n == chain.MaxRoots {
			return nil, fmt.Errorf("repo: more than %d roots", chain.MaxRoots)
		}
		name := layout.RootName(n)
		data, err := storage.ReadAll(ctx, s.src, name, s.limits.Root)
		var f chain.Recovery
		if last != nil && errors.Is(err, fs.ErrNotExist) { // a recovery may take its place
			if f, err = s.recoveryOf(ctx, last, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if f.Statement != nil {
				name, data = f.Names[1], f.Data[1]
			}
		}
		if n > pinned.Version() && errors.Is(err, fs.ErrNotExist) {
			s.absent = n
			break
		}
		var root *tuf.Root
		switch {
		case err != nil:
		case n == 1:
			root, err = tuf.OpenRoot(data, s.opt)
		case f.Statement != nil:
			root, err = f.Root()
		case last != nil:
			root, err = last.Next(data)
		case n < pinned.Version():
			root, err = tuf.OpenRoot(data, s.opt) // the gap before it has been reported
		}
		if err == nil && n == pinned.Version() {
			if root, err = tuf.OpenRoot(data, s.opt); err == nil && root.SHA256() != pinned.SHA256() {
				err = &tuf.Error{Role: "root", Version: n, Err: tuf.ErrMismatch, Detail: "it differs from the pin's root"}
			}
		}
		if err != nil {
			if err := s.reportRoot(ctx, pinned, n, name, err); err != nil {
				return nil, err
			}
			if n > pinned.Version() {
				break // no client gets beyond it
			}
			root = nil
		}
		switch {
		case n == pinned.Version():
			root = pinned // trusted, regardless of the file
			fallthrough
		case root != nil:
			s.chain = append(s.chain, root)
		}
		if last = root; err == nil && f.Statement == nil {
			files[n] = data
		}
		if f.Statement == nil || n == pinned.Version() {
			s.regular = max(s.regular, n)
		}
	}
	s.believed = slices.IndexFunc(s.chain, func(r *tuf.Root) bool { return r == pinned })
	for s.believed > 0 {
		after, before := s.chain[s.believed], s.chain[s.believed-1]
		if after.Charter() == nil || before.Version() != after.Version()-1 || before.SHA256() != after.Charter().PrevRoot() {
			break
		}
		s.believed--
	}
	return files, nil
}

// reportRoot makes a finding of an error of root n, unless the error is permitted.
func (s *walker) reportRoot(ctx context.Context, pinned *tuf.Root, n int64, name string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist)
	if pinned.Charter() == nil && (n < pinned.Version() && errors.Is(err, tuf.ErrUntrusted) || n <= pinned.Version() && missing) {
		return nil
	}
	return s.report(ctx, name, err)
}

// proves returns the roots under which content and statements count.
func (s *walker) proves() []*tuf.Root { return s.chain[s.believed:] }

// recoveryOf looks for a recovery after root; if there is none, it returns the error
// none.
func (s *walker) recoveryOf(ctx context.Context, root *tuf.Root, none error) (chain.Recovery, error) {
	f, err := chain.RecoveryOf(ctx, s.src, root)
	if err != nil {
		if err := s.report(ctx, f.Names[0], err); err != nil {
			return f, err
		}
	}
	if f.Statement == nil {
		return chain.Recovery{}, none
	}
	s.recoveries[root.Version()] = f
	return f, nil
}

// end removes recovery roots from the end of the chain if no content is signed under
// them, since they are not in force yet.
func (s *walker) end(signed *tuf.Root) error {
	for s.newest().Version() > s.regular && s.newest() != signed && len(s.proves()) > 1 {
		s.chain = s.chain[:len(s.chain)-1]
	}
	name := layout.RootName(s.newest().Version())
	if f, ok := s.recoveries[s.newest().Version()-1]; ok {
		name = f.Names[1]
	}
	return s.dated(name, s.newest().Expires())
}

// openContent opens timestamp and snapshot under the newest root whose keys signed
// them; nil if there are none.
func (s *walker) openContent(ctx context.Context) (timestamp, snapshot []byte, err error) {
	timestamp, err = storage.ReadAll(ctx, s.src, layout.TimestampName, s.limits.Timestamp)
	s.looked = err == nil || errors.Is(err, fs.ErrNotExist)
	if err != nil {
		return nil, nil, errors.Join(s.end(nil), s.report(ctx, layout.TimestampName, err))
	}
	s.timestamp = timestamp
	var first error
	var at string
	for _, root := range slices.Backward(s.proves()) {
		name := layout.TimestampName
		var ts *tuf.Timestamp
		var snap *tuf.Snapshot
		if ts, err = root.Timestamp(timestamp, nil, chain.LongAgo); err == nil {
			name = layout.MetadataName(ts.SnapshotFile().Name())
			if snapshot, err = storage.ReadAll(ctx, s.src, name, ts.SnapshotFile().MaxLength); err == nil {
				snap, err = ts.Snapshot(snapshot, nil)
			}
		}
		if err == nil {
			s.ts, s.snap, s.under = ts, snap, root
			break
		}
		if first == nil {
			first, at = err, name
		}
		if !errors.Is(err, tuf.ErrUntrusted) {
			break
		}
	}
	if err := s.end(s.under); err != nil {
		return nil, nil, err
	}
	if s.snap == nil {
		return nil, nil, s.report(ctx, at, first)
	}
	if s.under != s.newest() {
		if err := s.found(Finding{Kind: FileUnfinished, Name: layout.RootName(s.newest().Version()), Err: first,
			Text: fmt.Sprintf("timestamp and snapshot are still those of root v%d: a publish was interrupted, the next Update or Renew completes it", s.under.Version())}); err != nil {
			return nil, nil, err
		}
	}
	if err := s.dated(layout.TimestampName, s.ts.Expires()); err != nil {
		return nil, nil, err
	}
	return timestamp, snapshot, s.dated(layout.MetadataName(s.ts.SnapshotFile().Name()), s.snap.Expires())
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

// walkRoles opens every role once for each delegator, since verification under one
// delegator does not carry over to another.
func (s *walker) walkRoles(ctx context.Context) error {
	var stack []step
	for _, role := range slices.Backward(topRoles(s.under)) {
		stack = append(stack, step{nil, role})
	}
	visited := map[child]bool{}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(visited) >= maxWalked {
			return fmt.Errorf("repo: more than %d roles", maxWalked)
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
			if pair := (child{t.Role(), role}); !visited[pair] {
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
func (s *walker) children(ctx context.Context, t *tuf.Targets) ([]string, error) {
	if s.listed == nil {
		s.listed, s.own = slices.Sorted(slices.Values(s.snap.Roles())), map[string]bool{"root": true, "timestamp": true, "snapshot": true}
		for _, role := range topRoles(s.under) {
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
func (s *walker) nameOf(t *tuf.Targets) string {
	f, err := s.snap.RoleFile(t.Role())
	if err != nil {
		return layout.RoleName(t.Role(), t.Version())
	}
	return layout.MetadataName(f.Name())
}

// openRole opens one role and passes it on if it is new. t is nil if it can't be
// opened, which is reported.
func (s *walker) openRole(ctx context.Context, at step) (t *tuf.Targets, err error) {
	name := at.role
	var data []byte
	get := func(f tuf.RoleFile) (got []byte, err error) {
		name = layout.MetadataName(f.Name())
		data, err = storage.ReadAll(ctx, s.src, name, f.MaxLength)
		return data, err
	}
	if at.by == nil {
		t, err = s.snap.Role(at.role, get)
	} else {
		t, err = s.snap.Delegated(at.by, at.role, get)
	}
	if err != nil {
		if at.by != nil {
			err = fmt.Errorf("delegated by %s: %w", roleText(at.by.Role()), err)
		}
		return nil, s.report(ctx, name, err)
	}
	if s.done[name] {
		return t, nil
	}
	s.done[name] = true
	s.roles++
	if err := s.dated(name, t.Expires()); err != nil {
		return nil, err
	}
	if err := s.role(name, t); err != nil {
		return nil, err
	}
	return t, s.meta(name, data)
}

// others returns the further names under which clients may request the file, of those
// that a storage can hold: some clients prefer the longer hash, and some repositories
// serve both.
func (s *walker) others(x metafile.Target) []metafile.Target {
	if x.SHA256 == "" || x.SHA512 == "" || !s.under.ConsistentSnapshot() {
		return nil
	}
	if x.Name = layout.TargetName(x.Path, x.SHA512); storage.CheckName(x.Name) != nil {
		return nil
	}
	return []metafile.Target{x}
}

// listedIn calls fn for each target that t lists, until fn returns an error.
func (s *walker) listedIn(t *tuf.Targets, fn func(metafile.Target) error) error {
	targets, err := metafile.MemberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		x, err := metafile.ParseTarget(path.String(), v)
		if err == nil && x.SHA256 == "" && s.under.Charter() != nil {
			err = errors.New("no sha256")
		}
		if err == nil && !s.under.ConsistentSnapshot() {
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

// skip reports a target that is skipped.
func (r *Repo) skip(role string, x metafile.Target) {
	if r.cfg.Skipped != nil {
		r.cfg.Skipped(unstorable(role, x))
	}
}
