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

	"github.com/visum-dev/visum/internal/public"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// visit looks at one place over the network.
type visit struct {
	place          tuf.Location
	truth          *truth
	storage        repo.Storage
	http           http.Client
	now            time.Time
	maxStale       time.Duration
	minCertificate time.Duration
	maxTargets     int64
	tombstone      bool
	usable         func(tuf.Location) bool // by the charter
	found          findings
	tls            *tls.ConnectionState // of the first answer
	away           map[string]bool      // hosts that redirects of targets led to
}

// fileTimeout bounds one request for metadata; a target has as long as ctx gives.
const fileTimeout = 30 * time.Second

func (v *visit) say(level Level, check, format string, args ...any) {
	v.found.add(level, check, v.place.ID, format, args...)
}

// look runs all checks. The error is only ever of the storage or of ctx.
func (v *visit) look(ctx context.Context) error {
	// The first request tells whether there is anybody.
	resp, _, err := v.get(ctx, "metadata/1.root.json", nil, 1<<20)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if certificate(err) {
			v.say(Error, "tls", "the certificate is not good: %v", reason(err))
		} else {
			v.say(Error, "reach", "does not answer: %v", reason(err))
		}
		return nil
	}
	v.certificate()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		v.say(Error, "redirect", "sends elsewhere (%d): clients do not follow", resp.StatusCode)
		return nil
	}
	for _, check := range []func(context.Context) error{v.absent, v.negative, v.beaten, v.stale, v.parity, v.ranges, v.bare} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// content reports whether the place serves more than roots.
func (v *visit) content() bool { return v.place.Tier != tuf.Rendezvous && v.place.Targets != "" }

