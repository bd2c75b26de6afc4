package repo

import (
	"bytes"
	"fmt"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/tuf"
)

// readRecovery reads the signed part of a statement.
func readRecovery(f *draftFile) (s recoveryStatement, err error) {
	for _, x := range []struct {
		member string
		to     *recoveredRoot
	}{{"tip", &s.Tip}, {"root", &s.Root}} {
		v := metafile.Member(f.signed, x.member)
		n, err := metafile.Member(v, "version").Int()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", facts.RecoveryRole, x.member, tuf.ErrMalformed)
		}
		sum, err := metafile.Member(v, "sha256").Text()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", facts.RecoveryRole, x.member, tuf.ErrMalformed)
		}
		*x.to = recoveredRoot{n, sum}
	}
	return s, nil
}

type recoveredRoot struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"`
}

// recoveryStatement is the signed part of a recovery statement.
type recoveryStatement struct {
	Type        string        `json:"_type"`
	SpecVersion string        `json:"spec_version"`
	Version     int64         `json:"version"`
	Expires     string        `json:"expires"`
	RepoID      string        `json:"repo_id"`
	Tip         recoveredRoot `json:"tip"`
	Root        recoveredRoot `json:"root"`
	Reason      string        `json:"reason"`
}

// followsRecovery checks that a draft's statement was made after a published one, or is
// that one.
func followsRecovery(f chain.Recovery, statement *draftFile) error {
	if f.Counter != statement.base && !bytes.Equal(f.Data[0], statement.bytes()) {
		return fmt.Errorf("repo: %w: %s v%d is published, the draft replaces v%d", ErrStale, facts.RecoveryRole, f.Counter, statement.base)
	}
	return nil
}
