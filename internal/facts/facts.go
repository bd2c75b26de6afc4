// Package facts describes the differences of two documents as facts that a person reads:
// members with known meaning in words, and every other member with its path.
package facts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
)

// Two documents are compared member by member. Each difference is reported once, at the
// member where it occurs. Members that a shape describes go to the summary, under names
// that this package chooses. All other members go to the rest, with path and JSON type.
//
// Invariant, which a fuzz target checks: the old document and the changes determine the
// new document, so two different new documents never have the same changes.

// Shape describes a known member.
type Shape struct {
	kind byte              // JSON type of its value: one of " 0 t { [
	in   map[string]*Shape // the members of an object
	// thing says that every member of an object, or every element of a list, has a
	// name: that of the member, or for a list the value of the element's member by.
	thing string
	all   *Shape
	by    [2]string // the second may be "": one member names an element
	set   string    // of a list of strings: the word for one of them
	keys  bool      // those strings are key ids
	rest  bool      // such things, for example keys, are shown in the rest
	each  string    // of an object with arbitrary member names: the word for one member
}

var (
	words  = &Shape{kind: '"'}
	truth  = &Shape{kind: 't'}
	keyIDs = &Shape{kind: '[', set: "key", keys: true}
)

// SequenceFact precedes the product's name in the name of a highest sequence number.
const SequenceFact = "highest sequence number of product"

func object(in map[string]*Shape) *Shape { return &Shape{kind: '{', in: in} }

// only is the shape of an object that is a thing by itself.
func only(thing string, in map[string]*Shape) *Shape {
	return &Shape{kind: '{', in: in, thing: thing}
}

func things(thing, by string, in map[string]*Shape) *Shape {
	return &Shape{kind: '[', thing: thing, by: [2]string{by}, all: object(in)}
}

func set(word string) *Shape { return &Shape{kind: '[', set: word} }

var keyShape = &Shape{kind: '{', thing: "key", rest: true, all: object(map[string]*Shape{
	"keytype": words, "scheme": words, "keyval": object(map[string]*Shape{"public": words})})}

var roleShape = object(map[string]*Shape{"keyids": keyIDs, "threshold": number})

var charterShape = object(map[string]*Shape{
	"repo_id": words, "seq": number, "epoch": number, "signed_at": words,
	"parties": things("party", "name", map[string]*Shape{"keyids": keyIDs, "min": number}),
	"classes": things("class", "name", map[string]*Shape{"prefix": words,
		"roles": things("release role", "role", map[string]*Shape{"party": words, "keyids": keyIDs, "threshold": number}),
		"hold":  only("hold", map[string]*Shape{"role": words, "keyids": keyIDs, "threshold": number, "max_seconds": number}),
	}),
	"floors": object(map[string]*Shape{"timestamp": number, "snapshot": number, "targets": number}),
	"probe":  only("probe", map[string]*Shape{"min_operators": number, "every_seconds": number, "max_age_seconds": number, "mode": words}),
	"locations": things("location", "id", map[string]*Shape{"tier": words, "operator": words, "jurisdiction": words, "base": words, "priority": number,
		"use_from": words, "use_until": words, "paths": object(map[string]*Shape{"metadata": words, "targets": words})}),
	"retired": things("retired location", "id", map[string]*Shape{"hosts": set("host")}),
	"recovery": only("recovery", map[string]*Shape{"keyids": keyIDs, "threshold": number, "min_orgs": number, "hold_seconds": number, "min_ticks": number, "counter": number,
		"orgs": things("recovery organisation", "name", map[string]*Shape{"keyids": keyIDs})}),
})

// DocumentShapes holds the shapes of signed parts by role; "" is every targets role.
var DocumentShapes = map[string]*Shape{
	"root": object(map[string]*Shape{"keys": keyShape, "roles": {kind: '{', thing: "role", all: roleShape}, layout.CharterMember: charterShape}),
	RecoveryRole: object(map[string]*Shape{"repo_id": words, "reason": words,
		"tip":  object(map[string]*Shape{"version": number, "sha256": words}),
		"root": object(map[string]*Shape{"version": number, "sha256": words})}),
	"": object(map[string]*Shape{
		"delegations": object(map[string]*Shape{"keys": keyShape,
			"roles": things("delegated role", "name", map[string]*Shape{"keyids": keyIDs, "threshold": number, "terminating": truth,
				"paths": set("path"), "path_hash_prefixes": set("hash prefix")}),
			"succinct_roles": only("hash bins", map[string]*Shape{"keyids": keyIDs, "threshold": number, "bit_length": number, "name_prefix": words})}),
		layout.RecallMember:   {kind: '[', thing: "recall", by: [2]string{"path", "sha256"}, all: object(map[string]*Shape{"reason": words, "at": words})},
		layout.SequenceMember: {kind: '{', each: SequenceFact, all: number},
	}),
}

