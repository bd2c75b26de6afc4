package client_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

const day = 24 * time.Hour

// lost is a web whose parties have lost their keys: the root has expired, and two
// organisations have published a recovery.
func lost(t *testing.T) *web {
	w := newWeb(t, (*rawtuf.Repo).Recoverable)
	w.good(w.client(), 1)
	w.repo.Recover(nothingElse, "bank1", "university")
	renew(w.repo)
	w.now = rawtuf.Now.AddDate(0, 1, 1)
	return w
}

func nothingElse(rawtuf.Doc) {}

// waits requires a refresh that ends with ErrStale, waiting for a recovery or not.
func (w *web) waits(c *client.Client, recovering bool) {
	w.t.Helper()
	view := w.bad(c, client.ErrStale)
	if got := errors.Is(view.Err, tuf.ErrWaiting); got != recovering {
		w.t.Fatalf("waits for a recovery: %v; %v", got, view.Err)
	}
}

// The regular quorum is lost. A client that keeps looking for a regular root accepts
// the recovery root after the hold, and keeps it.
func TestRecovery(t *testing.T) {
	w := lost(t)
	for i := range 6 {
		w.waits(w.client(), true)
		if i < 5 {
			w.now = w.now.Add(2 * day)
		}
		if i == 4 {
			break
		}
	}
	view := w.good(w.client(), 2)
	if view.Root().Charter().Epoch() != 2 {
		t.Error("epoch")
	}
	// The next process does the same, and the chain continues with regular roots.
	w.good(w.client(), 2)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 3)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 4)
	// A client without its state waits again.
	w.dir = quickDir(t)
	w.waits(w.client(), true)
}

// After the waiting period one refresh goes all the way: past the recovery root to the
// regular one after it, and to content below the versions that an attacker with the old
// online keys had inflated; and never back.
func TestRecoveryGoesAllTheWay(t *testing.T) {
	w := newWeb(t, (*rawtuf.Repo).Recoverable)
	w.good(w.client(), 1)
	driven := w.repo.Clone()
	for _, role := range []string{"snapshot", "timestamp"} {
		driven.Roles[role]["version"] = 1000
	}
	driven.Publish()
	w.shows(driven, vendorHost, cdnHost)
	if view := w.good(w.client(), 1); view.TimestampVersion() < 1000 {
		t.Fatalf("timestamp v%d", view.TimestampVersion())
	}
	w.shows(nil, vendorHost, cdnHost)
	w.repo.Recover(nothingElse, "bank1", "university")
	w.repo.NextRoot(nothing)
	renew(w.repo)
	w.now = rawtuf.Now.AddDate(0, 1, 1)
	for range 5 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	w.good(w.client(), 3)
	for _, file := range []string{"roots/2.root.json", "roots/3.root.json", "recovery/1.statement.json"} {
		remove(w, file)
	}
	w.does(status(404, ".statement.json", nil), vendorHost, cdnHost, reviewHost)
	w.bad(w.client(), client.ErrRootRollback)
	w.does(nil, vendorHost, cdnHost, reviewHost)
	w.good(w.client(), 3)
}

// A regular next root cancels a recovery at any time before its end.
func TestRegularRootCancelsRecovery(t *testing.T) {
	w := lost(t)
	recovered := w.repo
	for range 4 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	alive := newWeb(t, (*rawtuf.Repo).Recoverable).repo
	alive.NextRoot(func() { alive.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(1, 0, 0)) })
	for _, role := range alive.Roles {
		role["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(1, 0, 0))
	}
	renew(alive)
	w.repo = alive // the vendor still exists: compromised recovery keys are detected
	w.shows(recovered, vendorHost, cdnHost)
	view, err := refreshed(t, w.client())
	if view.Root().Version() != 2 || view.Root().Charter().Epoch() != 1 {
		t.Fatalf("root v%d of epoch %d, %v", view.Root().Version(), view.Root().Charter().Epoch(), err)
	}
	w.shows(nil, vendorHost, cdnHost)
	w.good(w.client(), 2)
	w.shows(recovered, vendorHost, cdnHost, reviewHost)
	w.now = w.now.Add(2 * day)
	view, _ = refreshed(t, w.client())
	if view.Root().Charter().Epoch() != 1 {
		t.Error("accepted the recovery root")
	}
}

