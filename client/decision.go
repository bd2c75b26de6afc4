package client

import (
	"errors"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Decision is what was decided about one target: machine-readable (also as JSON), and
// human-readable by its String.
//
// Reason is the first of these that applies; more may be added:
//
//   - approved: every party lists the same bytes, and no rule excludes them. It is the
//     only accepting reason
//   - recalled ([tuf.ErrRecalled]), rollout ([ErrRollout]), min-version ([ErrMinVersion]),
//     deferred ([ErrDeferred]), denied ([ErrDenied]), platform ([ErrPlatform])
//   - held: the review centre holds it for some time ([tuf.ErrHeld])
//   - not-listed: no party lists it, or other bytes are listed by now ([tuf.ErrNoTarget])
//   - not-approved: not every party lists the same bytes ([tuf.ErrNotApproved])
//   - not-logged: the rule of the public log is enforced, and the last content that is
//     proven to be in it does not list the same ([tuf.ErrNotLogged])
//   - malformed: every party lists it, with release fields that break a rule
//     ([tuf.ErrRelease])
//   - expired, untrusted: the metadata needed for the decision has expired, or did not
//     verify ([tuf.ErrExpired], [tuf.ErrUntrusted])
//   - unavailable: network, disk or context error
type Decision struct {
	Accepted  bool          `json:"accepted"`          // only with the reason approved
	Reason    string        `json:"reason"`            // one of the list above
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
func reason(err error) string {
	if err == nil {
		return "approved"
	}
	for _, r := range []struct {
		err    error
		reason string
	}{
		{tuf.ErrRecalled, "recalled"}, {ErrRollout, "rollout"}, {ErrMinVersion, "min-version"}, {ErrDeferred, "deferred"},
		{ErrDenied, "denied"}, {ErrPlatform, "platform"}, {tuf.ErrHeld, "held"}, {tuf.ErrNoTarget, "not-listed"}, {tuf.ErrNotApproved, "not-approved"}, {tuf.ErrNotLogged, "not-logged"}, {tuf.ErrRelease, "malformed"},
		{tuf.ErrExpired, "expired"}, {tuf.ErrUntrusted, "untrusted"},
	} {
		if errors.Is(err, r.err) {
			return r.reason
		}
	}
	return "unavailable"
}
