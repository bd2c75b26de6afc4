package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// server is gofakes3 with what it lacks: conditions of CompleteMultipartUpload and
// DeleteObject, UploadPartCopy, and the comparison of checksums. It is called without a
// network, so that tests can use the clock of synctest.
type server struct {
	inner http.Handler
	mu    sync.Mutex // makes a condition and its write one step
	seen  []*http.Request

	ignoreAll   bool // conditions of all requests
	ignoreParts bool // conditions of CompleteMultipartUpload
	refuseParts bool // they are 501
	noDelete    bool // conditions of DeleteObject are 501
	missing404  bool // If-Match on a missing object is 404 NoSuchKey, as S3 answers
	late        bool // an error of CompleteMultipartUpload is in the body of a 200
	lost409     bool // a lost race is 409 ConditionalRequestConflict
	encrypted   bool // ETags change with each write, as with SSE-KMS
}

func newServer(t testing.TB) *server {
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	return &server{inner: gofakes3.New(backend, gofakes3.WithIntegrityCheck(true)).Server()}
}

const uri = "s3://bucket/pre/fix?region=us-east-1&endpoint=http://127.0.0.1:1"

// options returns options whose requests go to the server through the round trippers.
func (s *server) options(via ...func(http.RoundTripper) http.RoundTripper) *Options {
	var rt http.RoundTripper = s
	for _, wrap := range via {
		rt = wrap(rt)
	}
	return &Options{HTTPClient: &http.Client{Transport: rt}, Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", secret, "")}
}

const secret = "wJalrXUtnFEMI-SECRET"

func (s *server) open(t testing.TB, via ...func(http.RoundTripper) http.RoundTripper) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), uri, s.options(via...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RoundTrip answers as a server would. The request is not kept.
func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(context.WithoutCancel(r.Context()))
	in.RequestURI = r.URL.RequestURI()
	in.Host = r.URL.Host
	in.Header.Set("Content-Length", fmt.Sprint(r.ContentLength))
	if in.Body == nil {
		in.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	s.ServeHTTP(rec, in)
	if r.Body != nil {
		r.Body.Close()
	}
	out := rec.Result()
	out.Request = r
	return out, nil
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r)
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		answer(w, 400, "IncompleteBody")
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if sum := r.Header.Get("X-Amz-Checksum-Sha256"); sum != "" && len(body) >= 0 && r.Method == http.MethodPut {
		if have := sha256.Sum256(body); base64.StdEncoding.EncodeToString(have[:]) != sum {
			answer(w, 400, "BadDigest")
			return
		}
	}
	query := r.URL.Query()
	complete := r.Method == http.MethodPost && query.Has("uploadId")
	if s.ignoreAll || s.ignoreParts && complete {
		r.Header.Del("If-Match")
		r.Header.Del("If-None-Match")
	}
	if match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match"); match != "" || none != "" {
		if s.refuseParts && complete || s.noDelete && r.Method == http.MethodDelete {
			answer(w, 501, "NotImplemented")
			return
		}
		etag := s.etag(r.URL.Path)
		switch {
		case match != "" && etag == "" && s.missing404:
			answer(w, 404, "NoSuchKey")
			return
		case none != "" && etag != "" || match != "" && etag != match:
			if s.late && complete {
				answer(w, 200, "PreconditionFailed")
			} else if s.lost409 {
				answer(w, 409, "ConditionalRequestConflict")
			} else {
				answer(w, 412, "PreconditionFailed")
			}
			return
		}
		r.Header.Del("If-Match")
		r.Header.Del("If-None-Match")
	}
	if from := r.Header.Get("X-Amz-Copy-Source"); from != "" && query.Has("uploadId") {
		s.copyPart(w, r, from)
		return
	}
	if s.encrypted && r.Method == http.MethodGet && !query.Has("list-type") {
		rec := httptest.NewRecorder()
		s.inner.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		if rec.Code == 200 {
			w.Header().Set("ETag", s.etag(r.URL.Path))
		}
		w.WriteHeader(rec.Code)
		w.Write(rec.Body.Bytes())
		return
	}
	s.inner.ServeHTTP(w, r)
}

// call sends a request of the server to gofakes3.
func (s *server) call(method, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, (&url.URL{Path: path}).String(), bytes.NewReader(body))
	rec := httptest.NewRecorder()
	s.inner.ServeHTTP(rec, r)
	return rec
}

