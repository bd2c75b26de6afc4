package repo

import (
	"context"

	"github.com/visum-dev/visum/internal/text"
)

// StageRecovery makes the draft of a recovery: the next root as fn edits it, the
// content that must be signed again under its keys, and the statement with which the
// recovery organisations of the current charter name this root; see [tuf.RecoveryRule].
// The organisations must sign the statement, and the parties of the new root must sign
// that root.
//
// Publish writes root and statement to metadata/recovery/ and continues with content
// under the new root. Clients look there only if their root has no regular successor,
// and accept the recovery root after the waiting period of the charter, unless a
// regular next root is published before. If one exists, the error, also of Publish,
// wraps [ErrStale].
func (r *Repo) StageRecovery(ctx context.Context, how RecoveryOptions, fn func(*Tx) error) (_ *Draft, err error) {
	defer text.OneLine(&err)
	return r.stageBatch(ctx, func(r *Repo) (*Draft, error) {
		p, err := r.load(ctx)
		if err != nil {
			return nil, err
		}
		before, err := recoverable(p.chain, how.After)
		if err != nil {
			return nil, err
		}
		p.root = before
		tx := r.newTx(ctx, p)
		tx.recovering = &how
		if err := fn(tx); err != nil {
			return nil, err
		}
		return r.stage(ctx, tx, nil)
	})
}

// RenewRecovery makes the draft of a new statement for a published recovery. A
// statement expires; clients that have not completed the wait will not accept it
// afterwards. The recovery keys must sign again, and waiting clients restart the
// waiting period.
func (r *Repo) RenewRecovery(ctx context.Context, how RecoveryOptions) (_ *Draft, err error) {
	defer text.OneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	before, next, err := recoveryAt(p.chain, how.After)
	if err != nil {
		return nil, err
	}
	d := newDraft()
	d.repo, d.staged = r, r
	if d.recovery, err = r.newRecovery(ctx, before, recoveredRoot{next.Version(), next.SHA256()}, how.Reason); err != nil {
		return nil, err
	}
	_, err = r.signDraft(ctx, p, d, d.parts(), r.cfg.Signers, true, false)
	return d, err
}
