package cli

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) moveCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "move", Short: "Move the repository to other locations and keys; docs/moving.md",
		Long: `A move has three roots, each signed by every party: announce lists the new locations, cutover replaces the
keys and prefers the new locations, retire ends the old ones for good. All commands of a move read the same FILE,
which move new writes. The newest root says how far the move is, so a step can be repeated, and no step can be
taken out of order.`}
	cmd.AddCommand(a.moveNewCommand(), a.movePlanCommand(), a.moveStatusCommand(), a.movePreflightCommand(), a.moveDrillCommand())
	for _, step := range []struct {
		use, short string
		stage      func(*relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error)
		dual       bool
	}{
		{"announce", "Make the root that lists the new locations", func(m *relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error) { return m.Announce }, false},
		{"cutover", "Make the root with the new keys, which prefers the new locations", func(m *relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error) { return m.CutOver }, true},
		{"retire", "Make the root with which clients never contact the old locations again", func(m *relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error) { return m.Retire }, false},
		{"abort", "Make a root that lists the old locations again and not the new ones", func(m *relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error) { return m.Abort }, false},
		{"emergency", "Make one root for all remaining steps, without regard to dates", func(m *relocate.Move) func(context.Context, *repo.Repo) (*repo.Draft, error) { return m.Emergency }, false},
	} {
		var flags changeFlags
		c := &cobra.Command{Use: step.use + " FILE", Short: step.short, Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				s, m, err := a.openMove(a.open, args[0])
				if err != nil {
					return err
				}
				if step.dual {
					if err := a.dual(s, m); err != nil {
						return err
					}
				}
				s.own = !s.dual
				d, err := step.stage(m)(a.ctx, s.unsigned())
				if err != nil {
					return err
				}
				return a.finish(s, d, flags, nil)
			}}
		if step.dual {
			c.Long = "cutover signs online roles with the old and the new keys, so that clients before and after it have content.\nPublish its draft with visum draft publish --move FILE, and renew with visum renew --move FILE for a day."
		}
		a.changeFlags(c, &flags)
		cmd.AddCommand(c)
	}
	cmd.AddCommand(a.moveRootsOnlyCommand(), a.moveAdoptionCommand())
	return cmd
}

// moveNewFlags are the answers of move new.
type moveNewFlags struct {
	from, to                          []string
	keys                              string
	min                               int
	announce, cutOver, sunset, retire string
}

func (a *app) moveNewCommand() *cobra.Command {
	var x moveNewFlags
	cmd := &cobra.Command{Use: "new FILE", Short: "Write the description of a move, with its locations, keys and dates", Args: cobra.ExactArgs(1),
		Long: `new writes the description of a move and plans it: a move that breaks a rule is refused, and no file is
written. The new keys are those of the acting party that the newest root does not have: of the key ring, or of
the document of --keys, which visum key pub --party prints on the machine of the new owner. They need the purposes
root, release, and online or timestamp, snapshot and targets.

Dates are DAYS from now such as 14d, a day such as 2027-03-01, or RFC 3339.`,
		Example: `  visum move new move.json --from main --to 'vendor-ch,https://updates.acme.ch/r/,operator=acme-ch,jurisdiction=CH' \
    --announce 0d --cutover 14d --retire 60d --sunset 90d`,
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return usage("%s exists already", text.Name(args[0]))
			}
			s, err := a.open()
			if err != nil {
				return err
			}
			m, err := a.newMove(s, &x)
			if err != nil {
				return err
			}
			plan, err := m.Plan(a.ctx, s.Repo)
			if err != nil {
				return err
			}
			data, err := encodeJSON(m)
			if err != nil {
				return err
			}
			if err := durable.WriteFile(args[0], data, 0o644); err != nil {
				return err
			}
			return a.print(map[string]any{"file": args[0], "plan": plan}, plan.String(), fmt.Sprintf("move in %s; next: visum move announce %s -o announce.draft", text.Name(args[0]), args[0]))
		}}
	f := cmd.Flags()
	f.StringSliceVar(&x.from, "from", nil, "ids of the old locations")
	f.StringArrayVar(&x.to, "to", nil, "a new location: ID,URL[,operator=NAME][,tier=T][,jurisdiction=CC][,priority=N]; may be repeated")
	f.StringVar(&x.keys, "keys", "", "document with the new public keys of the party; default: the key ring")
	f.IntVar(&x.min, "min", 0, "number of the party's new root keys that must sign; 0: unchanged")
	f.StringVar(&x.announce, "announce", "0d", "date of the first root")
	f.StringVar(&x.cutOver, "cutover", "14d", "date of the second root")
	f.StringVar(&x.retire, "retire", "60d", "date of the third root")
	f.StringVar(&x.sunset, "sunset", "90d", "date from which clients do not contact the old locations")
	return cmd
}

