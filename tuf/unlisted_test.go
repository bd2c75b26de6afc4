package tuf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// unlist removes length and hashes from the entries of timestamp and snapshot, as in files of
// the first versions of package repo.
func unlist(r *rawtuf.Repo) {
	for _, list := range []string{"snapshot", "timestamp"} {
		for _, e := range rawtuf.At(r.Roles[list], "meta") {
			delete(e.(doc), "length")
			delete(e.(doc), "hashes")
		}
		if list == "snapshot" {
			r.Roles["timestamp"]["meta"] = doc{"snapshot.json": r.PublishRole("snapshot")}
		}
	}
	r.PublishTimestamp()
}

// junk returns n bytes that a location without keys may serve: forms that are expensive to
// parse. In each, TYPE is the type of the file.
func junk(n int) map[string]string {
	const (
		head   = `{"signatures":[],"signed":{`
		common = head + `"_type":"TYPE","version":6,"spec_version":"1.0.31","expires":"2031-01-01T00:00:00Z",`
	)
	fill := func(head, unit, tail string) string {
		return head + strings.Repeat(unit, max(0, n-len(head)-len(tail))/len(unit)) + tail
	}
	each := func(head, tail string, one func(i int) string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := 0; b.Len()+len(tail)+len(one(i)) < n; i++ {
			b.WriteString(one(i))
		}
		return b.String() + tail
	}
	out := map[string]string{
		"members in two orders": fill(`{"signed":{`, `"b":0,"a":0,`, `"c":0},"signatures":[]}`),
		"small objects":         fill(`{"signed":{"x":[`, `{"b":0,"a":0},`, `0]},"signatures":[]}`),
		"numbers":               fill(`{"signed":{"x":[`, `0,`, `0]},"signatures":[]}`),
		"white space":           fill(head+`"x":[`, `0 ,`, `0]}}`),
		"escapes":               fill(head+`"x":"`, `\u0041`, `"}}`),
		"one string":            fill(head+`"_type":"`, `x`, `"}}`),
		"one number":            fill(head+`"version":`, `1`, `}}`),
		"signatures":            fill(`{"signed":{},"signatures":[`, `{"keyid":"","sig":"00"},`, `0]}`),
		"one signature":         fill(strings.TrimSuffix(common, ",")+`},"signatures":[{"keyid":"a","sig":"`, "00", `"}]}`),
		"brackets":              fill(head+`"x":`, "[", ""),
		"members in order":      each(head+`"x":{`, `"~":0}}}`, func(i int) string { return fmt.Sprintf(`"%07x":0,`, i) }),
		"members in reverse":    each(head+`"x":{`, `"":0}}}`, func(i int) string { return fmt.Sprintf(`"%07x":0,`, 1<<27-i) }),
		"a list in order":       each(common+`"meta":{`, `"~":{}}}}`, func(i int) string { return fmt.Sprintf(`"%07x":{},`, i) }),
		"targets in order":      each(common+`"targets":{`, `"~":{}}}}`, func(i int) string { return fmt.Sprintf(`"%07x":{},`, i) }),
		"long names":            each(head+`"x":{`, `"":0}}}`, func(i int) string { return fmt.Sprintf(`"%s%07x":0,`, strings.Repeat("y", 2000), 1<<27-i) }),
		"keys": each(common+`"consistent_snapshot":true,"roles":{},"keys":{`, `"~":{}}}}`, func(i int) string {
			return fmt.Sprintf(`"%07x":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"%064x"}},`, i, i+2)
		}),
		"ECDSA keys": each(common+`"consistent_snapshot":true,"roles":{},"keys":{`, `"~":{}}}}`, func(i int) string {
			return fmt.Sprintf(`"%07x":{"keytype":"ecdsa","scheme":"ecdsa-sha2-nistp384","keyval":{"public":"%s"}},`, i, anECDSAKey)
		}),
		"roles":     each(common+`"consistent_snapshot":true,"keys":{},"roles":{`, `"~":{}}}}`, func(i int) string { return fmt.Sprintf(`"%07x":{"keyids":[],"threshold":1},`, i) }),
		"key ids":   each(common+`"consistent_snapshot":true,"keys":{},"roles":{"a":{"threshold":1,"keyids":[`, `"~"]}}}}`, func(i int) string { return fmt.Sprintf(`"%x",`, i) }),
		"a charter": each(common+`"consistent_snapshot":true,"keys":{},"x-visum":{"retired":[`, `{}]}}}`, func(i int) string { return fmt.Sprintf(`{"id":"%x","hosts":["a%x.bc"]},`, i, i) }),
	}
	for _, depth := range []int{6, 60} {
		out[fmt.Sprintf("%d levels", depth)] = fill(head[:len(head)-1]+strings.Repeat(`{"b":0,"a":`, depth)+`"`, "x", `"`+strings.Repeat("}", depth+1))
	}
	return out
}

