package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Urgency grades how soon a role must be renewed.
type Urgency int

const (
	UrgencyFine    Urgency = iota // no action needed
	UrgencySoon                   // renewal is due: half of the lifetime is over; for root and targets.json, three quarters
	UrgencyUrgent                 // a quarter of the lifetime is left; for root and targets.json, an eighth
	UrgencyExpired                // it has expired, so clients refuse it
)

// String returns the grade as one word.
func (u Urgency) String() string {
	return [...]string{"fine", "soon", "urgent", "expired"}[u]
}

// RoleStatus is the expiry status of a role.
type RoleStatus struct {
	Role    string        // metadata role
	Version int64         // published
	Party   string        // the party whose keys suffice to renew it; "" if all parties or the operator must sign
	Expires time.Time     // of the published version
	Left    time.Duration // time until Expires; negative after it
	Urgency Urgency       // by Left and the lifetime of the role
	Needs   []Missing     // the signatures of a renewal; all are needed
	CanSign bool          // the configured signers suffice
	Lists   int           // number of hash bins that are renewed with it; Expires is the earliest expiry of all
}

// String returns a human-readable sentence.
func (d RoleStatus) String() string {
	when := fmt.Sprintf("expires in %s, on %s", text.Duration(d.Left), text.Time(d.Expires))
	if d.Urgency == UrgencyExpired {
		when = fmt.Sprintf("expired %s ago, on %s", text.Duration(-d.Left), text.Time(d.Expires))
	}
	var who []string
	for _, n := range d.Needs {
		who = append(who, fmt.Sprintf("%d of %d keys of %s", n.Want, len(n.KeyIDs), whoText(n.Who)))
	}
	how := "which are not available"
	if d.CanSign {
		how = "which are available"
	}
	lists := ""
	if d.Lists > 0 {
		lists = fmt.Sprintf(" with %d lists below it", d.Lists)
	}
	return text.Line(fmt.Sprintf("%s: %s v%d%s %s; it takes %s, %s", d.Urgency, roleText(d.Role), d.Version, lists, when, strings.Join(who, " and "), how))
}

// Event is a time at which the state changes without a new signature.
type Event struct {
	At   time.Time `json:"at"`   // of the event
	What string    `json:"what"` // human-readable
}

// Status is the result of [Repo.Status].
type Status struct {
	At    time.Time    // of the status
	Due   []RoleStatus // every role, sorted by expiry
	Dates []Event      // future events of locations, holds and recoveries
	// Ahead is how far signed_at of the newest root is ahead of this machine's clock; 0
	// up to 5 minutes. Clients use that date as the current time; see [Tx.Supersede].
	Ahead      time.Duration
	Unfinished bool // an interrupted publish left the newest root without content; Update or Renew completes it
	// Alarms are published roles that keys of the own party signed without its ledger. It
	// is empty unless Config.SharedLedger and Config.Party are set.
	Alarms []Alarm
}

// Alarm is a published version of a role of the own party that the party's shared ledger
// does not know, although keys of the party signed it.
type Alarm struct {
	Role    string `json:"role"`    // of the party
	Version int64  `json:"version"` // published
	Signed  int64  `json:"signed"`  // newest version that the ledger signed; 0: none
}

// String returns a human-readable sentence.
func (x Alarm) String() string {
	return text.Line(fmt.Sprintf("%s v%d is signed by keys of this party and is not in its ledger, which signed up to v%d: a key is compromised, or a machine signs without the shared ledger",
		text.Name(x.Role), x.Version, x.Signed))
}

// Urgency returns the highest urgency of all roles; at least UrgencyUrgent if there are
// alarms, or the newest root is ahead of the clock.
func (s *Status) Urgency() Urgency {
	worst := UrgencyFine
	if s.Ahead > 0 || len(s.Alarms) > 0 {
		worst = UrgencyUrgent
	}
	for _, d := range s.Due {
		worst = max(worst, d.Urgency)
	}
	return worst
}

// String returns one line for each problem, then for each role, then for each event.
func (s *Status) String() string {
	var lines []string
	for _, x := range s.Alarms {
		lines = append(lines, "ALARM "+x.String())
	}
	if s.Unfinished {
		lines = append(lines, "urgent: an interrupted publish left the newest root without content; Update or Renew completes it")
	}
	if s.Ahead > 0 {
		lines = append(lines, fmt.Sprintf("urgent: signed_at of the newest root is %s ahead of this machine's clock: clients use that as the current time; if the clock is right, a following root with the right date corrects them", text.Duration(s.Ahead)))
	}
	for _, d := range s.Due {
		lines = append(lines, d.String())
	}
	for _, d := range s.Dates {
		lines = append(lines, text.Line(fmt.Sprintf("on %s: %s", text.Time(d.At), d.What)))
	}
	return strings.Join(lines, "\n")
}

