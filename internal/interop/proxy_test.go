//go:build unix

package interop_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// newProxy starts a forward proxy that requires a password.
func newProxy(t *testing.T) (port string) {
	t.Helper()
	path := rawtuf.Program(t, "tinyproxy", "install Debian's tinyproxy")
	dir := t.TempDir()
	port = freePorts(t, 1)[0]
	conf := "Port " + port + "\nListen 127.0.0.1\nBasicAuth alice s3cr3tword\nMaxClients 50\nTimeout 60\nLogLevel Info\n"
	run(t, port, path, "-d", "-c", writeFile(t, conf, dir, "tinyproxy.conf"))
	return port
}

// through is a configuration that uses the proxy. (Go ignores the proxies of the
// environment for this machine, so the proxy is set in code.)
func (w *world) through(port, user, password string) func(*client.Config) {
	return func(cfg *client.Config) {
		u := &url.URL{Scheme: "http", Host: "127.0.0.1:" + port}
		if user != "" {
			u.User = url.UserPassword(user, password)
		}
		cfg.HTTP = w.ca.client(w.t, func(tr *http.Transport) { tr.Proxy = http.ProxyURL(u) })
	}
}

// All requests pass through a proxy with the right password, and none with a wrong one
// or without one. No password appears in the log or an error.
func TestProxy(t *testing.T) {
	w, n := newNginx(t, "", origin)
	port := newProxy(t)
	const secret = "s3cr3tword"
	c := w.client(w.through(port, "alice", secret))
	_, rel := w.latest(c, "1.0")
	file := filepath.Join(t.TempDir(), "agent")
	w.save(c, rel, file, []byte("agent 1.0"))
	w.release("1.1", []byte("agent 1.1"))
	_, next := w.latest(c, "1.1")

	var told strings.Builder
	before := len(n.requests())
	for _, who := range [][2]string{{"alice", "wr0ngword"}, {"mallory", secret}, {"", ""}} {
		c := w.client(w.through(port, who[0], who[1]))
		_, err := c.Refresh(t.Context())
		failed, ok := errors.AsType[*client.RefreshError](err)
		if !errors.Is(err, client.ErrUnreachable) || !ok || failed.Root.Version() != 1 || !strings.Contains(err.Error(), "Unauthorized") && !strings.Contains(err.Error(), "Proxy Authentication Required") {
			t.Errorf("%s: %v", who, err)
		}
		told.WriteString(err.Error())
		err = c.Save(t.Context(), next.Approved, file)
		if err == nil {
			t.Errorf("%s saved", who)
			continue
		}
		told.WriteString(err.Error())
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "agent 1.0" {
		t.Errorf("%q, %v", got, err)
	}
	if after := len(n.requests()); after != before {
		t.Errorf("%d requests got to the server", after-before)
	}
	told.WriteString(w.log.String())
	for _, s := range []string{secret, "wr0ngword", base64.StdEncoding.EncodeToString([]byte("alice:" + secret)), base64.StdEncoding.EncodeToString([]byte("alice:wr0ngword")), "Basic"} {
		if strings.Contains(told.String(), s) {
			t.Errorf("%q is told:\n%s", s, told.String())
		}
	}
	if !strings.Contains(w.log.String(), "saved") {
		t.Error("the log is empty")
	}
	w.save(c, next, file, []byte("agent 1.1"))
}

// A proxy that is missing, or dies, is not reported as a faulty location.
func TestProxyGone(t *testing.T) {
	w, _ := newNginx(t, "", origin)
	c := w.client(w.through(freePorts(t, 1)[0], "alice", "s3cr3tword"))
	_, err := c.Refresh(t.Context())
	if !errors.Is(err, client.ErrUnreachable) || !strings.Contains(err.Error(), "proxyconnect") || strings.Contains(err.Error(), "s3cr3tword") {
		t.Errorf("%v", err)
	}
	w.latest(w.client(nil), "1.0")
}
