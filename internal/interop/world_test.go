//go:build unix

package interop_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// world is a repository of two parties in a directory, which a web server on this
// machine serves, and a product that follows it.
type world struct {
	t      *testing.T
	dir    string // of the repository
	state  string // of the client
	keys   map[string]tuf.Signer
	repo   *repo.Repo
	ledger signing.Ledger
	pin    []byte
	ca     *authority
	log    *log
}

// newWorld returns a published repository with one release. Each base belongs to
// another operator, the first is the primary; a base that ends in /rdv/ has roots
// only.
func newWorld(t *testing.T, bases ...string) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "repo"), state: t.TempDir(), keys: map[string]tuf.Signer{}, ledger: signing.MemLedger(), ca: newAuthority(t), log: &log{}}
	w.update(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties = []repo.Party{{Name: "vendor", Keys: w.public("vendor")}, {Name: "review", Keys: w.public("review")}}
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.public("timestamp"), w.public("snapshot"), w.public("targets")
		r.Classes = []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: w.public("vendor-agent")}},
			{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: w.public("review-agent")}}}}}
		for i, base := range bases {
			l := tuf.Location{ID: fmt.Sprintf("at-%d", i), Tier: tuf.Primary, Operator: fmt.Sprintf("operator-%d", i),
				Base: base, Metadata: "metadata/", Targets: "targets/", Priority: 10 * (i + 1)}
			if strings.HasSuffix(base, "/rdv/") {
				l.Tier, l.Targets = tuf.Rendezvous, ""
			}
			r.Locations = append(r.Locations, l)
		}
		r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.public("bank")}, {Name: "university", Keys: w.public("university")}},
			Hold: 4 * 24 * time.Hour, MinTicks: 2}
		return nil
	})
	w.release("1.0", []byte("agent 1.0"))
	var err error
	w.pin, err = w.repo.Pin(t.Context())
	noErr(t, err)
	return w
}

// signer returns the key of that name, which signs every update from now on.
func (w *world) signer(name string) tuf.Signer {
	w.keys[name] = repotest.Signer(name)
	return w.keys[name]
}

func (w *world) public(name string) []tuf.Key { return []tuf.Key{w.signer(name).Key()} }

// update edits with every key, including those made in fn.
func (w *world) update(fn func(*repo.Tx) error) {
	w.t.Helper()
	w.publish(func(r *repo.Repo) (*repo.Draft, error) { return r.Stage(w.t.Context(), fn) })
}

func (w *world) publish(stage func(*repo.Repo) (*repo.Draft, error)) {
	w.t.Helper()
	open := func() *repo.Repo {
		cfg := &repo.Config{UnsafeLoopback: true, Ledger: w.ledger}
		for _, s := range w.keys {
			cfg.Signers = append(cfg.Signers, s)
		}
		return repo.New(repo.Folder(w.dir), cfg)
	}
	d, err := stage(open())
	noErr(w.t, err)
	for _, s := range w.keys {
		_ = d.Sign(w.t.Context(), s) // not every key has a role
	}
	w.repo = open()
	noErr(w.t, w.repo.Publish(w.t.Context(), d))
}

// release adds a release as the vendor and approves it.
func (w *world) release(version string, content []byte) {
	w.t.Helper()
	w.update(func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+version, bytes.NewReader(content), &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"})
	})
	w.update(func(tx *repo.Tx) error { return tx.Approve("review", "agent/"+version, nil) })
}

