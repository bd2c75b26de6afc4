package drill

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// ErrDrill: the rehearsal found a fault.
var ErrDrill = errors.New("the step must not be published")

// Report is the result of a drill. It can be marshalled to JSON; String is
// human-readable.
type Report struct {
	Root int64 `json:"root"` // version of the newest root after the step
	// Refused is the reason why the draft can't be published; then there are no outcomes.
	Refused  string    `json:"refused,omitempty"`
	Outcomes []Outcome `json:"outcomes"`        // one for each scenario and kind of client
	Notes    []string  `json:"notes,omitempty"` // parts that could not be rehearsed, with the reason
}

// Outcome is the result of one kind of client in one scenario.
type Outcome struct {
	Scenario  string        `json:"scenario"`  // name of the scenario
	Client    string        `json:"client"`    // visum or go-tuf
	Clients   int           `json:"clients"`   // number of clients
	Converged int           `json:"converged"` // clients at the newest root with content
	Waiting   int           `json:"waiting"`   // other clients; they are unharmed unless an invariant is violated
	Roots     map[int64]int `json:"roots"`     // number of clients by final root version
	// Violations are the violated invariants, at most five entries for each.
	Violations []Violation `json:"violations,omitempty"`
}

// Violation is the violation of an invariant.
type Violation struct {
	Invariant string `json:"invariant"` // S1 to S12, L1, L5
	Client    string `json:"client"`    // description of the client
	Text      string `json:"text"`      // human-readable
}

// String returns the violation as one line of at most 4 kB.
func (v Violation) String() string {
	return text.Line(v.Invariant + ": " + v.Client + ": " + v.Text)
}

// Verdict returns "ok" or "VIOLATED".
func (o *Outcome) Verdict() string {
	if len(o.Violations) > 0 {
		return "VIOLATED"
	}
	return "ok"
}

// Err wraps [ErrDrill] if the draft is refused or an invariant was violated.
func (r *Report) Err() error {
	if r.Refused != "" {
		return fmt.Errorf("drill: %w: %s", ErrDrill, r.Refused)
	}
	for _, o := range r.Outcomes {
		if len(o.Violations) > 0 {
			return fmt.Errorf("drill: %w: %s, %s: %s", ErrDrill, o.Client, o.Scenario, o.Violations[0])
		}
	}
	return nil
}

// String returns one line for each scenario and one for each violation.
func (r *Report) String() string {
	var b strings.Builder
	if r.Refused != "" {
		fmt.Fprintln(&b, text.Line("can't be published: "+r.Refused))
		return b.String()
	}
	for _, o := range r.Outcomes {
		var at []string
		for _, v := range slices.Sorted(maps.Keys(o.Roots)) {
			at = append(at, fmt.Sprintf("%d at root v%d", o.Roots[v], v))
		}
		fmt.Fprintf(&b, "%-6s  %-64s  %3d clients: %3d converged, %3d waiting; %s; %s\n", o.Client, o.Scenario, o.Clients, o.Converged, o.Waiting, strings.Join(at, ", "), o.Verdict())
		for _, v := range o.Violations {
			fmt.Fprintf(&b, "        %s\n", v)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintln(&b, text.Line("note: "+n))
	}
	return b.String()
}

// maxViolations bounds the reported violations of each invariant in an outcome.
const maxViolations = 5

func (o *Outcome) violated(invariant, who, format string, args ...any) {
	reported := 0
	for _, v := range o.Violations {
		if v.Invariant == invariant {
			reported++
		}
	}
	if reported < maxViolations {
		o.Violations = append(o.Violations, Violation{invariant, text.Line(who), text.Line(fmt.Sprintf(format, args...))})
	}
}

// count records the end state of a client.
func (o *Outcome) count(root int64, converged bool) {
	o.Clients++
	o.Roots[root]++
	if converged {
		o.Converged++
	} else {
		o.Waiting++
	}
}
