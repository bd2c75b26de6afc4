package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, content := range []string{"one", "", strings.Repeat("two", 100_000), "3"} {
		must(t, WriteFile(path, []byte(content), 0o640))
		holds(t, path, content)
	}
	if runtime.GOOS != "windows" {
		must(t, WriteFile(path, nil, 0o666)) // more than any umask leaves
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o666 {
			t.Fatalf("mode %v, %v", info.Mode(), err)
		}
	}
	names(t, dir, "state.json")
}

func TestWriteFileIn(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "in", "sub"), 0o777))
	root, err := os.OpenRoot(filepath.Join(dir, "in"))
	must(t, err)
	defer root.Close()
	must(t, WriteFileIn(root, "sub/x", []byte("1"), 0o644))
	must(t, WriteFileIn(root, "sub/x", []byte("2"), 0o644))
	holds(t, filepath.Join(dir, "in", "sub", "x"), "2")
	must(t, SyncDirIn(root, "."))

	for _, out := range []string{"../x", filepath.Join(dir, "x")} {
		if err := WriteFileIn(root, out, []byte("3"), 0o644); err == nil {
			t.Fatalf("wrote %s", out)
		}
	}
	if err := os.Symlink(dir, filepath.Join(dir, "in", "link")); err == nil {
		if err := WriteFileIn(root, "link/x", nil, 0o644); err == nil {
			t.Fatal("wrote through a symbolic link out of the root")
		}
	}
	names(t, dir, "in")
	names(t, filepath.Join(dir, "in", "sub"), "x")
}

func TestErrorsLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "no", "file"), nil, 0o644); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no folder: %v", err)
	}
	must(t, os.MkdirAll(filepath.Join(dir, "taken", "x"), 0o777))
	if err := WriteFile(filepath.Join(dir, "taken"), []byte("x"), 0o644); err == nil {
		t.Fatal("replaced a folder")
	}
	f, err := Create(filepath.Join(dir, "taken"))
	must(t, err)
	if err := f.CommitNew(); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("CommitNew over a folder: %v", err)
	}
	names(t, dir, "taken")
}

func TestFileLife(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	must(t, os.WriteFile(path, []byte("old"), 0o600))

	begin := func(content string) *File {
		t.Helper()
		f, err := Create(path)
		must(t, err)
		_, err = f.Write([]byte(content))
		must(t, err)
		holds(t, path, "old")
		return f
	}
	f := begin("dropped")
	f.Abort()
	f.Abort()
	for op, err := range map[string]error{"Commit": f.Commit(), "CommitNew": f.CommitNew(), "Write": second(f.Write(nil)), "ReadAt": second(f.ReadAt(nil, 0))} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s after Abort: %v", op, err)
		}
	}
	holds(t, path, "old")
	names(t, dir, "x")

	if err := begin("new").CommitNew(); !errors.Is(err, fs.ErrExist) || strings.Contains(err.Error(), tempPrefix) {
		t.Fatalf("CommitNew on a file that is there: %v", err)
	}
	holds(t, path, "old")
	names(t, dir, "x")

	f = begin("new")
	b := make([]byte, 2)
	if _, err := f.ReadAt(b, 1); err != nil || string(b) != "ew" {
		t.Fatalf("read back %q, %v", b, err)
	}
	must(t, f.Commit())
	f.Abort()
	holds(t, path, "new")

	// After a failed write there is no commit, even if later writes succeed.
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	f = begin("half")
	full := errors.New("disk full")
	f.err = full
	if _, err := f.Write([]byte("x")); err != full {
		t.Fatalf("wrote after a failed write: %v", err)
	}
	if err := f.Commit(); err != full {
		t.Fatalf("committed after a failed write: %v", err)
	}
	holds(t, path, "old")
	names(t, dir, "x")
}

func TestConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('A' + i)}, 50_000+i) }
	must(t, WriteFile(path, content(0), 0o644))
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 5 {
				if err := WriteFile(path, content(i), 0o644); err != nil {
					t.Error(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) == 0 || !bytes.Equal(got, content(int(got[0]-'A'))) {
					t.Errorf("half a file: %d bytes, %v", len(got), err)
				}
			}
		})
	}
	all.Wait()
	names(t, dir, "x")
}

// linkless is a file system without hard links.
type linkless struct{ plain }

func (linkless) Link(string, string) error {
	return &os.LinkError{Op: "link", Err: errors.ErrUnsupported}
}

func TestCommitNewRace(t *testing.T) {
	for name, in := range map[string]folder{"Links": plain{}, "NoLinks": linkless{}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for round := range 10 {
				path := filepath.Join(dir, fmt.Sprint(round))
				errs := make([]error, 32)
				var all sync.WaitGroup
				start := make(chan struct{})
				for i := range errs {
					f, err := create(in, path, randomName(tempSuffix))
					must(t, err)
					fmt.Fprint(f, i)
					all.Go(func() { <-start; errs[i] = f.CommitNew() })
				}
				close(start)
				all.Wait()
				winner := ""
				for i, err := range errs {
					switch {
					case err == nil && winner != "":
						t.Fatalf("%s and %d both won", winner, i)
					case err == nil:
						winner = fmt.Sprint(i)
					case !errors.Is(err, fs.ErrExist):
						t.Fatal(err)
					}
				}
				holds(t, path, winner)
			}
			names(t, dir, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
		})
	}
}

// steps is a file system that records its operations, including flushes.
type steps struct {
	plain
	log  *[]string
	fail map[string]error // by step
}

func listen(t *testing.T) steps {
	s := steps{log: new([]string), fail: map[string]error{}}
	t.Cleanup(func() { flush = (*os.File).Sync })
	flush = func(f *os.File) error {
		return s.do("flush", f.Name(), f.Sync)
	}
	return s
}

func (s steps) do(op, name string, fn func() error) error {
	what := "file"
	if info, err := os.Lstat(name); IsTemp(name) {
		what = "temp"
	} else if err == nil && info.IsDir() {
		what = "folder"
	}
	step := op + " " + what
	*s.log = append(*s.log, step)
	if err := s.fail[step]; err != nil {
		return err
	}
	return fn()
}

func (s steps) Rename(from, to string) error {
	return s.do("rename", from, func() error { return s.plain.Rename(from, to) })
}
func (s steps) Link(from, to string) error {
	return s.do("link", from, func() error { return s.plain.Link(from, to) })
}

func TestOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no flush of folders")
	}
	for _, x := range []struct {
		commit func(*File) error
		fail   string
		err    error
		log    string
		want   string
	}{
		{(*File).Commit, "", nil, "flush temp, rename temp, flush folder", "new"},
		{(*File).Commit, "flush temp", syscall.EIO, "flush temp", "old"},
		{(*File).Commit, "rename temp", syscall.EIO, "flush temp, rename temp", "old"},
		{(*File).Commit, "flush folder", syscall.EIO, "flush temp, rename temp, flush folder", "new"},
		{(*File).CommitNew, "", nil, "flush temp, link temp, flush folder", "new"},
		{(*File).CommitNew, "flush temp", syscall.ENOSPC, "flush temp", ""},
		{(*File).CommitNew, "flush folder", syscall.EIO, "flush temp, link temp, flush folder", "new"},
		// A temporary file that can't be flushed is always an error; a folder is not, if the file system
		// does not support it.
		{(*File).Commit, "flush temp", syscall.EINVAL, "flush temp", "old"},
		{(*File).Commit, "flush folder", nil, "flush temp, rename temp, flush folder", "new"},
	} {
		s, path := listen(t), filepath.Join(t.TempDir(), "x")
		fault := x.err
		if x.fail != "" && fault == nil {
			fault = syscall.EINVAL
		}
		s.fail[x.fail] = fault
		if strings.Contains(x.log, "rename") || x.want == "old" {
			must(t, os.WriteFile(path, []byte("old"), 0o600))
		}
		f, err := create(s, path, randomName(tempSuffix))
		must(t, err)
		fmt.Fprint(f, "new")
		if err := x.commit(f); !errors.Is(err, x.err) || (err == nil) != (x.err == nil) {
			t.Errorf("%s fails with %v: %v", x.fail, fault, err)
		}
		if got := strings.Join(*s.log, ", "); got != x.log {
			t.Errorf("steps are %s; want %s", got, x.log)
		}
		if x.want == "" {
			names(t, filepath.Dir(path))
			continue
		}
		holds(t, path, x.want)
		names(t, filepath.Dir(path), "x")
	}
}

