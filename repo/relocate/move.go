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

// Errors of a move and its steps. If a root would break a rule of the charter, the
// error wraps [tuf.ErrCharter] and names the rule.
var (
	// ErrLocations: the locations of the move do not fit the repository.
	ErrLocations = errors.New("locations")
	// ErrKeys: the new keys are missing, too few, or among the old ones.
	ErrKeys = errors.New("keys")
	// ErrDates: the dates are not in order, or leave too little time.
	ErrDates = errors.New("dates")
	// ErrOrder: the step is not the next one.
	ErrOrder = errors.New("out of order")
	// ErrEarly: the date of the step has not come yet.
	ErrEarly = errors.New("too early")
	// ErrRetired: a retired location can't be restored, because clients never contact it again.
	ErrRetired = errors.New("the location is retired")
)

// Move describes a move. All of its steps take the same value. Each step reads the
// current phase from the newest root, so a step may be repeated or taken by another
// process on another day. A Move can be stored as JSON.
type Move struct {
	// From are the ids of the old locations. All locations on a host must end together.
	From []string `json:"from"`
	// To are the new locations in their form after the cut-over, at least one primary
	// or mirror among them. The steps set UseFrom and UseUntil.
	To []tuf.Location `json:"to"`
	// Party is the party whose root keys are rotated; "": "vendor".
	Party string `json:"party,omitempty"`
	// RootKeys are the party's root keys from the cut-over on. Min is the least number
	// of them that must sign; 0: unchanged.
	RootKeys []tuf.Key `json:"root_keys"`
	Min      int       `json:"min,omitempty"` // see RootKeys
	// Timestamp, Snapshot and Targets are the online keys from the cut-over on.
	Timestamp repo.Keys `json:"timestamp"`
	Snapshot  repo.Keys `json:"snapshot"` // see Timestamp
	Targets   repo.Keys `json:"targets"`  // see Timestamp
	// Release are the new keys of the party's release roles, by role. Other roles keep
	// their keys.
	Release map[string]repo.Keys `json:"release,omitempty"`
	// Dates are the dates of the steps.
	Dates Dates `json:"dates"`
	// Criteria are further conditions of the steps; zero fields have defaults.
	Criteria Criteria `json:"criteria"`
}

// Dates of a move, in this order. A step is refused before its date and allowed at
// any time after it.
type Dates struct {
	Announce time.Time `json:"announce"` // publication of the new locations
	CutOver  time.Time `json:"cut_over"` // from then on the new locations have priority
	Sunset   time.Time `json:"sunset"`   // from then on clients do not contact the old locations
	Retire   time.Time `json:"retire"`   // may be before the sunset, not before the cut-over
}

// Phase is the progress of a move.
type Phase string

// The phases of a move.
const (
	PhasePlanned   Phase = "planned"   // no root of the move is published
	PhaseAnnounced Phase = "announced" // the new locations are listed with a later use_from
	PhaseCutOver   Phase = "cut over"  // the keys are rotated, the old locations are legacy
	PhaseRetired   Phase = "retired"   // clients never contact the old locations again
	PhaseCancelled Phase = "cancelled" // the move was cancelled after the cut-over: the old locations are listed again
)

func (m *Move) party() string { return cmp.Or(m.Party, "vendor") }

// Phase reads the phase of the move from the newest root. The error wraps
// [ErrOrder] if the root matches no phase of this move.
func (m *Move) Phase(ctx context.Context, r *repo.Repo) (Phase, error) {
	var phase Phase
	_, err := r.PlanRoots(ctx, repo.RootEdit{At: r.Now(), Edit: func(root *repo.Root) (err error) {
		phase, err = m.phase(root)
		return err
	}})
	return phase, err
}

