package keys_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
)

// socketDir is short enough for the path of a socket, which t.TempDir may not be.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "a")
	rawtuf.NoErr(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startAgent runs a real ssh-agent for the duration of the test.
func startAgent(t *testing.T) (socket string) {
	t.Helper()
	path := rawtuf.Program(t, "ssh-agent", "openssh-client")
	socket = filepath.Join(socketDir(t), "s")
	cmd := exec.Command(path, "-D", "-a", socket)
	rawtuf.NoErr(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 500 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return socket
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("ssh-agent does not answer")
	return ""
}

// sshKey makes a key with ssh-keygen and adds it to the agent.
func sshKey(t *testing.T, socket, comment string, kind ...string) (path, fingerprint string) {
	t.Helper()
	keygen, add := rawtuf.Program(t, "ssh-keygen", "openssh-client"), rawtuf.Program(t, "ssh-add", "openssh-client")
	path = filepath.Join(t.TempDir(), "id")
	rawtuf.Run(t, "", keygen, append([]string{"-q", "-N", "", "-C", comment, "-f", path}, kind...)...)
	cmd := exec.Command(add, "-q", path)
	cmd.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path, strings.Fields(rawtuf.Run(t, "", keygen, "-l", "-f", path))[1]
}

// Keys in a real agent sign metadata, without leaving it.
func TestAgent(t *testing.T) {
	t.Parallel()
	socket := startAgent(t)
	opts := &keys.Options{AgentSocket: socket}
	_, err := keys.Open(t.Context(), "ssh-agent:any", opts)
	wantErr(t, err, fs.ErrNotExist)

	for _, x := range []struct {
		comment string
		kind    []string
	}{
		{"vendor root", []string{"-t", "ed25519"}},
		{"review-agent", []string{"-t", "ecdsa", "-b", "256"}},
		{"timestamp", []string{"-t", "ecdsa", "-b", "384"}},
	} {
		t.Run(x.comment, func(t *testing.T) {
			path, fingerprint := sshKey(t, socket, x.comment, x.kind...)
			inFile, err := loadKey(path, "", nil)
			rawtuf.NoErr(t, err)
			for _, uri := range []string{"ssh-agent:" + fingerprint, "ssh-agent:" + strings.ReplaceAll(x.comment, " ", "%20"), "SSH-AGENT:" + fingerprint} {
				s, err := keys.Open(t.Context(), uri, &keys.Options{AgentSocket: socket, Purpose: x.comment})
				rawtuf.NoErr(t, err)
				if s.Key() != inFile.Key() {
					t.Fatalf("%s: %v, want %v", uri, s.Key(), inFile.Key())
				}
				// The loop has many rounds, because the numbers in an ECDSA signature vary in length.
				for range 40 {
					payload := []byte(rand.Text())
					sig, err := s.Sign(t.Context(), payload)
					rawtuf.NoErr(t, err)
					if !s.Key().Verifies(payload, sig) || s.Key().Verifies([]byte("other"), sig) {
						t.Fatal("the signature does not verify")
					}
				}
			}
			_, err = keys.Open(t.Context(), "ssh-agent:"+fingerprint, &keys.Options{AgentSocket: socket, Purpose: "snapshot"})
			wantErr(t, err, keys.ErrPurpose)
		})
	}

	for comment, kind := range map[string][]string{"rsa": {"-t", "rsa", "-b", "2048"}, "p521": {"-t", "ecdsa", "-b", "521"}} {
		_, fingerprint := sshKey(t, socket, comment, kind...)
		for _, name := range []string{comment, fingerprint} {
			_, err := keys.Open(t.Context(), "ssh-agent:"+name, opts)
			wantErr(t, err, keys.ErrKind)
		}
		if comment == "rsa" {
			_, err := keys.Open(t.Context(), "ssh-agent:rsa", opts)
			if !strings.Contains(err.Error(), "PSS") {
				t.Errorf("the error does not name the reason: %v", err)
			}
		}
	}

	// The list has all of them, and says which can sign metadata.
	list, err := keys.ListAgent(t.Context(), socket)
	rawtuf.NoErr(t, err)
	can := map[string]bool{}
	for _, k := range list {
		s, err := keys.Open(t.Context(), k.URI, opts)
		if (err == nil) != (k.Err == nil) || err == nil && s.Key() != k.Key || k.Err != nil && !errors.Is(k.Err, keys.ErrKind) {
			t.Errorf("%+v: %v", k, err)
		}
		can[k.Comment] = k.Err == nil
	}
	if want := map[string]bool{"vendor root": true, "review-agent": true, "timestamp": true, "rsa": false, "p521": false}; !maps.Equal(can, want) {
		t.Errorf("%v, want %v", can, want)
	}

	// Two keys with one comment can be distinguished by fingerprint only.
	_, fingerprint := sshKey(t, socket, "twin", "-t", "ed25519")
	sshKey(t, socket, "twin", "-t", "ed25519")
	_, err = keys.Open(t.Context(), "ssh-agent:twin", opts)
	wantErr(t, err, fs.ErrInvalid)
	if !strings.Contains(err.Error(), fingerprint) {
		t.Errorf("the error does not list the keys: %v", err)
	}
	twin, err := keys.Open(t.Context(), "ssh-agent:"+fingerprint, opts)
	rawtuf.NoErr(t, err)

	for _, name := range []string{"none", "SHA256:none", "SHA256:", fingerprint[:20]} {
		_, err = keys.Open(t.Context(), "ssh-agent:"+name, opts)
		wantErr(t, err, fs.ErrNotExist)
	}
	for _, name := range []string{"", "%zz"} {
		_, err = keys.Open(t.Context(), "ssh-agent:"+name, opts)
		wantErr(t, err, fs.ErrInvalid)
	}
	_, err = keys.Open(t.Context(), "ssh-agent:twin", nil)
	wantErr(t, err, fs.ErrInvalid)
	_, err = keys.Open(t.Context(), "ssh-agent:twin", &keys.Options{AgentSocket: socket + "x"})
	wantErr(t, err, fs.ErrNotExist)

	// A key that was removed from the agent can't sign any more.
	forget := exec.Command("ssh-add", "-q", "-D")
	forget.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
	rawtuf.NoErr(t, forget.Run())
	if _, err := twin.Sign(t.Context(), []byte("x")); err == nil {
		t.Error("signed with a removed key")
	}
}

// fakeAgent answers as fn does, on a real socket.
func fakeAgent(t *testing.T, fn func(net.Conn)) (socket string) {
	t.Helper()
	socket = filepath.Join(socketDir(t), "s")
	l, err := net.Listen("unix", socket)
	rawtuf.NoErr(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); fn(conn) }()
		}
	}()
	return socket
}

