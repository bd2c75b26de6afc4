package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// ErrUnsigned: a draft still lacks signatures. [Draft.Missing] says whose.
var ErrUnsigned = errors.New("signatures are missing")

// Update edits, signs with the signers at hand and publishes: all of it, or
// nothing. Where signatures are missing the error wraps [ErrUnsigned]; use
// [Repo.Stage] then. Files that fn added stay in storage, where nobody lists
// them.
func (r *Repo) Update(ctx context.Context, fn func(*Tx) error) error {
	d, err := r.Stage(ctx, fn)
	if err != nil {
		return err
	}
	return r.Publish(ctx, d)
}

// Stage edits and signs with the signers at hand, without publishing. The draft
// may be empty, where fn changed nothing.
func (r *Repo) Stage(ctx context.Context, fn func(*Tx) error) (*Draft, error) {
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tx := &Tx{ctx: ctx, repo: r, present: p, roles: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	if err := fn(tx); err != nil {
		return nil, err
	}
	d := &Draft{files: map[string]*draftFile{}}
	if err := tx.stageRoot(d); err != nil {
		return nil, err
	}
	if err := tx.stageRoles(d); err != nil {
		return nil, err
	}
	for _, f := range d.sorted() {
		for _, s := range r.cfg.Signers {
			if _, err := f.sign(ctx, s); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}

// stageRoot adds the next root to the draft, where there is one.
func (tx *Tx) stageRoot(d *Draft) error {
	prev := tx.present.root
	if tx.root == nil {
		if prev == nil {
			return errors.New("repo: the repository is empty: its first root must say who the parties are")
		}
		return nil
	}
	if tx.root.RepoID == "" {
		tx.root.RepoID = newRepoID()
	}
	now := tx.repo.now()
	var follows before // stays nil where there is none
	if prev != nil {
		follows = prev
	}
	md, changed, err := tx.root.derive(follows, tx.present.floors(), now, now.Add(tx.repo.cfg.Expiry.Root))
	if err != nil || !changed && !tx.root.renew {
		return err
	}
	var needs []need
	if prev != nil {
		needs = rootNeeds(rootOf(prev), "the present root")
	}
	for _, n := range rootNeeds(tx.root, "the new root") {
		known := false
		for _, m := range needs {
			known = known || m.Threshold == n.Threshold && mapsEqual(m.Keys, n.Keys)
		}
		if !known {
			needs = append(needs, n)
		}
	}
	f, err := newDraftFile("root", md.Signed.Version-1, md.Signed, needs...)
	if err != nil {
		return err
	}
	d.files["root"] = f
	return nil
}

func mapsEqual(a, b map[string]tuf.Key) bool {
	for id := range a {
		if _, ok := b[id]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

// rootNeeds is who must sign a root by the rules of r: each party, and all
// together as many as the root role asks.
func rootNeeds(r *Root, whose string) []need {
	all := need{Who: "all parties of " + whose, Keys: map[string]tuf.Key{}}
	var out []need
	for _, p := range r.Parties {
		n := need{"party " + p.Name + " of " + whose, keyMap(p.Keys), max(p.Min, 1)}
		for id, k := range n.Keys {
			all.Keys[id] = k
		}
		out = append(out, n)
	}
	for _, p := range r.Parties {
		all.Threshold = max(all.Threshold, len(all.Keys)-len(p.Keys)+max(p.Min, 1))
	}
	return append(out, all)
}

func keyMap(keys []tuf.Key) map[string]tuf.Key {
	m := map[string]tuf.Key{}
	for _, k := range keys {
		m[k.ID()] = k
	}
	return m
}

// stageRoles adds to the draft what was edited, what is new, what new keys must
// sign, and targets.json where it no longer fits the charter.
func (tx *Tx) stageRoles(d *Draft) error {
	layout, was := tx.layout(), &Root{}
	if tx.present.under != nil {
		was = rootOf(tx.present.under)
	}
	oldKeys := map[string]Keys{"targets": was.Targets}
	for _, c := range was.Classes {
		for _, role := range c.Roles {
			oldKeys[role.Role] = role.Keys
		}
	}
	stale := func(role string, k Keys) bool {
		old := oldKeys[role]
		return tx.present.roles[role] == nil || !sameKeys(old.Keys, k.Keys) || max(old.Threshold, 1) != max(k.Threshold, 1)
	}
	expiry := &tx.repo.cfg.Expiry
	for _, c := range layout.Classes {
		for _, role := range c.Roles {
			if tx.roles[role.Role] == nil && !stale(role.Role, role.Keys) {
				continue
			}
			md, err := tx.edit(role.Role)
			if err != nil {
				return err
			}
			if err := tx.addRole(d, role.Role, md, expiry.Release, need{role.Party + " (" + role.Role + ")", keyMap(role.Keys.Keys), max(role.Threshold, 1)}); err != nil {
				return err
			}
		}
	}
	want := delegations(layout, tx.repo.cfg.Review)
	if old := tx.present.roles["targets"]; old != nil && tx.roles["targets"] == nil && !stale("targets", layout.Targets) {
		if changed, err := differ(old.Signed.Delegations, want); err != nil || !changed {
			return err
		}
	}
	md, err := tx.edit("targets")
	if err != nil {
		return err
	}
	md.Signed.Delegations = want
	return tx.addRole(d, "targets", md, expiry.Targets, need{"targets", keyMap(layout.Targets.Keys), max(layout.Targets.Threshold, 1)})
}

func (tx *Tx) addRole(d *Draft, role string, md *metadata.Metadata[metadata.TargetsType], valid time.Duration, n need) error {
	md.Signed.Expires = tx.repo.now().Add(valid)
	base := tx.present.listed(role)
	var err error
	if md.Signed.Version, err = tx.repo.freeVersion(tx.ctx, role, base+1); err != nil {
		return err
	}
	f, err := newDraftFile(role, base, md.Signed, n)
	if err != nil {
		return err
	}
	d.files[role] = f
	return nil
}

// freeVersion returns the first version from n on whose file is not there. A
// publish that was killed may have left one that nothing lists.
func (r *Repo) freeVersion(ctx context.Context, role string, n int64) (int64, error) {
	for range 1000 {
		_, err := r.storage.Read(ctx, roleName(role, n))
		if errors.Is(err, fs.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		n++
	}
	return 0, fmt.Errorf("repo: %s: no free version", role)
}

// delegations is what leads stock TUF clients to the release roles: the review
// party's first and terminating, so that what it does not list they don't see.
func delegations(r *Root, review string) *metadata.Delegations {
	out := &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	add := func(c Class, role ReleaseRole, terminating bool) {
		d := metadata.DelegatedRole{Name: role.Role, KeyIDs: ids(role.Keys.Keys), Threshold: max(role.Threshold, 1), Terminating: terminating}
		// A wild card does not match a slash: one pattern for each depth.
		for depth := 1; depth <= 8; depth++ {
			d.Paths = append(d.Paths, c.Prefix+strings.Repeat("*/", depth-1)+"*")
		}
		for _, k := range role.Keys.Keys {
			out.Keys[k.ID()] = gotuf.Key(k)
		}
		out.Roles = append(out.Roles, d)
	}
	for _, reviewed := range []bool{true, false} {
		for _, c := range r.Classes {
			for _, role := range c.Roles {
				if (role.Party == review) == reviewed {
					add(c, role, reviewed)
				}
			}
		}
	}
	return out
}
