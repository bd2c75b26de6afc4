package tuf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func TestPin(t *testing.T) {
	pin := rawtuf.Marshal(rawtuf.New().Pin())
	p, err := tuf.OpenPin(pin, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Review() != "review" || p.Root().Version() != 1 || len(p.Locations()) != 3 || p.Root().Charter().RepoID() != rawtuf.RepoID {
		t.Errorf("%+v", p)
	}
	// The fingerprint depends on the content of the pin, not on its formatting.
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, pin, "", "  "); err != nil {
		t.Fatal(err)
	}
	q, err := tuf.OpenPin(pretty.Bytes(), nil)
	if err != nil || q.Fingerprint() != p.Fingerprint() || len(p.Fingerprint()) != 64 {
		t.Error(q, err)
	}
	other := rawtuf.New().Pin()
	rawtuf.At(other, "locations", 0)["priority"] = 11
	if q, err = tuf.OpenPin(rawtuf.Marshal(other), nil); err != nil || q.Fingerprint() == p.Fingerprint() {
		t.Error("two pins with one fingerprint", err)
	}
}

func TestPinRefused(t *testing.T) {
	unknown := func(path ...any) func(doc) {
		return func(pin doc) { rawtuf.At(pin, path...)["x-new"] = 1 }
	}
	for _, tt := range []struct {
		name   string
		mutate func(pin doc)
		want   error
		part   string
	}{
		{"unknown member", unknown(), tuf.ErrMalformed, `the pin has an unknown member "x-new"`},
		{"unknown member of review", unknown("review"), tuf.ErrMalformed, "review has an unknown member"},
		{"unknown member of a key", unknown("review", "keys", 1), tuf.ErrMalformed, "a review key has an unknown member"},
		{"unknown member of a key's value", unknown("review", "keys", 1, "keyval"), tuf.ErrMalformed, "unknown member"},
		{"unknown member of a location", unknown("locations", 2), tuf.ErrMalformed, "a location has an unknown member"},
		{"unknown member of paths", unknown("locations", 2, "paths"), tuf.ErrMalformed, "a location's paths has an unknown member"},
		{"schema 2", func(p doc) { p["schema"] = 2 }, tuf.ErrMalformed, "schema is 2"},
		{"no schema", func(p doc) { delete(p, "schema") }, tuf.ErrMalformed, "schema is 0"},
		{"no root", func(p doc) { delete(p, "root") }, tuf.ErrMalformed, "root"},
		{"no review", func(p doc) { delete(p, "review") }, tuf.ErrMalformed, "pin"},
		{"root changed", func(p doc) { rawtuf.At(p, "root", "signed")["expires"] = "2099-01-01T00:00:00Z" }, tuf.ErrThreshold, ""},
		{"root without a charter", func(p doc) {
			p["root"] = parse(rawtuf.NewPlain().Files["1.root.json"])
		}, tuf.ErrCharter, "its root has no charter"},
		{"another repository", func(p doc) { p["repo_id"] = strings.Repeat("0", 32) }, tuf.ErrMismatch, "repo_id"},
		{"no such party", func(p doc) { rawtuf.At(p, "review")["party"] = "press" }, tuf.ErrCharter, `no party "press"`},
		{"the other party", func(p doc) { rawtuf.At(p, "review")["party"] = "vendor" }, tuf.ErrCharter, "the keys of party vendor"},
		{"a key missing", func(p doc) { rawtuf.At(p, "review")["keys"] = rawtuf.At(p, "review")["keys"].([]any)[:1] }, tuf.ErrCharter, "the keys of party review"},
		{"a key twice", func(p doc) {
			k := rawtuf.At(p, "review")["keys"].([]any)
			k[1] = k[0]
		}, tuf.ErrCharter, "the keys of party review"},
		{"another key", func(p doc) {
			_, k := rawtuf.New().KeyDoc("vendor1")
			rawtuf.At(p, "review")["keys"].([]any)[1] = k
		}, tuf.ErrCharter, "the keys of party review"},
		{"a key that can't be used", func(p doc) { rawtuf.At(p, "review", "keys", 0)["scheme"] = "rot13" }, tuf.ErrMalformed, ""},
		{"a higher minimum", func(p doc) { rawtuf.At(p, "review")["min"] = 2 }, tuf.ErrCharter, "at least 2 keys, in its root with 1"},
		{"minimum 0", func(p doc) { rawtuf.At(p, "review")["min"] = 0 }, tuf.ErrCharter, "at least 0"},
		{"one operator", func(p doc) {
			for _, l := range p["locations"].([]any) {
				l.(doc)["operator"] = "vendor-ch"
			}
		}, tuf.ErrCharter, "locations of 1 operators by name and host, want at least 2"},
		{"two operators on one host", func(p doc) {
			for _, l := range p["locations"].([]any) {
				l.(doc)["base"] = "https://updates.vendor.example/r/"
			}
		}, tuf.ErrCharter, "locations of 1 operators by name and host, want at least 2"},
		{"a tier that is none", func(p doc) { rawtuf.At(p, "locations", 0)["tier"] = "secret" }, tuf.ErrCharter, "H6"},
		{"a location twice", func(p doc) { l := p["locations"].([]any); l[2] = l[0] }, tuf.ErrCharter, "used twice"},
		{"a primary without targets", func(p doc) { delete(rawtuf.At(p, "locations", 0, "paths"), "targets") }, tuf.ErrCharter, "H5"},
		{"no locations", func(p doc) { p["locations"] = []any{} }, tuf.ErrCharter, "locations of 0 operators"},
		{"http", func(p doc) { rawtuf.At(p, "locations", 0)["base"] = "http://updates.vendor.example/r/" }, tuf.ErrCharter, "H4"},
		{"paths that climb", func(p doc) { rawtuf.At(p, "locations", 0, "paths")["metadata"] = "../" }, tuf.ErrCharter, "location main"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pin := rawtuf.New().Pin()
			tt.mutate(pin)
			p, err := tuf.OpenPin(rawtuf.Marshal(pin), nil)
			want(t, err, tt.want, tt.part)
			if p != nil {
				t.Error("a pin came with the error")
			}
		})
	}
}

