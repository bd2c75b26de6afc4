package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// busy answers with code and a Retry-After, and with a Date unless that is "".
func busy(code int, after, date string) answer {
	return func(_ string, r *http.Request) (*http.Response, error) {
		resp := respond(r, code, http.NoBody)
		resp.Header.Set("Retry-After", after)
		if date != "" {
			resp.Header.Set("Date", date)
		}
		return resp, nil
	}
}

// A location that asks for a pause gets it, from every process, but for an hour at
// most.
func TestRetryAfter(t *testing.T) {
	date := func(after time.Duration) string { return rawtuf.Now.Add(after).Format(http.TimeFormat) }
	for name, tt := range map[string]struct {
		busy answer
		wait time.Duration
	}{
		"429":                  {busy(429, "120", ""), 2 * time.Minute},
		"503":                  {busy(503, "120", ""), 2 * time.Minute},
		"date":                 {busy(429, date(2*time.Minute), ""), 2 * time.Minute},
		"clock of the server":  {busy(503, date(time.Hour+2*time.Minute), date(time.Hour)), 2 * time.Minute},
		"too long":             {busy(429, "86400", ""), time.Hour},
		"much too long":        {busy(429, "2147483647", ""), time.Hour},
		"none":                 {busy(429, "", ""), 0},
		"zero":                 {busy(429, "0", ""), 0},
		"less":                 {busy(429, "-120", ""), 0},
		"gone by":              {busy(429, date(-time.Hour), ""), 0},
		"words":                {busy(429, "soon", ""), 0},
		"more than an integer": {busy(429, "99999999999999999999", ""), 0},
		"with another status":  {busy(500, "120", ""), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWeb(t)
			w.does(tt.busy, vendorHost)
			w.good(w.client(), 1)
			w.does(nil, vendorHost)
			w.does(unreachable, cdnHost, reviewHost)
			w.asked("")
			if tt.wait > 0 {
				for _, at := range []time.Duration{0, tt.wait - time.Second} {
					w.now = rawtuf.Now.Add(at)
					view := w.bad(w.client(), client.ErrUnreachable)
					until := "rate limited until " + rawtuf.Stamp(rawtuf.Now.Add(tt.wait))
					if asked := w.asked(vendorHost); len(asked) > 0 || !strings.Contains(view.Err.Error(), until) {
						t.Errorf("after %s asked %q, %v", at, asked, view.Err)
					}
				}
			}
			if tt.wait == 0 {
				w.does(tt.busy, vendorHost)
				if view := w.bad(w.client(), client.ErrUnreachable); strings.Contains(view.Err.Error(), "asks not") {
					t.Errorf("it requests no pause: %v", view.Err)
				}
				w.does(nil, vendorHost)
			}
			w.now = rawtuf.Now.Add(tt.wait)
			w.good(w.client(), 1)
		})
	}
}

// A location that asks for a pause is not asked again in the same refresh, even if all
// locations are asked.
func TestBusyLocationIsAskedOnce(t *testing.T) {
	w := newWeb(t)
	w.now = w.now.AddDate(0, 1, 1)
	w.does(busy(503, "120", ""), vendorHost)
	w.bad(w.client(), client.ErrStale)
	if got := w.asked(vendorHost); len(got) != 1 {
		t.Errorf("asked %q", got)
	}
}

// Nor is it asked because no other location has content.
func TestBusyLocationGetsItsPause(t *testing.T) {
	w := newWeb(t)
	w.does(busy(503, "120", ""), vendorHost)
	w.good(w.client(), 1)
	w.does(body("timestamp.json", []byte("{}")), cdnHost)
	w.asked("")
	w.bad(w.client(), client.ErrNoContent)
	if got := w.asked(vendorHost); len(got) != 0 {
		t.Errorf("asked %q", got)
	}
}

