package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// anchor lists the roots that a trusted root chain must contain: those of the pin and of
// the ledger. The zero anchor trusts any root in the storage.
type anchor struct {
	points []point // in order of versions; trust begins with the first
	book   *book   // the ledger's document; nil: not known yet
	plain  bool    // the pin is of a repository without a charter
	// heals are the roots of the fork that the current draft heals. The points may be
	// roots of this fork instead of published ones. opt is used to verify them.
	heals [][]byte
	opt   *tuf.Options
}

// pinRoot returns the root in Config.Pin, nil if there is no pin.
func (r *Repo) pinRoot() (*tuf.Root, error) {
	r.pinned.once.Do(func() {
		if len(r.cfg.Pin) == 0 {
			return
		}
		r.pinned.root, r.pinned.err = openAnchor(r.cfg.Pin, r.tufOptions())
		if r.pinned.err != nil {
			r.pinned.err = fmt.Errorf("repo: Config.Pin: %w", r.pinned.err)
		}
	})
	return r.pinned.root, r.pinned.err
}

// openAnchor reads a pin, or a root that is known to be genuine.
func openAnchor(data []byte, opt *tuf.Options) (*tuf.Root, error) {
	p, err := tuf.OpenPin(data, opt)
	if err == nil {
		return p.Root(), nil
	}
	// Clients do not accept a root with a charter as a pin, but signers do.
	if root, rootErr := tuf.OpenRoot(data, opt); rootErr == nil {
		return root, nil
	}
	return nil, err
}

// anchor collects the roots that the root chain must contain. Without a pin it uses the
// ledger of the repository id that the storage claims. A forged repository with another
// id has an empty ledger, and is refused.
func (r *Repo) anchor(ctx context.Context) (*anchor, error) {
	pin, err := r.pinRoot()
	if err != nil {
		return nil, err
	}
	a := &anchor{heals: r.heals, opt: r.tufOptions()}
	repoID := ""
	if pin != nil {
		a.points = append(a.points, point{version: pin.Version(), sha256: pin.SHA256(), whose: "pin"})
		if a.plain = pin.Charter() == nil; a.plain {
			return a, nil
		}
		repoID = pin.Charter().RepoID()
	} else if repoID, err = r.claimed(ctx); err != nil || repoID == "" {
		return a, err
	}
	if a.book, err = r.loadBook(ctx, repoID); err != nil {
		return nil, err
	}
	if pin == nil && a.book.empty() && !r.cfg.UnsafeTrustStorage {
		return nil, fmt.Errorf("repo: %w: the storage claims to be repository %s; set Config.Pin to a pin of it, or use the ledger of a signer that has a record of it", signing.ErrNoPin, repoID)
	}
	a.points = append(a.points, a.book.points()...)
	slices.SortStableFunc(a.points, func(a, b point) int { return cmp.Compare(a.version, b.version) })
	return a, nil
}

// claimed returns the repository id that the first root in the storage claims, which is
// not verified; "" for an empty storage.
func (r *Repo) claimed(ctx context.Context) (string, error) {
	data, err := storage.ReadAll(ctx, storage.SourceOf(r.storage), layout.RootName(1), r.tufOptions().Limits.WithDefaults().Root)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	root, err := tuf.OpenRoot(data, r.tufOptions())
	if err != nil {
		return "", fmt.Errorf("repo: %w", err)
	}
	if root.Charter() == nil {
		if r.cfg.UnsafeTrustStorage {
			return "", errNoCharter
		}
		return "", fmt.Errorf("repo: %w: %w", signing.ErrNoPin, errNoCharter)
	}
	return root.Charter().RepoID(), nil
}

// check verifies that a chain contains the anchor's points.
func (a *anchor) check(c *chain.Chain) error {
	for _, p := range a.points {
		root := c.At(p.version)
		if root != nil && root.SHA256() == p.sha256 || a.trusts(c, p) {
			continue
		}
		return a.differs(c, p)
	}
	return nil
}

// differs returns the error for a point that is not in the chain.
func (a *anchor) differs(c *chain.Chain, p point) error {
	why := error(tuf.ErrUntrusted)
	if p.whose == "ledger" {
		why = fmt.Errorf("%w: %w", signing.ErrRootBehind, tuf.ErrUntrusted)
	}
	last := int64(0)
	if len(c.Roots) > 0 {
		last = c.Last().Version()
	}
	if root := c.At(p.version); root != nil {
		return fmt.Errorf("repo: %w: root v%d has sha256 %.16s in the %s and %.16s in the storage", why, p.version, p.sha256, p.whose, root.SHA256())
	}
	return fmt.Errorf("repo: %w: the %s has root v%d with sha256 %.16s, the newest root in the storage is v%d", why, p.whose, p.version, p.sha256, last)
}

// trusts reports whether a root that the trust anchor names is in the fork that the
// draft heals. Each root of the fork must name its predecessor by prev_root_sha256, back
// to a published root. Valid signatures alone would not exclude a forged predecessor.
func (a *anchor) trusts(c *chain.Chain, p point) bool {
	if len(a.heals) == 0 || len(c.Roots) == 0 {
		return false
	}
	fork, err := openFork(c, a.heals, a.opt)
	if err != nil {
		return false
	}
	before := c.At(fork[0].Version() - 1)
	for _, root := range fork {
		if root.Charter().PrevRoot() != before.SHA256() {
			return false
		}
		if root.Version() == p.version && root.SHA256() == p.sha256 {
			return true
		}
		before = root
	}
	return false
}

// openFork verifies the roots of a fork as successors of a root of the chain.
func openFork(c *chain.Chain, fork [][]byte, opt *tuf.Options) ([]*tuf.Root, error) {
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %w: %w", ErrHeal, fmt.Errorf(format, args...))
	}
	if len(fork) == 0 || len(fork) > maxFork {
		return nil, no("%d roots are given, want 1 to %d", len(fork), maxFork)
	}
	first, err := tuf.OpenRoot(fork[0], opt)
	if err != nil {
		return nil, no("%w", err)
	}
	at := c.At(first.Version() - 1)
	if at == nil {
		return nil, no("the fork begins with root v%d, but root v%d is not published", first.Version(), first.Version()-1)
	}
	if here := c.At(first.Version()); here != nil && here.SHA256() == first.SHA256() {
		return nil, no("root v%d with sha256 %.16s is the published one", first.Version(), first.SHA256())
	}
	var out []*tuf.Root
	for _, data := range fork {
		next, err := at.Next(data)
		if err != nil {
			return nil, no("the fork is not a root chain: %w", err)
		}
		if next.Charter() == nil {
			return nil, no("root v%d of the fork: %w", next.Version(), errNoCharter)
		}
		out, at = append(out, next), next
	}
	if have := c.Last().Version(); at.Version() != have {
		return nil, no("the fork ends with root v%d, the published chain with v%d: a common successor requires equal versions", at.Version(), have)
	}
	return out, nil
}

// maxFork is the maximum number of fork roots in one draft.
const maxFork = 16
