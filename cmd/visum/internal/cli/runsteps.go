package cli

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/exchange"
	"github.com/visum-dev/visum/repo/signing"
)

// pullStep signs and publishes what the exchange has.
func (r *runner) pullStep() error {
	if r.exchange == nil {
		return nil
	}
	publishes, err := r.publishes(r.site)
	if err != nil {
		return err
	}
	for range 100 { // a draft that was published makes others stale
		all, skipped, err := r.queue(r.site, r.exchange)
		if err != nil {
			return err
		}
		for _, f := range skipped {
			r.emitOnce(event{Event: "skipped", Path: f.Name, Reason: f.Err.Error()})
		}
		again := false
		for _, q := range all {
			if again, err = r.pulled(q, publishes); again || err != nil {
				break
			}
		}
		if err != nil || !again || r.outer.Err() != nil {
			return err
		}
	}
	return nil
}

// pulled signs or publishes one draft. again says that the exchange must be read again.
func (r *runner) pulled(q *queued, publishes bool) (again bool, err error) {
	switch q.State {
	case exchange.NotYet:
		r.emitOnce(event{Event: "waits", Draft: q.Digest, Reason: q.Reason, Next: "update this copy of the repository: visum clone URL DIR --pin PIN"})
		return false, nil
	case exchange.Published, exchange.Stale:
		return false, nil
	}
	if len(q.canSign) > 0 {
		signed, err := r.signRenewal(q)
		if err != nil || signed {
			return signed, err
		}
	}
	switch {
	case len(q.missing) > 0 || !publishes || q.covered != "":
		return false, nil
	case !q.known:
		r.found = true
		r.emitOnce(event{Event: "waits", Draft: q.Digest, Reason: "a new root, or lists without the signatures that the root requires: a person publishes it", Next: "visum draft pull"})
		return false, nil
	case len(q.waitingParties()) > 0:
		r.emitOnce(event{Event: "waits", Draft: q.Digest, Reason: "for the decision of " + strings.Join(q.waitingParties(), " and ")})
		return false, nil
	}
	var paths []string
	for _, t := range q.Targets {
		paths = append(paths, t.Path)
	}
	switch err := r.publish(q.Draft, paths); {
	case errors.Is(err, repo.ErrConflict):
		return false, err
	case err != nil && r.ctx.Err() != nil:
		return false, r.ctx.Err()
	case err != nil && !errors.Is(err, repo.ErrPublished): // a draft of others does not end the round
		r.emitOnce(event{Event: "skipped", Draft: q.Digest, Reason: err.Error()})
		return false, nil
	}
	q.State = exchange.Published
	if _, err := r.exchange.Prune(r.ctx, []*exchange.Item{q.Item}, false); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		r.emitOnce(event{Event: "skipped", Draft: q.Digest, Reason: err.Error()})
	}
	return true, nil
}

// signRenewal signs a draft of the exchange if it changes nothing but versions and
// expiries. The exchange is untrusted, so the other kinds of the identity do not count:
// a draft that an attacker placed there would otherwise be signed like one of this party.
func (r *runner) signRenewal(q *queued) (signed bool, err error) {
	waits := func(reason string) {
		r.found = true
		r.emitOnce(event{Event: "waits", Draft: q.Digest, Missing: q.missing, Reason: reason, Next: "visum draft pull, then visum draft sign"})
	}
	if r.renewing == nil {
		waits("it needs a signature of this party, and the identity does not allow renew")
		return false, nil
	}
	data, err := q.Draft.Bytes()
	if err != nil {
		return false, err
	}
	d, err := r.renewing.OpenDraft(data)
	if err != nil {
		return false, err
	}
	for _, k := range r.site.signers {
		if !slices.Contains(q.canSign, r.site.labels[k.Key().ID()]) {
			continue
		}
		switch err := d.Sign(r.ctx, k); {
		case err == nil:
			signed = true
		case errors.Is(err, repo.ErrNoPart):
		case r.ctx.Err() != nil || errors.Is(err, repo.ErrConflict):
			return false, err
		case errors.Is(err, signing.ErrNotAutomatic):
			waits("it needs a signature of this party: " + err.Error())
			return false, nil
		default:
			waits("it can't be signed: " + err.Error())
			return false, nil
		}
	}
	if !signed || len(d.Missing()) == len(q.missing) && describe(d.Missing()) == describe(q.missing) {
		return false, nil // none of the signatures counts
	}
	if _, _, err := r.exchange.Send(r.ctx, d); err != nil {
		return false, err
	}
	r.emit(event{Event: "signed", Draft: q.Digest, Missing: d.Missing()})
	return true, nil
}

