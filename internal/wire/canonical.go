// Package wire parses the JSON of TUF metadata strictly and in one pass.
//
// [Canonical] takes arbitrary bytes and returns their canonical form (OLPC
// canonical JSON, the form that TUF signatures cover), or an error. All metadata is
// decoded from the canonical form, so the verified and the decoded bytes are the
// same. Canonical input is not copied.
//
// The parser is stricter than encoding/json: no duplicate member names, only valid
// UTF-8 and paired surrogates, only integers (no fraction, exponent or "-0"),
// bounded depth, no data after the end.
//
// Metadata is parsed before its signatures can be checked, so the cost of parsing
// is bounded: see [MaxDepth], [MaxUnsorted] and [MaxMoved].
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
)

// ErrSyntax is the parent of every error of this package.
var ErrSyntax = errors.New("malformed JSON")

// MaxDepth bounds the nesting of arrays and objects. TUF metadata needs 7.
const MaxDepth = 64

// Members out of canonical order must be sorted, the only work of this package that
// costs more than a copy. Writers sort the large objects of TUF metadata (targets,
// meta, keys), as encoding/json and python-tuf do, or write canonical JSON; only the
// few members of a role, key or target are out of order in practice. The limits are
// wide for these and exclude input that is crafted to be expensive.
const (
	// MaxUnsorted bounds the members of all objects out of order in one document. A
	// list of 87,000 targets with three unsorted members each stays below it. Sorting
	// 262,144 members takes at most 0.1 s and 2 MiB.
	MaxUnsorted = 1 << 18
	// MaxMoved bounds the bytes of these objects, counted once for each level of
	// nesting, as a multiple of the input. Real metadata needs 5.
	MaxMoved = 8
)

// Canonical checks data and returns its canonical form. If data is canonical, the
// result is a part of data, and the caller must not change data afterwards. Errors
// wrap [ErrSyntax].
//
// Time is linear except for sorting, which [MaxUnsorted] bounds. Canonical input
// needs no memory, other input at most three times its size and 4 MiB.
func Canonical(data []byte) (Value, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	s := scanner{in: data}
	s.skipSpace()
	s.start = s.pos
	if err := s.value(0); err != nil {
		return nil, err
	}
	end := s.pos
	s.skipSpace()
	if s.pos != len(data) {
		return nil, s.errorf("data after the end")
	}
	if s.copied {
		return Value(s.out), nil
	}
	return Value(data[s.start:end:end]), nil
}

// scanner reads in once. As long as the input is canonical, the output is
// in[start:pos] and nothing is copied. At the first difference the output is copied,
// and then appended to.
type scanner struct {
	in     []byte
	pos    int
	start  int
	out    []byte
	copied bool

	unsorted int    // members of objects out of order, so far
	moved    int    // bytes of such objects, so far
	spans    []span // of the object being sorted
	scratch  []byte // its unsorted members
}

// span is the range of a member in the unsorted object. It begins with the name.
type span struct{ start, end int }

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrSyntax, s.pos, fmt.Sprintf(format, args...))
}

// outLen is the length of the output so far.
func (s *scanner) outLen() int {
	if s.copied {
		return len(s.out)
	}
	return s.pos - s.start
}

// diverge starts the copy: the input before end was canonical.
func (s *scanner) diverge(end int) {
	if !s.copied {
		s.out = append(make([]byte, 0, len(s.in)-s.start), s.in[s.start:end]...)
		s.copied = true
	}
}

// keep appends in[pos:end] unchanged.
func (s *scanner) keep(end int) {
	if s.copied {
		s.out = append(s.out, s.in[s.pos:end]...)
	}
	s.pos = end
}

func (s *scanner) written() []byte {
	if s.copied {
		return s.out
	}
	return s.in[s.start:s.pos]
}

// skipSpace skips white space, which the canonical form does not have.
func (s *scanner) skipSpace() {
	from := s.pos
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
			continue
		}
		break
	}
	// White space before and after the value does not make a copy necessary.
	if s.pos > from && s.start < from && s.pos < len(s.in) {
		s.diverge(from)
	}
}

