package repo

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

var (
	// ErrReleased: other bytes are already listed for the same product, version,
	// channel and platform. Remove those first, or change the version of the release.
	ErrReleased = errors.New("released already with other bytes")
)

// The sequence number of a release counts the versions of a product, for auditors. The
// list with the release states the highest number assigned so far: the party's role, or
// the product below it. The effective value is the maximum over all lists of all roles
// of the party, in every class. A product in two classes therefore has one counter, and
// a handle without local state continues from the published numbers. For lists by
// earlier versions of this package, which lack the member, it is the highest listed
// number. Numbers of other parties do not count, since those parties could exhaust the
// range.

// index returns the releases in the tree of a role within tx.
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

// givesNumbers reports whether a party assigns sequence numbers to its releases; a
// reviewer lists releases with the numbers of others.
func (r *Repo) givesNumbers(party string) bool { return party != "" && party != r.cfg.Review }

// dropped records that a list in a role's tree no longer has an entry. Its number stays
// assigned, which lists by earlier versions of this package do not state yet.
func (tx *Tx) dropped(role string, l *rolelist.List, target string, v wire.Value) error {
	rel, ok := rolelist.ReleaseOf(v)
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
			return l.Raise(rel.Product, rel.Sequence)
		}
	}
	return nil
}

// indexesOf returns the releases in each role of a party, in the charter's order.
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

// number assigns a release its sequence number and checks all of its fields.
func (tx *Tx) number(party string, rel *tuf.Release) error {
	given := rel.Sequence
	rel.Sequence = 1 // a placeholder; the assigned number is always valid
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
	case rel.Sequence > rolelist.MaxSequence:
		return fmt.Errorf("%w: product %s has reached the highest number %d", signing.ErrSequence, text.Name(rel.Product), highest)
	case given != 0 && given != rel.Sequence:
		return fmt.Errorf("%w: version %s of product %s gets number %d, not %d; leave the number 0", signing.ErrSequence, text.Name(rel.Version), text.Name(rel.Product), rel.Sequence, given)
	}
	return nil
}

// sameBytes refuses a release if the party lists it with other bytes: machines that
// installed those have the version already, so they would never install these.
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

// list lists an entry in roles of one party and records the highest assigned number.
func (tx *Tx) list(roles []string, target string, v wire.Value) error {
	rel, isRelease := rolelist.ReleaseOf(v)
	for _, role := range roles {
		if have, err := tx.find(role, target); err != nil {
			return err
		} else if string(have) == string(v) {
			continue // unchanged
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
		if err := l.Raise(rel.Product, rel.Sequence); err != nil {
			return err
		}
	}
	return nil
}