// syncState is what a folder had at its last sync.
type syncState struct {
	files string
	at    time.Time
}

// fullSync is how often a folder is compared with the repository although it has not
// changed.
const fullSync = time.Hour

// syncStep lists the files of the folders.
func (r *runner) syncStep() error {
	for _, f := range r.o.folders {
		if err := r.syncOne(f); err != nil {
			return fmt.Errorf("%s: %w", text.Name(f.dir), err)
		}
	}
	return nil
}

func (r *runner) syncOne(f syncFolder) error {
	files, err := plainFiles(f.dir, f.prefix)
	if err != nil {
		return err
	}
	state, err := stateOf(files)
	if err != nil {
		return err
	}
	if was, ok := r.synced[f.dir]; ok && was.files == state && r.Now().Sub(was.at) < fullSync {
		return nil
	}
	edit := func(tx *repo.Tx) error { return addPlain(tx, r.site.party, files) }
	var all []*queued
	if r.exchange != nil {
		if all, _, err = r.queue(r.site, r.exchange); err != nil {
			return err
		}
	}
	d, on, err := r.stage(all, edit)
	if err != nil {
		return err
	}
	if !d.Empty() {
		targets, err := r.site.NewTargets(r.ctx, d)
		if err != nil {
			return err
		}
		if on == nil || d.Digest() != on.Digest {
			r.emit(event{Event: "synced", Path: f.prefix, Files: len(files), Changed: len(targets)})
			var paths []string
			for _, t := range targets {
				paths = append(paths, t.Path)
			}
			if err := r.deliver(d, paths); err != nil {
				return err
			}
		} else {
			r.emitOnce(event{Event: "waits", Path: f.prefix, Draft: on.Digest, Reason: "the exchange has a draft with these files"})
		}
	}
	r.synced[f.dir] = syncState{state, r.Now()}
	return nil
}

// stateOf describes the files of a folder by name, size and time.
func stateOf(files []releaseFile) (string, error) {
	var b strings.Builder
	for _, f := range files {
		info, err := os.Lstat(f.name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%q %d %d\n", f.name, info.Size(), info.ModTime().UnixNano())
	}
	return b.String(), nil
}

// stage makes a draft of an edit. On a machine that does not publish it begins with the
// largest open draft in the exchange that has a list of this party (on; nil if there is
// none): of two drafts that begin with the same published list only one can be published.
func (r *runner) stage(all []*queued, edit func(*repo.Tx) error) (d *repo.Draft, on *queued, err error) {
	st, err := r.site.Status(r.ctx, r.Now())
	if err != nil {
		return nil, nil, err
	}
	if !canPublish(st) {
		for _, q := range all {
			own := slices.ContainsFunc(st.Due, func(s repo.RoleStatus) bool { return s.Party == r.site.party && q.Draft.File(s.Role) != nil })
			if own && q.known && len(q.missing) == 0 && (on == nil || len(q.Targets) > len(on.Targets)) {
				on = q
			}
		}
	}
	if on == nil {
		d, err = r.site.Stage(r.ctx, edit)
	} else {
		d, err = r.site.StageOn(r.ctx, on.Draft, edit)
	}
	return d, on, err
}

// approveStep approves pending targets that the check accepts: published ones, and those
// of drafts in the exchange.
func (r *runner) approveStep() error {
	if len(r.o.approve) == 0 {
		return nil
	}
	var all []*queued
	var err error
	if r.exchange != nil {
		if all, _, err = r.queue(r.site, r.exchange); err != nil {
			return err
		}
	}
	pending, err := r.site.Pending(r.ctx, r.site.party)
	if err != nil {
		return err
	}
	pending = slices.DeleteFunc(pending, func(p repo.Pending) bool { return r.approvedIn(all, p) })
	good, err := r.examine(pending)
	if err != nil {
		return err
	}
	if len(good) > 0 {
		d, _, err := r.stage(all, r.approval(good))
		if err != nil {
			return err
		}
		if err := r.approved(d, good); err != nil {
			return err
		}
	}
	for _, q := range all {
		if r.outer.Err() != nil {
			return nil
		}
		if !q.known || q.covered != "" || len(q.pending[r.site.party]) == 0 {
			continue
		}
		if r.o.withFiles {
			_, skipped, err := r.exchange.FetchFiles(r.ctx, q.pending[r.site.party])
			if err != nil {
				return err
			}
			for _, f := range skipped {
				r.emitOnce(event{Event: "skipped", Path: f.Name, Reason: f.Err.Error()})
			}
		}
		good, err := r.examine(q.pending[r.site.party])
		if err != nil {
			return err
		}
		if len(good) == 0 {
			continue
		}
		d, err := r.site.StageOn(r.ctx, q.Draft, r.approval(good))
		if err != nil {
			return err
		}
		if err := r.approved(d, good); err != nil {
			return err
		}
	}
	return nil
}

// approvedIn reports whether a draft in the exchange has this party's approval.
func (r *runner) approvedIn(all []*queued, p repo.Pending) bool {
	return slices.ContainsFunc(all, func(q *queued) bool {
		return q.known && q.lists(p) && !q.waitsFor(r.site.party, p)
	})
}

func (r *runner) approval(good []repo.Pending) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for _, p := range good {
			record := &repo.ReviewRecord{Reviewer: "visum run --check", SHA256: p.SHA256, Unrecorded: p.Release == nil}
			if err := tx.Approve(r.site.party, p.Path, record); err != nil {
				return err
			}
		}
		return nil
	}
}

