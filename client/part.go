package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/tuf"
)

// part is the downloaded part of a target, with its origin. Nothing of it is trusted
// before all of it has been checked.
type part struct {
	partFile
	sum  *hasher   // of the entire part
	from []portion // in order, without gaps
}

// partFile stores a part: a durable.File, or memory.
type partFile interface {
	io.Writer
	io.ReaderAt
	Truncate(n int64) error
}

// portion is a contiguous range from one location.
type portion struct {
	location string // its key; "" for bytes of an earlier process, from any location
	start    int64
	reads    int // number of responses
}

func newPart(a tuf.Approved, f partFile) *part { return &part{partFile: f, sum: newHasher(a)} }

// reopen adopts size bytes of an earlier process.
func (p *part) reopen(ctx context.Context, size int64) error {
	if size == 0 {
		return nil
	}
	p.from = []portion{{reads: 1}}
	return p.cut(ctx, size)
}

func (p *part) size() int64 { return p.sum.Len() }

func (p *part) Write(b []byte) (int, error) {
	n, err := p.partFile.Write(b)
	p.sum.Write(b[:n])
	if err != nil {
		err = diskError{err}
	}
	return n, err
}

// cut truncates the part to n bytes.
func (p *part) cut(ctx context.Context, n int64) error {
	if err := p.Truncate(n); err != nil {
		return diskError{err}
	}
	p.sum = newHasher(p.sum.approved)
	p.from = slices.DeleteFunc(p.from, func(x portion) bool { return x.start >= n })
	if _, err := io.CopyBuffer(onlyWriter{p.sum}, ctxio.NewReader(ctx, io.NewSectionReader(p, 0, n)), make([]byte, bufferSize)); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return diskError{err}
	}
	if p.size() != n {
		return diskError{fmt.Errorf("the partial file has %d bytes, expected %d", p.size(), n)}
	}
	return nil
}

// begins records that a location begins an answer, at 0 or at the end of the part. At 0
// the location is responsible for the whole part.
func (p *part) begins(location string, offset int64) {
	last := len(p.from) - 1
	switch {
	case offset == 0:
		p.from = []portion{{location, 0, 1}}
	case last >= 0 && p.from[last].location == location:
		p.from[last].reads++
	default:
		p.from = append(p.from, portion{location, offset, 1})
	}
}

// old reports whether an earlier process downloaded some of it.
func (p *part) old() bool { return len(p.from) > 0 && p.from[0].location == "" }

// only reports whether all of it is from one location.
func (p *part) only(location string) bool { return len(p.from) == 1 && p.from[0].location == location }

// same reads as many bytes as the part has, and reports whether they are equal.
func (p *part) same(r io.Reader) (bool, error) {
	mine, theirs := make([]byte, bufferSize), make([]byte, bufferSize)
	for at := int64(0); at < p.size(); {
		n := min(p.size()-at, bufferSize)
		if _, err := io.ReadFull(r, theirs[:n]); err != nil {
			return false, fmt.Errorf("shorter than what was downloaded before: %w", err)
		}
		if _, err := p.ReadAt(mine[:n], at); err != nil {
			return false, diskError{err}
		}
		if !bytes.Equal(mine[:n], theirs[:n]) {
			return false, nil
		}
		at += n
	}
	return true, nil
}

// inMemory is a partFile.
type inMemory struct{ data []byte }

func (m *inMemory) Write(b []byte) (int, error) {
	m.data = append(m.data, b...)
	return len(b), nil
}

func (m *inMemory) ReadAt(b []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(b, off)
}

func (m *inMemory) Truncate(n int64) error {
	m.data = m.data[:n]
	return nil
}
