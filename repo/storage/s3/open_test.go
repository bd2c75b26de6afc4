package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

func TestParseURI(t *testing.T) {
	for in, want := range map[string]uriParts{
		"s3://bucket":                              {bucket: "bucket"},
		"s3://bucket/":                             {bucket: "bucket"},
		"s3://my.bucket-1/a/b":                     {bucket: "my.bucket-1", prefix: "a/b/"},
		"s3://bucket/a%20b/":                       {bucket: "bucket", prefix: "a b/"},
		"s3://bucket/a?region=eu-central-1":        {bucket: "bucket", prefix: "a/", region: "eu-central-1"},
		"s3://bucket?endpoint=https://s3.example/": {bucket: "bucket", endpoint: "https://s3.example", pathStyle: true},
		"s3://bucket?endpoint=https%3A%2F%2Fs3.example:99&path-style=false": {bucket: "bucket", endpoint: "https://s3.example:99"},
		"s3://bucket?endpoint=http://127.0.0.1:7070&path-style=true":        {bucket: "bucket", endpoint: "http://127.0.0.1:7070", pathStyle: true},
		"s3://bucket?endpoint=http://[::1]:7070":                            {bucket: "bucket", endpoint: "http://[::1]:7070", pathStyle: true},
		"s3://bucket?path-style=true&region=r":                              {bucket: "bucket", region: "r", pathStyle: true},
	} {
		got, err := parseURI(in, false)
		if err != nil || *got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "bucket", "s3:", "s3:bucket", "s3://", "s3:///a", "S3X://bucket", "http://bucket", "s3://b", "s3://Bucket", "s3://bucket_1", "s3://bucket:80", "s3://bücket",
		"s3://" + secret + "@bucket", "s3://user:" + secret + "@bucket", "s3://bucket#" + secret, "s3://bucket#", "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket//a",
		"s3://bucket/a%2Fb", "s3://bucket/a%00", "s3://bucket/.hidden", "s3://bucket/" + strings.Repeat("a/", 300), "s3://bucket/%zz",
		"s3://bucket?secret=" + secret, "s3://bucket?Region=r", "s3://bucket?region=", "s3://bucket?region=r&region=r", "s3://bucket?region=a.b", "s3://bucket?region=r;x=y",
		"s3://bucket?path-style=1", "s3://bucket?path-style", "s3://bucket?endpoint=", "s3://bucket?endpoint=s3.example", "s3://bucket?endpoint=ftp://s3.example",
		"s3://bucket?endpoint=http://s3.example", "s3://bucket?endpoint=http://10.0.0.1", "s3://bucket?endpoint=https://u:" + secret + "@s3.example",
		"s3://bucket?endpoint=https://s3.example/path", "s3://bucket?endpoint=https://s3.example%3Fx=y",
	} {
		_, err := Open(t.Context(), in, &Options{Credentials: newServer(t).options().Credentials})
		if !errors.Is(err, ErrURI) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := parseURI("s3://bucket?endpoint=http://10.0.0.1", true); err != nil {
		t.Error(err)
	}
	for _, n := range []int{-1, 65} {
		if _, err := Open(t.Context(), uri, &Options{Parallel: n}); !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
	}
}

// A store that ignores conditions is refused, a bucket that is missing too.
func TestOpenProbes(t *testing.T) {
	s := newServer(t)
	s.open(t)
	if n := len(s.requests()); n != 3 {
		t.Errorf("the first probe takes %d requests", n)
	}
	s.open(t)
	if n := len(s.requests()); n != 2 {
		t.Errorf("another probe takes %d requests", n)
	}
	s.lost409 = true // after some attempts
	synctest.Test(t, func(t *testing.T) { s.open(t) })
	s.lost409, s.ignoreAll = false, true
	if _, err := Open(t.Context(), uri, s.options()); !errors.Is(err, ErrNoConditions) {
		t.Fatal(err)
	}
	// Only If-Match is ignored.
	opt := s.options(func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			s.ignoreAll = r.Header.Get("If-Match") != ""
			return next.RoundTrip(r)
		})
	})
	if _, err := Open(t.Context(), uri, opt); !errors.Is(err, ErrNoConditions) {
		t.Fatal(err)
	}
	s.ignoreAll = false
	if _, err := Open(t.Context(), "s3://other?endpoint=http://127.0.0.1:1", s.options()); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "NoSuchBucket") {
		t.Fatal(err)
	}
}

