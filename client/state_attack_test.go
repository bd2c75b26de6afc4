package client_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// editState changes the client's state as an attacker with write access does.
func editState(t *testing.T, w *web, edit func(state rawtuf.Doc)) {
	t.Helper()
	data, err := os.ReadFile(w.state("state.json"))
	must(t, err)
	state := rawtuf.At(firstDoc(t, data), "state")
	edit(state)
	body, err := json.Marshal(state)
	must(t, err)
	sum := sha256.Sum256(body)
	sealed := fmt.Appendf(nil, `{"sum":%q,"state":%s}`, hex.EncodeToString(sum[:]), body)
	mustWrite(t, w.state("state.json"), sealed)
	mustWrite(t, w.state("state.bak"), sealed)
}

// plantRecovery writes a recovery into the state as if its waiting period were over.
func plantRecovery(t *testing.T, w *web, recovered *rawtuf.Repo, at time.Time) {
	t.Helper()
	root, err := tuf.OpenRoot(w.repo.Files["1.root.json"], nil)
	must(t, err)
	statement, next := recovered.Files["recovery/1.statement.json"], recovered.Files["recovery/2.root.json"]
	rec, err := root.Recovery(statement, next, rawtuf.Now)
	must(t, err)
	for _, dir := range []string{"recovery", "roots"} {
		must(t, os.MkdirAll(w.state(dir), 0o700))
	}
	mustWrite(t, w.state("recovery", "1.statement.json"), statement)
	mustWrite(t, w.state("roots", "2.root.json"), next)
	editState(t, w, func(state rawtuf.Doc) {
		state["root"] = 2
		state["recovered"] = []tuf.Wait{{Statement: rec.ID(), Held: 1000 * time.Hour, Ticks: 100, Last: at}}
		state["wait"] = tuf.Wait{Statement: rec.ID(), Held: 1000 * time.Hour, Ticks: 100, Last: at}
	})
}

// A recovery that an attacker wrote into the state is not followed while the repository
// works: neither one without a completed waiting period, nor an expired one. A regular
// next root counts as working, too.
func TestPlantedRecovery(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(w *web)
		root int64
	}{
		"in date":                  {func(w *web) {}, 1},
		"expired":                  {func(w *web) { w.now = rawtuf.Now.AddDate(0, 3, 5) }, 1},
		"with a next root":         {func(w *web) { w.repo.NextRoot(nothing); w.repo.NextRoot(nothing) }, 3},
		"shown by two":             {nil, 1},
		"with new online":          {func(w *web) { rotate(w.repo) }, 2},
		"a root at one":            {func(w *web) { rotate(w.repo); w.does(status(404, "2.root.json", nil), vendorHost, cdnHost) }, 2},
		"one location unreachable": {func(w *web) { w.does(unreachable, vendorHost) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			long := rawtuf.Stamp(rawtuf.Now.AddDate(1, 0, 0))
			w := newWeb(t, (*rawtuf.Repo).Recoverable, func(r *rawtuf.Repo) {
				r.Root["expires"] = long
				for _, role := range r.Roles {
					role["expires"] = long
				}
			})
			recovered := w.repo.Clone()
			recovered.Recover(nothingElse, "bank1", "university")
			renew(recovered)
			w.good(w.client(), 1)
			if tt.edit != nil {
				tt.edit(w)
			} else {
				for _, file := range []string{"recovery/1.statement.json", "recovery/2.root.json"} {
					w.repo.Files[file] = recovered.Files[file]
				}
			}
			plantRecovery(t, w, recovered, rawtuf.Now)
			if n := client.NewestRoot(w.client()); n != 1 { // before a refresh it is unknown whether the repository works
				t.Errorf("a download uses root v%d of the state", n)
			}
			a := w.approved(w.client())
			w.good(w.client(), tt.root)
			w.good(w.client(), tt.root)
			if a.RepoID() == "" {
				t.Error("no repository")
			}
			list := strings.Join(files(t, w.state("roots")), " ")
			if tt.root == 1 && list != "" {
				t.Errorf("roots %s", list)
			}
			data, err := os.ReadFile(w.state("state.json"))
			must(t, err)
			if strings.Contains(string(data), `"recovered":[`) {
				t.Error("the recovery is still in the state")
			}
		})
	}
}

// rotate publishes a root with new online keys, under which old content is invalid.
func rotate(r *rawtuf.Repo) {
	r.NextRoot(func() {
		r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
		r.AddKeys(r.Root, "ts2", "sn2")
		roles := r.Root["roles"].(rawtuf.Doc)
		roles["timestamp"], roles["snapshot"] = r.Role(1, "ts2"), r.Role(1, "sn2")
		r.Charter()["epoch"] = 2
	})
	r.Publish()
}

