package relocate

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/visum-dev/visum/internal/ctxio"
)

// ErrAccessLog: an access log can't be read.
var ErrAccessLog = errors.New("access log")

// AccessLog measures the adoption of roots in access logs. It reads the common and the
// combined log format, plain or gzip. A client that trusts root v requests
// v+1.root.json and gets the answer that it does not exist (404, 403, 410). AccessLog
// counts these root checks by version. It ignores successful root downloads: a
// client catching up makes another request afterwards.
//
// AccessLog stores no data about single clients, only numbers by version and location.
// A client that checks often counts often, so shares are shares of root checks, not
// of machines; they are equal if all clients check equally often. Memory does not
// grow with the logs. An AccessLog is not safe for concurrent use. The zero value is
// ready to use.
//
// A cache in front of a location may answer root checks itself. Its own log has them
// then, and the location's log has one for many. Use the logs of the outermost
// layer, or make the cache forward such requests.
//
// The result can be forged in both directions: anyone can send such requests, and
// the operator of a location can write any log. Compare locations of independent
// operators, and do not base an irreversible decision on the result alone.
type AccessLog struct {
	// Since and Until limit the counted time, Until excluded; zero: no limit.
	Since, Until time.Time
	// Prefix is the path before "metadata/", such as "/r/", of a host that serves
	// several repositories; "": any.
	Prefix string

	tallies map[string]*tally // by location id
}

// Bounds, so that a hostile log can't exhaust memory.
const (
	maxLine      = 64 << 10
	maxVersions  = 4096    // different versions of a location
	maxRoot      = 1 << 20 // higher versions are ignored
	maxLocations = 256
)

// tally holds the counts of one location.
type tally struct {
	looks    map[int64]int64 // root checks, by the version that the client trusts
	served   int64           // roots that were served
	requests int64           // requests for this repository, of any kind
	lines    int64
	skipped  int64
	older    int64 // outside Since and Until
	first    time.Time
	last     time.Time
	dayCache dayCache
}

// Read counts one log of a location, named by its id, to its end. It skips and
// counts lines in another format; a log without any valid line is an error that
// wraps [ErrAccessLog]. Lines read before an error stay counted.
func (c *AccessLog) Read(ctx context.Context, location string, log io.Reader) error {
	if c.tallies == nil {
		c.tallies = map[string]*tally{}
	}
	t := c.tallies[location]
	if t == nil {
		if len(c.tallies) == maxLocations {
			return fmt.Errorf("relocate: %w: more than %d locations", ErrAccessLog, maxLocations)
		}
		t = &tally{looks: map[int64]int64{}}
		c.tallies[location] = t
	}
	in := bufio.NewReaderSize(ctxio.NewReader(ctx, log), maxLine)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		// Rotated logs often have several gzip streams in one file; gzip.Reader reads all.
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("relocate: %w: %s: %w", ErrAccessLog, location, err)
		}
		in = bufio.NewReaderSize(&ctxReader{ctx, z}, maxLine) // ctx is checked again: few bytes may expand to very many
	}
	good, n := t.lines-t.skipped, t.lines
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if err == bufio.ErrBufferFull {
				t.lines++
				t.skipped++
				if err = skipLine(in); err == nil {
					continue
				}
			} else {
				c.line(t, line)
			}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == io.EOF && t.lines > n && t.lines-t.skipped == good:
			return fmt.Errorf("relocate: %w: %s: none of %d lines is in the common or combined log format", ErrAccessLog, location, t.lines-n)
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("relocate: %w: %s: %w", ErrAccessLog, location, err)
		}
	}
}

