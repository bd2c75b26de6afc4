package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
)

const fakePIN = "27182818"

// fake is a module with one token, which signs. It is used where SoftHSM does not behave
// as hardware does: the token locks its PIN, is removed, and fails in chosen functions.
type fake struct {
	mu       sync.Mutex
	info     tokenInfo
	slot     uint
	objects  []*fakeObject
	removed  bool
	needs    bool // a restart, to see the token again
	foreign  bool // other code initialized the module
	tries    int  // left
	next     uint
	sessions map[uint]*fakeSession
	loggedIn bool
	faults   map[string]code // by function; each is returned once
	always   map[string]code // by function; always
	logins   []string        // kind of user and PIN
	restarts int
	active   int // signatures that are begun
	most     int // the greatest number of them
	reached  chan struct{}
	release  chan struct{}
	signed   []byte // the data of the last signature
}

type fakeSession struct {
	signing *fakeObject
	fresh   bool // a PIN was presented for this signature
}

type fakeObject struct {
	class      uint
	attributes map[uint][]byte
	private    crypto.Signer
}

var fakes struct {
	sync.Mutex
	n int
}

// newFake registers a module. Its path identifies it.
func newFake(t testing.TB) (f *fake, path string) {
	fakes.Lock()
	fakes.n++
	path = filepath.Join(t.TempDir(), fmt.Sprintf("fake%d.so", fakes.n))
	fakes.Unlock()
	f = makeFake()
	modules.Lock()
	defer modules.Unlock()
	if modules.loaded == nil {
		modules.loaded = map[string]*module{}
	}
	modules.loaded[path] = &module{driver: f, path: path, tokens: map[tokenID]*token{}}
	return f, path
}

func makeFake() *fake {
	return &fake{
		info:     tokenInfo{tokenID: tokenID{"card", "0001", "maker", "model"}, flags: ckfTokenInitialized | ckfLoginRequired | ckfPINInitialized},
		slot:     7,
		tries:    3,
		sessions: map[uint]*fakeSession{}, faults: map[string]code{}, always: map[string]code{},
	}
}

func ulong(n uint) []byte { return binary.NativeEndian.AppendUint64(nil, uint64(n)) }

// add adds a key pair.
func (f *fake) add(t testing.TB, label string, id byte, private crypto.Signer, each bool) (public, secret *fakeObject) {
	t.Helper()
	attributes := map[uint][]byte{ckaLabel: []byte(label), ckaID: {id}}
	curve := func(oid asn1.ObjectIdentifier, point []byte) {
		var err error
		attributes[ckaKeyType] = ulong(ckkEC)
		attributes[ckaECParams], err = asn1.Marshal(oid)
		rawtuf.NoErr(t, err)
		attributes[ckaECPoint], err = asn1.Marshal(point)
		rawtuf.NoErr(t, err)
	}
	switch k := private.Public().(type) {
	case ed25519.PublicKey:
		curve(oidEd25519, k)
		attributes[ckaKeyType] = ulong(ckkECEdwards)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		rawtuf.NoErr(t, err)
		curve(map[elliptic.Curve]asn1.ObjectIdentifier{elliptic.P256(): oidP256, elliptic.P384(): oidP384}[k.Curve], point)
	case *rsa.PublicKey:
		attributes[ckaKeyType], attributes[ckaModulus], attributes[ckaPublicExponent] = ulong(ckkRSA), k.N.Bytes(), big.NewInt(int64(k.E)).Bytes()
	}
	public = &fakeObject{class: ckoPublic, attributes: attributes}
	secret = &fakeObject{class: ckoPrivate, private: private, attributes: map[uint][]byte{ckaLabel: []byte(label), ckaID: {id}, ckaKeyType: attributes[ckaKeyType]}}
	if each {
		secret.attributes[ckaAlwaysAuthenticate] = []byte{1}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects = append(f.objects, public, secret)
	return public, secret
}

func newP256(t testing.TB) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rawtuf.NoErr(t, err)
	return k
}

// enter begins a function of the module.
func (f *fake) enter(function string) error {
	f.mu.Lock()
	if c, ok := f.faults[function]; ok {
		delete(f.faults, function)
		return c
	}
	if c, ok := f.always[function]; ok {
		return c
	}
	return nil
}

func (f *fake) fault(function string, c code) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[function] = c
}

// remove removes the token, or inserts it in another slot.
func (f *fake) remove(removed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed = removed; !removed {
		f.slot++
	}
	f.sessions, f.loggedIn = map[uint]*fakeSession{}, false
}

func (f *fake) presented() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logins
}

func (f *fake) slots() ([]uint, error) {
	err := f.enter("slots")
	defer f.mu.Unlock()
	if err != nil || f.removed || f.needs {
		return nil, err
	}
	return []uint{f.slot}, nil
}

func (f *fake) token(slot uint) (tokenInfo, error) {
	err := f.enter("token")
	defer f.mu.Unlock()
	if err == nil && (f.removed || slot != f.slot) {
		err = ckrTokenNotPresent
	}
	info := f.info
	if f.tries < 3 {
		info.flags |= ckfPINCountLow
	}
	switch f.tries {
	case 1:
		info.flags |= ckfPINFinalTry
	case 0:
		info.flags |= ckfPINLocked
	}
	return info, err
}

