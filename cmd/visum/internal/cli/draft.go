package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
)

func (a *app) draftCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "draft", Short: "Show, sign, merge and publish drafts"}
	var rest bool
	show := &cobra.Command{Use: "show FILE", Short: "Show what a draft changes, compared with this signer's ledger", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, d, err := a.openDraft(args[0])
			if err != nil {
				return err
			}
			changes, err := s.Diff(a.ctx, d)
			if err != nil {
				return err
			}
			var lines []string
			for _, c := range changes {
				if rest || c.Part != diff.PartRest {
					lines = append(lines, c.String())
				}
			}
			for _, m := range d.Missing() {
				lines = append(lines, "missing: "+m.String())
			}
			return a.print(change{Changes: changes, Missing: d.Missing(), Digest: d.Digest()}, append(lines, "digest "+d.Digest())...)
		}}
	show.Flags().BoolVar(&rest, "all", false, "show every signed member, with its path")
	missing := &cobra.Command{Use: "missing FILE", Short: "List the signatures that a draft lacks; exit status 5 if it lacks any", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			lines := []string{}
			for _, m := range d.Missing() {
				lines = append(lines, m.String())
			}
			if err := a.print(map[string]any{"missing": append([]repo.Missing{}, d.Missing()...)}, lines...); err != nil || len(lines) == 0 {
				return err
			}
			return fmt.Errorf("%w: %d rules", repo.ErrUnsigned, len(lines))
		}}
	merge := &cobra.Command{Use: "merge FILE OTHER...", Short: "Add the signatures of other copies of a draft to FILE", Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			for _, path := range args[1:] {
				other, err := repo.LoadDraft(path)
				if err != nil {
					return err
				}
				if err := d.Merge(other); err != nil {
					return fmt.Errorf("%s: %w", text.Name(path), err)
				}
			}
			if err := saveDraft(d, args[0]); err != nil {
				return err
			}
			return a.print(change{Missing: d.Missing(), Draft: args[0], Digest: d.Digest()}, a.afterSigning(d, args[0])...)
		}}
	cmd.AddCommand(show, missing, a.draftSignCommand(), merge, a.draftPublishCommand(), a.sendCommand(), a.pullCommand())
	return cmd
}

