package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/tuf"
)

// initFlags are the answers to the questions of init.
type initFlags struct {
	from, store, out   string
	product            string
	url, operator      string
	rootsURL, rootsOp  string
	roots              string // storage of rootsURL
	keys               string // document with the public keys of the other party
	renews             string
	minOperators       int
	solo, loopbackHTTP bool
}

func (a *app) initCommand() *cobra.Command {
	var x initFlags
	cmd := &cobra.Command{Use: "init", Short: "Make a new repository", Args: cobra.NoArgs,
		Long: `init makes the first root of a repository, signs it with this party's keys, and writes it as a draft for the
other parties. It writes visum.toml, and an entry for the repository in the identity file. The other parties run
visum join with the digest that init prints.

The root comes from a charter document (--from, see visum charter), or from the answers to a few questions:
flags answer them, a terminal is asked for the rest. The keys of this party are those of the key ring with the
purposes root, release, online and, if there are any, hold; --keys is the document that the other party's
visum key pub --party prints.

--solo is for one person, with two parties: "vendor" lists what was built, and "self" approves it. It makes the
keys of both, and publishes the first root. An update needs both parties, so keep the keys of one of them on
another machine or token when the first users depend on it.`,
		Example: `  visum init --from charter.json --repo repository -o root1.draft
  visum init --product kestrel --repo repository --url https://updates.acme.example/r/ \
    --roots-url https://updates.review.example/r/ --keys review.keys -o root1.draft
  visum init --solo --product kestrel --repo repository --url https://kestrel.example/r/ --min-operators 1`,
		RunE: func(*cobra.Command, []string) error {
			folder := filepath.Join(a.folder, folderFile)
			if _, err := os.Lstat(folder); err == nil {
				return usage("%s exists already", text.Name(folder))
			}
			if x.roots != "" && x.rootsURL == "" {
				return usage("--roots needs --roots-url, the address that serves it")
			}
			if x.solo {
				return a.initSolo(&x, folder)
			}
			return a.initDraft(&x, folder)
		}}
	f := cmd.Flags()
	f.StringVar(&x.from, "from", "", "file with the charter document, instead of the questions")
	f.StringVar(&x.store, "repo", "", "directory of the repository, s3://BUCKET/PREFIX, or git:REMOTE#BRANCH")
	f.StringVarP(&x.out, "out", "o", "", "file for the draft")
	f.StringVar(&x.product, "product", "", "name of the product; its targets are below PRODUCT/")
	f.StringVar(&x.url, "url", "", "address at which clients find the repository: https://HOST/PATH/")
	f.StringVar(&x.operator, "operator", "", "who runs that host; default: the host's name")
	f.StringVar(&x.rootsURL, "roots-url", "", "address at a second operator that serves the roots at least")
	f.StringVar(&x.roots, "roots", "", "storage of that address, which each publish writes: a directory, s3://BUCKET/PREFIX, or git:REMOTE#BRANCH")
	f.StringVar(&x.rootsOp, "roots-operator", "", "who runs that second host; default: the host's name")
	f.StringVar(&x.keys, "keys", "", "document with the public keys of the other party")
	f.StringVar(&x.renews, "renews", "", "what renews the timestamp: service (it lasts 1 day), ci (7 days) or hand (30 days)")
	f.IntVar(&x.minOperators, "min-operators", 0, "operators that a client asks for a new root; 1 lets one host hide roots (freeze); 0: 2")
	f.BoolVar(&x.solo, "solo", false, "one person as two parties, vendor and self")
	f.BoolVar(&x.loopbackHTTP, "unsafe-loopback", false, "permit http: locations on this machine, for development")
	f.BoolVar(&a.yes, "yes", false, "answer the question whether to publish, of --solo")
	return cmd
}

