package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Release is an approved release of a product.
type Release struct {
	tuf.Release
	Approved tuf.Approved // for [Client.Save]
	// Decisions are the decisions on each release newer than the installed one, newest
	// first, down to the one that is offered; with Query.AllowDowngrade also on others
	// that were considered. Entries without a readable version follow, and then each
	// role whose releases could not be read (Decision.Role). Decisions is also set when
	// Latest returns an error.
	Decisions []Decision
}

// Latest returns the approved release with the highest version above q.Installed that
// this machine may be updated to; if that requires an intermediate release
// (min_version), the intermediate one. Versions are ordered by tuf.Version: versions
// that compare equal are the same, and not updates of each other. Product, version,
// channel, platform and min_version are those that all parties agree on; fields that
// only one role lists have no effect.
//
// Of two releases of one version the one for q.Platform takes precedence over the one
// for "any". If all parties list one for q.Platform that may not be installed, the one
// for "any" is not offered instead ([ErrPlatform]), but other versions are.
//
// A version below q.Installed is offered only with q.AllowDowngrade, and only if all
// roles could be read: otherwise an attacker who blocks a role could force a downgrade.
//
// If nothing is offered the error wraps [ErrUpToDate], and the reasons why newer
// releases are refused (tuf.ErrNotApproved, tuf.ErrRelease, tuf.ErrHeld, [ErrPlatform],
// [ErrRollout], [ErrMinVersion], [ErrDeferred], [ErrDenied], [tuf.ErrRecalled]); its text
// is human-readable. A role that cannot be read or has expired affects only the
// releases that it lists: it appears in Decisions and in that error. If it is a party's
// own role of a class, or a hold, and no other class offers a release, the error does
// not wrap ErrUpToDate, because no decision on the class was possible.
//
// If all roles could be read, and none lists a release of that product, channel and
// platform, in any version, the error wraps [ErrUnknownProduct] instead and names what
// all parties list. So no single party can make a product unknown. If roles list such
// releases but the parties do not agree on any, the error wraps ErrUpToDate and
// tuf.ErrNotApproved: no single party can turn a mistake in q into a silent "up to
// date".
func (v *View) Latest(ctx context.Context, q Query) (Release, error) {
	installed, err := q.installed()
	if err != nil {
		return Release{}, failure(err)
	}
	list, err := v.candidates(ctx, func(r tuf.Release) bool {
		return q.mayMatch(r) && (q.AllowDowngrade || r.Version == "" || versionOf(r).Compare(installed) >= 0)
	})
	if err != nil {
		return Release{}, failure(err)
	}
	l := selection{view: v, q: q, installed: installed}
	known := false
	for _, c := range list {
		if c.Role != "" {
			l.failed = append(l.failed, c)
			continue
		}
		x := candidate{c, versionOf(c.Claim)}
		l.found = append(l.found, x)
		known = known || q.matches(c) && (c.Agreed || x.version.Compare(installed) > 0)
	}
	slices.SortStableFunc(l.found, func(a, b candidate) int {
		return cmp.Or(b.version.Compare(a.version), a.rank(q)-b.rank(q))
	})
	if l.seen, err = v.firstSeen(ctx, l.found); err != nil {
		return Release{}, failure(err)
	}
	out, skipped := l.choose()
	var undecided []error // of an entire class
	for _, c := range l.failed {
		out.Decisions = append(out.Decisions, v.unread(c))
		skipped = append(skipped, c.Err)
		if c.Path == "" && slices.Contains(releaseRoles(v.trusted), c.Role) {
			undecided = append(undecided, c.Err)
		}
	}
	switch {
	case !out.Approved.IsZero():
		return out, nil
	case len(undecided) > 0:
		return out, failure(undecided...)
	case !known:
		claims, err := v.listed(ctx, q)
		if err != nil {
			return out, failure(append([]error{err}, skipped...)...)
		}
		skipped = append(skipped, claims...)
	}
	if len(skipped) > 0 {
		return out, failure(fmt.Errorf("%w: %w", ErrUpToDate, join(skipped...)))
	}
	return out, failure(fmt.Errorf("%w: %s %s, installed is %s", ErrUpToDate, text.Name(q.Product), text.Name(q.Channel), text.Name(q.Installed)))
}

