package repo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// linesOf is the diff of two signed parts, without version and date.
func linesOf(role string, a, b wire.Value) string {
	shape, ok := facts.DocumentShapes[role]
	if !ok {
		shape = facts.DocumentShapes[""]
	}
	x := &facts.Facts{Role: role, Keys: facts.NewKeyNames(nil, a, b)}
	x.Members(facts.At{}, shape, a, b)
	var lines []string
	for _, c := range x.Keys.Whole(role, x.Out) {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

// entriesOf is the diff of two listings of one path.
func entriesOf(a, b wire.Value) string {
	x := &facts.Facts{Role: "vendor-agent", Keys: facts.NewKeyNames(nil)}
	p := facts.At{Path: `"targets" "agent/1"`, Thing: "release", Name: "agent/1"}
	x.AsObject(p, a, b, func() { x.Compare(p, facts.EntryShape, a, b) })
	var lines []string
	for _, c := range x.Out {
		lines = append(lines, c.String())
	}
	return strings.Join(lines, "\n")
}

// lawful checks the law on three documents: the diffs of two documents against the
// third are equal if and only if the two documents are equal.
func lawful(t *testing.T, show func(a, b wire.Value) string, base, a, b wire.Value) {
	t.Helper()
	da, db := show(base, a), show(base, b)
	if same := string(a) == string(b); same != (da == db) {
		t.Fatalf("same document %t, same diff %t: against\n%s\n%s\n%s\nhave\n%s\nand\n%s", same, da == db, base, a, b, da, db)
	}
	if (da == "") != (string(base) == string(a)) {
		t.Fatalf("the diff of %s against %s is %q", a, base, da)
	}
	for line := range strings.SplitSeq(da, "\n") {
		if text.Line(line) != line {
			t.Fatalf("not one printable line of 4 kB: %.300q", line)
		}
	}
}

const (
	lawKey1 = "11111111111111111111111111111111aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	lawKey2 = "11111111111111111111111111111111bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" // has the prefix of the first one
	lawRoot = `{"keys":{"` + lawKey1 + `":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"ab"}}},
		"roles":{"root":{"keyids":["` + lawKey1 + `","` + lawKey2 + `"],"threshold":1}},"spec_version":"1.0.31","x-visum":{"seq":1,
		"parties":[{"name":"vendor","keyids":["` + lawKey1 + `"],"min":1},{"name":"review","keyids":["` + lawKey2 + `"],"min":1}],
		"classes":[{"name":"agent","prefix":"agent/","roles":[{"party":"vendor","role":"vendor-agent","keyids":["x"],"threshold":1}],
			"hold":{"role":"hold","keyids":["x"],"threshold":1,"max_seconds":60}}],
		"probe":{"min_operators":2,"mode":"warn"},"recovery":{"keyids":["y"],"orgs":[{"name":"bank","keyids":["y"]}],"threshold":1},
		"locations":[{"id":"a","base":"https://a.example.org/","paths":{"metadata":"m/"},"priority":1,"use_until":"2027-01-01T00:00:00Z"}],"retired":[{"id":"o","hosts":["h","i"]}]}}`
	lawRole = `{"delegations":{"keys":{"k":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"ab"}}},
		"roles":[{"name":"p","keyids":["k"],"threshold":1,"terminating":true,"paths":["a/*","b/*"]},{"name":"q","keyids":["k"],"threshold":1,"terminating":true,"paths":["c/*"]}]},
		"x-visum-recalled":[{"path":"agent/1","sha256":"ab","reason":"bad","at":"2026-01-01T00:00:00Z"},{"path":"agent/1","sha256":"cd","reason":"bad"}],"x-visum-sequence":{"agent":7},"spec_version":"1.0.31"}`
	lawEntry = `{"custom":{"visum":{"product":"agent","version":"1","sequence":1,"critical":true,"rollout":{"percent":5},"source":{"uri":"u"}},"visum-transport":[{"name":"x"}]},
		"hashes":{"sha256":"ab"},"length":7}`
)

func lawDoc(t testing.TB, s string) wire.Value {
	v, err := wire.Canonical([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// variants are documents that differ from v in one element each, including those by
// which an attacker hides what a document states.
func variants(v any, fn func()) {
	each := func(set func(any), was any) {
		for _, other := range []any{nil, "1", 1, true, "true", map[string]any{}, []any{}, []any{was}, map[string]any{"a": was}} {
			set(other)
			fn()
		}
		if s, ok := was.(string); ok {
			for _, other := range []string{s + "0", s + " -> " + s, "x\n" + s, `"` + s + `"`, s + ", min 1", s + "\u202e", strings.Repeat(s+"x", 300)} {
				set(other)
				fn()
			}
		}
		set(was)
		variants(was, fn)
	}
	switch v := v.(type) {
	case map[string]any:
		names := []string{}
		for name := range v {
			names = append(names, name)
		}
		for _, name := range names {
			was := v[name]
			each(func(x any) { v[name] = x }, was)
			delete(v, name)
			fn()
			for _, other := range []string{name + " ", strings.ToUpper(name), name + ".role", name + `" "x`, "x." + name} { // another name for it
				if _, there := v[other]; !there {
					v[other] = was
					fn()
					delete(v, other)
				}
			}
			if inner, ok := was.(map[string]any); ok { // its members, with dots in their names
				for n, x := range inner {
					v[name+"."+n] = x
				}
				fn()
				for n := range inner {
					delete(v, name+"."+n)
				}
			}
			v[name] = was
		}
		v["x-new"] = "x"
		fn()
		delete(v, "x-new")
	case []any:
		for i, was := range v {
			each(func(x any) { v[i] = x }, was)
			if i > 0 {
				v[0], v[i] = v[i], v[0]
				fn()
				v[0], v[i] = v[i], v[0]
				v[i] = v[0] // twice
				fn()
				v[i] = was
			}
		}
	}
}

// many is the number of random trials: a tenth of n, or n if VISUM_LONG=1 is set.
func many(n int) int {
	if rawtuf.Long {
		return n
	}
	return n / 10
}

// No two variants of a document have the same diff, or an empty one, against any base.
func TestDiffLaw(t *testing.T) {
	rawtuf.Sequential(t)
	for name, x := range map[string]struct {
		doc  string
		show func(a, b wire.Value) string
	}{
		"root":    {lawRoot, func(a, b wire.Value) string { return linesOf("root", a, b) }},
		"role":    {lawRole, func(a, b wire.Value) string { return linesOf("vendor-agent", a, b) }},
		"listing": {lawEntry, entriesOf},
	} {
		base := lawDoc(t, x.doc)
		for what, against := range map[string]wire.Value{"against the healthy one": base, "against nothing": nil} {
			seen := map[string]string{}
			var docs []wire.Value
			var doc any
			if err := json.Unmarshal([]byte(x.doc), &doc); err != nil {
				t.Fatal(err)
			}
			variants(doc, func() {
				data, err := json.Marshal(doc)
				if err != nil {
					t.Fatal(err)
				}
				v := lawDoc(t, string(data))
				got := x.show(against, v)
				if other, ok := seen[got]; ok && other != string(v) {
					t.Fatalf("%s, %s: one diff of two documents:\n%s\n%s\n%s", name, what, other, v, got)
				}
				seen[got] = string(v)
				docs = append(docs, v)
				lawful(t, x.show, against, v, base)
			})
			random := rand.New(rand.NewPCG(1, 2))
			for range many(3000) {
				pick := func() wire.Value { return docs[random.IntN(len(docs))] }
				lawful(t, x.show, pick(), pick(), pick())
			}
			if len(seen) < 200 {
				t.Errorf("%s: %d variants only", name, len(seen))
			}
		}
	}
}

// FuzzDiffLaw states the law for any three documents.
func FuzzDiffLaw(f *testing.F) {
	for _, s := range []string{lawRoot, lawRole, `{"x-visum":{"parties":[{"name":"a"},{"name":"a"}]}}`, `{"a":[1,"1",{"b":null}]}`, `{"a.b":1}`, `{"a":{"b":1}}`} {
		f.Add([]byte(s), []byte(`{}`), []byte(lawRole))
		f.Add([]byte(`{}`), []byte(s), []byte(`{"a":{}}`))
	}
	f.Fuzz(func(t *testing.T, base, a, b []byte) {
		var docs [3]wire.Value
		for i, data := range [][]byte{base, a, b} {
			v, err := wire.Canonical(data)
			if err != nil || v.Kind() != '{' {
				return
			}
			docs[i] = v
		}
		for _, role := range []string{"root", "vendor-agent", facts.RecoveryRole} {
			lawful(t, func(a, b wire.Value) string { return linesOf(role, a, b) }, docs[0], docs[1], docs[2])
		}
		lawful(t, entriesOf, docs[0], docs[1], docs[2])
	})
}

// Two keys whose ids have the same prefix are shown in full; a label does not hide the
// id.
func TestDiffKeys(t *testing.T) {
	root := lawDoc(t, lawRoot)
	with := lawDoc(t, strings.Replace(lawRoot, `"keyids":["`+lawKey1+`"],"min"`, `"keyids":["`+lawKey1+`","`+lawKey2+`"],"min"`, 1))
	x := &facts.Facts{Role: "root", Keys: facts.NewKeyNames(map[string]string{lawKey2: "Ann's card\n"}, root, with)}
	x.Members(facts.At{}, facts.DocumentShapes["root"], root, with)
	got := fmt.Sprint(x.Keys.Whole("root", x.Out))
	if want := `[root: party vendor: key "Ann's card\n" "` + lawKey2 + `" (not present) added root: key "` + lawKey2 + `": id ` + lawKey2 + ` ("Ann's card\n")]`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// A name can't imitate other text: all but plain tokens are quoted.
func TestDiffQuotesNames(t *testing.T) {
	evil := `x: min 1 -> 9, and all is well`
	doc := strings.NewReplacer(`"name":"vendor"`, `"name":"`+evil+`"`, `"id":"a"`, `"id":"`+evil+`"`, `"role":"vendor-agent"`, `"role":"`+evil+`"`,
		`"name":"agent"`, `"name":"`+evil+`"`, `"name":"bank"`, `"name":"`+evil+`"`, `"h"`, `"`+evil+`"`, `"name":"p"`, `"name":"`+evil+`"`, `"a/*"`, `"`+evil+`"`, `"path":"agent/1"`, `"path":"`+evil+`"`)
	for role, d := range map[string]string{"root": lawRoot, "vendor-agent": lawRole} {
		n := 0
		for line := range strings.SplitSeq(linesOf(role, nil, lawDoc(t, doc.Replace(d))), "\n") {
			if rest := strings.ReplaceAll(line, `"`+evil+`"`, ""); rest != line {
				n++
				line = rest
			}
			if strings.Contains(line, "all is well") {
				t.Errorf("not quoted: %s", line)
			}
		}
		if n < 3 {
			t.Errorf("%s: %d lines", role, n)
		}
	}
}
