package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Pins returns every pin that a product may have been shipped with: one for each
// published root, with the locations of that root. Of a root without the party
// [Config].Review, each party that has left since may have been the reviewing one. Pins
// omits roots that can't be pinned, for example because all their locations belong to one
// operator.
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
		for _, review := range r.reviewers(root, chain[len(chain)-1]) {
			pin, err := r.pin(root, review, root.Charter().SignedAt())
			if errors.Is(err, tuf.ErrCharter) {
				continue
			}
			if err != nil {
				return nil, err
			}
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

// reviewers returns the names of the parties that may have been the reviewing one of a
// root: the one of the configuration, or those that the newest root does not have.
func (r *Repo) reviewers(root, newest *tuf.Root) (out []string) {
	is := func(name string) func(tuf.Party) bool { return func(p tuf.Party) bool { return p.Name == name } }
	parties := root.Charter().Parties()
	if root == newest || newest.Charter() == nil || slices.ContainsFunc(parties, is(r.cfg.Review)) {
		return []string{r.cfg.Review}
	}
	for _, p := range parties {
		if !slices.ContainsFunc(newest.Charter().Parties(), is(p.Name)) {
			out = append(out, p.Name)
		}
	}
	return out
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
