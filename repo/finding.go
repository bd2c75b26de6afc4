package repo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
)

// FindingKind is what is the matter with a file.
type FindingKind string

const (
	FileMissing    FindingKind = "missing"    // something names it, and it is not there
	FileDamaged    FindingKind = "damaged"    // its bytes are not those that are listed
	FileUnreadable FindingKind = "unreadable" // the place gave an error; what is in it is not known
	FileUntrusted  FindingKind = "untrusted"  // package tuf refuses it: signatures, versions, rules of the charter
	FileExpired    FindingKind = "expired"    // clients refuse it for its date
	FileAhead      FindingKind = "ahead"      // the newest root's signed_at is ahead of this machine's clock: clients take it for the present
	FileUnfinished FindingKind = "unfinished" // a root waits for its content: a publish was cut off
	FileDiffers    FindingKind = "differs"    // a copy has something else
	FileStranger   FindingKind = "stranger"   // no file of this repository
	FileUnstorable FindingKind = "unstorable" // a role lists it under a name that no Storage can hold; Clone passes over it
	FileOrphan     FindingKind = "orphan"     // nobody names it (any more): superseded, or of a publish that was cut off; harmless
)

// Finding is one thing that [Repo.Verify] saw.
type Finding struct {
	Kind FindingKind
	Copy string // the name of the copy; "" for the repository itself
	Name string // of the file
	Text string // what was seen, in words
	Err  error  // the error behind it; nil where there is none
}

// Harmless reports whether clients are served as they should be in spite of it.
func (f Finding) Harmless() bool { return f.Kind == FileOrphan }

// String is the finding as one line of at most 4 kB.
func (f Finding) String() string {
	where := ""
	if f.Copy != "" {
		where = f.Copy + ": "
	}
	return text.Line(fmt.Sprintf("%s: %s%s: %s", f.Kind, where, text.Name(f.Name), f.Text))
}

// Report is the result of [Repo.Verify].
type Report struct {
	At        time.Time
	Root      int64 // versions of what is published; 0 where it could not be opened
	Timestamp int64
	Snapshot  int64
	Roles     int   // role files that verified
	Targets   int   // target files that are right, each counted once
	Bytes     int64 // of those target files
	Findings  []Finding
	// Recoveries lie at one of the places. Made by yourself they are in order; by
	// others, an alarm: see docs/recovery.md.
	Recoveries []RecoveryInfo
}

// RecoveryInfo is a recovery statement that verifies.
type RecoveryInfo struct {
	Copy     string // the first place that has it; "" for the repository itself
	From     int64  // version of the root that it follows
	Counter  int64  // of the statement
	Expires  time.Time
	Followed bool // the repository has gone on with the root that it names
}

// String is one sentence.
func (r RecoveryInfo) String() string {
	s := fmt.Sprintf("recovery from root v%d, statement v%d until %s", r.From, r.Counter, stamp(r.Expires))
	if r.Copy != "" {
		s = text.Line(r.Copy + ": " + s)
	}
	if r.Followed {
		return s + ", which the repository has gone on with"
	}
	return s + ", which nothing has followed yet"
}

// OK reports whether nothing was found but what is harmless.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Harmless() })
}

// String is the report in lines: one for the whole, one for each finding.
func (r *Report) String() string {
	verdict := "good"
	if !r.OK() {
		verdict = "NOT good"
	}
	lines := []string{fmt.Sprintf("%s: root v%d, timestamp v%d, snapshot v%d, %d roles, %d targets of %d bytes, %d findings",
		verdict, r.Root, r.Timestamp, r.Snapshot, r.Roles, r.Targets, r.Bytes, len(r.Findings))}
	for _, f := range r.Findings {
		lines = append(lines, f.String())
	}
	for _, x := range r.Recoveries {
		lines = append(lines, x.String())
	}
	return strings.Join(lines, "\n")
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); n > 0 {
		c.tell(c.n)
	}
	return n, err
}