// get reads a file of the place, at most limit bytes. name is as in storage.
func (v *visit) get(ctx context.Context, name string, header map[string]string, limit int64) (*http.Response, []byte, error) {
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

func (v *visit) open(ctx context.Context, name string, header map[string]string) (*http.Response, error) {
	base := v.place.Base + v.place.Metadata
	rest, ok := strings.CutPrefix(name, "metadata/")
	parts := []string{rest} // metadata is flat: a slash in a role's name is no folder's
	if last, is := strings.CutPrefix(rest, "recovery/"); ok && is {
		parts = []string{"recovery", last}
	}
	if !ok {
		base = v.place.Base + v.place.Targets
		parts = strings.Split(strings.TrimPrefix(name, "targets/"), "/")
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+strings.Join(parts, "/"), nil)
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

// redirect judges a redirect as clients do, who follow those of targets alone.
func (v *visit) redirect(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if v.place.Targets == "" || !strings.HasPrefix(first.String(), v.place.Base+v.place.Targets) {
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
		return fmt.Errorf("a redirect to %s, %s: clients do not follow", text.Quote(req.URL.Host), fault)
	}
	if host := req.URL.Host; host != first.Host && !v.away[host] {
		if v.away == nil {
			v.away = map[string]bool{}
		}
		if v.away[host] = true; len(v.away) <= maxTold {
			v.say(Warning, "redirect", "targets are redirected to %s, which the charter does not list: whoever runs it can keep them back", text.Quote(host))
		}
	}
	return nil
}

// reason is an error without the URL, which every sentence would repeat.
func reason(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

func certificate(err error) bool {
	_, bad := errors.AsType[*tls.CertificateVerificationError](err)
	return bad
}

func (v *visit) certificate() {
	if v.tls == nil || len(v.tls.PeerCertificates) == 0 {
		v.say(Note, "tls", "is asked without TLS")
		return
	}
	// The chain ends with whichever certificate ends first.
	first := slices.MinFunc(v.tls.PeerCertificates, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	left := first.NotAfter.Sub(v.now)
	level := Note
	if left < v.minCertificate {
		level = Warning
	}
	if left <= 0 {
		level = Error
	}
	v.say(level, "tls", "the certificate is good until %s, %s from now", stamp(first.NotAfter), days(left))
}

// absent: what is not there must be said to be not there.
func (v *visit) absent(ctx context.Context) error {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	names := []string{fmt.Sprintf("metadata/%d.root.json", v.truth.roots+1_000_000), "metadata/preflight-" + hex.EncodeToString(b) + ".json"}
	if v.content() {
		names = append(names, "targets/preflight-"+hex.EncodeToString(b))
	}
	for _, name := range names {
		resp, data, err := v.get(ctx, name, nil, 1<<10)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			v.say(Error, "reach", "%s: no answer: %v", name, reason(err))
			continue
		}
		switch code := resp.StatusCode; {
		case none(code):
		case code == http.StatusOK:
			v.say(Error, "absent", "%s does not exist, and is answered with 200 and %s (soft 404): clients never learn that there is no newer root", name, text.Bytes(data))
		case code >= 300 && code < 400:
			v.say(Error, "redirect", "%s does not exist, and the place sends elsewhere (%d): clients take it for down", name, code)
		default:
			v.say(Error, "absent", "%s does not exist, and is answered with %d: clients take the place for down", name, code)
		}
	}
	return nil
}

// none reports whether a status says that there is no such file.
func none(code int) bool {
	return code == http.StatusNotFound || code == http.StatusForbidden || code == http.StatusGone
}

// negative: that there is no next root must not be remembered for long, or the
// next root stays unseen when it is there.
func (v *visit) negative(ctx context.Context) error {
	name := fmt.Sprintf("metadata/%d.root.json", v.truth.roots+1)
	resp, data, err := v.get(ctx, name, nil, 1<<20)
	if err != nil {
		return ctx.Err() // said by absent
	}
	if resp.StatusCode == http.StatusOK {
		v.say(Error, "absent", "%s is not published, and there it is: %s", name, text.Bytes(data))
		return nil
	}
	v.cached("negative-cache", name, "the answer that there is no "+name, resp.Header)
	return nil
}

// beaten: where the repository recovered, an ordinary root is what clients would go
// on with.
func (v *visit) beaten(ctx context.Context) error {
	for _, f := range v.truth.rootFiles {
		name, ok := strings.CutPrefix(f.Name, "metadata/recovery/")
		if !ok || !strings.HasSuffix(name, ".root.json") {
			continue
		}
		name = "metadata/" + name
		resp, _, err := v.get(ctx, name, nil, 1<<20)
		if err != nil {
			return ctx.Err() // said by absent
		}
		if resp.StatusCode == http.StatusOK {
			v.say(Error, "recovery", "%s is not published, and there it is: clients go on with it, and not with the recovery", name)
		}
	}
	return nil
}

// stale: an old timestamp must not be served for long.
func (v *visit) stale(ctx context.Context) error {
	if !v.content() || v.truth.timestamp == 0 {
		return nil
	}
	resp, _, err := v.get(ctx, "metadata/timestamp.json", nil, 1<<20)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ctx.Err() // said by parity
	}
	v.cached("cache", "metadata/timestamp.json", "metadata/timestamp.json", resp.Header)
	return nil
}

// cached judges how long caches may keep an answer.
func (v *visit) cached(check, name, what string, h http.Header) {
	ttl, said := lifetime(h)
	age, _ := strconv.ParseInt(h.Get("Age"), 10, 32)
	old := time.Duration(age) * time.Second
	switch {
	case ttl > v.maxStale:
		v.say(Error, check, "caches may keep %s for %s, at most %s is good", what, ttl, v.maxStale)
	case old > v.maxStale:
		v.say(Error, check, "%s is %s old: a cache in front keeps it", what, old)
	case old > 0:
		v.say(Warning, check, "%s came out of a cache in front, %s old", what, old)
	case !said:
		v.say(Note, check, "nothing says how long caches may keep %s: one in front goes by its own rule", what)
	}
}

// lifetime is how long a shared cache may keep an answer by its headers (RFC 9111).
func lifetime(h http.Header) (ttl time.Duration, said bool) {
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
		return 0, h.Get("Expires") != "" // what can't be read has expired
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0, true
	}
	return max(0, expires.Sub(date)), true
}

// bare: a tombstone has no content, or those who sleep would be kept in the past.
func (v *visit) bare(ctx context.Context) error {
	if !v.tombstone {
		return nil
	}
	resp, _, err := v.get(ctx, "metadata/timestamp.json", nil, 1<<20)
	if err == nil && !none(resp.StatusCode) {
		v.say(Error, "tombstone", "answers %d for metadata/timestamp.json: a retired place has roots and nothing else", resp.StatusCode)
	}
	return ctx.Err()
}

// maxTold is how many differing files are named.
const maxTold = 3

// differing collects what differs of one kind of files.
type differing struct {
	n    int
	told []string
}

func (d *differing) add(format string, args ...any) {
	if d.n++; d.n <= maxTold {
		d.told = append(d.told, fmt.Sprintf(format, args...))
	}
}

func (d *differing) text() string {
	s := strings.Join(d.told, "; ")
	if d.n > maxTold {
		s += fmt.Sprintf("; and %d more", d.n-maxTold)
	}
	return s
}

// parity: the place has, byte for byte, what the storage has.
func (v *visit) parity(ctx context.Context) error {
	var roots, rest differing
	for _, f := range v.truth.rootFiles {
		if err := v.same(ctx, f.Name, &roots); err != nil {
			return err
		}
	}
	if roots.n > 0 {
		v.say(Error, "roots", "of %d roots %d are not as published: %s", v.truth.roots, roots.n, roots.text())
	} else {
		v.say(Note, "roots", "all %d roots are there", v.truth.roots)
	}
	if !v.content() {
		return nil
	}
	for _, name := range v.truth.metadata {
		if err := v.same(ctx, name, &rest); err != nil {
			return err
		}
	}
	left, read := v.maxTargets, 0
	for _, t := range v.truth.files {
		whole := t.length <= left
		if err := v.sameTarget(ctx, t, whole, &rest); err != nil {
			return err
		}
		if whole {
			left, read = left-t.length, read+1
		}
	}
	if rest.n > 0 {
		v.say(Error, "parity", "%d files are not as published: %s", rest.n, rest.text())
		return nil
	}
	v.say(Note, "parity", "%d metadata files and %d targets are byte for byte as published; of %d more the size is right", len(v.truth.metadata), read, len(v.truth.files)-read)
	return nil
}

// same compares one metadata file.
func (v *visit) same(ctx context.Context, name string, d *differing) error {
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
			why = fmt.Sprintf(", out of a cache that has said so for %s s", text.Name(age))
		}
		d.add("%s: %d%s", text.Name(name), resp.StatusCode, why)
	case !bytes.Equal(have, want):
		d.add("%s: other bytes", text.Name(name))
	}
	return nil
}

// sameTarget streams a target and compares its hash, or asks for its size.
func (v *visit) sameTarget(ctx context.Context, t target, whole bool, d *differing) error {
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
			d.add("%s: %d", text.Name(t.name), resp.StatusCode)
			return nil
		}
		if size != t.length {
			d.add("%s: %d bytes, published are %d", text.Name(t.name), size, t.length)
		}
		return nil
	}
	if resp.StatusCode != http.StatusOK {
		d.add("%s: %d", text.Name(t.name), resp.StatusCode)
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
			why = fmt.Sprintf(", coded as %s although identity was asked for", text.Quote(coded))
		}
		d.add("%s: other bytes%s", text.Name(t.name), why)
	}
	return nil
}
