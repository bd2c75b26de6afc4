package tuf

import (
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// reader keeps the first error of a sequence of small reads.
type reader struct{ err error }

func (r *reader) fields(v wire.Value, f ...wire.Field) {
	if r.err == nil {
		r.err = v.Fields(f...)
	}
}

// text reads a string; "" if v is absent.
func (r *reader) text(v wire.Value) (s string) {
	if r.err == nil && v != nil {
		s, r.err = v.Text()
	}
	return s
}

// int reads a non-negative number; 0 if v is absent.
func (r *reader) int(v wire.Value) (n int64) {
	if r.err == nil && v != nil {
		if n, r.err = v.Int(); r.err == nil && n < 0 {
			r.err = syntaxf("negative number %d", n)
		}
	}
	return n
}

// seconds reads a duration, at most ten years.
func (r *reader) seconds(v wire.Value) time.Duration {
	n := r.int(v)
	if n > 10*366*24*3600 {
		r.fail("a duration of %d seconds", n)
		return 0
	}
	return time.Duration(n) * time.Second
}

func (r *reader) strings(v wire.Value) (list []string) {
	if r.err == nil && v != nil {
		list, r.err = parseStrings(v)
	}
	return list
}

// time reads an RFC 3339 time in whole seconds with Z; zero if v is absent.
func (r *reader) time(v wire.Value) (t time.Time) {
	if v == nil {
		return t
	}
	const form = "2006-01-02T15:04:05Z"
	s := r.text(v)
	if r.err != nil {
		return t
	}
	// time.Parse alone accepts fractions and one-digit hours too.
	if t, r.err = time.Parse(form, s); r.err != nil || t.Format(form) != s {
		r.err = syntaxf("time %s, want the form 2006-01-02T15:04:05Z", text.Quote(s))
	}
	return t
}

func (r *reader) keys(v wire.Value, extra ...wire.Field) (k roleKeys) {
	if r.err == nil {
		k, r.err = parseRoleKeys(v, extra...)
	}
	return k
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = syntaxf(format, args...)
	}
}

// list reads an array of at most max elements.
func (r *reader) list(v wire.Value, what string, max int, each func(wire.Value)) {
	if r.err != nil || v == nil {
		return
	}
	if v.Kind() != '[' {
		r.fail("%s must be an array", what)
		return
	}
	n := 0
	for e := range v.Elements() {
		if n++; n > max {
			r.fail("more than %d %s", max, what)
		}
		if r.err != nil {
			return
		}
		each(e)
	}
}
