package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/tuf"
)

// Publish puts a fully signed draft into the repository: it makes the snapshot
// and timestamp that go with it, signs them with the signers at hand, opens the
// result as a client would, and writes it. Where the repository has moved on
// since the draft was made, the error wraps [ErrConflict] and nothing changed;
// but where somebody published between a new root and the timestamp that goes
// with it, the root stays, and the next Update brings its content.
func (r *Repo) Publish(ctx context.Context, d *Draft) error {
	if missing := d.Missing(); len(missing) > 0 {
		return unsigned(missing)
	}
	p, err := r.load(ctx)
	if err != nil {
		return err
	}
	if d.Empty() && p.under == p.root {
		return nil
	}
	next := &publication{repo: r, present: p, root: p.root, fresh: map[string][]byte{}}
	if err := next.takeRoot(d.files["root"]); err != nil {
		return err
	}
	if err := next.takeRoles(d); err != nil {
		return err
	}
	return next.finish(ctx)
}

// Refresh signs a new timestamp, and a new snapshot where the present one has
// less than half of its time left: the operator's daily job, with online keys.
func (r *Repo) Refresh(ctx context.Context) error {
	p, err := r.load(ctx)
	if err != nil {
		return err
	}
	if p.snap == nil {
		return errors.New("repo: nothing is published yet")
	}
	next := &publication{repo: r, present: p, root: p.root, fresh: map[string][]byte{}, stamp: true}
	next.content = p.under != p.root || p.snap.Expires().Before(r.now().Add(r.cfg.Expiry.Snapshot/2))
	return next.finish(ctx)
}

func unsigned(missing []Missing) error {
	var lines []string
	for _, m := range missing {
		lines = append(lines, m.String())
	}
	return fmt.Errorf("repo: %w: %s", ErrUnsigned, strings.Join(lines, "; "))
}

// publication is one step from the present state to the next.
type publication struct {
	repo    *Repo
	present *present
	root    *tuf.Root         // as it will be
	newRoot []byte            // nil where root stays
	fresh   map[string][]byte // new role files, by storage name
	roles   map[string]int64  // their versions
	content bool              // a new snapshot is due
	stamp   bool              // a new timestamp is due
}

// takeRoot checks the draft's root against the present one.
func (n *publication) takeRoot(f *draftFile) error {
	if f == nil {
		if n.root == nil {
			return errors.New("repo: the repository is empty and the draft has no root")
		}
		n.content = n.content || n.present.under != n.root // a cut-off publish left the root without content
		return nil
	}
	var err error
	n.newRoot = f.bytes()
	if n.root == nil {
		n.root, err = tuf.OpenRoot(n.newRoot, &tuf.Options{UnsafeLoopback: n.repo.cfg.UnsafeLoopback})
	} else if f.version <= n.root.Version() {
		return fmt.Errorf("repo: root v%d is published already: %w", f.version, ErrConflict)
	} else {
		n.root, err = n.root.Next(n.newRoot)
	}
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	// Under new online keys, what the old ones signed is worth nothing.
	n.content = n.content || !n.present.serves(n.root)
	return nil
}

func (n *publication) takeRoles(d *Draft) error {
	n.roles = map[string]int64{}
	for _, f := range d.sorted() {
		if f.role == "root" {
			continue
		}
		if !n.known(f.role) {
			return fmt.Errorf("repo: root v%d has no role %.80q: %w", n.root.Version(), f.role, tuf.ErrUntrusted)
		}
		// Not only older ones: a version may have been passed over for an orphan
		// that has come to be published since.
		if have := n.present.listed(f.role); have != f.base {
			return fmt.Errorf("repo: %s v%d is published, the draft follows v%d: %w", f.role, have, f.base, ErrConflict)
		}
		if now := n.repo.now(); !now.Before(f.expires) {
			return fmt.Errorf("repo: %s v%d: %w while it waited, stage it again", f.role, f.version, tuf.ErrExpired)
		}
		n.fresh[roleName(f.role, f.version)] = f.bytes()
		n.roles[f.role] = f.version
		n.content = true
	}
	return nil
}

// known reports whether the root, as it will be, has the role.
func (n *publication) known(role string) bool {
	for _, c := range n.root.Charter().Classes() {
		if slices.ContainsFunc(c.Roles, func(r tuf.ReleaseRole) bool { return r.Role == role }) {
			return true
		}
	}
	return role == "targets"
}

