package tuf

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Party is an organisation that must sign every new root.
type Party struct {
	Name   string   // unique in the charter
	KeyIDs []string // the party's root keys
	Min    int      // the least number of them that must sign a root
}

// ReleaseRole is one party's targets role in a class. The charter, not
// targets.json, states its keys.
type ReleaseRole struct {
	Party, Role string   // name of the party, name of the targets role
	KeyIDs      []string // keys of the role
	Threshold   int      // least number of them that must sign
}

// Hold describes the role whose keys can stop new installs for a limited time. It
// is a targets role that lists the held paths, each with
//
//	"custom": {"visum": {"reason": "...", "at": "2018-11-12T09:00:00Z", "until": "2018-11-14T09:00:00Z"}}
//
// A hold ends at until, or Max after at if that is earlier. If at is absent or in
// the future, the start of the hold is unknown and until must be at most Max from
// now; a later until is malformed. A malformed hold stops new installs of the path
// too, until the role lists a valid one. So no valid hold lasts longer than Max.
type Hold struct {
	Role      string        // name of the targets role
	KeyIDs    []string      // keys of the role
	Threshold int           // least number of them that must sign
	Max       time.Duration // greatest duration of a hold
}

// Class is a set of target paths with a common prefix, with the roles that must
// agree on them.
type Class struct {
	Name, Prefix string        // unique in the charter; the prefix of its target paths, ends in /
	Roles        []ReleaseRole // at least one for each party; all must agree
	Hold         *Hold         // nil: releases of this class can't be held
	HashBins     bool          // snapshots list the sha256 of the class's hash bins too
}

// Tiers of a location.
const (
	Primary    = "primary"    // serves metadata and targets
	Mirror     = "mirror"     // serves a copy of metadata and targets
	Legacy     = "legacy"     // the old location during a move
	Rendezvous = "rendezvous" // serves roots only, at another operator
)

// Location describes a server of the repository.
type Location struct {
	ID           string    `json:"id"`                     // unique
	Tier         string    `json:"tier"`                   // one of the tiers
	Operator     string    `json:"operator"`               // name of the operator
	Jurisdiction string    `json:"jurisdiction,omitempty"` // free text such as a country code
	Base         string    `json:"base"`                   // https URL of a public host name or address (H4), ends in /
	Metadata     string    `json:"metadata"`               // path below Base, ends in /
	Targets      string    `json:"targets,omitempty"`      // as Metadata; "" if the location serves no targets
	Priority     int       `json:"priority"`               // lower is asked first
	UseFrom      time.Time `json:"use_from,omitzero"`      // until then clients ask it last; zero: no restriction
	UseUntil     time.Time `json:"use_until,omitzero"`     // zero: no end
}

// Retired is a location whose hosts clients must no longer contact.
type Retired struct {
	ID    string   `json:"id"`    // id of the former location
	Hosts []string `json:"hosts"` // lower case, without port
}

// Probe is the rule for root checks: requests for root N+1 at several operators.
type Probe struct {
	MinOperators int           // operators that must answer
	Every        time.Duration // interval of root checks
	MaxAge       time.Duration // greatest age of the last complete root check
	Enforce      bool          // beyond MaxAge the client refuses new content; false: it only warns
}

// Floors are the lowest versions of content that are valid under a root.
type Floors struct {
	Timestamp, Snapshot, Targets int64 // versions; 0: no floor
}

// Charter is the agreement of the parties, read from a verified root. Methods
// return copies.
type Charter struct {
	repoID    string
	seq       int64
	epoch     int64
	signedAt  time.Time
	prev      string
	parties   []Party
	classes   []Class
	floors    Floors
	probe     Probe
	locations []Location
	retired   []Retired
	recovery  *RecoveryRule
	log       *LogRule
	unchanged string // canonical form without the members that every root changes (H2)
	// The canonical forms of the members log and recovery; "" without them.
	logText, recoveryText string
}

// RepoID identifies the repository in all of its locations: 32 hex digits.
func (c *Charter) RepoID() string { return c.repoID }

// Seq orders charters. It never decreases, and it increases, by any amount, with
// every change of the charter (rule H2).
func (c *Charter) Seq() int64 { return c.seq }

// Epoch counts the generations of online keys.
func (c *Charter) Epoch() int64 { return c.epoch }

// SignedAt is the time at which the root was signed, as stated by its signers.
func (c *Charter) SignedAt() time.Time { return c.signedAt }

// PrevRoot is the sha256, in hex, of the signed part of the previous root. It is
// evidence for audits; no check of this package uses it.
func (c *Charter) PrevRoot() string { return c.prev }

