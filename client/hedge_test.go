package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// conduct handles a request instead of serving; false: the location serves it.
type conduct func(r *http.Request, name string) (*http.Response, error, bool)

// after serves each file after a delay.
func after(d time.Duration) conduct {
	return func(r *http.Request, name string) (*http.Response, error, bool) {
		select {
		case <-time.After(d):
			return nil, nil, false
		case <-r.Context().Done():
			return nil, r.Context().Err(), true
		}
	}
}

func hangs(r *http.Request, _ string) (*http.Response, error, bool) {
	<-r.Context().Done()
	return nil, r.Context().Err(), true
}

// dripping answers at once with one byte per second.
func dripping(r *http.Request, _ string) (*http.Response, error, bool) {
	resp := respond(r, 200, readerFunc(func(p []byte) (int, error) {
		select {
		case <-time.After(time.Second):
			return copy(p, " "), nil
		case <-r.Context().Done():
			return 0, r.Context().Err()
		}
	}))
	return resp, nil, true
}

func giving(a answer) conduct {
	return func(r *http.Request, name string) (*http.Response, error, bool) {
		resp, err := a(name, r)
		return resp, err, true
	}
}

// lineup is a web in which some locations misbehave before honest ones are reached.
func lineup(t *testing.T, honest, bad int, does conduct, edit ...func(*rawtuf.Repo)) *web {
	w := newWeb(t, append(edit, func(r *rawtuf.Repo) {
		var list []any
		for i := range bad + honest {
			l := location(fmt.Sprint("p", i), "primary", fmt.Sprint("o", i), fmt.Sprintf("p%d.example", i))
			l["priority"] = 10 + i
			list = append(list, l)
		}
		r.Charter()["locations"] = list
	})...)
	w.transport = func(r *http.Request) (*http.Response, error) {
		var i int
		fmt.Sscanf(r.URL.Host, "p%d.", &i)
		if i < bad {
			if resp, err, done := does(r, strings.TrimPrefix(r.URL.Path, "/r/")); done {
				w.note(r)
				return resp, err
			}
		}
		return w.RoundTrip(r)
	}
	return w
}

func byMemory(w *web) func(*client.Config) {
	return func(cfg *client.Config) {
		cfg.Dir, cfg.Store, cfg.HTTP = "", client.MemStore(), &http.Client{Transport: transport(w.transport)}
	}
}

// However one location or five misbehave, a refresh reaches an honest one: within 30 s
// if they hang, within 60 s if they drip or answer just in time. The next refresh asks
// the honest one first. The bubble checks that no goroutine is left.
func TestBadLocationsDelay(t *testing.T) {
	lastRole := func(then conduct) conduct {
		return func(r *http.Request, name string) (*http.Response, error, bool) {
			if strings.HasSuffix(name, ".hold.json") {
				return then(r, name)
			}
			return after(4*time.Second)(r, name)
		}
	}
	for kind, tt := range map[string]struct {
		does conduct
		most time.Duration // for five of them
	}{
		"hangs":                      {hangs, 30 * time.Second},
		"drips":                      {dripping, 60 * time.Second},
		"500":                        {giving(status(500, "", nil)), 0},
		"garbage":                    {giving(body("", []byte("<html>"))), 0},
		"redirects":                  {giving(header(302, "Location", "https://evil.example/")), 0},
		"503 with Retry-After":       {giving(header(503, "Retry-After", "2592000")), 0},
		"404":                        {giving(status(404, "", nil)), 0},
		"slow and valid":             {after(22 * time.Second), 30 * time.Second},
		"just in time":               {after(4900 * time.Millisecond), 60 * time.Second},
		"slow, then hangs":           {lastRole(hangs), 60 * time.Second},
		"slow, then drips":           {lastRole(dripping), 60 * time.Second},
		"hangs for content":          {contentOnly(hangs), 30 * time.Second},
		"drips for content":          {contentOnly(dripping), 60 * time.Second},
		"hangs in the snapshot":      {forFiles("snapshot.json", hangs), 30 * time.Second},
		"drips in the last role":     {forFiles(".hold.json", dripping), 60 * time.Second},
		"hangs, but not for content": {forFiles(".root.json", hangs), 30 * time.Second},
	} {
		for _, bad := range []int{1, 5} {
			for _, honest := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s/%d bad, %d honest", kind, bad, honest), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { badLocations(t, honest, bad, tt.does, tt.most) })
				})
			}
		}
	}
}