// etag returns "" if there is no object.
func (s *server) etag(path string) string {
	rec := s.call(http.MethodHead, path, nil)
	if rec.Code != 200 {
		return ""
	}
	if s.encrypted {
		sum := sha256.Sum256([]byte(rec.Header().Get("X-Amz-Meta-Visum-Write")))
		return fmt.Sprintf(`"%x"`, sum[:16])
	}
	return rec.Header().Get("ETag")
}

func (s *server) copyPart(w http.ResponseWriter, r *http.Request, from string) {
	from, err := url.PathUnescape(from)
	if err != nil {
		answer(w, 400, "InvalidArgument")
		return
	}
	etag := s.etag("/" + from)
	source := s.call(http.MethodGet, "/"+from, nil)
	if source.Code != 200 {
		answer(w, 404, "NoSuchKey")
		return
	}
	if match := r.Header.Get("X-Amz-Copy-Source-If-Match"); match != "" && match != etag {
		answer(w, 412, "PreconditionFailed")
		return
	}
	data := source.Body.Bytes()
	if span := r.Header.Get("X-Amz-Copy-Source-Range"); span != "" {
		var start, end int
		if _, err := fmt.Sscanf(span, "bytes=%d-%d", &start, &end); err != nil || end >= len(data) {
			answer(w, 416, "InvalidRange")
			return
		}
		data = data[start : end+1]
	}
	part := httptest.NewRequest(http.MethodPut, r.URL.RequestURI(), bytes.NewReader(data))
	part.Header.Set("Content-Length", fmt.Sprint(len(data)))
	rec := httptest.NewRecorder()
	s.inner.ServeHTTP(rec, part)
	if rec.Code != 200 {
		answer(w, rec.Code, "InternalError")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(struct {
		XMLName xml.Name `xml:"CopyPartResult"`
		ETag    string
	}{ETag: rec.Header().Get("ETag")})
}

func answer(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>message of the\nstore</Message></Error>", code)
}

// requests returns the requests since the last call, by method.
func (s *server) requests() (out []*http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, s.seen = s.seen, nil
	return out
}

// uploads returns the number of unfinished multipart uploads.
func (s *server) uploads() int {
	r := httptest.NewRequest(http.MethodGet, "/bucket?uploads", nil)
	rec := httptest.NewRecorder()
	s.inner.ServeHTTP(rec, r)
	return strings.Count(rec.Body.String(), "<UploadId>")
}

// fault is what happens to one request.
type fault int

const (
	none     fault = iota
	unsent         // the connection fails before the request
	unheard        // the request takes effect, the answer is lost
	slowDown       // 503 SlowDown, without effect
	internal       // 500, after the effect
	cut            // the answer is cut off in its body
	numFaults
)

func (f fault) String() string {
	return [...]string{"none", "unsent", "unheard", "slowDown", "internal", "cut"}[f]
}

var errLine = errors.New("connection reset")

// faulty makes requests fail by their number, from 0.
type faulty struct {
	next http.RoundTripper
	mu   sync.Mutex
	n    int
	plan func(n int, r *http.Request) fault
}

func (f *faulty) wrap(next http.RoundTripper) http.RoundTripper { f.next = next; return f }

// set begins to count again.
func (f *faulty) set(plan func(n int, r *http.Request) fault) (before int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, f.n, f.plan = f.n, 0, plan
	return before
}

func (f *faulty) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	what := none
	if f.plan != nil {
		what = f.plan(f.n, r)
	}
	f.n++
	f.mu.Unlock()
	switch what {
	case unsent:
		return nil, errLine
	case slowDown:
		rec := httptest.NewRecorder()
		answer(rec, 503, "SlowDown")
		return rec.Result(), nil
	}
	out, err := f.next.RoundTrip(r)
	if err != nil || what == none {
		return out, err
	}
	switch what {
	case unheard:
		return nil, errLine
	case internal:
		rec := httptest.NewRecorder()
		answer(rec, 500, "InternalError")
		return rec.Result(), nil
	}
	data, _ := io.ReadAll(out.Body)
	if out.StatusCode < 300 && len(data) > 0 {
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(data[:len(data)/2]), failing{io.ErrUnexpectedEOF}))
	} else {
		out.Body = io.NopCloser(bytes.NewReader(data))
	}
	return out, nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
