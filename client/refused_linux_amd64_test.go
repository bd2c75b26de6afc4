package client_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/visum-dev/visum/client"
)

// refusing runs the calling test again in a process in which some system calls fail
// with an error, as in a sandbox or on some file systems, and returns true there. In
// the outer process it reports the outcome and returns false.
func refusing(t *testing.T, errno syscall.Errno, calls ...uint32) bool {
	const env = "VISUM_TEST_REFUSED"
	if os.Getenv(env) == "" {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), env+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		} else if bytes.Contains(out, []byte("--- SKIP")) {
			t.Skipf("%s", out)
		}
		return false
	}
	runtime.LockOSThread()
	type filter struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}
	program := []filter{{0x20, 0, 0, 0}} // the call's number
	for i, nr := range calls {
		program = append(program, filter{0x15, uint8(len(calls) - i), 0, nr})
	}
	program = append(program, filter{6, 0, 0, 0x7fff0000}, filter{6, 0, 0, 0x00050000 | uint32(errno)})
	all := struct {
		n uint16
		p *filter
	}{uint16(len(program)), &program[0]}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PRCTL, 38, 1, 0, 0, 0, 0); e != 0 { // no new privileges
		t.Skip("prctl:", e)
	}
	if _, _, e := syscall.RawSyscall(317, 1, 1, uintptr(unsafe.Pointer(&all))); e != 0 { // seccomp, all threads
		t.Skip("seccomp:", e)
	}
	return true
}

// A sandbox or a file system refuses to set permissions, with any error: files keep
// their initial ones, and nothing else differs. The log contains a record.
func TestChmodIsRefused(t *testing.T) {
	for name, errno := range map[string]syscall.Errno{"not permitted": syscall.EPERM, "not there": syscall.ENOSYS, "not supported": syscall.EOPNOTSUPP} {
		t.Run(name, func(t *testing.T) {
			if !refusing(t, errno, syscall.SYS_CHMOD, syscall.SYS_FCHMOD, syscall.SYS_FCHMODAT, 452) { // 452: fchmodat2
				return
			}
			w := newWeb(t)
			var log bytes.Buffer
			c := w.client(func(cfg *client.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			a := w.approved(c)
			file := filepath.Join(t.TempDir(), "agent")
			if err := c.Save(t.Context(), a, file); err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", fi.Mode(), err)
			}
			if !strings.Contains(log.String(), "not all permissions could be set") {
				t.Errorf("log: %s", &log)
			}
		})
	}
	// Other errors are reported.
	t.Run("broken disk", func(t *testing.T) {
		if !refusing(t, syscall.EIO, syscall.SYS_FCHMOD) {
			return
		}
		w := newWeb(t)
		c := w.client(func(cfg *client.Config) { cfg.Dir, cfg.Store = "", client.MemStore() })
		if err := c.Save(t.Context(), w.approved(c), filepath.Join(t.TempDir(), "agent")); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	})
}

// A product that may create files in a directory, but not list it, can save there.
func TestSaveIntoADropBox(t *testing.T) {
	const env = "VISUM_TEST_DROPBOX"
	dir := os.Getenv(env)
	if dir == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to become another user")
		}
		dir, err := os.MkdirTemp("", "visum-test-")
		must(t, err)
		defer os.RemoveAll(dir)
		must(t, os.Chmod(dir, 0o755))
		for name, mode := range map[string]fs.FileMode{"inbox": 0o333, "tmp": 0o777} {
			must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
			must(t, os.Chmod(filepath.Join(dir, name), mode))
		}
		program, err := os.ReadFile(os.Args[0])
		must(t, err)
		self := filepath.Join(dir, "self.test")
		must(t, os.WriteFile(self, program, 0o755))
		cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$", "-test.v")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env+"="+dir, "TMPDIR="+filepath.Join(dir, "tmp"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "inbox", "agent")); err != nil || string(data) != "the agent" {
			t.Errorf("%q, %v", data, err)
		}
		return
	}
	w := newWeb(t)
	var log bytes.Buffer
	c := w.client(func(cfg *client.Config) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if err := c.Save(t.Context(), w.approved(c), filepath.Join(dir, "inbox", "agent")); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "not all permissions could be set") {
		t.Errorf("log: %s", &log)
	}
}