func TestRemoveTemp(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	must(t, RemoveTemp(filepath.Join(dir, "none"), now))
	f, err := Create(filepath.Join(dir, "x"))
	must(t, err)
	defer f.f.Close() // as if killed: no Abort
	fmt.Fprint(f, "half")
	temp := filepath.Base(f.temp)
	if !IsTemp(f.temp) {
		t.Fatalf("%s is not known as temporary", f.temp)
	}
	// Similar names and a folder, which must not be removed.
	keep := []string{".visum-0123456789abcde.tmp", ".visum-0123456789abcdeg.tmp", ".visum-0123456789abcdef", "visum-0123456789abcdef.tmp", "x.tmp"}
	for _, name := range keep {
		must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	must(t, os.Mkdir(filepath.Join(dir, ".visum-0123456789abcdef.tmp"), 0o777))
	keep = append(keep, ".visum-0123456789abcdef.tmp")

	must(t, RemoveTemp(dir, now.Add(-time.Hour)))
	names(t, dir, append(keep, temp)...)
	f.f.Close() // Windows removes no open file
	must(t, RemoveTemp(dir, time.Now().Add(time.Hour)))
	names(t, dir, keep...)

	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	must(t, os.WriteFile(filepath.Join(dir, "sub", temp), nil, 0o600))
	must(t, RemoveTempIn(root, ".", time.Now().Add(time.Hour)))
	names(t, filepath.Join(dir, "sub"), temp)
	must(t, RemoveTempIn(root, "sub", time.Now().Add(time.Hour)))
	names(t, filepath.Join(dir, "sub"))
	must(t, RemoveTempIn(root, "none", now))
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	must(t, MkdirAll(filepath.Join(dir, "a", "b", "c"), 0o777))
	must(t, MkdirAll(filepath.Join(dir, "a", "b", "c"), 0o777))
	must(t, WriteFile(filepath.Join(dir, "a", "b", "c", "x"), nil, 0o644))
	for _, file := range []string{"x", "x/y"} {
		if MkdirAll(filepath.Join(dir, "a", "b", "c", file), 0o777) == nil {
			t.Fatalf("made a folder %s of a file", file)
		}
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	open, lasting := errors.New("open elsewhere"), errors.New("no such thing")
	busy := func(err error) bool { return err == open }
	calls := 0
	must(t, retry(func() error {
		if calls++; calls < 5 {
			return open
		}
		return nil
	}, busy))
	if calls != 5 {
		t.Fatalf("%d calls", calls)
	}
	calls = 0
	if err := retry(func() error { calls++; return lasting }, busy); err != lasting || calls != 1 {
		t.Fatalf("%v after %d calls", err, calls)
	}
	start := time.Now()
	if err := retry(func() error { return open }, busy); err != open || time.Since(start) < retryFor {
		t.Fatalf("%v after %v", err, time.Since(start))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func second(_ int, err error) error { return err }

func holds(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Fatalf("%s: %.40q, %v; want %.40q", path, got, err, want)
	}
}

// names checks that dir has exactly these.
func names(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	left := map[string]bool{}
	for _, w := range want {
		left[w] = true
	}
	for _, e := range entries {
		if !left[e.Name()] {
			t.Errorf("%s is there", e.Name())
		}
		delete(left, e.Name())
	}
	for w := range left {
		t.Errorf("%s is missing", w)
	}
}
