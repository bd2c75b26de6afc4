package git

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	t   testing.TB
	dir string
	git string
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t, filepath.Join(memoryDir(t), "r.git"), program(t)}
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

func (h *host) uri() string { return "git:file://" + h.dir + "#" + branch }

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

// The contract of storages, for single changes and inside of a batch.
func TestStorage(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage { return newHost(t).open() })
}
