package client_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/tuftest"
	"github.com/visum-dev/visum/tuf"
)

// A root that was signed on a machine whose clock was ten years ahead leaves
// clients without content, and the next root, signed at the right time, heals them:
// those that have seen it, in the same process and in others, and those that pass it.
func TestRootSignedAhead(t *testing.T) {
	var log bytes.Buffer
	in := func(cfg *client.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	w := newWeb(t)
	c := w.client(in)
	if view := w.good(c, 1); view.ClockBehind() != 0 || strings.Contains(log.String(), "clock is before") {
		t.Errorf("the healthy twin: %s, %s", view.ClockBehind(), log.String())
	}
	ahead := tuftest.Now.AddDate(10, 0, 0)
	w.repo.NextRoot(func() {
		w.repo.Charter()["signed_at"] = tuftest.Stamp(ahead)
		w.repo.Root["expires"] = tuftest.Stamp(ahead.AddDate(1, 0, 0))
	})
	for _, c := range []*client.Client{c, w.client(in)} {
		view := w.bad(c, client.ErrNoContent)
		if got := view.ClockBehind(); got != ahead.Sub(w.now) || !errors.Is(view.Err(), tuf.ErrExpired) {
			t.Errorf("%s behind, %v", got, view.Err())
		}
	}
	if !strings.Contains(log.String(), "clock is before") {
		t.Errorf("nothing in the log: %s", log.String())
	}
	w.repo.NextRoot(func() {
		w.repo.Charter()["signed_at"] = tuftest.Stamp(tuftest.Now)
		w.repo.Root["expires"] = tuftest.Stamp(tuftest.Now.AddDate(0, 1, 0))
	})
	passing := w.client(func(cfg *client.Config) { cfg.Dir = quickDir(t) })
	for _, c := range []*client.Client{c, w.client(), passing} {
		if view := w.good(c, 3); view.ClockBehind() != 0 {
			t.Errorf("%s behind", view.ClockBehind())
		}
	}
}

// Where no network goes, timestamps and snapshots are accepted for as long after
// their expiry as the administrator says; roots and the parties' roles are not.
func TestUnsafeStale(t *testing.T) {
	const week = 7 * 24 * time.Hour
	end := tuftest.Now.Add(time.Hour)
	expires := func(roles ...string) func(*tuftest.Repo) {
		return func(r *tuftest.Repo) {
			for _, role := range roles {
				r.Roles[role]["expires"] = tuftest.Stamp(end)
			}
		}
	}
	for name, tt := range map[string]struct {
		edit  func(*tuftest.Repo)
		stale time.Duration
		late  time.Duration // after the expiry
		ok    bool
	}{
		"in date":                {expires("timestamp", "snapshot"), 0, -1, true},
		"timestamp":              {expires("timestamp"), 0, 0, false},
		"timestamp within":       {expires("timestamp"), week, week - 1, true},
		"timestamp at the end":   {expires("timestamp"), week, week, false},
		"snapshot":               {expires("snapshot"), 0, 0, false},
		"snapshot within":        {expires("snapshot"), week, week - 1, true},
		"snapshot at the end":    {expires("snapshot"), week, week, false},
		"both within":            {expires("timestamp", "snapshot"), week, week - 1, true},
		"both, within too short": {expires("timestamp", "snapshot"), week, 2 * week, false},
		"the vendor's role":      {expires("vendor-agent"), week, 0, false},
		"the review's role":      {expires("review-agent"), week, 0, false},
		"the holds":              {expires("hold"), week, 0, false},
		"root":                   {func(r *tuftest.Repo) { r.Root["expires"] = tuftest.Stamp(end) }, week, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, tt.edit)
			w.now = end.Add(tt.late)
			z := bundle(t, w.repo)
			in := func(cfg *client.Config) { cfg.Sources, cfg.Offline, cfg.UnsafeStale = []client.Source{client.FS(z)}, true, tt.stale }
			if !tt.ok {
				w.bad(w.client(in), tuf.ErrExpired)
				return
			}
			c := w.client(in)
			view := w.good(c, 1)
			w.good(c, 1)
			if tt.stale == 0 {
				return
			}
			// The View ends when the time is over, and a process without leave has no part in it.
			w.bad(w.client(func(cfg *client.Config) { in(cfg); cfg.UnsafeStale = 0 }), tuf.ErrExpired)
			w.good(c, 1)
			w.now = end.Add(tt.stale)
			w.bad(c, tuf.ErrExpired)
			if strings.HasPrefix(name, "timestamp") {
				return
			}
			if _, err := view.Find(t.Context(), tuftest.Path); !errors.Is(err, tuf.ErrExpired) {
				t.Errorf("the view: %v", err)
			}
		})
	}
	w := newWeb(t)
	for what, cfg := range map[string]*client.Config{
		"not offline": {Dir: t.TempDir(), UnsafeStale: week},
		"below 0":     {Dir: t.TempDir(), Sources: []client.Source{client.FS(bundle(t, w.repo))}, Offline: true, UnsafeStale: -1},
	} {
		if _, err := client.New(w.pin(), cfg); err == nil || !strings.Contains(err.Error(), "UnsafeStale") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