// phase returns the phase of the move in a root.
func (m *Move) phase(root *repo.Root) (Phase, error) {
	p := slices.IndexFunc(root.Parties, func(p repo.Party) bool { return p.Name == m.party() })
	if p < 0 {
		return "", fmt.Errorf("relocate: %w: no party %q", ErrKeys, m.party())
	}
	fresh := layout.SameSet(root.Parties[p].Keys, m.RootKeys) && layout.SameSet(root.Timestamp.Keys, m.Timestamp.Keys) && layout.SameSet(root.Snapshot.Keys, m.Snapshot.Keys)
	var live, legacy, retired, to, later int
	for _, id := range m.From {
		switch l := find(root.Locations, id); {
		case l == nil && slices.ContainsFunc(root.Retired, func(x tuf.Retired) bool { return x.ID == id }):
			retired++
		case l == nil:
			return "", fmt.Errorf("relocate: %w: no location %q", ErrLocations, id)
		case l.Tier == tuf.Legacy && !l.UseUntil.IsZero():
			legacy++
		default:
			live++
		}
	}
	for _, want := range m.To {
		l := find(root.Locations, want.ID)
		if l == nil {
			continue
		}
		if l.Base != want.Base || l.Operator != want.Operator || l.Tier != want.Tier {
			return "", fmt.Errorf("relocate: %w: location %q is listed already and differs from the move", ErrLocations, want.ID)
		}
		to++
		if !l.UseFrom.IsZero() {
			later++
		}
	}
	from, all := len(m.From), len(m.To)
	switch {
	case !fresh && live == from && to == 0:
		return PhasePlanned, nil
	case !fresh && live == from && to == all && later == all:
		return PhaseAnnounced, nil
	case fresh && legacy == from && to == all && later == 0:
		return PhaseCutOver, nil
	case fresh && retired == from && to == all && later == 0:
		return PhaseRetired, nil
	case fresh && live == from && to == 0:
		return PhaseCancelled, nil
	}
	return "", fmt.Errorf("relocate: %w: the newest root matches no phase of this move: new keys %t; of %d old locations %d in use, %d legacy, %d retired; %d of %d new locations, %d for later",
		ErrOrder, fresh, from, live, legacy, retired, to, all, later)
}

func find(list []tuf.Location, id string) *tuf.Location {
	for i := range list {
		if list[i].ID == id {
			return &list[i]
		}
	}
	return nil
}

// The four edits of a root. Each changes the repo.Root of the previous phase.

// announce lists the new locations with the date of the cut-over as use_from.
func (m *Move) announce(root *repo.Root) error {
	for _, l := range m.To {
		l.UseFrom, l.UseUntil = whole(m.Dates.CutOver), time.Time{}
		root.Locations = append(root.Locations, l)
	}
	return nil
}

// cutOver rotates the keys and gives the new locations priority.
func (m *Move) cutOver(root *repo.Root) error {
	for i := range root.Parties {
		if p := &root.Parties[i]; p.Name == m.party() {
			p.Keys = m.RootKeys
			if m.Min > 0 {
				p.Min = m.Min
			}
		}
	}
	root.Timestamp, root.Snapshot, root.Targets = m.Timestamp, m.Snapshot, m.Targets
	for role, keys := range m.Release {
		if err := exchange(root, m.party(), role, keys); err != nil {
			return err
		}
	}
	last := 0
	for _, l := range m.To {
		last = max(last, l.Priority)
		if have := find(root.Locations, l.ID); have != nil {
			have.UseFrom = time.Time{}
		} else {
			root.Locations = append(root.Locations, l)
		}
	}
	for _, id := range m.From {
		if l := find(root.Locations, id); l != nil {
			l.Tier, l.UseUntil = tuf.Legacy, whole(m.Dates.Sunset)
			l.Priority = max(l.Priority, last+1)
		}
	}
	return nil
}

func exchange(root *repo.Root, party, role string, keys repo.Keys) error {
	for i := range root.Classes {
		for j := range root.Classes[i].Roles {
			if r := &root.Classes[i].Roles[j]; r.Role == role && r.Party == party {
				r.Keys = keys
				return nil
			}
		}
	}
	return fmt.Errorf("relocate: %w: party %s has no release role %q", ErrKeys, party, role)
}

// retire bans the hosts of the old locations.
func (m *Move) retire(root *repo.Root) error {
	for _, id := range m.From {
		if find(root.Locations, id) == nil {
			continue
		}
		if err := root.Retire(id); err != nil {
			return fmt.Errorf("relocate: %w: %w", ErrLocations, err)
		}
	}
	return nil
}

// abort restores the old locations and removes the new ones. It does not change
// keys: rotated keys are never used again.
func (m *Move) abort(root *repo.Root, before []tuf.Location) error {
	root.Locations = slices.DeleteFunc(root.Locations, func(l tuf.Location) bool { return find(m.To, l.ID) != nil })
	for _, id := range m.From {
		was, now := find(before, id), find(root.Locations, id)
		if was == nil || now == nil {
			return fmt.Errorf("relocate: %w: no location %q", ErrLocations, id)
		}
		*now = *was
	}
	return nil
}

// whole truncates a time to whole seconds of UTC, as in metadata.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
