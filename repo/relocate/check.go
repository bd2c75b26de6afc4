package relocate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Criteria are what else must be true before the next step. Zero fields: the
// defaults.
type Criteria struct {
	Announced float64 `json:"announced"`  // share of the fleet that has seen the announcement, before the cut-over; 0.8
	Moved     float64 `json:"moved"`      // share of the fleet that has seen the cut-over, before the old places are retired; 0.98
	NewPlaces float64 `json:"new_places"` // share of requests that the new places answer, before the old ones are retired; 0.98
	Clients   int64   `json:"clients"`    // how many looks for a new root a census must have counted to say anything; 100
	// How long clients have at least to see the announcement, and both places serve.
	Announce time.Duration `json:"announce_ns"`   // 7 days
	Both     time.Duration `json:"serve_both_ns"` // 30 days
}

const day = 24 * time.Hour

func (c Criteria) withDefaults() Criteria {
	return Criteria{cmp.Or(c.Announced, 0.8), cmp.Or(c.Moved, 0.98), cmp.Or(c.NewPlaces, 0.98), cmp.Or(c.Clients, 100),
		cmp.Or(c.Announce, 7*day), cmp.Or(c.Both, 30*day)}
}

// check refuses a move that can't be, before its first step.
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
		{d.Announce, d.CutOver, c.Announce, "cut-over", "clients need time to see the announcement"},
		{d.CutOver, d.Retire, c.Both, "retirement", "both places serve for a while"},
		{d.CutOver, d.Sunset, 0, "sunset", "the old places serve for a while"},
	} {
		if x.from.IsZero() || x.to.IsZero() {
			return fmt.Errorf("%w: the date of the %s, or of what comes before it, is missing", ErrDates, x.what)
		}
		if !x.to.After(x.from) || x.to.Sub(x.from) < x.min {
			return fmt.Errorf("%w: %s at %s, %s after what comes before it; at least %s: %s", ErrDates, x.what, x.to.UTC().Format(time.DateOnly), days(x.to.Sub(x.from)), days(x.min), x.why)
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
	for _, share := range []float64{c.Announced, c.Moved, c.NewPlaces} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%w: a share of %v, want 0 to 1", ErrDates, share)
		}
	}
	if c.Announce < 0 || c.Both < 0 || c.Clients < 0 {
		return fmt.Errorf("%w: a criterion is negative", ErrDates)
	}
	return nil
}

// checkKeys refuses new keys that are no new keys, and places that can't be.
func (m *Move) checkKeys(ctx context.Context, r *repo.Repo) error {
	chain, err := r.Chain(ctx)
	if err != nil {
		return err
	}
	if len(chain) == 0 {
		return fmt.Errorf("%w: the repository is empty", ErrOrder)
	}
	if len(m.From) == 0 || len(m.To) == 0 {
		return fmt.Errorf("%w: a move needs a place to leave and one to go to", ErrPlaces)
	}
	tip := chain[len(chain)-1].Charter()
	for _, id := range m.From {
		if l := find(tip.Locations(), id); l != nil && l.Tier == tuf.Rendezvous {
			return fmt.Errorf("%w: %s is a rendezvous, which serves roots only and stays as it is", ErrPlaces, id)
		}
	}
	open := false
	for _, l := range m.To {
		if !l.UseFrom.IsZero() || !l.UseUntil.IsZero() {
			return fmt.Errorf("%w: %s: use_from and use_until are set by the steps", ErrPlaces, l.ID)
		}
		open = open || l.Tier == tuf.Primary || l.Tier == tuf.Mirror
	}
	if !open {
		return fmt.Errorf("%w: none of the new places is a primary or a mirror", ErrPlaces)
	}
	if err := m.checkFresh(chain); err != nil {
		return err
	}
	return m.checkOperators(tip)
}

// newKeys are all keys that the move brings, by what they are for.
func (m *Move) newKeys() map[string][]tuf.Key {
	all := map[string][]tuf.Key{"root": m.RootKeys, "timestamp": m.Timestamp.Keys, "snapshot": m.Snapshot.Keys, "targets": m.Targets.Keys}
	for role, k := range m.Release {
		all[role] = k.Keys
	}
	return all
}

// checkFresh holds the new keys against every key that any root ever named: who
// holds an old key must not hold a new one. Only before the move's own roots.
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
			return fmt.Errorf("%w: no new keys for %s", ErrKeys, role)
		}
		for _, k := range keys {
			print, err := k.Fingerprint()
			if err != nil {
				return fmt.Errorf("%w: %s: %w", ErrKeys, role, err)
			}
			if was, ok := old[print]; ok {
				return fmt.Errorf("%w: the new key %.16s of %s is known already: %s", ErrKeys, k.ID(), role, was)
			}
			if other, ok := seen[print]; ok && (role == "root" || other == "root") {
				return fmt.Errorf("%w: the new key %.16s is for %s and for %s", ErrKeys, k.ID(), role, other)
			}
			seen[print] = role
		}
	}
	if m.Min > len(m.RootKeys) {
		return fmt.Errorf("%w: %d of %d root keys must sign", ErrKeys, m.Min, len(m.RootKeys))
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
			return sameKeys(keys, m.RootKeys)
		}
	}
	return false
}

// allKeys are the fingerprints of all keys that a root names, with a role of each.
func allKeys(root roles) map[string]string {
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

// roles is a root, verified or proposed.
type roles interface {
	Charter() *tuf.Charter
	Keys(ids []string) map[string]tuf.Key
	RoleKeys(role string) (ids []string, threshold int)
}

// roleKeys are the key ids of every role that a root names.
func roleKeys(root roles) map[string][]string {
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

// checkOperators sees to it that enough operators are left to find a root at.
func (m *Move) checkOperators(tip *tuf.Charter) error {
	left := tuf.Operators(append(m.To, slices.DeleteFunc(tip.Locations(), func(l tuf.Location) bool {
		return slices.Contains(m.From, l.ID) || !l.UseUntil.IsZero()
	})...))
	if want := tip.Probe().MinOperators; left < want {
		return fmt.Errorf("%w: clients look for a new root at %d operators, the move leaves %d: add a rendezvous first", ErrPlaces, want, left)
	}
	return nil
}
