package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

var errEnded = errors.New("the batch has ended")

// Batch implements [storage.Batcher]. It asks the host for the branch once; at the end it
// makes one commit and pushes it.
func (b *Branch) Batch(ctx context.Context, fn func(storage.Batched) error) error {
	if err := ctx.Err(); err != nil {
		return b.failed("batch", b.branch, err)
	}
	base, err := b.sync(ctx)
	if err != nil {
		return b.failed("batch", b.branch, err)
	}
	x := newBatch(b, nil, base)
	if err := fn(x); err != nil {
		x.end()
		return b.outdated(ctx, x, err)
	}
	x.end()
	if len(x.ops) > 0 {
		if err := b.commit(ctx, base, true, x.reads, x.ops); err != nil {
			return b.failed("batch", b.branch, err)
		}
	}
	return x.runAfter()
}

// outdated adds [storage.ErrConflict] to the error of a function that may have failed
// because its state of the branch is out of date, for example compared with a ledger.
func (b *Branch) outdated(ctx context.Context, x *batch, err error) error {
	if len(x.reads) == 0 || errors.Is(err, storage.ErrConflict) || ctx.Err() != nil {
		return err
	}
	now, look := b.sync(ctx)
	if look != nil {
		return err
	}
	if _, moved := now.replay(x.reads, nil, b.clock()); moved != nil {
		return fmt.Errorf("%w; %w", err, moved)
	}
	return err
}

// batch collects changes. It implements the same interfaces as Branch.
type batch struct {
	b      *Branch
	parent *batch
	base   *state

	mu    sync.Mutex
	ended bool
	view  *view
	reads map[string]string // objects of files that were read in base; "": there was none
	ops   []op
	after []func() error
}

var _ interface {
	storage.Batched
	storage.Source
	storage.Lister
	storage.Remover
	storage.Copier
	storage.Batcher
} = (*batch)(nil)

func newBatch(b *Branch, parent *batch, base *state) *batch {
	x := &batch{b: b, parent: parent, base: base, reads: map[string]string{}}
	if parent != nil {
		x.view = newView(parent)
	} else {
		x.view = newView(base)
	}
	return x
}

// get and below are those of a parent, whose goroutines may run.
func (x *batch) get(path string) (file, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.view.get(path)
}

func (x *batch) below(dir string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.view.below(dir)
}

func (x *batch) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
}

func (x *batch) runAfter() error {
	for _, fn := range x.after {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// AfterCommit implements [storage.Batched].
func (x *batch) AfterCommit(fn func() error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.after = append(x.after, fn)
}

// Batch implements [storage.Batcher].
func (x *batch) Batch(ctx context.Context, fn func(storage.Batched) error) error {
	if err := ctx.Err(); err != nil {
		return x.b.failed("batch", x.b.branch, err)
	}
	inner := newBatch(x.b, x, x.base)
	err := fn(inner)
	inner.end()
	x.mu.Lock()
	defer x.mu.Unlock()
	maps.Copy(x.reads, inner.reads) // also of a function that failed: the next steps may rely on them
	if err != nil {
		return err
	}
	if x.ended {
		return x.b.failed("batch", x.b.branch, errEnded)
	}
	// Another goroutine may have changed the outer batch.
	v := newView(x.view)
	for _, o := range inner.ops {
		if err := o.apply(v, x.b.clock()); err != nil {
			return x.b.failed("batch", strings.TrimPrefix(o.path, x.b.folder), err)
		}
	}
	for path, f := range v.files {
		x.view.set(path, f)
	}
	x.ops = append(x.ops, inner.ops...)
	x.after = append(x.after, inner.after...)
	return nil
}

// do makes a change.
func (x *batch) do(what, name string, o op) error {
	o.path = x.b.folder + name
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return x.b.failed(what, name, errEnded)
	}
	if err := o.apply(x.view, x.b.clock()); err != nil {
		return x.b.failed(what, name, err)
	}
	x.ops = append(x.ops, o)
	return nil
}

// seen returns a file, and records what the branch has.
func (x *batch) seen(name string) (fixed, error) {
	path := x.b.folder + name
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended {
		return fixed{}, errEnded
	}
	f, ok := x.view.get(path)
	if x.untouched(path) {
		x.reads[path] = x.base.files[path].oid
	}
	return fixed{f, ok}, nil
}

// untouched reports whether the batch and those around it have not changed a file: then
// its content is that of the branch.
func (x *batch) untouched(path string) bool {
	if _, changed := x.view.files[path]; changed {
		return false
	}
	if x.parent == nil {
		return true
	}
	x.parent.mu.Lock()
	defer x.parent.mu.Unlock()
	return x.parent.untouched(path)
}

// fixed is one file of a state.
type fixed struct {
	file   file
	exists bool
}

func (f fixed) get(string) (file, bool) { return f.file, f.exists }

// Read implements [storage.Storage].
func (x *batch) Read(ctx context.Context, name string) (data []byte, err error) {
	if err := x.b.check(ctx, "read", name, false); err != nil {
		return nil, err
	}
	f, err := x.seen(name)
	if err == nil {
		data, err = x.b.readFile(ctx, f, name)
	}
	if err != nil {
		return nil, x.b.failed("read", name, err)
	}
	return data, nil
}

// Open implements [storage.Source].
func (x *batch) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := x.b.check(ctx, "open", name, false); err != nil {
		return nil, err
	}
	f, err := x.seen(name)
	var file io.ReadCloser
	if err == nil {
		file, err = x.b.openFile(ctx, f, name)
	}
	if err != nil {
		return nil, x.b.failed("open", name, err)
	}
	return file, nil
}

