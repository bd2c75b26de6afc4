package client

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// New creates a client for a pin (see tuf.OpenPin for the checks). The state directory
// is not accessed before the first refresh. cfg is copied.
func New(pin []byte, cfg *Config) (*Client, error) {
	if cfg == nil {
		cfg = &Config{}
	}
	c := &Client{cfg: *cfg, log: cfg.Log, store: cfg.Store, limits: cfg.Limits.WithDefaults()}
	if (cfg.Dir == "") == (cfg.Store == nil) {
		return nil, errors.New("client: Config.Dir is required: the directory for the client's state (or set Config.Store)")
	}
	if cfg.Offline && len(cfg.Sources) == 0 {
		return nil, errors.New("client: Config.Offline requires Config.Sources")
	}
	if cfg.UnsafeStale != 0 && !cfg.Offline || cfg.UnsafeStale < 0 {
		return nil, errors.New("client: Config.UnsafeStale must not be negative, and requires Config.Offline: online locations may have newer metadata")
	}
	c.cfg.Sources = slices.Clone(cfg.Sources)
	var err error
	if c.policy, err = newPolicy(cfg); err != nil {
		return nil, failure(err)
	}
	c.pin, err = tuf.OpenPin(pin, &tuf.Options{Limits: cfg.Limits, UnsafeLoopback: cfg.UnsafeLoopback, UnsafeStale: cfg.UnsafeStale})
	if err != nil {
		return nil, failure(err)
	}
	id := c.repoID()
	if id == "" {
		if !cfg.UnsafeNoReview {
			return nil, failure(&tuf.Error{Role: "pin", Err: tuf.ErrCharter, Detail: "a bare root without a charter: no independent review"})
		}
		if len(cfg.Sources) == 0 {
			return nil, errors.New("client: a bare root lists no locations: Config.Sources is required")
		}
		id = "plain"
	}
	if c.store == nil {
		// The process may change its working directory later.
		dir, err := filepath.Abs(cfg.Dir)
		if err != nil {
			return nil, failure(err)
		}
		c.dir = filepath.Join(dir, id)
		c.store = DirStore(c.dir)
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

// bind checks a configured source, and lets the URLs in it use this client's transport
// and settings.
func (c *Client) bind(s Source) (Source, error) {
	switch s := s.(type) {
	case nil:
		return nil, errors.New("client: Config.Sources contains nil")
	case listSource:
		bound := make(listSource, len(s))
		for i := range s {
			var err error
			if bound[i], err = c.bind(s[i]); err != nil {
				return nil, err
			}
		}
		return bound, nil
	case *httpSource:
		if err := s.check(c.cfg.UnsafeHTTP); err != nil {
			return nil, failure(err)
		}
		return c.web(s.metadata, s.targets), nil
	}
	return s, nil
}
