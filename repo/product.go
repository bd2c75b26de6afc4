package repo

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// Product is a part of a party's role that is signed separately, for example by a team
// with its own keys.
type Product struct {
	Role string // 1 to 64 lower-case letters, digits, dots, underscores and hyphens
	// Paths are patterns of target paths below the prefix of the class; a * matches no
	// slash. Delegations are terminating: a later product gets no path that matches
	// here.
	Paths []string
	Keys  // empty: those of the party's role, also after it changes them
}

var productName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// checkProductKeys checks that no other party and no root role has the product's keys.
func (tx *Tx) checkProductKeys(party string, p Product) error {
	used := map[tuf.Key]string{}
	for _, x := range tx.layout().lists() {
		if x.party != "" && x.party != party {
			for _, k := range x.keys.Keys {
				used[k] = "a key of " + x.role
			}
		}
	}
	for _, x := range tx.layout().Parties {
		for _, k := range x.Keys {
			used[k] = "a root key of " + x.Name
		}
	}
	for _, k := range p.Keys.Keys {
		if other, ok := used[k]; ok {
			return fmt.Errorf("repo: product %s: %w: %.16s is %s", text.Name(p.Role), ErrKeyReuse, k.ID(), other)
		}
	}
	return nil
}

// Delegate creates a product below the party's role of a class and moves the matching
// targets of the role there. The first product also creates a role ROLE.rest for the
// targets without release data that match no product. For an existing product, Delegate
// sets new keys; the paths can't change. Root keys and release keys of another party
// are refused with an error that wraps [ErrKeyReuse], since one key must not sign for
// two parties. Patterns of more than 7 folders below the prefix of the class are
// refused with [fs.ErrInvalid], since standard TUF clients do not search there.
func (tx *Tx) Delegate(party, class string, p Product) error {
	c, top, err := tx.top(party, class)
	if err != nil {
		return err
	}
	keys := p.Keys
	if len(keys.Keys) == 0 {
		keys = top.Keys
	}
	if max(keys.Threshold, 1) > len(keys.Keys) {
		return fmt.Errorf("repo: product %s has %d keys, %d must sign", text.Name(p.Role), len(keys.Keys), keys.Threshold)
	}
	if err := tx.checkProductKeys(party, p); err != nil {
		return err
	}
	l, err := tx.edit(top.Role)
	if err != nil {
		return err
	}
	if i := l.IndexOf(p.Role); i >= 0 && p.Role != rolelist.RestRole(l.Role) {
		if len(p.Paths) > 0 && !slices.Equal(p.Paths, l.Delegations.Roles[i].Paths) {
			return fmt.Errorf("repo: product %s exists with other paths", text.Name(p.Role))
		}
		below, err := tx.editBelow(l, p.Role)
		if err != nil {
			return err
		}
		old, err := tx.keysOf(below)
		if err != nil {
			return err
		}
		d := &l.Delegations.Roles[i]
		d.KeyIDs, d.Threshold = ids(keys.Keys), max(keys.Threshold, 1)
		l.SetKeys(goKeys(keys.Keys))
		return tx.rekey(below, old, keys)
	}
	if err := tx.checkProduct(c, p); err != nil {
		return err
	}
	if l.IndexOf(rolelist.RestRole(l.Role)) < 0 {
		if err := tx.addRest(l, c, top.Keys); err != nil {
			return err
		}
	}
	rest, err := tx.editBelow(l, rolelist.RestRole(l.Role))
	if err != nil {
		return err
	}
	if err := tx.unsplit(rest); err != nil {
		return err
	}
	role := metadata.DelegatedRole{Name: p.Role, KeyIDs: ids(keys.Keys), Threshold: max(keys.Threshold, 1), Terminating: true, Paths: slices.Clone(p.Paths)}
	l.Delegations.Roles = slices.Insert(l.Delegations.Roles, len(l.Delegations.Roles)-1, role)
	l.SetKeys(goKeys(keys.Keys))
	below := rolelist.New(p.Role)
	below.Changed = true
	tx.lists[p.Role], tx.parents[p.Role] = below, l.Role
	for _, from := range []*rolelist.List{l, rest} {
		for target, v := range from.Targets {
			if l.RoleFor(target, !rolelist.IsPlain(v)) == p.Role {
				below.Targets[target] = v
				delete(from.Targets, target)
			}
		}
	}
	return nil
}

// Undelegate removes a product of the party's role of a class and moves its targets
// back to the role.
func (tx *Tx) Undelegate(party, class, product string) error {
	_, top, err := tx.top(party, class)
	if err != nil {
		return err
	}
	l, err := tx.edit(top.Role)
	if err != nil {
		return err
	}
	i := l.IndexOf(product)
	if i < 0 || product == rolelist.RestRole(l.Role) {
		return fmt.Errorf("repo: %s has no product %s", roleText(l.Role), text.Name(product))
	}
	below, err := tx.readBelow(l, product)
	if err != nil {
		return err
	}
	back := map[string]wire.Value{}
	if err := tx.eachIn(below, func(x *rolelist.List) error {
		for target, v := range x.Targets {
			back[target] = v
		}
		return l.RaiseAll(x)
	}); err != nil {
		return err
	}
	for _, name := range append(below.Delegates(), product) {
		delete(tx.lists, name)
		delete(tx.parents, name)
		delete(tx.passing, child{below.Role, name})
	}
	delete(tx.passing, child{l.Role, product})
	l.Delegations.Roles = slices.Delete(l.Delegations.Roles, i, i+1)
	l.SetKeys(nil)
	for target, v := range back {
		if err := tx.put(l.Role, target, v); err != nil {
			return err
		}
	}
	return nil
}

