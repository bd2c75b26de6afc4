package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// HTTPSource returns a Source for a location that the administrator configures, or that serves
// a standard TUF repository. File names are appended to metadata and targets byte for
// byte, so both must end in a slash and be escaped already; targets is "" if there are
// none. Only https:// is allowed, except for this machine and with [Config].UnsafeHTTP.
//
// In [Config].Sources its requests follow the Config, and New returns the error of an
// invalid URL; redirects of targets are followed as documented at [Client.Save]. Used
// alone it has its own transport, follows no redirects, and Open returns the error of
// an invalid URL.
func HTTPSource(metadata, targets string) Source {
	return &httpSource{metadata: metadata, targets: targets, agent: "visum", now: time.Now, standalone: sync.OnceValue(func() *http.Client {
		h, _ := newHTTP(nil, time.Now)
		if t, ok := h.Transport.(*http.Transport); ok {
			t.DisableKeepAlives = true // no call would close idle connections
		}
		return h
	})}
}

// web returns a source for URLs whose requests follow this client's Config.
func (c *Client) web(metadata, targets string) *httpSource {
	return &httpSource{client: c.http, agent: c.cfg.UserAgent, now: c.clock, metadata: metadata, targets: targets, mayAsk: c.mayAsk, resolve: c.own}
}

// mayAsk reports whether the newest root allows contacting the host of a URL.
func (c *Client) mayAsk(u *url.URL) bool {
	trusted := c.newestRoot()
	charter := trusted.Charter()
	return charter == nil || charter.Usable(tuf.Location{Base: public.PlainHost(u.String())}, later(c.clock(), trusted))
}

// httpSource reads from URLs.
type httpSource struct {
	client            *http.Client // nil: use standalone, after checking the URLs
	standalone        func() *http.Client
	agent             string
	now               func() time.Time
	metadata, targets string              // URLs, end in /
	mayAsk            func(*url.URL) bool // nil: redirects are not followed
	resolve           bool                // look names up before connecting
}

func (s *httpSource) check(unsafeHTTP bool) error {
	if err := checkURL(s.metadata, unsafeHTTP); err != nil || s.targets == "" {
		return err
	}
	return checkURL(s.targets, unsafeHTTP)
}

func checkURL(raw string, unsafeHTTP bool) error {
	u, err := url.Parse(raw)
	fault := ""
	switch {
	case err != nil:
		return fmt.Errorf("URL: %w", err.(*url.Error).Err) // without the URL: it may contain a password
	case u.User != nil:
		return fmt.Errorf("URL of host %s: contains a user name: use the Transport of Config.HTTP to authenticate", text.Quote(u.Host))
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		fault = "neither https://HOST/ nor http://HOST/"
	case u.Scheme == "http" && !unsafeHTTP && !public.Loopback(u.Hostname()):
		fault = "not https (Config.UnsafeHTTP allows that)"
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r >= 0x80 }):
		fault = "host name is not ASCII: use its xn-- form"
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(raw, "#"):
		fault = "query and fragment are not allowed, because file names are appended"
	case !strings.HasSuffix(u.Path, "/"):
		fault = "does not end in /"
	case u.String() != raw:
		fault = fmt.Sprintf("not in the form that is sent, %q", u.String())
	default:
		return nil
	}
	return fmt.Errorf("URL %s: %s", text.Quote(raw), fault)
}

// address returns the URL of a file.
func (s *httpSource) address(name string) (string, error) {
	path, meta, err := layout.URLPath(name)
	base := s.metadata
	if !meta {
		base = s.targets
	}
	if base == "" {
		return "", fmt.Errorf("%s: %w: the location serves only roots", name, errors.ErrUnsupported)
	}
	return base + path, err
}

var (
	hashed    = regexp.MustCompile(`^([0-9a-f]{64}|[0-9a-f]{128})\.`)
	versioned = regexp.MustCompile(`^[0-9]+\.`)
)

// immutable reports whether the content of a file never changes, so that HTTP caches
// need not revalidate it. A root is requested before it exists, so the answer for it
// may change.
func immutable(name string) bool {
	if rest, ok := strings.CutPrefix(name, "metadata/"); ok {
		return versioned.MatchString(rest) && !strings.HasSuffix(rest, ".root.json")
	}
	return hashed.MatchString(path.Base(name))
}

func (s *httpSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return closer(s.OpenAt(ctx, name, 0, ""))
}

