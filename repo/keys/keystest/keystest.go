// Package keystest tests implementations of [tuf.Signer] and of [keys.Opener]. A key store
// that passes makes signatures that go-tuf, a standard TUF client, verifies under root and
// targets; has a public key that does not change; returns when its context ends; and may
// be used concurrently.
//
// It makes some fifty signatures, so a store that asks a person for each one must not ask
// in tests. It can't test that a private key stays inside its store.
package keystest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

// defaultPayload is larger than the metadata of most repositories.
const defaultPayload = 1 << 20

// Store describes the key store under test. Only Open is required.
type Store struct {
	// Open opens the signer. Each call must open the same key. It may be called
	// concurrently.
	Open func(ctx context.Context) (tuf.Signer, error)
	// MaxPayload is the size in bytes of the longest payload to sign. 0: 1 MiB.
	MaxPayload int
	// Block makes the store not answer the next signature. It returns a channel that is
	// closed or receives a value when the store has the request, and a function that ends
	// the wait, so that later signatures succeed again; it is called after Sign has
	// returned. nil: the store does not wait for anything, so this is not tested.
	Block func(t *testing.T) (reached <-chan struct{}, release func())
	// Failures are calls that must fail, by name, such as opening with a wrong passphrase
	// or signing while the server refuses. Each is called once, and returns the error.
	Failures map[string]func(t *testing.T) error
	// Secrets must not be part of any error: passphrases, tokens, private keys. An empty
	// string is an error of the test.
	Secrets []string
}

// Run tests the store, in subtests of t. Nothing that waits has a timeout of its own: a
// store that ignores its context ends with that of the test.
func Run(t *testing.T, s Store) {
	if slices.Contains(s.Secrets, "") {
		t.Fatal("keystest: an empty secret is part of every error")
	}
	for _, x := range []struct {
		name string
		test func(*testing.T, *Store)
	}{
		{"PublicKey", publicKey},
		{"Root", root},
		{"Targets", targets},
		{"Payloads", payloads},
		{"Concurrent", concurrent},
		{"Cancelled", cancelled},
		{"CancelledWhileWaiting", cancelledWhileWaiting},
		{"Failures", failures},
	} {
		t.Run(x.name, func(t *testing.T) { x.test(t, &s) })
	}
}

func (s *Store) open(t *testing.T) tuf.Signer {
	t.Helper()
	signer, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		t.Fatal("opened neither a signer nor an error")
	}
	return signer
}

func sign(t *testing.T, signer tuf.Signer, payload []byte) []byte {
	t.Helper()
	before := bytes.Clone(payload)
	sig, err := signer.Sign(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(payload, before) {
		t.Fatal("Sign changed the payload")
	}
	return sig
}

func publicKey(t *testing.T, s *Store) {
	signer, again := s.open(t), s.open(t)
	key := signer.Key()
	if _, err := key.Fingerprint(); err != nil {
		t.Fatalf("the key can't verify anything: %v", err)
	}
	if got := again.Key(); got != key {
		t.Errorf("opened again, the key is %+v, was %+v", got, key)
	}
	sign(t, signer, []byte("payload"))
	if got := signer.Key(); got != key {
		t.Errorf("after a signature, the key is %+v, was %+v", got, key)
	}
	for _, form := range []keys.Form{keys.FormPEM, keys.FormOpenSSH, keys.FormTUF} {
		data, err := keys.WritePublic(key, form)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := keys.ParsePublic(data); err != nil || got != key {
			t.Errorf("%v: read back as %+v, %v, want %+v", form, got, err, key)
		}
	}
}

// expires is far in the future; go-tuf does not compare it here.
func expires() time.Time { return time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC) }

// signed adds a signature to metadata as an authoring tool does, and returns the file.
func signed[T metadata.Roles](t *testing.T, signer tuf.Signer, m *metadata.Metadata[T]) []byte {
	t.Helper()
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		t.Fatal(err)
	}
	m.Signatures = []metadata.Signature{{KeyID: signer.Key().ID(), Signature: sign(t, signer, payload)}}
	data, err := m.ToBytes(false)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newRoot returns a root in which the signer has every role.
func newRoot(t *testing.T, signer tuf.Signer) *metadata.Metadata[metadata.RootType] {
	t.Helper()
	root := metadata.Root(expires())
	k := signer.Key()
	for _, role := range []string{metadata.ROOT, metadata.TIMESTAMP, metadata.SNAPSHOT, metadata.TARGETS} {
		key := &metadata.Key{Type: k.Type, Scheme: k.Scheme, Value: metadata.KeyVal{PublicKey: k.Public}}
		if err := root.Signed.AddKey(key, role); err != nil {
			t.Fatal(err)
		}
	}
	if root.Signed.Keys[k.ID()] == nil {
		t.Fatalf("go-tuf has another id for the key than %s", k.ID())
	}
	return root
}

