package client_test

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// The locations of a move: A is the old one, B the new one, Z the rendezvous that the
// review centre runs.
const (
	hostA = vendorHost
	hostB = "updates.new.example"
	hostZ = reviewHost
)

// move is the web during a move from A to B: four roots, each with the content of its
// time.
//
//	1  A, Z
//	2  A, B from useFrom on, Z                        announced
//	3  B, A as legacy until useUntil, Z               cut over: new vendor keys, new online keys, floors
//	4  B, Z; A is retired
type move struct {
	*web
	at     [5]*rawtuf.Repo // the published repository at root 1 to 4
	order  []int           // of the locations A, B, Z in every list
	pinAt  int             // the root whose locations the pin lists; the pin's root is root 1
	pinOf  int             // the root of the pin, including its locations; 0: see pinAt
	store  client.Store
	config func(*client.Config) // of products
}

// Dates of the move.
var (
	useFrom  = rawtuf.Now.Add(10 * day)
	useUntil = rawtuf.Now.Add(100 * day)
	farAway  = rawtuf.Now.AddDate(3, 0, 0)
)

func location(id, tier, operator, host string, more ...any) rawtuf.Doc {
	l := rawtuf.Doc{"id": id, "tier": tier, "operator": operator, "jurisdiction": "CH", "base": "https://" + host + "/r/",
		"paths": rawtuf.Doc{"metadata": "metadata/", "targets": "targets/"}, "priority": 10}
	for i := 0; i < len(more); i += 2 {
		l[more[i].(string)] = more[i+1]
	}
	return l
}

// list sorts the locations (nil: not listed) into the order under test.
func (m *move) list(a, b, z rawtuf.Doc) []any {
	var out []any
	for i, n := range m.order {
		if p := []rawtuf.Doc{a, b, z}[n]; p != nil {
			p["priority"] = 10 * (i + 1)
			out = append(out, p)
		}
	}
	return out
}

// newMove publishes the four roots of a move. change edits root 1 before that.
func newMove(t *testing.T, order []int, change ...func(*rawtuf.Repo)) *move {
	m := &move{web: newWeb(t), order: order, pinAt: 1, store: client.MemStore()}
	m.publish(change...)
	m.serve(4)
	return m
}

func (m *move) publish(change ...func(*rawtuf.Repo)) {
	r := m.repo
	a, z := location("a", "primary", "vendor-old", hostA), location("z", "rendezvous", "review", hostZ)
	c := r.Charter()
	c["locations"], c["retired"] = m.list(a, nil, z), []any{}
	c["floors"] = rawtuf.Doc{"timestamp": 5, "snapshot": 5, "targets": 5}
	for _, fn := range change {
		fn(r)
	}
	r.PublishRoot()
	r.Publish()
	m.at[1] = r.Clone()
	next := func(edit func()) {
		before := rawtuf.NameOf(r.Root)["sha256"]
		r.NextRoot(func() {
			edit()
			r.Charter()["prev_root_sha256"] = before
		})
	}

	next(func() {
		r.Charter()["locations"] = m.list(a, location("b", "primary", "vendor-new", hostB, "use_from", rawtuf.Stamp(useFrom)), z)
	})
	renew(r)
	m.at[2] = r.Clone()

	next(func() { m.cutOver(r) })
	r.Signers["root"] = []string{"new1", "new2", "review1", "review2"}
	m.extend(r)
	m.at[3] = r.Clone()

	next(func() {
		c := r.Charter()
		c["locations"] = m.list(nil, location("b", "primary", "vendor-new", hostB), z)
		c["retired"] = []any{rawtuf.Doc{"id": "a", "hosts": []any{hostA}}}
		r.Root["expires"] = rawtuf.Stamp(farAway)
	})
	m.extend(r)
	m.at[4] = r.Clone()
}

// cutOver edits a root to new vendor keys, new online keys and the new location.
func (m *move) cutOver(r *rawtuf.Repo) {
	c := r.Charter()
	r.AddKeys(r.Root, "new1", "new2", "ts2", "sn2")
	roles := rawtuf.At(r.Root, "roles")
	threshold := roles["root"].(rawtuf.Doc)["threshold"].(int)
	roles["root"] = r.Role(threshold, "new1", "new2", "review1", "review2")
	roles["timestamp"], roles["snapshot"] = r.Role(1, "ts2"), r.Role(1, "sn2")
	r.Signers["root"] = []string{"vendor1", "vendor2", "new1", "new2", "review1", "review2"}
	r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
	for _, p := range c["parties"].([]any) {
		if rawtuf.At(p)["name"] == "vendor" {
			rawtuf.At(p)["keyids"] = r.IDs("new1", "new2")
		}
	}
	c["epoch"] = c["epoch"].(int) + 1
	c["floors"] = rawtuf.Doc{"timestamp": 6, "snapshot": 6, "targets": 6}
	c["locations"] = m.list(location("a", "legacy", "vendor-old", hostA, "use_until", rawtuf.Stamp(useUntil)),
		location("b", "primary", "vendor-new", hostB), location("z", "rendezvous", "review", hostZ))
	r.Root["expires"] = rawtuf.Stamp(farAway)
}

// extend publishes content that is valid for years.
func (m *move) extend(r *rawtuf.Repo) {
	for _, role := range r.Roles {
		role["expires"] = rawtuf.Stamp(farAway)
	}
	renew(r)
}

// serve lets B and Z serve the published repository at a root, and A too as long as it
// is listed.
func (m *move) serve(n int) {
	m.shows(m.at[n], hostB, hostZ)
	m.shows(m.at[min(n, 3)], hostA)
	m.does(nil, hostA, hostB, hostZ)
	if n == 1 {
		m.does(unreachable, hostB)
	}
}

// product returns a new process of the product with the shared state.
func (m *move) product(store client.Store) *client.Client {
	m.t.Helper()
	pin := m.at[1].Pin()
	pin["locations"] = rawtuf.At(m.at[cmp.Or(m.pinOf, m.pinAt)].Root, "x-visum")["locations"]
	if m.pinOf > 0 {
		pin["root"] = firstDoc(m.t, m.at[m.pinOf].Files[rootFile(m.pinOf)])
	}
	cfg := &client.Config{Store: store, HTTP: webClient(m.web), Now: func() time.Time { return m.now }, Retries: -1}
	if m.config != nil {
		m.config(cfg)
	}
	c, err := client.New(rawtuf.Marshal(pin), cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// awake lets the product refresh while the published repository is at a root, so that
// it has that state.
func (m *move) awake(n int) {
	m.t.Helper()
	m.serve(n)
	view, err := refreshed(m.t, m.product(m.store))
	if err != nil || view.Root().Version() != int64(n) {
		m.t.Fatalf("before: root v%d, %v", view.Root().Version(), err)
	}
	m.serve(4)
}

// copyStore returns a memory store with the files of another.
func copyStore(t *testing.T, from client.Store) client.Store {
	t.Helper()
	to := client.MemStore()
	for _, folder := range []string{"", "roots", "roles", "evidence", "recovery"} {
		names, err := from.List(folder)
		if folder == "" {
			names, err = map[string]int64{"state.json": 0, "state.bak": 0, "timestamp.json": 0, "snapshot.json": 0}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		for name := range names {
			if folder != "" {
				name = folder + "/" + name
			}
			if data, err := from.Read(name, 1<<30); err == nil {
				if err := to.Write(name, data); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return to
}

// orders are all orders of the three locations.
var orders = [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

func orderName(order []int) string {
	return fmt.Sprintf("%c%c%c", "ABZ"[order[0]], "ABZ"[order[1]], "ABZ"[order[2]])
}
