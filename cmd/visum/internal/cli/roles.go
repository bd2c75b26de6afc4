package cli

import (
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// keyRole is a role that a root names, with the ids of its keys.
type keyRole struct {
	name   string // as people read it, such as "root of vendor"
	keyIDs []string
}

// rolesOf returns each role that a root names.
func rolesOf(root *tuf.Root) (out []keyRole) {
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		ids, _ := root.RoleKeys(role)
		out = append(out, keyRole{role, ids})
	}
	c := root.Charter()
	if c == nil {
		ids, _ := root.RoleKeys("root")
		return append(out, keyRole{"root", ids})
	}
	for _, p := range c.Parties() {
		out = append(out, keyRole{rootOf + text.Name(p.Name), p.KeyIDs})
	}
	for _, class := range c.Classes() {
		for _, role := range class.Roles {
			out = append(out, keyRole{text.Name(role.Role), role.KeyIDs})
		}
		if class.Hold != nil {
			out = append(out, keyRole{text.Name(class.Hold.Role), class.Hold.KeyIDs})
		}
	}
	if rule := c.Recovery(); rule != nil {
		for _, org := range rule.Orgs {
			out = append(out, keyRole{"recovery by " + text.Name(org.Name), org.KeyIDs})
		}
	}
	return out
}

// rootOf begins the name of a party's root keys.
const rootOf = "root of "

// rolesByLabel returns the roles of keys in a root.
func rolesByLabel(root *tuf.Root, keys map[string]tuf.Key) map[string][]string {
	out := map[string][]string{}
	for _, role := range rolesOf(root) {
		for label, k := range keys {
			if slices.Contains(role.keyIDs, k.ID()) {
				out[label] = append(out[label], role.name)
			}
		}
	}
	return out
}
