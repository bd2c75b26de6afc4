package repo

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// Root is the editable form of the next root. The package derives the rest: key ids,
// thresholds of the root role, seq, epoch, version floors, dates.
type Root struct {
	RepoID    string         // 32 lower-case hex digits; "" for a new repository: random
	Parties   []Party        // one or more; their root keys sign every root
	Timestamp Keys           // a change of the Timestamp or Snapshot keys begins a new epoch
	Snapshot  Keys           // see Timestamp
	Targets   Keys           // of targets.json, which only standard TUF clients read
	Classes   []Class        // of targets
	Locations []tuf.Location // in any order; clients go by their Priority
	Retired   []tuf.Retired  // never shrinks (rule H8)
	Probe     tuf.Probe      // zero: two operators, every 6 hours, 30 days, warn
	Recovery  *RecoveryRule  // nil: none

	renew bool      // make a new root even if nothing changed
	fork  *tuf.Root // a root that the next root must also follow; nil: none
}

// Party is an organisation with its root keys.
type Party struct {
	Name string    // 1 to 64 of a-z, 0-9, ".", "_" and "-"
	Keys []tuf.Key // root keys
	Min  int       // minimum number of its keys that must sign a root; 0: 1
}

// Keys are the keys of a role with its threshold.
type Keys struct {
	Keys      []tuf.Key `json:"keys"`                // distinct
	Threshold int       `json:"threshold,omitempty"` // 0: 1
}

// Class is a set of targets, by path prefix, that the parties release together.
type Class struct {
	Name, Prefix string        // Prefix of target paths, such as agent/
	Roles        []ReleaseRole // one or more for each party
	Hold         *Hold         // nil: targets of this class can't be held
	// HashBins makes snapshots list the sha256 of the class's hash bins, about 90 bytes
	// for each bin. Their length is always listed.
	HashBins bool
}

// Hold is the role whose keys can stop new installations for a limited time.
type Hold struct {
	Role string // name of the metadata role
	Keys
	Max time.Duration // maximum duration of a hold, in whole seconds
}

// RecoveryRule names organisations that may jointly name the next root if the parties
// no longer can; see [tuf.RecoveryRule]. Recovery keys must not have another role.
type RecoveryRule struct {
	Orgs      []Org         // two or more
	Threshold int           // keys that must sign; 0: MinOrgs
	MinOrgs   int           // organisations they must belong to; 0: 2
	Hold      time.Duration // waiting period of clients, in whole seconds; at least a day; 0: 14 days
	MinTicks  int           // minimum number of root checks during the wait; 0: 14
	Counter   int64         // statements with a lower counter are invalid
}

// Org is an organisation that holds recovery keys.
type Org struct {
	Name string    // of the organisation
	Keys []tuf.Key // recovery keys
}

// ReleaseRole is one party's role in a class.
type ReleaseRole struct {
	Party, Role string // names of the party and of the metadata role
	Keys
}

// Retire retires a location: clients never contact its host again. The error reports an
// unknown id.
func (r *Root) Retire(id string) error {
	for i, l := range r.Locations {
		if l.ID == id {
			r.Locations = slices.Delete(r.Locations, i, i+1)
			r.Retired = append(r.Retired, tuf.Retired{ID: id, Hosts: []string{l.Host()}})
			return nil
		}
	}
	return fmt.Errorf("repo: no location %q to retire", id)
}

