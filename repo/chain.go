package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Chain returns the published roots, from the first on, each verified as the
// successor of the one before; none in an empty repository. Where a recovery
// stands in for an ordinary successor, and the repository has gone on with the
// root that it names, that root is in the chain.
func (r *Repo) Chain(ctx context.Context) (_ []*tuf.Root, err error) {
	defer oneLine(&err)
	c, err := r.readChain(ctx)
	if err != nil {
		return nil, err
	}
	return c.roots, nil
}

// File is a file in storage.
type File struct {
	Name string // as [CheckName] allows
	Data []byte // the caller's
}

// RootFiles are the files by which clients come from the first root to the
// newest, in the order in which they may be written: N.root.json, and for roots
// that were recovered to the statement after the root that it names.
func (r *Repo) RootFiles(ctx context.Context) (_ []File, err error) {
	defer oneLine(&err)
	c, err := r.readChain(ctx)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, root := range c.roots {
		v := root.Version()
		if f, ok := c.recovered[v]; ok {
			files = append(files, File{f.names[1], f.data[1]}, File{f.names[0], f.data[0]})
		} else {
			files = append(files, File{rootName(v), root.Bytes()})
		}
	}
	return files, nil
}

// chain is what leads from the first root to the newest.
type chain struct {
	roots     []*tuf.Root
	recovered map[int64]recoveryFiles // by the version that was recovered to
	ordinary  int64                   // version of the newest that was not
	junk      error                   // why something where a recovery would lie is none; nil: there is nothing such
	timestamp []byte                  // by which it was decided whether to end with a recovery; nil: there was nothing to decide
}

// readChain reads the roots from the first on, and what recoveries lead on
// where there is no ordinary one.
func (r *Repo) readChain(ctx context.Context) (*chain, error) {
	c := &chain{recovered: map[int64]recoveryFiles{}}
	for n := int64(1); ; n++ {
		if n == maxRoots {
			return nil, fmt.Errorf("repo: more than %d roots", maxRoots)
		}
		data, err := readFrom(ctx, SourceOf(r.storage), rootName(n), tuf.Limits{}.WithDefaults().Root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var root *tuf.Root
		var f recoveryFiles
		switch {
		case n == 1 && err != nil:
			return c, nil
		case n == 1:
			root, err = tuf.OpenRoot(data, r.judge())
		case err == nil:
			root, err = c.roots[n-2].Next(data)
		default:
			f, err = recoveryOf(ctx, SourceOf(r.storage), c.roots[n-2])
			if errors.Is(err, tuf.ErrUntrusted) {
				// Whoever can write junk in its place could as well remove it.
				c.junk, err = fmt.Errorf("%s: %w", text.Name(f.names[0]), err), nil
			}
			if err == nil && f.rec == nil {
				return c, r.endChain(ctx, c)
			}
			if err == nil {
				root, err = f.root()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("repo: %w", err)
		}
		c.roots = append(c.roots, root)
		if f.rec != nil {
			c.recovered[n] = f
		} else {
			c.ordinary = n
		}
	}
}

// endChain drops recovered roots that the repository has not gone on with: those
// at the end whose keys have not signed the timestamp. Until then a recovery is a
// proposal, which any ordinary root beats.
func (r *Repo) endChain(ctx context.Context, c *chain) error {
	if int64(len(c.roots)) == c.ordinary {
		return nil
	}
	var err error
	if c.timestamp, err = r.storage.Read(ctx, timestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := int64(len(c.roots)); n > c.ordinary; n-- {
		if _, err := c.roots[n-1].Timestamp(c.timestamp, nil, longAgo); err == nil {
			break
		}
		delete(c.recovered, n)
		c.roots = c.roots[:n-1]
	}
	return nil
}

// recoverable returns the root whose quorum is lost.
func (c *chain) recoverable(version int64) (*tuf.Root, error) {
	switch last := int64(len(c.roots)); {
	case last == 0:
		return nil, errors.New("repo: the repository is empty")
	case version == 0:
		return c.roots[last-1], nil
	case version < 1 || version > last:
		return nil, fmt.Errorf("repo: there is no root v%d, the newest is v%d", version, last)
	case version < c.ordinary:
		return nil, fmt.Errorf("repo: root v%d has an ordinary successor: %w", version, ErrConflict)
	case version < last-1:
		return nil, fmt.Errorf("repo: root v%d was recovered from, and the root after it too: %w", version, ErrConflict)
	}
	return c.roots[version-1], nil
}

// recovery returns a recovered root and the one it follows; of version 0, the
// newest such.
func (c *chain) recovery(version int64) (tip, next *tuf.Root, err error) {
	for i := len(c.roots) - 1; i > 0; i-- {
		if _, ok := c.recovered[int64(i+1)]; ok && (version == 0 || version == int64(i)) {
			return c.roots[i-1], c.roots[i], nil
		}
	}
	return nil, nil, fmt.Errorf("repo: root v%d was not recovered from: %w", version, fs.ErrNotExist)
}
