package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// health is what is remembered of a place that did not answer: it is asked
// after the others for some time, so that one silent place does not cost every
// refresh its timeout. It is still asked where the others are not enough.
type health struct {
	Fails int       `json:"fails"`          // in a row
	Until time.Time `json:"until"`          // asked last before that
	Wait  bool      `json:"wait,omitempty"` // it said itself not to be asked before
}

// Bounds of how long a place is asked last, and of how long it may ask for it.
const (
	firstRest = time.Minute
	longRest  = time.Hour
	forgotten = 24 * time.Hour // after its rest
	maxHealth = 64             // places
)

// remember takes over what is known of the places.
func (w *walk) remember() {
	for key, h := range w.session.Health {
		rest := h.Until.Sub(w.clock)
		switch {
		case rest < -forgotten: // nobody lists it any more, or this client slept
			delete(w.session.Health, key)
			continue
		case rest <= 0 || rest > longRest: // a clock that was ahead
			continue
		case h.Wait:
			w.wait[key] = h.Until
		}
		w.down[key] = true
	}
}

// waits reports whether a place asked not to be asked yet.
func (w *walk) waits(p *place) bool {
	_, yes := w.wait[p.key]
	return yes
}

// failed notes that a place did not deliver. Bad metadata is no matter of
// health: it is refused as often as it comes.
func (w *walk) failed(p *place, err error) {
	if errors.Is(err, tuf.ErrUntrusted) || errors.Is(err, tuf.ErrExpired) || isAbsent(err) {
		return
	}
	w.transient = true
	h, known := w.session.Health[p.key]
	if !known && len(w.session.Health) >= maxHealth {
		return
	}
	h.Fails++
	h.Until, h.Wait = w.clock.Add(min(longRest, firstRest<<min(h.Fails-1, 10))), false
	if busy, ok := errors.AsType[*busyError](err); ok {
		h.Wait = true
		h.Until = busy.until
		if limit := w.clock.Add(longRest); h.Until.After(limit) {
			h.Until = limit
		}
		w.wait[p.key] = h.Until
	}
	w.session.Health[p.key] = h
}

// well forgets what was held against a place.
func (w *walk) well(p *place) { delete(w.session.Health, p.key) }

// waiting says who asked to be left alone.
func (w *walk) waiting(p *place) error {
	return fmt.Errorf("%s: asks not to be asked before %s", p.name, w.wait[p.key].UTC().Format(time.RFC3339))
}

// busyError is the answer of a place that asks to be left alone for some time.
type busyError struct {
	error
	until time.Time
}

func (e *busyError) Unwrap() error { return e.error }
