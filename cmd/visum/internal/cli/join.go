package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/charter"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// firstLines describe a first root: warnings, and what it lacks.
func (a *app) firstLines(d *repo.Draft) (lines []string) {
	for _, w := range d.Warnings() {
		lines = append(lines, "warning: "+w)
	}
	for _, m := range d.Missing() {
		lines = append(lines, "missing: "+m.String())
	}
	return lines
}

// newcomer returns a handle for a party that has no record of the repository yet.
func (a *app) newcomer(store string, entry *identityRepo, readOnly bool) (*site, *identity, error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range id.Repositories {
		if r.RepoID == entry.RepoID && r.Party == entry.Party {
			return nil, nil, usage("the identity takes part in repository %s as %s already", entry.RepoID, text.Name(entry.Party))
		}
	}
	entry.Ledger = ledgerPath(entry.RepoID, entry.Party)
	s := &site{repoID: entry.RepoID, party: entry.Party, loopback: entry.UnsafeLoopback}
	if s.storage, err = a.openStorage(store, readOnly); err != nil {
		return nil, nil, err
	}
	cfg := &repo.Config{Now: a.Now, Party: entry.Party, Labels: map[string]string{}, Ledger: repo.DirLedger(id.path(entry.Ledger)), UnsafeLoopback: entry.UnsafeLoopback}
	if cfg.Expiry, err = expiryOf(entry.Renews); err != nil {
		return nil, nil, err
	}
	if s.signers, err = a.signers(id, entry.Party, cfg.Labels); err != nil {
		return nil, nil, err
	}
	cfg.Signers, s.cfg = s.signers, cfg
	s.Repo = repo.New(s.storage, cfg)
	return s, id, nil
}

func ledgerPath(repoID, party string) string { return "ledger/" + repoID + "-" + party }

// enter writes an entry for the repository into the identity file, after do has
// succeeded. The pin is written at the first publish that this identity sees.
func (a *app) enter(id *identity, entry *identityRepo, do func() error) error {
	path, _, err := a.identityPath()
	if err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	id.Repositories = append(id.Repositories, *entry)
	return writeTOML(path, id)
}

func (a *app) joinCommand() *cobra.Command {
	var digest, store string
	var loopback bool
	cmd := &cobra.Command{Use: "join DRAFT", Short: "Sign the first root of a repository that another party made", Args: cobra.ExactArgs(1),
		Long: `join shows the first root in words, asks for the digest that the other party reads out, signs the root with
this party's keys, and writes the root into this party's ledger: from then on it is the trust anchor. It writes
visum.toml, and an entry for the repository in the identity file. A machine whose keys have no part in the root signs
nothing: it takes a root that all others have signed.`,
		RunE: func(_ *cobra.Command, args []string) error {
			party := a.as
			if party == "" {
				return usage("--as is required: this party's name in the charter")
			}
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			root, err := tuf.ProposeFirst(d.File("root"), &tuf.Options{UnsafeLoopback: loopback})
			if err != nil {
				return err
			}
			if root.Charter() == nil {
				return fmt.Errorf("%s: its root has no charter", text.Name(args[0]))
			}
			repoID := root.Charter().RepoID()
			entry := identityRepo{RepoID: repoID, Party: party, UnsafeLoopback: loopback}
			s, id, err := a.newcomer(store, &entry, true) // only the operator writes there
			if err != nil {
				return err
			}
			if d, err = s.LoadDraft(args[0]); err != nil {
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
			if digest == "" {
				if digest, err = a.ask("digest that the other party reads to you"); err != nil {
					return err
				}
			}
			digest = strings.ToLower(strings.Join(strings.Fields(digest), ""))
			signed := 0
			for _, signer := range s.signers {
				switch err := d.SignFirst(a.ctx, signer, digest); {
				case err == nil:
					signed++
				case !errors.Is(err, repo.ErrNoPart):
					return err
				}
			}
			if signed == 0 { // a machine without a root key: the root must be signed by all others
				if err := d.AdoptFirst(a.ctx, digest); err != nil {
					return fmt.Errorf("none of the keys of %s in the key ring has a part in it: %w", text.Name(party), err)
				}
			}
			if err := a.enter(id, &entry, func() error { return d.Save(args[0]) }); err != nil {
				return err
			}
			folder := filepath.Join(a.folder, folderFile)
			if _, err := os.Lstat(folder); errors.Is(err, os.ErrNotExist) {
				if err := writeTOML(folder, &folderConfig{RepoID: repoID, Storage: store}); err != nil {
					return err
				}
			}
			return a.print(change{Changes: changes, Missing: d.Missing(), Draft: args[0], Digest: d.Digest()}, append(a.firstLines(d),
				fmt.Sprintf("joined repository %s as %s; the ledger has its root 1", repoID, text.Name(party)), a.afterSigning(d, args[0])[len(d.Missing())])...)
		}}
	f := cmd.Flags()
	f.StringVar(&digest, "digest", "", "digest of the draft, as the other party reads it out")
	f.StringVar(&store, "repo", "repository", "directory for this party's copy of the repository")
	f.BoolVar(&loopback, "unsafe-loopback", false, "permit http: locations on this machine, for development")
	return cmd
}

func (a *app) charterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "charter", Short: "Show the root as a document, and change it by an edited one"}
	show := &cobra.Command{Use: "show", Short: "Print the newest root as a charter document", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.look()
			if err != nil {
				return err
			}
			var root repo.Root
			if _, err := s.Stage(a.ctx, func(tx *repo.Tx) error { root = *tx.Root(); return errRead }); !errors.Is(err, errRead) {
				return err
			}
			data, err := charter.Marshal(root, s.labels)
			if err != nil {
				return err
			}
			_, err = a.Out.Write(data)
			return err
		}}
	var flags changeFlags
	apply := &cobra.Command{Use: "apply FILE", Short: "Make the next root from an edited charter document", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			root, err := readCharter(args[0])
			if err != nil {
				return err
			}
			return a.change(flags, func(tx *repo.Tx, _ string) error { tx.SetRoot(root); return nil })
		}}
	a.changeFlags(apply, &flags)
	diff := &cobra.Command{Use: "diff FILE", Short: "Show what an edited charter document would change; signs and writes nothing", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			root, err := readCharter(args[0])
			if err != nil {
				return err
			}
			a.dryRun = true
			return a.change(changeFlags{}, func(tx *repo.Tx, _ string) error { tx.SetRoot(root); return nil })
		}}
	cmd.AddCommand(show, diff, apply)
	return cmd
}

// errRead ends a transaction that only reads.
var errRead = errors.New("nothing to stage")
