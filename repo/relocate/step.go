package relocate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// stage makes the draft of an edit, which may refuse by the phase it finds, and
// has package tuf judge the root in it before anybody is asked to sign.
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

// step is one root of the move: from one phase to the next. Where that has come
// already the draft is empty, and publishing it brings to an end what may have
// been cut off.
func (m *Move) step(ctx context.Context, r *repo.Repo, from, to Phase, due time.Time, edit func(*repo.Root) error) (*repo.Draft, error) {
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch {
		case now == to:
			return nil
		case now != from:
			return fmt.Errorf("%w: the move is %s, this step needs it %s", ErrOrder, now, from)
		case r.Now().Before(due):
			return fmt.Errorf("%w: it is due at %s", ErrEarly, stamp(due))
		}
		return edit(root)
	})
}

// Announce is the first root of a move: it lists the new places, for the day of
// the cut-over. Until then clients ask them last, but they ask them, so they
// must serve all that the old places do. Signed by both parties, with the old keys.
func (m *Move) Announce(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	if phase, err := m.Phase(ctx, r); err != nil {
		return nil, err
	} else if phase == Planned {
		// What can't come to its end is not begun.
		if _, err := m.Plan(ctx, r); err != nil {
			return nil, err
		}
	}
	return m.step(ctx, r, Planned, Announced, m.Dates.Announce, m.announce)
}

// CutOver is the second root: new root keys of the party, new online keys and
// with them a new epoch, floors at what is published; the new places come first,
// the old ones serve until the sunset. From its publication on only the new keys
// sign; the old places are byte mirrors.
//
// The old and the new keys must sign it. What is published with it is the bridge.
func (m *Move) CutOver(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	return m.step(ctx, r, Announced, CutOver, m.Dates.CutOver, m.cutOver)
}

// Retire is the third root: the old places are retired, by host. A client that
// has seen it never contacts them again. Those that have not seen it find the
// tombstone there, see [Tombstone]. Ask [Census] before: who only knows the old
// places has no other way.
func (m *Move) Retire(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	return m.step(ctx, r, CutOver, Retired, m.Dates.Retire, m.retire)
}

// Emergency is one root for all three steps, from where the move stands, and at
// once: when the old places or keys are in the wrong hands. Clients that sleep
// lose nothing by it. Where the old root keys of the party are lost as well as
// stolen nobody can sign it; see [tuf.RecoveryRule].
func (m *Move) Emergency(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	if err := m.checkKeys(ctx, r); err != nil {
		return nil, err
	}
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch now {
		case Retired:
			return nil
		case Cancelled:
			return fmt.Errorf("%w: the move is cancelled: its keys are used up, make another", ErrOrder)
		}
		if err := m.cutOver(root); err != nil {
			return err
		}
		return m.retire(root)
	})
}

// Abort takes a move back by going on: one more root lists the old places as they
// were before it, and the new ones no more. No version is withdrawn and no key
// comes back: after a cut-over the new keys stay. What was retired stays retired
// (an error that wraps [ErrRetired]).
func (m *Move) Abort(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	before := m.origin(chain)
	return m.stage(ctx, r, func(root *repo.Root, now Phase) error {
		switch now {
		case Planned, Cancelled:
			return nil
		case Retired:
			return fmt.Errorf("%w: clients never contact it again; move once more", ErrRetired)
		}
		return m.abort(root, before)
	})
}

// origin returns the places of the newest root in which those that end were in
// full use and none of the new ones was listed.
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
