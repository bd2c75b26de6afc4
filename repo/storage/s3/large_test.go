package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

// Parts are sent at the same time, as many as configured, and no upload is left.
func TestPartsInParallel(t *testing.T) {
	for _, parallel := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			var now, most atomic.Int32
			opt := s.options(func(next http.RoundTripper) http.RoundTripper {
				return tripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Query().Has("partNumber") {
						n := now.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						time.Sleep(time.Second)
						defer now.Add(-1)
					}
					return next.RoundTrip(r)
				})
			})
			opt.Parallel = parallel
			b, err := Open(t.Context(), uri, opt)
			if err != nil {
				t.Fatal(err)
			}
			b.part = 1 << 10
			data := strings.Repeat("x", 20<<10-1)
			if err := b.Create(t.Context(), "targets/a", strings.NewReader(data)); err != nil {
				t.Fatal(err)
			}
			if most.Load() != int32(parallel) {
				t.Errorf("%d parts at the same time, want %d", most.Load(), parallel)
			}
			if got, err := b.Read(t.Context(), "targets/a"); string(got) != data {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if s.uploads() != 0 {
				t.Errorf("%d uploads are left", s.uploads())
			}
		})
	}
}

// Sizes at the limits of parts.
func TestPartSizes(t *testing.T) {
	s := newServer(t)
	for _, parts := range []bool{true, false} {
		s.refuseParts = !parts
		b := s.open(t)
		b.part = 100
		for n := range 402 {
			if d := n % 100; d > 1 && d < 99 {
				continue
			}
			name, data := "targets/"+strings.Repeat("a", n%100+1)+map[bool]string{true: "p", false: "s"}[parts]+string(rune('0'+n/100)), strings.Repeat("z", n)
			if err := b.Create(t.Context(), name, strings.NewReader(data)); err != nil {
				t.Fatal(n, err)
			}
			if got, err := b.Read(t.Context(), name); string(got) != data {
				t.Fatal(n, len(got), err)
			}
			if err := b.Create(t.Context(), name, strings.NewReader(data+"z")); !errors.Is(err, storage.ErrConflict) {
				t.Fatal(n, err)
			}
		}
		if s.uploads() != 0 {
			t.Errorf("%d uploads are left", s.uploads())
		}
	}
}

// A failed upload is aborted, and its temporary file removed.
func TestFailedUpload(t *testing.T) {
	for _, spooled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			s.ignoreParts = spooled
			opt := s.options()
			opt.TempDir = t.TempDir()
			b, err := Open(t.Context(), uri, opt)
			if err != nil {
				t.Fatal(err)
			}
			b.part = testPart
			broken := errors.New("disk")
			if err := b.Create(t.Context(), "targets/a", io.MultiReader(strings.NewReader(large), failing{broken})); !errors.Is(err, broken) {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			if err := b.Create(ctx, "targets/a", io.MultiReader(strings.NewReader(large), do(cancel), strings.NewReader(large))); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			left, err := os.ReadDir(opt.TempDir)
			if err != nil || len(left) > 0 || s.uploads() != 0 || len(state(t, s)) > 0 {
				t.Errorf("left: %v, %d uploads, %v", left, s.uploads(), err)
			}
		})
	}
}

// do is an empty reader that calls a function.
type do func()

func (f do) Read([]byte) (int, error) { f(); return 0, io.EOF }

// A file of other content appears during an upload in parts: it stays.
func TestCreateLargeRace(t *testing.T) {
	for _, set := range []func(*server){func(*server) {}, func(s *server) { s.late = true }, func(s *server) { s.ignoreParts = true }} {
		s := newServer(t)
		set(s)
		b, other := s.open(t), s.open(t)
		b.part, other.part = testPart, testPart
		rival := do(func() {
			if err := other.Create(t.Context(), "targets/a", strings.NewReader("rival")); err != nil {
				t.Error(err)
			}
		})
		err := b.Create(t.Context(), "targets/a", io.MultiReader(strings.NewReader(large), rival, strings.NewReader("x")))
		if got, _ := b.Read(t.Context(), "targets/a"); !errors.Is(err, storage.ErrConflict) || string(got) != "rival" {
			t.Errorf("%v, %d bytes", err, len(got))
		}
	}
}

// S3 dates an upload in parts at its begin. Remove takes a file for as old as its end.
func TestLongUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		b := s.open(t)
		b.part = testPart
		slow := do(func() { time.Sleep(10 * time.Minute) })
		if err := b.Create(t.Context(), "targets/a", io.MultiReader(strings.NewReader(large), slow, strings.NewReader("x"))); err != nil {
			t.Fatal(err)
		}
		if err := b.Remove(t.Context(), "targets/a", time.Now().Add(-5*time.Minute)); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
	})
}

// A byte that the network changes is found by the store.
func TestChecksum(t *testing.T) {
	for _, data := range []string{"small", large} {
		s := newServer(t)
		change := false
		b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
			return tripper(func(r *http.Request) (*http.Response, error) {
				if change && r.Method == http.MethodPut {
					body, _ := io.ReadAll(r.Body)
					body[len(body)/2] ^= 1
					r.Body = io.NopCloser(strings.NewReader(string(body)))
				}
				return next.RoundTrip(r)
			})
		})
		b.part = testPart
		if _, err := b.conditionalParts(t.Context()); err != nil {
			t.Fatal(err)
		}
		change = true
		if err := b.Create(t.Context(), "targets/a", strings.NewReader(data)); err == nil || !strings.Contains(err.Error(), "BadDigest") {
			t.Error(err)
		}
		change = false
		if len(state(t, s)) > 0 || s.uploads() != 0 {
			t.Error("something is left")
		}
	}
}

