package metafile

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// DelegatedKeys returns the keys that t names for the roles it delegates to.
func DelegatedKeys(t *tuf.Targets) ([]KeySet, error) {
	v, err := wire.Canonical(t.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text.Name(t.Role()), err)
	}
	return KeysIn(t.Role(), Member(v, "signed"))
}

// KeySet holds the keys and the threshold of a role.
type KeySet struct {
	Role      string
	Bins      int // number of hex digits after the prefix role in the names of hash bins; 0: role is no such prefix
	Keys      map[string]tuf.Key
	Threshold int
}

// KeysIn returns the keys that a role's signed part names for the roles it delegates
// to.
func KeysIn(role string, signed wire.Value) ([]KeySet, error) {
	v := Member(signed, "delegations")
	if v == nil {
		return nil, nil
	}
	d := &metadata.Delegations{}
	if err := json.Unmarshal(v.JSON(), d); err != nil {
		return nil, fmt.Errorf("%s: %w", text.Name(role), err)
	}
	set := func(role string, ids []string, threshold, bins int) KeySet {
		k := KeySet{role, bins, map[string]tuf.Key{}, threshold}
		for _, id := range ids {
			if key := d.Keys[id]; key != nil {
				k.Keys[id] = tuf.Key{Type: key.Type, Scheme: key.Scheme, Public: key.Value.PublicKey}
			}
		}
		return k
	}
	var out []KeySet
	for _, r := range d.Roles {
		out = append(out, set(r.Name, r.KeyIDs, r.Threshold, 0))
	}
	if s := d.SuccinctRoles; s != nil {
		out = append(out, set(s.NamePrefix, s.KeyIDs, s.Threshold, (s.BitLength+3)/4))
	}
	return out, nil
}

// Covers reports whether the set belongs to a role.
func (k KeySet) Covers(role string) bool {
	if k.Bins == 0 {
		return k.Role == role
	}
	digits, ok := strings.CutPrefix(role, k.Role+"-")
	return ok && len(digits) == k.Bins && strings.Trim(digits, "0123456789abcdef") == ""
}
