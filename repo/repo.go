package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Config says who works on the repository and how. Zero fields are safe.
type Config struct {
	// Pin is the trust anchor: a pin of this repository, or the bytes of any of its
	// roots that the holder knows to be genuine. Every call verifies the chain of
	// roots from it; a chain without exactly that root is an error that wraps
	// [tuf.ErrUntrusted]. A newer root that the Ledger has seen must be in the chain
	// too. Empty: the Ledger's newest root is the anchor; where that is empty as
	// well an empty storage may be given its first root, and every other call fails
	// with [ErrNoPin].
	Pin []byte
	// Ledger is this signer's memory, which is needed to sign anything beyond the
	// first root. nil: a ledger in memory that ends with the handle.
	Ledger Ledger
	// SharedLedger declares that every machine that signs the same roles uses the
	// same Ledger. A handle with Automation needs it where others hold keys of a
	// role that it signs.
	SharedLedger bool
	// Automation limits what this handle signs without a person; nil: a person
	// looks at what is signed, with [Repo.Diff].
	Automation *Automation
	// Party is the name of the own party: [Repo.Adopt] and the digest of
	// [ErrNoLedger] cover its roles. "": all roles that root names.
	Party string
	// ClockTolerance is how far ahead of this machine's clock signed_at of a root
	// may be when it is signed; 0: 5 minutes, at most 24 hours. Publishing always
	// allows 5 minutes.
	ClockTolerance time.Duration
	// UnsafeTrustStorage takes the first root in the storage for genuine where there
	// is neither a Pin nor a record in the Ledger, and fills an empty Ledger with
	// what is published. For fixtures of tests: whoever can write the storage
	// decides what is signed.
	UnsafeTrustStorage bool
	// Signers are the keys at hand. Each signs only what its key has a part in.
	Signers []tuf.Signer
	// Review is the name of the reviewing party; "": "review". Stock TUF clients
	// are led to its roles, and the pin names its keys.
	Review string
	// Expiry says how long what is signed stays valid.
	Expiry Expiry
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Bridge is the other generation of keys during a cut-over; nil: there is none.
	Bridge *Bridge
	// Progress is told how far a long call is; nil: nobody is. It is called from the
	// call's own goroutine, which goes on when it returns.
	Progress func(Progress)
	// Skipped is told of each target that [Repo.Clone] or [Repo.Bundle] passes over,
	// with the reason, as Progress is; nil: nobody is.
	Skipped func(Finding)
	// Labels are what people call keys, by key id: [Repo.Diff] and [Missing] show a key
	// by its label and the first digits of its id.
	Labels map[string]string
	// UnsafeLoopback lets locations be http:// on this machine. For development and tests.
	UnsafeLoopback bool
}

// Bridge lets metadata carry the signatures of two generations of keys, so that
// clients on either side of a cut-over take it: whatever Update, Stage, Publish
// and Refresh sign is also signed by those of Signers whose keys have a part in
// the same role under Root. The root that is published counts none of them, and
// no root is ever signed so.
type Bridge struct {
	Root    *tuf.Root // the one before, or the next one, which may be unpublished
	Signers []tuf.Signer
}

// Expiry is how long each kind of metadata stays valid. Zero: the default.
type Expiry struct {
	Root      time.Duration // 365 days
	Targets   time.Duration // 365 days; targets.json, which only stock clients read
	Release   time.Duration // 30 days; the parties' roles
	Snapshot  time.Duration // 7 days
	Timestamp time.Duration // 1 day
	Recovery  time.Duration // 365 days; recovery statements, longer than clients wait
}

// Repo is a handle on a repository. It keeps nothing in memory between calls;
// any number of handles and processes may work on one Storage. Its methods may
// be called by several goroutines.
type Repo struct {
	storage Storage
	ledger  Ledger
	pinned  *pinned
	cfg     Config
}

// with is the handle on another storage.
func (r *Repo) with(s Storage) *Repo { return &Repo{s, r.ledger, r.pinned, r.cfg} }

// New returns a handle on the repository in a Storage, which may still be empty:
// then the first Update or Stage must say who the parties are. cfg may be nil
// and is copied.
func New(storage Storage, cfg *Config) *Repo {
	r := &Repo{storage: storage, pinned: &pinned{}}
	if cfg != nil {
		r.cfg = *cfg
		r.cfg.Signers = slices.Clone(cfg.Signers)
		r.cfg.Pin = bytes.Clone(cfg.Pin)
	}
	if r.ledger = r.cfg.Ledger; r.ledger == nil {
		r.ledger = MemLedger()
	}
	if r.cfg.ClockTolerance <= 0 {
		r.cfg.ClockTolerance = publishTolerance
	}
	r.cfg.ClockTolerance = min(r.cfg.ClockTolerance, 24*time.Hour)
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
	}{{&e.Root, 365 * day}, {&e.Targets, 365 * day}, {&e.Release, 30 * day}, {&e.Snapshot, 7 * day}, {&e.Timestamp, day}, {&e.Recovery, 365 * day}} {
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
	chain     *chain
	root      *tuf.Root // newest; nil in an empty repository
	timestamp []byte    // nil before the first content
	snapshot  []byte
	ts        *tuf.Timestamp
	snap      *tuf.Snapshot
	under     *tuf.Root // the root that the content was published under
	book      *book     // the ledger's document, as it was when this was read; nil for an empty storage
}