// A search counts only if two operators report that there is no regular root, and serve
// the same statement. Configured sources are not operators.
func TestRecoveryNeedsTwoOperators(t *testing.T) {
	t.Parallel()
	none := func(suffix string) answer { return status(404, suffix, nil) }
	for name, tt := range map[string]struct {
		does  answer
		hosts []string
	}{
		"served by one":                  {none(".statement.json"), []string{vendorHost, cdnHost}},
		"root served by one":             {none("recovery/2.root.json"), []string{vendorHost, cdnHost}},
		"searched at one":                {unreachable, []string{vendorHost, cdnHost}},
		"served by a malicious location": {body(".statement.json", []byte("{}")), []string{vendorHost, cdnHost}},
		"two hide the root":              {status(500, "metadata/2.root.json", nil), []string{vendorHost, cdnHost}},
		"served by a source":             {none(".statement.json"), []string{vendorHost, cdnHost}},
		"two different ones":             {nil, []string{vendorHost, cdnHost}},
		"nobody":                         {none(".statement.json"), []string{vendorHost, cdnHost, reviewHost}},
		"everything is unreachable":      {unreachable, []string{vendorHost, cdnHost, reviewHost}},
	} {
		t.Run(name, func(t *testing.T) {
			w := lost(t)
			if name == "two different ones" {
				other := newWeb(t, (*rawtuf.Repo).Recoverable).repo
				other.Recover(func(s rawtuf.Doc) { s["reason"] = "another" }, "bank2", "university")
				gone := w.repo.Clone()
				delete(gone.Files, "recovery/1.statement.json")
				w.shows(other, vendorHost)
				w.shows(gone, cdnHost)
			} else {
				w.does(tt.does, tt.hosts...)
			}
			var sources []client.Source
			if name == "served by a source" {
				sources = []client.Source{handed(w.repo)}
			}
			for range 10 {
				view, err := refreshed(t, w.client(func(c *client.Config) { c.Sources = sources }))
				if err == nil || errors.Is(err, tuf.ErrWaiting) || view.Root().Version() != 1 {
					t.Fatalf("root v%d, %v", view.Root().Version(), err)
				}
				if name == "served by a malicious location" && len(view.Evidence()) != 2 {
					t.Errorf("evidence %q", view.Evidence())
				}
				if errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a missing statement is reported: %v", err)
				}
				w.now = w.now.Add(2 * day)
			}
			// It recovers, and only then the waiting period begins.
			w.does(nil, vendorHost, cdnHost, reviewHost)
			w.shows(nil, vendorHost, cdnHost, reviewHost)
			for range 5 {
				w.waits(w.client(), true)
				w.now = w.now.Add(2 * day)
			}
			w.good(w.client(), 2)
		})
	}
}

// If the repository works no recovery file is requested, even if one is published.
func TestNoRecoveryRequestWhileRepositoryWorks(t *testing.T) {
	w := lost(t)
	w.now = rawtuf.Now
	alive := newWeb(t, (*rawtuf.Repo).Recoverable).repo
	alive.Files["recovery/1.statement.json"], alive.Files["recovery/2.root.json"] = w.repo.Files["recovery/1.statement.json"], w.repo.Files["recovery/2.root.json"]
	w.repo = alive
	for range 20 {
		w.good(w.client(), 1)
		w.now = w.now.Add(day)
	}
	for _, name := range w.asked("") {
		if strings.Contains(name, "recovery") {
			t.Fatalf("asked for %s", name)
		}
	}
}

// Nor if the charter has no rule for a recovery, whatever fails.
func TestNoRecoveryRequestWithoutARule(t *testing.T) {
	w := newWeb(t)
	w.now = rawtuf.Now.AddDate(0, 1, 1)
	w.bad(w.client(), client.ErrStale)
	for _, name := range w.asked("") {
		if strings.Contains(name, "recovery") {
			t.Fatalf("asked for %s", name)
		}
	}
}

// An expired statement starts no waiting period, and ends one that is not over.
func TestRecoveryOutOfDate(t *testing.T) {
	w := lost(t)
	w.waits(w.client(), true)
	w.now = rawtuf.Now.AddDate(0, 3, 1)
	for range 7 {
		w.waits(w.client(), false)
		w.now = w.now.Add(2 * day)
	}
}

