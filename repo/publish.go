package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Publish publishes a fully signed draft: it makes the snapshot and timestamp, signs
// them with the configured signers, verifies the result as a client would, and writes
// it. The error wraps [ErrStale] if the repository has changed since the draft was
// made, or if [Repo.Prune] removed a target file that the draft lists; [ErrPublished]
// if this draft is already published; and [ErrConflict] if another process publishes at
// the same time. Nothing has changed then, with one exception: if another process
// publishes between the new root and its timestamp, the root stays, and the next Update
// publishes its content. On a [storage.Batcher] all files are written at once, and nothing
// stays.
func (r *Repo) Publish(ctx context.Context, d *Draft) (err error) {
	defer text.OneLine(&err)
	if missing := d.Missing(); len(missing) > 0 {
		return &unsignedError{missing}
	}
	return r.batch(ctx, func(r *Repo) error { return r.publish(ctx, d) })
}

func (r *Repo) publish(ctx context.Context, d *Draft) error {
	p, err := r.loadFor(ctx, d)
	if err != nil {
		return err
	}
	if d.Empty() && p.under == p.root {
		return nil
	}
	next := &publication{repo: r, present: p, root: p.root, fresh: map[string]*draftFile{}, statements: d.statements, compromised: d.override.compromised}
	if d.recovery != nil {
		if err := next.takeRecovery(ctx, d); err != nil {
			return err
		}
		if d.files["root"] == nil {
			return next.recovery.Put(ctx, r.storage)
		}
	} else if err := next.takeRoot(d.files["root"]); err != nil {
		return err
	}
	if err := next.heal(d); err != nil {
		return err
	}
	if err := next.takeRoles(ctx, d); err != nil {
		return err
	}
	if err := next.numbers(ctx); err != nil {
		return err
	}
	if err := next.targets(ctx); err != nil {
		return err
	}
	return next.finish(ctx)
}

// takeRoot checks the draft's root against the published one.
func (n *publication) takeRoot(f *draftFile) error {
	if f == nil {
		if n.root == nil {
			return fmt.Errorf("%w and the draft has no root", errEmpty)
		}
		n.content = n.content || n.present.under != n.root // an interrupted publish left the root without content
		return nil
	}
	var err error
	n.newRoot = f.bytes()
	if n.root == nil {
		n.root, err = tuf.OpenRoot(n.newRoot, n.repo.tufOptions())
	} else if f.version <= n.root.Version() {
		return fmt.Errorf("repo: %w", f.behindRoot(n.present.chain))
	} else {
		n.root, err = n.root.Next(n.newRoot)
	}
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	// New online keys invalidate what the old ones signed.
	n.content = n.content || !n.present.serves(n.root)
	return nil
}

func (n *publication) takeRoles(ctx context.Context, d *Draft) error {
	for _, f := range d.sorted() {
		if f.role == "root" {
			continue
		}
		if n.newRoot != nil { // an interrupted publish may have written the content first
			there, err := n.published(ctx, f)
			if err != nil {
				return err
			}
			if there {
				continue
			}
		}
		// The versions must be equal. A lower published version is not enough: a
		// version that this draft skipped as an orphan may have been published since.
		if have := n.present.listed(f.role); have != f.base {
			return n.repo.newTx(ctx, n.present).behind(f)
		}
		if now := n.repo.now(); !now.Before(f.expires) {
			return fmt.Errorf("repo: %s v%d: %w before publication, stage it again", roleText(f.role), f.version, tuf.ErrExpired)
		}
		n.fresh[f.role] = f
		n.content = true
	}
	return nil
}

// published reports whether the snapshot lists exactly this file.
func (n *publication) published(ctx context.Context, f *draftFile) (bool, error) {
	if n.present.listed(f.role) != f.version {
		return false, nil
	}
	data, err := n.repo.storage.Read(ctx, layout.RoleName(f.role, f.version))
	return bytes.Equal(data, f.bytes()), err
}

// finish makes snapshot and timestamp, verifies and writes.
func (n *publication) finish(ctx context.Context) error {
	if ahead, now := n.repo.ahead(n.root), n.repo.now(); ahead > 0 {
		return fmt.Errorf("repo: root v%d: %w: signed_at is %s, this machine's clock is %s, at most %s ahead is allowed",
			n.root.Version(), signing.ErrDate, text.Time(n.root.Charter().SignedAt()), text.Time(now), chain.ClockTolerance)
	}
	var snapName string
	snapshot, timestamp := n.present.snapshot, n.present.timestamp
	if n.content || n.stamp {
		var err error
		if snapName, snapshot, err = n.makeSnapshot(ctx); err != nil {
			return err
		}
		if timestamp, err = n.makeTimestamp(ctx, snapName, snapshot); err != nil {
			return err
		}
	}
	if err := n.check(ctx, timestamp, snapshot); err != nil {
		return err
	}
	if err := n.write(ctx, snapName, timestamp, snapshot); err != nil {
		return err
	}
	return storage.AfterCommit(n.repo.storage, func() error { return n.seePublished(ctx, timestamp, snapshot) })
}

