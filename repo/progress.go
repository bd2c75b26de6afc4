package repo

import (
	"context"
	"io"
)

// Progress is how far a long call is.
type Progress struct {
	Path  string // of the file at hand, in storage; in [Tx.Add], which names it only then, without its hash
	Done  int64  // bytes of it
	Total int64  // its bytes, -1 where that is not known; in Tx.Add, which reads a file twice, twice as many
	Files int    // that are done with, in this call
}

// counter tells how much of a reader was read.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

// ctxReader ends with ctx, at the next read.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}
