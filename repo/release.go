package repo

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

var (
	// ErrReleased: other bytes are listed already for the same product, version,
	// channel and platform. Remove those first, or give the release another version.
	ErrReleased = errors.New("released already with other bytes")
	// ErrSequence: a sequence number that is not the one to be given next, or a role
	// that states a lower highest number than before.
	ErrSequence = errors.New("sequence number out of order")
)

// The sequence number of a release counts the versions of a product, for auditors.
// The highest one that was ever given stands in the list that has the release: the
// party's role, or the product below it whose team signs alone. What counts is the
// maximum over all lists of all roles of the party, whatever their class, so that a
// product in two classes has one counter, and a fresh handle elsewhere goes on from
// what is published. Lists of earlier versions of this package have no such member;
// there the highest number that is listed counts. What other parties list does not
// count: they could exhaust the numbers.

// index returns the releases that the tree of a role lists within tx.
func (tx *Tx) index(role string) (*releaseIndex, error) {
	if x := tx.indexes[role]; x != nil {
		return x, nil
	}
	x := &releaseIndex{map[productVersion]map[string]listedRelease{}, map[string]int64{}}
	l, err := tx.read(role)
	if err != nil {
		return nil, err
	}
	if l != nil {
		if err := tx.eachIn(l, x.addList); err != nil {
			return nil, err
		}
	}
	tx.indexes[role] = x
	return x, nil
}

// givesNumbers reports whether a party gives its releases sequence numbers: a
// reviewer lists those that others gave.
func (r *Repo) givesNumbers(party string) bool { return party != "" && party != r.cfg.Review }

// dropped notes that a list of a role's tree no longer has an entry. Its number
// stays given: lists of earlier versions of this package do not say so yet.
func (tx *Tx) dropped(role string, l *listing, target string, v wire.Value) error {
	rel, ok := releaseOf(v)
	if !ok {
		return nil
	}
	if x := tx.indexes[role]; x != nil {
		if name, ok := nameOf(rel.Product, rel.Version); ok {
			delete(x.versions[name], target)
		}
	}
	for _, r := range tx.layout().lists() {
		if r.role == role && tx.repo.givesNumbers(r.party) {
			return l.raise(rel.Product, rel.Sequence)
		}
	}
	return nil
}

// indexesOf returns what all roles of a party list of releases, by role, in the
// charter's order.
func (tx *Tx) indexesOf(party string) (out []*releaseIndex, err error) {
	for _, c := range tx.layout().Classes {
		for _, role := range c.Roles {
			if role.Party != party {
				continue
			}
			x, err := tx.index(role.Role)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}

// number gives a release its sequence number, and judges all of its fields.
func (tx *Tx) number(party string, rel *tuf.Release) error {
	given := rel.Sequence
	rel.Sequence = 1 // whatever it will be, it will be a good one
	if err := rel.Check(); err != nil {
		return err
	}
	name, ok := nameOf(rel.Product, rel.Version)
	if !ok {
		return fmt.Errorf("version %s: %w", text.Quote(rel.Version), tuf.ErrMalformed)
	}
	indexes, err := tx.indexesOf(party)
	if err != nil {
		return err
	}
	highest, same := int64(0), int64(0)
	for _, x := range indexes {
		highest = max(highest, x.highest[rel.Product])
		for _, have := range x.versions[name] {
			same = max(same, have.Sequence)
		}
	}
	if rel.Sequence = same; same < 1 {
		rel.Sequence = highest + 1
	}
	switch {
	case rel.Sequence > maxSequence:
		return fmt.Errorf("%w: product %s has number %d, the last there is", ErrSequence, text.Name(rel.Product), highest)
	case given != 0 && given != rel.Sequence:
		return fmt.Errorf("%w: version %s of product %s gets number %d, not %d; leave the number 0", ErrSequence, text.Name(rel.Version), text.Name(rel.Product), rel.Sequence, given)
	}
	return nil
}

// sameBytes refuses a release that the party lists with other bytes: for machines
// that have those the version is installed, so they would never get these.
func (tx *Tx) sameBytes(party, target string, rel *tuf.Release, sha256 string) error {
	indexes, err := tx.indexesOf(party)
	if err != nil {
		return err
	}
	name, _ := nameOf(rel.Product, rel.Version)
	for _, x := range indexes {
		for _, path := range slices.Sorted(maps.Keys(x.versions[name])) {
			if have := x.versions[name][path]; have.Channel == rel.Channel && have.Platform == rel.Platform && have.sha256 != sha256 {
				return fmt.Errorf("repo: %s: %w: %s with sha256 %s is version %s of product %s for channel %s and platform %s; remove it first, or release another version",
					text.Name(target), ErrReleased, text.Name(path), have.sha256, text.Name(have.Version), text.Name(have.Product), text.Name(have.Channel), text.Name(have.Platform))
			}
		}
	}
	return nil
}

// list lists an entry in roles of one party, with the highest number given.
func (tx *Tx) list(roles []string, target string, v wire.Value) error {
	rel, isRelease := releaseOf(v)
	for _, role := range roles {
		if have, err := tx.find(role, target); err != nil {
			return err
		} else if string(have) == string(v) {
			continue // nothing changes
		}
		if err := tx.put(role, target, v); err != nil {
			return err
		}
		if !isRelease {
			continue
		}
		l, err := tx.holder(role, target, true)
		if err != nil {
			return err
		}
		if err := l.raise(rel.Product, rel.Sequence); err != nil {
			return err
		}
	}
	return nil
}
