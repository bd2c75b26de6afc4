package relocate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// ErrPreflight: a preflight found an error.
var ErrPreflight = errors.New("preflight")

// Level is the severity of a finding.
type Level string

// Levels of findings.
const (
	LevelError   Level = "error"   // must be corrected before the step
	LevelWarning Level = "warning" // requires a decision
	LevelNote    Level = "note"    // for information
)

// Finding is one result of a preflight.
type Finding struct {
	Level Level  `json:"level"`          // severity
	Check string `json:"check"`          // name of the check, one word
	Host  string `json:"host,omitempty"` // location id; "" if the finding is not about a location
	Text  string `json:"text"`           // one human-readable sentence
}

// String returns the finding as one line of at most 4 kB.
func (f Finding) String() string {
	if f.Host == "" {
		return text.Line(fmt.Sprintf("%s: %s: %s", f.Level, f.Check, f.Text))
	}
	return text.Line(fmt.Sprintf("%s: %s: %s: %s", f.Level, text.Name(f.Host), f.Check, f.Text))
}

// Report is the result of a preflight.
type Report struct {
	Root     int64     `json:"root"`     // version of the checked root
	Findings []Finding `json:"findings"` // sorted by severity, errors first
}

// Err returns an error that wraps [ErrPreflight] if a finding is an [LevelError].
func (r *Report) Err() error {
	var lines []string
	for _, f := range r.Findings {
		if f.Level == LevelError {
			lines = append(lines, f.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	const room = text.MaxLine - 512 // leaves room for a caller's prefix
	all := strings.Join(lines, "; ")
	if len(all) > room {
		all = fmt.Sprintf("%s; %d findings in all", lines[0], len(lines))
	}
	return fmt.Errorf("relocate: %w: %s", ErrPreflight, all)
}

// String returns one line for each finding.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func (r *Report) sort() {
	rank := map[Level]int{LevelError: 0, LevelWarning: 1, LevelNote: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
}

// findings collects the results of the checks.
type findings []Finding

func (f *findings) add(level Level, check, host, format string, args ...any) {
	// Callers quote text from servers and metadata; text.Line covers errors of other packages.
	*f = append(*f, Finding{level, check, host, text.Line(fmt.Sprintf(format, args...))})
}