func (s *scanner) peek() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

func (s *scanner) value(depth int) error {
	if depth > MaxDepth {
		return s.errorf("nested deeper than %d", MaxDepth)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.array(depth)
	case c == '"':
		return s.string()
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	case c == 't':
		return s.literal("true")
	case c == 'f':
		return s.literal("false")
	case c == 'n':
		return s.literal("null")
	}
	if s.pos >= len(s.in) {
		return s.errorf("unexpected end")
	}
	return s.errorf("unexpected %s", text.Bytes(s.in[s.pos:s.pos+1]))
}

func (s *scanner) literal(word string) error {
	if !bytes.HasPrefix(s.in[s.pos:], []byte(word)) {
		return s.errorf("not a JSON value")
	}
	s.keep(s.pos + len(word))
	return nil
}

func (s *scanner) number() error {
	end := s.pos
	if s.in[end] == '-' {
		end++
	}
	digits := end
	for end < len(s.in) && s.in[end] >= '0' && s.in[end] <= '9' {
		end++
	}
	switch {
	case end == digits:
		return s.errorf("number without digits")
	case s.in[digits] == '0' && end > digits+1:
		return s.errorf("number with a leading zero")
	case s.in[s.pos] == '-' && s.in[digits] == '0':
		return s.errorf("negative zero")
	case end < len(s.in) && (s.in[end] == '.' || s.in[end] == 'e' || s.in[end] == 'E'):
		return s.errorf("number is not an integer")
	}
	s.keep(end)
	return nil
}

func (s *scanner) string() error {
	s.keep(s.pos + 1)
	for {
		end := s.pos
		for end < len(s.in) && s.in[end] >= 0x20 && s.in[end] != '"' && s.in[end] != '\\' {
			end++
		}
		s.keep(end)
		if end == len(s.in) {
			return s.errorf("string without end")
		}
		switch s.in[end] {
		case '"':
			s.keep(end + 1)
			return nil
		case '\\':
			if err := s.escape(); err != nil {
				return err
			}
		default:
			return s.errorf("control character in a string")
		}
	}
}

// escape reads one escape sequence. The canonical form escapes only the quote and the
// backslash.
func (s *scanner) escape() error {
	if s.pos+1 >= len(s.in) {
		return s.errorf("string without end")
	}
	var r rune
	n := 2
	switch c := s.in[s.pos+1]; c {
	case '"', '\\':
		s.keep(s.pos + 2)
		return nil
	case '/':
		r = '/'
	case 'b':
		r = '\b'
	case 'f':
		r = '\f'
	case 'n':
		r = '\n'
	case 'r':
		r = '\r'
	case 't':
		r = '\t'
	case 'u':
		var ok bool
		if r, ok = s.hex4(s.pos); !ok {
			return s.errorf("bad \\u escape")
		}
		n = 6
		if utf16.IsSurrogate(r) {
			low, ok := s.hex4(s.pos + 6)
			if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
				return s.errorf("unpaired surrogate")
			}
			n = 12
		}
	default:
		return s.errorf("unknown escape %s", text.Bytes(s.in[s.pos:s.pos+2]))
	}
	s.diverge(s.pos)
	if r == '"' || r == '\\' {
		s.out = append(s.out, '\\')
	}
	s.out = utf8.AppendRune(s.out, r)
	s.pos += n
	return nil
}

