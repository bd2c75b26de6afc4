// Package chain reads what a storage or a mirror has of a root chain: the roots, the
// recoveries that replace regular successors, and the statements that reviewers store
// alongside target files.
package chain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Chain is the root chain in the storage.
type Chain struct {
	Roots     []*tuf.Root        // verified, in order of versions, without a gap
	Older     []storage.File     // the roots before them, which are not verified
	Recovered map[int64]Recovery // by the version of the recovered root
	Regular   int64              // version of the newest regular root
	Invalid   error              // why the files with the names of a recovery are invalid; nil: there are none
	Timestamp []byte             // used to decide whether a recovery is in use; nil: no decision was needed
}

// Last returns the newest root; there must be one.
func (c *Chain) Last() *tuf.Root { return c.Roots[len(c.Roots)-1] }

// At returns the root with a version, nil if it is not in the chain.
func (c *Chain) At(version int64) *tuf.Root {
	if len(c.Roots) == 0 || version < c.Roots[0].Version() || version > c.Last().Version() {
		return nil
	}
	return c.Roots[version-c.Roots[0].Version()]
}

// Files returns the files of one root of the chain.
func (c *Chain) Files(root *tuf.Root) []storage.File {
	v := root.Version()
	if f, ok := c.Recovered[v]; ok {
		return []storage.File{{Name: f.Names[1], Data: f.Data[1]}, {Name: f.Names[0], Data: f.Data[0]}}
	}
	return []storage.File{{Name: layout.RootName(v), Data: root.Bytes()}}
}

// Read reads the roots in a storage, and follows recoveries if there is no regular
// successor. from is the version of the root with which trust begins, 0 for the first
// root in the storage. The caller compares that root with the trusted one. The chain is
// empty if the storage is. If there are only other roots, the error is [ErrAbsent], with
// the chain of those.
func Read(ctx context.Context, s storage.Storage, opt *tuf.Options, from int64) (*Chain, error) {
	r := reading{s, opt}
	c, err := r.fromFirst(ctx, from)
	if err != nil || len(c.Roots) == 0 {
		return c, err
	}
	if err := r.follow(ctx, c, MaxRoots); err != nil {
		return nil, err
	}
	return c, r.endChain(ctx, c)
}

// ErrAbsent: the storage has roots, but not the one with which trust begins.
var ErrAbsent = errors.New("the trusted root is not in the storage")

type reading struct {
	s   storage.Storage
	opt *tuf.Options
}

// fromFirst reads the chain up to the root from, where trust begins. A valid forward walk from
// an older root to that root does not authenticate the older one: an attacker can forge
// an older root, and add signatures of the forged root's keys to the genuine successor.
// So older roots are trusted only if prev_root_sha256 of their successor names them.
func (r reading) fromFirst(ctx context.Context, from int64) (*Chain, error) {
	c := &Chain{Recovered: map[int64]Recovery{}}
	first, err := r.readRoot(ctx, 1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, tuf.ErrUntrusted) {
		return nil, err
	}
	if from == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			return c, nil
		}
		if err == nil {
			c.add(first, Recovery{})
		}
		return c, err
	}
	if err == nil {
		c.add(first, Recovery{})
		if err := r.follow(ctx, c, from); err != nil && !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
	}
	root := c.At(from)
	if root == nil { // older roots are missing or damaged, which is permitted
		if root, err = r.readRoot(ctx, from); errors.Is(err, fs.ErrNotExist) && len(c.Roots) == 0 {
			return c, nil
		} else if errors.Is(err, fs.ErrNotExist) {
			return c, ErrAbsent
		} else if err != nil {
			return nil, err
		}
	}
	// The caller compares this root with the trusted one.
	believed := []*tuf.Root{root}
	for root.Charter() != nil {
		before := c.At(root.Version() - 1)
		if before == nil || before.SHA256() != root.Charter().PrevRoot() {
			break
		}
		root = before
		believed = append([]*tuf.Root{root}, believed...)
	}
	return r.older(ctx, c, believed)
}

