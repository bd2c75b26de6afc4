package client_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// The hosts of a rawtuf repository.
const (
	vendorHost = "updates.vendor.example"
	cdnHost    = "updates.cdn.example"
	reviewHost = "updates.review.example"
)

// web is an internet without sockets: each host serves a repository, and requests are
// recorded. Other hosts are unreachable.
type web struct {
	t    *testing.T
	repo *rawtuf.Repo // served by hosts unless changed
	now  time.Time
	dir  string // the clients' state

	mu       sync.Mutex
	requests []string // "host metadata/1.root.json"
	serves   map[string]*rawtuf.Repo
	answers  map[string]answer

	transport func(*http.Request) (*http.Response, error) // nil: RoundTrip
	content   string                                      // of every target behind overTLS, "": that of fileOf
	served    func()                                      // called for each request to a socket, with mu held
}

// note records a request that the web does not serve.
func (w *web) note(r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r.URL.Host+" "+strings.TrimPrefix(r.URL.Path, "/r/"))
}

// answer is a host's behaviour instead of serving; a nil response means: serve.
type answer func(name string, r *http.Request) (*http.Response, error)

var errDark = errors.New("no route to host")

func unreachable(string, *http.Request) (*http.Response, error) { return nil, errDark }

// body answers 200 with data for every name that ends in suffix.
func body(suffix string, data []byte) answer { return status(200, suffix, data) }

func status(code int, suffix string, data []byte) answer {
	return func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, suffix) {
			return nil, nil
		}
		return respond(r, code, bytes.NewReader(data)), nil
	}
}

func respond(r *http.Request, code int, b io.Reader) *http.Response {
	return &http.Response{StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: io.NopCloser(b), ContentLength: -1, Request: r}
}

func newWeb(t *testing.T, edit ...func(*rawtuf.Repo)) *web {
	w := &web{t: t, repo: rawtuf.New(), now: rawtuf.Now, dir: quickDir(t), serves: map[string]*rawtuf.Repo{}, answers: map[string]answer{}}
	for _, fn := range edit {
		fn(w.repo)
		w.repo.PublishRoot()
		w.repo.Publish()
	}
	return w
}

func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	name := strings.TrimPrefix(r.URL.Path, "/r/")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r.URL.Host+" "+name)
	if a := w.answers[r.URL.Host]; a != nil {
		if resp, err := a(name, r); resp != nil || err != nil {
			return resp, err
		}
	}
	repo := w.serves[r.URL.Host]
	if repo == nil {
		repo = w.repo
	}
	if data, ok := fileOf(repo, name); ok {
		return respond(r, 200, bytes.NewReader(data)), nil
	}
	return respond(r, 404, strings.NewReader("not found")), nil
}

// fileOf finds a file in the layout of a location.
func fileOf(r *rawtuf.Repo, name string) ([]byte, bool) {
	if rest, ok := strings.CutPrefix(name, "metadata/"); ok {
		data, ok := r.Files[rest]
		return data, ok
	}
	return []byte("the agent"), strings.HasSuffix(name, "."+path.Base(rawtuf.Path))
}

// asked returns what was requested since the last call, of one host or ("") all.
func (w *web) asked(host string) (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.requests {
		if name, ok := strings.CutPrefix(r, host+" "); ok {
			out = append(out, name)
		} else if host == "" {
			out = append(out, r)
		}
	}
	w.requests = nil
	return out
}

// does sets the behaviour of hosts; nil: serve again.
func (w *web) does(a answer, hosts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hosts {
		w.answers[h] = a
	}
}

// shows lets hosts serve a fixed state of the repository.
func (w *web) shows(r *rawtuf.Repo, hosts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range hosts {
		w.serves[h] = r
	}
}

