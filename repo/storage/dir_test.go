package storage_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
)

func TestFolder(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage { return storage.Dir(t.TempDir()) })
}

// TestFolderTwoHandles: two handles share only the disk, as two processes would.
func TestFolderTwoHandles(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Storage {
		dir := filepath.Join(t.TempDir(), "not", "there", "yet")
		return &turnStorage{s: [2]storage.Storage{storage.Dir(dir), storage.Dir(dir)}}
	})
}

type turnStorage struct {
	n atomic.Uint32
	s [2]storage.Storage
}

func (x *turnStorage) turn() storage.Storage { return x.s[x.n.Add(1)%2] }

func (x *turnStorage) Read(ctx context.Context, name string) ([]byte, error) {
	return x.turn().Read(ctx, name)
}
func (x *turnStorage) Create(ctx context.Context, name string, r io.Reader) error {
	return x.turn().Create(ctx, name, r)
}
func (x *turnStorage) Replace(ctx context.Context, name string, old, new []byte) error {
	return x.turn().Replace(ctx, name, old, new)
}

func (x *turnStorage) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return storage.SourceOf(x.turn()).Open(ctx, name)
}
func (x *turnStorage) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return x.turn().(storage.Lister).List(ctx, prefix)
}
func (x *turnStorage) Remove(ctx context.Context, name string, before time.Time) error {
	return x.turn().(storage.Remover).Remove(ctx, name, before)
}
func (x *turnStorage) Copy(ctx context.Context, from, to string) error {
	return x.turn().(storage.Copier).Copy(ctx, from, to)
}

// A storage.ReadOnly reads as the storage below it does, and writes nothing.
func TestReadOnly(t *testing.T) {
	m := storage.Overlay(nil)
	rawtuf.NoErr(t, m.Create(t.Context(), "a/x", strings.NewReader("1")))
	for _, src := range []storage.Source{storage.SourceOf(storage.Dir(t.TempDir())), storage.SourceOf(m)} {
		s := storage.ReadOnly(src)
		for _, err := range []error{s.Create(t.Context(), "a/y", strings.NewReader("1")), s.Replace(t.Context(), "a/x", []byte("1"), nil)} {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Error(err)
			}
		}
		if _, err := s.Read(t.Context(), "a/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if _, err := s.Read(t.Context(), "../x"); !errors.Is(err, fs.ErrInvalid) {
			t.Error(err)
		}
	}
	if data, err := storage.ReadOnly(storage.SourceOf(m)).Read(t.Context(), "a/x"); err != nil || string(data) != "1" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestFolderNoDir(t *testing.T) {
	if _, err := storage.Dir("").Read(t.Context(), "x"); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("empty name: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := storage.Dir(dir).Read(t.Context(), "x"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Read: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("Read created the directory")
	}
}

// TestFolderStaysPut: the process may change its working directory.
func TestFolderStaysPut(t *testing.T) {
	t.Chdir(t.TempDir())
	s := storage.Dir("here")
	rawtuf.NoErr(t, s.Create(t.Context(), "x", strings.NewReader("1")))
	t.Chdir(t.TempDir())
	if data, err := s.Read(t.Context(), "x"); err != nil || string(data) != "1" {
		t.Fatalf("%q, %v", data, err)
	}
}

func TestFolderLeavesNoTemp(t *testing.T) {
	dir := t.TempDir()
	s := storage.Dir(dir)
	ctx := t.Context()
	rawtuf.NoErr(t, s.Create(ctx, "a/x", strings.NewReader("1")))
	rawtuf.NoErr(t, s.Replace(ctx, "a/t", nil, []byte("1")))
	for _, err := range []error{
		s.Create(ctx, "a/x", strings.NewReader("2")),
		s.Replace(ctx, "a/t", nil, []byte("2")),
		s.Replace(ctx, "a/none", []byte("1"), []byte("2")),
	} {
		if !errors.Is(err, storage.ErrConflict) {
			t.Fatal(err)
		}
	}
	if err := s.Create(ctx, "a/y", io.MultiReader(strings.NewReader("1"), iotest.ErrReader(errCut))); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	ctx2, cancel := context.WithCancel(ctx)
	if err := s.Create(ctx2, "a/y", io.MultiReader(strings.NewReader("1"), hookReader(cancel))); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	rawtuf.OnDisk(t, dir, ".lock", "a/t", "a/x")
}

