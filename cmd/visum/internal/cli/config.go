package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
)

// identity is who acts: what decides trust and what starts programs. It is read from the
// identity file alone, so that a folder of another party cannot bring its own.
type identity struct {
	Repositories []identityRepo `toml:"repository"`
	Keys         []identityKey  `toml:"key"`

	dir string // of the file; relative paths in it begin there
}

// identityRepo is a repository that this identity takes part in.
type identityRepo struct {
	RepoID string `toml:"repo_id"` // 32 lower-case hex digits
	Party  string `toml:"party,omitempty"`
	Pin    string `toml:"pin,omitempty"`    // path of the trust anchor; "": the roots in the ledger
	Ledger string `toml:"ledger"`           // path of the ledger's directory, or s3://BUCKET/PREFIX
	Review string `toml:"review,omitempty"` // name of the reviewing party; "": review
	// Renews is what renews the online roles: service, ci or hand; see expiryOf.
	Renews string `toml:"renews,omitempty"`
	// Default is set for the party that acts without --as, if the identity has several.
	Default bool `toml:"default,omitempty"`
	// SharedLedger declares that every machine that signs the same roles uses this ledger.
	SharedLedger bool `toml:"shared_ledger,omitempty"`
	// Automation are the kinds of changes that are signed without a terminal; see
	// signing.ParseAutomation. Absent: there is no limit.
	Automation []string `toml:"automation,omitempty"`
	// UnsafeLoopback permits http:// locations on this machine, for development.
	UnsafeLoopback bool `toml:"unsafe_loopback,omitempty"`
}

// expiryOf returns how long signatures last, by what renews the online roles: a service
// that runs all the time ("" too), a scheduled CI job, or a person. The roles of the
// parties last 90 days, since their keys are offline.
func expiryOf(renews string) (repo.Expiry, error) {
	e := repo.Expiry{Release: 90 * 24 * time.Hour}
	switch renews {
	case "", "service":
	case "ci":
		e.Timestamp = 7 * 24 * time.Hour
	case "hand":
		e.Timestamp, e.Snapshot = 30*24*time.Hour, 30*24*time.Hour
	default:
		return e, usage("renews %s: want service, ci or hand", text.Quote(renews))
	}
	return e, nil
}

// identityKey is a key of the key ring.
type identityKey struct {
	Label string `toml:"label"`
	URI   string `toml:"uri"`
	Party string `toml:"party,omitempty"`
	// Purpose is what the party uses the key for, such as root, release or online.
	Purpose string `toml:"purpose,omitempty"`
	Public  string `toml:"public,omitempty"` // of a key that is not a file: the key object of TUF
}

// folderConfig is which repository: visum.toml in the working folder.
type folderConfig struct {
	RepoID  string `toml:"repo_id"`
	Storage string `toml:"storage"` // path of the repository's directory, or a URI
	// Exchange is a storage that passes drafts between the parties; "": none.
	Exchange string `toml:"exchange,omitempty"`
	// Locations are written after each publish, from the storage.
	Locations []locationConfig `toml:"location,omitempty"`
}

// identityOnly are the members of the identity file. In visum.toml they are refused by
// name.
var identityOnly = []string{"pin", "ledger", "key", "keys", "uri", "public", "party", "repository", "pin-value", "unsafe_loopback", "automation", "shared_ledger"}

// readTOML reads a configuration file strictly: an unknown member is an error with its
// line.
func readTOML(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(data) > 1<<20 {
		return usage("%s: larger than 1 MiB", text.Name(path))
	}
	meta, err := toml.Decode(string(data), v)
	if bad, ok := errors.AsType[toml.ParseError](err); ok {
		return usage("%s: line %d: %s", text.Name(path), bad.Position.Line, text.Line(bad.Message))
	}
	if err != nil {
		return usage("%s: %w", text.Name(path), err)
	}
	unknown := meta.Undecoded()
	if len(unknown) == 0 {
		return nil
	}
	k := unknown[0]
	line := lineOf(data, k[len(k)-1])
	if _, ok := v.(*folderConfig); ok && slices.Contains(identityOnly, k[0]) {
		return usage("%s: line %d: %s belongs in the identity file, since it decides trust: a folder that comes from another party must not set it", text.Name(path), line, text.Name(k.String()))
	}
	return usage("%s: line %d: unknown member %s", text.Name(path), line, text.Name(k.String()))
}

// lineOf returns the first line that mentions a name, from 1; 0 if none does.
func lineOf(data []byte, name string) int {
	for i, l := range bytes.Split(data, []byte("\n")) {
		if strings.Contains(string(l), name) {
			return i + 1
		}
	}
	return 0
}

