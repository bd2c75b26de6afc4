package repo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// The headlines of a diff summarise what a file does. The summary and the rest contain
// the details.

// rootHeadline compares two verified roots; was is nil for the first root.
func rootHeadline(was, now *Root) (out []string) {
	if was == nil {
		var parties []string
		for _, p := range now.Parties {
			parties = append(parties, text.Name(p.Name))
		}
		return []string{"is the first root, of " + strings.Join(parties, " and ")}
	}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if was.RepoID != now.RepoID {
		say("the repository id changes")
	}
	for _, p := range now.Parties {
		i := slices.IndexFunc(was.Parties, func(o Party) bool { return o.Name == p.Name })
		if i < 0 {
			say("party %s joins", text.Name(p.Name))
			continue
		}
		out = append(out, keysHeadline(text.Name(p.Name), "root key", was.Parties[i].Keys, p.Keys)...)
		if a, b := max(was.Parties[i].Min, 1), max(p.Min, 1); a != b {
			say("%s must sign with %d keys, was %d", text.Name(p.Name), b, a)
		}
	}
	for _, p := range was.Parties {
		if !slices.ContainsFunc(now.Parties, func(o Party) bool { return o.Name == p.Name }) {
			say("party %s LEAVES", text.Name(p.Name))
		}
	}
	for _, x := range []struct {
		role     string
		was, now Keys
	}{{"timestamp", was.Timestamp, now.Timestamp}, {"snapshot", was.Snapshot, now.Snapshot}, {"targets", was.Targets, now.Targets}} {
		out = append(out, roleKeys(x.role, x.was, x.now)...)
	}
	out = append(out, classHeadline(was, now)...)
	out = append(out, ruleHeadline("the recovery rule", was.Recovery != nil, now.Recovery != nil, !sameRecovery(was.Recovery, now.Recovery))...)
	if was.Probe != now.Probe {
		say("the probe rule changes")
	}
	return append(out, locationsHeadline(was, now)...)
}

// keysHeadline describes how a set of keys changes.
func keysHeadline(whose, what string, was, now []tuf.Key) []string {
	gone, fresh := 0, 0
	for _, k := range was {
		if !slices.Contains(now, k) {
			gone++
		}
	}
	for _, k := range now {
		if !slices.Contains(was, k) {
			fresh++
		}
	}
	switch {
	case gone == 0 && fresh == 0:
		return nil
	case gone == 1 && fresh == 1 && len(was) == 1:
		return []string{whose + " replaces its " + what}
	case gone > 0 && fresh > 0:
		return []string{fmt.Sprintf("%s replaces %d of its %d %ss by %d", whose, gone, len(was), what, fresh)}
	case gone > 0:
		return []string{fmt.Sprintf("%s removes %d of its %d %ss", whose, gone, len(was), what)}
	}
	return []string{fmt.Sprintf("%s adds %s", whose, plural(fresh, what, what+"s"))}
}

func roleKeys(role string, was, now Keys) []string {
	out := keysHeadline("role "+text.Name(role), "key", was.Keys, now.Keys)
	if a, b := max(was.Threshold, 1), max(now.Threshold, 1); a != b {
		out = append(out, fmt.Sprintf("role %s needs %d keys, was %d", text.Name(role), b, a))
	}
	return out
}

func ruleHeadline(what string, was, is, changes bool) []string {
	switch {
	case was && !is:
		return []string{what + " is REMOVED"}
	case !was && is:
		return []string{what + " is added"}
	case changes:
		return []string{what + " changes"}
	}
	return nil
}

