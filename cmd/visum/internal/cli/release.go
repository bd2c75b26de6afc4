package cli

import (
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) promoteCommand() *cobra.Command {
	var p repo.Promotion
	var rollout, wait string
	var flags changeFlags
	cmd := &cobra.Command{Use: "promote PRODUCT@VERSION", Short: "List a release in another channel too, with the same bytes", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			if p.From == "" || p.To == "" {
				return usage("--from and --to are required")
			}
			if wait != "" {
				if flags.wait, err = parseAge(wait); err != nil {
					return err
				}
			}
			if rollout != "" {
				n, err := percent(rollout)
				if err != nil {
					return err
				}
				p.Rollout = &tuf.Rollout{Percent: n}
			}
			p.Product, p.Version = id.Product, id.Version
			flags.stores = true
			return a.change(flags, func(tx *repo.Tx, party string) error { return tx.Promote(party, p) })
		}}
	f := cmd.Flags()
	f.StringVar(&p.From, "from", "beta", "channel that has the release")
	f.StringVar(&p.To, "to", "stable", "channel that gets it")
	f.StringVar(&rollout, "rollout", "", "share of the machines that get it in the new channel, such as 10%")
	waitFlag(cmd, &wait)
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) rolloutCommand() *cobra.Command {
	var channel string
	var flags changeFlags
	cmd := &cobra.Command{Use: "rollout PRODUCT@VERSION PERCENT|halt", Short: "Set the share of machines that get a release", Args: cobra.ExactArgs(2),
		Example: "  visum rollout kestrel@1.5.0 50% --publish\n  visum rollout kestrel@1.5.0 halt --publish",
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			n := 0
			if args[1] != "halt" {
				if n, err = percent(args[1]); err != nil {
					return err
				}
			}
			return a.change(flags, func(tx *repo.Tx, party string) error { return tx.SetRollout(party, id, channel, n) })
		}}
	cmd.Flags().StringVar(&channel, "channel", "stable", "channel")
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) removeCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{Use: "remove PATH...", Short: "Take targets out of the lists of this party", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.change(flags, func(tx *repo.Tx, party string) error {
				for _, target := range args {
					if err := tx.Remove(party, target); err != nil {
						return err
					}
				}
				return nil
			})
		}}
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) syncCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{Use: "sync FOLDER PREFIX", Short: "List the files of a folder as targets without release data below a prefix", Args: cobra.ExactArgs(2),
		Long: "sync lists every regular file of FOLDER below PREFIX, such as rules/, as a target without release data.\nFiles with the same bytes are left as they are. sync removes nothing.",
		RunE: func(_ *cobra.Command, args []string) error {
			files, err := plainFiles(args[0], args[1])
			if err != nil {
				return err
			}
			flags.stores = true
			return a.change(flags, func(tx *repo.Tx, party string) error { return addPlain(tx, party, files) })
		}}
	a.changeFlags(cmd, &flags)
	return cmd
}

// addPlain lists files without release data.
func addPlain(tx *repo.Tx, party string, files []releaseFile) error {
	var list []repo.NewFile
	for _, f := range files {
		list = append(list, repo.NewFile{Path: f.path, Open: func() (io.ReadSeekCloser, error) { return os.Open(f.name) }})
	}
	return tx.AddAll(party, list)
}

// maxSynced bounds the files of one sync.
const maxSynced = 1 << 20

// plainFiles are the regular files of a folder, with their target paths.
func plainFiles(dir, prefix string) ([]releaseFile, error) {
	if !strings.HasSuffix(prefix, "/") {
		return nil, usage("%s: a prefix ends in a slash", text.Quote(prefix))
	}
	var out []releaseFile
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return nil
		case !d.Type().IsRegular():
			return usage("%s: not a regular file", text.Name(name))
		case len(out) == maxSynced:
			return usage("%s: more than %d files", text.Name(dir), maxSynced)
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		out = append(out, releaseFile{name: name, path: path.Join(prefix, filepath.ToSlash(rel))})
		return nil
	})
	return out, err
}

func (a *app) holdCommand() *cobra.Command {
	var reason, length string
	var flags changeFlags
	cmd := &cobra.Command{Use: "hold PRODUCT@VERSION", Short: "Stop new installs of a release for some time", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			if reason == "" {
				return usage("--reason is required")
			}
			d, err := parseAge(length)
			if err != nil {
				return err
			}
			until := a.Now().UTC().Add(d)
			return a.change(flags, func(tx *repo.Tx, _ string) error { return tx.HoldRelease(id, reason, until) })
		}}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, which clients show")
	cmd.Flags().StringVar(&length, "for", "24h", "how long, such as 24h or 3d; the class has a maximum")
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) unholdCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{Use: "unhold PRODUCT@VERSION", Short: "End a hold", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			return a.change(flags, func(tx *repo.Tx, _ string) error { return tx.UnholdRelease(id) })
		}}
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) recallCommand() *cobra.Command {
	var reason string
	var flags changeFlags
	cmd := &cobra.Command{Use: "recall PRODUCT@VERSION", Short: "State that a release should not run any more", Args: cobra.ExactArgs(1),
		Long: "recall takes a release out of the lists of this party, and tells products that run it. To list the same\nbytes again, this party needs a reason (visum review approve --reinstate).",
		RunE: func(_ *cobra.Command, args []string) error {
			id, err := releaseID(args[0])
			if err != nil {
				return err
			}
			if reason == "" {
				return usage("--reason is required")
			}
			return a.change(flags, func(tx *repo.Tx, party string) error { return tx.RecallRelease(party, id, reason) })
		}}
	cmd.Flags().StringVar(&reason, "reason", "", "reason, which clients show")
	a.changeFlags(cmd, &flags)
	return cmd
}
