package repo

import (
	"context"
	"errors"
	"time"

	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Renew is the operator's daily task. With the configured signers it signs a new
// timestamp; a new snapshot if less than half of its lifetime is left; and by the same
// rule each role, hold and targets.json whose keys are available. It does not change
// roles that need other keys; [Repo.Status] reports them. A reviewer without online
// keys renews the reviewer's roles with [Repo.Stage] and [Tx.Renew].
//
// Renew also completes a publish that was interrupted between a new root and its
// content. It does not renew the root, which all parties must sign.
func (r *Repo) Renew(ctx context.Context) (err error) {
	defer text.OneLine(&err)
	return r.batch(ctx, func(r *Repo) error { return r.renew(ctx) })
}

func (r *Repo) renew(ctx context.Context) error {
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

// renewed signs the roles that are due and whose keys are available.
func (r *Repo) renewed(ctx context.Context, p *present) (*Draft, error) {
	tx := r.newTx(ctx, p)
	notOurs := func(x named) bool { return !r.canSign(x.need()) }
	err := r.eachList(ctx, p, notOurs, func(x named, by string, t *tuf.Targets, first time.Time, _ int) error {
		if soon, _ := r.cfg.Expiry.of(x.role); !first.Before(r.now().Add(soon)) || notOurs(x) {
			return nil
		}
		var l *rolelist.List
		var err error
		if by == "" {
			l, err = tx.edit(x.role)
		} else if l, err = tx.read(by); err == nil {
			l, err = tx.editBelow(l, x.role)
		}
		if err == nil {
			// Hash bins are renewed with their list; products with keys of their own
			// are checked separately.
			l.Renewed = l.Delegations != nil && l.Delegations.SuccinctRoles != nil
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
		return nil, &unsignedError{missing}
	}
	return d, nil
}
