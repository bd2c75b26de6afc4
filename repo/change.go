package repo

import (
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// Change is one line of a diff. All its strings may be written to a terminal:
// they are printable ASCII. What stands in metadata is quoted, unless it is a
// plain token such as agent/1.0; only words of this package stand free. Of a
// string of more than 200 characters the first ones are shown, with the length
// and the sha256 of the whole.
type Change struct {
	Part ChangePart
	Role string // of the metadata file; for lists below a party's role, that role
	Kind ChangeKind
	What string // kind of the thing, such as release, location, party, class; "" for the file itself
	Name string // of the thing: path, id, name; in the headline of a file its version, as in v2
	Fact string // what of it changed; "" where the thing itself comes or goes. In the rest: the path, a list of quoted names
	Old  string // "" where there was nothing
	New  string // "" where there is nothing any more
	Note string // what else there is to know, such as what the other party lists
}

// ChangeKind is what happens to a thing.
type ChangeKind string

// ChangePart is the part of a diff that a [Change] belongs to.
type ChangePart string

const (
	PartHeadline ChangePart = "headline" // one for each file, statement and recovery statement
	PartSummary  ChangePart = "summary"  // members that this package knows, in its words
	PartRest     ChangePart = "rest"     // every other signed member, with its path and its kind; keys with their whole ids
)

const (
	KindAdded     ChangeKind = "added"
	KindRemoved   ChangeKind = "removed"
	KindChanged   ChangeKind = "changed"
	KindUnchanged ChangeKind = "unchanged" // shown all the same: an expiry, and the whole id of a key
)

// String is the change as one line of at most 4 kB.
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