// hex4 reads \uXXXX at i.
func (s *scanner) hex4(i int) (r rune, ok bool) {
	if i+6 > len(s.in) || s.in[i] != '\\' || s.in[i+1] != 'u' {
		return 0, false
	}
	for _, c := range s.in[i+2 : i+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func (s *scanner) array(depth int) error {
	s.keep(s.pos + 1)
	for first := true; ; first = false {
		s.skipSpace()
		if s.peek() == ']' && first {
			break
		}
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.skipSpace()
		if s.peek() == ']' {
			break
		}
		if s.peek() != ',' {
			return s.errorf("expected , or ]")
		}
		s.keep(s.pos + 1)
	}
	s.keep(s.pos + 1)
	return nil
}

func (s *scanner) object(depth int) error {
	from, members, sorted := s.outLen()+1, 0, true
	last := -1 // start of the previous member in the output
	s.keep(s.pos + 1)
	for {
		s.skipSpace()
		if s.peek() == '}' && members == 0 {
			break
		}
		start := s.outLen()
		if s.peek() != '"' {
			return s.errorf("expected a member name")
		}
		if err := s.string(); err != nil {
			return err
		}
		if last >= 0 {
			w := s.written()
			switch c := compareNames(w[last:], w[start:]); {
			case c == 0:
				return s.errorf("duplicate member %s", text.Bytes(nameAt(w[start:])))
			case c > 0:
				sorted = false
			}
		}
		members, last = members+1, start
		s.skipSpace()
		if s.peek() != ':' {
			return s.errorf("expected :")
		}
		s.keep(s.pos + 1)
		s.skipSpace()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		s.skipSpace()
		if s.peek() == '}' {
			break
		}
		if s.peek() != ',' {
			return s.errorf("expected , or }")
		}
		s.keep(s.pos + 1)
	}
	if !sorted {
		if s.unsorted += members; s.unsorted > MaxUnsorted {
			return s.errorf("more than %d members out of order", MaxUnsorted)
		}
		if err := s.sortMembers(from, members); err != nil {
			return err
		}
	}
	s.keep(s.pos + 1)
	return nil
}

// nameAt returns the name at the start of b, without its quotes.
func nameAt(b []byte) []byte { return b[1 : stringLen(b)-1] }

// sortMembers sorts the members of the innermost object, which begin at from in the
// output.
func (s *scanner) sortMembers(from, members int) error {
	s.diverge(s.pos)
	if s.moved += len(s.out) - from; s.moved > MaxMoved*len(s.in) {
		return s.errorf("objects out of order nest too deep")
	}
	s.scratch = append(s.scratch[:0], s.out[from:]...)
	old := s.scratch
	if s.spans = s.spans[:0]; cap(s.spans) < members {
		s.spans = make([]span, 0, members) // append could allocate more
	}
	for i := 0; i < len(old); {
		start := i
		i += stringLen(old[i:]) + 1
		i += valueLen(old[i:])
		s.spans = append(s.spans, span{start, i})
		i++ // the comma
	}
	slices.SortFunc(s.spans, func(a, b span) int { return compareNames(old[a.start:], old[b.start:]) })
	s.out = s.out[:from]
	for i, m := range s.spans {
		if i > 0 {
			if compareNames(old[s.spans[i-1].start:], old[m.start:]) == 0 {
				return s.errorf("duplicate member %s", text.Bytes(nameAt(old[m.start:])))
			}
			s.out = append(s.out, ',')
		}
		s.out = append(s.out, old[m.start:m.end]...)
	}
	return nil
}

// compareNames compares the canonical strings at the start of a and b, with their
// quotes, by their unescaped bytes.
func compareNames(a, b []byte) int {
	a, b = a[1:], b[1:] // without the opening quotes
	for {
		i := 0
		for a[i] == b[i] && a[i] != '\\' && a[i] != '"' {
			i++
		}
		a, b = a[i:], b[i:]
		// One of them starts with an escape, or they differ: compare the unescaped bytes.
		ca, na := unescapeByte(a)
		cb, nb := unescapeByte(b)
		if ca != cb || ca < 0 {
			return int(ca) - int(cb)
		}
		a, b = a[na:], b[nb:]
	}
}

// unescapeByte returns the first unescaped byte of x and its length in x. It returns
// -1 at the closing quote, which sorts before every other byte.
func unescapeByte(x []byte) (c int16, n int) {
	switch x[0] {
	case '\\':
		return int16(x[1]), 2
	case '"':
		return -1, 1
	}
	return int16(x[0]), 1
}
