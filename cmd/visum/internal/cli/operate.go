package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/git"
)

// dueRole is a role in the output of status.
type dueRole struct {
	Role    string         `json:"role"`
	Version int64          `json:"version"`
	Party   string         `json:"party,omitempty"`
	Expires time.Time      `json:"expires"`
	Urgency string         `json:"urgency"`
	CanSign bool           `json:"can_sign"`
	Needs   []repo.Missing `json:"needs"`
}

func (a *app) statusCommand() *cobra.Command {
	var within, textfile string
	cmd := &cobra.Command{Use: "status", Short: "Show when roles expire and who must renew them; exit status 3 if anything is due", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ahead, err := parseAge(within)
			if err != nil {
				return err
			}
			s, err := a.look()
			if err != nil {
				return err
			}
			st, err := s.Status(a.ctx, a.Now().Add(ahead))
			if err != nil {
				return err
			}
			if textfile != "" {
				if err := writeTextfile(textfile, s.repoID, st, a.Now()); err != nil {
					return err
				}
			}
			due := []dueRole{}
			for _, d := range st.Due {
				due = append(due, dueRole{d.Role, d.Version, d.Party, d.Expires, d.Urgency.String(), d.CanSign, d.Needs})
			}
			out := map[string]any{"at": st.At, "urgency": st.Urgency().String(), "due": due, "dates": append([]repo.Event{}, st.Dates...), "unfinished": st.Unfinished, "alarms": append([]repo.Alarm{}, st.Alarms...), "ahead_seconds": int64(st.Ahead / time.Second)}
			waiting, waits, err := a.waitingTargets(s)
			if err != nil {
				return err
			}
			out["waiting"] = waiting
			lines := append(waits, text.Line(stopLine(st)), st.String())
			if b, ok := s.storage.(*git.Branch); ok {
				size, err := b.Size(a.ctx)
				if err != nil {
					return err
				}
				out["storage"] = size
				lines = append(lines, fmt.Sprintf("storage: %d files, %.1f MB; GitHub Pages publishes at most 1000 MB", size.Files, float64(size.Bytes)/1e6))
			}
			return a.printFound(st.Urgency() > repo.UrgencyFine || st.Unfinished, out, lines...)
		}}
	cmd.Flags().StringVar(&within, "within", "0s", "report what will be due by then, such as 21d")
	cmd.Flags().StringVar(&textfile, "textfile", "", "write the status to this file for the textfile collector of Prometheus' node exporter")
	return cmd
}

// waitingTarget is a target that a party has not approved, in the output of status.
type waitingTarget struct {
	Party   string `json:"party"` // whose approval it waits for
	Release string `json:"release,omitempty"`
	Path    string `json:"path"`
}

// waitingTargets are the targets that clients are not offered, because a party has not
// approved them, with one line for each release and party.
func (a *app) waitingTargets(s *site) (out []waitingTarget, lines []string, err error) {
	out = []waitingTarget{}
	err = s.eachPending(a.ctx, func(party string, pending []repo.Pending) {
		for _, x := range pending {
			if x.Refused != nil || x.Recalled != nil {
				continue // decided
			}
			w := waitingTarget{Party: party, Path: x.Path}
			what := text.Name(x.Path)
			if x.Release != nil {
				w.Release = x.Release.Product + "@" + x.Release.Version
				what = fmt.Sprintf("%s in %s", text.Name(w.Release), text.Name(x.Release.Channel))
			}
			out = append(out, w)
			if line := fmt.Sprintf("NOT OFFERED: %s waits for %s", what, text.Name(party)); !slices.Contains(lines, line) {
				lines = append(lines, line)
			}
		}
	})
	return out, lines, err
}

func (a *app) renewCommand() *cobra.Command {
	var move string
	cmd := &cobra.Command{Use: "renew", Short: "Sign again what expires soon, with the keys of the identity", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.openDual(move)
			if err != nil {
				return err
			}
			if err := s.checkReview(a.ctx); err != nil {
				return err
			}
			if err := s.Renew(a.ctx); err != nil {
				return err
			}
			return a.print(map[string]any{"renewed": true}, "renewed")
		}}
	addMoveFlag(cmd, &move)
	return cmd
}

// finding is a finding of fsck in the output.
type finding struct {
	mirror.Finding
	Harmless bool `json:"harmless"`
}

