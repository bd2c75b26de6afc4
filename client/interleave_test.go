package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// seedOf returns VISUM_SEED, or a new seed for each run, which a failure reports.
func seedOf(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("VISUM_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("VISUM_SEED=%d", seed)
	return seed
}

// chaos is a repository that moves while arbitrary events happen to locations and
// product.
type chaos struct {
	*move
	rng    *rand.Rand
	repo   *rawtuf.Repo   // the correct one
	states []*rawtuf.Repo // every published state
	stage  int            // of the move: 1 to 4
	cut    int            // root of the cut-over, 0: not yet
	gone   int            // root that retired A
	signed map[int]time.Time
	honest map[string]bool // of allHosts those that serve the newest state
	log    []string        // events

	process  *client.Client
	fresh    bool          // the process has just started
	seen     int64         // highest root since the state was lost
	lost     bool          // kept roots were lost
	killed   bool          // in this refresh
	accepted map[int]int64 // by epoch: highest timestamp
	epoch    int
}

func (c *chaos) fatal(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(c.log, "\n"))
}

func newChaos(t *testing.T, rng *rand.Rand) *chaos {
	c := &chaos{rng: rng, stage: 1, signed: map[int]time.Time{}, honest: map[string]bool{}}
	c.move = &move{web: newWeb(t), order: orders[rng.IntN(6)], store: client.MemStore()}
	c.repo = c.move.web.repo
	r := c.repo
	for _, role := range r.Roles {
		role["expires"] = rawtuf.Stamp(farAway)
	}
	r.Root["expires"] = rawtuf.Stamp(farAway)
	r.Charter()["retired"] = []any{}
	r.Charter()["locations"] = c.list(location("a", "primary", "vendor-old", hostA), nil, location("z", "rendezvous", "review", hostZ))
	r.PublishRoot()
	r.Publish()
	c.signed[1] = rawtuf.Now
	c.at[1] = r.Clone()
	c.pinAt = 1
	c.published()
	c.serves(hostA, -1)
	c.serves(hostB, -1)
	c.serves(hostZ, -1)
	c.restart()
	c.forget()
	return c
}

func (c *chaos) published() {
	c.states = append(c.states, c.repo.Clone())
	for h, yes := range c.honest {
		if yes {
			c.shows(c.states[len(c.states)-1], h)
		}
	}
}

// serves lets a host serve one state, forever, or (-1) always the newest.
func (c *chaos) serves(host string, state int) {
	c.does(nil, host)
	c.honest[host] = state < 0
	if state < 0 {
		state = len(c.states) - 1
	}
	c.shows(c.states[state], host)
}

func (c *chaos) restart() { c.process, c.fresh = c.product(c.store), true }

func (c *chaos) forget() { c.seen, c.lost, c.accepted, c.epoch = 0, false, map[int]int64{}, 0 }

// nextRoot publishes a root, with a step of the move if one is due.
func (c *chaos) nextRoot(step bool) {
	r := c.repo
	before := rawtuf.NameOf(r.Root)["sha256"]
	cutting := step && c.stage == 2
	r.NextRoot(func() {
		ch := r.Charter()
		ch["prev_root_sha256"], ch["signed_at"] = before, rawtuf.Stamp(rawtuf.Now.Add(time.Duration(len(c.states))*time.Minute))
		c.signed[r.Root["version"].(int)] = rawtuf.Now.Add(time.Duration(len(c.states)) * time.Minute)
		if !step || c.stage == 4 {
			return
		}
		a, b, z := location("a", "primary", "vendor-old", hostA), location("b", "primary", "vendor-new", hostB), location("z", "rendezvous", "review", hostZ)
		switch c.stage++; c.stage {
		case 2:
			b["use_from"] = rawtuf.Stamp(useFrom)
			ch["locations"] = c.list(a, b, z)
		case 3:
			c.cutOver(r)
			c.cut = r.Root["version"].(int)
		case 4:
			ch["locations"] = c.list(nil, b, z)
			ch["retired"] = []any{rawtuf.Doc{"id": "a", "hosts": []any{hostA}}}
			c.gone = r.Root["version"].(int)
		}
	})
	if cutting {
		r.Signers["root"] = []string{"new1", "new2", "review1", "review2"}
	}
	renew(r)
	c.published()
}

// attacker lets A serve forks and malicious content, based on a state before the cut-over.
func (c *chaos) attacker() {
	old := slices.DeleteFunc(slices.Clone(c.states), func(s *rawtuf.Repo) bool { return c.cut > 0 && s.Root["version"].(int) >= c.cut })
	fake := old[c.rng.IntN(len(old))].Clone()
	by := [][]string{{"vendor1", "vendor2"}, {"review1", "review2"}, {"vendor1"}, {"vendor1", "vendor2", "attacker"}, {"review1", "review2", "attacker", "attacker"}}[c.rng.IntN(5)]
	fake.Signers["root"] = by
	if c.rng.IntN(2) == 0 {
		fake.NextRoot(func() { fake.Root["x-note"] = "mine" })
	}
	fake.AddTarget("agent/evil", "evil", rawtuf.Doc{"product": "agent", "version": "66", "channel": "stable", "platform": "any", "sequence": 66}, "vendor-agent")
	fake.Bump("vendor-agent")
	for _, role := range []string{"timestamp", "snapshot"} {
		fake.Roles[role]["version"] = 1000 + c.rng.IntN(3)
	}
	fake.Publish()
	c.does(nil, hostA)
	c.shows(fake, hostA)
	c.honest[hostA] = false
}

