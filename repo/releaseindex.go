package repo

import (
	"io/fs"

	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// releaseIndex holds the releases that a role and its products list.
type releaseIndex struct {
	versions map[productVersion]map[string]listedRelease // by path
	highest  map[string]int64                            // highest assigned number, by product
}

// add records an entry that is now listed under a path. A nil index ignores it.
func (x *releaseIndex) add(target string, v wire.Value) {
	rel, ok := rolelist.ReleaseOf(v)
	if x == nil || !ok {
		return
	}
	x.highest[rel.Product] = max(x.highest[rel.Product], rel.Sequence)
	name, ok := nameOf(rel.Product, rel.Version)
	if !ok {
		return
	}
	e, err := rolelist.ParseEntry(v)
	if err != nil {
		return
	}
	if x.versions[name] == nil {
		x.versions[name] = map[string]listedRelease{}
	}
	x.versions[name][target] = listedRelease{rel, e.Hashes.SHA256, e.Length, v}
}

// addList records the releases of a list, see Tx.eachIn.
func (x *releaseIndex) addList(l *rolelist.List) error {
	highest, err := l.Sequences()
	if err != nil {
		return err
	}
	for product, n := range highest {
		x.highest[product] = max(x.highest[product], n)
	}
	for target, v := range l.Targets {
		x.add(target, v)
	}
	if l.BinBits() > 0 {
		return fs.SkipDir // bins contain no releases
	}
	return nil
}

// productVersion identifies a version of a product. version is in the form of
// Version.String, which is equal for versions that compare equal.
type productVersion struct{ product, version string }

// nameOf returns false for a version that does not parse, which earlier versions of
// this package listed.
func nameOf(product, version string) (productVersion, bool) {
	v, err := tuf.ParseVersion(version)
	return productVersion{product, v.String()}, err == nil
}

// sameVersion reports whether two versions compare equal. Versions that do not parse
// are compared as strings.
func sameVersion(a, b string) bool {
	x, err := tuf.ParseVersion(a)
	y, err2 := tuf.ParseVersion(b)
	if err != nil || err2 != nil {
		return a == b
	}
	return x.Compare(y) == 0
}

// lowerVersion reports whether a is below b. It is false if one does not parse, which
// earlier versions of this package listed.
func lowerVersion(a, b string) bool {
	x, err1 := tuf.ParseVersion(a)
	y, err2 := tuf.ParseVersion(b)
	return err1 == nil && err2 == nil && x.Compare(y) < 0
}

// listedRelease is a release as a role lists it.
type listedRelease struct {
	tuf.Release
	sha256 string // lower-case hex
	length int64
	entry  wire.Value
}