// identityPath returns the path of the identity file and where it comes from.
func (a *app) identityPath() (path, from string, err error) {
	if a.identity != "" {
		return a.identity, "--identity", nil
	}
	if path := a.Getenv("VISUM_IDENTITY"); path != "" {
		return path, "VISUM_IDENTITY", nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", "", fmt.Errorf("no configuration folder: %w; --identity names the file", err)
	}
	return filepath.Join(dir, "visum", "identity.toml"), "the user's configuration folder", nil
}

// readIdentity reads the identity file. Without a file the identity is empty.
func (a *app) readIdentity() (*identity, error) {
	path, _, err := a.identityPath()
	if err != nil {
		return nil, err
	}
	id := &identity{dir: filepath.Dir(path)}
	if err := readTOML(path, id); errors.Is(err, fs.ErrNotExist) {
		return id, nil
	} else if err != nil {
		return nil, err
	}
	for _, r := range id.Repositories {
		if uri.MatchString(r.Ledger) && !strings.HasPrefix(r.Ledger, "s3:") {
			return nil, usage("%s: ledger %s: a ledger is a directory, or s3://BUCKET/PREFIX, that only this party can write; never a branch, which others can read and whose history is replaced", text.Name(path), text.Quote(r.Ledger))
		}
	}
	seen := map[string]bool{}
	for _, k := range id.Keys {
		if k.Label == "" || k.URI == "" || seen[k.Label] {
			return nil, usage("%s: each key needs a uri and a label of its own; see %q", text.Name(path), k.Label)
		}
		seen[k.Label] = true
	}
	return id, id.checkAutomation(path)
}

// uri matches what is no path; one letter is a drive of Windows.
var uri = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

// path returns a path of the identity file as an absolute one, or relative to the
// working directory.
func (id *identity) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(id.dir, p)
}

// readFolder reads visum.toml.
func (a *app) readFolder() (*folderConfig, error) {
	path := filepath.Join(a.folder, folderFile)
	c := &folderConfig{}
	if err := readTOML(path, c); errors.Is(err, fs.ErrNotExist) {
		return nil, usage("no %s in %s: run the command in the folder of the repository, or name it with -C", folderFile, text.Name(a.folder))
	} else if err != nil {
		return nil, err
	}
	if c.Storage == "" {
		return nil, usage("%s: storage is missing: the directory of the repository", text.Name(path))
	}
	seen := map[string]bool{}
	for _, l := range c.Locations {
		if l.ID == "" || l.Storage == "" || seen[l.ID] {
			return nil, usage("%s: each location needs a storage and an id of its own, of the charter; see %s", text.Name(path), text.Quote(l.ID))
		}
		if y := a.place(l.Storage); y == a.place(c.Storage) {
			return nil, usage("%s: location %s: its storage is that of the repository, which needs no copy", text.Name(path), text.Name(l.ID))
		}
		seen[l.ID] = true
	}
	return c, nil
}

const folderFile = "visum.toml"

// writeTOML writes a configuration file that only its owner can change.
func writeTOML(path string, v any) error {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		return err
	}
	return durable.WriteFile(path, b.Bytes(), 0o600)
}

// setting is one effective value and where it comes from.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"`
}

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{Use: "config", Short: "Show each effective value and where it comes from", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			path, from, err := a.identityPath()
			if err != nil {
				return err
			}
			id, err := a.readIdentity()
			if err != nil {
				return err
			}
			settings := []setting{{"identity", path, from}}
			folder, err := a.readFolder()
			if bad := (*usageError)(nil); err != nil && !errors.As(err, &bad) {
				return err
			}
			if folder != nil {
				settings = append(settings, setting{"storage", folder.Storage, folderFile}, setting{"repo_id", folder.RepoID, folderFile})
				if folder.Exchange != "" {
					settings = append(settings, setting{"exchange", folder.Exchange, folderFile})
				}
				for _, l := range folder.Locations {
					settings = append(settings, setting{"location " + l.ID, l.Storage, folderFile})
				}
			}
			for _, r := range id.Repositories {
				if folder == nil || r.RepoID == folder.RepoID {
					settings = append(settings, setting{"party", r.Party, path}, setting{"pin", id.path(r.Pin), path}, setting{"ledger", id.ledger(r), path})
					if len(r.Automation) > 0 {
						settings = append(settings, setting{"automation", strings.Join(r.Automation, ","), path})
					}
				}
			}
			for _, k := range id.Keys {
				settings = append(settings, setting{"key " + k.Label, keys.Redact(k.URI), path})
			}
			var lines []string
			for _, s := range settings {
				lines = append(lines, fmt.Sprintf("%s = %s (%s)", text.Name(s.Name), text.Quote(s.Value), text.Name(s.From)))
			}
			return a.print(map[string]any{"settings": settings}, lines...)
		}}
}
