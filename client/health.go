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

// Limits of how long a location is asked last, and of the pause that it may request.
const (
	firstBackoff = time.Minute
	maxBackoff   = time.Hour
	forgotten    = 24 * time.Hour // after Until
	maxHealth    = 64             // locations
)

// remember loads the health of the locations from the state.
func (w *walk) remember() {
	for key, h := range w.session.Health {
		rest := h.Until.Sub(w.clock)
		switch {
		case rest < -forgotten: // no longer listed, or this client was not used for long
			delete(w.session.Health, key)
			continue
		case rest <= 0 || rest > maxBackoff: // the clock was ahead when this was written
			continue
		case h.Wait:
			w.wait[key] = h.Until
		}
		w.down[key] = true
		w.pace.impatient(key)
	}
}

// costly is the number of bytes from which on parsing is recorded on disk.
const costly = 256 << 10

// noteParsing records that unverified bytes of a location are about to be parsed; done
// removes the record. If the process is killed meanwhile, for example because memory
// ran out, the next one finds the record and asks the location last. Small files are
// not recorded.
func (c *Client) noteParsing(p *location, size int) (done func()) {
	if size < costly {
		return func() {}
	}
	name := "trying/" + p.key
	if err := c.store.Write(name, []byte(p.name)); err != nil {
		c.log.Warn("could not record that a file is parsed", "location", text.Name(p.name), "error", err)
	}
	return func() {
		if err := c.store.Remove(name); err != nil {
			c.log.Warn("could not remove the record that a file is parsed", "location", text.Name(p.name), "error", err)
		}
	}
}

// interrupted processes the records of parsing that killed a process.
func (w *walk) interrupted() {
	for key := range w.session.list("trying") {
		w.fail(key, true)
		w.session.discard("trying/" + key)
	}
}

// avoid makes this process ask a location last for a minute. It is used by a [View],
// which holds no lock on the state.
func (c *Client) avoid(p *location) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shunned == nil {
		c.shunned = map[string]time.Time{}
	}
	c.shunned[p.key] = c.clock().Add(firstBackoff)
}

// avoided returns these locations by key.
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

// isDown reports whether a location failed recently, so that others are asked first.
func (w *walk) isDown(p *location) bool { return w.down[p.key] }

// learn keeps results of the refresh for later calls of Save and of Views.
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

// rankedLocations lists the locations that serve roles and targets, according to the
// newest root that this client knows. Those that failed recently come last. Otherwise
// Config.Sources come first, and within each group the location that served the last
// refresh.
func (c *Client) rankedLocations() []*location {
	locations, now := c.contentLocations(), c.clock()
	avoided := c.avoided(now)
	c.mu.Lock()
	known := c.learned
	c.mu.Unlock()
	rank := func(p *location) (n int) {
		rest := known.downUntil[p.key].Sub(now)
		if avoided[p.key] || rest > 0 && rest <= maxBackoff { // not if the clock was ahead
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

// rateLimited reports whether a location asked for a pause that is not over.
func (w *walk) rateLimited(p *location) bool {
	_, yes := w.wait[p.key]
	return yes
}

// failed records that a location did not deliver content or a root. Absent and expired
// files are not failures of the location: it may serve all there is.
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

// fail makes refreshes ask a location last for some time.
func (w *walk) fail(key string, content bool) {
	w.down[key] = true
	h, known := w.session.Health[key]
	if !known && len(w.session.Health) >= maxHealth {
		return
	}
	if !w.failing[key] { // once per refresh
		w.failing[key] = true
		h.Fails++
	}
	h.Until, h.Wait = w.clock.Add(min(maxBackoff, firstBackoff<<min(h.Fails-1, 10))), false
	h.Content = h.Content || content
	w.session.Health[key] = h
}

// clearFailures forgets the failures of a location that has served a root or content.
func (w *walk) clearFailures(p *location, content bool) {
	if !w.failing[p.key] && (content || !w.session.Health[p.key].Content) {
		delete(w.session.Health, p.key)
	}
}

// rateLimitError returns the error of a location that is not asked because of its
// requested pause.
func (w *walk) rateLimitError(p *location) error {
	return fmt.Errorf("%s: rate limited until %s", p.name, w.wait[p.key].UTC().Format(time.RFC3339))
}

// unanswered records which of the locations did not answer within the patience.
func (w *walk) unanswered(asked map[string]*location, content bool) {
	for key, p := range asked {
		if w.pace.late[key] {
			w.failed(p, errLate, content)
			w.problems = append(w.problems, fmt.Errorf("%s: %w", text.Name(p.name), errLate))
		}
	}
}

// served records that a location delivered, possibly late.
func (w *walk) served(p *location, content bool) {
	if w.pace.late[p.key] {
		w.fail(p.key, content)
		return
	}
	w.clearFailures(p, content)
}
