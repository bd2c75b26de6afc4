package metafile

import (
	"fmt"
	"io"

	"github.com/visum-dev/visum/internal/digest"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Reader reads a target file. It ends with an error if the bytes do not match the
// listing, and reads at most one byte too many.
type Reader struct {
	r        io.Reader
	x        Target
	sum      *digest.Sum
	tell     func(int64)
	Mismatch string // why the bytes do not match; "" if no mismatch was found
}

// NewReader checks r against the listing. tell is called with the bytes read so far.
func NewReader(r io.Reader, x Target, tell func(int64)) *Reader {
	return &Reader{r: io.LimitReader(r, x.Length+1), x: x, tell: tell,
		sum: digest.New(digest.Want{Length: x.Length, SHA256: x.SHA256, SHA512: x.SHA512})}
}

func (c *Reader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	if n > 0 {
		c.tell(c.sum.Len())
	}
	switch {
	case c.sum.Len() > c.x.Length:
		c.Mismatch = fmt.Sprintf("more than the %d bytes that are listed", c.x.Length)
	case err != io.EOF:
		return n, err
	default:
		c.Mismatch = c.sum.Mismatch()
	}
	if c.Mismatch != "" {
		return 0, fmt.Errorf("%s: %w: %s", text.Name(c.x.Name), tuf.ErrMismatch, c.Mismatch)
	}
	return n, err
}