// A location that was busy and does not answer now has not asked for a pause.
func TestUnreachableAfterBusy(t *testing.T) {
	w := newWeb(t)
	w.does(busy(503, "120", ""), vendorHost)
	w.good(w.client(), 1)
	w.now = w.now.Add(2 * time.Minute)
	w.does(unreachable, vendorHost)
	w.good(w.client(), 1)
	w.does(nil, vendorHost)
	w.does(unreachable, cdnHost, reviewHost)
	w.good(w.client(), 1)
}

// A download waits for a short pause, and not for a longer one.
func TestRetryAfterOfATarget(t *testing.T) {
	for after, want := range map[string]int{"1": 2, "60": 1} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			waiting(t, "the agent", 1, func(t *testing.T, w *web, c *client.Client) {
				a := w.approved(c)
				w.does(unreachable, cdnHost)
				n := 0
				w.does(func(name string, r *http.Request) (*http.Response, error) {
					if n++; n == 1 {
						return busy(429, after, "")(name, r)
					}
					return nil, nil
				}, vendorHost)
				begun := time.Now()
				err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent"))
				if n != want || (err == nil) != (want == 2) {
					t.Errorf("asked %d times, %v", n, err)
				}
				if want == 2 && time.Since(begun) < time.Second {
					t.Error("did not wait")
				}
			})
		})
	}
}

// A final response is not followed by a retry; a temporary one is.
func TestRetriedResponses(t *testing.T) {
	for code, again := range map[int]bool{400: false, 401: false, 402: false, 403: false, 404: false, 405: false, 406: false, 410: false, 414: false, 451: false,
		300: false, 301: false, 302: false, 307: false, 308: false, 201: false, 204: false, 206: false, 416: false,
		408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true, 599: true} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // no waiting between attempts
				w := newWeb(t)
				c := w.client(func(cfg *client.Config) { cfg.Retries = 1 })
				a := w.approved(c)
				w.does(status(code, targetSuffix, nil), vendorHost, cdnHost)
				w.asked("")
				err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent"))
				want := 2
				if again {
					want = 4
				}
				if got := w.asked(""); err == nil || len(got) != want {
					t.Errorf("%v, asked %q", err, got)
				}
				if !strings.Contains(fmt.Sprint(err), fmt.Sprint(code)) {
					t.Errorf("contains no reason: %v", err)
				}
			})
		})
	}
	// Likewise a timestamp that no location has.
	w := newWeb(t)
	w.does(status(404, "timestamp.json", nil), vendorHost, cdnHost)
	w.bad(w.client(func(cfg *client.Config) { cfg.Retries = 5 }), client.ErrNoContent)
	if got := slices.DeleteFunc(w.asked(""), func(s string) bool { return !strings.HasSuffix(s, "timestamp.json") }); len(got) != 2 {
		t.Errorf("asked %q", got)
	}
}

// gzipped serves compressed metadata to clients that accept it.
func gzipped(change func(data []byte) []byte, repo *rawtuf.Repo) answer {
	return func(name string, r *http.Request) (*http.Response, error) {
		data, ok := fileOf(repo, name)
		if !ok || !strings.HasPrefix(name, "metadata/") || r.Header.Get("Accept-Encoding") != "gzip" {
			return nil, nil
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write(data)
		z.Close()
		resp := respond(r, 200, bytes.NewReader(change(b.Bytes())))
		resp.Header.Set("Content-Encoding", "gzip")
		resp.ContentLength = int64(b.Len())
		return resp, nil
	}
}

func same(data []byte) []byte { return data }

// Metadata may be compressed, targets never. Limits apply to the decompressed size.
func TestCompression(t *testing.T) {
	w := newWeb(t)
	var mu sync.Mutex
	codings := map[string]string{}
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		codings[name[:strings.Index(name, "/")]] += r.Header.Get("Accept-Encoding") + r.Header.Get("Range") + ","
		return gzipped(same, w.repo)(name, r)
	}, vendorHost)
	c := w.client()
	file := filepath.Join(t.TempDir(), "agent")
	if err := refreshAndSave(c, file); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"metadata": "gzip,gzip,gzip,gzip,gzip,gzip,", "targets": "identity,"}; fmt.Sprint(codings) != fmt.Sprint(want) {
		t.Errorf("accepted %q", codings)
	}
	if view := w.good(c, 1); view.Location() != "main" {
		t.Errorf("from %s", view.Location())
	}
	// Bombs, truncated files, and junk.
	for name, bad := range map[string]func([]byte) []byte{
		"bomb":  func([]byte) []byte { return bomb() },
		"cut":   func(b []byte) []byte { return b[:len(b)-9] },
		"junk":  func(b []byte) []byte { return []byte("junk, not gzip") },
		"empty": func(b []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			w.t, w.dir = t, quickDir(t)
			w.does(gzipped(bad, w.repo), vendorHost, cdnHost, reviewHost)
			if view := w.bad(w.client(), client.ErrNoContent); errors.Is(view.Err, tuf.ErrTooLarge) != (name == "bomb") {
				t.Error(view.Err)
			}
			w.does(nil, cdnHost)
			w.good(w.client(), 1)
		})
	}
}