// listed is an agent that lists the given keys and signs with the given function.
type listed struct {
	agent.ExtendedAgent
	keys []*agent.Key
	sign func(data []byte) (*ssh.Signature, error)
}

func (l *listed) List() ([]*agent.Key, error) { return l.keys, nil }
func (l *listed) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	return l.sign(data)
}

// A security token's key looks like a regular one; it is refused by its key type name.
func TestAgentWithTokens(t *testing.T) {
	t.Parallel()
	public, _, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	keyring := &listed{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent)}
	for _, kind := range []string{"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-ed25519-cert-v01@openssh.com", "ssh-dss", "new"} {
		blob := ssh.Marshal(struct {
			Type        string
			Key         []byte
			Application string
		}{kind, public, "ssh:"})
		keyring.keys = append(keyring.keys, &agent.Key{Format: kind, Blob: blob, Comment: kind})
	}
	// This agent lies about its key bytes.
	keyring.keys = append(keyring.keys, &agent.Key{Format: "ssh-ed25519", Blob: keyring.keys[0].Blob, Comment: "liar"})
	socket := fakeAgent(t, func(c net.Conn) { agent.ServeAgent(keyring, c) })
	for _, k := range keyring.keys {
		_, err := keys.Open(t.Context(), "ssh-agent:"+k.Comment, &keys.Options{AgentSocket: socket})
		if k.Comment == "liar" && err != nil { // the protocol's own client may see it first
			continue
		}
		wantErr(t, err, keys.ErrKind)
		if strings.HasPrefix(k.Comment, "sk-") != strings.Contains(err.Error(), "security token") {
			t.Errorf("%s: does not say why: %v", k.Comment, err)
		}
	}
}

// An agent that returns a wrong signature, or never answers, does no harm.
func TestAgentThatMisbehaves(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	rawtuf.NoErr(t, err)
	pub := signer.PublicKey()
	keyring := &listed{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent)}
	keyring.keys = []*agent.Key{{Format: pub.Type(), Blob: pub.Marshal(), Comment: "k"}}
	hang := make(chan struct{})
	keyring.sign = func(data []byte) (*ssh.Signature, error) {
		switch string(data) {
		case "wrong":
			return signer.Sign(rand.Reader, []byte("other"))
		case "format":
			sig, err := signer.Sign(rand.Reader, data)
			sig.Format = ssh.KeyAlgoECDSA256
			return sig, err
		case "refused":
			return nil, errors.New("no")
		case "hang":
			<-hang
		}
		return signer.Sign(rand.Reader, data)
	}
	socket := fakeAgent(t, func(c net.Conn) { agent.ServeAgent(keyring, c) })
	s, err := keys.Open(t.Context(), "ssh-agent:k", &keys.Options{AgentSocket: socket})
	rawtuf.NoErr(t, err)
	if sig, err := s.Sign(t.Context(), []byte("right")); err != nil || !s.Key().Verifies([]byte("right"), sig) {
		t.Error(err)
	}
	for _, payload := range []string{"wrong", "format", "refused"} {
		if _, err := s.Sign(t.Context(), []byte(payload)); err == nil {
			t.Errorf("%s: no error", payload)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = s.Sign(ctx, []byte("hang"))
	wantErr(t, err, context.DeadlineExceeded)
	close(hang)

	// This agent does not answer the request for its list of keys.
	silent := fakeAgent(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = keys.Open(ctx, "ssh-agent:k", &keys.Options{AgentSocket: silent})
	wantErr(t, err, context.DeadlineExceeded)
}
