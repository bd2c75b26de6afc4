package facts

import (
	"maps"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/diff"
)

// KeyNames formats the keys of a file: by their labels, if known, and the first digits
// of their ids.
type KeyNames struct {
	labels    map[string]string     // by key id
	known     map[string]wire.Value // by key id
	prefixes  map[string]string     // first digits to the id; "" if several ids share them
	mentioned map[string]bool
}

// shortID is the number of displayed digits of an id whose first digits are unique.
const shortID = 16

// NewKeyNames collects the keys of documents.
func NewKeyNames(labels map[string]string, docs ...wire.Value) *KeyNames {
	k := &KeyNames{labels, map[string]wire.Value{}, map[string]string{}, map[string]bool{}}
	var ids func(v wire.Value)
	add := func(id string) {
		if isHex(id, 64) {
			if one, ok := k.prefixes[id[:shortID]]; ok && one != id {
				id = id[:shortID]
				k.prefixes[id] = ""
			} else {
				k.prefixes[id[:shortID]] = id
			}
		}
	}
	ids = func(v wire.Value) {
		for name, m := range v.Members() {
			add(name.String())
			ids(m)
		}
		for e := range v.Elements() {
			ids(e)
		}
		if s, err := v.Text(); err == nil {
			add(s)
		}
	}
	for _, d := range docs {
		ids(d)
		for _, keys := range []wire.Value{metafile.Member(d, "keys"), metafile.Member(metafile.Member(d, "delegations"), "keys")} {
			for id, v := range keys.Members() {
				k.known[id.String()] = v
			}
		}
	}
	return k
}

func isHex(s string, digits int) bool {
	return len(s) == digits && strings.Trim(s, "0123456789abcdef") == ""
}

// short returns the displayed form of a key id.
func (k *KeyNames) short(id string) string {
	if isHex(id, 64) && k.prefixes[id[:shortID]] == id {
		return id[:shortID]
	}
	return text.Quote(id)
}

// text returns the displayed form of a key.
func (k *KeyNames) text(id string) string {
	k.mentioned[id] = true
	out := k.short(id)
	if label, ok := k.labels[id]; ok {
		out = text.Quote(label) + " " + out
	}
	v, ok := k.known[id]
	if !ok {
		return out + " (not present)"
	}
	if scheme, err := metafile.Member(v, "scheme").Text(); err == nil {
		out = text.Name(scheme) + " " + out
	}
	if metafile.SHA256(v) != id {
		out += " (id is not the key's hash)"
	}
	return out
}

// Whole adds the full ids of the keys that the lines mention.
func (k *KeyNames) Whole(role string, lines []diff.Change) []diff.Change {
	for _, id := range slices.Sorted(maps.Keys(k.mentioned)) {
		c := diff.Change{Part: diff.PartRest, Role: role, Kind: diff.KindUnchanged, What: "key", Name: k.short(id), Fact: "id", New: text.Name(id)}
		if label, ok := k.labels[id]; ok {
			c.Note = text.Quote(label)
		}
		i := slices.IndexFunc(lines, func(l diff.Change) bool { return l.What == c.What && l.Name == c.Name && l.Fact == "" })
		switch {
		case i < 0:
			lines = append(lines, c)
		case lines[i].Kind == diff.KindAdded:
			lines[i].New, lines[i].Note = "id "+c.New+", "+lines[i].New, c.Note
		default:
			lines[i].Old, lines[i].Note = "id "+c.New+", "+lines[i].Old, c.Note
		}
	}
	return lines
}
