package durable

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The test binary is also the child process that gets killed.
func TestMain(m *testing.M) {
	if args := strings.Split(os.Getenv("DURABLE_TEST_CHILD"), "|"); len(args) > 1 {
		child(args[0], args[1:])
	}
	os.Exit(m.Run())
}

func child(what string, args []string) {
	switch what {
	case "lock":
		_, err := Lock(context.Background(), args[0])
		fmt.Println(err)
		time.Sleep(time.Minute) // to be killed
	case "write":
		var step int
		fmt.Sscan(args[1], &step)
		f, err := create(&dying{left: step}, args[0], randomName(tempSuffix))
		if err == nil {
			f.Write([]byte("new"))
			if args[2] == "CommitNew" {
				err = f.CommitNew()
			} else {
				err = f.Commit()
			}
		}
		fmt.Println(err)
	}
	os.Exit(0)
}

func start(t *testing.T, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "DURABLE_TEST_CHILD="+strings.Join(args, "|"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewReader(out)
}

// dying kills its own process after a number of steps.
type dying struct {
	plain
	left int
}

func (d *dying) step(effect func()) {
	effect()
	if d.left--; d.left == 0 {
		p, _ := os.FindProcess(os.Getpid())
		p.Kill()
		select {}
	}
}

func (d *dying) OpenFile(name string, flag int, perm fs.FileMode) (f *os.File, err error) {
	d.step(func() { f, err = d.plain.OpenFile(name, flag, perm) })
	return
}
func (d *dying) Rename(a, b string) (err error) {
	d.step(func() { err = d.plain.Rename(a, b) })
	return
}
func (d *dying) Link(a, b string) (err error) {
	d.step(func() { err = d.plain.Link(a, b) })
	return
}
func (d *dying) Remove(name string) (err error) {
	d.step(func() { err = d.plain.Remove(name) })
	return
}

func TestKilledAtEachStep(t *testing.T) {
	for commit, old := range map[string]string{"Commit": "old", "CommitNew": ""} {
		t.Run(commit, func(t *testing.T) {
			t.Parallel()
			finished := false
			for step := 1; !finished; step++ {
				dir := t.TempDir()
				path := filepath.Join(dir, "x")
				if old != "" {
					must(t, os.WriteFile(path, []byte(old), 0o600))
				}
				cmd, out := start(t, "write", path, fmt.Sprint(step), commit)
				line, _ := out.ReadString('\n')
				finished = cmd.Wait() == nil
				if finished && line != "<nil>\n" || step > 20 {
					t.Fatalf("step %d: child reports %q", step, line)
				}
				got, err := os.ReadFile(path)
				if err != nil && (old != "" || !errors.Is(err, fs.ErrNotExist)) {
					t.Fatal(err)
				}
				if s := string(got); s != "new" && (s != old || finished) {
					t.Fatalf("killed after step %d: %q", step, s)
				}
				must(t, RemoveTemp(dir, time.Now().Add(time.Hour)))
				if len(got) == 0 {
					names(t, dir)
				} else {
					names(t, dir, "x")
				}
				must(t, WriteFile(path, []byte("next"), 0o600))
			}
		})
	}
}

func TestLockKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd, out := start(t, "lock", path)
	if line, err := out.ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("child reports %q, %v", line, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locked what another process has: %v", err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	unlock, err := Lock(ctx, path)
	must(t, err)
	unlock()
}

func TestLockGoroutines(t *testing.T) {
	dir := t.TempDir()
	// Two names of one file: the queue excludes users of one name, the file lock the others.
	paths := []string{filepath.Join(dir, "lock"), filepath.Join(dir, "lock")}
	if os.Symlink(dir, filepath.Join(dir, "self")) == nil {
		paths[1] = filepath.Join(dir, "self", "lock")
	}
	var inside atomic.Int32
	n := 0
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 10 {
				unlock, err := Lock(t.Context(), paths[i%2])
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two inside")
				}
				n++
				inside.Add(-1)
				unlock()
				unlock()
			}
		})
	}
	all.Wait()
	if n != 80 {
		t.Errorf("%d of 80", n)
	}
	if len(doors.m) != 0 {
		t.Errorf("%d doors left behind", len(doors.m))
	}
}

func TestLockContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("second Lock: %v", err)
	}
	unlock()
	if _, err := Lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("free lock, ended context: %v", err)
	}
	unlock, err = Lock(t.Context(), path)
	must(t, err)
	unlock()
}

func TestLockFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Lock(t.Context(), filepath.Join(dir, "none", "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no folder: %v", err)
	}
	if _, err := Lock(t.Context(), dir); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("a folder as lock file: %v", err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")); err == nil {
		if _, err := Lock(t.Context(), filepath.Join(dir, "link")); !errors.Is(err, fs.ErrInvalid) {
			t.Fatalf("a symbolic link as lock file: %v", err)
		}
		names(t, dir, "link")
	}
}

// TestLockRemoved: a process that locks a file that is removed at the same moment must detect it,
// because the next process locks a new file.
func TestLockRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	old, err := poll(t.Context(), path)
	must(t, err)
	defer old.Close()
	if !current(old) {
		t.Fatal("the lock just taken is not current")
	}
	if err := os.Remove(path); err != nil {
		t.Skip(err) // Windows: it can't happen
	}
	if current(old) {
		t.Fatal("the lock of a removed file is current")
	}
	unlock, err := Lock(t.Context(), path)
	must(t, err)
	defer unlock()
	if current(old) {
		t.Fatal("the lock of a replaced file is current")
	}
}
