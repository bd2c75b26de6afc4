package git

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

var errReadOnly = fmt.Errorf("the branch is opened for reading: %w", errors.ErrUnsupported)

func (b *Branch) failed(op, name string, err error) error {
	err = fmt.Errorf("git: %s: %s of %s: %w", text.Name(name), op, b.show, err)
	text.OneLine(&err)
	return err
}

// check checks a call before its first request.
func (b *Branch) check(ctx context.Context, op, name string, write bool) error {
	if err := storage.CheckName(name); err != nil {
		return err
	}
	switch {
	case notForGit(name):
		return b.failed(op, name, fmt.Errorf("git can't hold this name: %w", fs.ErrInvalid))
	case write && b.opt.ReadOnly:
		return b.failed(op, name, errReadOnly)
	case ctx.Err() != nil:
		return b.failed(op, name, ctx.Err())
	}
	return nil
}

// store writes an object of the local copy.
func (b *Branch) store(ctx context.Context, content io.ReadSeeker) (oid string, err error) {
	out, err := b.git(ctx, command{args: []string{"hash-object", "-w", "--no-filters", "--stdin"}, stdin: content})
	if err != nil {
		return "", err
	}
	if oid = strings.TrimSpace(string(out)); !oidForm.MatchString(oid) {
		return "", errors.New("git hash-object: unexpected output")
	}
	return oid, nil
}

// smallBlob is the greatest size of objects that are written without a process of git.
const smallBlob = 1 << 20

// storeBytes is store for content in memory.
func (b *Branch) storeBytes(ctx context.Context, data []byte) (oid string, err error) {
	if len(data) > smallBlob {
		return b.store(ctx, bytes.NewReader(data))
	}
	oid = blobOf(data)
	path := filepath.Join(b.shared, "objects", oid[:2], oid[2:])
	if now := time.Now(); os.Chtimes(path, now, now) == nil {
		return oid, nil // as git does: a new time, so that it is not collected
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	fmt.Fprintf(z, "blob %d\x00", len(data))
	z.Write(data)
	if err := errors.Join(z.Close(), durable.MkdirAll(filepath.Dir(path), 0o700)); err != nil {
		return "", err
	}
	return oid, durable.WriteFile(path, packed.Bytes(), 0o444)
}

// blobOf is the name of the object with that content.
func blobOf(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// spool stores the bytes of a reader.
func (b *Branch) spool(ctx context.Context, r io.Reader) (file, error) {
	temp, err := os.CreateTemp(filepath.Join(b.dir, "run"), "file-")
	if err != nil {
		return file{}, err
	}
	defer os.Remove(temp.Name())
	defer temp.Close()
	n, err := io.Copy(temp, io.LimitReader(ctxio.NewReader(ctx, r), b.opt.MaxFile+1))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return file{}, err
	}
	if n > b.opt.MaxFile {
		return file{}, fmt.Errorf("%w: more than %d bytes; GitHub refuses files of more than 100 MiB, other hosts have limits of their own (Options.MaxFile)", tuf.ErrTooLarge, b.opt.MaxFile)
	}
	if n <= smallBlob {
		data := make([]byte, n)
		if _, err := temp.ReadAt(data, 0); err != nil && err != io.EOF {
			return file{}, err
		}
		oid, err := b.storeBytes(ctx, data)
		return file{oid: oid, mode: "100644", size: n}, err
	}
	if _, err := temp.Seek(0, io.SeekStart); err != nil {
		return file{}, err
	}
	oid, err := b.store(ctx, temp)
	return file{oid: oid, mode: "100644", size: n}, err
}

// Read implements [storage.Storage]. It asks the host for the commit of the branch.
func (b *Branch) Read(ctx context.Context, name string) ([]byte, error) {
	if err := b.check(ctx, "read", name, false); err != nil {
		return nil, err
	}
	s, err := b.sync(ctx)
	if err == nil {
		var data []byte
		if data, err = b.readFile(ctx, s, name); err == nil {
			return data, nil
		}
	}
	return nil, b.failed("read", name, err)
}

// find returns a regular file of a state.
func (b *Branch) find(s interface{ get(string) (file, bool) }, name string) (file, error) {
	f, ok := s.get(b.folder + name)
	if !ok {
		return f, fs.ErrNotExist
	}
	if !f.regular() {
		return f, notRegular(f)
	}
	return f, nil
}

func (b *Branch) readFile(ctx context.Context, s interface{ get(string) (file, bool) }, name string) ([]byte, error) {
	f, err := b.find(s, name)
	if err != nil {
		return nil, err
	}
	if f.size > storage.MaxRead {
		return nil, fmt.Errorf("%w: more than %d bytes", tuf.ErrTooLarge, storage.MaxRead)
	}
	data, err := b.git(ctx, command{args: []string{"cat-file", "blob", f.oid}, limit: storage.MaxRead})
	if err != nil {
		return nil, err
	}
	if blobOf(data) != f.oid {
		return nil, errors.New("the local copy is damaged: remove " + text.Name(b.dir))
	}
	return data, nil
}

// Open implements [storage.Source]. The file also implements Stat.
func (b *Branch) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := b.check(ctx, "open", name, false); err != nil {
		return nil, err
	}
	s, err := b.sync(ctx)
	if err == nil {
		var f io.ReadCloser
		if f, err = b.openFile(ctx, s, name); err == nil {
			return f, nil
		}
	}
	return nil, b.failed("open", name, err)
}

