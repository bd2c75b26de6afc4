package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

func (a *app) addCommand() *cobra.Command {
	var rel tuf.Release
	var source, notes, rollout, take, id, wait string
	var approve bool
	var flags changeFlags
	cmd := &cobra.Command{Use: "add FILE...|DIST", Short: "Add a release", Args: cobra.MinimumNArgs(1),
		Long: `add lists files as a release of a product. Each file is for the platform that --platform names, or
with several files for the platform in its name, as GOOS-GOARCH or GOOS_GOARCH. The paths are
PRODUCT/CHANNEL/VERSION/GOOS-GOARCH/NAME. Clients are offered a release when every party lists it.

DIST is the output folder of goreleaser: the artifacts, the product, the version and the revision of the
source are those of its artifacts.json and metadata.json. Of several artifacts for one platform the one
that needs the lowest processor is taken.`,
		Example: `  visum add kestrel --product kestrel --version 1.4.0 --platform linux/amd64 --publish
  visum add dist --channel stable --source git+https://example.org/kestrel --publish
  visum add dist/*.tar.gz --product kestrel --version 1.4.0 --source git+https://example.org/kestrel@9d0c17 --out 1.4.0.draft`,
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if wait != "" {
				if flags.wait, err = parseAge(wait); err != nil {
					return err
				}
			}
			dist := len(args) == 1 && isDist(args[0])
			if err := releaseFields(&rel, source, notes, rollout, dist); err != nil {
				return err
			}
			var files []releaseFile
			if dist {
				var left []string
				if files, left, err = distFiles(filepath.Clean(args[0]), take, id, rel); err == nil {
					a.note("%s", takenLine(files, left))
				}
			} else if rel.Product == "" || rel.Version == "" {
				err = usage("--product and --version are required")
			} else {
				files, err = releaseFiles(args, rel)
			}
			if err != nil {
				return err
			}
			s, err := a.open()
			if err != nil {
				return err
			}
			return a.batch(s, func(s *site) error {
				var added []string
				d, err := s.stage(a.ctx, func(tx *repo.Tx) error {
					added = nil
					for _, f := range files {
						if err := addFile(tx, s.party, f); err != nil {
							return err
						}
						added = append(added, f.path)
					}
					return nil
				})
				if err != nil {
					return err
				}
				if approve && !a.dryRun {
					if flags.out == "" && !flags.publish {
						if err := a.showAndAsk(s, d, "approve and publish?"); err != nil {
							return err
						}
						flags.publish = true
					}
					if err := a.signOwn(s, d); err != nil {
						return err
					}
					if d, err = a.approveOn(s, d, added); err != nil {
						return err
					}
				}
				return a.finish(s, d, flags, added)
			})
		}}
	f := cmd.Flags()
	f.StringVar(&rel.Product, "product", "", "name of the product")
	f.StringVar(&rel.Version, "version", "", "version of the release")
	f.StringVar(&rel.Channel, "channel", "stable", "channel")
	f.StringVar(&rel.Platform, "platform", "", "GOOS/GOARCH, or any")
	f.StringVar(&rel.MinVersion, "min-version", "", "oldest version that may be updated to this one directly")
	f.BoolVar(&rel.Critical, "critical", false, "not delayed by a rollout")
	f.StringVar(&notes, "notes", "", "file with the release notes")
	f.StringVar(&source, "source", "", "source code, as URI@REVISION")
	f.StringVar(&rollout, "rollout", "", "share of the machines that get the release, such as 10%; without it all do")
	f.StringVar(&take, "take", "binary", "of the output folder of goreleaser: binary or archive")
	f.StringVar(&id, "id", "", "of the output folder of goreleaser: the artifacts of this build or archive")
	f.BoolVar(&approve, "approve", false, "approve with the keys of the other parties in the identity file too")
	waitFlag(cmd, &wait)
	a.changeFlags(cmd, &flags)
	return cmd
}

