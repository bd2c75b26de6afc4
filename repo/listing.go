package repo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// listing is a targets role during editing. Entries are canonical, shared between lists
// and never changed in place: a party approves a target by listing the same bytes.
type listing struct {
	role        string
	doc         wire.Value   // the signed part from which it was read; nil for a new role
	from        *tuf.Targets // the published and verified role if it delegates; otherwise nil
	targets     map[string]wire.Value
	delegations *metadata.Delegations // nil: none
	members     map[string]wire.Value // other members of the signed part, such as recalls
	changed     bool
	renewed     bool // all roles below it are signed again too
}

func newListing(role string) *listing {
	return &listing{role: role, targets: map[string]wire.Value{}, members: map[string]wire.Value{}}
}

// openListing reads a listing from a verified role.
func openListing(t *tuf.Targets) (*listing, error) {
	l, err := parseListing(t.Role(), t.Bytes())
	if err == nil && l.delegations != nil {
		l.from = t // kept for delegators only, since there may be thousands of roles
	}
	return l, err
}

// parseListing reads a file without verifying it.
func parseListing(role string, data []byte) (*listing, error) {
	l := newListing(role)
	fail := func(err error) (*listing, error) { return nil, fmt.Errorf("repo: %s: %w", roleText(l.role), err) }
	v, err := wire.Canonical(data)
	if err != nil {
		return fail(err)
	}
	var signed wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return fail(err)
	}
	if err := l.take(signed); err != nil {
		return fail(err)
	}
	return l, nil
}

// take reads a signed part.
func (l *listing) take(signed wire.Value) error {
	l.doc = signed
	for name, v := range signed.Members() {
		switch string(name) {
		case "_type", "version", "expires", "spec_version":
		case "targets":
			for path, entry := range v.Members() {
				l.targets[path.String()] = entry
			}
		case "delegations":
			l.delegations = &metadata.Delegations{}
			if err := json.Unmarshal(v.JSON(), l.delegations); err != nil {
				return err
			}
			if s := l.delegations.SuccinctRoles; s != nil && (s.BitLength < 1 || s.BitLength > maxBits) {
				return fmt.Errorf("hash bins of %d bits, at most %d are supported: %w", s.BitLength, maxBits, tuf.ErrTooLarge)
			}
		default:
			l.members[name.String()] = v
		}
	}
	return nil
}

// bind writes repository id and role name into the signed part. Without them the file
// would verify in every repository with the same keys, and in place of any other role
// with the same key.
func (l *listing) bind(repoID string) {
	l.members[layout.RepoMember], l.members[layout.RoleMember] = metafile.Text(repoID), metafile.Text(l.role)
}

// signed builds the canonical signed part.
func (l *listing) signed(version int64, expires time.Time) (wire.Value, error) {
	members := maps.Clone(l.members)
	members["_type"] = metafile.Text("targets")
	members["spec_version"] = metafile.Text(metadata.SPECIFICATION_VERSION)
	members["expires"] = metafile.Text(text.Time(expires))
	members["version"] = strconv.AppendInt(nil, version, 10)
	if l.delegations != nil {
		v, err := metafile.Canonical(l.delegations)
		if err != nil {
			return nil, err
		}
		members["delegations"] = v
	}
	members["targets"] = nil // written directly, since it may be large
	size := 2
	for path, entry := range l.targets {
		size += len(path) + len(entry) + 4
	}
	for name, v := range members {
		size += len(name) + len(v) + 4
	}
	out := append(make([]byte, 0, size), '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(wire.AppendString(out, name), ':')
		if name != "targets" {
			out = append(out, members[name]...)
			continue
		}
		out = append(out, '{')
		for i, path := range slices.Sorted(maps.Keys(l.targets)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, path), ':')
			out = append(out, l.targets[path]...)
		}
		out = append(out, '}')
	}
	// The JSON was assembled by hand, so it is checked.
	if out = append(out, '}'); bytes.ContainsFunc(out, unicode.IsControl) {
		out = wire.Value(out).JSON()
	}
	return wire.Canonical(out)
}

func (l *listing) bits() int {
	if l.delegations == nil || l.delegations.SuccinctRoles == nil {
		return 0
	}
	return l.delegations.SuccinctRoles.BitLength
}

