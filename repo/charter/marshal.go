package charter

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Marshal writes the document of a root, such as that of [repo.Tx.Root], in canonical
// form, with a line break at the end. labels name keys by their ids, as in
// [repo.Config].Labels; nil: none. A label that is not usable, or that two keys have, is
// left out.
//
// Defaults are written as values. Marshal reads its own document before it returns it. So
// a root that a document can't state is an [*Error] without a line: with a key that can't
// be used, with a time or a duration that is not in whole seconds, with a negative number,
// or with text that is not UTF-8. Whether [repo.Tx.RenewRoot] was called is not a part of
// the document.
func Marshal(root repo.Root, labels map[string]string) ([]byte, error) {
	r := filled(root)
	w := &writer{names: namesOf(r, labels)}
	data := w.document(r)
	again, _, err := Parse(data)
	if err != nil {
		if e, ok := err.(*Error); ok {
			e.Line = 0
		}
		return nil, err
	}
	if !reflect.DeepEqual(again, r) {
		return nil, failAt("", 0, "the root has a value that the document can't state: a fraction of a second, or text that is not UTF-8")
	}
	return data, nil
}

// keysOf returns the keys of a root, each once, in the order of the document.
func keysOf(r repo.Root) (out []tuf.Key) {
	seen := map[tuf.Key]bool{}
	add := func(keys []tuf.Key) {
		for _, k := range keys {
			if !seen[k] {
				seen[k] = true
				out = append(out, k)
			}
		}
	}
	for _, p := range r.Parties {
		add(p.Keys)
	}
	add(r.Timestamp.Keys)
	add(r.Snapshot.Keys)
	add(r.Targets.Keys)
	for _, c := range r.Classes {
		for _, role := range c.Roles {
			add(role.Keys.Keys)
		}
		if c.Hold != nil {
			add(c.Hold.Keys.Keys)
		}
	}
	if r.Recovery != nil {
		for _, o := range r.Recovery.Orgs {
			add(o.Keys)
		}
	}
	return out
}

// names has the label of each key of a root, and the keys in order.
type names struct {
	keys  []tuf.Key
	label map[tuf.Key]string
}

func namesOf(r repo.Root, labels map[string]string) names {
	n := names{keysOf(r), map[tuf.Key]string{}}
	ids := map[tuf.Key]string{}
	count := map[string]int{} // keys that would have a label
	for _, k := range n.keys {
		ids[k] = k.ID()
		if l := labels[ids[k]]; l != "" {
			count[l]++
		}
		count[generated+ids[k][:16]]++
	}
	for _, k := range n.keys {
		l, short := labels[ids[k]], generated+ids[k][:16]
		switch {
		case usable(l, ids[k]) && count[l] == 1 && !strings.HasPrefix(l, generated):
			n.label[k] = l
		case count[short] == 1:
			n.label[k] = short
		default: // two ids begin with the same 16 digits
			n.label[k] = generated + ids[k]
		}
	}
	return n
}

// writer writes a document: one member or element for each line, short lists in one.
type writer struct {
	names
	out    bytes.Buffer
	indent int
}

// field is a member to write; to writes its value.
type field struct {
	name string
	to   func()
}

func (w *writer) line() {
	w.out.WriteByte('\n')
	w.out.WriteString(strings.Repeat("  ", w.indent))
}

// block writes an object or an array over several lines.
func (w *writer) block(open, end byte, n int, each func(i int)) {
	w.out.WriteByte(open)
	w.indent++
	for i := range n {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.line()
		each(i)
	}
	w.indent--
	if n > 0 {
		w.line()
	}
	w.out.WriteByte(end)
}

func (w *writer) object(fields ...field) {
	w.block('{', '}', len(fields), func(i int) {
		w.value(fields[i].name)
		w.out.WriteString(": ")
		fields[i].to()
	})
}

func list[T any](w *writer, all []T, each func(T)) func() {
	return func() { w.block('[', ']', len(all), func(i int) { each(all[i]) }) }
}

