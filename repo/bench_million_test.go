package repo_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
)

// wire serves a storage in process and counts what it sent.
type wire struct {
	handler http.Handler
	plain   bool // nothing is compressed
	sent    int64
	files   []string
}

func (x *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if x.plain {
		req = req.Clone(req.Context())
		req.Header.Del("Accept-Encoding")
	}
	rec := httptest.NewRecorder()
	x.handler.ServeHTTP(rec, req)
	x.sent += int64(rec.Body.Len())
	x.files = append(x.files, fmt.Sprintf("%s %d", req.URL.Path, rec.Body.Len()))
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

// since returns what was sent since the last call.
func (x *wire) since() int64 {
	n := x.sent
	x.sent = 0
	return n
}

// Both parties list a million files. Measured are the memory, and the transfer of a
// client that looks up one of them, starting from its pin only; then after a change of
// another file; and then without a change.
func BenchmarkMillion(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		w := emptyWorld(b)
		w.Now = time.Now()
		dir := b.TempDir()
		w.Elsewhere = noTargets{repo.Folder(dir)}
		w.Update(w.Define)
		for _, step := range []struct {
			name string
			edit func(*repo.Tx) error
		}{{"add", addRules(0, n, strconv.Itoa)}, {"approve", approveRules(0, n)}, {"change", addRules(7, 8, changed)}, {"agree", approveRules(7, 8)}} {
			start := cpuTime()
			peak, err := peakHeap(func() error { return w.Try(step.edit) })
			noErr(b, err)
			b.ReportMetric(float64(cpuTime()-start)/1e6, step.name+"-cpu-ms")
			b.ReportMetric(float64(peak)/(1<<20), step.name+"-peak-MiB")
		}
		b.ReportMetric(residentMiB(), "rss-MiB")
		for _, plain := range []bool{false, true} {
			x := &wire{handler: mirror.Handler(repo.Folder(dir)), plain: plain}
			pin, err := w.Open().Pin(b.Context())
			noErr(b, err)
			c, err := client.New(pin, &client.Config{Dir: b.TempDir(), HTTP: &http.Client{Transport: x}, Now: func() time.Time { return w.Now }})
			noErr(b, err)
			name := map[bool]string{false: "gzip-B", true: "plain-B"}[plain]
			look := func(i int) {
				v, err := c.Refresh(b.Context())
				noErr(b, err)
				_, err = v.Find(b.Context(), rules(i))
				noErr(b, err)
			}
			look(123_456)
			b.ReportMetric(float64(x.since()), "first-"+name)
			b.Logf("%s: %q", name, x.files)
			look(654_321)
			b.ReportMetric(float64(x.since()), "second-"+name)
			_, err = c.Refresh(b.Context())
			noErr(b, err)
			b.ReportMetric(float64(x.since()), "no-change-"+name)
		}
	}
}

// residentMiB is the peak memory of the process, if the system reports it.
func residentMiB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib float64
	fmt.Sscan(after, &kib)
	return kib / 1024
}
