package witness

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	// MaxRequest is the maximum number of bytes of the body of a request.
	MaxRequest = 64 << 10
	maxHashes  = 63 // of a proof
)

// request is a request whose checkpoint the log has signed.
type request struct {
	log   *witnessed
	old   int64
	proof []tlog.Hash
	new   tlog.Checkpoint
	text  string // of the checkpoint
	note  []byte // with the signature of the log alone
}

// parse reads a request and verifies the signature of the log. The error wraps
// [tlog.ErrMalformed], [ErrUnknownLog], [tlog.ErrSignature] or [tlog.ErrInclusion].
func (w *Witness) parse(body []byte) (*request, error) {
	r := &request{}
	rest, err := r.head(body)
	if err != nil {
		return nil, err
	}
	var lines []tlog.SignatureLine
	if r.text, lines, err = tlog.SplitNote([]byte(rest)); err != nil {
		return nil, wrap(err)
	}
	origin, _, _ := strings.Cut(r.text, "\n")
	if r.log = w.logs[origin]; r.log == nil {
		return nil, unknown(origin)
	}
	// Signatures of other keys are left out here, those of this witness too: they are
	// neither kept nor a reason to refuse.
	signed := r.text + "\n"
	for _, l := range lines {
		if l.By(r.log.key) {
			signed += l.Line
		}
	}
	if len(signed) == len(r.text)+1 {
		return nil, fmt.Errorf("witness: checkpoint: %w: the log has not signed", tlog.ErrSignature)
	}
	r.note = []byte(signed)
	c, err := r.log.policy.Checkpoint(r.note)
	if err != nil {
		return nil, wrap(err)
	}
	r.new = *c
	if r.old > c.Size {
		return nil, malformed("the old size %d is larger than the size %d of the checkpoint", r.old, c.Size)
	}
	return r, nil
}

// head reads the lines before the checkpoint.
func (r *request) head(body []byte) (rest string, err error) {
	if len(body) > MaxRequest {
		return "", malformed("more than %d bytes", MaxRequest)
	}
	line, rest, ok := strings.Cut(string(body), "\n")
	number, isOld := strings.CutPrefix(line, "old ")
	r.old, err = strconv.ParseInt(number, 10, 64)
	if !ok || !isOld || err != nil || r.old < 0 || strconv.FormatInt(r.old, 10) != number {
		return "", malformed("the first line is not an old size")
	}
	for {
		line, rest, ok = strings.Cut(rest, "\n")
		if !ok {
			return "", malformed("no empty line before the checkpoint")
		}
		if line == "" {
			return rest, nil
		}
		hash, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(hash) != len(tlog.Hash{}) || base64.StdEncoding.EncodeToString(hash) != line {
			return "", malformed("line %d is not a hash", len(r.proof)+2)
		}
		if len(r.proof) == maxHashes {
			return "", malformed("the proof has more than %d hashes", maxHashes)
		}
		r.proof = append(r.proof, tlog.Hash(hash))
	}
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("witness: request: %w: %s", tlog.ErrMalformed, fmt.Sprintf(format, args...))
}

func wrap(err error) error { return fmt.Errorf("witness: request: %w", err) }
