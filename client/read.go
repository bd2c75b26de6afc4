package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// readAll reads one metadata file of at most limit bytes. It must begin and end within
// the timeout, or bring metadataRate over each such span: a line that is slow and never
// stands still brings what a deadline would cut, and limit bounds how long one that is
// slow on purpose can take. It calls answered when the file is open.
func readAll(ctx context.Context, s Source, name string, limit int64, timeout time.Duration, answered func()) (data []byte, err error) {
	pulse, stop := watch(ctx, timeout, metadataRate)
	defer stop()
	defer func() {
		if cause := context.Cause(pulse.ctx); err != nil && ctx.Err() == nil && cause != nil {
			err = fmt.Errorf("%v: %w", err, cause) // it was not the caller who ended it
		}
	}()
	return readWithin(pulse, s, name, limit, answered)
}

func readWithin(pulse *pulse, s Source, name string, limit int64, answered func()) ([]byte, error) {
	f, err := openAt(pulse.ctx, s, name, 0, "")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	answered()
	limit = min(limit, math.MaxInt64-1)
	// Room for what the place says is to come: a buffer that grows leaves as much
	// garbage again. It is no promise, so there is a bound.
	var data bytes.Buffer
	data.Grow(int(max(0, min(f.Size, limit, maxRoom))) + bytes.MinRead)
	if _, err := data.ReadFrom(io.LimitReader(pulse.reader(f), limit+1)); err != nil {
		return nil, fmt.Errorf("%s: %w", text.Name(name), err)
	}
	if int64(data.Len()) > limit {
		return nil, &tuf.Error{Role: name, Err: tuf.ErrTooLarge, Detail: fmt.Sprintf("more than %d bytes", limit)}
	}
	return data.Bytes(), nil
}

// maxRoom bounds the memory that is taken on the word of a place.
const maxRoom = 8 << 20

// minRate is how many bytes a second a download must bring in any case: who sends
// less keeps the next place from being asked.
const minRate = 1 << 10

// metadataRate is the same for metadata: a call waits for it.
const metadataRate = 8 << 10

// While another location is untried a download must bring more: quickRate bytes a
// second, or what brings the whole within longDownload. It is measured over
// answerPatience.
const (
	quickRate    = 64 << 10
	longDownload = 15 * time.Minute
)

// pulse ends a transfer that stands still or crawls.
type pulse struct {
	ctx   context.Context // ends with the transfer
	timer *time.Timer
	idle  time.Duration
	chunk int64 // bytes to bring within idle
	have  int64
}

// watch ends its context when idle passes, unless the bytes of rate keep coming.
// stop must be called.
func watch(ctx context.Context, idle time.Duration, rate int64) (p *pulse, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w: less than %d bytes a second for %s", errSlow, rate, idle)) })
	p = &pulse{ctx: ctx, timer: t, idle: idle, chunk: max(1, int64(idle.Seconds()*float64(rate)))}
	return p, func() { t.Stop(); cancel(nil) }
}

// reader counts what r brings.
func (p *pulse) reader(r io.Reader) io.Reader {
	return readFunc(func(b []byte) (int, error) {
		n, err := r.Read(b)
		if p.have += int64(n); p.have >= p.chunk {
			p.have = 0
			p.timer.Reset(p.idle)
		}
		return n, err
	})
}
