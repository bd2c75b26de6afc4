package client

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// admits returns an error that wraps [ErrDenied] if the administrator does not allow
// the version.
func (p *policy) admits(c candidate) error {
	for _, v := range p.deny {
		if v.Compare(c.version) == 0 {
			return fmt.Errorf("%w: %s is denied", ErrDenied, c.name())
		}
	}
	v := c.version
	if p.numbers > 0 {
		v = v.Truncate(p.numbers)
	}
	if !p.only.IsZero() && p.only.Compare(v) != 0 {
		return fmt.Errorf("%w: %s, only %s is allowed", ErrDenied, c.name(), p.text)
	}
	return nil
}

// allowed returns why an approved release is not offered to this machine now.
func (v *View) allowed(c candidate, q Query, installed tuf.Version, seen map[string]time.Time) error {
	rel, sum := c.Claim, c.Approved.SHA256()
	if err := v.client.policy.admits(c); err != nil {
		return err
	}
	if rel.MinVersion != "" && !installed.IsZero() {
		if min, err := tuf.ParseVersion(rel.MinVersion); err != nil || installed.Compare(min) < 0 {
			return fmt.Errorf("%w: %s requires %s or newer, installed is %s", ErrMinVersion, c.name(), text.Name(rel.MinVersion), text.Name(q.Installed))
		}
	}
	if wait := v.client.cfg.DeferFor; wait > 0 {
		at, ok := seen[sum]
		if !ok { // more than maxSeen are deferred
			at = v.now
		}
		if v.now.Sub(at) < wait {
			return fmt.Errorf("%w: %s until %s", ErrDeferred, c.name(), at.Add(wait).UTC().Format(time.RFC3339))
		}
	}
	switch part := rel.Rollout; {
	case part == nil:
	case part.Percent <= 0:
		return fmt.Errorf("%w: %s: the rollout is halted", ErrRollout, c.name())
	case !q.Manual && !rel.Critical && share(cmp.Or(v.client.cfg.RolloutSeed, v.seed), sum) >= part.Percent:
		return fmt.Errorf("%w: %s is rolled out to %d %% of the machines", ErrRollout, c.name(), part.Percent)
	}
	return nil
}

// share returns this machine's number for a release, 0 to 99. It differs between
// releases, so that not the same machines are always first.
func share(seed, sha256sum string) int {
	sum := sha256.Sum256([]byte(seed + "\n" + sha256sum))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}

// maxSeen limits the releases that are deferred at the same time.
const maxSeen = 256

// firstSeen returns when this client first saw each approved release; nil without
// Config.DeferFor. Setting the clock back restarts the deferral.
func (v *View) firstSeen(ctx context.Context, list []candidate) (map[string]time.Time, error) {
	if v.client.cfg.DeferFor <= 0 {
		return nil, nil
	}
	s, err := openState(ctx, v.client.store, v.client.log)
	if err != nil {
		return nil, err
	}
	defer s.close()
	seen := map[string]time.Time{}
	for _, c := range list {
		if c.Err != nil || len(seen) == maxSeen {
			continue
		}
		at, ok := s.Seen[c.Approved.SHA256()]
		if !ok || at.After(v.now) {
			at = v.now
		}
		seen[c.Approved.SHA256()] = at
	}
	// Other clients of this state may query other products.
	for sum, at := range s.Seen {
		if _, ok := seen[sum]; !ok && len(seen) < maxSeen && v.now.Sub(at) < 2*v.client.cfg.DeferFor {
			seen[sum] = at
		}
	}
	s.Seen = seen
	return seen, s.save()
}
