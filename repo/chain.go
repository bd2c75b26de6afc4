package repo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/visum-dev/visum/internal/layout"
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
	defer oneLine(&err)
	a, err := r.anchor(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.readChain(ctx, a)
	if err != nil {
		return nil, err
	}
	return c.roots, nil
}

// RootFile is a file in storage that contains a root or a recovery statement.
type RootFile struct {
	Name string // valid for [storage.CheckName]
	Data []byte // owned by the caller
}

// RootFiles returns the files of the root chain that clients need, in a safe order for
// writing: N.root.json, and for recovered roots first the root and then the recovery
// statement that names it. It includes the roots before the first of [Repo.Chain],
// which are not verified.
func (r *Repo) RootFiles(ctx context.Context) (_ []RootFile, err error) {
	defer oneLine(&err)
	a, err := r.anchor(ctx)
	if err != nil {
		return nil, err
	}
	c, err := r.readChain(ctx, a)
	if err != nil {
		return nil, err
	}
	files := c.older
	for _, root := range c.roots {
		files = append(files, c.files(root)...)
	}
	return files, nil
}

// chain is the root chain in the storage.
type chain struct {
	roots     []*tuf.Root             // verified, in order of versions, without a gap
	older     []RootFile              // the roots before them, which are not verified
	recovered map[int64]recoveryFiles // by the version of the recovered root
	regular   int64                   // version of the newest regular root
	invalid   error                   // why the files with the names of a recovery are invalid; nil: there are none
	timestamp []byte                  // used to decide whether a recovery is in use; nil: no decision was needed
}

// last returns the newest root; there must be one.
func (c *chain) last() *tuf.Root { return c.roots[len(c.roots)-1] }

// at returns the root with a version, nil if it is not in the chain.
func (c *chain) at(version int64) *tuf.Root {
	if len(c.roots) == 0 || version < c.roots[0].Version() || version > c.last().Version() {
		return nil
	}
	return c.roots[version-c.roots[0].Version()]
}

// files returns the files of one root of the chain.
func (c *chain) files(root *tuf.Root) []RootFile {
	v := root.Version()
	if f, ok := c.recovered[v]; ok {
		return []RootFile{{f.names[1], f.data[1]}, {f.names[0], f.data[0]}}
	}
	return []RootFile{{layout.RootName(v), root.Bytes()}}
}

// readChain reads the roots in the storage, and follows recoveries if there is no
// regular successor. The chain contains the anchor's roots, or is empty if the storage
// is empty.
func (r *Repo) readChain(ctx context.Context, a *anchor) (*chain, error) {
	c, err := r.fromFirst(ctx, a)
	if err != nil || len(c.roots) == 0 {
		return c, err
	}
	if err := r.follow(ctx, c, maxRoots); err != nil {
		return nil, err
	}
	if err := r.endChain(ctx, c); err != nil {
		return nil, err
	}
	return c, a.check(c)
}

// fromFirst reads the chain up to the first root of the anchor. A valid forward walk from
// an older root to that root does not authenticate the older one: an attacker can forge
// an older root, and add signatures of the forged root's keys to the genuine successor.
// So older roots are trusted only if prev_root_sha256 of their successor names them.
func (r *Repo) fromFirst(ctx context.Context, a *anchor) (*chain, error) {
	c := &chain{recovered: map[int64]recoveryFiles{}}
	first, err := r.readRoot(ctx, 1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, tuf.ErrUntrusted) {
		return nil, err
	}
	if len(a.points) == 0 {
		if errors.Is(err, fs.ErrNotExist) {
			return c, nil
		}
		if err == nil {
			c.add(first, recoveryFiles{})
		}
		return c, err
	}
	start := a.points[0]
	if err == nil {
		c.add(first, recoveryFiles{})
		if err := r.follow(ctx, c, start.version); err != nil && !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
	}
	root := c.at(start.version)
	if root == nil { // older roots are missing or damaged, which is permitted
		if root, err = r.readRoot(ctx, start.version); errors.Is(err, fs.ErrNotExist) && len(c.roots) == 0 {
			return c, nil
		} else if errors.Is(err, fs.ErrNotExist) {
			return nil, a.differs(c, start)
		} else if err != nil {
			return nil, err
		}
	}
	// The caller compares this root with the anchor, on the whole chain.
	believed := []*tuf.Root{root}
	for root.Charter() != nil {
		before := c.at(root.Version() - 1)
		if before == nil || before.SHA256() != root.Charter().PrevRoot() {
			break
		}
		root = before
		believed = append([]*tuf.Root{root}, believed...)
	}
	return r.older(ctx, c, believed)
}

// older returns the chain of the trusted roots, with the files of the roots before them.
func (r *Repo) older(ctx context.Context, walked *chain, believed []*tuf.Root) (*chain, error) {
	c := &chain{recovered: map[int64]recoveryFiles{}, invalid: walked.invalid}
	for n := int64(1); n < believed[0].Version(); n++ {
		if root := walked.at(n); root != nil {
			c.older = append(c.older, walked.files(root)...)
			continue
		}
		data, err := storage.ReadAll(ctx, storage.SourceOf(r.storage), layout.RootName(n), r.rootLimit())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, tuf.ErrTooLarge) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c.older = append(c.older, RootFile{layout.RootName(n), data})
	}
	for _, root := range believed {
		c.add(root, walked.recovered[root.Version()])
	}
	return c, nil
}