var allHosts = []string{hostA, hostB, hostZ}

// happen triggers one event outside the product.
func (c *chaos) happen() {
	host := allHosts[c.rng.IntN(3)]
	note := func(format string, args ...any) { c.log = append(c.log, fmt.Sprintf(format, args...)) }
	switch k := c.rng.IntN(20); k {
	case 0, 1:
		renew(c.repo)
		c.published()
		note("publish")
	case 2:
		c.nextRoot(false)
		note("root %v", c.repo.Root["version"])
	case 3, 4:
		c.nextRoot(true)
		note("root %v, stage %d", c.repo.Root["version"], c.stage)
	case 5, 6, 7:
		c.serves(host, -1)
		note("%s is honest", host)
	case 8:
		n := c.rng.IntN(len(c.states))
		c.serves(host, n)
		note("%s is frozen at %d", host, n)
	case 9, 10, 11:
		what := c.rng.IntN(6)
		c.does([]answer{unreachable, status(500, "", nil), header(302, "Location", "https://elsewhere.example/"), header(200, "Content-Type", "text/html"),
			status(403, "root.json", nil), body("root.json", c.states[c.rng.IntN(len(c.states))].Files["1.root.json"])}[what], host)
		c.honest[host] = false
		note("%s misbehaves in way %d", host, what)
	case 12, 13:
		c.attacker()
		note("attacker at %s", hostA)
	case 14:
		other := c.states[len(c.states)-1].Clone()
		other.Root["version"] = 1 + c.rng.IntN(other.Root["version"].(int))
		other.NextRoot(func() { other.Charter()["repo_id"] = strings.Repeat("ab", 16) })
		c.does(nil, host)
		c.shows(other, host)
		c.honest[host] = false
		note("%s serves another product's root %v", host, other.Root["version"])
	case 15, 16:
		c.now = rawtuf.Now.Add([]time.Duration{0, time.Hour, 11 * day, 101 * day, -700 * day, 5000 * day}[c.rng.IntN(6)])
		note("clock %s", c.now)
	case 17:
		c.restart()
		note("restart")
	case 18:
		kept, _ := c.store.List("roots")
		for name := range kept {
			_ = c.store.Remove("roots/" + name)
		}
		c.lost = true
		c.restart()
		note("roots lost")
	case 19:
		c.store = client.MemStore()
		c.forget()
		c.restart()
		note("state lost")
	}
}

// refresh lets the product refresh, possibly killed at a write, and checks all
// invariants.
func (c *chaos) refresh() {
	t := c.t
	c.asked("")
	start := c.newestKept()
	if c.rng.IntN(4) == 0 {
		n := c.rng.IntN(8)
		c.log = append(c.log, fmt.Sprintf("refresh killed after %d writes", n))
		p := c.product(&crashing{c.store, n})
		view, err := p.Refresh(t.Context())
		c.killed = true
		c.checkRequests(start, c.newestKept())
		c.killed = false
		if failed, ok := errors.AsType[*client.RefreshError](err); ok || err == nil {
			c.checkView(outcome{view, failed})
		}
		c.restart()
		return
	}
	c.log = append(c.log, "refresh")
	o, _ := refreshed(t, c.process)
	c.checkRequests(start, int(o.Root().Version()))
	c.checkView(o)
	c.fresh = false
}

// tipOf is the newest of the kept roots.
func (c *chaos) newestKept() int {
	n := 1
	for {
		if _, err := c.store.Read("roots/"+rootFile(n+1), 1<<20); err != nil {
			return n
		}
		n++
	}
}

// checkRequests checks S4, S6 and S12 on the requests.
func (c *chaos) checkRequests(start, trusted int) {
	now := c.now
	for _, req := range c.asked("") {
		host, name, _ := strings.Cut(req, " ")
		under := start // the trusted root at the time; for content the oldest possible one
		var n int
		if _, err := fmt.Sscanf(name, "metadata/%d.root.json", &n); err == nil {
			under = n - 1
		}
		if !slices.Contains(allHosts, host) {
			c.fatal("S6: %s is not a location", host)
		}
		if host == hostB && (c.stage < 2 || trusted < c.listedB()) {
			c.fatal("S6: B was asked for %s before it was listed", name)
		}
		known := now
		for v, at := range c.signed {
			if v <= under && at.After(known) {
				known = at
			}
		}
		if host == hostA && (c.gone > 0 && under >= c.gone || c.cut > 0 && under >= c.cut && !known.Before(useUntil)) {
			c.fatal("S4: A was asked for %s under root %d at %s", name, under, known)
		}
		if n > 0 && !c.killed && c.honest[host] && c.answersOf(host) == nil && n <= c.repo.Root["version"].(int) && trusted < n {
			c.fatal("S12: %s served root %d, the product is at %d", host, n, trusted)
		}
	}
}

