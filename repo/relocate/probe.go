package relocate

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// probe checks one location over the network.
type probe struct {
	location       tuf.Location
	want           *expected
	storage        repo.Storage
	http           http.Client
	now            time.Time
	maxStale       time.Duration
	minCertificate time.Duration
	maxTargets     int64
	retired        bool
	usable         func(tuf.Location) bool // by the charter
	found          findings
	tls            *tls.ConnectionState // of the first response
	away           map[string]bool      // hosts in redirects of targets
}

// fileTimeout bounds one request for metadata; only ctx bounds one for a target.
const fileTimeout = 30 * time.Second

func (v *probe) add(level Level, check, format string, args ...any) {
	v.found.add(level, check, v.location.ID, format, args...)
}

// run runs all checks. The error is an error of the storage or of ctx.
func (v *probe) run(ctx context.Context) error {
	// The first request shows whether the location is reachable.
	resp, _, err := v.get(ctx, "metadata/1.root.json", nil, 1<<20)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if certificateFault(err) {
			v.add(LevelError, "tls", "invalid certificate: %v", reason(err))
		} else {
			v.add(LevelError, "reach", "unreachable: %v", reason(err))
		}
		return nil
	}
	v.certificate()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		v.add(LevelError, "redirect", "the server redirects metadata (status %d): clients do not follow", resp.StatusCode)
		return nil
	}
	for _, check := range []func(context.Context) error{v.absent, v.negative, v.regularRoots, v.stale, v.parity, v.ranges, v.rootsOnly} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// content reports whether the location serves more than roots.
func (v *probe) content() bool { return v.location.Tier != tuf.Rendezvous && v.location.Targets != "" }

// get reads at most limit+1 bytes of a file. name is its name in storage.
func (v *probe) get(ctx context.Context, name string, header map[string]string, limit int64) (*http.Response, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	resp, err := v.open(ctx, name, header)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	return resp, data, err
}

func (v *probe) open(ctx context.Context, name string, header map[string]string) (*http.Response, error) {
	path, metadata, err := layout.URLPath(name)
	if err != nil {
		return nil, err
	}
	base := v.location.Base + v.location.Metadata
	if !metadata {
		base = v.location.Base + v.location.Targets
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "visum-preflight")
	req.Header.Set("Accept-Encoding", "identity")
	for k, val := range header {
		req.Header.Set(k, val)
	}
	resp, err := v.http.Do(req)
	if err == nil && v.tls == nil {
		v.tls = resp.TLS
	}
	return resp, err
}

// redirect applies the clients' rules for redirects: they follow only those of
// targets.
func (v *probe) redirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if v.location.Targets == "" || !strings.HasPrefix(first.String(), v.location.Base+v.location.Targets) {
		return http.ErrUseLastResponse
	}
	fault := public.Redirect(first, req.URL, !public.Host(public.HostIn(first)))
	switch {
	case len(via) > public.MaxRedirects:
		return fmt.Errorf("more than %d redirects", public.MaxRedirects)
	case fault == "" && !v.usable(tuf.Location{Base: public.PlainHost(req.URL.String())}):
		fault = "that is retired or past its use_until"
	}
	if fault != "" {
		return fmt.Errorf("redirect to %s, %s: clients do not follow", text.Quote(req.URL.Host), fault)
	}
	if host := req.URL.Host; host != first.Host && !v.away[host] {
		if v.away == nil {
			v.away = map[string]bool{}
		}
		if v.away[host] = true; len(v.away) <= maxNamed {
			v.add(LevelWarning, "redirect", "targets are redirected to %s, which the charter does not list: its operator can withhold them", text.Quote(host))
		}
	}
	return nil
}

