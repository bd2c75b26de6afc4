package client_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// The days of a fleet's move; B is used from day 10 on, A until day 100.
const (
	announceDay = 5
	cutOverDay  = 30
	theftDay    = 45 // A, its online keys and the vendor's release key are compromised
	retireDay   = 60
	outageDay   = 70 // of B, for two days
	sunsetDay   = 100
	lastDay     = 119
)

// fleet is the environment of many clients, and their common statistics.
type fleet struct {
	*move
	attacker *rawtuf.Repo
	pins     [5][]byte // exported at root 1 to 4
	sums     [5]string // of the roots
	seed     uint64

	looks, requests, failures, evidence atomic.Int64
}

func newFleet(tb testing.TB, seed uint64) *fleet {
	m := &move{web: &web{repo: rawtuf.New(), serves: map[string]*rawtuf.Repo{}, answers: map[string]answer{}}, order: orders[0]}
	m.publish(func(r *rawtuf.Repo) {
		r.Root["expires"] = rawtuf.Stamp(farAway)
		for _, role := range r.Roles {
			role["expires"] = rawtuf.Stamp(farAway)
		}
	})
	evil(m)
	f := &fleet{move: m, attacker: m.serves[hostA], seed: seed}
	for n := 1; n <= 4; n++ {
		pin := m.at[n].Pin()
		pin["root"], pin["locations"] = firstDoc(tb, m.at[n].Files[rootFile(n)]), rawtuf.At(m.at[n].Root, "x-visum")["locations"]
		f.pins[n], f.sums[n] = rawtuf.Marshal(pin), rawtuf.NameOf(m.at[n].Root)["sha256"].(string)
	}
	return f
}

// rootOn is the newest root on a day.
func rootOn(day int) int {
	n := 1
	for _, d := range []int{announceDay, cutOverDay, retireDay} {
		if day >= d {
			n++
		}
	}
	return n
}

// served is what a host serves on a day; nil: it is unreachable.
func (f *fleet) served(host string, day int) *rawtuf.Repo {
	switch {
	case host == hostA && day >= theftDay:
		return f.attacker
	case host == hostB && (day < announceDay || day == outageDay || day == outageDay+1):
		return nil
	case host == hostA || host == hostB || host == hostZ:
		return f.at[rootOn(day)]
	}
	return nil
}

// machine is one client with its behaviour. All of its days are simulated in a row, so
// that only a few states are in memory at a time.
type machine struct {
	*fleet
	pin, from, every, phase int
	asleep                  [2]int // days
	root                    int64  // accepted so far

	mu    sync.Mutex
	day   int
	asked map[string]int // requests by host
}

func (f *fleet) machine(i int) *machine {
	rng := rand.New(rand.NewPCG(f.seed, uint64(i)))
	m := &machine{fleet: f, pin: 1, every: []int{7, 7, 7, 14, 14, 14, 14, 30, 30, 60}[rng.IntN(10)], asked: map[string]int{}}
	m.phase = rng.IntN(m.every)
	switch kind := rng.IntN(20); {
	case kind < 3: // offline for months, during one step of the move or all of it
		m.asleep = [2]int{rng.IntN(cutOverDay), retireDay + rng.IntN(lastDay-retireDay)}
	case kind < 6: // first started later, with the pin of that day
		m.from = rng.IntN(lastDay)
		m.pin = rootOn(m.from)
	case kind < 8: // first started later, with the first pin
		m.from = rng.IntN(lastDay)
	}
	return m
}

func (m *machine) RoundTrip(r *http.Request) (*http.Response, error) {
	m.mu.Lock()
	m.asked[r.URL.Host]++
	from := m.served(r.URL.Host, m.day)
	m.mu.Unlock()
	if from == nil {
		return nil, errDark
	}
	if data, ok := fileOf(from, strings.TrimPrefix(r.URL.Path, "/r/")); ok {
		return status(200, "", data)("", r)
	}
	return status(404, "", nil)("", r)
}

func (m *machine) askedA() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[hostA]
}

// live lets the machine check for updates on its days, and on the last.
func (m *machine) live(tb testing.TB, file string) error {
	store := client.MemStore()
	m.root = int64(m.pin)
	var c *client.Client
	for day, looks := m.from, 0; day <= lastDay; day++ {
		if day < lastDay && (day%m.every != m.phase || day >= m.asleep[0] && day < m.asleep[1]) {
			continue
		}
		m.mu.Lock()
		m.day = day
		m.mu.Unlock()
		if looks%5 == 0 { // the product restarts now and then
			var err error
			c, err = client.New(m.pins[m.pin], &client.Config{Store: store, HTTP: &http.Client{Transport: m}, Retries: -1,
				Now: func() time.Time { return rawtuf.Now.AddDate(0, 0, m.day) }})
			if err != nil {
				return err
			}
		}
		looks++
		if err := m.look(tb, c, file); err != nil {
			return fmt.Errorf("day %d: %w", day, err)
		}
	}
	for _, n := range m.asked {
		m.requests.Add(int64(n))
	}
	return nil
}

// look checks for updates once, and checks the invariants.
func (m *machine) look(tb testing.TB, c *client.Client, file string) error {
	before, atA := m.root, m.askedA()
	found, err := c.Refresh(tb.Context())
	failed, ok := errors.AsType[*client.RefreshError](err)
	if err != nil && !ok {
		return err
	}
	view := outcome{found, failed}
	m.looks.Add(1)
	m.evidence.Add(int64(len(view.Evidence())))
	m.root = view.Root().Version()
	switch {
	case m.root < before:
		return fmt.Errorf("went back from root %d to %d", before, m.root)
	case view.Root().SHA256() != m.sums[m.root]:
		return fmt.Errorf("follows a root %d that was not signed by the parties", m.root)
	case m.askedA() > atA && (before == 4 || before == 3 && m.day >= sunsetDay):
		return errors.New("asked the old location")
	}
	if err != nil {
		if m.failures.Add(1); m.day != outageDay && m.day != outageDay+1 {
			return err // one malicious location must not matter
		}
		return nil // a temporary error
	}
	if _, err := view.Find(tb.Context(), "agent/evil"); !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
		return fmt.Errorf("evil: %v", err)
	}
	a, err := view.Find(tb.Context(), rawtuf.Path)
	if err != nil || m.day < lastDay {
		return err
	}
	if m.root != 4 {
		return fmt.Errorf("ends at root %d", m.root)
	}
	if err := c.Save(tb.Context(), a, file); err != nil {
		return err
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
		return fmt.Errorf("saved %q, %w", got, err)
	}
	return os.Remove(file)
}

// run runs machines, workers at once.
func (f *fleet) run(tb testing.TB, size, workers int) {
	var next atomic.Int64
	var all sync.WaitGroup
	dir := quickDir(tb)
	for k := range workers {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < size && !tb.Failed(); i = int(next.Add(1)) - 1 {
				if err := f.machine(i).live(tb, filepath.Join(dir, fmt.Sprint(k))); err != nil {
					tb.Errorf("seed %d, machine %d: %v", f.seed, i, err)
				}
			}
		})
	}
	all.Wait()
}

// A small fleet with all kinds of behaviour goes through a move with an attacker at the
// old location and an outage of the new one: every client completes it.
func TestFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, seedOf(t))
	f.run(t, 100, 4)
	t.Logf("%d refreshes, %d without content, %d pieces of evidence, %d requests", f.looks.Load(), f.failures.Load(), f.evidence.Load(), f.requests.Load())
	if f.failures.Load() == 0 {
		t.Error("no client met the outage: the test is too easy")
	}
}