// A refusal of a pin has the pin as evidence.
func TestPinEvidence(t *testing.T) {
	other := rawtuf.New().Pin()
	other["repo_id"] = strings.Repeat("0", 32)
	for _, data := range [][]byte{rawtuf.Marshal(other), []byte("{}"), []byte("<html>"), rawtuf.New().Files["1.root.json"], bytes.Repeat([]byte(" "), 1<<20+1)} {
		_, err := tuf.OpenPin(data, nil)
		var e *tuf.Error
		if !errors.As(err, &e) || !bytes.Equal(e.Evidence, data) {
			t.Errorf("%v: evidence is %.20q", err, e.Evidence)
		}
	}
}

func TestPinTooLarge(t *testing.T) {
	_, err := tuf.OpenPin(append(rawtuf.Marshal(rawtuf.New().Pin()), bytes.Repeat([]byte(" "), 1<<20)...), nil)
	want(t, err, tuf.ErrTooLarge, "pin")
	for _, junk := range []string{"", "null", "[]", "{", "{}", `{"signed":1}`, `{"signed":{},"signatures":[]}`} {
		_, err := tuf.OpenPin([]byte(junk), nil)
		want(t, err, tuf.ErrMalformed, "")
	}
	for junk, part := range map[string]string{"{": "member name", `{"schema":1,"schema":1}`: `duplicate member "schema"`, `{"schema":1} x`: "after the end"} {
		_, err := tuf.OpenPin([]byte(junk), nil)
		want(t, err, tuf.ErrMalformed, part)
	}
}

// The pin of a repository without a charter is its root. A root with a charter is no pin: its
// supplier could choose the review keys.
func TestPinBareRoot(t *testing.T) {
	p, err := tuf.OpenPin(rawtuf.NewPlain().Files["1.root.json"], nil)
	if err != nil || p.Review() != "" || p.Locations() != nil || p.Root().Charter() != nil || p.Fingerprint() != p.Root().SHA256() {
		t.Error(p, err)
	}
	_, err = tuf.OpenPin(rawtuf.New().Files["1.root.json"], nil)
	want(t, err, tuf.ErrMalformed, "a root with a charter is no pin")
}

// Two locations have the same operator if the names or the hosts are equal, also through a
// third location.
func TestOperators(t *testing.T) {
	at := func(operator, host string) tuf.Location {
		return tuf.Location{Operator: operator, Base: "https://" + host + "/r/"}
	}
	for name, x := range map[string]struct {
		list []tuf.Location
		want int
	}{
		"none":                {nil, 0},
		"two":                 {[]tuf.Location{at("a", "a.example"), at("b", "b.example")}, 2},
		"one name":            {[]tuf.Location{at("a", "a.example"), at("a", "b.example")}, 1},
		"one host":            {[]tuf.Location{at("a", "a.example"), at("b", "a.example")}, 1},
		"one host, two ports": {[]tuf.Location{at("a", "a.example:444"), at("b", "a.example")}, 1},
		"joined by the third": {[]tuf.Location{at("a", "a.example"), at("b", "b.example"), at("a", "b.example")}, 1},
		"joined by the first": {[]tuf.Location{at("a", "b.example"), at("a", "a.example"), at("b", "b.example")}, 1},
		"two pairs":           {[]tuf.Location{at("a", "a.example"), at("b", "b.example"), at("c", "a.example"), at("b", "d.example")}, 2},
		"two pairs, joined":   {[]tuf.Location{at("a", "a.example"), at("b", "b.example"), at("c", "a.example"), at("b", "d.example"), at("c", "d.example")}, 1},
	} {
		if got := tuf.Operators(x.list); got != x.want {
			t.Errorf("%s: %d, want %d", name, got, x.want)
		}
	}
}

// With min_operators 1 in the charter a pin needs only one operator.
func TestPinOfOneOperator(t *testing.T) {
	r := rawtuf.New()
	r.Charter()["probe"] = doc{"min_operators": 1, "every_seconds": 60, "max_age_seconds": 60, "mode": "warn"}
	r.PublishRoot()
	pin := r.Pin()
	for _, l := range pin["locations"].([]any) {
		l.(doc)["operator"] = "vendor-ch"
	}
	if _, err := tuf.OpenPin(rawtuf.Marshal(pin), nil); err != nil {
		t.Error(err)
	}
}
