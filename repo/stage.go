package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// Update edits, signs with the configured signers and publishes, as one transaction.
// The error wraps [ErrUnsigned] if signatures are missing; use [Repo.Stage] then. It
// wraps [ErrConflict] if another process published in the meantime. Files that fn added
// stay in the storage unlisted.
func (r *Repo) Update(ctx context.Context, fn func(*Tx) error) (err error) {
	defer text.OneLine(&err)
	s := r.session()
	defer func() {
		if x, ok := s.storage.(*session); ok {
			err = x.conflict(ctx, err)
		}
		r.warm.end(err)
	}()
	d, err := s.Stage(ctx, fn)
	if err != nil {
		return err
	}
	err = s.Publish(ctx, d)
	if errors.Is(err, ErrStale) || errors.Is(err, ErrPublished) { // the draft was made by this call
		err = fmt.Errorf("%w: %w", ErrConflict, err)
	}
	return err
}

// Stage edits and signs with the configured signers, without publishing. The draft is
// empty if fn changed nothing. A first root from which [Repo.Pin] could not make a pin
// is refused with an error that wraps [tuf.ErrCharter]; for later roots see
// [Draft.Warnings].
func (r *Repo) Stage(ctx context.Context, fn func(*Tx) error) (_ *Draft, err error) {
	defer text.OneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tx := r.newTx(ctx, p)
	if err := fn(tx); err != nil {
		return nil, err
	}
	return r.stage(ctx, tx, nil)
}

// stage makes a draft of the edits, on top of another draft if there is one, and signs
// the new parts.
func (r *Repo) stage(ctx context.Context, tx *Tx, on *Draft) (*Draft, error) {
	d := newDraft()
	d.repo, d.staged, d.override = r, r, tx.override
	if err := tx.stageRoot(d); err != nil {
		return nil, err
	}
	if err := tx.stageRoles(d); err != nil {
		return nil, err
	}
	if tx.recovering != nil {
		if err := tx.stageRecovery(d); err != nil {
			return nil, err
		}
	}
	d.statements = tx.statements
	fresh := d.parts()
	if on != nil {
		d.takeOver(on)
	}
	_, err := r.signDraft(ctx, tx.present, d, fresh, r.cfg.Signers, true, false)
	return d, err
}

// stageRoot adds the next root to the draft if there is one.
func (tx *Tx) stageRoot(d *Draft) error {
	prev := tx.present.root
	if tx.root == nil {
		if prev == nil {
			return fmt.Errorf("%w: its first root must name the parties", errEmpty)
		}
		return nil
	}
	if tx.root.RepoID == "" {
		tx.root.RepoID = newRepoID()
	}
	if !layout.IsRepoID(tx.root.RepoID) {
		return fmt.Errorf("repo: repo_id is %s, want 32 lower-case hex digits: %w", text.Quote(tx.root.RepoID), tuf.ErrCharter)
	}
	now := tx.repo.now()
	var follows tuf.RootView // nil if there is none
	if prev != nil {
		follows = prev
	}
	md, changed, err := tx.root.derive(follows, tx.present.floors(), now, now.Add(tx.repo.cfg.Expiry.Root))
	if err != nil || !changed && !tx.root.renew {
		return err
	}
	var needs []need
	if prev != nil && tx.recovering == nil { // a recovery statement replaces the signatures of the current parties
		needs = rootNeeds(rootOf(prev), "the present root")
	}
	more := rootNeeds(tx.root, "the new root")
	if tx.root.fork != nil {
		more = append(rootNeeds(rootOf(tx.root.fork), "the forked root"), more...)
	}
	for _, n := range more {
		known := false
		for _, m := range needs {
			known = known || m.Threshold == n.Threshold && mapsEqual(m.Keys, n.Keys)
		}
		if !known {
			needs = append(needs, n)
		}
	}
	signed, err := metafile.Canonical(md.Signed)
	if err != nil {
		return err
	}
	f, err := newDraftFile("root", md.Signed.Version-1, signed, needs...)
	if err != nil {
		return err
	}
	if prev == nil {
		// Pin would refuse it too, but only after keys have signed.
		if _, err := tuf.ProposeFirst(f.bytes(), tx.repo.tufOptions()); err != nil {
			return fmt.Errorf("repo: %w", err)
		}
		if why := tx.root.unpinnable(tx.repo.cfg.Review, now); len(why) > 0 {
			return fmt.Errorf("repo: root v1: %w: %s", tuf.ErrCharter, strings.Join(why, "; "))
		}
	}
	d.files["root"], d.heals = f, tx.heals
	d.warnings = tx.root.Warnings(tx.repo.cfg.Review, now)
	_, err = tx.repo.healed(tx.present.chain, d, f.bytes())
	return err
}

func mapsEqual(a, b map[string]tuf.Key) bool {
	for id := range a {
		if _, ok := b[id]; !ok {
			return false
		}
	}
	return len(a) == len(b)
}

