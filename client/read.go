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

// readAll reads one metadata file of at most limit bytes. The transfer must complete
// within the timeout, or deliver metadataRate over each such period. So slow but steady
// connections succeed, and limit bounds how long a deliberately slow location can take.
// It calls answered when the file is open.
func readAll(ctx context.Context, s Source, name string, limit int64, timeout time.Duration, answered func()) (data []byte, err error) {
	pulse, stop := watch(ctx, timeout, metadataRate)
	defer stop()
	defer func() {
		if cause := context.Cause(pulse.ctx); err != nil && ctx.Err() == nil && cause != nil {
			err = fmt.Errorf("%v: %w", err, cause) // the caller did not end it
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
	// Reserve the announced size, because a growing buffer leaves as much garbage
	// again. The announcement is not trusted, so it is capped.
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

// maxRoom bounds the memory that is allocated for an announced size.
const maxRoom = 8 << 20

// minRate is the rate in bytes per second that a download must always reach: a slower
// location would keep the next one from being asked.
const minRate = 1 << 10

// metadataRate is the same for metadata, which a call waits for.
const metadataRate = 8 << 10

// While another location is untried, a download must be faster: quickRate bytes per
// second, and fast enough to complete within longDownload. The rate is measured over
// answerPatience.
const (
	quickRate    = 64 << 10
	longDownload = 15 * time.Minute
)

// pulse aborts a transfer that stalls or is too slow.
type pulse struct {
	ctx   context.Context // ends with the transfer
	timer *time.Timer
	idle  time.Duration
	chunk int64 // bytes to receive within idle
	have  int64
}

// watch ends its context if fewer than rate bytes per second arrive over idle. stop
// must be called.
func watch(ctx context.Context, idle time.Duration, rate int64) (p *pulse, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(idle, func() { cancel(fmt.Errorf("%w: less than %d bytes per second for %s", errSlow, rate, idle)) })
	p = &pulse{ctx: ctx, timer: t, idle: idle, chunk: max(1, int64(idle.Seconds()*float64(rate)))}
	return p, func() { t.Stop(); cancel(nil) }
}

// reader counts the bytes read from r.
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
