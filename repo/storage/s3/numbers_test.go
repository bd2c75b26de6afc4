package s3

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// ruleWorld is a repository of rules in a bucket, in hash bins.
func ruleWorld(t testing.TB, b repo.Storage, n int) *repotest.World {
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	w.Update(func(tx *repo.Tx) error {
		for i := range n {
			path := fmt.Sprintf("agent/rules/%d", i)
			if err := tx.Add("vendor", path, strings.NewReader(fmt.Sprint("rule ", i)), nil); err != nil {
				return err
			}
			if err := tx.Approve("review", path, nil); err != nil {
				return err
			}
		}
		return nil
	})
	return w
}

// rulesUpdate changes one file and approves the change.
func rulesUpdate(i int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		if err := tx.Add("vendor", "agent/rules/7", strings.NewReader(fmt.Sprint("changed ", i)), nil); err != nil {
			return err
		}
		return tx.Approve("review", "agent/rules/7", nil)
	}
}

// requestsOf counts the requests of a call.
func (s *server) requestsOf(t *testing.T, call func() error) (reads, writes int) {
	t.Helper()
	s.requests()
	if err := call(); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.requests() {
		t.Logf("%s %s", r.Method, strings.TrimPrefix(r.URL.Path, "/bucket/pre/fix/"))
		if r.Method == http.MethodGet {
			reads++
		} else {
			writes++
		}
	}
	t.Logf("%d reads, %d writes", reads, writes)
	return reads, writes
}

// A publish of one rules file in hash bins, approved by the other party: 5 writes are the
// file, a bin of each party, the snapshot and the timestamp. 3 reads are the next root, the
// timestamp, and whether the party has refused these bytes. A new handle also reads the
// first root, the snapshot, three roles and two bins, and looks for files of an
// interrupted publish under the next three names.
func TestRulesPublishRequests(t *testing.T) {
	s := newServer(t)
	w := ruleWorld(t, s.open(t), 600)
	handle := w.Open()
	update := func(i int) func() error {
		return func() error { return handle.Update(t.Context(), rulesUpdate(i)) }
	}
	if reads, writes := s.requestsOf(t, update(0)); reads > 13 || writes > 5 {
		t.Errorf("cold: %d reads, %d writes", reads, writes)
	}
	for i := range 3 {
		if reads, writes := s.requestsOf(t, update(i+1)); reads > 3 || writes > 5 {
			t.Errorf("warm: %d reads, %d writes", reads, writes)
		}
	}
	// Another process publishes: the handle notices it, and knows what it has not read.
	if err := w.Open().Update(t.Context(), rulesUpdate(10)); err != nil {
		t.Fatal(err)
	}
	if reads, writes := s.requestsOf(t, update(11)); reads > 6 || writes > 5 {
		t.Errorf("after another process: %d reads, %d writes", reads, writes)
	}
	pin, err := w.Open().Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := mirror.Verify(t.Context(), w.Elsewhere, pin, repotest.Options(w.Config()))
	if err != nil || report.Err() != nil {
		t.Fatal(report, err)
	}
}

// An interrupted publish has left a file under the next name: the warm handle meets a
// conflict once, and then skips the name.
func TestWarmHandleMeetsLeftovers(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	w := ruleWorld(t, b, 600)
	handle := w.Open()
	if err := handle.Update(t.Context(), rulesUpdate(0)); err != nil {
		t.Fatal(err)
	}
	leave := func() {
		t.Helper()
		var names []string
		for f, err := range b.List(t.Context(), "metadata/") {
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, f.Name)
		}
		for _, name := range names {
			if role, v := layout.SplitRoleName(name); strings.Contains(role, ".b-") || role == "snapshot" {
				if err := b.Create(t.Context(), layout.RoleName(role, v+1), strings.NewReader("left")); err != nil && !errors.Is(err, storage.ErrConflict) {
					t.Fatal(err)
				}
			}
		}
	}
	leave()
	if err := handle.Update(t.Context(), rulesUpdate(1)); !errors.Is(err, repo.ErrConflict) {
		t.Fatalf("the first attempt: %v", err)
	}
	if err := handle.Update(t.Context(), rulesUpdate(1)); err != nil {
		t.Fatalf("the second attempt: %v", err)
	}
	// A new handle looks for them first.
	leave()
	if err := w.Open().Update(t.Context(), rulesUpdate(2)); err != nil {
		t.Fatalf("a new handle: %v", err)
	}
}

// A Replace after a Read sends no second read, and a lost race is still a conflict.
func TestReplaceAfterRead(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		ctx, s := t.Context(), newServer(t)
		s.encrypted = encrypted
		a, b, name := s.open(t), s.open(t), "metadata/timestamp.json"
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		ok(a.Replace(ctx, name, nil, []byte("1")))
		_, err := a.Read(ctx, name)
		ok(err)
		if reads, writes := s.requestsOf(t, func() error { return a.Replace(ctx, name, []byte("1"), []byte("2")) }); reads != 0 || writes != 1 {
			t.Errorf("%d reads, %d writes", reads, writes)
		}
		_, err = a.Read(ctx, name)
		ok(err)
		ok(b.Replace(ctx, name, []byte("2"), []byte("3")))
		if err := a.Replace(ctx, name, []byte("2"), []byte("4")); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("a lost race: %v", err)
		}
		// Replaced twice, by the same content: no conflict, whatever the ETag is.
		_, err = a.Read(ctx, name)
		ok(err)
		ok(b.Replace(ctx, name, []byte("3"), []byte("5")))
		ok(b.Replace(ctx, name, []byte("5"), []byte("3")))
		ok(a.Replace(ctx, name, []byte("3"), []byte("6")))
		_, err = a.Read(ctx, name)
		ok(err)
		if err := a.Replace(ctx, name, []byte("3"), []byte("7")); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("not what was read: %v", err)
		}
	}
}