func badLocations(t *testing.T, honest, bad int, does conduct, most time.Duration) {
	w := lineup(t, honest, bad, does)
	c := w.client(byMemory(w))
	if bad == 1 {
		most /= 3 // its own share, and the wait for the last location
	}
	begun := time.Now()
	w.good(c, 1)
	if took := time.Since(begun); took > most {
		t.Errorf("the first refresh took %s, want at most %s", took, most)
	}
	begun = time.Now()
	w.good(c, 1)
	// Locations that misbehaved are asked last, all within a few seconds, and only if
	// too few others confirm the root.
	if took := time.Since(begun); took > 16*time.Second {
		t.Errorf("the second refresh took %s", took)
	}
}

func contentOnly(does conduct) conduct {
	return func(r *http.Request, name string) (*http.Response, error, bool) {
		if strings.HasSuffix(name, ".root.json") {
			return nil, nil, false
		}
		return does(r, name)
	}
}

func forFiles(suffix string, does conduct) conduct {
	return func(r *http.Request, name string) (*http.Response, error, bool) {
		if !strings.HasSuffix(name, suffix) {
			return nil, nil, false
		}
		return does(r, name)
	}
}

// A slow location that is the only honest one gets all the time it needs.
func TestSlowHonestLocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lineup(t, 0, 3, func(r *http.Request, name string) (*http.Response, error, bool) {
			if r.URL.Host != "p1.example" {
				return hangs(r, name)
			}
			return after(25*time.Second)(r, name)
		})
		if view := w.good(w.client(byMemory(w)), 1); view.Location() != "p1" {
			t.Errorf("served by %s", view.Location())
		}
	})
}

// If every answer takes six seconds, two operators still confirm the root: with mode
// enforce there would be no content otherwise.
func TestSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lineup(t, 0, 2, after(6*time.Second), probing("enforce", 3*time.Hour))
		c := w.client(byMemory(w))
		for range 6 {
			w.good(c, 1)
			w.now = w.now.Add(2 * time.Hour)
		}
	})
}

// With new roots the client does not wait for hanging locations again.
func TestBadLocationsAndNewRoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lineup(t, 1, 5, hangs)
		c := w.client(byMemory(w))
		for range 3 {
			w.repo.NextRoot(nothing)
		}
		begun := time.Now()
		w.good(c, 4)
		if took := time.Since(begun); took != 25*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// At most three copies of a large file are read in parallel.
func TestLargeFilesAreReadByFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var busy, most atomic.Int32
		w := lineup(t, 1, 5, forFiles(".vendor-agent.json", func(r *http.Request, name string) (*http.Response, error, bool) {
			most.Store(max(most.Load(), busy.Add(1)))
			defer busy.Add(-1)
			return hangs(r, name)
		}))
		w.repo.Roles["vendor-agent"]["x-pad"] = strings.Repeat("x", 5<<20)
		renew(w.repo)
		begun := time.Now()
		w.good(w.client(byMemory(w)), 1)
		if took := time.Since(begun); most.Load() != 3 || took > time.Minute {
			t.Errorf("%d at a time, took %s", most.Load(), took)
		}
	})
}