func (a *app) fsckCommand() *cobra.Command {
	var mirrors []string
	var quick bool
	cmd := &cobra.Command{Use: "fsck", Short: "Verify every file of the repository, and mirrors of it; exit status 3 if anything is wrong", Args: cobra.NoArgs,
		Long: `fsck verifies all metadata from the pin on, and reads and hashes every target, 32 at the same time.

--quick compares the names and sizes of the targets with a listing of the storage, and reads none of them. It does not
find a target whose bytes were changed and whose size was not, since listings have no sha256; it reads no review
statement. Of a mirror that can't be listed, such as a URL, it compares the metadata alone.`,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			var copies []mirror.Mirror
			for _, m := range mirrors {
				src, err := a.openSource(m)
				if err != nil {
					return err
				}
				copies = append(copies, mirror.Mirror{Name: m, Source: src})
			}
			pin, err := s.anchor(a.ctx)
			if err != nil {
				return err
			}
			report, err := mirror.Verify(a.ctx, s.storage, pin, &mirror.Options{Now: a.Now, UnsafeLoopback: s.loopback, Quick: quick, Progress: a.progress()}, copies...)
			if err != nil {
				return err
			}
			found := []finding{}
			for _, f := range report.Findings {
				found = append(found, finding{f, f.Harmless()})
			}
			return a.printFound(report.Err() != nil, map[string]any{"ok": report.Err() == nil, "root": report.Root, "timestamp": report.Timestamp, "snapshot": report.Snapshot, "roles": report.Roles,
				"targets": report.Targets, "bytes": report.Bytes, "findings": found, "recoveries": append([]mirror.RecoveryInfo{}, report.Recoveries...), "quick": quick}, report.String())
		}}
	cmd.Flags().BoolVar(&quick, "quick", false, "compare names and sizes of targets with a listing, and read none of them")
	cmd.Flags().StringArrayVar(&mirrors, "mirror", nil, "URL or directory of a mirror that must have the same files; may be repeated")
	return cmd
}

// openSource opens a directory or a base URL for reading.
func (a *app) openSource(where string) (storage.Source, error) {
	if strings.HasPrefix(where, "https://") || strings.HasPrefix(where, "http://") {
		base := strings.TrimSuffix(where, "/") + "/"
		return client.HTTPSource(base+"metadata/", base+"targets/"), nil
	}
	s, err := a.openStorage(where, true)
	if err != nil {
		return nil, err
	}
	return storage.SourceOf(s), nil
}

func (a *app) pruneCommand() *cobra.Command {
	var drafts string
	cmd := &cobra.Command{Use: "prune", Short: "Remove metadata and targets that no client requests any more", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			age, err := parseAge(drafts)
			if err != nil {
				return err
			}
			open := a.open
			if a.dryRun {
				open = a.look
			}
			s, err := open()
			if err != nil {
				return err
			}
			files, err := s.Prune(a.ctx, &repo.PruneOptions{Drafts: age, DryRun: a.dryRun})
			if err != nil {
				return err
			}
			names, lines, bytes := []string{}, []string{}, int64(0)
			for _, f := range files {
				names, lines, bytes = append(names, f.Name), append(lines, text.Name(f.Name)), bytes+f.Size
			}
			did := "removed"
			if a.dryRun {
				did = "would remove"
			}
			return a.print(map[string]any{"removed": names, "bytes": bytes, "dry_run": a.dryRun}, append(lines, fmt.Sprintf("%s %d files of %d bytes", did, len(names), bytes))...)
		}}
	cmd.Flags().StringVar(&drafts, "drafts", "0s", "minimum age of unlisted files, which a draft may list; 0s: 30 days")
	cmd.Flags().BoolVar(&a.dryRun, "dry-run", false, "report files and remove none")
	return cmd
}

func (a *app) cloneCommand() *cobra.Command {
	var pinFile string
	var loopback bool
	cmd := &cobra.Command{Use: "clone FROM TO", Short: "Update a directory, bucket or branch to a verified mirror of a repository", Args: cobra.ExactArgs(2),
		Long: "clone verifies everything from the pin on before it writes it. FROM is a base URL, whose metadata/ and\ntargets/ are read, or a directory, s3://BUCKET/PREFIX or git:REMOTE#BRANCH, as TO is.",
		RunE: func(_ *cobra.Command, args []string) error {
			pin, err := readPin(pinFile)
			if err != nil {
				return err
			}
			src, err := a.openSource(args[0])
			if err != nil {
				return err
			}
			to := storage.Storage(storage.Dir(args[1]))
			if strings.HasPrefix(args[1], "s3:") || strings.HasPrefix(args[1], "git:") {
				if to, err = a.openStorage(args[1], false); err != nil {
					return err
				}
			}
			files, show := 0, a.progress()
			opt := &mirror.Options{Now: a.Now, UnsafeLoopback: loopback, Progress: func(p storage.Progress) { files = max(files, p.Files); show(p) },
				Skipped: func(f mirror.Finding) { a.note("%s", f) }}
			if err := mirror.Clone(a.ctx, to, src, pin, opt); err != nil {
				return err
			}
			return a.print(map[string]any{"files": files, "to": args[1]}, fmt.Sprintf("%s is up to date: %d files written or checked", text.Name(args[1]), files))
		}}
	pinFlags(cmd, &pinFile, &loopback)
	return cmd
}

