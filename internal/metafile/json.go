package metafile

import (
	"encoding/json"
	"slices"

	"github.com/visum-dev/visum/internal/wire"
)

// Member returns a member of an object, or nil if there is none.
func Member(v wire.Value, name string) wire.Value {
	for n, m := range v.Members() {
		if n.Compare(name) == 0 {
			return m
		}
	}
	return nil
}

// Canonical returns the canonical JSON form of v.
func Canonical(v any) (wire.Value, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return wire.Canonical(data)
}

// Text returns a string in canonical JSON form.
func Text(s string) wire.Value { return wire.AppendString(nil, s) }

// Without returns an object without the named members; nil stays nil.
func Without(v wire.Value, names ...string) wire.Value {
	if v == nil {
		return nil
	}
	out := wire.Value{'{'}
	for n, m := range v.Members() {
		if slices.ContainsFunc(names, func(s string) bool { return n.Compare(s) == 0 }) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), n...), '"', ':'), m...)
	}
	return append(out, '}')
}