// add appends a root, with the files of its recovery if it is a recovered root.
func (c *chain) add(root *tuf.Root, f recoveryFiles) {
	c.roots = append(c.roots, root)
	if f.rec != nil {
		c.recovered[root.Version()] = f
	} else {
		c.regular = root.Version()
	}
}

func (r *Repo) rootLimit() int64 { return r.tufOptions().Limits.WithDefaults().Root }

// readRoot reads a root and verifies only its own signatures.
func (r *Repo) readRoot(ctx context.Context, version int64) (*tuf.Root, error) {
	data, err := storage.ReadAll(ctx, storage.SourceOf(r.storage), layout.RootName(version), r.rootLimit())
	if err != nil {
		return nil, err
	}
	root, err := tuf.OpenRoot(data, r.tufOptions())
	if err == nil && root.Version() != version {
		err = &tuf.Error{Role: "root", Version: root.Version(), Err: tuf.ErrVersion, Detail: fmt.Sprintf("the file must contain root v%d", version)}
	}
	if err != nil {
		return nil, fmt.Errorf("repo: %s: %w", layout.RootName(version), err)
	}
	return root, nil
}

// behindRoot returns the reason why a draft's root is not the next one.
func (f *draftFile) behindRoot(c *chain) error {
	if root := c.at(f.version); root != nil && root.SHA256() == metafile.SHA256(f.signed) {
		return fmt.Errorf("root v%d: %w", f.version, ErrPublished)
	}
	newest := int64(0)
	if len(c.roots) > 0 {
		newest = c.last().Version()
	}
	return fmt.Errorf("%w: root v%d is published, the draft is v%d after v%d", ErrStale, newest, f.version, f.base)
}

// follow appends the successors of the chain's last root up to the version until.
func (r *Repo) follow(ctx context.Context, c *chain, until int64) error {
	for c.last().Version() < until {
		last := c.last()
		n := last.Version() + 1
		if n == maxRoots {
			return fmt.Errorf("repo: more than %d roots", maxRoots)
		}
		data, err := storage.ReadAll(ctx, storage.SourceOf(r.storage), layout.RootName(n), r.rootLimit())
		var root *tuf.Root
		var f recoveryFiles
		switch {
		case err == nil:
			root, err = last.Next(data)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		default:
			f, err = recoveryOf(ctx, storage.SourceOf(r.storage), last)
			if errors.Is(err, tuf.ErrUntrusted) {
				// An invalid recovery is ignored: an attacker who can write it could also
				// remove a valid one.
				c.invalid, err = fmt.Errorf("%s: %w", text.Name(f.names[0]), err), nil
				f.rec = nil
			}
			if err == nil && f.rec == nil {
				return nil
			}
			if err == nil {
				root, err = f.root()
			}
		}
		if err != nil && f.rec == nil {
			err = fmt.Errorf("%s: %w", layout.RootName(n), err)
		}
		if err != nil {
			return fmt.Errorf("repo: %w", err)
		}
		c.add(root, f)
	}
	return nil
}

// endChain drops recovered roots that are not in use: those at the end of the chain whose
// keys have not signed the timestamp. Until then a recovery is a proposal, and any
// regular root takes precedence.
func (r *Repo) endChain(ctx context.Context, c *chain) error {
	if c.last().Version() == c.regular {
		return nil
	}
	var err error
	if c.timestamp, err = r.storage.Read(ctx, layout.TimestampName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for n := c.last().Version(); n > c.regular && len(c.roots) > 1; n-- {
		if _, err := c.last().Timestamp(c.timestamp, nil, longAgo); err == nil {
			break
		}
		delete(c.recovered, n)
		c.roots = c.roots[:len(c.roots)-1]
	}
	return nil
}

// recoverable returns the root that a recovery follows, because its threshold can't be
// met any more; with version 0, the newest root.
func (c *chain) recoverable(version int64) (*tuf.Root, error) {
	if len(c.roots) == 0 {
		return nil, errEmpty
	}
	switch last := c.last().Version(); {
	case version == 0:
		return c.last(), nil
	case c.at(version) == nil:
		return nil, fmt.Errorf("repo: there is no root v%d, the newest is v%d", version, last)
	case version < c.regular:
		return nil, fmt.Errorf("repo: %w: root v%d has a regular successor", ErrStale, version)
	case version < last-1:
		return nil, fmt.Errorf("repo: %w: root v%d has a recovered successor, which has one too", ErrStale, version)
	}
	return c.at(version), nil
}

// recovery returns the recovered root next and its predecessor, which has the given
// version; with version 0, the newest such pair.
func (c *chain) recovery(version int64) (before, next *tuf.Root, err error) {
	for i := len(c.roots) - 1; i > 0; i-- {
		before, next = c.roots[i-1], c.roots[i]
		if _, ok := c.recovered[next.Version()]; ok && (version == 0 || version == before.Version()) {
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
