package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// counting is a source that counts what is read of each file.
type counting struct {
	*memory
	bytes map[string]int
	opens int
}

func (c *counting) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := c.memory.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	if c.bytes == nil {
		c.bytes = map[string]int{}
	}
	c.opens++
	r := bytes.NewReader(data)
	return io.NopCloser(readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		c.bytes[name] += n
		return n, err
	})), nil
}

// binned is a repository whose vendor role has 2^bits hash bins, of which the
// snapshot lists none.
func binned(bits int) *rawtuf.Repo {
	r := rawtuf.New()
	r.Roles["vendor-agent"]["delegations"] = rawtuf.Doc{"keys": rawtuf.At(r.Roles["targets"], "delegations")["keys"],
		"succinct_roles": rawtuf.Doc{"keyids": r.IDs("va"), "threshold": 1, "bit_length": bits, "name_prefix": "b"}}
	r.Publish()
	return r
}

// A role with 2^32 hash bins in 12 kB of metadata does not block any tool that
// traverses a repository: only bins that the snapshot lists are visited.
func TestManyBinsDoNotSpin(t *testing.T) {
	t.Parallel()
	for _, bits := range []int{16, 20, 32} {
		r := binned(bits)
		files := fstest.MapFS{}
		m := newMemory()
		for name, data := range r.Files {
			files["metadata/"+name] = &fstest.MapFile{Data: data}
			m.Files["metadata/"+name] = data
		}
		sum := rawtuf.FileOf([]byte("the agent"))["hashes"].(rawtuf.Doc)["sha256"].(string)
		files["targets/agent/"+sum+".agent-11.4.0.tar.gz"] = &fstest.MapFile{Data: []byte("the agent")}
		pin := rawtuf.Marshal(r.Pin())
		cfg := &repo.Config{Now: func() time.Time { return rawtuf.Now }, Pin: pin}
		own := repo.New(m, cfg)
		for name, call := range map[string]func() error{
			"Clone": func() error { return mirror.Clone(t.Context(), newMemory(), client.FSSource(files), pin, options(cfg)) },
			"Bundle": func() error {
				return mirror.Bundle(t.Context(), io.Discard, m, pin, &mirror.BundleOptions{Metadata: true})
			},
			"Status":  func() error { _, err := own.Status(t.Context(), rawtuf.Now); return err },
			"Refresh": func() error { return own.Renew(t.Context()) },
			"Pending": func() error { _, err := own.Pending(t.Context(), "review"); return err },
			"Prune":   func() error { _, err := repo.New(m, cfg).Prune(t.Context(), nil); return err },
		} {
			err := call() // the test is that it returns
			want := tuf.ErrMismatch
			if bits > 20 { // package tuf refuses to open such a role
				want = tuf.ErrMalformed
			}
			if (name == "Clone" || name == "Bundle") && !errors.Is(err, want) {
				t.Errorf("%d bits: %s: %v", bits, name, err)
			}
		}
		report, err := mirror.Verify(t.Context(), m, pin, options(cfg))
		noErr(t, err)
		want := fmt.Sprintf("the snapshot lists 0 of its %d hash bins", uint64(1)<<bits)
		if bits > 20 {
			want = "bit_length is 32"
		}
		if !strings.Contains(report.String(), want) || len(report.Findings) > 10 {
			t.Errorf("%d bits: %s", bits, report)
		}
	}
	// In the valid counterpart every listed bin is visited.
	w := newWorld(t)
	w.Update(addFiles(0, 520))
	if report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config())); err != nil || report.Err() != nil || report.Roles != 7 {
		t.Errorf("%v, %v", report, err)
	}
}

// A version far beyond the published one is not opened: no tool counts up to it, and
// it does not exhaust the role's version numbers.
func TestVersionsFarAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, err := w.Open("vendor-release").Stage(t.Context(), add("1"))
	noErr(t, err)
	for version, ok := range map[int64]bool{1001: true, 1002: false, 1 << 40: false} {
		data := w.tamper(d, func(draft map[string]any) {
			content := at(draft, "files", 0, "content")
			content["signatures"] = []any{}
			at(content, "signed")["version"] = version
		})
		far, err := repo.OpenDraft(data)
		if !ok {
			if !errors.Is(err, tuf.ErrVersion) {
				t.Errorf("v%d: %v", version, err)
			}
			continue
		}
		noErr(t, err)
		healthy, w := w.Copy(), w.Copy()
		removed := &removing{memory: w.Store}
		w.Elsewhere = removed
		noErr(t, w.Open().Publish(t.Context(), w.forceAll(far)))
		if removed.n != 999 {
			t.Errorf("v%d: %d files are listed for removal", version, removed.n)
		}
		// ctx ends the counting.
		w = healthy.Copy()
		ctx, cancel := context.WithCancel(t.Context())
		removed = &removing{memory: w.Store, at: func(n int) {
			if n == 5 {
				cancel()
			}
		}}
		w.Elsewhere = removed
		if _ = w.Open().Publish(ctx, far); removed.n != 5 {
			t.Errorf("%d files were to be removed after ctx had ended", removed.n)
		}
		cancel()
	}
}

