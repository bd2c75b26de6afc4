package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/visum-dev/visum/internal/text"
)

// A module is loaded once, and a login to a token is one of the whole process: that is
// how the standard defines both, so this state can't belong to an opener.
var modules struct {
	sync.Mutex
	loaded map[string]*module
}

// module is a loaded module with the tokens that were used.
type module struct {
	driver
	path string

	// idle is locked while the module is initialized again, and read-locked while a
	// session is in use.
	idle sync.RWMutex

	mu     sync.Mutex
	tokens map[tokenID]*token
}

// load loads a module, or returns the one that is loaded.
func load(path string) (*module, error) {
	if path == "" {
		return nil, fmt.Errorf("%w: none is named: set module-path in the URI, or Config.Module", ErrModule)
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("%w: its path is not absolute", ErrModule)
	}
	real := path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		real = target
	}
	modules.Lock()
	defer modules.Unlock()
	if m := modules.loaded[real]; m != nil {
		return m, nil
	}
	d, err := loadDriver(path)
	if err != nil {
		return nil, err
	}
	m := &module{driver: d, path: path, tokens: map[tokenID]*token{}}
	if modules.loaded == nil {
		modules.loaded = map[string]*module{}
	}
	modules.loaded[real] = m
	return m, nil
}

// restart initializes the module again, because some modules see a token that was removed
// and inserted only then. It reports whether it did so: not while a session is in use, and
// not if other code in this process initialized the module.
func (m *module) restart() bool {
	if !m.idle.TryLock() {
		return false
	}
	defer m.idle.Unlock()
	if !m.driver.restart() {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.tokens {
		t.forget()
	}
	return true
}

// present returns the slots of the tokens that match, and their states.
func (m *module) present(matches func(tokenID) bool) (slots []uint, infos []tokenInfo, err error) {
	m.idle.RLock()
	defer m.idle.RUnlock()
	all, err := m.slots()
	if err != nil {
		return nil, nil, fmt.Errorf("tokens of module %s: %w", text.Name(filepath.Base(m.path)), err)
	}
	for _, slot := range all {
		info, err := m.driver.token(slot)
		if c, ok := errors.AsType[code](err); ok && c.lost() {
			continue // removed in this moment
		} else if err != nil {
			return nil, nil, fmt.Errorf("tokens of module %s: %w", text.Name(filepath.Base(m.path)), err)
		}
		if info.flags&ckfTokenInitialized != 0 && matches(info.tokenID) {
			slots, infos = append(slots, slot), append(infos, info)
		}
	}
	return slots, infos, nil
}

// findToken returns the only token that a URI names.
func (m *module) findToken(u *keyURI) (*token, error) {
	_, infos, err := m.present(u.matches)
	if err == nil && len(infos) == 0 && m.restart() {
		_, infos, err = m.present(u.matches)
	}
	if err != nil {
		return nil, err
	}
	if len(infos) != 1 {
		kind := ErrAmbiguous
		if len(infos) == 0 {
			kind = ErrNotPresent
			if _, infos, err = m.present(func(tokenID) bool { return true }); err != nil {
				return nil, err
			}
		}
		var are []string
		for _, info := range infos {
			are = append(are, info.String())
		}
		if len(are) == 0 {
			are = []string{"none"}
		}
		return nil, fmt.Errorf("%w: tokens of module %s: %s", kind, text.Name(filepath.Base(m.path)), strings.Join(are, ", "))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.tokens[infos[0].tokenID]
	if t == nil {
		most := uint(maxSessions)
		if n := infos[0].maxSessions; n > 0 && n < most { // 0: no limit; all bits: unknown
			most = n
		}
		t = &token{module: m, id: infos[0].tokenID, sessions: make(chan struct{}, most), state: make(chan struct{}, 1), each: make(chan struct{}, 1), refused: map[string]bool{}}
		m.tokens[t.id] = t
	}
	return t, nil
}

// maxSessions is how many sessions of a token are used at the same time.
const maxSessions = 8

// token is the state of this process for one token. Its sessions share one login.
type token struct {
	module   *module
	id       tokenID
	sessions chan struct{} // one element for each session in use
	each     chan struct{} // one element while a PIN for one signature is in use

	state chan struct{} // one element while one goroutine uses what follows
	found bool          // slot is valid
	slot  uint
	epoch int    // counts how often the token was lost
	free  []uint // open sessions that are not in use
	login bool   // may be wrong: it ended if all sessions are closed
	// pin is the last one that the token accepted. It is kept because it is needed again
	// after the token was removed, and before each signature if the key requires that.
	pin []byte
	// refused are PINs that the token refused. Presenting one again would only bring the
	// token closer to the lock.
	refused map[string]bool
}

// acquire adds an element to a channel, as a lock that ends with a context.
func acquire(ctx context.Context, lock chan<- struct{}) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// access is how one key uses a token.
type access struct {
	*token
	ask      asking
	finalTry bool
}

// with calls f with a session, after a login if one is required. If the token was removed
// since it was used last, with finds it again, logs in again, and calls f again.
func (a *access) with(ctx context.Context, login bool, f func(session uint) error) error {
	if err := acquire(ctx, a.sessions); err != nil {
		return err
	}
	defer func() { <-a.sessions }()
	restarted := false
	for first := true; ; first = false {
		epoch, err := a.once(ctx, login, f)
		c, _ := errors.AsType[code](err)
		switch {
		case errors.Is(err, ErrNotPresent) && !restarted && a.module.restart():
			restarted = true
			continue
		case c.lost() || login && errors.Is(err, fs.ErrNotExist): // SoftHSM has no objects after the token was removed
			if ctx.Err() != nil || errors.As(err, new(*loginError)) {
				return err
			}
		default:
			return err
		}
		a.reset(epoch)
		if !first {
			return err
		}
	}
}

func (a *access) once(ctx context.Context, login bool, f func(session uint) error) (epoch int, err error) {
	a.module.idle.RLock()
	defer a.module.idle.RUnlock()
	s, epoch, err := a.session(ctx, login)
	if err == nil {
		err = f(s)
		a.release(s, epoch, err)
	}
	return epoch, err
}

// loginError is an error of a login, or of the question for its PIN. Neither is repeated.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

// session returns an open session.
func (a *access) session(ctx context.Context, login bool) (session uint, epoch int, err error) {
	if err := acquire(ctx, a.state); err != nil {
		return 0, 0, err
	}
	defer func() { <-a.state }()
	if !a.found {
		slots, _, err := a.module.present(func(id tokenID) bool { return id == a.id })
		if err != nil {
			return 0, a.epoch, err
		}
		if len(slots) == 0 {
			return 0, a.epoch, fmt.Errorf("%w: %s", ErrNotPresent, a.id)
		}
		a.slot, a.found = slots[0], true
	}
	if login && !a.login {
		// A session that is open already may belong to a token that was removed. The PIN is
		// presented in one that is known to work.
		a.drop()
	}
	if n := len(a.free); n > 0 {
		session, a.free = a.free[n-1], a.free[:n-1]
	} else {
		if session, err = a.module.openSession(a.slot); err != nil {
			return 0, a.epoch, err
		}
	}
	if login && !a.login {
		if err := a.logIn(ctx, session, ckuUser); err != nil {
			a.module.closeSession(session)
			return 0, a.epoch, err
		}
		a.login = true
	}
	return session, a.epoch, nil
}

// drop closes the sessions that are not in use.
func (t *token) drop() {
	for _, s := range t.free {
		t.module.closeSession(s)
	}
	t.free = nil
}

// release takes a session back. After an error it is closed, because an operation may be
// active in it.
func (t *token) release(session uint, epoch int, err error) {
	t.state <- struct{}{}
	defer func() { <-t.state }()
	if err != nil || epoch != t.epoch {
		t.module.closeSession(session)
		return
	}
	t.free = append(t.free, session)
}

// reset forgets what was true of the token before it was lost. Of several goroutines that
// see the loss, the first one does it.
func (t *token) reset(epoch int) {
	t.state <- struct{}{}
	defer func() { <-t.state }()
	if epoch != t.epoch {
		return
	}
	t.drop()
	t.forget()
}

func (t *token) forget() {
	t.epoch++
	t.free, t.login, t.found = nil, false, false
}

// logIn presents the PIN. The caller has locked the state.
func (a *access) logIn(ctx context.Context, session, user uint) error {
	info, err := a.module.driver.token(a.slot)
	if err != nil {
		return err
	}
	if info.tokenID != a.id {
		return ckrTokenNotPresent // another one is in this slot: it must not get the PIN
	}
	about := info.public(a.module.path)
	switch {
	case info.flags&ckfLoginRequired == 0 && user == ckuUser:
		return nil
	case info.flags&ckfPINPad != 0:
		return fmt.Errorf("token %s: a PIN pad is not supported", a.id)
	case about.PINLocked:
		return fmt.Errorf("%w: %s", ErrPINLocked, a.id)
	case about.PINFinalTry && !a.finalTry:
		return fmt.Errorf("%w: %s; present the correct one with a program of the token's maker", ErrFinalTry, a.id)
	}
	pin := a.pin
	if pin == nil {
		if pin, err = a.ask(ctx, about); err != nil {
			return &loginError{err}
		}
	}
	if a.refused[string(pin)] {
		return fmt.Errorf("%w: token %s refused it before, so it is not presented again", ErrPIN, a.id)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = a.module.driver.login(session, user, pin)
	switch c, _ := errors.AsType[code](err); {
	case err == nil, c == ckrAlreadyLoggedIn && user == ckuUser:
		a.pin = pin
		return nil
	case c == ckrPINIncorrect || c == ckrPINInvalid || c == ckrPINLenRange:
		a.pin = nil
		a.refused[string(pin)] = true
		return fmt.Errorf("%w: token %s%s", ErrPIN, a.id, a.afterRefusal())
	case c == ckrPINLocked || c == ckrPINNotInitialized:
		a.pin = nil
		return fmt.Errorf("%w: %s", ErrPINLocked, a.id)
	}
	return &loginError{fmt.Errorf("login to token %s: %w", a.id, err)}
}

// afterRefusal states what the token says about further tries.
func (a *access) afterRefusal() string {
	info, err := a.module.driver.token(a.slot)
	switch {
	case err != nil:
	case info.flags&ckfPINLocked != 0:
		return "; the PIN is locked now"
	case info.flags&ckfPINFinalTry != 0:
		return "; one try is left"
	case info.flags&ckfPINCountLow != 0:
		return "; the token counts wrong ones"
	}
	return ""
}

// loginForOne presents the PIN for the signature that was begun in the session.
func (a *access) loginForOne(ctx context.Context, session uint) error {
	if err := acquire(ctx, a.state); err != nil {
		return err
	}
	defer func() { <-a.state }()
	return a.logIn(ctx, session, ckuContextSpecific)
}

func (i tokenInfo) public(module string) Token {
	return Token{
		Label: i.label, Serial: i.serial, Manufacturer: i.manufacturer, Model: i.model, Module: module,
		PINCountLow: i.flags&ckfPINCountLow != 0, PINFinalTry: i.flags&ckfPINFinalTry != 0,
		PINLocked: i.flags&ckfPINLocked != 0 || i.flags&ckfPINInitialized == 0 && i.flags&ckfLoginRequired != 0,
	}
}
