package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"sync"
)

// Overlay returns a storage that reads from base and keeps all writes in memory. It
// serves to publish a draft and inspect the result without changing base. If base is
// nil, the storage starts empty. All files that are written use memory of their size.
func Overlay(base Storage) *OverlayStorage {
	return &OverlayStorage{base: base, files: map[string][]byte{}}
}

// OverlayStorage is the storage that [Overlay] returns. It is safe for concurrent use.
type OverlayStorage struct {
	base  Storage
	mu    sync.Mutex
	files map[string][]byte
}

// Written returns the written files by name. The bytes must not be changed.
func (o *OverlayStorage) Written() map[string][]byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.files)
}

// Read implements [Storage]: it returns a written file, or else the file of the base.
func (o *OverlayStorage) Read(ctx context.Context, name string) ([]byte, error) {
	if err := errors.Join(CheckName(name), ctx.Err()); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.read(ctx, name)
}

func (o *OverlayStorage) read(ctx context.Context, name string) ([]byte, error) {
	if data, ok := o.files[name]; ok {
		return bytes.Clone(data), nil
	}
	if o.base == nil {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return o.base.Read(ctx, name)
}

// Create implements [Storage]: it keeps the new file in memory.
func (o *OverlayStorage) Create(ctx context.Context, name string, r io.Reader) error {
	if err := errors.Join(CheckName(name), ctx.Err()); err != nil {
		return err
	}
	var data bytes.Buffer
	part := make([]byte, 32<<10)
	for {
		n, err := r.Read(part)
		data.Write(part[:n])
		if err == io.EOF {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	have, err := o.read(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.files[name] = data.Bytes()
		return nil
	case err != nil:
		return err
	case !bytes.Equal(have, data.Bytes()):
		return fmt.Errorf("%s: %w", name, ErrConflict)
	}
	return nil
}

// Replace implements [Storage]: it keeps the new content in memory.
func (o *OverlayStorage) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := errors.Join(CheckName(name), ctx.Err()); err != nil {
		return err
	}
	if len(new) > MaxRead {
		return fmt.Errorf("%s: %d bytes, at most %d", name, len(new), MaxRead)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	have, err := o.read(ctx, name)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if there != (old != nil) || !bytes.Equal(have, old) {
		return fmt.Errorf("%s: %w", name, ErrConflict)
	}
	o.files[name] = bytes.Clone(new)
	return nil
}
