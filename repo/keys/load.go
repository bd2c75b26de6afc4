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

// maxFile is more than the largest key that is allowed needs.
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

// unlabelled refuses a file that can't say what it is for where that matters.
func (l *loader) unlabelled() error {
	if l.opts.Purpose != "" {
		return keyError(l.path, ErrPurpose, "only a file of Generate can say that it is for %q", l.opts.Purpose)
	}
	return nil
}

// ReadPublic returns the public half of a key file and its label, without a
// passphrase. It takes what [Open] takes, whatever its permissions, but for
// what others encrypted whole; and a public key in PEM ("PUBLIC KEY"). Where the
// file has no label it is "".
//
// It is what the outside of the file says. Whoever can write to the file can
// make it say another key and label: only Open finds whether they belong
// to the private key.
func ReadPublic(path string) (key tuf.Key, label string, err error) {
	data, _, err := readFile(path)
	if err != nil {
		return tuf.Key{}, "", err
	}
	block := pemBlock(data)
	if block != nil && isEncryptedPEM(block) || block == nil && isForeignJSON(data) {
		return tuf.Key{}, "", keyError(path, ErrFile, "what others encrypted tells its public key only when it is opened")
	}
	if block == nil {
		f, err := parseOwn(data)
		if err != nil {
			return tuf.Key{}, "", keyError(path, ErrFile, "%v", err)
		}
		return f.Public.key(), f.Label, nil
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
	info, err := f.Stat() // of what is read, not of what path means a moment later
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
	case "windows", "plan9", "js", "wasip1": // their mode bits say nothing
	default:
		if mode.Perm()&0o077 != 0 {
			return nil, keyError(l.path, ErrExposed, "mode is %#o; make it 0600, and think about who has read it", mode.Perm())
		}
	}
	// Before the passphrase is asked for: nobody shall type it for the wrong key.
	if want := l.opts.Purpose; want != "" && want != f.Label {
		return nil, keyError(l.path, ErrPurpose, "it is for %q, needed is one for %q", f.Label, want)
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
		return nil, keyError(l.path, ErrPassphrase, "the file is encrypted and there is none")
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
