package pkcs11

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// Errors of tokens, to be tested with errors.Is.
var (
	// ErrNotPresent: no token that is present has the attributes of the URI.
	ErrNotPresent = errors.New("the token is not present")
	// ErrAmbiguous: several tokens or keys match the URI. The message lists them.
	ErrAmbiguous = errors.New("several match the URI")
	// ErrPIN: the token refused the PIN, or none was given. It is also a [keys.ErrPassphrase].
	ErrPIN error = pinError{}
	// ErrPINLocked: the PIN is locked after too many wrong ones, or was never set.
	ErrPINLocked = errors.New("the PIN of the token is locked")
	// ErrFinalTry: the token locks the PIN if the next one is wrong, so none was presented.
	ErrFinalTry = errors.New("one try is left for the PIN of the token, so it is not presented")
	// ErrModule: the module can't be loaded, or none was named.
	ErrModule = errors.New("no usable PKCS #11 module")
	// ErrNotLinked: this program was built without cgo and has no helper.
	ErrNotLinked = errors.New("built without PKCS #11: build with CGO_ENABLED=1, or install the program visum-pkcs11 and name it in Config.Helper")
	// ErrHelper: the helper is not there, or does not answer as it should.
	ErrHelper = errors.New("the helper for PKCS #11 failed")
)

type pinError struct{}

func (pinError) Error() string        { return "wrong PIN" }
func (pinError) Is(target error) bool { return target == keys.ErrPassphrase }

// Config configures [Opener] and [List]. The zero value is safe.
type Config struct {
	// Module is the path of the module for URIs without module-path. "": they need one.
	Module string
	// PIN returns the PIN of a token. It is called if the URI has neither pin-source nor
	// pin-value, at most once for each try. nil: [keys.Options].Passphrase with the URI.
	PIN func(ctx context.Context, t Token) ([]byte, error)
	// UnsafeFinalTry presents the PIN to a token also if that may be the last try before
	// the token locks it.
	UnsafeFinalTry bool
	// Helper is the path of the program visum-pkcs11, which is started to use modules in a
	// process of its own. It must be as trusted as this program. "": the module is
	// loaded into this process, which needs cgo; see [Linked].
	Helper string
	// Env is the whole environment of the helper, as NAME=value. Modules find their
	// configuration with it. Empty: no variables.
	Env []string
}

// Token is a token that is present.
type Token struct {
	// Label, Serial, Manufacturer and Model are what the token states about itself.
	Label, Serial, Manufacturer, Model string
	// Module is the path of the module.
	Module string
	// PINCountLow: a wrong PIN was presented since the last correct one. Not all tokens
	// state it, and none states a number.
	PINCountLow bool
	// PINFinalTry: the token locks the PIN if the next one is wrong.
	PINFinalTry bool
	// PINLocked: the PIN is locked, or was never set.
	PINLocked bool
	// Keys are the keys of the token, at most 100. Only [List] sets them.
	Keys []TokenKey
}

// TokenKey is a key pair of a token.
type TokenKey struct {
	// Label is the CKA_LABEL of the private key, or if it is not visible without a PIN,
	// that of the public key.
	Label string
	// ID is the CKA_ID.
	ID []byte
	// Kind is "ed25519", "P-256", "P-384", "RSA 3072", or the description of a key that
	// can't sign metadata.
	Kind string
	// Key is the public key. The zero Key if it can't sign metadata, or is not visible.
	Key tuf.Key
	// PIN states when the token asks for its PIN. "": the token does not show that to a
	// process that has not presented the PIN.
	PIN PINUse
	// URI selects the key, for [keys.Open].
	URI string
}

// PINUse states how often a token requires its PIN for a key.
type PINUse string

// Values of PINUse.
const (
	// PINOnce: once in each process.
	PINOnce PINUse = "once"
	// PINEach: before each signature (CKA_ALWAYS_AUTHENTICATE).
	PINEach PINUse = "each signature"
)

// Opener returns the opener of the scheme "pkcs11"; see the package comment. It is safe
// for concurrent use. cfg.Env must not be changed afterwards. With [Config].Helper the
// opener starts at most one helper at a time, which ends with this process.
func Opener(cfg Config) keys.Opener {
	var h *helper
	if cfg.Helper != "" {
		h = newHelper(cfg)
	}
	return func(ctx context.Context, uri string, opts *keys.Options) (_ tuf.Signer, err error) {
		defer text.OneLine(&err)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		u, err := parseURI(uri)
		if err != nil {
			return nil, err
		}
		ask := asker(u, uri, cfg, opts)
		if h != nil {
			return h.open(ctx, uri, opts.Purpose, ask)
		}
		return openLinked(ctx, u, cfg, opts.Purpose, ask)
	}
}

// List returns the tokens that are present, with the keys that are visible without a PIN.
// uri selects tokens and the module; "" and "pkcs11:" select all tokens of cfg.Module. It
// presents no PIN. Errors are those of [Opener].
func List(ctx context.Context, uri string, cfg Config) (_ []Token, err error) {
	defer text.OneLine(&err)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if uri == "" {
		uri = "pkcs11:"
	}
	u, err := parseURI(uri)
	if err != nil {
		return nil, err
	}
	if cfg.Helper != "" {
		h := newHelper(cfg)
		defer h.close()
		return h.list(ctx, uri)
	}
	return wait(ctx, func() ([]Token, error) { return listLinked(ctx, u, cfg) })
}

// asking returns the PIN of a token.
type asking func(ctx context.Context, t Token) ([]byte, error)

const maxPIN = 1 << 10

func asker(u *keyURI, uri string, cfg Config, opts *keys.Options) asking {
	return func(ctx context.Context, t Token) (pin []byte, err error) {
		switch {
		case u.pinValue != nil:
			pin = []byte(*u.pinValue)
		case u.pinSource != "":
			pin, err = readPIN(u.pinSource)
		case cfg.PIN != nil:
			pin, err = cfg.PIN(ctx, t)
		case opts.Passphrase != nil:
			pin, err = opts.Passphrase(ctx, uri)
		default:
			return nil, fmt.Errorf("%w: token %s requires one, and none was given", ErrPIN, t.id())
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("PIN of token %s: %w", t.id(), err)
		case len(pin) == 0:
			return nil, fmt.Errorf("%w of token %s: it is empty", ErrPIN, t.id())
		case len(pin) > maxPIN:
			return nil, fmt.Errorf("%w of token %s: it has more than %d bytes", ErrPIN, t.id(), maxPIN)
		}
		return bytes.Clone(pin), nil
	}
}

// readPIN reads the file of pin-source, without the end of its line.
func readPIN(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPIN+3))
	return bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")), err
}

func (t Token) id() tokenID { return tokenID{t.Label, t.Serial, t.Manufacturer, t.Model} }

// wait calls f, which may be in a function of a module that does not return. It returns
// when ctx ends; f then goes to its end in the background and must not change anything
// that the caller sees.
func wait[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
