package client_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/client/sourcetest"
)

func TestSources(t *testing.T) {
	for name, open := range map[string]func(*testing.T, map[string][]byte) client.Source{
		"memory": inMemory,
		"folder": inFolder,
		"zip":    inZip,
		"web":    onTheWeb,
		"web, ranges ignored": func(t *testing.T, files map[string][]byte) client.Source {
			return webOf(t, files, func(r *http.Request) { r.Header.Del("Range") })
		},
		"list": func(t *testing.T, files map[string][]byte) client.Source {
			return client.MultiSource(client.FSSource(fstest.MapFS{}), halfOf(t, files, 0), halfOf(t, files, 1))
		},
		"list of lists": func(t *testing.T, files map[string][]byte) client.Source {
			return client.MultiSource(client.MultiSource(), client.MultiSource(onTheWeb(t, files)), inMemory(t, nil))
		},
		"one without ranges": func(t *testing.T, files map[string][]byte) client.Source {
			return struct{ client.Source }{inMemory(t, files)}
		},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); sourcetest.Run(t, open) })
	}
}

func inMemory(_ *testing.T, files map[string][]byte) client.Source {
	m := fstest.MapFS{}
	for name, data := range files {
		m[name] = &fstest.MapFile{Data: data}
	}
	return client.FSSource(m)
}

// halfOf has every second file.
func halfOf(t *testing.T, files map[string][]byte, rest int) client.Source {
	half := map[string][]byte{}
	for name, data := range files {
		if len(name)%2 == rest {
			half[name] = data
		}
	}
	return inMemory(t, half)
}

func inFolder(t *testing.T, files map[string][]byte) client.Source {
	dir := quickDir(t)
	for name, data := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		mustWrite(t, file, data)
	}
	return client.FSSource(os.DirFS(dir))
}

func inZip(t *testing.T, files map[string][]byte) client.Source {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, data := range files {
		f, err := z.Create(name)
		must(t, err)
		_, err = f.Write(data)
		must(t, err)
	}
	must(t, z.Close())
	r, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	must(t, err)
	return client.FSSource(r)
}

func onTheWeb(t *testing.T, files map[string][]byte) client.Source {
	return webOf(t, files, func(*http.Request) {})
}

// webOf is a correct web server with the files, and a Source of it.
func webOf(t *testing.T, files map[string][]byte, change func(*http.Request)) client.Source {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/r/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		change(r)
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(data)))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	t.Cleanup(ts.Close)
	return client.HTTPSource(ts.URL+"/r/metadata/", ts.URL+"/r/targets/")
}

// broken are sources that break the contract, by the subtest that must fail.
var broken = map[string]func(*broke, context.Context, string, int64, string) (*client.Range, error){
	"files": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		r, err := b.good.OpenAt(ctx, name, offset, tag)
		if err == nil && r.Size == 13 { // it decompresses a target
			r.ReadCloser = io.NopCloser(strings.NewReader("unzipped"))
		}
		return r, err
	},
	"absent": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		r, err := b.good.OpenAt(ctx, name, offset, tag)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.New("no such file")
		}
		return r, err
	},
	"path traversal": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		return b.good.OpenAt(ctx, path.Clean(name), offset, tag)
	},
	"readers": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		if name != "targets/agent/large" {
			return b.good.OpenAt(ctx, name, offset, tag)
		}
		var err error
		if b.last == nil {
			b.last, err = b.good.OpenAt(ctx, name, offset, tag)
		}
		return b.last, err
	},
	"ends with its context": func(b *broke, _ context.Context, name string, offset int64, tag string) (*client.Range, error) {
		return b.good.OpenAt(context.Background(), name, offset, tag)
	},
	"ranges": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		r, err := b.good.OpenAt(ctx, name, offset, tag)
		if err == nil && offset > 0 {
			r.Offset = 0 // which is wrong
		}
		return r, err
	},
	"no such range": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		r, err := b.good.OpenAt(ctx, name, offset, tag)
		if errors.Is(err, client.ErrRange) {
			err = fs.ErrNotExist
		}
		return r, err
	},
	"tags": func(b *broke, ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
		r, err := b.good.OpenAt(ctx, name, offset, tag)
		if err == nil {
			b.n++
			r.Tag = fmt.Sprint(b.n)
		}
		return r, err
	},
}

type broke struct {
	good client.RangeSource
	how  string
	last *client.Range
	n    int
}

func (b *broke) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := broken[b.how](b, ctx, name, 0, "")
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (b *broke) OpenAt(ctx context.Context, name string, offset int64, tag string) (*client.Range, error) {
	return broken[b.how](b, ctx, name, offset, tag)
}

// The tests detect the broken sources: they run in another process, and fail there.
func TestSourcesThatBreakTheContract(t *testing.T) {
	if how := os.Getenv("VISUM_TEST_BROKEN"); how != "" {
		sourcetest.Run(t, func(t *testing.T, files map[string][]byte) client.Source {
			return &broke{good: inMemory(t, files).(client.RangeSource), how: how}
		})
		return
	}
	for how := range broken {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSourcesThatBreakTheContract$")
			cmd.Env = append(os.Environ(), "VISUM_TEST_BROKEN="+how)
			out, err := cmd.CombinedOutput()
			if want := "--- FAIL: TestSourcesThatBreakTheContract/" + strings.ReplaceAll(how, " ", "_") + " "; err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%v, lacks %q:\n%s", err, want, out)
			}
		})
	}
}
