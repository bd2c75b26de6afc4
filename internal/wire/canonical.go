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
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrSyntax is the parent of every error of this package.
var ErrSyntax = errors.New("malformed JSON")

// MaxDepth bounds how deep arrays and objects may nest. TUF metadata needs 7.
const MaxDepth = 64

// Canonical checks data and returns its canonical form. Where data is canonical
// already the result is a part of data itself: the caller must not change it
// afterwards.
//
// Time is O(n log n) for members out of order, O(n) otherwise; depth is bounded.
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
	spans  []span // members of the objects that are open, innermost last
}

// span is one member in the output, by offset. The name is canonical, with quotes.
type span struct{ start, nameEnd, end int }

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
	return s.errorf("unexpected %q", s.in[s.pos])
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
		return s.errorf("unknown escape \\%c", c)
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
	base := len(s.spans)
	sorted := true
	s.keep(s.pos + 1)
	for {
		s.skipSpace()
		if s.peek() == '}' && len(s.spans) == base {
			break
		}
		m := span{start: s.outLen()}
		if s.peek() != '"' {
			return s.errorf("expected a member name")
		}
		if err := s.string(); err != nil {
			return err
		}
		m.nameEnd = s.outLen()
		s.skipSpace()
		if s.peek() != ':' {
			return s.errorf("expected :")
		}
		s.keep(s.pos + 1)
		s.skipSpace()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		m.end = s.outLen()
		if len(s.spans) > base {
			w, prev := s.written(), s.spans[len(s.spans)-1]
			switch c := compareNames(w[prev.start:prev.nameEnd], w[m.start:m.nameEnd]); {
			case c == 0:
				return s.errorf("duplicate member %s", w[m.start:m.nameEnd])
			case c > 0:
				sorted = false
			}
		}
		s.spans = append(s.spans, m)
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
		if err := s.sortMembers(s.spans[base:]); err != nil {
			return err
		}
	}
	s.spans = s.spans[:base]
	s.keep(s.pos + 1)
	return nil
}

// sortMembers brings the members of the innermost object into canonical order.
func (s *scanner) sortMembers(members []span) error {
	s.diverge(s.pos)
	from := members[0].start
	old := slices.Clone(s.out[from:])
	name := func(m span) []byte { return old[m.start-from : m.nameEnd-from] }
	slices.SortFunc(members, func(a, b span) int { return compareNames(name(a), name(b)) })
	s.out = s.out[:from]
	for i, m := range members {
		if i > 0 {
			if compareNames(name(members[i-1]), name(m)) == 0 {
				return s.errorf("duplicate member %s", name(m))
			}
			s.out = append(s.out, ',')
		}
		s.out = append(s.out, old[m.start-from:m.end-from]...)
	}
	return nil
}

// compareNames compares two canonical strings, with their quotes, by the bytes
// they stand for.
func compareNames(a, b []byte) int {
	for {
		i := 0
		for i < len(a) && i < len(b) && a[i] == b[i] && a[i] != '\\' {
			i++
		}
		if a, b = a[i:], b[i:]; len(a) == 0 {
			return 0 // both closed their quotes
		}
		// At least one starts with an escape, or they differ: compare what is meant.
		ca, na := unescapeByte(a)
		cb, nb := unescapeByte(b)
		if ca != cb {
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
