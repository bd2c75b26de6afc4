package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/visum-dev/visum/tuf"
)

const (
	// minProgress is how many bytes justify asking the same location again at once.
	// After fewer bytes it is asked again maxShortReads times in a row.
	minProgress   = 64 << 10
	maxShortReads = 3
	// maxPause is how long Save waits for a location that asked for a pause.
	maxPause = 10 * time.Second
)

// download fetches one target from several locations. The bytes of all go into one
// part, whose length and hashes are checked at the end. If they are wrong, the faulty
// location is determined, and the bytes of others are preserved as far as possible:
//
//   - A mirror that served the entire file in one response is faulty.
//   - A mirror that served the entire file in several responses may have mixed two
//     versions: it is asked once more, for one response.
//   - If there were several mirrors, bytes from the last one are discarded and that
//     mirror is marked suspect. Others continue from there. If there are no others, the
//     bytes of an earlier process are discarded, and if there are none of these, each
//     suspect mirror must deliver the entire file separately.
//
// Each of these can happen once per location, and otherwise the part only grows, so the
// download terminates.
//
// While others are untried, a location that does not answer or is too slow is left for
// the next one, which continues from there. When all have been tried, the slow ones are
// asked again, the fastest first, with the full Config.IdleTimeout.
type download struct {
	c        *Client
	a        tuf.Approved
	name     string // of the file at sources
	mirrors  []*mirror
	part     *part
	fresh    func() (f partFile, drop func(), err error)
	note     func(*mirror) // called when a mirror begins to deliver
	buf      []byte
	received int64 // bytes from locations that went into the part
	reported time.Time
}

// mirror is the state of one location in a download.
type mirror struct {
	*location
	err      error     // the last one
	tag      string    // of the file version it delivers
	until    time.Time // asked for a pause until then
	due      bool      // to be asked in this round
	out      bool      // not to be asked again
	noRanges bool      // does not support ranges
	changed  bool      // its file has changed once
	suspect  bool      // its bytes contradicted those of others
	slow     bool      // was left for another one in this round
	stalled  bool      // has stalled once: gets new connections from then on
	speed    float64   // bytes per second when it was left
}

func (c *Client) download(a tuf.Approved) *download {
	d := &download{c: c, a: a, name: "targets/" + a.File(), note: func(*mirror) {}, buf: make([]byte, bufferSize)}
	for _, p := range c.rankedLocations() {
		d.mirrors = append(d.mirrors, &mirror{location: p})
	}
	return d
}

// run completes the part. The error is final: of ctx, of the disk, or of every
// location.
func (d *download) run(ctx context.Context) error {
	if d.part.size() == d.a.Length() && d.part.sum.check() == nil {
		return nil
	}
	if d.part.size() >= d.a.Length() {
		if err := d.part.cut(ctx, 0); err != nil {
			return err
		}
	}
	for round := 0; ; {
		before := d.received
		err := d.round(ctx)
		if err == nil || over(ctx, err) {
			return err
		}
		if d.received-before < minProgress {
			round++
		}
		wait, any := d.pause(round)
		if !any || round > d.c.cfg.Retries {
			return d.failure()
		}
		d.c.log.Info("trying again", "path", d.a.Path(), "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// over reports whether no location can help any more.
func over(ctx context.Context, err error) bool {
	_, disk := errors.AsType[diskError](err)
	return disk || ctx.Err() != nil
}

// pause returns how long to wait before the next round, and whether any location is
// left to ask.
func (d *download) pause(round int) (wait time.Duration, any bool) {
	wait = 500 * time.Millisecond << min(max(round-1, 0), 6)
	wait = wait/2 + rand.N(wait) // jitter, so that clients do not retry in lockstep
	now := d.c.clock()
	for _, s := range d.mirrors {
		asks := s.until.Sub(now)
		if !s.until.IsZero() && asks > maxPause {
			s.out = true
		}
		if !s.out {
			any, wait = true, max(wait, asks)
		}
		s.until = time.Time{}
	}
	return wait, any
}

// failure returns the last error of each location.
func (d *download) failure() error {
	problems := []error{fmt.Errorf("%s: download failed", d.a.Path())}
	for _, s := range d.mirrors {
		if s.err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.name, s.err))
		}
	}
	return errors.Join(problems...)
}

