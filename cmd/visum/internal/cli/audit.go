package cli

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/receipt"
)

// States of bytes, the first word of what verify prints. They are a part of the output.
const (
	stateOffered    = "OFFERED"    // approved, and clients are offered it
	stateApproved   = "APPROVED"   // by a receipt, which does not show what is offered today
	stateSuperseded = "SUPERSEDED" // approved, and clients are offered a later release
	stateHeld       = "HELD"
	stateRecalled   = "RECALLED"
	stateRefused    = "REFUSED" // the last statement of a party refuses it
	stateWaiting    = "WAITING" // some parties list it, but not all
	stateUnknown    = "UNKNOWN" // no party lists it
)

// verdict is what verify finds out about a file under one path.
type verdict struct {
	File    string          `json:"file"`
	SHA256  string          `json:"sha256"`
	State   string          `json:"state"`
	Path    string          `json:"path,omitempty"` // in the repository
	Release *verdictRelease `json:"release,omitempty"`
	Reason  string          `json:"reason,omitempty"` // why it is held, recalled or waiting
	By      []tuf.Signoff   `json:"by"`               // roles that list the bytes
	Reviews []verdictReview `json:"reviews"`          // statements of reviewers
	At      time.Time       `json:"at"`               // time of the decision
	Rotated []string        `json:"rotated,omitempty"`
	Later   string          `json:"later,omitempty"` // version that clients are offered instead
	// Operators is the number of operators that answered; 0 with a receipt.
	Operators int `json:"operators,omitempty"`
}

type verdictRelease struct {
	Product  string `json:"product"`
	Version  string `json:"version"`
	Channel  string `json:"channel"`
	Platform string `json:"platform"`
	Source   string `json:"source,omitempty"`
}

type verdictReview struct {
	Party   string    `json:"party"`
	Refused bool      `json:"refused,omitempty"`
	At      time.Time `json:"at"`
	Source  string    `json:"source,omitempty"`
	Rebuild string    `json:"rebuild,omitempty"`
	Reason  string    `json:"reason,omitempty"` // of a refusal
	// Reviewer is the name that the statement has.
	Reviewer string   `json:"reviewer,omitempty"`
	KeyIDs   []string `json:"keyids"`
	Rotated  bool     `json:"rotated,omitempty"` // the keys were replaced since
}

// fill copies what a receipt shows.
func (v *verdict) fill(r *receipt.Receipt) {
	v.By, v.At, v.Rotated, v.State = r.Agreed().Signoffs, r.Time(), r.Rotated(), stateApproved
	switch err := r.Err(); {
	case errors.Is(err, tuf.ErrRecalled):
		v.State, v.Reason = stateRecalled, err.Error()
	case err != nil:
		v.State, v.Reason = stateHeld, err.Error()
	}
	if rel, ok := r.Approved().Release(); ok {
		v.Release = releaseOf(&rel)
	}
	v.Reviews = reviewsOf(r.Statements())
}

func sourceText(s tuf.SourceRef) string {
	if s.Revision == "" {
		return s.URI
	}
	return s.URI + "@" + s.Revision
}