// selection is the state of one call of Latest.
type selection struct {
	view      *View
	q         Query
	installed tuf.Version
	found     []candidate          // the newest first
	failed    []tuf.Candidate      // roles that could not be read
	seen      map[string]time.Time // see View.firstSeen
}

// choose decides on each release, down to the one that is offered, or to the installed
// version.
func (l *selection) choose() (out Release, skipped []error) {
	var own tuf.Version // the last version that all parties list for this platform
	for _, c := range l.found {
		step := c.version.Compare(l.installed)
		if c.version.IsZero() {
			step = 1 // it may be newer, and is refused
		}
		if step < 0 && len(l.failed) > 0 || step == 0 && !l.q.AllowDowngrade {
			continue
		}
		err := c.Err
		if c.Agreed && !errors.Is(err, tuf.ErrRelease) && c.rank(l.q) == 0 {
			own = c.version
		} else if err == nil && c.rank(l.q) > 0 && own.Compare(c.version) == 0 {
			err = fmt.Errorf("%w: %s for any is not offered in place of the one for %s", ErrPlatform, c.name(), text.Name(l.q.Platform))
		}
		if step == 0 {
			if err = cmp.Or(l.view.client.policy.admits(c), err); err == nil || errors.Is(err, tuf.ErrHeld) {
				break // it is the newest allowed version, and a hold causes no downgrade
			}
		} else if err == nil {
			err = l.view.allowed(c, l.q, l.installed, l.seen)
		}
		out.Decisions = append(out.Decisions, l.view.decision(c.Path, c.Claim, c.Approved, err))
		if err == nil {
			out.Release, out.Approved = c.Claim, c.Approved
			break
		}
		skipped = append(skipped, err)
	}
	return out, skipped
}

// listed returns an error that wraps [ErrUnknownProduct] if no role lists a release
// that q matches, in any version. If roles do, but the parties agree on none, it
// returns the reasons.
func (v *View) listed(ctx context.Context, q Query) (claims []error, err error) {
	const most = 8
	list, err := v.candidates(ctx, q.mayMatch)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		switch {
		case c.Role != "" || q.matches(c) && c.Agreed:
			return nil, nil // unknown, or there is one
		case q.matches(c) && len(claims) < most:
			claims = append(claims, c.Err)
		}
	}
	if len(claims) > 0 {
		return claims, nil
	}
	if list, err = v.candidates(ctx, nil); err != nil {
		return nil, err
	}
	var products, channels, platforms []string
	for _, c := range list {
		if !c.Agreed {
			continue
		}
		r := c.Claim
		products = append(products, r.Product)
		if r.Product == q.Product {
			channels = append(channels, r.Channel)
			if r.Channel == q.Channel {
				platforms = append(platforms, r.Platform)
			}
		}
	}
	product, channel := text.Name(q.Product), text.Name(q.Channel)
	switch {
	case len(platforms) > 0:
		return nil, fmt.Errorf("%w: %s %s for platform %s; available: %s", ErrUnknownProduct, product, channel, text.Name(q.Platform), some(platforms))
	case len(channels) > 0:
		return nil, fmt.Errorf("%w: %s in channel %s; available: %s", ErrUnknownProduct, product, channel, some(channels))
	}
	return nil, fmt.Errorf("%w: product %s; available: %s", ErrUnknownProduct, product, some(products))
}

// some lists the first few elements.
func some(list []string) string {
	const most = 8
	list = slices.DeleteFunc(list, func(s string) bool { return s == "" }) // malformed
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, s := range list[:min(len(list), most)] {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(text.Name(s))
	}
	if more := len(list) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// candidates returns [tuf.Snapshot.Candidates]. It asks one location after the other
// for roles that could not be read; those that no location has stay unread, with an
// error in their entries.
func (v *View) candidates(ctx context.Context, want func(tuf.Release) bool) (list []tuf.Candidate, err error) {
	done := false
	reasons := map[unread]error{}
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
			// "No location is left" must not replace the reason why their files were
			// refused.
			key := unread{c.Role, c.Path}
			if was := reasons[key]; was == nil || !errors.Is(was, tuf.ErrUntrusted) {
				reasons[key] = err
			}
			l[i].Err = reasons[key]
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

// unread identifies an entry that may be readable at the next location.
type unread struct{ role, path string }
