package tuf_test

import (
	"encoding/hex"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// huge are limits above the defaults.
var huge = &tuf.Options{Limits: tuf.Limits{Root: 64 << 20, Timestamp: 64 << 20, Snapshot: 64 << 20, Targets: 64 << 20, Signatures: 1 << 20}}

// cost is the processor time of f, or wall time if the system does not report it.
func cost(f func()) time.Duration {
	runtime.GC()
	start, wall := cpuTime(), time.Now()
	f()
	if d := cpuTime() - start; d > 0 {
		return d
	}
	return time.Since(wall)
}

// No input takes more than linear time: sixteen times the hostile input takes about sixteen
// times as long; with quadratic time it would take 256 times as long. To tolerate a busy
// machine with small caches, the limit is 64, and one try of five is enough.
func TestCostIsLinear(t *testing.T) {
	rawtuf.Sequential(t)
	open := func(data []byte) func() error {
		return func() error { _, err := tuf.OpenRoot(data, huge); return err }
	}
	text := func(n int, one func(i int) string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(one(i))
		}
		return b.String()
	}
	root := func(change func(signed string) string) func() error {
		r := rawtuf.NewPlain()
		return open(sealed(r, []byte(change(string(rawtuf.Marshal(r.Root)))), "root"))
	}
	member := func(v string) func() error {
		return root(func(signed string) string { return `{"x-new":` + v + "," + signed[1:] })
	}
	// targets searches a path in a role with that signed part.
	targets := func(path, members string) func() error {
		r := rawtuf.NewPlain()
		for _, list := range []string{"timestamp", "snapshot"} {
			for _, e := range rawtuf.At(r.Roles[list], "meta") {
				delete(e.(doc), "hashes")
				delete(e.(doc), "length")
			}
		}
		r.PublishSnapshot()
		root, err := tuf.OpenRoot(r.Files["1.root.json"], huge)
		if err != nil {
			t.Fatal(err)
		}
		signed := `{"_type":"targets","expires":"2030-02-15T12:00:00Z","spec_version":"1.0","version":5,` + members + "}"
		data := sealed(r, []byte(signed), "targets")
		if data == nil {
			t.Fatal("no JSON")
		}
		return func() error {
			snap, err := (&client{root: root}).refresh(r)
			if err != nil {
				return err
			}
			_, err = snap.UnsafeTarget(path, func(tuf.RoleFile) ([]byte, error) { return data, nil })
			return err
		}
	}
	delegations := func(n int, how func(i int) string, more string) string {
		return `"targets":{},"delegations":{"keys":{}` + more + `,"roles":[` + text(n, func(i int) string {
			return fmt.Sprintf(`{"keyids":[],"name":"r%d",%s,"terminating":false,"threshold":1}`, i, how(i))
		}) + "]}"
	}
	snapshot := func(n int, version int) []byte {
		r := rawtuf.NewPlain()
		meta := rawtuf.At(r.Roles["snapshot"], "meta")
		for i := range n {
			meta[fmt.Sprintf("r%06d.json", i)] = doc{"version": version}
		}
		r.PublishSnapshot()
		return r.Files["5.snapshot.json"]
	}
	for _, tt := range []struct {
		name string
		n    int
		make func(n int) func() error
		want error
	}{
		{"members in reverse order", 5_000, func(n int) func() error {
			return member("{" + text(n, func(i int) string { return fmt.Sprintf(`"%08d":1`, n-i) }) + "}")
		}, nil},
		{"members in reverse order, nested", 500, func(n int) func() error {
			inner := "1"
			for range 10 {
				inner = `{"z":` + inner + `,"y":1,"` + strings.Repeat("x", n/10) + `":1}`
			}
			return member("[" + text(20, func(int) string { return inner }) + "]")
		}, nil},
		{"names that begin alike", 37, func(n int) func() error {
			return member("{" + text(n, func(i int) string { return fmt.Sprintf(`"%s%d":1`, strings.Repeat("x", 2000), n-i) }) + "}")
		}, nil},
		{"escapes", 12_500, func(n int) func() error { return member(`"` + strings.Repeat(`\u00e9`, n) + `"`) }, nil},
		{"numbers", 12_500, func(n int) func() error { return member("[" + strings.Repeat("9", n) + "]") }, nil},
		{"open brackets", 12_500, func(n int) func() error { return open([]byte(strings.Repeat("[", n))) }, tuf.ErrMalformed},
		{"junk signatures", 2_500, func(n int) func() error {
			r := rawtuf.NewPlain()
			edit(r, "1.root.json", `"signatures":[`, `"signatures":[`+text(n, func(i int) string { return fmt.Sprintf(`{"keyid":"%d","sig":"00"}`, i) })+",")
			return open(r.Files["1.root.json"])
		}, nil},
		{"keys", 500, func(n int) func() error {
			key := hex.EncodeToString(make([]byte, 29))
			return root(func(signed string) string {
				return strings.Replace(signed, `"keys":{`, `"keys":{`+text(n, func(i int) string {
					return fmt.Sprintf(`"%d":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"%s%06x"}}`, i, key, i+1)
				})+",", 1)
			})
		}, nil},
		{"key ids of a role", 1_250, func(n int) func() error {
			return root(func(signed string) string {
				return strings.Replace(signed, `"keyids":[`, `"keyids":[`+text(n, func(i int) string { return fmt.Sprintf(`"%d"`, i) })+",", 1)
			})
		}, nil},
		{"delegations", 500, func(n int) func() error {
			return targets("x", delegations(n, func(int) string { return `"paths":["y"]` }, ""))
		}, tuf.ErrNoTarget},
		{"agreements", 3_000, func(n int) func() error {
			groups := text(n, func(i int) string { return fmt.Sprintf(`{"min_roles_in_agreement":1,"roles":["r%d"]}`, i) })
			return targets("x", delegations(n, func(int) string { return `"paths":["y"]` }, `,"`+layout.AgreementMember+`":[`+groups+"]"))
		}, tuf.ErrNoTarget},
		{"hash prefixes", 5_000, func(n int) func() error {
			return targets("x", delegations(1, func(int) string {
				return `"path_hash_prefixes":[` + text(n, func(i int) string { return fmt.Sprintf(`"%08x"`, i) }) + "]"
			}, ""))
		}, tuf.ErrNoTarget},
		{"patterns", 25, func(n int) func() error {
			pattern := "*" + strings.Repeat("a", 100) + "b"
			return targets(strings.Repeat("a", 1000), delegations(n, func(int) string { return `"paths":["` + pattern + `"]` }, ""))
		}, tuf.ErrNoTarget},
		{"one long pattern", 1_000, func(n int) func() error {
			return targets(strings.Repeat("a", 4096), delegations(1, func(int) string { return `"paths":["*` + strings.Repeat("a", n) + `b"]` }, ""))
		}, tuf.ErrNoTarget},
		{"roles of a snapshot", 500, func(n int) func() error {
			r := rawtuf.NewPlain()
			before, after := snapshot(n, 1), snapshot(n, 2)
			rawtuf.At(r.Roles["timestamp"], "meta")["snapshot.json"] = doc{"version": 5}
			r.PublishTimestamp()
			root, err := tuf.OpenRoot(r.Files["1.root.json"], huge)
			if err != nil {
				t.Fatal(err)
			}
			return func() error {
				ts, err := root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
				if err == nil {
					_, err = ts.Snapshot(after, before)
				}
				return err
			}
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			small, large := tt.make(tt.n), tt.make(16*tt.n)
			want(t, small(), tt.want, "")
			want(t, large(), tt.want, "")
			var a, b time.Duration
			for range 5 {
				a, b = cost(func() { small() }), cost(func() { large() })
				if b < 64*a || b < 5*time.Millisecond {
					return
				}
			}
			t.Errorf("%d take %s, %d take %s", tt.n, a, 16*tt.n, b)
		})
	}
}

// Patterns of excessive cost end the search with an error. The target is not reported as
// missing, because a later role may list it.
func TestPatternsThatTakeLong(t *testing.T) {
	long := strings.Repeat("a", 4096)
	r := tree(t, "^ > a!: *b", "^ > b: a*", "b = "+long)
	get := from(r)
	_, err := mustSnapshot(t, r).UnsafeTarget(long, get)
	want(t, err, nil, "")
	var many []any
	for i := range 70 {
		many = append(many, "*"+strings.Repeat("a", 4096)+fmt.Sprint(i))
	}
	rawtuf.At(r.Roles["targets"], "delegations", "roles", 0)["paths"] = many
	r.Bump("targets")
	r.Publish()
	_, err = mustSnapshot(t, r).UnsafeTarget(long, get)
	want(t, err, tuf.ErrTooLarge, `too many delegations to compare with, the last is that to a`)
	_, err = mustSnapshot(t, r).UnsafeTarget("a-short-one", get)
	want(t, err, tuf.ErrNoTarget, "")
	_, err = mustSnapshot(t, r).UnsafeTarget(long+"a", get)
	want(t, err, tuf.ErrTooLarge, "a path of 4097 bytes, at most 4096")
}