type removing struct {
	*memory
	n  int
	at func(n int)
}

func (r *removing) Remove(context.Context, string, time.Time) error {
	if r.n++; r.at != nil {
		r.at(r.n)
	}
	return nil
}

// A storage that claims to have every version of a role receives a bounded number of
// requests, and no version is read.
func TestStorageWithAllVersions(t *testing.T) {
	w := newWorld(t)
	s := &bottomless{counting: counting{memory: w.Store}}
	w.Elsewhere = s
	_, err := w.Open().Stage(t.Context(), add("1"))
	wantErr(t, err, fs.ErrExist)
	if s.asked > 1000 || s.bytes > 0 {
		t.Errorf("%d requests, %d bytes read", s.asked, s.bytes)
	}
	// ctx ends the search.
	ctx, cancel := context.WithCancel(t.Context())
	s.asked, s.at = 0, func(n int) {
		if n == 10 {
			cancel()
		}
	}
	_, err = w.Open().Stage(ctx, add("1"))
	wantErr(t, err, context.Canceled)
	if s.asked > 11 {
		t.Errorf("%d requests after the end of ctx", s.asked)
	}
}

// bottomless has every version of vendor-agent beyond the first.
type bottomless struct {
	counting
	asked, bytes int
	at           func(n int)
}

func (b *bottomless) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if !strings.HasSuffix(name, ".vendor-agent.json") || strings.HasPrefix(name, "metadata/1.") {
		return b.counting.Open(ctx, name)
	}
	if b.asked++; b.at != nil {
		b.at(b.asked)
	}
	return io.NopCloser(readerFunc(func(p []byte) (int, error) { b.bytes += len(p); return len(p), nil })), nil
}

// A root is read up to its own size limit, not that of the storage.
func TestHugeRoot(t *testing.T) {
	w := newWorld(t)
	w.Store.Files["metadata/2.root.json"] = make([]byte, 2<<20)
	read := &counting{memory: w.Store}
	_, err := repo.New(storage.ReadOnly(read), w.Config()).Chain(t.Context())
	wantErr(t, err, tuf.ErrTooLarge)
	if n := read.bytes["metadata/2.root.json"]; n > 600<<10 {
		t.Errorf("%d bytes were read", n)
	}
	_, err = repo.New(w.Store, w.Config()).Chain(t.Context())
	wantErr(t, err, tuf.ErrTooLarge)
	delete(w.Store.Files, "metadata/2.root.json")
	if chain, err := repo.New(w.Store, w.Config()).Chain(t.Context()); err != nil || len(chain) != 1 {
		t.Error(chain, err)
	}
}

// No served name has an element that begins with a dot.
func TestHandlerServesNoDots(t *testing.T) {
	m := newMemory()
	for name, status := range map[string]int{
		"targets/a/b.c": http.StatusOK, "targets/a.b/c": http.StatusOK,
		"targets/.git/config": http.StatusNotFound, "targets/a/.svn/b/c": http.StatusNotFound, "metadata/.x/y": http.StatusNotFound, "targets/..a/b": http.StatusNotFound,
	} {
		m.Files[name] = []byte("x")
		w := httptest.NewRecorder()
		mirror.Handler(m).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+name, nil))
		if w.Code != status {
			t.Errorf("%s: %d, want %d", name, w.Code, status)
		}
	}
}

// At most two copies of a draft are in memory while it is opened. The test is not
// parallel, because the heap is shared.
func TestOpenDraftMemory(t *testing.T) {
	rawtuf.Sequential(t)
	w := newWorld(t)
	d, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error {
		for i := range 128 {
			rel := release(fmt.Sprint(i))
			rel.Notes = strings.Repeat("n", 64<<10)
			if err := tx.Add("vendor", fmt.Sprintf("agent/%d", i), strings.NewReader("x"), rel); err != nil {
				return err
			}
		}
		return nil
	})
	noErr(t, err)
	data, err := d.Bytes()
	noErr(t, err)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	opened, err := repo.OpenDraft(data)
	runtime.ReadMemStats(&after)
	noErr(t, err)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(len(data))*3/2 {
		t.Errorf("a draft of %d MiB took %d MiB more", len(data)>>20, used>>20)
	}
	if opened.String() != "vendor-agent v2" {
		t.Error(opened)
	}
}

// hiding is a storage that loses a file when it is listed.
type hiding struct {
	*memory
	name string
}

func (h hiding) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		for info, err := range h.memory.List(ctx, prefix) {
			if info.Name != h.name && !yield(info, err) {
				return
			}
		}
	}
}

// If the current snapshot is missing when Prune lists the storage, because others
// published and pruned in between, Prune keeps the files that it can't date.
func TestPruneOfALostSnapshot(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	cfg := w.Config()
	cfg.Now = func() time.Time { return w.Now.AddDate(1, 0, 0) }
	list, err := repo.New(hiding{w.Store, "metadata/2.snapshot.json"}, cfg).Prune(t.Context(), nil)
	noErr(t, err)
	for _, f := range list {
		if strings.Contains(f.Name, "snapshot") {
			t.Errorf("removed %s", f.Name)
		}
	}
}