func (c *chaos) answersOf(host string) answer { return c.answers[host] }

// listedB is the root that announced B.
func (c *chaos) listedB() int {
	for _, s := range c.states {
		for _, l := range s.Charter()["locations"].([]any) {
			if rawtuf.At(l)["id"] == "b" {
				return s.Root["version"].(int)
			}
		}
	}
	return 1 << 30
}

func (c *chaos) checkView(o outcome) {
	t, view, err := c.t, o.View, o.Err()
	v := o.Root().Version()
	newest := c.states[len(c.states)-1]
	if !bytes.Equal(o.Root().Bytes(), newest.Files[rootFile(int(v))]) {
		c.fatal("S1, S15: root %d was not signed by the parties", v)
	}
	if v < c.seen && (!c.lost || err == nil) {
		c.fatal("S2: at root %d, was at %d; %v", v, c.seen, err)
	}
	c.seen = max(c.seen, v)
	known := c.now
	for n, at := range c.signed {
		if int64(n) <= v && at.After(known) {
			known = at
		}
	}
	if bad := len(slices.DeleteFunc(slices.Clone(allHosts), func(h string) bool { return c.honest[h] && c.answersOf(h) == nil })); c.fresh && bad <= 1 && v != int64(newest.Root["version"].(int)) {
		c.fatal("S7: at root %d of %v with one bad location", v, newest.Root["version"])
	}
	if err != nil {
		return
	}
	if d := view.Decide(t.Context(), rawtuf.Path); !d.At.Equal(known) || !d.Accepted {
		c.fatal("S13: decided at %s, known is %s; %v", d.At, known, d)
	}
	if d := view.Decide(t.Context(), "agent/evil"); d.Accepted {
		c.fatal("S3, S9: %v", d)
	}
	if view.Root().CheckExpiry(known) != nil {
		c.fatal("S12: content under an expired root")
	}
	ts, readErr := c.store.Read("timestamp.json", 1<<20)
	if readErr != nil {
		c.fatal("%v", readErr)
	}
	epoch := 1
	if c.cut > 0 && v >= int64(c.cut) {
		epoch = 2
		if view.TimestampVersion() < 6 || !slices.ContainsFunc(c.states, func(s *rawtuf.Repo) bool {
			return s.Root["version"].(int) >= c.cut && bytes.Equal(s.Files["timestamp.json"], ts)
		}) {
			c.fatal("S3, S5: timestamp %d of the old epoch, or unknown", view.TimestampVersion())
		}
	}
	if epoch < c.epoch || view.TimestampVersion() < c.accepted[epoch] {
		c.fatal("S5: epoch %d, timestamp %d; had epoch %d, timestamp %d", epoch, view.TimestampVersion(), c.epoch, c.accepted[epoch])
	}
	c.epoch, c.accepted[epoch] = epoch, view.TimestampVersion()
}

// ends completes the move and repairs everything: then the product gets there, whatever
// happened before.
func (c *chaos) ends() {
	for c.stage < 4 {
		c.nextRoot(true)
	}
	renew(c.repo)
	c.published()
	for _, h := range allHosts {
		c.serves(h, -1)
	}
	c.now = rawtuf.Now.Add(200 * day)
	c.log = append(c.log, "everything works")
	o, err := refreshed(c.t, c.process)
	if errors.Is(err, client.ErrMoreRoots) {
		o, err = refreshed(c.t, c.process)
	}
	newest := c.states[len(c.states)-1]
	if _, nextErr := o.Root().Next(newest.Files[rootFile(int(o.Root().Version())+1)]); nextErr != nil && o.Root().Version() < int64(newest.Root["version"].(int)) {
		c.fatal("the test's own root breaks a rule: %v", nextErr)
	}
	if err != nil || o.Root().Version() != int64(newest.Root["version"].(int)) || o.View.TimestampVersion() != int64(newest.Roles["timestamp"]["version"].(int)) {
		c.fatal("L1, L5: does not recover: root v%d of %v, %v; asked %q", o.Root().Version(), newest.Root["version"], err, c.asked(""))
	}
	c.checkView(o)
	if a, err := o.Find(c.t.Context(), rawtuf.Path); err != nil || a.IsZero() {
		c.fatal("%v", err)
	}
}

// Events happen in any order; after each step all safety properties are checked, and at
// the end everything works again. S8 is TestRandomChains.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	seed, runs := seedOf(t), uint64(12)
	if rawtuf.Long {
		runs = 500
	}
	for n := range runs {
		c := newChaos(t, rand.New(rand.NewPCG(seed, n)))
		c.log = []string{fmt.Sprintf("VISUM_SEED=%d, run %d", seed, n)}
		for range 40 {
			c.happen()
			if c.rng.IntN(2) == 0 {
				c.refresh()
			}
		}
		c.ends()
	}
}
