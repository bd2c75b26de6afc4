package witness

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

// ServeHTTP answers the requests that the package comment lists; other paths are 404,
// other methods 405.
func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Header().Set("Cache-Control", "no-store")
	if r.URL.Path == "/add-checkpoint" {
		if r.Method != http.MethodPost {
			refuseMethod(rw, "POST")
			return
		}
		w.serveAdd(rw, r)
		return
	}
	hash, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), "/checkpoint")
	l := w.hashes[hash]
	switch {
	case !ok || l == nil:
		answer(rw, http.StatusNotFound, "witness: not found")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		refuseMethod(rw, "GET, HEAD")
	default:
		data, err := w.checkpoint(r.Context(), l)
		if err != nil {
			w.fail(rw, r, err)
			return
		}
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Write(data)
	}
}

func (w *Witness) serveAdd(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, MaxRequest))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		err = malformed("more than %d bytes", MaxRequest)
	} else if err != nil {
		err = malformed("the body ends early")
	}
	var line []byte
	if err == nil {
		line, err = w.AddCheckpoint(r.Context(), body)
	}
	if err != nil {
		w.fail(rw, r, err)
		return
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.Write(line)
}

// fail answers with an error. The causes of a failure of the witness go to its log alone,
// because they may name files and services.
func (w *Witness) fail(rw http.ResponseWriter, r *http.Request, err error) {
	size, isSize := errors.AsType[*SizeError](err)
	status, body := http.StatusInternalServerError, "witness: internal error"
	switch { // first those whose causes are errors of others, which may wrap any error
	case errors.Is(err, ErrCheck):
		status, body = http.StatusServiceUnavailable, err.Error()
	case errors.Is(err, ErrUnavailable):
		status, body = http.StatusServiceUnavailable, "witness: "+ErrUnavailable.Error()
	case errors.Is(err, ErrState):
		body = "witness: " + ErrState.Error()
	case isSize:
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprintf(rw, "%d\n", size.Size)
		return
	case errors.Is(err, ErrUnknownLog), errors.Is(err, fs.ErrNotExist):
		status, body = http.StatusNotFound, err.Error()
	case errors.Is(err, tlog.ErrSignature):
		status, body = http.StatusForbidden, err.Error()
	case errors.Is(err, tlog.ErrInclusion):
		status, body = http.StatusUnprocessableEntity, err.Error()
	case errors.Is(err, tlog.ErrMalformed):
		status, body = http.StatusBadRequest, err.Error()
	}
	if status == http.StatusServiceUnavailable {
		rw.Header().Set("Retry-After", strconv.FormatInt(int64((w.retry+time.Second-1)/time.Second), 10))
	}
	if status >= http.StatusInternalServerError && !errors.Is(err, ErrCheck) {
		w.log.ErrorContext(r.Context(), "a request failed", "status", status, "error", text.Line(err.Error()))
	}
	answer(rw, status, text.Line(body))
}

func refuseMethod(rw http.ResponseWriter, allow string) {
	rw.Header().Set("Allow", allow)
	answer(rw, http.StatusMethodNotAllowed, "witness: want the method "+allow)
}

func answer(rw http.ResponseWriter, status int, body string) {
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	rw.WriteHeader(status)
	io.WriteString(rw, body+"\n")
}
