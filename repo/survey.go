package repo

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// survey goes through all of a repository that a source shows, from a pin on,
// the way that clients go, and opens with package tuf whatever they would.
// It holds no more than one branch of the delegations in memory.
type survey struct {
	src    storage.Source
	opt    *tuf.Options
	limits tuf.Limits
	now    time.Time // dates are asked of this; zero: not at all

	// opened is told when the newest timestamp and snapshot are known; nil: nobody is.
	opened func(timestamp, snapshot []byte) error
	// meta is given each metadata file that verified, once, in the order of
	// publishing; role is called before for what a role file lists.
	meta func(name string, data []byte) error
	role func(name string, t *tuf.Targets) error
	// found is told what is wrong. An error ends the survey; without one it goes
	// on with what can still be looked at.
	found func(Finding) error
	// recovery is given what lies in metadata/recovery, for each root that a recovery
	// leads on from, or may; nil: nobody is.
	recovery func(recoveryFiles) error
	// rootsOnly: content is not looked at.
	rootsOnly bool

	chain []*tuf.Root // what verified, in order; the last is the newest
	// believed is where the part of the chain begins that proves something: the
	// pin's root, or the oldest one that prev_root_sha256 leads back to from there.
	believed int
	// Recoveries by the version that they follow; of those at the end of the chain
	// only content tells whether they count.
	recoveries map[int64]recoveryFiles
	ordinary   int64  // version of the newest root that a file of its own, or the pin, stands for
	absent     int64  // version of the first root that was not there; 0: the walk ended with a fault
	timestamp  []byte // as it was read, nil where there was none
	looked     bool   // whether it could be read, or was not there
	ts         *tuf.Timestamp
	snap       *tuf.Snapshot
	under      *tuf.Root // the root of the content
	done       map[string]bool
	roles      int
	listed     []string        // the roles that the snapshot lists, sorted
	own        map[string]bool // the roles that have an owner by root
}

// maxSurveyed bounds the roles of one survey.
const maxSurveyed = 1 << 20

// report makes a finding of an error.
func (s *survey) report(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.found(Finding{Kind: kindOf(err), Name: name, Text: err.Error(), Err: err})
}

// kindOf tells what an error says of the file that could not be opened.
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

// dated reports what is past its date.
func (s *survey) dated(name string, expires time.Time) error {
	if s.now.IsZero() || s.now.Before(expires) {
		return nil
	}
	return s.found(Finding{Kind: FileExpired, Name: name, Text: fmt.Sprintf("since %s", stamp(expires)), Err: tuf.ErrExpired})
}

