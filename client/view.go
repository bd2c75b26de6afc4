package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// View is what one refresh learned. Immutable and safe for concurrent use. It is a
// snapshot and is not updated: refresh again before acting on an old one. When the
// first of its metadata files expires it answers no more: Find and Latest then
// return an error that wraps tuf.ErrExpired.
type View struct {
	client   *Client
	tip      *tuf.Root
	now      time.Time
	set      *set
	dice     string
	place    *place
	evidence []string
	err      error // why there is no content
}

// State is what a refresh found, in a word.
type State string

// The states of a [View], each but StateOK with the error of the same name.
const (
	StateOK        State = "ok"         // current root, current content
	StatePartial   State = "partial"    // [ErrPartial]
	StateNoContent State = "no-content" // [ErrNoContent]
	StateStale     State = "stale"      // [ErrStale]
	StateDark      State = "dark"       // [ErrDark]
	StateBehind    State = "behind"     // [ErrBehind]
)

// State is what the refresh found.
func (v *View) State() State {
	for _, s := range []struct {
		err   error
		state State
	}{{ErrPartial, StatePartial}, {ErrDark, StateDark}, {ErrBehind, StateBehind}, {ErrStale, StateStale}} {
		if errors.Is(v.err, s.err) {
			return s.state
		}
	}
	if v.err != nil {
		return StateNoContent
	}
	return StateOK
}

// RootVersion is the version of the newest trusted root.
func (v *View) RootVersion() int64 { return v.tip.Version() }

// Root returns the newest trusted root.
func (v *View) Root() *tuf.Root { return v.tip }

// Timestamp is the version of the timestamp, 0 where there is no content.
func (v *View) Timestamp() int64 {
	if v.set == nil {
		return 0
	}
	return v.set.timestamp.Version()
}

// Place is the id of the location that delivered the content, "" for none.
func (v *View) Place() string {
	if v.place == nil {
		return ""
	}
	return v.place.name
}

// Evidence lists the files that hold what was refused in this refresh; beside
// each lies a .reason.json. With Config.Store they are names in the store.
func (v *View) Evidence() []string { return slices.Clone(v.evidence) }

// Err is the error that Refresh returned with this View.
func (v *View) Err() error { return v.err }

// Find decides on one path: see tuf.Snapshot.Approve for what is refused. In a
// repository without a charter nobody reviews: see tuf.Snapshot.UnsafeTarget.
func (v *View) Find(ctx context.Context, path string) (tuf.Approved, error) {
	if v.err != nil {
		return tuf.Approved{}, v.err
	}
	var a tuf.Approved
	err := v.ask(ctx, func(snap *tuf.Snapshot, get tuf.Fetch) (err error) {
		if v.tip.Charter() == nil {
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

// ask lets decide run with what is on disk and what locations serve, until it
// needs nothing more or what it was given was right. Files come from any location
// that the newest root names: timestamp and snapshot say which bytes they must be.
// Those that verified are kept.
func (v *View) ask(ctx context.Context, decide func(*tuf.Snapshot, tuf.Fetch) error) error {
	c := v.client
	now := later(c.clock(), v.tip)
	if !v.set.until.IsZero() && !now.Before(v.set.until) {
		return &tuf.Error{Role: "view", Err: tuf.ErrExpired, Expires: v.set.until,
			Detail: fmt.Sprintf("its metadata on %s, now is %s; refresh again", v.set.until.UTC().Format(time.RFC3339), now.Format(time.RFC3339))}
	}
	defer c.rest()
	pc := newPace()
	l := c.loader(pc, func() []*place {
		places, avoided := c.currentPlaces(), c.avoided(c.clock())
		last := func(p *place) int {
			if avoided[p.key] || pc.late[p.key] {
				return 1
			}
			return 0
		}
		slices.SortStableFunc(places, func(a, b *place) int { return last(a) - last(b) })
		return places
	}, func(p *place, err error) {
		if errors.Is(err, tuf.ErrUntrusted) || errors.Is(err, errLate) {
			c.avoid(p)
		}
	})
	var opened *tuf.Snapshot
	l.verified = func(f tuf.RoleFile) bool {
		return opened != nil && (f.Role == "snapshot" || opened.RoleBytes(f.Role) != nil)
	}
	return l.run(ctx, func(get fetch) error {
		snap, err := v.set.open(func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), "snapshot.json") })
		if err != nil {
			return err
		}
		opened = snap
		err = decide(snap, func(f tuf.RoleFile) ([]byte, error) { return get(f, f.Name(), keptRole(f)) })
		if keepErr := c.keepRoles(snap, l.roles); keepErr != nil {
			c.log.Warn("a role is not kept", "error", keepErr)
		}
		return err
	})
}

// decided reports whether err is an answer, which no other place can change.
func decided(err error) bool {
	for _, final := range []error{tuf.ErrNotApproved, tuf.ErrNoTarget, tuf.ErrHeld, tuf.ErrRecalled, tuf.ErrRelease} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
