package repo

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// A party's role is the top of a tree of lists: it may delegate parts of its class to
// products ([Tx.Delegate]), and each of them, or the role itself, may have hash bins.

// read returns a role that the root names, within tx; nil if it does not exist yet.
// Callers must not change it; see edit.
func (tx *Tx) read(role string) (*rolelist.List, error) {
	if l, ok := tx.lists[role]; ok {
		return l, nil
	}
	if tx.present.listed(role) == 0 {
		return nil, nil
	}
	t, err := tx.present.snap.Role(role, tx.fetch)
	if errors.Is(err, tuf.ErrUntrusted) && tx.present.under != nil && !names(rootOf(tx.present.under), role) {
		return nil, nil // a removed role, which the snapshot must still list
	}
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	l, err := rolelist.Open(t)
	if err == nil {
		err = metafile.CheckOwners(ownNames(tx.layout()), l.Role, l.Delegations)
	}
	if err != nil {
		return nil, err
	}
	tx.lists[role] = l
	return l, nil
}

// twoParents refuses a role with two delegators: an edit through one of them would also
// apply to the other.
func twoParents(a, b, role string) error {
	return fmt.Errorf("repo: %s and %s both delegate to %s: %w", roleText(a), roleText(b), roleText(role), tuf.ErrUntrusted)
}

// ofParent refuses a role that was read or edited through another delegator.
func (tx *Tx) ofParent(by *rolelist.List, name string) error {
	if parent := tx.parents[name]; parent != by.Role {
		return twoParents(by.Role, cmp.Or(parent, "root"), name)
	}
	return nil
}

// edit returns a role that the root names for editing; a new one if it does not exist.
func (tx *Tx) edit(role string) (*rolelist.List, error) {
	l, err := tx.read(role)
	if err != nil {
		return nil, err
	}
	if l == nil {
		l = rolelist.New(role)
		tx.lists[role] = l
	}
	l.Changed = true
	return l, nil
}

// readBelow returns a role to which by delegates. Of the roles that are not edited,
// only the last few are kept.
func (tx *Tx) readBelow(by *rolelist.List, name string) (*rolelist.List, error) {
	if l, ok := tx.lists[name]; ok {
		return l, tx.ofParent(by, name)
	}
	at := child{by.Role, name}
	if l, ok := tx.passing[at]; ok {
		return l, nil
	}
	if by.From == nil {
		return nil, fmt.Errorf("repo: %s delegates to %s, which does not exist: %w", roleText(by.Role), roleText(name), tuf.ErrMismatch)
	}
	t, err := tx.present.snap.Delegated(by.From, name, tx.fetch)
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	l, err := rolelist.Open(t)
	if err == nil && l.Delegations != nil {
		err = metafile.CheckOwners(ownNames(tx.layout()), l.Role, l.Delegations)
	}
	if err != nil {
		return nil, err
	}
	if len(tx.passing) >= maxPassing {
		clear(tx.passing)
	}
	tx.passing[at] = l
	return l, nil
}

// maxPassing bounds the number of cached lists that are only read.
const maxPassing = 4096

// editBelow returns a role to which by delegates, for editing.
func (tx *Tx) editBelow(by *rolelist.List, name string) (*rolelist.List, error) {
	l, err := tx.readBelow(by, name)
	if err != nil {
		return nil, err
	}
	delete(tx.passing, child{by.Role, name})
	tx.lists[name] = l
	tx.parents[name] = by.Role
	l.Changed = true
	return l, nil
}

// fetch reads a role's published file.
func (tx *Tx) fetch(f tuf.RoleFile) ([]byte, error) {
	return tx.repo.read(tx.ctx, tx.present, f)
}

// find returns the entry of a target in the tree of a role that the root names, or nil.
func (tx *Tx) find(role, target string) (wire.Value, error) {
	l, err := tx.read(role)
	for err == nil && l != nil {
		if v := l.Targets[target]; v != nil {
			return v, nil
		}
		name := l.RoleFor(target, false)
		if name == "" {
			return nil, nil
		}
		l, err = tx.readBelow(l, name)
	}
	return nil, err
}

