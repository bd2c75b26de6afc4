package tuf

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// sentinel is an error to compare with errors.Is. It wraps its parent.
type sentinel struct {
	msg    string
	parent error // nil: none
}

func (s *sentinel) Error() string { return s.msg }

func (s *sentinel) Unwrap() error { return s.parent }

// Errors form two groups. Data refused with an error that wraps ErrUntrusted must
// not be used, and fetching it from the same location again will not help.
// ErrExpired, ErrHeld, ErrWaiting, ErrRecalled and ErrNoTarget are conditions that may be
// legitimate, or the result of an attack or a wrong clock.
//
// Function Error of package gotuf converts them to go-tuf's error types.
var (
	// ErrUntrusted is the parent of all errors for data that must not be used.
	ErrUntrusted error = &sentinel{"not trusted", nil}

	// ErrMalformed: the bytes are not metadata of the expected form.
	ErrMalformed error = &sentinel{"malformed", ErrUntrusted}
	// ErrRelease, an ErrMalformed: release fields that break a rule of [Release.Check].
	ErrRelease error = &sentinel{"malformed release fields", ErrMalformed}
	// ErrTooLarge: more bytes, signatures, steps or delegations than the limit (endless data).
	ErrTooLarge error = &sentinel{"too large", ErrUntrusted}
	// ErrThreshold: fewer distinct keys signed than the threshold requires.
	ErrThreshold error = &sentinel{"not enough signatures", ErrUntrusted}
	// ErrUnknownKey, an ErrThreshold: enough keys may have signed, but some are of a kind
	// that this version does not support. It points to an outdated product, not to an attack.
	ErrUnknownKey error = &sentinel{"not enough signatures by keys of a supported kind", ErrThreshold}
	// ErrRollback: a version is lower than a trusted one, or an entry listed before is missing (rollback).
	ErrRollback error = &sentinel{"rollback", ErrUntrusted}
	// ErrMismatch: not the listed bytes, version or identity (mix-and-match).
	ErrMismatch error = &sentinel{"does not match", ErrUntrusted}
	// ErrVersion, an ErrMismatch: not the listed version.
	ErrVersion error = &sentinel{"unexpected version", ErrMismatch}
	// ErrCharter: a charter that breaks a rule by itself or as a successor. The message
	// names the rule, H1 to H13 or T3.
	ErrCharter error = &sentinel{"breaks the charter's rules", ErrUntrusted}
	// ErrNotApproved: not every party of the class, or not enough of the roles
	// that must agree, list the same target.
	ErrNotApproved error = &sentinel{"not approved", ErrUntrusted}

	// ErrNotLogged: the snapshot or the root is not proven to be in the public log.
	ErrNotLogged error = &sentinel{"not in the public log", ErrUntrusted}
	// ErrLogFork, an ErrNotLogged: the log has signed two trees of one size. Evidence has
	// both proofs.
	ErrLogFork error = &sentinel{"the log has signed two trees", ErrNotLogged}

	// ErrExpired: verified, but expired (freeze, or an outdated repository).
	ErrExpired error = &sentinel{"expired", nil}
	// ErrNoTarget: no role lists the path.
	ErrNoTarget error = &sentinel{"no such target", nil}
	// ErrHeld: a hold stops new installs of the release for now.
	ErrHeld error = &sentinel{"held by review", nil}
	// ErrWaiting: the waiting period before a recovery root is accepted is not over.
	ErrWaiting error = &sentinel{"waiting", nil}
	// ErrRecalled: a party of the class states that the bytes should no longer run.
	ErrRecalled error = &sentinel{"recalled", nil}
)

// Error describes a refusal. Every refusal of this package is an *Error.
type Error struct {
	Role     string    // metadata role, target path, "pin", "charter", "release" or "version"
	Version  int64     // version of the refused metadata, 0 if not known
	Err      error     // one of the sentinels
	Detail   string    // the human-readable reason: names, actual and required values
	Expires  time.Time // for ErrExpired: the expiry
	Have     int       // for ErrThreshold: distinct keys that signed
	Want     int       // for ErrThreshold: distinct keys that must sign
	KeyIDs   []string  // for ErrThreshold: the keys that signed
	Evidence []byte    // the refused bytes; may be the caller's own slice, not a copy
}

// Error returns a text like "tuf: snapshot v7: rollback: trusted v9": one line of
// printable ASCII of at most 4 kB, with foreign text quoted.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("tuf: ")
	b.WriteString(text.Name(e.Role))
	if e.Version > 0 {
		fmt.Fprintf(&b, " v%d", e.Version)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	// Details made in this package are quoted already. This also covers a Detail
	// that a caller has set.
	return text.Line(b.String())
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Err }

func refuse(role string, version int64, err error, format string, args ...any) *Error {
	return &Error{Role: role, Version: version, Err: err, Detail: fmt.Sprintf(format, args...)}
}

// attach adds the refused bytes to an *Error that has none yet.
func attach(err error, data []byte) {
	var e *Error
	if errors.As(err, &e) && e.Evidence == nil {
		e.Evidence = data
	}
}

// malformed turns a decoder's error into a refusal.
func malformed(role string, version int64, err error) *Error {
	return refuse(role, version, ErrMalformed, "%v", err)
}

func expired(role string, version int64, expires, now time.Time) *Error {
	e := refuse(role, version, ErrExpired, "on %s, now is %s", text.Time(expires), text.Time(now))
	e.Expires = expires
	return e
}

func syntaxf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", wire.ErrSyntax, fmt.Sprintf(format, args...))
}