// client returns a client with the pin of root v1 and the web's state directory.
func (w *web) client(change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := &client.Config{Retries: -1, Dir: w.dir, HTTP: &http.Client{Transport: w}, Now: func() time.Time { return w.now }}
	for _, fn := range change {
		fn(cfg)
	}
	c, err := client.New(w.pin(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *web) pin() []byte {
	w.mu.Lock() // a publisher may be running
	defer w.mu.Unlock()
	pin := w.repo.Pin()
	pin["locations"] = rawtuf.At(pin, "root", "signed", "x-visum")["locations"]
	return rawtuf.Marshal(pin)
}

// state is the directory of the repository's state.
func (w *web) state(elem ...string) string {
	return filepath.Join(append([]string{w.dir, rawtuf.RepoID}, elem...)...)
}

// good requires a refresh that succeeds at the root, and finds the release.
func (w *web) good(c *client.Client, root int64) *client.View {
	w.t.Helper()
	view, err := c.Refresh(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if view.Root().Version() != root {
		w.t.Fatalf("at root v%d, want v%d", view.Root().Version(), root)
	}
	if _, err := view.Find(w.t.Context(), rawtuf.Path); err != nil {
		w.t.Fatal(err)
	}
	return view
}

// outcome is the result of a refresh, whether it found content or not.
type outcome struct {
	*client.View // nil after an error
	failed       *client.RefreshError
}

// outcomeOf is what Refresh returned. Other errors than a RefreshError fail the test.
func outcomeOf(t testing.TB, view *client.View, err error) (outcome, error) {
	t.Helper()
	failed, ok := errors.AsType[*client.RefreshError](err)
	if err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{view, failed}, err
}

func refreshed(t testing.TB, c *client.Client) (outcome, error) {
	t.Helper()
	view, err := c.Refresh(t.Context())
	return outcomeOf(t, view, err)
}

func (o outcome) Root() *tuf.Root {
	if o.failed != nil {
		return o.failed.Root
	}
	return o.View.Root()
}

func (o outcome) Evidence() []string {
	if o.failed != nil {
		return o.failed.Evidence
	}
	return o.View.Evidence()
}

// isRefreshError reports an error that says how the repository is. Errors of the disk
// and of the context are none.
func isRefreshError(err error) bool {
	_, ok := errors.AsType[*client.RefreshError](err)
	return ok
}

// Err is the error of the refresh.
func (o outcome) Err() error {
	if o.failed != nil {
		return o.failed
	}
	return nil
}

// bad requires a refresh that ends with the error.
func (w *web) bad(c *client.Client, want error) *client.RefreshError {
	w.t.Helper()
	view, err := c.Refresh(w.t.Context())
	if view != nil || !errors.Is(err, want) {
		w.t.Fatalf("got %v, want %v", err, want)
	}
	failed, ok := errors.AsType[*client.RefreshError](err)
	if !ok || failed.Root == nil {
		w.t.Fatalf("not a RefreshError: %v", err)
	}
	return failed
}

// approved refreshes and finds the release.
func (w *web) approved(c *client.Client) tuf.Approved {
	w.t.Helper()
	view, err := c.Refresh(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := view.Find(w.t.Context(), rawtuf.Path)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// renew publishes the next version of every role.
func renew(r *rawtuf.Repo) {
	r.Bump("targets", "vendor-agent", "review-agent", "hold")
	r.Publish()
}

// locations edits the charter's locations by id.
func locations(r *rawtuf.Repo, edit func(id string, l rawtuf.Doc)) {
	for _, l := range r.Charter()["locations"].([]any) {
		edit(l.(rawtuf.Doc)["id"].(string), l.(rawtuf.Doc))
	}
}

// baseOf is the base URL of a location at a loopback server: with a path for each
// location, and another host for one of them, since a pin needs two operators.
func baseOf(id, origin string) string {
	if id == "cdn" {
		origin = strings.Replace(origin, "127.0.0.1", "localhost", 1)
	}
	return origin + "/" + id + "/"
}

// sockets serves the web with a real server on loopback, and makes the repository list
// it.
func (w *web) sockets() *httptest.Server {
	ts := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		w.mu.Lock()
		data, ok := fileOf(w.repo, name)
		if w.served != nil {
			w.served()
		}
		w.mu.Unlock()
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Write(data)
	}))
	w.t.Cleanup(ts.Close)
	locations(w.repo, func(id string, l rawtuf.Doc) { l["base"] = baseOf(id, ts.URL) })
	w.repo.PublishRoot()
	w.repo.Publish()
	return ts
}

func overSockets(cfg *client.Config) { cfg.HTTP, cfg.UnsafeLoopback = nil, true }

func mustWrite(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// quickDir is a directory for small files, in memory if possible: thousands of flushes
// to a busy disk would dominate most tests.
func quickDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "visum-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
