package client

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/visum-dev/visum/tuf"
)

// Limits for gzip-coded metadata, against decompression bombs. TUF JSON shrinks to
// between a third and a twentieth, far from these limits.
const (
	// maxRatio is how many bytes one compressed byte may become.
	maxRatio = 32
	// maxWaste is how many compressed bytes one byte of the file may take: empty gzip
	// members could take any number.
	maxWaste = 2
	// ratioSlack is the number of bytes, compressed or not, that both rules ignore.
	ratioSlack = 64 << 10
)

// gunzip decompresses data from a location within the limits above: 100 kB must not
// become 100 MB, nor 100 MB become nothing.
type gunzip struct {
	z       *gzip.Reader
	in, out int64
}

func newGunzip(r io.Reader) (*gunzip, error) {
	g := &gunzip{}
	counted := readFunc(func(p []byte) (int, error) {
		if g.in > ratioSlack+maxWaste*g.out {
			return 0, g.refuse()
		}
		n, err := r.Read(p)
		g.in += int64(n)
		return n, err
	})
	var err error
	g.z, err = gzip.NewReader(counted)
	return g, err
}

func (g *gunzip) Read(p []byte) (int, error) {
	if g.out > ratioSlack+maxRatio*g.in {
		return 0, g.refuse()
	}
	n, err := g.z.Read(p)
	g.out += int64(n)
	return n, err
}

func (g *gunzip) refuse() error {
	return &tuf.Error{Role: "gzip", Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("%d compressed bytes for %d decompressed; the limits are factors of %d and %d", g.in, g.out, maxRatio, maxWaste)}
}
