package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// A location that did not answer is asked after the others for a while, also by the
// next process, and first again after that time or after it worked.
func TestUnreachableLocationIsAskedLast(t *testing.T) {
	w := newWeb(t)
	w.does(unreachable, vendorHost)
	w.good(w.client(), 1)
	if got := w.asked(vendorHost); len(got) == 0 {
		t.Fatal("not asked at all")
	}
	w.good(w.client(), 1)
	if got := w.asked(vendorHost); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
	// It is still asked if the others are not enough.
	w.does(unreachable, cdnHost)
	w.bad(w.client(), client.ErrNoContent)
	if got := w.asked(vendorHost); len(got) == 0 {
		t.Error("not asked although no other location has content")
	}
	w.does(nil, vendorHost)
	if view := w.good(w.client(), 1); view.Location() != "main" {
		t.Errorf("served by %s", view.Location())
	}
	w.does(nil, cdnHost)
	w.asked("")
	w.good(w.client(), 1)
	if got := w.asked(""); got[0] != vendorHost+" metadata/2.root.json" && got[0] != vendorHost+" metadata/timestamp.json" {
		t.Errorf("works, and asked in the order %q", got)
	}
	w.does(unreachable, vendorHost)
	w.good(w.client(), 1)
	w.asked("")
	w.now = w.now.Add(3 * time.Minute)
	w.does(nil, vendorHost)
	if view := w.good(w.client(), 1); view.Location() != "main" {
		t.Errorf("after some minutes served by %s", view.Location())
	}
	// If the clock was far ahead when a location failed, that does not exclude it.
	w.now = w.now.AddDate(0, 0, 20)
	w.does(unreachable, vendorHost)
	w.good(w.client(), 1)
	w.now = w.now.AddDate(0, 0, -20)
	w.does(nil, vendorHost)
	if view := w.good(w.client(), 1); view.Location() != "main" {
		t.Errorf("with the correct clock served by %s", view.Location())
	}
}

// A refresh retries a limited number of times if no location is reachable.
func TestRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		retries, silent int
		want            error
		rounds          int
	}{
		"answers at the second try": {1, 1, nil, 2},
		"too few tries":             {1, 2, client.ErrUnreachable, 2},
		"never again":               {-1, 1, client.ErrUnreachable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			waiting(t, "the agent", tt.retries, func(t *testing.T, w *web, c *client.Client) {
				rounds := 0
				hosts := []string{vendorHost, cdnHost, reviewHost}
				w.does(func(name string, _ *http.Request) (*http.Response, error) {
					if name == "metadata/2.root.json" {
						rounds++ // three requests each
					}
					if (rounds+2)/3 <= tt.silent {
						return nil, errDark
					}
					return nil, nil
				}, hosts...)
				start := time.Now()
				if _, err := c.Refresh(t.Context()); !errors.Is(err, tt.want) {
					t.Fatalf("got %v, want %v", err, tt.want)
				}
				if waited := time.Since(start); (waited > 0) != (tt.rounds > 1) {
					t.Errorf("waited for %s", waited)
				}
				if tt.want != nil && rounds != 3*tt.rounds {
					t.Errorf("%d requests for a root", rounds)
				}
			})
		})
	}
	t.Run("ends with the context", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			w := newWeb(t)
			w.does(unreachable, vendorHost, cdnHost, reviewHost)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			start := time.Now()
			if _, err := w.client(func(cfg *client.Config) { cfg.Retries = 1000 }).Refresh(ctx); err == nil || time.Since(start) > 50*time.Millisecond {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	})
}

// A location that fails repeatedly is asked last for longer, but never for more than an
// hour, however often it failed.
func TestBackoffOfALocation(t *testing.T) {
	w := newWeb(t)
	w.does(unreachable, vendorHost)
	for i := range 40 {
		w.good(w.client(), 1)
		if got := w.asked(vendorHost); len(got) == 0 {
			t.Fatal("left out for more than an hour")
		}
		w.now = w.now.Add(30 * time.Minute)
		w.good(w.client(), 1)
		if got := w.asked(vendorHost); len(got) > 0 && i >= 10 {
			t.Fatalf("after %d failures asked %q", i, got)
		}
		w.now = w.now.Add(45 * time.Minute)
	}
}