// Some servers name a coding for a target because of its name, and send the file as it
// is. Length and hash decide.
func TestWrongContentEncoding(t *testing.T) {
	for _, coding := range []string{"gzip", "x-gzip", "br", "aes128gcm"} {
		w := newWeb(t)
		w.does(unreachable, cdnHost)
		w.does(func(name string, r *http.Request) (*http.Response, error) {
			data, ok := fileOf(w.repo, name)
			if !ok {
				return nil, nil
			}
			resp := respond(r, 200, bytes.NewReader(data))
			if strings.HasPrefix(name, "targets/") {
				resp.Header.Set("Content-Encoding", coding)
			}
			return resp, nil
		}, vendorHost)
		if err := refreshAndSave(w.client(), filepath.Join(t.TempDir(), "agent")); err != nil {
			t.Errorf("%s: %v", coding, err)
		}
	}
}

// HTTP caches must revalidate files that can change under their name, and roots that do
// not exist yet; not files that never change.
func TestCacheRevalidation(t *testing.T) {
	w := newWeb(t)
	var mu sync.Mutex
	cache := map[string][]byte{} // by host and name; nil: known to be absent
	cached := map[string]bool{}
	again := map[string]bool{}
	proxy := func(name string, r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		key := r.URL.Host + " " + name
		again[name] = r.Header.Get("Cache-Control") == "no-cache"
		if !cached[key] || again[name] {
			data, _ := fileOf(w.repo, name)
			cache[key], cached[key] = data, true
		}
		if cache[key] == nil {
			return respond(r, 404, http.NoBody), nil
		}
		return respond(r, 200, bytes.NewReader(cache[key])), nil
	}
	w.does(proxy, vendorHost, cdnHost, reviewHost)
	c := w.client()
	w.good(c, 1)
	w.repo.NextRoot(nothing)
	renew(w.repo)
	view := w.good(c, 2)
	if want := int64(rawtuf.At(w.repo.Roles["timestamp"])["version"].(int)); view.TimestampVersion() != want {
		t.Errorf("timestamp v%d, is at v%d", view.TimestampVersion(), want)
	}
	a := w.approved(c)
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Fatal(err)
	}
	for name, asked := range again {
		if want := strings.HasSuffix(name, ".root.json") || strings.HasSuffix(name, "/timestamp.json"); asked != want {
			t.Errorf("%s: revalidated: %v", name, asked)
		}
	}
	if len(again) < 8 {
		t.Errorf("only %d files", len(again))
	}
}

