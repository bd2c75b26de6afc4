package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Chain returns the published roots in order, each verified as the successor of its
// predecessor (TUF section 5.3); none for an empty repository. If the trust anchor is
// not root 1, the chain includes roots before the anchor only as far as
// prev_root_sha256 names them, because other older roots are not authenticated. If a
// recovery replaces a regular successor, the chain includes the recovered root once the
// repository uses it.
func (r *Repo) Chain(ctx context.Context) (_ []*tuf.Root, err error) {
	defer text.OneLine(&err)
	a, err := r.anchor(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.readChain(ctx, a)
	if err != nil {
		return nil, err
	}
	return c.Roots, nil
}

// RootFiles returns the files of the root chain that clients need, in a safe order for
// writing: N.root.json, and for recovered roots first the root and then the recovery
// statement that names it. It includes the roots before the first of [Repo.Chain],
// which are not verified.
func (r *Repo) RootFiles(ctx context.Context) (_ []storage.File, err error) {
	defer text.OneLine(&err)
	a, err := r.anchor(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.readChain(ctx, a)
	if err != nil {
		return nil, err
	}
	files := c.Older
	for _, root := range c.Roots {
		files = append(files, c.Files(root)...)
	}
	return files, nil
}

// readChain reads the chain of published roots and checks that it contains the anchor's
// roots. It is empty if the storage is.
func (r *Repo) readChain(ctx context.Context, a *anchor) (*chain.Chain, error) {
	from := int64(0)
	if len(a.points) > 0 {
		from = a.points[0].version
	}
	c, err := chain.Read(ctx, r.storage, r.tufOptions(), from)
	if errors.Is(err, chain.ErrAbsent) {
		return nil, a.differs(c, a.points[0])
	}
	if err != nil {
		return nil, fmt.Errorf("repo: %w", err)
	}
	if len(c.Roots) == 0 {
		return c, nil
	}
	return c, a.check(c)
}

// behindRoot returns the reason why a draft's root is not the next one.
func (f *draftFile) behindRoot(c *chain.Chain) error {
	if root := c.At(f.version); root != nil && root.SHA256() == metafile.SHA256(f.signed) {
		return fmt.Errorf("root v%d: %w", f.version, ErrPublished)
	}
	newest := int64(0)
	if len(c.Roots) > 0 {
		newest = c.Last().Version()
	}
	return fmt.Errorf("%w: root v%d is published, the draft is v%d after v%d", staleOr(newest, f.base), newest, f.version, f.base)
}

// recoverable returns the root that a recovery follows, because its threshold can't be
// met any more; with version 0, the newest root.
func recoverable(c *chain.Chain, version int64) (*tuf.Root, error) {
	if len(c.Roots) == 0 {
		return nil, errEmpty
	}
	switch last := c.Last().Version(); {
	case version == 0:
		return c.Last(), nil
	case c.At(version) == nil:
		return nil, fmt.Errorf("repo: there is no root v%d, the newest is v%d", version, last)
	case version < c.Regular:
		return nil, fmt.Errorf("repo: %w: root v%d has a regular successor", ErrStale, version)
	case version < last-1:
		return nil, fmt.Errorf("repo: %w: root v%d has a recovered successor, which has one too", ErrStale, version)
	}
	return c.At(version), nil
}

// recoveryAt returns the recovered root next and its predecessor, which has the given
// version; with version 0, the newest such pair.
func recoveryAt(c *chain.Chain, version int64) (before, next *tuf.Root, err error) {
	for i := len(c.Roots) - 1; i > 0; i-- {
		before, next = c.Roots[i-1], c.Roots[i]
		if _, ok := c.Recovered[next.Version()]; ok && (version == 0 || version == before.Version()) {
			return before, next, nil
		}
	}
	return nil, nil, fmt.Errorf("repo: root v%d has no recovered successor: %w", version, fs.ErrNotExist)
}

// point is one root that must be in the chain.
type point struct {
	version int64
	sha256  string
	whose   string // "pin" or "ledger", for error texts
}
