package repo

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// A document is compared as facts: what it says, each under an address that
// does not depend on where in a list it stands. Nothing of a document is without
// a fact, whoever invented the member, so nothing changes without a line.

// thing is something with a name of its own: a location, a party, a release.
type thing struct {
	kind string            // "" for the document itself
	name string            // clean
	says map[string]string // its facts, both in words
}

func (t *thing) say(what, words string) {
	for at := what; ; at += "+" { // one that is said twice is said twice
		if _, taken := t.says[at]; !taken {
			t.says[at] = words
			return
		}
	}
}

// all is one thing in one line.
func (t *thing) all() string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(t.says)) {
		if words := t.says[what]; words != "" {
			out = append(out, what+" "+words)
		} else {
			out = append(out, what)
		}
	}
	return strings.Join(out, ", ")
}

// document is the things of one metadata file.
type document struct {
	things map[string]*thing // by kind and name
	keys   map[string]string // words for the key behind an id
	used   map[string]bool
}

func (d *document) thing(kind, name string) *thing {
	id := kind + "\n" + name
	if d.things[id] == nil {
		d.things[id] = &thing{kind, name, map[string]string{}}
	}
	return d.things[id]
}

// The lists whose elements are things, by where they stand, and the member that
// names an element. "*" is the name of the thing before.
var thingLists = map[string]struct{ kind, by string }{
	"x-visum.parties":         {"party", "name"},
	"x-visum.classes":         {"class", "name"},
	"x-visum.classes.*.roles": {"release role", "role"},
	"x-visum.locations":       {"location", "id"},
	"x-visum.retired":         {"retired location", "id"},
	"x-visum.recovery.orgs":   {"recovery organisation", "name"},
	"delegations.roles":       {"delegated role", "name"},
	tuf.RecallMember:          {"recall", "path"},
}

// The objects whose members are things.
var thingMembers = map[string]string{"roles": "role"}

func newDocument() *document {
	return &document{things: map[string]*thing{}, keys: map[string]string{}, used: map[string]bool{}}
}

// readDocument takes a signed part apart, but for the targets, of which there
// may be very many. A member that no table names is said as it is.
func readDocument(signed wire.Value) *document {
	d := newDocument()
	var keys, delegations wire.Value
	for name, v := range signed.Members() {
		switch string(name) {
		case "keys":
			keys = v
		case "delegations":
			delegations = v
		}
	}
	d.readKeys(keys)
	for name, v := range delegations.Members() {
		if string(name) == "keys" {
			d.readKeys(v)
		}
	}
	top := d.thing("", "")
	listed := words(member(signed, "_type")) != "targets"
	for name, v := range signed.Members() {
		switch n := name.String(); n {
		case "_type", "version": // said with the file's name
		case "targets": // what is in it is said elsewhere
			listed = v.Kind() == '{'
		case tuf.CharterMember:
			d.walk(n, "", top, v)
		case "spec_version", "expires", "consistent_snapshot", "roles", "keys", "delegations", tuf.RecallMember,
			"repo_id", "tip", "root", "reason": // the last four of recovery statements
			d.walk(n, n, top, v)
		default:
			d.walk(n, "member "+clean(n), top, v)
		}
	}
	if !listed {
		top.say("no list of targets", "")
	}
	for id, words := range d.keys {
		if !d.used[id] {
			top.say("key in no use: "+words, "")
		}
	}
	return d
}

// readKeys finds words for keys. An id that is not the key's own is shown with
// what it stands for.
func (d *document) readKeys(v wire.Value) {
	for name, kv := range v.Members() {
		var scheme wire.Value
		id := name.String()
		d.keys[id] = fmt.Sprintf("%s, which is not the id of what it stands for: %s", clean(id), words(kv))
		if sum256(kv) == id && kv.Fields(wire.Field{Name: "scheme", To: &scheme}) == nil {
			d.keys[id] = words(scheme) + " " + id
		}
	}
}

// walk says what v says of t. at is its place for the tables, what its name in words.
func (d *document) walk(at, what string, t *thing, v wire.Value) {
	switch {
	case at == "keys" || at == "delegations.keys":
		return // said where they are used
	case v.Kind() == '{':
		kind := thingMembers[at]
		n := 0
		for name, m := range v.Members() {
			n++
			if kind != "" {
				d.walk(at+".*", "", d.thing(kind, clean(name.String())), m)
				continue
			}
			next := strings.TrimLeft(what+"."+clean(name.String()), ".")
			if at == "targets.*" && next != "length" && next != "hashes" && next != "custom" {
				next = "member " + next
			}
			d.walk(at+"."+name.String(), strings.TrimPrefix(strings.TrimPrefix(next, "hashes."), "custom."+tuf.ReleaseMember+"."), t, m)
		}
		if n == 0 && kind == "" {
			t.say(what, "{}")
		}
	case v.Kind() == '[':
		d.list(at, what, t, v)
	default:
		t.say(what, words(v))
	}
}

func (d *document) list(at, what string, t *thing, v wire.Value) {
	spec, isThings := thingLists[at]
	var order []string
	seen := map[string]bool{}
	n := 0
	for e := range v.Elements() {
		n++
		name := ""
		if e.Kind() == '{' {
			var id wire.Value
			if isThings && e.Fields(wire.Field{Name: spec.by, To: &id}) == nil && id != nil {
				name = words(id)
			}
			if name == "" || seen[name] {
				name = fmt.Sprintf("%s#%d", name, n)
			}
			kind := spec.kind
			if !isThings {
				kind = what
			}
			if t.kind != "" {
				name = t.name + "/" + name
			}
			one := d.thing(kind, name)
			d.walk(at+".*", "", one, e)
			if isThings && strings.HasSuffix(name, one.says[spec.by]) && !strings.Contains(name, "#") {
				delete(one.says, spec.by) // it is the name
			}
		} else if id, err := e.Text(); err == nil && strings.HasSuffix(at, "keyids") {
			name = d.keyWords(id)
			t.say(strings.TrimSuffix(what, "ids")+" "+name, "")
		} else {
			name = words(e)
			t.say(what+" "+name, "")
		}
		seen[name] = true
		order = append(order, name)
	}
	if n == 0 {
		t.say(what, "[]")
	}
	// Where a list is a set its order says nothing.
	if n > 1 && (at == "delegations.roles" || !isThings && !isSet(at)) {
		t.say("order of "+what, strings.Join(order, " "))
	}
}

// isSet reports whether the strings of a list may stand in any order.
func isSet(at string) bool {
	return slices.ContainsFunc([]string{"keyids", "paths", "path_hash_prefixes", "hosts"}, func(s string) bool { return strings.HasSuffix(at, s) })
}

func (d *document) keyWords(id string) string {
	d.used[id] = true
	if w, ok := d.keys[id]; ok {
		return w
	}
	return clean(id) + " (which is not there)"
}

// words shows a value: a string as it is where that is unmistakable, else as JSON.
func words(v wire.Value) string {
	if s, err := v.Text(); err == nil {
		if s == "" || strings.ContainsAny(s, " ,") {
			return fmt.Sprintf("%+q", s)
		}
		return clean(s)
	}
	return clean(string(v.JSON()))
}
