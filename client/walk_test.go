package client_test

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// probing sets the charter's probe rule.
func probing(mode string, maxAge time.Duration) func(*rawtuf.Repo) {
	return func(r *rawtuf.Repo) {
		r.Charter()["probe"] = rawtuf.Doc{"min_operators": 2, "every_seconds": 3600, "max_age_seconds": int(maxAge / time.Second), "mode": mode}
	}
}

func nothing() {}

// An honest location is found although a frozen one of the same operator answers first,
// and no other does.
func TestFrozenMirrorOfSameOperator(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "cdn" {
				l["operator"] = "vendor-ch"
			}
		})
	})
	c := w.client()
	w.shows(w.repo.Clone(), vendorHost)
	w.good(c, 1)
	if got := w.asked(cdnHost); len(got) > 0 {
		t.Errorf("two operators were enough, but the other mirror was asked %q", got)
	}
	w.does(unreachable, reviewHost)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 2)
}

// A location that served an invalid root is not asked for the next one; one that did
// not answer is asked last. Neither is asked for content while others have it.
func TestMaliciousAndUnreachableLocations(t *testing.T) {
	for name, tt := range map[string]struct {
		does answer
		want []string
	}{
		"malicious": {body("root.json", []byte("{}")), []string{"metadata/2.root.json"}},
		"silent":    {unreachable, []string{"metadata/2.root.json", "metadata/5.root.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			c := w.client()
			w.does(tt.does, vendorHost)
			w.does(unreachable, reviewHost)
			for range 3 {
				w.repo.NextRoot(nothing)
			}
			w.good(c, 4)
			isTimestamp := func(s string) bool { return s == "metadata/timestamp.json" }
			got := w.asked(vendorHost)
			roots := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !strings.HasSuffix(s, "root.json") })
			content := slices.DeleteFunc(slices.Clone(got), func(s string) bool { return !isTimestamp(s) })
			// One timestamp may be requested while nothing is known yet.
			if !slices.Equal(roots, tt.want) || len(content) > 1 {
				t.Errorf("asked %q", got)
			}
		})
	}
}

// 403 and 410 mean, like 404, that there is no such root.
func TestStatusesOfAnAbsentRoot(t *testing.T) {
	w := newWeb(t)
	w.does(status(403, "root.json", nil), vendorHost)
	w.does(status(410, "root.json", nil), cdnHost)
	w.good(w.client(), 1)
	if got := w.asked(reviewHost); len(got) > 0 {
		t.Errorf("two operators reported none, but another was asked %q", got)
	}
}

// A clock that is behind does not make expired metadata valid: the time is at least the
// signing time of the root.
func TestClockBehind(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) { r.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now.Add(-time.Hour)) })
	w.now = w.now.AddDate(-2, 0, 0)
	w.bad(w.client(), tuf.ErrExpired)
	w.repo.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
	renew(w.repo)
	w.good(w.client(), 1)
}

// A malicious location is avoided by its address, not by its name: the pin uses the
// name for another location.
func TestTwoLocationsOfOneName(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	w.repo.NextRoot(func() {
		locations(w.repo, func(id string, l rawtuf.Doc) {
			if id == "main" {
				l["base"] = "https://new.vendor.example/r/"
			}
		})
	})
	w.good(c, 2)
	w.does(body("3.root.json", []byte("{}")), "new.vendor.example")
	w.does(unreachable, cdnHost, reviewHost)
	w.repo.NextRoot(nothing)
	w.good(c, 3)
}

func TestSeveralSourcesOffline(t *testing.T) {
	w := newWeb(t)
	folder := func() client.Source {
		m := fstest.MapFS{}
		for name, data := range w.repo.Files {
			m["metadata/"+name] = &fstest.MapFile{Data: data}
		}
		return client.FSSource(m)
	}
	old := folder()
	w.repo.NextRoot(nothing)
	c := w.client(func(cfg *client.Config) { cfg.Sources, cfg.Offline = []client.Source{old, folder()}, true })
	w.good(c, 2)
	if got := w.asked(""); len(got) > 0 {
		t.Errorf("offline, but asked %q", got)
	}
}

