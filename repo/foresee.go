package repo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Pins returns every pin that a product may have been shipped with: one for each
// published root, with the locations of that root. It omits roots that can't be pinned,
// for example because all their locations belong to one operator.
func (r *Repo) Pins(ctx context.Context) (_ [][]byte, err error) {
	defer text.OneLine(&err)
	chain, err := r.Chain(ctx)
	if err != nil {
		return nil, err
	}
	var pins [][]byte
	for _, root := range chain {
		if root.Charter() == nil {
			continue
		}
		pin, err := r.pin(root, root.Charter().SignedAt())
		if errors.Is(err, tuf.ErrCharter) {
			continue
		}
		if err != nil {
			return nil, err
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

// RootEdit is one planned root.
type RootEdit struct {
	At   time.Time         // planned signing time
	Edit func(*Root) error // edits a copy of the root before it
}

// PlanRoots derives the roots that would follow the newest one, as Stage would, and
// checks each as a client would, except for signatures. It signs and writes nothing.
// The version floors are the versions that are published now.
func (r *Repo) PlanRoots(ctx context.Context, steps ...RootEdit) (_ []*tuf.Proposal, err error) {
	defer text.OneLine(&err)
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	var last tuf.RootView = p.root
	propose := p.root.Propose
	var out []*tuf.Proposal
	for _, s := range steps {
		next := rootOf(last)
		if err := s.Edit(next); err != nil {
			return nil, err
		}
		at := s.At.UTC().Truncate(time.Second)
		md, _, err := next.derive(last, p.floors(), at, at.Add(r.cfg.Expiry.Root))
		if err != nil {
			return nil, err
		}
		signed, err := metafile.Canonical(md.Signed)
		if err != nil {
			return nil, err
		}
		f, err := newDraftFile("root", last.Version(), signed)
		if err != nil {
			return nil, err
		}
		proposal, err := propose(f.bytes())
		if err != nil {
			return nil, fmt.Errorf("repo: %w", err)
		}
		out = append(out, proposal)
		last, propose = proposal, proposal.Propose
	}
	return out, nil
}

// Now returns the repository's clock, in whole seconds.
func (r *Repo) Now() time.Time { return r.now() }
