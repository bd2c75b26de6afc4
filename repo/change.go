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
	Headline ChangePart = "headline" // one for each file, statement and recovery statement
	Summary  ChangePart = "summary"  // members that this package knows, in its words
	Rest     ChangePart = "rest"     // every other signed member, with its path and its kind; keys with their whole ids
)

const (
	Added     ChangeKind = "added"
	Removed   ChangeKind = "removed"
	Changed   ChangeKind = "changed"
	Unchanged ChangeKind = "unchanged" // shown all the same: an expiry, and the whole id of a key
)

// String is the change as one line of at most 4 kB.
func (c Change) String() string {
	var b strings.Builder
	b.WriteString(c.Role)
	subject := strings.TrimSpace(c.What + " " + c.Name)
	if c.Part == Headline && c.What == "" {
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
	case c.Kind == Removed:
		b.WriteString(string(c.Kind))
		if c.Old != "" {
			b.WriteString(", was: " + c.Old)
		}
	case c.Kind == Unchanged:
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
