package relocate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// stage creates the draft of an edit. The edit gets the current phase and may refuse
// it. Package tuf checks the new root before the draft goes to the signers.
func (m *Move) stage(ctx context.Context, r *repo.Repo, edit func(*repo.Root, Phase) error) (*repo.Draft, error) {
	inPhase := func(root *repo.Root) error {
		phase, err := m.phase(root)
		if err != nil {
			return err
		}
		return edit(root, phase)
	}
	if _, err := r.PlanRoots(ctx, repo.RootEdit{At: r.Now(), Edit: inPhase}); err != nil {
		return nil, err
	}
	return r.Stage(ctx, func(tx *repo.Tx) error { return inPhase(tx.Root()) })
}

// step creates the draft of one root of the move, from one phase to the next. If the
// next phase is reached already, the draft is empty; publishing it completes an
// interrupted publication.
func (m *Move) step(ctx context.Context, r *repo.Repo, from, to Phase, due time.Time, edit func(*repo.Root) error) (*repo.Draft, error) {
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch {
		case now == to:
			return nil
		case now != from:
			return fmt.Errorf("relocate: %w: the move is %s, this step requires %s", ErrOrder, now, from)
		case r.Now().Before(due):
			return fmt.Errorf("relocate: %w: it is due at %s", ErrEarly, text.Time(due))
		}
		return edit(root)
	})
}

// Announce stages the first root of a move. It lists the new locations with the date
// of the cut-over as use_from. Until then clients use them last, but they do use
// them, so the new locations must serve everything that the old ones serve. Both
// parties sign it with the old keys.
func (m *Move) Announce(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	if phase, err := m.Phase(ctx, r); err != nil {
		return nil, err
	} else if phase == PhasePlanned {
		// A move that can't be completed must not start.
		if _, err := m.Plan(ctx, r); err != nil {
			return nil, err
		}
	}
	return m.step(ctx, r, PhasePlanned, PhaseAnnounced, m.Dates.Announce, m.announce)
}

// CutOver stages the second root. It rotates the party's root keys and the online
// keys, begins a new epoch and sets the floors to the published versions. The new
// locations get priority; the old ones serve until the sunset. After its publication
// only the new keys sign, and the old locations are mirrors.
//
// The old and the new keys must sign it. Publish it with [Move.DualSigner].
func (m *Move) CutOver(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	return m.step(ctx, r, PhaseAnnounced, PhaseCutOver, m.Dates.CutOver, m.cutOver)
}

// Retire stages the third root. It retires the hosts of the old locations: a client
// with this root never contacts them again. Clients with an older root find a
// roots-only copy there, see [PublishRootsOnly]. Check [AccessLog] before: clients that know
// only the old locations have no other way to get this root.
func (m *Move) Retire(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	return m.step(ctx, r, PhaseCutOver, PhaseRetired, m.Dates.Retire, m.retire)
}

// Emergency stages one root for all remaining steps, without regard to dates. It is
// for compromised locations or keys. Offline clients lose nothing by it. It must be
// signed with the old root keys; for lost keys see [tuf.RecoveryRule].
func (m *Move) Emergency(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	if err := m.checkKeys(ctx, r); err != nil {
		return nil, err
	}
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch now {
		case PhaseRetired:
			return nil
		case PhaseCancelled:
			return fmt.Errorf("relocate: %w: the move is cancelled and its keys are used: create another move", ErrOrder)
		}
		if err := m.cutOver(root); err != nil {
			return err
		}
		return m.retire(root)
	})
}

// Abort cancels a move by staging one more root that restores the old locations and
// removes the new ones. It withdraws no version and restores no key: after a
// cut-over the new keys remain. Retired locations can't be restored: the error then
// wraps [ErrRetired].
func (m *Move) Abort(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	before := m.origin(chain)
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch now {
		case PhasePlanned, PhaseCancelled:
			return nil
		case PhaseRetired:
			return fmt.Errorf("relocate: %w: clients never contact it again; a further move is needed", ErrRetired)
		}
		return m.abort(root, before)
	})
}

// origin returns the locations of the newest root that lists all old locations in
// full use and none of the new ones.
func (m *Move) origin(chain []*tuf.Root) []tuf.Location {
	for _, root := range slices.Backward(chain) {
		list := root.Charter().Locations()
		lives := func(id string) bool { l := find(list, id); return l != nil && l.Tier != tuf.Legacy }
		isNew := func(l tuf.Location) bool { return find(list, l.ID) != nil }
		if !slices.ContainsFunc(m.From, func(id string) bool { return !lives(id) }) && !slices.ContainsFunc(m.To, isNew) {
			return list
		}
	}
	return nil
}
