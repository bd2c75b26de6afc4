package chain

import (
	"time"

	"github.com/visum-dev/visum/tuf/proof"
)

// LongAgo is a reference time at which no metadata has expired.
var LongAgo = time.Unix(0, 0)

// MaxRoots bounds the length of a root chain.
const MaxRoots = 1 << 16

// MaxStatements bounds a role's statements on the same bytes.
const MaxStatements = 1000

// StatementName returns the storage name of a role's n-th statement.
func StatementName(s proof.Subject, role string, n int) string {
	return "targets/" + proof.Name(s, role, n)
}

// RecoveryType is the _type of a recovery statement.
const RecoveryType = "x-visum-recovery"
