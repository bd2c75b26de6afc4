package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// stageRecovery adds the statement for the draft's root.
func (tx *Tx) stageRecovery(d *Draft) error {
	prev, root := tx.present.root, d.files["root"]
	if root == nil {
		return errors.New("repo: a recovery needs a changed root, with the keys that sign it")
	}
	// Checked before any signature is requested.
	proposal, err := prev.Propose(root.bytes())
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if proposal.Charter().Epoch() == prev.Charter().Epoch() {
		return fmt.Errorf("repo: a recovery needs new timestamp and snapshot keys: %w", tuf.ErrCharter)
	}
	d.recovery, err = tx.repo.newRecovery(tx.ctx, prev, recoveredRoot{root.version, metafile.SHA256(root.signed)}, tx.recovering.Reason)
	return err
}

func (r *Repo) newRecovery(ctx context.Context, prev *tuf.Root, next recoveredRoot, reason string) (*draftFile, error) {
	rule := prev.Charter().Recovery()
	if rule == nil {
		return nil, fmt.Errorf("repo: root v%d: its charter has no recovery rule: %w", prev.Version(), tuf.ErrCharter)
	}
	if reason == "" {
		return nil, errors.New("repo: a recovery needs a reason")
	}
	lasts := r.cfg.Expiry.Recovery
	if lasts <= rule.Hold {
		return nil, fmt.Errorf("repo: a recovery statement that is valid for %s expires before the waiting period of %s ends: see Expiry.Recovery", text.Duration(lasts), text.Duration(rule.Hold))
	}
	have, err := chain.RecoveryIn(ctx, r.storage, prev) // an invalid file is replaced
	if err != nil {
		return nil, err
	}
	base := have.Counter
	b, err := r.loadBook(ctx, prev.Charter().RepoID())
	if err != nil {
		return nil, err
	}
	signed, err := metafile.Canonical(recoveryStatement{chain.RecoveryType, metadata.SPECIFICATION_VERSION, max(base+1, rule.Counter, b.highest(facts.RecoveryRole)+1), text.Time(r.now().Add(lasts)),
		prev.Charter().RepoID(), recoveredRoot{prev.Version(), prev.SHA256()}, next, reason})
	if err != nil {
		return nil, err
	}
	if len(signed) > tuf.MaxRecoveryStatement/2 { // the other half is for signatures
		return nil, fmt.Errorf("repo: %s: %w: %d bytes, at most %d: shorten the reason", facts.RecoveryRole, tuf.ErrTooLarge, len(signed), tuf.MaxRecoveryStatement/2)
	}
	keys, orgs := need{"the recovery keys", map[string]tuf.Key{}, rule.Threshold, nil}, map[string]string{}
	for _, o := range rule.Orgs {
		for id, k := range prev.Keys(o.KeyIDs) {
			keys.Keys[id], orgs[id] = k, o.Name
		}
	}
	return newSigned(facts.RecoveryRole, chain.RecoveryType, base, signed, keys, need{"the recovery organisations", keys.Keys, rule.MinOrgs, orgs})
}
