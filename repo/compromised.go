package repo

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Compromised names keys of timestamp, snapshot and release roles that an attacker
// has (the exception to rule K3). It is called before roles are edited, in the draft
// whose root replaces the keys. Where only such keys signed the published content of
// a role, the role starts from the newest content that this ledger signed and that
// was published; what was published beyond that is left out, and [Repo.Diff] names
// it first. Content that another key of the role signed too stays. Sequence numbers
// that were given in what is left out are given again.
//
// Hash bins, and older content, are read from the storage, where the ledger's hash
// identifies them; where none is left the error wraps [ErrRoleBehind] and names the
// file to bring back. Where the keys of timestamp and snapshot are named,
// [Repo.Publish] of this draft does not compare those two with the ledger: bring back
// other parties' roles from a mirror first, if the attacker went behind them. A key
// that no such role has is an error that wraps [ErrNoPart].
func (tx *Tx) Compromised(keys ...tuf.Key) error {
	if len(tx.lists) > 0 {
		return fmt.Errorf("repo: %w: Compromised comes before roles are edited", fs.ErrInvalid)
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

// withoutCompromised puts what the ledger signed in place of what compromised keys
// alone published.
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
			return nil, fmt.Errorf("repo: key %.16s is named compromised: %w that is published", k.ID(), ErrNoPart)
		}
	}
	return x, nil
}

// isCompromised reports whether the attacker has the key.
func (x *restoring) isCompromised(k tuf.Key) bool { return slices.Contains(x.compromised, k) }

// role looks at a role and at what it leads to. by is nil for a role that root
// names. Below a list that was replaced every role becomes a part of tx: the
// published list does not lead there any more.
func (x *restoring) role(by *listing, role string, keys Keys) error {
	tx, hit := x.tx, false
	for _, k := range keys.Keys {
		if x.isCompromised(k) {
			hit, x.known[k] = true, true
		}
	}
	if err := tx.ctx.Err(); err != nil {
		return err
	}
	stray := by != nil && by.from == nil
	if !hit && !stray && by != nil {
		return nil
	}
	lost, err := x.lost(by, role, keys, hit)
	if err != nil {
		return err
	}
	var l *listing
	switch {
	case lost:
		if l, err = x.restore(role); err != nil {
			return err
		}
	case stray:
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
	if by != nil && (lost || stray || l.delegations != nil) {
		delete(tx.passing, child{by.role, role})
		tx.parents[role] = by.role
	}
	if by == nil || lost || stray || l.delegations != nil {
		tx.lists[role] = l
	}
	if l.role == "targets" {
		return nil // it leads to roles that root names
	}
	if err := checkOwners(ownNames(tx.layout()), l); err != nil {
		return err
	}
	for _, name := range l.delegates() {
		if have, ok := tx.parents[name]; ok {
			return twoParents(role, have, name)
		}
		if err := x.role(l, name, l.keysFor(name)); err != nil {
			return err
		}
	}
	return nil
}

// lost reports whether what is published of a role has to be replaced: only keys
// that the attacker has signed it, or it does not verify for the list that leads
// to it now; and it is nothing that this ledger signed last.
func (x *restoring) lost(by *listing, role string, keys Keys, hit bool) (bool, error) {
	tx := x.tx
	if tx.present.listed(role) == 0 {
		return by != nil, nil
	}
	if !hit && by == nil {
		return false, nil
	}
	file, err := tx.present.snap.RoleFile(role)
	if err != nil {
		return false, fmt.Errorf("repo: %w", err)
	}
	data, err := tx.fetch(file)
	if err != nil {
		return false, err
	}
	env, err := openEnvelope(data)
	if err != nil {
		return true, nil // what cannot be read is of no honest key
	}
	if env.signers(keyMap(keys.Keys)) < max(keys.Threshold, 1) {
		return true, nil
	}
	honest := slices.DeleteFunc(slices.Clone(keys.Keys), x.isCompromised)
	if env.signers(keyMap(honest)) > 0 {
		return false, nil
	}
	for _, c := range tx.present.book.contents(role) {
		if c.Version == file.Version && c.SHA256 == sum256(env.signed) {
			return false, nil
		}
		if _, err := x.content(role, c); err == nil {
			return true, nil // a newer one was published once
		}
	}
	return true, nil
}

// restore is what the ledger knows last of a role and can be had, as a list that is
// changed.
func (x *restoring) restore(role string) (*listing, error) {
	all := x.tx.present.book.contents(role)
	if len(all) == 0 {
		return nil, fmt.Errorf("repo: %s: %w: compromised keys alone signed what is published, and this ledger has signed nothing to go back to; use the ledger of a machine that has",
			roleText(role), ErrRoleBehind)
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
		l := newListing(role)
		if err := l.take(signed); err != nil {
			return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
		}
		l.changed, x.signed[role] = true, signed
		return l, nil
	}
	return nil, first
}

// content is the signed part that a record of the ledger stands for: kept, where it
// was seen published, or in the storage. The record identifies it, whatever
// signatures the file has. What was signed and never published is in neither.
func (x *restoring) content(role string, want bookContent) (wire.Value, error) {
	if want.Signed != nil {
		return want.read(role)
	}
	name := roleName(role, want.Version)
	data, err := x.tx.repo.storage.Read(x.tx.ctx, name)
	if err == nil {
		if env, bad := openEnvelope(data); bad == nil && sum256(env.signed) == want.SHA256 {
			return env.signed, nil
		}
		err = fmt.Errorf("%s has other content: %w", text.Name(name), tuf.ErrMismatch)
	}
	return nil, fmt.Errorf("repo: %s: %w: the ledger knows v%d with sha256 %s; bring %s back from a copy: %w",
		roleText(role), ErrRoleBehind, want.Version, want.SHA256, text.Name(name), err)
}

// contents are the contents of a role that this ledger signed or has seen
// published, the newest first. Signed is set of the one that was seen.
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
