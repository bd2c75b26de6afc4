package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

// shared is a storage that reports each call before it is made, and each call that
// another process might wait for.
type shared struct {
	*memory
	call func(write bool) error
}

func (s *shared) Read(ctx context.Context, name string) ([]byte, error) {
	if err := s.call(false); err != nil {
		return nil, err
	}
	return s.memory.Read(ctx, name)
}

func (s *shared) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := s.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *shared) Create(ctx context.Context, name string, r io.Reader) error {
	if err := s.call(true); err != nil {
		return err
	}
	return s.memory.Create(ctx, name, r)
}

func (s *shared) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := s.call(true); err != nil {
		return err
	}
	return s.memory.Replace(ctx, name, old, new)
}

func (s *shared) Remove(ctx context.Context, name string, before time.Time) error {
	if err := s.call(true); err != nil {
		return err
	}
	return s.memory.Remove(ctx, name, before)
}

// late is a shared storage with the semantics of an object store: a listing may show
// any earlier state, name by name, and a removed file may still be readable.
type late struct {
	shared
	coin func() bool
	past func() (old, new map[string]storage.FileInfo) // two listings
	gone func(name string) []byte
}

func (s *late) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := s.shared.Read(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if old := s.gone(name); old != nil && s.coin() {
		return bytes.Clone(old), nil
	}
	return data, err
}

func (s *late) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	data, err := s.Read(ctx, name)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (s *late) List(_ context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		old, new := s.past()
		if s.coin() {
			new = old // all of it is late
		}
		names := maps.Clone(old)
		maps.Copy(names, new)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			state := old
			if s.coin() {
				state = new
			}
			info, there := state[name]
			if !there || !strings.HasPrefix(name, prefix) {
				continue
			}
			if err := s.call(false); err != nil || !yield(info, nil) {
				return
			}
		}
	}
}

// victim is the storage of the call under test, which may use it in several goroutines:
// the other processes take their steps for one of them at a time.
func (x *race) victim() *late {
	var mu sync.Mutex
	return &late{
		shared: shared{x.Store, func(bool) error {
			mu.Lock()
			defer mu.Unlock()
			steps := []int{0, 0, 0, 0, 1, 1, 2, 5, 15}[x.rnd.IntN(9)]
			for range steps {
				x.others()
			}
			return nil
		}},
		coin: func() bool {
			mu.Lock()
			defer mu.Unlock()
			return x.rnd.IntN(2) == 0
		},
		past: func() (old, new map[string]storage.FileInfo) {
			mu.Lock()
			defer mu.Unlock()
			last := len(x.listings) - 1
			return x.listings[last-x.rnd.IntN(min(last+1, 12))], x.listings[last]
		},
		gone: func(name string) []byte {
			mu.Lock()
			defer mu.Unlock()
			return x.removed[name]
		}}
}
