package hashivault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo/keys/internal/store"
)

// Errors of the service, to be tested with errors.Is.
var (
	// ErrNoToken: there is no token, or it has characters that no token has.
	ErrNoToken = errors.New("no usable token")
	// ErrUnavailable: the server is sealed, a standby node, overloaded or not initialised
	// (status 412, 429 or 5xx). The same request may succeed later.
	ErrUnavailable = errors.New("the server can't answer now")
)

// requestTime limits a request if the caller gives no client.
const requestTime = time.Minute

// maxToken is larger than any token; those of batches have some hundred characters.
const maxToken = 16 << 10

// Config configures [Opener].
type Config struct {
	// Address is the URL of the server, such as https://vault.example.com:8200, with a path
	// if a proxy has one. It must be https, or http on this machine.
	Address string
	// Namespace is the namespace of Vault Enterprise or OpenBao. "": none.
	Namespace string
	// Token returns the token. It is called before each request, also concurrently, and
	// must not block for long; its error is returned wrapped. White space around the
	// token is ignored.
	Token func(ctx context.Context) (string, error)
	// Client makes the requests, for example with the certificate of a private authority.
	// Its CheckRedirect is not used. nil: a client with http.DefaultTransport and a
	// limit of one minute for each request.
	Client *http.Client
	// UnsafeHTTP permits an address with http on another machine: everyone on the network
	// path can read the token and sign with it.
	UnsafeHTTP bool
}

// FromEnv returns the configuration that the vault command would use. It reads
// these variables with getenv, such as os.Getenv, and no others:
//
//   - VAULT_ADDR: the address. It is required; the error wraps [fs.ErrInvalid].
//   - VAULT_NAMESPACE: the namespace.
//   - VAULT_TOKEN: the token. If it is empty, the token is read from the file
//     .vault-token in HOME, or USERPROFILE if HOME is empty, before each request.
func FromEnv(getenv func(string) string) (Config, error) {
	cfg := Config{Address: getenv("VAULT_ADDR"), Namespace: getenv("VAULT_NAMESPACE")}
	if _, err := store.Server(cfg.Address, true); err != nil {
		return Config{}, fmt.Errorf("keys: hashivault: VAULT_ADDR: %w", err)
	}
	if token := getenv("VAULT_TOKEN"); token != "" {
		cfg.Token = func(context.Context) (string, error) { return token, nil }
		return cfg, nil
	}
	home := getenv("HOME")
	if home == "" {
		home = getenv("USERPROFILE")
	}
	if home == "" {
		return Config{}, fmt.Errorf("keys: hashivault: %w: neither VAULT_TOKEN nor HOME is set", ErrNoToken)
	}
	cfg.Token = TokenFile(filepath.Join(home, ".vault-token"))
	return cfg, nil
}

// TokenFile returns a function for [Config].Token that reads the token from a file, at most
// 16 KiB, each time it is called, such as the file that an agent renews.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxToken+1))
		return string(data), err
	}
}

// token returns a token that is safe in a header.
func (c *Config) token(ctx context.Context) (string, error) {
	if c.Token == nil {
		return "", ErrNoToken
	}
	token, err := c.Token(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	token = strings.TrimSpace(token)
	if token == "" || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: it is empty, too long, or not printable ASCII", ErrNoToken)
	}
	return token, nil
}
