package relocate_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// site is an HTTPS server that serves a location correctly unless it has a fault.
type site struct {
	*httptest.Server
	files repo.Storage
	roots bool // serves roots only
	fault atomic.Pointer[fault]
}

// fault answers a request and returns true, or returns false to serve it.
type fault func(w http.ResponseWriter, r *http.Request, name string) bool

func newSite(t *testing.T, files repo.Storage, roots bool, cert tls.Certificate) *site {
	s := &site{files: files, roots: roots}
	s.Server = httptest.NewUnstartedServer(s)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes fail on purpose
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if f := s.fault.Load(); f != nil && (*f)(w, r, name) {
		return
	}
	data, err := s.files.Read(r.Context(), name)
	if err != nil || s.roots && !strings.HasSuffix(name, ".root.json") && !strings.HasPrefix(name, "metadata/recovery/") {
		w.Header().Set("Cache-Control", "max-age=30")
		http.NotFound(w, r)
		return
	}
	if name == "metadata/timestamp.json" && w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "max-age=30")
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", path.Base(name)))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// authority is a test CA.
type authority struct {
	t    *testing.T
	key  ed25519.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T, now time.Time) *authority {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	rawtuf.NoErr(t, err)
	a := &authority{t: t, key: key, pool: x509.NewCertPool(), cert: &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.AddDate(-1, 0, 0),
		NotAfter: now.AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	rawtuf.NoErr(t, err)
	a.cert, err = x509.ParseCertificate(der)
	rawtuf.NoErr(t, err)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) issue(until time.Time) tls.Certificate {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	rawtuf.NoErr(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: a.cert.NotBefore, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, a.cert, pub, a.key)
	rawtuf.NoErr(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// network is a world with a server for each location.
type network struct {
	*repotest.Moving
	a, b, z *site
	ca      *authority
	http    *http.Client
}

func newNetwork(t *testing.T, change ...func(*repo.Root)) *network {
	n := &network{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n.ca = newAuthority(t, now)
	store := &lazy{}
	cert := n.ca.issue(now.AddDate(2, 0, 0))
	n.a, n.b, n.z = newSite(t, store, false, cert), newSite(t, store, false, cert), newSite(t, store, true, cert)
	places := func(r *repo.Root) { r.Locations[0].Base, r.Locations[1].Base = n.a.URL+"/", n.z.URL+"/" }
	n.Moving = repotest.NewMoving(t, append(change, places)...)
	store.Storage = n.Store
	n.Move.To[0].Base = n.b.URL + "/"
	n.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.ca.pool, Time: func() time.Time { return n.Now }}}}
	t.Cleanup(n.http.CloseIdleConnections)
	return n
}

type lazy struct{ repo.Storage }

// preflight checks a draft, or without one the published repository.
func (n *network) preflight(d *repo.Draft) *relocate.Report {
	n.T.Helper()
	p := &relocate.Preflight{Repo: n.Repo(), Storage: n.Store, Draft: d, Move: n.Move, HTTP: n.http}
	r, err := p.Run(context.Background())
	rawtuf.NoErr(n.T, err)
	return r
}

// grave returns the errors and warnings without the authority analysis, which is always the same
// here and has its own test.
func grave(r *relocate.Report) (out []string) {
	for _, f := range r.Findings {
		if f.Level != relocate.LevelNote && f.Check != "losses" && f.Check != "locations" {
			out = append(out, f.String())
		}
	}
	return out
}

func status(code int, body string, header ...string) fault {
	return func(w http.ResponseWriter, r *http.Request, name string) bool {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// to redirects to the same name elsewhere.
func to(base string) fault {
	return func(w http.ResponseWriter, r *http.Request, name string) bool {
		return status(302, "", "Location", base+"/"+name)(w, r, name)
	}
}

func on(part string, f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, name string) bool {
		return strings.Contains(name, part) && f(w, r, name)
	}
}

// missing applies the fault to files that do not exist.
func (n *network) missing(f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, name string) bool {
		_, err := n.Store.Read(r.Context(), name)
		return err != nil && f(w, r, name)
	}
}

func header(name, value string) fault {
	return func(w http.ResponseWriter, r *http.Request, _ string) bool {
		w.Header().Set(name, value)
		return false
	}
}

// Each fault of a location is reported by its name, and no longer after it is fixed.
func TestPreflightFindsEachFault(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.Announce()
	n.Now = n.Move.Dates.CutOver
	n.Refresh(repotest.OldKeys...)
	d, err := n.Move.CutOver(t.Context(), n.Repo(repotest.NewKeys...))
	rawtuf.NoErr(t, err)
	if got := grave(n.preflight(d)); len(got) > 0 {
		t.Fatalf("before: %q", got)
	}
	garbled := func(w http.ResponseWriter, r *http.Request, name string) bool {
		data, err := n.Store.Read(r.Context(), name)
		if err != nil {
			return false
		}
		w.Header().Set("ETag", `"x"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bytes.ToUpper(data)))
		return true
	}
	partial := func(contentRange string, cut int) fault {
		return on("targets/", func(w http.ResponseWriter, r *http.Request, name string) bool {
			data, err := n.Store.Read(r.Context(), name)
			if r.Header.Get("Range") == "" || err != nil {
				return false
			}
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(data[cut:])
			return true
		})
	}
	for _, x := range []struct {
		name  string
		at    *site
		fault fault
		want  []string
	}{
		{"redirect", n.b, status(302, "", "Location", "/elsewhere"), []string{"error: b: redirect: the server redirects metadata (status 302): clients do not follow"}},
		{"redirect to a page for a missing file", n.z, n.missing(status(307, "", "Location", "/")), []string{"error: z: redirect: metadata/1000002.root.json does not exist, but the server redirects (status 307)", "error: z: redirect: metadata/preflight-"}},
		{"soft 404", n.b, n.missing(status(200, "<html>not found")), []string{"error: b: absent: metadata/1000002.root.json does not exist, but the server answers 200 and \"<html>not found\" (soft 404)",
			"error: b: absent: metadata/preflight-", "error: b: absent: targets/preflight-", "error: b: absent: the server has metadata/3.root.json, which is not published"}},
		{"500 for a missing file", n.a, n.missing(status(500, "")), []string{"error: a: absent: metadata/1000002.root.json does not exist, but the server answers status 500: clients treat the location as unreachable", "error: a: absent", "error: a: absent"}},
		{"403 for a missing file", n.a, n.missing(status(403, "", "Cache-Control", "no-store")), nil},
		{"410 for a missing file", n.a, n.missing(status(410, "", "Cache-Control", "no-store")), nil},
		{"negative caching by max-age", n.z, n.missing(status(404, "", "Cache-Control", "public, max-age=3600")), []string{"error: z: negative-cache: caches may keep the answer that there is no metadata/3.root.json for 1h0m0s, want at most 5m0s"}},
		{"negative caching by s-maxage", n.z, n.missing(status(404, "", "Cache-Control", "max-age=0, s-maxage=86400")), []string{"error: z: negative-cache: "}},
		{"negative caching by Expires", n.z, n.missing(status(404, "", "Date", "Mon, 02 Mar 2026 10:00:00 GMT", "Expires", "Mon, 02 Mar 2026 12:00:00 GMT")), []string{"error: z: negative-cache: "}},
		{"a cache in front", n.b, n.missing(status(404, "", "Age", "40", "Cache-Control", "max-age=60")), []string{"warning: b: negative-cache: a cache in front of the location served the answer that there is no metadata/3.root.json, 40s old"}},
		{"an old entry of a cache", n.b, n.missing(status(404, "", "Age", "4000")), []string{"error: b: negative-cache: a cache in front of the location served the answer that there is no metadata/3.root.json, 1h6m40s old"}},
		{"a cached 404 of a published file", n.z, on("2.root.json", status(404, "", "Age", "120")), []string{"error: z: roots: 1 of 2 roots differ from the published ones: metadata/2.root.json: status 404 from a cache, 120 s old"}},
		{"timestamp kept by caches", n.a, on("timestamp", header("Cache-Control", "max-age=7200")), []string{"error: a: cache: caches may keep metadata/timestamp.json for 2h0m0s, want at most 5m0s"}},
		{"old timestamp", n.a, on("timestamp", status(200, "{}", "Age", "7200")), []string{"error: a: cache: a cache in front of the location served metadata/timestamp.json, 2h0m0s old", "error: a: parity: 1 files differ from the published ones: metadata/timestamp.json: other bytes"}},
		{"a root is missing", n.z, on("/1.root.json", status(404, "")), []string{"error: z: roots: 1 of 2 roots differ from the published ones: metadata/1.root.json: status 404"}},
		{"a different root", n.b, on("/2.root.json", garbled), []string{"error: b: roots: 1 of 2 roots differ from the published ones: metadata/2.root.json: other bytes"}},
		{"a role is missing", n.b, on("review-agent", status(404, "")), []string{"error: b: parity: 1 files differ from the published ones: metadata/"}},
		{"a target is missing", n.b, on("targets/agent/", n.existing(status(404, ""))), []string{"error: b: parity: 1 files differ from the published ones: targets/agent/"}},
		{"a target has other bytes", n.b, on("targets/agent/", garbled), []string{"error: b: parity: 1 files differ from the published ones: targets/agent/", "error: b: ranges: the bytes of a range differ from the file"}},
		{"a target with Content-Encoding", n.b, on("targets/agent/", func(w http.ResponseWriter, r *http.Request, name string) bool {
			w.Header().Set("Content-Encoding", "br")
			return garbled(w, r, name)
		}), []string{"error: b: parity: 1 files differ from the published ones: targets/agent/", "error: b: ranges: the bytes of a range differ from the file"}},
		{"a wrong Content-Encoding", n.b, on("targets/agent/", header("Content-Encoding", "br")), nil},
		{"targets redirected", n.b, on("targets/", to(n.a.URL)), []string{"warning: b: redirect: targets are redirected to \"" + strings.TrimPrefix(n.a.URL, "https://") + "\", which the charter does not list"}},
		{"targets redirected on the same host", n.b, on("targets/agent/", func(w http.ResponseWriter, r *http.Request, name string) bool {
			return r.URL.RawQuery == "" && status(302, "", "Location", "?again=1")(w, r, name)
		}), nil},
		{"targets redirected without end", n.b, on("targets/agent/", n.existing(to(n.b.URL))), []string{"error: b: parity: 1 files differ from the published ones: targets/agent/", "error: b: ranges: targets/agent/"}},
		{"targets redirected without TLS", n.b, on("targets/agent/", n.existing(to("http://updates.example"))), []string{"error: b: parity: 1 files differ from the published ones: targets/agent/", "error: b: ranges: targets/agent/"}},
		{"metadata redirected", n.b, on("metadata/timestamp.json", to(n.a.URL)), []string{"error: b: parity: 1 files differ from the published ones: metadata/timestamp.json: status 302"}},
		{"no ranges", n.a, on("targets/agent/", func(_ http.ResponseWriter, r *http.Request, _ string) bool { r.Header.Del("Range"); return false }), []string{"warning: a: ranges: the server ignores Range: an interrupted download starts again"}},
		{"wrong Content-Range", n.a, partial("bytes 0-4/9", 4), []string{`error: a: ranges: Content-Range is "bytes 0-4/9", must be "bytes 4-8/9"`}},
		{"wrong range", n.a, partial("bytes 4-8/9", 3), []string{"error: a: ranges: the bytes of a range differ from the file"}},
		{"If-Range is ignored", n.a, on("targets/agent/", func(_ http.ResponseWriter, r *http.Request, _ string) bool { r.Header.Del("If-Range"); return false }), []string{"error: a: ranges: the server answers If-Range with another ETag with status 206: it must send the whole file"}},
		{"ranges are refused", n.a, on("targets/agent/", func(w http.ResponseWriter, r *http.Request, name string) bool {
			return r.Header.Get("Range") != "" && status(416, "")(w, r, name)
		}), []string{"error: a: ranges: the server answers a Range with status 416"}},
		{"the connection breaks", n.b, func(http.ResponseWriter, *http.Request, string) bool { panic(http.ErrAbortHandler) }, []string{"error: b: reach: unreachable: EOF"}},
	} {
		x.at.fault.Store(&x.fault)
		got := grave(n.preflight(d))
		if len(got) != len(x.want) || slices.ContainsFunc(x.want, func(w string) bool {
			return !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
		}) {
			t.Errorf("%s: found %q, want %q", x.name, got, x.want)
		}
		x.at.fault.Store(nil)
		if got := grave(n.preflight(d)); len(got) > 0 {
			t.Errorf("%s: still reported after the fix: %q", x.name, got)
		}
	}
}

// existing applies the fault to files that exist.
func (n *network) existing(f fault) fault {
	return func(w http.ResponseWriter, r *http.Request, name string) bool {
		_, err := n.Store.Read(r.Context(), name)
		return err == nil && f(w, r, name)
	}
}

func TestPreflightCertificates(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.Now = n.Move.Dates.Announce
	n.Refresh(repotest.OldKeys...)
	move := n.Move.To[0]
	for name, x := range map[string]struct {
		cert tls.Certificate
		want string
	}{
		"valid for long":       {n.ca.issue(n.Now.AddDate(1, 0, 0)), ""},
		"expires soon":         {n.ca.issue(n.Now.Add(10 * repotest.Day)), "warning: b: tls: the certificate is valid until 2026-03-12T12:00:00Z, 10 days from now"},
		"expired":              {n.ca.issue(n.Now.Add(-time.Hour)), "error: b: tls: invalid certificate: "},
		"of another authority": {newAuthority(t, n.Now).issue(n.Now.AddDate(1, 0, 0)), "error: b: tls: invalid certificate: "},
	} {
		b := newSite(t, n.Store, false, x.cert)
		move.Base = b.URL + "/"
		n.Move.To[0] = move
		got := grave(n.preflight(nil))
		if x.want == "" && len(got) > 0 || x.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], x.want)) {
			t.Errorf("%s: found %q, want %q", name, got, x.want)
		}
	}
	// Without HTTP no location is probed.
	r, err := (&relocate.Preflight{Repo: n.Repo(), Storage: n.Store, Move: n.Move}).Run(t.Context())
	if err != nil || r.Err() != nil || slices.ContainsFunc(r.Findings, func(f relocate.Finding) bool { return f.Host != "" }) {
		t.Errorf("%v %v", r, err)
	}
}

// A retired location with content, or without a root, is reported; a roots-only copy is not.
func TestPreflightOfRootsOnlyCopies(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	was := n.Tip().Charter().Locations()[0]
	n.Announce()
	n.CutOver()
	n.Retire()
	n.Refresh(repotest.NewKeys...)
	look := func() []string {
		r, err := (&relocate.Preflight{Repo: n.Repo(), Storage: n.Store, RootsOnly: []tuf.Location{was}, HTTP: n.http}).Run(t.Context())
		rawtuf.NoErr(t, err)
		return grave(r)
	}
	if got := look(); len(got) != 1 || got[0] != "error: a: roots-only: the server answers status 200 for metadata/timestamp.json: a retired location must serve roots only" {
		t.Errorf("found %q", got)
	}
	stone := storage.Overlay(nil)
	n.a.files = stone
	if got := look(); len(got) != 1 || !strings.HasPrefix(got[0], "error: a: roots: 4 of 4 roots differ from the published ones: ") || !strings.HasSuffix(got[0], "; and 1 more") {
		t.Errorf("found %q", got)
	}
	rawtuf.NoErr(t, relocate.PublishRootsOnly(t.Context(), n.Repo(), stone))
	if got := look(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	// A redirect to a retired location is not followed, as by clients.
	f := on("targets/agent/", to(n.a.URL))
	n.b.fault.Store(&f)
	got := look()
	if len(got) != 2 || !strings.Contains(got[0], "error: b: parity: 1 files differ from the published ones: targets/agent/") || !strings.Contains(got[0], ", that is retired or past its use_until: clients do not follow") {
		t.Errorf("found %q", got)
	}
	n.b.fault.Store(nil)
	if got := look(); len(got) > 0 {
		t.Errorf("after the fix: found %q", got)
	}
}

// Faults of the root itself are found without a network.
func TestPreflightOfRoots(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change func(w *repotest.Moving, root *repo.Root)
		later  func(w *repotest.Moving) // after the draft was staged
		want   []string
	}{
		"no fault": {},
		"released meanwhile": {later: func(w *repotest.Moving) { w.Release("1.1", slices.Concat(repotest.OldKeys, repotest.ReviewKeys)...) },
			want: []string{"warning: floors: the floor of timestamp is v4, published is v6", "warning: floors: the floor of snapshot is v4, published is v6",
				"warning: draft: repo: the draft does not follow what is published: vendor-agent v4 is published"}},
		"an old root key among the new": {change: func(_ *repotest.Moving, r *repo.Root) { r.Parties[0].Keys = repotest.Keys("new-1", "vendor-2") }, want: []string{"error: keys: an old root key of vendor"}},
		"an old online key for targets": {change: func(_ *repotest.Moving, r *repo.Root) { r.Targets.Keys = repotest.Keys("timestamp") }, want: []string{"error: keys: the old timestamp key"}},
		"release keys stay": {change: func(_ *repotest.Moving, r *repo.Root) {
			r.Classes[0].Roles[0].Keys.Keys = repotest.Keys("vendor-release")
		}, want: []string{"warning: keys: role vendor-agent of vendor keeps its release keys"}},
		"use_from after the root expires": {change: func(w *repotest.Moving, r *repo.Root) { r.Locations[0].UseFrom = w.Now.AddDate(2, 0, 0) }, want: []string{"error: b: windows: its use_from"}},
		"use_until has passed":            {change: func(w *repotest.Moving, r *repo.Root) { r.Locations[1].UseUntil = w.Now.Add(-time.Hour) }, want: []string{"warning: a: windows: its use_until"}},
		"one operator is left at some day": {change: func(w *repotest.Moving, r *repo.Root) {
			r.Locations[2].UseUntil = w.Now.Add(repotest.Day)
			r.Locations[2].Tier = tuf.Legacy
			r.Locations[2].Targets = "t/"
		}, want: []string{"error: windows: from 2026-05-30T12:00:00Z on clients can reach 1 operators for root checks, the charter requires 2"}},
		"signed long ago":           {later: func(w *repotest.Moving) { w.Now = w.Now.AddDate(0, 11, 10) }, want: []string{"warning: windows: root v3 expires", "error: windows: the published timestamp has expired", "error: windows: vendor-agent v4 of the draft: it expired on ", "warning: a: windows: its use_until"}},
		"signed five minutes ahead": {later: func(w *repotest.Moving) { w.Now = w.Now.Add(-5 * time.Minute) }},
		"signed six minutes ahead":  {later: func(w *repotest.Moving) { w.Now = w.Now.Add(-6 * time.Minute) }, want: []string{"error: windows: signed_at is "}},
		"a root that breaks a rule": {change: func(_ *repotest.Moving, r *repo.Root) { r.Snapshot.Keys = repotest.Keys("snapshot") }, want: []string{"error: root: clients will refuse the root: tuf: root v3: breaks the charter's rules: H3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := repotest.NewMoving(t)
			w.Announce()
			w.Now = w.Move.Dates.CutOver
			w.Refresh(repotest.OldKeys...)
			_, err := w.Move.CutOver(t.Context(), w.Repo(repotest.NewKeys...))
			rawtuf.NoErr(t, err)
			d, err := w.Repo().Stage(t.Context(), func(tx *repo.Tx) error { // without keys: signers refuse a root that breaks a rule
				r := tx.Root()
				r.Parties[0].Keys, r.Timestamp, r.Snapshot, r.Targets = w.Move.RootKeys, w.Move.Timestamp, w.Move.Snapshot, w.Move.Targets
				r.Classes[0].Roles[0].Keys = w.Move.Release["vendor-agent"]
				r.Locations[0].UseFrom = time.Time{}
				r.Locations[1].Tier, r.Locations[1].UseUntil = tuf.Legacy, w.Move.Dates.Sunset
				if x.change != nil {
					x.change(w, r)
				}
				return nil
			})
			rawtuf.NoErr(t, err)
			if x.later != nil {
				x.later(w)
			}
			r, err := (&relocate.Preflight{Repo: w.Repo(), Storage: w.Store, Move: w.Move, Draft: d}).Run(t.Context())
			rawtuf.NoErr(t, err)
			got := grave(r)
			if len(got) < len(x.want) || x.want == nil && len(got) > 0 || slices.ContainsFunc(x.want, func(w string) bool {
				return !slices.ContainsFunc(got, func(g string) bool { return strings.HasPrefix(g, w) })
			}) {
				t.Errorf("found %q, want %q", got, x.want)
			}
			if wantErr := slices.ContainsFunc(x.want, func(w string) bool { return strings.HasPrefix(w, "error") }); wantErr != errors.Is(r.Err(), relocate.ErrPreflight) {
				t.Errorf("Err is %v", r.Err())
			}
			data, err := json.Marshal(r)
			if err != nil || !strings.Contains(string(data), `"level":`) {
				t.Errorf("%s, %v", data, err)
			}
		})
	}
}

// After a recovery the locations must serve it; otherwise clients can't follow it.
func TestPreflightAfterRecovery(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, repotest.Recoverable)
	d, err := n.StageRecovery(n.Repo(repotest.NewKeys...))
	rawtuf.NoErr(t, err)
	n.Move = nil
	if got := grave(n.preflight(d)); len(got) > 0 {
		t.Errorf("before it: %q", got)
	}
	n.Recover()
	for _, step := range []struct {
		fault fault
		want  []string
	}{
		{nil, nil},
		{on("1.statement.json", status(404, "")), []string{"error: z: roots: 1 of 2 roots differ from the published ones: metadata/recovery/1.statement.json: status 404"}},
		{on("recovery/2.root.json", status(200, "{}")), []string{"error: z: roots: 1 of 2 roots differ from the published ones: metadata/recovery/2.root.json: other bytes"}},
		{on("metadata/2.root.json", status(200, "{}")), []string{"error: z: recovery: the server has metadata/2.root.json, which is not published: clients follow it instead of the recovery"}},
		{nil, nil},
	} {
		n.z.fault.Store(nil)
		if step.fault != nil {
			n.z.fault.Store(&step.fault)
		}
		r := n.preflight(nil)
		if got := grave(r); !slices.Equal(got, step.want) {
			t.Errorf("found %q, want %q", got, step.want)
		}
		if says := r.String(); !strings.Contains(says, "a: roots: all 2 roots are served") {
			t.Error(says)
		}
	}
	d, err = n.Repo(repotest.NewKeys...).StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "a wrong key", After: 1}, func(tx *repo.Tx) error {
		key := func(name string) repo.Keys { return repo.Keys{Keys: repotest.Keys(name)} }
		r := tx.Root()
		r.Parties[0].Keys = repotest.Keys("x-1", "x-2")
		r.Timestamp, r.Snapshot, r.Targets, r.Classes[0].Roles[0].Keys = key("x-timestamp"), key("x-snapshot"), key("x-targets"), key("x-release")
		return nil
	})
	rawtuf.NoErr(t, err)
	n.z.fault.Store(nil)
	if r := n.preflight(d); len(grave(r)) > 0 || r.Root != 2 {
		t.Errorf("before it is replaced: root v%d, %q", r.Root, grave(r))
	}
}

// The authority analysis for 4+4 root keys with a minimum of 2 each, and 1+1.
func TestPowers(t *testing.T) {
	t.Parallel()
	says := func(w *repotest.Moving) string {
		var b strings.Builder
		for _, f := range relocate.Powers(w.Tip(), w.Now) {
			fmt.Fprintln(&b, f)
		}
		return b.String()
	}
	w := repotest.NewMoving(t, func(r *repo.Root) {
		r.Parties = []repo.Party{{Name: "vendor", Keys: repotest.Keys("vendor-1", "vendor-2", "new-1", "new-2"), Min: 2},
			{Name: "review", Keys: repotest.Keys("review-1", "review-2", "review-3", "review-4"), Min: 2}}
		r.Timestamp.Keys = repotest.Keys("timestamp", "timestamp-b")
		repotest.Recoverable(r)
	})
	got := says(w)
	for _, line := range []string{
		"note: authority: vendor alone, with all root and release keys: nothing\n",
		"note: authority: review alone, with all root and release keys: nothing\n",
		"note: authority: vendor and review together, with all root and release keys: change root, and with it everything; release in agent\n",
		"note: losses: the loss of 2 of the root keys of vendor: survivable; of 3: stops every change of root\n",
		"note: losses: of all 8 root keys 2 may be lost: 6 must sign\n",
		"warning: losses: the loss of one key of review-agent: stops releases in agent until a new root; there is no spare key\n",
		"note: losses: the loss of 1 of the timestamp keys: survivable\n",
		"note: losses: the loss of one snapshot key: needs a new root and with it a new epoch\n",
		"note: authority: 2 of 3 recovery keys, of 2 of 2 organisations: change root, and with it everything, for clients that found no regular root in 5 root checks over 10 days\n",
		"note: losses: the loss of 1 of the recovery keys: survivable; of 2: stops every recovery\n",
		"warning: locations: the loss of location a: clients still get a new root, but no content\n",
		"note: locations: the loss of location z: survivable; but root checks need 2 operators and 1 are left\n",
		"warning: locations: the loss of everything in CH: clients reach no location\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("lacks %q:\n%s", line, got)
		}
	}
	w = repotest.NewMoving(t, func(r *repo.Root) {
		r.Parties = []repo.Party{{Name: "vendor", Keys: repotest.Keys("vendor-1")}, {Name: "review", Keys: repotest.Keys("review-1")}}
	})
	if got := says(w); !strings.Contains(got, "warning: losses: the loss of one root key of vendor: stops every change of root; there is no spare key\n") ||
		!strings.Contains(got, "note: losses: there is no recovery rule: ") {
		t.Errorf("%s", got)
	}
}

// A first root has nothing before it: its authority is reported before the other parties
// sign it.
func TestPreflightOfAFirstRoot(t *testing.T) {
	store := storage.Overlay(nil)
	r := repo.New(store, &repo.Config{Now: time.Now, Ledger: signing.MemLedger()})
	if _, err := (&relocate.Preflight{Repo: r, Storage: store}).Run(t.Context()); !errors.Is(err, relocate.ErrOrder) {
		t.Errorf("without a draft: %v", err)
	}
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error {
		tx.SetRoot(repo.Root{
			Parties:   []repo.Party{{Name: "vendor", Keys: repotest.Keys("vendor-1", "vendor-2", "vendor-3"), Min: 1}, {Name: "review", Keys: repotest.Keys("review-1"), Min: 1}},
			Timestamp: repo.Keys{Keys: repotest.Keys("timestamp")}, Snapshot: repo.Keys{Keys: repotest.Keys("snapshot")}, Targets: repo.Keys{Keys: repotest.Keys("targets")},
			Classes:   []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: repotest.Keys("a")}}, {Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: repotest.Keys("b")}}}}},
			Locations: []tuf.Location{repotest.Location("a", tuf.Primary, 10), repotest.Location("b", tuf.Mirror, 20)},
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := (&relocate.Preflight{Repo: r, Storage: store, Draft: d}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"losses: the loss of one root key of review: stops every change of root; there is no spare key", "authority: vendor alone, with all root and release keys: nothing", "missing: root"} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("no %q in\n%s", want, report)
		}
	}
}
