package diff

import (
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// Change is one line of a diff. All its strings are printable ASCII and safe to write to
// a terminal. Strings from metadata are quoted, unless they are simple tokens such as
// agent/1.0, so they can't be confused with words of this package. A string of more than
// 200 characters is truncated, with its length and sha256 appended.
type Change struct {
	Part Part   `json:"part"`           // of the diff
	Role string `json:"role"`           // of the metadata file; for lists below a party's role, that role
	Kind Kind   `json:"kind"`           // type of the change
	What string `json:"what,omitempty"` // type of the changed object, such as release, location, party, class; "" for the file itself
	Name string `json:"name,omitempty"` // of the object: path, id, name; in the headline of a file its version, as in v2
	Fact string `json:"fact,omitempty"` // the changed member; "" if the object itself is added or removed. In the rest: the path, a list of quoted names
	Old  string `json:"old,omitempty"`  // "" if there was no value
	New  string `json:"new,omitempty"`  // "" if there is no value any more
	Note string `json:"note,omitempty"` // additional information, such as the listing of the other party
}

// Kind is the type of a change.
type Kind string

// Part is the part of a diff that a [Change] belongs to.
type Part string

// The parts of a diff.
const (
	PartHeadline Part = "headline" // one for each file, statement and recovery statement
	PartSummary  Part = "summary"  // members that this package knows, in human-readable form
	PartRest     Part = "rest"     // every other signed member, with its path and JSON type; keys with their full ids
)

// The types of changes.
const (
	KindAdded     Kind = "added"     // Old is ""
	KindRemoved   Kind = "removed"   // New is ""
	KindChanged   Kind = "changed"   // from Old to New
	KindUnchanged Kind = "unchanged" // always shown: an expiry, and the full id of a key
)

// String returns the change as one line of at most 4 kB.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Role)
	subject := strings.TrimSpace(c.What + " " + c.Name)
	if c.Part == PartHeadline && c.What == "" {
		b.WriteString(" " + c.Name + ": " + c.New)
		subject, c.Kind, c.New = "", "", ""
	} else {
		b.WriteString(": ")
	}
	if subject != "" && c.Fact != "" {
		subject += ": "
	}
	if subject += c.Fact; subject != "" {
		subject += " "
	}
	b.WriteString(subject)
	switch {
	case c.Kind == "":
	case c.Fact != "" && c.Old != "" && c.New != "":
		b.WriteString(c.Old + " -> " + c.New)
	case c.Kind == KindRemoved:
		b.WriteString(string(c.Kind))
		if c.Old != "" {
			b.WriteString(", was: " + c.Old)
		}
	case c.Kind == KindUnchanged:
		b.WriteString(c.New)
	default:
		b.WriteString(string(c.Kind))
		if c.New != "" {
			b.WriteString(": " + c.New)
		}
	}
	if c.Note != "" {
		b.WriteString(" (" + c.Note + ")")
	}
	return text.Line(b.String())
}
