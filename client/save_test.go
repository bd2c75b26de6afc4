package client_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

const targetSuffix = ".agent-11.4.0.tar.gz"

// A location that serves a target wrongly, slowly or not at all is left for the next
// one.
func TestSaveUsesNextLocation(t *testing.T) {
	stream := func(r io.Reader) answer {
		return func(name string, req *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(name, targetSuffix) {
				return nil, nil
			}
			return respond(req, 200, io.MultiReader(r, until(req.Context()))), nil
		}
	}
	for name, a := range map[string]answer{
		"unreachable":      unreachable,
		"404":              status(404, targetSuffix, nil),
		"500":              status(500, targetSuffix, []byte("the agent")),
		"206":              status(206, targetSuffix, []byte("the agent")),
		"204":              status(204, targetSuffix, nil),
		"302":              redirect(targetSuffix),
		"wrong":            body(targetSuffix, []byte("the tnega")),
		"wrong, then more": stream(strings.NewReader("the tnega, and so on")),
		"wrong, no end":    stream(endless{}),
		"empty":            body(targetSuffix, nil),
		"stands still":     stream(strings.NewReader("the")),
		"crawls":           stream(crawl{}),
		"gzip":             zipped(targetSuffix),
		"silent": func(name string, r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(name, targetSuffix) {
				return respond(r, 200, until(r.Context())), nil
			}
			return nil, nil
		},
		"no answer": func(name string, r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(name, targetSuffix) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWeb(t)
				c := w.client(func(cfg *client.Config) { cfg.IdleTimeout = 400 * time.Millisecond })
				approved := w.approved(c)
				w.does(a, vendorHost)
				w.asked("")
				dir := t.TempDir()
				file := filepath.Join(dir, "agent")
				if err := c.Save(t.Context(), approved, file); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
					t.Fatalf("%q, %v", got, err)
				}
				want := 2
				if name == "crawls" {
					want = 3 // the honest location contradicts the part, and proves it
				}
				if got := w.asked(""); len(got) != want {
					t.Errorf("asked %q", got)
				}
				w.does(a, cdnHost)
				os.Remove(file)
				if err := c.Save(t.Context(), approved, file); err == nil {
					t.Error("no error without an honest location")
				}
				if left := files(t, dir); len(left) > 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		})
	}
}

// Bytes after the approved length are not read, whether more follow or the body never
// ends.
func TestSaveReadsNoMore(t *testing.T) {
	for name, more := range map[string]func(ctx context.Context) io.Reader{
		"more":    func(context.Context) io.Reader { return strings.NewReader("!") },
		"endless": func(context.Context) io.Reader { return endless{} },
		"silence": until,
	} {
		w := newWeb(t)
		c := w.client()
		a := w.approved(c)
		w.does(func(name string, r *http.Request) (*http.Response, error) {
			return respond(r, 200, io.MultiReader(strings.NewReader("the agent"), more(r.Context()))), nil
		}, vendorHost)
		w.asked("")
		file := filepath.Join(t.TempDir(), "agent")
		if err := c.Save(t.Context(), a, file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "the agent" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got := w.asked(""); len(got) != 1 {
			t.Errorf("%s: asked %q", name, got)
		}
	}
}

// A body of single bytes is aborted.
func TestSaveLeavesSlowLocation(t *testing.T) { synctest.Test(t, saveLeavesWhoCrawls) }

func saveLeavesWhoCrawls(t *testing.T) {
	content := strings.Repeat("a", 5000)
	w := newWeb(t, func(r *rawtuf.Repo) {
		r.AddTarget("agent/agent-11.4.0.tar.gz", content, nil, "vendor-agent", "review-agent")
	})
	c := w.client()
	a := w.approved(c)
	w.does(func(name string, r *http.Request) (*http.Response, error) {
		return respond(r, 200, readerFunc(func(p []byte) (int, error) {
			if r.Context().Err() != nil {
				return 0, r.Context().Err()
			}
			return crawl{}.Read(p)
		})), nil
	}, vendorHost)
	w.does(body(targetSuffix, []byte(content)), cdnHost)
	begun := time.Now()
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "x")); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("waited for %s", took)
	}
}

// until blocks until ctx ends, as a body does.
func until(ctx context.Context) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// crawl delivers a byte now and then, forever.
type crawl struct{}

func (crawl) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return copy(p, "a"), nil
}

// redirect redirects, but not over https.
func redirect(suffix string) answer {
	return func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, suffix) {
			return nil, nil
		}
		resp := respond(r, 302, http.NoBody)
		resp.Header.Set("Location", "http://"+reviewHost+"/r/"+name)
		return resp, nil
	}
}

func zipped(suffix string) answer { return coded("gzip", suffix) }

// coded answers with "the agent", compressed, with some Content-Encoding.
func coded(coding, suffix string) answer {
	return func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, suffix) {
			return nil, nil
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte("the agent"))
		z.Close()
		resp := respond(r, 200, &b)
		resp.Header.Set("Content-Encoding", coding)
		return resp, nil
	}
}

