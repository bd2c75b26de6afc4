package tuf

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
)

// delegation is one entry of a role's delegations, in order of priority.
type delegation struct {
	name         string
	keys         roleKeys
	paths        []string
	wild         int      // bytes of those of paths that hold a wild card
	hashPrefixes []string // lower-case hex
	terminating  bool
	succinct     *succinct  // hash bins (TAP 15); name is then their prefix
	group        *agreement // the roles that must agree with this one; nil for none
}

type succinct struct{ bits int }

// maxDelegations bounds the entries of one role.
const maxDelegations = 1 << 16

func (t *Targets) parseDelegations(v wire.Value) error {
	var keys, roles, bins, agreements wire.Value
	if err := v.Fields(wire.Field{Name: "keys", To: &keys}, wire.Field{Name: "roles", To: &roles}, wire.Field{Name: "succinct_roles", To: &bins},
		wire.Field{Name: AgreementMember, To: &agreements}); err != nil {
		return err
	}
	var err error
	if t.keys, err = parseKeyring(keys); err != nil {
		return fmt.Errorf("delegations: %w", err)
	}
	if roles != nil && bins != nil {
		return syntaxf("delegations have either roles or succinct_roles")
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
		return nil // go-tuf writes delegations to nobody so
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
			return syntaxf("role %.80q delegated to twice, or more than %d delegations", d.name, maxDelegations)
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
		return d, syntaxf("delegated role is called %.80s", string(name))
	}
	if d.terminating, err = terminating.Bool(); err != nil {
		return d, err
	}
	if (paths == nil) == (prefixes == nil) {
		return d, syntaxf("role %.80q has either paths or path_hash_prefixes", d.name)
	}
	if paths != nil {
		d.paths, err = parseStrings(paths)
		for _, p := range d.paths {
			if strings.ContainsAny(p, `*?[\`) {
				d.wild += len(p)
			}
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
	if err != nil || n < 1 || n > 32 {
		return d, syntaxf("bit_length is %.30s", string(bits))
	}
	d.succinct, d.terminating = &succinct{int(n)}, true
	d.name, err = prefix.Text()
	return d, err
}

// roleFor returns the name of the role that d makes responsible for a target
// path, or "".
func (d *delegation) roleFor(target string, sum []byte) string {
	if d.succinct != nil {
		bits := d.succinct.bits
		return d.binName(binary.BigEndian.Uint32(sum) >> (32 - bits))
	}
	for _, p := range d.paths {
		if matchPath(p, target) {
			return d.name
		}
	}
	if len(d.hashPrefixes) > 0 {
		digest := hex.EncodeToString(sum)
		for _, p := range d.hashPrefixes {
			if strings.HasPrefix(digest, p) {
				return d.name
			}
		}
	}
	return ""
}

// matchPath matches a shell pattern whose wild cards do not match a slash
// (specification, 4.5, PATHPATTERN).
func matchPath(pattern, target string) bool {
	if strings.Count(pattern, "/") != strings.Count(target, "/") {
		return false
	}
	p, t := strings.Split(pattern, "/"), strings.Split(target, "/")
	for i := range p {
		if ok, err := path.Match(p[i], t[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