// finish makes snapshot and timestamp, verifies all of it and writes.
func (n *publication) finish(ctx context.Context) error {
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
	// The order is the protocol: whatever a file names is there before it.
	s := n.repo.storage
	for _, name := range slices.Sorted(maps.Keys(n.fresh)) {
		if err := s.Create(ctx, name, bytes.NewReader(n.fresh[name])); err != nil {
			return fmt.Errorf("repo: %s: %w", name, err)
		}
	}
	if n.content {
		if err := s.Create(ctx, snapName, bytes.NewReader(snapshot)); err != nil {
			return fmt.Errorf("repo: %s: %w", snapName, err)
		}
	}
	if n.newRoot != nil {
		// A root can't be taken back: better to see now that we lost the race.
		if data, err := s.Read(ctx, timestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		} else if !bytes.Equal(data, n.present.timestamp) {
			return fmt.Errorf("repo: %s: %w", timestampName, ErrConflict)
		}
		if err := s.Create(ctx, rootName(n.root.Version()), bytes.NewReader(n.newRoot)); err != nil {
			return fmt.Errorf("repo: root v%d: %w", n.root.Version(), err)
		}
	}
	if !n.content && !n.stamp {
		return nil
	}
	if err := s.Replace(ctx, timestampName, n.present.timestamp, timestamp); err != nil {
		return fmt.Errorf("repo: %s: %w", timestampName, err)
	}
	return nil
}

// makeSnapshot returns the snapshot's storage name and bytes: a new one, or the
// present one where nothing it lists has changed.
func (n *publication) makeSnapshot(ctx context.Context) (name string, data []byte, err error) {
	p := n.present
	if !n.content {
		return roleName("snapshot", p.snap.Version()), p.snapshot, nil
	}
	md := metadata.Snapshot(n.repo.now().Add(n.repo.cfg.Expiry.Snapshot))
	md.Signed.Meta = map[string]*metadata.MetaFiles{}
	if p.snap != nil {
		md.Signed.Version = p.snap.Version() + 1
		// What was listed once stays listed: clients take its absence for an attack.
		for _, role := range p.snap.Roles() {
			f, err := p.snap.RoleFile(role)
			if err != nil {
				return "", nil, fmt.Errorf("repo: %w", err)
			}
			md.Signed.Meta[role+".json"] = metadata.MetaFile(f.Version)
		}
	}
	for role, version := range n.roles {
		md.Signed.Meta[role+".json"] = metadata.MetaFile(version)
	}
	if md.Signed.Version, err = n.repo.freeVersion(ctx, "snapshot", md.Signed.Version); err != nil {
		return "", nil, err
	}
	data, err = n.signOnline(ctx, "snapshot", md.Signed)
	return roleName("snapshot", md.Signed.Version), data, err
}

func (n *publication) makeTimestamp(ctx context.Context, snapName string, snapshot []byte) ([]byte, error) {
	md := metadata.Timestamp(n.repo.now().Add(n.repo.cfg.Expiry.Timestamp))
	if n.present.ts != nil {
		md.Signed.Version = n.present.ts.Version() + 1
	}
	var version int64
	if _, err := fmt.Sscanf(strings.TrimPrefix(snapName, "metadata/"), "%d.", &version); err != nil {
		return nil, err
	}
	md.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metadata.MetaFile(version)}
	md.Signed.Meta["snapshot.json"].Length = int64(len(snapshot))
	return n.signOnline(ctx, "timestamp", md.Signed)
}

// signOnline signs with the signers at hand; all that the role asks for must be there.
func (n *publication) signOnline(ctx context.Context, role string, signed any) ([]byte, error) {
	keyIDs, threshold := n.root.RoleKeys(role)
	f, err := newDraftFile(role, 0, signed, need{role, n.root.Keys(keyIDs), threshold})
	if err != nil {
		return nil, err
	}
	for _, s := range n.repo.cfg.Signers {
		if _, err := f.sign(ctx, s); err != nil {
			return nil, err
		}
	}
	if missing := f.missing(); len(missing) > 0 {
		return nil, unsigned(missing)
	}
	return f.bytes(), nil
}

// check opens what will be published, from the new root on, as a client does
// that saw the present state. Dates are asked of what is new only: one party's
// role that has expired must not keep the other from renewing its own.
func (n *publication) check(ctx context.Context, timestamp, snapshot []byte) error {
	at := longAgo
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
	if ts, err = n.root.Timestamp(timestamp, nil, longAgo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	snap, err := ts.Snapshot(snapshot, nil)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return n.repo.verify(ctx, snap, nil, n.fresh)
}
