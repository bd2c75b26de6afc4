package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// locationConfig is a location of the charter whose files visum writes: a copy of those
// in the storage of the repository.
type locationConfig struct {
	ID      string `toml:"id"`      // of the location in the charter
	Storage string `toml:"storage"` // path of its directory, or a URI
}

// Publish publishes a draft, and updates the copies at other locations: those that serve
// roots only after a new root or recovery.
func (s *site) Publish(ctx context.Context, d *repo.Draft) error {
	if err := s.Repo.Publish(ctx, d); err != nil {
		return s.interrupted(ctx, d, err)
	}
	return s.published(func(s *site) error {
		return s.writeCopies(ctx, d.File("root") != nil || d.File("recovery statement") != nil)
	})
}

// Renew renews, and updates the copies at all other locations, also after a publish whose
// copies failed.
func (s *site) Renew(ctx context.Context) error {
	if err := s.Repo.Renew(ctx); err != nil {
		return err
	}
	return s.published(func(s *site) error { return s.writeCopies(ctx, true) })
}

// copies returns a function that updates the copies at other locations, those that serve
// roots only first: every copy is a valid repository at each moment.
func (a *app) copies(list []locationConfig) func(context.Context, *site, bool) error {
	return func(ctx context.Context, s *site, roots bool) error {
		chain, err := s.Chain(ctx)
		if err != nil {
			return err
		}
		newest := chain[len(chain)-1]
		tiers, have := map[string]string{}, []string{}
		for _, l := range newest.Charter().Locations() {
			tiers[l.ID], have = l.Tier, append(have, text.Name(l.ID))
		}
		var all []error
		for _, full := range []bool{false, true} {
			for _, l := range list {
				tier, ok := tiers[l.ID]
				switch {
				case full == (tier == tuf.Rendezvous) || !full && !roots:
					continue
				case !ok:
					err = usage("root %d has no location %s; it has: %s", newest.Version(), text.Name(l.ID), strings.Join(have, ", "))
				case full:
					err = a.cloneTo(ctx, s, l.Storage)
				default:
					err = a.rootsTo(ctx, s, l.Storage)
				}
				if err != nil {
					all = append(all, fmt.Errorf("location %s: %w", text.Name(l.ID), err))
				}
			}
		}
		if err := errors.Join(all...); err != nil {
			// The cause is not wrapped: it is not one of the publish.
			return fmt.Errorf("published, but not at every location: %v; next: visum renew, which writes there again", err)
		}
		return nil
	}
}

func (a *app) rootsTo(ctx context.Context, s *site, uri string) error {
	to, err := a.openStorage(uri, false)
	if err != nil {
		return err
	}
	return relocate.PublishRootsOnly(ctx, s.Repo, to)
}

func (a *app) cloneTo(ctx context.Context, s *site, uri string) error {
	to, err := a.openStorage(uri, false)
	if err != nil {
		return err
	}
	pin, err := s.anchor(ctx)
	if err != nil {
		return err
	}
	opt := &mirror.Options{Now: a.Now, UnsafeLoopback: s.loopback, Progress: a.progress(), Skipped: func(f mirror.Finding) { a.note("%s", f) }}
	for again := 0; ; again++ {
		// Another publisher may be faster; then its files are copied.
		if err := mirror.Clone(ctx, to, storage.SourceOf(s.storage), pin, opt); !errors.Is(err, storage.ErrConflict) || again == 3 {
			return err
		}
	}
}

// writeCopies updates the copies at other locations, if visum.toml has any.
func (s *site) writeCopies(ctx context.Context, roots bool) error {
	if s.copyTo == nil {
		return nil
	}
	return s.copyTo(ctx, s, roots)
}

// interrupted says of a publish that was interrupted whether it came into force.
func (s *site) interrupted(ctx context.Context, d *repo.Draft, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if s.outer != nil { // what a batch wrote is not in force before its end
		s = s.outer
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	switch _, now := s.NewTargets(look, d); {
	case errors.Is(now, repo.ErrPublished):
		return errors.New("interrupted: the change is published; next: visum renew, which completes copies at other locations")
	case now == nil:
		return errors.New("interrupted: nothing is published")
	default:
		return fmt.Errorf("interrupted, and whether the change is published is not known: %w; next: visum status", now)
	}
}
