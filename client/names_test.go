package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// authority is a certificate authority of the test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: rawtuf.Now.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key, pool: x509.NewCertPool()}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for hosts.
func (a *authority) issue(t *testing.T, hosts ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: rawtuf.Now.AddDate(1, 0, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// named serves the web of a move on loopback, with DNS names and TLS. Each host has its
// own address in the DNS, and a listener that counts connections.
type named struct {
	*move
	ca    *authority
	names *nameServer

	mu    sync.Mutex
	ports map[string]string // by address: the port where the host listens
	dials map[string]int    // by address
}

func newNamed(t *testing.T) *named {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &named{move: newMove(t, orders[0]), ca: newAuthority(t), names: serveNames(t, conn), ports: map[string]string{}, dials: map[string]int{}}
	n.pinAt = 2 // the pin lists all three
	for addr, host := range addresses {
		n.host(addr, n.ca, host, func(rw http.ResponseWriter, r *http.Request) {
			r.URL.Host = host
			resp, err := n.web.RoundTrip(r)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			rw.WriteHeader(resp.StatusCode)
			io.Copy(rw, resp.Body)
		})
		n.names.points(addr, host)
	}
	n.config = func(c *client.Config) {
		tr := &http.Transport{DialContext: n.dial, TLSClientConfig: &tls.Config{RootCAs: n.ca.pool}, DisableKeepAlives: true}
		c.HTTP, c.MetadataTimeout = &http.Client{Transport: tr}, 20*time.Second
	}
	return n
}

// addresses of the three locations.
var addresses = map[string]string{"192.0.2.1": hostA, "192.0.2.2": hostB, "192.0.2.3": hostZ}

// host listens for an address.
func (n *named) host(addr string, ca *authority, name string, h http.HandlerFunc) {
	srv := httptest.NewUnstartedServer(h)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(n.t, name)}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	n.t.Cleanup(srv.Close)
	n.ports[addr] = srv.Listener.Addr().String()
}

// dial looks the name up as a machine does, and connects to the listener of its
// address.
func (n *named) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", n.names.conn.LocalAddr().String())
	}}
	ips, err := r.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return nil, err
	}
	ip := ips[0].Unmap().String()
	n.mu.Lock()
	n.dials[ip]++
	to := n.ports[ip]
	n.mu.Unlock()
	if to == "" {
		to = "0.0.0.0:1" // nothing listens there
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// dialed returns how often an address was connected to since the last call.
func (n *named) dialed(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := n.dials[addr]
	n.dials = map[string]int{}
	return count
}

// finds requires that the refresh of a new process ends at a root.
func (n *named) finds(root int64, want error) {
	n.t.Helper()
	view, err := refreshed(n.t, n.product(n.store))
	if view.Root().Version() != root || !errors.Is(err, want) {
		n.t.Fatalf("want root v%d and %v: %v", root, want, err)
	}
}

// A move as a machine sees it, with names, certificates and sockets. A retired host is
// never contacted, and its name is not even looked up, although the pin lists it and
// everything else is unreachable. Whatever happens to the names, nothing is lost, and
// the client recovers.
func TestNames(t *testing.T) {
	t.Parallel()
	n := newNamed(t)
	n.serve(1)
	n.finds(1, nil)
	if n.dialed("192.0.2.1") == 0 || n.names.queries(hostA) == 0 {
		t.Fatal("the old location was not asked while it is listed")
	}
	n.serve(2)
	n.finds(2, nil)
	// The old location's name is deleted.
	n.names.mu.Lock()
	delete(n.names.hosts, hostA)
	n.names.mu.Unlock()
	n.serve(3)
	n.finds(3, nil)
	n.serve(4)
	n.names.points("192.0.2.1", hostA)
	n.finds(4, nil)

	n.dialed("")
	n.names.queries("")
	n.finds(4, nil)
	n.does(unreachable, hostB, hostZ)
	evil(n.move)
	n.finds(4, client.ErrUnreachable)
	if dials, queries := n.dialed("192.0.2.1"), n.names.queries(hostA); dials > 0 || queries > 0 {
		t.Errorf("the retired location: %d connections, its name was looked up %d times", dials, queries)
	}
	n.does(nil, hostB, hostZ)

	// Malware modified the hosts file.
	n.names.points("0.0.0.0", hostA, hostB, hostZ)
	n.finds(4, client.ErrUnreachable)
	with := n.config
	newer := n.at[4].Clone()
	newer.NextRoot(nothing)
	renew(newer)
	n.config = func(c *client.Config) { with(c); c.Sources = []client.Source{handed(newer)} }
	n.finds(5, nil)
	n.config = with

	// A middlebox intercepts all names; its certificate is not trusted.
	n.host("192.0.2.66", newAuthority(t), hostB, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://portal.example/", http.StatusFound)
	})
	n.names.points("192.0.2.66", hostB, hostZ)
	n.finds(5, client.ErrUnreachable)
	if n.dialed("192.0.2.66") == 0 {
		t.Error("the middlebox was not contacted")
	}
	// A middlebox whose certificate the machine trusts.
	n.host("192.0.2.67", n.ca, hostB, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "https://"+hostA+"/", http.StatusFound)
	})
	n.names.points("192.0.2.67", hostB, hostZ)
	n.names.queries("")
	n.finds(5, client.ErrUnreachable)
	if q := n.names.queries(hostA); q > 0 {
		t.Error("a redirect was followed")
	}

	n.names.points("192.0.2.2", hostB)
	n.names.points("192.0.2.3", hostZ)
	n.shows(newer, hostB, hostZ)
	n.finds(5, nil)

	// The name server is down.
	n.names.conn.Close()
	n.finds(5, client.ErrUnreachable)
}
