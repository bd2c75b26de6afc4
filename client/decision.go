package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Reason is a decision's ground, for machines. The list may grow.
type Reason string

// Reasons of decisions.
const (
	ReasonApproved    Reason = "approved"     // every party lists the same bytes, and nothing is in the way: the only one that accepts
	ReasonNotApproved Reason = "not-approved" // not every party lists the same bytes (tuf.ErrNotApproved)
	ReasonNotListed   Reason = "not-listed"   // nobody lists it, or other bytes by now (tuf.ErrNoTarget)
	ReasonHeld        Reason = "held"         // the review centre holds it for some time (tuf.ErrHeld)
	ReasonRecalled    Reason = "recalled"     // [ErrRecalled]
	ReasonRollout     Reason = "rollout"      // [ErrRollout]
	ReasonMinVersion  Reason = "min-version"  // [ErrMinVersion]
	ReasonDeferred    Reason = "deferred"     // [ErrDeferred]
	ReasonDenied      Reason = "denied"       // [ErrDenied]
	ReasonExpired     Reason = "expired"      // what it was to be decided by is too old (tuf.ErrExpired)
	ReasonUntrusted   Reason = "untrusted"    // what it was to be decided by is not genuine (tuf.ErrUntrusted)
	ReasonUnavailable Reason = "unavailable"  // network, disk, or time ran out
)

// Decision tells what was decided on one target, for machines (as JSON too) and,
// in its String, for people.
type Decision struct {
	Accepted  bool          `json:"accepted"`          // only with ReasonApproved
	Reason    Reason        `json:"reason"`            // the first that applies
	Path      string        `json:"path"`              // of the target
	Sentence  string        `json:"sentence"`          // for people, in one line
	Release   *tuf.Release  `json:"release,omitempty"` // as its listers claim, where it is one
	SHA256    string        `json:"sha256,omitempty"`  // of the bytes
	Length    int64         `json:"length,omitempty"`  // bytes
	By        []tuf.Signoff `json:"by,omitempty"`      // who approved
	Root      int64         `json:"root"`              // versions of what was decided by
	Timestamp int64         `json:"timestamp"`         // likewise
	At        time.Time     `json:"at"`                // the time that was decided by
	Err       error         `json:"-"`                 // nil where accepted
}

// String is the decision in one sentence.
func (d Decision) String() string { return d.Sentence }

// Decide is Find with its outcome as a [Decision].
func (v *View) Decide(ctx context.Context, path string) Decision {
	a, err := v.Find(ctx, path)
	return v.decision(path, tuf.Release{}, a, err)
}

// Status tells whether what is installed may go on running: path and sha256 are
// those of the Approved that was installed. Accepted is false where it was
// recalled by any party, is held, or is not listed any more; what to do then is
// the product's decision. The error is not nil where nothing could be decided.
func (v *View) Status(ctx context.Context, path, sha256 string) (Decision, error) {
	if v.err != nil {
		return Decision{}, v.err
	}
	var recalls []tuf.Recall
	if v.tip.Charter() != nil {
		err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
			recalls, err = snap.Recalls(get)
			return err
		})
		if err != nil {
			return Decision{}, fmt.Errorf("client: %w", err)
		}
	}
	for _, r := range recalls {
		if r.Path == path && strings.EqualFold(r.SHA256, sha256) {
			d := v.decision(path, tuf.Release{}, tuf.Approved{}, fmt.Errorf("%w by %s at %s: %s", ErrRecalled, r.Party, r.At.UTC().Format(time.RFC3339), r.Reason))
			d.SHA256 = r.SHA256
			return d, nil
		}
	}
	a, err := v.Find(ctx, path)
	if err == nil && !strings.EqualFold(a.SHA256(), sha256) {
		a, err = tuf.Approved{}, &tuf.Error{Role: path, Err: tuf.ErrNoTarget, Detail: fmt.Sprintf("other bytes are listed by now, not sha256 %.16s", sha256)}
	}
	if err != nil && !decided(err) {
		return Decision{}, err
	}
	return v.decision(path, tuf.Release{}, a, err), nil
}

func (v *View) decision(path string, claim tuf.Release, a tuf.Approved, err error) Decision {
	d := Decision{Reason: reason(err), Path: path, Root: v.tip.Version(), Timestamp: v.Timestamp(), At: v.now, Err: err}
	if claim.Product != "" {
		d.Release = &claim
	}
	if !a.IsZero() {
		d.SHA256, d.Length, d.By = a.SHA256(), a.Length(), a.By()
		if rel, ok := a.Release(); ok {
			d.Release = &rel
		}
	}
	name := path
	if d.Release != nil {
		name = d.Release.Product + " " + d.Release.Version
	}
	if d.Accepted = err == nil; d.Accepted {
		d.Sentence = fmt.Sprintf("%s is accepted: %s", name, a)
	} else {
		d.Sentence = fmt.Sprintf("%s is refused: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return d
}

// reason finds the first of the grounds that applies.
func reason(err error) Reason {
	if err == nil {
		return ReasonApproved
	}
	for _, r := range []struct {
		err    error
		reason Reason
	}{
		{ErrRecalled, ReasonRecalled}, {ErrRollout, ReasonRollout}, {ErrMinVersion, ReasonMinVersion}, {ErrDeferred, ReasonDeferred},
		{ErrDenied, ReasonDenied}, {tuf.ErrHeld, ReasonHeld}, {tuf.ErrNoTarget, ReasonNotListed}, {tuf.ErrNotApproved, ReasonNotApproved},
		{tuf.ErrExpired, ReasonExpired}, {tuf.ErrUntrusted, ReasonUntrusted},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return ReasonUnavailable
}
