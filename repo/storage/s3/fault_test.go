package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

// operations are calls, with what they expect to exist and what they leave.
var operations = []struct {
	name          string
	before, after map[string]string
	call          func(context.Context, *Bucket) error
}{
	{"Create", nil, map[string]string{"targets/a": "new"}, func(ctx context.Context, b *Bucket) error {
		return b.Create(ctx, "targets/a", strings.NewReader("new"))
	}},
	{"CreateAgain", map[string]string{"targets/a": "new"}, map[string]string{"targets/a": "new"}, func(ctx context.Context, b *Bucket) error {
		return b.Create(ctx, "targets/a", strings.NewReader("new"))
	}},
	{"CreateLarge", nil, map[string]string{"targets/a": large}, func(ctx context.Context, b *Bucket) error {
		return b.Create(ctx, "targets/a", strings.NewReader(large))
	}},
	{"CreateLargeAgain", map[string]string{"targets/a": large}, map[string]string{"targets/a": large}, func(ctx context.Context, b *Bucket) error {
		return b.Create(ctx, "targets/a", strings.NewReader(large))
	}},
	{"ReplaceFirst", nil, map[string]string{"metadata/t": "new"}, func(ctx context.Context, b *Bucket) error {
		return b.Replace(ctx, "metadata/t", nil, []byte("new"))
	}},
	{"Replace", map[string]string{"metadata/t": "old"}, map[string]string{"metadata/t": "new"}, func(ctx context.Context, b *Bucket) error {
		return b.Replace(ctx, "metadata/t", []byte("old"), []byte("new"))
	}},
	{"Read", map[string]string{"metadata/t": "old"}, map[string]string{"metadata/t": "old"}, func(ctx context.Context, b *Bucket) error {
		data, err := b.Read(ctx, "metadata/t")
		if err == nil && string(data) != "old" {
			return fmt.Errorf("read %q", data)
		}
		return err
	}},
	{"List", map[string]string{"metadata/t": "old", "metadata/u": "old"}, map[string]string{"metadata/t": "old", "metadata/u": "old"}, func(ctx context.Context, b *Bucket) error {
		n := 0
		for _, err := range b.List(ctx, "") {
			if err != nil {
				return err
			}
			n++
		}
		if n != 2 {
			return fmt.Errorf("listed %d", n)
		}
		return nil
	}},
	{"Remove", map[string]string{"targets/a": "old"}, map[string]string{}, func(ctx context.Context, b *Bucket) error {
		return b.Remove(ctx, "targets/a", time.Now().Add(time.Hour))
	}},
	{"Copy", map[string]string{"targets/a": "old"}, map[string]string{"targets/a": "old", "targets/b": "old"}, func(ctx context.Context, b *Bucket) error {
		return b.Copy(ctx, "targets/a", "targets/b")
	}},
	{"CopyLarge", map[string]string{"targets/a": large}, map[string]string{"targets/a": large, "targets/b": large}, func(ctx context.Context, b *Bucket) error {
		return b.Copy(ctx, "targets/a", "targets/b")
	}},
}

// testPart makes files large that are fast to send.
const testPart = 64 << 10

var large = strings.Repeat("0123456", (2*testPart+100)/7)

// state returns the files, by a handle without faults.
func state(t *testing.T, s *server) map[string]string {
	t.Helper()
	b, err := Open(t.Context(), uri, s.options())
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for f, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.Open(t.Context(), f.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(o)
		if o.Close(); err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(data)
	}
	return out
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// setUp returns a store with files, and a handle whose requests can be made to fail.
func setUp(t *testing.T, files map[string]string) (*server, *faulty, *Bucket) {
	t.Helper()
	s, f := newServer(t), &faulty{}
	b := s.open(t, f.wrap)
	b.part = testPart
	for name, data := range files {
		if err := b.Create(t.Context(), name, strings.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.conditionalParts(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, f, b
}

// Every request of every call fails once, in every way: the call succeeds, and its
// effect is there once.
func TestFaultOnce(t *testing.T) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 1
				for i := 0; i < n; i++ {
					for what := none; what < numFaults; what++ {
						s, f, b := setUp(t, op.before)
						f.set(func(k int, _ *http.Request) fault {
							if k == i {
								return what
							}
							return none
						})
						err := op.call(t.Context(), b)
						if sent := f.set(nil); what == none {
							n = max(n, sent)
						}
						if err != nil {
							t.Errorf("request %d %s: %v", i, what, err)
						} else if !same(state(t, s), op.after) {
							t.Errorf("request %d %s: other files than expected", i, what)
						}
					}
				}
				if n > 12 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// From one request on, everything fails: the call fails in bounded time, and the files
// are the former or the new ones. A conflict means that nothing changed.
func TestFaultForGood(t *testing.T) {
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := 1
				for i := 0; i < n; i++ {
					for what := none; what < numFaults; what++ {
						s, f, b := setUp(t, op.before)
						f.set(func(k int, _ *http.Request) fault {
							if k >= i {
								return what
							}
							return none
						})
						begin := time.Now()
						err := op.call(t.Context(), b)
						if sent := f.set(nil); what == none {
							n = max(n, sent)
							continue
						}
						if took := time.Since(begin); took > 3*time.Minute {
							t.Errorf("request %d %s: took %s", i, what, took)
						}
						left := state(t, s)
						switch {
						case err == nil && !same(left, op.after):
							t.Errorf("request %d %s: success, and other files than expected", i, what)
						case !same(left, op.before) && !same(left, op.after):
							t.Errorf("request %d %s: neither the former nor the new files", i, what)
						case errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
							t.Errorf("request %d %s: %v", i, what, err)
						case errors.Is(err, storage.ErrConflict) && op.before == nil && !same(left, op.before):
							t.Errorf("request %d %s: a conflict, but the files changed: %v", i, what, err)
						case err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n")):
							t.Errorf("request %d %s: %v", i, what, err)
						}
					}
				}
			})
		})
	}
}

