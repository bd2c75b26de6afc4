package client

import (
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
	places   []*place
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
	a, err := v.set.snapshot.Approve(path, v.fetch(ctx))
	if err != nil {
		return tuf.Approved{}, fmt.Errorf("client: %w", err)
	}
	return a, nil
}

// fetch brings delegated roles that the set does not hold yet, from any place:
// the snapshot says which bytes they must be.
func (v *View) fetch(ctx context.Context) tuf.Fetch {
	return v.set.fetch(func(f tuf.RoleFile) ([]byte, error) {
		var problems []error
		for _, p := range v.places {
			if !p.content {
				continue
			}
			data, err := readAll(ctx, p.source, "metadata/"+roleName(f), f.MaxLength, v.client.cfg.MetadataTimeout)
			if err == nil {
				return data, nil
			}
			problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
		}
		return nil, errors.Join(problems...)
	})
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
	list, err := v.set.snapshot.Candidates(func(r tuf.Release) bool {
		return r.Product == q.Product && r.Channel == q.Channel && (r.Platform == q.Platform || r.Platform == "any") && r.Sequence > q.Installed
	}, v.fetch(ctx))
	if err != nil {
		return Release{}, fmt.Errorf("client: %w", err)
	}
	slices.SortStableFunc(list, func(a, b tuf.Candidate) int { return int(min(max(b.Claim.Sequence-a.Claim.Sequence, -1), 1)) })
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