// If the trusted root has expired there must be a newer one: all locations are asked,
// also if no probe is due.
func TestExpiredRootAsksAllLocations(t *testing.T) {
	w := newWeb(t, probing("warn", 2000*time.Hour), func(r *rawtuf.Repo) { r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour)) })
	c := w.client()
	w.good(c, 1)
	w.now = w.now.Add(time.Hour)
	frozen := w.repo.Clone()
	w.shows(frozen, vendorHost, cdnHost) // two operators that would be enough
	w.bad(c, client.ErrStale)
	w.asked("")
	w.bad(c, client.ErrStale)
	if got := w.asked(vendorHost); !slices.Equal(got, []string{"metadata/2.root.json"}) {
		t.Errorf("a location that had answered was asked %q", got)
	}
	w.repo.NextRoot(func() { w.repo.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(0, 2, 0)) })
	w.good(c, 2)
}

// After a refresh without content the next one is a probe.
func TestFailureMakesAProbe(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	w.good(c, 1)
	w.asked("")
	w.good(c, 1)
	if got := w.asked(cdnHost); len(got) > 0 {
		t.Fatalf("no probe was due, asked %q", got)
	}
	w.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost)
	w.bad(c, client.ErrNoContent)
	w.does(nil, vendorHost, cdnHost)
	w.asked("")
	w.good(c, 1)
	if got := w.asked(reviewHost); len(got) == 0 { // the others are asked last
		t.Error("no probe after a failure")
	}
	// A probe that only one operator answered is repeated.
	w.now = w.now.Add(24 * time.Hour)
	w.does(unreachable, cdnHost, reviewHost)
	w.good(c, 1)
	w.does(nil, cdnHost, reviewHost)
	w.asked("")
	w.good(c, 1)
	if got := w.asked(""); !slices.ContainsFunc(got, func(r string) bool { return !strings.HasPrefix(r, vendorHost) }) {
		t.Errorf("no probe after an incomplete one, asked %q", got)
	}
}

// A probe is due when the charter's interval is over, when the clock has been set back,
// and after a refresh that met a malicious location.
func TestWhenAProbeIsDue(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(w *web, c *client.Client)
		due    bool
	}{
		"not yet":  {func(w *web, _ *client.Client) { w.now = w.now.Add(time.Hour - 1) }, false},
		"its time": {func(w *web, _ *client.Client) { w.now = w.now.Add(time.Hour) }, true},
		"set back": {func(w *web, _ *client.Client) { w.now = w.now.Add(-time.Second) }, true},
		"a malicious location": {func(w *web, c *client.Client) {
			w.does(body("2.root.json", []byte("{}")), vendorHost)
			w.good(c, 1)
			w.does(nil, vendorHost)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, probing("warn", 2000*time.Hour))
			c := w.client()
			w.good(c, 1)
			tt.before(w, c)
			w.asked("")
			w.good(c, 1)
			if got := w.asked(cdnHost); (len(got) > 0) != tt.due {
				t.Errorf("asked %q", got)
			}
		})
	}
}

// A refresh that ended with a disk error does not count as a probe.
func TestProbeAfterADiskError(t *testing.T) {
	w := newWeb(t)
	disk := &crashing{client.MemStore(), 1 << 30}
	c := w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", disk })
	w.good(c, 1)
	renew(w.repo)
	disk.writes = 0
	if _, err := c.Refresh(t.Context()); !errors.Is(err, errCrashed) {
		t.Fatal(err)
	}
	disk.writes = 1 << 30
	w.asked("")
	w.good(c, 1)
	if got := w.asked(cdnHost); len(got) == 0 {
		t.Error("no probe")
	}
}

// A disk error is not a fault of a location: no other one is asked, because the disk
// would fail again.
func TestDiskErrorIsNoFaultOfALocation(t *testing.T) {
	for _, name := range []string{"timestamp.json", "snapshot.json", "roles/"} {
		w := newWeb(t)
		c := w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", &noRoomFor{client.MemStore(), name} })
		if _, err := c.Refresh(t.Context()); !errors.Is(err, errCrashed) {
			t.Fatalf("%s: %v", name, err)
		}
		got := w.asked(cdnHost)
		slices.Sort(got)
		if !slices.Equal(got, []string{"metadata/2.root.json", "metadata/timestamp.json"}) { // the probe
			t.Errorf("%s: asked %q", name, got)
		}
	}
}

// A rendezvous is asked for roots only, whatever its priority.
func TestRendezvousIsAskedForRoots(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "rdv" {
				l["priority"] = 1
			}
		})
	})
	c := w.client()
	for range 3 {
		w.good(c, 1)
	}
	for _, name := range w.asked(reviewHost) {
		if name != "metadata/2.root.json" {
			t.Errorf("asked for %s", name)
		}
	}
}

