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
	// worthwhile is how many bytes make it worth while to ask the same place again
	// at once, as long as it lasts. Of smaller scraps three in a row are enough.
	minProgress   = 64 << 10
	maxShortReads = 3
	// longWait is how long Save waits for a place that asks for it.
	longWait = 10 * time.Second
)

// download brings one target from many places. The bytes of all go into one
// part; length and hashes decide in the end. Where they are wrong it is found
// out whose fault that is, and what honest places gave stays as far as that can
// be known:
//
//   - Who gave the whole of it in one answer is a liar.
//   - Who gave the whole of it in several may have mixed two files: once more,
//     in one answer.
//   - Of several places, what the last one gave is dropped, and he is doubted.
//     Others go on from there. When there are no others, what an earlier process
//     left is dropped, and if there was nothing of that, those that are doubted
//     get a file of their own and must fill it alone.
//
// Each of these can happen once to a place, and otherwise the part only grows:
// so it ends.
//
// While others are untried, a location that does not answer or brings too little
// is left for the next one, which goes on from there. When all have been tried,
// those that were slow are asked again and given all the time of
// Config.IdleTimeout, the fastest first.
type download struct {
	c        *Client
	a        tuf.Approved
	name     string // of the file, for sources
	mirrors  []*mirror
	part     *part
	fresh    func() (f partFile, drop func(), err error)
	note     func(*mirror) // who gives from now on
	buf      []byte
	brought  int64 // bytes got from places that went into the part
	reported time.Time
}

// seat is one place's part in a download.
type mirror struct {
	*location
	err     error     // of the last time
	tag     string    // of the file that it gave from
	until   time.Time // asked not to be asked before
	due     bool      // to be asked in this round
	out     bool      // not to be asked any more
	whole   bool      // no good for ranges: gives all or nothing
	changed bool      // its file was another one once
	doubted bool      // its bytes did not fit to those of others
	slow    bool      // was left for another one in this round
	stalled bool      // stood still once: gets connections of its own from then on
	speed   float64   // bytes a second it brought when it was left
}

func (c *Client) download(a tuf.Approved) *download {
	d := &download{c: c, a: a, name: "targets/" + a.File(), note: func(*mirror) {}, buf: make([]byte, bufferSize)}
	for _, p := range c.rankedLocations() {
		d.mirrors = append(d.mirrors, &mirror{location: p})
	}
	return d
}

// run brings the part to its end. The error is final: of ctx, of the disk, or
// that of every place.
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
		before := d.brought
		err := d.round(ctx)
		if err == nil || over(ctx, err) {
			return err
		}
		if d.brought-before < minProgress {
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

// over reports whether no place can help any more.
func over(ctx context.Context, err error) bool {
	_, disk := errors.AsType[diskError](err)
	return disk || ctx.Err() != nil
}

// pause says how long to wait before the next round, and whether anybody is left
// to ask then.
func (d *download) pause(round int) (wait time.Duration, any bool) {
	wait = 500 * time.Millisecond << min(max(round-1, 0), 6)
	wait = wait/2 + rand.N(wait) // who failed together shall not come back together
	now := d.c.clock()
	for _, s := range d.mirrors {
		asks := s.until.Sub(now)
		if !s.until.IsZero() && asks > longWait {
			s.out = true
		}
		if !s.out {
			any, wait = true, max(wait, asks)
		}
		s.until = time.Time{}
	}
	return wait, any
}

// failure is what each place said last.
func (d *download) failure() error {
	problems := []error{fmt.Errorf("%s could not be had", d.a.Path())}
	for _, s := range d.mirrors {
		if s.err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", s.name, s.err))
		}
	}
	return errors.Join(problems...)
}

// round asks every place that is left, until the target is there.
func (d *download) round(ctx context.Context) error {
	err := d.failure()
	for _, s := range d.mirrors {
		s.due, s.slow = !s.out && !s.doubted, false
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
		if !d.part.old() || !d.doubts() {
			break
		}
		// Nobody's word fits to what an earlier process left.
		if err := d.part.cut(ctx, 0); err != nil {
			return err
		}
		for _, s := range d.mirrors {
			s.doubted, s.due = false, !s.out
		}
	}
	for _, s := range d.mirrors {
		if s.doubted && !s.out {
			s.slow = false
			if err = d.fetchAlone(ctx, s); err == nil || over(ctx, err) {
				return err
			}
		}
	}
	return err
}

// next is the place to ask now: those that would begin anew come last.
func (d *download) next() (next *mirror) {
	for _, s := range d.mirrors {
		if !s.due {
			continue
		}
		if !s.whole || d.part.size() == 0 {
			return s
		}
		if next == nil {
			next = s
		}
	}
	return next
}

