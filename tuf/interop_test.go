package tuf_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

func canonical(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cjson.EncodeCanonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stockVerify verifies a top-level role for root v1 with go-tuf.
func stockVerify(r *rawtuf.Repo, role string) error {
	root, err := metadata.Root().FromBytes(r.Files["1.root.json"])
	if err != nil {
		return err
	}
	file := fmt.Sprintf("5.%s.json", role)
	switch role {
	case "root":
		return root.VerifyDelegate(role, root)
	case "timestamp":
		m, err := metadata.Timestamp().FromBytes(r.Files["timestamp.json"])
		if err != nil {
			return err
		}
		return root.VerifyDelegate(role, m)
	case "snapshot":
		m, err := metadata.Snapshot().FromBytes(r.Files[file])
		if err != nil {
			return err
		}
		return root.VerifyDelegate(role, m)
	}
	m, err := metadata.Targets().FromBytes(r.Files[file])
	if err != nil {
		return err
	}
	return root.VerifyDelegate(role, m)
}

// go-tuf accepts the files of the simulator, so each row of the other tests has only the
// stated fault. The charter does not disturb standard TUF clients.
func TestStandardClientAccepts(t *testing.T) {
	for name, r := range map[string]*rawtuf.Repo{"plain": rawtuf.NewPlain(), "charter": rawtuf.New()} {
		for _, role := range []string{"root", "timestamp", "snapshot", "targets"} {
			if err := stockVerify(r, role); err != nil {
				t.Errorf("%s %s: %v", name, role, err)
			}
		}
		targets, err := metadata.Targets().FromBytes(r.Files["5.targets.json"])
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range targets.Signed.Delegations.Roles {
			m, err := metadata.Targets().FromBytes(r.Files["5."+d.Name+".json"])
			if err == nil {
				err = targets.VerifyDelegate(d.Name, m)
			}
			if err != nil {
				t.Errorf("%s %s: %v", name, d.Name, err)
			}
		}
	}
	// The next root too; the accessors return go-tuf's types.
	r := rawtuf.New()
	r.NextRoot(func() { newVendorKeys(r) })
	c := newClient(t, r)
	snap, err := c.refresh(r)
	if err != nil {
		t.Fatal(err)
	}
	root, err := gotuf.Root(c.root)
	if err != nil || root.Signed.Version != 2 || root.VerifyDelegate("root", root) != nil {
		t.Error(root, err)
	}
	if s, err := gotuf.Snapshot(snap); err != nil || s.Signed.Meta["hold.json"].Version != 5 {
		t.Error(s, err)
	}
	tg, err := snap.Targets(r.Files["5.targets.json"])
	if err != nil {
		t.Fatal(err)
	}
	if m, err := gotuf.Targets(tg); err != nil || m.Signed.Delegations.Roles[0].Name != "review-agent" {
		t.Error(m, err)
	}
}

// Trap 14: forms that other tools write and sign, and that verification of a re-encoding
// refuses.
func TestTrap14OddButValid(t *testing.T) {
	every := func(r *rawtuf.Repo, f func(signed doc)) {
		f(r.Root)
		for _, d := range r.Roles {
			f(d)
		}
	}
	entries := func(r *rawtuf.Repo, f func(entry doc)) {
		r.Publish()
		for _, e := range rawtuf.At(r.Roles["snapshot"], "meta") {
			f(e.(doc))
		}
		r.PublishSnapshot()
		f(rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json"))
		r.PublishTimestamp()
	}
	member := func(name string, v any) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			every(r, func(d doc) { d[name] = v })
			r.PublishRoot()
			r.Publish()
		}
	}
	entry := func(name string, v any) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { entries(r, func(e doc) { e[name] = v }) }
	}
	// served rewrites the files without signing again; the lists hold no hashes.
	served := func(f func(data []byte) []byte) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			entries(r, func(e doc) { delete(e, "hashes"); delete(e, "length") })
			for name, data := range r.Files {
				r.Files[name] = f(data)
			}
		}
	}
	sigs := func(f func([]any) []any) func(*rawtuf.Repo) {
		return served(func(data []byte) []byte {
			env := parse(data)
			env["signatures"] = f(env["signatures"].([]any))
			return rawtuf.Marshal(env)
		})
	}
	for name, form := range map[string]func(*rawtuf.Repo){
		"expiry with fractions":      member("expires", "2030-02-15T12:00:00.123456789Z"),
		"expiry with offset 0":       member("expires", "2030-02-15T12:00:00+00:00"),
		"expiry with offset":         member("expires", "2030-02-15T14:30:00+02:30"),
		"spec_version 1.0":           member("spec_version", "1.0"),
		"spec_version 1":             member("spec_version", "1"),
		"unknown members":            member("x-new", doc{"a": []any{1, nil, true, doc{}}, "b": "c"}),
		"large integers":             member("x-big", []any{1<<53 + 1, -1 << 62, 1<<63 - 1}),
		"text of every kind":         member("x-text", "é 😀 <&> \" \\ \x01 \n \u2028 \u007f"),
		"names out of plain order":   member("x\"#\\ é", doc{"a#": 1, "a\"": 2, "": 3, "\U0001F600": 4, "\uffff": 5}),
		"length 0 in lists":          entry("length", 0),
		"hashes empty in lists":      entry("hashes", doc{}),
		"unknown members in lists":   entry("x-new", nil),
		"an unknown hash as well":    func(r *rawtuf.Repo) { entries(r, func(e doc) { rawtuf.At(e, "hashes")["blake2b-256"] = "00" }) },
		"hashes in upper case":       func(r *rawtuf.Repo) { entries(r, func(e doc) { upper(rawtuf.At(e, "hashes")) }) },
		"pretty-printed":             served(pretty),
		"space around":               served(func(b []byte) []byte { return append(append([]byte("\r\n\t "), b...), '\n') }),
		"signatures in upper case":   sigs(func(s []any) []any { upper(s[0].(doc), "sig"); return s }),
		"an empty signature besides": sigs(func(s []any) []any { return append(s, doc{"keyid": "offline", "sig": ""}) }),
		"unknown members of signatures": sigs(func(s []any) []any {
			s[0].(doc)["x-new"] = []any{}
			return s
		}),
		"unknown members of the envelope": served(func(data []byte) []byte {
			env := parse(data)
			env["x-new"] = doc{"signed": 1}
			return rawtuf.Marshal(env)
		}),
		"unknown members of keys and roles": func(r *rawtuf.Repo) {
			for _, keys := range []doc{rawtuf.At(r.Root, "keys"), rawtuf.At(r.Roles["targets"], "delegations", "keys")} {
				for _, k := range keys {
					k.(doc)["keyid_hash_algorithms"], rawtuf.At(k, "keyval")["private"] = []any{"sha256"}, ""
				}
			}
			for _, role := range rawtuf.At(r.Root, "roles") {
				role.(doc)["x-new"] = 1
			}
			rawtuf.At(r.Root, "roles")["mirrors"] = r.Role(1, "targets")
			d := rawtuf.At(r.Roles["targets"], "delegations")
			d["x-new"], rawtuf.At(d, "roles", 0)["x-new"] = 1, 1
			r.PublishRoot()
			r.Publish()
		},
		"targets with much in custom": func(r *rawtuf.Repo) {
			f := rawtuf.At(r.Roles["lib"], "targets", "lib/a.txt")
			f["x-new"], f["custom"] = 1, doc{"n": 1 << 60, "nothing": nil, "visum": doc{"of": "a later day"}}
			upper(rawtuf.At(f, "hashes"))
			r.Publish()
		},
		"custom that is no object": func(r *rawtuf.Repo) {
			rawtuf.At(r.Roles["lib"], "targets", "lib/a.txt")["custom"] = []any{"x"}
			r.Publish()
		},
		"delegations of nothing": func(r *rawtuf.Repo) {
			r.Roles["lib"]["delegations"] = doc{"keys": doc{}} // so go-tuf writes an empty list of roles
			r.Publish()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			form(r)
			c := newClient(t, r)
			for _, path := range []string{"top.txt", "lib/a.txt"} {
				a, err := c.find(r, path)
				if err != nil || strings.ToLower(a.SHA256()) != a.SHA256() {
					t.Errorf("%s: %v, %v", path, a, err)
				}
			}
		})
	}
}

// Dates that only some decoders accept are refused.
func TestDatesAreRFC3339(t *testing.T) {
	for _, s := range []string{"2030-02-15T12:00:00,5Z", "2030-02-15T1:00:00Z", "2030-02-15 12:00:00Z", "2030-02-15t12:00:00z", "2030-02-15T12:00:00",
		"2030-02-15", "2030-02-30T12:00:00Z", "2030-02-15T24:00:00Z", "2030-02-15T12:00:00+24:00", "2030-02-15T12:00Z", " 2030-02-15T12:00:00Z", ""} {
		r := rawtuf.NewPlain()
		r.Roles["timestamp"]["expires"] = s
		r.PublishTimestamp()
		err := find(newClient(t, r), r, "top.txt")
		want(t, err, tuf.ErrMalformed, "timestamp v5: malformed: expires is")
	}
}

func upper(d doc, names ...string) {
	for name, v := range d {
		if s, ok := v.(string); ok && (names == nil || slices.Contains(names, name)) {
			d[name] = strings.ToUpper(s)
		}
	}
}

func pretty(data []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "\t"); err != nil {
		panic(err)
	}
	return b.Bytes()
}
