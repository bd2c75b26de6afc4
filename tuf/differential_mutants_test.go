package tuf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/wire"
)

// subject is a file to mutate, with its delegator.
type subject struct {
	kind, role string
	keys       []string
	signed     doc
	delegator  []byte
	bench      *bench
}

func subjects(t testing.TB) []subject {
	var out []subject
	three := rawtuf.NewPlain() // two of three root keys, so that one may be spoilt
	three.Signers["root"] = []string{"root", "root2", "root3"}
	three.AddKeys(three.Root, three.Signers["root"]...)
	rawtuf.At(three.Root, "roles")["root"] = three.Role(2, three.Signers["root"]...)
	three.PublishRoot()
	for i, r := range []*rawtuf.Repo{rawtuf.NewPlain(), rawtuf.New(), three} {
		b := newBench(t, r)
		root := r.Files["1.root.json"]
		out = append(out, subject{"root", "root", r.Signers["root"], rawtuf.Copy(r.Root).(doc), nil, b})
		next := rawtuf.Copy(r.Root).(doc)
		next["version"] = 2
		out = append(out, subject{"next", "root", r.Signers["root"], next, root, b})
		if i > 0 {
			continue
		}
		for _, role := range []string{"timestamp", "snapshot", "targets"} {
			out = append(out, subject{role, role, []string{role}, r.Roles[role], root, b})
		}
		out = append(out, subject{"delegated", "lib", []string{"lib"}, r.Roles["lib"], r.Files["5.targets.json"], b})
	}
	return out
}

// sign returns the signed part with signatures over the canonical form of the received
// bytes, and with signatures over go-tuf's own encoding if that differs.
func (s subject) sign(signed []byte) (files [][]byte) {
	over := func(payload []byte) []byte {
		sigs := []any{}
		for _, k := range s.keys {
			sigs = append(sigs, doc{"keyid": s.bench.IDs(k)[0], "sig": hexSign(s.bench.Repo, k, payload)})
		}
		return fmt.Appendf(nil, `{"signatures":%s,"signed":%s}`, rawtuf.Marshal(sigs), signed)
	}
	received, err := wire.Canonical(signed)
	if err == nil {
		files = append(files, over(received))
	}
	theirs, err2 := stockPayload(s.kind, over(nil))
	if err2 == nil && (err != nil || !bytes.Equal(theirs, received)) {
		files = append(files, over(theirs))
	}
	if files == nil {
		files = append(files, over([]byte("not JSON")))
	}
	return files
}

// mutation changes one thing in a document.
type mutator struct{ *rand.Rand }

func (m mutator) pick(of ...any) any { return of[m.IntN(len(of))] }

// spot is a position in a document, with functions to read, write and remove it.
type spot struct {
	name   string
	value  any
	set    func(any)
	remove func()
	rename func(string)
}

// spots lists every member and element below v.
func spots(v any) (out []spot) {
	switch v := v.(type) {
	case doc:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = append(out, spot{name, v[name], func(x any) { v[name] = x }, func() { delete(v, name) },
				func(to string) { x := v[name]; delete(v, name); v[to] = x }})
			out = append(out, spots(v[name])...)
		}
	case []any:
		for i := range v {
			out = append(out, spot{"", v[i], func(x any) { v[i] = x }, nil, nil})
			out = append(out, spots(v[i])...)
		}
	}
	return out
}