// write writes all files to the storage. The order matters: every file is written
// before the files that name it.
func (n *publication) write(ctx context.Context, snapName string, timestamp, snapshot []byte) error {
	if err := n.writeContent(ctx, snapName, snapshot); err != nil {
		return err
	}
	switch newTimestamp := n.content || n.stamp; {
	case n.newRoot == nil && !newTimestamp:
		return nil
	case n.newRoot == nil:
		return n.replaceTimestamp(ctx, timestamp)
	case !newTimestamp:
		return n.writeRoot(ctx, n.present.timestamp)
	case n.contentFirst(ctx, timestamp, snapshot):
		if err := n.replaceTimestamp(ctx, timestamp); err != nil {
			return err
		}
		return n.writeRoot(ctx, timestamp)
	}
	if err := n.writeRoot(ctx, n.present.timestamp); err != nil {
		return err
	}
	if err := n.replaceTimestamp(ctx, timestamp); err != nil || n.recovery == nil {
		return err
	}
	// A publisher of a regular root in between saw the old timestamp, so it is restored.
	err := n.checkRace(ctx)
	if last := n.present.timestamp; errors.Is(err, ErrConflict) && last != nil {
		err = errors.Join(err, n.repo.storage.Replace(ctx, layout.TimestampName, timestamp, last))
	}
	return err
}

// writeContent writes what the new timestamp lists.
func (n *publication) writeContent(ctx context.Context, snapName string, snapshot []byte) error {
	s := n.repo.storage
	if err := n.writeStatements(ctx); err != nil {
		return err
	}
	for _, role := range slices.Sorted(maps.Keys(n.fresh)) {
		f := n.fresh[role]
		if err := s.Create(ctx, layout.RoleName(role, f.version), bytes.NewReader(f.bytes())); err != nil {
			return fmt.Errorf("repo: %s v%d: %w", roleText(role), f.version, err)
		}
	}
	if n.content {
		if err := s.Create(ctx, snapName, bytes.NewReader(snapshot)); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(snapName), err)
		}
	}
	return nil
}

// contentFirst reports whether the timestamp is written before the new root. If clients
// of the current root accept the new content, this order makes root and content match
// at every moment. The same order applies if a recovery replaces another: the current
// content can't be verified once the earlier recovery root is overwritten.
func (n *publication) contentFirst(ctx context.Context, timestamp, snapshot []byte) bool {
	replaces := n.recovery != nil && n.present.root.Version() == n.root.Version()
	return n.content && (replaces || n.currentAccepts(ctx, timestamp, snapshot))
}

// writeRoot writes the new root, unless the published timestamp is not last any more: a
// published root can't be withdrawn, so a lost race must be detected before.
func (n *publication) writeRoot(ctx context.Context, last []byte) error {
	s := n.repo.storage
	if data, err := s.Read(ctx, layout.TimestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if !bytes.Equal(data, last) {
		return fmt.Errorf("repo: %s: %w", layout.TimestampName, ErrConflict)
	}
	if n.recovery != nil {
		if err := n.checkRace(ctx); err != nil {
			return err
		}
		return n.recovery.Put(ctx, s)
	}
	if err := s.Create(ctx, layout.RootName(n.root.Version()), bytes.NewReader(n.newRoot)); err != nil {
		return fmt.Errorf("repo: root v%d: %w", n.root.Version(), err)
	}
	return nil
}

// checkRace returns an error if a regular root was published before a recovery.
func (n *publication) checkRace(ctx context.Context) error {
	_, err := n.repo.storage.Read(ctx, layout.RootName(n.root.Version()))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		return fmt.Errorf("repo: there is a regular root v%d: %w", n.root.Version(), ErrConflict)
	}
	return err
}

func (n *publication) replaceTimestamp(ctx context.Context, timestamp []byte) error {
	if err := n.repo.storage.Replace(ctx, layout.TimestampName, n.present.timestamp, timestamp); err != nil {
		return fmt.Errorf("repo: %s: %w", layout.TimestampName, err)
	}
	n.sweep(ctx)
	return nil
}

