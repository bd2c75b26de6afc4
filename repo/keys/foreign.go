package keys

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// pemBlock returns the first block of a PEM file, nil for any other file.
func pemBlock(data []byte) *pem.Block {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return nil
	}
	if block, _ := pem.Decode(data); block != nil {
		return block
	}
	return nil
}

func (l *loader) foreign(data []byte, block *pem.Block) (crypto.PrivateKey, error) {
	if err := l.unlabelled(); err != nil {
		return nil, err
	}
	private, err := parseForeign(data, block)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		var pass []byte
		if pass, err = l.ask(); err != nil {
			return nil, err
		}
		private, err = ssh.ParseRawPrivateKeyWithPassphrase(data, pass)
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("keys: file %s: %w", l.path, ErrPassphrase)
		}
	}
	if err != nil {
		return nil, keyError(l.path, ErrFile, "%v", err)
	}
	if p, ok := private.(*ed25519.PrivateKey); ok { // as package ssh has it
		return *p, nil
	}
	return private, nil
}

func parseForeign(data []byte, block *pem.Block) (crypto.PrivateKey, error) {
	switch block.Type {
	case "PRIVATE KEY":
		return x509.ParsePKCS8PrivateKey(block.Bytes)
	case "OPENSSH PRIVATE KEY":
		return ssh.ParseRawPrivateKey(data)
	case "EC PARAMETERS", "EC PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
		return nil, fmt.Errorf("%s; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW", block.Type)
	}
	return nil, fmt.Errorf("PEM block is %q, not a private key", block.Type)
}

// publicHalf returns the public key of a private key in PEM.
func publicHalf(data []byte, block *pem.Block) (crypto.PublicKey, error) {
	private, err := parseForeign(data, block)
	if missing, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok && missing.PublicKey != nil {
		// A security token (sk-) has a public key of a common type, but does not sign
		// the payload alone.
		p, ok := missing.PublicKey.(ssh.CryptoPublicKey)
		if ok && !strings.HasPrefix(missing.PublicKey.Type(), "sk-") {
			return p.CryptoPublicKey(), nil
		}
	}
	if err != nil {
		return nil, err
	}
	s, ok := private.(interface{ Public() crypto.PublicKey })
	if !ok {
		return nil, fmt.Errorf("a %T can't sign", private)
	}
	return s.Public(), nil
}
