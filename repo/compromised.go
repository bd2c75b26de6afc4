package repo

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// Compromised declares keys of timestamp, snapshot and release roles as compromised (the
// exception to rule K3; TUF section 1.5.2, key compromise). Call it before roles are
// edited, in the draft whose root replaces the keys. If only compromised keys signed the
// published content of a role, the role starts from the newest content that this ledger
// signed and that was published. Later published content is left out, and [Repo.Diff]
// lists it first. Content that another key of the role also signed stays. Sequence
// numbers that were assigned only in content that is left out are assigned again.
//
// Hash bins and older content are read from the storage and identified by the hash in
// the ledger. If none is available, the error wraps [signing.ErrRoleBehind] and names the file to
// restore. If keys of timestamp and snapshot are compromised, [Repo.Publish] of this
// draft does not compare these two roles with the ledger. Before that, restore roles of
// other parties from a mirror if the attacker rolled them back. The error wraps
// [ErrNoPart] if no such role has one of the keys.
func (tx *Tx) Compromised(keys ...tuf.Key) error {
	if len(tx.lists) > 0 {
		return fmt.Errorf("repo: %w: Compromised must be called before roles are edited", fs.ErrInvalid)
	}
	tx.override.compromised = append(tx.override.compromised, keys...)
	_, err := tx.withoutCompromised(tx.override.compromised)
	return err
}

// Compromised is [Tx.Compromised] for a draft that was staged elsewhere: its roles
// are compared with what this handle's ledger signed.
func (d *Draft) Compromised(keys ...tuf.Key) {
	d.override.compromised = append(d.override.compromised, keys...)
}

// withoutCompromised replaces content that only compromised keys signed by the content
// that the ledger signed.
func (tx *Tx) withoutCompromised(keys []tuf.Key) (*restoring, error) {
	x := &restoring{tx: tx, compromised: keys, known: map[tuf.Key]bool{}, signed: map[string]wire.Value{}, skipped: map[string][]bookContent{}}
	if len(keys) == 0 || tx.present.under == nil {
		return x, nil
	}
	layout := rootOf(tx.present.under)
	for _, k := range slices.Concat(layout.Timestamp.Keys, layout.Snapshot.Keys) {
		x.known[k] = true
	}
	for _, top := range layout.lists() {
		if err := x.role(nil, top.role, top.keys); err != nil {
			return nil, err
		}
	}
	for _, k := range keys {
		if !x.known[k] {
			return nil, fmt.Errorf("repo: compromised key %.16s belongs to no published timestamp, snapshot or release role: %w", k.ID(), ErrNoPart)
		}
	}
	return x, nil
}

// isCompromised reports whether the key is compromised.
func (x *restoring) isCompromised(k tuf.Key) bool { return slices.Contains(x.compromised, k) }

// role checks a role and the roles below it, and restores them if necessary. by is nil
// for a role that root names. Below a replaced list every role becomes a part of tx,
// because the published list does not delegate to it any more.
func (x *restoring) role(by *rolelist.List, role string, keys Keys) error {
	tx, hit := x.tx, false
	for _, k := range keys.Keys {
		if x.isCompromised(k) {
			hit, x.known[k] = true, true
		}
	}
	if err := tx.ctx.Err(); err != nil {
		return err
	}
	moved := by != nil && by.From == nil
	if !hit && !moved && by != nil {
		return nil
	}
	lost, err := x.lost(by, role, keys, hit)
	if err != nil {
		return err
	}
	var l *rolelist.List
	switch {
	case lost:
		if l, err = x.restore(role); err != nil {
			return err
		}
	case moved:
		if l, err = newEdition(tx, tx.layout(), asPublished).adopt(by, role); err != nil {
			return err
		}
	case by == nil:
		if l, err = tx.read(role); err != nil || l == nil {
			return err
		}
	default:
		if l, err = tx.readBelow(by, role); err != nil {
			return err
		}
	}
	if by != nil && (lost || moved || l.Delegations != nil) {
		delete(tx.passing, child{by.Role, role})
		tx.parents[role] = by.Role
	}
	if by == nil || lost || moved || l.Delegations != nil {
		tx.lists[role] = l
	}
	if l.Role == "targets" {
		return nil // it delegates to roles that root names
	}
	if err := metafile.CheckOwners(ownNames(tx.layout()), l.Role, l.Delegations); err != nil {
		return err
	}
	for _, name := range l.Delegates() {
		if have, ok := tx.parents[name]; ok {
			return twoParents(role, have, name)
		}
		if err := x.role(l, name, keysFor(l, name)); err != nil {
			return err
		}
	}
	return nil
}