// A recovery whose waiting period ran while the root had not expired is followed by
// later processes, as long as no location serves the old content again.
func TestRecoveryInDateStays(t *testing.T) {
	w := newWeb(t, (*rawtuf.Repo).Recoverable, func(r *rawtuf.Repo) { r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(1, 0, 0)) })
	w.good(w.client(), 1)
	w.repo.Recover(nothingElse, "bank1", "university")
	renew(w.repo)
	for range 5 {
		if view := w.bad(w.client(), client.ErrNoContent); !errors.Is(view.Err, tuf.ErrWaiting) {
			t.Fatal(view.Err)
		}
		w.now = w.now.Add(2 * day)
	}
	w.good(w.client(), 2)
	w.does(status(404, ".statement.json", nil), vendorHost, cdnHost, reviewHost)
	w.now = w.now.Add(3 * time.Hour)
	evidence := len(files(t, w.state("evidence")))
	for range 3 {
		renew(w.repo)
		view := w.good(w.client(), 2)
		if len(view.Evidence()) > 0 {
			t.Errorf("evidence %q", view.Evidence())
		}
	}
	if n := len(files(t, w.state("evidence"))); n != evidence {
		t.Errorf("%d files of evidence, %d before", n, evidence)
	}
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	if view := w.bad(w.client(), client.ErrUnreachable); view.Root.Version() != 2 {
		t.Errorf("root v%d", view.Root.Version())
	}
}

// A statement with a lower counter than one seen before is refused, also after a
// restart.
func TestRecoveryCounterDoesNotGoBack(t *testing.T) {
	w := lost(t)
	first := w.repo.Clone()
	again := newWeb(t, (*rawtuf.Repo).Recoverable).repo
	again.Recover(func(s rawtuf.Doc) { s["version"] = 2 }, "bank2", "university")
	renew(again)
	w.repo = again
	w.waits(w.client(), true)
	w.repo = first
	for range 7 {
		w.now = w.now.Add(2 * day)
		view := w.bad(w.client(), client.ErrStale)
		if errors.Is(view.Err, tuf.ErrWaiting) || !errors.Is(view.Err, tuf.ErrRollback) {
			t.Fatal(view.Err)
		}
	}
	w.repo = again
	for range 6 {
		w.now = w.now.Add(2 * day)
		if view, err := refreshed(t, w.client()); err == nil && view.Root().Version() == 2 {
			return
		}
	}
	t.Error("the newer statement was not followed")
}

// Junk that anyone can make does not displace evidence that took a key: 40 forged roots
// without a valid signature, 40 copies of an old root, and variants of one that a root
// key signed leave room for a fork that both parties signed.
func TestJunkDoesNotDisplaceEvidence(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 2)
	next := func(a answer) {
		t.Helper()
		w.now = w.now.Add(2 * time.Hour) // so that the location is asked again
		w.does(a, cdnHost)
		w.good(w.client(), 2)
	}
	kept := func(prefix string) (n int) {
		for _, f := range files(t, w.state("evidence")) {
			if strings.HasPrefix(f, prefix) && !strings.HasSuffix(f, ".reason.json") {
				n++
			}
		}
		return n
	}
	unsigned := func(i int) []byte {
		r := w.repo.Clone()
		r.Root["version"], r.Root["x"] = 3, i
		return r.Sign(r.Root, "unknown")
	}
	w.does(unreachable, reviewHost) // so that it is the location's turn in each probe
	padded := func(data []byte, i int) []byte { return append([]byte(strings.Repeat(" ", i+1)), data...) }
	for i := range 40 {
		next(body("3.root.json", unsigned(i)))
	}
	if n := kept("root-"); n != 16 || kept("") != n {
		t.Errorf("%d junk files", n)
	}
	for i := range 3 { // authentic, under another name
		next(body("3.root.json", padded(w.repo.Files["1.root.json"], i)))
	}
	if n := kept("signed-"); n != 0 {
		t.Errorf("%d old roots are kept as forks", n)
	}
	r := w.repo.Clone()
	r.Root["version"] = 3
	bySome := r.Sign(r.Root, "vendor1", "vendor2") // all vendor keys
	for i := range 20 {
		next(body("3.root.json", padded(bySome, i)))
	}
	if n := kept("signed-"); n != 1 {
		t.Errorf("%d copies of one root that the vendor signed", n)
	}
	for i := range 20 {
		r.Root["x"] = i
		next(body("3.root.json", r.Sign(r.Root, "vendor1")))
	}
	if n := kept("signed-"); n != 16 {
		t.Errorf("%d roots that the vendor signed", n)
	}
	w.does(nil, cdnHost, reviewHost)
	w.repo.NextRoot(func() { w.repo.Charter()["prev_root_sha256"] = strings.Repeat("ab", 32) })
	view := w.good(w.client(), 3)
	if len(view.Evidence()) != 2 || kept("fork-") != 2 {
		t.Errorf("evidence of the fork: %q", view.Evidence())
	}
	for _, f := range view.Evidence() {
		if _, err := os.Stat(f + ".reason.json"); err != nil {
			t.Error(err)
		}
	}
}

