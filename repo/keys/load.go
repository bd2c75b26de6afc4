package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/visum-dev/visum/tuf"
)

// maxFile is larger than a file of the largest permitted key.
const maxFile = 256 << 10

// loader opens one key file.
type loader struct {
	ctx  context.Context
	uri  string
	path string
	opts *Options
}

func (l *loader) load() (tuf.Signer, error) {
	data, mode, err := readFile(l.path)
	if err != nil {
		return nil, err
	}
	var private crypto.PrivateKey
	switch block := pemBlock(data); {
	case block != nil && isEncryptedPEM(block):
		private, err = l.encrypted(block.Bytes)
	case block != nil:
		private, err = l.foreign(data, block)
	case isForeignJSON(data):
		private, err = l.foreignJSON(data)
	default:
		private, err = l.own(data, mode)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, keyError(l.path, ErrFile, "a %T can't sign", private)
	}
	s, err := tuf.NewSigner(signer)
	if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	return s, nil
}

// unlabelled refuses a file without a label if a purpose is required.
func (l *loader) unlabelled() error {
	if l.opts.Purpose != "" {
		return keyError(l.path, ErrPurpose, "the file has no label, want %q; only files of Generate have labels", l.opts.Purpose)
	}
	return nil
}

// ReadPublic returns the public key of a file and its label, without a passphrase. It
// accepts the files that [Open] accepts, with any permissions, except files that other
// tools encrypted as a whole, and also a public key in any [Form]. label is "" if the file
// has none; see [ParsePublic] for that of a public key.
//
// The result is not authenticated: an attacker with write access to the file can change
// both. Only Open verifies that they belong to the private key.
func ReadPublic(path string) (key tuf.Key, label string, err error) {
	data, _, err := readFile(path)
	if err != nil {
		return tuf.Key{}, "", err
	}
	block := pemBlock(data)
	switch {
	case block == nil && isOwn(data):
		f, err := parseOwn(data)
		if err != nil {
			return tuf.Key{}, "", keyError(path, ErrFile, "%v", err)
		}
		return f.Public.key(), f.Label, nil
	case block != nil && isEncryptedPEM(block) || block == nil && isForeignJSON(data):
		return tuf.Key{}, "", keyError(path, ErrFile, "the public key is encrypted too; open the key instead")
	case block == nil || block.Type == "PUBLIC KEY":
		if key, label, err = parsePublic(data); err != nil {
			return tuf.Key{}, "", keyError(path, ErrFile, "%v", err)
		}
		return key, label, nil
	}
	public, err := publicHalf(data, block)
	if err == nil {
		key, err = tuf.NewKey(public)
	}
	if err != nil {
		return tuf.Key{}, "", keyError(path, ErrFile, "%v", err)
	}
	return key, "", nil
}

func readFile(path string) ([]byte, os.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("keys: file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of the open file: path may name another one a moment later
	if err != nil {
		return nil, 0, fmt.Errorf("keys: file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, fmt.Errorf("keys: file: %w", err)
	}
	if len(data) > maxFile {
		return nil, 0, keyError(path, ErrFile, "larger than %d KiB", maxFile>>10)
	}
	return data, info.Mode(), nil
}

func (l *loader) own(data []byte, mode os.FileMode) (crypto.PrivateKey, error) {
	f, err := parseOwn(data)
	if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // mode bits have no meaning
	default:
		if mode.Perm()&0o077 != 0 {
			return nil, keyError(l.path, ErrExposed, "mode is %#o; set it to 0600, and consider whether another user has read the file", mode.Perm())
		}
	}
	// Before the passphrase is requested, so that it is never entered for the wrong key.
	if want := l.opts.Purpose; want != "" && want != f.Label {
		return nil, keyError(l.path, ErrPurpose, "its label is %q, want %q", f.Label, want)
	}
	secret := f.Plain
	if secret == nil {
		pass, err := l.ask()
		if err != nil {
			return nil, err
		}
		if secret, err = f.decrypt(pass); errors.Is(err, ErrPassphrase) {
			return nil, fmt.Errorf("keys: file %s: %w", l.path, err)
		} else if err != nil {
			return nil, keyError(l.path, ErrFile, "%v", err)
		}
	}
	private, err := f.open(secret)
	if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	return private, nil
}

func (l *loader) ask() ([]byte, error) {
	if l.opts.Passphrase == nil {
		return nil, keyError(l.path, ErrPassphrase, "the file is encrypted and no passphrase was given")
	}
	pass, err := l.opts.Passphrase(l.ctx, l.uri)
	if err != nil {
		return nil, fmt.Errorf("keys: file %s: passphrase: %w", l.path, err)
	}
	if len(pass) == 0 {
		return nil, keyError(l.path, ErrPassphrase, "it is empty")
	}
	return pass, nil
}
