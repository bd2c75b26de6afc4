package keys

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/visum-dev/visum/tuf"
)

// agentSigner is a key in an ssh-agent. It connects for each signature, because the
// agent may be locked, cleared or restarted in between.
type agentSigner struct {
	socket string
	held   *agent.Key
	key    tuf.Key
}

// agentCall connects and calls fn. When ctx ends, it closes the connection, which ends
// a wait for a person to confirm the use of the key.
func agentCall(ctx context.Context, socket string, fn func(agent.ExtendedAgent) error) error {
	if socket == "" {
		return fmt.Errorf("keys: ssh-agent: %w: no socket was given; its path is usually in SSH_AUTH_SOCK", fs.ErrInvalid)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("keys: ssh-agent: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := fn(agent.NewClient(conn)); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // not "closed connection"
		}
		return fmt.Errorf("keys: ssh-agent: %w", err)
	}
	return nil
}

// AgentKey is a key that an ssh-agent holds.
type AgentKey struct {
	Fingerprint string  // "SHA256:...", as ssh-add -l prints it
	Comment     string  // any text
	Format      string  // type of the key, such as "ssh-ed25519"
	URI         string  // selects the key by its fingerprint
	Key         tuf.Key // zero if it can't sign metadata
	Err         error   // why it can't; nil if it can. It wraps ErrKind
}

// ListAgent returns the keys of the ssh-agent at a socket, whose path is usually in
// SSH_AUTH_SOCK.
func ListAgent(ctx context.Context, socket string) ([]AgentKey, error) {
	held, err := agentKeys(ctx, socket)
	if err != nil {
		return nil, err
	}
	out := make([]AgentKey, len(held))
	for i, k := range held {
		out[i] = AgentKey{Fingerprint: ssh.FingerprintSHA256(k), Comment: k.Comment, Format: k.Format}
		out[i].URI = "ssh-agent:" + out[i].Fingerprint
		out[i].Key, out[i].Err = agentKey(k)
	}
	return out, nil
}

func agentKeys(ctx context.Context, socket string) (held []*agent.Key, err error) {
	err = agentCall(ctx, socket, func(a agent.ExtendedAgent) (err error) {
		held, err = a.List()
		return err
	})
	return held, err
}

// openAgent finds the key with the given fingerprint or comment.
func openAgent(ctx context.Context, name string, opts *Options) (tuf.Signer, error) {
	byFingerprint := strings.HasPrefix(name, "SHA256:")
	if !byFingerprint {
		var err error
		if name, err = url.PathUnescape(name); err != nil || name == "" {
			return nil, fmt.Errorf("keys: ssh-agent: %w: name a key by SHA256:... or by its comment", fs.ErrInvalid)
		}
	}
	held, err := agentKeys(ctx, opts.AgentSocket)
	if err != nil {
		return nil, err
	}
	var all []string
	var found []*agent.Key
	for _, k := range held {
		fingerprint := ssh.FingerprintSHA256(k)
		if byFingerprint && fingerprint == strings.TrimRight(name, "=") || !byFingerprint && k.Comment == name {
			found = append(found, k)
		}
		all = append(all, fmt.Sprintf("%s %.60q (%s)", fingerprint, k.Comment, k.Format))
	}
	switch has := "the agent has " + strings.Join(all, ", "); {
	case len(held) == 0:
		return nil, fmt.Errorf("keys: ssh-agent: no key %.80q: %w: the agent has no keys", name, fs.ErrNotExist)
	case len(found) == 0:
		return nil, fmt.Errorf("keys: ssh-agent: no key %.80q: %w: %s", name, fs.ErrNotExist, has)
	case len(found) > 1:
		return nil, fmt.Errorf("keys: ssh-agent: %d keys match %.80q: %w: select one by its fingerprint; %s", len(found), name, fs.ErrInvalid, has)
	}
	s := &agentSigner{socket: opts.AgentSocket, held: found[0]}
	if s.key, err = agentKey(found[0]); err != nil {
		return nil, fmt.Errorf("keys: ssh-agent: %s: %w", ssh.FingerprintSHA256(found[0]), err)
	}
	if p := opts.Purpose; p != "" && p != found[0].Comment {
		return nil, fmt.Errorf("keys: ssh-agent: %w: the comment of the key is %.80q, want %q", ErrPurpose, found[0].Comment, p)
	}
	return s, nil
}

// agentKey converts the key to its TUF form. The error says why it can't sign metadata.
func agentKey(k *agent.Key) (tuf.Key, error) {
	why := func(format string, args ...any) (tuf.Key, error) {
		return tuf.Key{}, fmt.Errorf("%w: "+format, append([]any{ErrKind}, args...)...)
	}
	switch {
	case strings.HasPrefix(k.Format, "sk-"):
		// The public key has a common type, but the token does not sign the payload alone.
		return why("%s: a security token adds data to the payload, so TUF clients can't verify its signature", k.Format)
	case k.Format == ssh.KeyAlgoRSA:
		return why("%s: an agent signs with PKCS #1 v1.5, metadata requires PSS; use ed25519 or ECDSA", k.Format)
	case k.Format != ssh.KeyAlgoED25519 && k.Format != ssh.KeyAlgoECDSA256 && k.Format != ssh.KeyAlgoECDSA384:
		return why("%s", k.Format)
	}
	public, err := ssh.ParsePublicKey(k.Blob)
	if err != nil || public.Type() != k.Format {
		return why("%s: the key bytes are of another type", k.Format)
	}
	p, ok := public.(ssh.CryptoPublicKey)
	if !ok {
		return why("%s", k.Format)
	}
	return tuf.NewKey(p.CryptoPublicKey())
}

func (s *agentSigner) Key() tuf.Key { return s.key }

// Sign requests a signature and verifies it, because the agent is another program.
func (s *agentSigner) Sign(ctx context.Context, payload []byte) ([]byte, error) {
	var sig *ssh.Signature
	err := agentCall(ctx, s.socket, func(a agent.ExtendedAgent) (err error) {
		sig, err = a.Sign(s.held, payload)
		return err
	})
	if err != nil {
		return nil, err
	}
	blob := sig.Blob
	if s.held.Format != ssh.KeyAlgoED25519 {
		var rs struct{ R, S *big.Int }
		if err := ssh.Unmarshal(blob, &rs); err != nil {
			return nil, fmt.Errorf("keys: ssh-agent: signature: %w", err)
		}
		if blob, err = asn1.Marshal(rs); err != nil {
			return nil, fmt.Errorf("keys: ssh-agent: signature: %w", err)
		}
	}
	if sig.Format != s.held.Format || !s.key.Verifies(payload, blob) {
		return nil, errors.New("keys: ssh-agent: the agent returned no valid signature of this key")
	}
	return blob, nil
}
