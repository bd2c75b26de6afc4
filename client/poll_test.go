package client_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// hosted lists n locations, each of its own operator, of which a probe asks m.
func hosted(n, m int) func(*rawtuf.Repo) {
	return func(r *rawtuf.Repo) {
		var list []any
		for i := range n {
			list = append(list, location(fmt.Sprintf("at-%d", i), "mirror", fmt.Sprintf("operator-%d", i), nth(i), "priority", i))
		}
		r.Charter()["locations"] = list
		r.Charter()["probe"] = rawtuf.Doc{"min_operators": m, "every_seconds": 3600, "max_age_seconds": 100_000_000, "mode": "warn"}
	}
}

func nth(i int) string { return fmt.Sprintf("updates.host-%d.example", i) }

func hostsOf(from, to int) (out []string) {
	for i := from; i < to; i++ {
		out = append(out, nth(i))
	}
	return out
}

// probes refreshes once per probe interval until done, and returns how often; in one
// process, or in a new one each time, as once a day.
func (w *web) probes(t *testing.T, daily bool, most int, done func(outcome) bool) (n int) {
	t.Helper()
	c := w.client()
	for n = 1; n <= most; n++ {
		if daily {
			c = w.client()
		}
		w.now = w.now.Add(time.Hour)
		if view, _ := refreshed(t, c); done(view) {
			return n
		}
	}
	return n
}

// frozen are the ways in which locations hide a root: they serve everything else as
// before, they have nothing, or only expired files.
var frozen = map[string]func(w *web, hosts []string){
	"frozen": func(w *web, hosts []string) { w.shows(w.repo.Clone(), hosts...) },
	"404 for the root": func(w *web, hosts []string) {
		w.does(status(404, "2.root.json", nil), hosts...)
	},
	"404 for all": func(w *web, hosts []string) { w.does(status(404, "", nil), hosts...) },
	"expired content": func(w *web, hosts []string) {
		old := w.repo.Clone()
		renew(old) // or the client uses its own copy, which has not expired
		old.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now)
		old.PublishTimestamp()
		w.shows(old, hosts...)
	},
}

// Of n operators a probe asks m in turn: whichever one alone has the next root is asked
// within ceil((n-1)/(m-1)) probes, by a running product and by one that is started each
// time. No probe makes more requests than before.
func TestEveryOperatorHasItsTurn(t *testing.T) {
	for _, size := range [][2]int{{3, 2}, {5, 2}, {5, 3}, {8, 4}} {
		n, m := size[0], size[1]
		if n > 5 && !rawtuf.Long {
			continue
		}
		bound := (n - 1 + m - 2) / (m - 1)
		for how, hide := range frozen {
			for _, daily := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d of %d, %s, daily %t", m, n, how, daily), func(t *testing.T) {
					t.Parallel()
					for honest := 1; honest < n; honest++ {
						w := newWeb(t, hosted(n, m))
						w.good(w.client(), 1)
						hide(w, slices.Concat(hostsOf(0, honest), hostsOf(honest+1, n)))
						w.repo.NextRoot(nothing)
						renew(w.repo)
						got := w.probes(t, daily, 3*bound, func(v outcome) bool { return v.Root().Version() == 2 })
						if got > bound {
							t.Errorf("host %d alone has the root: found by probe %d, want %d at most", honest, got, bound)
						}
					}
				})
			}
		}
	}
}

// A probe requests a root and a timestamp from each operator that it asks, in any order
// of turns; there are no such requests between probes.
func TestRequestsOfTurns(t *testing.T) {
	w := newWeb(t, hosted(5, 2))
	c := w.client()
	w.good(c, 1)
	w.asked("")
	for i := range 8 {
		w.now = w.now.Add(time.Hour)
		w.good(c, 1)
		if got := w.asked(""); len(got) != 4 {
			t.Errorf("probe %d asked %q", i, got)
		}
		w.good(c, 1)
		if got := w.asked(""); len(got) != 2 || !strings.HasPrefix(got[0], nth(0)) || !strings.HasPrefix(got[1], nth(0)) {
			t.Errorf("in between asked %q", got)
		}
	}
}