// Floors returns the lowest valid versions under this root.
func (c *Charter) Floors() Floors { return c.floors }

// Probe returns the rule for root checks.
func (c *Charter) Probe() Probe { return c.probe }

// Parties returns the parties in the charter's order.
func (c *Charter) Parties() []Party {
	out := slices.Clone(c.parties)
	for i := range out {
		out[i].KeyIDs = slices.Clone(out[i].KeyIDs)
	}
	return out
}

// Classes returns the classes in the charter's order.
func (c *Charter) Classes() []Class {
	out := slices.Clone(c.classes)
	for i := range out {
		out[i].Roles = slices.Clone(out[i].Roles)
		for j := range out[i].Roles {
			out[i].Roles[j].KeyIDs = slices.Clone(out[i].Roles[j].KeyIDs)
		}
		if h := out[i].Hold; h != nil {
			copied := *h
			copied.KeyIDs = slices.Clone(h.KeyIDs)
			out[i].Hold = &copied
		}
	}
	return out
}

// Locations returns the locations in order of priority.
func (c *Charter) Locations() []Location { return slices.Clone(c.locations) }

// Retired returns the locations that clients must not contact.
func (c *Charter) Retired() []Retired {
	out := slices.Clone(c.retired)
	for i := range out {
		out[i].Hosts = slices.Clone(out[i].Hosts)
	}
	return out
}

// Recovery returns the rule for a loss of the root threshold; nil if the charter
// has none.
func (c *Charter) Recovery() *RecoveryRule {
	if c.recovery == nil {
		return nil
	}
	out := c.recovery.clone()
	return &out
}

// Log returns what this charter says about the log; nil if it says nothing. See
// [Root.LogRule] for what is in force.
func (c *Charter) Log() *LogRule { return c.log.clone() }

func (c *Charter) party(name string) *Party {
	for i := range c.parties {
		if c.parties[i].Name == name {
			return &c.parties[i]
		}
	}
	return nil
}

// class returns the class that owns path, or nil.
func (c *Charter) class(path string) *Class {
	for i := range c.classes {
		if strings.HasPrefix(path, c.classes[i].Prefix) {
			return &c.classes[i]
		}
	}
	return nil
}

// Limits of the charter. They can't grow: years-old clients must be able to read
// every new charter.
const (
	maxCharter   = 64 << 10
	maxLocations = 32
	maxRetired   = 64
	maxParties   = 8
	maxClasses   = 32
)

// parseCharter reads a charter from a root's verified bytes. It checks the form
// only; rules.go checks the relations between members and keys.
func parseCharter(v wire.Value) (*Charter, error) {
	if len(v) > maxCharter {
		return nil, syntaxf("charter of %d bytes, at most %d", len(v), maxCharter)
	}
	if err := onlySimple(v); err != nil {
		return nil, err
	}
	c := &Charter{}
	var r reader
	var schema, repoID, seq, epoch, signedAt, prev, parties, classes, floors, probe, locations, retired, recovery, log wire.Value
	r.fields(v, wire.Field{Name: "schema", To: &schema}, wire.Field{Name: "repo_id", To: &repoID}, wire.Field{Name: "seq", To: &seq},
		wire.Field{Name: "epoch", To: &epoch}, wire.Field{Name: "signed_at", To: &signedAt}, wire.Field{Name: "prev_root_sha256", To: &prev},
		wire.Field{Name: "parties", To: &parties}, wire.Field{Name: "classes", To: &classes}, wire.Field{Name: "floors", To: &floors},
		wire.Field{Name: "probe", To: &probe}, wire.Field{Name: "locations", To: &locations}, wire.Field{Name: "retired", To: &retired},
		wire.Field{Name: "recovery", To: &recovery}, wire.Field{Name: "log", To: &log})
	if n := r.int(schema); n != 1 {
		r.fail("charter schema is %d, want 1", n)
	}
	c.repoID, c.seq, c.epoch = r.text(repoID), r.int(seq), r.int(epoch)
	c.signedAt, c.prev = r.time(signedAt), r.text(prev)
	if c.signedAt.IsZero() {
		r.fail("charter without signed_at")
	}
	r.list(parties, "parties", maxParties, func(e wire.Value) {
		var name, min, ids wire.Value
		r.fields(e, wire.Field{Name: "name", To: &name}, wire.Field{Name: "min", To: &min}, wire.Field{Name: "keyids", To: &ids})
		c.parties = append(c.parties, Party{Name: r.text(name), KeyIDs: r.strings(ids), Min: int(min32(r.int(min)))})
	})
	r.list(classes, "classes", maxClasses, func(e wire.Value) { c.classes = append(c.classes, r.class(e)) })
	if floors != nil {
		var ts, sn, tg wire.Value
		r.fields(floors, wire.Field{Name: "timestamp", To: &ts}, wire.Field{Name: "snapshot", To: &sn}, wire.Field{Name: "targets", To: &tg})
		c.floors = Floors{r.int(ts), r.int(sn), r.int(tg)}
	}
	c.probe = Probe{MinOperators: 2, Every: 6 * time.Hour, MaxAge: 30 * 24 * time.Hour}
	if probe != nil {
		var ops, every, age, mode wire.Value
		r.fields(probe, wire.Field{Name: "min_operators", To: &ops}, wire.Field{Name: "every_seconds", To: &every},
			wire.Field{Name: "max_age_seconds", To: &age}, wire.Field{Name: "mode", To: &mode})
		m := r.text(mode)
		if m != "warn" && m != "enforce" {
			r.fail("probe mode %s, want warn or enforce", text.Quote(m))
		}
		c.probe = Probe{int(min32(r.int(ops))), r.seconds(every), r.seconds(age), m == "enforce"}
		if c.probe.MinOperators < 1 || c.probe.MinOperators > maxLocations || c.probe.Every <= 0 || c.probe.MaxAge <= 0 {
			r.fail("probe with min_operators %d, every %s, max age %s", c.probe.MinOperators, c.probe.Every, c.probe.MaxAge)
		}
	}
	c.locations = r.locations(locations)
	r.list(retired, "retired", maxRetired, func(e wire.Value) {
		var id, hosts wire.Value
		r.fields(e, wire.Field{Name: "id", To: &id}, wire.Field{Name: "hosts", To: &hosts})
		c.retired = append(c.retired, Retired{r.text(id), r.strings(hosts)})
	})
	c.recovery, c.recoveryText = r.recovery(recovery), string(recovery)
	c.log, c.logText = r.logRule(log), string(log)
	c.unchanged = withoutRenewal(v)
	return c, r.err
}

