// Package ctxio ends reading with a context.
package ctxio

import (
	"context"
	"io"
)

// NewReader returns a reader of r that fails with the context's error from the first
// read after the end of ctx. A read of r that blocks is not interrupted.
func NewReader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