func (a *app) bundleCommand() *cobra.Command {
	var metadata bool
	var prefixes []string
	cmd := &cobra.Command{Use: "bundle FILE", Short: "Write a zip file for machines without a network", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) (err error) {
			s, err := a.look()
			if err != nil {
				return err
			}
			pin, err := s.anchor(a.ctx)
			if err != nil {
				return err
			}
			f, err := durable.Create(args[0])
			if err != nil {
				return err
			}
			defer f.Abort()
			var use *mirror.BundleUse
			opt := &mirror.BundleOptions{Options: mirror.Options{UnsafeLoopback: s.loopback, Skipped: func(f mirror.Finding) { a.note("%s", f) }},
				Metadata: metadata, Report: func(u mirror.BundleUse) { use = &u }}
			if len(prefixes) > 0 {
				opt.Targets = func(path string) bool {
					for _, p := range prefixes {
						if strings.HasPrefix(path, p) {
							return true
						}
					}
					return false
				}
			}
			if err := mirror.Bundle(a.ctx, f, s.storage, pin, opt); err != nil {
				return err
			}
			if err := f.Commit(); err != nil {
				return err
			}
			line, result := text.Name(args[0])+": all roots", map[string]any{"file": args[0]}
			if use != nil {
				result["until"] = use.Until
				line += ", usable until " + text.Time(use.Until)
			}
			return a.print(result, line)
		}}
	cmd.Flags().BoolVar(&metadata, "metadata", false, "add the current metadata")
	cmd.Flags().StringArrayVar(&prefixes, "targets", nil, "add the metadata and the targets below this prefix; may be repeated")
	return cmd
}

func (a *app) serveCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{Use: "serve", Short: "Serve the repository over HTTP until interrupted", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			folder, err := a.readFolder()
			if err != nil {
				return err
			}
			s, err := a.openStorage(folder.Storage, true)
			if err != nil {
				return err
			}
			return a.serveHTTP(listen, mirror.Handler(s))
		}}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:8722", "address of the server")
	return cmd
}

func (a *app) getCommand() *cobra.Command {
	var pinFile, dir, out, from string
	var loopback, explain bool
	var q client.Query
	cmd := &cobra.Command{Use: "get PRODUCT", Short: "Download the newest approved release, as a product does", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			pin, err := readPin(pinFile)
			if err != nil {
				return err
			}
			if out == "" {
				return usage("--out is required: the file to write")
			}
			cfg := &client.Config{Dir: dir, Now: a.Now, UnsafeLoopback: loopback, UserAgent: "visum get"}
			if dir == "" {
				cfg.Store = client.MemStore()
			}
			if from != "" {
				src, err := a.openSource(from)
				if err != nil {
					return err
				}
				cfg.Sources = []client.Source{src}
			}
			c, err := client.New(pin, cfg)
			if err != nil {
				return err
			}
			view, err := c.Refresh(a.ctx)
			if err != nil {
				return err
			}
			q.Product = args[0]
			rel, err := view.Latest(a.ctx, q)
			if explain {
				for _, d := range rel.Decisions {
					a.note("%s", d)
				}
			}
			if err != nil {
				return err
			}
			if err := c.Save(a.ctx, rel.Approved, out); err != nil {
				return err
			}
			return a.print(map[string]any{"product": rel.Product, "version": rel.Version, "path": rel.Approved.Path(), "sha256": rel.Approved.SHA256(), "length": rel.Approved.Length(),
				"by": rel.Approved.Signoffs(), "root": view.Root().Version(), "file": out}, fmt.Sprintf("%s@%s: %s, in %s", text.Name(rel.Product), text.Name(rel.Version), rel.Approved, text.Name(out)))
		}}
	pinFlags(cmd, &pinFile, &loopback)
	f := cmd.Flags()
	f.StringVar(&q.Channel, "channel", "stable", "channel")
	f.StringVar(&q.Platform, "platform", "any", "GOOS/GOARCH")
	f.StringVar(&q.Installed, "installed", "", "installed version; only newer ones are offered")
	f.StringVar(&dir, "state", "", "directory for the client's state, which protects against rollback; without it nothing is kept")
	f.StringVar(&from, "from", "", "directory or base URL to read, in addition to the locations of the charter")
	f.StringVarP(&out, "out", "o", "", "file to write")
	f.BoolVar(&explain, "explain", false, "print every decision")
	return cmd
}