// lost reports whether the published content of a role must be replaced: only
// compromised keys signed it, or it does not verify for its delegating role; and it is
// not the newest content that this ledger signed.
func (x *restoring) lost(by *rolelist.List, role string, keys Keys, hit bool) (bool, error) {
	tx := x.tx
	if tx.present.listed(role) == 0 {
		return by != nil, nil
	}
	if !hit && by == nil {
		return false, nil
	}
	file, data, err := tx.published(role)
	if err != nil {
		return false, err
	}
	env, err := metafile.Open(data)
	if err != nil {
		return true, nil // an uncompromised key signs no malformed file
	}
	if env.Signers(keyMap(keys.Keys)) < max(keys.Threshold, 1) {
		return true, nil
	}
	honest := slices.DeleteFunc(slices.Clone(keys.Keys), x.isCompromised)
	if env.Signers(keyMap(honest)) > 0 {
		return false, nil
	}
	for _, c := range tx.present.book.contents(role) {
		if c.Version == file.Version && c.SHA256 == metafile.SHA256(env.Signed) {
			return false, nil
		}
		if _, err := x.content(role, c); err == nil {
			return true, nil // a newer content was published before
		}
	}
	return true, nil
}

// restore returns the newest available content of a role in the ledger, as a changed
// list.
func (x *restoring) restore(role string) (*rolelist.List, error) {
	all := x.tx.present.book.contents(role)
	if len(all) == 0 {
		return nil, fmt.Errorf("repo: %s: %w: only compromised keys signed the published content, and this ledger has signed no other; use the ledger of a machine that has",
			roleText(role), signing.ErrRoleBehind)
	}
	var first error
	for _, c := range all {
		signed, err := x.content(role, c)
		if err != nil {
			if first == nil {
				first = err
			}
			x.skipped[role] = append(x.skipped[role], c)
			continue
		}
		l := rolelist.New(role)
		if err := l.Take(signed); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
		}
		l.Changed, x.signed[role] = true, signed
		return l, nil
	}
	return nil, first
}

// content returns the signed part that a record of the ledger identifies: from the
// ledger, if it was seen published, or from the storage. The hash identifies it,
// independent of the signatures of the file. Content that was signed but never published
// is in neither.
func (x *restoring) content(role string, want bookContent) (wire.Value, error) {
	if want.Signed != nil {
		return want.read(role)
	}
	name := layout.RoleName(role, want.Version)
	data, err := x.tx.repo.storage.Read(x.tx.ctx, name)
	if err == nil {
		if env, bad := metafile.Open(data); bad == nil && metafile.SHA256(env.Signed) == want.SHA256 {
			return env.Signed, nil
		}
		err = fmt.Errorf("%s has other content: %w", text.Name(name), tuf.ErrMismatch)
	}
	return nil, fmt.Errorf("repo: %s: %w: the ledger has v%d with sha256 %s; restore %s from a copy: %w",
		roleText(role), signing.ErrRoleBehind, want.Version, want.SHA256, text.Name(name), err)
}

// contents returns the contents of a role that this ledger has signed or has seen
// published, the newest first. Signed is set for the one that was seen.
func (b *book) contents(role string) (out []bookContent) {
	if b == nil || b.body.Roles[role] == nil {
		return nil
	}
	r := b.body.Roles[role]
	if r.Seen != nil {
		out = append(out, *r.Seen)
	}
	for _, s := range slices.Backward(r.Signed) {
		if r.Seen == nil || s.Version != r.Seen.Version || s.SHA256 != r.Seen.SHA256 {
			out = append(out, bookContent{Version: s.Version, SHA256: s.SHA256})
		}
	}
	slices.SortStableFunc(out, func(a, b bookContent) int { return cmp.Compare(b.Version, a.Version) })
	return out
}
