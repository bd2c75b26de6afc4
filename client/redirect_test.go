package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// internet maps names to addresses as connections report them, and connects all of them
// to one TLS server, which serves the web.
type internet struct {
	*web
	addr map[string]string // by host
	srv  *httptest.Server

	mu    sync.Mutex
	dials []string // hosts
	heads []http.Header
}

func newInternet(t *testing.T) *internet {
	n := &internet{web: newWeb(t), addr: map[string]string{vendorHost: "198.41.0.4", cdnHost: "198.41.0.5", reviewHost: "198.41.0.6"}}
	n.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/r/targets/") {
			n.mu.Lock()
			head := r.Header.Clone()
			if len(r.TLS.PeerCertificates) > 0 {
				head.Set("Authorization", "a certificate")
			}
			n.heads = append(n.heads, head)
			n.mu.Unlock()
		}
		r.URL.Host = r.Host
		resp, err := n.web.RoundTrip(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		for k, v := range resp.Header {
			rw.Header()[k] = v
		}
		rw.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(rw, resp.Body)
	}))
	n.srv.EnableHTTP2 = true
	n.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	n.srv.StartTLS()
	t.Cleanup(n.srv.Close)
	return n
}

type connTo struct {
	net.Conn
	addr net.Addr
}

func (c connTo) RemoteAddr() net.Addr { return c.addr }

func (n *internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(address)
	n.mu.Lock()
	n.dials = append(n.dials, host)
	n.mu.Unlock()
	ip := n.addr[host]
	if a, err := netip.ParseAddr(host); err == nil {
		ip = a.String()
	}
	if ip == "" {
		return nil, errDark
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, n.srv.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return connTo{c, &net.TCPAddr{IP: net.ParseIP(ip), Port: 443}}, nil
}

// over lets a client use the internet.
func (n *internet) over(cfg *client.Config) {
	cfg.HTTP = &http.Client{Transport: &http.Transport{DialContext: n.dial, ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func (n *internet) dialed(host string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.dials, host)
}

// sends lets the first location redirect all requests for targets.
func (n *internet) sends(code int, to string) {
	n.does(func(name string, r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(name, targetSuffix) {
			return nil, nil
		}
		return header(code, "Location", to)(name, r)
	}, vendorHost)
	n.does(status(500, targetSuffix, nil), cdnHost)
}

// A target is fetched from the redirect's destination, over https.
func TestRedirectsOfTargetsAreFollowed(t *testing.T) {
	t.Parallel()
	for _, code := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			n := newInternet(t)
			n.addr["files.example"] = "198.41.0.9"
			n.sends(code, "https://files.example/r/targets/1"+targetSuffix+"?signature=s3cret")
			c := n.client(n.over)
			if err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent")); err != nil {
				t.Fatal(err)
			}
			if !n.dialed("files.example") {
				t.Error("not fetched from there")
			}
			// Relative, and five of them, but not six.
			for _, hops := range []int{5, 6} {
				n.does(func(name string, r *http.Request) (*http.Response, error) {
					if i := len(r.URL.Query()["n"]); strings.HasSuffix(name, targetSuffix) && i < hops {
						return header(code, "Location", "?n="+strings.Repeat("1&n=", i)+"1")(name, r)
					}
					return nil, nil
				}, vendorHost)
				err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent"))
				if (hops == 5) != (err == nil) || err != nil && !strings.Contains(err.Error(), "more than 5 redirects") {
					t.Errorf("%d redirects: %v", hops, err)
				}
			}
		})
	}
}

