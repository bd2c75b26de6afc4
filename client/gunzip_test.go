package client_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/tuf"
)

func gzipOf(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// counted counts the bytes read.
type counted struct {
	io.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func gzipBody(b io.Reader) answer {
	return func(_ string, r *http.Request) (*http.Response, error) {
		resp := respond(r, 200, b)
		resp.Header.Set("Content-Encoding", "gzip")
		return resp, nil
	}
}

// Compressed metadata is refused beyond a limited ratio in both directions: few
// compressed bytes that become many, and many that become none. Real metadata, such as
// a snapshot of hash bins, is accepted.
func TestGzipRatio(t *testing.T) {
	var bins bytes.Buffer
	for i := range 16384 {
		fmt.Fprintf(&bins, `"agent-bins-%04x.json":{"version":%d},`, i, 1+i%3)
	}
	empty := gzipOf(t, nil)
	for name, tt := range map[string]struct {
		body io.Reader
		want error
		most int // compressed bytes read, 0: any
		size int64
	}{
		"a bomb":             {bytes.NewReader(gzipOf(t, make([]byte, 64<<20))), tuf.ErrTooLarge, 8 << 10, 0},
		"alternating names":  {bytes.NewReader(gzipOf(t, []byte(strings.Repeat(`"b":0,"a":0,`, 1<<20)))), tuf.ErrTooLarge, 8 << 10, 0},
		"empty members":      {bytes.NewReader(bytes.Repeat(empty, 1<<20/len(empty))), tuf.ErrTooLarge, 128 << 10, 0},
		"a snapshot of bins": {bytes.NewReader(gzipOf(t, bins.Bytes())), nil, 0, int64(bins.Len())},
		"small, all alike":   {bytes.NewReader(gzipOf(t, make([]byte, 60<<10))), nil, 0, 60 << 10},
		"noise":              {bytes.NewReader(gzipOf(t, noise(1<<20))), nil, 0, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			wire := &counted{Reader: tt.body}
			w := newWeb(t)
			w.does(gzipBody(wire), vendorHost)
			f, err := client.OpenByHTTP(w.client(), "https://"+vendorHost+"/r/metadata/", "metadata/timestamp.json")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			n, err := io.Copy(io.Discard, f)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("%d bytes, %v; want %v", n, err, tt.want)
			}
			if tt.want == nil && n != tt.size {
				t.Errorf("%d bytes of %d", n, tt.size)
			}
			if tt.most > 0 && (wire.n > tt.most || n > 512<<10) {
				t.Errorf("%d bytes of the wire became %d", wire.n, n)
			}
		})
	}
}
