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

	"github.com/visum-dev/visum/internal/text"
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
	// ErrRecalled: a party says that its bytes should not run any more.
	ErrRecalled = tuf.ErrRecalled
)

// Query asks for the newest release of a product.
type Query struct {
	Product  string // as in the release's fields
	Channel  string // likewise: "stable"
	Platform string // GOOS/GOARCH; releases for "any" match too
	// Installed is the sequence number of what is installed; 0 for nothing.
	Installed int64
	// Version is the version of what is installed, for releases with a
	// min_version. "": that of the release with the sequence Installed, if all
	// parties still list it, held or not; where they do not it is not known, and no
	// release with a min_version is offered. A product knows its version: set it.
	Version string
	// Manual says that a person asked: a rollout does not hold the release back.
	Manual bool
}

// Release is an approved release of a product.
type Release struct {
	tuf.Release
	Approved tuf.Approved // for [Client.Save]
	// Decisions tells of each release that is newer than what is installed, the
	// newest first, what was decided and why, and then of each role whose releases
	// could not be read (Decision.Role). It is filled beside an error too.
	Decisions []Decision
}

// Latest returns the newest approved release that is above q.Installed and that
// this machine may step to; where that needs an older one first, that one. Product,
// channel, platform, sequence and min_version are those of the listing that all
// parties agree on; what one role claims beside it decides nothing.
//
// Otherwise the error wraps [ErrUpToDate], and also what keeps newer releases
// away (tuf.ErrNotApproved, tuf.ErrHeld, [ErrRollout], [ErrMinVersion],
// [ErrDeferred], [ErrDenied], [ErrRecalled]), in words that can be shown to
// people. A role that cannot be read or has expired costs the releases that it
// lists, not those of others: it is in Decisions and in that error. Where it is a
// party's own role of a class, or a hold, and no other class offers a release, the
// error does not wrap ErrUpToDate, for nothing of the class could be decided.
//
// Versions are compared as semantic versions, with or without a "v".
func (v *View) Latest(ctx context.Context, q Query) (Release, error) {
	if v.err != nil {
		return Release{}, v.err
	}
	list, err := v.candidates(ctx, func(r tuf.Release) bool {
		return r.Product == q.Product && r.Channel == q.Channel && (r.Platform == q.Platform || r.Platform == "any") && r.Sequence >= q.Installed
	})
	if err != nil {
		return Release{}, failure(err)
	}
	installed := q.Version
	var newer, failed []tuf.Candidate
	for _, c := range list {
		switch {
		case c.Role != "":
			failed = append(failed, c)
		case c.Claim.Sequence > q.Installed:
			newer = append(newer, c)
		case q.Version == "" && c.Agreed && (installed == "" || !reaches(c.Claim.Version, installed)):
			installed = c.Claim.Version // the oldest of those that it may be
		}
	}
	slices.SortStableFunc(newer, func(a, b tuf.Candidate) int { return cmp.Compare(b.Claim.Sequence, a.Claim.Sequence) })
	seen, err := v.firstSeen(ctx, newer)
	if err != nil {
		return Release{}, failure(err)
	}
	var out Release
	var skipped []error
	for _, c := range newer {
		err := c.Err
		if err == nil {
			err = v.allowed(c.Claim, c.Approved, q, installed, seen)
		}
		out.Decisions = append(out.Decisions, v.decision(c.Path, c.Claim, c.Approved, err))
		if err == nil {
			out.Release, out.Approved = c.Claim, c.Approved
			break
		}
		skipped = append(skipped, err)
	}
	var undecided []error // of a whole class
	for _, c := range failed {
		out.Decisions = append(out.Decisions, v.unread(c))
		skipped = append(skipped, c.Err)
		if c.Path == "" && slices.Contains(releaseRoles(v.tip), c.Role) {
			undecided = append(undecided, c.Err)
		}
	}
	switch {
	case !out.Approved.IsZero():
		return out, nil
	case len(undecided) > 0:
		return out, failure(undecided...)
	case len(skipped) > 0:
		return out, failure(fmt.Errorf("%w: %w", ErrUpToDate, join(skipped...)))
	}
	return out, failure(fmt.Errorf("%w: %s %s has sequence %d", ErrUpToDate, text.Name(q.Product), text.Name(q.Channel), q.Installed))
}

// candidates brings what [tuf.Snapshot.Candidates] says. One location
// after the other is asked for what could not be read; what no location has stays
// unread, which the entries report.
func (v *View) candidates(ctx context.Context, want func(tuf.Release) bool) (list []tuf.Candidate, err error) {
	done := false
	said := map[unread]error{}
	err = v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) error {
		l, err := snap.Candidates(ctx, want, get)
		if err != nil {
			return err
		}
		var problems []error
		for i, c := range l {
			err := retryable(c.Err)
			if err == nil {
				continue
			}
			// That no location is left to ask is no better reason than what they served.
			key := unread{c.Role, c.Path}
			if was := said[key]; was == nil || !errors.Is(was, tuf.ErrUntrusted) {
				said[key] = err
			}
			l[i].Err = said[key]
			problems = append(problems, err)
		}
		list, done = l, true
		return join(problems...)
	})
	if done && ctx.Err() == nil {
		err = nil
	}
	return list, err
}

// unread is an entry that may read better at the next location.
type unread struct{ role, path string }

// retryable returns err unless it is final: a decision, or a role that its keys
// signed and that is past its date.
func retryable(err error) error {
	if err == nil || decided(err) || errors.Is(err, tuf.ErrExpired) {
		return nil
	}
	return err
}

// allowed says why an approved release is not for this machine now.
func (v *View) allowed(rel tuf.Release, a tuf.Approved, q Query, installed string, seen map[string]time.Time) error {
	cfg := v.client.cfg
	switch name := text.Name(rel.Product) + " " + text.Name(rel.Version); {
	case slices.Contains(cfg.Deny, rel.Version):
		return fmt.Errorf("%w: %s is denied", ErrDenied, name)
	case cfg.Only != "" && cfg.Only != rel.Version && !(strings.HasSuffix(cfg.Only, ".") && strings.HasPrefix(rel.Version, cfg.Only)):
		return fmt.Errorf("%w: %s, only %s is allowed", ErrDenied, name, text.Name(cfg.Only))
	case rel.MinVersion != "" && q.Installed > 0 && !reaches(installed, rel.MinVersion):
		have := "not known"
		if installed != "" {
			have = text.Name(installed)
		}
		return fmt.Errorf("%w: %s steps up from %s or newer, installed is %s", ErrMinVersion, name, text.Name(rel.MinVersion), have)
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
