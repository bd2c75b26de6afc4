package mirror_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// follow lets a product find and fetch a release from a source alone.
func follow(w *world, src client.Source, path string) (string, error) {
	w.T.Helper()
	c, err := client.New(w.Pin(), &client.Config{Dir: w.T.TempDir(), Sources: []client.Source{src}, Offline: true, Now: func() time.Time { return w.Now }})
	noErr(w.T, err)
	view, err := c.Refresh(w.T.Context())
	if err != nil {
		return "", err
	}
	a, err := view.Find(w.T.Context(), path)
	if err != nil {
		return "", err
	}
	f, err := src.Open(w.T.Context(), layout.TargetName(a.Path(), a.SHA256()))
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	return string(data), err
}

func TestBundle(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	w.Update(add("2"))
	w.Update(approve("2"))
	bundle := func(opts *mirror.BundleOptions) (*zip.Reader, []byte) {
		t.Helper()
		var b bytes.Buffer
		noErr(t, mirror.Bundle(t.Context(), &b, w.Storage(), w.Pin(), opts))
		z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
		noErr(t, err)
		return z, b.Bytes()
	}
	files := func(z *zip.Reader) (names []string) {
		for _, f := range z.File {
			names = append(names, shorten(f.Name))
		}
		return names
	}
	metadata := []string{"metadata/3.review-agent.json", "metadata/1.targets.json", "metadata/3.vendor-agent.json", "metadata/5.snapshot.json"}
	roots := []string{"metadata/1.root.json", "metadata/2.root.json"}
	for _, x := range []struct {
		opts *mirror.BundleOptions
		want []string
	}{
		{nil, roots},
		{&mirror.BundleOptions{Metadata: true}, slices.Concat(metadata, roots, []string{"metadata/timestamp.json"})},
		{&mirror.BundleOptions{Targets: func(path string) bool { return path == "agent/2" }},
			slices.Concat([]string{"targets/agent/2"}, metadata, roots, []string{"metadata/timestamp.json"})},
	} {
		z, data := bundle(x.opts)
		if got := files(z); !slices.Equal(got, x.want) {
			t.Errorf("holds %q, want %q", got, x.want)
		}
		if _, again := bundle(x.opts); !bytes.Equal(data, again) {
			t.Error("other bytes the second time")
		}
	}
	// A product uses it as a source.
	z, _ := bundle(&mirror.BundleOptions{Targets: func(string) bool { return true }})
	if got, err := follow(w, client.FSSource(z), "agent/2"); err != nil || got != "agent 2" {
		t.Errorf("%q, %v", got, err)
	}
	// A mirror uses it too.
	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, client.FSSource(z), w.Pin(), options(w.Config())))
	sameIn(w, m, "root 2 agent/1 agent/2")

	// Neither accepts invalid content.
	name := layout.TargetName("agent/2", sum("agent 2"))
	w.Store.Files[name] = []byte("agent 3")
	if err := mirror.Bundle(t.Context(), io.Discard, w.Storage(), w.Pin(), &mirror.BundleOptions{Targets: func(string) bool { return true }}); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
	bundle(&mirror.BundleOptions{Targets: func(path string) bool { return path == "agent/1" }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := mirror.Bundle(ctx, io.Discard, w.Storage(), w.Pin(), nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A reviewer without access to the vendor's storage reads the served files, and so do
// clients and mirrors.
func TestHandlerServes(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	w.Update(add("2"))
	ts := httptest.NewServer(mirror.Handler(w.Store))
	defer ts.Close()
	src := client.HTTPSource(ts.URL+"/metadata/", ts.URL+"/targets/")
	pending, err := repo.New(storage.ReadOnly(src), w.Config()).Pending(t.Context(), "review")
	if err != nil || len(pending) != 1 || pending[0].Path != "agent/2" {
		t.Errorf("%v, %v", pending, err)
	}
	if got, err := follow(w, src, "agent/1"); err != nil || got != "agent 1" {
		t.Errorf("%q, %v", got, err)
	}
	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, src, w.Pin(), options(w.Config())))
	sameIn(w, m, "root 2 agent/1")
	report, err := mirror.Verify(t.Context(), storage.ReadOnly(src), w.Pin(), options(w.Config()), mirror.Mirror{Source: m})
	if err != nil || report.Err() != nil {
		t.Errorf("%v, %v", report, err)
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	dir := repo.Folder(t.TempDir())
	noErr(t, mirror.Clone(t.Context(), newMemory(), w.Store, w.Pin(), options(w.Config())))
	noErr(t, mirror.Clone(t.Context(), dir, w.Store, w.Pin(), options(w.Config())))
	big := layout.TargetName("agent/big", strings.Repeat("0", 64))
	for _, s := range []repo.Storage{w.Store, dir} {
		noErr(t, s.Create(t.Context(), "secret/x", strings.NewReader("s")))
		noErr(t, s.Create(t.Context(), big, &endless{Size: 5 << 20}))
	}
	target := "/" + layout.TargetName("agent/1", sum("agent 1"))
	const short, ever = "public, max-age=60, no-transform", "public, max-age=31536000, immutable, no-transform"
	for kind, s := range map[string]repo.Storage{"memory": w.Store, "folder": dir} {
		h := http.StripPrefix("/r", mirror.Handler(s))
		do := func(method, path string, header ...string) *http.Response {
			req := httptest.NewRequest(method, "/r"+path, nil)
			for i := 0; i < len(header); i += 2 {
				req.Header.Set(header[i], header[i+1])
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			return rec.Result()
		}
		for _, x := range []struct {
			method, path, rng string
			code              int
			cache, body       string // body "*": any
		}{
			{"GET", "/metadata/timestamp.json", "", 200, short, "*"},
			{"GET", "/metadata/1.root.json", "", 200, ever, "*"},
			{"GET", "/metadata/3.root.json", "", 404, short, "*"},
			{"GET", "/metadata/2.vendor-agent.json", "", 200, ever, "*"},
			{"HEAD", "/metadata/1.root.json", "", 200, ever, ""},
			{"HEAD", "/metadata/3.root.json", "", 404, short, ""},
			{"GET", target, "", 200, ever, "agent 1"},
			{"GET", target, "bytes=2-3", 206, ever, "en"},
			{"GET", target, "bytes=6-", 206, ever, "1"},
			{"GET", target, "bytes=7-", 416, "", "*"},
			{"GET", "/" + big, "bytes=5242879-", 206, ever, "\x00"},
			{"GET", "/metadata/", "", 404, short, "*"},
			{"GET", "/metadata", "", 404, short, "*"},
			{"GET", "/targets/agent", "", 404, short, "*"},
			{"GET", "/", "", 404, short, "*"},
			{"GET", "/secret/x", "", 404, short, "*"},
			{"GET", "/.lock", "", 404, short, "*"},
			{"GET", "/metadata/.visum-0123456789abcdef.tmp", "", 404, short, "*"},
			{"GET", "/metadata/../secret/x", "", 404, short, "*"},
			{"GET", "/metadata/%2e%2e/secret/x", "", 404, short, "*"},
			{"GET", "/metadata//1.root.json", "", 404, short, "*"},
			{"GET", "/index.html", "", 404, short, "*"},
			{"POST", "/metadata/timestamp.json", "", 405, "", "*"},
			{"PUT", "/metadata/9.root.json", "", 405, "", "*"},
			{"DELETE", target, "", 405, "", "*"},
		} {
			header := []string{}
			if x.rng != "" {
				header = []string{"Range", x.rng}
			}
			resp := do(x.method, x.path, header...)
			body, err := io.ReadAll(resp.Body)
			noErr(t, err)
			if resp.StatusCode != x.code || x.cache != "" && resp.Header.Get("Cache-Control") != x.cache || x.body != "*" && x.method != "HEAD" && string(body) != x.body {
				t.Errorf("%s: %s %s %s: %s, %q, %.40q", kind, x.method, x.path, x.rng, resp.Status, resp.Header.Get("Cache-Control"), body)
			}
		}
		// Metadata may be compressed, with the same bytes otherwise; targets are never
		// compressed.
		for path, may := range map[string]bool{"/metadata/1.root.json": true, "/" + big: false} {
			plain := do("GET", path)
			want, _ := io.ReadAll(plain.Body)
			for accept, zipped := range map[string]bool{"gzip": may, "br, GZIP;q=0.5": may, "gzip;q=0, deflate": false, "identity": false, "": false} {
				resp := do("GET", path, "Accept-Encoding", accept)
				body := io.Reader(resp.Body)
				if got := resp.Header.Get("Content-Encoding") == "gzip"; got != zipped {
					t.Fatalf("%s: %s for %q: compressed is %t", kind, path, accept, got)
				}
				if zipped {
					if resp.Header.Get("ETag") == plain.Header.Get("ETag") || do("GET", path, "Accept-Encoding", accept, "If-None-Match", resp.Header.Get("ETag")).StatusCode != 304 {
						t.Errorf("%s: tag of the compressed form is %s", kind, resp.Header.Get("ETag"))
					}
					var err error
					body, err = gzip.NewReader(body)
					noErr(t, err)
				}
				if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want) || may && resp.Header.Get("Vary") != "Accept-Encoding" {
					t.Errorf("%s: %s for %q: other bytes, %v", kind, path, accept, err)
				}
				if resp := do("GET", path, "Accept-Encoding", accept, "Range", "bytes=1-1"); resp.StatusCode != 206 || resp.Header.Get("Content-Encoding") != "" {
					t.Errorf("%s: a part of %s for %q: %s", kind, path, accept, resp.Status)
				}
			}
		}
		// The entity tag is derived from the bytes: unchanged files are not sent again, and a
		// part of another version is not combined with a part of this one.
		for _, path := range []string{target, "/metadata/timestamp.json", "/metadata/1.root.json", "/" + big} {
			tag := do("GET", path).Header.Get("ETag")
			if resp := do("GET", path, "If-None-Match", tag); tag == "" || resp.StatusCode != 304 {
				t.Errorf("%s: %s with its tag %s: %s", kind, path, tag, resp.Status)
			}
			if resp := do("GET", path, "Range", "bytes=1-1", "If-Range", tag); resp.StatusCode != 206 {
				t.Errorf("%s: %s from the middle: %s", kind, path, resp.Status)
			}
			if resp := do("GET", path, "Range", "bytes=1-1", "If-Range", `"other"`); resp.StatusCode != 200 {
				t.Errorf("%s: %s from the middle of another: %s", kind, path, resp.Status)
			}
		}
	}
	tag := func() string {
		rec := httptest.NewRecorder()
		mirror.Handler(w.Store).ServeHTTP(rec, httptest.NewRequest("GET", "/metadata/timestamp.json", nil))
		return rec.Result().Header.Get("ETag")
	}
	before := tag()
	noErr(t, w.Open().Renew(t.Context()))
	if tag() == before {
		t.Error("a new timestamp with the tag of the old one")
	}
}

// A storage that fails is not reported as one that lacks the file.
func TestHandlerStorageFails(t *testing.T) {
	rec := httptest.NewRecorder()
	mirror.Handler(storage.ReadOnly(brokenSource{})).ServeHTTP(rec, httptest.NewRequest("GET", "/metadata/1.root.json", nil))
	if resp := rec.Result(); resp.StatusCode != 503 || resp.Header.Get("Cache-Control") != "no-store" || strings.Contains(rec.Body.String(), "cut") {
		t.Errorf("%s, %q", resp.Status, rec.Body)
	}
}