// sweep removes files of interrupted publishes whose versions this publish skipped:
// fewer than maxSkip files of a role, see checkStep. Their publisher can't succeed any
// more, since the timestamp has been replaced. They are harmless, so errors are
// ignored.
func (n *publication) sweep(ctx context.Context) {
	rm, ok := n.repo.storage.(storage.Remover)
	if !ok {
		return
	}
	remove := func(role string, after, before int64) {
		for v := after + 1; v < before && ctx.Err() == nil; v++ {
			_ = rm.Remove(ctx, layout.RoleName(role, v), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC))
		}
	}
	for role, f := range n.fresh {
		remove(role, f.base, f.version)
	}
	if n.snapshot > 0 && n.present.snap != nil {
		remove("snapshot", n.present.snap.Version(), n.snapshot)
	} else if n.snapshot > 0 {
		remove("snapshot", 0, n.snapshot)
	}
}

// currentAccepts reports whether clients of the current root accept the new content.
func (n *publication) currentAccepts(ctx context.Context, timestamp, snapshot []byte) bool {
	if n.present.root == nil {
		return false
	}
	ts, err := n.present.root.Timestamp(timestamp, n.present.timestamp, chain.LongAgo)
	if err != nil {
		return false
	}
	snap, err := ts.Snapshot(snapshot, n.present.snapshot)
	return err == nil && n.checkRoles(ctx, snap) == nil
}

// makeSnapshot returns the snapshot's storage name and bytes. It is the current
// snapshot if nothing that it lists has changed.
func (n *publication) makeSnapshot(ctx context.Context) (name string, data []byte, err error) {
	p := n.present
	if !n.content {
		return layout.RoleName("snapshot", p.snap.Version()), p.snapshot, nil
	}
	meta, version := map[string]wire.Value{}, int64(0)
	if p.snap != nil {
		version = p.snap.Version()
		if meta, err = n.listedMeta(ctx); err != nil {
			return "", nil, err
		}
	}
	for role, f := range n.fresh {
		meta[role+".json"] = metaOf(f.version, f.bytes(), n.hashed(f))
	}
	if n.snapshot, err = n.freeOnline(ctx, "snapshot", version); err != nil {
		return "", nil, err
	}
	if n.snapshot, err = n.repo.freeVersion(ctx, "snapshot", n.snapshot); err != nil {
		return "", nil, err
	}
	signed := snapshotOf(meta, n.snapshot, version, n.repo.now().Add(n.repo.cfg.Expiry.Snapshot))
	f, err := n.signOnline(ctx, "snapshot", signed)
	if err != nil {
		return "", nil, err
	}
	n.snapshot = f.version
	return layout.RoleName("snapshot", n.snapshot), f.bytes(), nil
}

func (n *publication) makeTimestamp(ctx context.Context, snapName string, snapshot []byte) ([]byte, error) {
	md := metadata.Timestamp(n.repo.now().Add(n.repo.cfg.Expiry.Timestamp))
	last := int64(0)
	if n.present.ts != nil {
		last = n.present.ts.Version()
	}
	var err error
	if md.Signed.Version, err = n.freeOnline(ctx, "timestamp", last); err != nil {
		return nil, err
	}
	var version int64
	if _, err := fmt.Sscanf(strings.TrimPrefix(snapName, "metadata/"), "%d.", &version); err != nil {
		return nil, err
	}
	md.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metadata.MetaFile(version)}
	sum := sha256.Sum256(snapshot)
	md.Signed.Meta["snapshot.json"].Length = int64(len(snapshot))
	md.Signed.Meta["snapshot.json"].Hashes = metadata.Hashes{"sha256": sum[:]}
	signed, err := metafile.Canonical(md.Signed)
	if err != nil {
		return nil, err
	}
	f, err := n.signOnline(ctx, "timestamp", signed)
	if err != nil {
		return nil, err
	}
	return f.bytes(), nil
}

// signOnline signs with the configured signers, which must meet the role's threshold.
func (n *publication) signOnline(ctx context.Context, role string, signed wire.Value) (*draftFile, error) {
	keyIDs, threshold := n.root.RoleKeys(role)
	keys := n.root.Keys(keyIDs)
	f, err := newDraftFile(role, 0, signed, need{Who: role, Keys: keys, Threshold: threshold})
	if err != nil {
		return nil, err
	}
	if err := n.signFile(ctx, f, Keys{slices.Collect(maps.Values(keys)), threshold}); err != nil {
		return nil, err
	}
	if missing := f.missing(); len(missing) > 0 {
		return nil, &unsignedError{missing}
	}
	return f, nil
}