// EntryShape is the shape of a listed target, for releases and holds.
var EntryShape = object(map[string]*Shape{"length": number, "hashes": object(map[string]*Shape{"sha256": words, "sha512": words}),
	"custom": object(map[string]*Shape{layout.ReleaseMember: object(map[string]*Shape{
		"product": words, "version": words, "channel": words, "platform": words, "sequence": number, "min_version": words, "return_floor": words, "notes": words, "critical": truth,
		"source": object(map[string]*Shape{"uri": words, "revision": words}), "rollout": object(map[string]*Shape{"percent": number}),
		"reason": words, "at": words, "until": words})})})

// StatementShape is the shape of a statement's payload.
var StatementShape = object(map[string]*Shape{"predicate": object(map[string]*Shape{
	"repo_id": words, "length": number, "from": words, "until": words, "reason": words, "at": words,
	"source":   object(map[string]*Shape{"uri": words, "revision": words}),
	"rebuild":  object(map[string]*Shape{"result": words, "builder": words}),
	"reviewer": object(map[string]*Shape{"party": words, "role": words, "name": words}),
	"policy":   object(map[string]*Shape{"sha256": words})})})

// prefixes are omitted from the names of facts, which are clear without them.
var prefixes = []string{"hashes.", "custom." + layout.ReleaseMember + ".", layout.CharterMember + ".", "keyval.", "delegations."}

