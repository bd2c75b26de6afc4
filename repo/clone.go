package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Clone updates the storage to a byte-identical mirror of a source. It copies all roots,
// the current metadata, every listed target, and the review statements of the targets
// (checked when a role that lists the target has a new version). pin is a pin, or for a
// repository without a charter a root.json; of such a repository, roots before the pin
// are copied if they are readable. Clone works for any TUF repository with consistent
// snapshots (TUF section 6.2): it follows all delegations and hash bins, keeps unknown
// members, and without a charter accepts either of sha256 and sha512. Without consistent
// snapshots the error wraps [errors.ErrUnsupported]. Clone requires no key. It skips
// targets with names that [storage.CheckName] refuses, and reports each to
// [Config].Skipped; [Repo.Verify] of the mirror reports them too.
//
// Clone verifies everything before it writes it, as clients do, except expiries. It
// refuses content older than that of the storage (rollback); only a recovery without a
// regular successor may disappear. It fetches only missing files, and continues after an
// interruption when called again. It writes in the order of a publish, timestamp.json
// last, so clients of the mirror see either its old or its new state.
//
// If a publish is in progress on the source, or the source changes during the call, or
// another process writes to the storage, the error wraps [ErrConflict]; call Clone
// again. Clone does not remove old files; see [Repo.Prune].
func (r *Repo) Clone(ctx context.Context, from storage.Source, pin []byte) (err error) {
	defer oneLine(&err)
	opened, err := tuf.OpenPin(pin, r.tufOptions())
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	root := opened.Root()
	c := &cloning{repo: r, from: from, to: storage.SourceOf(r.storage), seen: map[[16]byte]bool{},
		anchor: &anchor{points: []point{{version: root.Version(), sha256: root.SHA256(), whose: "pin"}}}}
	c.walker = &walker{src: from, opt: r.tufOptions(), found: foundIsError,
		opened:   func(timestamp, snapshot []byte) error { return c.opened(ctx, timestamp, snapshot) },
		meta:     func(name string, data []byte) error { return c.metadata(ctx, name, data) },
		role:     func(name string, t *tuf.Targets) error { return c.role(ctx, name, t) },
		recovery: func(f chain.Recovery) error { return c.recovery(ctx, f) }}
	return c.walker.conflict(ctx, c.walker.run(ctx, root))
}

// foundIsError returns any finding as an error, for calls that stop at the first one.
func foundIsError(f Finding) error {
	if f.Kind == FileUnfinished {
		return fmt.Errorf("repo: %s: %w: %s", text.Name(f.Name), ErrConflict, f.Text)
	}
	return fmt.Errorf("repo: %s: %w", text.Name(f.Name), f.Err)
}

// role fetches the targets that a role lists, and their review statements. If the mirror
// has the file of the role, it has the statements, because the role is written after
// them.
func (c *cloning) role(ctx context.Context, name string, t *tuf.Targets) error {
	old, _, err := storage.Stat(ctx, c.to, name)
	if err != nil {
		return err
	}
	return c.walker.listedIn(t, func(x metafile.Target) error {
		key := short(x.Name, x.SHA512)
		if c.seen[key] {
			return nil
		}
		c.seen[key] = true
		if x.Unstorable != nil {
			c.repo.skip(name, x)
			return nil
		}
		if err := c.target(ctx, x); err != nil || old {
			return err
		}
		return c.statements(ctx, x)
	})
}

type cloning struct {
	repo   *Repo
	from   storage.Source
	to     storage.Source // reads the storage of the mirror
	anchor *anchor        // of source and mirror
	walker *walker
	old    []byte            // the mirror's timestamp, nil if there is none
	seen   map[[16]byte]bool // targets
	files  int
}

// metadata writes verified files, in the order in which it receives them.
func (c *cloning) metadata(ctx context.Context, name string, data []byte) error {
	if name == layout.TimestampName {
		return c.timestamp(ctx, data)
	}
	if err := c.repo.storage.Create(ctx, name, bytes.NewReader(data)); err != nil {
		return err
	}
	c.done(name, int64(len(data)))
	return nil
}

func (c *cloning) done(name string, n int64) {
	c.files++
	c.repo.progress(storage.Progress{Path: name, Done: n, Total: n, Files: c.files})
}

