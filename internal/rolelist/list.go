// Package rolelist edits targets roles: their entries, delegations, hash bins and
// sequence numbers. It does not verify them.
package rolelist

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

// List is a targets role during editing. Entries are canonical, shared between lists
// and never changed in place: a party approves a target by listing the same bytes.
type List struct {
	Role        string
	Signed      wire.Value            // the signed part from which it was read; nil for a new role
	From        *tuf.Targets          // the published and verified role if it delegates; otherwise nil
	Targets     map[string]wire.Value // entries by path
	Delegations *metadata.Delegations // nil: none
	Members     map[string]wire.Value // other members of the signed part, such as recalls
	Changed     bool                  // it must be signed again
	Renewed     bool                  // all roles below it are signed again too
}

// New returns the list of a new role.
func New(role string) *List {
	return &List{Role: role, Targets: map[string]wire.Value{}, Members: map[string]wire.Value{}}
}

// Open reads a listing from a verified role.
func Open(t *tuf.Targets) (*List, error) {
	l, err := Parse(t.Role(), t.Bytes())
	if err == nil && l.Delegations != nil {
		l.From = t // kept for delegators only, since there may be thousands of roles
	}
	return l, err
}

// Parse reads a file without verifying it.
func Parse(role string, data []byte) (*List, error) {
	l := New(role)
	fail := func(err error) (*List, error) { return nil, fmt.Errorf("repo: %s: %w", text.Name(l.Role), err) }
	v, err := wire.Canonical(data)
	if err != nil {
		return fail(err)
	}
	var signed wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return fail(err)
	}
	if err := l.Take(signed); err != nil {
		return fail(err)
	}
	return l, nil
}

// Take reads a signed part.
func (l *List) Take(signed wire.Value) error {
	l.Signed = signed
	for name, v := range signed.Members() {
		switch string(name) {
		case "_type", "version", "expires", "spec_version":
		case "targets":
			for path, entry := range v.Members() {
				l.Targets[path.String()] = entry
			}
		case "delegations":
			l.Delegations = &metadata.Delegations{}
			if err := json.Unmarshal(v.JSON(), l.Delegations); err != nil {
				return err
			}
			if s := l.Delegations.SuccinctRoles; s != nil && (s.BitLength < 1 || s.BitLength > MaxBits) {
				return fmt.Errorf("hash bins of %d bits, at most %d are supported: %w", s.BitLength, MaxBits, tuf.ErrTooLarge)
			}
		default:
			l.Members[name.String()] = v
		}
	}
	return nil
}

// Bind writes repository id and role name into the signed part. Without them the file
// would verify in every repository with the same keys, and in place of any other role
// with the same key.
func (l *List) Bind(repoID string) {
	l.Members[layout.RepoMember], l.Members[layout.RoleMember] = metafile.Text(repoID), metafile.Text(l.Role)
}

// Encode builds the canonical signed part.
func (l *List) Encode(version int64, expires time.Time) (wire.Value, error) {
	members := maps.Clone(l.Members)
	members["_type"] = metafile.Text("targets")
	members["spec_version"] = metafile.Text(metadata.SPECIFICATION_VERSION)
	members["expires"] = metafile.Text(text.Time(expires))
	members["version"] = strconv.AppendInt(nil, version, 10)
	if l.Delegations != nil {
		v, err := metafile.Canonical(l.Delegations)
		if err != nil {
			return nil, err
		}
		members["delegations"] = v
	}
	members["targets"] = nil // written directly, since it may be large
	size := 2
	for path, entry := range l.Targets {
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
		for i, path := range slices.Sorted(maps.Keys(l.Targets)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, path), ':')
			out = append(out, l.Targets[path]...)
		}
		out = append(out, '}')
	}
	// The JSON was assembled by hand, so it is checked.
	if out = append(out, '}'); bytes.ContainsFunc(out, unicode.IsControl) {
		out = wire.Value(out).JSON()
	}
	return wire.Canonical(out)
}

// BinBits returns the number of bits of the hash bins, 0 for none.
func (l *List) BinBits() int {
	if l.Delegations == nil || l.Delegations.SuccinctRoles == nil {
		return 0
	}
	return l.Delegations.SuccinctRoles.BitLength
}

