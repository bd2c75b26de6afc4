package client_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// depot is a repository whose one release is available at several locations: real web
// servers on loopback that can be made to misbehave.
type depot struct {
	t       *testing.T
	repo    *rawtuf.Repo
	content []byte
	mirrors []*mirrorServer
	dir     string // the clients' state
}

// mirrorServer is one of its locations.
type mirrorServer struct {
	url string

	mu   sync.Mutex
	idle *sync.Cond // signals busy 0
	busy int
	asks []ask
	done int // requests that have been returned
	does behaviour
}

// ask is a request for the release, with its response.
type ask struct {
	from    int64  // the first byte requested, -1 for all
	ifRange string // the header
	sent    int64  // bytes of the body
}

// behaviour handles the n-th request for the release since tell, from 0; file serves as a
// correct server does.
type behaviour func(n int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc)

// noise returns n incompressible bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func newDepot(t *testing.T, locations, size int) *depot {
	d := &depot{t: t, repo: rawtuf.New(), content: noise(size), dir: t.TempDir()}
	d.repo.AddTarget(rawtuf.Path, string(d.content), nil, "vendor-agent", "review-agent")
	d.open(locations)
	return d
}

// open starts the servers and publishes their locations.
func (d *depot) open(n int) {
	var locations []any
	for i := range n + 1 {
		p := &mirrorServer{}
		p.idle = sync.NewCond(&p.mu)
		ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.serve(p, w, r) }))
		d.t.Cleanup(ts.Close)
		p.url = ts.URL + "/r/"
		l := rawtuf.Doc{"id": fmt.Sprint("p", i), "tier": "primary", "operator": fmt.Sprint("o", i), "jurisdiction": "CH",
			"base": p.url, "paths": rawtuf.Doc{"metadata": "metadata/", "targets": "targets/"}, "priority": 10 + i}
		if i == n { // a second operator, with roots only
			l["tier"], l["paths"] = "rendezvous", rawtuf.Doc{"metadata": "metadata/"}
		} else {
			d.mirrors = append(d.mirrors, p)
		}
		locations = append(locations, l)
	}
	d.repo.Charter()["locations"] = locations
	d.repo.PublishRoot()
	d.repo.Publish()
}

func (d *depot) serve(p *mirrorServer, w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/r/")
	if rest, ok := strings.CutPrefix(name, "metadata/"); ok {
		if data, ok := d.repo.Files[rest]; ok {
			w.Write(data)
		} else {
			http.NotFound(w, r)
		}
		return
	}
	p.mu.Lock()
	n := len(p.asks)
	a := ask{from: -1, ifRange: r.Header.Get("If-Range")}
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		a.from, _ = strconv.ParseInt(strings.TrimSuffix(from, "-"), 10, 64)
	}
	p.asks = append(p.asks, a)
	p.busy++
	does, since := p.does, n+p.done
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.busy--
		p.idle.Broadcast()
	}()
	counted := &counter{ResponseWriter: w, sent: func(b int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asks[n].sent += int64(b)
	}}
	if does == nil {
		d.file(d.content)(counted, r)
	} else {
		does(since, counted, r, d.file(d.content))
	}
}

// file serves content correctly, including ranges.
func (d *depot) file(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if w.Header()["Etag"] == nil {
			w.Header().Set("ETag", fmt.Sprintf(`"%d-%x"`, len(content), content[:8]))
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}
}

type counter struct {
	http.ResponseWriter
	sent func(int)
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.sent(n)
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// tell changes the behaviour, and forgets earlier requests.
func (p *mirrorServer) tell(does behaviour) {
	p.asked()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.does, p.asks, p.done = does, nil, 0
}

// asked returns the requests since tell, or since the last call.
func (p *mirrorServer) asked() []ask {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.busy > 0 { // an answer may have been read before it was counted
		p.idle.Wait()
	}
	asks := p.asks
	p.asks, p.done = nil, p.done+len(asks)
	return asks
}

func sent(asks []ask) (n int64) {
	for _, a := range asks {
		n += a.sent
	}
	return n
}

// cutter passes only so many bytes of a response, and then calls a function that does
// not return.
type cutter struct {
	http.ResponseWriter
	left int
	then func()
}

func (c *cutter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b[:min(len(b), c.left)])
	if c.left -= n; c.left == 0 {
		http.NewResponseController(c.ResponseWriter).Flush()
		c.then()
	}
	return n, err
}

