package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo/storage"
)

// warmth is what a handle keeps between calls of Update, so that a publish of one file
// takes few requests to a bucket. A failed Update discards it.
type warmth struct {
	// published: the last Update succeeded, so that no version after it is expected to be
	// taken by an interrupted publish. If one is, its Create conflicts.
	published atomic.Bool

	mu    sync.Mutex
	files map[string][]byte // metadata files with a version in the name, which never change
	size  int
}

// maxWarm bounds the files that a handle keeps, in bytes.
const maxWarm = 8 << 20

func (w *warmth) get(name string) ([]byte, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	data, ok := w.files[name]
	return data, ok
}

func (w *warmth) keep(name string, data []byte) {
	if role, _ := layout.SplitRoleName(name); role == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, have := w.files[name]; have || len(data) > maxWarm/2 {
		return
	}
	if w.size+len(data) > maxWarm || w.files == nil {
		w.files, w.size = map[string][]byte{}, 0
	}
	w.files[name], w.size = data, w.size+len(data)
}

// end is called at the end of an Update.
func (w *warmth) end(err error) {
	w.published.Store(err == nil)
	if err != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.files, w.size = nil, 0
	}
}

// full is a storage with all that callers of this package look for.
type full interface {
	storage.Storage
	storage.Source
	storage.Lister
	storage.Remover
	storage.Copier
}

// session returns a handle for one call of Update. Until it writes metadata, it reads each
// file once, also one that does not exist: the state at the begin of the call counts, and
// a concurrent publish is noticed when the timestamp is replaced. Storages without the
// optional interfaces are used as they are.
func (r *Repo) session() *Repo {
	s, ok := r.storage.(full)
	if _, batched := r.storage.(storage.Batched); batched || !ok {
		return r // a batch shows one state itself, and the ledger waits for its end
	}
	out := r.with(&session{full: s, warm: r.warm, seen: map[string]answer{}, state: map[string]answer{}, made: map[[16]byte]bool{}})
	out.updates = true
	return out
}

type session struct {
	full
	warm *warmth

	mu    sync.Mutex
	seen  map[string]answer // nil after the first write of metadata
	state map[string]answer // the timestamp, and roots that do not exist: the state of the call
	made  map[[16]byte]bool // target files that this session created
}

// conflict turns an error of a call into [ErrConflict] if another process has published
// since the call began: it read the repository once, and its ledger later.
func (s *session) conflict(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrConflict) || ctx.Err() != nil {
		return err
	}
	for name, was := range s.state {
		now, look := s.full.Read(ctx, name)
		if look == nil && (was.err != nil || !bytes.Equal(now, was.data)) {
			return fmt.Errorf("repo: the repository changed during the call: %w: %w", ErrConflict, err)
		}
	}
	return err
}

// answer is what a read returned: the content, or that there is no file.
type answer struct {
	data []byte
	err  error
}

func (s *session) Read(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if data, ok := s.warm.get(name); ok {
		return bytes.Clone(data), nil
	}
	s.mu.Lock()
	a, ok := s.seen[name]
	s.mu.Unlock()
	if ok {
		return bytes.Clone(a.data), a.err
	}
	data, err := s.full.Read(ctx, name)
	if err == nil {
		s.warm.keep(name, bytes.Clone(data))
	}
	if role, _ := layout.SplitRoleName(name); err == nil && role == "" || errors.Is(err, fs.ErrNotExist) {
		s.mu.Lock()
		if s.seen != nil {
			s.seen[name] = answer{bytes.Clone(data), err}
			if name == layout.TimestampName || err != nil && layout.IsRootName(name) {
				s.state[name] = s.seen[name]
			}
		}
		s.mu.Unlock()
	}
	return data, err
}

// Open reads metadata and statements as Read does. A target that this session created is
// opened at the first read.
func (s *session) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if strings.HasPrefix(name, "metadata/") || strings.HasSuffix(name, ".json") && strings.Contains(name, ".reviews/") {
		data, err := s.Read(ctx, name)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	s.mu.Lock()
	made := s.made[metafile.Key(name)]
	s.mu.Unlock()
	if made {
		return &lazyFile{open: func() (io.ReadCloser, error) { return s.full.Open(ctx, name) }}, nil
	}
	return s.full.Open(ctx, name)
}

// lazyFile is opened at its first read.
type lazyFile struct {
	open func() (io.ReadCloser, error)
	file io.ReadCloser
}

func (f *lazyFile) Read(p []byte) (int, error) {
	if f.file == nil {
		var err error
		if f.file, err = f.open(); err != nil {
			return 0, err
		}
	}
	return f.file.Read(p)
}

func (f *lazyFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// written ends the memory of reads: from the first write of metadata on they must be new.
func (s *session) written(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(name, "targets/") {
		s.made[metafile.Key(name)] = true
		delete(s.seen, name)
	} else {
		s.seen = nil
	}
}

func (s *session) Create(ctx context.Context, name string, r io.Reader) error {
	if !strings.HasPrefix(name, "metadata/") {
		if err := s.full.Create(ctx, name, r); err != nil {
			return err
		}
		s.written(name)
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(r, storage.MaxRead+1))
	if err != nil {
		return fmt.Errorf("repo: %s: %w", name, err)
	}
	s.written(name)
	if err := s.full.Create(ctx, name, bytes.NewReader(data)); err != nil {
		return err
	}
	s.warm.keep(name, data)
	return nil
}

func (s *session) Replace(ctx context.Context, name string, old, new []byte) error {
	s.written(name)
	return s.full.Replace(ctx, name, old, new)
}

func (s *session) Copy(ctx context.Context, from, to string) error {
	if err := s.full.Copy(ctx, from, to); err != nil {
		return err
	}
	s.written(to)
	return nil
}
