package pkcs11

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

// The protocol of the helper: one JSON object in each line, on standard input and output.
// A request gets one reply; before that the helper may ask for a PIN, once or more often,
// which the next line answers.

const (
	maxPayload = 32 << 20 // bytes of a payload
	maxRequest = 4*((maxPayload+2)/3) + 64<<10
	maxReply   = 1 << 20
)

// named selects a key.
type named struct {
	Module   string `json:"module,omitempty"`
	URI      string `json:"uri,omitempty"`
	Purpose  string `json:"purpose,omitempty"`
	FinalTry bool   `json:"final_try,omitempty"`
}

type request struct {
	Op string `json:"op"` // list, open, sign; pin: the answer to a question
	named
	Payload []byte `json:"payload,omitempty"`
	PIN     []byte `json:"pin,omitempty"` // empty: there is none
}

type reply struct {
	Ask       *Token   `json:"ask,omitempty"` // the token whose PIN is needed
	Key       *tuf.Key `json:"key,omitempty"`
	Signature []byte   `json:"signature,omitempty"`
	Tokens    []Token  `json:"tokens,omitempty"`
	Error     string   `json:"error,omitempty"`
	Kinds     []string `json:"kinds,omitempty"` // of the error, as errorKinds has them
}

// errorKinds are the errors that the protocol preserves.
var errorKinds = map[string]error{
	"pin": ErrPIN, "pin-locked": ErrPINLocked, "final-try": ErrFinalTry, "not-present": ErrNotPresent, "ambiguous": ErrAmbiguous, "module": ErrModule,
	"not-linked": ErrNotLinked, "not-exist": fs.ErrNotExist, "invalid": fs.ErrInvalid, "permission": fs.ErrPermission, "kind": keys.ErrKind, "purpose": keys.ErrPurpose, "signature": store.ErrSignature,
}

// helperError is an error that the helper has returned.
type helperError struct {
	text string
	errs []error
}

func (e *helperError) Error() string   { return e.text }
func (e *helperError) Unwrap() []error { return e.errs }

func (r *reply) err() error {
	if r.Error == "" {
		return nil
	}
	e := &helperError{text: r.Error} // callers make it one line
	for _, kind := range r.Kinds {
		if err := errorKinds[kind]; err != nil {
			e.errs = append(e.errs, err)
		}
	}
	return e
}

func errorReply(err error) *reply {
	r := &reply{Error: text.Line(err.Error())}
	for kind, known := range errorKinds {
		if errors.Is(err, known) {
			r.Kinds = append(r.Kinds, kind)
		}
	}
	return r
}

// readLine reads one JSON object of at most limit bytes.
func readLine(in *bufio.Reader, limit int, v any) error {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return fmt.Errorf("a line of more than %d bytes", limit)
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if err == io.EOF && len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != bufio.ErrBufferFull {
			return err
		}
	}
	if json.Unmarshal(line, v) != nil {
		return errors.New("not a line of the protocol") // without the line, in which a PIN may be
	}
	return nil
}

func writeLine(out io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = out.Write(append(line, '\n'))
	return err
}

// Serve is the helper program: it reads the requests of a process that has
// [Config].Helper and writes replies, until in ends. It asks that process for PINs.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	s := &server{in: bufio.NewReader(in), out: out, signers: map[named]tuf.Signer{}}
	for {
		var q request
		if err := readLine(s.in, maxRequest, &q); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("keys: pkcs11: request: %w", err)
		}
		r, err := s.answer(ctx, &q)
		if err != nil {
			r = errorReply(err)
		}
		if err := writeLine(out, r); err != nil {
			return fmt.Errorf("keys: pkcs11: reply: %w", err)
		}
	}
}

type server struct {
	in      *bufio.Reader
	out     io.Writer
	signers map[named]tuf.Signer
}

func (s *server) answer(ctx context.Context, q *request) (*reply, error) {
	switch q.Op {
	case "list":
		tokens, err := List(ctx, q.URI, Config{Module: q.Module})
		return &reply{Tokens: tokens}, err
	case "open", "sign":
		signer := s.signers[q.named]
		if signer == nil {
			var err error
			signer, err = Opener(Config{Module: q.Module, PIN: s.ask, UnsafeFinalTry: q.FinalTry})(ctx, q.URI, &keys.Options{Purpose: q.Purpose})
			if err != nil {
				return nil, err
			}
			s.signers[q.named] = signer
		}
		key := signer.Key()
		if q.Op == "open" {
			return &reply{Key: &key}, nil
		}
		sig, err := signer.Sign(ctx, q.Payload)
		return &reply{Key: &key, Signature: sig}, err
	}
	return nil, fmt.Errorf("%w: unknown request", fs.ErrInvalid)
}

// ask asks the other process for a PIN. Requests are answered one after another, so the
// next line is the answer.
func (s *server) ask(_ context.Context, t Token) ([]byte, error) {
	if err := writeLine(s.out, &reply{Ask: &t}); err != nil {
		return nil, err
	}
	var q request
	if err := readLine(s.in, maxRequest, &q); err != nil {
		return nil, err
	}
	if q.Op != "pin" || len(q.PIN) == 0 {
		return nil, fmt.Errorf("%w: none was given", ErrPIN)
	}
	return q.PIN, nil
}
