package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// These tests use fake time: an hour of waiting takes none.

// How long a call waits for one location while another is untried.
const (
	answerPatience = 5 * time.Second
	filePatience   = 10 * time.Second
)

// waiting runs fn with a web and a client whose state is in memory.
func waiting(t *testing.T, content string, retries int, fn func(t *testing.T, w *web, c *client.Client)) {
	t.Helper()
	edit := func(r *rawtuf.Repo) { r.AddTarget(rawtuf.Path, content, nil, "vendor-agent", "review-agent") }
	synctest.Test(t, func(t *testing.T) {
		w := newWeb(t, edit)
		c := w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store, cfg.Retries = "", client.MemStore(), retries })
		fn(t, w, c)
	})
}

// The pauses between retries double, and differ between clients.
func TestBackOff(t *testing.T) {
	seen := map[time.Duration]bool{}
	check := func(t *testing.T, when []time.Time) {
		t.Helper()
		if len(when) != 5 {
			t.Fatalf("%d rounds", len(when))
		}
		for i := 1; i < len(when); i++ {
			pause, want := when[i].Sub(when[i-1]), 500*time.Millisecond<<(i-1)
			if pause < want/2 || pause > want*3/2 {
				t.Errorf("pause %d is %s, want %s ±50 %%", i, pause, want)
			}
			if seen[pause] {
				t.Errorf("the same pause again: %s", pause)
			}
			seen[pause] = true
		}
	}
	for range 3 {
		waiting(t, "the agent", 4, func(t *testing.T, w *web, c *client.Client) {
			var when []time.Time
			counts := func(name string, _ *http.Request) (*http.Response, error) {
				if strings.HasSuffix(name, "root.json") || strings.HasSuffix(name, targetSuffix) {
					when = append(when, time.Now())
				}
				return nil, errDark
			}
			w.does(counts, vendorHost)
			w.does(unreachable, cdnHost, reviewHost)
			w.bad(c, client.ErrUnreachable)
			check(t, when)
			w.does(nil, vendorHost)
			a := w.approved(c)
			w.does(counts, vendorHost)
			when = nil
			if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); !errors.Is(err, errDark) {
				t.Fatal(err)
			}
			check(t, when)
		})
	}
}

// However many retries there are, no pause is longer than 48 seconds.
func TestBackOffIsBounded(t *testing.T) {
	waiting(t, "the agent", 40, func(t *testing.T, w *web, c *client.Client) {
		w.does(unreachable, vendorHost, cdnHost, reviewHost)
		begun := time.Now()
		w.bad(c, client.ErrUnreachable)
		if took := time.Since(begun); took < 34*16*time.Second || took > 40*48*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A retry needs a location that may answer then: there is none if nothing failed, or if
// an answer would change nothing.
func TestWhenToRetry(t *testing.T) {
	expire := func(r *rawtuf.Repo, role string) {
		r.Roles[role]["expires"] = rawtuf.Stamp(rawtuf.Now)
		renew(r)
	}
	for name, tt := range map[string]struct {
		world func(w *web)
		want  error
		again bool
	}{
		"content is unreachable": {func(w *web) { w.does(unreachable, vendorHost, cdnHost) }, client.ErrNoContent, true},
		"content is broken":      {func(w *web) { w.does(status(500, "timestamp.json", nil), vendorHost, cdnHost) }, client.ErrNoContent, true},
		"content is bad":         {func(w *web) { w.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost) }, client.ErrNoContent, false},
		"timestamp is expired":   {func(w *web) { expire(w.repo, "timestamp") }, client.ErrNoContent, false},
		"content is absent":      {func(w *web) { w.does(status(404, "timestamp.json", nil), vendorHost, cdnHost) }, client.ErrNoContent, false},
		"root is expired": {func(w *web) {
			w.now = w.now.AddDate(0, 1, 1)
			w.does(unreachable, vendorHost)
		}, client.ErrStale, false},
	} {
		t.Run(name, func(t *testing.T) {
			waiting(t, "the agent", 2, func(t *testing.T, w *web, c *client.Client) {
				tt.world(w)
				begun := time.Now()
				view := w.bad(c, tt.want)
				if took := time.Since(begun); (took > 0) != tt.again {
					t.Errorf("took %s", took)
				}
				if lied := name == "content is bad"; (len(view.Evidence) > 0) != lied {
					t.Errorf("evidence %q", view.Evidence)
				}
			})
		})
	}
}

// A caller whose context ends does not wait for the next retry.
func TestBackOffEndsWithContext(t *testing.T) {
	waiting(t, "the agent", 1000, func(t *testing.T, w *web, c *client.Client) {
		a := w.approved(c)
		w.does(unreachable, vendorHost, cdnHost, reviewHost)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.Refresh(ctx); err == nil {
			t.Error("no error")
		}
		ctx, cancel = context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := c.Save(ctx, a, filepath.Join(t.TempDir(), "agent")); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(begun); took != 3*time.Minute {
			t.Errorf("took %s", took)
		}
	})
}

// drips delivers the content, some bytes per second.
func drips(content string, rate int) answer {
	return func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, targetSuffix) {
			return nil, nil
		}
		rest := content
		resp := respond(r, 200, readerFunc(func(p []byte) (int, error) {
			select {
			case <-time.After(time.Second):
			case <-r.Context().Done():
				return 0, r.Context().Err()
			}
			n := copy(p, rest[:min(rate, len(rest))])
			rest = rest[n:]
			return n, nil
		}))
		resp.ContentLength = int64(len(content))
		return resp, nil
	}
}

