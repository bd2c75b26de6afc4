package relocate

import (
	"fmt"
	"strings"
	"time"
)

// Readiness is the readiness for the next step of a move, according to access logs.
type Readiness struct {
	Open     bool     `json:"open"`     // the criteria are met
	Step     Phase    `json:"step"`     // the phase after the step
	Root     int64    `json:"root"`     // version of the root that the fleet must have
	Polls    int64    `json:"polls"`    // counted root checks
	Fleet    float64  `json:"fleet"`    // share of the fleet at Root or newer
	WantedOf float64  `json:"wanted"`   // required share of the fleet
	New      float64  `json:"new"`      // share of requests at the new locations; 0 before the cut-over
	WantNew  float64  `json:"want_new"` // required share of requests at the new locations
	From     string   `json:"from"`     // first day of the logs
	To       string   `json:"to"`       // last day of the logs
	Why      []string `json:"why"`      // unmet criteria, human-readable; empty if Open
}

// Ready compares the adoption with the criteria for a step. step is
// [PhaseCutOver] with the version of the root that announced the move, or [PhaseRetired] with
// the version of the cut-over's root. The logs should cover several recent days.
func (m *Move) Ready(r *Adoption, step Phase, root int64) *Readiness {
	c := m.Criteria.withDefaults()
	g := &Readiness{Step: step, Root: root, Polls: r.Polls, Fleet: r.At(root), WantedOf: c.Announced, Why: []string{},
		From: r.From.Format(time.DateOnly), To: r.To.Format(time.DateOnly)}
	if step == PhaseRetired {
		g.WantedOf, g.WantNew = c.Moved, c.NewLocations
	}
	var n int64
	for _, p := range r.Locations {
		if find(m.To, p.Location) != nil {
			n += p.Requests
		}
	}
	g.New = share(n, r.Requests)
	if r.Polls < c.Clients {
		g.Why = append(g.Why, fmt.Sprintf("only %d root checks were counted, %d are needed for a decision", r.Polls, c.Clients))
	}
	if g.Fleet < g.WantedOf {
		g.Why = append(g.Why, fmt.Sprintf("%s of the fleet have root v%d, %s must have it", percent(g.Fleet), root, percent(g.WantedOf)))
	}
	if g.New < g.WantNew {
		g.Why = append(g.Why, fmt.Sprintf("the new locations answer %s of the requests, they must answer %s", percent(g.New), percent(g.WantNew)))
	}
	g.Open = len(g.Why) == 0
	return g
}

// String returns the result as one sentence.
func (g *Readiness) String() string {
	do := map[Phase]string{PhaseCutOver: "cut over", PhaseRetired: "retire the old locations"}[g.Step]
	if do == "" {
		do = "be " + string(g.Step)
	}
	if g.Open {
		s := fmt.Sprintf("You may %s: from %s to %s, %s of %d root checks came from clients at root v%d or newer", do, g.From, g.To, percent(g.Fleet), g.Polls, g.Root)
		if g.WantNew > 0 {
			s += fmt.Sprintf(", and the new locations answered %s of the requests", percent(g.New))
		}
		return s + "."
	}
	return fmt.Sprintf("Do not %s yet: %s.", do, strings.Join(g.Why, "; "))
}
