package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// location is a folder behind an HTTP server that counts requests and bytes.
type location struct {
	name string
	dir  string
	url  string
	stop func() error

	mu          sync.Mutex
	unreachable bool
	requests    int
	bytes       int64
}

func newLocation(name, dir string) (*location, error) {
	l := &location{name: name, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: l, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(ln) // ends with stop
	l.stop, l.url = srv.Close, "http://"+ln.Addr().String()+"/"
	return l, nil
}

func (l *location) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.requests++
	unreachable := l.unreachable
	l.mu.Unlock()
	if unreachable {
		panic(http.ErrAbortHandler) // the connection breaks
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !filepath.IsLocal(name) || strings.HasPrefix(filepath.Base(name), ".") {
		http.NotFound(w, r)
		return
	}
	http.ServeFile(&counter{w, l}, r, filepath.Join(l.dir, filepath.FromSlash(name)))
}

// counter counts the bytes of bodies.
type counter struct {
	http.ResponseWriter
	location *location
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.location.mu.Lock()
	c.location.bytes += int64(n)
	c.location.mu.Unlock()
	return n, err
}

func (l *location) setUnreachable(unreachable bool) {
	l.mu.Lock()
	l.unreachable = unreachable
	l.mu.Unlock()
}

// take returns the requests and bytes since the last call.
func (l *location) take() traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := traffic{l.requests, l.bytes}
	l.requests, l.bytes = 0, 0
	return t
}

type traffic struct {
	requests int
	bytes    int64
}

func (t traffic) String() string {
	if t.requests == 1 {
		return "1 request, " + size(t.bytes)
	}
	return fmt.Sprintf("%d requests, %s", t.requests, size(t.bytes))
}

// size returns a number of bytes in human-readable form.
func size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// mirror makes to a byte mirror of from; with roots, of the roots only, as a
// rendezvous serves them. Targets never change, so they are linked if the file
// system supports that. Names that begin with a dot belong to the storage.
func mirror(ctx context.Context, from, to string, roots bool) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || strings.HasPrefix(d.Name(), ".") || roots && !d.IsDir() && !strings.HasSuffix(rel, ".root.json") {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dst, 0o755)
		}
		if strings.HasPrefix(rel, "targets") && os.Link(path, dst) == nil {
			return nil
		}
		return copyFile(dst, path)
	})
}
