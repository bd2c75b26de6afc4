package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) partyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "party", Short: "Replace a party by another organisation"}
	var name, keys string
	var min int
	var flags changeFlags
	replace := &cobra.Command{Use: "replace OLD", Short: "Make the root in which another organisation takes the part of a party", Args: cobra.ExactArgs(1),
		Long: `replace makes a root in which the party OLD is replaced by the one of a key document, which that party's
visum key pub --party prints. It is a regular root: the old party and the new one sign it, and installed products
follow, also with pins that name the old party. The roles of the new party begin empty: after the root is published,
the new party approves with visum review list and visum review approve what clients are to be offered, and what it
does not approve is not offered any more. Installed versions keep running.`,
		Example: "  visum party replace self --keys centre.keys --out handover.draft",
		RunE: func(_ *cobra.Command, args []string) error {
			if keys == "" {
				return usage("--keys is required: the document that the new party's visum key pub --party prints")
			}
			doc, err := readPartyKeys(keys)
			if err != nil {
				return err
			}
			if name == "" {
				name = doc.Party
			}
			if !partyName.MatchString(name) {
				return usage("--name %s: want a party's name, such as review", text.Quote(name))
			}
			s, err := a.openFor(flags)
			if err != nil {
				return err
			}
			if s.review == args[0] && s.review != name {
				s.cfg.Review = name
				a.note("%s is the reviewing party: after the publish, set review = \"%s\" for this repository in the identity file of every signer", text.Name(s.review), name)
			}
			return a.changeAt(s, flags, func(tx *repo.Tx, _ string) error { return replaceParty(tx.Root(), args[0], name, min, doc) })
		}}
	f := replace.Flags()
	f.StringVar(&name, "name", "", "name of the new party; default: that of the key document")
	f.StringVar(&keys, "keys", "", "document with the public keys of the new party")
	f.IntVar(&min, "min", 0, "number of its root keys that must sign; 0: more than half")
	a.changeFlags(replace, &flags)
	cmd.AddCommand(replace)
	return cmd
}

// replaceParty gives the part of a party to another one.
func replaceParty(root *repo.Root, old, name string, min int, doc *partyKeys) error {
	i := slices.IndexFunc(root.Parties, func(p repo.Party) bool { return p.Name == old })
	if i < 0 {
		var have []string
		for _, p := range root.Parties {
			have = append(have, text.Name(p.Name))
		}
		return usage("the root has no party %s; it has: %s", text.Name(old), strings.Join(have, ", "))
	}
	if name != old && slices.ContainsFunc(root.Parties, func(p repo.Party) bool { return p.Name == name }) {
		return usage("the root has a party %s already", text.Name(name))
	}
	rootKeys, release := doc.of("root"), doc.of("release")
	if len(rootKeys) == 0 || len(release) == 0 {
		return usage("the key document of %s needs keys for root and for release", text.Name(doc.Party))
	}
	if min == 0 {
		min = len(rootKeys)/2 + 1
	}
	root.Parties[i] = repo.Party{Name: name, Keys: rootKeys, Min: min}
	for c := range root.Classes {
		class := &root.Classes[c]
		for r := range class.Roles {
			role := &class.Roles[r]
			if role.Party != old {
				continue
			}
			keys := doc.of(role.Role)
			if len(keys) == 0 {
				keys = release
			}
			// Another name, so that nothing that the old party signed counts for the new one.
			base := strings.TrimPrefix(role.Role, old+"-")
			*role = repo.ReleaseRole{Party: name, Role: name + "-" + base, Keys: repo.Keys{Keys: keys, Threshold: role.Keys.Threshold}}
		}
		if hold := doc.of("hold"); class.Hold != nil && len(hold) > 0 {
			class.Hold.Keys.Keys = hold
		}
	}
	return nil
}

// replaceKeys puts new keys in the place of others in every role of a root, and returns
// the ids that have no role.
func replaceKeys(root *repo.Root, by map[string]tuf.Key) (unused []string) {
	seen := map[string]bool{}
	edit := func(list []tuf.Key) []tuf.Key {
		out := slices.Clone(list)
		for i, k := range out {
			if fresh, ok := by[k.ID()]; ok {
				out[i], seen[k.ID()] = fresh, true
			}
		}
		return out
	}
	for i := range root.Parties {
		root.Parties[i].Keys = edit(root.Parties[i].Keys)
	}
	for _, k := range []*repo.Keys{&root.Timestamp, &root.Snapshot, &root.Targets} {
		k.Keys = edit(k.Keys)
	}
	for c := range root.Classes {
		class := &root.Classes[c]
		for r := range class.Roles {
			class.Roles[r].Keys.Keys = edit(class.Roles[r].Keys.Keys)
		}
		if class.Hold != nil {
			class.Hold.Keys.Keys = edit(class.Hold.Keys.Keys)
		}
	}
	for id := range by {
		if !seen[id] {
			unused = append(unused, id)
		}
	}
	return unused
}

// pairs reads OLD=NEW labels of the key ring. With bare, a label without a new one is
// permitted, and has none in the result.
func (a *app) pairs(args []string, bare bool) (labels []string, old map[string]tuf.Key, by map[string]tuf.Key, err error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, nil, nil, err
	}
	find := func(label string) (tuf.Key, error) {
		i := slices.IndexFunc(id.Keys, func(k identityKey) bool { return k.Label == label })
		if i < 0 {
			return tuf.Key{}, id.noLabel(label)
		}
		return a.publicKey(id, id.Keys[i])
	}
	old, by = map[string]tuf.Key{}, map[string]tuf.Key{}
	for _, arg := range args {
		label, fresh, ok := strings.Cut(arg, "=")
		if !ok && !bare {
			return nil, nil, nil, usage("%s: want OLD=NEW, two labels of the key ring", text.Quote(arg))
		}
		k, err := find(label)
		if err != nil {
			return nil, nil, nil, err
		}
		if _, twice := old[label]; twice {
			return nil, nil, nil, usage("%s is named twice", text.Name(label))
		}
		labels, old[label] = append(labels, label), k
		if ok {
			n, err := find(fresh)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("%w; make it with: visum key new %s --for 'PARTY PURPOSE'", err, fresh)
			}
			by[k.ID()] = n
		}
	}
	return labels, old, by, nil
}

func (a *app) keyRotateCommand() *cobra.Command {
	var flags changeFlags
	cmd := &cobra.Command{Use: "rotate OLD=NEW...", Short: "Make the root in which keys of this party are replaced by others of the key ring", Args: cobra.MinimumNArgs(1),
		Long: `rotate makes a root with other keys in every role of the old ones. Every party signs it, and of root keys both the
old and the new ones. For keys that others may have, use visum key compromised: after a rotation, what the old keys
signed stays.`,
		Example: "  visum key rotate release=release-2 --out rotate.draft",
		RunE: func(_ *cobra.Command, args []string) error {
			_, old, by, err := a.pairs(args, false)
			if err != nil {
				return err
			}
			return a.change(flags, func(tx *repo.Tx, _ string) error { return rotate(tx.Root(), old, by) })
		}}
	a.changeFlags(cmd, &flags)
	return cmd
}

// rotate replaces keys, and refuses one that has no role.
func rotate(root *repo.Root, old, by map[string]tuf.Key) error {
	unused := replaceKeys(root, by)
	for label, k := range old {
		if slices.Contains(unused, k.ID()) {
			return usage("key %s has no role in the newest root", text.Name(label))
		}
	}
	return nil
}
