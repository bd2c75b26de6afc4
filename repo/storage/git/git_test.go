package git

import (
	"context"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
)

// program is the real git.
func program(t testing.TB) string { return rawtuf.Program(t, "git", "Debian's git") }

// memoryDir is a new directory, in memory if the system supports that.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "visum-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// host is a bare repository on this machine.
type host struct {
	t      testing.TB
	dir    string
	git    string
	folder string // "" or with a colon before
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, dir: filepath.Join(memoryDir(t), "r.git"), git: program(t)}
	h.run("", "init", "-q", "--bare", h.dir)
	h.config("uploadpack.allowFilter", "true")
	return h
}

// run runs git in the repository of the host, with a standard input.
func (h *host) run(stdin string, args ...string) string {
	h.t.Helper()
	return rawtuf.Run(h.t, stdin, h.git, append([]string{"--git-dir=" + h.dir, "-c", "user.name=x", "-c", "user.email=x@localhost"}, args...)...)
}

func (h *host) config(key, value string) { h.t.Helper(); h.run("", "config", key, value) }

const branch = "pages"

func (h *host) uri() string { return "git:file://" + h.dir + "#" + branch + h.folder }

// head is the commit of the branch; "" if there is none.
func (h *host) head() string {
	h.t.Helper()
	return strings.TrimSpace(h.run("", "for-each-ref", "--format=%(objectname)", "refs/heads/"+branch))
}

// open opens the branch with a local copy of its own.
func (h *host) open(edit ...func(*Options)) *Branch {
	h.t.Helper()
	opt := &Options{Program: h.git, CacheDir: memoryDir(h.t), UnsafeLocal: true}
	for _, e := range edit {
		e(opt)
	}
	b, err := Open(context.Background(), h.uri(), opt)
	rawtuf.NoErr(h.t, err)
	return b
}

// The contract of storages, inside of a batch, and with VISUM_LONG=1 for changes that are
// pushed one by one, in the whole branch and in a folder of it.
func TestStorage(t *testing.T) {
	t.Run("Batch", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, func(t *testing.T) storage.Storage { return inBatch(t, newHost(t).open()) })
	})
	if !rawtuf.Long {
		return
	}
	t.Run("Branch", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, func(t *testing.T) storage.Storage { return newHost(t).open() })
	})
	t.Run("Folder", func(t *testing.T) {
		t.Parallel()
		storagetest.Run(t, func(t *testing.T) storage.Storage {
			h := newHost(t)
			h.folder = ":some/folder of it"
			return h.open()
		})
	})
}

// inBatch returns the storage of a batch that ends with the test.
func inBatch(t *testing.T, b storage.Batcher) storage.Storage {
	opened, end, ended := make(chan storage.Storage), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- b.Batch(context.Background(), func(s storage.Batched) error { opened <- s; <-end; return nil })
	}()
	t.Cleanup(func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return noBatcher{(<-opened).(*batch)}
}

// noBatcher hides Batch: what an inner batch changes is not visible at its end.
type noBatcher struct{ x *batch }

func (n noBatcher) Read(ctx context.Context, name string) ([]byte, error) { return n.x.Read(ctx, name) }

func (n noBatcher) Create(ctx context.Context, name string, r io.Reader) error {
	return n.x.Create(ctx, name, r)
}

func (n noBatcher) Replace(ctx context.Context, name string, old, new []byte) error {
	return n.x.Replace(ctx, name, old, new)
}

func (n noBatcher) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return n.x.Open(ctx, name)
}

func (n noBatcher) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return n.x.List(ctx, prefix)
}

func (n noBatcher) Remove(ctx context.Context, name string, before time.Time) error {
	return n.x.Remove(ctx, name, before)
}

func (n noBatcher) Copy(ctx context.Context, from, to string) error { return n.x.Copy(ctx, from, to) }
