package pkcs11

import (
	"context"
	"crypto/ed25519"
	"testing"
	"testing/synctest"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// While the token does not answer, further signatures wait for a session, and of a key that
// requires its PIN each time, for the signature before.
func TestWaiting(t *testing.T) {
	for each, most := range map[bool]int{false: 2, true: 1} {
		synctest.Test(t, func(t *testing.T) {
			f, path := newFake(t)
			f.info.maxSessions = 2
			f.add(t, "root", 1, newP256(t), each)
			s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: (&pins{answers: []string{fakePIN}}).ask})
			rawtuf.NoErr(t, err)
			release := make(chan struct{})
			f.release = release
			failed := make(chan error, 4)
			for range 4 {
				go func() {
					_, err := s.Sign(t.Context(), []byte("payload"))
					failed <- err
				}()
			}
			synctest.Wait()
			if len(failed) > 0 {
				t.Error(<-failed)
			}
			if f.active != most {
				t.Errorf("%d signatures are begun, want %d", f.active, most)
			}
			// A signature that waits ends with its context.
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				_, err := s.Sign(ctx, []byte("payload"))
				failed <- err
			}()
			synctest.Wait()
			cancel()
			wantErr(t, <-failed, context.Canceled)
			// The module is not initialized again under the signatures.
			modules.Lock()
			m := modules.loaded[path]
			modules.Unlock()
			if m.restart() || f.restarts > 0 {
				t.Error("initialized again during a signature")
			}
			close(release)
			for range 4 {
				if err := <-failed; err != nil {
					t.Error(err)
				}
			}
			if !m.restart() {
				t.Error("not initialized again")
			}
			_, err = s.Sign(t.Context(), []byte("payload"))
			rawtuf.NoErr(t, err)
		})
	}
}

// What the caller does to the payload after its context has ended does not reach the module.
func TestPayloadIsCopied(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	_, private, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	f.add(t, "root", 1, private, false)
	s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: (&pins{answers: []string{fakePIN}}).ask})
	rawtuf.NoErr(t, err)
	reached, release := make(chan struct{}), make(chan struct{})
	f.reached, f.release = reached, release
	ctx, cancel := context.WithCancel(t.Context())
	payload := []byte("payload")
	failed := make(chan error, 1)
	go func() {
		_, err := s.Sign(ctx, payload)
		failed <- err
	}()
	<-reached
	cancel()
	wantErr(t, <-failed, context.Canceled)
	copy(payload, "changed")
	close(release)
	for { // until the signature has ended
		f.mu.Lock()
		signed := string(f.signed)
		f.mu.Unlock()
		if signed != "" {
			if signed != "payload" {
				t.Errorf("signed %q", signed)
			}
			return
		}
	}
}

func TestStaleState(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.add(t, "root", 1, newP256(t), false)
	p := &pins{answers: []string{fakePIN}}
	s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	sign := func() error {
		_, err := s.Sign(t.Context(), []byte("payload"))
		return err
	}
	invalidate := func(serial string) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.info.serial = serial
		f.sessions, f.loggedIn = map[uint]*fakeSession{}, false
	}
	// Another token is in the slot since the key was opened: it does not get the PIN.
	invalidate("0002")
	wantErr(t, sign(), ErrNotPresent)
	if len(f.presented()) > 0 || p.count() > 0 {
		t.Error("another token got the PIN")
	}
	// The PIN is presented in a new session, not in that of Open.
	invalidate("0001")
	rawtuf.NoErr(t, sign())
	if len(f.presented()) != 1 {
		t.Errorf("%d logins", len(f.presented()))
	}
	// Another token, since the last signature.
	invalidate("0002")
	wantErr(t, sign(), ErrNotPresent)
	if len(f.presented()) != 1 {
		t.Error("another token got the PIN")
	}
	// Other code has logged in.
	invalidate("0001")
	f.loggedIn = true
	rawtuf.NoErr(t, sign())
	rawtuf.NoErr(t, sign())
	if n := len(f.presented()); n != 2 || p.count() != 1 {
		t.Errorf("%d logins, asked %d times", n, p.count())
	}
	// A loss that was seen late does not end the login that came after it.
	k := s.(*signer)
	k.reset(k.epoch - 1)
	k.release(99, k.epoch-1, nil)
	if !k.login || len(k.free) != 1 {
		t.Error("the state was changed by what belongs to an older one")
	}
	// A token is opened after the module was initialized again.
	f.needs = true
	_, err = openWith(t.Context(), "object=root", path, "", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	if f.restarts == 0 {
		t.Error("not initialized again")
	}
	// Slots without an initialized token, which SoftHSM always has.
	f.info.flags &^= ckfTokenInitialized
	_, err = openWith(t.Context(), "object=root", path, "", Config{PIN: p.ask})
	wantErr(t, err, ErrNotPresent)
	if tokens, err := List(t.Context(), "", Config{Module: path}); err != nil || len(tokens) > 0 {
		t.Errorf("%+v, %v", tokens, err)
	}
}
