package pkcs11

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/repo/keys/internal/store"
	"github.com/visum-dev/visum/tuf"
)

// signer is a key of a token, in a module of this process.
type signer struct {
	access
	uri     *keyURI
	purpose string
	id      []byte // CKA_ID; nil if it is not known
	key     tuf.Key
}

// object is a public or private key of a token.
type object struct {
	handle uint
	label  string
	id     []byte
}

func (u *keyURI) load(cfg Config) (*module, error) {
	if u.module != "" {
		return load(u.module)
	}
	return load(cfg.Module)
}

func openLinked(ctx context.Context, u *keyURI, cfg Config, purpose string, ask asking) (tuf.Signer, error) {
	return wait(ctx, func() (tuf.Signer, error) {
		m, err := u.load(cfg)
		if err != nil {
			return nil, err
		}
		t, err := m.findToken(u)
		if err != nil {
			return nil, err
		}
		s := &signer{access: access{t, ask, cfg.UnsafeFinalTry}, uri: u, purpose: purpose}
		// Public keys are usually visible without a login, so that a key can be opened
		// without its PIN.
		err = s.with(ctx, false, func(session uint) error { return s.resolve(session) })
		if errors.Is(err, fs.ErrNotExist) {
			err = s.with(ctx, true, func(session uint) error { return s.resolve(session) })
		}
		if err != nil {
			return nil, err
		}
		return s, nil
	})
}

