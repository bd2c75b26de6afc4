package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// locationLine is a location of the newest root in the output.
type locationLine struct {
	ID           string     `json:"id"`
	Tier         string     `json:"tier"`
	Operator     string     `json:"operator"`
	Jurisdiction string     `json:"jurisdiction,omitempty"`
	Base         string     `json:"base"`
	Priority     int        `json:"priority"`
	UseFrom      *time.Time `json:"use_from,omitempty"`
	UseUntil     *time.Time `json:"use_until,omitempty"`
	Usable       bool       `json:"usable"` // clients contact it now
}

func (a *app) locationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "location", Short: "List, add and remove the locations at which clients find the repository"}
	list := &cobra.Command{Use: "list", Short: "List the locations of the newest root", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			chain, err := s.Chain(a.ctx)
			if err != nil {
				return err
			}
			c := chain[len(chain)-1].Charter()
			out, retired := []locationLine{}, []tuf.Retired{}
			var usable []tuf.Location
			for _, l := range c.Locations() {
				x := locationLine{ID: l.ID, Tier: l.Tier, Operator: l.Operator, Jurisdiction: l.Jurisdiction, Base: l.Base, Priority: l.Priority, Usable: c.Usable(l, a.Now())}
				if !l.UseFrom.IsZero() {
					x.UseFrom = &l.UseFrom
				}
				if !l.UseUntil.IsZero() {
					x.UseUntil = &l.UseUntil
				}
				if x.Usable {
					usable = append(usable, l)
				}
				out = append(out, x)
			}
			retired = append(retired, c.Retired()...)
			operators := tuf.Operators(usable)
			var b strings.Builder
			w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
			for _, x := range out {
				when := ""
				if x.UseFrom != nil {
					when += "from " + text.Time(*x.UseFrom) + " "
				}
				if x.UseUntil != nil {
					when += "until " + text.Time(*x.UseUntil)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", text.Name(x.ID), text.Name(x.Tier), text.Name(x.Operator), text.Quote(x.Base), strings.TrimSpace(when))
			}
			for _, r := range retired {
				fmt.Fprintf(w, "%s\tretired\t\t%s\t\n", text.Name(r.ID), text.Line(strings.Join(r.Hosts, " ")))
			}
			w.Flush()
			lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
			for i := range lines {
				lines[i] = strings.TrimRight(lines[i], " ")
			}
			return a.print(map[string]any{"locations": out, "retired": retired, "operators": operators, "min_operators": c.Probe().MinOperators},
				append(lines, fmt.Sprintf("%d operators by name and host; a client asks %d for a new root", operators, c.Probe().MinOperators))...)
		}}
	cmd.AddCommand(list, a.locationAddCommand(), a.locationRemoveCommand())
	return cmd
}

func (a *app) locationAddCommand() *cobra.Command {
	var tier, base, operator, jurisdiction string
	var priority int
	var flags changeFlags
	cmd := &cobra.Command{Use: "add ID", Short: "Add a location to the root; every party signs it", Args: cobra.ExactArgs(1),
		Long:    "add makes a root with one more location. Before it is published, the new location must serve everything\nthat its tier serves: primary and mirror all files, rendezvous all roots and recovery statements.",
		Example: "  visum location add review-1 --base https://updates.review.example/r/ --tier rendezvous --operator review -o root2.draft",
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := location(args[0], tier, base, operator)
			if err != nil {
				return usage("--base: %w", err)
			}
			if l.Jurisdiction, l.Priority = jurisdiction, priority; tier == tuf.Rendezvous {
				l.Targets = ""
			}
			return a.change(flags, func(tx *repo.Tx, _ string) error {
				root := tx.Root()
				if slices.ContainsFunc(root.Locations, func(x tuf.Location) bool { return x.ID == l.ID }) {
					return usage("the root has a location %s already", text.Name(l.ID))
				}
				root.Locations = append(root.Locations, l)
				return nil
			})
		}}
	f := cmd.Flags()
	f.StringVar(&base, "base", "", "its address: https://HOST/PATH/")
	f.StringVar(&tier, "tier", tuf.Mirror, "primary, mirror, rendezvous or legacy; docs/spec.md, section 4")
	f.StringVar(&operator, "operator", "", "who runs the host; default: the host's name")
	f.StringVar(&jurisdiction, "jurisdiction", "", "country of the host, such as CH")
	f.IntVar(&priority, "priority", 0, "clients contact locations with lower numbers first")
	a.changeFlags(cmd, &flags)
	return cmd
}

func (a *app) locationRemoveCommand() *cobra.Command {
	var retire bool
	var flags changeFlags
	cmd := &cobra.Command{Use: "remove ID", Short: "Take a location out of the root; every party signs it", Args: cobra.ExactArgs(1),
		Long: "remove makes a root without a location. With --retire clients never contact its host again, and that\ncan't be undone: use it when others may control the host.",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.change(flags, func(tx *repo.Tx, _ string) error {
				root := tx.Root()
				i := slices.IndexFunc(root.Locations, func(x tuf.Location) bool { return x.ID == args[0] })
				if i < 0 {
					var have []string
					for _, l := range root.Locations {
						have = append(have, text.Name(l.ID))
					}
					return usage("the root has no location %s; it has: %s", text.Name(args[0]), strings.Join(have, ", "))
				}
				if retire {
					return root.Retire(args[0])
				}
				root.Locations = slices.Delete(slices.Clone(root.Locations), i, i+1)
				return nil
			})
		}}
	cmd.Flags().BoolVar(&retire, "retire", false, "clients never contact its host again")
	a.changeFlags(cmd, &flags)
	return cmd
}
