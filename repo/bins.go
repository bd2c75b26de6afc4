package repo

import (
	"fmt"
	"maps"
	"math/bits"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
)

// The rule for hash bins. A list of more than binWhole targets without release data is
// split into the smallest power of two of bins with at most binFull files per bin on
// average. It is split again if an edited bin has more than binWhole or fewer than
// binSparse files. With these values, between ten thousand and a million files, a
// look-up fetches about as many bytes for the bin as for the snapshot's list of bins.
const (
	binWhole  = 512
	binFull   = 256
	binSparse = 16
)

func bitsFor(files int) int {
	if files <= binWhole {
		return 0
	}
	return min(bits.Len(uint((files-1)/binFull)), maxBits)
}

// reshapeAll adjusts the number of bins of every edited tree of a class to its size. The
// first role of a class leads. The others adopt its number of bins when they are edited,
// so that all trees of a class have the same structure.
func (tx *Tx) reshapeAll(layout *Root) error {
	for _, c := range layout.Classes {
		lead := -1
		for _, role := range c.Roles {
			l, err := tx.read(role.Role)
			if err != nil {
				return err
			}
			if l == nil {
				continue
			}
			if err := tx.reshapeTree(l, lead); err != nil {
				return err
			}
			if lead < 0 {
				lead = l.bits()
			}
		}
	}
	return nil
}

func (tx *Tx) reshapeTree(l *listing, lead int) error {
	if l.delegations == nil || l.delegations.SuccinctRoles != nil || len(l.delegations.Roles) == 0 {
		return tx.reshape(l, lead)
	}
	for _, name := range l.delegates() {
		if below, ok := tx.lists[name]; ok {
			if err := tx.reshapeTree(below, -1); err != nil {
				return err
			}
		}
	}
	return nil
}

// reshape changes the number of bins of l if the rule requires it. lead is the number of
// bits of the leading role, -1 for none.
func (tx *Tx) reshape(l *listing, lead int) error {
	have := l.bits()
	edited, most, least := l.changed, 0, binFull
	if have == 0 {
		most = l.plain()
	} else {
		for _, name := range l.delegates() {
			if bin, ok := tx.lists[name]; ok && bin.changed {
				edited, most, least = true, max(most, len(bin.targets)), min(least, len(bin.targets))
			}
		}
	}
	if !edited {
		return nil
	}
	// Sparse bins are correct if they follow a larger tree.
	if most <= binWhole && (have == lead || lead < 0 && least >= binSparse) {
		return nil
	}
	var files map[string]wire.Value // the targets in the bins
	n := l.plain()
	if have > 0 {
		var err error
		if files, err = tx.plainOf(l); err != nil {
			return err
		}
		n = len(files)
	}
	want := max(bitsFor(n), lead)
	if want == have {
		return nil
	}
	return tx.split(l, files, want)
}

// plainOf collects the targets without release data of l and its bins.
func (tx *Tx) plainOf(l *listing) (map[string]wire.Value, error) {
	files := map[string]wire.Value{}
	err := tx.eachIn(l, func(x *listing) error {
		for target, v := range x.targets {
			if x != l || isPlain(v) {
				files[target] = v
			}
		}
		return nil
	})
	return files, err
}

// split distributes the targets without release data of l and its current bins over
// 2^bits bins. With bits 0 it moves all of them to l.
func (tx *Tx) split(l *listing, files map[string]wire.Value, bits int) error {
	for _, name := range l.delegates() {
		if tx.lists[name] != nil {
			if err := tx.ofParent(l, name); err != nil {
				return err
			}
		}
		delete(tx.lists, name)
		delete(tx.parents, name)
		delete(tx.passing, child{l.role, name})
	}
	l.changed = true
	if bits == 0 {
		l.delegations = nil
		maps.Copy(l.targets, files)
		return nil
	}
	keys, err := tx.keysOf(l)
	if err != nil {
		return err
	}
	s := &metadata.SuccinctRoles{KeyIDs: ids(keys.Keys), Threshold: max(keys.Threshold, 1), BitLength: bits, NamePrefix: binPrefix(l.role)}
	l.delegations = &metadata.Delegations{Keys: goKeys(keys.Keys), SuccinctRoles: s}
	for _, name := range l.delegates() {
		if names(tx.layout(), name) {
			return fmt.Errorf("repo: the name of a hash bin of %s is already a role in root: %s", roleText(l.role), roleText(name))
		}
		if tx.lists[name] != nil {
			return twoParents(l.role, tx.parents[name], name)
		}
		bin := newListing(name)
		bin.changed = true
		tx.lists[name], tx.parents[name] = bin, l.role
	}
	stays := map[string]wire.Value{}
	for _, from := range []map[string]wire.Value{l.targets, files} {
		for target, v := range from {
			if isPlain(v) {
				tx.lists[layout.BinName(s.NamePrefix, s.BitLength, layout.Bin(target, s.BitLength))].targets[target] = v
			} else {
				stays[target] = v
			}
		}
	}
	l.targets = stays
	return nil
}

// keysOf returns the keys of a list: those of the charter, or of the delegating role.
func (tx *Tx) keysOf(l *listing) (Keys, error) {
	parent, ok := tx.parents[l.role]
	if !ok {
		for _, x := range tx.layout().lists() {
			if x.role == l.role {
				return x.keys, nil
			}
		}
		return Keys{}, fmt.Errorf("repo: root has no role %s", roleText(l.role))
	}
	if by := tx.lists[parent]; by != nil && by.delegations != nil {
		return by.keysFor(l.role), nil
	}
	return Keys{}, fmt.Errorf("repo: %s does not delegate to %s", roleText(parent), roleText(l.role))
}
