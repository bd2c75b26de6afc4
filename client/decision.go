package client

import (
	"errors"
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
