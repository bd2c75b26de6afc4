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
	// Decisions tells of each release that is above what is installed, the newest
	// first, what was decided and why, down to the one that is offered; with
	// Query.AllowDowngrade of others that were in question too. Then comes what has no
	// version that can be read, and then each role whose releases could not be read
	// (Decision.Role). It is filled beside an error too.
	Decisions []Decision
}

// Latest returns the approved release with the highest version above q.Installed
// that this machine may step to; where that needs an older one first, that one.
// Versions are ordered by tuf.Version: those that compare equal are one version, and
// never an update. Product, version, channel, platform and min_version are those of
// the listing that all parties agree on; what one role claims beside it decides nothing.
//
// Of two releases of one version the one for q.Platform goes before the one for
// "any". Where all parties list one for q.Platform that may not be installed, the
// one for "any" is not offered in its place ([ErrPlatform]), but other versions are.
//
// Nothing below q.Installed is offered unless q.AllowDowngrade says so; and then only
// where all roles could be read, for otherwise whoever keeps a role away could take
// machines back.
//
// Otherwise the error wraps [ErrUpToDate], and also what keeps newer releases
// away (tuf.ErrNotApproved, tuf.ErrRelease, tuf.ErrHeld, [ErrPlatform], [ErrRollout],
// [ErrMinVersion], [ErrDeferred], [ErrDenied], [ErrRecalled]), in words that can be
// shown to people. A role that cannot be read or has expired costs the releases that
// it lists, not those of others: it is in Decisions and in that error. Where it is a
// party's own role of a class, or a hold, and no other class offers a release, the
// error does not wrap ErrUpToDate, for nothing of the class could be decided.
//
// Where all roles could be read, and none lists a release of that product, channel
// and platform, of whatever version, the error wraps [ErrUnknownProduct] instead and
// names what all parties list. So no party alone can make a product unknown. Where
// they agree on none of what they list, the error wraps ErrUpToDate and says that, with
// tuf.ErrNotApproved: no party alone can turn a mistake in q into a silent "up to date".
func (v *View) Latest(ctx context.Context, q Query) (Release, error) {
	installed, err := q.installed()
	if err != nil {
		return Release{}, failure(err)
	}
	if v.err != nil {
		return Release{}, v.err
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
	var undecided []error // of a whole class
	for _, c := range l.failed {
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

// look is one call of Latest.
type selection struct {
	view      *View
	q         Query
	installed tuf.Version
	found     []candidate          // the newest first
	failed    []tuf.Candidate      // roles that could not be read
	seen      map[string]time.Time // see View.firstSeen
}

// choose decides on one release after the other, down to the one that is offered, or
// to what is installed.
func (l *selection) choose() (out Release, skipped []error) {
	var own tuf.Version // the last one that all parties list for this very platform
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
				break // it is the newest that is allowed, and a hold takes no machine back
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

// listed returns an error that wraps [ErrUnknownProduct] where no role lists a release
// that q asks for, of any version. Where roles do and the parties agree on none, it
// returns why not.
func (v *View) listed(ctx context.Context, q Query) (claims []error, err error) {
	const most = 8
	list, err := v.candidates(ctx, q.mayMatch)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		switch {
		case c.Role != "" || q.matches(c) && c.Agreed:
			return nil, nil // it cannot be told, or there is one
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
		return nil, fmt.Errorf("%w: %s %s for platform %s; there are %s", ErrUnknownProduct, product, channel, text.Name(q.Platform), some(platforms))
	case len(channels) > 0:
		return nil, fmt.Errorf("%w: %s in channel %s; there are %s", ErrUnknownProduct, product, channel, some(channels))
	}
	return nil, fmt.Errorf("%w: product %s; there are %s", ErrUnknownProduct, product, some(products))
}

// some names the first few of a list.
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

// candidates brings what [tuf.Snapshot.Candidates] says. One location
// after the other is asked for what could not be read; what no location has stays
// unread, which the entries report.
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
			// That no location is left to ask is no better reason than what they served.
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

// unread is an entry that may read better at the next location.
type unread struct{ role, path string }