// opened refuses a rollback of the mirror before anything is written.
func (c *cloning) opened(ctx context.Context, timestamp, snapshot []byte) error {
	s := c.walker
	if !s.under.ConsistentSnapshot() {
		return fmt.Errorf("repo: root v%d does not set consistent_snapshot, so the mirror would be inconsistent during the copy: %w", s.under.Version(), errors.ErrUnsupported)
	}
	err := c.ahead(ctx)
	if err != nil {
		return err
	}
	if c.old, err = c.repo.storage.Read(ctx, layout.TimestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The mirror's timestamp and snapshot only count if the current keys signed both:
	// after a key rotation, versions may be lower (TUF section 5.3.11).
	ts, err := s.under.Timestamp(c.old, nil, chain.LongAgo)
	if err != nil {
		return nil
	}
	prior, err := c.repo.storage.Read(ctx, layout.RoleName("snapshot", ts.SnapshotFile().Version))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := ts.Snapshot(prior, nil); err != nil {
		return nil
	}
	next, err := s.under.Timestamp(timestamp, c.old, chain.LongAgo)
	if err == nil {
		_, err = next.Snapshot(snapshot, prior)
	}
	if err != nil {
		return fmt.Errorf("repo: the mirror is newer than the source: %w", err)
	}
	return nil
}

// ahead returns an error if the mirror has a newer root than the source, a regular root
// in place of a recovered one, or a newer recovery.
func (c *cloning) ahead(ctx context.Context) error {
	s, storage := c.walker, c.repo.storage
	newest := s.newest().Version()
	roots := []int64{newest + 1}
	for v, theirs := range s.recoveries {
		if v >= newest {
			continue // the recovery is not in use
		}
		roots = append(roots, v+1)
		ours, err := chain.RecoveryIn(ctx, storage, theirs.Before)
		if err != nil {
			return err
		}
		if ours.Counter > theirs.Statement.Counter() && !bytes.Equal(ours.Data[1], theirs.Data[1]) {
			return fmt.Errorf("repo: %s: the mirror has v%d, the source v%d: %w", text.Name(theirs.Names[0]), ours.Counter, theirs.Statement.Counter(), tuf.ErrRollback)
		}
	}
	for _, v := range roots {
		if _, err := storage.Read(ctx, layout.RootName(v)); err == nil {
			return fmt.Errorf("repo: the mirror has %s, which the source lacks: %w", layout.RootName(v), tuf.ErrRollback)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if ours, err := chain.RecoveryIn(ctx, storage, s.newest()); err != nil || ours.Statement == nil {
		return err
	}
	chain, err := c.repo.readChain(ctx, c.anchor)
	if err != nil && !errors.Is(err, tuf.ErrUntrusted) {
		return err
	}
	if err == nil && chain.Regular > newest {
		return fmt.Errorf("repo: the mirror has root v%d, the source v%d: %w", chain.Regular, newest, tuf.ErrRollback)
	}
	return nil
}

// timestamp commits the new state of the mirror.
func (c *cloning) timestamp(ctx context.Context, data []byte) error {
	if bytes.Equal(c.old, data) {
		return nil
	}
	if err := c.repo.storage.Replace(ctx, layout.TimestampName, c.old, data); err != nil {
		return err
	}
	c.done(layout.TimestampName, int64(len(data)))
	return nil
}

// target fetches one target file, under each name that clients may request.
func (c *cloning) target(ctx context.Context, x metafile.Target) error {
	if err := c.copy(ctx, x); err != nil {
		return err
	}
	if c.walker == nil { // export of the first draft of a repository
		return nil
	}
	for _, x := range c.walker.others(x) {
		if err := c.copy(ctx, x); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *cloning) copy(ctx context.Context, x metafile.Target) error {
	have, size, err := storage.Stat(ctx, c.to, x.Name)
	switch {
	case err != nil:
		return err
	case have && size >= 0 && size != x.Length:
		return fmt.Errorf("repo: %s: %w: the mirror has %d bytes, the listed length is %d; remove the file and clone again", text.Name(x.Name), tuf.ErrMismatch, size, x.Length)
	case have:
		return nil
	}
	f, err := c.from.Open(ctx, x.Name)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(x.Name), err)
	}
	defer f.Close()
	tell := func(n int64) {
		c.repo.progress(storage.Progress{Path: x.Name, Done: n, Total: x.Length, Files: c.files})
	}
	if err := c.repo.storage.Create(ctx, x.Name, metafile.NewReader(ctxio.NewReader(ctx, f), x, tell)); err != nil {
		return err
	}
	c.files++
	return nil
}

// statements copies the review statements of a target, in order, up to the first one of
// a role that does not verify. An invalid statement is no error, so that it can't block
// the mirror.
func (c *cloning) statements(ctx context.Context, x metafile.Target) error {
	have := func(name string) (bool, error) {
		have, _, err := storage.Stat(ctx, c.to, name)
		return have, err
	}
	bad := map[string]bool{} // directories and roles
	return chain.Statements(ctx, c.from, c.walker.proves(), x, have, func(name string, data []byte, err error) error {
		if err != nil && data == nil {
			return err // the statement may exist, so the next call must retry
		}
		if row := strings.TrimRight(strings.TrimSuffix(name, ".json"), "0123456789"); err != nil || bad[row] {
			bad[row] = true
			return nil
		}
		if err := c.repo.storage.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return err
		}
		c.done(name, int64(len(data)))
		return nil
	})
}

// recovery copies a recovery, unless the mirror has a later one.
func (c *cloning) recovery(ctx context.Context, theirs chain.Recovery) error {
	ours, err := chain.RecoveryIn(ctx, c.repo.storage, theirs.Before)
	if err != nil || ours.Statement != nil && ours.Counter >= theirs.Statement.Counter() {
		return err
	}
	theirs.Over = ours.Data
	if err := theirs.Put(ctx, c.repo.storage); err != nil {
		return err
	}
	for i := range theirs.Names {
		c.done(theirs.Names[i], int64(len(theirs.Data[i])))
	}
	return nil
}