// resolve finds the key pair and reads its public key.
func (s *signer) resolve(session uint) error {
	m := s.module
	private, err := m.one(session, ckoPrivate, s.uri.object, s.uri.id)
	if errors.Is(err, fs.ErrNotExist) {
		public, err := m.one(session, ckoPublic, s.uri.object, s.uri.id)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("token %s has no such key: %w%s", s.token.id, err, m.has(session))
		} else if err != nil {
			return err
		}
		return s.use(session, public, public)
	} else if err != nil {
		return err
	}
	if len(private.id) > 0 {
		public, err := m.one(session, ckoPublic, nil, private.id)
		if err == nil {
			return s.use(session, private, public)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err = s.use(session, private, private)
	if errors.Is(err, keys.ErrKind) {
		if public, findErr := m.one(session, ckoPublic, &private.label, nil); findErr == nil {
			return s.use(session, private, public)
		}
		return fmt.Errorf("%w (the token has no public key object with the id of the private key)", err)
	}
	return err
}

func (s *signer) use(session uint, named, public object) error {
	key, _, err := s.module.publicKey(session, public.handle)
	if err != nil {
		return fmt.Errorf("key %s: %w", named, err)
	}
	if err := s.checkPurpose(named); err != nil {
		return err
	}
	s.key, s.id = key, named.id
	return nil
}

func (s *signer) checkPurpose(o object) error {
	if s.purpose != "" && s.purpose != o.label {
		return fmt.Errorf("%w: the label of the key is %s, want %s", keys.ErrPurpose, text.Quote(o.label), text.Quote(s.purpose))
	}
	return nil
}

// one finds the only object with these attributes. Errors wrap [fs.ErrNotExist] and
// [ErrAmbiguous].
func (m *module) one(session, class uint, label *string, id []byte) (object, error) {
	all, err := m.objects(session, class, label, id)
	switch {
	case err != nil:
		return object{}, err
	case len(all) == 0:
		return object{}, fs.ErrNotExist
	case len(all) > 1:
		var are []string
		for _, o := range all {
			are = append(are, o.String())
		}
		return object{}, fmt.Errorf("%w: keys %s; select one by id", ErrAmbiguous, strings.Join(are, ", "))
	}
	return all[0], nil
}

// objects returns the objects with these attributes, by their ids: modules return them in
// any order.
func (m *module) objects(session, class uint, label *string, id []byte) ([]object, error) {
	handles, err := m.find(session, class, label, id)
	if err != nil {
		return nil, err
	}
	var out []object
	for _, h := range handles {
		label, err := m.value(session, h, ckaLabel)
		if err != nil {
			return nil, err
		}
		id, err := m.value(session, h, ckaID)
		if err != nil {
			return nil, err
		}
		out = append(out, object{h, string(label), id})
	}
	slices.SortStableFunc(out, func(a, b object) int {
		return cmp.Or(bytes.Compare(a.id, b.id), strings.Compare(a.label, b.label))
	})
	return out, nil
}

// value returns an attribute of an object; nil if it does not have it.
func (m *module) value(session, handle, attribute uint) ([]byte, error) {
	value, err := m.attribute(session, handle, attribute)
	if errors.Is(err, ckrAttributeTypeInvalid) || errors.Is(err, ckrAttributeSensitive) {
		return nil, nil
	}
	return value, err
}

// publicKey reads the public key of an object.
func (m *module) publicKey(session, handle uint) (key tuf.Key, kind string, err error) {
	var failed error
	key, kind, err = publicKey(func(attribute uint) []byte {
		value, err := m.value(session, handle, attribute)
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	if failed != nil {
		return tuf.Key{}, "", failed
	}
	return key, kind, err
}

// asksEach reports whether the token requires its PIN before each signature of a key.
func (m *module) asksEach(session, handle uint) (bool, error) {
	value, err := m.value(session, handle, ckaAlwaysAuthenticate)
	return len(value) > 0 && value[0] != 0, err
}

// has lists the keys that are visible, for an error.
func (m *module) has(session uint) string {
	var are []string
	for _, class := range []uint{ckoPrivate, ckoPublic} {
		all, err := m.objects(session, class, nil, nil)
		if err != nil {
			return ""
		}
		for _, o := range all {
			are = append(are, o.String())
		}
	}
	slices.Sort(are)
	if are = slices.Compact(are); len(are) == 0 {
		return "; it has no keys"
	}
	return "; it has " + strings.Join(are, ", ")
}

func (o object) String() string { return fmt.Sprintf("%s (id %x)", text.Quote(o.label), o.id) }

func (s *signer) Key() tuf.Key { return s.key }

func (s *signer) Sign(ctx context.Context, payload []byte) (sig []byte, err error) {
	defer text.OneLine(&err)
	_, data := store.Digest(s.key, payload)
	if s.key.Scheme == "ed25519" {
		data = bytes.Clone(data) // the module may still read it after ctx has ended
	}
	sig, err = wait(ctx, func() ([]byte, error) { return s.sign(ctx, data) })
	if err == nil {
		sig, err = store.Verified(s.key, payload, sig)
	}
	if err != nil {
		return nil, fmt.Errorf("keys: pkcs11 token %s: %w", text.Quote(s.token.id.label), err)
	}
	return sig, nil
}

func (s *signer) sign(ctx context.Context, data []byte) (sig []byte, err error) {
	mechanism := map[string]uint{"ed25519": ckmEDDSA, "rsassa-pss-sha256": ckmRSAPSS}[s.key.Scheme]
	if mechanism == 0 {
		mechanism = ckmECDSA
	}
	err = s.with(ctx, true, func(session uint) error {
		private, err := s.private(session)
		if err != nil {
			return err
		}
		each, err := s.module.asksEach(session, private.handle)
		if err != nil {
			return err
		}
		if each {
			// The PIN is for the next operation of the token, so there must not be another.
			if err := acquire(ctx, s.each); err != nil {
				return err
			}
			defer func() { <-s.each }()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.module.signInit(session, private.handle, mechanism); err != nil {
			return err
		}
		if each {
			if err := s.loginForOne(ctx, session); err != nil {
				return err
			}
		}
		sig, err = s.module.sign(session, data)
		return err
	})
	switch c, _ := errors.AsType[code](err); {
	case c == ckrDataLenRange && mechanism == ckmEDDSA:
		return nil, fmt.Errorf("%w: the token signs no payload of %d bytes with ed25519; use P-256: %w", keys.ErrKind, len(data), err)
	case c == ckrMechanismInvalid || c == ckrKeyNotPermitted || c == ckrFunctionNotSupported:
		return nil, fmt.Errorf("%w: the token does not sign with the scheme %s: %w", keys.ErrKind, s.key.Scheme, err)
	case err != nil:
		return nil, err
	}
	if mechanism == ckmECDSA {
		var ok bool
		if sig, ok = store.DER(s.key, sig); !ok {
			return nil, store.ErrSignature
		}
	}
	return sig, nil
}

// private finds the private key of the public key.
func (s *signer) private(session uint) (object, error) {
	id := s.id
	if len(id) == 0 {
		id = s.uri.id
	}
	private, err := s.module.one(session, ckoPrivate, s.uri.object, id)
	if errors.Is(err, fs.ErrNotExist) && len(id) > 0 && s.uri.object != nil {
		private, err = s.module.one(session, ckoPrivate, nil, id) // object is the label of the public key
	}
	if errors.Is(err, fs.ErrNotExist) {
		return object{}, fmt.Errorf("the token has no private key for this public key: %w%s", err, s.module.has(session))
	} else if err != nil {
		return object{}, err
	}
	return private, s.checkPurpose(private)
}

// listLinked lists tokens in a module of this process.
func listLinked(ctx context.Context, u *keyURI, cfg Config) ([]Token, error) {
	m, err := u.load(cfg)
	if err != nil {
		return nil, err
	}
	slots, infos, err := m.present(u.matches)
	if err != nil {
		return nil, err
	}
	out := []Token{}
	for i, slot := range slots {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := infos[i].public(m.path)
		if t.Keys, err = m.list(slot, infos[i].tokenID, u); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (m *module) list(slot uint, id tokenID, u *keyURI) ([]TokenKey, error) {
	m.idle.RLock()
	defer m.idle.RUnlock()
	session, err := m.openSession(slot)
	if err != nil {
		return nil, err
	}
	defer m.closeSession(session)
	return m.keys(session, id, u)
}

// keys lists the pairs of which the public or the private key is visible.
func (m *module) keys(session uint, id tokenID, u *keyURI) ([]TokenKey, error) {
	private, err := m.objects(session, ckoPrivate, u.object, u.id)
	if err != nil {
		return nil, err
	}
	public, err := m.objects(session, ckoPublic, u.object, u.id)
	if err != nil {
		return nil, err
	}
	var out []TokenKey
	add := func(named, from object, use PINUse) error {
		key, kind, err := m.publicKey(session, from.handle)
		if err != nil && !errors.Is(err, keys.ErrKind) {
			return err
		}
		out = append(out, TokenKey{named.label, named.id, kind, key, use, uriOf(id, named.label, named.id, m.path)})
		return nil
	}
	for _, p := range private {
		from := p
		if i := slices.IndexFunc(public, func(o object) bool { return len(p.id) > 0 && bytes.Equal(o.id, p.id) }); i >= 0 {
			from = public[i]
			public = slices.Delete(public, i, i+1)
		}
		use := PINOnce
		each, err := m.asksEach(session, p.handle)
		if err != nil {
			return nil, err
		}
		if each {
			use = PINEach
		}
		if err := add(p, from, use); err != nil {
			return nil, err
		}
	}
	for _, p := range public {
		if err := add(p, p, ""); err != nil {
			return nil, err
		}
	}
	return out[:min(len(out), maxObjects)], nil
}
