package mirror

import (
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
	Kind FindingKind // type of the finding
	Copy string      // the name of the copy; "" for the repository itself
	Name string      // of the file
	Text string      // human-readable description
	Err  error       // the underlying error, or nil
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

// Report is the result of [Verify].
type Report struct {
	At        time.Time // of the verification
	Root      int64     // published versions; 0 if the file could not be opened
	Timestamp int64     // likewise
	Snapshot  int64     // likewise
	Roles     int       // role files that verified
	Targets   int       // valid target files, each counted once
	Bytes     int64     // of those target files
	Findings  []Finding // in the order of discovery
	// Recoveries are the recovery statements found in the repository or on a copy. A
	// recovery you did not initiate is an incident: see docs/recovery.md.
	Recoveries []RecoveryInfo
}

// RecoveryInfo is a verified recovery statement.
type RecoveryInfo struct {
	Copy     string    // the first copy that has it; "" for the repository itself
	From     int64     // version of the root before the recovery root
	Counter  int64     // of the statement
	Expires  time.Time // of the statement
	Followed bool      // the repository has published content under the recovery root
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

// OK reports whether all findings are harmless.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return !f.Harmless() })
}

// String returns the report as lines: a summary and one line for each finding.
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