// check opens what will be published, from the new root on, as a client with the
// current state would. Expiry is checked for new files only, so that one party's
// expired role does not keep another party from renewing its own.
func (n *publication) check(ctx context.Context, timestamp, snapshot []byte) error {
	at := chain.LongAgo
	if n.content || n.stamp {
		at = n.repo.now()
	}
	if err := n.root.CheckExpiry(n.repo.now()); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	ts, err := n.root.Timestamp(timestamp, n.present.timestamp, at)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if _, err := ts.Snapshot(snapshot, n.present.snapshot); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if ts, err = n.root.Timestamp(timestamp, nil, chain.LongAgo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	snap, err := ts.Snapshot(snapshot, nil)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if err := n.checkRoles(ctx, snap); err != nil {
		return err
	}
	return n.checkStatements(ctx, snap, n.fetch(ctx))
}

// fetch reads role files in their state after publication.
func (n *publication) fetch(ctx context.Context) tuf.Fetch {
	return func(f tuf.RoleFile) ([]byte, error) {
		if fresh := n.fresh[f.Role]; fresh != nil && fresh.version == f.Version {
			return fresh.bytes(), nil
		}
		return n.repo.read(ctx, n.present, f)
	}
}

// checkRoles opens every role that the root names, every new role through its
// delegators, and all delegated roles of a role whose delegations changed.
func (n *publication) checkRoles(ctx context.Context, snap *tuf.Snapshot) error {
	get := n.fetch(ctx)
	if err := openRoles(snap, get); err != nil {
		return err
	}
	before, after, err := n.editions(ctx)
	if err != nil {
		return err
	}
	listed := slices.Sorted(slices.Values(snap.Roles()))
	opened := map[child]*tuf.Targets{}
	open := func(by *tuf.Targets, role string) (*tuf.Targets, error) {
		at := child{role: role}
		if by != nil {
			at.by = by.Role()
		}
		if t := opened[at]; t != nil {
			return t, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var t *tuf.Targets
		if by == nil {
			t, err = snap.Role(role, get)
		} else {
			t, err = snap.Delegated(by, role, get)
		}
		if err != nil {
			return nil, fmt.Errorf("repo: %w", err)
		}
		if role == "targets" || n.fresh[role] != nil && metafile.Member(n.fresh[role].signed, "delegations") != nil {
			opened[at] = t // only delegating roles are needed again
		}
		return t, nil
	}
	for _, role := range slices.Sorted(maps.Keys(n.fresh)) {
		// Every delegator must verify it, since delegators may name different keys.
		leads := after.parents[role]
		if after.named[role] {
			leads = []string{""}
		}
		if len(leads) == 0 {
			return fmt.Errorf("repo: neither the root nor another role delegates to %s: %w", roleText(role), tuf.ErrUntrusted)
		}
		for _, lead := range leads {
			var way []string
			if lead != "" {
				way = append(after.way(lead), lead)
			}
			var t *tuf.Targets
			for _, name := range append(way, role) {
				if t, err = open(t, name); err != nil {
					return err
				}
			}
			if role == "targets" || !n.leadsElsewhere(before, role) {
				continue
			}
			names, bins, err := metafile.Delegated(t, listed, after.named)
			if err != nil {
				return err
			}
			if bins > uint64(len(names)) {
				return fmt.Errorf("repo: %s: %d of its %d hash bins exist: %w", roleText(role), len(names), bins, tuf.ErrMismatch)
			}
			for _, name := range names {
				if n.fresh[name] == nil {
					if _, err := open(t, name); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// editions returns the repository before and after publication, with the delegators of
// the new roles read from the roles themselves.
func (n *publication) editions(ctx context.Context) (before, after *edition, err error) {
	tx := n.repo.newTx(ctx, n.present)
	tx.root = rootOf(n.root)
	was := &Root{}
	if n.present.under != nil {
		was = rootOf(n.present.under)
	}
	before = newEdition(tx, was, asPublished)
	after = newEdition(tx, tx.root, func(role string) wire.Value {
		if f := n.fresh[role]; f != nil {
			return f.signed
		}
		return nil
	})
	for _, e := range []*edition{before, after} {
		var wanted []string
		for _, role := range slices.Sorted(maps.Keys(n.fresh)) {
			if !e.named[role] {
				wanted = append(wanted, role)
			}
		}
		if err := e.trace(wanted); err != nil {
			return nil, nil, err
		}
	}
	return before, after, nil
}

// leadsElsewhere reports whether the delegations of a new role differ from those of the
// published one.
func (n *publication) leadsElsewhere(before *edition, role string) bool {
	was, err := before.open(role)
	if err != nil || was == nil {
		return true // it did not exist, or had another delegator
	}
	return string(metafile.Member(was.Signed, "delegations")) != string(metafile.Member(n.fresh[role].signed, "delegations"))
}