func hangUp() { panic(http.ErrAbortHandler) }

// cutAfter closes the connection after so many bytes of each response.
func cutAfter(n int) behaviour {
	return func(_ int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		file(&cutter{w, n, hangUp}, r)
	}
}

// first handles the first request with a, and later ones with b; nil: serves correctly.
func first(a, b behaviour) behaviour {
	return func(n int, w http.ResponseWriter, r *http.Request, file http.HandlerFunc) {
		switch {
		case n == 0:
			a(n, w, r, file)
		case b == nil:
			file(w, r)
		default:
			b(n, w, r, file)
		}
	}
}

func down(_ int, w http.ResponseWriter, _ *http.Request, _ http.HandlerFunc) { hangUp() }

func gone(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { http.NotFound(w, r) }

// gives serves other content correctly.
func (d *depot) gives(content []byte) behaviour {
	return func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) { d.file(content)(w, r) }
}

// bad returns the content with some bytes flipped.
func (d *depot) bad(from, to int) []byte {
	b := bytes.Clone(d.content)
	for i := from; i < to; i++ {
		b[i] ^= 0xff
	}
	return b
}

func (d *depot) config() *client.Config {
	return &client.Config{Dir: d.dir, UnsafeLoopback: true, Now: clock, Retries: -1, IdleTimeout: 10 * time.Second}
}

func (d *depot) pin() []byte {
	pin := d.repo.Pin()
	pin["locations"] = rawtuf.At(pin, "root", "signed", "x-visum")["locations"]
	return rawtuf.Marshal(pin)
}

// client returns another client with the same state.
func (d *depot) client(change ...func(*client.Config)) *client.Client {
	d.t.Helper()
	cfg := d.config()
	for _, fn := range change {
		fn(cfg)
	}
	c, err := client.New(d.pin(), cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *depot) approved(c *client.Client) tuf.Approved {
	d.t.Helper()
	view, err := c.Refresh(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := view.Find(d.t.Context(), rawtuf.Path)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

// save saves with a new client.
func (d *depot) save(ctx context.Context, file string) error {
	d.t.Helper()
	c := d.client()
	return c.Save(ctx, d.approved(c), file)
}

// saves requires that Save succeeds and leaves only the file.
func (d *depot) saves(file string) {
	d.t.Helper()
	if err := d.save(d.t.Context(), file); err != nil {
		d.t.Fatal(err)
	}
	d.holds(file)
}

func (d *depot) holds(file string) {
	d.t.Helper()
	if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, d.content) {
		d.t.Fatalf("saved %d bytes, %v, not the %d of the release", len(got), err, len(d.content))
	}
	if got := files(d.t, filepath.Dir(file)); !slices.Equal(got, []string{filepath.Base(file)}) {
		d.t.Fatalf("left %q", got)
	}
	if got := d.records(); len(got) > 0 {
		d.t.Fatalf("left records %q", got)
	}
}

// records are the state's records of interrupted downloads.
func (d *depot) records() []string {
	d.t.Helper()
	list, err := filepath.Glob(filepath.Join(d.dir, rawtuf.RepoID, "saves", "*.json"))
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

// parts returns the partial files in a directory.
func parts(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, ".visum-*.part"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// part requires exactly one partial file of the given size, and returns it.
func part(t *testing.T, dir string, size int) string {
	t.Helper()
	list := parts(t, dir)
	if len(list) != 1 {
		t.Fatalf("parts %q", list)
	}
	if fi, err := os.Stat(list[0]); err != nil || fi.Size() != int64(size) {
		t.Fatalf("a part of %d bytes, %v; want %d", fi.Size(), err, size)
	}
	return list[0]
}

func size(t *testing.T, file string) int64 {
	fi, err := os.Stat(file)
	if err != nil {
		t.Error(err)
		return 1 << 62
	}
	return fi.Size()
}