// Of the statements that two operators serve the one with the higher counter is used;
// with equal counters the first one.
func TestTwoRecoveries(t *testing.T) {
	t.Parallel()
	const otherHost = "updates.other.example"
	four := func(r *rawtuf.Repo) {
		r.Recoverable()
		c := r.Charter()
		c["locations"] = append(c["locations"].([]any), location("other", "mirror", "other", otherHost))
	}
	for name, tt := range map[string]struct{ counter, waits int }{
		"same counter":   {1, 4},
		"higher counter": {2, 5},
	} {
		t.Run(name, func(t *testing.T) {
			for range 8 { // by chance a wrong client could pass
				w := newWeb(t, four)
				c := w.client()
				w.good(c, 1)
				w.repo.Recover(nothingElse, "bank1", "university")
				renew(w.repo)
				w.now = rawtuf.Now.AddDate(0, 1, 1)
				w.waits(c, true)
				later := newWeb(t, four).repo
				later.Recover(func(s rawtuf.Doc) { s["version"], s["reason"] = tt.counter, "another" }, "bank2", "university")
				w.shows(later, cdnHost, otherHost)
				for range tt.waits {
					w.now = w.now.Add(2 * day)
					w.waits(c, true)
				}
				w.now = w.now.Add(2 * day)
				w.good(c, 2)
			}
		})
	}
}

// Recovery after recovery, each with its own waiting period. A new process knows the
// newest sixteen; a newer pin leads past earlier ones.
func TestManyRecoveries(t *testing.T) {
	t.Parallel()
	w := newWeb(t, (*rawtuf.Repo).Recoverable)
	c := w.client()
	w.good(c, 1)
	w.does(status(404, "timestamp.json", nil), vendorHost, cdnHost)
	const last = 18
	for n := 2; n <= last; n++ {
		before := w.repo.Clone()
		inDate := func(until time.Time) func(rawtuf.Doc) {
			return func(s rawtuf.Doc) { s["expires"] = rawtuf.Stamp(until) }
		}
		if n == 3 {
			// It is not enough that it was valid when the last one was followed.
			w.repo.Recover(inDate(w.now.Add(time.Hour)), "bank1", "university")
			w.now = w.now.Add(time.Hour)
			if view := w.bad(c, client.ErrNoContent); errors.Is(view.Err, tuf.ErrWaiting) {
				t.Error(view.Err)
			}
			w.repo = before
		}
		w.repo.Recover(inDate(w.now.AddDate(0, 1, 0)), "bank1", "university")
		renew(w.repo)
		for range 5 {
			view := w.bad(c, client.ErrNoContent)
			if !errors.Is(view.Err, tuf.ErrWaiting) || view.Root.Version() != int64(n-1) {
				t.Fatalf("root v%d, %v", view.Root.Version(), view.Err)
			}
			w.now = w.now.Add(2 * day)
		}
		if view := w.bad(c, client.ErrNoContent); view.Root.Version() != int64(n) {
			t.Fatalf("root v%d, %v", view.Root.Version(), view.Err)
		}
	}
	w.does(nil, vendorHost, cdnHost)
	w.good(c, last)

	pin := w.repo.Pin()
	pin["root"] = firstDoc(t, w.repo.Files["recovery/2.root.json"])
	_, key1 := w.repo.KeyDoc(rawtuf.Fresh(2, "review1"))
	_, key2 := w.repo.KeyDoc(rawtuf.Fresh(2, "review2"))
	pin["review"] = rawtuf.Doc{"party": "review", "min": 1, "keys": []any{key1, key2}}
	newer, err := client.New(rawtuf.Marshal(pin), &client.Config{Retries: -1, Dir: w.dir, HTTP: webClient(w), Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	// Killed between the files of another one, and the state that records its wait.
	next := w.repo.Clone()
	next.Recover(nothingElse, "bank1", "university")
	mustWrite(t, w.state("recovery", "18.statement.json"), next.Files["recovery/18.statement.json"])
	mustWrite(t, w.state("roots", "19.root.json"), next.Files["recovery/19.root.json"])
	w.good(newer, last)
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	if view := w.bad(w.client(), client.ErrUnreachable); view.Root.Version() != 1 {
		t.Errorf("with the pin of root v1: root v%d, %v", view.Root.Version(), view.Err)
	}
}

// A statement that one of an operator's locations lacks is fetched from another.
func TestRecoveryFromAnotherMirror(t *testing.T) {
	w := newWeb(t, (*rawtuf.Repo).Recoverable, func(r *rawtuf.Repo) {
		locations(r, func(id string, l rawtuf.Doc) {
			if id == "cdn" {
				l["operator"] = "vendor-ch"
			}
		})
	})
	w.good(w.client(), 1)
	w.repo.Recover(nothingElse, "bank1", "university")
	renew(w.repo)
	w.now = rawtuf.Now.AddDate(0, 1, 1)
	w.does(status(404, ".statement.json", nil), vendorHost)
	for range 5 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	w.good(w.client(), 2)
}

// A new statement with a higher counter replaces a mistaken one; with the same counter
// the first one stays.
func TestRecoveryCounter(t *testing.T) {
	w := lost(t)
	for range 3 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	again := newWeb(t, (*rawtuf.Repo).Recoverable).repo
	again.Recover(func(s rawtuf.Doc) { s["version"] = 2 }, "bank2", "university")
	renew(again)
	w.repo = again
	for range 5 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	w.good(w.client(), 2)
}

// The state is damaged or forged: the worst result is another waiting period.
func TestRecoveryAndDamagedState(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(w *web){
		"statement gone":    func(w *web) { remove(w, "recovery", "1.statement.json") },
		"statement damaged": func(w *web) { mustWrite(w.t, w.state("recovery", "1.statement.json"), []byte("{}")) },
		"root gone":         func(w *web) { remove(w, "roots", "2.root.json") },
		"root unavailable after the statement's expiry": func(w *web) {
			remove(w, "roots", "2.root.json")
			w.now = rawtuf.Now.AddDate(0, 4, 0)
		},
		"root unavailable repeatedly": func(w *web) {
			w.now = rawtuf.Now.AddDate(0, 4, 0)
			for range 20 {
				remove(w, "roots", "2.root.json")
				w.good(w.client(), 2)
			}
			remove(w, "roots", "2.root.json")
		},
		"state gone": func(w *web) { remove(w, "state.json"); remove(w, "state.bak") },
	} {
		t.Run(name, func(t *testing.T) {
			w := lost(t)
			for range 5 {
				w.waits(w.client(), true)
				w.now = w.now.Add(2 * day)
			}
			w.good(w.client(), 2)
			damage(w)
			for i := 0; ; i++ {
				view, err := refreshed(t, w.client())
				if err == nil && view.Root().Version() == 2 {
					break
				}
				if i == 6 || view.Root().Version() != 1 {
					t.Fatalf("root v%d, %v", view.Root().Version(), err)
				}
				w.now = w.now.Add(2 * day)
			}
			w.good(w.client(), 2)
		})
	}
}

func remove(w *web, name ...string) {
	w.t.Helper()
	if err := os.Remove(w.state(name...)); err != nil {
		w.t.Fatal(err)
	}
}

// A refresh with content under an unexpired root ends the waiting period: nothing is
// lost yet. An attacker who blocks content later must do so for the entire period.
func TestContentEndsRecoveryWait(t *testing.T) {
	w := lost(t)
	w.now = rawtuf.Now
	alive := newWeb(t, (*rawtuf.Repo).Recoverable).repo
	for _, name := range []string{"recovery/1.statement.json", "recovery/2.root.json"} {
		alive.Files[name] = w.repo.Files[name]
	}
	w.repo = alive
	away := body("timestamp.json", []byte("{}"))
	for range 2 {
		w.does(away, vendorHost, cdnHost)
		for range 4 {
			if view := w.bad(w.client(), client.ErrNoContent); !errors.Is(view.Err, tuf.ErrWaiting) {
				t.Fatal(view.Err)
			}
			w.now = w.now.Add(2 * day)
		}
		w.does(nil, vendorHost, cdnHost)
		w.good(w.client(), 1)
	}
	w.does(away, vendorHost, cdnHost)
	for range 5 {
		if view := w.bad(w.client(), client.ErrNoContent); view.Root.Version() != 1 {
			t.Fatalf("root v%d, %v", view.Root.Version(), view.Err)
		}
		w.now = w.now.Add(2 * day)
	}
	if view, err := refreshed(t, w.client()); view.Root().Version() != 2 {
		t.Errorf("root v%d after the waiting period, %v", view.Root().Version(), err)
	}
}

// If no location serves content, all are asked for a regular root before a recovery is
// considered: two frozen operators end a probe, but cannot hide the root.
func TestRecoveryAsksAllLocationsFirst(t *testing.T) {
	w := newWeb(t, (*rawtuf.Repo).Recoverable)
	w.good(w.client(), 1)
	frozen := w.repo.Clone()
	frozen.Recover(nothingElse, "bank1", "university")
	w.repo.NextRoot(nothing)
	w.shows(frozen, vendorHost, cdnHost)
	w.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost)
	view := w.bad(w.client(), client.ErrNoContent)
	if view.Root.Version() != 2 || errors.Is(view.Err, tuf.ErrWaiting) {
		t.Errorf("root v%d, %v", view.Root.Version(), view.Err)
	}
}
