package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
)

// work is a batch of every kind of change, on the files of [prepare].
func work(ctx context.Context, b *Branch) error {
	return b.Batch(ctx, func(s storage.Batched) error {
		t, err := s.Read(ctx, "metadata/t")
		if err != nil {
			return err
		}
		if string(t) == "new" { // an earlier attempt took effect
			return nil
		}
		return errors.Join(s.Create(ctx, "targets/x", strings.NewReader(strings.Repeat("x", 2<<20))), s.(storage.Remover).Remove(ctx, "targets/old", time.Now().Add(time.Hour)),
			s.Create(ctx, "targets/kept", strings.NewReader("kept")), s.Replace(ctx, "metadata/t", []byte("old"), []byte("new")))
	})
}

const (
	stateOld = "metadata/t:3:old targets/kept:4 targets/old:3"
	stateNew = "metadata/t:3:new targets/kept:4 targets/x:2097152"
)

// prepare makes a branch with files.
func prepare(t testing.TB) *host {
	t.Helper()
	h := newHost(t)
	rawtuf.NoErr(t, h.open().Batch(context.Background(), func(s storage.Batched) error {
		ctx := context.Background()
		return errors.Join(s.Create(ctx, "targets/old", strings.NewReader("old")), s.Create(ctx, "targets/kept", strings.NewReader("kept")), s.Replace(ctx, "metadata/t", nil, []byte("old")))
	}))
	return h
}

// copy is another host with the same files.
func (h *host) copy() *host {
	h.t.Helper()
	out := *h
	out.dir = filepath.Join(memoryDir(h.t), "r.git")
	rawtuf.NoErr(h.t, os.CopyFS(out.dir, os.DirFS(h.dir)))
	return &out
}

// state is what the host has.
func (h *host) state() string {
	h.t.Helper()
	if h.head() == "" {
		return ""
	}
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(h.run("", "ls-tree", "-r", "-l", branch)), "\n") {
		info, name, _ := strings.Cut(line, "\t")
		if !strings.HasPrefix(name, ".") {
			f := strings.Fields(info)
			s := name + ":" + f[3]
			if name == "metadata/t" {
				s += ":" + h.run("", "cat-file", "blob", f[2])
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, " ")
}

// killAt is the other process: it kills itself before or after its n-th command of git.
func killAt(t *testing.T, b *Branch, when, n string) {
	k, run := 0, b.run
	die := func() {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		time.Sleep(time.Hour)
	}
	b.run = func(ctx context.Context, x *command) error {
		k++
		if when == "before" && fmt.Sprint(k) == n {
			die()
		}
		err := run(ctx, x)
		if when == "after" && fmt.Sprint(k) == n {
			die()
		}
		return err
	}
	if when == "pid" { // the host kills it
		rawtuf.NoErr(t, os.WriteFile(n, []byte(fmt.Sprint(os.Getpid())), 0o600))
	}
	rawtuf.NoErr(t, work(t.Context(), b))
}

// A process dies before or after any command of git. Others see the old state or the new
// one, and the same work can be done again with the same local copy.
func TestKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts some hundred processes of git; not with -short")
	}
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ready := prepare(t)
			step := 4
			if rawtuf.Long {
				step = 1
			}
			for n := 1; ; n += step {
				h, cache := ready.copy(), memoryDir(t)
				out, err := job("kill", h.uri(), cache, when, fmt.Sprint(n)).CombinedOutput()
				done := strings.Contains(string(out), "done")
				if done != (err == nil) || strings.Contains(string(out), "FAIL") {
					t.Fatalf("command %d: %v: %s", n, err, out)
				}
				if got := h.state(); got != stateOld && got != stateNew || done && got != stateNew {
					t.Fatalf("killed at command %d: the branch has %s", n, got)
				}
				if done {
					if n < 8 {
						t.Fatalf("done after %d commands", n)
					}
					return
				}
				b := h.open(func(o *Options) { o.CacheDir = cache })
				rawtuf.NoErr(t, work(t.Context(), b))
				if got := h.state(); got != stateNew {
					t.Fatalf("killed at command %d, and done again: the branch has %s", n, got)
				}
			}
		})
	}
}

// A process dies while its push is received.
func TestKilledDuringPush(t *testing.T) {
	rawtuf.Program(t, "sh", "a shell")
	for what, end := range map[string]string{"the push ends": "exit 0", "the push is refused": "exit 1", "the connection ends": "kill -9 $PPID; exit 0"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h, cache := prepare(t), memoryDir(t)
			pid := filepath.Join(memoryDir(t), "pid")
			h.hook("pre-receive", "kill -9 $(cat "+pid+"); "+end)
			out, err := job("kill", h.uri(), cache, "pid", pid).CombinedOutput()
			if err == nil || strings.Contains(string(out), "done") {
				t.Fatalf("not killed: %s", out)
			}
			if got := h.state(); got != stateOld && got != stateNew {
				t.Fatalf("the branch has %s", got)
			}
			h.hook("pre-receive", "exit 0")
			b := h.open(func(o *Options) { o.CacheDir = cache })
			err = work(t.Context(), b)
			for errors.Is(err, storage.ErrConflict) { // git outlived the process, and its push has just taken effect
				err = work(t.Context(), b)
			}
			rawtuf.NoErr(t, err)
			if got := h.state(); got != stateNew {
				t.Fatalf("done again: the branch has %s", got)
			}
		})
	}
}

// hook sets a hook of the host.
func (h *host) hook(name, script string) {
	h.t.Helper()
	rawtuf.NoErr(h.t, os.MkdirAll(filepath.Join(h.dir, "hooks"), 0o755))
	path := filepath.Join(h.dir, "hooks", name)
	rawtuf.NoErr(h.t, os.WriteFile(path+".new", []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	rawtuf.NoErr(h.t, os.Rename(path+".new", path))
}
