package client_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// A root signed on a machine whose clock was ten years ahead leaves clients without
// content. The next root, signed at the right time, repairs them: those that have seen
// the wrong one, in the same process and in others, and those that skip it.
func TestRootSignedAhead(t *testing.T) {
	var log bytes.Buffer
	in := func(cfg *client.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	w := newWeb(t)
	c := w.client(in)
	if view := w.good(c, 1); view.ClockBehind() != 0 || strings.Contains(log.String(), "clock is behind") {
		t.Errorf("a valid twin: %s, %s", view.ClockBehind(), log.String())
	}
	ahead := rawtuf.Now.AddDate(10, 0, 0)
	w.repo.NextRoot(func() {
		w.repo.Charter()["signed_at"] = rawtuf.Stamp(ahead)
		w.repo.Root["expires"] = rawtuf.Stamp(ahead.AddDate(1, 0, 0))
	})
	for _, c := range []*client.Client{c, w.client(in)} {
		view := w.bad(c, client.ErrNoContent)
		if got := view.ClockBehind; got != ahead.Sub(w.now) || !errors.Is(view.Err, tuf.ErrExpired) {
			t.Errorf("%s behind, %v", got, view.Err)
		}
	}
	if !strings.Contains(log.String(), "clock is behind") {
		t.Errorf("nothing in the log: %s", log.String())
	}
	w.repo.NextRoot(func() {
		w.repo.Charter()["signed_at"] = rawtuf.Stamp(rawtuf.Now)
		w.repo.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(0, 1, 0))
	})
	passing := w.client(func(cfg *client.Config) { cfg.Dir = quickDir(t) })
	for _, c := range []*client.Client{c, w.client(), passing} {
		if view := w.good(c, 3); view.ClockBehind() != 0 {
			t.Errorf("%s behind", view.ClockBehind())
		}
	}
}

// Without a network, timestamps and snapshots are accepted for the configured time
// after their expiry; roots and the parties' roles are not.
func TestUnsafeStale(t *testing.T) {
	const week = 7 * 24 * time.Hour
	end := rawtuf.Now.Add(time.Hour)
	expires := func(roles ...string) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			for _, role := range roles {
				r.Roles[role]["expires"] = rawtuf.Stamp(end)
			}
		}
	}
	for name, tt := range map[string]struct {
		edit  func(*rawtuf.Repo)
		stale time.Duration
		late  time.Duration // after the expiry
		ok    bool
	}{
		"in date":              {expires("timestamp", "snapshot"), 0, -1, true},
		"timestamp":            {expires("timestamp"), 0, 0, false},
		"timestamp within":     {expires("timestamp"), week, week - 1, true},
		"timestamp at the end": {expires("timestamp"), week, week, false},
		"snapshot":             {expires("snapshot"), 0, 0, false},
		"snapshot within":      {expires("snapshot"), week, week - 1, true},
		"snapshot at the end":  {expires("snapshot"), week, week, false},
		"both within":          {expires("timestamp", "snapshot"), week, week - 1, true},
		"both, time too short": {expires("timestamp", "snapshot"), week, 2 * week, false},
		"the vendor's role":    {expires("vendor-agent"), week, 0, false},
		"the review's role":    {expires("review-agent"), week, 0, false},
		"the holds":            {expires("hold"), week, 0, false},
		"root":                 {func(r *rawtuf.Repo) { r.Root["expires"] = rawtuf.Stamp(end) }, week, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, tt.edit)
			w.now = end.Add(tt.late)
			z := bundle(t, w.repo)
			in := func(cfg *client.Config) {
				cfg.Sources, cfg.Offline, cfg.UnsafeStale = []client.Source{client.FSSource(z)}, true, tt.stale
			}
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
			// The View expires at the end of that time, and a process without
			// UnsafeStale does not use the content.
			w.bad(w.client(func(cfg *client.Config) { in(cfg); cfg.UnsafeStale = 0 }), tuf.ErrExpired)
			w.good(c, 1)
			w.now = end.Add(tt.stale)
			w.bad(c, tuf.ErrExpired)
			if strings.HasPrefix(name, "timestamp") {
				return
			}
			if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrExpired) {
				t.Errorf("the view: %v", err)
			}
		})
	}
	w := newWeb(t)
	for what, cfg := range map[string]*client.Config{
		"not offline": {Dir: t.TempDir(), UnsafeStale: week},
		"below 0":     {Dir: t.TempDir(), Sources: []client.Source{client.FSSource(bundle(t, w.repo))}, Offline: true, UnsafeStale: -1},
	} {
		if _, err := client.New(w.pin(), cfg); err == nil || !strings.Contains(err.Error(), "UnsafeStale") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// What Bundle reports is what a client without a network finds.
func TestUseOfABundle(t *testing.T) {
	w := newWorld(t)
	w.add("1.0", "the agent")
	w.approve("1.0")
	pin := w.pin()
	w.now = w.now.Add(10 * 24 * time.Hour)
	if err := w.open().Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	var use mirror.BundleUse
	loopback := mirror.Options{UnsafeLoopback: true}
	if err := mirror.Bundle(t.Context(), &b, storage.Dir(w.a.dir), pin, &mirror.BundleOptions{Options: loopback, Metadata: true, Report: func(u mirror.BundleUse) { use = u }}); err != nil {
		t.Fatal(err)
	}
	if got, stale := use.Until.Sub(w.now), use.UntilStale.Sub(w.now); got != 24*time.Hour || stale != 20*24*time.Hour {
		t.Errorf("until in %s, and stale in %s", got, stale)
	}
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		stale time.Duration
		at    time.Time
		ok    bool
	}{
		{0, use.Until.Add(-1), true},
		{0, use.Until, false},
		{1000 * time.Hour, use.Until, true},
		{1000 * time.Hour, use.UntilStale.Add(-1), true},
		{1000 * time.Hour, use.UntilStale, false},
	} {
		w.now = tt.at
		c := w.client(pin, func(cfg *client.Config) {
			cfg.Sources, cfg.Offline, cfg.UnsafeStale = []client.Source{client.FSSource(z)}, true, tt.stale
		})
		view, err := c.Refresh(t.Context())
		if err == nil {
			_, err = view.Find(t.Context(), target("1.0"))
		}
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, tuf.ErrExpired) {
			t.Errorf("with %s at %s: %v", tt.stale, tt.at, err)
		}
	}
	// A bundle of roots has no content, and no expiry.
	if err := mirror.Bundle(t.Context(), &b, storage.Dir(w.a.dir), pin, &mirror.BundleOptions{Options: loopback, Report: func(mirror.BundleUse) { t.Error("a report on roots") }}); err != nil {
		t.Error(err)
	}
}
