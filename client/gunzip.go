package client

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/visum-dev/visum/tuf"
)

// Bounds of gzip-coded metadata. JSON of TUF shrinks to between a third and a
// twentieth; nothing that a repository serves comes near the bounds.
const (
	// maxRatio is how many bytes one byte on the wire may become.
	maxRatio = 32
	// maxWaste is how many bytes on the wire one byte of the file may take, as
	// empty gzip members do.
	maxWaste = 2
	// ratioSlack is how many bytes of either kind are free of both rules.
	ratioSlack = 64 << 10
)

// gunzip decompresses what comes from a location, within the bounds above: 100 kB
// on the wire must not become 100 MB, nor 100 MB on the wire nothing.
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
	return &tuf.Error{Role: "gzip", Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("%d bytes on the wire for %d of the file; one may become %d, and one may take %d", g.in, g.out, maxRatio, maxWaste)}
}
