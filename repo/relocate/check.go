package relocate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Criteria are the conditions of the steps, in addition to the dates. Zero fields
// have the stated defaults.
type Criteria struct {
	Announced    float64       `json:"announced"`     // share of the fleet with the announcing root, before the cut-over; 0.8
	Moved        float64       `json:"moved"`         // share of the fleet with the cut-over's root, before the retirement; 0.98
	NewLocations float64       `json:"new_locations"` // share of requests that the new locations answer, before the retirement; 0.98
	Clients      int64         `json:"clients"`       // least number of counted root checks; 100
	Announce     time.Duration `json:"announce_ns"`   // least time between announcement and cut-over; 7 days
	Both         time.Duration `json:"serve_both_ns"` // least time between cut-over and retirement; 30 days
}

const day = 24 * time.Hour

func (c Criteria) withDefaults() Criteria {
	return Criteria{cmp.Or(c.Announced, 0.8), cmp.Or(c.Moved, 0.98), cmp.Or(c.NewLocations, 0.98), cmp.Or(c.Clients, 100),
		cmp.Or(c.Announce, 7*day), cmp.Or(c.Both, 30*day)}
}

// check refuses an impossible move before its first step.
func (m *Move) check(ctx context.Context, r *repo.Repo) error {
	if err := errors.Join(m.checkDates(), m.checkCriteria()); err != nil {
		return err
	}
	return m.checkKeys(ctx, r)
}

func (m *Move) checkDates() error {
	d, c := m.Dates, m.Criteria.withDefaults()
	for _, x := range []struct {
		from, to  time.Time
		min       time.Duration
		what, why string
	}{
		{d.Announce, d.CutOver, c.Announce, "cut-over", "clients need time to get the announcement"},
		{d.CutOver, d.Retire, c.Both, "retirement", "old and new locations must serve for this time"},
		{d.CutOver, d.Sunset, 0, "sunset", "the old locations must serve after the cut-over"},
	} {
		if x.from.IsZero() || x.to.IsZero() {
			return fmt.Errorf("relocate: %w: the date of the %s, or of the step before it, is missing", ErrDates, x.what)
		}
		if !x.to.After(x.from) || x.to.Sub(x.from) < x.min {
			return fmt.Errorf("relocate: %w: %s on %s is %s after the step before it, want at least %s: %s", ErrDates, x.what, x.to.UTC().Format(time.DateOnly), days(x.to.Sub(x.from)), days(x.min), x.why)
		}
	}
	return nil
}

func days(d time.Duration) string {
	if d == day {
		return "1 day"
	}
	return fmt.Sprintf("%.4g days", d.Hours()/24)
}

func (m *Move) checkCriteria() error {
	c := m.Criteria
	for _, share := range []float64{c.Announced, c.Moved, c.NewLocations} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("relocate: %w: share %v, want 0 to 1", ErrDates, share)
		}
	}
	if c.Announce < 0 || c.Both < 0 || c.Clients < 0 {
		return fmt.Errorf("relocate: %w: a criterion is negative", ErrDates)
	}
	return nil
}

// checkKeys refuses keys that are not new, and impossible locations.
func (m *Move) checkKeys(ctx context.Context, r *repo.Repo) error {
	chain, err := r.Chain(ctx)
	if err != nil {
		return err
	}
	if len(chain) == 0 {
		return fmt.Errorf("relocate: %w: the repository is empty", ErrOrder)
	}
	if len(m.From) == 0 || len(m.To) == 0 {
		return fmt.Errorf("relocate: %w: a move needs an old and a new location", ErrLocations)
	}
	tip := chain[len(chain)-1].Charter()
	for _, id := range m.From {
		if l := find(tip.Locations(), id); l != nil && l.Tier == tuf.Rendezvous {
			return fmt.Errorf("relocate: %w: %s is a rendezvous, which serves roots only and can't be moved", ErrLocations, id)
		}
	}
	open := false
	for _, l := range m.To {
		if !l.UseFrom.IsZero() || !l.UseUntil.IsZero() {
			return fmt.Errorf("relocate: %w: %s: the steps set use_from and use_until, not the move", ErrLocations, l.ID)
		}
		open = open || l.Tier == tuf.Primary || l.Tier == tuf.Mirror
	}
	if !open {
		return fmt.Errorf("relocate: %w: none of the new locations is a primary or a mirror", ErrLocations)
	}
	if err := m.checkFresh(chain); err != nil {
		return err
	}
	return m.checkOperators(tip)
}