// An object store treats a + in a path as a space.
func TestPlusInAName(t *testing.T) {
	const file = "agent/agent-1.0.0+42=a&b@c.zip"
	w := newWeb(t, func(r *rawtuf.Repo) { r.AddTarget(file, "the agent", nil, "vendor-agent", "review-agent") })
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		read, err := url.QueryUnescape(r.URL.EscapedPath())
		if strings.HasPrefix(name, "targets/") && (err != nil || !strings.HasSuffix(read, "+42=a&b@c.zip")) {
			return respond(r, 403, http.NoBody), nil
		}
		if strings.HasPrefix(name, "targets/") {
			return respond(r, 200, strings.NewReader("the agent")), nil
		}
		return nil, nil
	}, vendorHost)
	w.does(status(403, ".zip", nil), cdnHost)
	c := w.client()
	a, err := w.good(c, 1).Find(t.Context(), file)
	must(t, err)
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Error(err)
	}
}

// bomb is 64 MiB of zeros in 64 kB.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, mib)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	return b.Bytes()
})

// Each element of a name is escaped completely; a role's name is one element, whatever
// it contains.
func TestEscaping(t *testing.T) {
	var uri string
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { uri = r.RequestURI + " " + r.URL.Path }))
	defer ts.Close()
	s := client.HTTPSource(ts.URL+"/a%20b/m/", ts.URL+"/t/")
	for name, want := range map[string]string{
		"metadata/1.root.json":               "/a%20b/m/1.root.json /a b/m/1.root.json",
		"metadata/7.a/b c.json":              "/a%20b/m/7.a%2Fb%20c.json /a b/m/7.a/b c.json",
		"metadata/recovery/1.statement.json": "/a%20b/m/recovery/1.statement.json /a b/m/recovery/1.statement.json",
		"metadata/recovery/../x":             "/a%20b/m/recovery/..%2Fx /a b/m/recovery/../x",
		"metadata/7.x%2F..%2Fy":              "/a%20b/m/7.x%252F..%252Fy /a b/m/7.x%2F..%2Fy",
		"targets/a b/c?d#e":                  "/t/a%20b/c%3Fd%23e /t/a b/c?d#e",
		"targets/ü/;=&+@:!$'()*,~":           "/t/%C3%BC/%3B%3D%26%2B%40%3A%21%24%27%28%29%2A%2C~ /t/ü/;=&+@:!$'()*,~",
		"targets/\"<>\\^`{|}\x01\x7f":        "/t/%22%3C%3E%5C%5E%60%7B%7C%7D%01%7F /t/\"<>\\^`{|}\x01\x7f",
	} {
		f, err := s.Open(t.Context(), name)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		f.Close()
		if uri != want {
			t.Errorf("%q: asked for %s, want %s", name, uri, want)
		}
	}
}

func TestUserAgent(t *testing.T) {
	for given, want := range map[string]string{"": "visum", "agent/11 (visum)": "agent/11 (visum)"} {
		w := newWeb(t)
		var mu sync.Mutex
		agents := map[string]int{}
		w.does(func(_ string, r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			agents[r.UserAgent()]++
			return nil, nil
		}, vendorHost, cdnHost, reviewHost)
		c := w.client(func(cfg *client.Config) {
			cfg.UserAgent = given
			cfg.Sources = []client.Source{client.MultiSource(client.HTTPSource("https://"+vendorHost+"/other/", ""))}
		})
		if err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent")); err != nil {
			t.Fatal(err)
		}
		if len(agents) != 1 || agents[want] < 8 {
			t.Errorf("%q: %v", given, agents)
		}
	}
}