// The answer to a Replace is lost, and another publisher replaces the file before the
// retry: the result is unknown, which is not a conflict.
func TestReplaceUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f, b := setUp(t, map[string]string{"metadata/t": "1"})
		other := s.open(t)
		f.set(func(n int, r *http.Request) fault {
			if r.Method == http.MethodPut && n == 1 {
				return unheard
			}
			if n == 2 {
				if err := other.Replace(t.Context(), "metadata/t", []byte("2"), []byte("3")); err != nil {
					t.Error(err)
				}
			}
			return none
		})
		err := b.Replace(t.Context(), "metadata/t", []byte("1"), []byte("2"))
		if err == nil || errors.Is(err, storage.ErrConflict) || !strings.Contains(err.Error(), "unknown") {
			t.Fatal(err)
		}
		// The same with the content that the call wanted: it is another's write.
		f.set(func(n int, r *http.Request) fault {
			if n == 1 {
				if err := other.Replace(t.Context(), "metadata/t", []byte("3"), []byte("4")); err != nil {
					t.Error(err)
				}
				return unsent
			}
			return none
		})
		if err := b.Replace(t.Context(), "metadata/t", []byte("3"), []byte("4")); err == nil {
			t.Fatal("the write of another publisher was taken for one's own")
		}
	})
}

// silent is a server that never answers, or stops in the body of an answer.
type silent struct {
	next http.RoundTripper
	body bool
	on   bool
}

func (s *silent) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.on {
		return s.next.RoundTrip(r)
	}
	if !s.body {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	out, err := s.next.RoundTrip(r)
	if err == nil && r.Method == http.MethodGet {
		out.Body = io.NopCloser(io.MultiReader(io.LimitReader(out.Body, 1), hanging{r.Context()}))
	}
	return out, err
}

type hanging struct{ ctx context.Context }

func (h hanging) Read([]byte) (int, error) { <-h.ctx.Done(); return 0, h.ctx.Err() }

// A server that does not answer ends no call for ever, and no call outlives its context.
func TestSilentServer(t *testing.T) {
	for _, body := range []bool{false, true} {
		for _, op := range operations {
			t.Run(fmt.Sprintf("%s/%v", op.name, body), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, quiet := newServer(t), &silent{body: body}
					b := s.open(t, func(next http.RoundTripper) http.RoundTripper { quiet.next = next; return quiet })
					b.part = testPart
					for name, data := range op.before {
						if err := b.Create(t.Context(), name, strings.NewReader(data)); err != nil {
							t.Fatal(err)
						}
					}
					b.conditionalParts(t.Context())
					quiet.on = true
					begin := time.Now()
					err := op.call(t.Context(), b)
					if took := time.Since(begin); took > 50*time.Minute || err == nil && !body {
						t.Errorf("took %s: %v", took, err)
					} else if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
						t.Errorf("the context has not ended: %v", err)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					begin = time.Now()
					err = op.call(ctx, b)
					if took := time.Since(begin); took > time.Second+2*cleanupTime || err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, storage.ErrConflict) {
						t.Errorf("with a context: took %s: %v", took, err)
					}
				})
			})
		}
	}
}

// A file whose content stops while it is read ends with an error.
func TestOpenStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, quiet := newServer(t), &silent{body: true}
		b := s.open(t, func(next http.RoundTripper) http.RoundTripper { quiet.next = next; return quiet })
		if err := b.Create(t.Context(), "targets/a", bytes.NewReader(make([]byte, 100))); err != nil {
			t.Fatal(err)
		}
		quiet.on = true
		f, err := b.Open(t.Context(), "targets/a")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		begin := time.Now()
		if _, err := io.ReadAll(f); !errors.Is(err, errStalled) || time.Since(begin) > 2*stallTime {
			t.Fatal(err, time.Since(begin))
		}
	})
}