// rootOf returns the editable form of a root.
func rootOf(r tuf.RootView) *Root {
	c := r.Charter()
	keys := func(ids []string) (out []tuf.Key) {
		known := r.Keys(ids)
		for _, id := range ids {
			out = append(out, known[id])
		}
		return out
	}
	role := func(name string) Keys {
		ids, threshold := r.RoleKeys(name)
		return Keys{keys(ids), threshold}
	}
	out := &Root{RepoID: c.RepoID(), Timestamp: role("timestamp"), Snapshot: role("snapshot"), Targets: role("targets"),
		Locations: c.Locations(), Retired: c.Retired(), Probe: c.Probe()}
	for _, p := range c.Parties() {
		out.Parties = append(out.Parties, Party{p.Name, keys(p.KeyIDs), p.Min})
	}
	for _, cl := range c.Classes() {
		k := Class{Name: cl.Name, Prefix: cl.Prefix, HashBins: cl.HashBins}
		for _, rr := range cl.Roles {
			k.Roles = append(k.Roles, ReleaseRole{rr.Party, rr.Role, Keys{keys(rr.KeyIDs), rr.Threshold}})
		}
		if h := cl.Hold; h != nil {
			k.Hold = &Hold{h.Role, Keys{keys(h.KeyIDs), h.Threshold}, h.Max}
		}
		out.Classes = append(out.Classes, k)
	}
	if rule := c.Recovery(); rule != nil {
		out.Recovery = &RecoveryRule{nil, rule.Threshold, rule.MinOrgs, rule.Hold, rule.MinTicks, rule.Counter}
		for _, o := range rule.Orgs {
			out.Recovery.Orgs = append(out.Recovery.Orgs, Org{o.Name, keys(o.KeyIDs)})
		}
	}
	return out
}

// derive builds the root that follows prev (nil for the first). The second result
// reports whether it differs from prev in more than its date.
func (r *Root) derive(prev tuf.RootView, published tuf.Floors, now, expires time.Time) (*metadata.Metadata[metadata.RootType], bool, error) {
	md := metadata.Root(expires)
	md.Signed.ConsistentSnapshot = true
	if err := r.addKeys(md); err != nil {
		return nil, false, err
	}
	c := r.charter(now)
	changed := true
	if prev != nil {
		md.Signed.Version = prev.Version() + 1
		old := prev.Charter()
		c.Prev, c.Epoch, c.Floors, c.Seq = prev.SHA256(), old.Epoch(), floorsJSON(old.Floors()), old.Seq()
		was := rootOf(prev)
		if !layout.SameSet(was.Timestamp.Keys, r.Timestamp.Keys) || !layout.SameSet(was.Snapshot.Keys, r.Snapshot.Keys) {
			c.Epoch++
			c.Floors = floorsJSON(published)
		}
		again := was.charter(old.SignedAt())
		again.Prev, again.Epoch, again.Floors, again.Seq = old.PrevRoot(), old.Epoch(), floorsJSON(old.Floors()), old.Seq()
		if r.fork != nil {
			c.above(r.fork.Charter())
		}
		fresh, err := newCharter(prev, again, c)
		if err != nil {
			return nil, false, err
		}
		if fresh || r.fork != nil {
			c.Seq++
		}
		prevMD, err := metadata.Root().FromBytes(prev.Bytes())
		if err != nil {
			return nil, false, err
		}
		newRoles, err := differ([]any{prevMD.Signed.Roles, prevMD.Signed.Keys}, []any{md.Signed.Roles, md.Signed.Keys})
		if err != nil {
			return nil, false, err
		}
		changed = fresh || newRoles || r.fork != nil
	}
	md.Signed.UnrecognizedFields = map[string]any{layout.CharterMember: c}
	return md, changed, nil
}

// newCharter reports whether the next charter differs from prev's. again is prev's
// charter as this package writes it. If prev's charter has members that would be lost,
// which only a later version of the package writes, it returns an error.
func newCharter(prev tuf.RootView, again, next *charterJSON) (bool, error) {
	md, err := metadata.Root().FromBytes(prev.Bytes())
	if err != nil {
		return false, err
	}
	plain := func(v any) (m map[string]any, err error) {
		data, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		return m, err
	}
	a, err := plain(md.Signed.UnrecognizedFields[layout.CharterMember])
	if err != nil {
		return false, err
	}
	b, err := plain(again)
	if err != nil {
		return false, err
	}
	c, err := plain(next)
	if err != nil {
		return false, err
	}
	if lost := missingFrom(a, b, "charter"); lost != "" {
		return false, fmt.Errorf("repo: root v%d has a member %s that this version does not support: it can't be edited", prev.Version(), lost)
	}
	for _, renewed := range []string{"seq", "signed_at", "prev_root_sha256"} {
		delete(a, renewed)
		delete(c, renewed)
	}
	return !reflect.DeepEqual(a, c), nil
}