// For a forbidden redirect nothing is connected to, or no byte is sent; the error
// contains the reason, and another location is used.
func TestRedirectsThatAreRefused(t *testing.T) {
	t.Parallel()
	const path = "/r/targets/1" + targetSuffix
	for name, tt := range map[string]struct{ to, why string }{
		"http":                      {"http://files.example" + path, "that is not https"},
		"another scheme":            {"ftp://files.example" + path, "that is not https"},
		"a user":                    {"https://user:s3cret@files.example" + path, "with a user name"},
		"no host":                   {"https:///x", "whose host is not one in ASCII"},
		"not ASCII":                 {"https://fıles.example" + path, "whose host is not one in ASCII"},
		"no URL":                    {"https://files.example:x/", "Location"},
		"nothing":                   {"", "302 Found"},
		"retired":                   {"https://retired.example" + path, "retired or past its use_until"},
		"retired, capitals and dot": {"https://RETIRED.example.:443" + path, "retired or past its use_until"},
		"past its use_until":        {"https://over.example" + path, "retired or past its use_until"},
		"loopback":                  {"https://127.0.0.1" + path, "in a private network"},
		"localhost":                 {"https://localhost" + path, "in a private network"},
		"IPv6 loopback":             {"https://[::1]" + path, "in a private network"},
		"mapped":                    {"https://[::ffff:10.0.0.1]" + path, "in a private network"},
		"private":                   {"https://10.0.0.1" + path, "in a private network"},
		"private, a number":         {"https://167772161" + path, "in a private network"},
		"link-local":                {"https://169.254.169.254" + path, "in a private network"},
		"a local name":              {"https://nas.local" + path, "in a private network"},
		"a name for 10.0.0.1":       {"https://ten.example" + path, `"ten.example" is at 10.0.0.1, in a private network`},
		"a name for ::1":            {"https://one.example" + path, `"one.example" is at ::1, in a private network`},
		"a name for NAT64 of it":    {"https://nat.example" + path, `"nat.example" is at 10.0.0.1, in a private network`},
		"after a good one":          {"https://next.example" + path, "in a private network"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newInternet(t)
			n.repo.NextRoot(func() {
				n.repo.Charter()["retired"] = append(n.repo.Charter()["retired"].([]any), rawtuf.Doc{"id": "gone", "hosts": []any{"retired.example"}})
				l := location("over", "legacy", "over", "over.example")
				l["use_until"], l["priority"] = rawtuf.Stamp(rawtuf.Now.Add(-time.Hour)), 99
				n.repo.Charter()["locations"] = append(n.repo.Charter()["locations"].([]any), l)
			})
			n.repo.Publish()
			for host, addr := range map[string]string{"files.example": "198.41.0.9", "retired.example": "198.41.0.10", "over.example": "198.41.0.11", "next.example": "198.41.0.12",
				"localhost": "127.0.0.1", "nas.local": "192.168.1.2", "167772161": "10.0.0.1", "ten.example": "10.0.0.1", "one.example": "::1", "nat.example": "64:ff9b::a00:1"} {
				n.addr[host] = addr
			}
			n.does(redirectTo("https://10.0.0.1"+path), "next.example")
			n.sends(302, tt.to)
			c := n.client(n.over)
			a := n.approved(c)
			n.good(c, 2)
			n.asked("")
			n.dials = nil
			file := filepath.Join(t.TempDir(), "agent")
			err := c.Save(t.Context(), a, file)
			if err == nil || !strings.Contains(err.Error(), tt.why) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, want %q", err, tt.why)
			}
			for _, r := range n.asked("") {
				if !strings.HasPrefix(r, vendorHost) && !strings.HasPrefix(r, cdnHost) && !strings.HasPrefix(r, "next.example") {
					t.Errorf("asked %q", r)
				}
			}
			if !strings.Contains(name, "a name for") {
				for _, host := range []string{"files.example", "retired.example", "RETIRED.example.", "over.example", "127.0.0.1", "10.0.0.1", "localhost"} {
					if n.dialed(host) {
						t.Errorf("connected to %s", host)
					}
				}
			}
			n.does(nil, cdnHost)
			if err := c.Save(t.Context(), a, file); err != nil {
				t.Error(err)
			}
		})
	}
}

func redirectTo(to string) answer { return header(302, "Location", to) }

// A location in the private network itself may redirect to others there: by address, or
// because its name leads to one.
func TestRedirectWithinAPrivateNetwork(t *testing.T) {
	n := newInternet(t)
	n.addr[vendorHost], n.addr["nas.corp"] = "10.0.0.7", "10.0.0.8"
	n.sends(302, "https://nas.corp/r/targets/1"+targetSuffix)
	if err := refreshAndSave(n.client(n.over), filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Error(err)
	}
	// Over http only if both are on this machine.
	d := newDepot(t, 1, 100)
	other := newDepot(t, 1, 100)
	to := strings.TrimSuffix(other.mirrors[0].url, "r/")
	d.mirrors[0].tell(func(_ int, w http.ResponseWriter, r *http.Request, _ http.HandlerFunc) {
		http.Redirect(w, r, to+strings.TrimPrefix(r.URL.Path, "/"), http.StatusFound)
	})
	d.saves(filepath.Join(t.TempDir(), "agent"))
	if len(other.mirrors[0].asked()) != 1 {
		t.Error("not fetched from there")
	}
}

