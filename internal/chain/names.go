package chain

import (
	"time"

	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// LongAgo is a reference time at which no metadata has expired.
var LongAgo = time.Unix(0, 0)

// MaxRoots bounds the length of a root chain.
const MaxRoots = 1 << 16

// MaxStatements bounds a role's statements on the same bytes.
const MaxStatements = 1000

// StatementName returns the storage name of a role's n-th statement.
func StatementName(s attestation.Subject, role string, n int) string {
	return "targets/" + attestation.Name(s, role, n)
}

// RecoveryType is the _type of a recovery statement.
const RecoveryType = "x-visum-recovery"

// OneOperator warns of a charter with min_operators 1.
const OneOperator = "min_operators is 1: one operator that serves old files hides every new root and release until the metadata expires (freeze)"

// ClockTolerance is how far signed_at of a root may be ahead of the clock when the root
// is published.
const ClockTolerance = 5 * time.Minute

// Ahead returns how far signed_at of a charter is ahead of now; 0 if the root may be
// published, or has no charter. Clients use the date of their newest root as a lower
// bound of the current time, so metadata that expires before that date is expired for
// them.
func Ahead(c *tuf.Charter, now time.Time) time.Duration {
	if c == nil {
		return 0
	}
	if d := c.SignedAt().Sub(now); d > ClockTolerance {
		return d
	}
	return 0
}
