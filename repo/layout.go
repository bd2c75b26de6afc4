package repo

import (
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// named is a targets role that the root names.
type named struct {
	role  string
	class string // "" for targets
	party string // "" for targets and for a hold
	keys  Keys
}

// lists returns every targets role that the root names.
func (r *Root) lists() []named {
	out := []named{{role: "targets", keys: r.Targets}}
	for _, c := range r.Classes {
		for _, role := range c.Roles {
			out = append(out, named{role.Role, c.Name, role.Party, role.Keys})
		}
		if c.Hold != nil {
			out = append(out, named{c.Hold.Role, c.Name, "", c.Hold.Keys})
		}
	}
	return out
}

func (n named) need() need {
	return need{n.who(), keyMap(n.keys.Keys), max(n.keys.Threshold, 1), nil}
}

func (n named) who() string {
	switch {
	case n.party != "":
		return n.party + " (" + n.role + ")"
	case n.class != "":
		return "the hold of " + n.class
	}
	return n.role
}

func keyMap(keys []tuf.Key) map[string]tuf.Key {
	m := map[string]tuf.Key{}
	for _, k := range keys {
		m[k.ID()] = k
	}
	return m
}

// rootNeeds returns the signatures that the rules of r require for a root: the minimum
// of each party, and the threshold of the root role over all parties.
func rootNeeds(r *Root, whose string) []need {
	all := need{Who: "all parties of " + whose, Keys: map[string]tuf.Key{}}
	var out []need
	for _, p := range r.Parties {
		n := need{"party " + p.Name + " of " + whose, keyMap(p.Keys), max(p.Min, 1), nil}
		for id, k := range n.Keys {
			all.Keys[id] = k
		}
		out = append(out, n)
	}
	for _, p := range r.Parties {
		all.Threshold = max(all.Threshold, len(all.Keys)-len(p.Keys)+max(p.Min, 1))
	}
	return append(out, all)
}

func ids(keys []tuf.Key) []string {
	out := []string{}
	for _, k := range keys {
		out = append(out, k.ID())
	}
	return out
}

// need is a signature rule that a file must meet.
type need struct {
	Who       string             `json:"who"` // party or role, human-readable
	Keys      map[string]tuf.Key `json:"keys"`
	Threshold int                `json:"threshold"`
	// Orgs maps key ids to organisations. If set, the threshold counts organisations,
	// not keys.
	Orgs map[string]string `json:"orgs,omitempty"`
}

func goKeys(keys []tuf.Key) map[string]*metadata.Key {
	out := map[string]*metadata.Key{}
	for _, k := range keys {
		out[k.ID()] = gotuf.Key(k)
	}
	return out
}

// keysFor returns the keys of a role to which a list delegates.
func keysFor(l *rolelist.List, name string) Keys {
	keys, threshold := l.KeysFor(name)
	return Keys{Keys: keys, Threshold: threshold}
}
