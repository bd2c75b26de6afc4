package relocate

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// powers is the authority analysis of a verified or proposed root: the actions that
// each set of parties can take, and the losses of keys and locations that the
// repository survives at the time at. A loss without any reserve is a [LevelWarning]. A
// party that can act alone is an [LevelError].
func powers(root tuf.RootView, at time.Time) []Finding {
	var f findings
	c := root.Charter()
	if c == nil {
		f.add(LevelError, "authority", "", "the root has no charter: its keys alone authorise everything")
		return f
	}
	_, threshold := root.RoleKeys("root")
	f.coalitions(c, threshold)
	f.keyLosses(root, threshold)
	f.locationLosses(c, at)
	return f
}

// coalitions adds a finding for every set of parties with the actions that all of its
// keys authorise. A charter has at most 8 parties, that is 255 sets.
func (f *findings) coalitions(c *tuf.Charter, threshold int) {
	parties := c.Parties()
	signs := func(set uint) bool {
		n := 0
		for i, p := range parties {
			if set>>i&1 == 1 {
				n += len(p.KeyIDs)
			} else if p.Min > 0 {
				return false
			}
		}
		return n >= threshold
	}
	// Standard TUF clients check the threshold only, not the parties.
	signsStandard := func(set uint) bool {
		n := 0
		for i, p := range parties {
			if set>>i&1 == 1 {
				n += len(p.KeyIDs)
			}
		}
		return n >= threshold
	}
	releases := func(set uint) (out []string) {
		for _, cl := range c.Classes() {
			all := len(cl.Roles) > 0
			for _, r := range cl.Roles {
				i := slices.IndexFunc(parties, func(p tuf.Party) bool { return p.Name == r.Party })
				all = all && set>>i&1 == 1
			}
			if all {
				out = append(out, cl.Name)
			}
		}
		return out
	}
	for set := uint(1); set < 1<<len(parties); set++ {
		var who []string
		for i, p := range parties {
			if set>>i&1 == 1 {
				who = append(who, p.Name)
			}
		}
		var can []string
		if signs(set) {
			can = append(can, "change root, and with it everything")
		} else if signsStandard(set) {
			can = append(can, "change root for standard TUF clients")
		}
		if classes := releases(set); len(classes) > 0 {
			can = append(can, "release in "+strings.Join(classes, ", "))
		}
		what := "nothing"
		if len(can) > 0 {
			what = strings.Join(can, "; ")
		}
		alone := " alone"
		if bits.OnesCount(set) > 1 {
			alone = " together"
		}
		level := LevelNote
		if bits.OnesCount(set) == 1 && len(can) > 0 {
			level = LevelError
		}
		f.add(level, "authority", "", "%s%s, with all root and release keys: %s", strings.Join(who, " and "), alone, what)
	}
	f.add(LevelNote, "authority", "", "the timestamp and snapshot keys: can withhold new releases until the release roles expire (freeze); can publish no release")
}

// keyLosses adds a finding for each role with the number of keys that may be lost.
func (f *findings) keyLosses(root tuf.RootView, threshold int) {
	c := root.Charter()
	all := 0
	for _, p := range c.Parties() {
		all += len(p.KeyIDs)
	}
	spare := func(check, whose string, n int, stops string) {
		if n == 0 {
			f.add(LevelWarning, check, "", "the loss of one %s: stops %s; there is no spare key", whose, stops)
			return
		}
		f.add(LevelNote, check, "", "the loss of %d of %s: survivable; of %d: stops %s", n, plural(whose), n+1, stops)
	}
	for _, p := range c.Parties() {
		spare("losses", "root key of "+p.Name, min(all-threshold, len(p.KeyIDs)-p.Min), "every change of root")
	}
	if n := all - threshold; len(c.Parties()) > 1 {
		f.add(LevelNote, "losses", "", "of all %d root keys %d may be lost: %d must sign", all, n, threshold)
	}
	for _, cl := range c.Classes() {
		for _, r := range cl.Roles {
			spare("losses", "key of "+r.Role, len(r.KeyIDs)-r.Threshold, "releases in "+cl.Name+" until a new root")
		}
	}
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		ids, n := root.RoleKeys(role)
		if spare := len(ids) - n; spare > 0 {
			f.add(LevelNote, "losses", "", "the loss of %d of the %s keys: survivable", spare, role)
		} else {
			f.add(LevelNote, "losses", "", "the loss of one %s key: needs a new root and with it a new epoch", role)
		}
	}
	rule := c.Recovery()
	if rule == nil {
		f.add(LevelNote, "losses", "", "there is no recovery rule: after the loss of too many root keys only a new product with a new pin helps")
		return
	}
	keys := 0
	for _, o := range rule.Orgs {
		keys += len(o.KeyIDs)
	}
	f.add(LevelNote, "authority", "", "%d of %d recovery keys, of %d of %d organisations: change root, and with it everything, for clients that found no regular root in %d root checks over %s",
		rule.Threshold, keys, rule.MinOrgs, len(rule.Orgs), rule.MinTicks, days(rule.Hold))
	f.add(LevelNote, "losses", "", "the loss of %d of the recovery keys: survivable; of %d: stops every recovery", keys-rule.Threshold, keys-rule.Threshold+1)
}

// plural turns "root key of x" into "the root keys of x".
func plural(s string) string { return "the " + strings.Replace(s, "key of", "keys of", 1) }

// locationLosses adds a finding for the loss of each location, operator and
// jurisdiction.
func (f *findings) locationLosses(c *tuf.Charter, at time.Time) {
	list := slices.DeleteFunc(c.Locations(), func(l tuf.Location) bool { return !c.Usable(l, at) })
	seen := map[string]bool{}
	lose := func(kind, name string, gone func(tuf.Location) bool) {
		if name == "" || seen[kind+name] {
			return
		}
		seen[kind+name] = true
		rest := slices.DeleteFunc(slices.Clone(list), gone)
		content := slices.ContainsFunc(rest, func(l tuf.Location) bool { return l.Tier != tuf.Rendezvous && l.Targets != "" })
		level, what := LevelNote, "survivable"
		switch n := tuf.Operators(rest); {
		case len(rest) == 0:
			level, what = LevelWarning, "clients reach no location"
		case !content:
			level, what = LevelWarning, "clients still get a new root, but no content"
		case n < c.Probe().MinOperators:
			what = fmt.Sprintf("survivable; but root checks need %d operators and %d are left", c.Probe().MinOperators, n)
		}
		f.add(level, "locations", "", "the loss of %s %s: %s", kind, text.Name(name), what)
	}
	for _, l := range list {
		lose("location", l.ID, func(x tuf.Location) bool { return x.ID == l.ID })
	}
	for _, l := range list {
		lose("operator", l.Operator, func(x tuf.Location) bool { return x.Operator == l.Operator })
	}
	for _, l := range list {
		lose("everything in", l.Jurisdiction, func(x tuf.Location) bool { return x.Jurisdiction == l.Jurisdiction })
	}
}
