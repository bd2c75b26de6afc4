package client_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// quiet removes unrelated changes from a move: new releases. Announcing and retiring a
// location change only the root; the cut-over rotates the online keys, so timestamp,
// snapshot and roles are new.
func (m *move) quiet() {
	for _, n := range []int{2, 4} {
		files := map[string][]byte{}
		for name, data := range m.at[n-1].Files {
			files[name] = data
		}
		files[rootFile(n)] = m.at[n].Files[rootFile(n)]
		m.at[n].Files = files
	}
}

// rootsOnly leaves the retired location A the roots only.
func (m *move) rootsOnly() {
	left := m.at[4].Clone()
	for name := range left.Files {
		if !strings.HasSuffix(name, ".root.json") {
			delete(left.Files, name)
		}
	}
	m.shows(left, hostA)
}

// slowRoots answers requests for roots last, so that a parallel request is always
// recorded. For use in a bubble.
type slowRoots struct{ *web }

func (s slowRoots) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, ".root.json") {
		time.Sleep(time.Millisecond)
	}
	return s.web.RoundTrip(r)
}

// The additional requests of a move, compared with the refreshes that would have been
// made anyway, counted over all locations:
//
//	3  its roots
//	1  the timestamp again, in each refresh that finds a new root: the one
//	   requested in parallel with the root may be older than it
//	4  the content under the new online keys: the snapshot, and of the one class
//	   here the roles of two parties and of the holds
//
// Ten for a client that is online in each phase, eight for one that sees all of it at
// once; a further class adds as many requests as it has roles. The order of the
// locations makes no difference. A new process probes: that is one more root and, if
// another operator has content, one more timestamp, with and without a move.
func TestRequestsOfAMove(t *testing.T) {
	// By root: the requests added by the refresh that finds it.
	for name, want := range map[string]map[int]int{
		"online in each phase":            {2: 2, 3: 6, 4: 2},
		"offline during the cut-over":     {2: 2, 4: 7},
		"offline during the announcement": {3: 7, 4: 2},
		"offline during the move":         {4: 8},
	} {
		for _, order := range orders {
			for _, restarts := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%t", name, orderName(order), restarts), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { countMove(t, order, restarts, want) })
				})
			}
		}
	}
}

func countMove(t *testing.T, order []int, restarts bool, want map[int]int) {
	m := newMove(t, order)
	m.quiet()
	m.config = func(cfg *client.Config) { cfg.HTTP = &http.Client{Transport: slowRoots{m.web}} }
	c := m.product(m.store)
	refresh := func(n int) []string {
		t.Helper()
		if m.serve(n); n == 4 {
			m.rootsOnly()
		}
		m.now = m.now.Add(time.Minute)
		if restarts {
			c = m.product(m.store)
		}
		m.asked("")
		m.good(c, int64(n))
		return m.asked("")
	}
	refresh(1)
	// The next root and the timestamp; in a new process also the next root of another
	// operator, and the timestamp if two of them have content: A and B in the middle of
	// the move.
	steady := func(n int) int {
		switch {
		case !restarts:
			return 2
		case n == 2 || n == 3:
			return 4
		}
		return 3
	}
	nothingNew := func(n int) {
		t.Helper()
		if got := refresh(n); len(got) != steady(n) {
			t.Errorf("no change at root %d: %d requests, want %d: %q", n, len(got), steady(n), got)
		}
	}
	nothingNew(1)
	total, most := 0, 10
	for n, before := 2, 1; n <= 4; n++ {
		if want[n] == 0 {
			continue
		}
		more := want[n]
		if steady(before) == 4 { // a second timestamp was requested in parallel with the root
			more++
			most++
		}
		got := refresh(n)
		if total += len(got) - steady(n); len(got) != steady(n)+more {
			t.Errorf("root %d: %d requests, want %d and %d: %q", n, len(got), steady(n), more, got)
		}
		nothingNew(n)
		before = n
	}
	if total > most {
		t.Errorf("the move cost %d requests", total)
	}
}

// A refresh without changes makes as many requests as go-tuf, and with a charter two
// more if a probe is due: root and timestamp at a second operator.
func TestRequestsBesidePlain(t *testing.T) {
	theirs := &goTUF{dir: t.TempDir(), repo: rawtuf.NewPlain()}
	theirs.root = theirs.repo.Files["1.root.json"]
	plain := 0
	c, err := client.New(theirs.root, &client.Config{Store: client.MemStore(), UnsafeNoReview: true, Sources: []client.Source{memorySource{theirs.repo, &plain}}, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	w := newWeb(t)
	charter := w.client()
	for range 2 { // the first fetches the content
		theirs.n, plain = 0, 0
		must(t, theirs.refresh())
		if _, err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.asked("")
		w.good(charter, 1)
	}
	if got := w.asked(""); theirs.n != 2 || plain != theirs.n || len(got) != theirs.n {
		t.Errorf("go-tuf %d, plain %d, with a charter %q", theirs.n, plain, got)
	}
	w.now = w.now.Add(time.Hour * 24)
	w.good(charter, 1)
	if got := w.asked(""); len(got) != theirs.n+2 {
		t.Errorf("a probe is due: %q", got)
	}
}
