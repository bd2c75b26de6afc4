//go:build cgo

package pkcs11

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/visum-dev/visum/internal/text"
)

// Linked reports whether this program was built with cgo, so that it can load modules
// into its own process.
const Linked = true

// linked is a module that is loaded into this process.
type linked struct {
	ctx *pkcs11.Ctx
	own bool // this package initialized it
	// serial is locked during each call of a module that can't be used concurrently.
	serial *sync.Mutex
}

// loadDriver loads and initializes a module. It is never unloaded, since modules may have
// threads.
func loadDriver(path string) (driver, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s: %w", ErrModule, text.Name(path), fs.ErrInvalid)
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("%w: %s is not a PKCS #11 module for this system", ErrModule, text.Name(path))
	}
	l := &linked{ctx: ctx}
	err := l.initialize()
	l.own = err == nil
	if err != nil && !errors.Is(err, ckrAlreadyInitialized) {
		return nil, fmt.Errorf("%w: %s: %w", ErrModule, text.Name(path), err)
	}
	return l, nil
}

func (l *linked) initialize() error {
	err := result(l.ctx.Initialize())
	if errors.Is(err, ckrCantLock) {
		if l.serial == nil {
			l.serial = &sync.Mutex{}
		}
		err = result(l.ctx.Initialize(pkcs11.InitializeWithFlags(0)))
	}
	return err
}

func (l *linked) restart() bool {
	if !l.own {
		return false
	}
	l.ctx.Finalize()
	return l.initialize() == nil
}

// result converts an error of the module to a code.
func result(err error) error {
	if e, ok := errors.AsType[pkcs11.Error](err); ok {
		return code(e)
	}
	return err
}

// call begins a call of the module. The result ends it.
func (l *linked) call() func() {
	if l.serial == nil {
		return func() {}
	}
	l.serial.Lock()
	return l.serial.Unlock
}

func (l *linked) slots() ([]uint, error) {
	defer l.call()()
	slots, err := l.ctx.GetSlotList(true)
	if errors.Is(result(err), ckrNotInitialized) && l.own { // restart could not initialize it
		if err = l.initialize(); err == nil || errors.Is(err, ckrAlreadyInitialized) {
			slots, err = l.ctx.GetSlotList(true)
		}
	}
	return slots, result(err)
}

func (l *linked) token(slot uint) (tokenInfo, error) {
	defer l.call()()
	t, err := l.ctx.GetTokenInfo(slot)
	trim := func(s string) string { return strings.TrimRight(s, " \x00") }
	return tokenInfo{tokenID{trim(t.Label), trim(t.SerialNumber), trim(t.ManufacturerID), trim(t.Model)}, t.Flags, t.MaxSessionCount}, result(err)
}

func (l *linked) openSession(slot uint) (uint, error) {
	defer l.call()()
	s, err := l.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	return uint(s), result(err)
}

func (l *linked) closeSession(session uint) {
	defer l.call()()
	l.ctx.CloseSession(pkcs11.SessionHandle(session)) // it may be gone with the token
}

func (l *linked) login(session, user uint, pin []byte) error {
	defer l.call()()
	return result(l.ctx.Login(pkcs11.SessionHandle(session), user, string(pin)))
}

func (l *linked) find(session, class uint, label *string, id []byte) ([]uint, error) {
	defer l.call()()
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if label != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, *label))
	}
	if id != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	}
	s := pkcs11.SessionHandle(session)
	if err := l.ctx.FindObjectsInit(s, template); err != nil {
		return nil, result(err)
	}
	defer l.ctx.FindObjectsFinal(s)
	var out []uint
	for len(out) < maxObjects { // a module may return fewer objects at once than it has
		some, _, err := l.ctx.FindObjects(s, maxObjects-len(out))
		if err != nil {
			return nil, result(err)
		}
		if len(some) == 0 {
			break
		}
		for _, o := range some {
			out = append(out, uint(o))
		}
	}
	return out, nil
}

func (l *linked) attribute(session, object, attribute uint) ([]byte, error) {
	defer l.call()()
	out, err := l.ctx.GetAttributeValue(pkcs11.SessionHandle(session), pkcs11.ObjectHandle(object), []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if err != nil || len(out) == 0 {
		return nil, result(err)
	}
	return out[0].Value, nil
}

func (l *linked) signInit(session, object, mechanism uint) error {
	defer l.call()()
	var params any
	if mechanism == ckmRSAPSS {
		params = pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, 32)
	}
	return result(l.ctx.SignInit(pkcs11.SessionHandle(session), []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, params)}, pkcs11.ObjectHandle(object)))
}

func (l *linked) sign(session uint, data []byte) ([]byte, error) {
	defer l.call()()
	sig, err := l.ctx.Sign(pkcs11.SessionHandle(session), data)
	return sig, result(err)
}