// A destination that cannot be written to is reported before anything is requested.
func TestSaveDestinations(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	a := w.approved(c)
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	plain := filepath.Join(dir, "plain")
	mustWrite(t, plain, []byte("x"))
	w.asked("")
	for file, want := range map[string]error{
		"":                                 fs.ErrNotExist,
		taken:                              fs.ErrInvalid,
		taken + string(filepath.Separator): fs.ErrInvalid,
		filepath.Join(dir, "no", "agent"):  fs.ErrNotExist,
		filepath.Join(dir, "new") + string(filepath.Separator): fs.ErrNotExist,
		filepath.Join(plain, "agent"):                          nil,
	} {
		err := c.Save(t.Context(), a, file)
		if err == nil || want != nil && !errors.Is(err, want) || strings.Contains(err.Error(), "download failed") {
			t.Errorf("%q: %v", file, err)
		}
		if got := w.asked(""); len(got) > 0 {
			t.Errorf("%q: asked %q", file, got)
		}
	}
	if got := files(t, dir); !slices.Equal(got, []string{"plain"}) {
		t.Errorf("left %q", got)
	}
	if fi, err := os.Stat(os.DevNull); err == nil && fi.Mode()&fs.ModeDevice != 0 {
		if err := c.Save(t.Context(), a, os.DevNull); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("a device: %v", err)
		}
	}
	// A link is replaced; its target stays, even if it is correct already.
	link := filepath.Join(dir, "link")
	mustWrite(t, plain, []byte("the agent"))
	if err := os.Symlink(plain, link); err != nil {
		t.Skip(err)
	}
	if err := c.Save(t.Context(), a, link); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(link); err != nil || !fi.Mode().IsRegular() {
		t.Errorf("%v, %v", fi, err)
	}
	// Old files of killed downloads are removed; recent ones may still be in use.
	old, young := filepath.Join(dir, ".visum-0123456789abcdef.tmp"), filepath.Join(dir, ".visum-0123456789abcde0.tmp")
	mustWrite(t, old, nil)
	mustWrite(t, young, nil)
	if err := os.Chtimes(old, time.Now().AddDate(0, 0, -2), time.Now().AddDate(0, 0, -2)); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), a, filepath.Join(dir, "agent")); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); !slices.Equal(got, []string{filepath.Base(young), "agent", "link", "plain"}) {
		t.Errorf("left %q", got)
	}
}

// Every listed hash is checked.
func TestSaveChecksSHA512(t *testing.T) {
	for _, sum := range []string{sha512Of("the agent"), sha512Of("the other")} {
		w := newWeb(t, func(r *rawtuf.Repo) {
			for _, role := range []string{"vendor-agent", "review-agent"} {
				rawtuf.At(r.Roles[role], "targets", rawtuf.Path, "hashes")["sha512"] = sum
			}
		})
		c := w.client()
		err := c.Save(t.Context(), w.approved(c), filepath.Join(t.TempDir(), "x"))
		if right := sum == sha512Of("the agent"); right && err != nil || !right && !errors.Is(err, tuf.ErrMismatch) {
			t.Errorf("got %v", err)
		}
	}
}

func sha512Of(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s))) }

// Everything was downloaded and is correct, but another program holds the file when it
// is to be replaced (here: a directory has taken its name). The next Save, of any
// process, requests nothing.
func TestSaveWhereTheFileIsHeld(t *testing.T) {
	d := newDepot(t, 1, mib)
	dir := t.TempDir()
	file := filepath.Join(dir, "agent")
	held := filepath.Join(file, "held")
	d.mirrors[0].tell(func(_ int, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if err := os.MkdirAll(held, 0o755); err != nil {
			t.Error(err)
		}
		serve(w, r)
	})
	err := d.save(t.Context(), file)
	if err == nil || strings.Contains(err.Error(), ".visum-") || !strings.Contains(err.Error(), file) {
		t.Fatalf("got %v", err)
	}
	part(t, dir, mib)
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	d.mirrors[0].tell(nil)
	d.saves(file)
	if asked := d.mirrors[0].asked(); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
	// Nor is a modified part used.
	d.mirrors[0].tell(func(_ int, w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		os.Remove(file)
		os.MkdirAll(held, 0o755)
		serve(w, r)
	})
	os.Remove(file)
	if err := d.save(t.Context(), file); err == nil {
		t.Fatal("no error")
	}
	mustWrite(t, part(t, dir, mib), d.bad(5, 6))
	os.RemoveAll(file)
	d.mirrors[0].tell(nil)
	d.saves(file)
}

// A replaced file keeps its permissions: an executable stays one.
func TestSaveOverAProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are those of the folder")
	}
	w := newWeb(t)
	c := w.client()
	a := w.approved(c)
	file := filepath.Join(t.TempDir(), "agent")
	for _, mode := range []fs.FileMode{0o755, 0o700, 0o640} {
		mustWrite(t, file, []byte("the old agent"))
		must(t, os.Chmod(file, mode))
		must(t, c.Save(t.Context(), a, file))
		if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%v, %v, was %v", fi.Mode(), err, mode)
		}
	}
}
