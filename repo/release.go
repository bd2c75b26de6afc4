package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
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

// maxSequence is the highest number that every reader of JSON takes exactly.
const maxSequence = 1<<53 - 1

// productVersion names a version of a product; the version as Version.String has
// it, which is the same for versions that compare equal.
type productVersion struct{ product, version string }

// listedRelease is a release as a role lists it.
type listedRelease struct {
	tuf.Release
	sha256 string // lower-case hex
	length int64
	entry  wire.Value
}

// releaseIndex is what a role lists of releases, itself and in its products.
type releaseIndex struct {
	versions map[productVersion]map[string]listedRelease // by path
	highest  map[string]int64                            // number ever given, by product
}

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

// sequences are the highest numbers that the list says were given, by product.
func (l *listing) sequences() (map[string]int64, error) {
	out, err := sequencesIn(l.members[tuf.SequenceMember])
	if err != nil {
		return nil, fmt.Errorf("repo: %s: %w", roleText(l.role), err)
	}
	return out, nil
}

func sequencesIn(v wire.Value) (map[string]int64, error) {
	out := map[string]int64{}
	if v != nil && v.Kind() != '{' {
		return nil, fmt.Errorf("%s is no object: %w", tuf.SequenceMember, tuf.ErrMalformed)
	}
	for product, n := range v.Members() {
		i, err := n.Int()
		if err != nil || i < 1 || i > maxSequence {
			return nil, fmt.Errorf("%s of product %s is %s: %w", tuf.SequenceMember, text.Name(product.String()), text.Bytes(n), tuf.ErrMalformed)
		}
		out[product.String()] = i
	}
	return out, nil
}

// raise says that number n of a product was given.
func (l *listing) raise(product string, n int64) error {
	highest, err := l.sequences()
	if err != nil || n <= highest[product] {
		return err
	}
	highest[product] = n
	l.members[tuf.SequenceMember], err = canonical(highest)
	return err
}

// raiseAll takes over what another list says was given.
func (l *listing) raiseAll(from *listing) error {
	highest, err := from.sequences()
	if err != nil {
		return err
	}
	for product, n := range highest {
		if err := l.raise(product, n); err != nil {
			return err
		}
	}
	return nil
}

// sequences demands that no highest number goes back: what was given once would be
// given again.
func (s *signing) sequences(x *item) error {
	if x.role.party == "" || x.bin {
		return nil
	}
	was, err := sequencesIn(member(x.was, tuf.SequenceMember))
	var now map[string]int64
	if err == nil {
		now, err = sequencesIn(member(x.file.signed, tuf.SequenceMember))
	}
	if err != nil {
		return fmt.Errorf("repo: %s v%d: %w", text.Name(x.file.role), x.file.version, err)
	}
	for _, product := range slices.Sorted(maps.Keys(was)) {
		if now[product] < was[product] {
			return fmt.Errorf("repo: %s v%d: %w: the highest number given for product %s is %d, the draft says %d",
				text.Name(x.file.role), x.file.version, ErrSequence, text.Name(product), was[product], now[product])
		}
	}
	return nil
}

// numbers refuses a version whose number another list of the party has given since
// the draft was staged. What a draft leaves out because compromised keys signed it
// counts for nothing.
func (n *publication) numbers(ctx context.Context) error {
	if n.present.under == nil || len(n.compromised) > 0 {
		return nil
	}
	tx := n.repo.newTx(ctx, n.present)
	for _, role := range tx.layout().lists() {
		if !n.repo.givesNumbers(role.party) {
			continue
		}
		for _, f := range n.fresh {
			if f.role != role.role && (len(f.under) == 0 || f.under[0] != role.role) || f.isBin() {
				continue
			}
			if err := tx.checkNumbers(role.party, f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (tx *Tx) checkNumbers(party string, f *draftFile) error {
	indexes, err := tx.indexesOf(party)
	if err != nil {
		return err
	}
	listed := func(name productVersion, number int64) bool {
		for _, x := range indexes {
			for _, have := range x.versions[name] {
				if have.Sequence == number {
					return true
				}
			}
		}
		return false
	}
	for path, v := range member(f.signed, "targets").Members() {
		rel, ok := releaseOf(v)
		name, parsed := nameOf(rel.Product, rel.Version)
		if !ok || !parsed || rel.Sequence < 1 || listed(name, rel.Sequence) {
			continue
		}
		for _, x := range indexes {
			if x.highest[rel.Product] >= rel.Sequence {
				return fmt.Errorf("repo: %s: %w: %w: number %d of product %s was given to another version since; stage the release again",
					text.Name(path.String()), ErrStale, ErrSequence, rel.Sequence, text.Name(rel.Product))
			}
		}
	}
	return nil
}

// releases refuses a file that lists release fields anew which clients refuse.
func (s *signing) releases(x *item) error {
	if x.role.party == "" || x.bin {
		return nil
	}
	was := map[string]string{}
	for path, v := range member(x.was, "targets").Members() {
		if !isPlain(v) {
			was[path.String()] = string(v)
		}
	}
	for path, v := range member(x.file.signed, "targets").Members() {
		if isPlain(v) || was[path.String()] == string(v) {
			continue
		}
		if err := judged(path.String(), v); err != nil {
			return err
		}
	}
	return nil
}

// mostFolders is how many folders below a class's prefix the patterns of
// targets.json lead to, by which stock clients find a target.
const mostFolders = 7

// nearEnough refuses a path, or a pattern of paths, that stock TUF clients do not find.
func nearEnough(class Class, path string) error {
	if n := strings.Count(strings.TrimPrefix(path, class.Prefix), "/"); n > mostFolders {
		return fmt.Errorf("%s: %w: %d folders below %s, at most %d; stock TUF clients do not find it", text.Name(path), fs.ErrInvalid, n, text.Name(class.Prefix), mostFolders)
	}
	return nil
}

// fetchable refuses a name that only some clients can fetch, or whose statements
// would have no name.
func fetchable(class Class, target string) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s: %w: %s", text.Name(target), fs.ErrInvalid, fmt.Sprintf(format, args...))
	}
	if i := strings.IndexAny(target, `%#?\`); i >= 0 {
		return no("the character %q; clients that do not escape it ask for another file", target[i])
	}
	if err := nearEnough(class, target); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	for _, role := range class.Roles {
		name := statementName(proof.Subject{Path: target, SHA256: strings.Repeat("0", 64)}, role.Role, maxStatements)
		if why := badName(name); why != "" {
			return no("it leaves no room for the name of a statement of %s beside it: %s", roleText(role.Role), why)
		}
	}
	return nil
}
