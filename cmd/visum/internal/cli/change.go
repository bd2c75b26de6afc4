package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
)

// changeFlags are the flags of a command that changes the repository.
type changeFlags struct {
	publish bool
	out     string
	wait    time.Duration // after a publish, until what was added is offered
	stores  bool          // the edit writes targets to the storage
}

func (a *app) changeFlags(cmd *cobra.Command, c *changeFlags) {
	f := cmd.Flags()
	f.BoolVar(&c.publish, "publish", false, "publish the change")
	f.StringVarP(&c.out, "out", "o", "", "write the change as a draft to this file, for other signers")
	f.BoolVar(&a.dryRun, "dry-run", false, "show the change and write nothing")
	f.BoolVar(&a.yes, "yes", false, "answer the question whether to publish")
}

// waitFlag adds --wait to a command that adds releases.
func waitFlag(cmd *cobra.Command, wait *string) {
	cmd.Flags().StringVar(wait, "wait", "", "after the publish, wait so long for the approval, such as 4h; exit status 5 if it is not offered then")
}

// change is what a command did with its draft.
type change struct {
	Changes   []diff.Change  `json:"changes,omitempty"`  // of the draft, for a person to read
	Missing   []repo.Missing `json:"missing,omitempty"`  // signatures
	Draft     string         `json:"draft,omitempty"`    // the file that was written
	Digest    string         `json:"digest,omitempty"`   // of the draft, to be compared with other signers
	Published bool           `json:"published"`          // the change is published
	Offered   *bool          `json:"offered,omitempty"`  // all parties list what was added; absent if nothing was
	Waits     []string       `json:"waiting,omitempty"`  // parties that have not approved what was added
	Warnings  []string       `json:"warnings,omitempty"` // of the draft's root
}

// finish shows a draft, and writes or publishes it as the flags say. added are the paths
// that the draft adds.
func (a *app) finish(s *site, d *repo.Draft, c changeFlags, added []string) error {
	if c.publish && c.out != "" {
		return usage("--publish and --out exclude each other")
	}
	out := change{Changes: []diff.Change{}, Missing: s.missing(d), Digest: d.Digest(), Warnings: d.Warnings()}
	if d.Empty() {
		return a.print(out, "nothing to do: the repository is like that already")
	}
	changes, err := s.Diff(a.ctx, d)
	if err != nil {
		return err
	}
	out.Changes = changes
	lines := headlines(changes)
	for _, x := range changes {
		if x.What == "release" && x.Kind == diff.KindAdded && !slices.Contains(added, x.Name) {
			added = append(added, x.Name) // also by a draft that was made elsewhere
		}
	}
	for _, w := range out.Warnings {
		lines = append(lines, "warning: "+w)
	}
	for _, m := range out.Missing {
		lines = append(lines, "missing: "+m.String())
	}
	switch {
	case a.dryRun:
		return a.print(out, append(lines, "dry run: nothing was signed or written")...)
	case c.out != "":
		if err := a.signOwn(s, d); err != nil {
			return err
		}
		return s.published(func(*site) error { // the files that the draft lists are visible
			if err := d.Save(c.out); err != nil {
				return err
			}
			out.Draft = c.out
			return a.print(out, append(lines, fmt.Sprintf("draft in %s, digest %s; next: visum draft sign %s, then visum draft publish %s", text.Name(c.out), d.Digest(), c.out, c.out))...)
		})
	}
	if len(out.Missing) > 0 {
		return fmt.Errorf("%w: %s; --out FILE writes the draft for the other signers", repo.ErrUnsigned, out.Missing[0])
	}
	if !c.publish {
		for _, l := range lines {
			a.note("%s", l)
		}
		if err := a.confirm("publish?"); err != nil {
			return err
		}
		lines = nil
	}
	if err := a.signOwn(s, d); err != nil {
		return err
	}
	if err := s.Publish(a.ctx, d); err != nil {
		return err
	}
	out.Published = true
	return s.published(func(s *site) error { return a.printPublished(s, out, lines, added, c.wait) })
}

