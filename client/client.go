package client

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Client follows one repository. Safe for concurrent use, also by several
// processes with the same Dir; it needs no closing.
type Client struct {
	cfg   Config
	pin   *tuf.Pin
	http  *http.Client
	own   bool // http's transport is ours
	store Store
	dir   string // of the store, "" where it is the caller's
	log   *slog.Logger

	limits tuf.Limits
	policy policy

	tip atomic.Pointer[tuf.Root] // newest root that a refresh of this client saw; nil before the first

	former atomic.Pointer[[]*tuf.Root] // of the walk that reached tip

	mu      sync.Mutex
	shunned map[string]time.Time // by place.key: until when locations are asked last
	learned learned

	// Guarded by the state's lock: when enough operators last said that there is no
	// newer root, and when their timestamps were last compared.
	probed, compared time.Time
}

// learned is what the last refresh of this client found out about locations, by
// place.key.
type learned struct {
	serving   string               // gave the content
	downUntil map[string]time.Time // failed: asked last until then
}

// repoID is the identity that the pin names, "" for a bare root.
func (c *Client) repoID() string {
	if charter := c.pin.Root().Charter(); charter != nil {
		return charter.RepoID()
	}
	return ""
}

// Pin returns the fingerprint of the pin, for the product's "about" page.
func (c *Client) Pin() string { return c.pin.Fingerprint() }

// clock is the time without Go's monotonic reading, which stands still while
// the machine sleeps.
func (c *Client) clock() time.Time { return c.cfg.Now().Round(0).UTC() }

// later is the clock, or the time at which the parties signed root if the clock
// is behind that. Online keys have no say in it.
func later(now time.Time, root *tuf.Root) time.Time {
	if charter := root.Charter(); charter != nil && charter.SignedAt().After(now) {
		return charter.SignedAt()
	}
	return now
}
