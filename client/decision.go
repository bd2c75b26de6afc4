package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Reason is a decision's ground, for machines. The list may grow.
type Reason string

// Reasons of decisions.
const (
	ReasonApproved    Reason = "approved"     // every party lists the same bytes, and nothing is in the way: the only one that accepts
	ReasonNotApproved Reason = "not-approved" // not every party lists the same bytes (tuf.ErrNotApproved)
	ReasonNotListed   Reason = "not-listed"   // nobody lists it, or other bytes by now (tuf.ErrNoTarget)
	ReasonMalformed   Reason = "malformed"    // every party lists it, with release fields that break a rule (tuf.ErrRelease)
	ReasonHeld        Reason = "held"         // the review centre holds it for some time (tuf.ErrHeld)
	ReasonRecalled    Reason = "recalled"     // [ErrRecalled]
	ReasonPlatform    Reason = "platform"     // [ErrPlatform]
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
	Path      string        `json:"path"`              // of the target; "" where it is about a role
	Role      string        `json:"role,omitempty"`    // of a role whose releases could not be read; "" otherwise
	Sentence  string        `json:"sentence"`          // for people: one line of printable ASCII, 4 kB at most
	Release   *tuf.Release  `json:"release,omitempty"` // what was approved; where it is refused, what one role or more claim, without malformed fields
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
// those of the Approved that was installed. Accepted is false where these bytes were
// recalled by any party, under whatever path of their class, where the path is held,
// or is not listed any more; what to do then is the product's decision. The error is
// not nil where nothing could be decided; a recall counts also where another role
// cannot be read.
func (v *View) Status(ctx context.Context, path, sha256 string) (Decision, error) {
	if v.err != nil {
		return Decision{}, v.err
	}
	var recalls []tuf.Recall
	if v.tip.Charter() != nil {
		// Where a role cannot be read the recalls of the others count all the same,
		// and Find says whether the class of the path lacks a role.
		err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
			recalls, err = snap.Recalls(get)
			return retryable(err)
		})
		if ctx.Err() != nil {
			return Decision{}, failure(err)
		}
	}
	class := v.class(path)
	for _, r := range recalls {
		if r.Class == class && strings.EqualFold(r.SHA256, sha256) {
			d := v.decision(path, tuf.Release{}, tuf.Approved{}, fmt.Errorf("%w by %s at %s: %s", ErrRecalled, text.Name(r.Party), r.At.UTC().Format(time.RFC3339), text.Quote(r.Reason)))
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

// class names the class that a path belongs to, "" for none.
func (v *View) class(path string) string {
	if c := v.tip.Charter(); c != nil {
		for _, class := range c.Classes() {
			if strings.HasPrefix(path, class.Prefix) {
				return class.Name
			}
		}
	}
	return ""
}

func (v *View) decision(path string, claim tuf.Release, a tuf.Approved, err error) Decision {
	d := Decision{Reason: reason(err), Path: path, Root: v.tip.Version(), Timestamp: v.Timestamp(), At: v.now, Err: err}
	if claim != (tuf.Release{}) {
		d.Release = &claim
	}
	if !a.IsZero() {
		d.SHA256, d.Length, d.By = a.SHA256(), a.Length(), a.By()
		if rel, ok := a.Release(); ok {
			d.Release = &rel
		}
	}
	name := text.Name(path)
	if d.Release != nil && d.Release.Product != "" && d.Release.Version != "" {
		name = text.Name(d.Release.Product) + " " + text.Name(d.Release.Version)
	}
	if d.Accepted = err == nil; d.Accepted {
		d.Sentence = text.Line(fmt.Sprintf("%s is accepted: %s", name, a))
	} else {
		d.Sentence = text.Line(fmt.Sprintf("%s is refused: %s", name, oneLine(err)))
	}
	return d
}

// unread is the decision on what a role lists that could not be read.
func (v *View) unread(c tuf.Candidate) Decision {
	d := v.decision(c.Path, tuf.Release{}, tuf.Approved{}, c.Err)
	if d.Role = c.Role; c.Path == "" {
		d.Sentence = text.Line(fmt.Sprintf("what role %s lists is refused: %s", text.Name(c.Role), oneLine(c.Err)))
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
		{ErrDenied, ReasonDenied}, {ErrPlatform, ReasonPlatform}, {tuf.ErrHeld, ReasonHeld}, {tuf.ErrNoTarget, ReasonNotListed}, {tuf.ErrNotApproved, ReasonNotApproved}, {tuf.ErrRelease, ReasonMalformed},
		{tuf.ErrExpired, ReasonExpired}, {tuf.ErrUntrusted, ReasonUntrusted},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return ReasonUnavailable
}