func (r *reader) class(e wire.Value) Class {
	var c Class
	var name, prefix, roles, hold, bins wire.Value
	r.fields(e, wire.Field{Name: "name", To: &name}, wire.Field{Name: "prefix", To: &prefix},
		wire.Field{Name: "roles", To: &roles}, wire.Field{Name: "hold", To: &hold},
		wire.Field{Name: "hash_bins", To: &bins})
	c.Name, c.Prefix = r.text(name), r.text(prefix)
	r.list(roles, "roles of a class", 2*maxParties, func(e wire.Value) {
		var party, role wire.Value
		k := r.keys(e, wire.Field{Name: "party", To: &party}, wire.Field{Name: "role", To: &role})
		c.Roles = append(c.Roles, ReleaseRole{r.text(party), r.text(role), k.keyIDs, k.threshold})
	})
	if hold != nil {
		var role, max wire.Value
		k := r.keys(hold, wire.Field{Name: "role", To: &role}, wire.Field{Name: "max_seconds", To: &max})
		c.Hold = &Hold{r.text(role), k.keyIDs, k.threshold, r.seconds(max)}
	}
	if bins != nil {
		b, err := bins.Bool()
		if err != nil {
			r.fail("hash_bins: %v", err)
		}
		c.HashBins = b
	}
	return c
}

func (r *reader) locations(v wire.Value) (list []Location) {
	r.list(v, "locations", maxLocations, func(e wire.Value) {
		var id, tier, operator, jurisdiction, base, paths, priority, from, until, md, tg wire.Value
		r.fields(e, wire.Field{Name: "id", To: &id}, wire.Field{Name: "tier", To: &tier}, wire.Field{Name: "operator", To: &operator},
			wire.Field{Name: "jurisdiction", To: &jurisdiction}, wire.Field{Name: "base", To: &base}, wire.Field{Name: "paths", To: &paths},
			wire.Field{Name: "priority", To: &priority}, wire.Field{Name: "use_from", To: &from}, wire.Field{Name: "use_until", To: &until})
		r.fields(paths, wire.Field{Name: "metadata", To: &md}, wire.Field{Name: "targets", To: &tg})
		list = append(list, Location{ID: r.text(id), Tier: r.text(tier), Operator: r.text(operator), Jurisdiction: r.text(jurisdiction),
			Base: r.text(base), Metadata: r.text(md), Targets: r.text(tg), Priority: int(min32(r.int(priority))), UseFrom: r.time(from), UseUntil: r.time(until)})
	})
	slices.SortStableFunc(list, func(a, b Location) int { return a.Priority - b.Priority })
	return list
}