// client makes a product's client, as a new process would.
func (w *world) client(edit func(*client.Config)) *client.Client {
	w.t.Helper()
	cfg := &client.Config{Dir: w.state, HTTP: w.ca.client(w.t, nil), Retries: -1, UnsafeLoopback: true,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if edit != nil {
		edit(cfg)
	}
	c, err := client.New(w.pin, cfg)
	noErr(w.t, err)
	return c
}

var query = client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64"}

// latest refreshes, and checks the latest release.
func (w *world) latest(c *client.Client, version string) (*client.View, client.Release) {
	w.t.Helper()
	view, err := c.Refresh(w.t.Context())
	noErr(w.t, err)
	rel, err := view.Latest(w.t.Context(), query)
	noErr(w.t, err)
	if rel.Version != version {
		w.t.Fatalf("the latest is %s, want %s", rel.Version, version)
	}
	return view, rel
}

// log is a buffer for the log of a client.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// authority certifies the servers on this machine.
type authority struct {
	pool      *x509.CertPool
	cert, key string // PEM, of the server
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	now := time.Now()
	make := func(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		noErr(t, err)
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(now.UnixNano()), now.Add(-time.Hour), now.Add(time.Hour)
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
		noErr(t, err)
		cert, err := x509.ParseCertificate(der)
		noErr(t, err)
		return cert, key
	}
	ca, caKey := make(&x509.Certificate{Subject: pkix.Name{CommonName: "interop test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	cert, key := make(&x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, caKey)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	noErr(t, err)
	a := &authority{pool: x509.NewCertPool()}
	a.pool.AddCert(ca)
	a.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	a.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return a
}

// client trusts only the authority.
func (a *authority) client(t *testing.T, edit func(*http.Transport)) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}, ForceAttemptHTTP2: true, DisableCompression: true}
	if edit != nil {
		edit(tr)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// nginx is a web server for the repository at two ports: the origin, and a cache in
// front of it, like a CDN.
type nginx struct {
	*server
	dir string
}

const nginxConf = `
daemon off; master_process on; worker_processes 1; pid DIR/pid; error_log DIR/error.log;
events { worker_connections 128; }
http {
	log_format tests '$server_port $request_uri $status $body_bytes_sent coding=$sent_http_content_encoding range=$http_range if-range=$http_if_range cache=$upstream_cache_status';
	access_log DIR/access.log tests;
	client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
	types { application/json json; text/html html; }
	default_type application/octet-stream;
	proxy_cache_path DIR/cache keys_zone=all:1m;
	ssl_certificate DIR/cert.pem; ssl_certificate_key DIR/key.pem;
	server {
		listen 127.0.0.1:ORIGIN ssl http2;
		root REPO;
		gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;
		autoindex on;
		SPECIAL
	}
	# On one machine ports stand for hosts: this is another operator's.
	server {
		listen 127.0.0.1:RENDEZVOUS ssl http2;
		gzip on; gzip_types *; gzip_min_length 1;
		location /rdv/ { alias REPO/; }
	}
	server {
		listen 127.0.0.1:CACHE ssl http2;
		location / {
			proxy_pass https://127.0.0.1:ORIGIN;
			proxy_cache all;
			proxy_cache_valid 200 404 1h;
			proxy_cache_bypass $bypass; proxy_no_cache $bypass;
		}
	}
	# The one file that changes is not cached; that a root is absent is.
	map $request_uri $bypass { default 0; ~/timestamp\.json$ 1; }
}
`

// newNginx makes a world that nginx serves. locations receives the bases of the
// origin, of the cache in front of it, and of the rendezvous; special are directives
// of the origin.
func newNginx(t *testing.T, special string, locations func(origin, cache, rdv string) []string) (*world, *nginx) {
	t.Helper()
	t.Parallel()
	path := rawtuf.Program(t, "nginx", "install Debian's nginx-light, or nginx")
	ports := freePorts(t, 3)
	w := newWorld(t, locations("https://127.0.0.1:"+ports[0]+"/", "https://127.0.0.1:"+ports[1]+"/", "https://127.0.0.1:"+ports[2]+"/rdv/")...)
	n := &nginx{dir: t.TempDir()}
	writeFile(t, w.ca.cert, n.dir, "cert.pem")
	writeFile(t, w.ca.key, n.dir, "key.pem")
	conf := strings.NewReplacer("DIR", n.dir, "REPO", w.dir, "ORIGIN", ports[0], "CACHE", ports[1], "RENDEZVOUS", ports[2]).Replace(strings.Replace(nginxConf, "SPECIAL", special, 1))
	if os.Getuid() == 0 {
		conf = "user root;" + conf // other users can't read test directories
	}
	n.server = run(t, ports[0], path, "-c", writeFile(t, conf, n.dir, "nginx.conf"), "-e", filepath.Join(n.dir, "error.log"))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("requests:\n%s\nclient:\n%s", strings.Join(n.requests(), "\n"), w.log)
		}
	})
	return w, n
}

// The origin has everything; roots alone are also at the rendezvous.
func origin(origin, _, rdv string) []string { return []string{origin, rdv} }
