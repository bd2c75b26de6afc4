package client_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/tuftest"
	"github.com/visum-dev/visum/tuf"
)

const day = 24 * time.Hour

// lost is a web whose parties have lost their keys: the root has expired, and
// two organisations have published a recovery.
func lost(t *testing.T) *web {
	w := newWeb(t, (*tuftest.Repo).Recoverable)
	w.good(w.client(), 1)
	w.repo.Recover(func(tuftest.Doc) {}, "bank1", "university")
	renew(w.repo)
	w.now = tuftest.Now.AddDate(0, 1, 1)
	return w
}

// waits demands a refresh that ends STALE, with a recovery that waits or not.
func (w *web) waits(c *client.Client, recovering bool) {
	w.t.Helper()
	view := w.bad(c, client.ErrStale)
	if got := errors.Is(view.Err(), tuf.ErrHeld); got != recovering {
		w.t.Fatalf("waits for a recovery: %v; %v", got, view.Err())
	}
}

// The ordinary quorum is lost. A client that goes on looking for an ordinary
// root comes to the recovered one after the hold, and stays there.
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
	// The next process goes the same way, and the chain goes on in the ordinary way.
	w.good(w.client(), 2)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 3)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 4)
	// Who has forgotten waits again.
	w.dir = quickDir(t)
	w.waits(w.client(), true)
}

// An ordinary next root beats a recovery at any time before it is over.
func TestOrdinaryRootBeatsRecovery(t *testing.T) {
	w := lost(t)
	recovered := w.repo
	for range 4 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	alive := newWeb(t, (*tuftest.Repo).Recoverable).repo
	alive.NextRoot(func() { alive.Root["expires"] = tuftest.Stamp(tuftest.Now.AddDate(1, 0, 0)) })
	for _, role := range alive.Roles {
		role["expires"] = tuftest.Stamp(tuftest.Now.AddDate(1, 0, 0))
	}
	renew(alive)
	w.repo = alive // the vendor is not gone: the thief of the recovery keys is found out
	w.shows(recovered, vendorHost, cdnHost)
	view, err := w.client().Refresh(t.Context())
	if view.RootVersion() != 2 || view.Root().Charter().Epoch() != 1 {
		t.Fatalf("root v%d of epoch %d, %v", view.RootVersion(), view.Root().Charter().Epoch(), err)
	}
	w.shows(nil, vendorHost, cdnHost)
	w.good(w.client(), 2)
	w.shows(recovered, vendorHost, cdnHost, reviewHost)
	w.now = w.now.Add(2 * day)
	view, _ = w.client().Refresh(t.Context())
	if view.Root().Charter().Epoch() != 1 {
		t.Error("went over to the recovered root")
	}
}

// A search counts only where two operators say that there is no ordinary root,
// and two show the same statement.
func TestRecoveryNeedsTwoOperators(t *testing.T) {
	none := func(suffix string) answer { return status(404, suffix, nil) }
	for name, tt := range map[string]struct {
		does  answer
		hosts []string
	}{
		"shown by one":       {none(".statement.json"), []string{vendorHost, cdnHost}},
		"root shown by one":  {none("recovery/2.root.json"), []string{vendorHost, cdnHost}},
		"searched at one":    {dark, []string{vendorHost, cdnHost}},
		"shown by a liar":    {body(".statement.json", []byte("{}")), []string{vendorHost, cdnHost}},
		"two that disagree":  {nil, []string{vendorHost, cdnHost}},
		"nobody":             {none(".statement.json"), []string{vendorHost, cdnHost, reviewHost}},
		"everything is dark": {dark, []string{vendorHost, cdnHost, reviewHost}},
	} {
		t.Run(name, func(t *testing.T) {
			w := lost(t)
			if name == "two that disagree" {
				other := newWeb(t, (*tuftest.Repo).Recoverable).repo
				other.Recover(func(s tuftest.Doc) { s["reason"] = "another" }, "bank2", "university")
				gone := w.repo.Clone()
				delete(gone.Files, "recovery/1.statement.json")
				w.shows(other, vendorHost)
				w.shows(gone, cdnHost)
			} else {
				w.does(tt.does, tt.hosts...)
			}
			for range 10 {
				view, err := w.client().Refresh(t.Context())
				if err == nil || errors.Is(err, tuf.ErrHeld) || view.RootVersion() != 1 {
					t.Fatalf("root v%d, %v", view.RootVersion(), err)
				}
				w.now = w.now.Add(2 * day)
			}
			// It heals, and only then the waiting begins.
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

// Where the repository is well nobody looks for a recovery, whoever publishes one.
func TestRecoveryIsNotAskedForInGoodTimes(t *testing.T) {
	w := lost(t)
	w.now = tuftest.Now
	alive := newWeb(t, (*tuftest.Repo).Recoverable).repo
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

// A statement that is out of date starts no waiting, and ends one that is not over.
func TestRecoveryOutOfDate(t *testing.T) {
	w := lost(t)
	w.waits(w.client(), true)
	w.now = tuftest.Now.AddDate(0, 3, 1)
	for range 7 {
		w.waits(w.client(), false)
		w.now = w.now.Add(2 * day)
	}
}

// A new statement with a higher counter replaces one that was a mistake; with
// the same counter the one that is waited for stays.
func TestRecoveryCounter(t *testing.T) {
	w := lost(t)
	for range 3 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	again := newWeb(t, (*tuftest.Repo).Recoverable).repo
	again.Recover(func(s tuftest.Doc) { s["version"] = 2 }, "bank2", "university")
	renew(again)
	w.repo = again
	for range 5 {
		w.waits(w.client(), true)
		w.now = w.now.Add(2 * day)
	}
	w.good(w.client(), 2)
}

// The state is damaged or forged: the worst that comes of it is another wait.
func TestRecoveryAndDamagedState(t *testing.T) {
	for name, damage := range map[string]func(w *web){
		"statement gone":    func(w *web) { remove(w, "recovery", "1.statement.json") },
		"statement damaged": func(w *web) { mustWrite(w.t, w.state("recovery", "1.statement.json"), []byte("{}")) },
		"root gone":         func(w *web) { remove(w, "roots", "2.root.json") },
		"root gone after the statement's date": func(w *web) {
			remove(w, "roots", "2.root.json")
			w.now = tuftest.Now.AddDate(0, 4, 0)
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
				view, err := w.client().Refresh(t.Context())
				if err == nil && view.RootVersion() == 2 {
					break
				}
				if i == 6 || view.RootVersion() != 1 {
					t.Fatalf("root v%d, %v", view.RootVersion(), err)
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

// Where nobody serves content, everyone is asked for an ordinary root before a
// recovery is: two frozen operators are enough to end a walk, not to hide it.
func TestRecoveryAsksEverybodyFirst(t *testing.T) {
	w := newWeb(t, (*tuftest.Repo).Recoverable)
	w.good(w.client(), 1)
	frozen := w.repo.Clone()
	frozen.Recover(func(tuftest.Doc) {}, "bank1", "university")
	w.repo.NextRoot(nothing)
	w.shows(frozen, vendorHost, cdnHost)
	w.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost)
	view := w.bad(w.client(), client.ErrNoContent)
	if view.RootVersion() != 2 || errors.Is(view.Err(), tuf.ErrHeld) {
		t.Errorf("root v%d, %v", view.RootVersion(), view.Err())
	}
}