func (v *verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", v.State, text.Name(v.File))
	if v.State == stateUnknown {
		fmt.Fprintf(&b, ": sha256 %s: no party lists these bytes\n  as of %s, %s", v.SHA256, text.Time(v.At), operatorsText(v.Operators))
		return b.String()
	}
	if v.Release != nil {
		fmt.Fprintf(&b, ": %s@%s %s %s", text.Name(v.Release.Product), text.Name(v.Release.Version), text.Name(v.Release.Channel), text.Name(v.Release.Platform))
		if v.Release.Source != "" {
			fmt.Fprintf(&b, ", source %s", text.Quote(v.Release.Source))
		}
	} else {
		fmt.Fprintf(&b, ": %s", text.Name(v.Path))
	}
	if v.Later != "" {
		fmt.Fprintf(&b, "; clients are offered %s", text.Name(v.Later))
	}
	if v.Reason != "" {
		fmt.Fprintf(&b, ": %s", v.Reason)
	}
	for _, s := range v.By {
		fmt.Fprintf(&b, "\n  listed by %s (%s v%d", text.Name(s.Party), text.Name(s.Role), s.Version)
		if len(s.KeyIDs) > 0 {
			fmt.Fprintf(&b, ", %d of its keys", len(s.KeyIDs))
		}
		b.WriteByte(')')
	}
	for _, r := range v.Reviews {
		word := "approved"
		if r.Refused {
			word = "refused"
		}
		fmt.Fprintf(&b, "\n  %s by %s on %s", word, text.Name(r.Party), r.At.UTC().Format(time.DateOnly))
		if r.Source != "" {
			fmt.Fprintf(&b, ", source %s", text.Quote(r.Source))
		}
		if r.Rebuild != "" {
			fmt.Fprintf(&b, ", rebuild: %s", text.Name(r.Rebuild))
		}
		if r.Reason != "" {
			fmt.Fprintf(&b, ": %s", text.Quote(r.Reason))
		}
	}
	fmt.Fprintf(&b, "\n  as of %s", text.Time(v.At))
	if v.Operators > 0 {
		fmt.Fprintf(&b, ", %s", operatorsText(v.Operators))
	}
	if len(v.Rotated) > 0 {
		fmt.Fprintf(&b, "; keys replaced since: %s. If they were compromised, this is no evidence", strings.Join(v.Rotated, ", "))
	}
	return b.String()
}

// report decides on files by their sha256, with one snapshot.
func (x *auditor) report(sums []string) (*mirror.AuditReport, error) {
	return mirror.Audit(x.app.ctx, x.from, x.pin, &mirror.AuditOptions{Options: x.options(), SHA256: sums})
}

// verdicts are what a report says about files.
func verdicts(files []hashed, r *mirror.AuditReport, operators int) (out []*verdict) {
	found := map[string][]mirror.Entry{}
	for _, e := range r.Entries {
		found[e.SHA256] = append(found[e.SHA256], e)
	}
	for _, f := range files {
		if len(found[f.sum]) == 0 {
			out = append(out, &verdict{File: f.name, SHA256: f.sum, State: stateUnknown, By: []tuf.Signoff{}, Reviews: []verdictReview{}, At: r.At, Operators: operators})
		}
		for _, e := range found[f.sum] {
			v := &verdict{File: f.name, SHA256: f.sum, State: strings.ToUpper(string(e.State)), Path: e.Path, At: r.At, Later: e.Later, Reason: reasonOf(e), Operators: operators}
			if v.By = e.Signoffs; v.By == nil {
				v.By = []tuf.Signoff{}
			}
			v.Release, v.Reviews = releaseOf(e.Release), reviewsOf(e.Statements)
			out = append(out, v)
		}
	}
	return out
}

// reasonOf says why clients are not offered some bytes.
func reasonOf(e mirror.Entry) string {
	var why *tuf.Error
	switch {
	case e.Err == nil:
		return ""
	case e.State == mirror.StateWaiting:
		return "not every party lists these bytes: " + e.Err.Error()
	case e.State == mirror.StateRefused && errors.As(e.Err, &why):
		return why.Detail
	}
	return e.Err.Error()
}

func releaseOf(rel *tuf.Release) *verdictRelease {
	if rel == nil {
		return nil
	}
	return &verdictRelease{rel.Product, rel.Version, rel.Channel, rel.Platform, sourceText(rel.Source)}
}

func reviewsOf(statements []receipt.Statement) []verdictReview {
	out := []verdictReview{}
	for _, s := range statements {
		r := verdictReview{Party: s.Party, KeyIDs: s.KeyIDs, Rotated: s.Rotated}
		switch {
		case s.Review != nil:
			r.At, r.Source, r.Rebuild, r.Reviewer = s.Review.From, sourceText(s.Review.Source), string(s.Review.Result), s.Review.Reviewer.Name
		case s.Refusal != nil:
			r.Refused, r.At, r.Reason, r.Reviewer = true, s.Refusal.At, s.Refusal.Reason, s.Refusal.Reviewer.Name
		}
		out = append(out, r)
	}
	return out
}