// reason removes the URL from an error.
func reason(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func certificateFault(err error) bool {
	_, bad := errors.AsType[*tls.CertificateVerificationError](err)
	return bad
}

func (v *probe) certificate() {
	if v.tls == nil || len(v.tls.PeerCertificates) == 0 {
		v.add(LevelNote, "tls", "the location does not use TLS")
		return
	}
	// The chain is valid until the first of its certificates expires.
	first := slices.MinFunc(v.tls.PeerCertificates, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	left := first.NotAfter.Sub(v.now)
	level := LevelNote
	if left < v.minCertificate {
		level = LevelWarning
	}
	if left <= 0 {
		level = LevelError
	}
	v.add(level, "tls", "the certificate is valid until %s, %s from now", text.Time(first.NotAfter), days(left))
}

// absent checks that the server reports missing files as missing.
func (v *probe) absent(ctx context.Context) error {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	names := []string{layout.RootName(v.want.roots + 1_000_000), "metadata/preflight-" + hex.EncodeToString(b) + ".json"}
	if v.content() {
		names = append(names, "targets/preflight-"+hex.EncodeToString(b))
	}
	for _, name := range names {
		resp, data, err := v.get(ctx, name, nil, 1<<10)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.add(LevelError, "reach", "%s: no response: %v", name, reason(err))
			continue
		}
		switch code := resp.StatusCode; {
		case none(code):
		case code == http.StatusOK:
			v.add(LevelError, "absent", "%s does not exist, but the server answers 200 and %s (soft 404): clients can't detect that there is no newer root", name, text.Bytes(data))
		case code >= 300 && code < 400:
			v.add(LevelError, "redirect", "%s does not exist, but the server redirects (status %d): clients treat the location as unreachable", name, code)
		default:
			v.add(LevelError, "absent", "%s does not exist, but the server answers status %d: clients treat the location as unreachable", name, code)
		}
	}
	return nil
}

// none reports whether a status means that the file does not exist.
func none(code int) bool {
	return code == http.StatusNotFound || code == http.StatusForbidden || code == http.StatusGone
}

// negative checks how long caches keep the answer that there is no next root: for
// that time they would hide a newly published root.
func (v *probe) negative(ctx context.Context) error {
	name := layout.RootName(v.want.roots + 1)
	resp, data, err := v.get(ctx, name, nil, 1<<20)
	if err != nil {
		return ctx.Err() // reported by absent
	}
	if resp.StatusCode == http.StatusOK {
		v.add(LevelError, "absent", "the server has %s, which is not published: %s", name, text.Bytes(data))
		return nil
	}
	v.cached("negative-cache", name, "the answer that there is no "+name, resp.Header)
	return nil
}

// regularRoots checks that no regular root is served in the position of a recovery
// root: clients would follow it instead of the recovery.
func (v *probe) regularRoots(ctx context.Context) error {
	for _, f := range v.want.rootFiles {
		name, ok := strings.CutPrefix(f.Name, layout.RecoveryFolder)
		if !ok || !strings.HasSuffix(name, ".root.json") {
			continue
		}
		name = "metadata/" + name
		resp, _, err := v.get(ctx, name, nil, 1<<20)
		if err != nil {
			return ctx.Err() // reported by absent
		}
		if resp.StatusCode == http.StatusOK {
			v.add(LevelError, "recovery", "the server has %s, which is not published: clients follow it instead of the recovery", name)
		}
	}
	return nil
}

// stale checks that caches do not keep an old timestamp for long.
func (v *probe) stale(ctx context.Context) error {
	if !v.content() || v.want.timestamp == 0 {
		return nil
	}
	resp, _, err := v.get(ctx, layout.TimestampName, nil, 1<<20)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ctx.Err() // reported by parity
	}
	v.cached("cache", layout.TimestampName, layout.TimestampName, resp.Header)
	return nil
}

// cached checks how long caches may keep a response.
func (v *probe) cached(check, name, what string, h http.Header) {
	ttl, stated := lifetime(h)
	age, _ := strconv.ParseInt(h.Get("Age"), 10, 32)
	old := time.Duration(age) * time.Second
	switch {
	case ttl > v.maxStale:
		v.add(LevelError, check, "caches may keep %s for %s, want at most %s", what, ttl, v.maxStale)
	case old > v.maxStale:
		v.add(LevelError, check, "a cache in front of the location served %s, %s old", what, old)
	case old > 0:
		v.add(LevelWarning, check, "a cache in front of the location served %s, %s old", what, old)
	case !stated:
		v.add(LevelNote, check, "no header states how long caches may keep %s: a cache applies its own rule", what)
	}
}

// lifetime returns how long a shared cache may keep a response (RFC 9111, 4.2.1).
func lifetime(h http.Header) (ttl time.Duration, stated bool) {
	var maxAge, shared int64 = -1, -1
	for _, line := range h.Values("Cache-Control") {
		for d := range strings.SplitSeq(line, ",") {
			name, val, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "=")
			n, err := strconv.ParseInt(strings.Trim(val, `"`), 10, 32)
			switch {
			case name == "no-store" || name == "no-cache" || name == "private":
				return 0, true
			case name == "max-age" && err == nil:
				maxAge = n
			case name == "s-maxage" && err == nil:
				shared = n
			}
		}
	}
	if shared >= 0 {
		return time.Duration(shared) * time.Second, true
	}
	if maxAge >= 0 {
		return time.Duration(maxAge) * time.Second, true
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0, h.Get("Expires") != "" // an invalid Expires means expired
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, true
	}
	return max(0, expires.Sub(date)), true
}

