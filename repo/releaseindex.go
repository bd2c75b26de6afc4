package repo

import (
	"io/fs"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// releaseIndex is what a role lists of releases, itself and in its products.
type releaseIndex struct {
	versions map[productVersion]map[string]listedRelease // by path
	highest  map[string]int64                            // number ever given, by product
}

// add notes what is listed under a path from now on. The nil index notes nothing.
func (x *releaseIndex) add(target string, v wire.Value) {
	rel, ok := releaseOf(v)
	if x == nil || !ok {
		return
	}
	x.highest[rel.Product] = max(x.highest[rel.Product], rel.Sequence)
	name, ok := nameOf(rel.Product, rel.Version)
	if !ok {
		return
	}
	e, err := parseEntry(v)
	if err != nil {
		return
	}
	if x.versions[name] == nil {
		x.versions[name] = map[string]listedRelease{}
	}
	x.versions[name][target] = listedRelease{rel, strings.ToLower(e.sha256), e.length, v}
}

// addList notes what a list says, see Tx.eachIn.
func (x *releaseIndex) addList(l *listing) error {
	highest, err := l.sequences()
	if err != nil {
		return err
	}
	for product, n := range highest {
		x.highest[product] = max(x.highest[product], n)
	}
	for target, v := range l.targets {
		x.add(target, v)
	}
	if l.bits() > 0 {
		return fs.SkipDir // bins hold no releases
	}
	return nil
}

// productVersion names a version of a product; the version as Version.String has
// it, which is the same for versions that compare equal.
type productVersion struct{ product, version string }

// nameOf is false for a version that does not parse, which earlier versions of this
// package listed.
func nameOf(product, version string) (productVersion, bool) {
	v, err := tuf.ParseVersion(version)
	return productVersion{product, v.String()}, err == nil
}

// sameVersion reports whether two versions are one. What is no version is the same
// as itself.
func sameVersion(a, b string) bool {
	x, err := tuf.ParseVersion(a)
	y, err2 := tuf.ParseVersion(b)
	if err != nil || err2 != nil {
		return a == b
	}
	return x.Compare(y) == 0
}

// lowerVersion reports whether the first version is below the second. One that does not
// parse, which earlier versions of this package listed, is neither.
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