// older returns the chain of the trusted roots, with the files of the roots before them.
func (r reading) older(ctx context.Context, walked *Chain, believed []*tuf.Root) (*Chain, error) {
	c := &Chain{Recovered: map[int64]Recovery{}, Invalid: walked.Invalid}
	for n := int64(1); n < believed[0].Version(); n++ {
		if root := walked.At(n); root != nil {
			c.Older = append(c.Older, walked.Files(root)...)
			continue
		}
		data, err := storage.ReadAll(ctx, storage.SourceOf(r.s), layout.RootName(n), r.rootLimit())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, tuf.ErrTooLarge) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.Older = append(c.Older, storage.File{Name: layout.RootName(n), Data: data})
	}
	for _, root := range believed {
		c.add(root, walked.Recovered[root.Version()])
	}
	return c, nil
}

// add appends a root, with the files of its recovery if it is a recovered root.
func (c *Chain) add(root *tuf.Root, f Recovery) {
	c.Roots = append(c.Roots, root)
	if f.Statement != nil {
		c.Recovered[root.Version()] = f
	} else {
		c.Regular = root.Version()
	}
}

func (r reading) rootLimit() int64 { return r.opt.Limits.WithDefaults().Root }

// readRoot reads a root and verifies only its own signatures.
func (r reading) readRoot(ctx context.Context, version int64) (*tuf.Root, error) {
	data, err := storage.ReadAll(ctx, storage.SourceOf(r.s), layout.RootName(version), r.rootLimit())
	if err != nil {
		return nil, err
	}
	root, err := tuf.OpenRoot(data, r.opt)
	if err == nil && root.Version() != version {
		err = &tuf.Error{Role: "root", Version: root.Version(), Err: tuf.ErrVersion, Detail: fmt.Sprintf("the file must contain root v%d", version)}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", layout.RootName(version), err)
	}
	return root, nil
}

// follow appends the successors of the chain's last root up to the version until.
func (r reading) follow(ctx context.Context, c *Chain, until int64) error {
	for c.Last().Version() < until {
		last := c.Last()
		n := last.Version() + 1
		if n == MaxRoots {
			return fmt.Errorf("more than %d roots", MaxRoots)
		}
		data, err := storage.ReadAll(ctx, storage.SourceOf(r.s), layout.RootName(n), r.rootLimit())
		var root *tuf.Root
		var f Recovery
		switch {
		case err == nil:
			root, err = last.Next(data)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		default:
			f, err = RecoveryOf(ctx, storage.SourceOf(r.s), last)
			if errors.Is(err, tuf.ErrUntrusted) {
				// An invalid recovery is ignored: an attacker who can write it could also
				// remove a valid one.
				c.Invalid, err = fmt.Errorf("%s: %w", text.Name(f.Names[0]), err), nil
				f.Statement = nil
			}
			if err == nil && f.Statement == nil {
				return nil
			}
			if err == nil {
				root, err = f.Root()
			}
		}
		if err != nil && f.Statement == nil {
			return fmt.Errorf("%s: %w", layout.RootName(n), err)
		}
		if err != nil {
			return err
		}
		c.add(root, f)
	}
	return nil
}

// endChain drops recovered roots that are not in use: those at the end of the chain whose
// keys have not signed the timestamp. Until then a recovery is a proposal, and any
// regular root takes precedence.
func (r reading) endChain(ctx context.Context, c *Chain) error {
	if c.Last().Version() == c.Regular {
		return nil
	}
	var err error
	if c.Timestamp, err = r.s.Read(ctx, layout.TimestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := c.Last().Version(); n > c.Regular && len(c.Roots) > 1; n-- {
		if _, err := c.Last().Timestamp(c.Timestamp, nil, LongAgo); err == nil {
			break
		}
		delete(c.Recovered, n)
		c.Roots = c.Roots[:len(c.Roots)-1]
	}
	return nil
}
