package client

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// Bounds of how long a place is asked last, and of how long it may ask for it.
const (
	firstBackoff = time.Minute
	maxBackoff   = time.Hour
	forgotten    = 24 * time.Hour // after its rest
	maxHealth    = 64             // places
)

// remember takes over what is known of the places.
func (w *walk) remember() {
	for key, h := range w.session.Health {
		rest := h.Until.Sub(w.clock)
		switch {
		case rest < -forgotten: // nobody lists it any more, or this client slept
			delete(w.session.Health, key)
			continue
		case rest <= 0 || rest > maxBackoff: // a clock that was ahead
			continue
		case h.Wait:
			w.wait[key] = h.Until
		}
		w.down[key] = true
		w.pace.impatient(key)
	}
}

// costly is how many bytes of a location are worth a note on the disk before they
// are parsed.
const costly = 256 << 10

// attempt notes that bytes of a location are about to be parsed which have not
// been verified; done removes the note. A process that dies in between, for lack
// of memory for example, finds the note at its next start and asks the location
// last. Small files cost no note.
func (c *Client) noteParsing(p *location, size int) (done func()) {
	if size < costly {
		return func() {}
	}
	name := "trying/" + p.key
	if err := c.store.Write(name, []byte(p.name)); err != nil {
		c.log.Warn("could not note an attempt", "place", text.Name(p.name), "error", err)
	}
	return func() {
		if err := c.store.Remove(name); err != nil {
			c.log.Warn("could not remove the note of an attempt", "place", text.Name(p.name), "error", err)
		}
	}
}

// interrupted takes over the notes of attempts that a process did not survive.
func (w *walk) interrupted() {
	for key := range w.session.list("trying") {
		w.fail(key, true)
		w.session.discard("trying/" + key)
	}
}

// avoid makes a location one that this process asks last for a minute. It is what
// a [View] notes, which holds no lock on the state.
func (c *Client) avoid(p *location) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shunned == nil {
		c.shunned = map[string]time.Time{}
	}
	c.shunned[p.key] = c.clock().Add(firstBackoff)
}

// avoided lists these locations by key.
func (c *Client) avoided(now time.Time) map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for key, until := range c.shunned {
		if rest := until.Sub(now); rest <= 0 || rest > firstBackoff {
			delete(c.shunned, key)
			continue
		}
		out[key] = true
	}
	return out
}

// rests reports whether a place failed lately, so that others are asked before it.
func (w *walk) isDown(p *location) bool { return w.down[p.key] }

// learn keeps it for who asks after the refresh: Save, and Views.
func (c *Client) learn(w *walk, serving *location) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learned.downUntil = map[string]time.Time{}
	for key, h := range w.session.Health {
		c.learned.downUntil[key] = h.Until
	}
	if serving != nil {
		c.learned.serving = serving.key
	}
}

// preferredPlaces lists where roles and targets can be had, by the newest root that
// this client knows. Those that failed lately come last; otherwise the administrator's
// sources come first, and the place that served in the last refresh before others of
// its kind.
func (c *Client) rankedLocations() []*location {
	locations, now := c.contentLocations(), c.clock()
	avoided := c.avoided(now)
	c.mu.Lock()
	known := c.learned
	c.mu.Unlock()
	rank := func(p *location) (n int) {
		rest := known.downUntil[p.key].Sub(now)
		if avoided[p.key] || rest > 0 && rest <= maxBackoff { // not where a clock was ahead
			n += 4
		}
		if !p.local {
			n += 2
		}
		if p.key != known.serving {
			n++
		}
		return n
	}
	slices.SortStableFunc(locations, func(a, b *location) int { return rank(a) - rank(b) })
	return locations
}

// waits reports whether a place asked not to be asked yet.
func (w *walk) rateLimited(p *location) bool {
	_, yes := w.wait[p.key]
	return yes
}

// failed notes that a location did not deliver: content or a root. What is
// absent or has expired is no fault of the location's: it may serve what there is.
func (w *walk) failed(p *location, err error, content bool) {
	if errors.Is(err, tuf.ErrExpired) || isAbsent(err) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		return
	}
	if !errors.Is(err, tuf.ErrUntrusted) {
		w.transient = true
	}
	w.fail(p.key, content)
	if busy, ok := errors.AsType[*busyError](err); ok {
		h := w.session.Health[p.key]
		h.Wait = true
		h.Until = busy.until
		if limit := w.clock.Add(maxBackoff); h.Until.After(limit) {
			h.Until = limit
		}
		w.wait[p.key] = h.Until
		if _, known := w.session.Health[p.key]; known {
			w.session.Health[p.key] = h
		}
	}
}

// fail makes a location one that is asked last.
func (w *walk) fail(key string, content bool) {
	w.down[key] = true
	h, known := w.session.Health[key]
	if !known && len(w.session.Health) >= maxHealth {
		return
	}
	if !w.failing[key] { // once in a refresh
		w.failing[key] = true
		h.Fails++
	}
	h.Until, h.Wait = w.clock.Add(min(maxBackoff, firstBackoff<<min(h.Fails-1, 10))), false
	h.Content = h.Content || content
	w.session.Health[key] = h
}

// well forgets the failures of a location that has served a root, or content.
func (w *walk) clearFailures(p *location, content bool) {
	if !w.failing[p.key] && (content || !w.session.Health[p.key].Content) {
		delete(w.session.Health, p.key)
	}
}

// waiting says who asked to be left alone.
func (w *walk) rateLimitError(p *location) error {
	return fmt.Errorf("%s: asks not to be asked before %s", p.name, w.wait[p.key].UTC().Format(time.RFC3339))
}

// unanswered notes which of the locations did not answer as long as the call
// waited for them.
func (w *walk) unanswered(asked map[string]*location, content bool) {
	for key, p := range asked {
		if w.pace.late[key] {
			w.failed(p, errLate, content)
			w.problems = append(w.problems, fmt.Errorf("%s: %w", text.Name(p.name), errLate))
		}
	}
}

// served notes that a location did what it is for, though perhaps late.
func (w *walk) served(p *location, content bool) {
	if w.pace.late[p.key] {
		w.fail(p.key, content)
		return
	}
	w.clearFailures(p, content)
}
