package repo

import (
	"context"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/tuf"
)

// signFile signs a timestamp or snapshot during a publish, under the same rules as a
// draft.
func (n *publication) signFile(ctx context.Context, f *draftFile, keys Keys) error {
	x := &item{file: f, online: true, fresh: true, role: named{role: f.role, keys: keys}}
	x.choose(n.repo.cfg.Signers, n.repo.cfg.DualSigning, func(k tuf.Key) bool { return slices.Contains(keys.Keys, k) })
	p := n.present
	data := p.timestamp
	if f.role == "snapshot" {
		data = p.snapshot
	}
	if data != nil && p.under != nil {
		env, err := metafile.Open(data)
		if err != nil {
			return err
		}
		x.was, x.version = env.Signed, env.Version
		x.wasKeys = rootOf(p.under).Timestamp.Keys
		if f.role == "snapshot" {
			x.wasKeys = rootOf(p.under).Snapshot.Keys
		}
	}
	s := &signRequest{repo: n.repo, ctx: ctx, tx: n.repo.newTx(ctx, p), prev: n.root, layout: rootOf(n.root), items: []*item{x}, ends: n.newRoot != nil, compromised: n.compromised}
	if err := s.permit(false); err != nil {
		return err
	}
	for _, signer := range x.signers {
		if err := f.add(ctx, signer); err != nil {
			return err
		}
	}
	return nil
}

// seePublished records in the ledger what this handle published. The next request is
// compared with it, regardless of the state of the storage.
func (n *publication) seePublished(ctx context.Context, timestamp, snapshot []byte) error {
	ts, err := n.root.Timestamp(timestamp, nil, chain.LongAgo)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	snap, err := ts.Snapshot(snapshot, nil)
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	err = n.repo.change(ctx, n.root.Charter().RepoID(), func(b *book) error {
		b.seeRoot(n.root, n.recovery != nil)
		layout := rootOf(n.root)
		for role, f := range n.fresh {
			var keys []tuf.Key
			if i := slices.IndexFunc(layout.lists(), func(x named) bool { return x.role == role }); i >= 0 {
				keys = layout.lists()[i].keys.Keys
			}
			b.see(role, keys, f.version, f.signed, !f.isBin())
		}
		b.seeOnline(&present{ts: ts, snap: snap, timestamp: timestamp, snapshot: snapshot, under: n.root})
		return nil
	})
	if err != nil {
		return fmt.Errorf("the repository is published, but not recorded: %w", err)
	}
	return nil
}