// A query of a View does not wait for a hanging location either.
func TestHangingLocationInFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		w := lineup(t, 2, 1, func(r *http.Request, name string) (*http.Response, error, bool) {
			if !hang {
				return nil, nil, false
			}
			return hangs(r, name)
		})
		w.repo.Roles["deep"], w.repo.Signers["deep"] = rawtuf.Targets(), []string{"va"}
		w.repo.AddTarget("agent/deep", "the agent", nil, "deep", "review-agent")
		w.repo.Delegate("vendor-agent", "deep", rawtuf.Doc{"paths": []any{"agent/deep"}}, "va")
		renew(w.repo)
		c := w.client(byMemory(w))
		view := w.good(c, 1)
		hang = true
		begun := time.Now()
		if _, err := view.Find(t.Context(), "agent/deep"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != answerPatience {
			t.Errorf("took %s", took)
		}
	})
}

// The context ends a refresh at once, however many requests are running.
func TestContextEndsRequestsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lineup(t, 0, 6, hangs)
		ctx, cancel := context.WithTimeout(t.Context(), 17*time.Second)
		defer cancel()
		begun := time.Now()
		if _, err := w.client(byMemory(w)).Refresh(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(begun); took != 17*time.Second {
			t.Errorf("took %s", took)
		}
		if n := len(w.asked("")); n != 4+2 { // roots at 0, 5, 10 and 15 s, and two timestamps in parallel
			t.Errorf("%d requests", n)
		}
	})
}

// While another location is untried a download leaves one that drips, answers late,
// cuts each answer short, or hangs; its bytes are kept. If all are slow, the fastest
// one gets all the time it needs.
func TestSlowDownloads(t *testing.T) {
	const length = 1 << 20
	content := string(noise(length))
	rate := func(perSecond int) answer { return drips(content, perSecond) }
	late := func(name string, r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(name, targetSuffix) {
			time.Sleep(4900 * time.Millisecond)
			return respond(r, 200, io.MultiReader(strings.NewReader(content[:65<<10]), cutOff{})), nil
		}
		return nil, nil
	}
	for name, tt := range map[string]struct {
		vendor, cdn answer
		most        time.Duration
		location    string
	}{
		"drips":                        {rate(2 << 10), nil, answerPatience, "cdn"},
		"just below the required rate": {rate(60 << 10), nil, answerPatience, "cdn"},
		"above the required rate":      {rate(80 << 10), nil, 16 * time.Second, "main"},
		"cuts answers short":           {late, nil, 11 * time.Second, "cdn"},
		"all slow":                     {rate(2 << 10), rate(20 << 10), 70 * time.Second, "cdn"},
		"the faster one first":         {rate(20 << 10), rate(2 << 10), 70 * time.Second, "main"},
	} {
		t.Run(name, func(t *testing.T) {
			edit := func(r *rawtuf.Repo) {
				r.AddTarget(rawtuf.Path, content, nil, "vendor-agent", "review-agent")
				third := location("third", "mirror", "third", "updates.third.example")
				third["priority"] = 90
				r.Charter()["locations"] = append(r.Charter()["locations"].([]any), third)
			}
			synctest.Test(t, func(t *testing.T) {
				w := newWeb(t, edit)
				var last client.Progress
				c := w.client(func(cfg *client.Config) {
					cfg.Dir, cfg.Store, cfg.Progress = "", client.MemStore(), func(p client.Progress) { last = p }
					cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
						a := map[string]answer{vendorHost: tt.vendor, cdnHost: tt.cdn, "updates.third.example": status(500, targetSuffix, nil)}[r.URL.Host]
						if a == nil {
							a = body(targetSuffix, []byte(content))
						}
						if resp, err := a(strings.TrimPrefix(r.URL.Path, "/r/"), r); resp != nil || err != nil {
							return resp, err
						}
						return w.RoundTrip(r)
					})}
				})
				a := w.approved(c)
				begun := time.Now()
				file := filepath.Join(t.TempDir(), "agent")
				if err := c.Save(t.Context(), a, file); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > tt.most || last.Location != tt.location {
					t.Errorf("took %s, from %s; want %s at most, from %s", took, last.Location, tt.most, tt.location)
				}
				if size(t, file) != length {
					t.Error("not whole")
				}
			})
		})
	}
}

type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, fs.ErrClosed }