// Create implements [storage.Storage].
func (x *batch) Create(ctx context.Context, name string, r io.Reader) error {
	if err := x.b.check(ctx, "create", name, true); err != nil {
		return err
	}
	f, err := x.b.spool(ctx, r)
	if err != nil {
		return x.b.failed("create", name, err)
	}
	return x.do("create", name, op{kind: opCreate, file: f})
}

// Replace implements [storage.Storage].
func (x *batch) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := x.b.check(ctx, "replace", name, true); err != nil {
		return err
	}
	o, err := x.b.replacing(ctx, old, new)
	if err != nil {
		return x.b.failed("replace", name, err)
	}
	return x.do("replace", name, o)
}

// Remove implements [storage.Remover].
func (x *batch) Remove(ctx context.Context, name string, before time.Time) error {
	if err := x.b.check(ctx, "remove", name, true); err != nil {
		return err
	}
	return x.do("remove", name, op{kind: opRemove, before: before})
}

// Copy implements [storage.Copier].
func (x *batch) Copy(ctx context.Context, from, to string) error {
	if err := x.b.check(ctx, "copy", from, true); err != nil {
		return err
	}
	if err := x.b.check(ctx, "copy", to, true); err != nil {
		return err
	}
	s, err := x.seen(from)
	if err != nil {
		return x.b.failed("copy", from, err)
	}
	f, err := x.b.find(s, from)
	if err != nil {
		return x.b.failed("copy", from, err)
	}
	return x.do("copy", to, op{kind: opCreate, file: file{oid: f.oid, mode: "100644", size: f.size}})
}

// List implements [storage.Lister].
func (x *batch) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		x.mu.Lock()
		files := maps.Clone(x.base.files)
		x.changed(func(path string, f *file) {
			if f == nil {
				delete(files, path)
			} else {
				files[path] = *f
			}
		})
		now := x.b.clock()
		x.mu.Unlock()
		if err := ctx.Err(); err != nil {
			yield(storage.FileInfo{}, x.b.failed("list", prefix, err))
			return
		}
		x.b.list(files, prefix, now, yield)
	}
}

// changed yields all changes, from the outermost batch on.
func (x *batch) changed(fn func(string, *file)) {
	if x.parent != nil {
		x.parent.mu.Lock()
		x.parent.changed(fn)
		x.parent.mu.Unlock()
	}
	for path, f := range x.view.files {
		fn(path, f)
	}
}

// list yields the files of a state below a prefix.
func (b *Branch) list(files map[string]file, prefix string, now time.Time, yield func(storage.FileInfo, error) bool) {
	for p, f := range files {
		name, ok := strings.CutPrefix(p, b.folder)
		if !ok || !strings.HasPrefix(name, prefix) || storage.CheckName(name) != nil {
			continue
		}
		if !f.regular() {
			yield(storage.FileInfo{}, b.failed("list", name, notRegular(f)))
			return
		}
		written := time.Unix(0, f.written)
		if f.written == 0 {
			written = now
		}
		if !yield(storage.FileInfo{Name: name, Size: f.size, Written: written}, nil) {
			return
		}
	}
}
