package metafile

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Reader reads a target file. It ends with an error if the bytes do not match the
// listing, and reads at most one byte too many.
type Reader struct {
	r        io.Reader
	x        Target
	sums     []sum // listed hashes
	n        int64
	tell     func(int64)
	Mismatch string // why the bytes do not match; "" if no mismatch was found
}

// NewReader checks r against the listing. tell is called with the bytes read so far.
func NewReader(r io.Reader, x Target, tell func(int64)) *Reader {
	c := &Reader{r: io.LimitReader(r, x.Length+1), x: x, tell: tell}
	if x.SHA256 != "" {
		c.sums = append(c.sums, sum{sha256.New(), x.SHA256})
	}
	if x.SHA512 != "" {
		c.sums = append(c.sums, sum{sha512.New(), x.SHA512})
	}
	return c
}

func (c *Reader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for _, h := range c.sums {
		h.Write(p[:n])
	}
	if c.n += int64(n); n > 0 {
		c.tell(c.n)
	}
	switch {
	case c.n > c.x.Length:
		c.Mismatch = fmt.Sprintf("more than the %d bytes that are listed", c.x.Length)
	case err != io.EOF:
		return n, err
	case c.n < c.x.Length:
		c.Mismatch = fmt.Sprintf("%d bytes, %d are listed", c.n, c.x.Length)
	default:
		for _, s := range c.sums {
			if got := hex.EncodeToString(s.Sum(nil)); got != s.want {
				c.Mismatch = fmt.Sprintf("its sha%d is %s, %s is listed", 4*len(s.want), got, s.want)
			}
		}
	}
	if c.Mismatch != "" {
		return 0, fmt.Errorf("%s: %w: %s", text.Name(c.x.Name), tuf.ErrMismatch, c.Mismatch)
	}
	return n, err
}

// sum is a hash with its expected value in hex.
type sum struct {
	hash.Hash
	want string
}
