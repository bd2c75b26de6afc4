package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// member is one client of the fleet: a product with a pin and stored state.
type member struct {
	play  *play
	name  string
	data  []byte
	pin   *tuf.Pin
	store client.Store
	root  int64 // version of its trusted root
	// Epoch and timestamp version of its last content.
	epoch, timestamp int64
	view             *client.View
	trusted          *tuf.Root // after the last refresh
	err              error
	// tireless: one process runs all cycles. Otherwise a new process runs the second
	// one. More processes would verify long chains again and again.
	tireless bool
	starts   int
	client   *client.Client
	// ahead is the advance of its clock, to go through the waiting period of a recovery.
	ahead    time.Duration
	searches int // root checks with the advanced clock
	stage    *stage
}

// cycles is the number of refreshes after which a client must reach its end state,
// unless it still has locations to ask.
const cycles = 4

// run runs a scene with all kinds of clients.
func (p *play) run(ctx context.Context, s scene) ([]Outcome, error) {
	ours := Outcome{Scenario: s.name, Client: "visum", Roots: map[int64]int{}}
	some := p.sample(len(p.pins))
	for i := range p.pins {
		sampled := slices.Contains(some, i)
		for _, awake := range []bool{false, true} {
			if !sampled && (awake || s.name != allHealthy) {
				continue
			}
			m, err := p.member(ctx, i, awake)
			if err != nil {
				return nil, err
			}
			if m == nil {
				continue
			}
			m.tireless = !sampled
			if err := m.live(ctx, s, &ours); err != nil {
				return nil, err
			}
		}
	}
	stock, err := p.runStock(ctx, s)
	if err != nil || stock == nil {
		return []Outcome{ours}, err
	}
	return []Outcome{ours, *stock}, nil
}

// member returns a client of a product that starts for the first time or, if awake,
// that was online until the step; nil if it could not have been online.
func (p *play) member(ctx context.Context, i int, awake bool) (*member, error) {
	pin, err := tuf.OpenPin(p.pins[i], &tuf.Options{UnsafeLoopback: p.Config.UnsafeLoopback})
	if err != nil {
		return nil, err
	}
	m := &member{play: p, data: p.pins[i], pin: pin, store: client.MemStore(), root: pin.Root().Version()}
	m.name = fmt.Sprintf("pin of root v%d, started for the first time", m.root)
	if !awake {
		return m, nil
	}
	m.name = fmt.Sprintf("pin of root v%d, online until the step", m.root)
	if m.root > p.was().Version() {
		return nil, nil
	}
	if _, err := m.refresh(ctx, p.past()); err != nil {
		return nil, err
	}
	if m.trusted.Version() != p.was().Version() {
		return nil, nil // impossible with this pin
	}
	m.root = m.trusted.Version()
	m.client, m.starts = nil, 0 // a new process after the step
	return m, nil
}