// A View belongs to its refresh; after the first of its files has expired it answers
// nothing.
func TestViewExpires(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	fresh, lazy := w.good(c, 1), w.good(w.client(), 1) // the second opens its files on demand
	w.now = firstExpiry(t, w.repo).Add(-time.Second)
	for _, view := range []*client.View{fresh, lazy} {
		if _, err := view.Find(t.Context(), rawtuf.Path); err != nil {
			t.Fatal(err)
		}
	}
	w.now = w.now.Add(time.Second)
	for _, view := range []*client.View{fresh, lazy} {
		if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrExpired) {
			t.Error(err)
		}
		if _, err := view.Latest(t.Context(), client.Query{Product: "agent"}); !errors.Is(err, tuf.ErrExpired) {
			t.Error(err)
		}
		if d := view.Decide(t.Context(), rawtuf.Path); d.Accepted || d.Reason != "expired" {
			t.Errorf("%+v", d)
		}
	}
}

func firstExpiry(t *testing.T, r *rawtuf.Repo) (first time.Time) {
	t.Helper()
	for _, role := range r.Roles {
		at, err := time.Parse(time.RFC3339, role["expires"].(string))
		must(t, err)
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// Without a charter a root that raises the threshold of the same online keys does not
// permit a rollback of the targets.
func TestPlainThresholdRaised(t *testing.T) {
	p := newPlain(t)
	p.repo.NextRoot(func() {
		p.repo.AddKeys(p.repo.Root, "snapshot2")
		rawtuf.At(p.repo.Root, "roles")["snapshot"] = p.repo.Role(1, "snapshot", "snapshot2")
	})
	p.repo.Bump("targets")
	p.repo.Publish()
	if _, err := p.client().Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.repo.NextRoot(func() { rawtuf.At(p.repo.Root, "roles")["snapshot"] = p.repo.Role(2, "snapshot", "snapshot2") })
	p.repo.Signers["snapshot"] = []string{"snapshot", "snapshot2"}
	honest := p.repo.Clone()
	p.repo.Roles["targets"]["version"] = 5
	p.repo.Bump()
	p.repo.Publish()
	if _, err := p.client().Refresh(t.Context()); !errors.Is(err, tuf.ErrRollback) || !strings.Contains(err.Error(), "v5, trusted v6") {
		t.Errorf("got %v", err)
	}
	p.repo = honest
	p.repo.Roles["timestamp"]["version"], p.repo.Roles["snapshot"]["version"] = 20, 20
	p.repo.Publish()
	if _, err := p.client().Refresh(t.Context()); err != nil {
		t.Error(err)
	}
}

// A standard TUF repository whose root adopts a charter continues: its clients save
// targets found under the charter, also before the first refresh of a process. Targets
// found before the adoption, and targets of another repository, are refused.
func TestPlainAdoptsCharter(t *testing.T) {
	reviewed := newWeb(t)
	other := reviewed.approved(reviewed.client())
	plainRoot := rawtuf.New()
	charter := plainRoot.Root["x-visum"]
	delete(plainRoot.Root, "x-visum")
	plainRoot.PublishRoot()
	plainRoot.Publish()
	p := &plain{t: t, repo: plainRoot, pin: plainRoot.Files["1.root.json"], dir: t.TempDir()}
	open := func() *client.Client {
		c, err := client.New(p.pin, &client.Config{Dir: p.dir, UnsafeNoReview: true, Sources: []client.Source{p}, Offline: true, Now: clock, Retries: -1})
		must(t, err)
		return c
	}
	c := open()
	view, err := refreshed(t, c)
	must(t, err)
	before, beforeErr := view.Find(t.Context(), rawtuf.Path)
	plainRoot.NextRoot(func() {
		plainRoot.Root["x-visum"] = charter
		plainRoot.Charter()["repo_id"] = strings.Repeat("ab", 16)
		plainRoot.Charter()["prev_root_sha256"] = ""
	})
	plainRoot.Publish()
	if view, err = refreshed(t, c); err != nil {
		t.Fatal(err)
	}
	a, err := view.Find(t.Context(), rawtuf.Path)
	must(t, err)
	for what, c := range map[string]*client.Client{"this process": c, "the next": open()} {
		if err := c.Save(t.Context(), a, t.TempDir()+"/agent"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := c.ReadTarget(t.Context(), a, 100); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if err := c.Save(t.Context(), other, t.TempDir()+"/agent"); !errors.Is(err, tuf.ErrMismatch) {
			t.Errorf("%s, of another repository: %v", what, err)
		}
		if beforeErr == nil {
			if err := c.Save(t.Context(), before, t.TempDir()+"/agent"); !errors.Is(err, tuf.ErrMismatch) {
				t.Errorf("%s, from before: %v", what, err)
			}
		}
	}
}

// A clock that swings between two times does not shorten the waiting period of a
// recovery: time counts once.
func TestRecoveryHoldAndSwingingClock(t *testing.T) {
	w := lost(t)
	start := w.now
	for i := range 20 {
		w.now = start.Add(time.Duration(i%2) * 2 * day)
		w.waits(w.client(), true)
	}
	w.now = start.Add(2 * day)
	for range 3 {
		w.now = w.now.Add(2 * day)
		w.waits(w.client(), true)
	}
	w.now = w.now.Add(2 * day) // ten days since the start
	w.good(w.client(), 2)
}