// newMove makes a move of the acting party.
func (a *app) newMove(s *site, x *moveNewFlags) (*relocate.Move, error) {
	if len(x.from) == 0 || len(x.to) == 0 {
		return nil, usage("--from and --to are required")
	}
	m := &relocate.Move{From: x.from, Party: s.party, Min: x.min, Release: map[string]repo.Keys{}}
	for _, text := range x.to {
		l, err := parseLocation(text)
		if err != nil {
			return nil, err
		}
		m.To = append(m.To, l)
	}
	for _, d := range []struct {
		flag, value string
		to          *time.Time
	}{{"--announce", x.announce, &m.Dates.Announce}, {"--cutover", x.cutOver, &m.Dates.CutOver}, {"--retire", x.retire, &m.Dates.Retire}, {"--sunset", x.sunset, &m.Dates.Sunset}} {
		at, err := a.parseDate(d.value)
		if err != nil {
			return nil, usage("%s: %w", d.flag, err)
		}
		*d.to = at
	}
	fresh, err := a.newKeys(s, x.keys)
	if err != nil {
		return nil, err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, err
	}
	m.RootKeys = fresh.of("root")
	for purpose, to := range map[string]*repo.Keys{"timestamp": &m.Timestamp, "snapshot": &m.Snapshot, "targets": &m.Targets} {
		if to.Keys = fresh.of(purpose); len(to.Keys) == 0 {
			to.Keys = fresh.of("online")
		}
	}
	for _, c := range chain[len(chain)-1].Charter().Classes() {
		for _, r := range c.Roles {
			keys := fresh.of(r.Role)
			if len(keys) == 0 {
				keys = fresh.of("release")
			}
			if r.Party == s.party && len(keys) > 0 {
				m.Release[r.Role] = repo.Keys{Keys: keys}
			}
		}
	}
	return m, nil
}

// newKeys returns the keys of the acting party that the newest root does not have. Of the
// key ring, they are those that no root had: keys that were rotated out are not new.
func (a *app) newKeys(s *site, document string) (*partyKeys, error) {
	var ring *partyKeys
	var err error
	if document != "" {
		if ring, err = readPartyKeys(document); err != nil {
			return nil, err
		}
	} else {
		id, err := a.readIdentity()
		if err != nil {
			return nil, err
		}
		if ring, err = a.publicRing(id, s.party); err != nil {
			return nil, err
		}
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, err
	}
	used := usedKeys(chain[len(chain)-1])
	if document == "" {
		for _, root := range chain {
			maps.Copy(used, usedKeys(root))
		}
	}
	fresh := &partyKeys{Version: 1, Party: ring.Party}
	for _, k := range ring.Keys {
		if !used[k.parsed.ID()] {
			fresh.Keys = append(fresh.Keys, k)
		}
	}
	return fresh, nil
}

// usedKeys are the ids of the keys with a role in a root.
func usedKeys(root *tuf.Root) map[string]bool {
	used := map[string]bool{}
	for _, role := range rolesOf(root) {
		for _, id := range role.keyIDs {
			used[id] = true
		}
	}
	return used
}

func (a *app) movePlanCommand() *cobra.Command {
	return &cobra.Command{Use: "plan FILE", Short: "Compute the three roots and check each as clients do; signs and writes nothing", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, m, err := a.openMove(a.look, args[0])
			if err != nil {
				return err
			}
			plan, err := m.Plan(a.ctx, s.Repo)
			if err != nil {
				return err
			}
			return a.print(plan, plan.String())
		}}
}

