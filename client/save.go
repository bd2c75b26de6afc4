package client

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// Save downloads an approved target to a file. It streams: memory stays small
// whatever the size. The bytes get the name only after length and hashes are
// right and they are on the disk; until then, and after any error, what was
// there before stays. Where the file is right already nothing is requested.
// Places are tried in turn; the host never matters. A zero Approved, or one of
// another repository, is refused.
//
// The folder must exist. A symbolic link is replaced, not followed; a folder or
// a device is not replaced. An error of the disk ends Save.
func (c *Client) Save(ctx context.Context, a tuf.Approved, file string) error {
	if a.IsZero() {
		return fmt.Errorf("client: %w", &tuf.Error{Role: "target", Err: tuf.ErrNotApproved, Detail: "zero Approved"})
	}
	if want := c.repoID(); a.RepoID() != want {
		return fmt.Errorf("client: %w", &tuf.Error{Role: a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("approved by repository %s, this client follows %s", a.RepoID(), want)})
	}
	if err := replaceable(file); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if matches(a, file) {
		return nil
	}
	// What downloads of a killed process have left takes room; ours is written to as it grows.
	if err := durable.RemoveTemp(filepath.Dir(file), time.Now().Add(-24*time.Hour)); err != nil {
		c.log.Warn("leftovers stay", "error", err)
	}
	defer c.rest()
	problems := []error{fmt.Errorf("client: %s could not be had", a.Path())}
	for _, p := range c.currentPlaces() {
		err := c.saveFrom(ctx, p, a, file)
		if err == nil {
			c.log.Info("saved", "path", a.Path(), "bytes", a.Length(), "place", p.name)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("client: %s: %w", a.Path(), ctx.Err())
		}
		if disk, ok := errors.AsType[diskError](err); ok {
			return fmt.Errorf("client: %w", disk)
		}
		c.log.Warn("download failed", "path", a.Path(), "place", p.name, "error", err)
		problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
	}
	return errors.Join(problems...)
}

// replaceable says before a download what can't be replaced after it.
func replaceable(file string) error {
	fi, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && file != "" && !os.IsPathSeparator(file[len(file)-1]):
		return nil
	case err != nil:
		return err
	case fi.Mode().IsRegular() || fi.Mode()&fs.ModeSymlink != 0:
		return nil
	}
	return &fs.PathError{Op: "save", Path: file, Err: fmt.Errorf("%w: not a regular file", fs.ErrInvalid)}
}

// hasher checks a stream against what was approved.
type hasher struct {
	a      tuf.Approved
	n      int64
	sha256 hash.Hash
	sha512 hash.Hash // nil where not listed
}

func newHasher(a tuf.Approved) *hasher {
	h := &hasher{a: a, sha256: sha256.New()}
	if a.SHA512() != "" {
		h.sha512 = sha512.New()
	}
	return h
}

func (h *hasher) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	h.sha256.Write(p)
	if h.sha512 != nil {
		h.sha512.Write(p)
	}
	return len(p), nil
}

// check returns nil where all that was written is the approved target.
func (h *hasher) check() error {
	detail := ""
	switch {
	case h.n != h.a.Length():
		detail = fmt.Sprintf("length is %d, approved is %d", h.n, h.a.Length())
	case hex.EncodeToString(h.sha256.Sum(nil)) != h.a.SHA256():
		detail = fmt.Sprintf("sha256 is %x, approved is %s", h.sha256.Sum(nil), h.a.SHA256())
	case h.sha512 != nil && hex.EncodeToString(h.sha512.Sum(nil)) != h.a.SHA512():
		detail = fmt.Sprintf("sha512 is %x, approved is %s", h.sha512.Sum(nil), h.a.SHA512())
	default:
		return nil
	}
	return &tuf.Error{Role: h.a.Path(), Err: tuf.ErrMismatch, Detail: detail}
}

// matches reports whether file holds the approved bytes already.
func matches(a tuf.Approved, file string) bool {
	fi, err := os.Lstat(file)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() != a.Length() {
		return false
	}
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	h := newHasher(a)
	if _, err := io.Copy(h, io.LimitReader(f, a.Length()+1)); err != nil {
		return false
	}
	return h.check() == nil
}

func (c *Client) saveFrom(ctx context.Context, p *place, a tuf.Approved, file string) error {
	dst, err := durable.Create(file)
	if err != nil {
		return diskError{err}
	}
	defer dst.Abort()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pulse, stop := watch(c.cfg.IdleTimeout, cancel) // waiting for the answer counts too
	defer stop()
	h := newHasher(a)
	if err := receive(ctx, p, a, pulse, dst, h); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	if err := dst.Commit(); err != nil {
		return diskError{err}
	}
	return nil
}

// receive copies the target from a place to dst and h.
func receive(ctx context.Context, p *place, a tuf.Approved, pulse *pulse, dst, h io.Writer) error {
	dir, base := path.Split(a.Path())
	src, err := open(ctx, p.source, "targets/"+dir+a.SHA256()+"."+base)
	if err != nil {
		return err
	}
	defer src.Close()
	// One byte more than approved is enough to see that it is wrong.
	_, err = io.Copy(io.MultiWriter(onDisk{dst}, h), io.LimitReader(pulse.reader(src), a.Length()+1))
	return err
}

// onDisk marks the errors of a writer as our own.
type onDisk struct{ io.Writer }

func (w onDisk) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		err = diskError{err}
	}
	return n, err
}
