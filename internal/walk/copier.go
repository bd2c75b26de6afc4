package walk

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

// Copier copies what a walker verifies to a storage, in the order of a publish.
type Copier struct {
	// progress and skipped are called for each file, and for each target that no storage
	// can hold, with the file of the role that lists it; may be nil.
	Progress func(storage.Progress)
	Skipped  func(role string, x metafile.Target)

	Walker *Walker // nil: there is no metadata yet
	pinned *tuf.Root
	from   storage.Source
	to     storage.Storage
	have   storage.Source    // reads to
	old    []byte            // the timestamp of the destination, nil if there is none
	seen   map[[16]byte]bool // targets
	files  int
}

// NewCopier returns a copier from a source to a storage. Its walker begins with the
// root pinned; nil: there is no metadata yet, only targets are copied.
func NewCopier(from storage.Source, to storage.Storage, opt *tuf.Options, pinned *tuf.Root) *Copier {
	c := &Copier{from: from, to: to, have: storage.SourceOf(to), pinned: pinned, seen: map[[16]byte]bool{}}
	if pinned != nil {
		c.Walker = &Walker{Source: from, Options: opt, Found: FirstFault, Opened: c.Opened, Metadata: c.Metadata, Role: c.role, Recovery: c.Recovery}
	}
	return c
}

// Run walks the source and copies.
func (c *Copier) Run(ctx context.Context) error {
	return c.Walker.Conflict(ctx, c.Walker.Run(ctx, c.pinned))
}

// role fetches the targets that a role lists, and their review statements. If the mirror
// has the file of the role, it has the statements, because the role is written after
// them.
func (c *Copier) role(ctx context.Context, name string, t *tuf.Targets) error {
	old, _, err := storage.Stat(ctx, c.have, name)
	if err != nil {
		return err
	}
	return c.Walker.Targets(t, func(x metafile.Target) error {
		key := metafile.Key(x.Name, x.SHA512)
		if c.seen[key] {
			return nil
		}
		c.seen[key] = true
		if x.Unstorable != nil {
			if c.Skipped != nil {
				c.Skipped(name, x)
			}
			return nil
		}
		if err := c.Target(ctx, x); err != nil || old {
			return err
		}
		return c.Statements(ctx, x)
	})
}

// Metadata writes verified files, in the order in which it receives them.
func (c *Copier) Metadata(ctx context.Context, name string, data []byte) error {
	if name == layout.TimestampName {
		return c.timestamp(ctx, data)
	}
	if err := c.to.Create(ctx, name, bytes.NewReader(data)); err != nil {
		return err
	}
	c.done(name, int64(len(data)))
	return nil
}

func (c *Copier) done(name string, n int64) {
	c.files++
	c.tell(storage.Progress{Path: name, Done: n, Total: n, Files: c.files})
}

