package relocate_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo/relocate"
)

// look is a log line of a client with root v that checks for the next root.
func look(v int64, at time.Time) string {
	return fmt.Sprintf("203.0.113.%d - - [%s] \"GET /r/metadata/%d.root.json HTTP/1.1\" 404 153 \"-\" \"visum\"\n", v%250, at.Format("02/Jan/2006:15:04:05 -0700"), v+1)
}

var logDay = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func census(t testing.TB, logs map[string]string) *relocate.AccessLog {
	t.Helper()
	c := &relocate.AccessLog{}
	for place, text := range logs {
		rawtuf.NoErr(t, c.Read(context.Background(), place, strings.NewReader(text)))
	}
	return c
}

// Every valid line is counted by its kind, and no other line.
func TestAccessLogLines(t *testing.T) {
	t.Parallel()
	const when = `[04/May/2026:12:00:00 +0200]`
	for name, x := range map[string]struct {
		line                     string
		looks, requests, skipped int64
	}{
		"common format":            {`198.51.100.7 - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 404 153`, 1, 1, 0},
		"combined format":          {`198.51.100.7 - - ` + when + ` "GET /r/metadata/3.root.json HTTP/2.0" 404 153 "-" "visum"`, 1, 1, 0},
		"object store with 403":    {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 403 9`, 1, 1, 0},
		"410":                      {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 410 9`, 1, 1, 0},
		"IPv6 and a user":          {`2001:db8::1 - frank [04/May/2026:12:00:00 +0200] "GET /metadata/3.root.json HTTP/1.1" 404 -`, 1, 1, 0},
		"query":                    {`h - - ` + when + ` "GET /metadata/3.root.json?x=1 HTTP/1.1" 404 9`, 1, 1, 0},
		"no protocol":              {`h - - ` + when + ` "GET /metadata/3.root.json" 404 9`, 1, 1, 0},
		"windows line end":         {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 404` + "\r", 1, 1, 0},
		"a root that is there":     {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 200 900`, 0, 1, 0},
		"server is broken":         {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 500 9`, 0, 1, 0},
		"the first root is absent": {`h - - ` + when + ` "GET /metadata/1.root.json HTTP/1.1" 404 9`, 0, 1, 0},
		"a target":                 {`h - - ` + when + ` "GET /r/targets/agent/ab.x HTTP/1.1" 200 9`, 0, 1, 0},
		"a timestamp":              {`h - - ` + when + ` "GET /r/metadata/timestamp.json HTTP/1.1" 200 9`, 0, 1, 0},
		"HEAD":                     {`h - - ` + when + ` "HEAD /metadata/3.root.json HTTP/1.1" 404 9`, 0, 0, 0},
		"something else":           {`h - - ` + when + ` "GET /favicon.ico HTTP/1.1" 404 9`, 0, 0, 0},
		"leading zero":             {`h - - ` + when + ` "GET /metadata/03.root.json HTTP/1.1" 404 9`, 0, 1, 0},
		"sign":                     {`h - - ` + when + ` "GET /metadata/+3.root.json HTTP/1.1" 404 9`, 0, 1, 0},
		"huge version":             {`h - - ` + when + ` "GET /metadata/99999999999.root.json HTTP/1.1" 404 9`, 0, 1, 0},
		"escaped quotes":           {`h - - ` + when + ` "GET /\"x\"/metadata/3.root.json HTTP/1.1" 404 9`, 1, 1, 0},
		"binary request":           {`h - - ` + when + ` "\x16\x03\x01" 400 9`, 0, 0, 0},
		"empty":                    {``, 0, 0, 1},
		"words":                    {`nothing of that kind`, 0, 0, 1},
		"no time":                  {`h - - - "GET /metadata/3.root.json HTTP/1.1" 404 9`, 0, 0, 1},
		"bad time":                 {`h - - [44/May/2026:12:00:00 +0200] "GET /metadata/3.root.json HTTP/1.1" 404 9`, 0, 0, 1},
		"open quote":               {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1 404 9`, 0, 0, 1},
		"no status":                {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" - 9`, 0, 0, 1},
		"long status":              {`h - - ` + when + ` "GET /metadata/3.root.json HTTP/1.1" 4044 9`, 0, 0, 1},
		"huge line":                {strings.Repeat("x", 1<<20), 0, 0, 1},
	} {
		good := look(1, logDay) // so that the log has a valid line
		r := census(t, map[string]string{"a": good + x.line + "\n" + good}).Adoption()
		if r.Polls != 2+x.looks || r.Requests != 2+x.requests || r.Skipped != x.skipped || r.Lines != 3 {
			t.Errorf("%s: %d looks, %d requests, %d of %d lines skipped", name, r.Polls-2, r.Requests-2, r.Skipped, r.Lines)
		}
	}
}

func zipped(t testing.TB, parts ...string) io.Reader {
	t.Helper()
	var b bytes.Buffer
	for _, p := range parts { // as written by logrotate and cat
		z := gzip.NewWriter(&b)
		_, err := z.Write([]byte(p))
		rawtuf.NoErr(t, err)
		rawtuf.NoErr(t, z.Close())
	}
	return &b
}

// A fleet during a move, in several logs of several locations.
func TestAccessLogOfAMove(t *testing.T) {
	t.Parallel()
	m := &relocate.Move{To: repotest.NewMoving(t).Move.To, Criteria: relocate.Criteria{Clients: 10}}
	c := &relocate.AccessLog{Since: logDay, Until: logDay.Add(48 * time.Hour), Prefix: "/r/"}
	var a, b strings.Builder
	for i := range 1000 {
		at := logDay.Add(time.Duration(i) * time.Minute)
		switch {
		case i < 30:
			a.WriteString(look(1, at))
		case i < 100:
			a.WriteString(look(2, at.In(time.FixedZone("", 3600))))
		default:
			b.WriteString(look(3, at))
		}
	}
	a.WriteString(look(7, logDay.Add(-time.Second)) + look(7, logDay.Add(48*time.Hour)))
	a.WriteString(strings.ReplaceAll(look(9, logDay), "/r/", "/other/r/"))
	rawtuf.NoErr(t, c.Read(t.Context(), "a", strings.NewReader(a.String())))
	half := b.Len() / 2
	half += strings.IndexByte(b.String()[half:], '\n') + 1
	rawtuf.NoErr(t, c.Read(t.Context(), "b", zipped(t, b.String()[:half], b.String()[half:])))
	r := c.Adoption()
	want := []relocate.VersionCount{{Root: 1, Polls: 30, Share: 0.03}, {Root: 2, Polls: 70, Share: 0.07}, {Root: 3, Polls: 900, Share: 0.9}}
	if fmt.Sprint(r.Fleet) != fmt.Sprint(want) || r.Outside != 2 || r.Requests != 1000 || r.At(3) != 0.9 || r.At(2) != 0.97 {
		t.Fatalf("%+v", r)
	}
	if r.Locations[1] != (relocate.LocationCount{Location: "b", Requests: 900, Polls: 900, Share: 0.9}) {
		t.Errorf("%+v", r.Locations)
	}
	data, err := json.Marshal(r)
	rawtuf.NoErr(t, err)
	if bytes.Contains(data, []byte("203.0.113")) || bytes.Contains(data, []byte("visum")) {
		t.Errorf("it names clients: %s", data)
	}
	for _, x := range []struct {
		step relocate.Phase
		root int64
		says string
	}{
		{relocate.PhaseCutOver, 2, "You may cut over: from 2026-05-04 to 2026-05-05, 97 % of 1000 root checks came from clients at root v2 or newer."},
		{relocate.PhaseRetired, 3, "Do not retire the old locations yet: 90 % of the fleet have root v3, 98 % must have it; the new locations answer 90 % of the requests, they must answer 98 %."},
	} {
		g := m.Ready(r, x.step, x.root)
		if g.String() != x.says || g.Open != (len(g.Why) == 0) {
			t.Errorf("%s", g)
		}
	}
	m.Criteria.Moved, m.Criteria.NewLocations = 0.9, 0.9
	if g := m.Ready(r, relocate.PhaseRetired, 3); !g.Open || g.String() != "You may retire the old locations: from 2026-05-04 to 2026-05-05, 90 % of 1000 root checks came from clients at root v3 or newer, and the new locations answered 90 % of the requests." {
		t.Errorf("%s", g)
	}
	m.Criteria.Clients = 1001
	if g := m.Ready(r, relocate.PhaseRetired, 3); g.Open || !strings.Contains(g.String(), "only 1000 root checks") {
		t.Errorf("%s", g)
	}
	if g := m.Ready((&relocate.AccessLog{}).Adoption(), relocate.PhaseCutOver, 2); g.Open {
		t.Errorf("nothing was counted, and %s", g)
	}
}

// A file in another format is an error, and counts before an error are kept.
func TestAccessLogErrors(t *testing.T) {
	t.Parallel()
	c := &relocate.AccessLog{}
	if err := c.Read(t.Context(), "a", strings.NewReader("a\nb\n")); !errors.Is(err, relocate.ErrAccessLog) || !strings.Contains(err.Error(), "none of 2 lines") {
		t.Errorf("got %v", err)
	}
	rawtuf.NoErr(t, c.Read(t.Context(), "a", strings.NewReader("")))
	data, err := io.ReadAll(zipped(t, strings.Repeat(look(1, logDay), 1000)))
	rawtuf.NoErr(t, err)
	if err := c.Read(t.Context(), "a", bytes.NewReader(data[:len(data)-20])); !errors.Is(err, relocate.ErrAccessLog) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	if c.Adoption().Polls == 0 {
		t.Error("what was read is forgotten")
	}
	if err := c.Read(t.Context(), "a", bytes.NewReader([]byte{0x1f, 0x8b, 0, 0})); !errors.Is(err, relocate.ErrAccessLog) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Read(ctx, "a", strings.NewReader(strings.Repeat(look(1, logDay), 10000))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for i := range 300 {
		err = c.Read(t.Context(), fmt.Sprint(i), strings.NewReader(""))
	}
	if !errors.Is(err, relocate.ErrAccessLog) {
		t.Errorf("got %v", err)
	}
}

// endless is an endless log with every version.
type endless struct {
	n, max int64
	rest   []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		if e.n >= e.max {
			return 0, io.EOF
		}
		e.n++
		e.rest = []byte(look(e.n, logDay))
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	return n, nil
}

// A hostile log does not exhaust memory.
func TestAccessLogIsBounded(t *testing.T) {
	c := &relocate.AccessLog{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	rawtuf.NoErr(t, c.Read(t.Context(), "a", &endless{max: 300_000}))
	runtime.GC()
	runtime.ReadMemStats(&after)
	if r := c.Adoption(); len(r.Fleet) > 4096 || r.Requests != 300_000 {
		t.Errorf("%d versions, %d requests", len(r.Fleet), r.Requests)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	runtime.KeepAlive(c)
}

// For any log, every line is counted once, and the shares add up.
func FuzzAccessLog(f *testing.F) {
	f.Add([]byte(look(1, logDay)))
	f.Add([]byte(look(1, logDay) + "\n\x00[\"" + look(4, logDay.Add(time.Hour))))
	data, _ := io.ReadAll(zipped(f, look(2, logDay)))
	f.Add(data)
	f.Add([]byte(`h - - [04/May/2026:12:00:00 +0200] "\\" 404 `))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &relocate.AccessLog{}
		_ = c.Read(t.Context(), "a", bytes.NewReader(data))
		r := c.Adoption()
		var looks int64
		share := 0.0
		for _, v := range r.Fleet {
			looks, share = looks+v.Polls, share+v.Share
			if v.Root < 1 || v.Polls < 1 {
				t.Fatalf("%+v", v)
			}
		}
		if looks != r.Polls || r.Polls > r.Requests || r.Requests+r.Skipped > r.Lines || r.Polls > 0 && (share < 0.999 || share > 1.001) {
			t.Fatalf("%+v", r)
		}
		if len(data) < 2 || data[0] != 0x1f || data[1] != 0x8b {
			lines := int64(bytes.Count(data, []byte("\n")))
			if len(data) > 0 && data[len(data)-1] != '\n' {
				lines++
			}
			if r.Lines != lines {
				t.Fatalf("%d lines, counted %d", lines, r.Lines)
			}
		}
	})
}

func BenchmarkAccessLog(b *testing.B) {
	var log strings.Builder
	const lines = 10_000
	for i := range lines {
		at := logDay.Add(time.Duration(i) * time.Second)
		if i%3 > 0 {
			fmt.Fprintf(&log, "203.0.113.9 - - [%s] \"GET /r/metadata/timestamp.json HTTP/1.1\" 200 463 \"-\" \"visum\"\n", at.Format("02/Jan/2006:15:04:05 -0700"))
			continue
		}
		log.WriteString(look(int64(i%7+1), at))
	}
	b.SetBytes(int64(log.Len()))
	for b.Loop() {
		c := &relocate.AccessLog{}
		if err := c.Read(b.Context(), "a", strings.NewReader(log.String())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(lines)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// unending is a log whose only line never ends. It ends the context while being read.
type unending struct {
	left   int
	cancel context.CancelFunc
}

func (u *unending) Read(p []byte) (int, error) {
	if u.left--; u.left == 0 {
		u.cancel()
	}
	if u.left < -16 {
		return 0, errors.New("read on after the context had ended")
	}
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// Reading ends with its context, also within an endless line.
func TestAccessLogEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	err := new(relocate.AccessLog).Read(ctx, "a", &unending{64, cancel})
	if !errors.Is(err, context.Canceled) || errors.Is(err, relocate.ErrAccessLog) {
		t.Error(err)
	}
}