func (b *Branch) openFile(ctx context.Context, s interface{ get(string) (file, bool) }, name string) (io.ReadCloser, error) {
	f, err := b.find(s, name)
	if err != nil {
		return nil, err
	}
	o := &opened{b: b, name: name, file: f, left: f.size, ctx: ctx, messages: &tail{limit: maxMessages, drop: true}}
	run, cancel := context.WithCancel(ctx)
	o.cancel = cancel
	o.command = command{args: []string{"cat-file", "blob", f.oid}}
	cmd := b.command(run, &o.command)
	cmd.Stderr = o.messages
	if o.out, err = cmd.StdoutPipe(); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		o.cancel()
		return nil, err
	}
	o.end = func() error {
		defer o.cancel()
		return cmd.Wait()
	}
	return o, nil
}

// opened is a file that git writes to a pipe.
type opened struct {
	b        *Branch
	name     string
	file     file
	left     int64
	ctx      context.Context
	cancel   func()
	command  command
	out      io.Reader
	messages *tail
	end      func() error // waits for git; nil: it has ended
	err      error
}

func (o *opened) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil && o.err == nil {
		o.err = o.b.failed("read", o.name, err)
	}
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.out.Read(p)
	if o.left -= int64(n); o.left < 0 {
		err = errors.New("git cat-file: more bytes than the file has")
	}
	if err == io.EOF {
		if end := o.command.result(o.ctx, o.end(), false, o.messages); end != nil {
			err = end
		} else if o.left > 0 {
			err = io.ErrUnexpectedEOF
		}
		o.end = nil
	}
	if err != nil && err != io.EOF {
		err = o.b.failed("read", o.name, err)
	}
	o.err = err
	return n, err
}

func (o *opened) Close() error {
	o.cancel()
	if o.end != nil {
		_ = o.end() // the content was read, or is not wanted
		o.end = nil
	}
	if o.err == nil {
		o.err = fs.ErrClosed
	}
	return nil
}

func (o *opened) Stat() (fs.FileInfo, error) { return fileInfo{o.name, o.file}, nil }

type fileInfo struct {
	name string
	file file
}

func (i fileInfo) Name() string       { return path.Base(i.name) }
func (i fileInfo) Size() int64        { return i.file.size }
func (i fileInfo) Mode() fs.FileMode  { return 0o444 }
func (i fileInfo) ModTime() time.Time { return time.Unix(0, i.file.written) }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// single makes one change in a commit of its own.
func (b *Branch) single(ctx context.Context, what, name string, o op) error {
	o.path = b.folder + name
	if err := b.commit(ctx, nil, false, nil, []op{o}); err != nil {
		return b.failed(what, name, err)
	}
	return nil
}

// Create implements [storage.Storage], with a push. The error of a file of more than
// Options.MaxFile bytes wraps [tuf.ErrTooLarge].
func (b *Branch) Create(ctx context.Context, name string, r io.Reader) error {
	if err := b.check(ctx, "create", name, true); err != nil {
		return err
	}
	f, err := b.spool(ctx, r)
	if err != nil {
		return b.failed("create", name, err)
	}
	return b.single(ctx, "create", name, op{kind: opCreate, file: f})
}

// Replace implements [storage.Storage], with a push.
func (b *Branch) Replace(ctx context.Context, name string, old, new []byte) error {
	if err := b.check(ctx, "replace", name, true); err != nil {
		return err
	}
	o, err := b.replacing(ctx, old, new)
	if err != nil {
		return b.failed("replace", name, err)
	}
	return b.single(ctx, "replace", name, o)
}

func (b *Branch) replacing(ctx context.Context, old, new []byte) (o op, err error) {
	if len(new) > storage.MaxRead || int64(len(new)) > b.opt.MaxFile {
		return o, fmt.Errorf("%w: more than %d bytes", tuf.ErrTooLarge, min(storage.MaxRead, b.opt.MaxFile))
	}
	o = op{kind: opReplace, file: file{mode: "100644", size: int64(len(new))}}
	if old != nil {
		o.old = blobOf(old)
	}
	o.file.oid, err = b.storeBytes(ctx, new)
	return o, err
}

// Remove implements [storage.Remover], with a push. The time of a write is that of the
// clock of the machine that made it.
func (b *Branch) Remove(ctx context.Context, name string, before time.Time) error {
	if err := b.check(ctx, "remove", name, true); err != nil {
		return err
	}
	return b.single(ctx, "remove", name, op{kind: opRemove, before: before})
}

// Copy implements [storage.Copier], with a push.
func (b *Branch) Copy(ctx context.Context, from, to string) error {
	return b.Batch(ctx, func(s storage.Batched) error { return s.(storage.Copier).Copy(ctx, from, to) })
}

// List implements [storage.Lister], for one state of the branch.
func (b *Branch) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		err := ctx.Err()
		var s *state
		if err == nil {
			s, err = b.sync(ctx)
		}
		if err != nil {
			yield(storage.FileInfo{}, b.failed("list", prefix, err))
			return
		}
		b.list(s.files, prefix, time.Time{}, yield)
	}
}

// Size is how much a branch has. Hosts of pages limit it: GitHub Pages publishes sites of
// at most 1 GB.
type Size struct {
	Files int   `json:"files"` // of all publishers and programs
	Bytes int64 `json:"bytes"` // of all files, uncompressed
}

// Size returns the size of the branch, with files that other programs put into it.
func (b *Branch) Size(ctx context.Context) (size Size, err error) {
	s, err := b.sync(ctx)
	if err != nil {
		return size, b.failed("size", b.branch, err)
	}
	for _, f := range s.files {
		size.Files++
		size.Bytes += max(f.size, 0)
	}
	return size, nil
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxLine))
}
