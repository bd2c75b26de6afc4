package client_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// The benchmarks of this package run this client in the loop and then go-tuf's updater,
// on the same repository, and report both. The repository is in memory, so that no
// network is measured; go-tuf/ours is the ratio.

// goTUF is go-tuf's updater on a repository in memory. An updater refreshes only once,
// so each refresh uses a new one with the same directory, as intended.
type goTUF struct {
	dir  string
	repo *rawtuf.Repo
	root []byte
	n    int   // requests
	max  int64 // roots per refresh; 0: its default limit
}

func (s *goTUF) DownloadFile(url string, _ int64, _ time.Duration) ([]byte, error) {
	s.n++
	data, ok := fileOf(s.repo, strings.TrimPrefix(url, "https://gotuf.example/"))
	if !ok {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: url}
	}
	return data, nil
}

func (s *goTUF) refresh() error {
	cfg, err := config.New("https://gotuf.example/metadata", s.root)
	if err != nil {
		return err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir, cfg.Fetcher = path.Join(s.dir, "metadata"), path.Join(s.dir, "targets"), s
	cfg.TargetsMaxLength = 64 << 20
	if s.max > 0 {
		cfg.MaxRootRotations = s.max
	}
	up, err := updater.New(cfg)
	if err != nil {
		return err
	}
	up.UnsafeSetRefTime(rawtuf.Now)
	return up.Refresh()
}

// memorySource is the same for this client.
type memorySource struct {
	repo *rawtuf.Repo
	n    *int // requests
}

func (s memorySource) Open(_ context.Context, name string) (io.ReadCloser, error) {
	*s.n++
	data, ok := fileOf(s.repo, name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// compareWith measures ours in b's loop, then that of go-tuf once.
func compareWith(b *testing.B, ours func() error, theirs func() error) {
	b.Helper()
	compareAs(b, "go-tuf/ours", ours, theirs)
}

// compareAs reports how much longer theirs takes than ours under a name.
func compareAs(b *testing.B, name string, ours func() error, theirs func() error) {
	b.Helper()
	run := func(f func() error) {
		if err := f(); err != nil {
			b.Fatal(err)
		}
	}
	run(ours) // a first refresh is not measured
	start := cpuTime()
	for b.Loop() {
		run(ours)
	}
	each := float64(cpuTime()-start) / float64(b.N)
	b.ReportMetric(each/1e6, "cpu-ms/op")
	run(theirs)
	runtime.GC()
	start = cpuTime()
	run(theirs)
	if each > 0 {
		b.ReportMetric(float64(cpuTime()-start)/each, name)
	}
}

// crowd gives the targets role 100,000 targets, and three keys that must sign.
func crowd(r *rawtuf.Repo) {
	keys := []string{"t1", "t2", "t3"}
	r.AddKeys(r.Root, keys...)
	rawtuf.At(r.Root, "roles")["targets"], r.Signers["targets"] = r.Role(3, keys...), keys
	for i := range 100_000 {
		p := fmt.Sprintf("pool/%02x/package-%06d.tar.gz", i%256, i)
		r.AddTarget(p, p, nil, "targets")
	}
}

// BenchmarkNoChange100k is a refresh without changes in a new process, with a cached
// role of 100,000 targets signed by three keys.
func BenchmarkNoChange100k(b *testing.B) {
	r := rawtuf.NewPlain()
	crowd(r)
	r.PublishRoot()
	r.Publish()
	dir := b.TempDir()
	ours := func() error {
		c, err := client.New(r.Files["1.root.json"], &client.Config{Dir: dir, UnsafeNoReview: true, Sources: []client.Source{memorySource{r, new(int)}}, Now: clock})
		if err != nil {
			return err
		}
		_, err = c.Refresh(b.Context())
		return err
	}
	theirs := &goTUF{dir: b.TempDir(), repo: r, root: r.Files["1.root.json"]}
	compareWith(b, ours, theirs.refresh)
}

// BenchmarkNoChangeAfterTenRotations counts the requests of a refresh without changes
// in a new process that embeds the first of eleven roots.
func BenchmarkNoChangeAfterTenRotations(b *testing.B) {
	r := rawtuf.NewPlain()
	for range 10 {
		r.NextRoot(func() {})
	}
	dir, n, runs := b.TempDir(), 0, 0
	ours := func() error {
		runs++
		c, err := client.New(r.Files["1.root.json"], &client.Config{Dir: dir, UnsafeNoReview: true, Sources: []client.Source{memorySource{r, &n}}, Now: clock})
		if err != nil {
			return err
		}
		n = 0
		_, err = c.Refresh(b.Context())
		return err
	}
	theirs := &goTUF{dir: b.TempDir(), repo: r, root: r.Files["1.root.json"]}
	refresh := func() error { theirs.n = 0; return theirs.refresh() }
	compareWith(b, ours, refresh)
	b.ReportMetric(float64(n), "requests")
	b.ReportMetric(float64(theirs.n), "requests-go-tuf")
}

// BenchmarkNoChangeCharter is a refresh without changes in a running process, of a
// repository with a charter.
func BenchmarkNoChangeCharter(b *testing.B) {
	w := &web{repo: rawtuf.New(), now: rawtuf.Now, dir: b.TempDir(), serves: map[string]*rawtuf.Repo{}, answers: map[string]answer{}}
	c, err := client.New(w.pin(), &client.Config{Dir: w.dir, HTTP: &http.Client{Transport: w}, Now: clock})
	if err != nil {
		b.Fatal(err)
	}
	r := rawtuf.NewPlain()
	theirs := &goTUF{dir: b.TempDir(), repo: r, root: r.Files["1.root.json"]}
	compareWith(b, func() error {
		_, err := c.Refresh(b.Context())
		w.asked("")
		return err
	}, theirs.refresh)
}
