package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/signing"
)

//go:embed ci/*.yml ci/visum.sh
var ciFiles embed.FS

// ciOptions are the flags of ci init.
type ciOptions struct {
	ledger, channel string
	allow, keys     []string
	shared, force   bool
}

func (a *app) ciCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ci", Short: "Write the files with which a CI system or cron signs and publishes"}
	var o ciOptions
	first := &cobra.Command{Use: "init github|shell", Short: "Write an identity file for a machine, and workflow files or a shell script", Args: cobra.ExactArgs(1),
		Long: `init writes .visum/ci.toml, an identity file for a machine that signs without a person: the party, the keys of the
key ring except root keys, the pin, the ledger, and the kinds of changes that it may sign (visum help automation).
With github it also writes .github/workflows/release.yml and renew.yml, with shell ci/visum.sh. docs/ci.md explains
them. A file that exists is not replaced, except with --force.

The ledger is the memory of the party's signatures. All machines that sign the same roles need the same one, and only
this party may write there. If it is empty, init copies the records of this identity's ledger to it.

No private key is copied. For keys in files, the output says where the machine needs them.`,
		Example: "  visum ci init github --ledger s3://acme-ledger/kestrel --allow renew,release:kestrel/\n  visum ci init shell --ledger /srv/visum/ledger --allow renew,files:rules/",
		RunE:    func(_ *cobra.Command, args []string) error { return a.ciInit(args[0], o) }}
	f := first.Flags()
	f.StringVar(&o.ledger, "ledger", "", "directory or s3://BUCKET/PREFIX of the ledger")
	f.StringSliceVar(&o.allow, "allow", nil, "kinds that are signed without a person: renew, release:PREFIX/, files:PREFIX/, transport")
	f.StringArrayVar(&o.keys, "key", nil, "label of a key that the machine gets, instead of all but the root keys; may be repeated")
	f.StringVar(&o.channel, "channel", "stable", "channel of the releases")
	f.BoolVar(&o.shared, "shared-ledger", false, "declare that every machine that signs the same roles uses this ledger")
	f.BoolVar(&o.force, "force", false, "replace files that exist")
	f.BoolVar(&a.dryRun, "dry-run", false, "say what would be written, and write nothing")
	cmd.AddCommand(first)
	return cmd
}

// ciFile is a file that ci init writes.
type ciFile struct {
	name string // with slashes, below the working folder
	data []byte
	mode fs.FileMode
}

// ciKey is a key in a file, which the machine needs.
type ciKey struct {
	Label  string `json:"label"`
	Path   string `json:"path"`
	Secret string `json:"secret"` // name of the secret in the CI system
}

