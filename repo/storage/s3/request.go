package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
)

const (
	maxAttempts = 5
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	attemptTime = 2 * time.Minute // and a second for each slowest bytes of the body
	slowest     = 64 << 10        // bytes per second
	stallTime   = time.Minute     // without a byte of a body
	cleanupTime = 10 * time.Second
)

var (
	// errLost: the condition of a write did not hold, so the write changed nothing.
	errLost = fmt.Errorf("the condition of the write did not hold: %w", storage.ErrConflict)
	// errStalled ends a transfer without progress.
	errStalled = errors.New("no data for a minute")
	// timedOut does not wrap the context's error, since the caller's context has not ended.
	timedOut = &remoteError{text: "no answer in time", err: errStalled}
)

// remoteError is an error of the SDK with a text of this package: the SDK's own texts
// contain unquoted text of the server.
type remoteError struct {
	text   string
	status int    // HTTP, 0 without an answer
	code   string // S3's error code, "" if there is none
	err    error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.err }

// do sends a request until it succeeds, fails for good, or has failed too often. size
// is the number of bytes that one attempt transfers. unknown reports that an attempt may
// have taken effect although it has no good answer.
func (b *Bucket) do(ctx context.Context, size int64, call func(context.Context) error) (unknown bool, err error) {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		if err := ctx.Err(); err != nil {
			return unknown, err
		}
		err := b.try(ctx, size, call)
		if err == nil {
			return unknown, nil
		}
		if ctx.Err() != nil {
			return true, ctx.Err() // the SDK wraps it in ways that hide it
		}
		var remote *remoteError
		if !errors.As(err, &remote) {
			return unknown, err
		}
		unknown = unknown || remote.unknown()
		if attempt == maxAttempts || !remote.temporary() {
			return unknown, err
		}
		// Jitter keeps the publishers that failed together apart.
		if err := sleep(ctx, wait/2+rand.N(wait/2)); err != nil {
			return unknown, err
		}
		wait = min(2*wait, longestWait)
	}
}

// try sends a request once.
func (b *Bucket) try(ctx context.Context, size int64, call func(context.Context) error) error {
	attempt, cancel := context.WithTimeout(ctx, attemptTime+time.Duration(size/slowest)*time.Second)
	defer cancel()
	err := call(attempt)
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return timedOut
	}
	return explain(err)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// explain gives an error of the SDK a bounded text.
func explain(err error) error {
	var remote *remoteError
	if err == nil || errors.As(err, &remote) || errors.Is(err, storage.ErrConflict) {
		return err
	}
	e := &remoteError{err: err}
	var response *smithyhttp.ResponseError
	var request *awshttp.ResponseError
	var api smithy.APIError
	if errors.As(err, &response) {
		e.status = response.HTTPStatusCode()
	}
	if errors.As(err, &api) {
		e.code = api.ErrorCode()
		// A long request may be answered 200 at first, with the error in the body.
		switch e.code {
		case "PreconditionFailed":
			e.status = http.StatusPreconditionFailed
		case "ConditionalRequestConflict":
			e.status = http.StatusConflict
		}
		e.text = fmt.Sprintf("the store answered %d %s: %s", e.status, text.Name(e.code), text.Quote(api.ErrorMessage()))
		if errors.As(err, &request) && request.RequestID != "" {
			e.text += " (request " + text.Name(request.RequestID) + ")"
		}
		return e
	}
	cause := err
	var sent *url.Error
	if errors.As(err, &sent) {
		cause = sent.Err // without the URL
	}
	e.text = "request failed: " + text.Quote(cause.Error())
	if e.status != 0 {
		e.text = fmt.Sprintf("the answer %d is invalid: %s", e.status, text.Quote(cause.Error()))
	}
	return e
}

// temporary reports whether the same request may succeed later.
func (e *remoteError) temporary() bool {
	switch {
	case e.status == 0 || e.status < 300: // no answer, or a cut one
		var sending *smithyhttp.RequestSendError
		var reading *smithy.DeserializationError
		return errors.As(e.err, &sending) || errors.As(e.err, &reading) || errors.Is(e.err, errStalled) ||
			errors.Is(e.err, io.ErrUnexpectedEOF) || e.status != 0
	case e.status == http.StatusConflict: // AWS: upload again
		return e.code == "ConditionalRequestConflict" || e.code == "OperationAborted"
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooManyRequests:
		return true
	case e.status == http.StatusNotImplemented:
		return false
	case e.status >= 500:
		return true
	}
	return e.code == "RequestTimeout" || e.code == "SlowDown" || e.code == "Throttling"
}

// unknown reports whether the request may have taken effect.
func (e *remoteError) unknown() bool {
	return e.status < 300 || e.status >= 500 && e.status != http.StatusNotImplemented && e.code != "SlowDown"
}

func answered(err error, status int, codes ...string) bool {
	var e *remoteError
	if !errors.As(err, &e) || e.status != status {
		return false
	}
	for _, code := range codes {
		if e.code == code {
			return true
		}
	}
	return len(codes) == 0
}

// absent reports whether err proves that there is no object.
func absent(err error) bool { return answered(err, http.StatusNotFound, "NoSuchKey") }

// lost reports whether err is the answer to a write whose condition did not hold.
func lost(err error, c condition) bool {
	return answered(err, http.StatusPreconditionFailed) ||
		answered(err, http.StatusConflict, "ConditionalRequestConflict", "OperationAborted") ||
		c.etag != "" && absent(err)
}

// object is the content of a GetObject. Reading it fails after ctx ends, or if no data
// arrives for a while.
type object struct {
	info   info
	ctx    context.Context
	body   io.ReadCloser
	watch  *time.Timer
	stall  context.Context
	cancel context.CancelCauseFunc
}

func (o *object) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, err
	}
	o.watch.Reset(stallTime)
	n, err := o.body.Read(p)
	o.watch.Stop()
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, o.why(err)
}

// why returns the reason that a cancelled transfer does not show.
func (o *object) why(err error) error {
	if o.ctx.Err() != nil {
		return o.ctx.Err()
	}
	if context.Cause(o.stall) == errStalled {
		err = errStalled
	}
	return &remoteError{text: "the content was cut off: " + text.Quote(err.Error()), status: http.StatusOK, err: err}
}

func (o *object) Close() error {
	o.watch.Stop()
	o.cancel(nil)
	return o.body.Close()
}
