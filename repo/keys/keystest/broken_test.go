package keystest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

// brokenVariable names, in a child process, the fault of the signer under test.
const brokenVariable = "VISUM_KEYSTEST_BROKEN"

// signerFunc is a signer with a fault.
type signerFunc struct {
	tuf.Signer
	key  func(good tuf.Signer) tuf.Key
	sign func(ctx context.Context, good tuf.Signer, payload []byte) ([]byte, error)
}

func (s *signerFunc) Key() tuf.Key {
	if s.key != nil {
		return s.key(s.Signer)
	}
	return s.Signer.Key()
}

func (s *signerFunc) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	if s.sign != nil {
		return s.sign(ctx, s.Signer, payload)
	}
	return s.Signer.Sign(ctx, payload)
}

// faults maps a fault to what the examiner has to say about it.
func faults() map[string]string {
	return map[string]string{
		"key changes":          "the key is",
		"key of no use":        "can't verify anything",
		"signs another":        "go-tuf",
		"ignores the context":  "want context.Canceled",
		"loses the context":    "want context.Canceled",
		"shared buffer":        "does not verify",
		"changes the payload":  "changed the payload",
		"secret in an error":   "contains secret 0",
		"terminal in an error": "printable ASCII",
		"no failure":           "no error",
		"never asks":           "before the store was asked",
		"opens when cancelled": "want context.Canceled",
		"refuses to sign":      "no signature today",
	}
}

// TestBroken examines a signer with the fault that the environment names. It runs in a
// child of TestExaminerFinds only.
func TestBroken(t *testing.T) {
	fault := os.Getenv(brokenVariable)
	if fault == "" {
		t.Skip("runs in a child of TestExaminerFinds")
	}
	_, private, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	_, otherPrivate, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	good, err := tuf.NewSigner(private)
	rawtuf.NoErr(t, err)
	other, err := tuf.NewSigner(otherPrivate)
	rawtuf.NoErr(t, err)
	var calls atomic.Int64
	broken := &signerFunc{Signer: good}
	store := keystest.Store{Secrets: []string{"hunter2"}}
	store.Open = func(ctx context.Context) (tuf.Signer, error) {
		if fault != "opens when cancelled" && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return broken, nil
	}
	switch fault {
	case "key changes":
		broken.key = func(tuf.Signer) tuf.Key {
			if calls.Add(1) > 1 {
				return other.Key()
			}
			return good.Key()
		}
	case "key of no use":
		broken.key = func(tuf.Signer) tuf.Key { return tuf.Key{} }
	case "signs another":
		broken.sign = func(ctx context.Context, good tuf.Signer, payload []byte) ([]byte, error) {
			return good.Sign(ctx, append(bytes.Clone(payload), '\n'))
		}
	case "ignores the context":
		broken.sign = func(_ context.Context, good tuf.Signer, payload []byte) ([]byte, error) {
			return good.Sign(context.Background(), payload)
		}
	case "loses the context":
		broken.sign = func(ctx context.Context, good tuf.Signer, payload []byte) ([]byte, error) {
			sig, err := good.Sign(ctx, payload)
			if err != nil {
				err = errors.New("closed")
			}
			return sig, err
		}
	case "shared buffer":
		var last atomic.Pointer[[]byte] // the signature of the call before, without a data race
		first := []byte("first")
		last.Store(&first)
		broken.sign = func(ctx context.Context, good tuf.Signer, payload []byte) ([]byte, error) {
			now := bytes.Clone(payload)
			if len(payload) == 3 && payload[0] == 'p' { // only the concurrent calls
				now = *last.Swap(&now)
			}
			return good.Sign(ctx, now)
		}
	case "changes the payload":
		broken.sign = func(ctx context.Context, good tuf.Signer, payload []byte) ([]byte, error) {
			sig, err := good.Sign(ctx, payload)
			payload[0]++
			return sig, err
		}
	case "secret in an error":
		store.Failures = map[string]func(*testing.T) error{"x": func(*testing.T) error { return errors.New("refused: hunter2") }}
	case "terminal in an error":
		store.Failures = map[string]func(*testing.T) error{"x": func(*testing.T) error { return errors.New("refused: \x1b[2J") }}
	case "no failure":
		store.Failures = map[string]func(*testing.T) error{"x": func(*testing.T) error { return nil }}
	case "never asks":
		store.Block = func(*testing.T) (<-chan struct{}, func()) { return make(chan struct{}), func() {} }
	case "refuses to sign":
		broken.sign = func(context.Context, tuf.Signer, []byte) ([]byte, error) {
			return nil, errors.New("no signature today")
		}
	}
	keystest.Run(t, store)
}

// The examiner finds what is wrong, and passes what is not.
func TestExaminerFinds(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	rawtuf.NoErr(t, err)
	for fault, want := range faults() {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBroken$", "-test.count=1")
		cmd.Env = append(os.Environ(), brokenVariable+"="+fault)
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v, want %q in:\n%s", fault, err, want, out)
		}
		if strings.Contains(string(out), "hunter2") {
			t.Errorf("%s: the examiner printed the secret", fault)
		}
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBroken$", "-test.count=1")
	cmd.Env = append(os.Environ(), brokenVariable+"=none")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("without a fault: %v\n%s", err, out)
	}
}
