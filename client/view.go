package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// View is what one refresh learned. Immutable and safe for concurrent use; it
// stays as it is while the world moves on, so refresh again before acting on an
// old one.
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

// ask lets decide run with what is on disk and one place after the other, until
// it needs nothing more or what it was given was right. Files come from any
// place that the newest root names: timestamp and snapshot say which bytes they
// must be. Those that verified are kept.
func (v *View) ask(ctx context.Context, decide func(*tuf.Snapshot, tuf.Fetch) error) error {
	c := v.client
	defer c.rest()
	var problems []error
	places := c.currentPlaces()
	for disk := true; disk || len(places) > 0; {
		var kept bool
		var asked []string
		// fromDisk names the file in the store.
		fetch := func(f tuf.RoleFile, name, fromDisk string) ([]byte, error) {
			if disk {
				if data, err := c.store.Read(fromDisk, f.MaxLength); err == nil {
					kept = true
					return data, nil
				}
			}
			asked = append(asked, f.Role)
			if len(places) == 0 {
				return nil, fmt.Errorf("%s: no place to ask", name)
			}
			return readAll(ctx, places[0].source, "metadata/"+name, f.MaxLength, c.cfg.MetadataTimeout)
		}
		snap, err := v.set.open(func(f tuf.RoleFile) ([]byte, error) {
			return fetch(f, fmt.Sprintf("%d.snapshot.json", f.Version), "snapshot.json")
		})
		if err == nil {
			err = decide(snap, func(f tuf.RoleFile) ([]byte, error) { return fetch(f, roleName(f), keptRole(f)) })
			if keepErr := c.keepRoles(snap, asked); keepErr != nil {
				c.log.Warn("a role is not kept", "error", keepErr)
			}
		}
		switch {
		case err == nil || decided(err):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case kept:
			disk = false // what is there may be damaged: the same place again, without it
			problems = append(problems, err)
			continue
		case len(asked) == 0:
			return err // no place can change it
		}
		if len(places) > 0 {
			err = fmt.Errorf("%s: %w", places[0].name, err)
			places = places[1:]
		} else {
			disk = false
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// decided reports whether err is an answer, which no other place can change.
func decided(err error) bool {
	return errors.Is(err, tuf.ErrNotApproved) || errors.Is(err, tuf.ErrNoTarget) || errors.Is(err, tuf.ErrHeld)
}
