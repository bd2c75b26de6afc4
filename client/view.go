package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// View is the result of one refresh. It is immutable and safe for concurrent use. It is
// a snapshot and is not updated: refresh again before acting on an old one. When the
// first of its metadata files expires, Find and Latest return an error that wraps
// tuf.ErrExpired.
type View struct {
	client   *Client
	trusted  *tuf.Root
	now      time.Time // the time used for verification
	clock    time.Time
	set      *set
	seed     string
	location *location
	evidence []string
	err      error // why there is no content; nil in a View that Refresh returned
}

// Root returns the newest trusted root.
func (v *View) Root() *tuf.Root { return v.trusted }

// TimestampVersion returns the version of the timestamp.
func (v *View) TimestampVersion() int64 {
	if v.set == nil { // the decision of a RefreshError
		return 0
	}
	return v.set.timestamp.Version()
}

// ClockBehind returns how far the machine's clock was behind the time at which the
// newest trusted root was signed, when it was refreshed; 0 if it was not. The signing
// time is then used instead of the clock, which should be corrected. If the signing
// time is wrong instead, the next root corrects it.
func (v *View) ClockBehind() time.Duration { return max(0, v.now.Sub(v.clock)) }

// Head returns the entry of the public log that proves the content, for the product's
// "about" page. The error is not nil if there is no rule of the log, or no proof: with the
// mode warn content is approved all the same, with enforce only what the last proven
// content approves too.
func (v *View) Head() (tuf.Head, error) {
	if v.trusted.LogRule() == nil {
		return tuf.Head{}, &tuf.Error{Role: "root", Version: v.trusted.Version(), Err: tuf.ErrNotLogged, Detail: "the charter has no rule of the log"}
	}
	if v.set.unlogged != nil {
		return tuf.Head{}, failure(v.set.unlogged)
	}
	v.set.mu.Lock()
	defer v.set.mu.Unlock()
	h, _ := v.set.snapshot.Head()
	return h, nil
}

// Location returns the id of the location that delivered the content.
func (v *View) Location() string { return v.location.name }

// Evidence lists the files that were refused in this refresh, as paths; each has a
// .reason.json next to it. With Config.Store they are names in the store.
func (v *View) Evidence() []string { return slices.Clone(v.evidence) }

// Find returns the approved target for a path; see tuf.Snapshot.Approve for the checks.
// In a repository without a charter there is no independent review: see
// tuf.Snapshot.UnsafeTarget.
func (v *View) Find(ctx context.Context, path string) (tuf.Approved, error) {
	var a tuf.Approved
	err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
		if v.trusted.Charter() == nil {
			a, err = snap.UnsafeTarget(path, get)
		} else {
			a, err = snap.Approve(path, get)
		}
		return err
	})
	if err != nil {
		return tuf.Approved{}, failure(err)
	}
	return a, nil
}

// ask calls decide with files from the disk and from locations, until it succeeds or no
// location can change its result. Any location in the newest root may serve the files,
// because timestamp and snapshot determine their bytes. Verified files are kept.
func (v *View) ask(ctx context.Context, decide func(*tuf.Snapshot, tuf.Fetch) error) error {
	c := v.client
	now := later(c.clock(), v.trusted)
	if !v.set.ends.IsZero() && !time.Now().Before(v.set.ends) {
		return &tuf.Error{Role: "view", Err: tuf.ErrExpired, Expires: v.set.until, Detail: "its proof of the public log has ended by the running time; refresh again"}
	}
	if !v.set.until.IsZero() && !now.Before(v.set.until) {
		return &tuf.Error{Role: "view", Err: tuf.ErrExpired, Expires: v.set.until,
			Detail: fmt.Sprintf("the first of its files on %s, now is %s; refresh again", v.set.until.UTC().Format(time.RFC3339), now.Format(time.RFC3339))}
	}
	defer c.closeIdle()
	pc := newPace()
	l := c.loader(pc, func() []*location {
		locations := c.rankedLocations()
		late := func(p *location) int {
			if pc.late[p.key] {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(locations, func(a, b *location) int { return late(a) - late(b) })
		return locations
	}, func(p *location, err error) {
		if errors.Is(err, tuf.ErrUntrusted) || errors.Is(err, errLate) {
			c.avoid(p)
		}
	})
	var opened *tuf.Snapshot
	l.verified = func(f tuf.RoleFile) bool {
		return opened != nil && (f.Role == "snapshot" || opened.Verified(f))
	}
	return l.run(ctx, func(get fetch) error {
		snap, err := v.set.open(func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), "snapshot.json") })
		if err != nil {
			return err
		}
		opened = snap
		err = decide(snap, func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), keptRole(f)) })
		if keepErr := c.keepRoles(snap, l.roles); keepErr != nil {
			c.log.Warn("could not cache role", "error", keepErr)
		}
		return err
	})
}

