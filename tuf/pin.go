package tuf

import (
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Pin is the file that a product embeds: a root, the review centre's keys and the
// locations of the repository. Only [OpenPin] creates one.
type Pin struct {
	root        *Root
	review      string // party name
	locations   []Location
	fingerprint string
}

// OpenPin reads a pin of at most 1 MiB. Unknown members are rejected. The pin's root
// must have the review party of the pin, with exactly the keys of the pin and at
// least its minimum. OpenPin also accepts a bare root.json without a charter; then
// Review is "" and there are no locations. opt may be nil. Errors wrap
// [ErrMalformed], [ErrTooLarge], [ErrCharter], [ErrMismatch] or the errors of
// [OpenRoot].
func OpenPin(data []byte, opt *Options) (p *Pin, err error) {
	defer func() { attach(err, data) }()
	if int64(len(data)) > 1<<20 {
		return nil, refuse("pin", 0, ErrTooLarge, "%d bytes, at most 1 MiB", len(data))
	}
	v, err := wire.Canonical(data)
	if err != nil {
		return nil, malformed("pin", 0, err)
	}
	if isRoot(v) {
		return openBareRoot(data, opt)
	}
	if p, err = parsePin(v, opt); err != nil {
		return nil, err
	}
	p.fingerprint = hexSum256(v)
	return p, nil
}

func isRoot(v wire.Value) bool {
	var signed wire.Value
	return v.Fields(wire.Field{Name: "signed", To: &signed}) == nil && signed != nil
}

func openBareRoot(data []byte, opt *Options) (*Pin, error) {
	root, err := OpenRoot(data, opt)
	if err != nil {
		return nil, err
	}
	if root.charter != nil {
		return nil, refuse("pin", 0, ErrMalformed, "a root with a charter is no pin: it has no review keys")
	}
	return &Pin{root: root, fingerprint: root.SHA256()}, nil
}

func parsePin(v wire.Value, opt *Options) (*Pin, error) {
	var r reader
	var schema, repoID, root, review, locations, party, min, keys wire.Value
	r.closed(v, "the pin", wire.Field{Name: "schema", To: &schema}, wire.Field{Name: "repo_id", To: &repoID}, wire.Field{Name: "root", To: &root},
		wire.Field{Name: "review", To: &review}, wire.Field{Name: "locations", To: &locations})
	r.closed(review, "review", wire.Field{Name: "party", To: &party}, wire.Field{Name: "min", To: &min}, wire.Field{Name: "keys", To: &keys})
	if n := r.int(schema); n != 1 {
		r.fail("pin schema is %d, want 1", n)
	}
	id, name, least := r.text(repoID), r.text(party), r.int(min)
	var pinned []Key
	r.list(keys, "review keys", 64, func(e wire.Value) {
		var typ, scheme, val, public wire.Value
		r.closed(e, "a review key", wire.Field{Name: "keytype", To: &typ}, wire.Field{Name: "scheme", To: &scheme}, wire.Field{Name: "keyval", To: &val})
		r.closed(val, "a review key's value", wire.Field{Name: "public", To: &public})
		pinned = append(pinned, Key{r.text(typ), r.text(scheme), r.text(public)})
	})
	r.list(locations, "locations", maxLocations, func(e wire.Value) {
		var x wire.Value
		var paths wire.Value
		f := func(name string) wire.Field { return wire.Field{Name: name, To: &x} }
		r.closed(e, "a location", f("id"), f("tier"), f("operator"), f("jurisdiction"), f("base"), f("priority"), f("use_from"), f("use_until"),
			wire.Field{Name: "paths", To: &paths})
		r.closed(paths, "a location's paths", f("metadata"), f("targets"))
	})
	locs := r.locations(locations)
	if r.err != nil {
		return nil, malformed("pin", 0, r.err)
	}
	opened, err := OpenRoot(root.JSON(), opt)
	if err != nil {
		return nil, err
	}
	p := &Pin{root: opened, review: name, locations: locs}
	return p, p.check(id, least, pinned)
}

// check compares the pin with its own root.
func (p *Pin) check(repoID string, least int64, pinned []Key) error {
	c := p.root.charter
	if c == nil {
		return refuse("pin", 0, ErrCharter, "its root has no charter")
	}
	if repoID != c.repoID {
		return refuse("pin", 0, ErrMismatch, "repo_id is %s, in its root %s", text.Quote(repoID), c.repoID)
	}
	party := c.party(p.review)
	if party == nil {
		return refuse("pin", 0, ErrCharter, "its root has no party %s", text.Quote(p.review))
	}
	if least < 1 || int64(party.Min) < least {
		return refuse("pin", 0, ErrCharter, "party %s must sign with at least %d keys, in its root with %d", p.review, least, party.Min)
	}
	var want, have []string
	for _, id := range party.KeyIDs {
		want = append(want, p.root.keys[id].fingerprint)
	}
	for _, k := range pinned {
		fp, err := k.Fingerprint()
		if err != nil {
			return malformed("pin", 0, err)
		}
		have = append(have, fp)
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(want, have) {
		return refuse("pin", 0, ErrCharter, "the keys of party %s are not those of its root", p.review)
	}
	// The locations of a pin obey the same rules as those of a charter (H4 to H6).
	ids := map[string]bool{}
	for _, l := range p.locations {
		if rule, why := p.root.opt.locationFault(l, ids); rule != "" {
			return refuse("pin", 0, ErrCharter, "%s: %s", rule, why)
		}
	}
	if n, want := Operators(p.locations), min(2, c.probe.MinOperators); n < want {
		return refuse("pin", 0, ErrCharter, "locations of %d operators by name and host, want at least %d", n, want)
	}
	return nil
}

// closed reads an object and rejects members that are not in fields.
func (r *reader) closed(v wire.Value, what string, fields ...wire.Field) {
	r.fields(v, fields...)
	if r.err != nil {
		return
	}
	for name := range v.Members() {
		if !slices.ContainsFunc(fields, func(f wire.Field) bool { return f.Name == string(name) }) {
			r.fail("%s has an unknown member %s", what, text.Bytes(name))
		}
	}
}

// Root returns the root that the pin holds.
func (p *Pin) Root() *Root { return p.root }

// Review is the name of the review party, "" for a bare root.
func (p *Pin) Review() string { return p.review }

// Locations returns a copy of the pin's locations, in order of priority.
func (p *Pin) Locations() []Location { return slices.Clone(p.locations) }

// Fingerprint is the sha256 of the pin's canonical form, in hex. A product can show
// it for comparison with the value that the review centre publishes. For a bare
// root it is [Root.SHA256].
func (p *Pin) Fingerprint() string { return p.fingerprint }
