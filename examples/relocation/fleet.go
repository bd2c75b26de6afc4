package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/tuf"
)

// machine is one client of the fleet, with its intervals.
type machine struct {
	name   string
	client *client.Client // nil: the product is not installed yet
	store  client.Store
	pin    int // which of the exported pins its product has
	from   int // day of the installation
	every  int // days between two checks for updates
	phase  int
	off    [2]int // first day off, and first day on again

	root     int64
	location string
	state    string // "ok", or the error of the last refresh in short
	version  string
	checks   int
	problems []string // violated expectations
}

// fleet is the set of all machines.
type fleet struct {
	w        *system
	machines []*machine
	http     *http.Client
	refused  int // files of the attacker that were kept as evidence
	mu       sync.Mutex
}

func newFleet(w *system, size int, seed uint64) (*fleet, error) {
	random := rand.New(rand.NewPCG(seed, seed))
	f := &fleet{w: w, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	intervals := []struct{ share, every int }{{10, 1}, {50, 7}, {30, 14}, {10, 30}}
	for i := range size {
		m := &machine{name: fmt.Sprintf("machine-%d", i), store: client.MemStore()}
		at := random.IntN(100)
		for _, h := range intervals {
			if m.every = h.every; at < h.share {
				break
			}
			at -= h.share
		}
		m.phase = random.IntN(m.every)
		switch kind := random.IntN(20); {
		case kind < 2: // off for months, during one or more steps of the move
			m.off[0] = random.IntN(announceDay + cutOverDay)
			m.off[1] = retireDay + random.IntN(lastDay-retireDay-5)
		case kind < 4: // installed later, with the pin of that day
			m.pin = 1 + random.IntN(3)
			m.from = []int{0, announceDay, cutOverDay, retireDay}[m.pin] + random.IntN(20)
		case kind < 5: // installed late, with the first pin
			m.from = random.IntN(lastDay - 5)
		}
		if i == 0 { // one machine always misses the move and meets the attacker when it is on again
			m.pin, m.from, m.every, m.phase, m.off = 0, 0, 1, 0, [2]int{announceDay - 5, forgeDay + 3}
		}
		f.machines = append(f.machines, m)
	}
	return f, nil
}

// due reports whether the machine checks for updates on a day; on the last days all do.
func (m *machine) due(day int) bool {
	return day >= m.from && !(day >= m.off[0] && day < m.off[1]) && (day >= lastDay-1 || day%m.every == m.phase)
}

// update lets all machines that are due check for updates, several at once.
func (f *fleet) update(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [8]error
	for k := range errs {
		wg.Go(func() {
			for i := k; i < len(f.machines) && ctx.Err() == nil; i += len(errs) {
				if m := f.machines[i]; m.due(f.w.day) {
					errs[k] = errors.Join(errs[k], f.check(ctx, m))
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs[:], ctx.Err())...)
}

// check is one check for updates by a machine. It records violated expectations.
func (f *fleet) check(ctx context.Context, m *machine) error {
	if m.client == nil || m.checks%5 == 0 { // the product restarts from time to time
		c, err := client.New(f.w.pins[m.pin], &client.Config{Store: m.store, HTTP: f.http, UserAgent: m.name, Now: f.w.now, Retries: -1, UnsafeLoopback: true})
		if err != nil {
			return err
		}
		m.client = c
	}
	m.checks++
	before, atA := m.root, f.w.a.count(m.name)
	view, err := m.client.Refresh(ctx)
	failed, _ := errors.AsType[*client.RefreshError](err)
	if err != nil && failed == nil {
		return err
	}
	var trusted *tuf.Root
	var evidence []string
	if failed != nil {
		trusted, evidence = failed.Root, failed.Evidence
	} else {
		trusted, evidence = view.Root(), view.Evidence()
	}
	wrong := func(format string, args ...any) {
		m.problems = append(m.problems, fmt.Sprintf("day %d: ", f.w.day)+fmt.Sprintf(format, args...))
	}
	m.root, m.state = trusted.Version(), stateOf(err)
	if m.root < before {
		wrong("rollback from root %d to %d", before, m.root)
	}
	if trusted.SHA256() != f.w.honest[m.root] {
		wrong("trusts a root %d that the parties did not publish", m.root)
	}
	if n := f.w.a.count(m.name) - atA; n > 0 && (before >= 4 || before == 3 && f.w.day >= sunsetDay) {
		wrong("requests to the old location after its end: %d", n)
	}
	f.mu.Lock()
	f.refused += len(evidence)
	f.mu.Unlock()
	if err != nil {
		return nil // the state of the machine is counted at the end
	}
	m.location = view.Location()
	rel, err := view.Latest(ctx, client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64"})
	if err != nil {
		wrong("finds no release: %v", err)
		return nil
	}
	m.version = rel.Version
	if _, err := view.Find(ctx, "agent/agent-6.6.6"); !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
		wrong("6.6.6: %v", err)
	}
	return nil
}

// shares counts the installed machines by the result of a function.
func (f *fleet) shares(of func(*machine) string) map[string]int {
	out := map[string]int{}
	for _, m := range f.machines {
		if m.client != nil {
			out[of(m)]++
		}
	}
	return out
}

// stateOf is the result of a refresh in short.
func stateOf(err error) string {
	for _, x := range []struct {
		err  error
		name string
	}{{client.ErrUnreachable, "unreachable"}, {client.ErrRootRollback, "rollback"}, {client.ErrStale, "stale"}, {client.ErrMoreRoots, "more roots"}} {
		if errors.Is(err, x.err) {
			return x.name
		}
	}
	if err != nil {
		return "no content"
	}
	return "ok"
}
