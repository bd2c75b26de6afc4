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

func (a *app) initCommand() *cobra.Command {
	var from, store, out, party string
	cmd := &cobra.Command{Use: "init", Short: "Make the draft of a new repository from a charter document", Args: cobra.NoArgs,
		Long: `init makes the first root of a repository from a charter document (see visum charter), signs it with this
party's keys, and writes it as a draft for the other parties. It writes visum.toml, and an entry for the
repository in the identity file. The other parties run visum join with the digest that init prints.`,
		RunE: func(*cobra.Command, []string) error {
			if from == "" || store == "" || out == "" || party == "" {
				return usage("--from, --repo, --out and --party are required")
			}
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			root, _, err := charter.Parse(data)
			if err != nil {
				return &usageError{err}
			}
			folder := filepath.Join(a.folder, folderFile)
			if _, err := os.Lstat(folder); err == nil {
				return usage("%s exists already", text.Name(folder))
			}
			s, id, err := a.newcomer(store, root.RepoID, party)
			if err != nil {
				return err
			}
			d, err := s.Stage(a.ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
			if err != nil {
				return err
			}
			if err := a.enter(id, root.RepoID, party, func() error { return saveDraft(d, out) }); err != nil {
				return err
			}
			if err := writeTOML(folder, &folderConfig{RepoID: root.RepoID, Storage: store}); err != nil {
				return err
			}
			return a.print(map[string]any{"repo_id": root.RepoID, "draft": out, "digest": d.Digest(), "missing": d.Missing(), "warnings": d.Warnings()}, append(a.firstLines(d),
				fmt.Sprintf("draft of root 1 in %s. Read this digest to the other parties, by another way than the file takes:", text.Name(out)), "  "+d.Digest(),
				fmt.Sprintf("next, at each other party: visum join %s --party NAME", out))...)
		}}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "file with the charter document")
	f.StringVar(&store, "repo", "", "directory of the repository, s3://BUCKET/PREFIX, or git:REMOTE#BRANCH")
	f.StringVar(&party, "party", "", "this party's name in the charter")
	f.StringVarP(&out, "out", "o", "", "file for the draft")
	return cmd
}

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
func (a *app) newcomer(store, repoID, party string) (*site, *identity, error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range id.Repositories {
		if r.RepoID == repoID && r.Party == party {
			return nil, nil, usage("the identity takes part in repository %s as %s already", repoID, text.Name(party))
		}
	}
	s := &site{repoID: repoID, party: party}
	if s.storage, err = a.openStorage(store, false); err != nil {
		return nil, nil, err
	}
	cfg := &repo.Config{Now: a.Now, Party: party, Labels: map[string]string{}, Ledger: repo.DirLedger(id.path(ledgerPath(repoID, party)))}
	if s.signers, err = a.signers(id, party, cfg.Labels); err != nil {
		return nil, nil, err
	}
	cfg.Signers = s.signers
	s.Repo = repo.New(s.storage, cfg)
	return s, id, nil
}

func ledgerPath(repoID, party string) string { return "ledger/" + repoID + "-" + party }

// enter writes an entry for the repository into the identity file, after do has
// succeeded. The pin is written at the first publish that this identity sees.
func (a *app) enter(id *identity, repoID, party string, do func() error) error {
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
	id.Repositories = append(id.Repositories, identityRepo{RepoID: repoID, Party: party, Ledger: ledgerPath(repoID, party)})
	return writeTOML(path, id)
}

func (a *app) joinCommand() *cobra.Command {
	var party, digest, store string
	cmd := &cobra.Command{Use: "join DRAFT", Short: "Sign the first root of a repository that another party made", Args: cobra.ExactArgs(1),
		Long: `join shows the first root in words, asks for the digest that the other party reads out, signs the root with
this party's keys, and writes the root into this party's ledger: from then on it is the trust anchor. It writes
visum.toml, and an entry for the repository in the identity file.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if party == "" {
				return usage("--party is required")
			}
			d, err := repo.LoadDraft(args[0])
			if err != nil {
				return err
			}
			root, err := tuf.ProposeFirst(d.File("root"), nil)
			if err != nil {
				return err
			}
			if root.Charter() == nil {
				return fmt.Errorf("%s: its root has no charter", text.Name(args[0]))
			}
			repoID := root.Charter().RepoID()
			s, id, err := a.newcomer(store, repoID, party)
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
			signed := 0
			for _, signer := range s.signers {
				switch err := d.SignFirst(a.ctx, signer, strings.ToLower(strings.Join(strings.Fields(digest), ""))); {
				case err == nil:
					signed++
				case !errors.Is(err, repo.ErrNoPart):
					return err
				}
			}
			if signed == 0 {
				return fmt.Errorf("%w: none of the keys of %s in the key ring", repo.ErrNoPart, text.Name(party))
			}
			if err := a.enter(id, repoID, party, func() error { return saveDraft(d, args[0]) }); err != nil {
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
	f.StringVar(&party, "party", "", "this party's name in the charter")
	f.StringVar(&digest, "digest", "", "digest of the draft, as the other party reads it out")
	f.StringVar(&store, "repo", "repository", "directory for this party's copy of the repository")
	return cmd
}

// ask asks for a line on the terminal.
func (a *app) ask(what string) (string, error) {
	if !a.terminal() {
		return "", usage("there is no terminal to ask for the %s", what)
	}
	fmt.Fprintf(a.Err, "%s: ", what)
	return a.line()
}

func (a *app) charterCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "charter", Short: "Show the root as a document, and change it by an edited one"}
	show := &cobra.Command{Use: "show", Short: "Print the newest root as a charter document", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := a.open()
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
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			root, _, err := charter.Parse(data)
			if err != nil {
				return &usageError{err}
			}
			return a.stage(flags, func(tx *repo.Tx, _ string) error { tx.SetRoot(root); return nil })
		}}
	a.changeFlags(apply, &flags)
	cmd.AddCommand(show, apply)
	return cmd
}

// errRead ends a transaction that only reads.
var errRead = errors.New("nothing to stage")
