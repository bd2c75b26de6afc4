package repo

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/visum-dev/visum/tuf"
)

// maxKeyFile is more than the largest key that is allowed needs.
const maxKeyFile = 256 << 10

// LoadKey reads a private key from a file. label is what the key must be for,
// the one given to [GenerateKey]; "" accepts a key for anything.
//
// It reads files of [GenerateKey] and [UnsafeGeneratePlainKey]; private keys in
// PEM as PKCS#8 ("PRIVATE KEY", unencrypted); and OpenSSH private keys. Keys may
// be ed25519, ECDSA on P-256 or P-384, or RSA of 2048 to 8192 bits. A PEM or
// OpenSSH file can't say what it is for, so it is taken only with label "".
//
// passphrase is called at most once, and only when the file is encrypted and
// its label is the right one; nil means there is none. What it returns is not
// kept or changed; its error is returned, wrapped.
//
// The error wraps [ErrKeyPurpose] when the label is another, [ErrPassphrase]
// when the passphrase is wrong, empty or missing, and [ErrKeyFile] when the file
// is none of these or damaged. On Unix a file of our own format that group or
// others may read or write is refused with [ErrKeyExposed].
func LoadKey(path, label string, passphrase func() ([]byte, error)) (tuf.Signer, error) {
	data, mode, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	l := keyLoader{path, label, passphrase}
	var private crypto.PrivateKey
	if block := pemBlock(data); block == nil {
		private, err = l.own(data, mode)
	} else {
		private, err = l.foreign(data, block)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, keyError(path, ErrKeyFile, "a %T can't sign", private)
	}
	s, err := tuf.NewSigner(signer)
	if err != nil {
		return nil, keyError(path, ErrKeyFile, "%v", err)
	}
	return s, nil
}

// ReadPublicKey returns the public half of a key file and its label, without a
// passphrase. It takes what [LoadKey] takes, whatever its permissions, and a
// public key in PEM ("PUBLIC KEY"); where the file has no label it is "".
//
// It is what the outside of the file says. Whoever can write to the file can
// make it say another key and label: only LoadKey finds that they belong to
// the private key.
func ReadPublicKey(path string) (key tuf.Key, label string, err error) {
	data, _, err := readKeyFile(path)
	if err != nil {
		return tuf.Key{}, "", err
	}
	block := pemBlock(data)
	if block == nil {
		f, err := parseKeyFile(data)
		if err != nil {
			return tuf.Key{}, "", keyError(path, ErrKeyFile, "%v", err)
		}
		return f.Public.key(), f.Label, nil
	}
	public, err := publicHalf(data, block)
	if err == nil {
		key, err = tuf.NewKey(public)
	}
	if err != nil {
		return tuf.Key{}, "", keyError(path, ErrKeyFile, "%v", err)
	}
	return key, "", nil
}

func readKeyFile(path string) ([]byte, os.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("repo: key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat() // of what is read, not of what path means a moment later
	if err != nil {
		return nil, 0, fmt.Errorf("repo: key file: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, 0, fmt.Errorf("repo: key file: %w", err)
	}
	if len(data) > maxKeyFile {
		return nil, 0, keyError(path, ErrKeyFile, "larger than %d KiB", maxKeyFile>>10)
	}
	return data, info.Mode(), nil
}

type keyLoader struct {
	path, label string
	passphrase  func() ([]byte, error)
}

func (l *keyLoader) own(data []byte, mode os.FileMode) (crypto.PrivateKey, error) {
	f, err := parseKeyFile(data)
	if err != nil {
		return nil, keyError(l.path, ErrKeyFile, "%v", err)
	}
	switch runtime.GOOS {
	case "windows", "plan9", "js", "wasip1": // their mode bits say nothing
	default:
		if mode.Perm()&0o077 != 0 {
			return nil, keyError(l.path, ErrKeyExposed, "mode is %#o; make it 0600, and think about who has read it", mode.Perm())
		}
	}
	// Before the passphrase is asked for: nobody shall type it for the wrong key.
	if l.label != "" && l.label != f.Label {
		return nil, keyError(l.path, ErrKeyPurpose, "it is for %q, needed is one for %q", f.Label, l.label)
	}
	secret := f.Plain
	if secret == nil {
		pass, err := l.ask()
		if err != nil {
			return nil, err
		}
		if secret, err = f.decrypt(pass); errors.Is(err, ErrPassphrase) {
			return nil, fmt.Errorf("repo: key file %s: %w", l.path, err)
		} else if err != nil {
			return nil, keyError(l.path, ErrKeyFile, "%v", err)
		}
	}
	private, err := f.open(secret)
	if err != nil {
		return nil, keyError(l.path, ErrKeyFile, "%v", err)
	}
	return private, nil
}

func (l *keyLoader) ask() ([]byte, error) {
	if l.passphrase == nil {
		return nil, keyError(l.path, ErrPassphrase, "the file is encrypted and there is none")
	}
	pass, err := l.passphrase()
	if err != nil {
		return nil, fmt.Errorf("repo: key file %s: passphrase: %w", l.path, err)
	}
	if len(pass) == 0 {
		return nil, keyError(l.path, ErrPassphrase, "it is empty")
	}
	return pass, nil
}
