package repo

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/tuf"
)

// Heal makes the next root one that clients on either side of a fork follow. fork
// are the roots, in order of versions, that were shown somewhere in place of the
// last of the published ones: each verified as the successor of the one before it,
// the first of them as that of a published root, the last of the newest root's
// version. At most 16.
//
// The next root then has a seq above both charters, the higher floors, and all
// that either charter retired; locations that the other one retired are dropped.
// Where the fork alone began an epoch the fork's online keys are taken over, for
// there are no others that its clients would follow; where each side began one
// with keys of its own, the same edit must set new ones. All else is as in the
// newest published root, and may be edited. Both key sets must sign: the parties of
// both roots, and those of the new one.
//
// Where that can't be done, [Repo.Stage] returns an error that wraps [ErrHeal] and
// names the rule. The same is checked before each signature and at publishing. A
// signer whose ledger has seen the fork published may sign (rule K1), since the new
// root follows that one too; its ledger goes on with the published roots then.
//
// Version floors outlive the fork: where timestamps, snapshots or roles were
// published under the fork with higher versions, and their keys stay, its clients
// take content when the published versions are as high. New online keys, and new
// keys of a party's role, end the floors of the old.
func (tx *Tx) Heal(fork ...[]byte) error {
	p := tx.present
	if p.root == nil {
		return errEmpty
	}
	roots, err := openFork(p.chain, fork, tx.repo.judge())
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

// Heals returns the roots of the fork that the draft's root heals, in order of
// versions; none where it heals no fork. They are what the draft says; [Draft.Sign],
// [Repo.Diff] and [Repo.Publish] verify them.
func (d *Draft) Heals() (out [][]byte) {
	for _, data := range d.heals {
		out = append(out, bytes.Clone(data))
	}
	return out
}

// healed checks that a proposed root follows the fork too. It returns the fork's
// roots; none where the draft heals no fork.
func (r *Repo) healed(c *chain, d *Draft, next []byte) ([]*tuf.Root, error) {
	if len(d.heals) == 0 {
		return nil, nil
	}
	if d.recovery != nil {
		return nil, fmt.Errorf("repo: %w: a recovery follows one root alone", ErrHeal)
	}
	fork, err := openFork(c, d.heals, r.judge())
	if err != nil {
		return nil, err
	}
	other := fork[len(fork)-1]
	if _, err := other.Propose(next); err != nil {
		return nil, fmt.Errorf("repo: %w: clients that have root v%d with sha256 %.16s refuse the new one: %w", ErrHeal, other.Version(), other.SHA256(), err)
	}
	return fork, nil
}

// sameFork compares two roots of forks, in whatever form they travelled.
func sameFork(a, b []byte) bool {
	x, errX := openEnvelope(a)
	y, errY := openEnvelope(b)
	return errX == nil && errY == nil && bytes.Equal(x.signed, y.signed)
}

// leaveFork makes the published roots the ledger's, where it knew those of a fork
// that a request heals.
func (b *book) leaveFork(c *chain, fork []*tuf.Root) {
	in := func(x *bookRoot) bool {
		return x != nil && slices.ContainsFunc(fork, func(r *tuf.Root) bool { return r.Version() == x.Version && r.SHA256() == x.SHA256 })
	}
	if in(b.body.HighRoot) {
		b.body.HighRoot = nil
	}
	if in(b.body.Root) {
		b.body.Root = newBookRoot(c.at(c.ordinary))
	}
}
