package pkcs11

import (
	"encoding/binary"
	"fmt"
)

// Numbers of the standard (PKCS #11 v3.0, section 6), as far as they are used.
const (
	ckoPublic  = 2
	ckoPrivate = 3

	ckaLabel              = 0x003
	ckaKeyType            = 0x100
	ckaID                 = 0x102
	ckaModulus            = 0x120
	ckaPublicExponent     = 0x122
	ckaECParams           = 0x180
	ckaECPoint            = 0x181
	ckaAlwaysAuthenticate = 0x202

	ckkRSA       = 0x00
	ckkEC        = 0x03
	ckkECEdwards = 0x40

	ckmRSAPSS = 0x000d // of a digest
	ckmECDSA  = 0x1041 // of a digest
	ckmEDDSA  = 0x1057

	ckuUser            = 1
	ckuContextSpecific = 2

	ckfLoginRequired    = 0x4
	ckfPINInitialized   = 0x8
	ckfPINPad           = 0x100
	ckfTokenInitialized = 0x400
	ckfPINCountLow      = 0x10000
	ckfPINFinalTry      = 0x20000
	ckfPINLocked        = 0x40000
)

// code is the result of a function of a module, other than CKR_OK.
type code uint

const (
	ckrSlotIDInvalid        code = 0x003
	ckrGeneralError         code = 0x005
	ckrFunctionFailed       code = 0x006
	ckrCantLock             code = 0x00a
	ckrAttributeSensitive   code = 0x011
	ckrAttributeTypeInvalid code = 0x012
	ckrDataLenRange         code = 0x021
	ckrDeviceError          code = 0x030
	ckrDeviceRemoved        code = 0x032
	ckrFunctionNotSupported code = 0x054
	ckrKeyHandleInvalid     code = 0x060
	ckrKeyNotPermitted      code = 0x068
	ckrMechanismInvalid     code = 0x070
	ckrObjectHandleInvalid  code = 0x082
	ckrPINIncorrect         code = 0x0a0
	ckrPINInvalid           code = 0x0a1
	ckrPINLenRange          code = 0x0a2
	ckrPINExpired           code = 0x0a3
	ckrPINLocked            code = 0x0a4
	ckrSessionClosed        code = 0x0b0
	ckrSessionCount         code = 0x0b1
	ckrSessionHandleInvalid code = 0x0b3
	ckrTokenNotPresent      code = 0x0e0
	ckrTokenNotRecognized   code = 0x0e1
	ckrAlreadyLoggedIn      code = 0x100
	ckrNotLoggedIn          code = 0x101
	ckrPINNotInitialized    code = 0x102
	ckrNotInitialized       code = 0x190
	ckrAlreadyInitialized   code = 0x191
)

var codeNames = map[code]string{
	ckrSlotIDInvalid: "CKR_SLOT_ID_INVALID", ckrGeneralError: "CKR_GENERAL_ERROR", ckrFunctionFailed: "CKR_FUNCTION_FAILED", ckrCantLock: "CKR_CANT_LOCK",
	ckrDataLenRange: "CKR_DATA_LEN_RANGE", ckrDeviceError: "CKR_DEVICE_ERROR", ckrDeviceRemoved: "CKR_DEVICE_REMOVED", ckrFunctionNotSupported: "CKR_FUNCTION_NOT_SUPPORTED",
	ckrKeyHandleInvalid: "CKR_KEY_HANDLE_INVALID", ckrKeyNotPermitted: "CKR_KEY_FUNCTION_NOT_PERMITTED", ckrMechanismInvalid: "CKR_MECHANISM_INVALID",
	ckrObjectHandleInvalid: "CKR_OBJECT_HANDLE_INVALID", ckrPINIncorrect: "CKR_PIN_INCORRECT", ckrPINInvalid: "CKR_PIN_INVALID", ckrPINLenRange: "CKR_PIN_LEN_RANGE",
	ckrPINExpired: "CKR_PIN_EXPIRED", ckrPINLocked: "CKR_PIN_LOCKED", ckrSessionClosed: "CKR_SESSION_CLOSED", ckrSessionCount: "CKR_SESSION_COUNT",
	ckrSessionHandleInvalid: "CKR_SESSION_HANDLE_INVALID", ckrTokenNotPresent: "CKR_TOKEN_NOT_PRESENT", ckrTokenNotRecognized: "CKR_TOKEN_NOT_RECOGNIZED",
	ckrAlreadyLoggedIn: "CKR_USER_ALREADY_LOGGED_IN", ckrNotLoggedIn: "CKR_USER_NOT_LOGGED_IN", ckrPINNotInitialized: "CKR_USER_PIN_NOT_INITIALIZED",
	ckrNotInitialized: "CKR_CRYPTOKI_NOT_INITIALIZED", ckrAlreadyInitialized: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
}

func (c code) Error() string {
	if name := codeNames[c]; name != "" {
		return "the module answers " + name
	}
	return fmt.Sprintf("the module answers CKR 0x%x", uint(c))
}

// lost reports whether the session, the login or the handles are gone, as after the token
// was removed. Several modules answer with general codes then.
func (c code) lost() bool {
	switch c {
	case ckrSessionHandleInvalid, ckrSessionClosed, ckrDeviceRemoved, ckrDeviceError, ckrTokenNotPresent, ckrTokenNotRecognized, ckrSlotIDInvalid,
		ckrNotLoggedIn, ckrObjectHandleInvalid, ckrKeyHandleInvalid, ckrGeneralError, ckrFunctionFailed, ckrNotInitialized:
		return true
	}
	return false
}

// driver is what this package uses of a module. Sessions and objects are handles. Errors
// of the module are a [code].
type driver interface {
	slots() ([]uint, error) // that have a token
	token(slot uint) (tokenInfo, error)
	openSession(slot uint) (uint, error)
	closeSession(session uint)
	login(session, user uint, pin []byte) error
	// find returns at most maxObjects objects; label and id select if they are not nil.
	find(session, class uint, label *string, id []byte) ([]uint, error)
	attribute(session, object, attribute uint) ([]byte, error)
	signInit(session, object, mechanism uint) error
	sign(session uint, data []byte) ([]byte, error)
	// restart initializes the module again. It reports whether it did: not if other code
	// initialized it first.
	restart() bool
}

const maxObjects = 100 // of one class and one search

// tokenInfo is what a module states about a token.
type tokenInfo struct {
	tokenID
	flags       uint
	maxSessions uint
}

// tokenID identifies a token, also after it was removed and inserted again.
type tokenID struct{ label, serial, manufacturer, model string }

// number reads a CK_ULONG, which has the size and byte order of the machine. ok is false
// for other sizes.
func number(b []byte) (n uint64, ok bool) {
	switch len(b) {
	case 4:
		return uint64(binary.NativeEndian.Uint32(b)), true
	case 8:
		return binary.NativeEndian.Uint64(b), true
	}
	return 0, false
}
