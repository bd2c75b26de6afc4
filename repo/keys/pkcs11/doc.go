// Package pkcs11 opens keys of PKCS #11 tokens: smart cards, YubiKeys, HSMs and SoftHSM.
//
//	opts := &keys.Options{Openers: map[string]keys.Opener{"pkcs11": pkcs11.Opener(pkcs11.Config{PIN: askPIN})}}
//	signer, err := keys.Open(ctx, "pkcs11:token=root;id=%02?module-path=/usr/lib/softhsm/libsofthsm2.so", opts)
//
// # cgo
//
// A module is a C library, so this package needs cgo to load one ([Linked]). A program that
// is built without cgo names the program visum-pkcs11 in [Config].Helper (see [Serve]),
// which is built with cgo and is started for modules. Without both, Open returns
// [ErrNotLinked].
//
// A URI with module-path loads that library into the process, so a configuration with such
// URIs must be as trusted as the program itself.
//
// # URI
//
// pkcs11:ATTRIBUTES?QUERY, as RFC 7512 has it, with these attributes:
//
//   - token, serial, manufacturer, model: of the token. A serial number distinguishes
//     tokens that have one label.
//   - object, id: label and CKA_ID of the key. type may be private.
//   - module-path (QUERY): the absolute path of the module. By default that of
//     [Config].Module.
//   - pin-source (QUERY): file: and the absolute path of a file with the PIN. The end of its
//     line is not part of the PIN.
//   - pin-value (QUERY): the PIN itself. [keys.Redact] removes it from messages.
//
// Attributes of QUERY are separated by &, the others by a semicolon. Percent-encoding is
// strict: only letters, digits and what the RFC allows stand for themselves. Every other
// attribute is an error. The URI must match one token and one key. [List] returns a URI for
// each key.
//
// # Keys
//
// ed25519 (CKM_EDDSA), ECDSA on P-256 and P-384 (CKM_ECDSA, of a digest), and RSA of 2048
// to 8192 bits with PSS (CKM_RSA_PKCS_PSS, of a digest). An ed25519 key signs the payload;
// some tokens limit its length. Every signature is verified with the public key before
// it is returned.
//
// The public key is that of the public key object with the CKA_ID of the private key; the
// private key object suffices if it has the attributes of a public key. The purpose
// of a key ([keys.Options].Purpose) is its label. YubiKeys have fixed labels.
//
// # PIN
//
// The PIN comes from the URI, from [Config].PIN, or from [keys.Options].Passphrase, in this
// order. It is requested at the first signature, or by Open if the token hides its
// public keys, and then kept in memory: it is presented again if the token was removed and
// inserted, and before each signature with a key that has CKA_ALWAYS_AUTHENTICATE. A
// token with the same label and another serial number does not get it. PIN pads are not
// supported.
//
// A PIN that a token refused is presented to it once in the life of the process, and a
// failed login is never repeated. If the token states that one try is left, no PIN is
// presented ([ErrFinalTry]).
//
// A login is one of the whole process. So a second opener in it needs no PIN for a token
// that another one has logged in to.
//
// # Concurrency, removal and limits
//
// Signers are safe for concurrent use. At most 8 sessions of a token are used at once.
// Signatures with CKA_ALWAYS_AUTHENTICATE are made one after another.
//
// A token that was removed is found again by the next signature, and an operation that the
// removal interrupted is tried a second time. If the token is not found and no session
// of the module is in use, the module is initialized again: SoftHSM requires that.
//
// The context is the only limit in time. A call of a module can't be interrupted: when the
// context ends, Open and Sign return, and the call ends in the background. With a helper, the
// helper is ended. A payload for the helper is limited to 32 MiB.
//
// # Environment
//
// The package reads no environment variable. Modules do; the helper gets [Config].Env only.
//
// # Errors
//
// Errors wrap [fs.ErrInvalid] for a malformed URI, [ErrModule], [ErrNotPresent],
// [ErrAmbiguous], [fs.ErrNotExist] if the token has no such key, [ErrPIN] (also
// [keys.ErrPassphrase]), [ErrPINLocked], [ErrFinalTry], [keys.ErrKind] for a key that can't
// sign metadata, [keys.ErrPurpose], [ErrHelper] and [ErrNotLinked]. They contain names of
// tokens and keys, and never a PIN.
package pkcs11
