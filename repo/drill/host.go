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
	"sync"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// host is how one place behaves in a scenario.
type host struct {
	dark    bool
	answer  func(name string) (int, []byte) // what it says to everything; nil: it serves
	files   string                          // whose files: before, after or evil
	roots   int64                           // it has no later root; 0: all that files has
	content bool                            // more than roots
	fork    []byte                          // its next root, instead of a true one
	forkAt  int64
}

// stage is the web of a scenario: an http.RoundTripper without a network.
type stage struct {
	play  *play
	hosts map[string]host // by base
	mu    sync.Mutex
	asked []request
}

type request struct {
	base string // "": nobody's
	url  string
}

func (s *stage) take() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.asked
	s.asked = nil
	return out
}

// find says which place a URL belongs to, and the file's name in storage.
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

var errDark = errors.New("no such host")

// RoundTrip answers as the place would.
func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	l, name, ok := s.find(r.URL.String())
	s.mu.Lock()
	s.asked = append(s.asked, request{l.Base, r.URL.String()})
	s.mu.Unlock()
	if !ok {
		return nil, errDark
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
	if h.dark {
		return 0, nil, errDark
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

// read is what a place that serves has under a name.
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

// rootOf reports which root a file is, or is the statement for.
func rootOf(name string) (n int64, recovery, ok bool) {
	name, recovery = strings.CutPrefix(strings.TrimPrefix(name, "metadata/"), "recovery/")
	number, ok := strings.CutSuffix(name, ".root.json")
	if !ok && recovery {
		number, ok = strings.CutSuffix(name, ".statement.json")
		defer func() { n++ }() // it is named after the root before
	}
	n, err := strconv.ParseInt(number, 10, 64)
	return n, recovery, ok && err == nil
}

// at is a version of the repository as one place has it: of what it holds now,
// where that is known, with what is new on top.
func (p *play) at(l tuf.Location, files string) repo.Storage {
	holds, ok := p.Places[l.ID]
	if !ok {
		return p.files[files]
	}
	return mirror{holds, p.files[files], p.Storage}
}

// mirror is a place that has what it has, and gets what is new.
type mirror struct{ holds, next, was repo.Storage }

func (m mirror) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := m.next.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	if old, err := m.was.Read(ctx, name); err == nil && bytes.Equal(old, data) {
		return m.holds.Read(ctx, name) // nothing new: it must be there
	}
	return data, nil
}

// late has the roots of one version, and everything else of another.
type late struct{ roots, rest repo.Storage }

func (m late) Read(ctx context.Context, name string) ([]byte, error) {
	if _, _, ok := rootOf(name); ok {
		return m.roots.Read(ctx, name)
	}
	return m.rest.Read(ctx, name)
}

var errReadOnly = errors.New("a place is only read")

func (m mirror) Create(context.Context, string, io.Reader) error       { return errReadOnly }
func (m mirror) Replace(context.Context, string, []byte, []byte) error { return errReadOnly }
func (m late) Create(context.Context, string, io.Reader) error         { return errReadOnly }
func (m late) Replace(context.Context, string, []byte, []byte) error   { return errReadOnly }
