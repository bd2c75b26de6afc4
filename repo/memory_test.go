package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
)

// The memory storage lists, removes and streams. Its files have no modification time.

func (m *memory) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := m.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(readerFunc(func() func(p []byte) (int, error) {
		r := bytes.NewReader(data)
		return func(p []byte) (int, error) {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			return r.Read(p)
		}
	}())), nil
}

func (m *memory) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		m.mu.Lock()
		files, written := maps.Clone(m.files), maps.Clone(m.written)
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

func (m *memory) Remove(ctx context.Context, name string, before time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := storage.CheckName(name); err != nil {
		return err
	}
	if m.before != nil {
		if err := m.before(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	if _, there := m.files[name]; there && !m.written[name].Before(before) {
		m.mu.Unlock()
		return fmt.Errorf("%s: %w", name, repo.ErrConflict)
	}
	delete(m.files, name)
	m.mu.Unlock()
	if m.after != nil {
		return m.after(name)
	}
	return nil
}

// plainStore serves a repository of rawtuf, with the contents of its targets.
func plainStore(t *testing.T, r *rawtuf.Repo, targets map[string]string) *memory {
	t.Helper()
	m := newMemory()
	for name, data := range r.Files {
		noErr(t, m.Create(t.Context(), "metadata/"+name, bytes.NewReader(data)))
	}
	for path, content := range targets {
		noErr(t, m.Create(t.Context(), layout.TargetName(path, sum(content)), strings.NewReader(content)))
	}
	return m
}

func sum512(content string) string {
	s := sha512.Sum512([]byte(content))
	return hex.EncodeToString(s[:])
}

func sum(content string) string {
	s := sha256.Sum256([]byte(content))
	return hex.EncodeToString(s[:])
}