func (s *httpSource) OpenAt(ctx context.Context, name string, offset int64, tag string) (*Range, error) {
	h := s.client
	if h == nil {
		if err := s.check(false); err != nil {
			return nil, responseError{err, true}
		}
		h = s.standalone()
	}
	address, err := s.address(name)
	if err != nil {
		return nil, err
	}
	if offset < 0 {
		return nil, fmt.Errorf("%s: %w: from byte %d", name, ErrRange, offset)
	}
	// Targets are hashed as received, and may be compressed files themselves.
	meta, coding := strings.HasPrefix(name, "metadata/"), "identity"
	if meta && offset == 0 {
		coding = "gzip"
	}
	header := http.Header{"User-Agent": {s.agent}, "Accept-Encoding": {coding}}
	if !immutable(name) {
		header.Set("Cache-Control", "no-cache")
	}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		if tag != "" {
			header.Set("If-Range", tag)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone() // a cookie jar modifies it
	h = clientFor(ctx, h)
	req, reached := traced(ctx, h, req)
	resp, err := h.Do(req)
	if err == nil && isRedirect(resp.StatusCode) && !meta && s.mayAsk != nil {
		if resp, err = s.follow(ctx, h, address, header, resp, reached()); err != nil {
			err = fmt.Errorf("GET %s: %w", address, err)
		}
	}
	if err != nil {
		return nil, err
	}
	r, err := s.answer(resp, coding, offset, tag)
	if err != nil {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %w", address, err)
	}
	// net/http would still deliver data that it has already received.
	r.ReadCloser = both{ctxio.NewReader(ctx, r.ReadCloser), r.ReadCloser}
	return r, nil
}

// answer converts a response to a Range.
func (s *httpSource) answer(resp *http.Response, coding string, offset int64, tag string) (*Range, error) {
	// Not resp.Status: its text comes from the server.
	status := fmt.Errorf("%d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return whole(resp, coding)
	case code == http.StatusPartialContent && offset > 0:
		return partial(resp, offset, tag)
	case code == http.StatusRequestedRangeNotSatisfiable && offset > 0:
		return nil, fmt.Errorf("%w: %w from byte %d", ErrRange, status, offset)
	case code == http.StatusNotFound, code == http.StatusForbidden, code == http.StatusGone:
		// Object stores answer 403 for missing files.
		return nil, fmt.Errorf("%w: %w", status, fs.ErrNotExist)
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		if until := retryAfter(resp.Header, s.now()); !until.IsZero() {
			return nil, &busyError{fmt.Errorf("%w, rate limited until %s", status, until.UTC().Format(time.RFC3339)), until}
		}
		return nil, status
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		return nil, status
	case code >= 300 && code < 400:
		return nil, responseError{fmt.Errorf("%w, which is not followed", status), true}
	}
	return nil, responseError{status, true}
}

// whole accepts a response that begins at byte 0.
func whole(resp *http.Response, coding string) (*Range, error) {
	r := &Range{ReadCloser: resp.Body, Size: resp.ContentLength, Tag: strongTag(resp.Header)}
	switch got := strings.ToLower(resp.Header.Get("Content-Encoding")); {
	case got == "" || got == "identity" || coding == "identity":
		// Some servers name a coding because of the file's extension. Identity was
		// requested, so the body is the file itself; length and hashes decide.
		return r, nil
	case got == "gzip" || got == "x-gzip":
		z, err := newGunzip(resp.Body)
		if err != nil {
			return nil, err
		}
		// The tag identifies the compressed form.
		return &Range{ReadCloser: both{z, resp.Body}, Size: -1}, nil
	}
	return nil, responseError{errors.New("answered in a coding that was not requested"), true}
}

// both reads from one and closes the other, underlying one.
type both struct {
	io.Reader
	io.Closer
}

var contentRange = regexp.MustCompile(`^bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)$`)

// partial accepts a response that begins exactly at offset.
func partial(resp *http.Response, offset int64, tag string) (*Range, error) {
	got := resp.Header.Get("Content-Range")
	m := contentRange.FindStringSubmatch(got)
	if m == nil {
		return nil, fmt.Errorf("%w: Content-Range is %s", ErrRange, text.Quote(got))
	}
	first, _ := strconv.ParseInt(m[1], 10, 64)
	last, _ := strconv.ParseInt(m[2], 10, 64)
	size, err := strconv.ParseInt(m[3], 10, 64)
	if err != nil {
		size = -1
	}
	now := strongTag(resp.Header)
	switch {
	case first != offset || last < first || size >= 0 && last >= size:
		return nil, fmt.Errorf("%w: from byte %d, Content-Range is %s", ErrRange, offset, text.Quote(got))
	case tag != "" && now != "" && now != tag:
		return nil, fmt.Errorf("%w: the file has changed", ErrRange)
	}
	body := both{io.LimitReader(resp.Body, last-first+1), resp.Body}
	return &Range{ReadCloser: body, Offset: offset, Size: size, Tag: now}, nil
}

var tagForm = regexp.MustCompile(`^"[!#-~]+"$`)

// strongTag returns the file's ETag if it is a strong validator (RFC 9110, 8.8.1).
func strongTag(h http.Header) string {
	if tag := h.Get("ETag"); len(tag) <= 202 && tagForm.MatchString(tag) {
		return tag
	}
	return ""
}

// retryAfter returns the time that a Retry-After header states, zero if there is none.
func retryAfter(h http.Header, now time.Time) time.Time {
	v := h.Get("Retry-After")
	var wait time.Duration
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(v); err == nil {
		from := now
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			from = date // the server's clock may differ from ours
		}
		wait = at.Sub(from)
	}
	if wait <= 0 {
		return time.Time{}
	}
	return now.Add(min(wait, 30*24*time.Hour))
}

// newHTTP returns a client that follows no redirects: the target of a redirect is not
// the location in the root. If the transport is the default one, certificates are
// verified at the time of now, because the machine's clock may be years behind.
func newHTTP(given *http.Client, now func() time.Time) (h *http.Client, own bool) {
	h = &http.Client{}
	if given != nil {
		*h = *given
	} else if t, ok := http.DefaultTransport.(*http.Transport); ok {
		t = t.Clone()
		// Hashes are over the bytes on the wire: no transparent decompression.
		t.DisableCompression = true
		t.ResponseHeaderTimeout = 30 * time.Second
		t.MaxResponseHeaderBytes = 64 << 10
		// A connection that a middlebox has dropped still looks alive: without an
		// answer to a ping it is closed before a download times out.
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

// closeIdle closes the connections that a call kept open: their goroutines must not
// outlive the call, and a later root may retire a host.
func (c *Client) closeIdle() {
	if c.own {
		c.http.CloseIdleConnections()
	}
}
