package pkcs11

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/repo/keys/keystest"
	"github.com/visum-dev/visum/tuf"
)

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if err != nil && strings.Contains(err.Error(), fakePIN) {
		t.Error("the error contains the PIN")
	}
}

func allKinds(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, ed, err := ed25519.GenerateKey(nil)
	rawtuf.NoErr(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	rawtuf.NoErr(t, err)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	rawtuf.NoErr(t, err)
	return map[string]crypto.Signer{"ed25519": ed, "P-256": newP256(t), "P-384": p384, "RSA 2048": r}
}

func TestFakeStore(t *testing.T) {
	t.Parallel()
	for kind, private := range allKinds(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f, path := newFake(t)
			f.add(t, "root", 1, private, kind == "P-384")
			p := &pins{answers: []string{fakePIN}}
			keystest.Run(t, keystest.Store{
				Open: func(ctx context.Context) (tuf.Signer, error) {
					return openWith(ctx, "object=root", path, "root", Config{PIN: p.ask})
				},
				Secrets: []string{fakePIN},
				Block: func(*testing.T) (<-chan struct{}, func()) {
					f.mu.Lock()
					defer f.mu.Unlock()
					reached, release := make(chan struct{}), make(chan struct{})
					f.reached, f.release = reached, release
					return reached, func() { close(release) }
				},
			})
			if p.count() != 1 {
				t.Errorf("asked %d times for the PIN", p.count())
			}
			for _, login := range f.presented() {
				if kind != "P-384" && login != "1 "+fakePIN {
					t.Error("a login that is not one of the user")
				}
			}
			if n := len(f.presented()); kind != "P-384" && n != 1 {
				t.Errorf("%d logins", n)
			}
		})
	}
}

// Of a key that requires its PIN each time, no two signatures are begun at once, because a
// token applies the PIN to its next operation.
func TestEachSignatureTakesThePIN(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.add(t, "root", 1, newP256(t), true)
	p := &pins{answers: []string{fakePIN}}
	s, err := openWith(t.Context(), "id=%01", path, "", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			if _, err := s.Sign(t.Context(), []byte("payload")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	logins := f.presented()
	n := 0
	for _, l := range logins {
		if l == "2 "+fakePIN {
			n++
		}
	}
	if f.most != 1 || n != 12 || p.count() != 1 {
		t.Errorf("%d at once, %d logins for one signature, asked %d times", f.most, n, p.count())
	}
}

// A token that is removed and inserted again, in another slot, signs without a question.
func TestRemovedAndInserted(t *testing.T) {
	t.Parallel()
	for _, restart := range []string{"", "needs a restart", "foreign"} {
		f, path := newFake(t)
		f.add(t, "root", 1, newP256(t), false)
		p := &pins{answers: []string{fakePIN}}
		s, err := openWith(t.Context(), "serial=0001", path, "", Config{PIN: p.ask})
		rawtuf.NoErr(t, err)
		sign := func() error {
			_, err := s.Sign(t.Context(), []byte("payload"))
			return err
		}
		rawtuf.NoErr(t, sign())
		f.remove(true)
		wantErr(t, sign(), ErrNotPresent)
		wantErr(t, sign(), ErrNotPresent)
		f.remove(false)
		f.needs, f.foreign = restart == "needs a restart", restart == "foreign"
		if err := sign(); err != nil {
			t.Errorf("%s: %v", restart, err)
		}
		// Removed and inserted between two signatures.
		f.remove(true)
		f.remove(false)
		if err := sign(); err != nil {
			t.Errorf("%s: %v", restart, err)
		}
		if p.count() != 1 || len(f.presented()) != 3 {
			t.Errorf("%s: asked %d times, logins %d", restart, p.count(), len(f.presented()))
		}
		// Another token in the slot does not get the PIN.
		f.mu.Lock()
		f.info.serial = "0002"
		f.mu.Unlock()
		f.remove(false)
		wantErr(t, sign(), ErrNotPresent)
		if n := len(f.presented()); n != 3 {
			t.Errorf("%s: another token got the PIN", restart)
		}
	}
}

// Each code that a module may return for a lost session leads to one further attempt.
func TestLostCodes(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.add(t, "root", 1, newP256(t), false)
	s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: (&pins{answers: []string{fakePIN}}).ask})
	rawtuf.NoErr(t, err)
	n := 0
	for c := range codeNames {
		if !c.lost() {
			continue
		}
		n++
		for _, function := range []string{"find", "attribute", "signInit", "sign"} {
			f.fault(function, c)
			if _, err := s.Sign(t.Context(), []byte("payload")); err != nil {
				t.Errorf("%v in %s: %v", c, function, err)
			}
			if len(f.faults) > 0 {
				t.Fatalf("%s was not called", function)
			}
		}
	}
	if n < 10 {
		t.Fatalf("%d codes", n)
	}
	f.always["sign"] = ckrDeviceError
	_, err = s.Sign(t.Context(), []byte("payload"))
	wantErr(t, err, ckrDeviceError)
	delete(f.always, "sign")
	for function, faulty := range map[string]struct{ c, want error }{"sign": {ckrDataLenRange, ckrDataLenRange}, "signInit": {ckrMechanismInvalid, keys.ErrKind}} {
		f.fault(function, faulty.c.(code))
		_, err = s.Sign(t.Context(), []byte("payload"))
		wantErr(t, err, faulty.want)
	}
	if _, err := s.Sign(t.Context(), []byte("payload")); err != nil {
		t.Error(err)
	}
}