func (a *app) draftSignCommand() *cobra.Command {
	var digest string
	cmd := &cobra.Command{Use: "sign FILE", Short: "Sign a draft with the keys of the identity, after the rules of its ledger", Args: cobra.ExactArgs(1),
		Long: `sign shows what a draft changes and asks. --digest answers the question for exactly the draft with that digest,
which visum draft show prints.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.signDraft(args[0], digest) }}
	cmd.Flags().StringVar(&digest, "digest", "", "digest of the draft that was examined; without it a person is asked")
	return cmd
}

func (a *app) draftPublishCommand() *cobra.Command {
	var move string
	cmd := &cobra.Command{Use: "publish FILE", Short: "Publish a draft that has its signatures", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.openDual(move)
			if err != nil {
				return err
			}
			d, err := s.LoadDraft(args[0])
			if err != nil {
				return err
			}
			return a.finish(s, d, changeFlags{publish: a.yes}, nil)
		}}
	cmd.Flags().BoolVar(&a.yes, "yes", false, "answer the question whether to publish")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "show the change and write nothing")
	addMoveFlag(cmd, &move)
	return cmd
}

func (a *app) openDraft(path string) (*site, *repo.Draft, error) {
	s, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	d, err := s.LoadDraft(path)
	return s, d, err
}

// signDraft shows a draft, asks, and adds the signatures of the identity's keys to the
// file. Keys that may not sign anything in it are skipped.
func (a *app) signDraft(path, digest string) error {
	s, d, err := a.openDraft(path)
	if err != nil {
		return err
	}
	changes, err := s.Diff(a.ctx, d)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Part != diff.PartRest {
			a.note("%s", c)
		}
	}
	switch {
	case digest != "" && digest != d.Digest():
		return fmt.Errorf("%s: %w: its digest is %s", text.Name(path), repo.ErrOtherDraft, d.Digest())
	case digest == "" && !a.terminal():
		return usage("sign?: there is no terminal to ask; --digest names the draft that was examined")
	case digest == "":
		if err := a.confirm("sign?"); err != nil {
			return err
		}
	}
	signed, err := s.sign(a.ctx, d)
	if err != nil {
		return err
	}
	if signed == 0 {
		return fmt.Errorf("%w: none of the identity's keys", repo.ErrNoPart)
	}
	if err := saveDraft(d, path); err != nil {
		return err
	}
	return a.print(change{Changes: changes, Missing: d.Missing(), Draft: path, Digest: d.Digest()}, a.afterSigning(d, path)...)
}

// afterSigning says what a draft still lacks, and the next step.
func (a *app) afterSigning(d *repo.Draft, path string) []string {
	missing := d.Missing()
	if len(missing) == 0 {
		return []string{fmt.Sprintf("%s is complete. Next, at the operator: visum draft publish %s", text.Name(path), path)}
	}
	var lines []string
	for _, m := range missing {
		lines = append(lines, "missing: "+m.String())
	}
	return append(lines, "next, at the other signers: visum draft sign "+path)
}

func (a *app) reviewCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "review", Short: "List, approve and refuse releases as a reviewer"}
	var in string
	list := &cobra.Command{Use: "list", Short: "List what waits for this party's decision; exit status 3 if anything does", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, d, err := a.reviewed(a.look, in)
			if err != nil {
				return err
			}
			pending, err := s.PendingIn(a.ctx, s.party, d)
			if err != nil {
				return err
			}
			var lines []string
			for _, p := range pending {
				lines = append(lines, pendingLine(p))
				for _, c := range p.Changes {
					lines = append(lines, "  "+c)
				}
			}
			if len(pending) == 0 {
				return a.print(map[string]any{"pending": []repo.Pending{}}, "nothing waits")
			}
			if err := a.print(map[string]any{"pending": pending}, lines...); err != nil {
				return err
			}
			return errFound
		}}
	list.Flags().StringVar(&in, "in", "", "draft that is not published yet")
	var record repo.ReviewRecord
	var flags changeFlags
	approve := &cobra.Command{Use: "approve PRODUCT@VERSION|PATH", Short: "Approve a release, on all platforms", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.decide(args[0], in, flags, func(tx *repo.Tx, party string, p repo.Pending) error {
				r := record
				r.SHA256 = p.SHA256
				return tx.Approve(party, p.Path, &r)
			})
		}}
	f := approve.Flags()
	f.StringVar(&in, "in", "", "draft that is not published yet; the approval is added to that file")
	f.StringVar(&record.Reviewer, "reviewer", "", "name of the reviewer, for the statement")
	f.StringVar(&record.Reinstate, "reinstate", "", "reason to approve bytes that this party recalled or refused before")
	a.changeFlags(approve, &flags)
	var refusal repo.RefusalRecord
	refuse := &cobra.Command{Use: "refuse PRODUCT@VERSION|PATH", Short: "Refuse a release, with a reason", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if refusal.Reason == "" {
				return usage("--reason is required")
			}
			return a.decide(args[0], in, flags, func(tx *repo.Tx, party string, p repo.Pending) error { return tx.Refuse(party, p.Path, refusal) })
		}}
	f = refuse.Flags()
	f.StringVar(&in, "in", "", "draft that is not published yet; the refusal is added to that file")
	f.StringVar(&refusal.Reason, "reason", "", "reason, for the statement")
	f.StringVar(&refusal.Reviewer, "reviewer", "", "name of the reviewer, for the statement")
	a.changeFlags(refuse, &flags)
	cmd.AddCommand(list, approve, refuse)
	return cmd
}

// reviewed opens the repository and the draft under review; nil without one.
func (a *app) reviewed(open func() (*site, error), in string) (*site, *repo.Draft, error) {
	s, err := open()
	if err != nil {
		return nil, nil, err
	}
	if s.party == "" {
		return nil, nil, usage("the identity has no party in this repository")
	}
	if in == "" {
		return s, nil, nil
	}
	d, err := s.LoadDraft(in)
	return s, d, err
}

func pendingLine(p repo.Pending) string {
	name := text.Name(p.Path)
	if r := p.Release; r != nil {
		name = fmt.Sprintf("%s@%s %s %s, %s", text.Name(r.Product), text.Name(r.Version), text.Name(r.Channel), text.Name(r.Platform), name)
	}
	state := ""
	if p.Recalled != nil {
		state = ", RECALLED by this party before"
	} else if p.Refused != nil {
		state = ", REFUSED by this party before"
	}
	return fmt.Sprintf("%s, %d bytes, sha256 %s, listed by %s%s", name, p.Length, p.SHA256, strings.Join(p.ListedBy, " and "), state)
}

// decide stages a decision on each pending target that what names.
func (a *app) decide(what, in string, flags changeFlags, do func(*repo.Tx, string, repo.Pending) error) error {
	s, d, err := a.reviewed(a.open, in)
	if err != nil {
		return err
	}
	pending, err := s.PendingIn(a.ctx, s.party, d)
	if err != nil {
		return err
	}
	var chosen []repo.Pending
	var others []string
	for _, p := range pending {
		id := p.Path
		if p.Release != nil {
			id = p.Release.Product + "@" + p.Release.Version
		}
		if what == id || what == p.Path {
			chosen = append(chosen, p)
		} else {
			others = append(others, text.Name(id))
		}
	}
	if len(chosen) == 0 {
		if len(others) == 0 {
			return fmt.Errorf("%s: nothing waits for %s", text.Name(what), text.Name(s.party))
		}
		return fmt.Errorf("%s does not wait for %s; waiting: %s", text.Name(what), text.Name(s.party), strings.Join(others, ", "))
	}
	edit := func(tx *repo.Tx) error {
		for _, p := range chosen {
			if err := do(tx, s.party, p); err != nil {
				return err
			}
		}
		return nil
	}
	var paths []string
	for _, p := range chosen {
		paths = append(paths, p.Path)
	}
	if d == nil {
		if d, err = s.stage(a.ctx, edit); err != nil {
			return err
		}
		return a.finish(s, d, flags, paths)
	}
	if flags.out == "" && !flags.publish {
		flags.out = in // the decision is added to the draft
	}
	if d, err = s.stageOn(a.ctx, d, edit); err != nil {
		return err
	}
	return a.finish(s, d, flags, paths)
}

func (a *app) pinCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "pin", Short: "Show the pin that products embed, and its fingerprint"}
	var out string
	show := &cobra.Command{Use: "show", Short: "Print the pin of the newest root", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			pin, err := s.Pin(a.ctx)
			if err != nil {
				return err
			}
			if out != "" {
				return os.WriteFile(out, pin, 0o644)
			}
			_, err = a.Out.Write(pin)
			return err
		}}
	show.Flags().StringVarP(&out, "out", "o", "", "file for the pin, instead of standard output")
	fingerprint := &cobra.Command{Use: "fingerprint [FILE]", Short: "Print the sha256 of a pin file, which people compare", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var pin []byte
			var err error
			if len(args) > 0 {
				pin, err = os.ReadFile(args[0])
			} else if s, openErr := a.look(); openErr != nil {
				err = openErr
			} else {
				pin, err = s.Repo.Pin(a.ctx)
			}
			if err != nil {
				return err
			}
			print, err := pinFingerprint(pin)
			if err != nil {
				return err
			}
			return a.print(map[string]any{"fingerprint": print}, print)
		}}
	cmd.AddCommand(show, fingerprint)
	return cmd
}
