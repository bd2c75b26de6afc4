package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/exchange"
)

// openExchange opens the exchange of a flag, or of visum.toml.
func (a *app) openExchange(s *site, flag string) (*exchange.Exchange, error) {
	uri, err := s.exchangeURI(flag)
	if err != nil {
		return nil, err
	}
	store, err := a.openStorage(uri, false)
	if err != nil {
		return nil, fmt.Errorf("exchange: %w", err)
	}
	return exchange.New(store, s.Repo, s.storage, s.repoID)
}

// queued is a draft in the exchange, with what it waits for.
type queued struct {
	*exchange.Item
	missing []repo.Missing
	canSign []string // labels of the identity's keys that may still sign
	// pending are the new targets that wait for a party's decision, by party. They are
	// known for open drafts without a new root whose lists are signed.
	pending map[string][]repo.Pending
	known   bool
	covered string // digest of another open draft that has it and further targets or decisions; "": none
}

// queue returns the drafts in the exchange, and the files there that are not usable.
func (a *app) queue(s *site, x *exchange.Exchange) ([]*queued, []exchange.Skipped, error) {
	items, skipped, err := x.List(a.ctx)
	if err != nil {
		return nil, nil, err
	}
	var parties []string
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(chain) > 0 {
		for _, p := range chain[len(chain)-1].Charter().Parties() {
			parties = append(parties, p.Name)
		}
	}
	var out []*queued
	for _, it := range items {
		q := &queued{Item: it, pending: map[string][]repo.Pending{}}
		out = append(out, q)
		if it.State != exchange.Open {
			continue
		}
		q.missing = it.Draft.Missing()
		for _, m := range q.missing {
			for _, id := range m.KeyIDs {
				if label, ok := s.labels[id]; ok && !slices.Contains(q.canSign, label) {
					q.canSign = append(q.canSign, label)
				}
			}
		}
		if it.Draft.File("root") != nil {
			continue
		}
		q.known = true
		for _, party := range parties {
			pending, err := s.PendingIn(a.ctx, party, it.Draft)
			if a.ctx.Err() != nil {
				return nil, nil, a.ctx.Err()
			}
			if err != nil {
				q.known = false // not signed by its role, or changed meanwhile
				break
			}
			q.pending[party] = slices.DeleteFunc(pending, func(p repo.Pending) bool { return !q.lists(p) })
		}
	}
	for _, q := range out {
		for _, other := range out {
			if q.known && other.known && len(other.missing) == 0 && other.extends(q) {
				q.covered = other.Digest
			}
		}
		for party, pending := range q.pending {
			q.pending[party] = slices.DeleteFunc(pending, func(p repo.Pending) bool {
				by := decided(out, q, party, p)
				if by != "" {
					q.covered = by
				}
				return by != ""
			})
		}
	}
	return out, skipped, nil
}

// lists reports whether the draft newly lists a target.
func (q *queued) lists(p repo.Pending) bool {
	return slices.ContainsFunc(q.Targets, func(t repo.Target) bool { return t.Name == p.Name })
}

func (q *queued) waitsFor(party string, p repo.Pending) bool {
	return slices.ContainsFunc(q.pending[party], func(x repo.Pending) bool { return x.Name == p.Name })
}

// extends reports whether a draft has all targets of another one, and more.
func (q *queued) extends(other *queued) bool {
	return len(q.Targets) > len(other.Targets) && len(other.Targets) > 0 && !slices.ContainsFunc(other.Targets, func(t repo.Target) bool {
		return !slices.ContainsFunc(q.Targets, func(x repo.Target) bool { return x.Name == t.Name })
	})
}

// decided returns the digest of another open draft that has the party's approval of a
// target, which the party has signed; "" if there is none.
func decided(all []*queued, except *queued, party string, p repo.Pending) string {
	for _, q := range all {
		if q != except && q.known && len(q.missing) == 0 && q.lists(p) && !q.waitsFor(party, p) {
			return q.Digest
		}
	}
	return ""
}

// waitingParties returns the parties that have not decided about the draft's targets.
func (q *queued) waitingParties() (out []string) {
	for party, pending := range q.pending {
		if len(pending) > 0 {
			out = append(out, party)
		}
	}
	slices.Sort(out)
	return out
}

// publishes reports whether the identity has the keys of timestamp and snapshot.
func (a *app) publishes(s *site) (bool, error) {
	st, err := s.Status(a.ctx, a.Now())
	if err != nil {
		return false, err
	}
	return canPublish(st), nil
}

func canPublish(st *repo.Status) bool {
	n := 0
	for _, d := range st.Due {
		if (d.Role == "timestamp" || d.Role == "snapshot") && d.CanSign {
			n++
		}
	}
	return n == 2
}