// refresh runs one cycle of the product. The error is that of ctx.
func (m *member) refresh(ctx context.Context, hosts map[string]host) ([]request, error) {
	if m.client == nil || !m.tireless && m.starts < 2 {
		m.starts++
		var err error
		m.stage = &stage{play: m.play}
		m.client, err = client.New(m.data, &client.Config{Store: m.store, HTTP: &http.Client{Transport: m.stage}, Retries: -1,
			Now: m.now, UnsafeLoopback: m.play.Config.UnsafeLoopback})
		if err != nil {
			return nil, err
		}
	}
	m.stage.hosts = hosts
	m.view, m.err = m.client.Refresh(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	m.trusted = nil
	if failed, ok := errors.AsType[*client.RefreshError](m.err); ok {
		m.trusted = failed.Root
	} else if m.err != nil {
		return nil, fmt.Errorf("drill: %s: %w", m.name, m.err)
	} else {
		m.trusted = m.view.Root()
	}
	return m.stage.take(), nil
}

// shownTimestamp returns the version of the timestamp, 0 after an error.
func (m *member) shownTimestamp() int64 {
	if m.view == nil {
		return 0
	}
	return m.view.TimestampVersion()
}

func (m *member) now() time.Time { return m.play.now.Add(m.ahead) }

// live runs a client through a scene and then with healthy locations.
func (m *member) live(ctx context.Context, s scene, out *Outcome) error {
	p := m.play
	e := p.expect(ctx, s, m.root, m.pin)
	waits := p.waits(m.root)
	if s.name == allHealthy && !waits {
		e = expectation{root: p.tip().Version(), content: true}
	}
	there := func() bool { return m.trusted.Version() == e.root && (m.err == nil) == e.content }
	patience := max(cycles, p.turns(m.root, m.pin))
	for idle := 0; idle < patience; idle++ {
		was := m.root
		if err := m.cycle(ctx, s.hosts, out); err != nil {
			return err
		}
		if there() {
			break
		}
		if m.root > was {
			idle = -1
		}
		if m.root < e.root {
			m.client = nil // a new process does a root check first
		}
	}
	if there() {
		// One more cycle with the new state, to check the requests.
		if err := m.cycle(ctx, s.hosts, out); err != nil {
			return err
		}
	}
	rests := e.stop > 0 && m.trusted.Version() >= e.stop && m.trusted.Version() < e.root
	switch {
	case there() || rests:
	case m.trusted.Version() != e.root:
		out.violated("L1", m.name, "is at root v%d, v%d is available: %v", m.trusted.Version(), e.root, m.err)
	case e.content:
		out.violated("L1", m.name, "is at root v%d without content, although content is available: %v", e.root, m.err)
	default:
		out.violated("S12", m.name, "is at root v%d with content, although none is valid", e.root)
	}
	if s.name == allHealthy && waits {
		if err := m.heal(ctx, out); err != nil {
			return err
		}
	}
	out.count(m.trusted.Version(), m.trusted.Version() == p.tip().Version() && m.err == nil)
	if s.name == allHealthy {
		if err := m.find(ctx, out); err != nil {
			return err
		}
		// Stale metadata must not roll back a new process.
		m.starts = 0
		return m.cycle(ctx, p.past(), out)
	}
	return m.heal(ctx, out)
}

// rule is the charter's rule for the recovery to root v.
func (p *play) rule(v int64) *tuf.RecoveryRule { return p.after[v-2].Charter().Recovery() }

// heal checks that the client completes the move with healthy locations, after the
// waiting period if there is a recovery.
func (m *member) heal(ctx context.Context, out *Outcome) error {
	m.tireless = true
	tries := cycles
	for v := range m.play.recovered {
		if v > m.root {
			tries += m.play.rule(v).MinTicks + cycles
		}
	}
	for range tries {
		if next := m.root + 1; m.play.recovered[next] {
			rule := m.play.rule(next)
			m.ahead += rule.Hold / time.Duration(rule.MinTicks)
			m.searches++
		} else {
			m.ahead, m.searches = 0, 0 // current metadata would be expired for an advanced clock
		}
		if err := m.cycle(ctx, m.play.well, out); err != nil {
			return err
		}
		if m.err == nil && m.trusted.Version() == m.play.tip().Version() {
			return nil
		}
	}
	out.violated("L5", m.name, "does not recover with healthy locations: root v%d, %v", m.trusted.Version(), m.err)
	return nil
}

// sight is the observable result of one refresh of a client.
type sight struct {
	root      *tuf.Root // the trusted root
	timestamp int64     // timestamp version of its content
	asked     []request
	err       error // the reason for no content
}

// cycle refreshes once and checks the invariants of each refresh.
func (m *member) cycle(ctx context.Context, hosts map[string]host, out *Outcome) error {
	asked, err := m.refresh(ctx, hosts)
	if err != nil {
		return err
	}
	if known := m.check(sight{m.trusted, m.shownTimestamp(), asked, m.err}, out); !known || m.err != nil {
		return nil
	}
	return m.decide(ctx, out)
}

// check compares a refresh against all earlier ones of the client. It returns false for
// an unknown root, after which nothing more can be checked.
func (m *member) check(s sight, out *Outcome) bool {
	p, before := m.play, m.root
	v := s.root.Version()
	if v > p.tip().Version() || s.root.SHA256() != p.after[v-1].SHA256() {
		out.violated("S1", m.name, "trusts a root v%d with sha256 %.16s that is not in the chain", v, s.root.SHA256())
		return false
	}
	if v < before {
		out.violated("S2", m.name, "went back from root v%d to v%d", before, v)
	}
	for next := before + 1; next <= v; next++ {
		if !p.recovered[next] {
			continue
		}
		if rule := p.rule(next); next > before+1 || m.ahead < rule.Hold || m.searches < rule.MinTicks {
			out.violated("S1", m.name, "followed a recovery to root v%d after %s and %d root checks; required are %s and %d", next, m.ahead, m.searches, rule.Hold, rule.MinTicks)
		}
	}
	knew := p.after[before-1].Charter()
	for _, r := range s.asked {
		i := slices.IndexFunc(p.locations, func(l tuf.Location) bool { return l.Base == r.base })
		if i < 0 {
			out.violated("S6", m.name, "sent a request to %s, which is not listed", text.Quote(r.url))
		} else if !knew.Usable(p.locations[i], m.now()) {
			out.violated("S4", m.name, "sent a request to %s, which root v%d retires", text.Quote(r.url), before)
		}
	}
	m.root = max(v, before)
	if s.err != nil {
		return true
	}
	if s.root.CheckExpiry(m.now()) != nil {
		out.violated("S12", m.name, "has content under root v%d, which has expired", v)
	}
	charter := s.root.Charter()
	if floor := charter.Floors().Timestamp; s.timestamp < floor {
		out.violated("S5", m.name, "has timestamp v%d, the floor is v%d", s.timestamp, floor)
	}
	if charter.Epoch() == m.epoch && s.timestamp < m.timestamp {
		out.violated("S5", m.name, "went back from timestamp v%d to v%d", m.timestamp, s.timestamp)
	}
	m.epoch, m.timestamp = charter.Epoch(), s.timestamp
	return true
}

// decide looks for forged and approved targets in the client's view.
func (m *member) decide(ctx context.Context, out *Outcome) error {
	p := m.play
	paths := []string{}
	for _, a := range p.paths {
		paths = append(paths, a.Path())
	}
	if p.evil != "" {
		paths = append(paths, p.evil)
	}
	for _, path := range paths {
		a, err := m.view.Find(ctx, path)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil && !slices.Contains(p.good[path], a.SHA256()) {
			out.violated("S3", m.name, "accepts %s with sha256 %.16s, which is not approved", text.Name(path), a.SHA256())
		}
	}
	return nil
}

// find checks that the client finds the approved releases.
func (m *member) find(ctx context.Context, out *Outcome) error {
	if m.err != nil {
		return nil
	}
	for _, a := range m.play.paths {
		if _, err := m.view.Find(ctx, a.Path()); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			out.violated("L1", m.name, "does not find %s, which is approved: %v", text.Name(a.Path()), err)
		}
	}
	return nil
}

// holds checks that the locations in Places have the files of the approved targets:
// clients need more than metadata.
func (p *play) holds(ctx context.Context) (*Outcome, error) {
	out := &Outcome{Scenario: "files of the given locations", Client: "visum", Roots: map[int64]int{}}
	for _, id := range slices.Sorted(maps.Keys(p.Locations)) {
		i := slices.IndexFunc(p.tip().Charter().Locations(), func(l tuf.Location) bool { return l.ID == id && l.Tier != tuf.Rendezvous })
		if i < 0 {
			continue
		}
		for _, a := range p.paths {
			if err := p.holdsTarget(ctx, p.tip().Charter().Locations()[i], a); errors.Is(err, errLacks) {
				out.violated("L1", "location "+id, "%s: %v", text.Name(a.Path()), err)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
