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
	"os"
	"path"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

// Save downloads an approved target to a file. It streams: memory stays small
// whatever the size. The bytes get the name only after length and hashes are
// right and they are on the disk; until then, and after any error, what was
// there before stays. Where the file is right already nothing is requested.
// Places are tried in turn; the host never matters. A zero Approved, or one of
// another repository, is refused.
func (c *Client) Save(ctx context.Context, a tuf.Approved, file string) error {
	if a.IsZero() {
		return fmt.Errorf("client: %w", &tuf.Error{Role: "target", Err: tuf.ErrNotApproved, Detail: "zero Approved"})
	}
	if want := c.pin.Root().Charter().RepoID(); a.RepoID() != want {
		return fmt.Errorf("client: %w", &tuf.Error{Role: a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("approved by repository %s, this client follows %s", a.RepoID(), want)})
	}
	if matches(a, file) {
		return nil
	}
	problems := []error{fmt.Errorf("client: %s could not be had", a.Path())}
	for _, p := range c.currentPlaces() {
		if !p.content {
			continue
		}
		err := c.saveFrom(ctx, p, a, file)
		if err == nil {
			c.log.Info("saved", "path", a.Path(), "bytes", a.Length(), "place", p.name)
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("client: %s: %w", a.Path(), ctx.Err())
		}
		c.log.Warn("download failed", "path", a.Path(), "place", p.name, "error", err)
		problems = append(problems, fmt.Errorf("%s: %w", p.name, err))
	}
	return errors.Join(problems...)
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
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	dir, base := path.Split(a.Path())
	src, err := p.source.Open(ctx, "targets/"+dir+a.SHA256()+"."+base)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := durable.Create(file)
	if err != nil {
		return err
	}
	defer dst.Abort()
	r, stop := watch(src, c.cfg.IdleTimeout, cancel)
	defer stop()
	h := newHasher(a)
	// One byte more than approved is enough to see that it is wrong.
	if _, err := io.Copy(io.MultiWriter(dst, h), io.LimitReader(r, a.Length()+1)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return err
	}
	if err := h.check(); err != nil {
		return err
	}
	return dst.Commit()
}
