package drill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

func (s *stage) take() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	return out
}

// find returns the location of a URL and the file's name in storage.
func (s *stage) find(address string) (l tuf.Location, name string, ok bool) {
	for _, l := range s.play.locations {
		if rest, ok := strings.CutPrefix(address, l.Base+l.Metadata); ok {
			name, err := url.PathUnescape(rest)
			return l, "metadata/" + name, err == nil
		}
	}
	for _, l := range s.play.locations {
		if rest, ok := strings.CutPrefix(address, l.Base+l.Targets); ok && l.Targets != "" {
			name, err := url.PathUnescape(rest)
			return l, "targets/" + name, err == nil
		}
	}
	return tuf.Location{}, "", false
}

var errUnreachable = errors.New("no such host")

// RoundTrip answers as the location of the request.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	l, name, ok := s.find(r.URL.String())
	s.mu.Lock()
	s.asked = append(s.asked, request{l.Base, r.URL.String()})
	s.mu.Unlock()
	if !ok {
		return nil, errUnreachable
	}
	code, data, err := s.serve(r.Context(), l, name)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data))}
	if code >= 300 && code < 400 {
		resp.Header.Set("Location", "https://elsewhere.invalid/")
	}
	return resp, nil
}

func (s *stage) serve(ctx context.Context, l tuf.Location, name string) (int, []byte, error) {
	h := s.hosts[l.Base]
	if h.unreachable {
		return 0, nil, errUnreachable
	}
	if h.answer != nil {
		code, data := h.answer(name)
		return code, data, nil
	}
	data, err := s.play.read(ctx, s.play.at(l, h.files), h, name)
	switch {
	case err == nil:
		return http.StatusOK, data, nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrInvalid):
		return http.StatusNotFound, []byte("not found"), nil
	}
	return 0, nil, err
}

// read returns the file of a location under a name.
func (p *play) read(ctx context.Context, files repo.Storage, h host, name string) ([]byte, error) {
	if n, recovery, ok := rootOf(name); ok {
		if h.roots > 0 && n > h.roots {
			return nil, fs.ErrNotExist
		}
		if h.fork != nil && n == h.forkAt && !recovery {
			return h.fork, nil
		}
	} else if !h.content {
		return nil, fs.ErrNotExist
	}
	return files.Read(ctx, name)
}

// rootOf returns the version of the root that a file contains or is the statement for.
func rootOf(name string) (n int64, recovery, ok bool) {
	name, recovery = strings.CutPrefix(strings.TrimPrefix(name, "metadata/"), "recovery/")
	number, ok := strings.CutSuffix(name, ".root.json")
	if !ok && recovery {
		number, ok = strings.CutSuffix(name, ".statement.json")
		defer func() { n++ }() // a statement is named after the previous root
	}
	n, err := strconv.ParseInt(number, 10, 64)
	return n, recovery, ok && err == nil
}

// at returns the files of one location in a version of the repository: its current
// files, if Places has them, with the new ones added.
func (p *play) at(l tuf.Location, files string) repo.Storage {
	holds, ok := p.Locations[l.ID]
	if !ok {
		return p.files[files]
	}
	return mirror{holds, p.files[files], p.Storage}
}

// mirror is a location with its current files and the new files of the next version.
type mirror struct{ holds, next, was repo.Storage }

func (m mirror) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := m.next.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	if old, err := m.was.Read(ctx, name); err == nil && bytes.Equal(old, data) {
		return m.holds.Read(ctx, name) // unchanged: the location must have it
	}
	return data, nil
}

// late has the roots of one version and all other files of another.
type late struct{ roots, rest repo.Storage }

func (m late) Read(ctx context.Context, name string) ([]byte, error) {
	if _, _, ok := rootOf(name); ok {
		return m.roots.Read(ctx, name)
	}
	return m.rest.Read(ctx, name)
}

var errReadOnly = errors.New("locations are read-only")

func (m mirror) Create(context.Context, string, io.Reader) error       { return errReadOnly }
func (m mirror) Replace(context.Context, string, []byte, []byte) error { return errReadOnly }
func (m late) Create(context.Context, string, io.Reader) error         { return errReadOnly }
func (m late) Replace(context.Context, string, []byte, []byte) error   { return errReadOnly }