// load reads the repository from the trust anchor on and verifies all but dates:
// what has expired is there to be renewed. Where another process publishes or
// prunes meanwhile, it reads again.
func (r *Repo) load(ctx context.Context) (*present, error) {
	var before []byte // the timestamp at the time before
	for n := range maxReads {
		p := &present{}
		err := r.loadOnce(ctx, p)
		if err == nil {
			r.note(ctx, p)
			return p, nil
		}
		// A fault of the storage is the caller's to hear of.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
		if p.timestamp == nil { // it was not read yet
			now, again := r.storage.Read(ctx, timestampName)
			if again != nil || n > 0 && bytes.Equal(now, before) {
				return nil, err
			}
			before = now
			continue
		}
		if moved, again := r.moved(ctx, p); again != nil || !moved {
			return nil, err
		}
	}
	return nil, errBusy
}

// maxReads bounds how often what is published is read again because somebody
// published meanwhile.
const maxReads = 10

var errBusy = fmt.Errorf("repo: %w, %d times while this was read", ErrConflict, maxReads)

// moved reports whether something was published since p was read.
func (r *Repo) moved(ctx context.Context, p *present) (bool, error) {
	now, err := r.storage.Read(ctx, timestampName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !bytes.Equal(now, p.timestamp) || p.root == nil {
		return !bytes.Equal(now, p.timestamp), nil
	}
	_, err = r.storage.Read(ctx, rootName(p.root.Version()+1))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read returns a metadata file that p lists. Where it is gone because p is no
// longer what is published, the error wraps [ErrConflict].
func (r *Repo) read(ctx context.Context, p *present, f tuf.RoleFile) ([]byte, error) {
	name := roleName(f.Role, f.Version)
	data, err := r.storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if moved, again := r.moved(ctx, p); again == nil && moved {
			return nil, fmt.Errorf("repo: %s is gone: %w", text.Name(name), ErrConflict)
		}
	}
	return data, err
}

func (r *Repo) loadOnce(ctx context.Context, p *present) error {
	a, err := r.anchor(ctx)
	if err != nil {
		return err
	}
	p.book = a.book
	if p.chain, err = r.readChain(ctx, a); err != nil {
		return err
	}
	if len(p.chain.roots) == 0 {
		if a.book != nil && a.book.body.Published {
			return a.differs(p.chain, a.book.points()[0])
		}
		return nil
	}
	p.root = p.chain.last()
	if p.root.Charter() == nil {
		return fmt.Errorf("repo: %w", errNoCharter)
	}
	// What has decided where the chain ends, or the two might not fit together.
	if p.timestamp = p.chain.timestamp; p.timestamp == nil {
		if p.timestamp, err = r.storage.Read(ctx, timestampName); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	// A publish may have been cut off between a new root and its content: then
	// the content is still that of an older root.
	var why error
	for _, root := range slices.Backward(p.chain.roots) {
		if err = r.loadContent(ctx, p, root); err == nil {
			p.under = root
			return nil
		}
		if !errors.Is(err, tuf.ErrUntrusted) {
			return err
		}
		if why == nil {
			why = err
		}
	}
	if p.chain.junk != nil {
		return fmt.Errorf("repo: what is published fits no root: %w; perhaps for this: %w", why, p.chain.junk)
	}
	return fmt.Errorf("repo: what is published fits no root: %w", why)
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
	return openRoles(p.snap, func(f tuf.RoleFile) ([]byte, error) { return r.storage.Read(ctx, roleName(f.Role, f.Version)) })
}

// openRoles opens what a snapshot lists of the roles that root names, as a
// client would: targets, the parties' roles and the holds.
func openRoles(snap *tuf.Snapshot, get tuf.Fetch) error {
	if _, err := snap.Role("targets", get); err != nil {
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

// fileName is where a file lies that timestamp or snapshot list, in a repository of
// any kind.
func fileName(f tuf.RoleFile) string { return "metadata/" + f.Name() }

func roleName(role string, version int64) string {
	return fmt.Sprintf("metadata/%d.%s.json", version, role)
}
