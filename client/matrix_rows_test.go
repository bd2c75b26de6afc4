package client_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func two(c rawtuf.Doc) {
	for _, p := range c["parties"].([]any) {
		rawtuf.At(p)["min"] = 2
	}
}

// bothOfTwo makes each party sign with both of its keys.
func bothOfTwo(r *rawtuf.Repo) {
	two(r.Charter())
	rawtuf.At(r.Root, "roles", "root")["threshold"] = 4
}

// forks lets A serve a next root after root 1, edited and signed by some keys.
func forks(by []string, edit func(r *rawtuf.Repo)) func(m *move) {
	return func(m *move) {
		fake := m.at[1].Clone()
		fake.Signers["root"] = by
		fake.NextRoot(func() { edit(fake) })
		renew(fake)
		m.shows(fake, hostA)
	}
}

// allKeys is all keys of both parties: what they sign may still break a rule.
var allKeys = []string{"vendor1", "vendor2", "review1", "review2"}

func unlawful(edit func(r *rawtuf.Repo, c rawtuf.Doc)) func(m *move) {
	return forks(allKeys, func(r *rawtuf.Repo) { edit(r, r.Charter()) })
}

// evil lets an attacker run A with all old online and release keys of the vendor.
func evil(m *move) {
	fake := m.at[1].Clone()
	fake.AddTarget("agent/evil", "evil", rawtuf.Doc{"product": "agent", "version": "66", "channel": "stable", "platform": "any", "sequence": 66}, "vendor-agent")
	fake.Bump("targets", "vendor-agent")
	for _, role := range []string{"timestamp", "snapshot"} {
		fake.Roles[role]["version"] = 1000
	}
	for _, role := range fake.Roles {
		role["expires"] = rawtuf.Stamp(farAway)
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

// byteASecond answers with one byte per second.
func byteASecond(_ string, r *http.Request) (*http.Response, error) {
	return respond(r, 200, trickle{r}), nil
}

type trickle struct{ r *http.Request }

func (c trickle) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	case <-c.r.Context().Done():
		return 0, c.r.Context().Err()
	}
}

// handed is a bundle of a repository, as a source.
func handed(r *rawtuf.Repo) client.Source {
	out := fstest.MapFS{}
	for name, data := range r.Files {
		out["metadata/"+name] = &fstest.MapFile{Data: data}
	}
	sum := rawtuf.At(r.Roles["vendor-agent"], "targets", rawtuf.Path, "hashes")["sha256"].(string)
	dir, base, _ := strings.Cut(rawtuf.Path, "/")
	out["targets/"+dir+"/"+sum+"."+base] = &fstest.MapFile{Data: []byte("the agent")}
	return client.FSSource(fs.FS(out))
}

