package wire

import (
	"bytes"
	"fmt"
	"iter"
	"strconv"

	"github.com/visum-dev/visum/internal/text"
)

// Value is the canonical form of one JSON value. Only [Canonical] creates one. The
// methods rely on its form and return parts of it without copying.
type Value []byte

// Field is a member that [Value.Fields] looks for, and the destination of its value.
type Field struct {
	Name string // exact name
	To   *Value // set if the member is present
}

// Fields reads an object's members by their exact names. It ignores unknown members,
// but refuses one that differs from a known name only in case, because another decoder
// could read it as the known one. The Value of an absent member stays nil.
func (v Value) Fields(fields ...Field) error {
	if v.Kind() != '{' {
		return fmt.Errorf("%w: an object was expected", ErrSyntax)
	}
next:
	for name, val := range v.Members() {
		for _, f := range fields {
			if string(name) == f.Name {
				*f.To = val
				continue next
			}
		}
		for _, f := range fields {
			if bytes.EqualFold(name, []byte(f.Name)) {
				return fmt.Errorf("%w: member %s is %q in the wrong case", ErrSyntax, text.Bytes(name), f.Name)
			}
		}
	}
	return nil
}

// String renders v for messages, quoted and cut as in package text. Use string(v) for
// the canonical bytes, which may include control characters.
func (v Value) String() string {
	switch v.Kind() {
	case 0:
		return "absent"
	case '"':
		return text.Bytes(v[1 : len(v)-1])
	case '{', '[':
		return text.Bytes(v)
	}
	return text.Name(string(v))
}

// Kind is the first byte of the value: one of { [ " t f n - or a digit; 0 for none.
func (v Value) Kind() byte {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// Members yields an object's members in order of their names, and nothing for other
// kinds. A Name is the canonical string without its quotes.
func (v Value) Members() iter.Seq2[Name, Value] {
	return func(yield func(Name, Value) bool) {
		if v.Kind() != '{' {
			return
		}
		for i := 1; v[i] != '}'; {
			if v[i] == ',' {
				i++
			}
			end := i + stringLen(v[i:])
			name := Name(v[i+1 : end-1])
			i = end + 1
			n := valueLen(v[i:])
			if !yield(name, v[i:i+n:i+n]) {
				return
			}
			i += n
		}
	}
}

// Elements yields an array's elements, and nothing for other kinds.
func (v Value) Elements() iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Kind() != '[' {
			return
		}
		for i := 1; v[i] != ']'; {
			if v[i] == ',' {
				i++
			}
			n := valueLen(v[i:])
			if !yield(v[i : i+n : i+n]) {
				return
			}
			i += n
		}
	}
}

// Name is a member's name in canonical form, without quotes.
type Name []byte

// String returns the unescaped name.
func (n Name) String() string { return unescape(n) }

// Compare compares a name with an unescaped string, in the order of the canonical form.
func (n Name) Compare(s string) int {
	if bytes.IndexByte(n, '\\') < 0 {
		return bytes.Compare(n, []byte(s))
	}
	return bytes.Compare([]byte(unescape(n)), []byte(s))
}

// Text returns a string value.
func (v Value) Text() (string, error) {
	if v.Kind() != '"' {
		return "", fmt.Errorf("%w: a string was expected", ErrSyntax)
	}
	return unescape(v[1 : len(v)-1]), nil
}

// Int returns an integer that fits 64 bits.
func (v Value) Int() (int64, error) {
	if k := v.Kind(); k != '-' && (k < '0' || k > '9') {
		return 0, fmt.Errorf("%w: an integer was expected", ErrSyntax)
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: integer %s out of range", ErrSyntax, v)
	}
	return n, nil
}

// Bool returns a boolean.
func (v Value) Bool() (bool, error) {
	switch v.Kind() {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	}
	return false, fmt.Errorf("%w: true or false was expected", ErrSyntax)
}

// AppendString appends the canonical form of s.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// JSON returns v as JSON text. The canonical form has unescaped control characters,
// which JSON does not allow. The canonical form of the result is v.
func (v Value) JSON() []byte {
	out := make([]byte, 0, len(v))
	for _, c := range v {
		if c < 0x20 {
			out = fmt.Appendf(out, `\u%04x`, c)
		} else {
			out = append(out, c)
		}
	}
	return out
}

func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' {
			i++
		}
		out = append(out, b[i])
	}
	return string(out)
}

// stringLen is the length of the string at the start of b, with its quotes.
func stringLen(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// valueLen is the length of the value at the start of b.
func valueLen(b []byte) int {
	switch b[0] {
	case '"':
		return stringLen(b)
	case '{', '[':
		depth := 0
		for i := 0; ; {
			switch b[i] {
			case '"':
				i += stringLen(b[i:])
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	i := 0
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}