func TestURLs(t *testing.T) {
	w := newWeb(t)
	build := func(unsafe bool, metadata, targets string) error {
		_, err := client.New(w.pin(), &client.Config{Dir: w.dir, UnsafeHTTP: unsafe, Sources: []client.Source{client.MultiSource(client.HTTPSource(metadata, targets))}})
		return err
	}
	const ok = "https://updates.example/m/"
	for _, good := range []string{ok, "https://updates.example:8443/", "https://[2001:db8::1]/m/", "http://127.0.0.1:8080/m/", "http://[::1]/m/", "http://localhost/m/", "https://updates.example/a%20b/"} {
		if err := build(false, good, good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if err := build(false, ok, ""); err != nil {
		t.Errorf("no targets: %v", err)
	}
	for _, plain := range []string{"http://updates.example/m/", "http://10.0.0.1/m/", "http://127.0.0.1.evil.example/", "http://localhost.evil.example/m/"} {
		if err := build(false, plain, ""); err == nil || !strings.Contains(err.Error(), "UnsafeHTTP") {
			t.Errorf("%s: %v", plain, err)
		}
		if err := build(true, plain, ""); err != nil {
			t.Errorf("%s with UnsafeHTTP: %v", plain, err)
		}
		if _, err := client.HTTPSource(plain, "").Open(t.Context(), "metadata/x"); err == nil || !strings.Contains(err.Error(), "UnsafeHTTP") {
			t.Errorf("%s, alone: %v", plain, err)
		}
	}
	for _, bad := range []string{"", "updates.example/m/", "/m/", "ftp://updates.example/m/", "file:///m/", "https:///m/", "https://:443/m/", "https://updates.example", "https://updates.example/m",
		"https://updates.example/m/?", "https://updates.example/m/?a=b/", "https://updates.example/m/#", "https://updates.example/m/#/", "https://updates.example/a b/", "https://updates.example/%zz/", "HTTPS://updates.example/",
		"https://user:s3cret@updates.example/m/", "https://user@updates.example/m/", "https://user:s3cret@updates.example/%zz/", "https://user:s3cret@updates.example :x/"} {
		for _, urls := range [][2]string{{bad, ok}, {ok, bad}} {
			if urls[1] == "" {
				continue
			}
			err := build(true, urls[0], urls[1])
			if err == nil || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", bad, err)
			}
		}
	}
	// A location with only roots has no targets, and is not asked for any.
	if _, err := client.HTTPSource(ok, "").Open(t.Context(), "targets/x"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"metadata/", "metadata/.", "metadata/..", "targets/", "targets/.", "targets/..", "targets/../x", "targets//x"} {
		if _, err := client.HTTPSource(ok, ok).Open(t.Context(), name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A [HTTPSource] as a source serves everything that other sources serve.
func TestURLAsSource(t *testing.T) {
	w := newWeb(t)
	w.does(unreachable, vendorHost, cdnHost, reviewHost)
	w.shows(w.repo, "mirror.example")
	c := w.client(func(cfg *client.Config) {
		cfg.Sources = []client.Source{client.HTTPSource("https://mirror.example/r/metadata/", "https://mirror.example/r/targets/")}
	})
	file := filepath.Join(t.TempDir(), "agent")
	if err := refreshAndSave(c, file); err != nil {
		t.Fatal(err)
	}
	if got := w.asked("mirror.example"); len(got) != 7 {
		t.Errorf("asked %q", got)
	}
}

// Root and timestamp are requested in parallel: neither request needs the other's
// answer. Nothing else is requested if nothing has changed.
func TestTwoRequestsAtTheSameTime(t *testing.T) { synctest.Test(t, twoRequestsAtTheSameTime) }

func twoRequestsAtTheSameTime(t *testing.T) {
	w := newWeb(t)
	var under atomic.Int64
	meets := false
	c := w.client(func(cfg *client.Config) {
		cfg.HTTP = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			under.Add(1)
			for begun := time.Now(); meets && under.Load() < 2; time.Sleep(time.Millisecond) {
				if time.Since(begun) > 10*time.Second {
					t.Error("one waits for the other")
					return nil, errDark
				}
			}
			return w.RoundTrip(r)
		})}
	})
	w.good(c, 1)
	w.asked("")
	under.Store(0)
	meets = true
	w.good(c, 1)
	got := w.asked("")
	slices.Sort(got)
	if want := []string{vendorHost + " metadata/2.root.json", vendorHost + " metadata/timestamp.json"}; !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}
