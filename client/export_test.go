package client

import (
	"context"
	"io"
	"net/http"
)

// ConfigDir returns the directory of a client's state.
func ConfigDir(c *Client) string { return c.cfg.Dir }

// OpenByHTTP opens a file at a location as the client does.
func OpenByHTTP(c *Client, metadata, name string) (io.ReadCloser, error) {
	return c.web(metadata, "").Open(context.Background(), name)
}

// NewestRoot is the version of the root whose locations a download would use.
func NewestRoot(c *Client) int64 { return c.newestRoot().Version() }

// TransportOf is the client's own transport, before its first request.
func TransportOf(c *Client) *http.Transport { return c.http.Transport.(*http.Transport) }

// PublicOnly is the dialer of redirects.
var PublicOnly = publicOnly
