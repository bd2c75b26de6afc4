package repo

import (
	"fmt"
	"maps"
	"math/bits"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rolelist"
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
	return min(bits.Len(uint((files-1)/binFull)), rolelist.MaxBits)
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
				lead = l.BinBits()
			}
		}
	}
	return nil
}

func (tx *Tx) reshapeTree(l *rolelist.List, lead int) error {
	if l.Delegations == nil || l.Delegations.SuccinctRoles != nil || len(l.Delegations.Roles) == 0 {
		return tx.reshape(l, lead)
	}
	for _, name := range l.Delegates() {
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
func (tx *Tx) reshape(l *rolelist.List, lead int) error {
	have := l.BinBits()
	edited, most, least := l.Changed, 0, binFull
	if have == 0 {
		most = l.CountPlain()
	} else {
		for _, name := range l.Delegates() {
			if bin, ok := tx.lists[name]; ok && bin.Changed {
				edited, most, least = true, max(most, len(bin.Targets)), min(least, len(bin.Targets))
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
	n := l.CountPlain()
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
func (tx *Tx) plainOf(l *rolelist.List) (map[string]wire.Value, error) {
	files := map[string]wire.Value{}
	err := tx.eachIn(l, func(x *rolelist.List) error {
		for target, v := range x.Targets {
			if x != l || rolelist.IsPlain(v) {
				files[target] = v
			}
		}
		return nil
	})
	return files, err
}

// split distributes the targets without release data of l and its current bins over
// 2^bits bins. With bits 0 it moves all of them to l.
func (tx *Tx) split(l *rolelist.List, files map[string]wire.Value, bits int) error {
	for _, name := range l.Delegates() {
		if tx.lists[name] != nil {
			if err := tx.ofParent(l, name); err != nil {
				return err
			}
		}
		delete(tx.lists, name)
		delete(tx.parents, name)
		delete(tx.passing, child{l.Role, name})
	}
	l.Changed = true
	if bits == 0 {
		l.Delegations = nil
		maps.Copy(l.Targets, files)
		return nil
	}
	keys, err := tx.keysOf(l)
	if err != nil {
		return err
	}
	s := &metadata.SuccinctRoles{KeyIDs: ids(keys.Keys), Threshold: max(keys.Threshold, 1), BitLength: bits, NamePrefix: rolelist.BinPrefix(l.Role)}
	l.Delegations = &metadata.Delegations{Keys: goKeys(keys.Keys), SuccinctRoles: s}
	for _, name := range l.Delegates() {
		if names(tx.layout(), name) {
			return fmt.Errorf("repo: the name of a hash bin of %s is already a role in root: %s", roleText(l.Role), roleText(name))
		}
		if tx.lists[name] != nil {
			return twoParents(l.Role, tx.parents[name], name)
		}
		bin := rolelist.New(name)
		bin.Changed = true
		tx.lists[name], tx.parents[name] = bin, l.Role
	}
	stays := map[string]wire.Value{}
	for _, from := range []map[string]wire.Value{l.Targets, files} {
		for target, v := range from {
			if rolelist.IsPlain(v) {
				tx.lists[layout.BinName(s.NamePrefix, s.BitLength, layout.Bin(target, s.BitLength))].Targets[target] = v
			} else {
				stays[target] = v
			}
		}
	}
	l.Targets = stays
	return nil
}

// keysOf returns the keys of a list: those of the charter, or of the delegating role.
func (tx *Tx) keysOf(l *rolelist.List) (Keys, error) {
	parent, ok := tx.parents[l.Role]
	if !ok {
		for _, x := range tx.layout().lists() {
			if x.role == l.Role {
				return x.keys, nil
			}
		}
		return Keys{}, fmt.Errorf("repo: root has no role %s", roleText(l.Role))
	}
	if by := tx.lists[parent]; by != nil && by.Delegations != nil {
		return keysFor(by, l.Role), nil
	}
	return Keys{}, fmt.Errorf("repo: %s does not delegate to %s", roleText(parent), roleText(l.Role))
}
