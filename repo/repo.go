package repo

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Repo is a handle on a repository. Between calls of [Repo.Update] it keeps metadata files
// that never change, at most 8 MiB; other calls cache no metadata. Any number of handles and processes may use one Storage. Its methods are safe for concurrent use.
type Repo struct {
	storage storage.Storage
	ledger  signing.Ledger
	pinned  *pinned
	cfg     Config
	heals   [][]byte // the roots of the fork that the current draft heals; nil: none
	warm    *warmth  // for Update
	updates bool     // the handle is that of one call of Update
}

// with returns the handle with another storage.
func (r *Repo) with(s storage.Storage) *Repo {
	return &Repo{s, r.ledger, r.pinned, r.cfg, r.heals, r.warm, false}
}

// New returns a handle on the repository in a Storage. If the storage is empty, the
// first Update or Stage must define the parties. cfg may be nil and is copied.
func New(storage storage.Storage, cfg *Config) *Repo {
	r := &Repo{storage: storage, pinned: &pinned{}, warm: &warmth{}}
	if cfg != nil {
		r.cfg = *cfg
		r.cfg.Signers = slices.Clone(cfg.Signers)
		r.cfg.Pin = bytes.Clone(cfg.Pin)
	}
	if r.ledger = r.cfg.Ledger; r.ledger == nil {
		r.ledger = signing.MemLedger()
	}
	if r.cfg.ClockTolerance <= 0 {
		r.cfg.ClockTolerance = chain.ClockTolerance
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

// now is the time in whole seconds, because some clients refuse fractions.
func (r *Repo) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Second) }

// pinned is Config.Pin, opened once.
type pinned struct {
	once sync.Once
	root *tuf.Root
	err  error
}

// tufOptions returns the options to open metadata. Snapshots of earlier versions list
// no lengths; the next snapshot does, so files of any permitted size are read here.
func (r *Repo) tufOptions() *tuf.Options {
	o := &tuf.Options{UnsafeLoopback: r.cfg.UnsafeLoopback}
	o.Limits.Unlisted = o.Limits.WithDefaults().Targets
	return o
}

func (r *Repo) progress(p storage.Progress) {
	if r.cfg.Progress != nil {
		r.cfg.Progress(p)
	}
}

// ahead is [chain.Ahead] of a root by the handle's clock.
func (r *Repo) ahead(root tuf.RootView) time.Duration { return chain.Ahead(root.Charter(), r.now()) }

// oneHour is how much earlier than the replaced metadata new metadata may expire.
const oneHour = time.Hour

// Storage is [storage.Storage]: it holds the files of a repository.
type Storage = storage.Storage

// Folder is [storage.Dir]: a repository in a directory of the file system.
func Folder(dir string) Storage { return storage.Dir(dir) }

// DirLedger is [signing.DirLedger]: the signer's own record in a directory.
func DirLedger(dir string) signing.Ledger { return signing.DirLedger(dir) }
