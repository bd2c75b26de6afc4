package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"

	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
)

// isRedirect reports whether a status redirects the same request.
func isRedirect(code int) bool {
	switch code {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// follow follows redirects and returns the final response. A target is verified by
// length and hashes, so any host may serve it. But a location must not make the client
// contact hosts that the charter forbids, or hosts in the product's private network;
// only a location in a private network may redirect into one. reached is the address
// that sent the first response, if known.
func (s *httpSource) follow(ctx context.Context, h *http.Client, address string, header http.Header, resp *http.Response, reached netip.Addr) (*http.Response, error) {
	location, err := url.Parse(address)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	local := !public.Host(public.HostIn(location)) || reached.IsValid() && !public.Addr(reached)
	at := location
	for n := 0; isRedirect(resp.StatusCode); n++ {
		resp.Body.Close()
		if n == public.MaxRedirects {
			return nil, responseError{fmt.Errorf("more than %d redirects", public.MaxRedirects), true}
		}
		to, err := s.destination(location, at, resp.Header.Get("Location"), local)
		if err != nil {
			return nil, responseError{fmt.Errorf("%d %s: %w", resp.StatusCode, http.StatusText(resp.StatusCode), err), true}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
		if err != nil {
			return nil, err
		}
		req.Header, req.Response = header.Clone(), resp
		away, err := awayFrom(h, req, local, s.resolve)
		if err == nil {
			resp, err = away.Do(req)
		}
		if err != nil {
			// Without the URL: such URLs often contain a signature that acts as a
			// password.
			if e, ok := errors.AsType[*url.Error](err); ok {
				err = e.Err
			}
			return nil, fmt.Errorf("redirected to %s: %w", text.Quote(to.Host), err)
		}
		at = to
	}
	return resp, nil
}

// destination checks the target of a redirect sent by at. Errors contain its host, not
// its URL.
func (s *httpSource) destination(location, at *url.URL, header string, local bool) (*url.URL, error) {
	to, err := at.Parse(header)
	switch {
	case header == "":
		return nil, errors.New("a redirect without a Location")
	case err != nil:
		return nil, errors.New("a redirect to an invalid URL")
	}
	fault := public.Redirect(location, to, local)
	if fault == "" && !s.mayAsk(to) {
		fault = "that is retired or past its use_until"
	}
	if fault != "" {
		return nil, fmt.Errorf("a redirect to %s, %s", text.Quote(to.Host), fault)
	}
	return to, nil
}

// awayFrom returns a copy of h for a redirected request: without cookies and client
// certificates, on a new connection, and, unless local is set, never to an address in a
// private network. A proxy resolves names itself, so behind one, as with a Transport
// that is not an *http.Transport, only an address in the URL can be checked. With
// resolve set, names are looked up before connecting.
func awayFrom(h *http.Client, req *http.Request, local, resolve bool) (*http.Client, error) {
	away := *h
	away.Jar = nil
	t, ok := transportOf(h)
	if !ok {
		return &away, nil
	}
	t = unshared(t)
	t.TLSClientConfig.Certificates, t.TLSClientConfig.GetClientCertificate = nil, nil
	away.Transport = t
	if t.Proxy != nil {
		proxy, err := t.Proxy(req)
		if err != nil {
			return nil, err
		}
		if t.Proxy = http.ProxyURL(proxy); proxy != nil {
			return &away, nil
		}
	}
	if local {
		return &away, nil
	}
	if t.DialContext == nil {
		t.DialContext = (&net.Dialer{}).DialContext
	}
	t.DialContext = publicOnly(t.DialContext, resolve)
	if t.DialTLSContext != nil {
		t.DialTLSContext = publicOnly(t.DialTLSContext, resolve)
	}
	return &away, nil
}

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// publicOnly refuses connections to private networks. It checks the addresses of a name
// before connecting, and the remote address before sending.
func publicOnly(dial dialer, resolve bool) dialer {
	private := func(host string, a netip.Addr) error {
		return responseError{fmt.Errorf("%s is at %s, in a private network", text.Quote(host), a), true}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		if resolve {
			all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err != nil {
				return nil, err
			}
			for _, a := range all {
				if a = plainAddr(a); !public.Addr(a) {
					return nil, private(host, a)
				}
			}
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if a := addressOf(conn); a.IsValid() && !public.Addr(a) {
			conn.Close()
			return nil, private(host, a)
		}
		return conn, nil
	}
}

// addressOf returns the remote address, invalid if it is not TCP.
func addressOf(conn net.Conn) netip.Addr {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return plainAddr(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// plainAddr returns the IPv4 address that an IPv6 address stands for: IPv6-only
// networks reach IPv4 hosts through NAT64 (RFC 6052).
func plainAddr(a netip.Addr) netip.Addr {
	if nat64.Contains(a) {
		b := a.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return a.Unmap()
}

// transportOf returns the transport of h if it is an *http.Transport.
func transportOf(h *http.Client) (*http.Transport, bool) {
	if h.Transport == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		return t, ok
	}
	t, ok := h.Transport.(*http.Transport)
	return t, ok
}

// unshared returns a copy of t that opens a connection for each request, with HTTP/1.1:
// HTTP/2 could share the connection of another request.
func unshared(t *http.Transport) *http.Transport {
	t = t.Clone()
	t.DisableKeepAlives, t.ForceAttemptHTTP2 = true, false
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.NextProtos = nil
	return t
}

// ownKey is the context key of requests that must not share a connection.
type ownKey struct{}

// ownConnection makes requests use new connections: a stalled connection may look alive
// for a long time.
func ownConnection(ctx context.Context) context.Context {
	return context.WithValue(ctx, ownKey{}, true)
}

// clientFor returns h, or a copy that uses new connections if ctx requires that.
func clientFor(ctx context.Context, h *http.Client) *http.Client {
	t, ok := transportOf(h)
	if ctx.Value(ownKey{}) == nil || !ok {
		return h
	}
	alone := *h
	alone.Transport = unshared(t)
	return &alone
}

// traced returns a request whose trace records the address it reached; the address is
// invalid behind a proxy or with a custom transport.
func traced(ctx context.Context, h *http.Client, req *http.Request) (traced *http.Request, reached func() netip.Addr) {
	t, ok := transportOf(h)
	if ok && t.Proxy != nil {
		proxy, err := t.Proxy(req)
		ok = proxy == nil && err == nil
	}
	if !ok {
		return req, func() netip.Addr { return netip.Addr{} }
	}
	var at netip.Addr
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { at = addressOf(info.Conn) }}
	return req.WithContext(httptrace.WithClientTrace(ctx, trace)), func() netip.Addr { return at }
}
