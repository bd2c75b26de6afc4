package mirror

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
)

// FindingKind is the kind of a [Finding]. [FileUntrusted] and [FileUnknown] indicate
// tampering or disk corruption. [FileAhead] means that clients use a date in the future
// as the current time; see repo.Tx.Supersede. [FileMissing] and [FileDamaged] block
// clients from a file; restore it from a copy. [FileUnfinished] is normal for a moment
// during a publish; if it persists, repo.Repo.Renew completes the publish.
// [FileDiffers] on a copy is normal for minutes and a fault after an hour.
type FindingKind string

const (
	FileMissing    FindingKind = "missing"    // metadata lists it, but it does not exist
	FileDamaged    FindingKind = "damaged"    // its length or hash differs from the listed one
	FileUnreadable FindingKind = "unreadable" // the storage or mirror returned an error
	FileUntrusted  FindingKind = "untrusted"  // package tuf refuses it (signatures, versions, charter rules): tampering or disk corruption
	FileExpired    FindingKind = "expired"    // it has expired, so clients refuse it
	FileAhead      FindingKind = "ahead"      // signed_at of the newest root is ahead of this machine's clock; clients use it as the current time
	FileUnfinished FindingKind = "unfinished" // an interrupted publish left a new root without its timestamp and snapshot
	FileDiffers    FindingKind = "differs"    // a copy has other content than the repository
	FileUnknown    FindingKind = "unknown"    // unknown file, which does not belong to this repository: tampering or disk corruption
	FileUnstorable FindingKind = "unstorable" // a role lists it under a name that no Storage can hold; Clone skips it
	FileOrphan     FindingKind = "orphan"     // no metadata lists it: it is superseded or left by an interrupted publish; harmless
)

// Finding is one observation of [Verify].
type Finding struct {
	Kind FindingKind `json:"kind"`           // type of the finding
	Copy string      `json:"copy,omitempty"` // the name of the copy; "" for the repository itself
	Name string      `json:"name"`           // of the file
	Text string      `json:"text"`           // human-readable description
	Err  error       `json:"-"`              // the underlying error, or nil
}

// Harmless reports whether the finding does not affect clients.
func (f Finding) Harmless() bool { return f.Kind == FileOrphan }

// String returns the finding as one line of at most 4 kB.
func (f Finding) String() string {
	where := ""
	if f.Copy != "" {
		where = f.Copy + ": "
	}
	return text.Line(fmt.Sprintf("%s: %s%s: %s", f.Kind, where, text.Name(f.Name), f.Text))
}

// ErrVerify is returned by [Report.Err]: the repository or a copy of it is not good.
var ErrVerify = errors.New("verification found faults")

// Report is the result of [Verify]. It can be marshalled to JSON; String is
// human-readable.
type Report struct {
	At        time.Time `json:"at"`        // of the verification
	Root      int64     `json:"root"`      // published versions; 0 if the file could not be opened
	Timestamp int64     `json:"timestamp"` // likewise
	Snapshot  int64     `json:"snapshot"`  // likewise
	Roles     int       `json:"roles"`     // role files that verified
	Targets   int       `json:"targets"`   // valid target files, each counted once
	Bytes     int64     `json:"bytes"`     // of those target files
	Quick     bool      `json:"quick"`     // targets were compared by names and sizes alone; see [Options]
	Findings  []Finding `json:"findings"`  // in the order of discovery
	// Recoveries are the recovery statements found in the repository or on a copy. A
	// recovery you did not initiate is an incident: see docs/recovery.md.
	Recoveries []RecoveryInfo `json:"recoveries"`
}

// RecoveryInfo is a verified recovery statement.
type RecoveryInfo struct {
	Copy     string    `json:"copy,omitempty"` // the first copy that has it; "" for the repository itself
	From     int64     `json:"from"`           // version of the root before the recovery root
	Counter  int64     `json:"counter"`        // of the statement
	Expires  time.Time `json:"expires"`        // of the statement
	Followed bool      `json:"followed"`       // the repository has published content under the recovery root
}

// String returns a human-readable sentence.
func (r RecoveryInfo) String() string {
	s := fmt.Sprintf("recovery from root v%d, statement v%d until %s", r.From, r.Counter, text.Time(r.Expires))
	if r.Copy != "" {
		s = text.Line(r.Copy + ": " + s)
	}
	if r.Followed {
		return s + ", in use by the repository"
	}
	return s + ", not in use yet"
}

// Err returns an error that wraps [ErrVerify], and states the first finding that is not
// harmless; nil if all are.
func (r *Report) Err() error {
	bad := slices.DeleteFunc(slices.Clone(r.Findings), Finding.Harmless)
	if len(bad) == 0 {
		return nil
	}
	more := ""
	if len(bad) > 1 {
		more = fmt.Sprintf("; %d findings in all", len(bad))
	}
	const room = text.MaxLine - 512 // leaves room for a caller's prefix
	return fmt.Errorf("mirror: %w: %.*s%s", ErrVerify, room, bad[0], more)
}

// String returns the report as lines: a summary and one line for each finding.
func (r *Report) String() string {
	verdict := "good"
	if r.Err() != nil {
		verdict = "NOT good"
	}
	if r.Quick {
		verdict += " by names and sizes, no target was read"
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
