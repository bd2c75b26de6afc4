package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) keyCompromisedCommand() *cobra.Command {
	var flags changeFlags
	var leave, to string
	cmd := &cobra.Command{Use: "compromised LABEL[=NEW]...", Short: "Say what an attacker with these keys can do, or make the draft that replaces them", Args: cobra.MinimumNArgs(1),
		Long: `compromised without new keys only reads: it prints what an attacker with these keys can and cannot do, until when,
and the steps in order. With LABEL=NEW for each key it makes the draft that ends them: a root with the new keys, in
which each role that only compromised keys signed starts again from the newest content that this ledger signed.
The diff lists what is left out. docs/key-compromise.md has the whole table.`,
		Example: "  visum key compromised release online\n  visum key compromised release=release-2 online=online-2 --out emergency.draft",
		RunE: func(_ *cobra.Command, args []string) error {
			labels, old, by, err := a.pairs(args, true)
			if err != nil {
				return err
			}
			switch {
			case (leave == "") != (to == ""):
				return usage("--leave and --to go together: the location that is left, and the one that replaces it")
			case len(by) == 0 && leave == "":
				return a.explainCompromise(labels, old)
			case len(by) < len(labels):
				return usage("name a new key for each: LABEL=NEW")
			}
			var fresh tuf.Location
			if to != "" {
				if fresh, err = parseLocation(to); err != nil {
					return err
				}
			}
			s, err := a.openFor(flags)
			if err != nil {
				return err
			}
			chain, err := s.Chain(a.ctx)
			if err != nil {
				return err
			}
			roles := rolesByLabel(chain[len(chain)-1], old)
			return a.changeAt(s, flags, func(tx *repo.Tx, _ string) error {
				var lost []tuf.Key
				for _, label := range labels {
					if !onlyRoot(roles[label]) { // root keys sign no content
						lost = append(lost, old[label])
					}
				}
				if len(lost) > 0 {
					if err := tx.Compromised(lost...); err != nil {
						return err
					}
				}
				if leave != "" {
					if err := tx.Root().Retire(leave); err != nil {
						return &usageError{err}
					}
					tx.Root().Locations = append(tx.Root().Locations, fresh)
				}
				return rotate(tx.Root(), old, by)
			})
		}}
	cmd.Flags().StringVar(&leave, "leave", "", "id of a location that is lost too: clients never contact its host again")
	cmd.Flags().StringVar(&to, "to", "", "the location that replaces it: ID,URL[,operator=NAME]...")
	a.changeFlags(cmd, &flags)
	return cmd
}

func onlyRoot(roles []string) bool {
	return len(roles) > 0 && !slices.ContainsFunc(roles, func(r string) bool { return !strings.HasPrefix(r, rootOf) })
}

// exposedKey is a compromised key with its roles.
type exposedKey struct {
	Label string   `json:"label"`
	Roles []string `json:"roles"`
}

// exposure is what an attacker with some keys can do to clients.
type exposure struct {
	Keys   []exposedKey `json:"keys"`
	Can    []string     `json:"can"`
	Cannot []string     `json:"cannot"`
	Until  *time.Time   `json:"until,omitempty"` // end of a freeze, if the attacker can freeze clients
	Steps  []string     `json:"steps"`

	roles map[string][]string // of each key, by label
}

// explainCompromise prints what an attacker can do, and the steps. It changes nothing.
func (a *app) explainCompromise(labels []string, keys map[string]tuf.Key) error {
	s, err := a.look()
	if err != nil {
		return err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return err
	}
	st, err := s.Status(a.ctx, a.Now())
	if err != nil {
		return err
	}
	id, err := a.readIdentity()
	if err != nil {
		return err
	}
	x := exposed(chain[len(chain)-1], st, keys)
	for _, label := range labels {
		if len(x.roles[label]) == 0 {
			return usage("key %s has no role in the newest root", text.Name(label))
		}
		x.Keys = append(x.Keys, exposedKey{label, x.roles[label]})
	}
	x.Steps = compromiseSteps(id, labels, x.roles)
	var lines []string
	for _, label := range labels {
		lines = append(lines, fmt.Sprintf("%s: %s", text.Name(label), strings.Join(x.roles[label], ", ")))
	}
	for _, c := range x.Can {
		lines = append(lines, "they CAN "+c)
	}
	for _, c := range x.Cannot {
		lines = append(lines, "they can NOT "+c)
	}
	for i, step := range x.Steps {
		lines = append(lines, fmt.Sprintf("%d. %s", i+1, step))
	}
	return a.print(x, lines...)
}

