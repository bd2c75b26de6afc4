package client_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// world is a repository of two parties with its locations on loopback: a and b serve
// everything, z (run by the review centre) serves only roots. The vendor publishes into
// the directory of a.
type world struct {
	t       *testing.T
	now     time.Time
	a, b, z *server
	keys    map[string]tuf.Signer
	repo    *repo.Repo // with every key
}

// server is a location: a directory behind HTTP, with a record of requests.
type server struct {
	dir string
	url string

	mu       sync.Mutex
	requests []string
	answer   func(w http.ResponseWriter, r *http.Request) bool // called instead of serving, if it returns true
}

func newServer(t *testing.T) *server {
	s := &server{dir: t.TempDir()}
	files := http.FileServer(http.Dir(s.dir))
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, strings.TrimPrefix(r.URL.Path, "/"))
		answer := s.answer
		s.mu.Unlock()
		if answer == nil || !answer(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(ts.Close)
	s.url = ts.URL + "/"
	return s
}

// asked returns what was requested since the last call.
func (s *server) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.requests
	s.requests = nil
	return out
}

func (s *server) does(answer func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *server) unreachable() {
	s.does(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
}
func (s *server) heal()  { s.does(nil) }
func (s *server) clear() { os.RemoveAll(s.dir); os.MkdirAll(s.dir, 0o755) }

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), a: newServer(t), b: newServer(t), z: newServer(t), keys: map[string]tuf.Signer{}}
	w.repo = w.open()
	w.update(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties = []repo.Party{{Name: "vendor", Keys: w.public("vendor-1", "vendor-2"), Min: 1}, {Name: "review", Keys: w.public("review-1", "review-2"), Min: 1}}
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.public("timestamp"), w.public("snapshot"), w.public("targets")
		r.Classes = []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: w.public("vendor-release")}},
			{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: w.public("review-release")}}}}}
		r.Locations = []tuf.Location{w.location("a", tuf.Primary, "vendor-host", w.a, 10), w.location("z", tuf.Rendezvous, "review-host", w.z, 20)}
		return nil
	})
	return w
}

func (w *world) location(id, tier, operator string, s *server, priority int) tuf.Location {
	l := tuf.Location{ID: id, Tier: tier, Operator: operator, Base: s.url, Metadata: "metadata/", Targets: "targets/", Priority: priority}
	if tier == tuf.Rendezvous {
		l.Targets = ""
	}
	return l
}

// signer returns the key of that name, which signs every update from now on.
func (w *world) signer(name string) tuf.Signer {
	w.keys[name] = repotest.Signer(name)
	return w.keys[name]
}

func (w *world) public(names ...string) (keys []tuf.Key) {
	for _, n := range names {
		keys = append(keys, w.signer(n).Key())
	}
	return keys
}

// open returns a handle on a's directory with all keys made so far, or the named ones.
func (w *world) open(names ...string) *repo.Repo {
	var signers []tuf.Signer
	for name, k := range w.keys {
		if len(names) == 0 || slices.Contains(names, name) {
			signers = append(signers, k)
		}
	}
	return repo.New(repo.Folder(w.a.dir), &repo.Config{Signers: signers, Now: func() time.Time { return w.now }, UnsafeLoopback: true, UnsafeTrustStorage: true})
}

// update edits with all keys, including those made in fn, and copies the roots to z.
func (w *world) update(fn func(*repo.Tx) error) {
	w.t.Helper()
	d, err := w.open().Stage(w.t.Context(), fn)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range w.keys {
		_ = d.Sign(w.t.Context(), s) // not every key has a part
	}
	w.repo = w.open()
	if err := w.repo.Publish(w.t.Context(), d); err != nil {
		w.t.Fatal(err)
	}
	w.mirrorRoots()
}

func (w *world) mirrorRoots() {
	roots, _ := filepath.Glob(filepath.Join(w.a.dir, "metadata", "*.root.json"))
	for _, r := range roots {
		data, err := os.ReadFile(r)
		if err != nil {
			w.t.Fatal(err)
		}
		os.MkdirAll(filepath.Join(w.z.dir, "metadata"), 0o755)
		if err := os.WriteFile(filepath.Join(w.z.dir, "metadata", filepath.Base(r)), data, 0o644); err != nil {
			w.t.Fatal(err)
		}
	}
}

// copyTo makes another location a byte mirror of a.
func (w *world) copyTo(s *server) {
	s.clear()
	if err := os.CopyFS(s.dir, os.DirFS(w.a.dir)); err != nil {
		w.t.Fatal(err)
	}
}

func target(version string) string { return "agent/agent-" + version }

// add lists a release by the vendor; approve lists it by the review centre too.
func (w *world) add(version, content string) {
	w.t.Helper()
	w.update(func(tx *repo.Tx) error {
		return tx.Add("vendor", target(version), strings.NewReader(content), &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"})
	})
}

func (w *world) approve(version string) {
	w.t.Helper()
	w.update(func(tx *repo.Tx) error { return tx.Approve("review", target(version), nil) })
}

func (w *world) pin() []byte {
	w.t.Helper()
	pin, err := w.repo.Pin(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return pin
}

// client returns a client with the pin and its own state directory.
func (w *world) client(pin []byte, change ...func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := &client.Config{Retries: -1, Dir: w.t.TempDir(), Now: func() time.Time { return w.now }, UnsafeLoopback: true}
	for _, fn := range change {
		fn(cfg)
	}
	c, err := client.New(pin, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// latest refreshes and queries a release newer than the installed one.
func (w *world) latest(c *client.Client, installed string) (client.Release, error) {
	view, err := c.Refresh(w.t.Context())
	if err != nil {
		return client.Release{}, err
	}
	return view.Latest(w.t.Context(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: installed})
}

// mustGet requires that the client is offered the version and saves its content.
func (w *world) mustGet(c *client.Client, installed string, version, content string) {
	w.t.Helper()
	rel, err := w.latest(c, installed)
	if err != nil || rel.Version != version {
		w.t.Fatalf("offered %q, %v; want %s", rel.Version, err, version)
	}
	file := filepath.Join(w.t.TempDir(), "agent")
	if err := c.Save(w.t.Context(), rel.Approved, file); err != nil {
		w.t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != content {
		w.t.Fatalf("saved %q, %v", got, err)
	}
}

// firstJSON returns the JSON value at the start of data.
func firstJSON(t *testing.T, data []byte) []byte {
	t.Helper()
	var v json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
