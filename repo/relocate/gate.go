package relocate

import (
	"fmt"
	"strings"
	"time"
)

// Gate is the answer to one question: may the next step be taken, by what the
// logs say?
type Gate struct {
	Open     bool     `json:"open"`
	Step     Phase    `json:"step"`     // that it leads to
	Root     int64    `json:"root"`     // the root that the fleet shall have seen
	Looks    int64    `json:"looks"`    // counted
	Fleet    float64  `json:"fleet"`    // share at Root or newer
	WantedOf float64  `json:"wanted"`   // of the fleet
	New      float64  `json:"new"`      // share of requests at the new places; before the cut-over 0
	WantNew  float64  `json:"want_new"` // likewise
	From     string   `json:"from"`     // days of the logs
	To       string   `json:"to"`
	Why      []string `json:"why"` // what keeps it shut; empty when open
}

// Gate holds a census against the criteria for a step: [CutOver], where root is
// the one that announced the move, or [Retired], where root is that of the
// cut-over. The logs should be of some days that are not long past.
func (m *Move) Gate(r *Result, step Phase, root int64) *Gate {
	c := m.Criteria.withDefaults()
	g := &Gate{Step: step, Root: root, Looks: r.Looks, Fleet: r.At(root), WantedOf: c.Announced, Why: []string{},
		From: r.From.Format(time.DateOnly), To: r.To.Format(time.DateOnly)}
	if step == Retired {
		g.WantedOf, g.WantNew = c.Moved, c.NewPlaces
	}
	var n int64
	for _, p := range r.Places {
		if find(m.To, p.Place) != nil {
			n += p.Requests
		}
	}
	g.New = share(n, r.Requests)
	if r.Looks < c.Clients {
		g.Why = append(g.Why, fmt.Sprintf("only %d looks for a new root were counted, %d are needed to say anything", r.Looks, c.Clients))
	}
	if g.Fleet < g.WantedOf {
		g.Why = append(g.Why, fmt.Sprintf("%s of the fleet have seen root v%d, %s must", percent(g.Fleet), root, percent(g.WantedOf)))
	}
	if g.New < g.WantNew {
		g.Why = append(g.Why, fmt.Sprintf("the new places answer %s of the requests, they must answer %s", percent(g.New), percent(g.WantNew)))
	}
	g.Open = len(g.Why) == 0
	return g
}

// String says it in one sentence.
func (g *Gate) String() string {
	do := map[Phase]string{CutOver: "cut over", Retired: "retire the old places"}[g.Step]
	if do == "" {
		do = "be " + string(g.Step)
	}
	if g.Open {
		s := fmt.Sprintf("You may %s: from %s to %s, %s of %d looks for a new root came from clients at root v%d or newer", do, g.From, g.To, percent(g.Fleet), g.Looks, g.Root)
		if g.WantNew > 0 {
			s += fmt.Sprintf(", and the new places answered %s of the requests", percent(g.New))
		}
		return s + "."
	}
	return fmt.Sprintf("Do not %s yet: %s.", do, strings.Join(g.Why, "; "))
}