var matrix = []row{
	{name: "no fault; two years offline", world: func(m *move) { m.now = rawtuf.Now.AddDate(2, 0, 0) }, root: 4},
	{name: "old location gone", world: func(m *move) { m.does(unreachable, hostA) }, root: 4},
	{name: "old location frozen", awake: 1, world: func(m *move) { m.shows(m.at[1], hostA) }, root: 4},
	{name: "old location frozen, rendezvous unreachable, announced", awake: 2, world: func(m *move) { m.shows(m.at[1], hostA); m.does(unreachable, hostZ) }, root: 4},
	{name: "only the frozen location is reachable", awake: 1, world: func(m *move) { m.shows(m.at[1], hostA); m.does(unreachable, hostB, hostZ) }, root: 1},
	{name: "only the frozen location is reachable, for a long time", awake: 1, world: func(m *move) {
		m.shows(m.at[1], hostA)
		m.does(unreachable, hostB, hostZ)
		m.now = rawtuf.Now.AddDate(0, 1, 0)
	}, root: 1, want: client.ErrStale},
	{name: "total outage", awake: 1, world: func(m *move) { m.does(unreachable, hostA, hostB, hostZ) }, root: 1, want: client.ErrUnreachable},
	{name: "old location and its keys compromised", awake: 1, world: evil, root: 4},
	{name: "old location compromised, product has moved", awake: 4, world: evil, root: 4, never: hostA},
	{name: "all old vendor root keys compromised", evidence: true, world: forks([]string{"vendor1", "vendor2"}, func(*rawtuf.Repo) {}), root: 4},
	{name: "and of one review key", evidence: true, first: bothOfTwo, world: forks([]string{"vendor1", "vendor2", "review1"}, func(*rawtuf.Repo) {}), root: 4},
	{name: "attacker adds two parties of their own", evidence: true, world: forks([]string{"vendor1", "vendor2", "t1", "t2", "t3", "t4"}, func(r *rawtuf.Repo) {
		r.AddKeys(r.Root, "t1", "t2", "t3", "t4")
		rawtuf.At(r.Root, "roles")["root"] = r.Role(3, "t1", "t2", "t3", "t4")
		parties := r.Charter()["parties"].([]any)
		rawtuf.At(parties[0])["keyids"], rawtuf.At(parties[1])["keyids"] = r.IDs("t1", "t2"), r.IDs("t3", "t4")
	}), root: 4},
	{name: "only all review keys", evidence: true, world: forks([]string{"review1", "review2"}, func(*rawtuf.Repo) {}), root: 4},
	{name: "all review keys and one vendor key of two", evidence: true, first: bothOfTwo, world: forks([]string{"review1", "review2", "vendor1"}, func(*rawtuf.Repo) {}), root: 4},
	{name: "one key signs four times", evidence: true, world: func(m *move) {
		fake := m.at[1].Clone()
		fake.Root["version"] = 2
		sig := rawtuf.Doc{"keyid": fake.IDs("vendor1")[0], "sig": fmt.Sprintf("%x", fake.Signature(fake.Root, "vendor1"))}
		fake.Files["2.root.json"] = rawtuf.Marshal(rawtuf.Doc{"signed": fake.Root, "signatures": []any{sig, sig, sig, sig}})
		m.shows(fake, hostA)
	}, root: 4},
	{name: "one key under two ids", evidence: true, world: unlawful(func(r *rawtuf.Repo, c rawtuf.Doc) {
		_, key := r.KeyDoc("vendor1")
		rawtuf.At(r.Root, "keys")["twin"] = key
		ids := append(r.IDs("vendor1"), "twin")
		rawtuf.At(c["parties"].([]any)[0])["keyids"] = ids
		rawtuf.At(r.Root, "roles", "root")["keyids"] = append(slices.Clone(ids), r.IDs("review1", "review2")...)
	}), root: 4},
	{name: "root of another product", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) { c["repo_id"] = strings.Repeat("ab", 16) }), root: 4},
	{name: "charter stripped", evidence: true, world: unlawful(func(r *rawtuf.Repo, _ rawtuf.Doc) { delete(r.Root, "x-visum") }), root: 4},
	{name: "http", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) {
		rawtuf.At(c, "locations", 0)["base"] = "http://" + hostA + "/r/"
	}), root: 4},
	{name: "LAN address", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) { rawtuf.At(c, "locations", 0)["base"] = "https://10.0.0.1/r/" }), root: 4},
	{name: "dots in paths", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) {
		rawtuf.At(c, "locations", 0)["paths"] = rawtuf.Doc{"metadata": "../m/", "targets": "t/"}
	}), root: 4},
	{name: "seq back", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) { c["seq"] = 0 }), root: 4},
	{name: "online keys overlap at an epoch", evidence: true, world: unlawful(func(r *rawtuf.Repo, c rawtuf.Doc) {
		c["epoch"] = 2
		r.AddKeys(r.Root, "ts2")
		rawtuf.At(r.Root, "roles")["timestamp"] = r.Role(1, "ts2", "timestamp")
	}), root: 4},
	{name: "no open-ended location", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) {
		for _, l := range c["locations"].([]any) {
			rawtuf.At(l)["use_until"] = rawtuf.Stamp(farAway)
		}
	}), root: 4},
	{name: "threshold lowered", evidence: true, world: unlawful(func(r *rawtuf.Repo, _ rawtuf.Doc) { rawtuf.At(r.Root, "roles", "root")["threshold"] = 2 }), root: 4},
	{name: "retired host is listed", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) {
		c["retired"] = []any{rawtuf.Doc{"id": "gone", "hosts": []any{hostA}}}
	}), root: 4},
	{name: "retired host is dropped", first: func(r *rawtuf.Repo) {
		r.Charter()["retired"] = []any{rawtuf.Doc{"id": "attic", "hosts": []any{"older.example"}}}
	}, world: func(m *move) {}, root: 3, end: 3},
	{name: "floor lowered", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) { rawtuf.At(c, "floors")["timestamp"] = 4 }), root: 4},
	{name: "schema 2", evidence: true, world: unlawful(func(_ *rawtuf.Repo, c rawtuf.Doc) { c["schema"] = 2 }), root: 4},
	{name: "302", world: answers(header(302, "Location", "https://elsewhere.example/r/metadata/2.root.json")), root: 4},
	{name: "captive portal", world: answers(header(200, "Content-Type", "text/html")), root: 4},
	{name: "451", world: answers(status(451, "", nil)), root: 4},
	{name: "500", world: answers(status(500, "", nil)), root: 4},
	{name: "1 MiB root", world: answers(body("root.json", make([]byte, 1<<20))), root: 4},
	{name: "one byte a second", world: answers(byteASecond), root: 4},
	{name: "one byte a second, everywhere but at one location", world: func(m *move) { m.does(byteASecond, hostA, hostB) }, root: 4, want: client.ErrNoContent},
	{name: "root 3 as 2.root.json", evidence: true, world: func(m *move) { m.does(body("2.root.json", m.at[3].Files["3.root.json"]), hostA) }, root: 4},
	{name: "403 means none", world: answers(status(403, "root.json", nil)), root: 4},
	{name: "410 means none", world: answers(status(410, "root.json", nil)), root: 4},
	{name: "new location serves a lower snapshot", awake: 2, world: func(m *move) {
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
	{name: "new location serves an expired timestamp", awake: 2, world: func(m *move) {
		old := m.at[4].Clone()
		old.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now)
		old.PublishTimestamp()
		m.shows(old, hostA, hostB)
	}, root: 4, want: client.ErrNoContent},
	{name: "clock two years behind", awake: 1, world: func(m *move) { m.now = rawtuf.Now.AddDate(-2, 0, 0) }, root: 4},
	{name: "clock far ahead", awake: 1, world: func(m *move) { m.now = rawtuf.Now.AddDate(50, 0, 0) }, root: 4, want: client.ErrStale,
		heals: func(m *move) { m.now = rawtuf.Now; m.serve(4) }},
	{name: "new location is unreachable while both serve", awake: 1, world: func(m *move) { m.serve(3); m.does(unreachable, hostB) }, root: 3},
	{name: "new location is unreachable after the sunset", awake: 3, world: func(m *move) {
		m.serve(3)
		m.does(unreachable, hostB)
		m.now = useUntil
	}, root: 3, want: client.ErrNoContent, never: hostA},
	{name: "old location becomes unreachable before use_from", awake: 2, world: func(m *move) {
		m.at[4] = m.at[2]
		m.serve(2)
		m.does(unreachable, hostA)
	}, root: 2, end: 2, heals: func(m *move) {}},
	{name: "versions were inflated before the move", world: func(m *move) {
		up := m.at[1].Clone()
		for _, role := range []string{"timestamp", "snapshot"} {
			up.Roles[role]["version"] = 1 << 40
		}
		up.Publish()
		m.shows(up, hostA)
		m.does(unreachable, hostB, hostZ)
		if _, err := m.product(m.store).Refresh(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		m.serve(4)
	}, root: 4},
	{name: "roots are lost and the old chain is served", awake: 4, world: func(m *move) {
		for n := 2; n <= 4; n++ {
			_ = m.store.Remove(fmt.Sprintf("roots/%d.root.json", n))
		}
		m.shows(m.at[1], hostA, hostZ)
		m.does(unreachable, hostB)
	}, root: 1, want: client.ErrRootRollback},
	{name: "forged root in the cache", awake: 2, world: func(m *move) {
		_ = m.store.Write("roots/3.root.json", m.at[3].Files["2.root.json"])
	}, root: 4},
	{name: "cut over before the content", awake: 1, world: func(m *move) {
		early := m.at[2].Clone()
		early.Files["3.root.json"] = m.at[3].Files["3.root.json"]
		m.shows(early, hostA, hostB, hostZ)
	}, root: 3, want: client.ErrNoContent},
	{name: "product update has a newer pin", awake: 1, world: func(m *move) { m.pinOf = 3 }, root: 4},
	{name: "product update has the last pin", awake: 2, world: func(m *move) { m.pinOf = 4 }, root: 4},
	{name: "product update has an older pin", world: func(m *move) { newest(m); m.does(unreachable, hostA) }, root: 4},
	{name: "product update has an older pin, and all locations are frozen", world: func(m *move) {
		newest(m)
		m.shows(m.at[2], hostA, hostB, hostZ)
	}, root: 2, want: client.ErrRootRollback},
	{name: "mirror serves wrong bytes", world: func(m *move) { m.serve(3); m.does(body(targetSuffix, []byte("not agent")), hostB) }, root: 3},
	{name: "old location serves wrong bytes", world: func(m *move) { m.serve(3); m.does(body(targetSuffix, []byte("not agent")), hostA) }, root: 3},
	{name: "three hundred roots", awake: 4, world: func(m *move) {
		long := m.at[4].Clone()
		for range 300 {
			long.NextRoot(nothing)
		}
		m.shows(long, hostB, hostZ)
	}, root: 260, want: client.ErrMoreRoots, then: &row{root: 304}, end: 304, heals: nothingHeals},
	{name: "two valid next roots", world: func(m *move) {
		other := m.at[1].Clone()
		other.NextRoot(func() {
			rawtuf.At(other.Root, "x-visum")["locations"] = rawtuf.At(m.at[2].Root, "x-visum")["locations"]
			other.Root["x-note"] = "another"
		})
		m.shows(other, hostA, hostZ)
		m.does(status(404, "2.root.json", nil), hostB)
	}, root: 4, evidence: true},
	{name: "a move is cancelled", awake: 2, world: cancelled, root: 3, end: 3, heals: nothingHeals},
	{name: "a move is cancelled, product was offline", world: cancelled, root: 3, end: 3, heals: nothingHeals},
	{name: "one root for the entire move", awake: 1, world: func(m *move) {
		r := m.at[1].Clone()
		r.NextRoot(func() {
			m.cutOver(r)
			c := r.Charter()
			c["locations"] = m.list(nil, location("b", "primary", "vendor-new", hostB), location("z", "rendezvous", "review", hostZ))
			c["retired"] = []any{rawtuf.Doc{"id": "a", "hosts": []any{hostA}}}
		})
		r.Signers["root"] = []string{"new1", "new2", "review1", "review2"}
		m.extend(r)
		m.shows(r, hostB, hostZ)
		evil(m)
	}, root: 2, end: 2, heals: nothingHeals},
	{name: "captive portal everywhere", awake: 1, world: func(m *move) {
		m.does(header(200, "Content-Type", "text/html"), hostA, hostB, hostZ)
	}, root: 1, want: client.ErrNoContent},
	{name: "retired host, in the pin's list", awake: 4, world: func(m *move) { m.does(unreachable, hostB, hostZ) }, root: 4, want: client.ErrUnreachable, never: hostA},
	{name: "every name resolves to nothing", awake: 1, world: func(m *move) { m.does(unreachable, hostA, hostB, hostZ) }, root: 1, want: client.ErrUnreachable, heals: func(m *move) {
		// The names stay the same; a bundle is enough.
		m.config = func(c *client.Config) { c.Sources = []client.Source{handed(m.at[4])} }
	}},
}

// bundles are rows too: all hosts are unreachable, and a bundle is supplied.
func init() {
	for _, r := range []struct {
		row row
		of  func(m *move) *rawtuf.Repo
	}{
		{row{name: "bundle", awake: 1, root: 4}, func(m *move) *rawtuf.Repo { return m.at[4] }},
		{row{name: "forged bundle", awake: 1, root: 1, want: tuf.ErrUntrusted, evidence: true}, func(m *move) *rawtuf.Repo {
			attacker := m.at[1].Clone()
			attacker.Signers["root"], attacker.Signers["review-agent"] = []string{"vendor1", "vendor2"}, []string{"va"}
			attacker.NextRoot(nothing)
			renew(attacker)
			return attacker
		}},
		{row{name: "bundle of another product", awake: 1, root: 1, want: tuf.ErrUntrusted, evidence: true}, func(m *move) *rawtuf.Repo {
			other := m.at[1].Clone()
			other.NextRoot(func() { other.Charter()["repo_id"] = strings.Repeat("ab", 16) })
			other.Signers["timestamp"] = []string{"another"}
			renew(other)
			return other
		}},
		{row{name: "older bundle", awake: 4, root: 4, want: client.ErrNoContent}, func(m *move) *rawtuf.Repo { return m.at[1] }},
		{row{name: "bundle with a huge root", awake: 1, root: 1}, func(m *move) *rawtuf.Repo {
			huge := m.at[1].Clone()
			huge.Files["2.root.json"] = make([]byte, 64<<20)
			return huge
		}},
		{row{name: "bundle with a huge timestamp", awake: 1, root: 4, want: tuf.ErrTooLarge}, func(m *move) *rawtuf.Repo {
			huge := m.at[4].Clone()
			huge.Files["timestamp.json"] = make([]byte, 64<<20)
			return huge
		}},
	} {
		of := r.of
		r.row.world = func(m *move) {
			m.does(unreachable, hostA, hostB, hostZ)
			source := handed(of(m))
			m.config = func(c *client.Config) { c.Sources = []client.Source{source} }
		}
		matrix = append(matrix, r.row)
	}
}

func nothingHeals(*move) {}

// newest runs the product with the pin of root 3, so that it keeps root 4 and none
// before; then one with the first pin.
func newest(m *move) {
	m.pinOf = 3
	m.awake(4)
	m.pinOf = 0
}

// cancelled cancels an announced move: root 3 lists only the old location.
func cancelled(m *move) {
	r := m.at[2].Clone()
	r.NextRoot(func() {
		r.Charter()["locations"] = m.list(location("a", "primary", "vendor-old", hostA), nil, location("z", "rendezvous", "review", hostZ))
	})
	renew(r)
	m.shows(r, hostA, hostZ)
	m.shows(m.at[2], hostB) // the new location still serves
	m.now = rawtuf.Now.Add(day)
}
