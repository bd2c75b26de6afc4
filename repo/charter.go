package repo

import (
	"cmp"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// The charter's JSON form; see docs/spec.md, section 4.
type charterJSON struct {
	Schema    int            `json:"schema"`
	RepoID    string         `json:"repo_id"`
	Seq       int64          `json:"seq"`
	Epoch     int64          `json:"epoch"`
	SignedAt  string         `json:"signed_at"`
	Prev      string         `json:"prev_root_sha256,omitempty"`
	Parties   []partyJSON    `json:"parties"`
	Classes   []classJSON    `json:"classes"`
	Floors    floorsJSON     `json:"floors"`
	Probe     probeJSON      `json:"probe"`
	Locations []locationJSON `json:"locations"`
	Retired   []retiredJSON  `json:"retired,omitempty"`
	Recovery  *recoveryJSON  `json:"recovery,omitempty"`
}

// above raises seq and floors of the charter so that it is also a valid successor of
// other (rules H2 and H3).
func (c *charterJSON) above(other *tuf.Charter) {
	floors := other.Floors()
	c.Seq = max(c.Seq, other.Seq())
	c.Floors.Targets = max(c.Floors.Targets, floors.Targets)
	if c.Epoch == other.Epoch() {
		c.Floors.Timestamp, c.Floors.Snapshot = max(c.Floors.Timestamp, floors.Timestamp), max(c.Floors.Snapshot, floors.Snapshot)
	}
}

type partyJSON struct {
	Name   string   `json:"name"`
	KeyIDs []string `json:"keyids"`
	Min    int      `json:"min"`
}

type classJSON struct {
	Name   string     `json:"name"`
	Prefix string     `json:"prefix"`
	Roles  []roleJSON `json:"roles"`
	Hold   *holdJSON  `json:"hold,omitempty"`
	// HashBins is only written if it is true.
	HashBins bool `json:"hash_bins,omitempty"`
}

type holdJSON struct {
	Role       string   `json:"role"`
	KeyIDs     []string `json:"keyids"`
	Threshold  int      `json:"threshold"`
	MaxSeconds int64    `json:"max_seconds"`
}

type orgJSON struct {
	Name   string   `json:"name"`
	KeyIDs []string `json:"keyids"`
}

type roleJSON struct {
	Party     string   `json:"party"`
	Role      string   `json:"role"`
	KeyIDs    []string `json:"keyids"`
	Threshold int      `json:"threshold"`
}

type floorsJSON struct {
	Timestamp int64 `json:"timestamp"`
	Snapshot  int64 `json:"snapshot"`
	Targets   int64 `json:"targets"`
}

type probeJSON struct {
	MinOperators  int    `json:"min_operators"`
	EverySeconds  int64  `json:"every_seconds"`
	MaxAgeSeconds int64  `json:"max_age_seconds"`
	Mode          string `json:"mode"`
}

type locationJSON struct {
	ID           string    `json:"id"`
	Tier         string    `json:"tier"`
	Operator     string    `json:"operator"`
	Jurisdiction string    `json:"jurisdiction,omitempty"`
	Base         string    `json:"base"`
	Paths        pathsJSON `json:"paths"`
	Priority     int       `json:"priority"`
	UseFrom      string    `json:"use_from,omitempty"`
	UseUntil     string    `json:"use_until,omitempty"`
}

type pathsJSON struct {
	Metadata string `json:"metadata"`
	Targets  string `json:"targets,omitempty"`
}

type retiredJSON struct {
	ID    string   `json:"id"`
	Hosts []string `json:"hosts"`
}

// charter returns the charter's JSON form, without the members that depend on the
// previous root.
func (r *Root) charter(now time.Time) *charterJSON {
	c := &charterJSON{Schema: 1, RepoID: r.RepoID, Seq: 1, SignedAt: text.Time(now), Parties: []partyJSON{}, Classes: []classJSON{},
		Locations: locationsJSON(r.Locations)}
	for _, p := range r.Parties {
		c.Parties = append(c.Parties, partyJSON{p.Name, ids(p.Keys), max(p.Min, 1)})
	}
	for _, cl := range r.Classes {
		j := classJSON{Name: cl.Name, Prefix: cl.Prefix, Roles: []roleJSON{}, HashBins: cl.HashBins}
		for _, role := range cl.Roles {
			j.Roles = append(j.Roles, roleJSON{role.Party, role.Role, ids(role.Keys.Keys), max(role.Threshold, 1)})
		}
		if h := cl.Hold; h != nil {
			j.Hold = &holdJSON{h.Role, ids(h.Keys.Keys), max(h.Threshold, 1), int64(h.Max / time.Second)}
		}
		c.Classes = append(c.Classes, j)
	}
	p := r.Probe
	if p == (tuf.Probe{}) {
		p = tuf.Probe{MinOperators: 2, Every: 6 * time.Hour, MaxAge: 30 * 24 * time.Hour}
	}
	c.Probe = probeJSON{p.MinOperators, int64(p.Every / time.Second), int64(p.MaxAge / time.Second), "warn"}
	if p.Enforce {
		c.Probe.Mode = "enforce"
	}
	for _, x := range r.Retired {
		c.Retired = append(c.Retired, retiredJSON(x))
	}
	if x := r.Recovery; x != nil {
		j := &recoveryJSON{KeyIDs: []string{}, Orgs: []orgJSON{}, MinOrgs: cmp.Or(x.MinOrgs, 2), HoldSeconds: int64(cmp.Or(x.Hold, 14*24*time.Hour) / time.Second),
			MinTicks: cmp.Or(x.MinTicks, 14), Counter: x.Counter}
		j.Threshold = cmp.Or(x.Threshold, j.MinOrgs)
		for _, o := range x.Orgs {
			j.KeyIDs = append(j.KeyIDs, ids(o.Keys)...)
			j.Orgs = append(j.Orgs, orgJSON{o.Name, ids(o.Keys)})
		}
		c.Recovery = j
	}
	return c
}

// optionalTime formats a time; "" is the zero time.
func optionalTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return text.Time(t)
}

func locationsJSON(list []tuf.Location) []locationJSON {
	out := []locationJSON{}
	// Use the order in which locations are read, so that a diff shows no change.
	for _, l := range slices.SortedStableFunc(slices.Values(list), func(a, b tuf.Location) int { return a.Priority - b.Priority }) {
		out = append(out, locationJSON{l.ID, l.Tier, l.Operator, l.Jurisdiction, l.Base, pathsJSON{l.Metadata, l.Targets},
			l.Priority, optionalTime(l.UseFrom), optionalTime(l.UseUntil)})
	}
	return out
}

type recoveryJSON struct {
	KeyIDs      []string  `json:"keyids"`
	Orgs        []orgJSON `json:"orgs"`
	Threshold   int       `json:"threshold"`
	MinOrgs     int       `json:"min_orgs"`
	HoldSeconds int64     `json:"hold_seconds"`
	MinTicks    int       `json:"min_ticks"`
	Counter     int64     `json:"counter"`
}
