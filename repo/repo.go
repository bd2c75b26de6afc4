package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/tuf"
)

// Config says who works on the repository and how. Zero fields are safe.
type Config struct {
	// Signers are the keys at hand. Each signs only what its key has a part in.
	Signers []tuf.Signer
	// Review is the name of the reviewing party; "": "review". Stock TUF clients
	// are led to its roles, and the pin names its keys.
	Review string
	// Expiry says how long what is signed stays valid.
	Expiry Expiry
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// UnsafeLoopback lets locations be http:// on this machine. For development and tests.
	UnsafeLoopback bool
}

// Expiry is how long each kind of metadata stays valid. Zero: the default.
type Expiry struct {
	Root      time.Duration // 365 days
	Targets   time.Duration // 365 days; targets.json, which only stock clients read
	Release   time.Duration // 30 days; the parties' roles
	Snapshot  time.Duration // 7 days
	Timestamp time.Duration // 1 day
}

// Repo is a handle on a repository. It keeps nothing in memory between calls;
// any number of handles and processes may work on one Storage. Its methods may
// be called by several goroutines.
type Repo struct {
	storage Storage
	cfg     Config
}

// New returns a handle on the repository in a Storage, which may still be empty:
// then the first Update or Stage must say who the parties are. cfg may be nil
// and is copied.
func New(storage Storage, cfg *Config) *Repo {
	r := &Repo{storage: storage}
	if cfg != nil {
		r.cfg = *cfg
		r.cfg.Signers = slices.Clone(cfg.Signers)
	}
	if r.cfg.Now == nil {
		r.cfg.Now = time.Now
	}
	if r.cfg.Review == "" {
		r.cfg.Review = "review"
	}
	const day = 24 * time.Hour
	e := &r.cfg.Expiry
	for _, d := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&e.Root, 365 * day}, {&e.Targets, 365 * day}, {&e.Release, 30 * day}, {&e.Snapshot, 7 * day}, {&e.Timestamp, day}} {
		if *d.to <= 0 {
			*d.to = d.def
		}
	}
	return r
}

// now is the time in whole seconds: some clients refuse fractions.
func (r *Repo) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Second) }

// maxRoots bounds the chain that is read.
const maxRoots = 1 << 16

// present is the repository as it is published.
type present struct {
	root      *tuf.Root // newest; nil in an empty repository
	timestamp []byte    // nil before the first content
	snapshot  []byte
	ts        *tuf.Timestamp
	snap      *tuf.Snapshot
	roles     map[string]*metadata.Metadata[metadata.TargetsType]
	under     *tuf.Root // the root that the content was published under
}

// load reads the repository from its first root on and verifies all but dates:
// what has expired is there to be renewed.
func (r *Repo) load(ctx context.Context) (*present, error) {
	p := &present{roles: map[string]*metadata.Metadata[metadata.TargetsType]{}}
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 {
		p.root = chain[len(chain)-1]
	}
	if p.root == nil {
		return p, nil
	}
	if p.root.Charter() == nil {
		return nil, errors.New("repo: root has no charter: a plain TUF repository can't be edited with this package")
	}
	if p.timestamp, err = r.storage.Read(ctx, timestampName); errors.Is(err, fs.ErrNotExist) {
		return p, nil
	} else if err != nil {
		return nil, err
	}
	// A publish may have been cut off between a new root and its content: then
	// the content is still that of an older root.
	var why error
	for _, root := range slices.Backward(chain) {
		if err = r.loadContent(ctx, p, root); err == nil {
			p.under = root
			return p, nil
		}
		if !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
		if why == nil {
			why = err
		}
	}
	return nil, fmt.Errorf("repo: what is published fits no root: %w", why)
}

// longAgo is a time at which nothing has expired yet.
var longAgo = time.Unix(0, 0)

// loadContent opens what is published under root, whatever its dates.
func (r *Repo) loadContent(ctx context.Context, p *present, root *tuf.Root) error {
	var err error
	if p.ts, err = root.Timestamp(p.timestamp, nil, longAgo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	f := p.ts.SnapshotFile()
	if p.snapshot, err = r.storage.Read(ctx, roleName(f.Role, f.Version)); err != nil {
		return err
	}
	if p.snap, err = p.ts.Snapshot(p.snapshot, nil); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	files := map[string][]byte{}
	if err := r.verify(ctx, p.snap, files, nil); err != nil {
		return err
	}
	for role, data := range files {
		if p.roles[role], err = metadata.Targets().FromBytes(data); err != nil {
			return fmt.Errorf("repo: %s: %w", role, err)
		}
	}
	return nil
}

// verify opens every role of a snapshot's classes, and targets, as a client
// would, taking files that are not published yet from fresh, by storage name.
// Into seen, where given, go the bytes of the roles.
func (r *Repo) verify(ctx context.Context, snap *tuf.Snapshot, seen, fresh map[string][]byte) error {
	get := func(f tuf.RoleFile) ([]byte, error) {
		name := roleName(f.Role, f.Version)
		data, ok := fresh[name]
		if !ok {
			var err error
			if data, err = r.storage.Read(ctx, name); err != nil {
				return nil, err
			}
		}
		if seen != nil {
			seen[f.Role] = data
		}
		return data, nil
	}
	f, err := snap.RoleFile("targets")
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	data, err := get(f)
	if err != nil {
		return err
	}
	if _, err := snap.Targets(data); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if err := snap.OpenRoles(get); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return nil
}

// listed returns the version of a role that the snapshot lists, 0 where none.
func (p *present) listed(role string) int64 {
	if p.snap == nil {
		return 0
	}
	f, err := p.snap.RoleFile(role)
	if err != nil {
		return 0
	}
	return f.Version
}

// serves reports whether the present timestamp and snapshot are good under a
// root: whether its keys signed them and its floors let them pass.
func (p *present) serves(root *tuf.Root) bool {
	ts, err := root.Timestamp(p.timestamp, nil, longAgo)
	if err != nil {
		return false
	}
	_, err = ts.Snapshot(p.snapshot, nil)
	return err == nil
}

const timestampName = "metadata/timestamp.json"

func rootName(n int64) string { return roleName("root", n) }

func roleName(role string, version int64) string {
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}