// round asks every remaining location until the target is complete.
func (d *download) round(ctx context.Context) error {
	err := d.failure()
	for _, s := range d.mirrors {
		s.due, s.slow = !s.out && !s.suspect, false
	}
	for {
		if s := d.next(); s != nil {
			s.due = false
			if err = d.fetchFast(ctx, s); err == nil || over(ctx, err) {
				return err
			}
			continue
		}
		if s := d.fastest(); s != nil {
			s.slow = false
			if err = d.fetchFrom(ctx, s, nil); err == nil || over(ctx, err) {
				return err
			}
			continue
		}
		if !d.part.old() || !d.hasSuspects() {
			break
		}
		// No location agrees with the bytes of an earlier process.
		if err := d.part.cut(ctx, 0); err != nil {
			return err
		}
		for _, s := range d.mirrors {
			s.suspect, s.due = false, !s.out
		}
	}
	for _, s := range d.mirrors {
		if s.suspect && !s.out {
			s.slow = false
			if err = d.fetchAlone(ctx, s); err == nil || over(ctx, err) {
				return err
			}
		}
	}
	return err
}

// next returns the location to ask now; those that would start from 0 come last.
func (d *download) next() (next *mirror) {
	for _, s := range d.mirrors {
		if !s.due {
			continue
		}
		if !s.noRanges || d.part.size() == 0 {
			return s
		}
		if next == nil {
			next = s
		}
	}
	return next
}

// fetchFast fetches from a location, and stops if it is slow while another one is
// untried.
func (d *download) fetchFast(ctx context.Context, s *mirror) error {
	if d.next() == nil {
		return d.fetchFrom(ctx, s, nil)
	}
	rate := max(quickRate, d.a.Length()/int64(longDownload.Seconds()))
	pace, stop := watch(ctx, answerPatience, rate)
	defer stop()
	before, begun := d.received, time.Now()
	err := d.fetchFrom(ctx, s, pace)
	if err != nil && pace.ctx.Err() != nil && !over(ctx, err) {
		s.slow, s.speed = true, float64(d.received-before)/max(1, time.Since(begun).Seconds())
	}
	return err
}

// fastest returns the location to ask among those that were too slow.
func (d *download) fastest() (best *mirror) {
	for _, s := range d.mirrors {
		if s.slow && !s.out && !s.suspect && (best == nil || s.speed > best.speed) {
			best = s
		}
	}
	return best
}

func (d *download) hasSuspects() bool {
	for _, s := range d.mirrors {
		if s.suspect && !s.out {
			return true
		}
	}
	return false
}

// fetchAlone lets a location that others contradict deliver the file separately.
func (d *download) fetchAlone(ctx context.Context, s *mirror) error {
	f, drop, err := d.fresh()
	if err != nil {
		return diskError{err}
	}
	shared, note, brought := d.part, d.note, d.received
	d.part, d.note = newPart(d.a, f), func(*mirror) {}
	if err = d.fetchFrom(ctx, s, nil); err != nil {
		drop()
		d.part, d.note, d.received = shared, note, brought
	}
	return err
}

// fetchFrom fetches from one location repeatedly as long as it makes progress. pace may
// be nil; otherwise it counts the bytes too.
func (d *download) fetchFrom(ctx context.Context, s *mirror, pace *pulse) error {
	for shortReads := 0; ; {
		before := d.part.size()
		again := false
		err := d.fetch(ctx, s, pace)
		if err == nil {
			if err = d.part.sum.check(); err == nil {
				return nil
			}
			again, err = d.blame(ctx, s, err)
		} else if errors.Is(err, errDiffers) {
			again, err = d.differs(ctx, s, err)
		}
		s.err = err
		if over(ctx, err) {
			return err
		}
		log := []any{"path", d.a.Path(), "location", s.name, "have", d.part.size(), "of", d.a.Length(), "error", err}
		switch got := d.part.size() - before; {
		case pace != nil && pace.ctx.Err() != nil:
			d.c.log.Info("download continues at another location", log...)
			return err
		case again:
		case got >= minProgress:
			shortReads = 0
		case got > 0 && shortReads < maxShortReads && !errors.Is(err, errSlow):
			shortReads++
		default:
			d.c.log.Warn("download failed", log...)
			return err
		}
		d.c.log.Info("download interrupted", log...)
	}
}

