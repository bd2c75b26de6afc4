package client

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// States of the world after a refresh. What led to one is joined to it.
var (
	// ErrDark: no place answered. State is kept.
	ErrDark = errors.New("client: no place answers")
	// ErrStale: the newest root that can be had has expired, or, where the charter
	// asks for that, too few operators confirmed it for too long. Nothing new is
	// installed under it.
	ErrStale = errors.New("client: the newest root that can be had is too old")
	// ErrBehind: the network shows an older chain of roots than was seen before.
	ErrBehind = errors.New("client: the chain of roots is shorter than it was")
	// ErrPartial: more new roots than one cycle follows. Refresh again.
	ErrPartial = errors.New("client: more roots follow; refresh again")
	// ErrNoContent: the root is current, but no place delivers a complete, valid set under it.
	ErrNoContent = errors.New("client: no place delivers valid content")
	// ErrUpToDate: there is no approved release above what is installed.
	ErrUpToDate = errors.New("client: no newer approved release")
)

// Config says how a client works. Zero fields are safe.
type Config struct {
	// Dir is the folder for the client's state; made if absent. Below it each
	// repository with a charter has a folder of its own, so products may share
	// Dir; one without has no identity, and needs a Dir that no other uses.
	// Required, unless there is a Store: a client that forgets can be shown the past.
	Dir string
	// Store keeps the state instead of Dir; for one repository only.
	Store Store
	// Sources are further places to ask, before all others: a folder, an
	// embedded tree, a bundle, a [URL]. What they hold is verified like everything else.
	// They do not count as operators when a new root is looked for. A [URL], also one
	// in a [List], whose host the newest root has retired is not asked any more.
	Sources []Source
	// Offline keeps the client from asking anything but Sources.
	Offline bool
	// HTTP makes the requests; nil: a client of our own that honours the
	// system's proxy settings and judges certificates at the later of Now and the time
	// at which the newest root was signed. It is copied; redirects of metadata are never
	// followed, those of targets as [Client.Save] says, whatever its CheckRedirect is.
	// Its Timeout, if it has one, ends long downloads too, which then go on. Its
	// Transport bounds the headers of an answer, net/http's at 10 MB unless its
	// MaxResponseHeaderBytes says otherwise; of our own client they are 64 KiB. How
	// long an answer is waited for is bounded here, whatever the Transport says.
	HTTP *http.Client
	// UserAgent is sent with requests; "": "visum".
	UserAgent string
	// MetadataTimeout bounds the fetching of one metadata file; 0: 30 s. While
	// another location is untried the client asks it as well, after 5 s without an
	// answer or 10 s that one location took for its files; what answers first counts.
	MetadataTimeout time.Duration
	// IdleTimeout ends a download that brings less than 1 KiB a second for so
	// long; 0: 30 s. While another location is untried, one that brings less than 64
	// KiB a second for 5 s, or too little to bring the whole in 15 minutes, is left
	// for it.
	IdleTimeout time.Duration
	// Retries is how often a call goes round again where no place answers at all,
	// after half a second first, then twice as long each time; 0: 2, below 0: never.
	Retries int
	// Progress is told how far a [Client.Save] is; nil: nobody is. Save calls it from
	// its own goroutine, when it begins, every tenth of a second at most, and when it
	// has succeeded, and goes on when it returns. Several Saves may call it at once.
	Progress func(Progress)
	// Only is the administrator's pin: the one version that may be installed, or,
	// with a dot at its end, the numbers that its version begins with ("11." allows
	// 11.4.0 and 11, not 110.1). "": any. Versions are compared by tuf.Version: "1.2"
	// is "v1.2.0". New refuses what is neither.
	Only string
	// Deny lists versions that are not installed, compared likewise. New refuses what
	// is no version.
	Deny []string
	// RolloutSeed stands for this machine where a release goes to a part of the
	// machines: any text that differs between machines and stays the same on one, such
	// as its serial number. From it and the release comes a number from 0 to 99, another
	// for each release, and a rollout of n percent is for the numbers below n. "": what
	// the client drew at random when its state was made, which machines that were
	// cloned with their state share. Machines with one seed get their releases together.
	RolloutSeed string
	// Defer is how long a release waits from when this client first saw it approved.
	Defer time.Duration
	// Log receives what happens; nil: silence. It gets no keys and no bodies; URLs are in
	// it. Attributes are one line of printable ASCII, 4 kB at most, whatever a location
	// or metadata says.
	Log *slog.Logger
	// Now is the clock; nil: time.Now. It is read once in a refresh.
	Now func() time.Time
	// Limits bounds the metadata; see tuf.Limits.
	Limits tuf.Limits
	// UnsafeLoopback lets the repository be served over http:// from this
	// machine. For development and tests.
	UnsafeLoopback bool
	// UnsafeHTTP lets a [URL] in Sources be http://, on any host: who is on the way
	// sees what is asked for, and can keep it back. The repository's own locations
	// stay https://.
	UnsafeHTTP bool
	// UnsafeNoReview lets the pin be the bare root of an ordinary TUF repository:
	// nobody but who holds its keys answers for what it lists, and it can't move.
	// Where to ask is what Sources says.
	UnsafeNoReview bool
}

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

	mu      sync.Mutex
	shunned map[string]time.Time // by place.key: until when locations are asked last

	// Guarded by the state's lock: when enough operators last said that there is no
	// newer root, and when their timestamps were last compared.
	probed, compared time.Time
}

