package client_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// overTLS serves the web's repository on loopback with a certificate that is valid
// between two times, and makes the repository list it. to is between the client and the
// server unless nil.
func (w *web) overTLS(from, until time.Time, h2 bool, to func(address string) string) (trust func(*client.Client)) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(w.t, err)
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	must(w.t, err)
	cert, err := x509.ParseCertificate(der)
	must(w.t, err)
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		w.mu.Lock()
		data, ok := fileOf(w.repo, name)
		w.requests = append(w.requests, "tls "+name)
		if ok && w.content != "" && strings.HasPrefix(name, "targets/") {
			data = []byte(w.content)
		}
		w.mu.Unlock()
		if !ok {
			http.NotFound(rw, r)
			return
		}
		http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(string(data)))
	}))
	ts.EnableHTTP2 = h2
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	ts.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	ts.StartTLS()
	w.t.Cleanup(ts.Close)
	address := strings.TrimPrefix(ts.URL, "https://")
	if to != nil {
		address = to(address)
	}
	locations(w.repo, func(id string, l rawtuf.Doc) { l["base"] = baseOf(id, "https://"+address) })
	w.repo.PublishRoot()
	w.repo.Publish()
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return func(c *client.Client) { client.TransportOf(c).TLSClientConfig.RootCAs = pool }
}

// Certificates are verified at the same time as everything else: Config.Now, or that of
// the newest root if it is later. A device without a battery boots in 1970, and can
// update nevertheless.
func TestCertificatesInTheClientsTime(t *testing.T) {
	day := 24 * time.Hour
	signed := rawtuf.Now
	for name, tt := range map[string]struct {
		now         time.Time
		from, until time.Time
		good        bool
	}{
		"Now years ahead of the system":         {rawtuf.Now, rawtuf.Now.Add(-day), rawtuf.Now.Add(day), true},
		"1970":                                  {time.Unix(0, 0), signed.Add(-day), signed.Add(day), true},
		"2010":                                  {time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), signed.Add(-day), signed.Add(day), true},
		"1970, and the certificate has expired": {time.Unix(0, 0), time.Unix(0, 0).Add(-day), signed.Add(-day), false},
		"1970, and the certificate is not valid yet": {time.Unix(0, 0), signed.Add(day), signed.Add(2 * day), false},
		"the certificate has expired":                {rawtuf.Now, rawtuf.Now.Add(-2 * day), rawtuf.Now.Add(-day), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWeb(t, func(r *rawtuf.Repo) { r.Charter()["signed_at"] = rawtuf.Stamp(signed) })
			w.now = tt.now
			trust := w.overTLS(tt.from, tt.until, true, nil)
			c := w.client(overSockets)
			trust(c)
			if tt.good {
				w.good(c, 1)
				return
			}
			if view := w.bad(c, client.ErrUnreachable); !strings.Contains(view.Err.Error(), "certificate has expired or is not yet valid") {
				t.Error(view.Err)
			}
		})
	}
}

// The time of a root from an earlier process counts from the first connection on, and
// that of a root in this refresh from then on.
func TestCertificatesInTheTimeOfANewRoot(t *testing.T) {
	old := rawtuf.Now.AddDate(-1, 0, 0)
	w := newWeb(t, func(r *rawtuf.Repo) { r.Charter()["signed_at"] = rawtuf.Stamp(old) })
	w.now = time.Unix(0, 0)
	trust := w.overTLS(rawtuf.Now.Add(-time.Hour), rawtuf.Now.Add(time.Hour), false, nil)
	pin := w.pin()
	w.repo.NextRoot(func() { w.repo.Charter()["signed_at"] = rawtuf.Stamp(rawtuf.Now) })
	w.repo.Publish()
	build := func(sources ...client.Source) *client.Client {
		cfg := &client.Config{Retries: -1, Dir: w.dir, UnsafeLoopback: true, Sources: sources, Now: func() time.Time { return w.now }}
		c, err := client.New(pin, cfg)
		must(t, err)
		trust(c)
		return c
	}
	w.bad(build(), client.ErrUnreachable)
	stick := client.FSSource(fstest.MapFS{"metadata/2.root.json": {Data: w.repo.Files["2.root.json"]}})
	w.good(build(stick), 2)
	if got := w.asked("tls"); !slices.Contains(got, "metadata/3.root.json") {
		t.Errorf("the locations were asked for %q", got)
	}
	w.good(build(), 2)
}

// middlebox forwards connections. The first that transfers more than limit bytes stalls
// forever, as if its state had been lost; all others work.
func middlebox(t *testing.T, limit int64) func(string) string {
	return func(to string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		var frozen atomic.Bool
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				up, err := net.Dial("tcp", to)
				if err != nil {
					c.Close()
					continue
				}
				var dead atomic.Bool
				pump := func(to io.WriteCloser, from io.Reader, counts bool) {
					buf, total := make([]byte, 16<<10), int64(0)
					for {
						n, err := from.Read(buf)
						if err != nil {
							if !dead.Load() {
								to.Close()
							}
							return
						}
						if total += int64(n); counts && total > limit && !frozen.Swap(true) {
							dead.Store(true)
						}
						if !dead.Load() {
							_, _ = to.Write(buf[:n])
						}
					}
				}
				go pump(up, c, false)
				go pump(c, up, true)
			}
		}()
		return l.Addr().String()
	}
}

// A stalled transfer is not retried over the same connection, which with HTTP/2 looks
// alive as long as it is not tested.
func TestStalledConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", h2), func(t *testing.T) {
			t.Parallel()
			w := newWeb(t)
			content := string(noise(mib))
			w.content = content
			w.repo.AddTarget(rawtuf.Path, content, nil, "vendor-agent", "review-agent")
			trust := w.overTLS(rawtuf.Now.Add(-time.Hour), rawtuf.Now.Add(time.Hour), h2, middlebox(t, mib/2))
			c := w.client(overSockets, func(cfg *client.Config) { cfg.Retries, cfg.IdleTimeout = 1, time.Second })
			trust(c)
			a := w.approved(c)
			file := filepath.Join(t.TempDir(), "agent")
			if err := c.Save(t.Context(), a, file); err != nil {
				t.Fatal(err)
			}
			if size(t, file) != mib {
				t.Error("not whole")
			}
		})
	}
}
