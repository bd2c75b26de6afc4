package repo

import (
	"context"
)

// StageRecovery makes the draft of a recovery: of the next root, as fn says it,
// of what must be signed anew under its keys, and of the statement by which the
// recovery organisations of the present charter name exactly this root; see
// [tuf.RecoveryRule]. The statement must be signed by them, the new root by its
// own parties alone.
//
// Publish puts root and statement under metadata/recovery/, where clients look
// only when their root has come to its end, and goes on with content under the
// new root. They follow after the wait that the charter asks for, unless somebody
// publishes an ordinary next root before. Where there is one the error, of Publish
// too, wraps [ErrStale].
func (r *Repo) StageRecovery(ctx context.Context, how RecoveryOptions, fn func(*Tx) error) (_ *Draft, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tip, err := p.chain.recoverable(how.After)
	if err != nil {
		return nil, err
	}
	p.root = tip
	tx := r.newTx(ctx, p)
	tx.recovering = &how
	if err := fn(tx); err != nil {
		return nil, err
	}
	return r.stage(ctx, tx, nil)
}

// RenewRecovery makes the draft of another statement for a recovery that is
// published: a statement has its day, and after it nobody follows it any more
// who has not waited yet. It takes the recovery keys again. Clients that wait
// begin anew.
func (r *Repo) RenewRecovery(ctx context.Context, how RecoveryOptions) (_ *Draft, err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return nil, err
	}
	tip, next, err := p.chain.recovery(how.After)
	if err != nil {
		return nil, err
	}
	d := newDraft()
	d.repo, d.staged = r, r
	if d.recovery, err = r.newRecovery(ctx, tip, recoveredRoot{next.Version(), next.SHA256()}, how.Reason); err != nil {
		return nil, err
	}
	_, err = r.signDraft(ctx, p, d, d.parts(), r.cfg.Signers, true, false)
	return d, err
}