// newestFirst orders the sources by what they have.
func (x *auditor) newestFirst(r *mirror.AuditReport) {
	order := make([]int, len(x.from))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(r.Answers[b].Snapshot, r.Answers[a].Snapshot), cmp.Compare(r.Answers[b].Timestamp, r.Answers[a].Timestamp))
	})
	var sorted []mirror.Mirror
	for _, i := range order {
		sorted = append(sorted, x.from[i])
	}
	x.from = sorted
}

func (x *auditor) receipt(path, sum string) (data []byte, r *receipt.Receipt, err error) {
	for i, from := range x.from {
		if from.RootsOnly {
			continue
		}
		data, err = mirror.Receipt(x.app.ctx, from.Source, x.pin, path, &mirror.ReceiptOptions{Options: x.options(), SHA256: sum})
		if err == nil || i+1 == len(x.from) {
			break
		}
	}
	if err != nil {
		return nil, nil, err
	}
	r, err = receipt.Open(data, x.pin, &receipt.Options{UnsafeLoopback: x.loopback})
	return data, r, err
}

// hashed is a file and its sha256.
type hashed struct{ name, sum string }

func hashFile(name string) (hashed, error) {
	f, err := os.Open(name)
	if err != nil {
		return hashed{}, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return hashed{}, err
	}
	return hashed{name, hex.EncodeToString(h.Sum(nil))}, nil
}

// hashFiles hashes a file, or all regular files of a directory.
func hashFiles(name string) (out []hashed, err error) {
	err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if path != name && !d.Type().IsRegular() {
			return nil
		}
		if len(out) == maxSynced {
			return usage("%s: more than %d files", text.Name(name), maxSynced)
		}
		h, err := hashFile(path)
		out = append(out, h)
		return err
	})
	if err == nil && len(out) == 0 {
		err = usage("%s has no regular file", text.Name(name))
	}
	return out, err
}

func (a *app) verifyCommand() *cobra.Command {
	var flags auditFlags
	var receiptFile string
	cmd := &cobra.Command{Use: "verify FILE|DIR", Short: "Show whether a file was approved, by whom, and whether clients are offered it", Args: cobra.ExactArgs(1),
		Long: `verify looks for the bytes of a file, or of every file of a directory, in the repository. It needs a pin and no
key. The first word is OFFERED, SUPERSEDED (clients are offered a later release), HELD, RECALLED, REFUSED (the
last statement of a party refuses it), WAITING (not every party lists the bytes) or UNKNOWN. The exit status is 0
if each file is OFFERED and the sources have no two files of one version, and otherwise 3.

It asks all locations of the pin, or each --from. The newest valid snapshot counts; lines that begin with DIFFERS
say which source has another one.

Without a pin, verify shows the pin that the file carries, which is a hint and not trusted, and ends with exit
status 1. --fingerprint trusts it, if its sha256 is the one that the vendor and the review centre publish.

With --receipt it reads no repository: the receipt shows that the file was APPROVED, HELD or RECALLED at its time.`,
		Example: "  visum verify kestrel --pin pin.json\n  visum verify kestrel --fingerprint 2c68c58678e097fa...\n  visum verify kestrel --pin pin.json --receipt kestrel.receipt",
		RunE: func(_ *cobra.Command, args []string) error {
			if receiptFile != "" {
				v, err := a.verifyReceipt(args[0], receiptFile, flags)
				if err != nil {
					return err
				}
				return a.printVerdicts([]*verdict{v}, nil, nil, false)
			}
			files, err := hashFiles(args[0])
			if err != nil {
				return err
			}
			var names, sums []string
			for _, f := range files {
				names, sums = append(names, f.name), append(sums, f.sum)
			}
			x, err := a.audit(flags, names)
			if err != nil {
				return err
			}
			r, err := x.report(sums)
			if err != nil {
				return err
			}
			operators, answers, differ := x.asked(r)
			fork := slices.ContainsFunc(answers, func(s sourceAnswer) bool { return s.Fork })
			return a.printVerdicts(verdicts(files, r, operators), answers, differ, fork)
		}}
	flags.register(cmd)
	flags.registerFingerprint(cmd)
	cmd.Flags().StringVar(&receiptFile, "receipt", "", "receipt of the file: nothing else is read")
	return cmd
}