func (a *app) ciInit(kind string, o ciOptions) error {
	if kind != "github" && kind != "shell" {
		return usage("%s: want github or shell", text.Quote(kind))
	}
	if o.ledger == "" || len(o.allow) == 0 {
		return usage("--ledger and --allow are required")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`).MatchString(o.channel) {
		return usage("--channel %s: letters, digits, dots, underscores and hyphens", text.Quote(o.channel))
	}
	automation, err := signing.ParseAutomation(o.allow)
	if err != nil {
		return usage("--allow: %w", err)
	}
	s, err := a.look()
	if err != nil {
		return err
	}
	if s.party == "" {
		return usage("the identity has no party in this repository")
	}
	if o.ledger, err = a.ciLedger(kind, o.ledger); err != nil {
		return err
	}
	machine, needs, err := a.ciIdentity(s, o)
	if err != nil {
		return err
	}
	files, err := a.ciFiles(kind, s, machine, needs, automation, o)
	if err != nil {
		return err
	}
	var exist []string
	same := map[string]bool{}
	for _, f := range files {
		switch have, err := os.ReadFile(filepath.Join(a.folder, filepath.FromSlash(f.name))); {
		case errors.Is(err, fs.ErrNotExist):
		case err == nil && bytes.Equal(have, f.data):
			same[f.name] = true
		default:
			exist = append(exist, f.name)
		}
	}
	if len(exist) > 0 && !o.force {
		return usage("%s: exists already, with other content; --force replaces it", strings.Join(exist, ", "))
	}
	out := map[string]any{"dry_run": a.dryRun, "keys": needs, "automation": automation.Kinds(), "replaced": append([]string{}, exist...)}
	names, lines := []string{}, []string{}
	for _, f := range files {
		if same[f.name] {
			lines = append(lines, f.name+" is like that already")
			continue
		}
		names = append(names, f.name)
		did := "wrote "
		switch replaced := slices.Contains(exist, f.name); {
		case a.dryRun && replaced:
			did = "would replace "
		case a.dryRun:
			did = "would write "
		case replaced:
			did = "replaced "
		}
		lines = append(lines, did+f.name)
		if a.dryRun {
			continue
		}
		file := filepath.Join(a.folder, filepath.FromSlash(f.name))
		if err := durable.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(file, f.data, f.mode); err != nil {
			return err
		}
	}
	out["files"] = names
	if !a.dryRun {
		copied, err := a.fillLedger(s, o.ledger)
		if err != nil {
			return err
		}
		out["ledger_copied"] = copied
		if copied {
			lines = append(lines, "copied the records of this identity's ledger to "+text.Quote(o.ledger))
		}
	}
	folder, err := a.readFolder()
	if err != nil {
		return err
	}
	return a.print(out, append(lines, ciHints(kind, folder, needs, o)...)...)
}

// ciHints say what the machine needs besides the files.
func ciHints(kind string, folder *folderConfig, needs []ciKey, o ciOptions) (lines []string) {
	for _, k := range needs {
		line := fmt.Sprintf("key %s is a file: the machine needs it as %s", text.Name(k.Label), k.Path)
		if kind == "github" {
			line += ", from the secret " + k.Secret
		}
		lines = append(lines, line)
	}
	if len(needs) > 0 && kind == "github" {
		lines = append(lines, "the secret VISUM_PASSPHRASE has the passphrase of the key files")
	}
	if kind == "github" {
		if isDirectory(folder.Storage) {
			lines = append(lines, "warning: the storage of visum.toml is a directory, which a hosted runner does not have")
		}
		for _, l := range folder.Locations {
			if isDirectory(l.Storage) {
				lines = append(lines, "warning: the storage of location "+text.Name(l.ID)+" is a directory, which a hosted runner does not have")
			}
		}
	}
	if !o.shared {
		lines = append(lines, "a role with keys on further machines is signed only with --shared-ledger")
	}
	return append(lines, "next: use this ledger in your own identity file too if you sign the same roles, and commit the files with "+folderFile)
}

// isDirectory reports whether openStorage opens a directory of this machine.
func isDirectory(uri string) bool {
	scheme, _, ok := strings.Cut(uri, ":")
	return !ok || scheme != "s3" && scheme != "git"
}

// ciLedger checks the place of the ledger and makes a path absolute.
func (a *app) ciLedger(kind, where string) (string, error) {
	scheme, _, ok := strings.Cut(where, ":")
	if ok && len(scheme) > 1 && scheme != "file" {
		if scheme != "s3" {
			return "", usage("--ledger %s: want a directory or s3://BUCKET/PREFIX", text.Quote(where))
		}
	} else if !filepath.IsAbs(strings.TrimPrefix(where, "file:")) {
		if kind == "github" {
			return "", usage("--ledger %s: a hosted runner keeps no directory; want s3://BUCKET/PREFIX, or the absolute path of a directory on a runner that lasts", text.Quote(where))
		}
		var err error
		if where, err = filepath.Abs(where); err != nil {
			return "", err
		}
	}
	folder, err := a.readFolder()
	if err != nil {
		return "", err
	}
	for name, other := range map[string]string{"storage": folder.Storage, "exchange": folder.Exchange} {
		if other != "" && a.inside(where, other) {
			return "", usage("--ledger %s is in the %s of visum.toml, where other parties can write", text.Quote(where), name)
		}
	}
	return where, nil
}

// ciIdentity is the identity of the machine, and its keys in files.
func (a *app) ciIdentity(s *site, o ciOptions) (*identity, []ciKey, error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, nil, err
	}
	chain, err := s.Chain(a.ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(chain) == 0 {
		return nil, nil, usage("the repository is empty: publish its first root before")
	}
	var rootKeys []string
	for _, p := range chain[len(chain)-1].Charter().Parties() {
		rootKeys = append(rootKeys, p.KeyIDs...)
	}
	machine := &identity{Repositories: []identityRepo{{RepoID: s.repoID, Party: s.party, Pin: "pin.json", Ledger: o.ledger, SharedLedger: o.shared, Automation: o.allow, Review: s.me.Review, Renews: s.me.Renews, UnsafeLoopback: s.loopback}}}
	needs := []ciKey{}
	for _, label := range o.keys {
		if !slices.ContainsFunc(id.Keys, func(k identityKey) bool { return k.Label == label && k.Party == s.party }) {
			return nil, nil, id.noLabel(label)
		}
	}
	for _, k := range id.Keys {
		if k.Party != s.party || len(o.keys) > 0 && !slices.Contains(o.keys, k.Label) {
			continue
		}
		key, err := a.publicKey(id, k)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(rootKeys, key.ID()) {
			if len(o.keys) > 0 {
				return nil, nil, usage("--key %s: it is a root key, which no machine has", text.Quote(k.Label))
			}
			continue
		}
		data, err := keys.WritePublic(key, keys.FormTUF)
		if err != nil {
			return nil, nil, err
		}
		k.Public = strings.TrimSpace(string(data))
		if file, ok := strings.CutPrefix(k.URI, "file:"); ok {
			base := path.Base(filepath.ToSlash(file))
			k.URI = "file:keys/" + base
			needs = append(needs, ciKey{k.Label, ".visum/keys/" + base, "VISUM_KEY_" + secretName(k.Label)})
		}
		machine.Keys = append(machine.Keys, k)
	}
	if len(machine.Keys) == 0 {
		return nil, nil, usage("the key ring has no key of %s that is not a root key", text.Name(s.party))
	}
	return machine, needs, nil
}

// secretName is a label as a name of a secret.
func secretName(label string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(label))
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9./_-]+$`)

// ciFiles are the files, with the identity of the machine first.
func (a *app) ciFiles(kind string, s *site, machine *identity, needs []ciKey, automation *signing.Automation, o ciOptions) ([]ciFile, error) {
	pin, err := s.Pin(a.ctx)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# .visum/ci.toml, written by: visum ci init. What this machine may sign without a person is in automation.\n")
	if err := toml.NewEncoder(&b).Encode(machine); err != nil {
		return nil, err
	}
	files := []ciFile{{".visum/ci.toml", b.Bytes(), 0o644}, {".visum/pin.json", pin, 0o644}}
	files = append(files, ciFile{".visum/.gitignore", []byte("keys/\n" + seenFolder + "/\n"), 0o644})
	for _, k := range needs {
		if !plainPath.MatchString(k.Path) {
			return nil, usage("key %s: its file has a name that a script can't have: rename it", text.Name(k.Label))
		}
	}
	values := struct {
		Channel string
		AWS     bool
		Files   []ciKey
	}{o.channel, false, needs}
	for _, uri := range []string{s.uri, s.exchange, o.ledger} {
		values.AWS = values.AWS || strings.HasPrefix(uri, "s3:")
	}
	for _, k := range machine.Keys {
		values.AWS = values.AWS || strings.HasPrefix(k.URI, "awskms:")
	}
	render := func(name, to string, mode fs.FileMode) error {
		t, err := template.New(path.Base(name)).Delims("[[", "]]").ParseFS(ciFiles, name, "ci/setup.yml")
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := t.Execute(&out, values); err != nil {
			return err
		}
		files = append(files, ciFile{to, out.Bytes(), mode})
		return nil
	}
	if kind == "shell" {
		return files, render("ci/visum.sh", "ci/visum.sh", 0o755)
	}
	if len(automation.Releases) > 0 {
		err = render("ci/release.yml", ".github/workflows/release.yml", 0o644)
	}
	return files, errors.Join(err, render("ci/renew.yml", ".github/workflows/renew.yml", 0o644))
}

// fillLedger copies the records of this identity to an empty ledger of the same party.
func (a *app) fillLedger(s *site, where string) (copied bool, err error) {
	to, err := a.ledgerAt(where)
	if err != nil {
		return false, err
	}
	if _, err := to.Load(a.ctx, s.repoID); !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	data, err := s.ExportLedger(a.ctx)
	if err != nil {
		return false, err
	}
	cfg := *s.cfg
	cfg.Ledger = to
	if cfg.Pin, err = s.Pin(a.ctx); err != nil { // of a root that this identity has verified
		return false, err
	}
	return true, repo.New(s.storage, &cfg).ImportLedger(a.ctx, data)
}
