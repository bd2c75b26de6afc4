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

// Options configures [Open]. Nil and the zero value of each field are safe.
type Options struct {
	// Purpose is the required purpose of the key: the label given to [Generate], or the
	// comment of a key in an agent. "": any.
	Purpose string
	// Passphrase returns the passphrase. It is called at most once, and only for an
	// encrypted file that has the required purpose; uri is the argument of [Open]. The
	// result is neither kept nor changed. Its error is returned wrapped. nil: no passphrase.
	// An opener may also call it for a PIN, and later than Open: it then says when.
	Passphrase func(ctx context.Context, uri string) ([]byte, error)
	// AgentSocket is the path of the ssh-agent's socket, which most systems provide in
	// the environment variable SSH_AUTH_SOCK. "": no agent.
	AgentSocket string
	// Openers open keys of further schemes, by scheme in lower case, such as "pkcs11".
	// They can't replace the built-in schemes.
	Openers map[string]Opener
}

// Opener opens a key of a scheme that this package does not support. It receives the
// whole URI and the caller's options, which are not nil and must not be changed. It
// must return [ErrPurpose] for a key without evidence that its purpose is opts.Purpose.
// ctx covers opening only; each call of the signer has its own context.
type Opener func(ctx context.Context, uri string, opts *Options) (tuf.Signer, error)

// ErrNoScheme: no opener is registered for the scheme of the URI.
var ErrNoScheme = errors.New("unsupported key scheme")

// Open opens the key that a URI identifies. opts may be nil.
//
//   - file:keys/root.key and file:///home/ann/keys/root.key, percent-encoded as
//     [FileURI] writes it: files of [Generate] and [UnsafeGeneratePlain];
//     PKCS#8 in PEM, unencrypted; OpenSSH private keys; and private keys that
//     other tools encrypted in the format of securesystemslib (scrypt and NaCl
//     secretbox in JSON, bare or in the PEM of cosign, with the parameters that
//     go-tuf or OWASP recommend or formerly recommended).
//   - ssh-agent:SHA256:... (the fingerprint that ssh-add -l shows) and
//     ssh-agent:COMMENT, percent-encoded: a key in the ssh-agent at
//     opts.AgentSocket. Ed25519 and ECDSA on P-256 or P-384. OpenSSH's agent
//     signs metadata of less than 256 KiB only.
//   - a scheme of opts.Openers. Packages below this one have openers of the scheme exec
//     (any program), pkcs11, hashivault and awskms. For gcpkms and azurekms there is none, and
//     the error names the program for exec that docs/keys.md shows.
//
// Keys may be ed25519, ECDSA on P-256 or P-384, or, in files, RSA of 2048 to
// 8192 bits, which signs with PSS.
//
// Errors: [ErrNoScheme]; [ErrPurpose] if the key has another purpose or no label (only
// files of Generate have one); [ErrPassphrase] if it is wrong, empty or missing;
// [ErrFile]; [ErrExposed] on Unix if other users may open a file of Generate;
// [ErrKind] if the agent can't sign metadata with the key; [fs.ErrNotExist] if the
// file, or the key in the agent, does not exist.
func Open(ctx context.Context, uri string, opts *Options) (tuf.Signer, error) {
	if opts == nil {
		opts = &Options{}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	shown := Redact(uri)
	if !ok || !schemeForm.MatchString(scheme) {
		return nil, fmt.Errorf("keys: %.80q: %w: a URI begins with a scheme, for example %s", shown, ErrNoScheme, FileURI("root.key"))
	}
	switch scheme = strings.ToLower(scheme); scheme {
	case "file":
		path, err := filePath(rest)
		if err != nil {
			return nil, fmt.Errorf("keys: %.80q: %w", shown, err)
		}
		return (&loader{ctx, uri, path, opts}).load()
	case "ssh-agent":
		return openAgent(ctx, rest, opts)
	}
	open := opts.Openers[scheme]
	switch {
	case open != nil:
	case scheme == "gcpkms" || scheme == "azurekms":
		return nil, fmt.Errorf("keys: %.80q: %w %q: use exec: with the program that docs/keys.md of this module shows for this service", shown, ErrNoScheme, scheme)
	default:
		return nil, fmt.Errorf("keys: %.80q: %w %q", shown, ErrNoScheme, scheme)
	}
	s, err := open(ctx, uri, opts)
	if err != nil {
		return nil, fmt.Errorf("keys: %.80q: %w", shown, err)
	}
	if s == nil {
		return nil, fmt.Errorf("keys: %.80q: the opener returned neither signer nor error", shown)
	}
	return s, nil
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+$`) // at least two characters: C: is a drive

// Redact returns a key URI for messages and lists: without the PIN, if it contains one
// (pin-value, of the scheme pkcs11).
func Redact(uri string) string {
	if i := pinValue.FindStringIndex(uri); i != nil {
		return uri[:i[1]] + "[secret]" // up to the end: an incorrectly encoded PIN may contain any character
	}
	return uri
}

var pinValue = regexp.MustCompile(`(?i)pin[-_]?value[^=]*=`)

// FileURI returns the URI of a key file for [Open]. A relative path stays relative.
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
			return "", fmt.Errorf("%w: a host in a file URI is not supported", fs.ErrInvalid)
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
