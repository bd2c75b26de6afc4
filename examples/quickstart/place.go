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

// place is a host on the web: a folder behind an HTTP server that counts.
type place struct {
	name string
	dir  string
	url  string
	stop func() error

	mu       sync.Mutex
	dark     bool
	requests int
	bytes    int64
}

func newPlace(name, dir string) (*place, error) {
	p := &place{name: name, dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(ln) // ends with stop
	p.stop, p.url = srv.Close, "http://"+ln.Addr().String()+"/"
	return p, nil
}

func (p *place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.requests++
	dark := p.dark
	p.mu.Unlock()
	if dark {
		panic(http.ErrAbortHandler) // the connection breaks, as when the host is gone
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	if !filepath.IsLocal(name) || strings.HasPrefix(filepath.Base(name), ".") {
		http.NotFound(w, r)
		return
	}
	http.ServeFile(&counter{w, p}, r, filepath.Join(p.dir, filepath.FromSlash(name)))
}

// counter counts the bytes of bodies.
type counter struct {
	http.ResponseWriter
	place *place
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.place.mu.Lock()
	c.place.bytes += int64(n)
	c.place.mu.Unlock()
	return n, err
}

func (p *place) setDark(dark bool) {
	p.mu.Lock()
	p.dark = dark
	p.mu.Unlock()
}

// take returns what was requested since the last call.
func (p *place) take() traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := traffic{p.requests, p.bytes}
	p.requests, p.bytes = 0, 0
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

// size writes a number of bytes for people.
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
// rendezvous serves them. Targets never change, so they are linked where the
// disk can do that. Names that begin with a dot are the storage's own.
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