type noRoomFor struct {
	client.Store
	what string
}

func (s noRoomFor) Write(name string, data []byte) error {
	if strings.HasPrefix(name, s.what) {
		return errCrashed
	}
	return s.Store.Write(name, data)
}

// A client that knows of a newer root asks all locations for it.
func TestRollbackAsksAllLocations(t *testing.T) {
	w := newWeb(t)
	old := w.repo.Clone()
	w.repo.NextRoot(nothing)
	w.good(w.client(), 2)
	if err := os.RemoveAll(w.state("roots")); err != nil {
		t.Fatal(err)
	}
	w.shows(old, vendorHost, cdnHost) // two operators that would be enough
	w.good(w.client(), 2)
}

// With mode enforce, a root that too few operators confirm for too long gives no
// content; with warn it does. A clock that was ahead for a while does not stop the
// counting.
func TestProbeAge(t *testing.T) {
	for _, mode := range []string{"enforce", "warn"} {
		t.Run(mode, func(t *testing.T) {
			w := newWeb(t, probing(mode, 48*time.Hour))
			c := w.client()
			w.now = w.now.AddDate(20, 0, 0) // confirmed in the far future
			w.bad(c, client.ErrStale)
			w.now = rawtuf.Now
			w.does(unreachable, cdnHost, reviewHost)
			w.good(c, 1)
			w.now = w.now.Add(48 * time.Hour)
			w.good(w.client(), 1)
			w.now = w.now.Add(1)
			if mode == "warn" {
				w.good(c, 1)
				return
			}
			w.bad(c, client.ErrStale)
			w.bad(w.client(), client.ErrStale)
			w.does(nil, reviewHost)
			w.good(c, 1)
		})
	}
}

// A host whose use_until has passed is never contacted, whatever lists it.
func TestUseUntil(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "cdn" {
				l["use_until"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
			}
		})
	})
	// The pin lists it without an end.
	c, err := client.New(rawtuf.Marshal(w.repo.Pin()), &client.Config{Retries: -1, Dir: w.dir, HTTP: &http.Client{Transport: w}, Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	view := w.good(c, 1)
	if len(w.asked(cdnHost)) == 0 {
		t.Fatal("not asked while it may be")
	}
	w.now = w.now.Add(time.Hour)
	w.does(unreachable, vendorHost, reviewHost)
	w.bad(c, client.ErrUnreachable)
	a, err := view.Find(t.Context(), rawtuf.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), a, w.state("agent")); !errors.Is(err, errDark) {
		t.Fatal(err)
	}
	if got := w.asked(cdnHost); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// An announced location is asked last before its use_from, but it is asked.
func TestUseFrom(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "main" {
				l["use_from"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
			}
		})
	})
	c := w.client()
	if view := w.good(c, 1); view.Location() != "cdn" {
		t.Errorf("served by %s", view.Location())
	}
	w.does(unreachable, cdnHost)
	if view := w.good(c, 1); view.Location() != "main" {
		t.Errorf("served by %s", view.Location())
	}
	w.does(nil, cdnHost)
	w.now = w.now.Add(time.Hour)
	if view := w.good(c, 1); view.Location() != "main" {
		t.Errorf("served by %s", view.Location())
	}
}

// hundreds is a chain of 300 roots, all but the last expired.
var hundreds = sync.OnceValue(func() *rawtuf.Repo {
	r := rawtuf.New()
	for v := range 299 {
		r.NextRoot(func() {
			r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.Add(-time.Hour))
			if v == 298 {
				r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.Add(time.Hour))
			}
		})
	}
	return r
})

func TestThreeHundredRoots(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.repo = hundreds()
	w.does(unreachable, vendorHost)
	c := w.client()
	view := w.bad(c, client.ErrMoreRoots)
	if view.Root.Version() != 257 {
		t.Errorf("stopped at root v%d", view.Root.Version())
	}
	if n := len(w.asked(vendorHost)); n > 3 {
		t.Errorf("waited for the unreachable location %d times", n)
	}
	w.good(c, 300)
	w.good(w.client(), 300)
	if n := len(w.asked(reviewHost)); n > 5 {
		t.Errorf("%d requests with all roots kept", n)
	}
}
