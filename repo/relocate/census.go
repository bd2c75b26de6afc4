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

// ErrCensus: a log that can't be read as one.
var ErrCensus = errors.New("relocate: census")

// Census counts the fleet in ordinary access logs, in the common or the combined
// log format, plain or gzip. A client that trusts root v asks for v+1.root.json
// and hears that there is none (404, 403, 410): these answers, by version, are
// where the fleet stands. Roots that are served say nothing: who walks asks again.
//
// Nothing that is kept names a client: numbers by version, day and place are all
// there is. A client that looks often counts often, so shares are of looks, not
// of machines; where all clients look equally often that is the same. Memory does
// not grow with the logs. Not safe for concurrent use; the zero value is ready.
//
// A cache in front of a place may answer "none" by itself: then those looks are in
// the cache's log, not in the place's, and the place's log shows one for many.
// Take the logs of the outermost layer, or let the cache pass such requests on.
//
// Anybody can send such requests, as many as he likes, and whoever runs a place can
// write its log: a census can be forged, upwards and downwards. Compare places whose
// operators have nothing to do with each other, and let nothing depend on the result
// alone that can't be undone.
type Census struct {
	// Since and Until bound what is counted, Until not included; zero: all there is.
	Since, Until time.Time
	// Prefix is what a request's path has before "metadata/" where a host serves more
	// than one repository, as in "/r/"; "": any.
	Prefix string

	places map[string]*tally
}

// Bounds, so that a hostile log fills no memory.
const (
	maxLine     = 64 << 10
	maxVersions = 4096    // that are told apart, for each place
	maxRoot     = 1 << 20 // a version beyond is a joke
	maxPlaces   = 256
)

// tally is what one place's logs say.
type tally struct {
	looks    map[int64]int64 // root that a client trusts, to how often one looked for the next
	served   int64           // roots that were handed out
	requests int64           // for this repository, of any kind
	lines    int64
	skipped  int64
	older    int64 // outside Since and Until
	first    time.Time
	last     time.Time
	dayCache dayCache
}

// Read counts a log of a place, named by its location id, to its end. Lines that
// are no log lines are skipped and counted; a log of which no line is one is an
// error that wraps [ErrCensus]. What was read before an error stays counted.
func (c *Census) Read(ctx context.Context, place string, log io.Reader) error {
	if c.places == nil {
		c.places = map[string]*tally{}
	}
	t := c.places[place]
	if t == nil {
		if len(c.places) == maxPlaces {
			return fmt.Errorf("%w: more than %d places", ErrCensus, maxPlaces)
		}
		t = &tally{looks: map[int64]int64{}}
		c.places[place] = t
	}
	in := bufio.NewReaderSize(ctxio.NewReader(ctx, log), maxLine)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		// Rotated logs are often several streams in one file; gzip reads on over them.
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCensus, place, err)
		}
		in = bufio.NewReaderSize(ctxio.NewReader(ctx, z), maxLine) // a few bytes may become very many
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
			return fmt.Errorf("%w: %s: none of %d lines is in the common or combined log format", ErrCensus, place, t.lines-n)
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("%w: %s: %w", ErrCensus, place, err)
		}
	}
}

// skipLine reads to the end of a line that is too long.
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
// Host, user, referer and agent are not looked at.
func (c *Census) line(t *tally, line []byte) {
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

// below cuts a path down to what begins with metadata/ or targets/.
func (c *Census) below(path []byte) ([]byte, bool) {
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

// dayCache parses the times of a log: lines of one hour differ in minute and
// second only.
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

// Result is what a census says. It names no client.
type Result struct {
	From     time.Time      `json:"from,omitzero"` // first and last request that counted
	To       time.Time      `json:"to,omitzero"`
	Looks    int64          `json:"looks"`    // how often a client looked for a next root and there was none
	Fleet    []VersionCount `json:"fleet"`    // by the root that those clients trust, oldest first
	Requests int64          `json:"requests"` // for the repository, of any kind
	Places   []PlaceCount   `json:"places"`   // by location id
	Lines    int64          `json:"lines"`
	Skipped  int64          `json:"skipped"` // lines that are no log lines
	Outside  int64          `json:"outside"` // lines before Since, or from Until on
}

// VersionCount is the part of the fleet at one root.
type VersionCount struct {
	Root  int64   `json:"root"`
	Looks int64   `json:"looks"`
	Share float64 `json:"share"`
}

// PlaceCount is the part of one place.
type PlaceCount struct {
	Place    string  `json:"place"`
	Requests int64   `json:"requests"`
	Looks    int64   `json:"looks"`
	Share    float64 `json:"share"` // of the requests
}

// Result sums up what was read so far.
func (c *Census) Result() *Result {
	r := &Result{Fleet: []VersionCount{}, Places: []PlaceCount{}}
	looks := map[int64]int64{}
	for _, id := range slices.Sorted(maps.Keys(c.places)) {
		t := c.places[id]
		r.Lines, r.Skipped, r.Outside, r.Requests = r.Lines+t.lines, r.Skipped+t.skipped, r.Outside+t.older, r.Requests+t.requests
		p := PlaceCount{Place: id, Requests: t.requests}
		for v, n := range t.looks {
			looks[v] += n
			p.Looks += n
		}
		r.Looks += p.Looks
		r.Places = append(r.Places, p)
		if !t.first.IsZero() && (r.From.IsZero() || t.first.Before(r.From)) {
			r.From = t.first.UTC()
		}
		if t.last.After(r.To) {
			r.To = t.last.UTC()
		}
	}
	for i := range r.Places {
		r.Places[i].Share = share(r.Places[i].Requests, r.Requests)
	}
	for _, v := range slices.SortedFunc(maps.Keys(looks), cmp.Compare[int64]) {
		r.Fleet = append(r.Fleet, VersionCount{v, looks[v], share(looks[v], r.Looks)})
	}
	return r
}

func share(part, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all)
}

// At is the share of the fleet that trusts root v or a newer one.
func (r *Result) At(v int64) float64 {
	var n int64
	for _, x := range r.Fleet {
		if x.Root >= v {
			n += x.Looks
		}
	}
	return share(n, r.Looks)
}