// blame decides which location is at fault if the complete file is wrong; s delivered
// its end.
func (d *download) blame(ctx context.Context, s *mirror, wrong error) (again bool, err error) {
	last := d.part.from[len(d.part.from)-1]
	switch {
	case last.start > 0:
		s.suspect = true
	case last.reads > 1:
		s.noRanges, again = true, true
	default:
		s.out = true
	}
	if err := d.part.cut(ctx, last.start); err != nil {
		return false, err
	}
	return again, wrong
}

// differs handles an answer from offset 0 that contradicts the part.
func (d *download) differs(ctx context.Context, s *mirror, err error) (bool, error) {
	if !d.part.only(s.key) {
		s.suspect = true
		return false, err
	}
	// The location contradicts itself: its file was replaced.
	s.out, s.changed = s.changed, true
	if err := d.part.cut(ctx, 0); err != nil {
		return false, err
	}
	return !s.out, err
}

// fetch makes one request for the missing bytes.
func (d *download) fetch(ctx context.Context, s *mirror, pace *pulse) error {
	if pace != nil {
		ctx = pace.ctx
	}
	if s.stalled {
		ctx = ownConnection(ctx)
	}
	pulse, stop := watch(ctx, d.c.cfg.IdleTimeout, minRate) // includes waiting for the answer
	defer stop()
	ctx = pulse.ctx
	err := d.receive(ctx, s, pulse, pace)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	s.stalled = s.stalled || errors.Is(err, errSlow)
	return err
}

func (d *download) receive(ctx context.Context, s *mirror, pulse, pace *pulse) error {
	offset, tag := d.part.size(), s.tag
	if s.noRanges || offset == 0 {
		offset, tag = 0, ""
	}
	r, err := openAt(ctx, s.source, d.name, offset, tag)
	if err != nil {
		d.refused(s, offset, err)
		return err
	}
	defer r.Close()
	if r.Size >= 0 && r.Size != d.a.Length() {
		s.out = true
		return &tuf.Error{Role: d.a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("length is %d, %d is listed", r.Size, d.a.Length())}
	}
	in := pulse.reader(r)
	if pace != nil {
		in = pace.reader(in)
	}
	if r.Offset < d.part.size() {
		if ok, err := d.part.same(in); err != nil || !ok {
			if err == nil {
				err = errDiffers
			}
			return err
		}
	}
	if r.Tag != "" || r.Offset == 0 {
		s.tag = r.Tag
	}
	d.part.begins(s.key, r.Offset)
	d.note(s)
	return d.copy(ctx, s, in)
}

// refused handles an error response.
func (d *download) refused(s *mirror, offset int64, err error) {
	switch {
	case errors.Is(err, ErrRange) && offset > 0:
		s.noRanges, s.due = true, true
	case errors.Is(err, ErrRange) || lasting(err):
		s.out = true
	}
	if busy, ok := errors.AsType[*busyError](err); ok {
		s.until = busy.until
	}
}

// copy reads the missing bytes and no more.
func (d *download) copy(ctx context.Context, s *mirror, in io.Reader) error {
	for d.part.size() < d.a.Length() {
		n, err := in.Read(d.buf[:min(bufferSize, d.a.Length()-d.part.size())])
		if n > 0 {
			if _, err := d.part.Write(d.buf[:n]); err != nil {
				return err
			}
			d.received += int64(n)
			d.tell(s.name, false)
		}
		switch {
		case d.part.size() == d.a.Length():
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: %d bytes of %d", io.ErrUnexpectedEOF, d.part.size(), d.a.Length())
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return nil
}

// tell reports progress, at most every 100 ms unless sure is set.
func (d *download) tell(location string, sure bool) {
	if d.c.cfg.Progress == nil || !sure && time.Since(d.reported) < 100*time.Millisecond {
		return
	}
	d.c.cfg.Progress(Progress{Path: d.a.Path(), Done: d.part.size(), Total: d.a.Length(), Location: location})
	d.reported = time.Now()
}
