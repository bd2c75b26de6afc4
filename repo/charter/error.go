package charter

import (
	"fmt"

	"github.com/visum-dev/visum/internal/text"
)

// Error is the reason why a document, or a root, is refused.
type Error struct {
	Path   string // of the member, such as parties[0].min; "" for the whole document
	Line   int    // of the document, from 1; 0: an error of Marshal
	Err    error  // [tuf.ErrMalformed] or [tuf.ErrTooLarge]
	Detail string // human-readable reason
}

// Error returns a text like "charter: line 7: parties[0].min: malformed: an integer was
// expected": one line of printable ASCII of at most 4 kB, with foreign text quoted.
func (e *Error) Error() string {
	s := "charter: "
	if e.Line > 0 {
		s += fmt.Sprintf("line %d: ", e.Line)
	}
	if e.Path != "" {
		s += e.Path + ": "
	}
	return text.Line(s + e.Err.Error() + ": " + e.Detail)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