// printVerdicts prints what verify found, and returns its exit status as an error.
func (a *app) printVerdicts(out []*verdict, answers []sourceAnswer, differ []string, fork bool) error {
	var lines []string
	good := !fork
	for _, v := range out {
		lines = append(lines, v.String())
		good = good && (v.State == stateOffered || v.State == stateApproved)
	}
	result := map[string]any{"files": out}
	if answers != nil {
		result["sources"] = answers
	}
	return a.printFound(!good, result, append(lines, differ...)...)
}

// verifyReceipt verifies a file with its receipt.
func (a *app) verifyReceipt(file, receiptFile string, flags auditFlags) (*verdict, error) {
	pin, err := a.choosePin(flags, []string{file})
	if err != nil {
		return nil, err
	}
	loopback := flags.loopback
	if pin == nil {
		s, err := a.look()
		if err != nil {
			return nil, err
		}
		if loopback, pin = s.loopback, s.pin; pin == nil {
			return nil, usage("--pin is required: the identity has no pin of the repository")
		}
	}
	data, err := readReceipt(receiptFile)
	if err != nil {
		return nil, err
	}
	r, err := receipt.Open(data, pin, &receipt.Options{UnsafeLoopback: loopback})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text.Name(receiptFile), err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := r.Check(f); err != nil {
		return nil, fmt.Errorf("%s: %w", text.Name(file), err)
	}
	v := &verdict{File: file, SHA256: r.Agreed().SHA256, Path: r.Agreed().Path, By: []tuf.Signoff{}, Reviews: []verdictReview{}}
	v.fill(r)
	return v, nil
}

func readReceipt(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, receipt.MaxReceipt+1))
}

func (a *app) receiptCommand() *cobra.Command {
	var flags auditFlags
	var out, path string
	cmd := &cobra.Command{Use: "receipt FILE", Short: "Write a file that shows offline, years later, that a file was approved, held or recalled", Args: cobra.ExactArgs(1),
		Long: `receipt writes a receipt: the metadata with which a client decides on the bytes of FILE today. It verifies offline,
also after keys were replaced and the metadata was removed from the repository: visum verify FILE --receipt R.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out is required: the file to write")
			}
			f, err := hashFile(args[0])
			if err != nil {
				return err
			}
			x, err := a.audit(flags, []string{args[0]})
			if err != nil {
				return err
			}
			r, err := x.report([]string{f.sum})
			if err != nil {
				return err
			}
			x.newestFirst(r)
			if path == "" {
				var paths []string
				for _, e := range r.Entries {
					paths = append(paths, e.Path)
				}
				switch len(paths) {
				case 0:
					return fmt.Errorf("%s: %w: no party lists sha256 %s", text.Name(f.name), tuf.ErrNoTarget, f.sum)
				case 1:
					path = paths[0]
				default:
					return usage("%s has several paths: choose one with --path: %s", text.Name(f.name), text.Line(strings.Join(paths, " ")))
				}
			}
			data, made, err := x.receipt(path, f.sum)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(out, data, 0o644); err != nil {
				return err
			}
			return a.print(map[string]any{"file": f.name, "sha256": f.sum, "path": path, "receipt": out, "bytes": len(data), "at": made.Time(), "expires": made.Expires()},
				fmt.Sprintf("%s, in %s (%d bytes)", made, text.Name(out), len(data)))
		}}
	flags.register(cmd)
	flags.registerFingerprint(cmd)
	f := cmd.Flags()
	f.StringVar(&path, "path", "", "path in the repository, if the bytes have several")
	f.StringVarP(&out, "out", "o", "", "file to write")
	return cmd
}