// signOwn signs a draft that was staged here.
func (a *app) signOwn(s *site, d *repo.Draft) error {
	if !s.own {
		return nil
	}
	_, err := s.sign(a.ctx, d)
	return err
}

// printPublished says whether clients get what was published: a release is offered only
// when every party lists it.
// With wait, it says so at the end of that time at the latest.
func (a *app) printPublished(s *site, out change, lines, added []string, wait time.Duration) error {
	var late error
	if len(added) > 0 {
		waits, err := a.untilOffered(s, added, wait)
		if err != nil {
			return err
		}
		if len(waits) > 0 && wait > 0 {
			late = fmt.Errorf("%w: published, and not offered after %s", repo.ErrUnsigned, text.Duration(wait))
		}
		offered := len(waits) == 0
		out.Offered, out.Waits = &offered, waits
		if offered {
			lines = append(lines, "published and OFFERED")
		} else {
			lines = append(lines, "published. NOT OFFERED yet: waits for "+strings.Join(waits, " and "))
		}
	} else {
		lines = append(lines, "published")
	}
	if err := a.print(out, lines...); err != nil {
		return err
	}
	return late
}

// untilOffered returns the parties that have not approved one of the paths: at once, or
// after every party has, or at the end of the time to wait.
func (a *app) untilOffered(s *site, paths []string, wait time.Duration) ([]string, error) {
	end := time.Now().Add(wait)
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 15*time.Second) {
		waits, err := a.waitingFor(s, paths)
		left := time.Until(end)
		if err != nil || len(waits) == 0 || left <= 0 {
			return waits, err
		}
		select {
		case <-time.After(min(pause, left)):
		case <-a.ctx.Done():
			return waits, fmt.Errorf("published; waiting for %s ended: %w", strings.Join(waits, " and "), a.ctx.Err())
		}
	}
}

// waitingFor returns the parties that have not approved one of the paths.
func (a *app) waitingFor(s *site, paths []string) ([]string, error) {
	var out []string
	err := s.eachPending(a.ctx, func(party string, pending []repo.Pending) {
		if slices.ContainsFunc(pending, func(x repo.Pending) bool { return slices.Contains(paths, x.Path) }) {
			out = append(out, party)
		}
	})
	return out, err
}

// reopened returns a draft as another handle reads it, with the rules of its ledger.
func reopened(r *repo.Repo, d *repo.Draft) (*repo.Draft, error) {
	data, err := d.Bytes()
	if err != nil {
		return nil, err
	}
	return r.OpenDraft(data)
}

// change makes a draft of an edit as the identity's party, and finishes it as the flags
// say.
func (a *app) change(flags changeFlags, edit func(tx *repo.Tx, party string) error) error {
	s, err := a.openFor(flags)
	if err != nil {
		return err
	}
	return a.changeAt(s, flags, edit)
}

// openFor opens the repository for a change. If it becomes a draft in a file, or nothing,
// permission to read the storage is enough: only the operator can write there.
func (a *app) openFor(flags changeFlags) (*site, error) {
	return a.openSite(!flags.stores && (flags.out != "" || a.dryRun))
}

// changeAt is change of an open repository.
func (a *app) changeAt(s *site, flags changeFlags, edit func(tx *repo.Tx, party string) error) error {
	return a.batch(s, func(s *site) error {
		d, err := s.stage(a.ctx, func(tx *repo.Tx) error { return edit(tx, s.party) })
		if err != nil {
			return err
		}
		return a.finish(s, d, flags, nil)
	})
}

// showAndAsk shows what a draft changes and asks.
func (a *app) showAndAsk(s *site, d *repo.Draft, question string) error {
	changes, err := s.Diff(a.ctx, d)
	if err != nil {
		return err
	}
	for _, l := range headlines(changes) {
		a.note("%s", l)
	}
	return a.confirm(question)
}

// headlines are the changes of a draft that a person reads first.
func headlines(changes []diff.Change) (lines []string) {
	for _, c := range changes {
		if c.Part != diff.PartRest {
			lines = append(lines, c.String())
		}
	}
	return lines
}