var anECDSAKey = func() string {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		panic(err)
	}
	return strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), "\n", `\n`)
}()

// opener reads an unsigned file, as a client would.
type opener struct {
	name, typ string
	size      int // the default limit
	open      func(data []byte) error
}

// openers are the files that a location can serve to a client, for a repository without listed
// lengths.
func openers(t testing.TB, r *rawtuf.Repo) []opener {
	t.Helper()
	unlist(r)
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		t.Fatal(err)
	}
	snap, err := ts.Snapshot(r.Files["5.snapshot.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	return []opener{
		{"root", "root", 512 << 10, func(data []byte) error { _, err := root.Next(data); return err }},
		{"proposal", "root", 512 << 10, func(data []byte) error { _, err := root.Propose(data); return err }},
		{"timestamp", "timestamp", 16 << 10, func(data []byte) error { _, err := root.Timestamp(data, nil, rawtuf.Now); return err }},
		{"snapshot", "snapshot", int(ts.SnapshotFile().MaxLength), func(data []byte) error { _, err := ts.Snapshot(data, nil); return err }},
		{"role", "targets", int(ts.SnapshotFile().MaxLength), func(data []byte) error { _, err := snap.Targets(data); return err }},
	}
}

// allocated returns the number of bytes that f allocates.
func allocated(f func()) int {
	var a, b runtime.MemStats
	runtime.ReadMemStats(&a)
	f()
	runtime.ReadMemStats(&b)
	return int(b.TotalAlloc - a.TotalAlloc)
}

// bound is the documented bound of Limits: the greatest number of bytes that a file of n bytes
// allocates before its signatures are checked.
func (o opener) bound(n int) int {
	if o.typ == "root" {
		return 32*n + 64<<10
	}
	return 8*n + 64<<10
}

// An unsigned file allocates no more than documented, and takes processor time in proportion to
// its bytes, in the worst forms of each file.
func TestCostBeforeAuthentication(t *testing.T) {
	rawtuf.Sequential(t)
	all := openers(t, rawtuf.New())
	if n := all[3].size; n != 1<<20 {
		t.Errorf("a snapshot of which no length is listed may have %d bytes with a charter", n)
	}
	if plain := openers(t, rawtuf.NewPlain()); plain[3].size != 16<<20 {
		t.Errorf("and %d without one", plain[3].size)
	}
	for _, o := range all {
		for name, data := range junk(o.size) {
			file := []byte(strings.ReplaceAll(data, "TYPE", o.typ))
			file = file[:min(len(file), o.size)]
			var err error
			if n := allocated(func() { err = o.open(file) }); n > o.bound(len(file)) {
				t.Errorf("%s, %s: %d bytes allocated for %d", o.name, name, n, len(file))
			}
			if err == nil {
				t.Fatalf("%s, %s: accepted", o.name, name)
			}
		}
	}
}

// Random bytes obey the same bound.
func FuzzCostBeforeAuthentication(f *testing.F) {
	for _, data := range junk(4 << 10) {
		for _, typ := range []string{"root", "targets"} {
			f.Add([]byte(strings.ReplaceAll(data, "TYPE", typ)))
		}
	}
	all := openers(f, rawtuf.New())
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range all {
			if n := allocated(func() { _ = o.open(data) }); n > o.bound(len(data)) {
				t.Fatalf("%s: %d bytes allocated for %d", o.name, n, len(data))
			}
		}
	})
}