// document changes one value, member or name of a signed part and returns it as JSON.
func (m mutator) document(signed doc) []byte {
	d := parse(rawtuf.Marshal(signed))
	all := spots(d)
	s := all[m.IntN(len(all))]
	switch m.IntN(9) {
	case 0:
		if s.remove != nil {
			s.remove()
		}
	case 1:
		if s.rename != nil {
			s.rename(m.pick(strings.ToUpper(s.name), s.name+"x", "", "é").(string))
		}
	case 2:
		s.set(m.pick(nil, true, []any{}, doc{}, "", 0, doc{"a": nil}, []any{nil}))
	case 3: // an additional unknown member
		if in, ok := s.value.(doc); ok {
			in["x-new"] = m.pick(nil, json.Number("1.5"), json.Number("9007199254740993"), "<é>", []any{doc{}}, -1)
		}
	case 4: // an element twice, or the last one gone
		if list, ok := s.value.([]any); ok && len(list) > 0 {
			s.set(m.pick(append(slices.Clone(list), list[0]), list[:len(list)-1]))
		}
	case 5: // a member that is written twice
		text := rawtuf.Marshal(d)
		if s.rename == nil {
			return text
		}
		i := bytes.Index(text, append(rawtuf.Marshal(s.name), ':'))
		return slices.Insert(text, i, fmt.Appendf(nil, "%s:%s,", rawtuf.Marshal(s.name), rawtuf.Marshal(m.pick(s.value, 7, "x")))...)
	default:
		switch x := s.value.(type) {
		case json.Number:
			n, _ := x.Int64()
			s.set(m.pick(n+1, n-1, -n, 0, -1, json.Number("1.5"), json.Number(x+".0"), json.Number("1e2"), json.Number("9223372036854775808"), x.String()))
		case string:
			s.set(m.pick(x+"x", strings.ToUpper(x), "", "é"+x, strings.Replace(x, "2030-02-15T12:00:00Z", "2030-02-15T12:00:00.5+01:00", 1),
				strings.Replace(x, "1.0", "2.0", 1), strings.Replace(x, "ed25519", "ml-dsa", 1), x[:len(x)/2]))
		case bool:
			s.set(!x)
		}
	}
	return rawtuf.Marshal(d)
}

// bytesOf changes a few bytes of a file, as a faulty disk or mirror does.
func (m mutator) bytesOf(file []byte) []byte {
	b := slices.Clone(file)
	i := m.IntN(len(b))
	n := min(len(b)-i, 1+m.IntN(40))
	switch m.IntN(6) {
	case 0, 1:
		b[i] ^= 1 << m.IntN(8)
	case 2:
		b = slices.Delete(b, i, i+n)
	case 3:
		b = slices.Insert(b, i, slices.Clone(b[i:i+n])...)
	case 4:
		b = slices.Insert(b, i, m.pick(byte(' '), byte('\n'), byte('"'), byte(0xff), byte(',')).(byte))
	case 5:
		b = append(b[:i:i], m.pick([]byte("}"), []byte(nil), []byte("{}")).([]byte)...)
	}
	return b
}

// signatures changes the signatures of a valid file.
func (m mutator) signatures(file []byte) []byte {
	env := parse(file)
	sigs := env["signatures"].([]any)
	s := sigs[m.IntN(len(sigs))].(doc)
	switch m.IntN(8) {
	case 0:
		sigs = append(sigs, rawtuf.Copy(s))
	case 1:
		s["sig"] = m.pick("", "zz", "00", "0", nil, 7, strings.ToUpper(s["sig"].(string)))
	case 2:
		s["keyid"] = m.pick("", "unknown", nil, 7, strings.ToUpper(s["keyid"].(string)))
	case 3:
		sigs = append(sigs, doc{"keyid": "unknown", "sig": m.pick("", "00", "zz", nil)})
	case 4:
		s[m.pick("x-new", "method").(string)] = m.pick(1, nil, "x", json.Number("1.5"))
	case 5:
		delete(s, m.pick("sig", "keyid").(string))
	case 6:
		sigs = append(sigs, m.pick(nil, 7, []any{}, doc{}))
	case 7:
		env[m.pick("x-new", "Signed", "SIGNATURES").(string)] = m.pick(1, nil, env["signed"], sigs)
	}
	env["signatures"] = sigs
	return rawtuf.Marshal(env)
}

// mutants returns the comparisons of one subject, which are deterministic.
func (s subject) mutants(n int) (out []*comparison) {
	seed := uint64(len(out))
	for i, c := range []byte(s.kind + s.bench.root.SHA256()) {
		seed = seed*31 + uint64(i) + uint64(c)
	}
	m := mutator{rand.New(rand.NewPCG(seed, 1))}
	healthy := s.sign(rawtuf.Marshal(s.signed))[0]
	out = append(out, s.compare("healthy", healthy))
	for i := range n {
		for j, file := range s.sign(m.document(s.signed)) {
			out = append(out, s.compare(fmt.Sprintf("document %d, signing %d", i, j), file))
		}
		out = append(out, s.compare(fmt.Sprint("bytes ", i), m.bytesOf(healthy)), s.compare(fmt.Sprint("signatures ", i), m.signatures(healthy)))
	}
	return out
}
