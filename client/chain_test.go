package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// Both parties signed two different next roots. The product keeps the one it saw first;
// the root after it, whose charter names the other one, is accepted with evidence.
func TestTwoValidNextRoots(t *testing.T) {
	m := newMove(t, orders[0])
	other := m.at[1].Clone()
	other.NextRoot(func() { other.Root["x-note"] = "another" })
	m.shows(m.at[2], hostA, hostB)
	m.shows(other, hostZ)
	c := m.product(m.store)
	view, err := refreshed(t, c)
	if err != nil || view.Root().Version() != 2 || view.Root().SHA256() != rawtuf.NameOf(m.at[2].Root)["sha256"] {
		t.Fatalf("root v%d, %v", view.Root().Version(), err)
	}
	after := m.at[2].Clone()
	after.NextRoot(func() { after.Charter()["prev_root_sha256"] = rawtuf.NameOf(other.Root)["sha256"] })
	m.shows(after, hostA, hostB, hostZ)
	view, err = refreshed(t, m.product(m.store))
	if err != nil || view.Root().Version() != 3 {
		t.Fatalf("root v%d, %v", view.Root().Version(), err)
	}
	if len(view.Evidence()) != 2 {
		t.Errorf("evidence %q", view.Evidence())
	}
	for _, name := range view.Evidence() {
		why, err := m.store.Read(name+".reason.json", 1<<20)
		if err != nil || !strings.Contains(string(why), "fork: root v3 follows a v2") {
			t.Errorf("%s, %v", why, err)
		}
	}
	// Without a fork nothing is reported.
	next := after.Clone()
	next.NextRoot(func() { next.Charter()["prev_root_sha256"] = rawtuf.NameOf(after.Root)["sha256"] })
	m.shows(next, hostA, hostB, hostZ)
	if view, err = refreshed(t, m.product(m.store)); err != nil || view.Root().Version() != 4 || len(view.Evidence()) > 0 {
		t.Errorf("root v%d, %q, %v", view.Root().Version(), view.Evidence(), err)
	}
}

// Products on both sides of a fork accept a root whose seq is above both charters, and
// its content; if it is not, the products of the other side do not accept it.
func TestForkIsResolved(t *testing.T) {
	for _, above := range []bool{false, true} {
		w := newWeb(t)
		base := w.repo.Clone()
		w.repo.NextRoot(func() { locations(w.repo, func(_ string, l rawtuf.Doc) { l["jurisdiction"] = "LI" }) })
		fork := base.Clone()
		fork.NextRoot(func() { locations(fork, func(_ string, l rawtuf.Doc) { l["jurisdiction"] = "DE" }) })
		fork.Charter()["seq"] = 50
		fork.PublishRoot()
		here, there := w.client(), w.client(func(cfg *client.Config) { cfg.Dir = quickDir(t) })
		w.good(here, 2)
		w.shows(fork, vendorHost, cdnHost, reviewHost)
		w.good(there, 2)
		w.shows(nil, vendorHost, cdnHost, reviewHost)
		w.repo.NextRoot(func() { locations(w.repo, func(_ string, l rawtuf.Doc) { l["jurisdiction"] = "CH" }) })
		if above {
			w.repo.Charter()["seq"] = 51
			w.repo.PublishRoot()
		}
		renew(w.repo)
		w.good(here, 3)
		if !above {
			w.good(there, 2)
			continue
		}
		if view := w.good(there, 3); len(view.Evidence()) != 0 || view.TimestampVersion() != 6 {
			t.Errorf("timestamp v%d, evidence %q", view.TimestampVersion(), view.Evidence())
		}
	}
}

// A product that is 300 roots behind needs two refreshes, and about one request per
// root. The first refresh uses no content under an outdated root.
func TestRequestsOfThreeHundredRoots(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.repo = hundreds()
	c := w.client()
	if view := w.bad(c, client.ErrMoreRoots); view.Root.Version() != 257 {
		t.Fatalf("root v%d", view.Root.Version())
	}
	w.good(c, 300)
	roots := 0
	for _, r := range w.asked("") {
		if strings.HasSuffix(r, ".root.json") {
			roots++
		}
	}
	if roots > 304 {
		t.Errorf("%d requests for roots", roots)
	}
	w.good(w.client(), 300)
	if got := w.asked(""); len(got) > 4 { // root and timestamp of two operators
		t.Errorf("the next process asked %q", got)
	}
}

// BenchmarkThreeHundredRoots is the complete update of such a product. go-tuf's updater
// follows the same roots, with its limit raised; it does not read charters.
func BenchmarkThreeHundredRoots(b *testing.B) {
	w := &web{repo: hundreds(), now: rawtuf.Now, dir: b.TempDir(), serves: map[string]*rawtuf.Repo{}, answers: map[string]answer{}}
	start := cpuTime()
	for i := range b.N {
		c, err := client.New(w.pin(), &client.Config{Dir: filepath.Join(w.dir, string(rune('a'+i%26)), b.Name()), HTTP: webClient(w), Now: clock})
		if err != nil {
			b.Fatal(err)
		}
		for range 2 {
			if _, err = c.Refresh(b.Context()); err == nil {
				break
			}
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(w.dir); err != nil {
			b.Fatal(err)
		}
	}
	ours := float64(cpuTime()-start) / float64(b.N)
	b.ReportMetric(ours/1e6, "cpu-ms/op")
	b.ReportMetric(float64(len(w.asked("")))/float64(b.N), "requests")

	theirs := &goTUF{dir: b.TempDir(), repo: w.repo, root: w.repo.Files["1.root.json"], max: 400}
	start = cpuTime()
	must(b, theirs.refresh())
	if ours > 0 {
		b.ReportMetric(float64(cpuTime()-start)/ours, "go-tuf/ours")
	}
	b.ReportMetric(float64(theirs.n), "requests-go-tuf")
}

// A product update brings a pin that is newer than the state, older, or the same. The
// client never rolls back.
func TestOtherPins(t *testing.T) {
	m := newMove(t, orders[0])
	pin := func(n int) []byte {
		r := m.at[n]
		p := r.Pin()
		root := firstDoc(t, r.Files[rootFile(n)])
		p["root"], p["locations"] = root, rawtuf.At(r.Root, "x-visum")["locations"]
		return rawtuf.Marshal(p)
	}
	product := func(n int) *client.Client {
		c, err := client.New(pin(n), &client.Config{Store: m.store, HTTP: webClient(m.web), Now: clock, Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, step := range []struct{ pin, at, root int }{
		{1, 1, 1}, {3, 3, 3}, {1, 3, 3}, {2, 3, 3}, {4, 4, 4}, {1, 4, 4}, {3, 4, 4},
	} {
		m.serve(step.at)
		view, err := refreshed(t, product(step.pin))
		if err != nil || view.Root().Version() != int64(step.root) {
			t.Fatalf("%+v: root v%d, %v", step, view.Root().Version(), err)
		}
	}
	// With the old pin and stale metadata: not below the trusted versions.
	m.shows(m.at[2], hostA, hostB, hostZ)
	for n := 1; n <= 2; n++ {
		view, err := refreshed(t, product(n))
		if err == nil || view.Root().Version() != 4 && !errors.Is(err, client.ErrRootRollback) {
			t.Errorf("pin %d: root v%d, %v", n, view.Root().Version(), err)
		}
	}
}

func rootFile(n int) string { return fmt.Sprintf("%d.root.json", n) }

func webClient(w *web) *http.Client { return &http.Client{Transport: w} }

func firstDoc(t testing.TB, data []byte) (d rawtuf.Doc) {
	t.Helper()
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}