// plain counts the targets without release data.
func (l *listing) plain() (n int) {
	for _, v := range l.targets {
		if isPlain(v) {
			n++
		}
	}
	return n
}

// keysFor returns the keys of a role to which l delegates.
func (l *listing) keysFor(name string) Keys {
	d := l.delegations
	if s := d.SuccinctRoles; s != nil {
		return keysFrom(d.Keys, s.KeyIDs, s.Threshold)
	}
	if i := l.product(name); i >= 0 {
		return keysFrom(d.Keys, d.Roles[i].KeyIDs, d.Roles[i].Threshold)
	}
	return Keys{}
}

// product returns the index of a delegation by role name, or -1.
func (l *listing) product(name string) int {
	if l.delegations == nil {
		return -1
	}
	return slices.IndexFunc(l.delegations.Roles, func(r metadata.DelegatedRole) bool { return r.Name == name })
}

// setKeys adds keys to the delegations and removes keys that no delegation uses.
func (l *listing) setKeys(keys map[string]*metadata.Key) {
	d := l.delegations
	all := d.Keys
	d.Keys = map[string]*metadata.Key{}
	use := func(keyIDs []string) {
		for _, id := range keyIDs {
			if k := keys[id]; k != nil {
				d.Keys[id] = k
			} else if k := all[id]; k != nil {
				d.Keys[id] = k
			}
		}
	}
	for _, r := range d.Roles {
		use(r.KeyIDs)
	}
	if d.SuccinctRoles != nil {
		use(d.SuccinctRoles.KeyIDs)
	}
}

// next names the delegated role to which a target belongs, or "": a product or a hash
// bin. Releases are not put into bins, since clients could not find the latest one
// there.
func (l *listing) next(target string, release bool) string {
	d := l.delegations
	if d == nil {
		return ""
	}
	if s := d.SuccinctRoles; s != nil {
		if release {
			return ""
		}
		return layout.BinName(s.NamePrefix, s.BitLength, layout.Bin(target, s.BitLength))
	}
	for _, r := range d.Roles {
		if slices.ContainsFunc(r.Paths, func(p string) bool { return layout.Match(p, target, nil) }) {
			if release && r.Name == restRole(l.role) {
				return ""
			}
			return r.Name
		}
	}
	return ""
}

// delegates names the roles to which l delegates, in order.
func (l *listing) delegates() (names []string) {
	if l.delegations == nil {
		return nil
	}
	if s := l.delegations.SuccinctRoles; s != nil {
		for bin := range uint32(1) << s.BitLength {
			names = append(names, layout.BinName(s.NamePrefix, s.BitLength, bin))
		}
		return names
	}
	for _, r := range l.delegations.Roles {
		names = append(names, r.Name)
	}
	return names
}

// sequences returns the highest assigned sequence numbers that the list states, by
// product.
func (l *listing) sequences() (map[string]int64, error) {
	out, err := sequencesIn(l.members[layout.SequenceMember])
	if err != nil {
		return nil, fmt.Errorf("repo: %s: %w", roleText(l.role), err)
	}
	return out, nil
}

// raise records that sequence number n of a product has been assigned.
func (l *listing) raise(product string, n int64) error {
	highest, err := l.sequences()
	if err != nil || n <= highest[product] {
		return err
	}
	highest[product] = n
	l.members[layout.SequenceMember], err = metafile.Canonical(highest)
	return err
}

// raiseAll merges the assigned sequence numbers that another list states.
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

func sequencesIn(v wire.Value) (map[string]int64, error) {
	out := map[string]int64{}
	if v != nil && v.Kind() != '{' {
		return nil, fmt.Errorf("%s is not an object: %w", layout.SequenceMember, tuf.ErrMalformed)
	}
	for product, n := range v.Members() {
		i, err := n.Int()
		if err != nil || i < 1 || i > maxSequence {
			return nil, fmt.Errorf("%s of product %s is %s: %w", layout.SequenceMember, text.Name(product.String()), text.Bytes(n), tuf.ErrMalformed)
		}
		out[product.String()] = i
	}
	return out, nil
}