func (a *app) sendCommand() *cobra.Command {
	var uri string
	var files bool
	cmd := &cobra.Command{Use: "send FILE", Short: "Write a draft to the exchange, for the other parties", Args: cobra.ExactArgs(1),
		Long: `send writes a draft to the exchange of visum.toml, a directory or bucket that the parties share. Its name there
comes from its digest: if the exchange has a copy, the signatures of both are kept.`,
		Example: "  visum add kestrel --product kestrel --version 1.4.0 --platform any -o 1.4.0.draft\n  visum draft send 1.4.0.draft",
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			d, err := s.LoadDraft(args[0])
			if err != nil {
				return err
			}
			x, err := a.openExchange(s, uri)
			if err != nil {
				return err
			}
			result := sentDraft{Digest: d.Digest(), Missing: d.Missing(), DryRun: a.dryRun}
			if a.dryRun {
				return a.print(result, fmt.Sprintf("dry run: would send draft %s", result.Digest))
			}
			if files {
				if result.Files, err = x.SendFiles(a.ctx, d); err != nil {
					return err
				}
			}
			if result.Name, result.Sent, err = x.Send(a.ctx, d); err != nil {
				return err
			}
			line := "sent as " + result.Name
			if !result.Sent {
				line = "the exchange has it already, with these signatures: " + result.Name
			}
			if files {
				line += fmt.Sprintf(", with %d target files", result.Files)
			}
			lines := []string{line}
			for _, m := range result.Missing {
				lines = append(lines, "missing: "+m.String())
			}
			return a.print(result, append(lines, "next, at the other parties: visum draft pull")...)
		}}
	f := cmd.Flags()
	f.StringVar(&uri, "exchange", "", "the exchange, instead of that of visum.toml")
	f.BoolVar(&files, "with-files", false, "send the target files too, for a party that can't read the repository's storage")
	f.BoolVar(&a.dryRun, "dry-run", false, "write nothing")
	return cmd
}

// sentDraft is what draft send did.
type sentDraft struct {
	Name    string         `json:"name"`   // in the exchange
	Digest  string         `json:"digest"` // of the draft
	Sent    bool           `json:"sent"`   // false: the exchange had it already
	Files   int            `json:"files"`  // target files
	Missing []repo.Missing `json:"missing,omitempty"`
	DryRun  bool           `json:"dry_run,omitempty"`
}

// pulledDraft is a draft in the output of draft pull.
type pulledDraft struct {
	Digest  string         `json:"digest"`
	State   exchange.State `json:"state"`
	Reason  string         `json:"reason,omitempty"`  // why it is not open
	Draft   string         `json:"draft,omitempty"`   // the file that was written
	Missing []repo.Missing `json:"missing,omitempty"` // signatures
	CanSign []string       `json:"can_sign"`          // labels of keys of this identity that may still sign
	Waiting []string       `json:"waiting,omitempty"` // parties that have not decided about its targets
	Waits   bool           `json:"waits"`             // it waits for this party
	Next    string         `json:"next,omitempty"`
}

// skippedFile is a file of the exchange that is not usable.
type skippedFile struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

func (a *app) pullCommand() *cobra.Command {
	var uri, dir string
	var files, prune bool
	cmd := &cobra.Command{Use: "pull", Short: "Read the drafts of the exchange; exit status 3 if one waits for this party", Args: cobra.NoArgs,
		Long: `pull lists the drafts of this repository in the exchange, merges the signatures of all copies, and writes each
to a file. It says what a draft lacks, which of the missing signatures the keys of this identity can make, and
which party has not decided about a release yet. Nothing in the exchange is trusted: a file that is not usable is
reported and skipped.`,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.openSite(!files)
			if err != nil {
				return err
			}
			x, err := a.openExchange(s, uri)
			if err != nil {
				return err
			}
			if !filepath.IsAbs(dir) {
				dir = filepath.Join(a.folder, dir)
			}
			return a.pull(s, x, dir, files, prune)
		}}
	f := cmd.Flags()
	f.StringVar(&uri, "exchange", "", "the exchange, instead of that of visum.toml")
	f.StringVarP(&dir, "out", "o", "drafts", "directory for the drafts, in the working folder")
	f.BoolVar(&files, "with-files", false, "write target files that wait for this party, and that its storage lacks, to its storage")
	f.BoolVar(&prune, "prune", false, "remove published and stale drafts, and files that no draft needs, from the exchange")
	f.BoolVar(&a.dryRun, "dry-run", false, "write and remove nothing")
	return cmd
}

