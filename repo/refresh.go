package repo

import (
	"context"
	"errors"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Renew is the operator's daily job, with the keys at hand, the online ones at
// least: it signs a new timestamp; a new snapshot where the present one has less
// than half of its time left; and, likewise, each party's roles, holds and
// targets.json for which the keys are at hand. What other keys must sign stays as
// it is, and [Repo.Status] says so; a reviewer who has no online keys renews his
// own with [Repo.Stage] and [Tx.Renew].
//
// It also ends a publish that was cut off between a new root and its content. A
// root is not renewed: that takes all parties.
func (r *Repo) Renew(ctx context.Context) (err error) {
	defer oneLine(&err)
	p, err := r.load(ctx)
	if err != nil {
		return err
	}
	if p.snap == nil {
		return errors.New("repo: nothing is published yet")
	}
	next := &publication{repo: r, present: p, root: p.root, fresh: map[string]*draftFile{}, stamp: true}
	next.content = p.under != p.root || p.snap.Expires().Before(r.now().Add(r.cfg.Expiry.Snapshot/2))
	if p.under == p.root {
		d, err := r.renewed(ctx, p)
		if err != nil {
			return err
		}
		if err := next.takeRoles(ctx, d); err != nil {
			return err
		}
	}
	return next.finish(ctx)
}

// renewed signs anew the roles whose time has come and whose keys are at hand.
func (r *Repo) renewed(ctx context.Context, p *present) (*Draft, error) {
	tx := r.newTx(ctx, p)
	notOurs := func(x named) bool { return !r.atHand(x.need()) }
	err := r.eachList(ctx, p, notOurs, func(x named, by string, t *tuf.Targets, first time.Time, _ int) error {
		if soon, _ := r.cfg.Expiry.of(x.role); !first.Before(r.now().Add(soon)) || notOurs(x) {
			return nil
		}
		var l *listing
		var err error
		if by == "" {
			l, err = tx.edit(x.role)
		} else if l, err = tx.read(by); err == nil {
			l, err = tx.editBelow(l, x.role)
		}
		if err == nil {
			// Hash bins go with their list; what others may sign is looked at by itself.
			l.renewed = l.delegations != nil && l.delegations.SuccinctRoles != nil
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	d, err := r.stage(ctx, tx, nil)
	if err != nil {
		return nil, err
	}
	if missing := d.Missing(); len(missing) > 0 {
		return nil, &UnsignedError{missing}
	}
	return d, nil
}
