package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Source is a place's files, laid out as "metadata/1.root.json" and
// "targets/DIR/SHA256.NAME". It may return anything: nothing it returns is
// trusted.
type Source interface {
	// Open returns the file called name, a slash-separated path that is not
	// escaped in any way. An error wraps fs.ErrNotExist where the place says
	// that there is no such file, and only then. Reading ends when ctx does.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// FS makes a Source of a file system with a location's layout: os.DirFS, an
// embedded tree, a zip.Reader.
func FS(fsys fs.FS) Source { return fsSource{fsys} }

type fsSource struct{ fsys fs.FS }

func (s fsSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// A pipe would be waited for, for ever.
	if fi, err := fs.Stat(s.fsys, name); err != nil {
		return nil, err
	} else if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: not a regular file", fs.ErrInvalid)}
	}
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	return ctxFile{ctx, f}, nil
}

// ctxFile is a file whose reading ends with ctx.
type ctxFile struct {
	ctx context.Context
	fs.File
}

func (f ctxFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

// httpSource is a location on the web.
type httpSource struct {
	client            *http.Client
	agent             string
	metadata, targets string // URLs, end in /
}

func (s *httpSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	base := s.metadata
	rest, ok := strings.CutPrefix(name, "metadata/")
	if !ok {
		base = s.targets
		rest = strings.TrimPrefix(name, "targets/")
	}
	if base == "" {
		return nil, fmt.Errorf("%s: %w: the place has roots only", name, errors.ErrUnsupported)
	}
	// No server shall be asked for what climbs out of the place's folder.
	if !fs.ValidPath(rest) {
		return nil, &fs.PathError{Op: "GET", Path: rest, Err: fs.ErrInvalid}
	}
	parts := strings.Split(rest, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+strings.Join(parts, "/"), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", s.agent)
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	// Not resp.Status: its text is the server's.
	status := fmt.Sprintf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch resp.StatusCode {
	case http.StatusOK:
		if coding := resp.Header.Get("Content-Encoding"); coding == "" || strings.EqualFold(coding, "identity") {
			return resp.Body, nil
		}
		err = fmt.Errorf("GET %s: answered in a coding that was not asked for", req.URL)
	case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
		// Object stores say 403 for what is not there.
		err = &fs.PathError{Op: "GET", Path: req.URL.String(), Err: fmt.Errorf("%s: %w", status, fs.ErrNotExist)}
	default:
		err = fmt.Errorf("GET %s: %s", req.URL, status)
	}
	resp.Body.Close()
	return nil, err
}

// open is s.Open, on guard against a source that returns nothing.
func open(ctx context.Context, s Source, name string) (io.ReadCloser, error) {
	f, err := s.Open(ctx, name)
	if err == nil && f == nil {
		return nil, fmt.Errorf("%s: the source returned neither file nor error", name)
	}
	return f, err
}

// readAll reads one metadata file of at most limit bytes, within the timeout.
func readAll(ctx context.Context, s Source, name string, limit int64, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	f, err := open(ctx, s, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limit = min(limit, math.MaxInt64-1)
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, &tuf.Error{Role: name, Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("more than %d bytes", limit)}
	}
	return data, nil
}

// minRate is how many bytes a second a download must bring: who sends less
// keeps the next place from being asked.
const minRate = 1 << 10

// pulse ends a transfer that stands still or crawls.
type pulse struct {
	timer *time.Timer
	idle  time.Duration
	chunk int64 // bytes to bring within idle
	have  int64
}

// watch calls cancel when idle passes, unless read keeps bringing bytes. stop
// must be called.
func watch(idle time.Duration, cancel context.CancelCauseFunc) (p *pulse, stop func()) {
	t := time.AfterFunc(idle, func() { cancel(fmt.Errorf("less than %d bytes a second for %s", minRate, idle)) })
	return &pulse{timer: t, idle: idle, chunk: max(1, int64(idle.Seconds()*minRate))}, func() { t.Stop() }
}

// reader counts what r brings.
func (p *pulse) reader(r io.Reader) io.Reader {
	return readFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		if p.have += int64(n); p.have >= p.chunk {
			p.have = 0
			p.timer.Reset(p.idle)
		}
		return n, err
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