// fits reports whether a value matches the shape; nil, an absent value, matches.
func (s *Shape) fits(v wire.Value) bool {
	k := v.Kind()
	switch {
	case v == nil:
		return true
	case s.kind == '0':
		return k == '-' || k >= '0' && k <= '9'
	case s.kind == 't':
		return k == 't' || k == 'f'
	case k != s.kind:
		return false
	case k != '[':
		return true
	}
	seen := map[[2]string]bool{}
	for e := range v.Elements() {
		name, ok := s.nameOf(e)
		if !ok || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// nameOf returns the name of a list's element.
func (s *Shape) nameOf(e wire.Value) (name [2]string, ok bool) {
	if s.set != "" {
		t, err := e.Text()
		return [2]string{t}, err == nil
	}
	for i, by := range s.by {
		if by == "" {
			continue
		}
		t, err := metafile.Member(e, by).Text()
		if err != nil {
			return name, false
		}
		name[i] = t
	}
	return name, true
}

// Facts collects the changes between two documents.
type Facts struct {
	Role string // as displayed
	Out  []diff.Change
	Keys *KeyNames
}

// At is the position of a value: for the summary the thing and the name of the fact,
// for the rest the path.
type At struct {
	Path  string
	Thing string
	Name  string
	fact  string
	Rest  bool
}

func (a At) member(name string, known bool) At {
	a.Path = strings.TrimPrefix(a.Path+" "+text.Quote(name), " ")
	if known {
		a.fact = strings.TrimPrefix(a.fact+"."+name, ".")
		for _, p := range prefixes {
			a.fact = strings.TrimPrefix(a.fact, p)
		}
	}
	return a
}

// inside returns the position of a nested thing, which shows the names of both things.
func (a At) inside(thing, name string, rest bool) At {
	outer := ""
	if a.Thing != "" {
		outer = strings.TrimSpace("of " + a.Thing + " " + a.Name)
	}
	return At{Path: a.Path, Thing: thing, Name: strings.TrimSpace(name + " " + outer), Rest: a.Rest || rest}
}

// Compare adds the differences between a and b; nil is an absent value.
func (x *Facts) Compare(p At, s *Shape, a, b wire.Value) {
	if string(a) == string(b) && (a == nil) == (b == nil) {
		return
	}
	if s != nil && !(s.fits(a) && s.fits(b)) {
		s = nil // a value that does not fit its shape is shown verbatim
	}
	if s != nil && s.thing != "" && s.all == nil { // an object that is one thing
		inner := p.inside(s.thing, "", s.rest)
		x.AsObject(inner, a, b, func() { x.within(inner, object(s.in), a, b) })
		return
	}
	x.within(p, s, a, b)
}

func filled(v wire.Value) byte {
	if k := v.Kind(); (k == '{' || k == '[') && len(v) > 2 {
		return k
	}
	return 0
}

// within compares the members or elements of a and b.
func (x *Facts) within(p At, s *Shape, a, b wire.Value) {
	ka, kb := filled(a), filled(b)
	switch {
	case ka == 0 && kb == 0:
		x.leaf(p, s, a, b)
	case ka == kb && ka == '{':
		x.Members(p, s, a, b)
	case ka == kb:
		x.elements(p, s, a, b)
	default: // an empty or absent side is shown as a value
		x.alone(p, s, a, true)
		x.alone(p, s, b, false)
	}
}

func (x *Facts) alone(p At, s *Shape, v wire.Value, old bool) {
	a, b := v, wire.Value(nil)
	if !old {
		a, b = b, a
	}
	switch {
	case filled(v) == '{':
		x.Members(p, s, a, b)
	case filled(v) == '[':
		x.elements(p, s, a, b)
	case v != nil:
		x.leaf(p, s, a, b)
	}
}

type pair struct{ a, b wire.Value }

// Members adds the differences of the members of two objects.
func (x *Facts) Members(p At, s *Shape, a, b wire.Value) {
	all := map[string]pair{}
	for name, v := range a.Members() {
		all[name.String()] = pair{a: v}
	}
	for name, v := range b.Members() {
		n := name.String()
		all[n] = pair{all[n].a, v}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		switch {
		case string(m.a) == string(m.b):
		case s != nil && s.each != "":
			next := p.member(name, false)
			next.fact = s.each + " " + text.Name(name)
			x.Compare(next, s.all, m.a, m.b)
		case s != nil && s.all != nil:
			next := p.member(name, false)
			next = next.inside(s.thing, x.thingName(s, name), s.rest)
			x.AsObject(next, m.a, m.b, func() { x.Compare(next, s.all, m.a, m.b) })
		case s != nil && s.in[name] != nil:
			x.Compare(p.member(name, true), s.in[name], m.a, m.b)
		default:
			x.Compare(p.member(name, false), nil, m.a, m.b)
		}
	}
}

// thingName returns the displayed name of a thing; for a key, its short id.
func (x *Facts) thingName(s *Shape, name string) string {
	if s.rest {
		x.Keys.mentioned[name] = true
		return x.Keys.short(name)
	}
	return text.Name(name)
}

func (x *Facts) elements(p At, s *Shape, a, b wire.Value) {
	if s == nil {
		was, now := slices.Collect(a.Elements()), slices.Collect(b.Elements())
		for i := range max(len(was), len(now)) {
			var m pair
			if i < len(was) {
				m.a = was[i]
			}
			if i < len(now) {
				m.b = now[i]
			}
			x.Compare(p.index(i), nil, m.a, m.b)
		}
		return
	}
	all := map[[2]string]pair{}
	var was, now [][2]string
	for e := range a.Elements() {
		name, _ := s.nameOf(e)
		all[name], was = pair{a: e}, append(was, name)
	}
	for e := range b.Elements() {
		name, _ := s.nameOf(e)
		all[name], now = pair{all[name].a, e}, append(now, name)
	}
	order := func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }
	for _, name := range slices.SortedFunc(maps.Keys(all), order) {
		m := all[name]
		switch {
		case s.set == "":
			x.named(p, s, name, m)
		case m.a == nil || m.b == nil:
			x.element(p, s, name[0], m)
		}
	}
	// The order needs no report if the remaining elements keep their order and the
	// added elements follow, sorted.
	implied := slices.DeleteFunc(slices.Clone(was), func(n [2]string) bool { return all[n].b == nil })
	fresh := slices.DeleteFunc(slices.Clone(now), func(n [2]string) bool { return all[n].a != nil })
	slices.SortFunc(fresh, order)
	if implied = append(implied, fresh...); !slices.Equal(implied, now) {
		var names []string
		for _, n := range now {
			names = append(names, s.shown(n))
		}
		x.Out = append(x.Out, diff.Change{Part: diff.PartRest, Role: x.Role, Kind: diff.KindChanged, Fact: text.Line(p.Path + " order"), New: text.Line(strings.Join(names, " "))})
	}
}

// shown returns the displayed name of an element.
func (s *Shape) shown(name [2]string) string {
	if s.by[1] == "" {
		return text.Name(name[0])
	}
	return fmt.Sprintf("%s %s %s", text.Name(name[0]), s.by[1], text.Name(name[1]))
}

// named compares two list elements with the same name.
func (x *Facts) named(p At, s *Shape, name [2]string, m pair) {
	next := p
	next.Path = fmt.Sprintf("%s [%s %s", p.Path, s.by[0], text.Quote(name[0]))
	if s.by[1] != "" {
		next.Path += fmt.Sprintf(" %s %s", s.by[1], text.Quote(name[1]))
	}
	next.Path += "]"
	next = next.inside(s.thing, s.shown(name), s.rest)
	x.AsObject(next, m.a, m.b, func() { x.Compare(next, s.all, metafile.Without(m.a, s.by[:]...), metafile.Without(m.b, s.by[:]...)) })
}

func (a At) index(n int) At {
	a.Path = fmt.Sprintf("%s [%d]", a.Path, n)
	return a
}

// element reports an added or removed string of a set.
func (x *Facts) element(p At, s *Shape, name string, m pair) {
	c := diff.Change{Part: diff.PartSummary, Role: x.Role, What: p.Thing, Name: p.Name, Kind: diff.KindAdded, Fact: strings.TrimSpace(s.set + " " + text.Name(name))}
	if s.keys {
		c.Fact = s.set + " " + x.Keys.text(name)
	}
	if m.b == nil {
		c.Kind = diff.KindRemoved
	}
	if p.Rest {
		c.Part = diff.PartRest
	}
	x.Out = append(x.Out, c)
}

// leaf compares values without members or elements.
func (x *Facts) leaf(p At, s *Shape, a, b wire.Value) {
	c := diff.Change{Part: diff.PartSummary, Role: x.Role, What: p.Thing, Name: p.Name, Kind: diff.KindChanged, Fact: p.fact}
	show := knownText
	if s == nil || filled(a) != 0 || filled(b) != 0 || s.kind == '{' || s.kind == '[' {
		c = diff.Change{Part: diff.PartRest, Role: x.Role, Kind: diff.KindChanged, Fact: text.Line(p.Path)}
		show = kindText
	}
	if p.Rest {
		c.Part = diff.PartRest
	}
	if a == nil {
		c.Kind = diff.KindAdded
	} else {
		c.Old = show(a)
	}
	if b == nil {
		c.Kind = diff.KindRemoved
	} else {
		c.New = show(b)
	}
	x.Out = append(x.Out, c)
}

// knownText formats a value whose JSON type follows from its name.
func knownText(v wire.Value) string {
	s, err := v.Text()
	if err != nil {
		return plainNumber(v)
	}
	return wordText(s)
}

// wordText formats a string: a metadata time verbatim, all else as a name.
func wordText(s string) string {
	if t, err := time.Parse("2006-01-02T15:04:05Z", s); err == nil && text.Time(t) == s {
		return s
	}
	return text.Name(s)
}

func plainNumber(v wire.Value) string {
	if len(v) > 40 {
		return text.Bytes(v)
	}
	return string(v)
}

// kindText formats a value with its JSON type.
func kindText(v wire.Value) string {
	switch v.Kind() {
	case '"':
		s, _ := v.Text()
		return "string " + text.Quote(s)
	case 't', 'f':
		return "boolean " + string(v)
	case 'n':
		return "null"
	case '{':
		return "empty object"
	case '[':
		return "empty list"
	}
	return "integer " + plainNumber(v)
}

// mergeMost is the maximum length in bytes of the facts of one thing in one line.
const mergeMost = 2000

// AsObject compares a thing. It reports an added or removed thing in one line.
func (x *Facts) AsObject(p At, a, b wire.Value, compare func()) {
	n := len(x.Out)
	compare()
	if a != nil && b != nil || a == nil && b == nil {
		return
	}
	c := diff.Change{Part: diff.PartSummary, Role: x.Role, What: p.Thing, Name: p.Name, Kind: diff.KindAdded}
	if p.Rest {
		c.Part = diff.PartRest
	}
	var all []string
	size := 0
	mine := func(y diff.Change) bool { return y.What == p.Thing && y.Name == p.Name && y.Fact != "" && y.What != "" }
	for _, y := range x.Out[n:] {
		if mine(y) {
			fact := strings.TrimSpace(y.Fact + " " + y.Old + y.New)
			all, size = append(all, fact), size+len(fact)
		}
	}
	if size <= mergeMost {
		x.Out = append(x.Out[:n], slices.DeleteFunc(slices.Clone(x.Out[n:]), mine)...)
	} else {
		all = []string{"see below"}
	}
	slices.Sort(all)
	c.New = strings.Join(all, ", ")
	if b == nil {
		c.Kind, c.Old, c.New = diff.KindRemoved, c.New, ""
	}
	x.Out = slices.Insert(x.Out, n, c)
}

var number = &Shape{kind: '0'}

// DateText returns the expiry of a signed part.
func DateText(signed wire.Value) string {
	s, err := metafile.Member(signed, "expires").Text()
	if err != nil {
		return kindText(metafile.Member(signed, "expires"))
	}
	return wordText(s)
}

// RecoveryRole is the name of a recovery statement as a part of a draft. Role names have
// no spaces, so it can't collide.
const RecoveryRole = "recovery statement"
