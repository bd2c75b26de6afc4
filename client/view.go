package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/tuf"
)

// View is what one refresh learned. Immutable and safe for concurrent use; it
// stays as it is while the world moves on, so refresh again before acting on an
// old one.
type View struct {
	client   *Client
	tip      *tuf.Root
	set      *set
	place    *place
	evidence []string
	err      error // why there is no content
}

// RootVersion is the version of the newest trusted root.
func (v *View) RootVersion() int64 { return v.tip.Version() }

// Root returns the newest trusted root.
func (v *View) Root() *tuf.Root { return v.tip }

// Place is the id of the location that delivered the content, "" for none.
func (v *View) Place() string {
	if v.place == nil {
		return ""
	}
	return v.place.name
}

// Evidence lists the files that hold what was refused in this refresh; beside
// each lies a .reason.json.
func (v *View) Evidence() []string { return slices.Clone(v.evidence) }

// Err is the error that Refresh returned with this View.
func (v *View) Err() error { return v.err }

// Find decides on one path: see tuf.Snapshot.Approve for what is refused.
func (v *View) Find(ctx context.Context, path string) (tuf.Approved, error) {
	if v.err != nil {
		return tuf.Approved{}, v.err
	}
	var a tuf.Approved
	err := v.ask(ctx, func(get tuf.Fetch) (err error) {
		a, err = v.set.snapshot.Approve(path, get)
		return err
	})
	if err != nil {
		return tuf.Approved{}, fmt.Errorf("client: %w", err)
	}
	return a, nil
}

// ask lets decide run with one place after the other, until it needs nothing
// more from a place or what it needed was right. The set holds the classes' own
// roles; those that they delegate to come from any place that the newest root
// names: the snapshot says which bytes they must be.
func (v *View) ask(ctx context.Context, decide func(tuf.Fetch) error) error {
	defer v.client.rest()
	var problems []error
	for _, p := range v.client.currentPlaces() {
		asked := false
		err := decide(func(f tuf.RoleFile) ([]byte, error) {
			asked = true
			return readAll(ctx, p.source, "metadata/"+roleName(f), f.MaxLength, v.client.cfg.MetadataTimeout)
		})
		if !asked || err == nil || decided(err) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
	}
	return errors.Join(problems...)
}

// decided reports whether err is an answer, which no other place can change.
func decided(err error) bool {
	return errors.Is(err, tuf.ErrNotApproved) || errors.Is(err, tuf.ErrNoTarget) || errors.Is(err, tuf.ErrHeld)
}

// Query asks for the newest release of a product.
type Query struct {
	Product  string
	Channel  string
	Platform string // GOOS/GOARCH; releases for "any" match too
	// Installed is the sequence number of what is installed; 0 for nothing.
	Installed int64
}

// Release is an approved release of a product.
type Release struct {
	tuf.Release
	Approved tuf.Approved
	// Skipped says of each newer release why it is not approved (yet).
	Skipped []error
}

// Latest returns the approved release with the highest sequence, if that is
// above q.Installed. Otherwise the error wraps [ErrUpToDate], and also what
// keeps newer releases from being approved (tuf.ErrNotApproved, tuf.ErrHeld),
// in words that can be shown to people.
func (v *View) Latest(ctx context.Context, q Query) (Release, error) {
	if v.err != nil {
		return Release{}, v.err
	}
	var list []tuf.Candidate
	err := v.ask(ctx, func(get tuf.Fetch) (err error) {
		list, err = v.set.snapshot.Candidates(func(r tuf.Release) bool {
			return r.Product == q.Product && r.Channel == q.Channel && (r.Platform == q.Platform || r.Platform == "any") && r.Sequence > q.Installed
		}, get)
		return err
	})
	if err != nil {
		return Release{}, fmt.Errorf("client: %w", err)
	}
	slices.SortStableFunc(list, func(a, b tuf.Candidate) int { return cmp.Compare(b.Claim.Sequence, a.Claim.Sequence) })
	var skipped []error
	for _, c := range list {
		if c.Err != nil {
			skipped = append(skipped, c.Err)
			continue
		}
		rel, ok := c.Approved.Release()
		if !ok {
			continue
		}
		return Release{rel, c.Approved, skipped}, nil
	}
	if len(skipped) > 0 {
		return Release{}, fmt.Errorf("%w: %w", ErrUpToDate, errors.Join(skipped...))
	}
	return Release{}, fmt.Errorf("%w: %s %s has sequence %d", ErrUpToDate, q.Product, q.Channel, q.Installed)
}