// value writes a string, a number or a boolean.
func (w *writer) value(v any) {
	enc := json.NewEncoder(&w.out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil { // these kinds can't fail
		w.out.WriteString("null")
		return
	}
	w.out.Truncate(w.out.Len() - 1) // the encoder's line break
}

func (w *writer) is(name string, v any) field { return field{name, func() { w.value(v) }} }

// seconds writes a duration without the fraction of a second, which Marshal then misses.
func (w *writer) seconds(name string, d time.Duration) field { return w.is(name, int64(d/time.Second)) }

// short writes a list of strings in one line.
func (w *writer) short(name string, all []string) field {
	return field{name, func() {
		w.out.WriteByte('[')
		for i, s := range all {
			if i > 0 {
				w.out.WriteString(", ")
			}
			w.value(s)
		}
		w.out.WriteByte(']')
	}}
}

func (w *writer) labels(keys []tuf.Key) field {
	var all []string
	for _, k := range keys {
		all = append(all, w.label[k])
	}
	return w.short("keys", all)
}

func (w *writer) role(k repo.Keys) []field {
	return []field{w.labels(k.Keys), w.is("threshold", k.Threshold)}
}

// key writes a key in one line, in the form of metadata.
func (w *writer) key(k tuf.Key) {
	for _, part := range []struct{ before, value string }{{`{"keytype": `, k.Type}, {`, "scheme": `, k.Scheme}, {`, "keyval": {"public": `, k.Public}} {
		w.out.WriteString(part.before)
		w.value(part.value)
	}
	w.out.WriteString("}}")
}

func (w *writer) document(r repo.Root) []byte {
	fields := []field{w.is(document, 1)}
	if r.RepoID != "" {
		fields = append(fields, w.is("repo_id", r.RepoID))
	}
	var keys []field
	for _, k := range w.keys {
		keys = append(keys, field{w.label[k], func() { w.key(k) }})
	}
	top := func(name string, k repo.Keys) field { return field{name, func() { w.object(w.role(k)...) }} }
	fields = append(fields,
		field{"keys", func() { w.object(keys...) }},
		field{"parties", list(w, r.Parties, func(p repo.Party) { w.object(w.is("name", p.Name), w.labels(p.Keys), w.is("min", p.Min)) })},
		field{"roles", func() {
			w.object(top("timestamp", r.Timestamp), top("snapshot", r.Snapshot), top("targets", r.Targets))
		}},
		field{"classes", list(w, r.Classes, w.class)},
		field{"locations", list(w, r.Locations, w.location)},
		field{"retired", list(w, r.Retired, func(x tuf.Retired) { w.object(w.is("id", x.ID), w.short("hosts", x.Hosts)) })},
		field{"probe", func() { w.probe(r.Probe) }})
	if r.Recovery != nil {
		fields = append(fields, field{"recovery", func() { w.recovery(*r.Recovery) }})
	}
	w.object(fields...)
	w.out.WriteByte('\n')
	return w.out.Bytes()
}

func (w *writer) class(c repo.Class) {
	fields := []field{w.is("name", c.Name), w.is("prefix", c.Prefix), {"roles", list(w, c.Roles, func(x repo.ReleaseRole) {
		w.object(append([]field{w.is("party", x.Party), w.is("role", x.Role)}, w.role(x.Keys)...)...)
	})}}
	if h := c.Hold; h != nil {
		fields = append(fields, field{"hold", func() {
			w.object(append(append([]field{w.is("role", h.Role)}, w.role(h.Keys)...), w.seconds("max_seconds", h.Max))...)
		}})
	}
	w.object(append(fields, w.is("hash_bins", c.HashBins))...)
}

func (w *writer) location(l tuf.Location) {
	fields := []field{w.is("id", l.ID), w.is("tier", l.Tier), w.is("operator", l.Operator)}
	if l.Jurisdiction != "" {
		fields = append(fields, w.is("jurisdiction", l.Jurisdiction))
	}
	paths := []field{w.is("metadata", l.Metadata)}
	if l.Targets != "" {
		paths = append(paths, w.is("targets", l.Targets))
	}
	fields = append(fields, w.is("base", l.Base), field{"paths", func() { w.object(paths...) }}, w.is("priority", l.Priority))
	if !l.UseFrom.IsZero() {
		fields = append(fields, w.is("use_from", text.Time(l.UseFrom)))
	}
	if !l.UseUntil.IsZero() {
		fields = append(fields, w.is("use_until", text.Time(l.UseUntil)))
	}
	w.object(fields...)
}

func (w *writer) probe(p tuf.Probe) {
	mode := "warn"
	if p.Enforce {
		mode = "enforce"
	}
	w.object(w.is("min_operators", p.MinOperators), w.seconds("every_seconds", p.Every), w.seconds("max_age_seconds", p.MaxAge), w.is("mode", mode))
}

func (w *writer) recovery(x repo.RecoveryRule) {
	w.object(field{"orgs", list(w, x.Orgs, func(o repo.Org) { w.object(w.is("name", o.Name), w.labels(o.Keys)) })},
		w.is("threshold", x.Threshold), w.is("min_orgs", x.MinOrgs), w.seconds("hold_seconds", x.Hold), w.is("min_ticks", x.MinTicks), w.is("counter", x.Counter))
}
