package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"
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
	return s.fsys.Open(name)
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
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotFound, http.StatusForbidden, http.StatusGone:
		// Object stores say 403 for what is not there.
		err = &fs.PathError{Op: "GET", Path: req.URL.String(), Err: fmt.Errorf("%s: %w", resp.Status, fs.ErrNotExist)}
	default:
		err = fmt.Errorf("GET %s: %s", req.URL, resp.Status)
	}
	resp.Body.Close()
	return nil, err
}

// errTooLong is what a source's file that goes on past its limit ends with.
var errTooLong = errors.New("longer than it may be")

// readAll reads one metadata file of at most limit bytes, within the timeout.
func readAll(ctx context.Context, s Source, name string, limit int64, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", name, errTooLong, limit)
	}
	return data, nil
}

// idleReader ends a transfer when no byte has arrived for a while.
type idleReader struct {
	r     io.Reader
	timer *time.Timer
	idle  time.Duration
}

// watch returns r and a context's cancel as one: reading fails after idle
// without progress. stop must be called.
func watch(r io.Reader, idle time.Duration, cancel context.CancelCauseFunc) (*idleReader, func()) {
	t := time.AfterFunc(idle, func() { cancel(fmt.Errorf("no byte for %s", idle)) })
	return &idleReader{r, t, idle}, func() { t.Stop() }
}

func (i *idleReader) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if n > 0 {
		i.timer.Reset(i.idle)
	}
	return n, err
}