// Losses while eight goroutines sign.
func TestRemovedConcurrently(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.add(t, "root", 1, newP256(t), false)
	p := &pins{answers: []string{fakePIN}}
	var all sync.WaitGroup
	for range 8 {
		s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: p.ask})
		rawtuf.NoErr(t, err)
		all.Go(func() {
			for range 40 {
				// Several losses may hit one signature.
				if _, err := s.Sign(t.Context(), []byte("payload")); err != nil && !errors.As(err, new(code)) && !errors.Is(err, ErrNotPresent) {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		f.remove(true)
		f.remove(false)
	}
	all.Wait()
	s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	if _, err := s.Sign(t.Context(), []byte("payload")); err != nil {
		t.Error(err)
	}
	if p.count() != 1 {
		t.Errorf("asked %d times", p.count())
	}
	if n := len(f.sessions); n > maxSessions {
		t.Errorf("%d sessions are open", n)
	}
}

func TestSessionsAreLimited(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.info.maxSessions = 2
	f.add(t, "root", 1, newP256(t), false)
	s, err := openWith(t.Context(), "object=root", path, "", Config{PIN: (&pins{answers: []string{fakePIN}}).ask})
	rawtuf.NoErr(t, err)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := s.Sign(t.Context(), []byte("payload")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if len(f.sessions) == 0 || len(f.sessions) > 2 {
		t.Errorf("%d sessions", len(f.sessions))
	}
}

// A wrong PIN is presented once, and with one try left none is presented.
func TestWrongPIN(t *testing.T) {
	t.Parallel()
	for _, each := range []bool{false, true} {
		f, path := newFake(t)
		f.add(t, "root", 1, newP256(t), each)
		p := &pins{answers: []string{"11111111", "11111111", "22222222", fakePIN}}
		open := func(cfg Config) tuf.Signer {
			cfg.PIN = p.ask
			s, err := openWith(t.Context(), "object=root", path, "", cfg)
			rawtuf.NoErr(t, err)
			return s
		}
		s := open(Config{})
		sign := func(s tuf.Signer) error {
			_, err := s.Sign(t.Context(), []byte("payload"))
			return err
		}
		err := sign(s)
		wantErr(t, err, ErrPIN)
		wantErr(t, err, keys.ErrPassphrase)
		wantErr(t, sign(s), ErrPIN) // the same one: not presented
		if n := len(f.presented()); n != 1 || f.tries != 2 {
			t.Fatalf("%d logins, %d tries left", n, f.tries)
		}
		err = sign(open(Config{}))
		wantErr(t, err, ErrPIN)
		if f.tries != 1 || !strings.Contains(err.Error(), "one try is left") {
			t.Errorf("%d tries left: %v", f.tries, err)
		}
		asked := p.count()
		wantErr(t, sign(s), ErrFinalTry)
		wantErr(t, sign(open(Config{})), ErrFinalTry)
		if p.count() != asked || len(f.presented()) != 2 || f.tries != 1 {
			t.Errorf("asked %d times more, %d logins, %d tries left", p.count()-asked, len(f.presented()), f.tries)
		}
		if err := sign(open(Config{UnsafeFinalTry: true})); err != nil || f.tries != 3 {
			t.Errorf("%v, %d tries left", err, f.tries)
		}
		for _, about := range p.asked {
			if about.Label != "card" || about.Serial != "0001" {
				t.Errorf("asked for %+v", about)
			}
		}
		if about := p.asked[len(p.asked)-1]; !about.PINFinalTry || !about.PINCountLow || about.PINLocked {
			t.Errorf("asked for %+v", about)
		}
	}
}

func TestLockedPIN(t *testing.T) {
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
	f.tries = 0
	wantErr(t, sign(), ErrPINLocked)
	f.tries, f.info.flags = 3, f.info.flags&^ckfPINInitialized
	wantErr(t, sign(), ErrPINLocked)
	f.info.flags |= ckfPINInitialized | ckfPINPad
	if err := sign(); err == nil || !strings.Contains(err.Error(), "PIN pad") {
		t.Error(err)
	}
	f.info.flags &^= ckfPINPad
	if len(f.presented()) > 0 || p.count() > 0 {
		t.Error("a PIN was presented, or asked for")
	}
	// The token locks at this login, without a flag before.
	f.fault("login", ckrPINLocked)
	wantErr(t, sign(), ErrPINLocked)
	// Another failure of a login is not repeated, whatever the code says.
	for _, c := range []code{ckrGeneralError, ckrDeviceError, ckrFunctionFailed, ckrDeviceRemoved, ckrSessionHandleInvalid, ckrPINExpired} {
		before := len(f.presented())
		f.fault("login", c)
		wantErr(t, sign(), c)
		if n := len(f.presented()) - before; n != 1 {
			t.Errorf("%v: presented %d times", c, n)
		}
	}
	// Neither is a question without an answer.
	unanswered := 0
	no, err := openWith(t.Context(), "object=root", path, "", Config{PIN: func(context.Context, Token) ([]byte, error) {
		unanswered++
		return nil, fs.ErrNotExist
	}})
	rawtuf.NoErr(t, err)
	_, err = no.Sign(t.Context(), []byte("payload"))
	wantErr(t, err, fs.ErrNotExist)
	if unanswered != 1 {
		t.Errorf("asked %d times", unanswered)
	}
	// Tokens without a login need no PIN.
	asked := p.count()
	f.info.flags &^= ckfLoginRequired
	f.loggedIn = true
	rawtuf.NoErr(t, sign())
	if p.count() != asked {
		t.Error("asked for a PIN that is not required")
	}
}

// The sources of a PIN, and what happens without one.
func TestPINSources(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "pin", fakePIN+"\r\n")
	empty := writeFile(t, "empty", "\n")
	long := writeFile(t, "long", strings.Repeat("1", 2000))
	boom := errors.New("no terminal")
	for name, x := range map[string]struct {
		query string
		cfg   Config
		opts  keys.Options
		want  error
	}{
		"value":      {query: "&pin-value=" + fakePIN},
		"file":       {query: "&pin-source=file:" + file},
		"file URI":   {query: "&pin-source=file://" + file},
		"config":     {cfg: Config{PIN: (&pins{answers: []string{fakePIN}}).ask}, opts: keys.Options{Passphrase: func(context.Context, string) ([]byte, error) { return nil, boom }}},
		"passphrase": {opts: keys.Options{Passphrase: func(context.Context, string) ([]byte, error) { return []byte(fakePIN), nil }}},
		"none":       {want: ErrPIN},
		"no file":    {query: "&pin-source=file:" + file + "x", want: fs.ErrNotExist},
		"empty file": {query: "&pin-source=file:" + empty, want: ErrPIN},
		"long file":  {query: "&pin-source=file:" + long, want: ErrPIN},
		"refused":    {cfg: Config{PIN: func(context.Context, Token) ([]byte, error) { return nil, boom }}, want: boom},
		"wrong":      {query: "&pin-value=1" + fakePIN, want: ErrPIN},
	} {
		f, path := newFake(t)
		f.add(t, "root", 1, newP256(t), false)
		opts := x.opts
		opts.Openers = map[string]keys.Opener{"pkcs11": Opener(x.cfg)}
		s, err := keys.Open(t.Context(), "pkcs11:object=root?module-path="+path+x.query, &opts)
		rawtuf.NoErr(t, err)
		_, err = s.Sign(t.Context(), []byte("payload"))
		if presented := len(f.presented()) > 0; presented != (x.want == nil || name == "wrong") {
			t.Errorf("%s: presented %v", name, presented)
		}
		if !errors.Is(err, x.want) || x.want != nil && strings.Contains(err.Error(), fakePIN) {
			t.Errorf("%s: got %v, want %v", name, err, x.want)
		}
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	one, secret := f.add(t, "one", 1, newP256(t), false)
	f.add(t, "two", 2, newP256(t), false)
	f.add(t, "two", 3, newP256(t), true)
	p := &pins{answers: []string{fakePIN}}
	open := func(attributes, purpose string) (tuf.Signer, error) {
		s, err := openWith(t.Context(), attributes, path, purpose, Config{PIN: p.ask})
		if err == nil {
			_, err = s.Sign(t.Context(), []byte("payload"))
		}
		return s, err
	}
	check := func() {
		t.Helper()
		for attributes, want := range map[string]error{
			"object=one": nil, "id=%01": nil, "object=two;id=%02": nil, "id=%03;type=private": nil, "token=card;serial=0001;manufacturer=maker;model=model;id=%01": nil,
			"object=two": ErrAmbiguous, "": ErrAmbiguous, "object=three": fs.ErrNotExist, "id=%04": fs.ErrNotExist, "object=one;id=%02": fs.ErrNotExist,
			"token=other": ErrNotPresent, "serial=2": ErrNotPresent, "model=m": ErrNotPresent, "manufacturer=": ErrNotPresent,
		} {
			_, err := open(attributes, "")
			wantErr(t, err, want)
			if want == ErrAmbiguous && !strings.Contains(err.Error(), `"two" (id 02), "two" (id 03)`) || want == fs.ErrNotExist && !strings.Contains(err.Error(), `it has "one" (id 01)`) ||
				want == ErrNotPresent && !strings.Contains(err.Error(), `"card" (serial 0001)`) {
				t.Errorf("%s: %v", attributes, err)
			}
		}
	}
	check()
	for label, want := range map[string]error{"one": nil, "two": keys.ErrPurpose} {
		_, err := open("id=%01", label)
		wantErr(t, err, want)
	}
	// The label of the public key object is not that of the private key, as on a YubiKey.
	one.attributes[ckaLabel] = []byte("public one")
	for _, attributes := range []string{"object=one", "object=public%20one", "id=%01"} {
		_, err := open(attributes, "")
		wantErr(t, err, nil)
	}
	_, err := open("object=public%20one", "public one")
	wantErr(t, err, keys.ErrPurpose)
	one.attributes[ckaLabel] = []byte("one")
	// A public key of another pair with the same id.
	other := newP256(t)
	pub, _ := (&fake{sessions: map[uint]*fakeSession{}}).add(t, "", 0, other, false)
	good := one.attributes[ckaECPoint]
	one.attributes[ckaECPoint] = pub.attributes[ckaECPoint]
	_, err = open("object=one", "")
	wantErr(t, err, store.ErrSignature)
	one.attributes[ckaECPoint] = good
	// No public key object: the attributes of the private one, as far as it has them.
	one.class = 99
	_, err = open("object=one", "")
	wantErr(t, err, keys.ErrKind)
	secret.attributes[ckaECPoint], secret.attributes[ckaECParams] = good, one.attributes[ckaECParams]
	_, err = open("object=one", "")
	wantErr(t, err, nil)
	// No private key.
	one.class, secret.class = ckoPublic, 99
	_, err = open("object=one", "")
	wantErr(t, err, fs.ErrNotExist)
}

func TestList(t *testing.T) {
	t.Parallel()
	f, path := newFake(t)
	f.add(t, "one", 1, newP256(t), false)
	f.add(t, "each & all", 2, newP256(t), true)
	p := &pins{answers: []string{fakePIN}}
	kinds := func(uri string) (out []string) {
		tokens, err := List(t.Context(), uri, Config{Module: path, PIN: p.ask})
		rawtuf.NoErr(t, err)
		for _, token := range tokens {
			for _, k := range token.Keys {
				out = append(out, k.Kind+" "+k.Label+" "+string(k.PIN))
				s, err := keys.Open(t.Context(), k.URI, &keys.Options{Openers: map[string]keys.Opener{"pkcs11": Opener(Config{PIN: p.ask})}})
				if err != nil || s.Key() != k.Key {
					t.Errorf("%s: %v", k.URI, err)
				}
			}
		}
		return out
	}
	if got, want := kinds(""), []string{"P-256 one ", "P-256 each & all "}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if p.count() > 0 {
		t.Error("a list asks for the PIN")
	}
	s, err := openWith(t.Context(), "id=%01", path, "", Config{PIN: p.ask})
	rawtuf.NoErr(t, err)
	_, err = s.Sign(t.Context(), nil)
	rawtuf.NoErr(t, err)
	if got, want := kinds("pkcs11:"), []string{"P-256 one once", "P-256 each & all each signature"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := kinds("pkcs11:token=none"); len(got) > 0 {
		t.Errorf("%q", got)
	}
	if got, want := kinds("pkcs11:id=%02"), []string{"P-256 each & all each signature"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if _, err := List(t.Context(), "", Config{}); !errors.Is(err, ErrModule) {
		t.Error(err)
	}
}