// run surveys everything. pinned is where trust comes from.
func (s *survey) run(ctx context.Context, pinned *tuf.Root) error {
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
		if err := s.meta(fileName(s.ts.SnapshotFile()), snapshot); err != nil {
			return err
		}
	}
	last := s.tip().Version()
	for v := range s.recoveries {
		last = max(last, v)
	}
	for n := int64(1); n <= last; n++ {
		if data, ok := roots[n]; ok {
			if err := s.meta(rootName(n), data); err != nil {
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
	return s.meta(timestampName, timestamp)
}

func (s *survey) tip() *tuf.Root { return s.chain[len(s.chain)-1] }

// walkRoots reads every root there is. From the pin's on each follows from the
// one before. Those before it, which clients with older pins need, must lead to it;
// but in a plain repository it begins at the pin, and what is older may be missing,
// or of a form that nobody reads any more.
func (s *survey) walkRoots(ctx context.Context, pinned *tuf.Root) (files map[int64][]byte, err error) {
	files = map[int64][]byte{}
	s.recoveries = map[int64]recoveryFiles{}
	var last *tuf.Root // of an unbroken chain from root 1 on
	for n := int64(1); ; n++ {
		if n == maxRoots {
			return nil, fmt.Errorf("repo: more than %d roots", maxRoots)
		}
		name := rootName(n)
		data, err := storage.ReadAll(ctx, s.src, name, s.limits.Root)
		var f recoveryFiles
		if last != nil && errors.Is(err, fs.ErrNotExist) { // perhaps there is another way on
			if f, err = s.recoveryOf(ctx, last, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if f.rec != nil {
				name, data = f.names[1], f.data[1]
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
		case f.rec != nil:
			root, err = f.root()
		case last != nil:
			root, err = last.Next(data)
		case n < pinned.Version():
			root, err = tuf.OpenRoot(data, s.opt) // the one before is reported already
		}
		if err == nil && n == pinned.Version() {
			if root, err = tuf.OpenRoot(data, s.opt); err == nil && root.SHA256() != pinned.SHA256() {
				err = &tuf.Error{Role: "root", Version: n, Err: tuf.ErrMismatch, Detail: "it is not the pin's"}
			}
		}
		if err != nil {
			if err := s.reportRoot(ctx, pinned, n, name, err); err != nil {
				return nil, err
			}
			if n > pinned.Version() {
				break // nobody comes further
			}
			root = nil
		}
		switch {
		case n == pinned.Version():
			root = pinned // which is trusted, whatever the file is
			fallthrough
		case root != nil:
			s.chain = append(s.chain, root)
		}
		if last = root; err == nil && f.rec == nil {
			files[n] = data
		}
		if f.rec == nil || n == pinned.Version() {
			s.ordinary = max(s.ordinary, n)
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

// reportRoot makes a finding of an error of root n, where it is one.
func (s *survey) reportRoot(ctx context.Context, pinned *tuf.Root, n int64, name string, err error) error {
	missing := errors.Is(err, fs.ErrNotExist)
	if pinned.Charter() == nil && (n < pinned.Version() && errors.Is(err, tuf.ErrUntrusted) || n <= pinned.Version() && missing) {
		return nil
	}
	return s.report(ctx, name, err)
}

// proves are the roots under which content and statements count.
func (s *survey) proves() []*tuf.Root { return s.chain[s.believed:] }

// recoveryOf looks for a recovery after root; where there is none the error is none.
func (s *survey) recoveryOf(ctx context.Context, root *tuf.Root, none error) (recoveryFiles, error) {
	f, err := recoveryOf(ctx, s.src, root)
	if err != nil {
		if err := s.report(ctx, f.names[0], err); err != nil {
			return f, err
		}
	}
	if f.rec == nil {
		return recoveryFiles{}, none
	}
	s.recoveries[root.Version()] = f
	return f, nil
}

// end drops recovered roots at the end of the chain that nothing is signed
// under: whether anybody follows them is not decided yet.
func (s *survey) end(signed *tuf.Root) error {
	for s.tip().Version() > s.ordinary && s.tip() != signed && len(s.proves()) > 1 {
		s.chain = s.chain[:len(s.chain)-1]
	}
	name := rootName(s.tip().Version())
	if f, ok := s.recoveries[s.tip().Version()-1]; ok {
		name = f.names[1]
	}
	return s.dated(name, s.tip().Expires())
}

// openContent opens timestamp and snapshot under the newest root whose keys
// signed them. They stay nil where there are none.
func (s *survey) openContent(ctx context.Context) (timestamp, snapshot []byte, err error) {
	timestamp, err = storage.ReadAll(ctx, s.src, timestampName, s.limits.Timestamp)
	s.looked = err == nil || errors.Is(err, fs.ErrNotExist)
	if err != nil {
		return nil, nil, errors.Join(s.end(nil), s.report(ctx, timestampName, err))
	}
	s.timestamp = timestamp
	var first error
	var at string
	for _, root := range slices.Backward(s.proves()) {
		name := timestampName
		var ts *tuf.Timestamp
		var snap *tuf.Snapshot
		if ts, err = root.Timestamp(timestamp, nil, longAgo); err == nil {
			name = fileName(ts.SnapshotFile())
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
	if s.under != s.tip() {
		if err := s.found(Finding{Kind: FileUnfinished, Name: rootName(s.tip().Version()), Err: first,
			Text: fmt.Sprintf("timestamp and snapshot are still those of root v%d: a publish was cut off, the next Update or Renew ends it", s.under.Version())}); err != nil {
			return nil, nil, err
		}
	}
	if err := s.dated(timestampName, s.ts.Expires()); err != nil {
		return nil, nil, err
	}
	return timestamp, snapshot, s.dated(fileName(s.ts.SnapshotFile()), s.snap.Expires())
}

// topRoles are the targets roles that a root names itself.
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

// step is a role to be opened: one that root names, or that by delegates to.
type step struct {
	by   *tuf.Targets
	role string
}

// walkRoles opens every role that root or another role names, for each of
// those that name it: what one delegator's keys signed says nothing to another.
func (s *survey) walkRoles(ctx context.Context) error {
	var stack []step
	for _, role := range slices.Backward(topRoles(s.under)) {
		stack = append(stack, step{nil, role})
	}
	visited := map[child]bool{}
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(visited) >= maxSurveyed {
			return fmt.Errorf("repo: more than %d roles", maxSurveyed)
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
			if len(visited) >= maxSurveyed {
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

// children names the roles that t delegates to, and reports hash bins that no
// client can open.
func (s *survey) children(ctx context.Context, t *tuf.Targets) ([]string, error) {
	if s.listed == nil {
		s.listed, s.own = snapNames(s.snap), map[string]bool{"root": true, "timestamp": true, "snapshot": true}
		for _, role := range topRoles(s.under) {
			s.own[role] = true
		}
	}
	names, bins, err := children(t, s.listed, s.own)
	if err != nil {
		return nil, s.report(ctx, s.nameOf(t), err)
	}
	if bins > uint64(len(names)) {
		err := &tuf.Error{Role: t.Role(), Version: t.Version(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("the snapshot lists %d of its %d hash bins", len(names), bins)}
		return names, s.report(ctx, s.nameOf(t), err)
	}
	return names, nil
}

// nameOf is the name of a role's file.
func (s *survey) nameOf(t *tuf.Targets) string {
	f, err := s.snap.RoleFile(t.Role())
	if err != nil {
		return roleName(t.Role(), t.Version())
	}
	return fileName(f)
}

// openRole opens one role and hands on what is new about it. t is nil where it
// can't be opened, which is reported.
func (s *survey) openRole(ctx context.Context, at step) (t *tuf.Targets, err error) {
	name := at.role
	var data []byte
	get := func(f tuf.RoleFile) (got []byte, err error) {
		name = fileName(f)
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

// others are the further names under which clients may ask for the file, of those
// that a storage can hold: some prefer the longer hash, and some repositories serve
// both.
func (s *survey) others(x listed) []listed {
	if x.sha256 == "" || x.sha512 == "" || !s.under.ConsistentSnapshot() {
		return nil
	}
	if x.name = TargetName(x.path, x.sha512); storage.CheckName(x.name) != nil {
		return nil
	}
	return []listed{x}
}

// listedIn calls fn for each target that t lists; its error ends the call.
func (s *survey) listedIn(t *tuf.Targets, fn func(listed) error) error {
	targets, err := memberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		x, err := parseListed(path.String(), v)
		if err == nil && x.sha256 == "" && s.under.Charter() != nil {
			err = errors.New("no sha256")
		}
		if err == nil && !s.under.ConsistentSnapshot() {
			x.name = "targets/" + x.path
			x.unstorable = storage.CheckName(x.name)
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

// checked is a reader that ends in an error where what it read is not what is
// listed. It reads no more than one byte too many.
type checked struct {
	r    io.Reader
	x    listed
	sums []sum // of what is listed
	n    int64
	tell func(int64)
	why  string // what is not as listed
}

func newChecked(r io.Reader, x listed, tell func(int64)) *checked {
	c := &checked{r: io.LimitReader(r, x.length+1), x: x, tell: tell}
	if x.sha256 != "" {
		c.sums = append(c.sums, sum{sha256.New(), x.sha256})
	}
	if x.sha512 != "" {
		c.sums = append(c.sums, sum{sha512.New(), x.sha512})
	}
	return c
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for _, h := range c.sums {
		h.Write(p[:n])
	}
	if c.n += int64(n); n > 0 {
		c.tell(c.n)
	}
	switch {
	case c.n > c.x.length:
		c.why = fmt.Sprintf("more than the %d bytes that are listed", c.x.length)
	case err != io.EOF:
		return n, err
	case c.n < c.x.length:
		c.why = fmt.Sprintf("%d bytes, %d are listed", c.n, c.x.length)
	default:
		for _, s := range c.sums {
			if got := hex.EncodeToString(s.Sum(nil)); got != s.want {
				c.why = fmt.Sprintf("its sha%d is %s, %s is listed", 4*len(s.want), got, s.want)
			}
		}
	}
	if c.why != "" {
		return 0, fmt.Errorf("%s: %w: %s", text.Name(c.x.name), tuf.ErrMismatch, c.why)
	}
	return n, err
}

// skip tells of a target that is passed over.
func (r *Repo) skip(role string, x listed) {
	if r.cfg.Skipped != nil {
		r.cfg.Skipped(unstorable(role, x))
	}
}