// hurry visits a location, and leaves it where it is slow as long as another one
// is untried.
func (d *download) fetchFast(ctx context.Context, s *mirror) error {
	if d.next() == nil {
		return d.fetchFrom(ctx, s, nil)
	}
	rate := max(quickRate, d.a.Length()/int64(longDownload.Seconds()))
	pace, stop := watch(ctx, answerPatience, rate)
	defer stop()
	before, begun := d.brought, time.Now()
	err := d.fetchFrom(ctx, s, pace)
	if err != nil && pace.ctx.Err() != nil && !over(ctx, err) {
		s.slow, s.speed = true, float64(d.brought-before)/max(1, time.Since(begun).Seconds())
	}
	return err
}

// fastest is the location to ask among those that were too slow.
func (d *download) fastest() (best *mirror) {
	for _, s := range d.mirrors {
		if s.slow && !s.out && !s.doubted && (best == nil || s.speed > best.speed) {
			best = s
		}
	}
	return best
}

func (d *download) doubts() bool {
	for _, s := range d.mirrors {
		if s.doubted && !s.out {
			return true
		}
	}
	return false
}

// alone lets a place that others contradict fill a file of its own.
func (d *download) fetchAlone(ctx context.Context, s *mirror) error {
	f, drop, err := d.fresh()
	if err != nil {
		return diskError{err}
	}
	shared, note, brought := d.part, d.note, d.brought
	d.part, d.note = newPart(d.a, f), func(*mirror) {}
	if err = d.fetchFrom(ctx, s, nil); err != nil {
		drop()
		d.part, d.note, d.brought = shared, note, brought
	}
	return err
}

// visit asks one place, again and again while it brings something. pace, where
// there is one, is told what comes.
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
		log := []any{"path", d.a.Path(), "place", s.name, "have", d.part.size(), "of", d.a.Length(), "error", err}
		switch got := d.part.size() - before; {
		case pace != nil && pace.ctx.Err() != nil:
			d.c.log.Info("download goes on elsewhere", log...)
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

// blame decides who is at fault that the whole is wrong, which s completed.
func (d *download) blame(ctx context.Context, s *mirror, wrong error) (again bool, err error) {
	last := d.part.from[len(d.part.from)-1]
	switch {
	case last.start > 0:
		s.doubted = true
	case last.reads > 1:
		s.whole, again = true, true
	default:
		s.out = true
	}
	if err := d.part.cut(ctx, last.start); err != nil {
		return false, err
	}
	return again, wrong
}

// differs decides what that means.
func (d *download) differs(ctx context.Context, s *mirror, err error) (bool, error) {
	if !d.part.only(s.key) {
		s.doubted = true
		return false, err
	}
	// It contradicts itself: the file was replaced.
	s.out, s.changed = s.changed, true
	if err := d.part.cut(ctx, 0); err != nil {
		return false, err
	}
	return !s.out, err
}

// fetch asks a place once for what lacks.
func (d *download) fetch(ctx context.Context, s *mirror, pace *pulse) error {
	if pace != nil {
		ctx = pace.ctx
	}
	if s.stalled {
		ctx = ownConnection(ctx)
	}
	pulse, stop := watch(ctx, d.c.cfg.IdleTimeout, minRate) // waiting for the answer counts too
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
	if s.whole || offset == 0 {
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
		return &tuf.Error{Role: d.a.Path(), Err: tuf.ErrMismatch, Detail: fmt.Sprintf("length is %d, approved is %d", r.Size, d.a.Length())}
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

// refused draws the conclusions of an answer without bytes.
func (d *download) refused(s *mirror, offset int64, err error) {
	switch {
	case errors.Is(err, ErrRange) && offset > 0:
		s.whole, s.due = true, true
	case errors.Is(err, ErrRange) || lasting(err):
		s.out = true
	}
	if busy, ok := errors.AsType[*busyError](err); ok {
		s.until = busy.until
	}
}

// copy reads what lacks and no more.
func (d *download) copy(ctx context.Context, s *mirror, in io.Reader) error {
	for d.part.size() < d.a.Length() {
		n, err := in.Read(d.buf[:min(bufferSize, d.a.Length()-d.part.size())])
		if n > 0 {
			if _, err := d.part.Write(d.buf[:n]); err != nil {
				return err
			}
			d.brought += int64(n)
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

// tell reports progress, now and then or for sure.
func (d *download) tell(location string, sure bool) {
	if d.c.cfg.Progress == nil || !sure && time.Since(d.reported) < 100*time.Millisecond {
		return
	}
	d.c.cfg.Progress(Progress{Path: d.a.Path(), Done: d.part.size(), Total: d.a.Length(), Place: location})
	d.reported = time.Now()
}
