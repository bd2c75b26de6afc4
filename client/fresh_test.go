package client_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// holdBack publishes a hold of the release.
func holdBack(r *rawtuf.Repo) {
	r.AddTarget(rawtuf.Path, "the agent", rawtuf.Doc{"reason": "it deletes files", "at": rawtuf.Stamp(rawtuf.Now), "until": rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, 5))}, "hold")
	renew(r)
}

// recallIt removes the release from the review role.
func recallIt(r *rawtuf.Repo) {
	r.Roles["review-agent"]["targets"] = rawtuf.Doc{}
	renew(r)
}

// A location that serves stale metadata, at any position in the order, hides a hold or
// a recall for at most one probe interval, and not at all from a new process. Before
// that the release is approved.
func TestOneFrozenLocationHidesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		publish func(*rawtuf.Repo)
		want    error
	}{
		"hold":   {holdBack, tuf.ErrHeld},
		"recall": {recallIt, tuf.ErrNotApproved},
	} {
		for _, frozen := range []string{vendorHost, cdnHost} {
			t.Run(name+" at "+frozen, func(t *testing.T) {
				w := newWeb(t, probing("warn", 2000*time.Hour))
				running := w.client()
				w.good(running, 1)
				w.shows(w.repo.Clone(), frozen)
				tt.publish(w.repo)
				w.now = w.now.Add(time.Hour) // a probe is due
				for what, c := range map[string]*client.Client{"running": running, "new": w.client()} {
					view, err := c.Refresh(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tt.want) {
						t.Errorf("%s process: %v from %s, want %v", what, err, view.Location(), tt.want)
					}
				}
			})
		}
	}
}

// The second opinion is from another operator: another name on another host. A probe
// makes two more requests.
func TestSecondOperatorIsAnother(t *testing.T) {
	third := "updates.third.example"
	for name, tt := range map[string]struct {
		cdn   func(l rawtuf.Doc)
		stale []string // that serve stale metadata
		asked []string // for timestamps at the second probe
	}{
		"another operator": {func(rawtuf.Doc) {}, []string{vendorHost}, []string{vendorHost, third}},
		"of the same name": {func(l rawtuf.Doc) { l["operator"] = "vendor-ch" }, []string{vendorHost, cdnHost}, []string{vendorHost, cdnHost, third}},
		"on the same host": {func(l rawtuf.Doc) { l["base"] = "https://" + vendorHost + ":8443/r/" }, []string{vendorHost, vendorHost + ":8443"}, []string{vendorHost, vendorHost + ":8443", third}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t, probing("warn", 2000*time.Hour), func(r *rawtuf.Repo) {
				locations(r, func(id string, l rawtuf.Doc) {
					if id == "cdn" {
						tt.cdn(l)
					}
				})
				l := location("third", "mirror", "third", third)
				l["priority"] = 50
				r.Charter()["locations"] = append(r.Charter()["locations"].([]any), l)
			})
			c := w.client()
			w.good(c, 1)
			w.asked("")
			w.good(c, 1)
			if got := w.asked(""); len(got) != 2 {
				t.Errorf("no probe is due, asked %q", got)
			}
			w.shows(w.repo.Clone(), tt.stale...)
			holdBack(w.repo)
			w.now = w.now.Add(time.Hour)
			view, err := c.Refresh(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrHeld) {
				t.Errorf("from %s: %v", view.Location(), err)
			}
			var got []string
			for _, r := range w.asked("") {
				if host, ok := strings.CutSuffix(r, " metadata/timestamp.json"); ok {
					got = append(got, host)
				}
			}
			slices.Sort(got)
			slices.Sort(tt.asked)
			if !slices.Equal(got, tt.asked) {
				t.Errorf("asked for timestamps: %q, want %q", got, tt.asked)
			}
		})
	}
}

// The newest timestamp without its files does not keep the client from content: the
// files come from other locations, or if no location has them the older set is used.
// The previously trusted version stays the floor.
func TestNewestTimestampWithoutContent(t *testing.T) {
	only := func(names ...string) answer {
		return func(name string, r *http.Request) (*http.Response, error) {
			if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(name, n) }) {
				return nil, nil
			}
			return status(404, "", nil)(name, r)
		}
	}
	t.Run("other locations have its files", func(t *testing.T) {
		w := newWeb(t)
		w.good(w.client(), 1)
		renew(w.repo)
		w.does(only("timestamp.json", "root.json"), vendorHost)
		if view := w.good(w.client(), 1); view.TimestampVersion() != 6 || view.Location() != "main" {
			t.Errorf("timestamp v%d of %s", view.TimestampVersion(), view.Location())
		}
	})
	t.Run("no location has its files", func(t *testing.T) {
		w := newWeb(t)
		w.good(w.client(), 1)
		w.shows(w.repo.Clone(), cdnHost)
		renew(w.repo)
		w.does(only("timestamp.json", "root.json"), vendorHost)
		for range 2 {
			if view := w.good(w.client(), 1); view.TimestampVersion() != 5 || view.Location() != "cdn" {
				t.Errorf("timestamp v%d of %s", view.TimestampVersion(), view.Location())
			}
		}
		w.does(nil, vendorHost)
		w.now = w.now.Add(3 * time.Hour) // it is asked first again
		if view := w.good(w.client(), 1); view.TimestampVersion() != 6 {
			t.Errorf("timestamp v%d", view.TimestampVersion())
		}
	})
	t.Run("no location has its files, and the older set is below what was trusted", func(t *testing.T) {
		w := newWeb(t)
		old := w.repo.Clone()
		renew(w.repo)
		w.good(w.client(), 1) // v6
		w.shows(old, cdnHost)
		renew(w.repo)
		w.does(only("timestamp.json", "root.json"), vendorHost)
		w.bad(w.client(), tuf.ErrRollback)
		// If no set is complete the newest timestamp becomes the floor.
		w.shows(nil, cdnHost)
		w.repo = func() *rawtuf.Repo { r := old.Clone(); renew(r); return r }() // v6 again
		w.does(nil, vendorHost)
		w.bad(w.client(), tuf.ErrRollback)
	})
}

// A missing timestamp is no reason to ask the review centre's rendezvous at each
// refresh.
func TestNoSecondTimestamp(t *testing.T) {
	w := newWeb(t, probing("warn", 2000*time.Hour))
	w.does(unreachable, cdnHost)
	c := w.client()
	w.good(c, 1)
	for range 3 {
		w.asked("")
		w.good(c, 1)
		if got := w.asked(""); len(got) != 2 {
			t.Errorf("asked %q", got)
		}
	}
	// After its pause it is asked again, although no probe is due.
	w.now = w.now.Add(5 * time.Minute)
	w.does(nil, cdnHost)
	w.asked("")
	w.good(c, 1)
	if got := w.asked(cdnHost); !slices.Equal(got, []string{"metadata/timestamp.json"}) {
		t.Errorf("asked %q", got)
	}
	w.good(c, 1)
	if got := w.asked(cdnHost); len(got) > 0 {
		t.Errorf("asked %q once the timestamps were compared", got)
	}
}
