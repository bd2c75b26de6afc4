package client

import (
	"errors"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Reason is the machine-readable reason of a decision. More may be added.
type Reason string

// Reasons of decisions.
const (
	ReasonApproved    Reason = "approved"     // every party lists the same bytes, and no rule excludes them: the only accepting reason
	ReasonNotApproved Reason = "not-approved" // not every party lists the same bytes (tuf.ErrNotApproved)
	ReasonNotListed   Reason = "not-listed"   // no party lists it, or other bytes are listed by now (tuf.ErrNoTarget)
	ReasonMalformed   Reason = "malformed"    // every party lists it, with release fields that break a rule (tuf.ErrRelease)
	ReasonHeld        Reason = "held"         // the review centre holds it for some time (tuf.ErrHeld)
	ReasonRecalled    Reason = "recalled"     // [ErrRecalled]
	ReasonPlatform    Reason = "platform"     // [ErrPlatform]
	ReasonRollout     Reason = "rollout"      // [ErrRollout]
	ReasonMinVersion  Reason = "min-version"  // [ErrMinVersion]
	ReasonDeferred    Reason = "deferred"     // [ErrDeferred]
	ReasonDenied      Reason = "denied"       // [ErrDenied]
	ReasonExpired     Reason = "expired"      // the metadata needed for the decision has expired (tuf.ErrExpired)
	ReasonUntrusted   Reason = "untrusted"    // the metadata needed for the decision did not verify (tuf.ErrUntrusted)
	ReasonUnavailable Reason = "unavailable"  // network, disk or context error
)

// Decision is what was decided about one target: machine-readable (also as JSON), and
// human-readable by its String.
type Decision struct {
	Accepted  bool          `json:"accepted"`          // only with ReasonApproved
	Reason    Reason        `json:"reason"`            // the first that applies
	Path      string        `json:"path"`              // of the target; "" if the decision is about a role
	Role      string        `json:"role,omitempty"`    // a role whose releases could not be read; "" otherwise
	Sentence  string        `json:"sentence"`          // human-readable: one line of printable ASCII, at most 4 kB
	Release   *tuf.Release  `json:"release,omitempty"` // what was approved; if refused, what at least one role lists, without malformed fields
	SHA256    string        `json:"sha256,omitempty"`  // of the target
	Length    int64         `json:"length,omitempty"`  // of the target in bytes
	By        []tuf.Signoff `json:"by,omitempty"`      // approvals
	Root      int64         `json:"root"`              // versions of the metadata used
	Timestamp int64         `json:"timestamp"`         // likewise
	At        time.Time     `json:"at"`                // the time used for the decision
	Err       error         `json:"-"`                 // nil if accepted
}

// String returns the decision in one sentence.
func (d Decision) String() string { return d.Sentence }

// reason returns the first reason that applies to err.
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