// Opened refuses a rollback of the mirror before anything is written.
func (c *Copier) Opened(ctx context.Context, timestamp, snapshot []byte) error {
	s := c.Walker
	if !s.Under.ConsistentSnapshot() {
		return fmt.Errorf("root v%d does not set consistent_snapshot, so the mirror would be inconsistent during the copy: %w", s.Under.Version(), errors.ErrUnsupported)
	}
	err := c.ahead(ctx)
	if err != nil {
		return err
	}
	if c.old, err = c.to.Read(ctx, layout.TimestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The mirror's timestamp and snapshot only count if the current keys signed both:
	// after a key rotation, versions may be lower (TUF section 5.3.11).
	ts, err := s.Under.Timestamp(c.old, nil, chain.LongAgo)
	if err != nil {
		return nil
	}
	prior, err := c.to.Read(ctx, layout.RoleName("snapshot", ts.SnapshotFile().Version))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := ts.Snapshot(prior, nil); err != nil {
		return nil
	}
	next, err := s.Under.Timestamp(timestamp, c.old, chain.LongAgo)
	if err == nil {
		_, err = next.Snapshot(snapshot, prior)
	}
	if err != nil {
		return fmt.Errorf("the mirror is newer than the source: %w", err)
	}
	return nil
}

// ahead returns an error if the mirror has a newer root than the source, a regular root
// in place of a recovered one, or a newer recovery.
func (c *Copier) ahead(ctx context.Context) error {
	s := c.Walker
	newest := s.Newest().Version()
	roots := []int64{newest + 1}
	for v, theirs := range s.Recoveries {
		if v >= newest {
			continue // the recovery is not in use
		}
		roots = append(roots, v+1)
		ours, err := chain.RecoveryIn(ctx, c.to, theirs.Before)
		if err != nil {
			return err
		}
		if ours.Counter > theirs.Statement.Counter() && !bytes.Equal(ours.Data[1], theirs.Data[1]) {
			return fmt.Errorf("%s: the mirror has v%d, the source v%d: %w", text.Name(theirs.Names[0]), ours.Counter, theirs.Statement.Counter(), tuf.ErrRollback)
		}
	}
	for _, v := range roots {
		if _, err := c.to.Read(ctx, layout.RootName(v)); err == nil {
			return fmt.Errorf("the mirror has %s, which the source lacks: %w", layout.RootName(v), tuf.ErrRollback)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if ours, err := chain.RecoveryIn(ctx, c.to, s.Newest()); err != nil || ours.Statement == nil {
		return err
	}
	ours, err := chain.Read(ctx, c.to, s.Options, c.pinned.Version())
	if errors.Is(err, tuf.ErrUntrusted) || errors.Is(err, chain.ErrAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	if at := ours.At(c.pinned.Version()); at != nil && at.SHA256() == c.pinned.SHA256() && ours.Regular > newest {
		return fmt.Errorf("the mirror has root v%d, the source v%d: %w", ours.Regular, newest, tuf.ErrRollback)
	}
	return nil
}

func (c *Copier) tell(p storage.Progress) {
	if c.Progress != nil {
		c.Progress(p)
	}
}

// timestamp commits the new state of the mirror.
func (c *Copier) timestamp(ctx context.Context, data []byte) error {
	if bytes.Equal(c.old, data) {
		return nil
	}
	if err := c.to.Replace(ctx, layout.TimestampName, c.old, data); err != nil {
		return err
	}
	c.done(layout.TimestampName, int64(len(data)))
	return nil
}

// Target fetches one target file, under each name that clients may request.
func (c *Copier) Target(ctx context.Context, x metafile.Target) error {
	if err := c.copy(ctx, x); err != nil {
		return err
	}
	if c.Walker == nil { // export of the first draft of a repository
		return nil
	}
	for _, x := range c.Walker.Others(x) {
		if err := c.copy(ctx, x); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (c *Copier) copy(ctx context.Context, x metafile.Target) error {
	have, size, err := storage.Stat(ctx, c.have, x.Name)
	switch {
	case err != nil:
		return err
	case have && size >= 0 && size != x.Length:
		return fmt.Errorf("%s: %w: the mirror has %d bytes, the listed length is %d; remove the file and clone again", text.Name(x.Name), tuf.ErrMismatch, size, x.Length)
	case have:
		return nil
	}
	f, err := c.from.Open(ctx, x.Name)
	if err != nil {
		return fmt.Errorf("%s: %w", text.Name(x.Name), err)
	}
	defer f.Close()
	tell := func(n int64) {
		c.tell(storage.Progress{Path: x.Name, Done: n, Total: x.Length, Files: c.files})
	}
	if err := c.to.Create(ctx, x.Name, metafile.NewReader(ctxio.NewReader(ctx, f), x, tell)); err != nil {
		return err
	}
	c.files++
	return nil
}

// Statements copies the review statements of a target, in order, up to the first one of
// a role that does not verify. An invalid statement is no error, so that it can't block
// the mirror.
func (c *Copier) Statements(ctx context.Context, x metafile.Target) error {
	have := func(name string) (bool, error) {
		have, _, err := storage.Stat(ctx, c.have, name)
		return have, err
	}
	bad := map[string]bool{} // directories and roles
	return chain.Statements(ctx, c.from, c.Walker.Trusted(), x, have, func(name string, data []byte, err error) error {
		if err != nil && data == nil {
			return err // the statement may exist, so the next call must retry
		}
		if row := strings.TrimRight(strings.TrimSuffix(name, ".json"), "0123456789"); err != nil || bad[row] {
			bad[row] = true
			return nil
		}
		if err := c.to.Create(ctx, name, bytes.NewReader(data)); err != nil {
			return err
		}
		c.done(name, int64(len(data)))
		return nil
	})
}

// Recovery copies a recovery, unless the mirror has a later one.
func (c *Copier) Recovery(ctx context.Context, theirs chain.Recovery) error {
	ours, err := chain.RecoveryIn(ctx, c.to, theirs.Before)
	if err != nil || ours.Statement != nil && ours.Counter >= theirs.Statement.Counter() {
		return err
	}
	theirs.Over = ours.Data
	if err := theirs.Put(ctx, c.to); err != nil {
		return err
	}
	for i := range theirs.Names {
		c.done(theirs.Names[i], int64(len(theirs.Data[i])))
	}
	return nil
}

// StatementsOf fetches the review statements of all targets of a role: also published
// targets may wait for approval or be refused.
func (c *Copier) StatementsOf(ctx context.Context, _ string, t *tuf.Targets) error {
	targets, err := metafile.MemberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		x, err := metafile.ParseTarget(path.String(), v)
		if key := metafile.Key(x.Name, x.SHA512); err == nil && !c.seen[key] { // malformed entries can't be approved
			c.seen[key] = true
			if err := c.Statements(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}