func (a *app) moveStatusCommand() *cobra.Command {
	return &cobra.Command{Use: "status FILE", Short: "Show how far the move is, and the next step", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, m, err := a.openMove(a.look, args[0])
			if err != nil {
				return err
			}
			phase, err := m.Phase(a.ctx, s.Repo)
			if err != nil {
				return err
			}
			next, due := "", time.Time{}
			switch phase {
			case relocate.PhasePlanned:
				next, due = "announce", m.Dates.Announce
			case relocate.PhaseAnnounced:
				next, due = "cutover", m.Dates.CutOver
			case relocate.PhaseCutOver:
				next, due = "retire", m.Dates.Retire
			}
			out := map[string]any{"phase": phase, "next": next}
			line := "the move is " + string(phase)
			if next != "" {
				out["due"] = due
				line += fmt.Sprintf("; next: visum move %s %s, from %s on", next, args[0], text.Time(due))
			}
			return a.print(out, line)
		}}
}

func (a *app) moveRootsOnlyCommand() *cobra.Command {
	return &cobra.Command{Use: "roots-only TO", Short: "Write all roots and recovery statements to a directory or bucket, for the address of a retired location", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.open()
			if err != nil {
				return err
			}
			to, err := a.openStorage(args[0], false)
			if err != nil {
				return err
			}
			if err := relocate.PublishRootsOnly(a.ctx, s.Repo, to); err != nil {
				return err
			}
			return a.print(map[string]any{"to": args[0]}, fmt.Sprintf("%s has every root; repeat the command after each new root", text.Name(args[0])))
		}}
}

func (a *app) moveAdoptionCommand() *cobra.Command {
	var location, move, since, prefix string
	cmd := &cobra.Command{Use: "adoption LOG...", Short: "Count in access logs which share of the fleet has which root; exit status 3 if a step is too early", Args: cobra.MinimumNArgs(1),
		Long: `adoption reads access logs in the common or combined format, plain or gzip. With --move it says whether the
next step may be taken. Everyone can send such requests, and the operator of a host can write its log: compare
locations of independent operators before a step that can't be undone.`,
		RunE: func(_ *cobra.Command, args []string) error {
			logs := &relocate.AccessLog{Prefix: prefix}
			if since != "" {
				age, err := parseAge(since)
				if err != nil {
					return err
				}
				logs.Since = a.Now().Add(-age)
			}
			for _, path := range args {
				at, file, ok := strings.Cut(path, "=")
				if !ok {
					at, file = location, path
				}
				if at == "" {
					return usage("%s: whose log is it? want ID=FILE, or --location", text.Name(path))
				}
				if err := a.readLog(logs, at, file); err != nil {
					return err
				}
			}
			adoption := logs.Adoption()
			lines := []string{fmt.Sprintf("%d root checks in %d requests, %d lines in another format", adoption.Polls, adoption.Requests, adoption.Skipped)}
			for _, v := range adoption.Fleet {
				lines = append(lines, fmt.Sprintf("root v%d or newer: %.0f %%", v.Root, 100*adoption.At(v.Root)))
			}
			out := map[string]any{"adoption": adoption}
			if move == "" {
				return a.print(out, lines...)
			}
			s, m, err := a.openMove(a.look, move)
			if err != nil {
				return err
			}
			ready, err := a.ready(s, m, adoption)
			if err != nil {
				return err
			}
			out["ready"] = ready
			return a.printFound(!ready.Open, out, append(lines, ready.String())...)
		}}
	f := cmd.Flags()
	f.StringVar(&location, "location", "", "id of the location whose logs they are, for arguments without ID=")
	f.StringVar(&move, "move", "", "description of the move")
	f.StringVar(&since, "since", "", "count only requests of this time, such as 7d")
	f.StringVar(&prefix, "prefix", "", "path before metadata/, such as /r/, of a host with several repositories")
	return cmd
}

func (a *app) readLog(logs *relocate.AccessLog, location, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := logs.Read(a.ctx, location, f); err != nil {
		return fmt.Errorf("%s: %w", text.Name(path), err)
	}
	return nil
}

// ready compares the adoption with the criteria of the next step. The root that the fleet
// needs for it is the newest one, which the last step published.
func (a *app) ready(s *site, m *relocate.Move, adoption *relocate.Adoption) (*relocate.Readiness, error) {
	phase, err := m.Phase(a.ctx, s.Repo)
	if err != nil {
		return nil, err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, err
	}
	switch phase {
	case relocate.PhaseAnnounced:
		return m.Ready(adoption, relocate.PhaseCutOver, chain[len(chain)-1].Version()), nil
	case relocate.PhaseCutOver:
		return m.Ready(adoption, relocate.PhaseRetired, chain[len(chain)-1].Version()), nil
	}
	return nil, fmt.Errorf("the move is %s: no step of it waits for the fleet", phase)
}