func root(t *testing.T, s *Store) {
	signer := s.open(t)
	made := newRoot(t, signer)
	read, err := metadata.Root().FromBytes(signed(t, signer, made))
	if err != nil {
		t.Fatal(err)
	}
	if err := read.VerifyDelegate(metadata.ROOT, read); err != nil {
		t.Errorf("go-tuf: %v", err)
	}
	read.Signed.Version++
	if err := read.VerifyDelegate(metadata.ROOT, read); err == nil {
		t.Error("go-tuf verifies a changed root")
	}
}

func targets(t *testing.T, s *Store) {
	signer := s.open(t)
	root := newRoot(t, signer)
	made := metadata.Targets(expires())
	file, err := metadata.TargetFile().FromBytes("agent/agent-1.1", []byte("release"), "sha256")
	if err != nil {
		t.Fatal(err)
	}
	made.Signed.Targets["agent/agent-1.1"] = file
	read, err := metadata.Targets().FromBytes(signed(t, signer, made))
	if err != nil {
		t.Fatal(err)
	}
	if err := root.VerifyDelegate(metadata.TARGETS, read); err != nil {
		t.Errorf("go-tuf: %v", err)
	}
	read.Signed.Version++
	if err := root.VerifyDelegate(metadata.TARGETS, read); err == nil {
		t.Error("go-tuf verifies changed targets")
	}
}

// payloads are any bytes. The loop has many rounds, because the numbers in an ECDSA
// signature vary in length.
func payloads(t *testing.T, s *Store) {
	signer := s.open(t)
	most := s.MaxPayload
	if most == 0 {
		most = defaultPayload
	}
	all := [][]byte{{0}, []byte("\xff\n\r\x00"), []byte("--public-key"), bytes.Repeat([]byte("0123456"), most/7+1)[:most]}
	for i := range 12 {
		all = append(all, []byte{'#', byte(i)})
	}
	for _, payload := range all {
		sig := sign(t, signer, payload)
		if !signer.Key().Verifies(payload, sig) {
			t.Fatalf("the signature of %s does not verify", text.Bytes(payload))
		}
		if signer.Key().Verifies(append(bytes.Clone(payload), 'x'), sig) {
			t.Fatal("the signature verifies another payload")
		}
	}
}

func concurrent(t *testing.T, s *Store) {
	signers := []tuf.Signer{s.open(t), s.open(t)}
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			signer := signers[i%2]
			<-start
			for j := range 3 {
				payload := []byte{'p', byte(i), byte(j)}
				if sig, err := signer.Sign(t.Context(), payload); err != nil {
					t.Error(err)
				} else if !signer.Key().Verifies(payload, sig) {
					t.Errorf("signature %d of signer %d does not verify", j, i)
				}
			}
		})
	}
	close(start)
	all.Wait()
}

func cancelled(t *testing.T, s *Store) {
	signer := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	sig, err := signer.Sign(ctx, []byte("payload"))
	s.ended(t, err)
	if sig != nil {
		t.Error("Sign returned a signature and an error")
	}
	opened, err := s.Open(ctx)
	s.ended(t, err)
	if opened != nil {
		t.Error("Open returned a signer and an error")
	}
	sign(t, signer, []byte("payload"))
}

func cancelledWhileWaiting(t *testing.T, s *Store) {
	if s.Block == nil {
		t.Skip("the store does not wait")
	}
	signer := s.open(t)
	reached, release := s.Block(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := signer.Sign(ctx, []byte("payload"))
		failed <- err
	}()
	select {
	case <-reached:
	case err := <-failed:
		release()
		t.Fatalf("Sign returned before the store was asked: %v", err)
	}
	cancel()
	s.ended(t, <-failed)
	release()
	sign(t, signer, []byte("payload"))
}

// ended requires the error of a cancelled context.
func (s *Store) ended(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	s.harmless(t, "cancelled", err)
}

func failures(t *testing.T, s *Store) {
	if s.Failures == nil {
		t.Skip("no failures are named")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Failures)) {
		err := s.Failures[name](t)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		s.harmless(t, name, err)
	}
}

// harmless requires that an error contains no secret and is safe on a terminal.
func (s *Store) harmless(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for i, secret := range s.Secrets {
		// The error is not printed: the output of tests is kept.
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error contains secret %d", name, i)
			return
		}
	}
	if msg := err.Error(); text.Line(msg) != msg {
		t.Errorf("%s: the error is not one line of printable ASCII: %q", name, msg)
	}
}
