package client_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// killedAt runs a process and kills it before its n-th change to the disk below a
// directory: creating, writing, flushing, renaming, truncating or removing a file. It
// returns the number of completed changes. The process is traced by its system calls,
// so no change is missed.
func killedAt(cmd *exec.Cmd, dir string, n int) (done int, err error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()
	// The process has a process group of its own, so that only its threads are waited for:
	// this thread of the system may have started children of other tests before.
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	const sysgood, exitKill, noThread = 1, 0x100000, 0x20000000
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		return 0, err
	}
	if err := syscall.PtraceSetOptions(pid, sysgood|exitKill|syscall.PTRACE_O_TRACECLONE); err != nil {
		return 0, err
	}
	inside := map[int]bool{} // threads that are within a call
	at := pid
	for signal := 0; ; {
		_ = syscall.PtraceSyscall(at, signal) // fails if it was killed in the meantime
		if at, err = syscall.Wait4(-pid, &ws, syscall.WALL|noThread, nil); err != nil {
			return done, err
		}
		signal = 0
		switch {
		case at == pid && (ws.Exited() || ws.Signaled()):
			if ws.Exited() && ws.ExitStatus() != 0 {
				err = fmt.Errorf("exit status %d", ws.ExitStatus())
			}
			return done, err
		case !ws.Stopped():
		case ws.StopSignal() == syscall.SIGTRAP|0x80:
			if inside[at] = !inside[at]; inside[at] && changes(at, dir) {
				if done++; done == n {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		case ws.StopSignal() != syscall.SIGTRAP && ws.StopSignal() != syscall.SIGSTOP: // those belong to the tracing
			signal = int(ws.StopSignal())
		}
	}
}

// changes reports whether the next system call of a thread changes a file below dir.
func changes(thread int, dir string) bool {
	var r syscall.PtraceRegs
	if syscall.PtraceGetRegs(thread, &r) != nil {
		return false
	}
	below := func(fd uint64) bool {
		file, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", thread, int32(fd)))
		return err == nil && strings.HasPrefix(file, dir)
	}
	const renameat2 = 316
	switch r.Orig_rax {
	case syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_FSYNC, syscall.SYS_FTRUNCATE, syscall.SYS_FCHMOD:
		return below(r.Rdi)
	case syscall.SYS_OPENAT:
		return r.Rdx&syscall.O_CREAT != 0
	case syscall.SYS_RENAMEAT, renameat2, syscall.SYS_UNLINKAT, syscall.SYS_MKDIRAT, syscall.SYS_LINKAT, syscall.SYS_RENAME, syscall.SYS_UNLINK, syscall.SYS_MKDIR:
		return true
	}
	return false
}

// A product is killed before each single change to the disk, during an update to a new
// root, new content and a new release. The installed file is the old release or the new
// one, and the next process continues.
func TestKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	d := newDepot(t, 1, 100_000)
	d.dir = quickDir(t)
	file := filepath.Join(d.dir, "installed", "agent")
	must(t, os.Mkdir(filepath.Dir(file), 0o700))
	must(t, d.save(t.Context(), file))
	old := d.content
	d.content = noise(100_001)[1:]
	d.repo.AddTarget(rawtuf.Path, string(d.content), nil, "vendor-agent", "review-agent")
	d.repo.NextRoot(nothing)
	renew(d.repo)
	before := os.DirFS(d.dir)

	// run starts a copy of the product that is killed, and returns how far it got.
	run := func(n int) (done int, err error) {
		one := *d
		one.dir = quickDir(t)
		if err := os.CopyFS(one.dir, before); err != nil {
			return 0, err
		}
		file := filepath.Join(one.dir, "installed", "agent")
		cmd := one.process("save", file)
		log, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			return 0, err
		}
		defer log.Close()
		cmd.Stderr = log
		if done, err = killedAt(cmd, one.dir, n); err != nil {
			text, _ := os.ReadFile(log.Name())
			return done, fmt.Errorf("%w: %s", err, text)
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, old) && !bytes.Equal(got, d.content) {
			return done, fmt.Errorf("%d bytes are installed, %v", len(got), err)
		}
		c := one.client()
		view, err := refreshed(t, c)
		if err != nil || view.Root().Version() != 2 {
			return done, fmt.Errorf("the next process: %w", err)
		}
		if err := refreshAndSave(c, file); err != nil {
			return done, fmt.Errorf("the next process: %w", err)
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, d.content) {
			return done, fmt.Errorf("then %d bytes are installed, %v", len(got), err)
		}
		if left := files(t, filepath.Dir(file)); len(left) > 1 {
			return done, fmt.Errorf("left %q", left)
		}
		return done, nil
	}
	all, err := run(-1)
	if err != nil {
		t.Fatal(err)
	}
	if all < 60 {
		t.Fatalf("only %d writes", all)
	}
	t.Logf("%d writes", all)
	step := 3
	switch {
	case testing.Short():
		step = 10
	case os.Getenv("CI") != "":
		step = 1
	}
	var workers sync.WaitGroup
	var killed atomic.Int64
	todo := make(chan int)
	for range 3 {
		workers.Go(func() {
			for n := range todo {
				// The network decides into how many pieces a body is split, so a
				// process may have completed before the n-th write.
				done, err := run(n)
				if err != nil || done > n {
					t.Errorf("killed before write %d: completed %d, %v", n, done, err)
				}
				if done == n {
					killed.Add(1)
				}
			}
		})
	}
	for n := 1; n <= all; n += step {
		todo <- n
	}
	close(todo)
	workers.Wait()
	if got := int(killed.Load()); got < all/step/2 {
		t.Errorf("of %d processes %d were killed", all/step, got)
	}
}
