//go:build unix

package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Only regular files and folders are opened. Opening a named pipe without a writer must not
// block; then the test would hang.
func TestOpenOthers(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.WriteFile(at("file"), []byte("x"), 0o600))
	must(t, os.Mkdir(at("folder"), 0o700))
	must(t, syscall.Mkfifo(at("pipe"), 0o600))
	must(t, os.Symlink("file", at("to-file")))
	must(t, os.Symlink("folder", at("to-folder")))
	must(t, os.Symlink("pipe", at("to-pipe")))
	must(t, os.Symlink("/dev/zero", at("to-device")))
	for _, name := range []string{"file", "folder", "pipe", "to-file", "to-folder", "to-pipe", "to-device", "none"} {
		wantFile, wantDir := fs.ErrInvalid, fs.ErrInvalid
		switch name {
		case "file":
			wantFile = nil
		case "folder":
			wantDir = nil
		case "none":
			wantFile, wantDir = fs.ErrNotExist, fs.ErrNotExist
		}
		for what, open := range map[string]func() (*os.File, error){
			"Open":   func() (*os.File, error) { return Open(at(name)) },
			"OpenIn": func() (*os.File, error) { return OpenIn(root, name) },
		} {
			f, err := open()
			if !errors.Is(err, wantFile) || (err == nil) != (wantFile == nil) {
				t.Errorf("%s(%s): %v", what, name, err)
			}
			if err == nil {
				f.Close()
			}
		}
		f, err := OpenDirIn(root, name)
		if !errors.Is(err, wantDir) || (err == nil) != (wantDir == nil) {
			t.Errorf("OpenDirIn(%s): %v", name, err)
		}
		if err == nil {
			f.Close()
		}
	}
	// The other functions do not block on a pipe in place of a folder either.
	later := time.Now().Add(time.Hour)
	for what, err := range map[string]error{
		"RemoveTempIn": RemoveTempIn(root, "pipe", later), "RemoveTemp": RemoveTemp(at("pipe"), later), "RemoveParts": RemoveParts(at("pipe"), later),
		"SyncDir": SyncDir(at("pipe")), "SyncDirIn": SyncDirIn(root, "pipe"),
	} {
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	must(t, RemoveTemp(at("to-folder"), later)) // a link to the folder is allowed
	must(t, SyncDir(at("to-folder")))
	part := PartName()
	must(t, syscall.Mkfifo(at(part), 0o600))
	if _, _, err := OpenPart(at("x"), part); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("OpenPart: %v", err)
	}
}

// swap replaces a file between the check and the opening.
type swap struct {
	plain
	with func(name string)
}

func (s swap) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	s.with(name)
	return s.plain.OpenFile(name, flag, perm)
}

// A file that replaces the checked one before the opening is not waited for, followed or used.
func TestOpenRace(t *testing.T) {
	for name, put := range map[string]func(name string) error{
		"pipe":         func(name string) error { return syscall.Mkfifo(name, 0o600) },
		"link":         func(name string) error { return os.Symlink(name+"-2", name) },
		"link to it":   func(name string) error { return os.Symlink(name+"-3", name) },
		"another file": func(name string) error { return os.WriteFile(name, []byte("other"), 0o600) },
		"folder":       func(name string) error { return os.Mkdir(name, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.WriteFile(path+"-2", nil, 0o600))
			in := swap{with: func(name string) {
				must(t, os.Rename(name, name+"-3"))
				must(t, put(name))
			}}
			f, err := openAs(in, path, os.O_RDONLY, regular)
			if err == nil {
				f.Close()
				t.Error("was opened")
			}
		})
	}
}

// A pipe with the name of a lock file is refused without blocking.
func TestLockIsAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	must(t, syscall.Mkfifo(path, 0o600))
	if _, err := TryLock(path); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	if _, err := Lock(t.Context(), path); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

func TestOurs(t *testing.T) {
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		change func(path string) error
		ours   bool
	}{
		"private":         {func(path string) error { return nil }, true},
		"for the group":   {func(path string) error { return os.Chmod(path, 0o664) }, true},
		"writable by all": {func(path string) error { return os.Chmod(path, 0o602) }, false},
		"of two names":    {func(path string) error { return os.Link(path, path+"-2") }, false},
		"another user's":  {func(path string) error { return os.Chown(path, 12345, -1) }, false},
		"a folder":        {func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, false},
	} {
		if name == "another user's" && os.Geteuid() != 0 {
			continue
		}
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, nil, 0o600))
		must(t, tt.change(path))
		fi, err := os.Lstat(path)
		must(t, err)
		if Ours(fi) != tt.ours {
			t.Errorf("%s: %v", name, !tt.ours)
		}
	}
}

// KeepPerm keeps the permissions of a replaced file, and applies the umask otherwise. Without it
// they are 0644, as a publisher needs.
func TestKeepPerm(t *testing.T) {
	for _, tt := range []struct{ umask, before, want fs.FileMode }{
		{0o022, 0, 0o644}, {0o077, 0, 0o600}, {0, 0, 0o664}, {0o077, 0o640, 0o640}, {0o077, 0o755, 0o755}, {0o077, 0o606, 0o604},
	} {
		path := filepath.Join(t.TempDir(), "x")
		if tt.before != 0 {
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Chmod(path, tt.before))
		}
		f, err := Create(path)
		must(t, err)
		was := syscall.Umask(int(tt.umask))
		f.KeepPerm()
		syscall.Umask(was)
		fmt.Fprint(f, "new")
		must(t, f.Commit())
		fi, err := os.Lstat(path)
		must(t, err)
		if fi.Mode().Perm() != tt.want {
			t.Errorf("umask %04o, before %04o: %04o, want %04o", tt.umask, tt.before, fi.Mode().Perm(), tt.want)
		}
		names(t, filepath.Dir(path), "x")
	}
	path := filepath.Join(t.TempDir(), "x")
	must(t, os.WriteFile(path, nil, 0o755))
	must(t, os.Link(path, path+"2")) // a second name does not remove the execute permission
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 1, 1)) // nor does another owner
		must(t, os.Chmod(path, 0o775))
	}
	f, err := Create(path)
	must(t, err)
	f.KeepPerm()
	must(t, f.Commit())
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	path = filepath.Join(t.TempDir(), "x")
	was := syscall.Umask(0o077)
	err = WriteFile(path, nil, 0o644)
	syscall.Umask(was)
	must(t, err)
	if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("published with %v, %v", fi.Mode(), err)
	}
}

// EBUSY from a network mount is temporary, because another machine holds the file. Other errors
// are not.
func TestBusyFile(t *testing.T) {
	for errno, want := range map[syscall.Errno]bool{syscall.EBUSY: true, syscall.ETXTBSY: true, syscall.EACCES: false, syscall.EISDIR: false, syscall.ENOSPC: false} {
		calls := 0
		err := Retry(func() error {
			if calls++; calls < 3 {
				return &os.LinkError{Op: "rename", Old: "a", New: "b", Err: errno}
			}
			return nil
		})
		if (err == nil) != want || want != (calls == 3) {
			t.Errorf("%v: %v after %d calls", errno, err, calls)
		}
	}
}
