package keystest_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rawtuf.NoErr(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rawtuf.NoErr(t, err)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	rawtuf.NoErr(t, err)
	for name, private := range map[string]crypto.Signer{"ed25519": ed, "p256": p256, "p384": p384, "rsa": r} {
		t.Run(name, func(t *testing.T) {
			keystest.Run(t, keystest.Store{Open: func(ctx context.Context) (tuf.Signer, error) {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				return tuf.NewSigner(private)
			}})
		})
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.key")
	_, err := keys.UnsafeGeneratePlain(plain, "vendor root")
	rawtuf.NoErr(t, err)
	keystest.Run(t, keystest.Store{
		Open: func(ctx context.Context) (tuf.Signer, error) { return keys.Open(ctx, keys.FileURI(plain), nil) },
	})

	// OpenSSH's file is encrypted with less effort than one of Generate, for a fast test.
	const passphrase = "correct horse"
	keygen := rawtuf.Program(t, "ssh-keygen", "openssh-client")
	encrypted := filepath.Join(dir, "encrypted")
	rawtuf.Run(t, "", keygen, "-q", "-N", passphrase, "-Z", "aes256-ctr", "-a", "1", "-t", "ecdsa", "-b", "384", "-f", encrypted)
	open := func(ctx context.Context, pass string) (tuf.Signer, error) {
		return keys.Open(ctx, keys.FileURI(encrypted), &keys.Options{
			Passphrase: func(context.Context, string) ([]byte, error) { return []byte(pass), nil },
		})
	}
	keystest.Run(t, keystest.Store{
		Open:    func(ctx context.Context) (tuf.Signer, error) { return open(ctx, passphrase) },
		Secrets: []string{passphrase, "other horse"},
		Failures: map[string]func(*testing.T) error{
			"wrong passphrase": func(t *testing.T) error { _, err := open(t.Context(), "other horse"); return err },
			"no passphrase":    func(t *testing.T) error { _, err := open(t.Context(), ""); return err },
		},
	})
}

// socketDir is short enough for the path of a socket, which t.TempDir may not be.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	rawtuf.NoErr(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A real ssh-agent, which accepts messages of at most 256 KiB.
func TestAgent(t *testing.T) {
	t.Parallel()
	program := rawtuf.Program(t, "ssh-agent", "openssh-client")
	keygen, add := rawtuf.Program(t, "ssh-keygen", "openssh-client"), rawtuf.Program(t, "ssh-add", "openssh-client")
	socket := filepath.Join(socketDir(t), "s")
	// The agent runs as long as its child: one that waits until its standard input ends.
	cmd := exec.Command(program, "-a", socket, "sh", "-c", "echo ready; cat")
	stdin, err := cmd.StdinPipe()
	rawtuf.NoErr(t, err)
	stdout, err := cmd.StdoutPipe()
	rawtuf.NoErr(t, err)
	rawtuf.NoErr(t, cmd.Start())
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	if _, err := stdout.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	for _, kind := range [][]string{{"ed25519"}, {"ecdsa", "-b", "256"}, {"ecdsa", "-b", "384"}} {
		name := strings.Join(kind, "")
		path := filepath.Join(t.TempDir(), "id")
		rawtuf.Run(t, "", keygen, append([]string{"-q", "-N", "", "-C", name, "-f", path, "-t"}, kind...)...)
		load := exec.Command(add, "-q", path)
		load.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
		if out, err := load.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		t.Run(name, func(t *testing.T) {
			keystest.Run(t, keystest.Store{
				Open: func(ctx context.Context) (tuf.Signer, error) {
					return keys.Open(ctx, "ssh-agent:"+name, &keys.Options{AgentSocket: socket})
				},
				MaxPayload: 250 << 10,
				Failures: map[string]func(*testing.T) error{
					"no key": func(t *testing.T) error {
						_, err := keys.Open(t.Context(), "ssh-agent:none", &keys.Options{AgentSocket: socket})
						return err
					},
					"payload above 256 KiB": func(t *testing.T) error {
						s, err := keys.Open(t.Context(), "ssh-agent:"+name, &keys.Options{AgentSocket: socket})
						rawtuf.NoErr(t, err)
						_, err = s.Sign(t.Context(), make([]byte, 300<<10))
						return err
					},
				},
			})
		})
	}
}

// waiting is an agent that waits for a person before it signs.
type waiting struct {
	agent.ExtendedAgent
	reached chan<- struct{}
	answer  <-chan struct{}
}

func (w *waiting) SignWithFlags(key ssh.PublicKey, data []byte, flags agent.SignatureFlags) (*ssh.Signature, error) {
	w.reached <- struct{}{}
	<-w.answer
	return nil, errors.New("refused")
}

func TestAgentThatWaits(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	keyring := agent.NewKeyring().(agent.ExtendedAgent)
	rawtuf.NoErr(t, keyring.Add(agent.AddedKey{PrivateKey: private, Comment: "k"}))
	serve := make(chan agent.ExtendedAgent, 1)
	serve <- keyring
	socket := filepath.Join(socketDir(t), "s")
	l, err := net.Listen("unix", socket)
	rawtuf.NoErr(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			now := <-serve
			serve <- now
			go func() { defer conn.Close(); agent.ServeAgent(now, conn) }()
		}
	}()
	keystest.Run(t, keystest.Store{
		Open: func(ctx context.Context) (tuf.Signer, error) {
			return keys.Open(ctx, "ssh-agent:k", &keys.Options{AgentSocket: socket})
		},
		Block: func(*testing.T) (<-chan struct{}, func()) {
			reached, answer := make(chan struct{}, 1), make(chan struct{})
			<-serve
			serve <- &waiting{keyring, reached, answer}
			return reached, func() { <-serve; serve <- keyring; close(answer) }
		},
	})
}