func min32(n int64) int64 { return min(n, 1<<31-1) }

// onlySimple refuses values that another decoder might read differently: null
// and integers of 2^53 and more. Canonical JSON has no fractions.
func onlySimple(v wire.Value) error {
	switch v.Kind() {
	case 'n':
		return syntaxf("null")
	case '{':
		for _, m := range v.Members() {
			if err := onlySimple(m); err != nil {
				return err
			}
		}
	case '[':
		for e := range v.Elements() {
			if err := onlySimple(e); err != nil {
				return err
			}
		}
	case '"', 't', 'f':
	default:
		if n, err := v.Int(); err != nil || n >= 1<<53 || n <= -1<<53 {
			return syntaxf("integer %s is not below 2^53", v)
		}
	}
	return nil
}

// withoutRenewal returns the charter's canonical form without the members that a
// renewal changes.
func withoutRenewal(v wire.Value) string {
	var b strings.Builder
	for name, m := range v.Members() {
		switch string(name) {
		case "signed_at", "prev_root_sha256", "seq":
			continue
		}
		// The canonical bytes of the name are used: an unescaped name could look like two members.
		fmt.Fprintf(&b, "\"%s\":%s,", []byte(name), []byte(m))
	}
	return b.String()
}

var (
	repoIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	idForm     = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	nameForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

// RecoveryRule is the charter's rule for the case that the root threshold can no
// longer be met. Recovery keys, held by organisations without any other role in
// the repository, may then sign a statement that names the next root. Clients
// accept that root after a waiting period. In the charter:
//
//	"recovery": {"keyids": ["k1","k2","k3"], "orgs": [{"name": "bank", "keyids": ["k1","k2"]}, {"name": "university", "keyids": ["k3"]}],
//	             "threshold": 2, "min_orgs": 2, "hold_seconds": 1209600, "min_ticks": 14, "counter": 1}
type RecoveryRule struct {
	Orgs      []Org         // organisations that hold recovery keys
	Threshold int           // keys that must sign
	MinOrgs   int           // least number of organisations that these keys belong to
	Hold      time.Duration // the waiting period, in which the client looks for a regular root
	MinTicks  int           // least number of root checks in the waiting period
	Counter   int64         // statements with a lower counter are invalid
}

// Org is an organisation that holds recovery keys.
type Org struct {
	Name   string   // unique in the rule
	KeyIDs []string // the organisation's recovery keys
}

func (r RecoveryRule) clone() RecoveryRule {
	r.Orgs = slices.Clone(r.Orgs)
	for i := range r.Orgs {
		r.Orgs[i].KeyIDs = slices.Clone(r.Orgs[i].KeyIDs)
	}
	return r
}

// recovery reads the recovery member of a charter.
func (r *reader) recovery(v wire.Value) *RecoveryRule {
	if v == nil {
		return nil
	}
	var keyIDs, orgs, threshold, minOrgs, hold, ticks, counter wire.Value
	r.fields(v, wire.Field{Name: "keyids", To: &keyIDs}, wire.Field{Name: "orgs", To: &orgs}, wire.Field{Name: "threshold", To: &threshold},
		wire.Field{Name: "min_orgs", To: &minOrgs}, wire.Field{Name: "hold_seconds", To: &hold}, wire.Field{Name: "min_ticks", To: &ticks},
		wire.Field{Name: "counter", To: &counter})
	rule := &RecoveryRule{Threshold: int(min32(r.int(threshold))), MinOrgs: int(min32(r.int(minOrgs))), Hold: r.seconds(hold),
		MinTicks: int(min32(r.int(ticks))), Counter: r.int(counter)}
	all := map[string]bool{}
	for _, id := range r.strings(keyIDs) {
		all[id] = true
	}
	named := 0
	r.list(orgs, "organisations", maxOrgs, func(e wire.Value) {
		var name, ids wire.Value
		r.fields(e, wire.Field{Name: "name", To: &name}, wire.Field{Name: "keyids", To: &ids})
		o := Org{r.text(name), r.strings(ids)}
		rule.Orgs = append(rule.Orgs, o)
		named += len(o.KeyIDs)
		for _, id := range o.KeyIDs {
			if !all[id] {
				r.fail("recovery: key %s of %s is not among the keyids", shortID(id), text.Name(o.Name))
			}
		}
	})
	if named != len(all) {
		r.fail("recovery: %d keyids, the organisations hold %d", len(all), named)
	}
	return rule
}
