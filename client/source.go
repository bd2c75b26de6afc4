package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Source is a place's files, laid out as "metadata/1.root.json" and
// "targets/DIR/SHA256.NAME". It may return anything: nothing it returns is
// trusted. Safe for concurrent use. Package client/sourcetest examines
// implementations.
type Source interface {
	// Open returns the file called name, a slash-separated path that is not
	// escaped in any way. The client asks only for names that cannot lead out of a
	// folder: fs.ValidPath holds for each, also where a backslash counts as a
	// slash. An error wraps fs.ErrNotExist where the place says
	// that there is no such file, and only then. Opening and reading end when ctx
	// does. The caller closes what it got, also before its end.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// RangeSource is a Source that can begin in the middle of a file, so that an
// interrupted download goes on where it was. One that can't is read from the
// beginning again.
type RangeSource interface {
	Source
	// OpenAt is Open from byte offset on. Where the file has no such byte, or the
	// place can't say from where on it answers, the error wraps [ErrRange]. tag is
	// "" or the Tag that an earlier call for this name returned: where the place
	// knows that the file is another one now, it begins at 0.
	OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error)
}

// Range is a file, or its rest.
type Range struct {
	io.ReadCloser
	Offset int64  // of the first byte that is read: what was asked for, or 0
	Size   int64  // of the whole file in bytes, -1 where that is not known
	Tag    string // names this version of the file at this place, "" where nothing does
}

// ErrRange: a place does not begin a file where it was asked to.
var ErrRange = errors.New("client: no such range")

// FS makes a Source of a file system with a location's layout: os.DirFS, an
// embedded tree, a zip.Reader.
func FS(fsys fs.FS) Source { return fsSource{fsys} }

type fsSource struct{ fsys fs.FS }

func (s fsSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return closer(s.OpenAt(ctx, name, 0, ""))
}

func (s fsSource) OpenAt(ctx context.Context, name string, offset int64, _ string) (*Range, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// A pipe would be waited for, for ever.
	fi, err := fs.Stat(s.fsys, name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("%w: not a regular file", fs.ErrInvalid)}
	}
	if offset < 0 || offset > 0 && offset >= fi.Size() {
		return nil, fmt.Errorf("%s: %w: from byte %d of %d", name, ErrRange, offset, fi.Size())
	}
	f, err := s.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	r := &Range{ReadCloser: ctxFile{ctx, f}, Size: fi.Size()}
	// What is compressed has no middle to begin in.
	if seeker, ok := f.(io.Seeker); ok && offset > 0 {
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
		r.Offset = offset
	}
	return r, nil
}

// ctxFile is a file whose reading ends with ctx.
type ctxFile struct {
	ctx context.Context
	fs.File
}

func (f ctxFile) Read(p []byte) (int, error) {
	if err := f.ctx.Err(); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

// List makes one place of several: a file comes from the first of them that has
// it. It is absent where all say so. Places that hold the same are better
// listed one by one in [Config].Sources: then each answers for what it gave, and
// another one stands in for it.
func List(sources ...Source) Source { return listSource(slices.Clone(sources)) }

type listSource []Source

func (l listSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return closer(l.OpenAt(ctx, name, 0, ""))
}

// OpenAt begins with the source that tag is of.
func (l listSource) OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error) {
	var problems []error
	final := true
	first, rest := l.tagged(tag)
	for n := range l {
		i, t := n, ""
		switch {
		case n == 0:
			i, t = first, rest
		case n <= first:
			i = n - 1
		}
		r, err := openAt(ctx, l[i], name, offset, t)
		if err == nil {
			r.Tag = fmt.Sprintf("%d %s", i, r.Tag)
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !isAbsent(err) {
			problems = append(problems, err)
			final = final && lasting(err)
		}
	}
	if len(problems) == 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	// One that may do better the next time is enough to ask again.
	return nil, answerError{join(problems...), final}
}

// tagged splits a tag of a list into the number of the source and its own tag.
func (l listSource) tagged(tag string) (i int, rest string) {
	number, rest, _ := strings.Cut(tag, " ")
	i, err := strconv.Atoi(number)
	if err != nil || i < 0 || i >= len(l) {
		return 0, ""
	}
	return i, rest
}

// closer returns a Range as Open has to.
func closer(r *Range, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return r.ReadCloser, nil
}

// open is s.Open, on guard against a source that returns nothing.
func open(ctx context.Context, s Source, name string) (io.ReadCloser, error) {
	f, err := s.Open(ctx, name)
	if err == nil && f == nil {
		return nil, fmt.Errorf("%s: the source returned neither file nor error", text.Name(name))
	}
	return f, err
}

// openAt is [RangeSource].OpenAt for any source: one that always begins at the
// beginning is allowed to.
func openAt(ctx context.Context, s Source, name string, offset int64, tag string) (*Range, error) {
	switch s.(type) {
	case *httpSource, listSource: // one escapes names itself, the other comes back here
	default:
		if !askable(name) {
			return nil, notAskable(name)
		}
	}
	at, ok := s.(RangeSource)
	if !ok {
		f, err := open(ctx, s, name)
		if err != nil {
			return nil, err
		}
		return &Range{ReadCloser: f, Size: -1}, nil
	}
	r, err := at.OpenAt(ctx, name, offset, tag)
	switch {
	case err != nil:
		return nil, err
	case r == nil || r.ReadCloser == nil:
		return nil, fmt.Errorf("%s: the source returned neither file nor error", text.Name(name))
	case r.Offset != 0 && r.Offset != offset:
		r.Close()
		return nil, fmt.Errorf("%s: %w: from byte %d, the source begins at %d", name, ErrRange, offset, r.Offset)
	}
	return r, nil
}

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

var errSlow = errors.New("too slow")

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

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