// Prune removes the parts of an upload whose process died a week ago, and no others.
func TestPruneCleans(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	w := ruleWorld(t, b, 1)
	if _, err := b.client.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &b.bucket, Key: b.key("targets/dead")}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		age  time.Duration
		opt  *repo.PruneOptions
		want int
	}{{time.Hour, nil, 1}, {6 * 24 * time.Hour, nil, 1}, {8 * 24 * time.Hour, &repo.PruneOptions{DryRun: true}, 1}, {8 * 24 * time.Hour, nil, 0}} {
		now := w.Now
		w.Now = now.Add(x.age)
		_, err := w.Open().Prune(t.Context(), x.opt)
		if w.Now = now; err != nil {
			t.Fatal(err)
		}
		if n := s.uploads(); n != x.want {
			t.Errorf("%d uploads after %s, want %d", n, x.age, x.want)
		}
	}
}

// thin answers like a bucket that keeps of targets the names alone, so that the memory of
// the process is that of the publisher.
type thin struct {
	*server
	mu      sync.Mutex
	targets map[[16]byte]bool
	running int
	most    int
	enough  chan struct{} // closed when 64 requests are in flight; no PUT returns before
}

func (s *thin) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.Contains(r.URL.Path, "/targets/agent/") {
		return s.server.RoundTrip(r)
	}
	s.mu.Lock()
	s.running++
	if s.most = max(s.most, s.running); s.running == 64 {
		select {
		case <-s.enough:
		default:
			close(s.enough)
		}
	}
	s.mu.Unlock()
	if r.Method == http.MethodPut {
		select {
		case <-s.enough:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	defer func() { s.mu.Lock(); s.running--; s.mu.Unlock() }()
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	sum := sha256.Sum256([]byte(r.URL.Path))
	key := [16]byte(sum[:])
	s.mu.Lock()
	have := s.targets[key]
	if r.Method == http.MethodPut {
		s.targets[key] = true
	}
	s.mu.Unlock()
	rec := httptest.NewRecorder()
	if r.Method == http.MethodGet && !have {
		answer(rec, 404, "NoSuchKey")
	} else {
		rec.Header().Set("ETag", fmt.Sprintf(`"%x"`, sum[:16]))
		rec.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		rec.Header().Set("Content-Length", "0")
	}
	out := rec.Result()
	out.ContentLength = max(out.ContentLength, 0)
	out.Request = r
	return out, nil
}

// The first publish of many targets has 64 requests in flight and needs little memory:
// 100,000 files with VISUM_LONG=1, in under 100 MiB.
func TestFirstPublishOfMany(t *testing.T) {
	n, limit := 3_000, uint64(40<<20)
	if rawtuf.Long {
		n, limit = 100_000, 100<<20
	}
	s := &thin{server: newServer(t), targets: map[[16]byte]bool{}, enough: make(chan struct{})}
	opt := s.options()
	opt.HTTPClient = &http.Client{Transport: s}
	b, err := Open(t.Context(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	w := repotest.Empty(t)
	w.Now, w.Elsewhere = time.Now().UTC().Truncate(time.Second), b
	w.Update(w.Define)
	files := make([]repo.NewFile, n)
	for i := range files {
		files[i] = repo.NewFile{Path: fmt.Sprintf("agent/rules/%03d/%06d", i%1000, i), Open: func() (io.ReadSeekCloser, error) {
			return noClose{strings.NewReader(fmt.Sprint("rule ", i))}, nil
		}}
	}
	s.requests()
	runtime.GC()
	var base runtime.MemStats
	runtime.ReadMemStats(&base)
	old := debug.SetGCPercent(20)
	defer debug.SetGCPercent(old)
	var peak atomic.Uint64
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				metrics.Read(sample)
				peak.Store(max(peak.Load(), sample[0].Value.Uint64()))
			}
		}
	})
	begin := time.Now()
	err = w.Open().Update(t.Context(), func(tx *repo.Tx) error { return tx.AddAll("vendor", files) })
	took := time.Since(begin)
	close(stop)
	sampler.Wait()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d targets in %s, at most %d requests in flight, %d MiB of heap above the start", n, took.Round(time.Millisecond), s.most, (peak.Load()-base.HeapAlloc)>>20)
	if s.most != 64 {
		t.Errorf("%d requests in flight, want 64", s.most)
	}
	if used := peak.Load() - base.HeapAlloc; used > limit {
		t.Errorf("%d MiB of heap, want at most %d", used>>20, limit>>20)
	}
}

type noClose struct{ *strings.Reader }

func (noClose) Close() error { return nil }