// exposed computes what keys authorise under a root. docs/key-compromise.md has the same
// results, measured.
func exposed(root *tuf.Root, st *repo.Status, keys map[string]tuf.Key) *exposure {
	x := &exposure{Keys: []exposedKey{}, roles: rolesByLabel(root, keys), Can: []string{}, Cannot: []string{}}
	stolen := map[string]bool{}
	for _, k := range keys {
		stolen[k.ID()] = true
	}
	count := func(ids []string) (n int) {
		for _, id := range ids {
			if stolen[id] {
				n++
			}
		}
		return n
	}
	c := root.Charter()
	ids, threshold := root.RoleKeys("root")
	changesRoot, lacking := count(ids) >= threshold, []string{}
	for _, p := range c.Parties() {
		if count(p.KeyIDs) < p.Min {
			changesRoot = false
			lacking = append(lacking, p.Name)
		}
	}
	has := map[string]bool{}
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		ids, n := root.RoleKeys(role)
		has[role] = count(ids) >= n
	}
	var released time.Time // the first expiry of a role of the parties
	expires := map[string]time.Time{}
	for _, d := range st.Due {
		expires[d.Role] = d.Expires
	}
	var ships, shipsNot, own []string
	for _, class := range c.Classes() {
		var missing []string
		for _, r := range class.Roles {
			if count(r.KeyIDs) < r.Threshold {
				missing = append(missing, r.Party)
			} else {
				own = append(own, r.Role)
			}
			if at := expires[r.Role]; !at.IsZero() && (released.IsZero() || at.Before(released)) {
				released = at
			}
		}
		if len(missing) == 0 {
			ships = append(ships, class.Name)
		} else {
			shipsNot = append(shipsNot, fmt.Sprintf("%s (%s must sign)", class.Name, strings.Join(missing, " and ")))
		}
	}
	if changesRoot {
		x.Can = append(x.Can, "change root, and with it everything")
	} else {
		x.Cannot = append(x.Cannot, fmt.Sprintf("change root: keys of %s must sign", strings.Join(lacking, " and ")))
	}
	online := has["timestamp"] && has["snapshot"]
	if len(ships) > 0 {
		what := "make releases in " + strings.Join(ships, ", ") + " that every party has signed"
		if !online {
			what += ", which clients get as soon as they are published"
		}
		x.Can = append(x.Can, what)
	}
	if len(shipsNot) > 0 {
		x.Cannot = append(x.Cannot, "ship a release in "+strings.Join(shipsNot, ", "))
	}
	if has["timestamp"] {
		until := expires["snapshot"]
		if online {
			until = released
		}
		if !until.IsZero() {
			x.Until = &until
			x.Can = append(x.Can, fmt.Sprintf("withhold updates: freeze clients until %s", text.Time(until)))
		}
		x.Can = append(x.Can, "raise version numbers, so that clients refuse yours until the root names new online keys")
	}
	if len(own) > 0 {
		if online {
			x.Can = append(x.Can, "recall and take back releases in "+strings.Join(own, ", "))
		} else {
			x.Cannot = append(x.Cannot, "recall or take back releases: timestamp and snapshot keys must sign")
		}
	}
	return x
}

// compromiseSteps are what to do, in order.
func compromiseSteps(id *identity, labels []string, roles map[string][]string) []string {
	var steps, pairs []string
	for _, label := range labels {
		k := id.Keys[slices.IndexFunc(id.Keys, func(k identityKey) bool { return k.Label == label })]
		steps = append(steps, fmt.Sprintf("take key %s out of use at its store: %s", text.Name(label), text.Quote(k.URI)))
		pairs = append(pairs, label+"="+label+"-2")
	}
	steps = append(steps, "tell the other parties: approve nothing until the new root is published; hold what is in doubt with visum hold")
	for _, label := range labels {
		k := id.Keys[slices.IndexFunc(id.Keys, func(k identityKey) bool { return k.Label == label })]
		steps = append(steps, fmt.Sprintf("visum key new %s-2 --for '%s'", label, strings.TrimSpace(k.Party+" "+k.Purpose)))
	}
	return append(steps,
		fmt.Sprintf("visum key compromised %s --out emergency.draft", strings.Join(pairs, " ")),
		"every party: visum draft sign emergency.draft",
		"visum draft publish emergency.draft")
}