func (a *app) pull(s *site, x *exchange.Exchange, dir string, files, prune bool) error {
	all, skipped, err := a.queue(s, x)
	if err != nil {
		return err
	}
	publishes := false
	if chain, err := s.Chain(a.ctx); err != nil {
		return err
	} else if len(chain) > 0 {
		if publishes, err = a.publishes(s); err != nil {
			return err
		}
	}
	out, lines, waits := []pulledDraft{}, []string{}, false
	fetched := 0
	for _, q := range all {
		p := pulledDraft{Digest: q.Digest, State: q.State, Reason: q.Reason, Missing: q.missing, CanSign: append([]string{}, q.canSign...), Waiting: q.waitingParties()}
		if q.State == exchange.Published || q.State == exchange.Stale {
			out, lines = append(out, p), append(lines, fmt.Sprintf("%s: %s", p.Digest, p.State))
			continue
		}
		if files && !a.dryRun {
			n, bad, err := x.FetchFiles(a.ctx, q.pending[s.party])
			if err != nil {
				return err
			}
			fetched, skipped = fetched+n, append(skipped, bad...)
		}
		file := filepath.Join(dir, q.Digest+".draft")
		if a.dryRun {
			file = ""
		} else if err := a.savePulled(s, q, file); err != nil {
			skipped = append(skipped, exchange.Skipped{Name: file, Err: err})
			file = ""
		}
		p.Draft = file
		a.nextFor(s, q, &p, publishes)
		waits = waits || p.Waits
		out, lines = append(out, p), append(lines, p.lines(q)...)
	}
	removed := []string{}
	if prune {
		if removed, err = a.pruneExchange(x, all, len(skipped) == 0); err != nil {
			return err
		}
		for _, name := range removed {
			lines = append(lines, map[bool]string{false: "removed ", true: "would remove "}[a.dryRun]+text.Name(name))
		}
	}
	bad := []skippedFile{}
	for _, f := range skipped {
		bad = append(bad, skippedFile{f.Name, text.Line(f.Err.Error())})
		lines = append(lines, fmt.Sprintf("skipped %s: %v", text.Name(f.Name), text.Line(f.Err.Error())))
	}
	if len(all) == 0 {
		lines = append(lines, "no drafts")
	}
	return a.printFound(waits, map[string]any{"drafts": out, "skipped": bad, "removed": removed, "files": fetched, "dry_run": a.dryRun}, lines...)
}

// savePulled writes a draft to a file. If the file has a copy of it, the signatures of
// both are kept; another file is not replaced.
func (a *app) savePulled(s *site, q *queued, file string) error {
	switch have, err := s.LoadDraft(file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("it is not replaced: %w", err)
	default:
		have.DropInvalid()
		if err := q.Draft.Merge(have); err != nil {
			return fmt.Errorf("it is not replaced: %w", err)
		}
	}
	if err := durable.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	data, err := q.Draft.Bytes()
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(file); err == nil && string(have) == string(data) {
		return nil
	}
	return durable.WriteFile(file, data, 0o644)
}

// nextFor says whether a draft waits for this party, and what to do.
func (a *app) nextFor(s *site, q *queued, p *pulledDraft, publishes bool) {
	file := p.Draft
	if file == "" {
		file = "FILE"
	}
	switch {
	case q.State == exchange.NotYet:
		p.Next = "update this copy of the repository: visum clone URL DIR --pin PIN"
	case len(q.canSign) > 0:
		p.Waits, p.Next = true, fmt.Sprintf("visum draft show %s, then visum draft sign %s, then visum draft send %s", file, file, file)
	case len(q.pending[s.party]) > 0:
		what := q.pending[s.party][0].Path
		if r := q.pending[s.party][0].Release; r != nil {
			what = r.Product + "@" + r.Version
		}
		p.Waits, p.Next = true, fmt.Sprintf("visum review approve %s --in %s, then visum draft send %s", text.Name(what), file, file)
	case q.covered != "":
		p.Next = "nothing: draft " + q.covered + " has it, and more"
	case len(q.missing) == 0 && publishes && len(p.Waiting) == 0:
		p.Waits, p.Next = true, "visum draft publish "+file
	}
}

func (p *pulledDraft) lines(q *queued) []string {
	name := p.Draft
	if name == "" {
		name = p.Digest
	}
	lines := []string{fmt.Sprintf("%s: %s", text.Name(name), q.Draft)}
	if p.Reason != "" {
		lines = append(lines, fmt.Sprintf("  %s: %s", p.State, p.Reason))
	}
	for _, m := range p.Missing {
		lines = append(lines, "  missing: "+m.String())
	}
	if len(p.CanSign) > 0 {
		var labels []string
		for _, l := range p.CanSign {
			labels = append(labels, text.Name(l))
		}
		lines = append(lines, "  this identity can sign with: "+strings.Join(labels, ", "))
	}
	if len(p.Waiting) > 0 {
		lines = append(lines, "  waits for the decision of "+strings.Join(p.Waiting, " and "))
	}
	if p.Next != "" {
		lines = append(lines, "  next: "+p.Next)
	}
	return lines
}

// pruneExchange removes drafts that are published or stale, and target files of no draft.
func (a *app) pruneExchange(x *exchange.Exchange, all []*queued, whole bool) ([]string, error) {
	var items []*exchange.Item
	for _, q := range all {
		items = append(items, q.Item)
	}
	removed, err := x.Prune(a.ctx, items, a.dryRun)
	if err != nil || !whole {
		return append([]string{}, removed...), err
	}
	files, err := x.PruneFiles(a.ctx, items, a.Now().Add(-24*time.Hour), a.dryRun)
	return append(append([]string{}, removed...), files...), err
}
