package client

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/visum-dev/visum/tuf"
)

// Why an approved release is not offered to this machine now.
var (
	// ErrRollout: the release goes to a part of the machines first, and this is none of it.
	ErrRollout = errors.New("client: not this machine's turn")
	// ErrMinVersion: the release steps up from newer versions than the installed one.
	ErrMinVersion = errors.New("client: an older release comes first")
	// ErrDeferred: Config.Defer has not passed since this client first saw it.
	ErrDeferred = errors.New("client: deferred by the administrator")
	// ErrDenied: Config.Deny names it, or Config.Only does not.
	ErrDenied = errors.New("client: not allowed by the administrator")
	// ErrRecalled: a party says that it should not run any more.
	ErrRecalled = errors.New("client: recalled")
)

// Query asks for the newest release of a product.
type Query struct {
	Product  string // as in the release's fields
	Channel  string // likewise: "stable"
	Platform string // GOOS/GOARCH; releases for "any" match too
	// Installed is the sequence number of what is installed; 0 for nothing.
	Installed int64
	// Version is the version of what is installed, for releases with a
	// min_version; "": that of the listed release with the sequence Installed.
	Version string
	// Manual says that a person asked: a rollout does not hold the release back.
	Manual bool
}

// Release is an approved release of a product.
type Release struct {
	tuf.Release
	Approved tuf.Approved // for [Client.Save]
	// Decisions tells of each release that is newer than what is installed, the
	// newest first, what was decided and why. It is filled beside an error too.
	Decisions []Decision
}

// Latest returns the newest approved release that is above q.Installed and that
// this machine may step to; where that needs an older one first, that one.
// Otherwise the error wraps [ErrUpToDate], and also what keeps newer releases
// away (tuf.ErrNotApproved, tuf.ErrHeld, [ErrRollout], [ErrMinVersion],
// [ErrDeferred], [ErrDenied], [ErrRecalled]), in words that can be shown to
// people.
//
// Versions are compared as semantic versions, with or without a "v".
func (v *View) Latest(ctx context.Context, q Query) (Release, error) {
	if v.err != nil {
		return Release{}, v.err
	}
	var list []tuf.Candidate
	var recalls []tuf.Recall
	installed := q.Version
	err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
		if list, err = snap.Candidates(func(r tuf.Release) bool {
			if r.Product != q.Product || r.Channel != q.Channel || r.Platform != q.Platform && r.Platform != "any" {
				return false
			}
			if r.Sequence == q.Installed && installed == "" {
				installed = r.Version
			}
			return r.Sequence > q.Installed
		}, get); err != nil {
			return err
		}
		recalls, err = snap.Recalls(get)
		return err
	})
	if err != nil {
		return Release{}, fmt.Errorf("client: %w", err)
	}
	slices.SortStableFunc(list, func(a, b tuf.Candidate) int { return cmp.Compare(b.Claim.Sequence, a.Claim.Sequence) })
	seen, err := v.firstSeen(ctx, list)
	if err != nil {
		return Release{}, fmt.Errorf("client: %w", err)
	}
	var out Release
	var skipped []error
	for _, c := range list {
		rel, isRelease := c.Approved.Release()
		err := c.Err
		if err == nil && !isRelease {
			continue
		}
		if err == nil {
			err = recalled(c.Approved, recalls)
		}
		if err == nil {
			err = v.allowed(rel, c.Approved, q, installed, seen)
		}
		out.Decisions = append(out.Decisions, v.decision(c.Path, c.Claim, c.Approved, err))
		if err == nil {
			out.Release, out.Approved = rel, c.Approved
			return out, nil
		}
		skipped = append(skipped, err)
	}
	if len(skipped) > 0 {
		return out, fmt.Errorf("%w: %w", ErrUpToDate, errors.Join(skipped...))
	}
	return out, fmt.Errorf("%w: %s %s has sequence %d", ErrUpToDate, q.Product, q.Channel, q.Installed)
}

// recalled looks for any party's word against an approved target.
func recalled(a tuf.Approved, recalls []tuf.Recall) error {
	for _, r := range recalls {
		if r.Path == a.Path() && r.SHA256 == a.SHA256() {
			return fmt.Errorf("%w by %s: %s: %s", ErrRecalled, r.Party, r.Path, r.Reason)
		}
	}
	return nil
}

// allowed says why an approved release is not for this machine now.
func (v *View) allowed(rel tuf.Release, a tuf.Approved, q Query, installed string, seen map[string]time.Time) error {
	cfg := v.client.cfg
	switch name := rel.Product + " " + rel.Version; {
	case slices.Contains(cfg.Deny, rel.Version):
		return fmt.Errorf("%w: %s is denied", ErrDenied, name)
	case cfg.Only != "" && cfg.Only != rel.Version && !(strings.HasSuffix(cfg.Only, ".") && strings.HasPrefix(rel.Version, cfg.Only)):
		return fmt.Errorf("%w: %s, only %s is allowed", ErrDenied, name, cfg.Only)
	case rel.MinVersion != "" && q.Installed > 0 && !reaches(installed, rel.MinVersion):
		if installed == "" {
			installed = "not known"
		}
		return fmt.Errorf("%w: %s steps up from %s or newer, installed is %s", ErrMinVersion, name, rel.MinVersion, installed)
	case cfg.Defer > 0 && v.now.Sub(seen[a.SHA256()]) < cfg.Defer:
		return fmt.Errorf("%w: %s until %s", ErrDeferred, name, seen[a.SHA256()].Add(cfg.Defer).UTC().Format(time.RFC3339))
	case rel.Rollout != nil && !q.Manual && !rel.Critical && share(v.dice, a.SHA256()) >= rel.Rollout.Percent:
		return fmt.Errorf("%w: %s goes to %d %% of the machines", ErrRollout, name, rel.Rollout.Percent)
	}
	return nil
}

// reaches reports whether version is min or newer. What is no version is not.
func reaches(version, min string) bool {
	version, min = "v"+strings.TrimPrefix(version, "v"), "v"+strings.TrimPrefix(min, "v")
	return semver.IsValid(version) && semver.IsValid(min) && semver.Compare(version, min) >= 0
}

// share is this machine's number for a release, 0 to 99: another one for each
// release, so that not the same machines go first each time.
func share(dice, sha256sum string) int {
	sum := sha256.Sum256([]byte(dice + "\n" + sha256sum))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}

// maxSeen bounds the releases that wait at the same time.
const maxSeen = 256

// firstSeen says when this client first saw each approved release, where that
// matters. Who sets the clock back starts the waiting anew.
func (v *View) firstSeen(ctx context.Context, list []tuf.Candidate) (map[string]time.Time, error) {
	if v.client.cfg.Defer <= 0 {
		return nil, nil
	}
	s, err := openState(ctx, v.client.store)
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
	// Others with the same state may ask for other products.
	for sum, at := range s.Seen {
		if _, ok := seen[sum]; !ok && len(seen) < maxSeen && v.now.Sub(at) < 2*v.client.cfg.Defer {
			seen[sum] = at
		}
	}
	s.Seen = seen
	return seen, s.save()
}
