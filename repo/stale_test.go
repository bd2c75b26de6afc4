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
	start.update(add("1"))
	start.update(renewRoot)
	for name, x := range map[string]struct {
		try   func(w *world) error
		want  error
		words string
	}{
		"a damaged root": {func(w *world) error {
			w.store.files["metadata/2.root.json"] = w.store.files["metadata/2.root.json"][:500]
			return w.open().Update(ctx, add("2"))
		}, tuf.ErrMalformed, "metadata/2.root.json"},
		"an empty file where the next root comes": {func(w *world) error {
			w.store.files["metadata/3.root.json"] = nil
			return w.open().Renew(ctx)
		}, tuf.ErrMalformed, "metadata/3.root.json"},
		"a stale draft": {func(w *world) error {
			d, err := w.open().Stage(ctx, add("2"))
			noErr(t, err)
			w.update(add("3"))
			return w.open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "vendor-agent v4 is published, the draft is v3 after v2"},
		"a stale root": {func(w *world) error {
			d, err := w.open().Stage(ctx, renewRoot)
			noErr(t, err)
			w.update(w.again(announce))
			return w.open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "root v3 is published, the draft is v3 after v2"},
		"a draft that is published already": {func(w *world) error {
			d, err := w.open().Stage(ctx, add("2"))
			noErr(t, err)
			noErr(t, w.open().Publish(ctx, d))
			return w.open().Publish(ctx, travel(t, d))
		}, repo.ErrPublished, "vendor-agent v3: "},
		"a root that is published already": {func(w *world) error {
			d, err := w.open().Stage(ctx, renewRoot)
			noErr(t, err)
			noErr(t, w.open().Publish(ctx, d))
			w.update(renewRoot)
			return w.open().Publish(ctx, travel(t, d))
		}, repo.ErrPublished, "root v3: "},
		"an own statement": {func(w *world) error {
			d, err := w.open().Stage(ctx, refusal("no"))
			noErr(t, err)
			w.update(refusal("never"))
			return w.open().Publish(ctx, travel(t, d))
		}, repo.ErrStale, "the role has published another statement as "},
		"an own statement, with another signature": {func(w *world) error {
			key := repo.Keys{Keys: w.public("review-release", "review-release-2"), Threshold: 1}
			w.update(func(tx *repo.Tx) error { tx.Root().Classes[0].Roles[1].Keys = key; return nil })
			d, err := w.open("review-1").Stage(ctx, refusal("no"))
			noErr(t, err)
			d = w.received(d)
			other := w.received(d)
			noErr(t, d.Sign(ctx, w.signer("review-release")))
			noErr(t, other.Sign(ctx, w.signer("review-release-2")))
			noErr(t, w.open().Publish(ctx, d))
			return w.open().Publish(ctx, other)
		}, repo.ErrPublished, "with other signatures"},
	} {
		w := start.copy()
		err := x.try(w)
		if !errors.Is(err, x.want) || errors.Is(err, repo.ErrConflict) || !strings.Contains(err.Error(), x.words) {
			t.Errorf("%s: %v, want %v with %q", name, err, x.want, x.words)
		}
	}

	// The location is on this machine, and the handle does not allow that.
	w := emptyWorld(t)
	open := func(allowed bool) *repo.Repo {
		cfg := w.config()
		cfg.UnsafeLoopback = allowed
		for _, s := range w.keys {
			cfg.Signers = append(cfg.Signers, s)
		}
		return repo.New(w.store, cfg)
	}
	local := func(tx *repo.Tx) error {
		err := w.found(tx)
		tx.Root().Locations[1].Base = "http://127.0.0.1:8080/"
		return err
	}
	for _, name := range slices.Concat(vendorKeys, reviewKeys) {
		w.signer(name)
	}
	noErr(t, open(true).Update(ctx, local))
	noErr(t, open(true).Update(ctx, add("1")))
	err := open(false).Update(ctx, add("2"))
	if !errors.Is(err, tuf.ErrCharter) || errors.Is(err, repo.ErrConflict) || !strings.Contains(err.Error(), "UnsafeLoopback") {
		t.Error(err)
	}
}