// One publisher at a time can use a store that ignores conditions.
func TestUnsafeNoConditions(t *testing.T) {
	s := newServer(t)
	s.ignoreAll = true
	opt := s.options()
	opt.UnsafeNoConditions = true
	b, err := Open(t.Context(), uri, opt)
	if err != nil {
		t.Fatal(err)
	}
	b.part = testPart
	ctx := t.Context()
	for _, data := range []string{"one", large} {
		name := "targets/" + data[:3]
		for range 2 {
			if err := b.Create(ctx, name, strings.NewReader(data)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Create(ctx, name, strings.NewReader(data+"x")); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
		if err := b.Copy(ctx, name, name+"-copy"); err != nil {
			t.Fatal(err)
		}
	}
	for i, step := range []struct{ old, new []byte }{{nil, []byte("1")}, {[]byte("1"), []byte("2")}} {
		if err := b.Replace(ctx, "metadata/t", step.old, step.new); err != nil {
			t.Fatal(i, err)
		}
		if err := b.Replace(ctx, "metadata/t", step.old, step.new); !errors.Is(err, storage.ErrConflict) {
			t.Fatal(i, err)
		}
	}
	if err := b.Remove(ctx, "targets/one", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

// Only the answer 404 NoSuchKey is the absence of a file.
func TestAbsence(t *testing.T) {
	for code, status := range map[string]int{"NoSuchKey": 404, "NoSuchBucket": 404, "NotFound": 404, "AccessDenied": 403, "PermanentRedirect": 301, "InvalidRequest": 400} {
		s := newServer(t)
		b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
			return tripper(func(r *http.Request) (*http.Response, error) {
				if r.Method != http.MethodGet {
					return next.RoundTrip(r)
				}
				rec := httptest.NewRecorder()
				answer(rec, status, code)
				return rec.Result(), nil
			})
		})
		_, err := b.Read(t.Context(), "metadata/t")
		_, err2 := b.Open(t.Context(), "metadata/t")
		err3 := b.Copy(t.Context(), "metadata/t", "metadata/u")
		for _, err := range []error{err, err2, err3} {
			if errors.Is(err, fs.ErrNotExist) != (code == "NoSuchKey") {
				t.Errorf("%s: %v", code, err)
			}
			if !strings.Contains(err.Error(), code) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", code, err)
			}
		}
		if _, _, err := storage.Stat(t.Context(), b, "metadata/t"); (err == nil) != (code == "NoSuchKey") {
			t.Errorf("%s: Stat: %v", code, err)
		}
	}
}

func TestStat(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	if err := b.Create(t.Context(), "targets/a", strings.NewReader("12345")); err != nil {
		t.Fatal(err)
	}
	s.requests()
	if have, size, err := storage.Stat(t.Context(), b, "targets/a"); !have || size != 5 || err != nil {
		t.Fatal(have, size, err)
	}
	if n := len(s.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestLimits(t *testing.T) {
	s := newServer(t)
	b := s.open(t)
	long := strings.Repeat(strings.Repeat("x", 200)+"/", 5) + strings.Repeat("y", 15) // 1020 bytes
	if err := b.Create(t.Context(), long, strings.NewReader("x")); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if err := b.Create(t.Context(), long[8:], strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	// Read refuses a large file without reading it.
	b = s.open(t, func(next http.RoundTripper) http.RoundTripper {
		return tripper(func(r *http.Request) (*http.Response, error) {
			out, err := next.RoundTrip(r)
			if err == nil && r.Method == http.MethodGet {
				out.Header.Set("Content-Length", fmt.Sprint(storage.MaxRead+1))
				out.ContentLength = storage.MaxRead + 1
				out.Body = io.NopCloser(failing{errors.New("read")})
			}
			return out, err
		})
	})
	if err := b.Create(t.Context(), "targets/big", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(t.Context(), "targets/big"); !errors.Is(err, tuf.ErrTooLarge) || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := b.Replace(t.Context(), "targets/big", []byte("small"), []byte("new")); !errors.Is(err, storage.ErrConflict) {
		t.Error(err)
	}
}

// A reader that returns nothing for ever ends.
func TestNoProgress(t *testing.T) {
	b := newServer(t).open(t)
	if err := b.Create(t.Context(), "targets/a", idle{}); !errors.Is(err, io.ErrNoProgress) {
		t.Fatal(err)
	}
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }

// Conditions in other forms, as stores answer them.
func TestLostRaces(t *testing.T) {
	for _, set := range []func(*server){func(s *server) { s.missing404 = true }, func(s *server) { s.lost409 = true }, func(*server) {}} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			set(s)
			b := s.open(t)
			ctx := t.Context()
			if err := b.Replace(ctx, "metadata/t", nil, []byte("1")); err != nil {
				t.Fatal(err)
			}
			// The file changes, or goes, between the read and the write.
			for _, gone := range []bool{false, true} {
				other := s.open(t)
				racing := s.open(t, func(next http.RoundTripper) http.RoundTripper {
					return tripper(func(r *http.Request) (*http.Response, error) {
						if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/t") {
							var err error
							if gone {
								err = other.Remove(ctx, "metadata/t", time.Now().Add(time.Hour))
							} else {
								err = other.Replace(ctx, "metadata/t", []byte("1"), []byte("2"))
							}
							if err != nil && !errors.Is(err, storage.ErrConflict) {
								t.Error(err)
							}
						}
						return next.RoundTrip(r)
					})
				})
				old := []byte("1")
				if gone {
					old = []byte("2")
				}
				if err := racing.Replace(ctx, "metadata/t", old, []byte("3")); !errors.Is(err, storage.ErrConflict) {
					t.Errorf("gone %v: %v", gone, err)
				}
			}
		})
	}
}

// Other processes create the same file all the time, on a store whose ETags change with
// each write: a Create that never wins a race ends nevertheless, because the others have
// written what it wants to write.
func TestCreateBesideCreates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.encrypted = true
		other, ctx := s.open(t), t.Context()
		if err := other.Create(ctx, "targets/x", strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		writes, content := 0, "x"
		b := s.open(t, func(next http.RoundTripper) http.RoundTripper {
			return tripper(func(r *http.Request) (*http.Response, error) {
				if r.Method == http.MethodPut && r.Header.Get("If-Match") != "" && strings.HasSuffix(r.URL.Path, "/x") {
					writes++
					at, err := other.Read(ctx, "targets/x")
					if err == nil {
						err = other.Replace(ctx, "targets/x", at, []byte(content))
					}
					if err != nil {
						t.Error(err)
					}
				}
				return next.RoundTrip(r)
			})
		})
		if err := b.Create(ctx, "targets/x", strings.NewReader("x")); err != nil || writes != 1 {
			t.Errorf("%v, after %d writes", err, writes)
		}
		// A mark of Remove counts as after a write of its own.
		mark := markOf("targets/x")
		if err := other.setMark(ctx, mark); err != nil {
			t.Fatal(err)
		}
		if err := b.Create(ctx, "targets/x", strings.NewReader("x")); !errors.Is(err, storage.ErrConflict) {
			t.Errorf("beside a Remove: %v", err)
		}
		time.Sleep(time.Hour) // the mark is too old
		content = "y"
		if err := b.Create(ctx, "targets/x", strings.NewReader("x")); !errors.Is(err, storage.ErrConflict) || !strings.Contains(err.Error(), "other content") {
			t.Errorf("other content: %v", err)
		}
	})
}
