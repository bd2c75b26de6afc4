package keys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"github.com/visum-dev/visum/tuf"
)

// Options says how a key is opened. Nil and zero fields are safe.
type Options struct {
	// Purpose is what the key must be for: the label that [Generate] was
	// given, the comment of a key in an agent. "": a key for anything.
	Purpose string
	// Passphrase is asked at most once, only where the file is encrypted and for
	// Purpose; uri is what [Open] was called with. What it returns is
	// neither kept nor changed, its error is returned, wrapped. nil: there is none.
	Passphrase func(ctx context.Context, uri string) ([]byte, error)
	// AgentSocket is the path of the ssh-agent's socket, which most systems have
	// in the environment variable SSH_AUTH_SOCK. "": no agent.
	AgentSocket string
	// Openers open keys of further schemes, by scheme in lower case, such as
	// "pkcs11". They can't replace the schemes that are built in.
	Openers map[string]Opener
}

// Opener opens a key of a scheme that this package does not have. It is given
// the whole URI and the caller's options, not nil, which it must not change. A
// key that can't tell that it is for opts.Purpose must be refused with
// [ErrPurpose]. ctx is for opening; the signer's own calls get their own.
type Opener func(ctx context.Context, uri string, opts *Options) (tuf.Signer, error)

// ErrNoScheme: nobody opens keys of the URI's scheme.
var ErrNoScheme = errors.New("unknown scheme of a key")

// Open opens the key that a URI names. opts may be nil.
//
//   - file:keys/root.key and file:///home/ann/keys/root.key, percent-encoded as
//     [FileURI] writes it: files of [Generate] and [UnsafeGeneratePlain];
//     PKCS#8 in PEM, unencrypted; OpenSSH private keys; and private keys that
//     others encrypted in the form of securesystemslib (scrypt and NaCl secretbox
//     in JSON, bare or in the PEM of cosign, with the parameters that go-tuf, or
//     OWASP, recommends or once did).
//   - ssh-agent:SHA256:... (the fingerprint that ssh-add -l shows) and
//     ssh-agent:COMMENT, percent-encoded: a key that an ssh-agent at
//     opts.AgentSocket holds. Ed25519 and ECDSA on P-256 or P-384.
//   - a scheme of opts.Openers.
//
// Keys may be ed25519, ECDSA on P-256 or P-384, or, in files, RSA of 2048 to
// 8192 bits, which signs with PSS.
//
// Errors: [ErrNoScheme]; [ErrPurpose], where the key is for something else or
// can't tell, which of the files only those of Generate can; [ErrPassphrase],
// where it is wrong, empty or missing; [ErrFile]; [ErrExposed], on Unix,
// where others may open a file of Generate; [ErrKind], where the agent
// can't sign metadata with the key; [fs.ErrNotExist], where there is no such
// file or the agent has no such key.
func Open(ctx context.Context, uri string, opts *Options) (tuf.Signer, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !schemeForm.MatchString(scheme) {
		return nil, fmt.Errorf("keys: %.80q: %w: it must begin with one, as in %s", uri, ErrNoScheme, FileURI("root.key"))
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "file":
		path, err := filePath(rest)
		if err != nil {
			return nil, fmt.Errorf("keys: %.80q: %w", uri, err)
		}
		return (&loader{ctx, uri, path, opts}).load()
	case "ssh-agent":
		return openAgent(ctx, rest, opts)
	}
	open := opts.Openers[scheme]
	if open == nil {
		return nil, fmt.Errorf("keys: %.80q: %w %q", uri, ErrNoScheme, scheme)
	}
	s, err := open(ctx, uri, opts)
	if err != nil {
		return nil, fmt.Errorf("keys: %.80q: %w", uri, err)
	}
	if s == nil {
		return nil, fmt.Errorf("keys: %.80q: its opener returned none", uri)
	}
	return s, nil
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+$`) // two at least: C: is a disk

// FileURI returns the URI of a key file for [Open]; a path that is not
// absolute stays so.
func FileURI(path string) string {
	path = filepath.ToSlash(path)
	if strings.HasPrefix(path, "/") {
		path = "//" + path
	} else if filepath.VolumeName(path) != "" {
		path = "///" + path
	}
	return "file:" + (&url.URL{Path: path}).EscapedPath()
}

func filePath(rest string) (string, error) {
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		host, path, ok := strings.Cut(after, "/")
		if !ok || host != "" && host != "localhost" {
			return "", fmt.Errorf("%w: another machine's file", fs.ErrInvalid)
		}
		rest = "/" + path
	}
	if strings.ContainsAny(rest, "?#") {
		return "", fmt.Errorf("%w: ? and # must be percent-encoded", fs.ErrInvalid)
	}
	path, err := url.PathUnescape(rest)
	if err != nil || path == "" || strings.Contains(path, "\x00") {
		return "", fmt.Errorf("%w: not a percent-encoded path", fs.ErrInvalid)
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:]
	}
	return filepath.FromSlash(path), nil
}