// The original of a copy is replaced while the store copies its parts: the copy has the
// former or the new content, no mixture.
func TestCopyOfChangingFile(t *testing.T) {
	s := newServer(t)
	other, ctx := s.open(t), t.Context()
	old, changed := []byte(strings.Repeat("a", 2*testPart+1)), []byte(strings.Repeat("b", 2*testPart+1))
	copies := 0
	b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("X-Amz-Copy-Source") != "" {
				if copies++; copies == 2 {
					if err := other.Replace(ctx, "metadata/a", old, changed); err != nil {
						t.Error(err)
					}
				}
			}
			return next.RoundTrip(r)
		})
	})
	b.part, b.span, b.opt.Parallel = testPart, testPart, 1
	if err := b.Replace(ctx, "metadata/a", nil, old); err != nil {
		t.Fatal(err)
	}
	err := b.Copy(ctx, "metadata/a", "metadata/b")
	if got, _ := b.Read(ctx, "metadata/b"); err != nil || string(got) != string(changed) || copies < 2 {
		t.Fatalf("%v, %d bytes, %d copies", err, len(got), copies)
	}
	if s.uploads() != 0 {
		t.Error("an upload is left")
	}
}

// Buffers are used again: a file of 256 MiB takes no more memory than the parts that are
// sent at the same time.
func TestMemory(t *testing.T) {
	s := newServer(t)
	b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			query := r.URL.Query()
			if !strings.HasSuffix(r.URL.Path, "/large") || r.Method == http.MethodGet {
				return next.RoundTrip(r)
			}
			rec := httptest.NewRecorder()
			rec.Header().Set("ETag", `"x"`)
			rec.Header().Set("Content-Type", "application/xml")
			switch {
			case query.Has("uploads"):
				fmt.Fprint(rec, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
			case r.Method == http.MethodPost:
				fmt.Fprint(rec, `<CompleteMultipartUploadResult><ETag>"x"</ETag></CompleteMultipartUploadResult>`)
			case query.Has("partNumber"):
				if n, err := io.Copy(io.Discard, r.Body); err != nil || n == 0 || n > partSize {
					t.Error(n, err)
				}
			default:
				t.Errorf("%s %s", r.Method, r.URL)
			}
			return rec.Result(), nil
		})
	})
	if _, err := b.conditionalParts(t.Context()); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.Create(t.Context(), "targets/large", io.LimitReader(zeros{}, 256<<20)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 70<<20 {
		t.Errorf("%d MiB allocated", n>>20)
	} else {
		t.Logf("%d MiB allocated", n>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A file can be read from any position, with one request for each.
func TestSeek(t *testing.T) {
	ctx, s := t.Context(), newServer(t)
	b := s.open(t)
	data := strings.Repeat("0123456789abcdef", 10_000)
	if err := b.Create(ctx, "targets/x", strings.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	s.requests()
	f, err := b.Open(ctx, "targets/x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seeker := f.(io.ReadSeeker)
	if n, err := seeker.Seek(0, io.SeekEnd); err != nil || n != int64(len(data)) {
		t.Fatal(n, err)
	}
	if n, err := seeker.Seek(0, io.SeekStart); err != nil || n != 0 {
		t.Fatal(n, err)
	}
	if all, err := io.ReadAll(f); err != nil || string(all) != data {
		t.Fatal(len(all), err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests for the whole file", n)
	}
	for _, at := range []int64{5, 77_777, int64(len(data)) - 1, int64(len(data)), int64(len(data)) + 5, 0} {
		if n, err := seeker.Seek(at, io.SeekStart); err != nil || n != at {
			t.Fatal(n, err)
		}
		rest, err := io.ReadAll(f)
		if want := data[min(at, int64(len(data))):]; err != nil || string(rest) != want {
			t.Errorf("from %d: %d bytes, want %d, %v", at, len(rest), len(want), err)
		}
	}
	if n := len(s.requests()); n != 4 {
		t.Errorf("%d requests for four positions in the file", n)
	}
	if _, err := seeker.Seek(-1, io.SeekStart); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	// The object is replaced in the meantime.
	if _, err := seeker.Seek(10, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(ctx, "targets/x", []byte(data), []byte("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a replaced object: %v", err)
	}
}

// A large target of a bucket is served, also in ranges.
func TestServeLarge(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	b.part = testPart
	name := "targets/agent/" + strings.Repeat("ab", 32) + ".large"
	if err := b.Create(t.Context(), name, io.LimitReader(zeros{}, storage.MaxRead+3)); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(mirror.Handler(b))
	defer web.Close()
	get := func(part string) (int, int64) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if part != "" {
			r.Header.Set("Range", part)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, n
	}
	if code, n := get(""); code != 200 || n != storage.MaxRead+3 {
		t.Errorf("%d, %d bytes", code, n)
	}
	if code, n := get("bytes=67108860-"); code != 206 || n != 7 {
		t.Errorf("%d, %d bytes", code, n)
	}
}