// buildView checks the newest trusted root, and fetches the content under it.
func (c *Client) buildView(ctx context.Context, w *walk) *View {
	if lag := w.now.Sub(w.clock); lag > 0 {
		c.log.Warn("the machine's clock is behind the signing time of the newest root, which is used instead", "clock", w.clock, "signed", w.now, "root", w.trusted.Version())
	}
	view := &View{client: c, trusted: w.trusted, now: w.now, clock: w.clock, seed: w.session.Seed, err: c.checkRoot(w, w.session.confirm(w))}
	if view.err == nil {
		view.set, view.location, view.err = c.content(ctx, w)
	}
	return view
}

// Decide returns the result of Find as a [Decision].
func (v *View) Decide(ctx context.Context, path string) Decision {
	a, err := v.Find(ctx, path)
	return v.decision(path, tuf.Release{}, a, err)
}

// CheckInstalled reports whether an installed target may continue to run; path and sha256 are
// those of the Approved that was installed. Accepted is false if any party recalled
// these bytes, under any path of their class, or if the path is held or no longer
// listed; the product decides how to react. The error is not nil if no decision was
// possible. A recall counts even if another role cannot be read.
func (v *View) CheckInstalled(ctx context.Context, path, sha256 string) (Decision, error) {
	var recalls []tuf.Recall
	if v.trusted.Charter() != nil {
		// If a role cannot be read, the recalls of the others still count, and Find
		// reports whether a role of the path's class is missing.
		err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
			recalls, err = snap.Recalls(get)
			return retryable(err)
		})
		if ctx.Err() != nil {
			return Decision{}, failure(err)
		}
	}
	class := v.class(path)
	for _, r := range recalls {
		if r.Class == class && strings.EqualFold(r.SHA256, sha256) {
			d := v.decision(path, tuf.Release{}, tuf.Approved{}, fmt.Errorf("%w by %s at %s: %s", tuf.ErrRecalled, text.Name(r.Party), r.At.UTC().Format(time.RFC3339), text.Quote(r.Reason)))
			d.SHA256 = r.SHA256
			return d, nil
		}
	}
	a, err := v.Find(ctx, path)
	if err == nil && !strings.EqualFold(a.SHA256(), sha256) {
		a, err = tuf.Approved{}, &tuf.Error{Role: path, Err: tuf.ErrNoTarget, Detail: fmt.Sprintf("other bytes are listed by now, not sha256 %.16s", sha256)}
	}
	if err != nil && !decided(err) {
		return Decision{}, err
	}
	return v.decision(path, tuf.Release{}, a, err), nil
}

// class returns the class that a path belongs to, "" for none.
func (v *View) class(path string) string {
	if c := v.trusted.Charter(); c != nil {
		for _, class := range c.Classes() {
			if strings.HasPrefix(path, class.Prefix) {
				return class.Name
			}
		}
	}
	return ""
}

func (v *View) decision(path string, claim tuf.Release, a tuf.Approved, err error) Decision {
	d := Decision{Reason: reason(err), Path: path, Root: v.trusted.Version(), Timestamp: v.TimestampVersion(), At: v.now, Err: err}
	if claim != (tuf.Release{}) {
		d.Release = &claim
	}
	if !a.IsZero() {
		d.SHA256, d.Length, d.By = a.SHA256(), a.Length(), a.Signoffs()
		if rel, ok := a.Release(); ok {
			d.Release = &rel
		}
	}
	name := text.Name(path)
	if d.Release != nil && d.Release.Product != "" && d.Release.Version != "" {
		name = text.Name(d.Release.Product) + " " + text.Name(d.Release.Version)
	}
	if d.Accepted = err == nil; d.Accepted {
		d.Sentence = text.Line(fmt.Sprintf("%s is accepted: %s", name, a))
	} else {
		d.Sentence = text.Line(fmt.Sprintf("%s is refused: %s", name, oneLine(err)))
	}
	return d
}

// unread returns the decision on an entry or a role that could not be read.
func (v *View) unread(c tuf.Candidate) Decision {
	d := v.decision(c.Path, tuf.Release{}, tuf.Approved{}, c.Err)
	if d.Role = c.Role; c.Path == "" {
		d.Sentence = text.Line(fmt.Sprintf("releases of role %s are refused: %s", text.Name(c.Role), oneLine(c.Err)))
	}
	return d
}