// rootsOnly checks that a roots-only copy has no content: its stale content would
// freeze clients with old roots.
func (v *probe) rootsOnly(ctx context.Context) error {
	if !v.retired {
		return nil
	}
	resp, _, err := v.get(ctx, layout.TimestampName, nil, 1<<20)
	if err == nil && !none(resp.StatusCode) {
		v.add(LevelError, "roots-only", "the server answers status %d for metadata/timestamp.json: a retired location must serve roots only", resp.StatusCode)
	}
	return ctx.Err()
}

// maxNamed bounds the names of differing files in a finding.
const maxNamed = 3

// differing collects differing files of one kind.
type differing struct {
	n     int
	named []string
}

func (d *differing) add(format string, args ...any) {
	if d.n++; d.n <= maxNamed {
		d.named = append(d.named, fmt.Sprintf(format, args...))
	}
}

func (d *differing) text() string {
	s := strings.Join(d.named, "; ")
	if d.n > maxNamed {
		s += fmt.Sprintf("; and %d more", d.n-maxNamed)
	}
	return s
}

// parity checks that the location serves the same bytes as the storage.
func (v *probe) parity(ctx context.Context) error {
	var roots, rest differing
	for _, f := range v.want.rootFiles {
		if err := v.same(ctx, f.Name, &roots); err != nil {
			return err
		}
	}
	if roots.n > 0 {
		v.add(LevelError, "roots", "%[2]d of %[1]d roots differ from the published ones: %[3]s", v.want.roots, roots.n, roots.text())
	} else {
		v.add(LevelNote, "roots", "all %d roots are served", v.want.roots)
	}
	if !v.content() {
		return nil
	}
	for _, name := range v.want.metadata {
		if err := v.same(ctx, name, &rest); err != nil {
			return err
		}
	}
	left, read := v.maxTargets, 0
	for _, t := range v.want.files {
		whole := t.length <= left
		if err := v.sameTarget(ctx, t, whole, &rest); err != nil {
			return err
		}
		if whole {
			left, read = left-t.length, read+1
		}
	}
	if rest.n > 0 {
		v.add(LevelError, "parity", "%d files differ from the published ones: %s", rest.n, rest.text())
		return nil
	}
	v.add(LevelNote, "parity", "%d metadata files and %d targets are identical to the published ones; %d more targets have the published size", len(v.want.metadata), read, len(v.want.files)-read)
	return nil
}

// same compares one metadata file.
func (v *probe) same(ctx context.Context, name string, d *differing) error {
	want, err := v.storage.Read(ctx, name)
	if err != nil {
		return err
	}
	resp, have, err := v.get(ctx, name, nil, int64(len(want)))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		d.add("%s: %v", text.Name(name), reason(err))
	case resp.StatusCode != http.StatusOK:
		why := ""
		if age := resp.Header.Get("Age"); none(resp.StatusCode) && age != "" && age != "0" {
			why = fmt.Sprintf(" from a cache, %s s old", text.Name(age))
		}
		d.add("%s: status %d%s", text.Name(name), resp.StatusCode, why)
	case !bytes.Equal(have, want):
		d.add("%s: other bytes", text.Name(name))
	}
	return nil
}

// sameTarget compares the hash of a target or, if whole is false, only its size.
func (v *probe) sameTarget(ctx context.Context, t target, whole bool, d *differing) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := map[string]string{}
	if !whole {
		header["Range"] = "bytes=0-0"
	}
	resp, err := v.open(ctx, t.name, header)
	if err != nil {
		d.add("%s: %v", text.Name(t.name), reason(err))
		return ctx.Err()
	}
	defer resp.Body.Close()
	if !whole {
		size := resp.ContentLength
		if resp.StatusCode == http.StatusPartialContent {
			size = -1
			fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes 0-0/%d", &size)
		} else if resp.StatusCode != http.StatusOK {
			d.add("%s: status %d", text.Name(t.name), resp.StatusCode)
			return nil
		}
		if size != t.length {
			d.add("%s: %d bytes, published are %d", text.Name(t.name), size, t.length)
		}
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		d.add("%s: status %d", text.Name(t.name), resp.StatusCode)
		return nil
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(resp.Body, t.length+1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		d.add("%s: %v", text.Name(t.name), err)
	case n != t.length || hex.EncodeToString(h.Sum(nil)) != t.sha256:
		why := ""
		if coded := resp.Header.Get("Content-Encoding"); coded != "" && coded != "identity" {
			why = fmt.Sprintf(", with Content-Encoding %s although identity was requested", text.Quote(coded))
		}
		d.add("%s: other bytes%s", text.Name(t.name), why)
	}
	return nil
}
