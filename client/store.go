package client

import (
	"bytes"
	"context"
	"io/fs"
	"path"
	"strings"
	"sync"
)

// Store keeps the state of the clients of one repository. [Folder] and [Memory]
// are two; package client/storetest examines others.
//
// Names are one or two elements, slash-separated, of letters a to z, digits and
// ".-_%", at most 160 bytes; none begins with a dot. All methods are safe for
// concurrent use.
type Store interface {
	// Lock keeps all other clients with this state out, in this process and in
	// others, until unlock is called or the process ends. It waits, until ctx ends.
	Lock(ctx context.Context) (unlock func(), err error)
	// Read returns the file; the caller may change what it gets. The error wraps
	// fs.ErrNotExist where there is no file of that name, or what has it is no file,
	// or has more than limit bytes.
	Read(name string, limit int64) ([]byte, error)
	// Write makes data the file's content. When it returns nil, that outlives a
	// power cut; when it does not, or is killed, the file has its old or its new
	// content, whole. data stays the caller's.
	Write(name string, data []byte) error
	// Remove removes the file. That there is none is no error.
	Remove(name string) error
	// List returns the names of the files in a folder, "roots" for example,
	// without the folder's, with their sizes in bytes. A folder that does not exist
	// has none.
	List(folder string) (map[string]int64, error)
}

// Memory returns a Store that lasts as long as the process: for tests, and for
// who has no disk. A client with an empty state can be shown the past.
func Memory() Store {
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

// storeName reports whether a name is one that a Store may be given.
func storeName(name string) bool {
	parts := strings.Split(name, "/")
	for _, p := range parts {
		if p == "" || p[0] == '.' || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789.-_%") != "" {
			return false
		}
	}
	return len(parts) <= 2 && len(name) <= 160
}
