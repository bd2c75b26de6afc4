package exec

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	osexec "os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

const (
	maxOutput = 64 << 10 // a public key, or a signature of 8192 bits in hex, is far smaller
	maxStderr = 4 << 10  // kept from each end
	// waitDelay is the time for which output is read after the program has ended: a
	// child of it may still hold the pipe.
	waitDelay = 2 * time.Second
)

// Config configures [Opener]. The zero value runs programs with an empty environment.
type Config struct {
	// Env is the whole environment of the program, as NAME=value. A program for a
	// cloud service needs at least PATH and HOME; os.Environ() passes that of this
	// process, with every secret in it. Empty: no variables, except SYSTEMROOT on Windows.
	Env []string
	// Terminal keeps the program in the process group of this process, without which it
	// can't read from a terminal, such as a PIN. When the context ends, the program is
	// killed, but not the processes that it has started.
	Terminal bool
}

// Opener returns the opener of the scheme "exec"; see the package comment. It is safe for
// concurrent use. cfg.Env must not be changed afterwards.
func Opener(cfg Config) keys.Opener {
	return func(ctx context.Context, uri string, opts *keys.Options) (tuf.Signer, error) {
		s, err := parse(uri)
		if err != nil {
			return nil, err
		}
		s.cfg, s.waitDelay = cfg, waitDelay
		if err := s.open(ctx, opts.Purpose); err != nil {
			return nil, err
		}
		return s, nil
	}
}

// signer runs a program for each signature.
type signer struct {
	cfg       Config
	path      string
	args      []string
	waitDelay time.Duration
	key       tuf.Key
}

func parse(uri string) (*signer, error) {
	rest, params, err := store.Split(uri, nil, []string{"arg"})
	if err != nil {
		return nil, err
	}
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		if !strings.HasPrefix(after, "/") {
			return nil, fmt.Errorf("%w: a host in an exec URI is not supported", fs.ErrInvalid)
		}
		rest = after
	}
	path, err := url.PathUnescape(rest)
	args := params["arg"]
	if err != nil || strings.Contains(path+strings.Join(args, ""), "\x00") {
		return nil, fmt.Errorf("%w: not a percent-encoded path", fs.ErrInvalid)
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	if !strings.Contains(path, "/") {
		return nil, fmt.Errorf("%w: a program is named by a path with a slash, such as exec:./sign", fs.ErrInvalid)
	}
	if path, err = filepath.Abs(filepath.FromSlash(path)); err != nil {
		return nil, err
	}
	return &signer{path: path, args: args}, nil
}

func (s *signer) open(ctx context.Context, purpose string) (err error) {
	defer text.OneLine(&err)
	out, err := s.run(ctx, nil, append(s.args[:len(s.args):len(s.args)], "--public-key")...)
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	key, label, err := keys.ParsePublic(out)
	if err != nil {
		return err
	}
	before, _, _ := strings.Cut(string(out), "-----BEGIN ")
	for line := range strings.Lines(before) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == "label" {
			label = strings.TrimSpace(value)
		}
	}
	if purpose != "" && purpose != label {
		return fmt.Errorf("%w: the program states %s, want %s", keys.ErrPurpose, text.Quote(label), text.Quote(purpose))
	}
	s.key = key
	return nil
}

func (s *signer) Key() tuf.Key { return s.key }

func (s *signer) Sign(ctx context.Context, payload []byte) (sig []byte, err error) {
	defer text.OneLine(&err)
	out, err := s.run(ctx, payload, s.args...)
	if err == nil {
		if sig := s.signature(payload, out); sig != nil {
			return sig, nil
		}
		err = fmt.Errorf("%w, but %d bytes", store.ErrSignature, len(out))
	}
	return nil, fmt.Errorf("keys: exec %s: %w", text.Name(s.path), err)
}

// signature returns what is the signature of payload among the readings of out, nil for
// none. The readings can't be told apart by their form alone; the key decides.
func (s *signer) signature(payload, out []byte) []byte {
	readings := [][]byte{out}
	compact := strings.TrimRight(strings.Join(strings.Fields(string(out)), ""), "=")
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.RawStdEncoding.DecodeString, base64.RawURLEncoding.DecodeString} {
		if b, err := decode(compact); err == nil {
			readings = append(readings, b)
		}
	}
	for _, sig := range readings {
		if s.key.Verifies(payload, sig) {
			return sig
		}
		if der, ok := store.DER(s.key, sig); ok && s.key.Verifies(payload, der) {
			return der
		}
	}
	return nil
}

var errOutput = fmt.Errorf("the program printed more than %d KiB", maxOutput>>10)

// run runs the program and returns its standard output.
func (s *signer) run(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limited, kill := context.WithCancelCause(ctx)
	defer kill(nil)
	out := &limitedWriter{overflow: func() { kill(errOutput) }}
	var stderr ends
	cmd := osexec.CommandContext(limited, s.path, args...)
	cmd.Env = append([]string{}, s.cfg.Env...) // not nil, which is the environment of this process
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), out, &stderr
	cmd.WaitDelay = s.waitDelay
	if !s.cfg.Terminal {
		ownGroup(cmd)
	}
	err := cmd.Run()
	if errors.Is(err, osexec.ErrWaitDelay) {
		if cmd.Cancel != nil && !s.cfg.Terminal {
			killGroup(cmd) // what holds the pipe is a member, so the group still exists
		}
		err = errors.New("the program has ended, but not the processes that it started")
	}
	switch cause := context.Cause(limited); {
	case ctx.Err() != nil && err != nil:
		return nil, ctx.Err() // not "signal: killed"
	case cause != nil:
		return nil, cause
	case err != nil:
		if said := stderr.String(); said != "" {
			return nil, fmt.Errorf("%w: %s", err, said)
		}
		return nil, err
	}
	return out.data, nil
}

// limitedWriter keeps maxOutput bytes and calls overflow for more.
type limitedWriter struct {
	data     []byte
	overflow func()
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if len(w.data)+len(p) > maxOutput {
		w.overflow()
		return 0, errOutput
	}
	w.data = append(w.data, p...)
	return len(p), nil
}

// ends keeps the beginning and the end of what is written: some programs state the error
// first, others last.
type ends struct{ head, tail []byte }

func (e *ends) Write(p []byte) (int, error) {
	e.head = append(e.head, p[:min(len(p), maxStderr-len(e.head))]...)
	e.tail = append(e.tail, p[max(0, len(p)-maxStderr):]...)
	e.tail = e.tail[max(0, len(e.tail)-maxStderr):]
	return len(p), nil
}

// String returns the first and the last line with text, quoted.
func (e *ends) String() string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(e.head)), "\n")
	tail := strings.TrimSpace(string(e.tail))
	last := tail[strings.LastIndex(tail, "\n")+1:]
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	switch {
	case first == last && first == "":
		return ""
	case first == last:
		return text.Quote(first)
	}
	return text.Quote(first) + " ... " + text.Quote(last)
}