// New makes a client of a pin (see tuf.OpenPin for what is refused). The state
// folder is not touched before the first refresh. cfg is copied.
func New(pin []byte, cfg *Config) (*Client, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	c := &Client{cfg: *cfg, log: cfg.Log, store: cfg.Store, limits: cfg.Limits.WithDefaults()}
	if (cfg.Dir == "") == (cfg.Store == nil) {
		return nil, errors.New("client: Config.Dir is required: the folder for the client's state (or Config.Store instead)")
	}
	if cfg.Offline && len(cfg.Sources) == 0 {
		return nil, errors.New("client: Config.Offline without Config.Sources leaves nothing to ask")
	}
	c.cfg.Sources = slices.Clone(cfg.Sources)
	var err error
	if c.policy, err = newPolicy(cfg); err != nil {
		return nil, failure(err)
	}
	c.pin, err = tuf.OpenPin(pin, &tuf.Options{Limits: cfg.Limits, UnsafeLoopback: cfg.UnsafeLoopback})
	if err != nil {
		return nil, failure(err)
	}
	id := c.repoID()
	if id == "" {
		if !cfg.UnsafeNoReview {
			return nil, failure(&tuf.Error{Role: "pin", Err: tuf.ErrCharter, Detail: "a bare root without a charter: nobody reviews what it lists"})
		}
		if len(cfg.Sources) == 0 {
			return nil, errors.New("client: a bare root says nowhere to ask: Config.Sources is required")
		}
		id = "plain"
	}
	if c.store == nil {
		// The process may change its working folder later.
		dir, err := filepath.Abs(cfg.Dir)
		if err != nil {
			return nil, failure(err)
		}
		c.dir = filepath.Join(dir, id)
		c.store = Folder(c.dir)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = slog.New(lines{c.log.Handler()})
	if c.cfg.Retries == 0 {
		c.cfg.Retries = 2
	}
	if c.cfg.Now == nil {
		c.cfg.Now = time.Now
	}
	if c.cfg.MetadataTimeout <= 0 {
		c.cfg.MetadataTimeout = 30 * time.Second
	}
	if c.cfg.IdleTimeout <= 0 {
		c.cfg.IdleTimeout = 30 * time.Second
	}
	if c.cfg.UserAgent == "" {
		c.cfg.UserAgent = "visum"
	}
	c.http, c.own = newHTTP(cfg.HTTP, func() time.Time { return later(c.clock(), c.newestRoot()) })
	for i, s := range c.cfg.Sources {
		if c.cfg.Sources[i], err = c.bind(s); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// newHTTP returns a client that follows no redirect: a place that sends
// elsewhere is not the place that the root names. Certificates are judged at the time
// of now where the transport is our own: the machine's clock may be years behind.
func newHTTP(given *http.Client, now func() time.Time) (h *http.Client, own bool) {
	h = &http.Client{}
	if given != nil {
		*h = *given
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		// What is asked for is what is hashed: no transparent decompression.
		t.DisableCompression = true
		t.ResponseHeaderTimeout = 30 * time.Second
		t.MaxResponseHeaderBytes = 64 << 10
		// A connection that a network has forgotten looks alive: who does not answer a
		// ping is dropped, before a download gives up.
		t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 10 * time.Second}
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{}
		}
		t.TLSClientConfig.Time = now
		h.Transport, own = t, true
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return h, own
}

// rest closes the connections that were kept open within a call: their
// goroutines must not outlive it, and a host may be retired by the next.
func (c *Client) rest() {
	if c.own {
		c.http.CloseIdleConnections()
	}
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
