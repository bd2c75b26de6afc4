package client_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// Answers that are not files are not evidence either: the location is down.
func TestAnswersThatAreNotFiles(t *testing.T) {
	for name, a := range map[string]answer{"302": redirect(""), "br": coded("br", ""), "204": status(204, "", nil), "206": status(206, "", []byte("{}")), "451": status(451, "", nil)} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			w.does(a, vendorHost)
			if view := w.good(w.client(), 1); len(view.Evidence()) > 0 || view.Location() != "cdn" {
				t.Errorf("from %s, evidence %q", view.Location(), view.Evidence())
			}
			w.does(a, cdnHost, reviewHost)
			w.bad(w.client(), client.ErrUnreachable)
		})
	}
}

// Unusual sources: one that returns nothing, a directory in place of a file, a name
// that leads out of the directory.
func TestOddSources(t *testing.T) {
	w := newWeb(t)
	if _, err := client.New(w.pin(), &client.Config{Dir: w.dir, Sources: []client.Source{nil}}); err == nil {
		t.Error("a nil Source is accepted")
	}
	odd := fstest.MapFS{"metadata/2.root.json/x": &fstest.MapFile{}, "metadata/timestamp.json": &fstest.MapFile{Mode: fs.ModeNamedPipe}}
	if _, err := client.FSSource(odd).Open(t.Context(), "metadata/timestamp.json"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("a pipe blocks: %v", err)
	}
	if _, err := client.FSSource(odd).Open(t.Context(), "metadata/5./../x.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file in no file system is absent, not %v", err)
	}
	if r, err := client.MultiSource(elsewhere{}).(client.RangeSource).OpenAt(t.Context(), "targets/x", 5, ""); !errors.Is(err, client.ErrRange) {
		t.Errorf("a range that begins elsewhere: %v, %v", r, err)
	}
	sources := []client.Source{sourceFunc(func() (io.ReadCloser, error) { return nil, nil }), client.FSSource(odd)}
	c := w.client(func(cfg *client.Config) { cfg.Sources = sources })
	sources[0] = nil // the client has its own copy
	if view := w.good(c, 1); view.Location() != "main" {
		t.Errorf("from %s", view.Location())
	}
	ctx, cancel := context.WithCancel(t.Context())
	f, err := client.FSSource(fstest.MapFS{"x": &fstest.MapFile{Data: []byte("data")}}).Open(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cancel()
	if _, err := f.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("reading continues: %v", err)
	}
}

// elsewhere starts at an offset that was not requested.
type elsewhere struct{ client.Source }

func (elsewhere) OpenAt(_ context.Context, _ string, offset int64, _ string) (*client.Range, error) {
	return &client.Range{ReadCloser: io.NopCloser(strings.NewReader("x")), Offset: offset + 1, Size: -1}, nil
}

type sourceFunc func() (io.ReadCloser, error)

func (s sourceFunc) Open(context.Context, string) (io.ReadCloser, error) { return s() }

// A name from metadata that leads out of the directory is not requested.
func TestPathTraversal(t *testing.T) {
	w := newWeb(t, func(r *rawtuf.Repo) {
		for _, role := range []string{"vendor-agent", "review-agent"} {
			r.AddTarget("agent/../../../etc/passwd", "x", nil, role)
		}
	})
	c := w.client()
	view := w.good(c, 1)
	a, err := view.Find(t.Context(), "agent/../../../etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	w.asked("")
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "x")); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if got := w.asked(""); len(got) > 0 {
		t.Errorf("asked %q", got)
	}
}

// A location that does not answer, or not completely, is left after a while.
func TestMetadataTimeout(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		return respond(r, 200, until(r.Context())), nil
	}, vendorHost)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	view, err := w.client(func(cfg *client.Config) { cfg.MetadataTimeout = 400 * time.Millisecond }).Refresh(ctx)
	if err != nil || view.Location() != "cdn" {
		t.Errorf("%v", err)
	}
}

// A relative state directory stays the same when the process changes its working
// directory.
func TestRelativeDir(t *testing.T) {
	w := newWeb(t)
	t.Chdir(w.dir)
	c := w.client(func(cfg *client.Config) { cfg.Dir = "state" })
	w.good(c, 1)
	t.Chdir(t.TempDir())
	w.good(c, 1)
	if got, _ := os.ReadDir("."); len(got) > 0 {
		t.Errorf("made %v", got)
	}
}

// Bytes beyond the limit are not read.
func TestTooLarge(t *testing.T) {
	w := newWeb(t)
	c := w.client(func(cfg *client.Config) { cfg.Limits.Root, cfg.Limits.Timestamp = 1<<63-1, 100 })
	w.repo.NextRoot(nothing)
	if view := w.bad(c, tuf.ErrTooLarge); view.Root.Version() != 2 || !strings.Contains(view.Err.Error(), "more than 100 bytes") {
		t.Errorf("at root v%d, %v", view.Root.Version(), view.Err)
	}
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(name, "root.json") {
			return respond(r, 200, io.LimitReader(endless{}, 1<<20)), nil
		}
		return nil, nil
	}, vendorHost)
	w.good(w.client(), 2)
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