func (f *fake) openSession(slot uint) (uint, error) {
	err := f.enter("openSession")
	defer f.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case f.removed || slot != f.slot:
		return 0, ckrSlotIDInvalid
	case f.info.maxSessions > 0 && len(f.sessions) >= int(f.info.maxSessions):
		return 0, ckrSessionCount
	}
	f.next++
	f.sessions[f.next] = &fakeSession{}
	return f.next, nil
}

func (f *fake) closeSession(session uint) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.sessions[session]; s != nil && s.signing != nil {
		f.active--
	}
	delete(f.sessions, session)
	if len(f.sessions) == 0 {
		f.loggedIn = false
	}
}

func (f *fake) session(session uint) (*fakeSession, error) {
	if f.removed {
		return nil, ckrDeviceRemoved
	}
	if s := f.sessions[session]; s != nil {
		return s, nil
	}
	return nil, ckrSessionHandleInvalid
}

func (f *fake) login(session, user uint, pin []byte) error {
	err := f.enter("login")
	defer f.mu.Unlock()
	f.logins = append(f.logins, fmt.Sprintf("%d %s", user, pin))
	s, sessionErr := f.session(session)
	switch {
	case err != nil:
		return err
	case sessionErr != nil:
		return sessionErr
	case f.tries == 0:
		return ckrPINLocked
	case string(pin) != fakePIN:
		f.tries--
		return ckrPINIncorrect
	case user == ckuUser && f.loggedIn:
		return ckrAlreadyLoggedIn
	case user == ckuContextSpecific && s.signing == nil:
		return ckrGeneralError
	}
	f.tries = 3
	f.loggedIn = true
	s.fresh = user == ckuContextSpecific
	return nil
}

func (f *fake) find(session, class uint, label *string, id []byte) (out []uint, err error) {
	err = f.enter("find")
	defer f.mu.Unlock()
	if err == nil {
		_, err = f.session(session)
	}
	if err != nil {
		return nil, err
	}
	for i, o := range f.objects {
		if o.class == class && (class == ckoPublic || f.loggedIn) &&
			(label == nil || *label == string(o.attributes[ckaLabel])) && (id == nil || bytes.Equal(id, o.attributes[ckaID])) {
			out = append(out, uint(i))
		}
	}
	return out, nil
}

func (f *fake) attribute(session, object, attribute uint) ([]byte, error) {
	err := f.enter("attribute")
	defer f.mu.Unlock()
	if err == nil {
		_, err = f.session(session)
	}
	if err != nil {
		return nil, err
	}
	if v := f.objects[object].attributes[attribute]; v != nil {
		return v, nil
	}
	return nil, ckrAttributeTypeInvalid
}

func (f *fake) signInit(session, object, mechanism uint) error {
	err := f.enter("signInit")
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	s, err := f.session(session)
	if err != nil {
		return err
	}
	if !f.loggedIn {
		return ckrNotLoggedIn
	}
	if s.signing != nil {
		return code(0x90) // CKR_OPERATION_ACTIVE
	}
	s.signing, s.fresh = f.objects[object], false
	f.active++
	f.most = max(f.most, f.active)
	return nil
}

func (f *fake) sign(session uint, data []byte) ([]byte, error) {
	err := f.enter("sign")
	reached, release := f.reached, f.release
	if f.reached != nil {
		f.reached = nil
		f.release = nil
	}
	f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if reached != nil {
		close(reached)
	}
	if release != nil {
		<-release
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, err := f.session(session)
	if err != nil {
		return nil, err
	}
	o, fresh := s.signing, s.fresh
	if o == nil {
		return nil, ckrGeneralError
	}
	s.signing = nil
	f.active--
	f.signed = bytes.Clone(data)
	if o.attributes[ckaAlwaysAuthenticate] != nil && !fresh {
		return nil, ckrNotLoggedIn
	}
	switch k := o.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(k, data), nil
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, data)
		size := (k.Params().BitSize + 7) / 8
		out := make([]byte, 2*size)
		if err == nil {
			r.FillBytes(out[:size])
			s.FillBytes(out[size:])
		}
		return out, err
	case *rsa.PrivateKey:
		return rsa.SignPSS(rand.Reader, k, crypto.SHA256, data, &rsa.PSSOptions{SaltLength: 32})
	}
	return nil, ckrMechanismInvalid
}

func (f *fake) restart() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.foreign {
		return false
	}
	f.restarts++
	f.needs, f.sessions, f.loggedIn = false, map[uint]*fakeSession{}, false
	return true
}

// pins are the answers to questions for a PIN. The last one is repeated.
type pins struct {
	sync.Mutex
	answers []string
	asked   []Token
}

func (p *pins) ask(_ context.Context, t Token) ([]byte, error) {
	p.Lock()
	defer p.Unlock()
	p.asked = append(p.asked, t)
	answer := p.answers[0]
	if len(p.answers) > 1 {
		p.answers = p.answers[1:]
	}
	return []byte(answer), nil
}

func (p *pins) count() int {
	p.Lock()
	defer p.Unlock()
	return len(p.asked)
}

// openWith opens a key of a module.
func openWith(ctx context.Context, attributes, path, purpose string, cfg Config) (tuf.Signer, error) {
	uri := "pkcs11:" + attributes + "?module-path=" + url.PathEscape(path)
	return keys.Open(ctx, uri, &keys.Options{Purpose: purpose, Openers: map[string]keys.Opener{"pkcs11": Opener(cfg)}})
}

func writeFile(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rawtuf.NoErr(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}
