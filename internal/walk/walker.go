// Package walk walks a whole repository in a source, verifies what clients would open,
// and copies it. It needs no key and no state.
package walk

import (
	"context"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Walker walks a whole repository in a source, from a pin on, in the order of the
// client workflow (TUF 5), and verifies with package tuf what clients would open. It
// holds one branch of the delegations in memory.
type Walker struct {
	Source  storage.Source
	Options *tuf.Options
	Now     time.Time // time for the expiry checks; zero: no checks
	// RootsOnly skips everything but the roots.
	RootsOnly bool

	// Opened is called when the newest timestamp and snapshot are known; may be nil.
	Opened func(ctx context.Context, timestamp, snapshot []byte) error
	// Metadata is called once for each verified metadata file, in the order of
	// publishing; Role is called before it with what a role file lists.
	Metadata func(ctx context.Context, name string, data []byte) error
	Role     func(ctx context.Context, name string, t *tuf.Targets) error
	// Found is called for each fault. If it returns an error, the walk ends; otherwise
	// it continues with the files that can still be checked.
	Found func(Fault) error
	// Recovery is called with the files in metadata/recovery for each root that a
	// recovery follows or may follow; may be nil.
	Recovery func(context.Context, chain.Recovery) error

	// Results of the walk: what clients open, and the root that verifies it; nil: it
	// could not be opened.
	Timestamp *tuf.Timestamp
	Snapshot  *tuf.Snapshot
	Under     *tuf.Root
	Roles     int // role files that verified
	// Recoveries by the version of the root before them. At the end of the chain, a
	// recovery counts only if content is signed under it.
	Recoveries map[int64]chain.Recovery

	chain []*tuf.Root // the verified roots, in order; the last is the newest
	// believed is the index in chain from which roots are trusted: that of the pin's
	// root, or of the oldest root to which prev_root_sha256 leads back from there.
	believed  int
	regular   int64  // version of the newest root that is not a recovery root
	absent    int64  // version of the first absent root; 0: the walk of the roots ended with a fault
	timestamp []byte // as read; nil if there was none
	looked    bool   // the timestamp was read or is absent
	limits    tuf.Limits
	done      map[string]bool
	listed    []string        // the roles that the snapshot lists, sorted
	own       map[string]bool // the roles that the root names
}

// report makes a finding of an error.
func (s *Walker) report(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.Found(Fault{KindOf(err), name, err.Error(), err})
}

// dated reports an expired file.
func (s *Walker) dated(name string, expires time.Time) error {
	if s.Now.IsZero() || s.Now.Before(expires) {
		return nil
	}
	return s.Found(Fault{Expired, name, "since " + text.Time(expires), tuf.ErrExpired})
}

// Run walks everything; pinned is the trusted root.
func (s *Walker) Run(ctx context.Context, pinned *tuf.Root) error {
	s.done = map[string]bool{}
	s.limits = s.Options.Limits.WithDefaults()
	roots, err := s.walkRoots(ctx, pinned)
	if err != nil {
		return err
	}
	var timestamp, snapshot []byte
	if !s.RootsOnly {
		if timestamp, snapshot, err = s.openContent(ctx); err != nil {
			return err
		}
	}
	if s.Snapshot != nil && s.Opened != nil {
		if err := s.Opened(ctx, timestamp, snapshot); err != nil {
			return err
		}
	}
	if s.Snapshot != nil {
		if err := s.walkRoles(ctx); err != nil {
			return err
		}
		if err := s.Metadata(ctx, layout.MetadataName(s.Timestamp.SnapshotFile().Name()), snapshot); err != nil {
			return err
		}
	}
	last := s.Newest().Version()
	for v := range s.Recoveries {
		last = max(last, v)
	}
	for n := int64(1); n <= last; n++ {
		if data, ok := roots[n]; ok {
			if err := s.Metadata(ctx, layout.RootName(n), data); err != nil {
				return err
			}
		}
		if f, ok := s.Recoveries[n]; ok && s.Recovery != nil {
			if err := s.Recovery(ctx, f); err != nil {
				return err
			}
		}
	}
	if s.Snapshot == nil {
		return nil
	}
	return s.Metadata(ctx, layout.TimestampName, timestamp)
}

// Newest returns the newest root that is in use.
func (s *Walker) Newest() *tuf.Root { return s.chain[len(s.chain)-1] }
