package client

import (
	"bytes"
	"context"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Store keeps the state of the clients of one repository. [DirStore] and [MemStore] are
// implementations; package client/storetest tests others.
//
// Names have one or two slash-separated elements of letters a to z, digits and ".-_%",
// and at most 160 bytes; no element begins with a dot. All methods are safe for
// concurrent use.
type Store interface {
	// Lock excludes all other clients of this state, in this process and in others,
	// until unlock is called or the process ends. It waits until ctx ends.
	Lock(ctx context.Context) (unlock func(), err error)
	// Read returns the file's content, which the caller may modify. The error wraps
	// fs.ErrNotExist if there is no regular file of that name, or it has more than
	// limit bytes.
	Read(name string, limit int64) ([]byte, error)
	// Write replaces the file's content. When it returns nil, the new content survives
	// a power failure. When it fails or the process is killed, the file has either its
	// old or its new content, complete. data remains owned by the caller.
	Write(name string, data []byte) error
	// Remove removes the file. A missing file is not an error.
	Remove(name string) error
	// List returns the names of the files in a directory such as "roots", without the
	// directory's name, and their sizes in bytes. A directory that does not exist is
	// empty.
	List(folder string) (map[string]int64, error)
}

// MemStore returns a Store that lasts as long as the process: for tests and diskless
// systems. With an empty state a client has no rollback protection.
func MemStore() Store {
	return &memStore{lock: make(chan struct{}, 1), files: map[string][]byte{}}
}

type memStore struct {
	lock  chan struct{}
	mu    sync.Mutex
	files map[string][]byte
}

func (m *memStore) Lock(ctx context.Context) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case m.lock <- struct{}{}:
		return sync.OnceFunc(func() { <-m.lock }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memStore) Read(name string, limit int64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.files[name]
	if !ok || int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return bytes.Clone(data), nil
}

func (m *memStore) Write(name string, data []byte) error {
	if !storeName(name) {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = append([]byte{}, data...)
	return nil
}

func (m *memStore) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

func (m *memStore) List(folder string) (map[string]int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int64{}
	for name, data := range m.files {
		if dir, base := path.Split(name); dir == folder+"/" {
			out[base] = int64(len(data))
		}
	}
	return out, nil
}

// storeName reports whether a name follows the rules of [Store].
func storeName(name string) bool {
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == "" || p[0] == '.' || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789.-_%") != "" {
			return false
		}
	}
	return len(parts) <= 2 && len(name) <= 160
}