// TestFolderLeftovers: a publisher was killed. A later one removes its temporary
// files, except files that may still be in use, and as few as necessary.
func TestFolderLeftovers(t *testing.T) {
	dir := t.TempDir()
	old, fresh := "a/.visum-0000000000000000.tmp", "a/.visum-1111111111111111.tmp"
	rawtuf.NoErr(t, os.Mkdir(filepath.Join(dir, "a"), 0o777))
	for _, name := range []string{old, fresh, "a/old"} {
		rawtuf.NoErr(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	past := time.Now().Add(-25 * time.Hour)
	rawtuf.NoErr(t, os.Chtimes(filepath.Join(dir, old), past, past))
	rawtuf.NoErr(t, os.Chtimes(filepath.Join(dir, "a/old"), past, past))
	rawtuf.NoErr(t, storage.Dir(dir).Create(t.Context(), "a/x", strings.NewReader("1")))
	rawtuf.OnDisk(t, dir, ".lock", fresh, "a/old", "a/x")
}

func TestFolderSymlinks(t *testing.T) {
	base := t.TempDir()
	dir, out := filepath.Join(base, "repo"), filepath.Join(base, "out")
	for _, d := range []string{dir, out, filepath.Join(dir, "real")} {
		rawtuf.NoErr(t, os.Mkdir(d, 0o777))
	}
	rawtuf.NoErr(t, os.WriteFile(filepath.Join(out, "secret"), []byte("s"), 0o600))
	for link, to := range map[string]string{"abs": out, "rel": "../out", "file": filepath.Join(out, "secret"), "dangling": filepath.Join(out, "new"), "inside": "real"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skip(err)
		}
	}
	s, ctx := storage.Dir(dir), t.Context()
	for _, name := range []string{"abs/secret", "rel/secret", "file", "dangling", "abs/new"} {
		if data, err := s.Read(ctx, name); err == nil {
			t.Errorf("Read(%s) = %q", name, data)
		}
		if err := s.Create(ctx, name, strings.NewReader("x")); err == nil {
			t.Errorf("Create(%s) succeeded", name)
		}
		if err := s.Replace(ctx, name, []byte("s"), []byte("x")); err == nil {
			t.Errorf("Replace(%s) succeeded", name)
		}
	}
	rawtuf.OnDisk(t, out, "secret")
	rawtuf.NoErr(t, s.Create(ctx, "inside/x", strings.NewReader("1")))
	if data, err := s.Read(ctx, "real/x"); err != nil || string(data) != "1" {
		t.Fatalf("%q, %v", data, err)
	}

	// A symbolic link as the lock file does not lead outside either.
	rawtuf.NoErr(t, os.Remove(filepath.Join(dir, ".lock")))
	rawtuf.NoErr(t, os.Symlink(filepath.Join(out, "lock"), filepath.Join(dir, ".lock")))
	if err := s.Create(ctx, "new", strings.NewReader("x")); err == nil {
		t.Error("locked a file outside")
	}
	rawtuf.OnDisk(t, out, "secret")
}

func TestFolderReadLimit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "huge")
	rawtuf.NoErr(t, os.WriteFile(path, nil, 0o600))
	rawtuf.NoErr(t, os.Truncate(path, storage.MaxRead+1))
	s := storage.Dir(dir)
	if data, err := s.Read(t.Context(), "huge"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if err := s.Replace(t.Context(), "huge", []byte("x"), []byte("y")); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err)
	}
	rawtuf.NoErr(t, os.Truncate(path, storage.MaxRead))
	if data, err := s.Read(t.Context(), "huge"); err != nil || len(data) != storage.MaxRead {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	rawtuf.NoErr(t, os.Mkdir(filepath.Join(dir, "sub"), 0o777))
	if _, err := s.Read(t.Context(), "sub"); !errors.Is(err, fs.ErrInvalid) {
		t.Fatalf("reading a directory: %v", err)
	}
}

// TestFolderCreateMemory: an artifact is never held in memory, neither for storing nor
// for comparing.
func TestFolderCreateMemory(t *testing.T) {
	const size = 16 << 20
	s := storage.Dir(t.TempDir())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 2 {
		rawtuf.NoErr(t, s.Create(t.Context(), "targets/big", io.LimitReader(zeroReader{}, size)))
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes allocated for a file of %d", used, size)
	}
}

// TestFolderKilled: a publisher dies at any moment, repeatedly. Completed writes are
// durable, all others are whole or absent, and the next publisher continues.
func TestFolderKilled(t *testing.T) {
	dir := t.TempDir()
	s := storage.Dir(dir)
	for round := range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestFolderChild$")
		cmd.Env = append(os.Environ(), "FOLDER_TEST_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, cmd.Start())
		lines := bufio.NewScanner(out)
		done := 0
		for lines.Scan() {
			_, err := fmt.Sscan(lines.Text(), &done)
			if err != nil {
				t.Fatalf("the child printed %q", lines.Text())
			}
			if done%10 == 0 {
				break
			}
		}
		time.Sleep(time.Duration(round) * 3 * time.Millisecond)
		rawtuf.NoErr(t, cmd.Process.Kill())
		for lines.Scan() { // the output before it died
			fmt.Sscan(lines.Text(), &done)
		}
		cmd.Wait()

		data, err := s.Read(t.Context(), "counter")
		n := childNumber(data)
		if err != nil || n < done || n > done+1 || !bytes.Equal(data, childContent(n)) {
			t.Fatalf("counter is %d (%d bytes), %v; the child had completed %d", n, len(data), err, done)
		}
		for i := 1; i <= n+1; i++ {
			data, err := s.Read(t.Context(), fmt.Sprintf("files/%d", i))
			switch {
			case i > n && errors.Is(err, fs.ErrNotExist):
			case err != nil || !bytes.Equal(data, childContent(i)):
				t.Fatalf("files/%d of %d: %d bytes, %v", i, n, len(data), err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		rawtuf.NoErr(t, s.Replace(ctx, "counter", data, data))
		cancel()
	}
}

// childContent is what the child writes as its i-th file and counter.
func childContent(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d\n", i), 30_000) }

func childNumber(data []byte) (n int) {
	fmt.Fscan(bytes.NewReader(data), &n)
	return n
}

// TestFolderChild is the process that TestFolderKilled kills.
func TestFolderChild(t *testing.T) {
	if dir := os.Getenv("FOLDER_TEST_CHILD"); dir != "" {
		fmt.Println(publishForever(dir))
	}
}

// publishForever never returns unless an error occurs.
func publishForever(dir string) error {
	s, ctx := storage.Dir(dir), context.Background()
	for {
		old, err := s.Read(ctx, "counter")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		n := childNumber(old) + 1
		if err := s.Create(ctx, fmt.Sprintf("files/%d", n), bytes.NewReader(childContent(n))); err != nil {
			return err
		}
		if err := s.Replace(ctx, "counter", old, childContent(n)); err != nil {
			return err
		}
		fmt.Println(n)
	}
}

var errCut = errors.New("line cut")

type hookReader func()

func (h hookReader) Read([]byte) (int, error) { h(); return 0, io.EOF }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }
