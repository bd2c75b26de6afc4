package client_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// secure serves the web over TLS and HTTP/2 with a certificate for all hosts of the
// repository, and returns the file with its issuer. seen is called for each request.
func (w *web) secure(seen func(*http.Request)) (ts *httptest.Server, issuer string) {
	pub, key, err := ed25519.GenerateKey(nil)
	must(w.t, err)
	form := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: rawtuf.Now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{vendorHost, cdnHost, reviewHost}}
	cert, err := x509.CreateCertificate(nil, form, form, pub, key)
	must(w.t, err)
	issuer = filepath.Join(w.t.TempDir(), "ca.pem")
	mustWrite(w.t, issuer, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	ts = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen(r)
		data, ok := fileOf(w.repo, strings.TrimPrefix(r.URL.Path, "/r/"))
		if !ok {
			http.NotFound(rw, r)
			return
		}
		rw.Write(data)
	}))
	ts.EnableHTTP2 = true
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	ts.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
	ts.StartTLS()
	w.t.Cleanup(ts.Close)
	return ts, issuer
}

// proxyTo is a forward proxy that requires a password and connects every host to one
// server.
func proxyTo(t *testing.T, to, user string, seen func(host string)) string {
	ps := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen(r.Method + " " + r.Host)
		given, password, _ := (&http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}).BasicAuth()
		if given+":"+password != user {
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		tunnel(w, to)
	}))
	t.Cleanup(ps.Close)
	return strings.TrimPrefix(ps.URL, "http://")
}

// A product as deployed, without a test transport: the system's proxy with a password,
// real TLS, HTTP/2. Only the proxy looks names up. Logs and errors contain no secrets:
// not the proxy's password, and not the rollout seed, which no request contains either.
// Without Config.Log nothing is logged.
func TestProductBehindAProxy(t *testing.T) {
	w := newWeb(t)
	var mu sync.Mutex
	var hosts []string
	var requests bytes.Buffer
	ts, issuer := w.secure(func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Proto != "HTTP/2.0" {
			t.Errorf("asked by %s", r.Proto)
		}
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the password of the proxy reached a location")
		}
		_ = r.Write(&requests)
	})
	proxy := proxyTo(t, strings.TrimPrefix(ts.URL, "https://"), "user:s3cret", func(host string) {
		mu.Lock()
		defer mu.Unlock()
		hosts = append(hosts, host)
	})
	run := func(user string, more ...string) (string, error) {
		cmd := w.process(1)
		cmd.Env = append(slices.DeleteFunc(cmd.Env, func(s string) bool { return strings.HasSuffix(strings.ToLower(strings.SplitN(s, "=", 2)[0]), "_proxy") }),
			"HTTPS_PROXY=http://"+user+"@"+proxy, "SSL_CERT_FILE="+issuer, "SSL_CERT_DIR="+t.TempDir())
		cmd.Env = append(cmd.Env, more...)
		out, err := cmd.CombinedOutput()
		if _, exit := err.(*exec.ExitError); err != nil && !exit {
			t.Fatal(err)
		}
		return string(out), err
	}
	if out, err := run("user:s3cret"); err != nil || out != "" {
		t.Fatalf("%v, output %q", err, out)
	}
	if got, err := os.ReadFile(filepath.Join(w.dir, "agent")); err != nil || string(got) != "the agent" {
		t.Fatalf("%q, %v", got, err)
	}
	mu.Lock()
	// Everything went through the proxy; the walk decides which operator is asked
	// second.
	for _, host := range hosts {
		if !slices.Contains([]string{"CONNECT " + cdnHost + ":443", "CONNECT " + vendorHost + ":443", "CONNECT " + reviewHost + ":443"}, host) {
			t.Errorf("the proxy was asked for %q", host)
		}
	}
	if len(hosts) < 2 {
		t.Errorf("the proxy was asked for %q", hosts)
	}
	mu.Unlock()

	data, err := os.ReadFile(w.state("state.json"))
	must(t, err)
	var state struct{ State struct{ Dice string } }
	must(t, json.Unmarshal(data, &state))
	if len(state.State.Dice) != 32 {
		t.Fatalf("%s", data)
	}
	must(t, os.Remove(filepath.Join(w.dir, "agent")))
	w.repo.NextRoot(nothing)
	good, err := run("user:s3cret", "VISUM_TEST_LOG=1")
	if err != nil || !strings.Contains(good, "level=INFO msg=saved") || !strings.Contains(good, "new root") {
		t.Errorf("%v, logs %s", err, good)
	}
	bad, err := run("user:wrong-s3cret", "VISUM_TEST_LOG=1")
	if err == nil || !strings.Contains(bad, "Proxy Authentication Required") {
		t.Errorf("%v, logs %s", err, bad)
	}
	if requests.Len() == 0 {
		t.Error("no requests seen")
	}
	for what, text := range map[string]string{"log": good + bad, "requests": requests.String()} {
		for _, secret := range []string{"s3cret", state.State.Dice, "czNjcmV0", "dXNlc"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s: %q is in it", what, secret)
			}
		}
	}
	// A location with an untrusted certificate is not used.
	if out, err := run("user:s3cret", "SSL_CERT_FILE="+os.DevNull); err == nil || !strings.Contains(out, "certificate") {
		t.Errorf("%v, %s", err, out)
	}
}