// missingFrom names a member of a that b lacks, or "".
func missingFrom(a, b any, at string) string {
	switch a := a.(type) {
	case map[string]any:
		b, _ := b.(map[string]any)
		for name, v := range a {
			if _, ok := b[name]; !ok {
				return at + "." + name
			}
			if lost := missingFrom(v, b[name], at+"."+name); lost != "" {
				return lost
			}
		}
	case []any:
		b, _ := b.([]any)
		for i := range min(len(a), len(b)) {
			if lost := missingFrom(a[i], b[i], at); lost != "" {
				return lost
			}
		}
	}
	return ""
}

func differ(a, b any) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return string(x) != string(y), err
}

// addKeys adds keys and roles to a root. The root role has the keys of all parties. By
// rule Q its threshold can only be met with each party's minimum.
func (r *Root) addKeys(md *metadata.Metadata[metadata.RootType]) error {
	// Checked before any signature is requested.
	enough := func(role string, keys []tuf.Key, min int) error {
		if len(keys) < max(min, 1) {
			return fmt.Errorf("repo: %s has %d keys, %d must sign: %w", role, len(keys), max(min, 1), tuf.ErrCharter)
		}
		return nil
	}
	add := func(role string, k Keys) error {
		if err := enough("role "+role, k.Keys, k.Threshold); err != nil {
			return err
		}
		md.Signed.Roles[role] = &metadata.Role{KeyIDs: []string{}, Threshold: max(k.Threshold, 1)}
		for _, key := range k.Keys {
			if err := md.Signed.AddKey(gotuf.Key(key), role); err != nil {
				return err
			}
		}
		return nil
	}
	var root Keys
	for _, p := range r.Parties {
		if err := enough("party "+p.Name, p.Keys, p.Min); err != nil {
			return err
		}
		root.Keys = append(root.Keys, p.Keys...)
	}
	for _, p := range r.Parties {
		root.Threshold = max(root.Threshold, len(root.Keys)-len(p.Keys)+max(p.Min, 1))
	}
	for _, x := range []struct {
		name string
		keys Keys
	}{{"root", root}, {"timestamp", r.Timestamp}, {"snapshot", r.Snapshot}, {"targets", r.Targets}} {
		if err := add(x.name, x.keys); err != nil {
			return err
		}
	}
	// Root keys are kept offline. A key that also signs a daily role can't be.
	apart := func(role string, k Keys) error {
		if i := slices.IndexFunc(k.Keys, func(key tuf.Key) bool { return slices.Contains(root.Keys, key) }); i >= 0 {
			return fmt.Errorf("repo: role %s: %w: %.16s is a root key", role, ErrKeyReuse, k.Keys[i].ID())
		}
		return nil
	}
	for role, k := range map[string]Keys{"timestamp": r.Timestamp, "snapshot": r.Snapshot, "targets": r.Targets} {
		if err := apart(role, k); err != nil {
			return err
		}
	}
	for _, c := range r.Classes {
		for _, role := range c.Roles {
			if err := apart(role.Role, role.Keys); err != nil {
				return err
			}
			if err := enough("role "+role.Role, role.Keys.Keys, role.Threshold); err != nil {
				return err
			}
			for _, key := range role.Keys.Keys {
				md.Signed.Keys[key.ID()] = gotuf.Key(key)
			}
		}
		if h := c.Hold; h != nil {
			if err := apart(h.Role, h.Keys); err != nil {
				return err
			}
			if err := enough("role "+h.Role, h.Keys.Keys, h.Threshold); err != nil {
				return err
			}
			for _, key := range h.Keys.Keys {
				md.Signed.Keys[key.ID()] = gotuf.Key(key)
			}
		}
	}
	if r.Recovery != nil {
		for _, o := range r.Recovery.Orgs {
			for _, key := range o.Keys {
				md.Signed.Keys[key.ID()] = gotuf.Key(key)
			}
		}
	}
	return nil
}