// A target may take any time at 1 KiB per second if no other location is faster; a
// slower one is left after the idle time. The first five seconds are those in which
// another one is untried.
func TestMinimumRate(t *testing.T) {
	content := string(noise(4 << 20))
	for rate, took := range map[int]time.Duration{1100: 3813 * time.Second, 2 << 10: 2048 * time.Second, 900: 30 * time.Second} {
		waiting(t, content, -1, func(t *testing.T, w *web, c *client.Client) {
			a := w.approved(c)
			w.does(unreachable, cdnHost)
			w.does(drips(content, rate), vendorHost)
			begun := time.Now()
			file := filepath.Join(t.TempDir(), "agent")
			err := c.Save(t.Context(), a, file)
			if slow := rate < 1<<10; slow != (err != nil) {
				t.Errorf("%d bytes a second: %v", rate, err)
			} else if slow && !strings.Contains(err.Error(), "less than 1024 bytes per second for 30s") {
				t.Error(err)
			}
			if got := time.Since(begun); got < took+answerPatience || got > took+answerPatience+4*time.Second {
				t.Errorf("%d bytes a second: took %s, want %s", rate, got, took)
			}
			if err == nil && size(t, file) != 4<<20 {
				t.Error("not whole")
			}
		})
	}
}

// Metadata may take longer than Config.MetadataTimeout at 8 KiB per second: 60 kB/s is
// enough for two megabytes. A slower transfer, or one that stalls after a good start,
// is aborted. The length of the file limits the total.
func TestSlowMetadata(t *testing.T) {
	const length = 1_900_000
	for name, tt := range map[string]struct {
		rate, until int // bytes per second, and total bytes
		took        time.Duration
		good        bool
	}{
		"60 kB/s":         {60_000, length, 32 * time.Second, true},
		"just enough":     {8500, length, 224 * time.Second, true},
		"too little":      {8000, length, 30 * time.Second, false},
		"a byte a second": {1, length, 30 * time.Second, false},
		"stands still":    {600_000, 1_200_000, 33 * time.Second, false},
		"stalls at first": {1, 0, 30 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeb(t, func(r *rawtuf.Repo) {
					r.Roles["vendor-agent"]["x-pad"] = strings.Repeat("x", length)
					r.Bump("vendor-agent")
				})
				file := fmt.Sprintf("metadata/%d.vendor-agent.json", w.repo.Roles["vendor-agent"]["version"])
				data, ok := fileOf(w.repo, file)
				if !ok {
					t.Fatal("no such file")
				}
				w.does(func(name string, r *http.Request) (*http.Response, error) {
					if name != file {
						return nil, nil
					}
					rest := data[:min(len(data), tt.until)]
					if tt.until == length {
						rest = data
					}
					return respond(r, 200, readerFunc(func(p []byte) (int, error) {
						if len(rest) == 0 && tt.until == length {
							return 0, io.EOF
						}
						select {
						case <-time.After(time.Second / 4):
						case <-r.Context().Done():
							return 0, r.Context().Err()
						}
						n := copy(p, rest[:min(max(1, tt.rate/4), len(rest))])
						rest = rest[n:]
						return n, nil
					})), nil
				}, vendorHost)
				w.does(unreachable, cdnHost)
				c := w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", client.MemStore() })
				begun := time.Now()
				_, err := c.Refresh(t.Context())
				if (err == nil) != tt.good {
					t.Fatalf("%v", err)
				}
				if took := time.Since(begun); took < tt.took-2*time.Second || took > tt.took+3*time.Second {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if !tt.good && (!strings.Contains(err.Error(), "too slow: less than 8192 bytes per second for 30s") || errors.Is(err, context.Canceled)) {
					t.Error(err)
				}
			})
		})
	}
}

// A location that accepts no connection, or never answers, is left after five seconds
// if another one is untried.
func TestNoAnswer(t *testing.T) {
	waiting(t, "the agent", -1, func(t *testing.T, w *web, c *client.Client) {
		a := w.approved(c)
		build := func() *client.Client {
			return w.client(func(cfg *client.Config) {
				cfg.Dir, cfg.Store = "", client.MemStore()
				cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					if r.URL.Host == vendorHost {
						<-r.Context().Done()
						return nil, r.Context().Err()
					}
					return w.RoundTrip(r)
				})}
			})
		}
		c = build()
		begun := time.Now()
		if view := w.good(c, 1); view.Location() != "cdn" {
			t.Errorf("from %s", view.Location())
		}
		if took := time.Since(begun); took != answerPatience {
			t.Errorf("metadata: took %s", took)
		}
		// One client knows this from its refresh, another one does not.
		for took, c := range map[time.Duration]*client.Client{0: c, answerPatience: build()} {
			begun = time.Now()
			file := filepath.Join(t.TempDir(), "agent")
			if err := c.Save(t.Context(), a, file); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(file); err != nil {
				t.Error(err)
			}
			if got := time.Since(begun); got != took {
				t.Errorf("target: took %s, want %s", got, took)
			}
		}
	})
}