func classHeadline(was, now *Root) (out []string) {
	for _, c := range now.Classes {
		name := "class " + text.Name(c.Name)
		i := slices.IndexFunc(was.Classes, func(o Class) bool { return o.Name == c.Name })
		if i < 0 {
			out = append(out, name+" is added")
			continue
		}
		o := was.Classes[i]
		if o.Prefix != c.Prefix {
			out = append(out, name+" changes its prefix")
		}
		for _, r := range c.Roles {
			j := slices.IndexFunc(o.Roles, func(x ReleaseRole) bool { return x.Role == r.Role && x.Party == r.Party })
			if j < 0 {
				out = append(out, fmt.Sprintf("%s: role %s of %s is added", name, text.Name(r.Role), text.Name(r.Party)))
				continue
			}
			out = append(out, roleKeys(r.Role, o.Roles[j].Keys, r.Keys)...)
		}
		for _, r := range o.Roles {
			if !slices.ContainsFunc(c.Roles, func(x ReleaseRole) bool { return x.Role == r.Role && x.Party == r.Party }) {
				out = append(out, fmt.Sprintf("%s: role %s of %s is REMOVED", name, text.Name(r.Role), text.Name(r.Party)))
			}
		}
		changes := o.Hold != nil && c.Hold != nil && (o.Hold.Role != c.Hold.Role || o.Hold.Max != c.Hold.Max)
		out = append(out, ruleHeadline("the hold of "+name, o.Hold != nil, c.Hold != nil, changes)...)
		if o.Hold != nil && c.Hold != nil {
			out = append(out, roleKeys(c.Hold.Role, o.Hold.Keys, c.Hold.Keys)...)
		}
	}
	for _, c := range was.Classes {
		if !slices.ContainsFunc(now.Classes, func(o Class) bool { return o.Name == c.Name }) {
			out = append(out, "class "+text.Name(c.Name)+" is REMOVED")
		}
	}
	return out
}

func sameRecovery(a, b *RecoveryRule) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Threshold == b.Threshold && a.MinOrgs == b.MinOrgs && a.Hold == b.Hold && a.MinTicks == b.MinTicks && a.Counter == b.Counter &&
		slices.EqualFunc(a.Orgs, b.Orgs, func(a, b Org) bool { return a.Name == b.Name && layout.SameSet(a.Keys, b.Keys) })
}

func locationsHeadline(was, now *Root) (out []string) {
	for _, l := range now.Locations {
		i := slices.IndexFunc(was.Locations, func(o tuf.Location) bool { return o.ID == l.ID })
		switch {
		case i < 0:
			out = append(out, "location "+text.Name(l.ID)+" is added")
		case was.Locations[i] != l:
			out = append(out, "location "+text.Name(l.ID)+" changes")
		}
	}
	for _, l := range was.Locations {
		if !slices.ContainsFunc(now.Locations, func(o tuf.Location) bool { return o.ID == l.ID }) {
			out = append(out, "location "+text.Name(l.ID)+" is removed")
		}
	}
	for _, x := range now.Retired {
		if !slices.ContainsFunc(was.Retired, func(o tuf.Retired) bool { return o.ID == x.ID }) {
			out = append(out, "location "+text.Name(x.ID)+" is retired")
		}
	}
	return out
}

// headline reports how many targets of a tree are added, removed and changed; a single
// target by name.
func (t *tree) headline() (out []string) {
	var added, removed, changed []string
	for _, f := range t.found {
		switch name := text.Name(f.path); {
		case f.old == nil:
			added = append(added, name)
		case f.new == nil:
			removed = append(removed, name)
		default:
			changed = append(changed, name)
		}
	}
	verb := "lists"
	if t.holds {
		verb = "holds"
	}
	for _, x := range []struct {
		verb  string
		names []string
	}{{verb, added}, {"no longer " + verb, removed}, {"changes", changed}} {
		switch len(x.names) {
		case 0:
		case 1:
			out = append(out, x.verb+" "+x.names[0])
		default:
			out = append(out, fmt.Sprintf("%s %d paths", x.verb, len(x.names)))
		}
	}
	return out
}

// roleHeadline reports the other changes of a targets role.
func roleHeadline(lines []diff.Change) (out []string) {
	recalls, back := 0, 0
	leads, again := false, false
	for _, c := range lines {
		switch {
		case c.Part == diff.PartSummary && c.Old != "" && strings.HasPrefix(c.Fact, facts.SequenceFact) && lower(c.New, c.Old):
			again = true
		case c.What == "recall" && c.Kind == diff.KindAdded && c.Fact == "":
			recalls++
		case c.What == "recall" && c.Kind == diff.KindRemoved && c.Fact == "":
			back++
		case c.What == "delegated role", c.What == "hash bins":
			leads = true
		}
	}
	if recalls > 0 {
		out = append(out, "recalls "+plural(recalls, "file", "files"))
	}
	if back > 0 {
		out = append(out, "WITHDRAWS "+plural(back, "recall", "recalls"))
	}
	if leads {
		out = append(out, "changes its delegations")
	}
	if again {
		out = append(out, "REUSES sequence numbers")
	}
	return out
}

// lower reports whether a is not a number, or is less than b.
func lower(a, b string) bool {
	x, err := strconv.ParseInt(a, 10, 64)
	y, _ := strconv.ParseInt(b, 10, 64)
	return err != nil || x < y
}
