package tuf

import (
	"fmt"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// delegation is one entry of a role's delegations, in order of priority.
type delegation struct {
	name         string
	keys         roleKeys
	paths        []pattern
	hashPrefixes []string // lower-case hex
	terminating  bool
	succinct     *succinct  // hash bins (TAP 15); name is then their prefix
	group        *agreement // the roles that must agree with this one; nil for none
}

// pattern is a path pattern (specification, 4.5, PATHPATTERN).
type pattern struct {
	text string
	wild bool // text has wildcards or escapes; false: text is a path
}

type succinct struct{ bits int }

// maxBits bounds the hash bins of one role to 2^20 = 1,048,576. TAP 15 allows a
// bit_length of 32, but a few bytes of metadata must not cause a walk over so many
// bins, and a snapshot that lists them would exceed [Limits].
const maxBits = 20

// maxDelegations bounds the entries of one role.
const maxDelegations = 1 << 16

func (t *Targets) parseDelegations(v wire.Value) error {
	var keys, roles, bins, agreements wire.Value
	if err := v.Fields(wire.Field{Name: "keys", To: &keys}, wire.Field{Name: "roles", To: &roles}, wire.Field{Name: "succinct_roles", To: &bins},
		wire.Field{Name: layout.AgreementMember, To: &agreements}); err != nil {
		return err
	}
	// Go programs write null for a nil map or slice.
	dropNull(&roles)
	dropNull(&bins)
	var err error
	if keys.Kind() == 'n' {
		t.keys = keyring{}
	} else if t.keys, err = parseKeyring(keys); err != nil {
		return fmt.Errorf("delegations: %w", err)
	}
	if roles != nil && bins != nil {
		return syntaxf("delegations have either roles or succinct_roles")
	}
	if bins != nil && agreements != nil {
		// Ignoring the member would let one bin decide alone.
		return syntaxf("%s together with succinct_roles", layout.AgreementMember)
	}
	if bins != nil {
		d, err := parseSuccinct(bins)
		if err != nil {
			return err
		}
		t.delegations = []delegation{d}
		return nil
	}
	if roles == nil {
		return nil // go-tuf writes empty delegations like this
	}
	if roles.Kind() != '[' {
		return syntaxf("delegations.roles must be an array")
	}
	seen := map[string]bool{}
	for e := range roles.Elements() {
		d, err := parseDelegation(e)
		if err != nil {
			return err
		}
		if seen[d.name] || len(seen) == maxDelegations {
			return syntaxf("two delegations to role %s, or more than %d delegations", text.Name(d.name), maxDelegations)
		}
		seen[d.name] = true
		t.delegations = append(t.delegations, d)
	}
	return t.parseAgreements(agreements)
}

func parseDelegation(v wire.Value) (d delegation, err error) {
	var name, paths, prefixes, terminating wire.Value
	d.keys, err = parseRoleKeys(v, wire.Field{Name: "name", To: &name}, wire.Field{Name: "paths", To: &paths},
		wire.Field{Name: "path_hash_prefixes", To: &prefixes}, wire.Field{Name: "terminating", To: &terminating})
	if err != nil {
		return d, err
	}
	if d.name, err = name.Text(); err != nil || d.name == "" || isTopLevel(d.name) {
		return d, syntaxf("invalid name of a delegated role: %s", name)
	}
	if d.terminating, err = terminating.Bool(); err != nil {
		return d, err
	}
	// Null counts as absent: go-tuf before v2 wrote "paths": null for an empty list and
	// in delegations with prefixes. A delegation of no path is harmless.
	if paths == nil && prefixes == nil || paths.Kind() != 'n' && prefixes.Kind() != 'n' && paths != nil && prefixes != nil {
		return d, syntaxf("delegation to %s must have either paths or path_hash_prefixes", text.Name(d.name))
	}
	dropNull(&paths)
	dropNull(&prefixes)
	if paths == nil && prefixes == nil {
		return d, nil
	}
	if paths != nil {
		list, err := parseStrings(paths)
		for _, p := range list {
			d.paths = append(d.paths, pattern{p, strings.ContainsAny(p, `*?[\`)})
		}
		return d, err
	}
	d.hashPrefixes, err = parseStrings(prefixes)
	for i, p := range d.hashPrefixes {
		d.hashPrefixes[i] = strings.ToLower(p)
	}
	return d, err
}

func parseSuccinct(v wire.Value) (d delegation, err error) {
	var bits, prefix wire.Value
	if d.keys, err = parseRoleKeys(v, wire.Field{Name: "bit_length", To: &bits}, wire.Field{Name: "name_prefix", To: &prefix}); err != nil {
		return d, err
	}
	n, err := bits.Int()
	if err != nil || n < 1 || n > maxBits {
		return d, syntaxf("bit_length is %s, want 1 to %d", bits, maxBits)
	}
	d.succinct, d.terminating = &succinct{int(n)}, true
	d.name, err = prefix.Text()
	return d, err
}

// lookup is a target path to compare with delegations, and the budget for these
// comparisons.
type lookup struct {
	path   string
	digest string // sha256 of path in hex; "" if only patterns are compared
	work   *work
}

// roleFor returns the name of the role that d makes responsible for a target
// path, or "". It also returns "" if the budget is exhausted: see work.left.
func (d *delegation) roleFor(l *lookup) string {
	if !l.work.spend(costDelegation) {
		return ""
	}
	if d.succinct != nil {
		return layout.BinName(d.name, d.succinct.bits, layout.Bin(l.path, d.succinct.bits))
	}
	for _, p := range d.paths {
		if !p.wild && l.work.spend(costPlain) && p.text == l.path || p.wild && layout.Match(p.text, l.path, l.work.spendPattern) {
			return d.name
		}
	}
	for _, p := range d.hashPrefixes {
		if l.work.spend(costPlain) && strings.HasPrefix(l.digest, p) {
			return d.name
		}
	}
	return ""
}

// maxAgreement bounds the roles of one agreement.
const maxAgreement = 64

// agreement is a group of delegations; at least min of its roles must list the same
// length and hashes.
type agreement struct {
	roles       []string
	min         int
	terminating bool
}

// parseAgreements links the delegations of each group. It refuses every group that
// it can't interpret, because ignoring it would let one role decide alone.
func (t *Targets) parseAgreements(v wire.Value) error {
	if v == nil {
		return nil
	}
	var r reader
	at := make(map[string]int, len(t.delegations))
	for i, d := range t.delegations {
		at[d.name] = i
	}
	r.list(v, layout.AgreementMember, maxDelegations, func(e wire.Value) {
		var roles, least, terminating wire.Value
		r.fields(e, wire.Field{Name: "roles", To: &roles}, wire.Field{Name: "min_roles_in_agreement", To: &least}, wire.Field{Name: "terminating", To: &terminating})
		g := &agreement{roles: r.strings(roles), min: int(min32(r.int(least)))}
		if terminating != nil && r.err == nil {
			g.terminating, r.err = terminating.Bool()
		}
		if g.min < 1 || g.min > len(g.roles) || len(g.roles) > maxAgreement {
			r.fail("%d of %d roles in agreement", g.min, len(g.roles))
			return
		}
		first, ok := at[g.roles[0]]
		for i, name := range g.roles {
			// The roles must be adjacent, so that no delegation between them can end the search.
			if !ok || first+i >= len(t.delegations) || t.delegations[first+i].name != name || t.delegations[first+i].group != nil {
				r.fail("role %s of an agreement is not adjacent to the others in the delegations, or is in two agreements", text.Name(name))
				return
			}
			t.delegations[first+i].group = g
		}
	})
	return r.err
}

// covers reports whether d delegates to the role with that name.
func (d *delegation) covers(name string) bool {
	if d.succinct == nil {
		return d.name == name
	}
	var bin uint32
	digits := (d.succinct.bits + 3) / 4
	if len(name) != len(d.name)+1+digits {
		return false
	}
	if _, err := fmt.Sscanf(name[len(d.name)+1:], "%x", &bin); err != nil || uint64(bin)>>d.succinct.bits != 0 {
		return false
	}
	return layout.BinName(d.name, d.succinct.bits, bin) == name
}