// A file without a listed length has the limit Unlisted, whatever the limit of its kind; a file
// with a listed length has that length.
func TestUnlistedLength(t *testing.T) {
	pad := func(d doc, n int) { d["x-pad"] = strings.Repeat("x", n) }
	build := func(n int, listed bool) *rawtuf.Repo {
		r := rawtuf.New()
		pad(r.Roles["vendor-agent"], n)
		r.Publish()
		if !listed {
			unlist(r)
		}
		return r
	}
	walk := func(r *rawtuf.Repo, opt *tuf.Options) error {
		root, err := tuf.OpenRoot(r.Files["1.root.json"], opt)
		if err != nil {
			return err
		}
		snap, err := (&client{root: root}).refresh(r)
		if err != nil {
			return err
		}
		if f, err := snap.RoleFile("vendor-agent"); err != nil || len(r.Files["5.vendor-agent.json"]) > 1<<20 && f.MaxLength < int64(len(r.Files["5.vendor-agent.json"])) {
			return fmt.Errorf("%w: at most %d", tuf.ErrTooLarge, f.MaxLength)
		}
		_, err = snap.Approve(rawtuf.Path, from(r))
		return err
	}
	small, large := build(1<<19, false), build(1<<20, false)
	want(t, walk(small, nil), nil, "")
	want(t, walk(large, nil), tuf.ErrTooLarge, "at most 1048576")
	want(t, walk(build(1<<20, true), nil), nil, "")
	higher := &tuf.Options{Limits: tuf.Limits{Unlisted: 2 << 20}}
	want(t, walk(large, higher), nil, "")
	want(t, walk(small, &tuf.Options{Limits: tuf.Limits{Unlisted: 1 << 10}}), tuf.ErrTooLarge, "")
	// The limit of the kind applies too.
	want(t, walk(large, &tuf.Options{Limits: tuf.Limits{Unlisted: 2 << 20, Targets: 1 << 20}}), tuf.ErrTooLarge, "")
	// More bytes than MaxLength from a Fetch are refused before they are parsed.
	_, err := mustSnapshot(t, large).Approve(rawtuf.Path, from(large))
	want(t, err, tuf.ErrTooLarge, "vendor-agent v5: too large: ")
	// So is a snapshot that the timestamp lists without its length.
	r := rawtuf.New()
	pad(r.Roles["snapshot"], 1<<20)
	r.Publish()
	want(t, newClient(t, r).walk(r), nil, "")
	unlist(r)
	_, err = newClient(t, r).refresh(r)
	want(t, err, tuf.ErrTooLarge, "snapshot v5: too large: ")
	// Without a charter up to 16 MiB are read, as before.
	p := rawtuf.NewPlain()
	pad(p.Roles["lib"], 2<<20)
	p.Publish()
	unlist(p)
	_, err = newClient(t, p).find(p, "lib/a.txt")
	want(t, err, nil, "")
	// A length beyond the limit of the kind is refused without asking for the file.
	r = build(1<<20, true)
	root, err := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Targets: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	snap, err := (&client{root: root}).refresh(r)
	if err != nil {
		t.Fatal(err)
	}
	_, err = snap.Approve(rawtuf.Path, func(f tuf.RoleFile) ([]byte, error) {
		if f.Role == "vendor-agent" {
			t.Error("asked for a file that is too large")
		}
		return from(r)(f)
	})
	want(t, err, tuf.ErrTooLarge, "bytes are listed, at most 1048576")
}

// Bytes that differ from the listed length or hash are refused before they are parsed: the error
// is not about form or signatures.
func TestListedBytesBeforeTheForm(t *testing.T) {
	for _, file := range []string{"5.snapshot.json", "5.vendor-agent.json", "5.review-agent.json", "5.hold.json"} {
		for name, change := range map[string]func([]byte) []byte{
			"no JSON of that length": func(b []byte) []byte { return []byte(strings.Repeat("[", len(b))) },
			"shorter":                func([]byte) []byte { return []byte("{}") },
			"one byte":               func(b []byte) []byte { b[len(b)-1] = ' '; return b },
		} {
			r := rawtuf.New()
			r.Files[file] = change(append([]byte(nil), r.Files[file]...))
			err := newClient(t, r).walk(r)
			want(t, err, tuf.ErrMismatch, "listed")
			if t.Failed() {
				t.Fatal(file, name)
			}
		}
	}
}
