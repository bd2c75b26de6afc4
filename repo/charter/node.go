package charter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Limits of a document.
const (
	maxDocument = 1 << 20
	maxNesting  = 12
	maxKeys     = 256
)

// node is one value of a document, with its place for messages.
type node struct {
	kind    byte // one of { [ " 0 t n: object, array, string, number, boolean, null
	path    string
	line    int
	str     string // of a string, or the digits of a number
	is      bool   // of a boolean
	list    []*node
	members []member // of an object, in the order of the document
}

type member struct {
	name string
	line int // of the name
	*node
}

// fail returns an error at a node.
func (n *node) fail(format string, args ...any) error { return failAt(n.path, n.line, format, args...) }

func failAt(path string, line int, format string, args ...any) error {
	return &Error{Path: path, Line: line, Err: tuf.ErrMalformed, Detail: fmt.Sprintf(format, args...)}
}

// scanner reads the tokens of a document. [encoding/json] gives the position of each
// token, which the strict parser of package wire does not keep.
type scanner struct {
	data []byte
	dec  *json.Decoder
	at   int // offset up to which lines were counted
	line int
}

// scan reads a whole document, with the lines of all values.
func scan(data []byte) (*node, error) {
	if len(data) > maxDocument {
		return nil, &Error{Line: 1, Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("%d bytes, at most %d", len(data), maxDocument)}
	}
	s := &scanner{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	s.dec.UseNumber()
	n, err := s.value("", 0)
	if err != nil {
		return nil, err
	}
	if _, err := s.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, failAt("", s.lineAt(s.dec.InputOffset()), "text after the end of the document")
	}
	return n, nil
}

// lineAt returns the line of an offset that is not before the last one.
func (s *scanner) lineAt(offset int64) int {
	if to := int(offset); to > s.at && to <= len(s.data) {
		s.line += bytes.Count(s.data[s.at:to], []byte("\n"))
		s.at = to
	}
	return s.line
}

// token reads a token and returns the line on which it ends, which is the line on which
// it begins: no token of JSON contains a line break.
func (s *scanner) token(path string) (json.Token, int, error) {
	t, err := s.dec.Token()
	if err != nil {
		line := s.lineAt(s.dec.InputOffset())
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line = s.lineAt(syntax.Offset)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, 0, failAt(path, s.lineAt(int64(len(s.data))), "the document ends too early")
		}
		return nil, 0, failAt(path, line, "%v", err)
	}
	return t, s.lineAt(s.dec.InputOffset()), nil
}

func (s *scanner) value(path string, depth int) (*node, error) {
	t, line, err := s.token(path)
	if err != nil {
		return nil, err
	}
	n := &node{path: path, line: line}
	if depth > maxNesting {
		return nil, n.fail("more than %d levels of nesting", maxNesting)
	}
	switch t := t.(type) {
	case string:
		n.kind, n.str = '"', t
		if err := n.whole(t); err != nil {
			return nil, err
		}
	case json.Number:
		n.kind, n.str = '0', t.String()
	case bool:
		n.kind, n.is = 't', t
	case nil:
		n.kind = 'n'
	case json.Delim:
		n.kind = byte(t)
		if n.kind == '[' {
			return n, s.elements(n, depth)
		}
		return n, s.object(n, depth)
	}
	return n, nil
}

// whole refuses a string that holds U+FFFD: the decoder replaces bytes that are not UTF-8
// and unpaired surrogates with it, so different documents would read as the same.
func (n *node) whole(s string) error {
	if strings.ContainsRune(s, utf8.RuneError) {
		return n.fail("a character that is not valid, or U+FFFD")
	}
	return nil
}

func (s *scanner) elements(n *node, depth int) error {
	for s.dec.More() {
		e, err := s.value(fmt.Sprintf("%s[%d]", n.path, len(n.list)), depth+1)
		if err != nil {
			return err
		}
		n.list = append(n.list, e)
	}
	_, _, err := s.token(n.path)
	return err
}

func (s *scanner) object(n *node, depth int) error {
	seen := map[string]bool{}
	for s.dec.More() {
		t, line, err := s.token(n.path)
		if err != nil {
			return err
		}
		name, _ := t.(string) // the decoder accepts nothing else
		path := pathOf(n.path, name)
		if err := (&node{path: path, line: line}).whole(name); err != nil {
			return err
		}
		if seen[name] {
			return failAt(path, line, "a second member of this name")
		}
		seen[name] = true
		v, err := s.value(path, depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{name, line, v})
	}
	_, _, err := s.token(n.path)
	return err
}

// pathOf returns the path of a member, with a foreign name quoted.
func pathOf(of, name string) string {
	if name = text.Name(name); of == "" {
		return name
	}
	return of + "." + name
}

// form reads the members of one object and keeps the first error of all reads.
type form struct {
	of   *node
	read map[string]bool
	err  *error
}

func newForm(n *node, err *error) form {
	if *err == nil && n.kind != '{' {
		*err = n.fail("an object was expected, it is %s", n.what())
	}
	return form{n, map[string]bool{}, err}
}

// what names the type of a value.
func (n *node) what() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't':
		return "a boolean"
	}
	return "null"
}

// get returns a member, nil if it is absent.
func (f form) get(name string) *node {
	f.read[name] = true
	if *f.err != nil {
		return nil
	}
	for _, m := range f.of.members {
		if m.name == name {
			return m.node
		}
	}
	return nil
}

// must returns a member that is required.
func (f form) must(name string) *node {
	n := f.get(name)
	if n == nil && *f.err == nil {
		*f.err = f.of.fail("no member %s", name)
	}
	return n
}

// close refuses members that were not asked for. It is called before the values are
// used, so that a misspelt member is reported as itself and not as a missing one.
func (f form) close(known ...string) {
	for _, name := range known {
		f.read[name] = true
	}
	if *f.err != nil {
		return
	}
	for _, m := range f.of.members {
		if !f.read[m.name] {
			*f.err = failAt(m.path, m.line, "unknown member")
			return
		}
	}
}

// text reads a string; "" if n is nil.
func (f form) text(n *node) string {
	if n == nil || *f.err != nil {
		return ""
	}
	if n.kind != '"' {
		*f.err = n.fail("a string was expected, it is %s", n.what())
	}
	return n.str
}

// bool reads a boolean; false if n is nil.
func (f form) bool(n *node) bool {
	if n == nil || *f.err != nil {
		return false
	}
	if n.kind != 't' {
		*f.err = n.fail("true or false was expected, it is %s", n.what())
	}
	return n.is
}

// maxInt is the highest integer that every JSON reader has exactly.
const maxInt = 1<<53 - 1

// int reads an integer from least to most; absent if n is nil.
func (f form) int(n *node, least, most, absent int64) int64 {
	if n == nil || *f.err != nil {
		return absent
	}
	v, err := strconv.ParseInt(n.str, 10, 64)
	switch {
	case n.kind != '0':
		*f.err = n.fail("an integer was expected, it is %s", n.what())
	case err != nil || n.str == "-0" || v > most:
		*f.err = n.fail("an integer of at most %d was expected, it is %s", most, text.Name(n.str))
	case v < least:
		*f.err = n.fail("an integer of at least %d was expected, it is %d", least, v)
	}
	return v
}

// each calls fn for each element of an array; none if n is nil.
func (f form) each(n *node, fn func(*node)) {
	if n == nil || *f.err != nil {
		return
	}
	if n.kind != '[' {
		*f.err = n.fail("an array was expected, it is %s", n.what())
	}
	for _, e := range n.list {
		if *f.err != nil {
			return
		}
		fn(e)
	}
}
