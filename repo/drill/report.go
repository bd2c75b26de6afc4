package drill

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// ErrDrill: the rehearsal ended badly.
var ErrDrill = errors.New("drill: the step must not be published")

// Report is how the fleet fared. Marshal it for programs; String is for people.
type Report struct {
	Root int64 `json:"root"` // the newest root, after the step
	// Refused is why the draft can't even be published; then nothing was rehearsed.
	Refused  string    `json:"refused,omitempty"`
	Outcomes []Outcome `json:"outcomes"`
	Notes    []string  `json:"notes,omitempty"` // what could not be rehearsed, and why
}

// Outcome is how one kind of client fared in one scenario.
type Outcome struct {
	Scenario  string        `json:"scenario"`
	Client    string        `json:"client"`    // visum or go-tuf
	Clients   int           `json:"clients"`   // how many lived through it
	Converged int           `json:"converged"` // are at the newest root, with content
	Waiting   int           `json:"waiting"`   // unharmed, and can know no better: nobody tells it, or its charter is content with one operator
	Roots     map[int64]int `json:"roots"`     // how many ended at which root
	// Violations are what must not be; the first five of each invariant.
	Violations []Violation `json:"violations,omitempty"`
}

// Violation is an invariant that did not hold.
type Violation struct {
	Invariant string `json:"invariant"` // S1 to S12, L1, L5
	Client    string `json:"client"`    // which one, in words
	Text      string `json:"text"`
}

// String is one line of at most 4 kB.
func (v Violation) String() string {
	return text.Line(v.Invariant + ": " + v.Client + ": " + v.Text)
}

// Verdict is one word: ok, or what is wrong.
func (o *Outcome) Verdict() string {
	if len(o.Violations) > 0 {
		return "VIOLATED"
	}
	return "ok"
}

// Err wraps [ErrDrill] where the draft is refused or an invariant was violated.
func (r *Report) Err() error {
	if r.Refused != "" {
		return fmt.Errorf("%w: %s", ErrDrill, r.Refused)
	}
	for _, o := range r.Outcomes {
		if len(o.Violations) > 0 {
			return fmt.Errorf("%w: %s, %s: %s", ErrDrill, o.Client, o.Scenario, o.Violations[0])
		}
	}
	return nil
}

// String has a line for each scenario, and one for each violation.
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
		fmt.Fprintf(&b, "%-6s  %-52s  %3d clients: %3d converged, %3d wait unharmed; %s; %s\n", o.Client, o.Scenario, o.Clients, o.Converged, o.Waiting, strings.Join(at, ", "), o.Verdict())
		for _, v := range o.Violations {
			fmt.Fprintf(&b, "        %s\n", v)
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintln(&b, text.Line("note: "+n))
	}
	return b.String()
}

// maxViolations of each invariant are told of each outcome.
const maxViolations = 5

func (o *Outcome) violated(invariant, who, format string, args ...any) {
	told := 0
	for _, v := range o.Violations {
		if v.Invariant == invariant {
			told++
		}
	}
	if told < maxViolations {
		o.Violations = append(o.Violations, Violation{invariant, text.Line(who), text.Line(fmt.Sprintf(format, args...))})
	}
}

// count files where a client ended.
func (o *Outcome) count(root int64, converged bool) {
	o.Clients++
	o.Roots[root]++
	if converged {
		o.Converged++
	} else {
		o.Waiting++
	}
}
