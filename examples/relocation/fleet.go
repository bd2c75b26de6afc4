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

// machine is one client of the fleet, with its habits.
type machine struct {
	name   string
	client *client.Client // nil: the product is not installed yet
	store  client.Store
	pin    int // which of the exported pins its product has
	from   int // day of the installation
	every  int // days between two looks
	phase  int
	asleep [2]int // days of a long sleep

	root     int64
	place    string
	state    string // "ok", or what the last refresh ended with
	version  string
	looks    int
	problems []string // what should never be
}

// fleet is all machines.
type fleet struct {
	w        *world
	machines []*machine
	http     *http.Client
	refused  int // releases or roots of the thief that were kept as evidence
	mu       sync.Mutex
}

func newFleet(w *world, size int, seed uint64) (*fleet, error) {
	dice := rand.New(rand.NewPCG(seed, seed))
	f := &fleet{w: w, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	habits := []struct{ share, every int }{{10, 1}, {50, 7}, {30, 14}, {10, 30}}
	for i := range size {
		m := &machine{name: fmt.Sprintf("machine-%d", i), store: client.MemStore()}
		at := dice.IntN(100)
		for _, h := range habits {
			if m.every = h.every; at < h.share {
				break
			}
			at -= h.share
		}
		m.phase = dice.IntN(m.every)
		switch kind := dice.IntN(20); {
		case kind < 2: // off for months, over one step of the move or all
			m.asleep[0] = dice.IntN(announceDay + cutOverDay)
			m.asleep[1] = retireDay + dice.IntN(lastDay-retireDay-5)
		case kind < 4: // bought later, with a pin of that day
			m.pin = 1 + dice.IntN(3)
			m.from = []int{0, announceDay, cutOverDay, retireDay}[m.pin] + dice.IntN(20)
		case kind < 5: // bought late, with the first pin
			m.from = dice.IntN(lastDay - 5)
		}
		if i == 0 { // one there always is that knows of no move and wakes to the thief
			m.pin, m.from, m.every, m.phase, m.asleep = 0, 0, 1, 0, [2]int{announceDay - 5, evilDay + 3}
		}
		f.machines = append(f.machines, m)
	}
	return f, nil
}

// awake reports whether the machine looks for updates on a day; on the last all do.
func (m *machine) awake(day int) bool {
	return day >= m.from && !(day >= m.asleep[0] && day < m.asleep[1]) && (day >= lastDay-1 || day%m.every == m.phase)
}

// live lets all who are awake look for updates, several at once.
func (f *fleet) live(ctx context.Context) error {
	var wg sync.WaitGroup
	var errs [8]error
	for k := range errs {
		wg.Go(func() {
			for i := k; i < len(f.machines) && ctx.Err() == nil; i += len(errs) {
				if m := f.machines[i]; m.awake(f.w.day) {
					errs[k] = errors.Join(errs[k], f.look(ctx, m))
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs[:], ctx.Err())...)
}

// look is one look for updates, and what must be true of it whatever happens.
func (f *fleet) look(ctx context.Context, m *machine) error {
	if m.client == nil || m.looks%5 == 0 { // the product starts again now and then
		c, err := client.New(f.w.pins[m.pin], &client.Config{Store: m.store, HTTP: f.http, UserAgent: m.name, Now: f.w.now, Retries: -1, UnsafeLoopback: true})
		if err != nil {
			return err
		}
		m.client = c
	}
	m.looks++
	before, atA := m.root, f.w.a.asked(m.name)
	view, err := m.client.Refresh(ctx)
	if view == nil {
		return err
	}
	wrong := func(format string, args ...any) {
		m.problems = append(m.problems, fmt.Sprintf("day %d: ", f.w.day)+fmt.Sprintf(format, args...))
	}
	m.root, m.state = view.Root().Version(), stateOf(err)
	if m.root < before {
		wrong("went back from root %d to %d", before, m.root)
	}
	if view.Root().SHA256() != f.w.honest[m.root] {
		wrong("follows a root %d that is not the parties'", m.root)
	}
	if n := f.w.a.asked(m.name) - atA; n > 0 && (before >= 4 || before == 3 && f.w.day >= sunsetDay) {
		wrong("asked the old place %d times, which it must not", n)
	}
	f.mu.Lock()
	f.refused += len(view.Evidence())
	f.mu.Unlock()
	if err != nil {
		return nil // a state of the world; the fleet counts it
	}
	m.place = view.Place()
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

// shares counts the machines by what of says of them.
func (f *fleet) shares(of func(*machine) string) map[string]int {
	out := map[string]int{}
	for _, m := range f.machines {
		if m.client != nil {
			out[of(m)]++
		}
	}
	return out
}

// stateOf is the result of a refresh in a word.
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
