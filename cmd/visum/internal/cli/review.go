package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
)

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
			return a.printFound(true, map[string]any{"pending": pending}, lines...)
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
	cmd.AddCommand(list, a.reviewGetCommand(), approve, refuse)
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
	if in != "" && flags.out == "" && !flags.publish {
		flags.out = in // the decision is added to the draft
	}
	s, d, err := a.reviewed(func() (*site, error) { return a.openFor(flags) }, in)
	if err != nil {
		return err
	}
	chosen, err := a.chosen(s, d, what)
	if err != nil {
		return err
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
	if d, err = s.stageOn(a.ctx, d, edit); err != nil {
		return err
	}
	return a.finish(s, d, flags, paths)
}

// chosen returns the pending targets that PRODUCT@VERSION or a path names.
func (a *app) chosen(s *site, d *repo.Draft, what string) ([]repo.Pending, error) {
	pending, err := s.PendingIn(a.ctx, s.party, d)
	if err != nil {
		return nil, err
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
	switch {
	case len(chosen) > 0:
		return chosen, nil
	case len(others) == 0:
		return nil, fmt.Errorf("%s: nothing waits for %s", text.Name(what), text.Name(s.party))
	}
	return nil, fmt.Errorf("%s does not wait for %s; waiting: %s", text.Name(what), text.Name(s.party), strings.Join(others, ", "))
}

// gotFile is a file of review get in the output.
type gotFile struct {
	Path   string `json:"path"` // of the target
	File   string `json:"file"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

func (a *app) reviewGetCommand() *cobra.Command {
	var in, out string
	cmd := &cobra.Command{Use: "get PRODUCT@VERSION|PATH", Short: "Write the files that wait for this party's decision into a directory, to be examined", Args: cobra.ExactArgs(1),
		Long: "get writes each file below DIR at its target path. Length and hash are those of the listing: what is examined\nis what is approved.",
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usage("--out is required: the directory for the files")
			}
			s, d, err := a.reviewed(a.look, in)
			if err != nil {
				return err
			}
			chosen, err := a.chosen(s, d, args[0])
			if err != nil {
				return err
			}
			files, lines := []gotFile{}, []string{}
			for _, p := range chosen {
				file := filepath.Join(out, filepath.FromSlash(p.Path))
				if err := a.getPending(s, p, file); err != nil {
					return err
				}
				files = append(files, gotFile{p.Path, file, p.Length, p.SHA256})
				lines = append(lines, fmt.Sprintf("%s: %d bytes, sha256 %s", text.Name(file), p.Length, p.SHA256))
			}
			return a.print(map[string]any{"files": files}, lines...)
		}}
	cmd.Flags().StringVar(&in, "in", "", "draft that is not published yet")
	cmd.Flags().StringVarP(&out, "out", "o", "", "directory for the files")
	return cmd
}

// getPending writes the bytes of a pending target to a file, or nothing.
func (a *app) getPending(s *site, p repo.Pending, file string) error {
	if !filepath.IsLocal(filepath.FromSlash(p.Path)) {
		return fmt.Errorf("%s: the path leads out of the directory", text.Name(p.Path))
	}
	r, err := s.OpenPending(a.ctx, p)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := durable.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	w, err := durable.Create(file)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := io.Copy(w, r); err != nil {
		return fmt.Errorf("%s: %w", text.Name(p.Path), err)
	}
	return w.Commit()
}
