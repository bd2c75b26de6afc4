package cosign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	maxAnswer = 64 << 10
	// maxConflicts is how often one cosigner may name another size.
	maxConflicts = 4
	firstPause   = 500 * time.Millisecond
	maxPause     = 30 * time.Second
)

var errNoURL = errors.New("it has no URL")

// ask asks one cosigner until it signs, refuses, or ctx ends.
func (a *asking) ask(ctx context.Context, c cosigner, oldSize int64) (line string, err error) {
	if c.key.Type != tlog.TypeCosigner {
		return "", fmt.Errorf("its key has type %#04x, which is not verified", c.key.Type)
	}
	if c.url == "" {
		return "", errNoURL
	}
	if oldSize < 0 || oldSize > a.tree.Size {
		oldSize = 0
	}
	pause, conflicts := firstPause, 0
	for {
		status, header, body, err := a.add(ctx, c, oldSize)
		wait := time.Duration(0)
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("no answer in time: %w", context.Cause(ctx))
		case err != nil:
			if !temporary(err) {
				return "", err
			}
		case status == http.StatusOK:
			return a.verified(c, body)
		case status == http.StatusConflict:
			size, ok := parseSize(body)
			if conflicts++; !ok || conflicts > maxConflicts {
				return "", fmt.Errorf("conflict %d: %s", conflicts, text.Quote(head(body)))
			}
			if size > a.tree.Size {
				return "", a.fork(ctx, c, fmt.Errorf("it has seen %d entries, the log has %d", size, a.tree.Size))
			}
			oldSize = size
			continue
		case status == http.StatusUnprocessableEntity:
			return "", a.fork(ctx, c, fmt.Errorf("it refuses the tree: %s", text.Quote(head(body))))
		case status == http.StatusTooManyRequests, status >= 500:
			err = fmt.Errorf("status %d: %s", status, text.Quote(head(body)))
			wait = retryAfter(header)
		default:
			return "", fmt.Errorf("status %d: %s", status, text.Quote(head(body)))
		}
		if wait == 0 {
			wait = pause/2 + rand.N(pause)
			pause = min(2*pause, maxPause)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return "", err
		}
	}
}

// proofError is an error of the log's own tiles.
type proofError struct{ error }

func (e proofError) Unwrap() error { return e.error }

// temporary reports whether a request may succeed later.
func temporary(err error) bool {
	_, own := errors.AsType[proofError](err)
	return !own
}

// add makes one request of add-checkpoint.
func (a *asking) add(ctx context.Context, c cosigner, oldSize int64) (status int, header http.Header, body []byte, err error) {
	proof, err := a.tree.Consistency(oldSize)
	if err != nil {
		return 0, nil, nil, proofError{err}
	}
	b := []byte("old " + strconv.FormatInt(oldSize, 10) + "\n")
	for _, h := range proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(append(b, '\n'), a.base...)
	return a.do(ctx, http.MethodPost, c.url+"/add-checkpoint", b)
}

func (a *asking) do(ctx context.Context, method, url string, send []byte) (status int, header http.Header, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(send))
	if err != nil {
		return 0, nil, nil, proofError{err}
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1)); err != nil {
		return 0, nil, nil, err
	}
	if len(body) > maxAnswer {
		return 0, nil, nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// verified returns the line of the cosigner in an answer. Other lines are ignored.
func (a *asking) verified(c cosigner, body []byte) (string, error) {
	_, lines, err := tlog.SplitNote([]byte(a.base + string(body)))
	if err != nil {
		return "", err
	}
	found := ""
	for _, l := range lines {
		if l.By(c.key) {
			found = l.Line
		}
	}
	if found == "" {
		return "", errors.New("its answer has no signature by its key in the policy")
	}
	if _, err := c.policy.Checkpoint([]byte(a.base + found)); err != nil {
		return "", err
	}
	return found, nil
}

// fork looks at the checkpoint that a cosigner has. With one that the log has signed and that
// is not the beginning of ours, the error is a ForkError; else it is why.
func (a *asking) fork(ctx context.Context, c cosigner, why error) error {
	sum := sha256.Sum256([]byte(a.origin))
	status, _, body, err := a.do(ctx, http.MethodGet, c.url+"/"+hex.EncodeToString(sum[:])+"/checkpoint", nil)
	if err != nil || status != http.StatusOK {
		return why
	}
	theirs, err := c.policy.Checkpoint(body)
	if err != nil {
		return why
	}
	if theirs.Size > a.tree.Size {
		return fmt.Errorf("%w: %d entries, ours has %d", ErrAhead, theirs.Size, a.tree.Size)
	}
	proof, err := a.tree.Consistency(theirs.Size)
	if err != nil {
		return proofError{err}
	}
	if tlog.CheckConsistency(proof, theirs.Size, theirs.Root, a.tree.Size, a.tree.Root) == nil {
		return why
	}
	return &ForkError{Cosigner: c.name, Ours: []byte(a.base), Theirs: body}
}

// parseSize reads the body of a conflict.
func parseSize(body []byte) (int64, bool) {
	s := strings.TrimSuffix(string(body), "\n")
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// retryAfter reads the seconds that a cosigner asks for; 0 if it does not.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 1 {
		return 0
	}
	return min(time.Duration(n)*time.Second, 10*time.Minute)
}

// head is the beginning of a text for a message.
func head(body []byte) string { return strings.TrimSpace(string(body[:min(len(body), 200)])) }
