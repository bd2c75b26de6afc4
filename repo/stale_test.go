package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// ErrConflict reports a concurrent publication. Every other failure has an error of
// its own, with a message that names it.
func TestNoFalseConflicts(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	refusal := func(reason string) func(*repo.Tx) error {
		return func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: reason}) }
	}
	start := newWorld(t)
	start.Update(add("1"))
	start.Update(renewRoot)
	for name, x := range map[string]struct {
		try   func(w *world) error
		want  error
		words string
	}{
		"a damaged root": {func(w *world) error {
			w.Store.Files["metadata/2.root.json"] = w.Store.Files["metadata/2.root.json"][:500]
			return w.Open().Update(ctx, add("2"))
		}, tuf.ErrMalformed, "metadata/2.root.json"},
		"an empty file where the next root comes": {func(w *world) error {
			w.Store.Files["metadata/3.root.json"] = nil
			return w.Open().Renew(ctx)
		}, tuf.ErrMalformed, "metadata/3.root.json"},
		"a stale draft": {func(w *world) error {
			d, err := w.Open().Stage(ctx, add("2"))
			noErr(t, err)
			w.Update(add("3"))
			return w.Open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "vendor-agent v4 is published, the draft is v3 after v2"},
		"a stale root": {func(w *world) error {
			d, err := w.Open().Stage(ctx, renewRoot)
			noErr(t, err)
			w.Update(w.Again(announce))
			return w.Open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "root v3 is published, the draft is v3 after v2"},
		"a draft that is published already": {func(w *world) error {
			d, err := w.Open().Stage(ctx, add("2"))
			noErr(t, err)
			noErr(t, w.Open().Publish(ctx, d))
			return w.Open().Publish(ctx, travel(t, d))
		}, repo.ErrPublished, "vendor-agent v3: "},
		"a root that is published already": {func(w *world) error {
			d, err := w.Open().Stage(ctx, renewRoot)
			noErr(t, err)
			noErr(t, w.Open().Publish(ctx, d))
			w.Update(renewRoot)
			return w.Open().Publish(ctx, travel(t, d))
		}, repo.ErrPublished, "root v3: "},
		"an own statement": {func(w *world) error {
			d, err := w.Open().Stage(ctx, refusal("no"))
			noErr(t, err)
			w.Update(refusal("never"))
			return w.Open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "the role has published another statement as "},
		"an own statement, with another signature": {func(w *world) error {
			key := repo.Keys{Keys: w.Public("review-release", "review-release-2"), Threshold: 1}
			w.Update(func(tx *repo.Tx) error { tx.Root().Classes[0].Roles[1].Keys = key; return nil })
			d, err := w.Open("review-1").Stage(ctx, refusal("no"))
			noErr(t, err)
			d = w.received(d)
			other := w.received(d)
			noErr(t, d.Sign(ctx, w.Signer("review-release")))
			noErr(t, other.Sign(ctx, w.Signer("review-release-2")))
			noErr(t, w.Open().Publish(ctx, d))
			return w.Open().Publish(ctx, other)
		}, repo.ErrPublished, "with other signatures"},
	} {
		w := start.Copy()
		err := x.try(w)
		if !errors.Is(err, x.want) || errors.Is(err, repo.ErrConflict) || !strings.Contains(err.Error(), x.words) {
			t.Errorf("%s: %v, want %v with %q", name, err, x.want, x.words)
		}
	}

	// The location is on this machine, and the handle does not allow that.
	w := emptyWorld(t)
	open := func(allowed bool) *repo.Repo {
		cfg := w.Config()
		cfg.UnsafeLoopback = allowed
		for _, s := range w.Keys {
			cfg.Signers = append(cfg.Signers, s)
		}
		return repo.New(w.Store, cfg)
	}
	local := func(tx *repo.Tx) error {
		err := w.Define(tx)
		tx.Root().Locations[1].Base = "http://127.0.0.1:8080/"
		return err
	}
	for _, name := range slices.Concat(vendorKeys, reviewKeys) {
		w.Signer(name)
	}
	noErr(t, open(true).Update(ctx, local))
	noErr(t, open(true).Update(ctx, add("1")))
	err := open(false).Update(ctx, add("2"))
	if !errors.Is(err, tuf.ErrCharter) || errors.Is(err, repo.ErrConflict) || !strings.Contains(err.Error(), "UnsafeLoopback") {
		t.Error(err)
	}
}