// top finds the party's role of a class, from which products are delegated.
func (tx *Tx) top(party, class string) (Class, ReleaseRole, error) {
	for _, c := range tx.layout().Classes {
		if c.Name != class {
			continue
		}
		for _, role := range c.Roles {
			if role.Party == party {
				return c, role, nil
			}
		}
	}
	return Class{}, ReleaseRole{}, fmt.Errorf("repo: party %s has no role in a class %s", text.Quote(party), text.Quote(class))
}

func (tx *Tx) checkProduct(c Class, p Product) error {
	if len(p.Role) > 64 || !productName.MatchString(p.Role) || names(tx.layout(), p.Role) || slices.Contains([]string{"root", "snapshot", "timestamp"}, p.Role) {
		return fmt.Errorf("repo: invalid product name %s", text.Quote(p.Role))
	}
	for _, x := range tx.layout().lists() {
		l, err := tx.read(x.role)
		if err != nil {
			return err
		}
		// A snapshot identifies roles by name alone, so each name must be unique.
		if strings.HasPrefix(p.Role, rolelist.BinPrefix(x.role)+"-") || l != nil && l.IndexOf(p.Role) >= 0 {
			return fmt.Errorf("repo: the name of product %s is already in use below %s", text.Name(p.Role), roleText(x.role))
		}
	}
	for _, pattern := range p.Paths {
		if _, err := path.Match(pattern, ""); err != nil || !strings.HasPrefix(pattern, c.Prefix) || pattern == c.Prefix {
			return fmt.Errorf("repo: product %s: %s is not a pattern below %s", text.Name(p.Role), text.Quote(pattern), text.Name(c.Prefix))
		}
		if err := nearEnough(c, pattern); err != nil {
			return fmt.Errorf("repo: product %s: %w", text.Name(p.Role), err)
		}
	}
	if len(p.Paths) == 0 {
		return fmt.Errorf("repo: product %s has no paths", text.Name(p.Role))
	}
	return nil
}

// addRest prepares a role for its first product: the targets without release data move
// to ROLE.rest.
func (tx *Tx) addRest(l *rolelist.List, c Class, keys Keys) error {
	if err := tx.unsplit(l); err != nil {
		return err
	}
	name := rolelist.RestRole(l.Role)
	if names(tx.layout(), name) {
		return fmt.Errorf("repo: the root names a role %s, which is needed for the other targets of %s", text.Name(name), roleText(l.Role))
	}
	l.Delegations = &metadata.Delegations{Keys: goKeys(keys.Keys), Roles: []metadata.DelegatedRole{{Name: name, KeyIDs: ids(keys.Keys),
		Threshold: max(keys.Threshold, 1), Terminating: true, Paths: anyDepth(c.Prefix)}}}
	rest := rolelist.New(name)
	rest.Changed = true
	tx.lists[name], tx.parents[name] = rest, l.Role
	for target, v := range l.Targets {
		if l.RoleFor(target, !rolelist.IsPlain(v)) == name {
			rest.Targets[target] = v
			delete(l.Targets, target)
		}
	}
	return nil
}

// unsplit moves the targets of the hash bins back into the role.
func (tx *Tx) unsplit(l *rolelist.List) error {
	if l.BinBits() == 0 {
		return nil
	}
	files, err := tx.plainOf(l)
	if err != nil {
		return err
	}
	return tx.split(l, files, 0)
}

// anyDepth returns patterns for everything below a prefix: one for each depth, since a
// wildcard matches no slash.
func anyDepth(prefix string) (patterns []string) {
	for depth := range mostFolders + 1 {
		patterns = append(patterns, prefix+strings.Repeat("*/", depth)+"*")
	}
	return patterns
}

// rekey passes new keys of a role on to all roles below it that had the old keys.
func (tx *Tx) rekey(l *rolelist.List, old, new Keys) error {
	d := l.Delegations
	if l.Role == "targets" || d == nil {
		return nil
	}
	was := ids(old.Keys)
	slices.Sort(was)
	same := func(keyIDs []string) bool { return slices.Equal(slices.Sorted(slices.Values(keyIDs)), was) }
	for _, name := range l.Delegates() {
		i := slices.IndexFunc(d.Roles, func(r metadata.DelegatedRole) bool { return r.Name == name })
		if i >= 0 && !same(d.Roles[i].KeyIDs) || i < 0 && !same(d.SuccinctRoles.KeyIDs) {
			continue
		}
		below, err := tx.editBelow(l, name)
		if err != nil {
			return err
		}
		if err := tx.rekey(below, old, new); err != nil {
			return err
		}
	}
	for i := range d.Roles {
		if same(d.Roles[i].KeyIDs) {
			d.Roles[i].KeyIDs, d.Roles[i].Threshold = ids(new.Keys), max(new.Threshold, 1)
		}
	}
	if s := d.SuccinctRoles; s != nil && same(s.KeyIDs) {
		s.KeyIDs, s.Threshold = ids(new.Keys), max(new.Threshold, 1)
	}
	l.SetKeys(goKeys(new.Keys))
	return nil
}
