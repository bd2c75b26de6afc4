package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/text"
)

// MultiSource combines several sources into one: a file comes from the first source that has
// it, and is absent if all report that. Sources with the same content are better listed
// separately in [Config].Sources: then the client can attribute errors to each of them,
// and fall back to another.
func MultiSource(sources ...Source) Source { return listSource(slices.Clone(sources)) }

type listSource []Source

func (l listSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return closer(l.OpenAt(ctx, name, 0, ""))
}

// OpenAt starts with the source that the tag belongs to.
func (l listSource) OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error) {
	var problems []error
	final := true
	first, rest := l.tagged(tag)
	for n := range l {
		i, t := n, ""
		switch {
		case n == 0:
			i, t = first, rest
		case n <= first:
			i = n - 1
		}
		r, err := openAt(ctx, l[i], name, offset, t)
		if err == nil {
			r.Tag = fmt.Sprintf("%d %s", i, r.Tag)
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !isAbsent(err) {
			problems = append(problems, err)
			final = final && lasting(err)
		}
	}
	if len(problems) == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// A retry is useful if at least one source may do better.
	return nil, responseError{join(problems...), final}
}

// tagged splits a tag of a list into the number of the source and its own tag.
func (l listSource) tagged(tag string) (i int, rest string) {
	number, rest, _ := strings.Cut(tag, " ")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(l) {
		return 0, ""
	}
	return i, rest
}

// open is s.Open, with a check for a source that returns nothing.
func open(ctx context.Context, s Source, name string) (io.ReadCloser, error) {
	f, err := s.Open(ctx, name)
	if err == nil && f == nil {
		return nil, fmt.Errorf("%s: the source returned neither file nor error", text.Name(name))
	}
	return f, err
}

// openAt is [RangeSource].OpenAt for any source: one without ranges starts at 0.
func openAt(ctx context.Context, s Source, name string, offset int64, tag string) (*Range, error) {
	switch s.(type) {
	case *httpSource, listSource: // the former escapes names, the latter calls openAt again
	default:
		if !askable(name) {
			return nil, notAskable(name)
		}
	}
	at, ok := s.(RangeSource)
	if !ok {
		f, err := open(ctx, s, name)
		if err != nil {
			return nil, err
		}
		return &Range{ReadCloser: f, Size: -1}, nil
	}
	r, err := at.OpenAt(ctx, name, offset, tag)
	switch {
	case err != nil:
		return nil, err
	case r == nil || r.ReadCloser == nil:
		return nil, fmt.Errorf("%s: the source returned neither file nor error", text.Name(name))
	case r.Offset != 0 && r.Offset != offset:
		r.Close()
		return nil, fmt.Errorf("%s: %w: from byte %d, the source starts at %d", name, ErrRange, offset, r.Offset)
	}
	return r, nil
}

// askable reports whether a name may be passed to a source of the caller. Names come
// from metadata, and Windows treats a backslash as a slash.
func askable(name string) bool { return fs.ValidPath(strings.ReplaceAll(name, `\`, "/")) }

func notAskable(name string) error {
	return &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: the name leads out of its directory", fs.ErrInvalid)}
}