// stageRoles adds to the draft the edited and new roles, those that new keys must sign,
// and targets.json if it no longer matches the charter.
func (tx *Tx) stageRoles(d *Draft) error {
	clear(tx.passing) // fn may have read very many
	root, was := tx.layout(), &Root{}
	if tx.present.under != nil {
		was = rootOf(tx.present.under)
	}
	old := map[string]Keys{}
	for _, x := range was.lists() {
		old[x.role] = x.keys
	}
	for _, x := range root.lists() {
		before, ok := old[x.role]
		if ok && tx.present.listed(x.role) > 0 && layout.SameSet(before.Keys, x.keys.Keys) && max(before.Threshold, 1) == max(x.keys.Threshold, 1) {
			continue
		}
		l, err := tx.edit(x.role)
		if err != nil {
			return err
		}
		if err := tx.rekey(l, before, x.keys); err != nil {
			return err
		}
	}
	if err := tx.reshapeAll(root); err != nil {
		return err
	}
	want := delegations(root, tx.repo.cfg.Review)
	targets, err := tx.read("targets")
	if err != nil {
		return err
	}
	if changed, err := differ(targets.Delegations, want); err != nil {
		return err
	} else if changed {
		targets.Delegations, targets.Changed = want, true
	}
	for _, x := range root.lists() {
		l, err := tx.read(x.role)
		if err != nil {
			return err
		}
		if err := tx.stageTree(d, l, nil, x); err != nil {
			return err
		}
	}
	return nil
}

// stageTree adds l, if it was edited, and the edited roles below it.
func (tx *Tx) stageTree(d *Draft, l *rolelist.List, under []string, x named) error {
	if l.Changed {
		if err := tx.addList(d, l, under, x); err != nil {
			return err
		}
	}
	if l.Role == "targets" {
		return nil // its delegated roles are staged separately
	}
	if err := metafile.CheckOwners(ownNames(tx.layout()), l.Role, l.Delegations); err != nil {
		return err
	}
	under = append(slices.Clone(under), l.Role)
	for _, name := range l.Delegates() {
		keys := keysFor(l, name)
		renewed := l.Renewed && layout.SameSet(keys.Keys, x.keys.Keys) // other signers renew their own
		below, ok := tx.lists[name]
		if !ok && !renewed {
			continue
		}
		if parent, known := tx.parents[name]; ok || known {
			if parent != l.Role {
				return twoParents(l.Role, cmp.Or(parent, "root"), name)
			}
		}
		tx.parents[name] = l.Role
		if !ok {
			var err error
			if below, err = tx.readBelow(l, name); err != nil {
				return err
			}
			delete(tx.passing, child{l.Role, name}) // keep one at a time, since there may be very many
		}
		below.Renewed = renewed || below.Renewed
		below.Changed = below.Changed || renewed
		signs := named{name, x.class, x.party, keys}
		if l.BinBits() > 0 {
			signs.role = l.Role // the role itself signs its bins
		}
		if err := tx.stageTree(d, below, under, signs); err != nil {
			return err
		}
		if below.Delegations == nil {
			below.Targets = nil // the draft contains it now
		}
	}
	return nil
}

func (tx *Tx) addList(d *Draft, l *rolelist.List, under []string, x named) error {
	expiry := tx.repo.cfg.Expiry.Release
	if l.Role == "targets" {
		expiry = tx.repo.cfg.Expiry.Targets
	}
	base := tx.present.listed(l.Role)
	version, err := tx.nextVersion(l.Role, base)
	if err != nil {
		return err
	}
	l.Bind(tx.layout().RepoID)
	signed, err := l.Encode(version, tx.repo.now().Add(expiry))
	if err != nil {
		return fmt.Errorf("repo: %s: %w", roleText(l.Role), err)
	}
	f, err := newDraftFile(l.Role, base, signed, x.need())
	if err != nil {
		return err
	}
	f.under = under
	d.files[l.Role] = f
	return nil
}

// nextVersion returns the lowest version of a role that was neither published nor
// signed. Two contents are never signed under one version (rule K2).
func (tx *Tx) nextVersion(role string, base int64) (int64, error) {
	b := tx.present.book
	if b == nil { // the first root: the ledger is known once the repository has an id
		var err error
		if b, err = tx.repo.loadBook(tx.ctx, tx.layout().RepoID); err != nil {
			return 0, err
		}
		tx.present.book = b
	}
	return tx.repo.freeVersion(tx.ctx, role, max(base, b.highest(role))+1)
}

// delegations returns the delegations of targets.json to the release roles, for
// standard TUF clients. The review party's roles are first and terminating, so that
// those clients find only what it lists.
func delegations(r *Root, review string) *metadata.Delegations {
	out := &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	add := func(c Class, role ReleaseRole, terminating bool) {
		d := metadata.DelegatedRole{Name: role.Role, KeyIDs: ids(role.Keys.Keys), Threshold: max(role.Threshold, 1), Terminating: terminating, Paths: anyDepth(c.Prefix)}
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
