package client

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

const bufferSize = 256 << 10

// hasher checks a stream against the approved length and hashes.
type hasher struct {
	a      tuf.Approved
	n      int64
	sha256 hash.Hash // nil if not listed
	sha512 hash.Hash // likewise; at least one of them is set
}

func newHasher(a tuf.Approved) *hasher {
	h := &hasher{a: a}
	if a.SHA256() != "" || a.SHA512() == "" {
		h.sha256 = sha256.New()
	}
	if a.SHA512() != "" {
		h.sha512 = sha512.New()
	}
	return h
}

func (h *hasher) Write(p []byte) (int, error) {
	h.n += int64(len(p))
	if h.sha256 != nil {
		h.sha256.Write(p)
	}
	if h.sha512 != nil {
		h.sha512.Write(p)
	}
	return len(p), nil
}

// check returns nil if everything written so far is exactly the approved target.
func (h *hasher) check() error {
	detail := ""
	switch {
	case h.n != h.a.Length():
		detail = fmt.Sprintf("length is %d, approved is %d", h.n, h.a.Length())
	case h.sha256 != nil && hex.EncodeToString(h.sha256.Sum(nil)) != h.a.SHA256():
		detail = fmt.Sprintf("sha256 is %x, approved is %s", h.sha256.Sum(nil), h.a.SHA256())
	case h.sha512 != nil && hex.EncodeToString(h.sha512.Sum(nil)) != h.a.SHA512():
		detail = fmt.Sprintf("sha512 is %x, approved is %s", h.sha512.Sum(nil), h.a.SHA512())
	default:
		return nil
	}
	return &tuf.Error{Role: h.a.Path(), Err: tuf.ErrMismatch, Detail: detail}
}

// matches reports whether file holds the approved bytes already, and no other user can
// change them afterwards.
func matches(ctx context.Context, a tuf.Approved, file string) bool {
	f, err := durable.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !durable.Ours(fi) || fi.Size() != a.Length() {
		return false
	}
	h := newHasher(a)
	in := ctxio.NewReader(ctx, io.LimitReader(f, a.Length()+1))
	if _, err := io.CopyBuffer(onlyWriter{h}, in, make([]byte, bufferSize)); err != nil {
		return false
	}
	return h.check() == nil
}

// onlyWriter hides other methods from io.CopyBuffer, so that the buffer is used.
type onlyWriter struct{ io.Writer }

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
