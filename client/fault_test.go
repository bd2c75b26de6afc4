package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// faults are the possible faults of one request.
var faults = map[string]func(r *http.Request, good *http.Response) (*http.Response, error){
	"before": func(r *http.Request, good *http.Response) (*http.Response, error) { return nil, errDark },
	"refused": func(r *http.Request, good *http.Response) (*http.Response, error) {
		return respond(r, 503, http.NoBody), nil
	},
	"cut": func(r *http.Request, good *http.Response) (*http.Response, error) {
		data, _ := io.ReadAll(good.Body)
		good.Body = io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), failing{}))
		return good, nil
	},
	"short": func(r *http.Request, good *http.Response) (*http.Response, error) {
		data, _ := io.ReadAll(good.Body)
		good.Body = io.NopCloser(bytes.NewReader(data[:len(data)/2]))
		return good, nil
	},
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// nth applies fault to the n-th request.
func (w *web) nth(n int, fault func(*http.Request, *http.Response) (*http.Response, error)) func(*client.Config) {
	var count atomic.Int64
	return func(cfg *client.Config) {
		cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			resp, err := w.RoundTrip(r)
			if err == nil && count.Add(1) == int64(n) { // a dropped request does not count
				return fault(r, resp)
			}
			return resp, err
		})}
	}
}

// One fault at the n-th request, of each kind, does not prevent the update: another
// location is used. With only one location the next run succeeds.
func TestFaultAtEveryRequest(t *testing.T) {
	t.Parallel()
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			for _, alone := range []bool{false, true} {
				for n := 1; ; n++ {
					w := newWeb(t)
					pin := w.client()
					w.repo.NextRoot(nothing)
					if alone {
						w.does(unreachable, cdnHost)
					}
					file := filepath.Join(t.TempDir(), "agent")
					err := refreshAndSave(w.client(w.nth(n, fault)), file)
					requests := len(w.asked(""))
					if err != nil && !alone {
						t.Fatalf("request %d: %v", n, err)
					}
					if err := refreshAndSave(pin, file); err != nil {
						t.Fatalf("request %d, clean run: %v", n, err)
					}
					if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
						t.Fatalf("request %d: %q, %v", n, got, err)
					}
					w.good(w.client(), 2)
					if n > requests {
						if n < 8 {
							t.Fatalf("only %d requests", n)
						}
						break
					}
				}
			}
		})
	}
}

// At whatever request the context ends, Refresh and Save return its error and the state
// remains valid.
func TestCancelAtEveryRequest(t *testing.T) {
	for n := 1; ; n++ {
		w := newWeb(t)
		w.repo.NextRoot(nothing)
		ctx, cancel := context.WithCancel(t.Context())
		c := w.client(w.nth(n, func(r *http.Request, good *http.Response) (*http.Response, error) {
			cancel()
			return nil, r.Context().Err()
		}))
		file := filepath.Join(t.TempDir(), "agent")
		view, err := c.Refresh(ctx)
		if err == nil {
			a, findErr := view.Find(t.Context(), rawtuf.Path)
			if findErr != nil {
				t.Fatal(findErr)
			}
			err = c.Save(ctx, a, file)
		} else if isRefreshError(err) {
			t.Fatalf("request %d: a RefreshError with %v", n, err)
		}
		done := ctx.Err() == nil
		cancel()
		if !done && !errors.Is(err, context.Canceled) {
			t.Fatalf("request %d: %v", n, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(file)); !done && len(left) > 0 {
			t.Fatalf("request %d: left %v", n, left)
		}
		w.good(c, 2)
		w.good(w.client(), 2)
		if done {
			if n < 8 {
				t.Fatalf("only %d requests", n)
			}
			break
		}
	}
}

// A call that waits for another refresh ends with its own context.
func TestWaitEndsWithContext(t *testing.T) {
	w := newWeb(t)
	begun, end := make(chan struct{}), make(chan struct{})
	c := w.client(func(cfg *client.Config) {
		once := sync.OnceFunc(func() { close(begun); <-end })
		cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) { once(); return w.RoundTrip(r) })}
	})
	first := make(chan error, 1)
	go func() { _, err := c.Refresh(t.Context()); first <- err }()
	<-begun
	for _, other := range []*client.Client{c, w.client()} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := other.Refresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	close(end)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