// put lists a target in the list of a role's tree that fits its kind.
func (tx *Tx) put(role, target string, v wire.Value) error {
	e, err := rolelist.ParseEntry(v)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	if old, err := tx.find(role, target); err != nil {
		return err
	} else if old != nil && string(old) == string(v) {
		return nil
	} else if old != nil { // a target may get release data
		if _, err := tx.drop(role, target); err != nil {
			return err
		}
	}
	l, err := tx.holder(role, target, e.Release != nil)
	if err == nil {
		l.Targets[target] = v
		tx.indexes[role].add(target, v)
	}
	return err
}

// holder returns, for editing, the list of a role's tree to which a target belongs.
func (tx *Tx) holder(role, target string, release bool) (*rolelist.List, error) {
	l, err := tx.read(role)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return tx.edit(role)
	}
	for {
		name := l.RoleFor(target, release)
		if name == "" {
			l.Changed = true
			return l, nil
		}
		if l, err = tx.keepBelow(l, name); err != nil {
			return nil, err
		}
	}
}

// keepBelow is readBelow for a list on the path to one that is edited.
func (tx *Tx) keepBelow(by *rolelist.List, name string) (*rolelist.List, error) {
	l, err := tx.readBelow(by, name)
	if err == nil {
		delete(tx.passing, child{by.Role, name})
		tx.lists[name] = l
		tx.parents[name] = by.Role
	}
	return l, err
}

// drop removes a target from the tree of a role; false if it is not listed.
func (tx *Tx) drop(role, target string) (bool, error) {
	l, err := tx.read(role)
	for err == nil && l != nil {
		if v := l.Targets[target]; v != nil {
			delete(l.Targets, target)
			l.Changed = true
			return true, tx.dropped(role, l, target, v)
		}
		name := l.RoleFor(target, false)
		if name == "" {
			return false, nil
		}
		l, err = tx.keepBelow(l, name)
	}
	return false, err
}

// each calls fn for every target in the tree of a role, list by list, in order within
// each. fn must not edit.
func (tx *Tx) each(role string, fn func(target string, v wire.Value) error) error {
	l, err := tx.read(role)
	if err != nil || l == nil {
		return err
	}
	return tx.eachIn(l, func(l *rolelist.List) error {
		for _, target := range slices.Sorted(maps.Keys(l.Targets)) {
			if err := fn(target, l.Targets[target]); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachIn calls fn for l and every list below it. If fn returns [fs.SkipDir], it skips
// the lists below that one.
func (tx *Tx) eachIn(l *rolelist.List, fn func(*rolelist.List) error) error {
	switch err := fn(l); {
	case err == fs.SkipDir:
		return nil
	case err != nil:
		return err
	}
	for _, name := range l.Delegates() {
		if err := tx.ctx.Err(); err != nil {
			return err
		}
		below, err := tx.readBelow(l, name)
		if err != nil {
			return err
		}
		if err := tx.eachIn(below, fn); err != nil {
			return err
		}
	}
	return nil
}

// names reports whether the root names the targets role.
func names(r *Root, role string) bool {
	return slices.ContainsFunc(r.lists(), func(x named) bool { return x.role == role })
}

// published reads the file of a role that the published snapshot lists.
func (tx *Tx) published(role string) (tuf.RoleFile, []byte, error) {
	file, err := tx.present.snap.RoleFile(role)
	if err != nil {
		return file, nil, fmt.Errorf("repo: %w", err)
	}
	data, err := tx.fetch(file)
	return file, data, err
}

// behind states why a draft's file does not follow the published one.
func (tx *Tx) behind(f *draftFile) error {
	have := tx.present.listed(f.role)
	if have == f.version {
		_, data, err := tx.published(f.role)
		if err != nil {
			return err
		}
		if env, err := metafile.Open(data); err == nil && string(env.Signed) == string(f.signed) {
			return fmt.Errorf("repo: %s v%d: %w", roleText(f.role), f.version, ErrPublished)
		}
	}
	return fmt.Errorf("repo: %w: %s v%d is published, the draft is v%d after v%d", staleOr(have, f.base), roleText(f.role), have, f.version, f.base)
}

// staleOr returns [ErrStale], with [ErrNotYet] if the published version is older than the
// one that a draft follows.
func staleOr(published, base int64) error {
	if published < base {
		return fmt.Errorf("%w: %w", ErrStale, ErrNotYet)
	}
	return ErrStale
}
