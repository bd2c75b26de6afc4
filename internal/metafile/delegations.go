package metafile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// CheckOwners refuses a list that delegates to a role that the root names: verified
// under that delegator alone, the role would count as part of two trees.
func CheckOwners(named map[string]bool, role string, d *metadata.Delegations) error {
	if d == nil || role == "targets" { // targets.json delegates to the parties' roles for standard TUF clients
		return nil
	}
	fail := func(name string) error {
		return &tuf.Error{Role: role, Err: tuf.ErrUntrusted, Detail: "it delegates to " + text.Name(name) + ", which the root names"}
	}
	for _, r := range d.Roles {
		if named[r.Name] {
			return fail(r.Name)
		}
	}
	for name := range named {
		if IsBin(d.SuccinctRoles, name) {
			return fail(name)
		}
	}
	return nil
}

// Delegated names the roles to which t delegates, in order of priority. Hash bins are
// included only if listed contains them, since a role may delegate to 2^32 bins in a
// few bytes; bins is their total number. A delegation to a role in own, which the root
// names, is an error that wraps [tuf.ErrUntrusted].
func Delegated(t *tuf.Targets, listed []string, own map[string]bool) (names []string, bins uint64, err error) {
	some := false
	for range t.Delegates() {
		some = true
		break
	}
	if !some {
		return nil, 0, nil
	}
	v, err := MemberOf(t, "delegations")
	if err != nil {
		return nil, 0, err
	}
	var d metadata.Delegations
	if err := json.Unmarshal(v.JSON(), &d); err != nil {
		return nil, 0, fmt.Errorf("%s: %w: %w", text.Name(t.Role()), tuf.ErrMalformed, err)
	}
	if err := CheckOwners(own, t.Role(), &d); err != nil {
		return nil, 0, err
	}
	if d.SuccinctRoles == nil {
		for _, r := range d.Roles {
			names = append(names, r.Name)
		}
		return names, 0, nil
	}
	prefix := d.SuccinctRoles.NamePrefix + "-"
	first, _ := slices.BinarySearch(listed, prefix)
	for _, name := range listed[first:] {
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if IsBin(d.SuccinctRoles, name) {
			names = append(names, name)
		}
	}
	return names, 1 << d.SuccinctRoles.BitLength, nil
}

// IsBin reports whether a role is one of the hash bins.
func IsBin(s *metadata.SuccinctRoles, role string) bool {
	if s == nil {
		return false
	}
	digits, ok := strings.CutPrefix(role, s.NamePrefix+"-")
	if !ok || len(digits) != (s.BitLength+3)/4 || strings.Trim(digits, "0123456789abcdef") != "" {
		return false
	}
	bin, err := strconv.ParseUint(digits, 16, 64)
	return err == nil && bin>>s.BitLength == 0
}
