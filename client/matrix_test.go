package client_test

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/tuftest"
	"github.com/visum-dev/visum/tuf"
)

// row is one line of the matrix of what can go wrong with a move. Each is run
// with every order of the places, with the process killed after each of its
// writes, and twice; then all places are well again and the product must come to
// the end of the move.
type row struct {
	name  string
	first func(*tuftest.Repo) // edits root 1
	awake int                 // the root at which the product was awake last; 0: it was never started
	world func(m *move)       // what it wakes up in
	root  int64               // where it gets
	want  error               // what it says
	end   int64               // where it ends when all is well; 0: at root 4
	never string              // a host that hears nothing of it
	heals func(m *move)
}

func two(c tuftest.Doc) {
	for _, p := range c["parties"].([]any) {
		tuftest.At(p)["min"] = 2
	}
}

// bothOfTwo makes each party sign with both of its keys.
func bothOfTwo(r *tuftest.Repo) {
	two(r.Charter())
	tuftest.At(r.Root, "roles", "root")["threshold"] = 4
}

// forks lets A show a next root after root 1, edited and signed by some.
func forks(by []string, edit func(r *tuftest.Repo)) func(m *move) {
	return func(m *move) {
		fake := m.at[1].Clone()
		fake.Signers["root"] = by
		fake.NextRoot(func() { edit(fake) })
		renew(fake)
		m.shows(fake, hostA)
	}
}

// everybody is all keys of both parties: what they sign may still be unlawful.
var everybody = []string{"vendor1", "vendor2", "review1", "review2"}

func unlawful(edit func(r *tuftest.Repo, c tuftest.Doc)) func(m *move) {
	return forks(everybody, func(r *tuftest.Repo) { edit(r, r.Charter()) })
}

// evil lets A be run by who holds all old online and release keys of the vendor.
func evil(m *move) {
	fake := m.at[1].Clone()
	fake.AddTarget("agent/evil", "evil", tuftest.Doc{"product": "agent", "version": "66", "channel": "stable", "platform": "any", "sequence": 66}, "vendor-agent")
	fake.Bump("targets", "vendor-agent")
	for _, role := range []string{"timestamp", "snapshot"} {
		fake.Roles[role]["version"] = 1000
	}
	for _, role := range fake.Roles {
		role["expires"] = tuftest.Stamp(farAway)
	}
	fake.Publish()
	m.shows(fake, hostA)
}

func answers(a answer) func(m *move) { return func(m *move) { m.does(a, hostA) } }

func header(code int, name, value string) answer {
	return func(_ string, r *http.Request) (*http.Response, error) {
		resp := respond(r, code, strings.NewReader("<html>sign in</html>"))
		resp.Header.Set(name, value)
		return resp, nil
	}
}

