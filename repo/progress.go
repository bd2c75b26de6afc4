package repo

import (
	"io"
)

// counter counts the bytes read from a reader.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}
