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

// member is one client of the fleet: a product with a pin and what it remembers.
type member struct {
	play  *play
	name  string
	data  []byte
	pin   *tuf.Pin
	store client.Store
	root  int64 // that it trusts
	// What it had content of last.
	epoch, timestamp int64
	view             *client.View
	err              error
	// A process lives through all cycles, or is started again for the second: more
	// often, long chains would be verified again and again.
	tireless bool
	starts   int
	client   *client.Client
	// ahead is how far its clock is ahead: it lives through the wait for a recovery.
	ahead    time.Duration
	searches int // while it was
	stage    *stage
}

// cycles are enough for a client to come to where it can, where it need not wait for
// the turn of a place.
const cycles = 4

// run lives through a scene with all kinds of clients.
func (p *play) run(ctx context.Context, s scene) ([]Outcome, error) {
	ours := Outcome{Scenario: s.name, Client: "visum", Roots: map[int64]int{}}
	some := p.sample(len(p.pins))
	for i := range p.pins {
		sampled := slices.Contains(some, i)
		for _, awake := range []bool{false, true} {
			if !sampled && (awake || s.name != allWell) {
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

// member makes a client: of a product that is started for the first time, or one
// that was awake until the step. nil: it could not be awake.
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
	m.name = fmt.Sprintf("pin of root v%d, awake until the step", m.root)
	if m.root > p.was().Version() {
		return nil, nil
	}
	if _, err := m.refresh(ctx, p.past()); err != nil {
		return nil, err
	}
	if m.view.Root().Version() != p.was().Version() {
		return nil, nil // nobody could, with this pin
	}
	m.root = m.view.Root().Version()
	m.client, m.starts = nil, 0 // the product is started again after the step
	return m, nil
}

// refresh is one cycle of the product. The error is that of ctx.
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
	if m.view == nil {
		return nil, fmt.Errorf("drill: %s: %w", m.name, m.err)
	}
	return m.stage.take(), nil
}

func (m *member) now() time.Time { return m.play.now.Add(m.ahead) }

// live takes a client through a scene, and then through a world that is well.
func (m *member) live(ctx context.Context, s scene, out *Outcome) error {
	p := m.play
	e := p.expect(ctx, s, m.root, m.pin)
	waits := p.waits(m.root)
	if s.name == allWell && !waits {
		e = expectation{root: p.tip().Version(), content: true}
	}
	there := func() bool { return m.view.Root().Version() == e.root && (m.err == nil) == e.content }
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
			m.client = nil // a new process, so that the next cycle is a probe
		}
	}
	if there() {
		// Once more, now that it knows what it knows: whom does it ask?
		if err := m.cycle(ctx, s.hosts, out); err != nil {
			return err
		}
	}
	rests := e.stop > 0 && m.view.Root().Version() >= e.stop && m.view.Root().Version() < e.root
	switch {
	case there() || rests:
	case m.view.Root().Version() != e.root:
		out.violated("L1", m.name, "is at root v%d, and could have come to v%d: %v", m.view.Root().Version(), e.root, m.err)
	case e.content:
		out.violated("L1", m.name, "is at root v%d without content, which was to be had: %v", e.root, m.err)
	default:
		out.violated("S12", m.name, "is at root v%d with content, and none is valid", e.root)
	}
	if s.name == allWell && waits {
		if err := m.heal(ctx, out); err != nil {
			return err
		}
	}
	out.count(m.view.Root().Version(), m.view.Root().Version() == p.tip().Version() && m.err == nil)
	if s.name == allWell {
		if err := m.find(ctx, out); err != nil {
			return err
		}
		// Who is shown the past after all this, in a new process, is not led back.
		m.starts = 0
		return m.cycle(ctx, p.past(), out)
	}
	return m.heal(ctx, out)
}

// rule is how clients wait for a root that was recovered to.
func (p *play) rule(v int64) *tuf.RecoveryRule { return p.after[v-2].Charter().Recovery() }

// heal: as soon as the world is well the client comes to the end, after its wait
// where there was a recovery.
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
			m.ahead, m.searches = 0, 0 // what is signed for today has expired in the meantime
		}
		if err := m.cycle(ctx, m.play.well, out); err != nil {
			return err
		}
		if m.err == nil && m.view.Root().Version() == m.play.tip().Version() {
			return nil
		}
	}
	out.violated("L5", m.name, "does not recover when all is well again: root v%d, %v", m.view.Root().Version(), m.err)
	return nil
}

// sight is what one refresh of a client shows to the outside.
type sight struct {
	root      *tuf.Root // that it trusts
	timestamp int64     // of its content
	asked     []request
	err       error // why it has no content
}

// cycle refreshes once and checks what must hold after each refresh.
func (m *member) cycle(ctx context.Context, hosts map[string]host, out *Outcome) error {
	asked, err := m.refresh(ctx, hosts)
	if err != nil {
		return err
	}
	if known := m.judge(sight{m.view.Root(), m.view.TimestampVersion(), asked, m.err}, out); !known || m.err != nil {
		return nil
	}
	return m.decide(ctx, out)
}

// judge checks what a client shows against all that it has shown before. False:
// nobody knows its root, and there is no more to ask.
func (m *member) judge(s sight, out *Outcome) bool {
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
			out.violated("S1", m.name, "followed a recovery to root v%d after %s and %d searches; the wait is %s and %d", next, m.ahead, m.searches, rule.Hold, rule.MinTicks)
		}
	}
	knew := p.after[before-1].Charter()
	for _, r := range s.asked {
		i := slices.IndexFunc(p.locations, func(l tuf.Location) bool { return l.Base == r.base })
		if i < 0 {
			out.violated("S6", m.name, "asked %s, which nobody lists", text.Quote(r.url))
		} else if !knew.Usable(p.locations[i], m.now()) {
			out.violated("S4", m.name, "asked %s, which root v%d bans", text.Quote(r.url), before)
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

// decide asks the view for what a thief lists, and for what is approved.
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
			out.violated("S3", m.name, "takes %s with sha256 %.16s, which nobody approved", text.Name(path), a.SHA256())
		}
	}
	return nil
}

// find looks for every release that is approved.
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

// holds looks whether the places that were named hold the files of what is
// approved: metadata alone installs nothing.
func (p *play) holds(ctx context.Context) (*Outcome, error) {
	out := &Outcome{Scenario: "what the places hold", Client: "visum", Roots: map[int64]int{}}
	for _, id := range slices.Sorted(maps.Keys(p.Places)) {
		i := slices.IndexFunc(p.tip().Charter().Locations(), func(l tuf.Location) bool { return l.ID == id && l.Tier != tuf.Rendezvous })
		if i < 0 {
			continue
		}
		for _, a := range p.paths {
			if err := p.holdsTarget(ctx, p.tip().Charter().Locations()[i], a); errors.Is(err, errLacks) {
				out.violated("L1", "place "+id, "%s: %v", text.Name(a.Path()), err)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