// approved delivers approvals. What is listed must be what was examined: a record of an
// approval names the bytes, and the release data may have changed since.
func (r *runner) approved(d *repo.Draft, good []repo.Pending) error {
	if d.Empty() {
		return nil
	}
	targets, err := r.site.NewTargets(r.ctx, d)
	if err != nil {
		return err
	}
	for _, t := range targets {
		for _, p := range good {
			if t.Name == p.Name && !reflect.DeepEqual(t.Release, p.Release) {
				return fmt.Errorf("%s: its release data changed during the check: %w", text.Name(p.Path), repo.ErrConflict)
			}
		}
	}
	var paths []string
	for _, p := range good {
		paths = append(paths, p.Path)
		r.emit(event{Event: "approved", Path: p.Path, SHA256: p.SHA256})
	}
	return r.deliver(d, paths)
}

// renewStep renews what is due, and reports what it can't renew.
func (r *runner) renewStep() error {
	st, err := r.site.Status(r.ctx, r.Now())
	if err != nil {
		return err
	}
	var can, own []string
	for _, d := range st.Due {
		switch {
		case d.Urgency < repo.UrgencySoon:
		case d.CanSign && r.kinds.Renew && canPublish(st):
			can = append(can, d.Role)
		case d.CanSign && r.kinds.Renew && d.Party == r.site.party:
			own = append(own, d.Role)
		default:
			r.found = true
			r.emitOnce(event{Event: "due", Roles: []string{d.Role}, Reason: text.Line(d.String())})
		}
	}
	if len(can) > 0 || st.Unfinished && canPublish(st) {
		if err := r.site.Renew(r.ctx); err != nil {
			return err
		}
		r.emit(event{Event: "renewed", Roles: can})
	}
	if len(own) == 0 {
		return nil
	}
	if waiting, err := r.renewalIn(own); err != nil || waiting {
		return err
	}
	d, err := r.site.Stage(r.ctx, func(tx *repo.Tx) error { return tx.Renew(r.site.party) })
	if err != nil {
		return err
	}
	r.emit(event{Event: "renewed", Roles: own})
	return r.deliver(d, nil)
}

// renewalIn reports whether a draft in the exchange has new versions of the roles that
// their keys have signed.
func (r *runner) renewalIn(roles []string) (bool, error) {
	if r.exchange == nil {
		return false, nil
	}
	all, _, err := r.queue(r.site, r.exchange)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(q *queued) bool {
		return q.known && !slices.ContainsFunc(roles, func(role string) bool { return q.Draft.File(role) == nil })
	}), nil
}
