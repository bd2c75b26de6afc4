package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
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
	stateWaiting    = "WAITING" // some parties list it, but not all
	stateUnknown    = "UNKNOWN" // no party lists it
)

// verdict is what verify finds out about a file under one path.
type verdict struct {
	File    string           `json:"file"`
	SHA256  string           `json:"sha256"`
	State   string           `json:"state"`
	Path    string           `json:"path,omitempty"` // in the repository
	Release *verdictRelease  `json:"release,omitempty"`
	Reason  string           `json:"reason,omitempty"` // why it is held, recalled or waiting
	By      []tuf.Signoff    `json:"by"`               // roles that list the bytes
	Reviews []verdictReview  `json:"reviews"`          // statements of reviewers
	At      time.Time        `json:"at"`               // time of the decision
	Rotated []string         `json:"rotated,omitempty"`
	Later   string           `json:"later,omitempty"` // version that clients are offered instead
	receipt *receipt.Receipt // nil for waiting and unknown
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
}

// fill copies what a receipt shows.
func (v *verdict) fill(r *receipt.Receipt) {
	v.receipt, v.By, v.At, v.Rotated, v.State = r, r.Agreed().Signoffs, r.Time(), r.Rotated(), stateApproved
	switch err := r.Err(); {
	case errors.Is(err, tuf.ErrRecalled):
		v.State, v.Reason = stateRecalled, err.Error()
	case err != nil:
		v.State, v.Reason = stateHeld, err.Error()
	}
	if rel, ok := r.Approved().Release(); ok {
		v.Release = &verdictRelease{rel.Product, rel.Version, rel.Channel, rel.Platform, sourceText(rel.Source)}
	}
	for _, s := range r.Statements() {
		switch {
		case s.Review != nil:
			v.Reviews = append(v.Reviews, verdictReview{Party: s.Party, At: s.Review.From, Source: sourceText(s.Review.Source), Rebuild: string(s.Review.Result)})
		case s.Refusal != nil:
			v.Reviews = append(v.Reviews, verdictReview{Party: s.Party, Refused: true, At: s.Refusal.At, Reason: s.Refusal.Reason})
		}
	}
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
		fmt.Fprintf(&b, ": sha256 %s: no party lists these bytes", v.SHA256)
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
		fmt.Fprintf(&b, "\n  listed by %s (%s v%d, %d of its keys)", text.Name(s.Party), text.Name(s.Role), s.Version, len(s.KeyIDs))
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
	if len(v.Rotated) > 0 {
		fmt.Fprintf(&b, "; keys replaced since: %s. If they were compromised, this is no evidence", strings.Join(v.Rotated, ", "))
	}
	return b.String()
}

// auditor verifies files against one repository.
type auditor struct {
	app      *app
	pin      []byte
	from     storage.Source
	loopback bool
	view     *client.View // see superseded
}

// audit returns an auditor with the pin of the flags, or with the repository of the
// working folder. Without from, it asks the location of the pin with the best priority.
func (a *app) audit(pinFile, from string, loopback bool) (*auditor, error) {
	x := &auditor{app: a, loopback: loopback}
	var err error
	if pinFile == "" {
		if _, err := os.Lstat(filepath.Join(a.folder, folderFile)); err != nil {
			return nil, usage("--pin is required: nothing else is trusted")
		}
		s, err := a.open()
		if err != nil {
			return nil, err
		}
		x.from, x.loopback = storage.SourceOf(s.storage), s.loopback
		if x.pin, err = s.anchor(a.ctx); err != nil {
			return nil, err
		}
	} else if x.pin, err = readPin(pinFile); err != nil {
		return nil, err
	}
	if from != "" {
		x.from, err = a.openSource(from)
		return x, err
	}
	if x.from == nil {
		p, err := tuf.OpenPin(x.pin, &tuf.Options{UnsafeLoopback: loopback})
		if err != nil {
			return nil, err
		}
		for _, l := range p.Locations() {
			if l.Targets != "" {
				x.from = client.HTTPSource(l.Base+l.Metadata, l.Base+l.Targets)
				break
			}
		}
		if x.from == nil {
			return nil, usage("--from is required: the pin has no locations")
		}
	}
	return x, nil
}

func (x *auditor) options() mirror.Options {
	return mirror.Options{Now: x.app.Now, UnsafeLoopback: x.loopback}
}