// releaseFields fills the fields that flags give in another form.
// With dist, the revision of the source may be that of the metadata of goreleaser.
func releaseFields(rel *tuf.Release, source, notes, rollout string, dist bool) error {
	if source != "" {
		switch i := strings.LastIndexByte(source, '@'); {
		case i > 0 && i < len(source)-1:
			rel.Source = tuf.SourceRef{URI: source[:i], Revision: source[i+1:]}
		case dist && i < 0:
			rel.Source.URI = source
		default:
			return usage("--source %s: want URI@REVISION", text.Quote(source))
		}
	}
	if rollout != "" {
		n, err := percent(rollout)
		if err != nil {
			return err
		}
		rel.Rollout = &tuf.Rollout{Percent: n}
	}
	if notes != "" {
		data, err := os.ReadFile(notes)
		if err != nil {
			return err
		}
		rel.Notes = strings.TrimRight(string(data), "\n")
	}
	return nil
}

// releaseFile is a file of a release.
type releaseFile struct {
	name, path string // on this machine, of the target
	rel        tuf.Release
}

// platforms are the names of systems and processors that appear in file names.
var (
	systems    = []string{"linux", "darwin", "windows", "freebsd", "openbsd", "netbsd"}
	processors = []string{"amd64", "arm64", "386", "arm", "riscv64", "ppc64le", "s390x"}
)

// platformIn returns the platform that a file's name states, "" for none.
func platformIn(name string) string {
	words := strings.FieldsFunc(strings.ToLower(filepath.Base(name)), func(r rune) bool { return r == '-' || r == '_' || r == '.' })
	for i := range len(words) - 1 {
		for _, system := range systems {
			for _, processor := range processors {
				if words[i] == system && words[i+1] == processor {
					return system + "/" + processor
				}
			}
		}
	}
	return ""
}

func releaseFiles(names []string, rel tuf.Release) ([]releaseFile, error) {
	var out []releaseFile
	seen := map[string]string{}
	for _, name := range names {
		f := releaseFile{name: name, rel: rel}
		if f.rel.Platform == "" {
			if f.rel.Platform = platformIn(name); f.rel.Platform == "" {
				return nil, usage("%s: its name states no platform: set --platform, to any if the file is for all", text.Name(name))
			}
		}
		if other, twice := seen[f.rel.Platform]; twice {
			return nil, usage("%s and %s are both for %s", text.Name(other), text.Name(name), text.Name(f.rel.Platform))
		}
		seen[f.rel.Platform] = name
		f.path = strings.Join([]string{rel.Product, rel.Channel, rel.Version, strings.ReplaceAll(f.rel.Platform, "/", "-"), filepath.Base(name)}, "/")
		if err := f.rel.Check(); err != nil {
			return nil, &usageError{err}
		}
		out = append(out, f)
	}
	return out, nil
}

func addFile(tx *repo.Tx, party string, f releaseFile) error {
	file, err := os.Open(f.name)
	if err != nil {
		return err
	}
	defer file.Close()
	return tx.Add(party, f.path, file, &f.rel)
}

// approveOn approves the paths of a draft with the keys of the other parties that the
// identity has, each with its own ledger, and returns the draft with all signatures.
func (a *app) approveOn(s *site, d *repo.Draft, paths []string) (*repo.Draft, error) {
	waits, err := a.otherParties(s)
	if err != nil {
		return nil, err
	}
	for _, party := range waits {
		theirs := &app{Process: a.Process, ctx: a.ctx, identity: a.identity, folder: a.folder, as: party, passFile: a.passFile, typed: a.typed, tokens: a.tokens}
		other, err := theirs.open()
		if err != nil {
			return nil, err
		}
		if s.outer != nil { // the files that were added are only there
			other.Repo = repo.New(s.storage, other.cfg)
		}
		if d, err = reopened(other.Repo, d); err != nil {
			return nil, err
		}
		if d, err = other.StageOn(a.ctx, d, func(tx *repo.Tx) error {
			var errs error
			for _, p := range paths {
				errs = errors.Join(errs, tx.Approve(party, p, &repo.ReviewRecord{Reviewer: "visum add --approve"}))
			}
			return errs
		}); err != nil {
			return nil, fmt.Errorf("approve as %s: %w", text.Name(party), err)
		}
	}
	return reopened(s.Repo, d)
}

// otherParties returns the other parties of this repository in the identity file.
func (a *app) otherParties(s *site) ([]string, error) {
	id, err := a.readIdentity()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range id.Repositories {
		if r.RepoID == s.repoID && r.Party != s.party {
			out = append(out, r.Party)
		}
	}
	if len(out) == 0 {
		return nil, usage("--approve: the identity has no other party in this repository; the other parties approve with visum review approve")
	}
	return out, nil
}
