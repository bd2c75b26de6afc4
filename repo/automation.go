package repo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
)

// transportMember is the member of a target's custom object that parties need not agree
// on. It describes patches and compressed copies of the same bytes.
const transportMember = "visum-transport"

// automation is [Config].Automation with its rules.
type automation signing.Automation

// automatic checks one role of a request against Config.Automation. was is the signed
// part that the ledger has seen published, or for hash bins the published signed part;
// nil for none.
func (a *automation) automatic(x *item, was wire.Value) error {
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s v%d: %w: %s", text.Name(x.file.role), x.file.version, signing.ErrNotAutomatic, fmt.Sprintf(format, args...))
	}
	before, after := rolelist.New(x.file.role), rolelist.New(x.file.role)
	if was != nil {
		if err := before.Take(was); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
		}
	} else if !x.bin {
		return no("the ledger has no published version of the role")
	}
	if err := after.Take(x.file.signed); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
	}
	if !a.sameSequences(before, after) {
		return no("a highest sequence number changes without a release below Automation.Releases")
	}
	for _, l := range []*rolelist.List{before, after} {
		delete(l.Members, layout.SequenceMember)
		delete(l.Members, layout.RepoMember)
		delete(l.Members, layout.RoleMember)
	}
	if !maps.EqualFunc(before.Members, after.Members, func(a, b wire.Value) bool { return string(a) == string(b) }) {
		return no("members other than targets and delegations change")
	}
	if !a.sameDelegations(x, before, after) {
		return no("its delegations change")
	}
	if x.role.party == "" {
		a = &automation{Renew: a.Renew} // holds, and targets.json
	}
	changed := false
	all := maps.Clone(before.Targets)
	maps.Copy(all, after.Targets)
	for path := range all {
		a1, a2 := before.Targets[path], after.Targets[path]
		if string(a1) == string(a2) {
			continue
		}
		changed = true
		if !a.target(path, a1, a2) {
			return no("target %s changes", text.Name(path))
		}
	}
	if !changed && !a.Renew {
		return no("only the expiry changes, and Automation.Renew is not set")
	}
	return nil
}

// sameSequences reports whether each change of a highest sequence number is permitted:
// the new number must be that of a listed release that automation may add.
func (a *automation) sameSequences(before, after *rolelist.List) bool {
	if string(before.Members[layout.SequenceMember]) == string(after.Members[layout.SequenceMember]) {
		return true
	}
	was, err1 := before.Sequences()
	now, err2 := after.Sequences()
	if err1 != nil || err2 != nil {
		return false
	}
	for product := range was {
		if now[product] < was[product] {
			return false
		}
	}
	for product, n := range now {
		if n == was[product] {
			continue
		}
		given := false
		for path, v := range after.Targets {
			if rel, ok := rolelist.ReleaseOf(v); ok && rel.Product == product && rel.Sequence == n {
				given = given || a.target(path, nil, v)
			}
		}
		if !given {
			return false
		}
	}
	return true
}

// sameDelegations reports whether a change of delegations is permitted. If targets
// without release data may change, the role may have another number of hash bins with
// its own keys, because the number depends on that of the targets.
func (a *automation) sameDelegations(x *item, before, after *rolelist.List) bool {
	differs, err := differ(before.Delegations, after.Delegations)
	if err != nil || !differs {
		return err == nil
	}
	if len(a.Plain) == 0 {
		return false
	}
	for _, l := range []*rolelist.List{before, after} {
		d := l.Delegations
		if d == nil {
			continue
		}
		if d.SuccinctRoles == nil || len(d.Roles) > 0 || d.SuccinctRoles.NamePrefix != rolelist.BinPrefix(x.file.role) {
			return false
		}
		own := Keys{Keys: rolelist.KeysIn(d.Keys, d.SuccinctRoles.KeyIDs), Threshold: d.SuccinctRoles.Threshold}
		if !layout.SameSet(own.Keys, x.role.keys.Keys) || max(own.Threshold, 1) != max(x.role.keys.Threshold, 1) {
			return false
		}
	}
	return true
}

// target reports whether one target may change from was to is. nil: not listed.
func (a *automation) target(path string, was, is wire.Value) bool {
	below := func(prefixes []string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return p != "" && strings.HasPrefix(path, p) })
	}
	plain := func(v wire.Value) bool { return v == nil || rolelist.IsPlain(v) }
	if plain(was) && plain(is) && below(a.Plain) {
		return true
	}
	if is != nil && !rolelist.IsPlain(is) && below(a.Releases) {
		return true
	}
	return a.Transport && was != nil && is != nil && string(withoutTransport(was)) == string(withoutTransport(is))
}

// withoutTransport returns a target's entry without the transport member.
func withoutTransport(v wire.Value) wire.Value {
	var out []byte
	for name, m := range v.Members() {
		if string(name) == "custom" {
			var custom []byte
			for n, c := range m.Members() {
				if string(n) != transportMember {
					custom = append(append(append(custom, n...), ':'), c...)
				}
			}
			m = custom
		}
		out = append(append(append(append(out, name...), ':'), m...), ',')
	}
	return out
}