// A hold that only one operator serves is seen within as many probes.
func TestEveryTimestampHasItsTurn(t *testing.T) {
	for _, daily := range []bool{false, true} {
		for honest := 1; honest < 5; honest++ {
			t.Run(fmt.Sprintf("host %d, daily %t", honest, daily), func(t *testing.T) {
				t.Parallel()
				w := newWeb(t, hosted(5, 3))
				w.good(w.client(), 1)
				w.shows(w.repo.Clone(), slices.Concat(hostsOf(0, honest), hostsOf(honest+1, 5))...)
				holdBack(w.repo)
				if got := w.probes(t, daily, 10, func(v outcome) bool { return v.TimestampVersion() == 6 }); got > 2 {
					t.Errorf("seen by probe %d, want 2 at most", got)
				}
			})
		}
	}
}

// Two processes that share the state share the turns.
func TestProcessesShareTurns(t *testing.T) {
	w := newWeb(t, hosted(4, 2))
	one, two := w.client(), w.client()
	w.good(one, 1) // host 1
	w.shows(w.repo.Clone(), hostsOf(0, 3)...)
	w.repo.NextRoot(nothing)
	if view, err := two.Refresh(t.Context()); err != nil || view.Root().Version() != 1 { // host 2
		t.Fatal(view, err)
	}
	w.now = w.now.Add(time.Hour)
	w.good(one, 2) // host 3
}

// Locations of one operator, by name or by host, have their turn too: an honest one is
// not hidden by a frozen one of the same operator and another frozen operator.
func TestMirrorsOfOneOperatorTakeTurns(t *testing.T) {
	for name, twin := range map[string]func(first rawtuf.Doc) string{
		"of the same name": func(l rawtuf.Doc) string { l["operator"] = "operator-0"; return nth(2) },
		"on the same host": func(l rawtuf.Doc) string {
			l["base"] = "https://" + nth(0) + ":8443/r/"
			return nth(0) + ":8443"
		},
	} {
		for _, daily := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, daily %t", name, daily), func(t *testing.T) {
				t.Parallel()
				honest := ""
				w := newWeb(t, hosted(3, 2), func(r *rawtuf.Repo) {
					honest = twin(r.Charter()["locations"].([]any)[2].(rawtuf.Doc))
				})
				w.good(w.client(), 1)
				w.shows(w.repo.Clone(), nth(0), nth(1))
				w.shows(w.repo, honest)
				w.repo.NextRoot(nothing)
				if got := w.probes(t, daily, 10, func(v outcome) bool { return v.Root().Version() == 2 }); got > 2 {
					t.Errorf("found by probe %d", got)
				}
			})
		}
	}
}

