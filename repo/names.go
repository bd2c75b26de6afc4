package repo

import (
	"time"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/text"
)

// roleText formats the name of a role or of a statement's file. The name of a recovery
// statement is this package's own, since no role can have it.
func roleText(role string) string {
	if role == facts.RecoveryRole {
		return role
	}
	return text.Name(role)
}

// child is a role under one delegator. Verification under one delegator does not carry
// over to another.
type child struct{ by, role string }

// pruneMargin allows for clock differences and for publishers at work.
const pruneMargin = time.Hour

// maxSkip is the maximum distance of a new version from the published version of the
// role; [Repo.freeVersion] skips at most that many numbers. Without a bound one signer
// could use up all version numbers of a role (fast-forward attack).
const maxSkip = 1000