// verdicts decides on files by their sha256.
func (x *auditor) verdicts(files []hashed) (out []*verdict, err error) {
	var sums []string
	for _, f := range files {
		sums = append(sums, f.sum)
	}
	opt := x.options()
	paths, err := mirror.FindBytes(x.app.ctx, x.from, x.pin, sums, &opt)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if len(paths[f.sum]) == 0 {
			out = append(out, &verdict{File: f.name, SHA256: f.sum, State: stateUnknown, By: []tuf.Signoff{}, Reviews: []verdictReview{}, At: x.app.Now().UTC().Truncate(time.Second)})
		}
		for _, path := range paths[f.sum] {
			v, err := x.verdict(f, path)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
	return out, nil
}

func (x *auditor) verdict(f hashed, path string) (*verdict, error) {
	v := &verdict{File: f.name, SHA256: f.sum, Path: path, By: []tuf.Signoff{}, Reviews: []verdictReview{}}
	_, r, err := x.receipt(path, f.sum)
	switch {
	case errors.Is(err, tuf.ErrNotApproved) || errors.Is(err, tuf.ErrNoTarget) || errors.Is(err, tuf.ErrMismatch):
		v.State, v.Reason, v.At = stateWaiting, "not every party lists these bytes: "+err.Error(), x.app.Now().UTC().Truncate(time.Second)
		return v, nil
	case err != nil:
		return nil, err
	}
	if v.fill(r); v.State == stateApproved {
		v.State = stateOffered
		if v.Release != nil {
			return v, x.superseded(v)
		}
	}
	return v, nil
}

// superseded asks a client for the newest release of the product.
func (x *auditor) superseded(v *verdict) error {
	if x.view == nil {
		c, err := client.New(x.pin, &client.Config{Store: client.MemStore(), Now: x.app.Now, Sources: []client.Source{x.from}, UnsafeLoopback: x.loopback, UserAgent: "visum verify"})
		if err != nil {
			return err
		}
		if x.view, err = c.Refresh(x.app.ctx); err != nil {
			return err
		}
	}
	latest, err := x.view.Latest(x.app.ctx, client.Query{Product: v.Release.Product, Channel: v.Release.Channel, Platform: v.Release.Platform})
	if errors.Is(err, client.ErrUpToDate) {
		return nil
	}
	if err != nil {
		return err
	}
	mine, _ := v.receipt.Approved().Release()
	if later, ok := latest.Approved.Release(); ok && later.Sequence > mine.Sequence {
		v.State, v.Later = stateSuperseded, latest.Version
	}
	return nil
}

func (x *auditor) receipt(path, sum string) ([]byte, *receipt.Receipt, error) {
	data, err := mirror.Receipt(x.app.ctx, x.from, x.pin, path, &mirror.ReceiptOptions{Options: x.options(), SHA256: sum})
	if err != nil {
		return nil, nil, err
	}
	r, err := receipt.Open(data, x.pin, &receipt.Options{UnsafeLoopback: x.loopback})
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
	var pinFile, from, receiptFile string
	var loopback bool
	cmd := &cobra.Command{Use: "verify FILE|DIR", Short: "Show whether a file was approved, by whom, and whether clients are offered it", Args: cobra.ExactArgs(1),
		Long: `verify looks for the bytes of a file, or of every file of a directory, in the repository. It needs a pin and no
key. The first word is OFFERED, SUPERSEDED (clients are offered a later release), HELD, RECALLED, WAITING (not
every party lists the bytes) or UNKNOWN. The exit status is 0 if each file is OFFERED, and otherwise 3.

With --receipt it reads no repository: the receipt shows that the file was APPROVED, HELD or RECALLED at its time.`,
		Example: "  visum verify kestrel --pin pin.json\n  visum verify kestrel --pin pin.json --receipt kestrel.receipt",
		RunE: func(_ *cobra.Command, args []string) error {
			var out []*verdict
			if receiptFile != "" {
				v, err := verifyReceipt(args[0], receiptFile, pinFile, loopback)
				if err != nil {
					return err
				}
				out = append(out, v)
			} else {
				files, err := hashFiles(args[0])
				if err != nil {
					return err
				}
				x, err := a.audit(pinFile, from, loopback)
				if err != nil {
					return err
				}
				if out, err = x.verdicts(files); err != nil {
					return err
				}
			}
			var lines []string
			good := true
			for _, v := range out {
				lines = append(lines, v.String())
				good = good && (v.State == stateOffered || v.State == stateApproved)
			}
			if err := a.print(map[string]any{"files": out}, lines...); err != nil {
				return err
			}
			if !good {
				return errFound
			}
			return nil
		}}
	pinFlags(cmd, &pinFile, &loopback)
	cmd.Flags().StringVar(&from, "from", "", "directory or base URL of the repository (default: a location of the pin)")
	cmd.Flags().StringVar(&receiptFile, "receipt", "", "receipt of the file: nothing else is read")
	return cmd
}

// verifyReceipt verifies a file with its receipt.
func verifyReceipt(file, receiptFile, pinFile string, loopback bool) (*verdict, error) {
	pin, err := readPin(pinFile)
	if err != nil {
		return nil, err
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
	var pinFile, from, out, path string
	var loopback bool
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
			x, err := a.audit(pinFile, from, loopback)
			if err != nil {
				return err
			}
			if path == "" {
				opt := x.options()
				found, err := mirror.FindBytes(a.ctx, x.from, x.pin, []string{f.sum}, &opt)
				if err != nil {
					return err
				}
				switch paths := found[f.sum]; len(paths) {
				case 0:
					return fmt.Errorf("%s: %w: no party lists sha256 %s", text.Name(f.name), tuf.ErrNoTarget, f.sum)
				case 1:
					path = paths[0]
				default:
					return usage("%s has several paths: choose one with --path: %s", text.Name(f.name), text.Line(strings.Join(paths, " ")))
				}
			}
			data, r, err := x.receipt(path, f.sum)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(out, data, 0o644); err != nil {
				return err
			}
			return a.print(map[string]any{"file": f.name, "sha256": f.sum, "path": path, "receipt": out, "bytes": len(data), "at": r.Time(), "expires": r.Expires()},
				fmt.Sprintf("%s, in %s (%d bytes)", r, text.Name(out), len(data)))
		}}
	pinFlags(cmd, &pinFile, &loopback)
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "directory or base URL of the repository (default: a location of the pin)")
	f.StringVar(&path, "path", "", "path in the repository, if the bytes have several")
	f.StringVarP(&out, "out", "o", "", "file to write")
	return cmd
}