// Request data for a location is not sent to the destination of a redirect: no cookies,
// no certificate, no Referer. Range and If-Range are.
func TestRedirectCarriesNothing(t *testing.T) {
	n := newInternet(t)
	n.addr["files.example"] = "198.41.0.9"
	n.sends(307, "https://files.example/r/targets/1"+targetSuffix)
	n.does(func(name string, r *http.Request) (*http.Response, error) {
		if r.Header.Get("Range") != "" {
			resp := respond(r, 206, strings.NewReader("agent"))
			resp.Header.Set("Content-Range", "bytes 4-8/9")
			return resp, nil
		}
		resp := respond(r, 200, strings.NewReader("the "))
		resp.Header.Set("Content-Length", "9")
		resp.Header.Set("ETag", `"v1"`)
		resp.Header.Set("Set-Cookie", "c=s3cret")
		return resp, nil
	}, "files.example")
	jar, err := cookiejar.New(nil)
	must(t, err)
	for _, host := range []string{vendorHost, "files.example"} {
		jar.SetCookies(&url.URL{Scheme: "https", Host: host}, []*http.Cookie{{Name: "c", Value: "s3cret"}})
	}
	c := n.client(n.over, func(cfg *client.Config) {
		tr := cfg.HTTP.Transport.(*http.Transport)
		tr.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &n.srv.TLS.Certificates[0], nil
		}
		cfg.HTTP.Jar, cfg.Retries = jar, 1
	})
	a := n.approved(c)
	if err := c.Save(t.Context(), a, filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Fatal(err)
	}
	if n.heads[0].Get("Authorization") == "" || n.heads[0].Get("Cookie") == "" {
		t.Error("the location itself did not receive its headers")
	}
	var there []http.Header
	for _, h := range n.heads {
		if h.Get("Cookie") == "" {
			there = append(there, h)
		}
	}
	if len(there) != 2 || len(n.heads) != 4 {
		t.Fatalf("of %d requests %d are without cookies", len(n.heads), len(there))
	}
	if there[1].Get("Range") != "bytes=4-" || there[1].Get("If-Range") != `"v1"` || there[1].Get("User-Agent") != "visum" || there[1].Get("Accept-Encoding") != "identity" {
		t.Errorf("sent %v", there[1])
	}
	for _, h := range there {
		if h.Get("Referer") != "" || h.Get("Authorization") != "" {
			t.Errorf("sent %v", h)
		}
	}
}

// tunnel implements CONNECT of a forward proxy. The connection is hijacked before the
// answer is sent: the server of net/http still reads from it until then.
func tunnel(w http.ResponseWriter, to string) {
	there, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(there, here); there.Close() }()
	_, _ = io.Copy(here, there)
}

// Behind a proxy, the proxy looks names up and is connected to, wherever it is.
func TestRedirectThroughAProxy(t *testing.T) {
	n := newInternet(t)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		n.dials = append(n.dials, "proxy "+r.Host)
		n.mu.Unlock()
		tunnel(w, n.srv.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)
	to, err := url.Parse(proxy.URL)
	must(t, err)
	behind := func(cfg *client.Config) {
		cfg.HTTP = &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(to), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	}
	n.sends(302, "https://files.example/r/targets/1"+targetSuffix)
	c := n.client(behind)
	if err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent")); err != nil {
		t.Fatal(err)
	}
	if !n.dialed("proxy files.example:443") {
		t.Errorf("the proxy was asked for %q", n.dials)
	}
	n.sends(302, "https://10.0.0.1/r/targets/1"+targetSuffix)
	if err := refreshAndSave(c, filepath.Join(t.TempDir(), "agent")); err == nil || !strings.Contains(err.Error(), "private network") {
		t.Errorf("got %v", err)
	}
}

// A name is looked up before connecting.
func TestPrivateNameIsNotConnectedTo(t *testing.T) {
	dialed := false
	dial := client.PublicOnly(func(context.Context, string, string) (net.Conn, error) {
		dialed = true
		return nil, errDark
	}, true)
	if _, err := dial(t.Context(), "tcp", "localhost:443"); err == nil || errors.Is(err, errDark) || dialed {
		t.Errorf("%v, connected: %v", err, dialed)
	}
	if _, err := dial(t.Context(), "tcp", "198.41.0.4:443"); !errors.Is(err, errDark) {
		t.Error(err)
	}
}

// Metadata is fetched only from the location in the root.
func TestRedirectsOfMetadataAreRefused(t *testing.T) {
	n := newInternet(t)
	n.addr["files.example"] = "198.41.0.9"
	n.does(func(name string, r *http.Request) (*http.Response, error) {
		return header(302, "Location", "https://files.example/r/"+name)(name, r)
	}, vendorHost, cdnHost, reviewHost)
	view := n.bad(n.client(n.over), client.ErrUnreachable)
	if !strings.Contains(view.Err.Error(), "302 Found, which is not followed") || n.dialed("files.example") {
		t.Error(view.Err)
	}
}
