package client

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Client follows one repository. It is safe for concurrent use, also by several
// processes with the same Dir, and need not be closed.
type Client struct {
	cfg   Config
	pin   *tuf.Pin
	http  *http.Client
	own   bool // http's transport was made here
	store Store
	dir   string // of the store; "" for Config.Store
	log   *slog.Logger

	limits tuf.Limits
	policy policy

	trusted atomic.Pointer[tuf.Root] // newest root seen by a refresh of this client; nil before the first

	former atomic.Pointer[[]*tuf.Root] // earlier roots with other online keys, as of trusted

	mu      sync.Mutex
	shunned map[string]time.Time // by location.key: locations that are asked last until then
	learned learned

	// When enough operators last reported that there is no newer root, and when their
	// timestamps were last compared. Guarded by the state's lock.
	probed, compared time.Time

	// Roots whose change of the rule of the log is pending, as of trusted; and the running
	// time since the last accepted proof. Guarded by the state's lock.
	changes []*tuf.Root
	running stopwatch
}

// learned is what the last refresh of this client found out about locations, by
// location.key.
type learned struct {
	serving   string               // served the content
	downUntil map[string]time.Time // failed: asked last until then
}

// repoID is the repository ID in the pin, "" for a bare root.
func (c *Client) repoID() string {
	if charter := c.pin.Root().Charter(); charter != nil {
		return charter.RepoID()
	}
	return ""
}

// PinFingerprint returns the fingerprint of the pin, for the product's "about" page.
func (c *Client) PinFingerprint() string { return c.pin.Fingerprint() }

// clock returns the time without Go's monotonic reading, which stands still while the
// machine sleeps.
func (c *Client) clock() time.Time { return c.cfg.Now().Round(0).UTC() }

// later returns now, or the time at which root was signed if that is later. Online keys
// cannot influence it.
func later(now time.Time, root *tuf.Root) time.Time {
	if charter := root.Charter(); charter != nil && charter.SignedAt().After(now) {
		return charter.SignedAt()
	}
	return now
}

// stopwatch measures the running time of this process since the last accepted proof, with
// the clock that can't be set back.
type stopwatch struct {
	mark  time.Time     // logMark.Time when it was read last
	base  time.Duration // logMark.Waited then
	begun time.Time
}