type darkSource struct{}

func (darkSource) Open(context.Context, string) (io.ReadCloser, error) { return nil, errDark }

// The recorded health does not grow, neither with the number of locations nor with
// former ones.
func TestHealthIsBounded(t *testing.T) {
	w := newWeb(t)
	kept := func() int {
		t.Helper()
		data, err := os.ReadFile(w.state("state.json"))
		if err != nil {
			t.Fatal(err)
		}
		health, _ := rawtuf.At(firstDoc(t, data), "state")["health"].(map[string]any)
		return len(health)
	}
	many := func(c *client.Config) { c.Sources = slices.Repeat([]client.Source{darkSource{}}, 80) }
	w.good(w.client(many), 1)
	if n := kept(); n != 64 {
		t.Errorf("%d locations", n)
	}
	w.now = w.now.Add(26 * time.Hour)
	w.good(w.client(), 1)
	if n := kept(); n != 0 {
		t.Errorf("%d former locations", n)
	}
}

// A timestamp requested in parallel with the next root is dropped if there is one: it
// may be older. And its request does not outlive the refresh.
func TestPrefetchedTimestampBeforeANewRoot(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	w.good(c, 1)
	w.repo.NextRoot(func() {})
	renew(w.repo)
	w.asked("")
	w.good(c, 2)
	got := w.asked(vendorHost)
	rest := slices.DeleteFunc(slices.Clone(got), func(name string) bool { return name == "metadata/timestamp.json" })
	// Once, if the walk ended before the parallel request had started.
	if n := len(got) - len(rest); n < 1 || n > 2 {
		t.Errorf("%d timestamps asked for: %q", n, got)
	}
	if !slices.Equal(rest, []string{"metadata/2.root.json", "metadata/3.root.json", "metadata/6.snapshot.json",
		"metadata/6.vendor-agent.json", "metadata/6.review-agent.json", "metadata/6.hold.json"}) {
		t.Errorf("asked %q", got)
	}
	// None is needed: the trusted root has expired.
	w.repo.NextRoot(func() { w.repo.Root["expires"] = rawtuf.Stamp(rawtuf.Now) })
	w.bad(c, client.ErrStale)
	w.asked("")
	w.bad(c, client.ErrStale)
	if got := w.asked(vendorHost); !slices.Equal(got, []string{"metadata/4.root.json"}) {
		t.Errorf("asked %q", got)
	}
}

// Errors name every location with its own reason.
func TestErrorsNameEveryLocation(t *testing.T) {
	says := func(err error, reasons ...string) {
		t.Helper()
		for _, reason := range reasons {
			if !strings.Contains(err.Error(), reason) {
				t.Errorf("%q is missing in: %v", reason, err)
			}
		}
	}
	w := newWeb(t)
	w.does(unreachable, vendorHost)
	w.does(status(500, "", nil), cdnHost)
	w.does(header(302, "Location", "https://elsewhere.example/"), reviewHost)
	says(w.bad(w.client(), client.ErrUnreachable), "main: Get ", "no route to host", "cdn: GET ", "500 Internal Server Error", "rdv: GET ", "302 Found, which is not followed")

	w.dir = quickDir(t)
	w.does(nil, vendorHost, cdnHost, reviewHost)
	w.does(busy(503, "600", ""), vendorHost)
	w.good(w.client(), 1)
	w.does(status(404, "timestamp.json", nil), cdnHost)
	says(w.bad(w.client(), client.ErrNoContent), "main: rate limited until ", "cdn: GET ", "404 Not Found")

	w.dir = quickDir(t)
	w.now = w.now.AddDate(0, 1, 1)
	w.does(nil, vendorHost, cdnHost)
	says(w.bad(w.client(), client.ErrStale), "main: has no root v2", "cdn: has no root v2", "rdv: has no root v2")
}
