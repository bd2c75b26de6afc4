package pkcs11

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

// helper is the other side of [Serve]: it starts the program when it is needed first. All
// keys of an opener share one process, so that a token asks once for its PIN.
type helper struct {
	cfg  Config
	lock chan struct{} // one element during each request
	proc *process      // nil: not running
}

func newHelper(cfg Config) *helper { return &helper{cfg: cfg, lock: make(chan struct{}, 1)} }

// process is a running helper. What it writes is not trusted: lines have a limit, and
// signatures are verified.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *firstBytes
}

func (h *helper) start() (*process, error) {
	if !filepath.IsAbs(h.cfg.Helper) {
		return nil, fmt.Errorf("%w: its path %s is not absolute", ErrHelper, text.Name(h.cfg.Helper))
	}
	cmd := exec.Command(h.cfg.Helper)
	cmd.Env = append([]string{}, h.cfg.Env...) // not nil, which is the environment of this process
	p := &process{cmd: cmd, stderr: &firstBytes{}}
	cmd.Stderr = p.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, bufio.NewReader(out)
	if err := cmd.Start(); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no program %s: install visum-pkcs11 there (go install github.com/visum-dev/visum/cmd/visum-pkcs11@latest, with CGO_ENABLED=1 and a C compiler)", ErrHelper, text.Name(h.cfg.Helper))
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHelper, err)
	}
	return p, nil
}

// end ends the process at once, and returns what it wrote to standard error.
func (p *process) end() string {
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	first, _, _ := strings.Cut(strings.TrimSpace(string(p.stderr.data)), "\n")
	return first
}

// firstBytes keeps the first 4 KiB of what is written.
type firstBytes struct{ data []byte }

func (f *firstBytes) Write(p []byte) (int, error) {
	f.data = append(f.data, p[:min(len(p), 4<<10-len(f.data))]...)
	return len(p), nil
}

func (h *helper) close() {
	if h.proc != nil {
		h.proc.end()
	}
}

// call makes a request. If ctx ends meanwhile, the helper is ended, since it may wait for
// the token; the next request starts another one.
func (h *helper) call(ctx context.Context, q *request, ask asking) (*reply, error) {
	if err := acquire(ctx, h.lock); err != nil {
		return nil, err
	}
	defer func() { <-h.lock }()
	if h.proc == nil {
		var err error
		if h.proc, err = h.start(); err != nil {
			return nil, err
		}
	}
	p := h.proc
	type answer struct {
		r       *reply
		err     error
		refused error // of ask
	}
	a, err := wait(ctx, func() (a answer, err error) {
		a.r, a.refused, a.err = p.exchange(ctx, q, ask)
		return a, nil
	})
	if err == nil && a.err == nil {
		if a.refused != nil { // says more than the helper, which was told that there is no PIN
			return nil, a.refused
		}
		return a.r, a.r.err()
	}
	said := p.end()
	h.proc = nil
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case said != "":
		return nil, fmt.Errorf("%w: %w: %s", ErrHelper, a.err, text.Quote(said))
	}
	return nil, fmt.Errorf("%w: %w", ErrHelper, a.err)
}

// exchange writes a request, answers questions and reads the reply.
func (p *process) exchange(ctx context.Context, q *request, ask asking) (r *reply, refused, err error) {
	if err := writeLine(p.in, q); err != nil {
		return nil, nil, p.unwritten(err)
	}
	for range 8 { // a request needs the PIN twice at most
		r = &reply{}
		if err := readLine(p.out, maxReply, r); err == io.EOF {
			return nil, nil, errors.New("it has ended")
		} else if err != nil {
			return nil, nil, err
		}
		if r.Ask == nil {
			return r, refused, nil
		}
		answer := &request{Op: "pin"}
		if answer.PIN, refused = ask(ctx, *r.Ask); refused != nil {
			answer.PIN = nil
		}
		err := writeLine(p.in, answer)
		clear(answer.PIN)
		if err != nil {
			return nil, nil, p.unwritten(err)
		}
	}
	return nil, nil, errors.New("it asks for the PIN again and again")
}

// unwritten returns the error of a helper that takes no request: it has ended, or closed
// its input. What it wrote before that says more than the error of the pipe.
func (p *process) unwritten(err error) error {
	p.cmd.Process.Kill() // so that reading ends
	if said := readLine(p.out, maxReply, &reply{}); said != nil && said != io.EOF {
		return said
	}
	return err
}

func (h *helper) request(op, uri, purpose string) *request {
	return &request{Op: op, named: named{Module: h.cfg.Module, URI: uri, Purpose: purpose, FinalTry: h.cfg.UnsafeFinalTry}}
}

func (h *helper) list(ctx context.Context, uri string) ([]Token, error) {
	r, err := h.call(ctx, h.request("list", uri, ""), noPIN)
	if err != nil {
		return nil, err
	}
	return r.Tokens, nil
}

func noPIN(_ context.Context, t Token) ([]byte, error) {
	return nil, fmt.Errorf("%w: token %s asks for one", ErrHelper, t.id())
}

func (h *helper) open(ctx context.Context, uri, purpose string, ask asking) (tuf.Signer, error) {
	r, err := h.call(ctx, h.request("open", uri, purpose), ask)
	if err != nil {
		return nil, err
	}
	if r.Key == nil {
		return nil, fmt.Errorf("%w: it returned no public key", ErrHelper)
	}
	if _, err := r.Key.Fingerprint(); err != nil {
		return nil, fmt.Errorf("%w: its public key: %w", keys.ErrKind, err)
	}
	return &remoteSigner{h, uri, purpose, ask, *r.Key}, nil
}

// remoteSigner is a key that the helper has opened.
type remoteSigner struct {
	helper       *helper
	uri, purpose string
	ask          asking
	key          tuf.Key
}

func (s *remoteSigner) Key() tuf.Key { return s.key }

func (s *remoteSigner) Sign(ctx context.Context, payload []byte) (sig []byte, err error) {
	defer text.OneLine(&err)
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("keys: pkcs11: %w: a payload of more than %d MiB", fs.ErrInvalid, maxPayload>>20)
	}
	q := s.helper.request("sign", s.uri, s.purpose)
	q.Payload = bytes.Clone(payload) // still read after ctx has ended
	r, err := s.helper.call(ctx, q, s.ask)
	if err == nil {
		sig, err = store.Verified(s.key, payload, r.Signature)
	}
	if err != nil {
		if strings.HasPrefix(err.Error(), "keys: ") { // by the signer in the helper
			return nil, err
		}
		return nil, fmt.Errorf("keys: pkcs11: %w", err)
	}
	return sig, nil
}
