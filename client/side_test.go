package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// side is a separate process that does one thing with a repository on the web, with
// this client, with go-tuf's updater, or without either: so its memory and CPU time can
// be measured.
type side struct {
	Who  string // ours, go-tuf, bare
	Does string // refresh, find, save
	URL  string
	Root []byte // the root that it embeds
	Dir  string
	Name string // of the target
	Sum  string // its sha256
	Runs int    // times
}

// used is its resource usage, and the number of failures.
type used struct {
	CPU    time.Duration
	Peak   int64 // bytes of memory; 0 if the system does not report it
	Failed int
	Error  string // the first
}

const sideEnv = "VISUM_TEST_SIDE"

// run starts the process and waits for it.
func (s side) run(tb testing.TB) (u used) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), sideEnv+"="+string(rawtuf.Marshal(s)))
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w\n%s", err, exit.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(out, &u)
	}
	if err != nil {
		tb.Errorf("%s %s: %v", s.Who, s.Does, err)
		return used{}
	}
	u.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return u
}

// mustRun requires that nothing failed.
func (s side) mustRun(tb testing.TB) used {
	tb.Helper()
	u := s.run(tb)
	if u.Failed > 0 {
		tb.Errorf("%s %s: %s", s.Who, s.Does, u.Error)
	}
	return u
}

// sideMain is the process.
func sideMain() {
	var s side
	if err := json.Unmarshal([]byte(os.Getenv(sideEnv)), &s); err != nil {
		panic(err)
	}
	do := map[string]func() error{"ours": s.ours, "go-tuf": s.gotuf, "bare": s.bare}[s.Who]
	var u used
	for range max(s.Runs, 1) {
		if err := do(); err != nil {
			if u.Failed++; u.Error == "" {
				u.Error = err.Error()
			}
		}
	}
	u.Peak = rawtuf.PeakMemory()
	if err := json.NewEncoder(os.Stdout).Encode(u); err != nil {
		panic(err)
	}
}

func (s side) file() string { return filepath.Join(s.Dir, "saved") }

func (s side) ours() error {
	ctx := context.Background()
	c, err := client.New(s.Root, &client.Config{Dir: s.Dir, UnsafeNoReview: true, Now: clock, Retries: -1,
		Sources: []client.Source{client.HTTPSource(s.URL+"metadata/", s.URL+"targets/")}})
	if err != nil {
		return err
	}
	view, err := c.Refresh(ctx)
	if err != nil || s.Does == "refresh" {
		return err
	}
	a, err := view.Find(ctx, s.Name)
	if err != nil || s.Does == "find" {
		return err
	}
	return c.Save(ctx, a, s.file())
}

func (s side) gotuf() error {
	cfg, err := config.New(s.URL+"metadata", s.Root)
	if err != nil {
		return err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = filepath.Join(s.Dir, "metadata"), filepath.Join(s.Dir, "targets")
	cfg.TargetsMaxLength, cfg.RemoteTargetsURL = 64<<20, s.URL+"targets"
	up, err := updater.New(cfg)
	if err != nil {
		return err
	}
	up.UnsafeSetRefTime(rawtuf.Now)
	if err := up.Refresh(); err != nil || s.Does == "refresh" {
		return err
	}
	info, err := up.GetTargetInfo(s.Name)
	if err != nil || s.Does == "find" {
		return err
	}
	_, _, err = up.DownloadTarget(info, s.file(), "")
	return err
}

// bare only receives, hashes and writes.
func (s side) bare() error {
	resp, err := http.Get(s.URL + "targets/" + s.Sum + "." + s.Name)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	f, err := os.Create(s.file())
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(h, f), resp.Body); err != nil {
		return err
	}
	if sum := fmt.Sprintf("%x", h.Sum(nil)); sum != s.Sum {
		return errors.New(sum)
	}
	return f.Sync()
}

// shelf is a standard TUF repository on a loopback server, with one target of any size,
// which is generated while it is sent.
type shelf struct {
	side  side
	repo  *rawtuf.Repo
	files atomic.Pointer[map[string][]byte]             // the metadata that is served
	asks  atomic.Int64                                  // requests for metadata
	busy  sync.WaitGroup                                // answers with the target
	sent  atomic.Int64                                  // bytes sent
	does  func(http.ResponseWriter) http.ResponseWriter // applied to a response with the target
}

func newShelf(tb testing.TB, size int64) *shelf {
	s := &shelf{repo: rawtuf.NewPlain(), does: func(w http.ResponseWriter) http.ResponseWriter { return w }}
	h := sha256.New()
	if _, err := io.Copy(h, &made{size: size}); err != nil {
		tb.Fatal(err)
	}
	sum := fmt.Sprintf("%x", h.Sum(nil))
	rawtuf.At(s.repo.Roles["targets"], "targets")["large"] = rawtuf.Doc{"length": size, "hashes": rawtuf.Doc{"sha256": sum}}
	s.publish()
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, ok := strings.CutPrefix(r.URL.Path, "/metadata/"); ok {
			s.asks.Add(1)
			if data, ok := (*s.files.Load())[name]; ok {
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				w.Write(data)
			} else {
				http.NotFound(w, r)
			}
			return
		}
		s.busy.Add(1)
		defer s.busy.Done()
		w.Header().Set("ETag", `"`+sum+`"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(s.does(&counter{w, func(n int) { s.sent.Add(int64(n)) }}), r, "", time.Time{}, &made{size: size})
	}))
	tb.Cleanup(ts.Close)
	s.side = side{URL: ts.URL + "/", Root: s.repo.Files["1.root.json"], Name: "large", Sum: sum}
	return s
}

// publish publishes the next version of all roles except root.
func (s *shelf) publish() {
	s.repo.Bump("targets")
	s.repo.Publish()
	files := maps.Clone(s.repo.Files)
	s.files.Store(&files)
}

// of returns a process of one side, with its own directory.
func (s *shelf) of(tb testing.TB, who, does string) side {
	out := s.side
	out.Who, out.Does, out.Dir = who, does, quickDir(tb)
	return out
}

// made is a file that is generated, not stored.
type made struct{ at, size int64 }

var chunk = noise(1 << 20)

func (m *made) Read(p []byte) (int, error) {
	if m.at >= m.size {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), m.size-m.at)], chunk[m.at%int64(len(chunk)):])
	m.at += int64(n)
	return n, nil
}

func (m *made) Seek(offset int64, whence int) (int64, error) {
	m.at = offset + []int64{0, m.at, m.size}[whence]
	return m.at, nil
}

func mibs(bytes int64) float64 { return float64(bytes) / mib }

// ratio is 0 if a is unknown.
func ratio[N int64 | time.Duration](a, b N) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