// initDraft makes the first root as a draft for the other parties.
func (a *app) initDraft(x *initFlags, folder string) error {
	party := a.as
	if party == "" {
		party = "vendor"
	}
	var root repo.Root
	if x.from != "" {
		if x.store == "" || x.out == "" {
			return usage("--repo and --out are required")
		}
		var err error
		if root, err = readCharter(x.from); err != nil {
			return err
		}
	} else {
		if err := a.askAll(x); err != nil {
			return err
		}
		id, err := a.readIdentity()
		if err != nil {
			return err
		}
		mine, err := a.publicRing(id, party)
		if err != nil {
			return err
		}
		theirs, err := readPartyKeys(x.keys)
		if err != nil {
			return err
		}
		if theirs.Party == party {
			return usage("%s has the keys of party %s too: want those of the other party", text.Name(x.keys), party)
		}
		if root, err = x.root(mine, theirs); err != nil {
			return err
		}
	}
	entry := identityRepo{RepoID: root.RepoID, Party: party, Renews: x.renews, UnsafeLoopback: x.loopbackHTTP}
	s, id, err := a.newcomer(x.store, &entry, false)
	if err != nil {
		return err
	}
	d, err := s.unsigned().Stage(a.ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
	if errors.Is(err, tuf.ErrCharter) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	losses, err := a.keyLosses(s, d)
	if err != nil {
		return err
	}
	for _, l := range losses {
		a.note("%s", l)
	}
	// A signature that fails, for example after a wrong PIN, must not leave a record of
	// this root: the next init makes another one.
	ledger := id.path(entry.Ledger)
	_, err = os.Lstat(ledger)
	fresh := errors.Is(err, os.ErrNotExist)
	for _, signer := range s.signers {
		if err := d.SignFirst(a.ctx, signer, d.Digest()); err != nil && !errors.Is(err, repo.ErrNoPart) {
			if fresh {
				err = errors.Join(err, os.RemoveAll(ledger))
				_ = os.Remove(filepath.Dir(ledger)) // unless it has other ledgers
			}
			return err
		}
	}
	if err := a.enter(id, &entry, func() error { return d.Save(x.out) }); err != nil {
		return err
	}
	if err := writeTOML(folder, x.folder(root.RepoID)); err != nil {
		return err
	}
	return a.print(map[string]any{"repo_id": root.RepoID, "draft": x.out, "digest": d.Digest(), "missing": append([]repo.Missing{}, d.Missing()...), "warnings": append([]string{}, d.Warnings()...), "key_losses": losses},
		append(a.firstLines(d),
			fmt.Sprintf("draft of root 1 in %s. Read this digest to the other parties, by another way than the file takes:", text.Name(x.out)), "  "+d.Digest(),
			fmt.Sprintf("next, at each other party: visum join %s --as PARTY", x.out))...)
}

// folder is the content of visum.toml.
func (x *initFlags) folder(repoID string) *folderConfig {
	c := &folderConfig{RepoID: repoID, Storage: x.store}
	if x.roots != "" {
		c.Locations = []locationConfig{{ID: "roots", Storage: x.roots}}
	}
	return c
}

// askAll asks a person for what the flags leave open.
func (a *app) askAll(x *initFlags) error {
	for _, q := range []struct {
		value    *string
		flag, is string
		optional bool
	}{
		{&x.product, "--product", "name of the product, such as kestrel", false},
		{&x.store, "--repo", "storage of the repository: a directory, or s3://BUCKET/PREFIX", false},
		{&x.url, "--url", "address at which clients find the repository, such as https://updates.acme.example/r/", false},
		{&x.rootsURL, "--roots-url", "address at a second operator that serves the roots (empty: none)", true},
		{&x.keys, "--keys", "document with the public keys of the other party (visum key pub --party)", x.solo},
		{&x.renews, "--renews", "what renews the timestamp: service, ci or hand", false},
		{&x.out, "--out", "file for the draft of root 1", x.solo},
	} {
		switch {
		case *q.value != "" || q.optional && (!a.terminal() || x.solo && q.value != &x.rootsURL):
			continue
		case q.value == &x.renews && !a.terminal():
			x.renews = "service"
			continue
		case !a.terminal():
			return usage("%s is required: %s", q.flag, q.is)
		}
		answer, err := a.ask(q.is)
		if err != nil {
			return err
		}
		if answer == "" && !q.optional {
			return usage("%s is required: %s", q.flag, q.is)
		}
		*q.value = answer
	}
	return nil
}

// root makes the first root of one product with the keys of two parties.
func (x *initFlags) root(mine, theirs *partyKeys) (repo.Root, error) {
	var root repo.Root
	if !productName.MatchString(x.product) {
		return root, usage("--product %s: 1 to 31 lower-case letters, digits, dots, underscores and hyphens", text.Quote(x.product))
	}
	if _, err := expiryOf(x.renews); err != nil {
		return root, err
	}
	class := repo.Class{Name: x.product, Prefix: x.product + "/"}
	for _, p := range []*partyKeys{mine, theirs} {
		rootKeys, release := p.of("root"), p.of("release")
		for purpose, have := range map[string][]tuf.Key{"root": rootKeys, "release": release} {
			if len(have) == 0 {
				return root, usage("party %s has no key for %s: visum key new LABEL --for '%s %s'", text.Name(p.Party), purpose, p.Party, purpose)
			}
		}
		root.Parties = append(root.Parties, repo.Party{Name: p.Party, Keys: rootKeys, Min: (len(rootKeys) + 1) / 2})
		class.Roles = append(class.Roles, repo.ReleaseRole{Party: p.Party, Role: p.Party + "-" + x.product, Keys: repo.Keys{Keys: release}})
		if hold := p.of("hold"); len(hold) > 0 && class.Hold == nil {
			class.Hold = &repo.Hold{Role: "hold-" + x.product, Keys: repo.Keys{Keys: hold}, Max: 7 * 24 * time.Hour}
		}
	}
	root.Classes = []repo.Class{class}
	for purpose, to := range map[string]*repo.Keys{"timestamp": &root.Timestamp, "snapshot": &root.Snapshot, "targets": &root.Targets} {
		if to.Keys = mine.of(purpose); len(to.Keys) == 0 {
			to.Keys = mine.of("online")
		}
		if len(to.Keys) == 0 {
			return root, usage("party %s has no key for online: visum key new LABEL --for '%s online'", text.Name(mine.Party), mine.Party)
		}
	}
	main, err := location("main", tuf.Primary, x.url, x.operator)
	if err != nil {
		return root, usage("--url: %w", err)
	}
	root.Locations = []tuf.Location{main}
	if x.rootsURL != "" {
		second, err := location("roots", tuf.Rendezvous, x.rootsURL, x.rootsOp)
		if err != nil {
			return root, usage("--roots-url: %w", err)
		}
		second.Priority, second.Targets = 10, ""
		root.Locations = append(root.Locations, second)
	}
	if x.minOperators > 0 {
		root.Probe = tuf.Probe{MinOperators: x.minOperators, Every: 6 * time.Hour, MaxAge: 30 * 24 * time.Hour}
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return root, err
	}
	root.RepoID = hex.EncodeToString(id)
	return root, nil
}

// keyLosses states what the loss of keys costs, before a first root is signed by the
// others.
func (a *app) keyLosses(s *site, d *repo.Draft) ([]string, error) {
	report, err := (&relocate.Preflight{Repo: s.Repo, Storage: s.storage, Draft: d}).Run(a.ctx)
	if err != nil {
		return nil, err
	}
	lines := []string{}
	for _, f := range report.Findings {
		if f.Check == "losses" {
			lines = append(lines, f.Text)
		}
	}
	return lines, nil
}

// soloKeys are the keys of one person in both parts.
var soloKeys = []struct{ label, use string }{
	{"vendor-root", "vendor root"}, {"vendor-release", "vendor release"}, {"online", "vendor online"},
	{"self-root", "self root"}, {"self-release", "self release"}}

// initSolo makes a repository of one person: keys, the first root, a pin.
func (a *app) initSolo(x *initFlags, folder string) (err error) {
	if x.from != "" || x.keys != "" || x.out != "" {
		return usage("--solo makes its own root and keys: --from, --keys and --out do not go with it")
	}
	if err := a.askAll(x); err != nil {
		return err
	}
	if !a.yes && !a.terminal() {
		return a.confirm("publish root 1?") // refused before keys are made
	}
	id, err := a.readIdentity()
	if err != nil {
		return err
	}
	for _, k := range soloKeys {
		if err := id.newLabel(k.label); err != nil {
			return err
		}
	}
	// Refused before a passphrase is asked for.
	if _, err := x.root(soloRing("vendor"), soloRing("self")); err != nil {
		return err
	}
	path, _, err := a.identityPath()
	if err != nil {
		return err
	}
	store, err := a.openStorage(x.store, false)
	if err != nil {
		return err
	}
	pass, err := a.newPassphrase("the keys of " + x.product)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	before, done := len(id.Keys), false
	defer func() {
		if done {
			return
		}
		// A failed command leaves neither key files nor a changed key ring.
		for _, k := range id.Keys[before:] {
			_ = os.Remove(id.path(strings.TrimPrefix(k.URI, "file:")))
		}
		if old == nil {
			_ = os.Remove(path)
		} else {
			err = errors.Join(err, durable.WriteFile(path, old, 0o600))
		}
	}()
	signers := map[string]tuf.Signer{}
	for _, k := range soloKeys {
		if signers[k.label], err = a.newKey(id, k.label, k.use, pass); err != nil {
			return err
		}
	}
	mine, err := a.publicRing(id, "vendor")
	if err != nil {
		return err
	}
	theirs, err := a.publicRing(id, "self")
	if err != nil {
		return err
	}
	root, err := x.root(mine, theirs)
	if err != nil {
		return err
	}
	a.note("one person, two parties: \"vendor\" lists what was built, \"self\" approves it. %d keys with one passphrase, all on this machine: anyone with this machine and the passphrase can ship updates, until the keys of one party move to another machine or token", len(soloKeys))
	f := &founding{store: store, root: root, review: "self", loopback: x.loopbackHTTP, renews: x.renews,
		ledger: func(party string) string { return id.path(ledgerPath(root.RepoID, party)) }}
	for _, k := range id.Keys[before:] {
		f.add(k.Party, signers[k.Label])
	}
	if err := a.confirm("publish root 1?"); err != nil {
		return err
	}
	// The key ring is written before the root is published: a process that dies in between
	// has the keys of the repository.
	if err := errors.Join(durable.MkdirAll(filepath.Dir(path), 0o700), writeTOML(path, id)); err != nil {
		return err
	}
	pin, err := a.found(f)
	if err != nil {
		if _, look := store.Read(context.WithoutCancel(a.ctx), layout.RootName(1)); look == nil {
			done = true
			err = fmt.Errorf("%w; root 1 is in the storage, so its keys stay in the key ring", err)
		}
		return err
	}
	done = true // the root is published: its keys must stay
	pinPath := filepath.Join("pins", root.RepoID+".json")
	if err := errors.Join(durable.MkdirAll(id.path("pins"), 0o700), durable.WriteFile(id.path(pinPath), pin, 0o644)); err != nil {
		return err
	}
	for i, party := range []string{"vendor", "self"} {
		id.Repositories = append(id.Repositories, identityRepo{RepoID: root.RepoID, Party: party, Pin: filepath.ToSlash(pinPath), Ledger: ledgerPath(root.RepoID, party),
			Review: "self", Renews: x.renews, Default: i == 0, UnsafeLoopback: x.loopbackHTTP})
	}
	if err := writeTOML(path, id); err != nil {
		return err
	}
	if err := writeTOML(folder, x.folder(root.RepoID)); err != nil {
		return err
	}
	print, err := pinFingerprint(pin)
	if err != nil {
		return err
	}
	s, err := a.open()
	if err != nil {
		return err
	}
	if err := s.writeCopies(a.ctx, true); err != nil {
		return err
	}
	st, err := s.Status(a.ctx, a.Now())
	if err != nil {
		return err
	}
	warnings := append([]string{}, root.Warnings("self", a.Now())...)
	lines := []string{}
	for _, w := range warnings {
		lines = append(lines, "warning: "+w)
	}
	return a.print(map[string]any{"repo_id": root.RepoID, "pin": id.path(pinPath), "fingerprint": print, "warnings": warnings},
		append(lines, "root 1 published. "+text.Line(stopLine(st)), "next: visum embed DIR, in the folder of your program's main package")...)
}

// soloRing has the purposes of the keys of one part, to check the other answers.
func soloRing(party string) *partyKeys {
	p := &partyKeys{Version: 1, Party: party}
	for _, k := range soloKeys {
		if of, purpose, _ := strings.Cut(k.use, " "); of == party {
			p.Keys = append(p.Keys, partyKey{Label: k.label, Purpose: purpose})
		}
	}
	return p
}
