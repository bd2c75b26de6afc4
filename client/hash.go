package client

import (
	"context"
	"io"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/digest"
	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/tuf"
)

const bufferSize = 256 << 10

// hasher checks a stream against the approved length and hashes.
type hasher struct {
	*digest.Sum
	approved tuf.Approved
}

func newHasher(a tuf.Approved) *hasher {
	return &hasher{digest.New(digest.Want{Length: a.Length(), SHA256: a.SHA256(), SHA512: a.SHA512()}), a}
}

// check returns nil if everything written so far is exactly the approved target.
func (h *hasher) check() error {
	if detail := h.Mismatch(); detail != "" {
		return &tuf.Error{Role: h.approved.Path(), Err: tuf.ErrMismatch, Detail: detail}
	}
	return nil
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
