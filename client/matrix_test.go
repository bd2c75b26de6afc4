package client_test

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// row is one fault during a move. Each is run with every order of the locations, with
// the process killed after each of its writes, and twice; then all locations work again
// and the product must complete the move.
type row struct {
	name     string
	first    func(*rawtuf.Repo) // edits root 1
	awake    int                // the root at the product's last refresh; 0: it was never started
	world    func(m *move)      // the environment of the next refresh
	root     int64              // the newest trusted root afterwards
	want     error              // the error of the refresh
	then     *row               // root and want of the second refresh, if they differ
	evidence bool               // refused files are kept
	end      int64              // the root at the end, after everything was repaired; 0: root 4
	never    string             // a host that is never contacted
	heals    func(m *move)
}

func TestMatrix(t *testing.T) {
	for n, row := range matrix {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			for i, order := range orders {
				// Otherwise one order of each row, which differs between rows.
				if !rawtuf.Long && (i-n)%len(orders) != 0 {
					continue
				}
				t.Run(orderName(order), func(t *testing.T) {
					t.Parallel()
					// In a bubble waiting takes no time.
					synctest.Test(t, func(t *testing.T) { row.run(t, order) })
				})
			}
		})
	}
}

// killedAfter returns the numbers of writes after which the process is killed: all of
// them, or some if there are hundreds of similar ones.
func killedAfter(writes int) (out []int) {
	for n := range writes {
		if raced && !rawtuf.Long && n%4 != 0 {
			continue // the race detector sees the same code, and is slow
		}
		if !rawtuf.Long && n > 3 && n != 200 && n%8 != 0 {
			continue
		}
		if writes < 40 || n == 200 || rawtuf.Long && n%50 == 0 {
			out = append(out, n)
		}
	}
	return out
}

func (row row) run(t *testing.T, order []int) {
	var first []func(*rawtuf.Repo)
	if row.first != nil {
		first = append(first, row.first)
	}
	m := newMove(t, order, first...)
	if row.awake > 0 {
		m.awake(row.awake)
	}
	row.world(m)
	m.asked("")
	start := m.store

	counted := &crashing{copyStore(t, start), 1 << 30}
	row.check(m, m.product(counted), "once")
	row.checkEvidence(m, counted)
	writes := 1<<30 - counted.writes
	again := row
	if row.then != nil {
		again.root, again.want = row.then.root, row.then.want
	}
	again.check(m, m.product(counted), "twice")
	for _, n := range killedAfter(writes) {
		s := copyStore(t, start)
		if _, err := m.product(&crashing{s, n}).Refresh(t.Context()); err == nil {
			t.Fatalf("no error after %d of %d writes", n, writes)
		}
		if row.then != nil { // two refreshes are needed, however far the first came
			m.product(s).Refresh(t.Context())
		}
		again.check(m, m.product(s), fmt.Sprintf("killed after %d writes", n))
		row.checkEvidence(m, s)
		counted.Store = s
	}
	if row.heals != nil {
		row.heals(m)
	} else {
		m.serve(4)
		m.now = rawtuf.Now.Add(day)
	}
	view, err := refreshed(t, m.product(counted.Store))
	if err != nil || view.Root().Version() != cmp.Or(row.end, 4) {
		t.Fatalf("does not recover: root v%d, %v", view.Root().Version(), err)
	}
}

// checkEvidence requires that a refused file is kept.
func (row row) checkEvidence(m *move, s client.Store) {
	m.t.Helper()
	if !row.evidence {
		return
	}
	if kept, err := s.List("evidence"); err != nil || len(kept) == 0 {
		m.t.Fatalf("no evidence, %v", err)
	}
}

func (row row) check(m *move, c *client.Client, when string) {
	m.t.Helper()
	view, err := refreshed(m.t, c)
	if view.Root().Version() != row.root || !errors.Is(err, row.want) {
		m.t.Fatalf("%s: root v%d, want v%d; %v, want %v", when, view.Root().Version(), row.root, err, row.want)
	}
	if err == nil {
		a, err := view.Find(m.t.Context(), rawtuf.Path)
		if want := rawtuf.At(m.at[1].Roles["vendor-agent"], "targets", rawtuf.Path, "hashes")["sha256"]; err != nil || a.SHA256() != want {
			m.t.Fatalf("%s: %v", when, err)
		}
		if _, err := view.Find(m.t.Context(), "agent/evil"); !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
			m.t.Fatalf("%s: evil: %v", when, err)
		}
		file := filepath.Join(m.dir, "agent")
		if err := c.Save(m.t.Context(), a, file); err != nil {
			m.t.Fatalf("%s: %v", when, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
			m.t.Fatalf("%s: saved %q, %v", when, got, err)
		}
		os.Remove(file)
	}
	for _, r := range m.asked("") {
		if row.never != "" && strings.HasPrefix(r, row.never+" ") {
			m.t.Fatalf("%s: asked %s", when, r)
		}
	}
}

// crashing is a Store of a process that is killed after a number of writes.
type crashing struct {
	client.Store
	writes int
}

var errCrashed = errors.New("killed")

func (c *crashing) Write(name string, data []byte) error {
	if c.writes == 0 {
		return errCrashed
	}
	c.writes--
	return c.Store.Write(name, data)
}