// An honest location that does not answer f times in a row is asked again in its turn,
// f+1 times in total; also if the clock stands still.
func TestTurnOfALocationThatFails(t *testing.T) {
	for _, clock := range []time.Duration{0, time.Hour} {
		for fails := range 4 {
			t.Run(fmt.Sprintf("%d failures, a probe in %s", fails, clock), func(t *testing.T) {
				t.Parallel()
				w := newWeb(t, hosted(3, 2))
				w.good(w.client(), 1)
				w.shows(w.repo.Clone(), hostsOf(0, 2)...)
				w.repo.NextRoot(nothing)
				left := fails
				w.does(func(name string, _ *http.Request) (*http.Response, error) {
					if strings.HasSuffix(name, "2.root.json") && left > 0 {
						left--
						return nil, errDark
					}
					return nil, nil
				}, nth(2))
				for n := 1; ; n++ {
					w.now = w.now.Add(clock)
					view, err := w.client().Refresh(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if view.Root().Version() == 2 {
						break
					}
					if n > 2*(fails+1) {
						t.Fatalf("not found by %d probes", n)
					}
				}
			})
		}
	}
}

// Further roots of the location that alone had a new one are followed at once, however
// many others end their chains before it.
func TestTurnOfAWholeChain(t *testing.T) {
	w := newWeb(t, hosted(5, 2))
	w.good(w.client(), 1)
	w.shows(w.repo.Clone(), hostsOf(0, 4)...)
	for range 5 {
		w.repo.NextRoot(nothing)
	}
	var seen []int64
	w.probes(t, true, 6, func(v outcome) bool {
		seen = append(seen, v.Root().Version())
		return v.Root().Version() == 6
	})
	if i := slices.IndexFunc(seen, func(v int64) bool { return v != 1 }); i < 0 || seen[i] != 6 {
		t.Errorf("roots after each probe: %v", seen)
	}
}

// If no asked location has valid content, all are asked for a newer root before the
// refresh fails, whatever is due: also if the charter requires only one operator.
func TestWithoutContentAllLocationsAreAsked(t *testing.T) {
	for m := 1; m <= 2; m++ {
		for how, hide := range frozen {
			if how == "frozen" || how == "404 for the root" {
				continue // they have valid content
			}
			for honest := 1; honest < 4; honest++ {
				t.Run(fmt.Sprintf("%d of 4, %s, host %d", m, how, honest), func(t *testing.T) {
					t.Parallel()
					w := newWeb(t, hosted(4, m), func(r *rawtuf.Repo) {
						// It has only roots, so that no location has content under root
						// v1.
						l := r.Charter()["locations"].([]any)[honest].(rawtuf.Doc)
						l["tier"] = "rendezvous"
						delete(l["paths"].(rawtuf.Doc), "targets")
					})
					c := w.client()
					w.good(c, 1)
					w.now = w.now.Add(time.Minute) // no probe is due
					others := slices.Concat(hostsOf(0, honest), hostsOf(honest+1, 4))
					hide(w, others)
					w.bad(c, client.ErrNoContent)
					// The next root names a host that serves.
					w.repo.NextRoot(func() {
						l := location("new", "primary", "operator-new", "updates.new.example", "priority", 90)
						w.repo.Charter()["locations"] = append(w.repo.Charter()["locations"].([]any), l)
					})
					renew(w.repo)
					renew(w.repo)
					w.good(c, 2)
				})
			}
		}
	}
}

// With a charter that requires one operator no other is asked, as long as the one
// location serves unexpired content.
func TestOneOperatorIsEnough(t *testing.T) {
	w := newWeb(t, hosted(3, 1))
	w.good(w.client(), 1)
	w.shows(w.repo.Clone(), nth(0))
	w.repo.NextRoot(nothing)
	w.asked("")
	for range 3 {
		w.now = w.now.Add(time.Hour)
		w.good(w.client(), 1)
	}
	for i := 1; i < 3; i++ {
		if got := w.asked(nth(i)); len(got) > 0 {
			t.Errorf("host %d was asked %q", i, got)
		}
	}
	w.now = rawtuf.Now.AddDate(0, 1, 0) // the root has expired, and so has all content
	if view := w.bad(w.client(), tuf.ErrExpired); view.Root.Version() != 2 {
		t.Errorf("at root v%d", view.Root.Version())
	}
}

// With mode enforce a root that too few operators confirmed for too long gives no
// content; but all are asked to confirm it before.
func TestAllLocationsAreAskedToConfirm(t *testing.T) {
	w := newWeb(t, hosted(3, 2), func(r *rawtuf.Repo) {
		r.Charter()["probe"] = rawtuf.Doc{"min_operators": 2, "every_seconds": 100_000, "max_age_seconds": 100, "mode": "enforce"}
	})
	c := w.client()
	w.good(c, 1)
	w.now = w.now.Add(2 * time.Hour) // no probe is due, and none was made for too long
	w.good(c, 1)
	w.now = w.now.Add(2 * time.Hour)
	w.does(unreachable, hostsOf(1, 3)...)
	w.bad(c, client.ErrStale)
	w.does(nil, nth(2))
	w.good(c, 1)
}
