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
var ErrPreflight = errors.New("relocate: preflight")

// Level is how grave a finding is.
type Level string

// Levels. An Error stops the move, a Warning wants a decision, a Note is to be known.
const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// Finding is one thing that a preflight saw.
type Finding struct {
	Level Level  `json:"level"`
	Check string `json:"check"`          // what was looked at, one word
	Host  string `json:"host,omitempty"` // location id, "" where none is concerned
	Text  string `json:"text"`           // one sentence
}

// String is one line of at most 4 kB.
func (f Finding) String() string {
	if f.Host == "" {
		return text.Line(fmt.Sprintf("%s: %s: %s", f.Level, f.Check, f.Text))
	}
	return text.Line(fmt.Sprintf("%s: %s: %s: %s", f.Level, text.Name(f.Host), f.Check, f.Text))
}

// Report is what a preflight saw, the gravest first.
type Report struct {
	Root     int64     `json:"root"` // that was looked at
	Findings []Finding `json:"findings"`
}

// Err wraps [ErrPreflight] where there is an error among the findings.
func (r *Report) Err() error {
	var lines []string
	for _, f := range r.Findings {
		if f.Level == Error {
			lines = append(lines, f.String())
		}
	}
	if len(lines) == 0 {
		return nil
	}
	const room = text.MaxLine - 512 // for what callers put before it
	all := strings.Join(lines, "; ")
	if len(all) > room {
		all = fmt.Sprintf("%s; %d findings in all", lines[0], len(lines))
	}
	return fmt.Errorf("%w: %s", ErrPreflight, all)
}

// String has a line for each finding.
func (r *Report) String() string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

func (r *Report) sort() {
	rank := map[Level]int{Error: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(rank[a.Level], rank[b.Level]) })
}

// findings collects.
type findings []Finding

func (f *findings) add(level Level, check, host, format string, args ...any) {
	// What servers and metadata say is quoted by the callers; errors of others are not.
	*f = append(*f, Finding{level, check, host, text.Line(fmt.Sprintf(format, args...))})
}