// ctxReader fails when its context ends, also within an endless line.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// skipLine skips the rest of a line that is too long.
func skipLine(in *bufio.Reader) error {
	for {
		_, err := in.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}

// line counts one line:
//
//	host ident user [02/Jan/2006:15:04:05 -0700] "GET /r/metadata/8.root.json HTTP/1.1" 404 153 "referer" "agent"
//
// It does not read host, user, referer and agent.
func (c *AccessLog) line(t *tally, line []byte) {
	t.lines++
	when, request, status, ok := fields(line)
	if !ok {
		t.skipped++
		return
	}
	at, ok := t.dayCache.parse(when)
	if !ok {
		t.skipped++
		return
	}
	if !c.Since.IsZero() && at.Before(c.Since) || !c.Until.IsZero() && !at.Before(c.Until) {
		t.older++
		return
	}
	method, path, _ := bytes.Cut(request, []byte{' '})
	path, _, _ = bytes.Cut(path, []byte{' '})
	path, _, _ = bytes.Cut(path, []byte{'?'})
	if string(method) != "GET" {
		return
	}
	path, ours := c.below(path)
	if !ours {
		return
	}
	t.requests++
	if t.first.IsZero() || at.Before(t.first) {
		t.first = at
	}
	if at.After(t.last) {
		t.last = at
	}
	version, ok := rootVersion(path)
	switch {
	case !ok:
	case status == 404 || status == 403 || status == 410:
		if version > 1 && (len(t.looks) < maxVersions || t.looks[version-1] > 0) {
			t.looks[version-1]++
		}
	case status == 200 || status == 206 || status == 304:
		t.served++
	}
}

// fields finds time, request and status of a line.
func fields(line []byte) (when, request []byte, status int, ok bool) {
	i := bytes.IndexByte(line, '[')
	if i < 0 {
		return nil, nil, 0, false
	}
	line = line[i+1:]
	j := bytes.Index(line, []byte(`] "`))
	if j < 0 {
		return nil, nil, 0, false
	}
	when, line = line[:j], line[j+3:]
	// Servers write a quote in a request as \" or \x22.
	end := -1
	for k := 0; k < len(line); k++ {
		if line[k] == '\\' {
			k++
		} else if line[k] == '"' {
			end = k
			break
		}
	}
	if end < 0 || len(line) < end+5 || line[end+1] != ' ' {
		return nil, nil, 0, false
	}
	request = line[:end]
	for _, d := range line[end+2 : end+5] {
		if d < '0' || d > '9' {
			return nil, nil, 0, false
		}
		status = status*10 + int(d-'0')
	}
	if rest := line[end+5:]; len(rest) > 0 && rest[0] != ' ' && rest[0] != '\n' && rest[0] != '\r' {
		return nil, nil, 0, false
	}
	return when, request, status, true
}

// below returns the part of a path from metadata/ or targets/ on.
func (c *AccessLog) below(path []byte) ([]byte, bool) {
	if c.Prefix != "" {
		rest, ok := bytes.CutPrefix(path, []byte(c.Prefix))
		return rest, ok && (bytes.HasPrefix(rest, []byte("metadata/")) || bytes.HasPrefix(rest, []byte("targets/")))
	}
	for _, folder := range []string{"/metadata/", "/targets/"} {
		if i := bytes.Index(path, []byte(folder)); i >= 0 {
			return path[i+1:], true
		}
	}
	return nil, false
}

// rootVersion reads "metadata/8.root.json".
func rootVersion(path []byte) (int64, bool) {
	name, ok := bytes.CutPrefix(path, []byte("metadata/"))
	if !ok {
		return 0, false
	}
	number, ok := bytes.CutSuffix(name, []byte(".root.json"))
	if !ok || len(number) == 0 || len(number) > 7 || number[0] < '1' || number[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	return n, err == nil && n > 0 && n <= maxRoot
}

// dayCache parses the times of a log. It caches the hour, because lines of one hour
// differ only in minute and second.
type dayCache struct {
	hour string
	at   time.Time
}

const logTime = "02/Jan/2006:15:04:05 -0700"

func (d *dayCache) parse(b []byte) (time.Time, bool) {
	if len(b) != len(logTime) {
		return time.Time{}, false
	}
	// 02/Jan/2006:15 and the zone; then minute and second.
	if len(d.hour) == 20 && string(b[:14]) == d.hour[:14] && string(b[20:]) == d.hour[14:] && b[14] == ':' && b[17] == ':' {
		m, ok1 := sixty(b[15], b[16])
		s, ok2 := sixty(b[18], b[19])
		return d.at.Add(time.Duration(m)*time.Minute + time.Duration(s)*time.Second), ok1 && ok2
	}
	t, err := time.Parse(logTime, string(b))
	if err != nil {
		return time.Time{}, false
	}
	d.hour = string(b[:14]) + string(b[20:])
	d.at = t.Add(-time.Duration(t.Minute())*time.Minute - time.Duration(t.Second())*time.Second)
	return t, true
}

func sixty(a, b byte) (int, bool) {
	n := int(a-'0')*10 + int(b-'0')
	return n, a >= '0' && a <= '5' && b >= '0' && b <= '9'
}

// Adoption is the distribution of root versions in the fleet. It has no data about single clients.
type Adoption struct {
	From      time.Time       `json:"from,omitzero"` // first counted request
	To        time.Time       `json:"to,omitzero"`   // last counted request
	Polls     int64           `json:"polls"`         // root checks that found no newer root
	Fleet     []VersionCount  `json:"fleet"`         // by the root that the client trusts, oldest first
	Requests  int64           `json:"requests"`      // for the repository, of any kind
	Locations []LocationCount `json:"locations"`     // by location id
	Lines     int64           `json:"lines"`         // lines read
	Skipped   int64           `json:"skipped"`       // lines in another format
	Outside   int64           `json:"outside"`       // lines before Since, or from Until on
}

// VersionCount is the share of the fleet at one root.
type VersionCount struct {
	Root  int64   `json:"root"`  // version
	Polls int64   `json:"polls"` // root checks
	Share float64 `json:"share"` // of all root checks
}

// LocationCount holds the counts of one location.
type LocationCount struct {
	Location string  `json:"location"` // location id
	Requests int64   `json:"requests"` // of any kind
	Polls    int64   `json:"polls"`    // root checks
	Share    float64 `json:"share"`    // of all requests
}

// Adoption returns the counts of all logs read so far.
func (c *AccessLog) Adoption() *Adoption {
	r := &Adoption{Fleet: []VersionCount{}, Locations: []LocationCount{}}
	looks := map[int64]int64{}
	for _, id := range slices.Sorted(maps.Keys(c.tallies)) {
		t := c.tallies[id]
		r.Lines, r.Skipped, r.Outside, r.Requests = r.Lines+t.lines, r.Skipped+t.skipped, r.Outside+t.older, r.Requests+t.requests
		p := LocationCount{Location: id, Requests: t.requests}
		for v, n := range t.looks {
			looks[v] += n
			p.Polls += n
		}
		r.Polls += p.Polls
		r.Locations = append(r.Locations, p)
		if !t.first.IsZero() && (r.From.IsZero() || t.first.Before(r.From)) {
			r.From = t.first.UTC()
		}
		if t.last.After(r.To) {
			r.To = t.last.UTC()
		}
	}
	for i := range r.Locations {
		r.Locations[i].Share = share(r.Locations[i].Requests, r.Requests)
	}
	for _, v := range slices.SortedFunc(maps.Keys(looks), cmp.Compare[int64]) {
		r.Fleet = append(r.Fleet, VersionCount{v, looks[v], share(looks[v], r.Polls)})
	}
	return r
}

func share(part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// At is the share of root checks by clients that trust root v or a newer one.
func (r *Adoption) At(v int64) float64 {
	var n int64
	for _, x := range r.Fleet {
		if x.Root >= v {
			n += x.Polls
		}
	}
	return share(n, r.Polls)
}
