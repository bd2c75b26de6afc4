// Package wire reads the JSON of TUF metadata, strictly, once.
//
// [Canonical] takes bytes from anywhere and returns their canonical form (OLPC
// canonical JSON, the form that TUF signatures cover), or an error. Everything
// that decodes metadata works on the canonical form, so what is verified and
// what is read are the same bytes. Input that is canonical already is not
// copied.
//
// Stricter than encoding/json: no duplicate member names, valid UTF-8 and
// paired surrogates only, integers only (no fraction, exponent or "-0"),
// bounded depth, nothing after the end.
//
// Metadata is read before its signatures can be checked, so the cost of reading
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

// MaxDepth bounds how deep arrays and objects may nest. TUF metadata needs 7.
const MaxDepth = 64

// The members of an object that is not in canonical order have to be sorted,
// which is the only work of this package that costs more than a copy. Writers
// sort the large objects of TUF metadata (targets, meta, keys), as encoding/json
// and python-tuf do, or write canonical JSON; what is unsorted in practice are
// the few members of one role, key or target, as structs have them. The budget
// is therefore wide for those and closed to an input that is made to be sorted.
const (
	// MaxUnsorted bounds the members of all objects out of order in one document:
	// 262,144, which a list of 87,000 targets with three unsorted members each
	// stays below. Sorting so many takes 0.1 s and 2 MiB at most.
	MaxUnsorted = 1 << 18
	// MaxMoved bounds the bytes of those objects, each level of nesting counted
	// again, as a multiple of the input: real metadata needs 5.
	MaxMoved = 8
)

// Canonical checks data and returns its canonical form. Where data is canonical
// already the result is a part of data itself: the caller must not change it
// afterwards.
//
// Time is linear, but for the members within [MaxUnsorted]. Memory is none for
// canonical input, and at most three times the input and 4 MiB otherwise.
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

// scanner walks in once. As long as the input is canonical, the output is
// in[start:pos] and nothing is copied; at the first difference it is copied and
// from then on appended to.
type scanner struct {
	in     []byte
	pos    int
	start  int
	out    []byte
	copied bool

	unsorted int    // members of objects out of order, so far
	moved    int    // bytes of such objects, so far
	spans    []span // of the object that is being sorted
	scratch  []byte // likewise: its members before
}

// span is a member's offset in the unsorted object. The name begins there.
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

// diverge starts the copy: all before end was canonical.
func (s *scanner) diverge(end int) {
	if !s.copied {
		s.out = append(make([]byte, 0, len(s.in)-s.start), s.in[s.start:end]...)
		s.copied = true
	}
}

// keep takes in[pos:end] over as it is.
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

// skipSpace passes white space, which the canonical form does not have.
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
	// Before the value starts and after it ends, white space is no difference.
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

// escape reads one escape sequence. The canonical form escapes the quote and the
// backslash, and nothing else.
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
	last := -1 // where the member before begins in the output
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

// sortMembers brings the members of the innermost object, which begin at from in
// the output, into canonical order.
func (s *scanner) sortMembers(from, members int) error {
	s.diverge(s.pos)
	if s.moved += len(s.out) - from; s.moved > MaxMoved*len(s.in) {
		return s.errorf("objects out of order nest too deep")
	}
	s.scratch = append(s.scratch[:0], s.out[from:]...)
	old := s.scratch
	if s.spans = s.spans[:0]; cap(s.spans) < members {
		s.spans = make([]span, 0, members) // no more than that, also where append is instrumented
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
// quotes, by the bytes they stand for.
func compareNames(a, b []byte) int {
	a, b = a[1:], b[1:] // the opening quotes, which are no end
	for {
		i := 0
		for a[i] == b[i] && a[i] != '\\' && a[i] != '"' {
			i++
		}
		a, b = a[i:], b[i:]
		// At least one starts with an escape, or they differ: compare what is meant.
		ca, na := unescapeByte(a)
		cb, nb := unescapeByte(b)
		if ca != cb || ca < 0 {
			return int(ca) - int(cb)
		}
		a, b = a[na:], b[nb:]
	}
}

// unescapeByte returns the first byte that x stands for, -1 at the closing
// quote, which is lower than anything that could follow, and how many bytes of x
// it took.
func unescapeByte(x []byte) (c int16, n int) {
	switch x[0] {
	case '\\':
		return int16(x[1]), 2
	case '"':
		return -1, 1
	}
	return int16(x[0]), 1
}
