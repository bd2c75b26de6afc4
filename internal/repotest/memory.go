package repotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
)

// Memory is a storage with a record of its writes and with injected faults.
type Memory struct {
	mu      sync.Mutex
	Files   map[string][]byte
	Writes  []string
	Written map[string]time.Time
	Clock   func() time.Time // nil: time.Now
	// Before and after are called at each write, outside the lock.
	Before, After func(name string) error
}

func NewMemory() *Memory { return &Memory{Files: map[string][]byte{}, Written: map[string]time.Time{}} }

func (m *Memory) Read(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.Files[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

func (m *Memory) Create(ctx context.Context, name string, r io.Reader) error {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return err
	}
	data, err := io.ReadAll(ReaderFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return r.Read(p)
	}))
	if err := errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	return m.write(name, data, func(have []byte, there bool) bool { return !there || bytes.Equal(have, data) })
}

func (m *Memory) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := errors.Join(storage.CheckName(name), ctx.Err()); err != nil {
		return err
	}
	if len(new) > storage.MaxRead {
		return errors.New("too large")
	}
	return m.write(name, bytes.Clone(new), func(have []byte, there bool) bool { return there == (old != nil) && bytes.Equal(have, old) })
}

func (m *Memory) write(name string, data []byte, may func([]byte, bool) bool) error {
	if m.Before != nil {
		if err := m.Before(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	have, there := m.Files[name]
	if !may(have, there) {
		m.mu.Unlock()
		return fmt.Errorf("%s: %w", name, repo.ErrConflict)
	}
	m.Files[name] = data
	m.Written[name] = time.Now()
	if m.Clock != nil {
		m.Written[name] = m.Clock()
	}
	m.Writes = append(m.Writes, name)
	m.mu.Unlock()
	if m.After != nil {
		return m.After(name)
	}
	return nil
}

type ReaderFunc func([]byte) (int, error)

func (f ReaderFunc) Read(p []byte) (int, error) { return f(p) }

// Wrote returns the names written since the last call.
func (m *Memory) Wrote() []string {
	out := m.Writes
	m.Writes = nil
	return out
}

func (m *Memory) Copy() *Memory {
	return &Memory{Files: maps.Clone(m.Files), Written: maps.Clone(m.Written), Clock: m.Clock}
}

func (m *Memory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := m.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(ReaderFunc(func() func(p []byte) (int, error) {
		r := bytes.NewReader(data)
		return func(p []byte) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return r.Read(p)
		}
	}())), nil
}

func (m *Memory) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		m.mu.Lock()
		files, written := maps.Clone(m.Files), maps.Clone(m.Written)
		m.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(files)) {
			if err := ctx.Err(); err != nil {
				yield(storage.FileInfo{}, err)
				return
			}
			if strings.HasPrefix(name, prefix) && !yield(storage.FileInfo{Name: name, Size: int64(len(files[name])), Written: written[name]}, nil) {
				return
			}
		}
	}
}

func (m *Memory) Remove(ctx context.Context, name string, before time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := storage.CheckName(name); err != nil {
		return err
	}
	if m.Before != nil {
		if err := m.Before(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	if _, there := m.Files[name]; there && !m.Written[name].Before(before) {
		m.mu.Unlock()
		return fmt.Errorf("%s: %w", name, repo.ErrConflict)
	}
	delete(m.Files, name)
	m.mu.Unlock()
	if m.After != nil {
		return m.After(name)
	}
	return nil
}

// Kill makes the n-th write and all later ones fail, before or after the effect. It
// returns a function that reports whether a write was killed.
func (m *Memory) Kill(n int, after bool) (killed func() bool) { return m.KillIn("", n, after) }

// KillIn counts writes in one directory only.
func (m *Memory) KillIn(folder string, n int, after bool) (killed func() bool) {
	count, dead := 0, false
	m.Before = func(name string) error {
		if strings.HasPrefix(name, folder) {
			count++
		}
		if dead || !after && count == n {
			dead = true
			return ErrKilled
		}
		return nil
	}
	m.After = func(name string) error {
		if after && count == n && strings.HasPrefix(name, folder) {
			dead = true
			return ErrKilled
		}
		return nil
	}
	return func() bool {
		m.Before, m.After = nil, nil
		return dead
	}
}

// File returns the storage name of the only file that a pattern matches.
func (m *Memory) File(t *testing.T, pattern string) string {
	t.Helper()
	var found []string
	for name := range m.Files {
		if ok, err := path.Match(pattern, name); ok && err == nil {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s matches %q", pattern, found)
	}
	return found[0]
}

var ErrKilled = errors.New("killed")

// ReadDir reads a directory into memory, as a web server would show it.
func ReadDir(t testing.TB, dir string) *Memory {
	t.Helper()
	m := NewMemory()
	rawtuf.NoErr(t, fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || storage.CheckName(name) != nil {
			return err
		}
		m.Files[name], err = os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		return err
	}))
	return m
}

// ServeHTTP serves the storage as any web server would.
func (m *Memory) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	data, err := m.Read(r.Context(), strings.TrimPrefix(r.URL.Path, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		http.NotFound(rw, r)
		return
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
		return
	}
	rw.Write(data)
}