var matrix = []row{
	{name: "nobody; two years offline", world: func(m *move) { m.now = tuftest.Now.AddDate(2, 0, 0) }, root: 4},
	{name: "old place gone", world: func(m *move) { m.does(dark, hostA) }, root: 4},
	{name: "old place frozen", awake: 1, world: func(m *move) { m.shows(m.at[1], hostA) }, root: 4},
	{name: "old place frozen, rendezvous dark, announced", awake: 2, world: func(m *move) { m.shows(m.at[1], hostA); m.does(dark, hostZ) }, root: 4},
	{name: "nothing but the frozen place", awake: 1, world: func(m *move) { m.shows(m.at[1], hostA); m.does(dark, hostB, hostZ) }, root: 1},
	{name: "nothing but the frozen place, for long", awake: 1, world: func(m *move) {
		m.shows(m.at[1], hostA)
		m.does(dark, hostB, hostZ)
		m.now = tuftest.Now.AddDate(0, 1, 0)
	}, root: 1, want: client.ErrStale},
	{name: "total outage", awake: 1, world: func(m *move) { m.does(dark, hostA, hostB, hostZ) }, root: 1, want: client.ErrDark},
	{name: "thief of the old place and its keys", awake: 1, world: evil, root: 4},
	{name: "thief of the old place, product has moved", awake: 4, world: evil, root: 4, never: hostA},
	{name: "thief of all old vendor root keys", world: forks([]string{"vendor1", "vendor2"}, func(*tuftest.Repo) {}), root: 4},
	{name: "and of one review key of two", first: bothOfTwo, world: forks([]string{"vendor1", "vendor2", "review1"}, func(*tuftest.Repo) {}), root: 4},
	{name: "thief installs two parties of his own", world: forks([]string{"vendor1", "vendor2", "t1", "t2", "t3", "t4"}, func(r *tuftest.Repo) {
		r.AddKeys(r.Root, "t1", "t2", "t3", "t4")
		tuftest.At(r.Root, "roles")["root"] = r.Role(3, "t1", "t2", "t3", "t4")
		parties := r.Charter()["parties"].([]any)
		tuftest.At(parties[0])["keyids"], tuftest.At(parties[1])["keyids"] = r.IDs("t1", "t2"), r.IDs("t3", "t4")
	}), root: 4},
	{name: "all review keys alone", world: forks([]string{"review1", "review2"}, func(*tuftest.Repo) {}), root: 4},
	{name: "all review keys and one vendor key of two", first: bothOfTwo, world: forks([]string{"review1", "review2", "vendor1"}, func(*tuftest.Repo) {}), root: 4},
	{name: "one key signs four times", world: func(m *move) {
		fake := m.at[1].Clone()
		fake.Root["version"] = 2
		sig := tuftest.Doc{"keyid": fake.IDs("vendor1")[0], "sig": fmt.Sprintf("%x", fake.Signature(fake.Root, "vendor1"))}
		fake.Files["2.root.json"] = tuftest.Marshal(tuftest.Doc{"signed": fake.Root, "signatures": []any{sig, sig, sig, sig}})
		m.shows(fake, hostA)
	}, root: 4},
	{name: "one key under two ids", world: unlawful(func(r *tuftest.Repo, c tuftest.Doc) {
		_, key := r.KeyDoc("vendor1")
		tuftest.At(r.Root, "keys")["twin"] = key
		ids := append(r.IDs("vendor1"), "twin")
		tuftest.At(c["parties"].([]any)[0])["keyids"] = ids
		tuftest.At(r.Root, "roles", "root")["keyids"] = append(slices.Clone(ids), r.IDs("review1", "review2")...)
	}), root: 4},
	{name: "root of another product", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) { c["repo_id"] = strings.Repeat("ab", 16) }), root: 4},
	{name: "charter stripped", world: unlawful(func(r *tuftest.Repo, _ tuftest.Doc) { delete(r.Root, "x-visum") }), root: 4},
	{name: "http", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) {
		tuftest.At(c, "locations", 0)["base"] = "http://" + hostA + "/r/"
	}), root: 4},
	{name: "LAN address", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) { tuftest.At(c, "locations", 0)["base"] = "https://10.0.0.1/r/" }), root: 4},
	{name: "dots in paths", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) {
		tuftest.At(c, "locations", 0)["paths"] = tuftest.Doc{"metadata": "../m/", "targets": "t/"}
	}), root: 4},
	{name: "seq back", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) { c["seq"] = 0 }), root: 4},
	{name: "online keys overlap at an epoch", world: unlawful(func(r *tuftest.Repo, c tuftest.Doc) {
		c["epoch"] = 2
		r.AddKeys(r.Root, "ts2")
		tuftest.At(r.Root, "roles")["timestamp"] = r.Role(1, "ts2", "timestamp")
	}), root: 4},
	{name: "no open-ended place", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) {
		for _, l := range c["locations"].([]any) {
			tuftest.At(l)["use_until"] = tuftest.Stamp(farAway)
		}
	}), root: 4},
	{name: "threshold lowered", world: unlawful(func(r *tuftest.Repo, _ tuftest.Doc) { tuftest.At(r.Root, "roles", "root")["threshold"] = 2 }), root: 4},
	{name: "retired host is listed", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) {
		c["retired"] = []any{tuftest.Doc{"id": "gone", "hosts": []any{hostA}}}
	}), root: 4},
	{name: "retired host is dropped", first: func(r *tuftest.Repo) {
		r.Charter()["retired"] = []any{tuftest.Doc{"id": "attic", "hosts": []any{"older.example"}}}
	}, world: func(m *move) {}, root: 3, end: 3},
	{name: "floor lowered", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) { tuftest.At(c, "floors")["timestamp"] = 4 }), root: 4},
	{name: "schema 2", world: unlawful(func(_ *tuftest.Repo, c tuftest.Doc) { c["schema"] = 2 }), root: 4},
	{name: "302", world: answers(header(302, "Location", "https://elsewhere.example/r/metadata/2.root.json")), root: 4},
	{name: "captive portal", world: answers(header(200, "Content-Type", "text/html")), root: 4},
	{name: "451", world: answers(status(451, "", nil)), root: 4},
	{name: "500", world: answers(status(500, "", nil)), root: 4},
	{name: "1 MiB root", world: answers(body("root.json", make([]byte, 1<<20))), root: 4},
	{name: "root 3 under name 2", world: func(m *move) { m.does(body("2.root.json", m.at[3].Files["3.root.json"]), hostA) }, root: 4},
	{name: "403 means none", world: answers(status(403, "root.json", nil)), root: 4},
	{name: "410 means none", world: answers(status(410, "root.json", nil)), root: 4},
	{name: "new place serves a lower snapshot", awake: 2, world: func(m *move) {
		low := m.at[4].Clone()
		low.Roles["snapshot"]["version"] = 5
		low.Roles["timestamp"]["version"] = 100
		low.PublishSnapshot()
		low.PublishTimestamp()
		m.shows(low, hostA, hostB)
	}, root: 4, want: client.ErrNoContent, heals: func(m *move) {
		for _, r := range m.at[3:] {
			r.Roles["timestamp"]["version"] = 101
			r.Publish()
		}
		m.serve(4)
	}},
	{name: "new place serves an expired timestamp", awake: 2, world: func(m *move) {
		old := m.at[4].Clone()
		old.Roles["timestamp"]["expires"] = tuftest.Stamp(tuftest.Now)
		old.PublishTimestamp()
		m.shows(old, hostA, hostB)
	}, root: 4, want: client.ErrNoContent},
	{name: "clock two years back", awake: 1, world: func(m *move) { m.now = tuftest.Now.AddDate(-2, 0, 0) }, root: 4},
	{name: "clock far ahead", awake: 1, world: func(m *move) { m.now = tuftest.Now.AddDate(50, 0, 0) }, root: 4, want: client.ErrStale,
		heals: func(m *move) { m.now = tuftest.Now; m.serve(4) }},
	{name: "new place is out while both serve", awake: 1, world: func(m *move) { m.serve(3); m.does(dark, hostB) }, root: 3},
	{name: "new place is out after the sunset", awake: 3, world: func(m *move) {
		m.serve(3)
		m.does(dark, hostB)
		m.now = useUntil
	}, root: 3, want: client.ErrNoContent, never: hostA},
	{name: "old place dies before use_from", awake: 2, world: func(m *move) {
		m.at[4] = m.at[2]
		m.serve(2)
		m.does(dark, hostA)
	}, root: 2, end: 2, heals: func(m *move) {}},
	{name: "versions were driven up before the move", world: func(m *move) {
		up := m.at[1].Clone()
		for _, role := range []string{"timestamp", "snapshot"} {
			up.Roles[role]["version"] = 1 << 40
		}
		up.Publish()
		m.shows(up, hostA)
		m.does(dark, hostB, hostZ)
		if _, err := m.product(m.store).Refresh(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		m.serve(4)
	}, root: 4},
	{name: "roots are lost and the network shows the old chain", awake: 4, world: func(m *move) {
		for n := 2; n <= 4; n++ {
			_ = m.store.Remove(fmt.Sprintf("roots/%d.root.json", n))
		}
		m.shows(m.at[1], hostA, hostZ)
		m.does(dark, hostB)
	}, root: 1, want: client.ErrBehind},
	{name: "forged root in the cache", awake: 2, world: func(m *move) {
		_ = m.store.Write("roots/3.root.json", m.at[3].Files["2.root.json"])
	}, root: 4},
	{name: "cut over before the content", awake: 1, world: func(m *move) {
		early := m.at[2].Clone()
		early.Files["3.root.json"] = m.at[3].Files["3.root.json"]
		m.shows(early, hostA, hostB, hostZ)
	}, root: 3, want: client.ErrNoContent},
	{name: "every name resolves to nothing", awake: 1, world: func(m *move) { m.does(dark, hostA, hostB, hostZ) }, root: 1, want: client.ErrDark},
}

func TestMatrix(t *testing.T) {
	for _, row := range matrix {
		t.Run(row.name, func(t *testing.T) {
			for i, order := range orders {
				if testing.Short() && i%4 != 0 {
					continue
				}
				t.Run(orderName(order), func(t *testing.T) {
					t.Parallel()
					row.run(t, order)
				})
			}
		})
	}
}

func (row row) run(t *testing.T, order []int) {
	var first []func(*tuftest.Repo)
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
	row.check(m, m.product(counted), "twice")
	for n := range 1<<30 - counted.writes {
		s := copyStore(t, start)
		if _, err := m.product(&crashing{s, n}).Refresh(t.Context()); err == nil && n == 0 {
			break // nothing had to be written
		}
		row.check(m, m.product(s), fmt.Sprintf("killed after %d writes", n))
		counted.Store = s
	}
	if row.heals != nil {
		row.heals(m)
	} else {
		m.serve(4)
		m.now = tuftest.Now.Add(day)
	}
	view, err := m.product(counted.Store).Refresh(t.Context())
	if err != nil || view.RootVersion() != cmp.Or(row.end, 4) {
		t.Fatalf("does not heal: root v%d, %v", view.RootVersion(), err)
	}
}

func (row row) check(m *move, c *client.Client, when string) {
	m.t.Helper()
	view, err := c.Refresh(m.t.Context())
	if view == nil {
		m.t.Fatalf("%s: %v", when, err)
	}
	if view.RootVersion() != row.root || !errors.Is(err, row.want) {
		m.t.Fatalf("%s: root v%d, want v%d; %v, want %v", when, view.RootVersion(), row.root, err, row.want)
	}
	if err == nil {
		a, err := view.Find(m.t.Context(), tuftest.Path)
		if want := tuftest.At(m.at[1].Roles["vendor-agent"], "targets", tuftest.Path, "hashes")["sha256"]; err != nil || a.SHA256() != want {
			m.t.Fatalf("%s: %v", when, err)
		}
		if _, err := view.Find(m.t.Context(), "agent/evil"); !errors.Is(err, tuf.ErrNoTarget) && !errors.Is(err, tuf.ErrNotApproved) {
			m.t.Fatalf("%s: evil: %v", when, err)
		}
	}
	for _, r := range m.asked("") {
		if row.never != "" && strings.HasPrefix(r, row.never+" ") {
			m.t.Fatalf("%s: asked %s", when, r)
		}
	}
}