// CountPlain counts the targets without release data.
func (l *List) CountPlain() (n int) {
	for _, v := range l.Targets {
		if IsPlain(v) {
			n++
		}
	}
	return n
}

// KeysFor returns the keys and the threshold of a role to which l delegates.
func (l *List) KeysFor(name string) ([]tuf.Key, int) {
	d := l.Delegations
	if s := d.SuccinctRoles; s != nil {
		return KeysIn(d.Keys, s.KeyIDs), s.Threshold
	}
	if i := l.IndexOf(name); i >= 0 {
		return KeysIn(d.Keys, d.Roles[i].KeyIDs), d.Roles[i].Threshold
	}
	return nil, 0
}

// KeysIn returns the keys with the given ids, in the form of package tuf.
func KeysIn(keys map[string]*metadata.Key, ids []string) (out []tuf.Key) {
	for _, id := range ids {
		if k := keys[id]; k != nil {
			out = append(out, tuf.Key{Type: k.Type, Scheme: k.Scheme, Public: k.Value.PublicKey})
		}
	}
	return out
}

// IndexOf returns the index of a delegation by role name, or -1.
func (l *List) IndexOf(name string) int {
	if l.Delegations == nil {
		return -1
	}
	return slices.IndexFunc(l.Delegations.Roles, func(r metadata.DelegatedRole) bool { return r.Name == name })
}

// SetKeys adds keys to the delegations and removes keys that no delegation uses.
func (l *List) SetKeys(keys map[string]*metadata.Key) {
	d := l.Delegations
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

// RoleFor names the delegated role to which a target belongs, or "": a product or a hash
// bin. Releases are not put into bins, since clients could not find the latest one
// there.
func (l *List) RoleFor(target string, release bool) string {
	d := l.Delegations
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
			if release && r.Name == RestRole(l.Role) {
				return ""
			}
			return r.Name
		}
	}
	return ""
}

// Delegates names the roles to which l delegates, in order.
func (l *List) Delegates() (names []string) {
	if l.Delegations == nil {
		return nil
	}
	if s := l.Delegations.SuccinctRoles; s != nil {
		for bin := range uint32(1) << s.BitLength {
			names = append(names, layout.BinName(s.NamePrefix, s.BitLength, bin))
		}
		return names
	}
	for _, r := range l.Delegations.Roles {
		names = append(names, r.Name)
	}
	return names
}

// Sequences returns the highest assigned sequence numbers that the list states, by
// product.
func (l *List) Sequences() (map[string]int64, error) {
	out, err := SequencesIn(l.Members[layout.SequenceMember])
	if err != nil {
		return nil, fmt.Errorf("repo: %s: %w", text.Name(l.Role), err)
	}
	return out, nil
}

// Raise records that sequence number n of a product has been assigned.
func (l *List) Raise(product string, n int64) error {
	highest, err := l.Sequences()
	if err != nil || n <= highest[product] {
		return err
	}
	highest[product] = n
	l.Members[layout.SequenceMember], err = metafile.Canonical(highest)
	return err
}

// RaiseAll merges the assigned sequence numbers that another list states.
func (l *List) RaiseAll(from *List) error {
	highest, err := from.Sequences()
	if err != nil {
		return err
	}
	for product, n := range highest {
		if err := l.Raise(product, n); err != nil {
			return err
		}
	}
	return nil
}

// SequencesIn reads the highest assigned sequence numbers, by product.
func SequencesIn(v wire.Value) (map[string]int64, error) {
	out := map[string]int64{}
	if v != nil && v.Kind() != '{' {
		return nil, fmt.Errorf("%s is not an object: %w", layout.SequenceMember, tuf.ErrMalformed)
	}
	for product, n := range v.Members() {
		i, err := n.Int()
		if err != nil || i < 1 || i > MaxSequence {
			return nil, fmt.Errorf("%s of product %s is %s: %w", layout.SequenceMember, text.Name(product.String()), text.Bytes(n), tuf.ErrMalformed)
		}
		out[product.String()] = i
	}
	return out, nil
}
