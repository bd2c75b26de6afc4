package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPart(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	name := PartName()
	f, err := CreatePart(path, name)
	must(t, err)
	if _, err := CreatePart(path, name); !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if _, err := CreatePart(path, "x"); !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	fmt.Fprint(f, "one, tow")
	if !IsPart(name) || IsTemp(name) || IsPart(filepath.Base(path)) {
		t.Fatalf("%s", name)
	}
	if info, err := os.Stat(filepath.Join(dir, name)); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	must(t, f.Keep())
	f.Abort()
	for op, err := range map[string]error{"Keep": f.Keep(), "Truncate": f.Truncate(0), "Commit": f.Commit()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Keep: %v", op, err)
		}
	}
	must(t, RemoveTemp(dir, time.Now().Add(time.Hour))) // does not remove parts
	names(t, dir, name, "x")

	f, size, err := OpenPart(path, name)
	if err != nil || size != 8 {
		t.Fatal(size, err)
	}
	must(t, f.Truncate(5))
	fmt.Fprint(f, "two")
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, 0); err != nil || string(b) != "one, two" {
		t.Fatalf("%q, %v", b, err)
	}
	holds(t, path, "old")
	must(t, f.Commit())
	holds(t, path, "one, two")
	names(t, dir, "x")
	if _, _, err := OpenPart(path, name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	must(t, RemovePart(path, name))
}

// A file that is not our own part is neither written to nor removed.
func TestForeignParts(t *testing.T) {
	dir := t.TempDir()
	path, name := filepath.Join(dir, "x"), ".visum-0123456789abcdef.part"
	part, precious := filepath.Join(dir, name), filepath.Join(dir, "precious")
	must(t, os.WriteFile(precious, []byte("precious"), 0o600))
	refused := func(name string) {
		t.Helper()
		if f, _, err := OpenPart(path, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v, %v", name, f, err)
		}
		if err := RemovePart(path, name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
		holds(t, precious, "precious")
	}
	for _, bad := range []string{"", ".", "..", "precious", "../" + filepath.Base(dir) + "/" + name, "sub/" + name, ".visum-0123456789abcdef.tmp"} {
		refused(bad)
	}
	must(t, os.Mkdir(part, 0o700))
	refused(name)
	must(t, os.Remove(part))
	if err := os.Symlink(precious, part); err == nil {
		refused(name)
		must(t, os.Remove(part))
	}
	if runtime.GOOS == "windows" {
		return
	}
	must(t, os.Link(precious, part))
	refused(name)
	must(t, os.Remove(part))
	if os.Geteuid() == 0 {
		must(t, os.WriteFile(part, nil, 0o666))
		must(t, os.Chown(part, 12345, 12345))
		refused(name)
	}
}

func TestRemoveParts(t *testing.T) {
	dir := t.TempDir()
	old, young, temp := ".visum-0123456789abcdef.part", ".visum-0123456789abcde0.part", ".visum-0123456789abcdef.tmp"
	for _, name := range []string{old, young, temp, "x.part"} {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		if name != young {
			must(t, os.Chtimes(filepath.Join(dir, name), time.Now().AddDate(0, -2, 0), time.Now().AddDate(0, -2, 0)))
		}
	}
	must(t, RemoveParts(dir, time.Now().AddDate(0, -1, 0)))
	names(t, dir, young, temp, "x.part")
	must(t, RemoveParts(filepath.Join(dir, "none"), time.Now()))
}

func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd, out := start(t, "lock", path)
	if line, err := out.ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("child reports %q, %v", line, err)
	}
	if unlock, err := TryLock(path); unlock != nil || err != nil {
		t.Fatalf("locked what another process has: %v", err)
	}
	must(t, cmd.Process.Kill())
	cmd.Wait()
	var unlock func()
	for end := time.Now().Add(5 * time.Second); unlock == nil && time.Now().Before(end); {
		var err error
		unlock, err = TryLock(path)
		must(t, err)
	}
	if unlock == nil {
		t.Fatal("a dead process keeps its lock")
	}
	if again, err := TryLock(path); again != nil || err != nil {
		t.Fatalf("locked twice: %v", err)
	}
	var waited atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		unlock, err := Lock(t.Context(), path)
		if err != nil || !waited.Load() {
			t.Errorf("%v, waited %v", err, waited.Load())
			return
		}
		unlock()
	}()
	time.Sleep(10 * time.Millisecond)
	waited.Store(true)
	unlock()
	unlock()
	<-done
	if len(doors.m) != 0 {
		t.Errorf("%d doors left behind", len(doors.m))
	}
	if _, err := TryLock(t.TempDir()); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("a folder as lock file: %v", err)
	}
}

// A file that can't be renamed at that moment, because a program or a virus scanner holds the file
// (here: a folder has the name), remains as a part.
func TestPartRemainsAfterFailedRename(t *testing.T) {
	dir := t.TempDir()
	path, name := filepath.Join(dir, "x"), PartName()
	must(t, os.Mkdir(path, 0o700))
	must(t, os.WriteFile(filepath.Join(path, "in"), nil, 0o600))
	f, err := CreatePart(path, name)
	must(t, err)
	fmt.Fprint(f, "all of it")
	if err := f.Commit(); err == nil || strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
		t.Fatalf("got %v", err)
	}
	must(t, f.Keep())
	f.Abort()
	names(t, dir, name, "x")
	must(t, os.RemoveAll(path))
	f, size, err := OpenPart(path, name)
	if err != nil || size != 9 {
		t.Fatal(size, err)
	}
	must(t, f.Commit())
	holds(t, path, "all of it")
	names(t, dir, "x")

	// A temporary file is removed, because it would not be found again.
	must(t, os.Remove(path))
	must(t, os.MkdirAll(filepath.Join(path, "in"), 0o700))
	f, err = Create(path)
	must(t, err)
	if err := f.Commit(); err == nil || strings.Contains(err.Error(), tempPrefix) {
		t.Fatalf("got %v", err)
	}
	names(t, dir, "x")
}

// An error names the caller's file.
func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "no", "x")
	_, err := Create(path)
	_, partErr := CreatePart(path, PartName())
	for _, err := range []error{err, partErr, WriteFile(path, nil, 0o600)} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), tempPrefix) {
			t.Errorf("got %v", err)
		}
	}
	path = filepath.Join(filepath.Dir(filepath.Dir(path)), "x")
	f, err := Create(path)
	must(t, err)
	must(t, f.f.Close())
	_, err = f.Write([]byte("x"))
	for _, err := range []error{err, f.Truncate(0), f.Commit()} {
		if err == nil || strings.Contains(err.Error(), tempPrefix) {
			t.Errorf("got %v", err)
		}
	}
}
