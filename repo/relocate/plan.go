package relocate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Plan holds the three roots of a move, computed in advance, and the conditions of
// each. It can be marshalled to JSON; String is human-readable.
type Plan struct {
	Move   Move          `json:"move"`    // the move, with default criteria filled in
	RepoID string        `json:"repo_id"` // see [tuf.Charter.RepoID]
	Root   int64         `json:"root"`    // version of the newest root, the start of the move
	Made   time.Time     `json:"made"`    // time of the plan
	Roots  []PlannedRoot `json:"roots"`   // announcement, cut-over, retirement
}

// PlannedRoot is one root of a plan.
type PlannedRoot struct {
	Phase     Phase     `json:"phase"`     // phase after its publication
	Version   int64     `json:"version"`   // version of the root
	Due       time.Time `json:"due"`       // date of its publication
	Expires   time.Time `json:"expires"`   // expiry of the root
	Seq       int64     `json:"seq"`       // see [tuf.Charter.Seq]
	Epoch     int64     `json:"epoch"`     // see [tuf.Charter.Epoch]
	Threshold int       `json:"threshold"` // of the root role
	Signers   []string  `json:"signers"`   // human-readable: required signatures
	Locations []string  `json:"locations"` // human-readable: its locations
	Before    []string  `json:"before"`    // human-readable: conditions of its publication
	// Document is the root without signatures. Its dates are those of the plan; its
	// floors are the versions that were published when the plan was made.
	Document json.RawMessage `json:"document"`
}

// Plan computes the three roots with the code of the steps and checks each with the
// code of the clients (H1 to H10, H12). It signs and writes nothing. The error wraps
// [ErrLocations], [ErrKeys], [ErrDates], [ErrOrder], or [tuf.ErrCharter] with the rule
// and the root that breaks it.
func (m *Move) Plan(ctx context.Context, r *repo.Repo) (*Plan, error) {
	if err := m.check(ctx, r); err != nil {
		return nil, err
	}
	if phase, err := m.Phase(ctx, r); err != nil {
		return nil, err
	} else if phase != PhasePlanned {
		return nil, fmt.Errorf("relocate: %w: the move is %s already", ErrOrder, phase)
	}
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	tip := chain[len(chain)-1]
	d := m.Dates
	proposals, err := r.PlanRoots(ctx, repo.RootEdit{At: d.Announce, Edit: m.announce}, repo.RootEdit{At: d.CutOver, Edit: m.cutOver}, repo.RootEdit{At: d.Retire, Edit: m.retire})
	if err != nil {
		return nil, err
	}
	p := &Plan{Move: *m, RepoID: tip.Charter().RepoID(), Root: tip.Version(), Made: r.Now()}
	p.Move.Criteria = m.Criteria.withDefaults()
	due := []time.Time{d.Announce, d.CutOver, d.Retire}
	var last tuf.RootView = tip
	for i, root := range proposals {
		if err := last.CheckExpiry(due[i]); err != nil {
			return nil, fmt.Errorf("relocate: %w: root v%d expires before the next root is due: %w", ErrDates, last.Version(), err)
		}
		p.Roots = append(p.Roots, p.describe(i, root, last, due[i]))
		last = root
	}
	return p, nil
}

func (p *Plan) describe(i int, root *tuf.Proposal, last tuf.RootView, due time.Time) PlannedRoot {
	c := root.Charter()
	_, threshold := root.RoleKeys("root")
	out := PlannedRoot{Phase: []Phase{PhaseAnnounced, PhaseCutOver, PhaseRetired}[i], Version: root.Version(), Due: due, Expires: root.Expires(),
		Seq: c.Seq(), Epoch: c.Epoch(), Threshold: threshold, Document: root.Bytes()}
	out.Signers = signers(last, root)
	for _, l := range c.Locations() {
		s := fmt.Sprintf("%s %s (%s, %s)", l.Tier, text.Name(l.ID), text.Name(l.Operator), text.Line(l.Base))
		if !l.UseFrom.IsZero() {
			s += ", preferred from " + l.UseFrom.Format(time.DateOnly) + " on"
		}
		if !l.UseUntil.IsZero() {
			s += ", not contacted from " + l.UseUntil.Format(time.DateOnly) + " on"
		}
		out.Locations = append(out.Locations, s)
	}
	for _, x := range c.Retired() {
		out.Locations = append(out.Locations, text.Line("retired "+x.ID+" ("+strings.Join(x.Hosts, ", ")+"): never contacted"))
	}
	out.Before = p.before(i)
	return out
}

// before returns the conditions for the publication of a root.
func (p *Plan) before(i int) []string {
	c := p.Move.Criteria
	to := names(p.Move.To)
	switch i {
	case 0:
		return []string{
			to + " serve identical copies of all published files: Preflight reports no error",
			"a Drill with the signed draft reports no violation",
		}
	case 1:
		return []string{
			fmt.Sprintf("root v%d has been published for at least %s", p.Root+1, days(c.Announce)),
			fmt.Sprintf("access logs show %s of the fleet at root v%d or newer (AccessLog)", percent(c.Announced), p.Root+1),
			"Preflight reports no error, a Drill with the signed draft no violation",
			"the new online keys are available at the new location, and the old ones are still available for dual signing (DualSigner)",
		}
	}
	return []string{
		fmt.Sprintf("root v%d has been published for at least %s", p.Root+2, days(c.Both)),
		fmt.Sprintf("access logs show %s of the fleet at root v%d or newer, and %s of the requests at %s (AccessLog)", percent(c.Moved), p.Root+2, percent(c.NewLocations), to),
		"Preflight reports no error, a Drill with the signed draft no violation",
	}
}

// signers describes the required signatures of next, the successor of last.
func signers(last, next tuf.RootView) []string {
	var out []string
	add := func(root tuf.RootView, what string) {
		for _, x := range root.Charter().Parties() {
			s := fmt.Sprintf("%d of the %d %s keys of party %s", x.Min, len(x.KeyIDs), what, x.Name)
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
		ids, n := root.RoleKeys("root")
		if s := fmt.Sprintf("%d of the %d %s keys in all", n, len(ids), what); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	a, _ := last.RoleKeys("root")
	b, _ := next.RoleKeys("root")
	slices.Sort(a)
	slices.Sort(b)
	if slices.Equal(a, b) {
		add(next, "root")
		return out
	}
	add(last, "old root")
	add(next, "new root")
	return out
}

func names(list []tuf.Location) string {
	var out []string
	for _, l := range list {
		out = append(out, l.ID)
	}
	return strings.Join(out, " and ")
}

func percent(share float64) string { return fmt.Sprintf("%.4g %%", share*100) }

// String returns the human-readable plan.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Move of repository %s from %s to %s, starting at root v%d.\n", p.RepoID, strings.Join(p.Move.From, " and "), names(p.Move.To), p.Root)
	for _, r := range p.Roots {
		fmt.Fprintf(&b, "\nRoot v%d, %s, due %s, expires %s; epoch %d.\n", r.Version, r.Phase, r.Due.Format(time.DateOnly), r.Expires.Format(time.DateOnly), r.Epoch)
		for _, part := range []struct {
			head  string
			lines []string
		}{{"Conditions", r.Before}, {"Locations", r.Locations}, {"Signed by", r.Signers}} {
			fmt.Fprintf(&b, "  %s:\n", part.head)
			for _, l := range part.lines {
				fmt.Fprintf(&b, "    %s\n", l)
			}
		}
	}
	return b.String()
}