// newKeys returns all keys that the move introduces, by role.
func (m *Move) newKeys() map[string][]tuf.Key {
	all := map[string][]tuf.Key{"root": m.RootKeys, "timestamp": m.Timestamp.Keys, "snapshot": m.Snapshot.Keys, "targets": m.Targets.Keys}
	for role, k := range m.Release {
		all[role] = k.Keys
	}
	return all
}

// checkFresh compares the new keys with the keys of all roots before the move: a
// holder of an old key must not hold a new one.
func (m *Move) checkFresh(chain []*tuf.Root) error {
	old := map[string]string{}
	for _, root := range chain {
		if m.introduced(root) {
			break
		}
		for print, role := range allKeys(root) {
			old[print] = fmt.Sprintf("%s in root v%d", role, root.Version())
		}
	}
	seen := map[string]string{}
	for role, keys := range m.newKeys() {
		if len(keys) == 0 {
			return fmt.Errorf("relocate: %w: no new keys for %s", ErrKeys, role)
		}
		for _, k := range keys {
			print, err := k.Fingerprint()
			if err != nil {
				return fmt.Errorf("relocate: %w: %s: %w", ErrKeys, role, err)
			}
			if was, ok := old[print]; ok {
				return fmt.Errorf("relocate: %w: the new key %.16s of %s is not new: %s", ErrKeys, k.ID(), role, was)
			}
			if other, ok := seen[print]; ok && (role == "root" || other == "root") {
				return fmt.Errorf("relocate: %w: the new key %.16s is for %s and for %s", ErrKeys, k.ID(), role, other)
			}
			seen[print] = role
		}
	}
	if m.Min > len(m.RootKeys) {
		return fmt.Errorf("relocate: %w: min is %d of %d root keys", ErrKeys, m.Min, len(m.RootKeys))
	}
	return nil
}

// introduced reports whether a root has the move's root keys already.
func (m *Move) introduced(root *tuf.Root) bool {
	for _, p := range root.Charter().Parties() {
		if p.Name == m.party() {
			var keys []tuf.Key
			for _, k := range root.Keys(p.KeyIDs) {
				keys = append(keys, k)
			}
			return layout.SameSet(keys, m.RootKeys)
		}
	}
	return false
}

// allKeys returns the fingerprints of all keys of a root, each with one of its roles.
func allKeys(root tuf.RootView) map[string]string {
	out := map[string]string{}
	for role, ids := range roleKeys(root) {
		for _, k := range root.Keys(ids) {
			if print, err := k.Fingerprint(); err == nil {
				out[print] = role
			}
		}
	}
	return out
}

// roleKeys returns the key ids of every role of a root.
func roleKeys(root tuf.RootView) map[string][]string {
	out := map[string][]string{}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
		out[role], _ = root.RoleKeys(role)
	}
	for _, c := range root.Charter().Classes() {
		for _, r := range c.Roles {
			out[r.Role] = r.KeyIDs
		}
		if c.Hold != nil {
			out[c.Hold.Role] = c.Hold.KeyIDs
		}
	}
	if rec := root.Charter().Recovery(); rec != nil {
		for _, o := range rec.Orgs {
			out["recovery of "+o.Name] = o.KeyIDs
		}
	}
	return out
}

// checkOperators refuses a move that leaves fewer operators than root checks need.
func (m *Move) checkOperators(tip *tuf.Charter) error {
	left := tuf.Operators(append(m.To, slices.DeleteFunc(tip.Locations(), func(l tuf.Location) bool {
		return slices.Contains(m.From, l.ID) || !l.UseUntil.IsZero()
	})...))
	if want := tip.Probe().MinOperators; left < want {
		return fmt.Errorf("relocate: %w: root checks need %d operators, the move leaves %d: add a rendezvous first", ErrLocations, want, left)
	}
	return nil
}
