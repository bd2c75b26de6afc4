package repo

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/tuf"
)

// Heal makes the next root one that clients on both sides of a fork accept. fork
// contains the roots, in order of versions, that some location served in place of the
// last published ones, at most 16. Each must verify as the successor of the one before
// it, the first as the successor of a published root. The last must have the version of
// the newest published root.
//
// The next root then has a seq above both charters, the higher of both floors, and the
// retired locations of both; locations that the fork retired are removed. If only the
// fork began an epoch, the next root takes over the fork's online keys, since the
// fork's clients accept no others. If both sides began an epoch with different keys,
// the same edit must set new online keys. All else is taken from the newest published
// root and may be edited. The parties of both roots and those of the new root must
// sign.
//
// If the fork can't be healed, [Repo.Stage] returns an error that wraps [ErrHeal] and
// names the rule. The same check runs before each signature and at publication. A
// signer whose ledger has recorded the fork as published may sign (rule K1), since the
// new root follows the fork too; the ledger then continues with the published roots.
//
// Version floors outlive the fork. If timestamps, snapshots or roles were published
// under the fork with higher versions and their keys remain, the fork's clients accept
// content only when the published versions are at least as high. New online keys, and
// new keys of a party's role, end the floors of the old keys (TUF 5.3.11).
func (tx *Tx) Heal(fork ...[]byte) error {
	p := tx.present
	if p.root == nil {
		return errEmpty
	}
	roots, err := openFork(p.chain, fork, tx.repo.tufOptions())
	if err != nil {
		return err
	}
	other, r := roots[len(roots)-1], tx.Root()
	r.fork = other
	tx.heals = nil
	for _, data := range fork {
		tx.heals = append(tx.heals, bytes.Clone(data))
	}
	for _, was := range other.Charter().Retired() {
		i := slices.IndexFunc(r.Retired, func(x tuf.Retired) bool { return x.ID == was.ID })
		if i < 0 {
			r.Retired = append(r.Retired, was)
			continue
		}
		for _, h := range was.Hosts {
			if !slices.Contains(r.Retired[i].Hosts, h) {
				r.Retired[i].Hosts = append(slices.Clone(r.Retired[i].Hosts), h)
			}
		}
	}
	r.Locations = slices.DeleteFunc(r.Locations, func(l tuf.Location) bool {
		return slices.ContainsFunc(r.Retired, func(x tuf.Retired) bool { return x.ID == l.ID || slices.Contains(x.Hosts, l.Host()) })
	})
	if other.Charter().Epoch() > p.root.Charter().Epoch() {
		theirs := rootOf(other)
		r.Timestamp, r.Snapshot = theirs.Timestamp, theirs.Snapshot
	}
	return nil
}

// Heals returns the fork's roots that the draft's root heals, in order of versions;
// none if it heals no fork. They are not verified; [Draft.Sign], [Repo.Diff] and
// [Repo.Publish] verify them.
func (d *Draft) Heals() (out [][]byte) {
	for _, data := range d.heals {
		out = append(out, bytes.Clone(data))
	}
	return out
}

// healed checks that a proposed root also follows the fork that the draft heals. It
// returns the fork's roots; none if the draft heals no fork.
func (r *Repo) healed(c *chain.Chain, d *Draft, next []byte) ([]*tuf.Root, error) {
	if len(d.heals) == 0 {
		return nil, nil
	}
	if d.recovery != nil {
		return nil, fmt.Errorf("repo: %w: a recovery can't heal a fork", ErrHeal)
	}
	fork, err := openFork(c, d.heals, r.tufOptions())
	if err != nil {
		return nil, err
	}
	other := fork[len(fork)-1]
	if _, err := other.Propose(next); err != nil {
		return nil, fmt.Errorf("repo: %w: clients that have root v%d with sha256 %.16s refuse the new one: %w", ErrHeal, other.Version(), other.SHA256(), err)
	}
	return fork, nil
}

// sameFork reports whether two roots of forks have the same signed part.
func sameFork(a, b []byte) bool {
	x, errX := metafile.Open(a)
	y, errY := metafile.Open(b)
	return errX == nil && errY == nil && bytes.Equal(x.Signed, y.Signed)
}

// leaveFork makes the published roots the ledger's newest if the ledger had recorded a
// fork that the request heals.
func (b *book) leaveFork(c *chain.Chain, fork []*tuf.Root) {
	in := func(x *bookRoot) bool {
		return x != nil && slices.ContainsFunc(fork, func(r *tuf.Root) bool { return r.Version() == x.Version && r.SHA256() == x.SHA256 })
	}
	if in(b.body.HighRoot) {
		b.body.HighRoot = nil
	}
	if in(b.body.Root) {
		b.body.Root = newBookRoot(c.At(c.Regular))
	}
}