// Status reports the expiry of every published role and the signatures for its renewal,
// as of the given time. The grades of urgency follow from [Config].Expiry. Status needs
// no key; CanSign reports what the configured signers can renew.
func (r *Repo) Status(ctx context.Context, at time.Time) (_ *Status, err error) {
	defer text.OneLine(&err)
	for range maxReads {
		p, err := r.load(ctx)
		if err != nil {
			return nil, err
		}
		if s, err := r.status(ctx, p, at); !errors.Is(err, ErrConflict) {
			return s, err
		}
	}
	return nil, errBusy
}

func (r *Repo) status(ctx context.Context, p *present, at time.Time) (_ *Status, err error) {
	if p.root == nil {
		return nil, errEmpty
	}
	s := &Status{At: at, Ahead: r.ahead(p.root), Unfinished: p.snap == nil || p.under != p.root}
	layout := rootOf(p.root)
	add := func(role string, version int64, party string, expires time.Time, lists int, needs ...need) {
		d := RoleStatus{Role: role, Version: version, Party: party, Expires: expires, Left: expires.Sub(at), CanSign: true, Lists: lists}
		soon, urgent := r.cfg.Expiry.of(role)
		switch {
		case d.Left <= 0:
			d.Urgency = UrgencyExpired
		case d.Left < urgent:
			d.Urgency = UrgencyUrgent
		case d.Left < soon:
			d.Urgency = UrgencySoon
		}
		for _, n := range needs {
			d.Needs = append(d.Needs, Missing{Role: role, Files: max(lists, 1), Who: n.Who, Want: n.Threshold, KeyIDs: slices.Sorted(maps.Keys(n.Keys))})
			d.CanSign = d.CanSign && r.canSign(n)
		}
		s.Due = append(s.Due, d)
	}
	add("root", p.root.Version(), "", p.root.Expires(), 0, rootNeeds(layout, "the root")...)
	for _, l := range layout.Locations {
		for _, x := range []struct {
			at   time.Time
			what string
		}{{l.UseFrom, "is preferred from this time on"}, {l.UseUntil, "is no longer used"}} {
			if x.at.After(at) {
				s.Dates = append(s.Dates, Event{x.at, fmt.Sprintf("location %s (%s) %s", text.Name(l.ID), text.Name(l.Host()), x.what)})
			}
		}
	}
	for _, v := range slices.Sorted(maps.Keys(p.chain.Recovered)) {
		f := p.chain.Recovered[v]
		s.Dates = append(s.Dates, Event{f.Statement.Expires(), fmt.Sprintf("the statement of the recovery from root v%d expires: clients that have not completed the wait can't accept it afterwards, see RenewRecovery", v-1)})
	}
	if p.snap != nil {
		var mine *book
		if r.cfg.SharedLedger && r.cfg.Party != "" {
			if mine, err = r.loadBook(ctx, p.root.Charter().RepoID()); err != nil {
				return nil, err
			}
		}
		online := func(role string, k Keys) need { return need{role, keyMap(k.Keys), max(k.Threshold, 1), nil} }
		add("timestamp", p.ts.Version(), "", p.ts.Expires(), 0, online("timestamp", layout.Timestamp))
		add("snapshot", p.snap.Version(), "", p.snap.Expires(), 0, online("snapshot", layout.Snapshot))
		err = r.eachList(ctx, p, func(named) bool { return false }, func(x named, _ string, t *tuf.Targets, first time.Time, lists int) error {
			add(x.role, t.Version(), x.party, first, lists, x.need())
			if err := s.alarm(r.cfg.Party, mine, x, t); err != nil {
				return err
			}
			return s.holds(x, t)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(s.Due, func(a, b RoleStatus) int { return a.Expires.Compare(b.Expires) })
	s.Dates = slices.DeleteFunc(s.Dates, func(d Event) bool { return !d.At.After(at) })
	slices.SortStableFunc(s.Dates, func(a, b Event) int { return a.At.Compare(b.At) })
	return s, nil
}

// alarm adds a role of the own party whose published content the ledger did not sign. A
// ledger that has signed nothing for the role knows what it adopted.
func (s *Status) alarm(party string, mine *book, x named, t *tuf.Targets) error {
	if mine.empty() || x.party != party {
		return nil
	}
	env, err := metafile.Open(t.Bytes())
	if err != nil {
		return err
	}
	have := mine.body.Roles[x.role]
	if have == nil {
		have = &bookRole{}
	}
	sum, newest := metafile.SHA256(env.Signed), have.Floor
	for _, c := range have.Signed {
		if c.Version == t.Version() && c.SHA256 == sum {
			return nil
		}
		newest = max(newest, c.Version)
	}
	adopted := len(have.Signed) == 0 && have.Seen != nil && have.Seen.Version == t.Version() && have.Seen.SHA256 == sum
	if adopted || t.Version() <= have.Floor {
		return nil
	}
	s.Alarms = append(s.Alarms, Alarm{Role: x.role, Version: t.Version(), Signed: newest})
	return nil
}

// of returns the remaining lifetimes of a role at which its renewal is due and at which
// it becomes urgent.
func (e Expiry) of(role string) (soon, urgent time.Duration) {
	switch role {
	case "root":
		return e.Root / 4, e.Root / 8
	case "targets":
		return e.Targets / 4, e.Targets / 8
	case "timestamp":
		return e.Timestamp / 2, e.Timestamp / 4
	case "snapshot":
		return e.Snapshot / 2, e.Snapshot / 4
	}
	return e.Release / 2, e.Release / 4
}

// canSign reports whether the configured signers meet a rule.
func (r *Repo) canSign(n need) bool {
	have := map[string]bool{}
	for _, s := range r.cfg.Signers {
		if id := s.Key().ID(); n.Keys[id] != (tuf.Key{}) {
			have[id] = true
		}
	}
	return len(have) >= n.Threshold
}

// holds adds the ends of holds if t is a hold role.
func (s *Status) holds(x named, t *tuf.Targets) error {
	if x.party != "" || x.class == "" {
		return nil
	}
	targets, err := metafile.MemberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		var hold struct {
			Until  time.Time `json:"until"`
			Reason string    `json:"reason"`
		}
		if err := json.Unmarshal(metafile.Member(metafile.Member(v, "custom"), layout.ReleaseMember).JSON(), &hold); err == nil {
			s.Dates = append(s.Dates, Event{hold.Until, fmt.Sprintf("the hold on %s ends (%s)", text.Name(path.String()), text.Quote(hold.Reason))})
		}
	}
	return nil
}

// eachList calls fn for each published targets role that is signed separately: those
// that the root names, and the products below them, whose delegator is by. first is the
// earliest expiry of the role and its hash bins, lists the number of bins. If skip
// returns true, the bins are not read.
func (r *Repo) eachList(ctx context.Context, p *present, skip func(x named) bool, fn func(x named, by string, t *tuf.Targets, first time.Time, lists int) error) error {
	get := func(f tuf.RoleFile) ([]byte, error) { return r.read(ctx, p, f) }
	layout, listed := rootOf(p.under), slices.Sorted(slices.Values(p.snap.Roles()))
	own := ownNames(layout)
	var visit func(x named, by string, t *tuf.Targets) error
	visit = func(x named, by string, t *tuf.Targets) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		first, lists := t.Expires(), 0
		if x.role != "targets" { // its delegated roles are visited separately
			sets, err := metafile.DelegatedKeys(t)
			if err != nil {
				return err
			}
			keys := map[string]metafile.KeySet{} // of roles that are signed separately
			for _, k := range sets {
				keys[k.Role] = k
			}
			names, _, err := metafile.Delegated(t, listed, own)
			if err != nil {
				return err
			}
			for _, name := range names {
				if _, ok := keys[name]; !ok && skip(x) {
					continue
				}
				below, err := p.snap.Delegated(t, name, get)
				if err != nil {
					return fmt.Errorf("repo: %w", err)
				}
				if k, ok := keys[name]; ok {
					product := named{role: name, class: x.class, party: x.party, keys: Keys{slices.Collect(maps.Values(k.Keys)), k.Threshold}}
					if err := visit(product, x.role, below); err != nil {
						return err
					}
					continue
				}
				if lists++; below.Expires().Before(first) {
					first = below.Expires()
				}
			}
		}
		return fn(x, by, t, first, lists)
	}
	for _, x := range layout.lists() {
		t, err := p.snap.Role(x.role, get)
		if err != nil {
			return fmt.Errorf("repo: %w", err)
		}
		if err := visit(x, "", t); err != nil {
			return err
		}
	}
	return nil
}
