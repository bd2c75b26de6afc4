package repo

import (
	"io"
)

// counter tells how much of a reader was read.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}
