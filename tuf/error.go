package tuf

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/bridge"
	"github.com/visum-dev/visum/internal/text"
)

// sentinel is an error to compare with errors.Is. It wraps its parent, and where
// the program links package gotuf the error of go-tuf that says the same.
type sentinel struct {
	msg    string
	parent error // nil: none
}

func (s *sentinel) Error() string { return s.msg }

func (s *sentinel) Unwrap() (errs []error) {
	if s.parent != nil {
		errs = append(errs, s.parent)
	}
	if bridge.Theirs != nil {
		if theirs := bridge.Theirs(s); theirs != nil {
			errs = append(errs, theirs)
		}
	}
	return errs
}

// Reactions differ by family. Whatever wraps ErrUntrusted must not be used, and
// asking the same place again will not help. ErrExpired, ErrHeld, ErrRecalled and ErrNoTarget
// are states of the world: an attack, a wrong clock, or simply so.
//
// For users of go-tuf's error types see package gotuf.
var (
	ErrUntrusted error = &sentinel{"not trusted", nil}

	// ErrMalformed: the bytes are not the metadata they should be.
	ErrMalformed error = &sentinel{"malformed", ErrUntrusted}
	// ErrRelease, an ErrMalformed: release fields that break a rule of [Release.Check].
	ErrRelease error = &sentinel{"malformed release fields", ErrMalformed}
	// ErrTooLarge: more bytes, signatures, steps or delegations than the limit.
	ErrTooLarge error = &sentinel{"too large", ErrUntrusted}
	// ErrThreshold: fewer distinct keys signed than must.
	ErrThreshold error = &sentinel{"not enough signatures", ErrUntrusted}
	// ErrUnknownKey, an ErrThreshold: enough keys may have signed, but some are of a kind
	// that is not known here. It tells of a product that is too old, not of an attack.
	ErrUnknownKey error = &sentinel{"not enough signatures by keys of a kind that is known here", ErrThreshold}
	// ErrRollback: a version went backwards, or something listed before is gone.
	ErrRollback error = &sentinel{"went backwards", ErrUntrusted}
	// ErrMismatch: not the bytes, version or identity that was promised.
	ErrMismatch error = &sentinel{"does not match", ErrUntrusted}
	// ErrVersion, an ErrMismatch: not the version that was promised.
	ErrVersion error = &sentinel{"does not match", ErrMismatch}
	// ErrCharter: a charter that breaks a rule, alone or as a successor.
	ErrCharter error = &sentinel{"breaks the charter's rules", ErrUntrusted}
	// ErrNotApproved: not every party of the class, or not enough of the roles
	// that must agree, list the same target.
	ErrNotApproved error = &sentinel{"not approved", ErrUntrusted}

	// ErrExpired: signed and in order, but past its date.
	ErrExpired error = &sentinel{"expired", nil}
	// ErrNoTarget: no role lists the path.
	ErrNoTarget error = &sentinel{"no such target", nil}
	// ErrHeld: a review key holds the release back for now.
	ErrHeld error = &sentinel{"held by review", nil}
	// ErrRecalled: a party of the class says that the bytes should not run any more.
	ErrRecalled error = &sentinel{"recalled", nil}
)

// Error tells what was refused and why. Every refusal of this package is one.
type Error struct {
	Role     string    // metadata role, target path, "pin", "charter", "release" or "version"
	Version  int64     // version of the refused metadata, 0 where not known
	Err      error     // one of the sentinels
	Detail   string    // the reason for people: names, have and want
	Expires  time.Time // for ErrExpired: when it did
	Have     int       // for ErrThreshold: distinct keys that signed
	Want     int       // for ErrThreshold: distinct keys that must
	KeyIDs   []string  // for ErrThreshold: the keys that did sign
	Evidence []byte    // the refused bytes; may be the caller's own slice, not a copy
}

// Error reads like "tuf: snapshot v7: went backwards: trusted v9". It is one line
// of printable ASCII, 4 kB at most; what is not of this module is quoted in it.
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
	// Everything foreign is quoted where the text is made. This is the last guard,
	// for what a caller writes into an Error.
	return text.Line(b.String())
}

func (e *Error) Unwrap() error { return e.Err }

func refuse(role string, version int64, err error, format string, args ...any) *Error {
	return &Error{Role: role, Version: version, Err: err, Detail: fmt.Sprintf(format, args...)}
}

// attach adds the refused bytes to an error of ours that has none yet.
func attach(err error, data []byte) {
	var e *Error
	if errors.As(err, &e) && e.Evidence == nil {
		e.Evidence = data
	}
}

// malformed turns a decoder's complaint into a refusal.
func malformed(role string, version int64, err error) *Error {
	return refuse(role, version, ErrMalformed, "%v", err)
}

func expired(role string, version int64, expires, now time.Time) *Error {
	e := refuse(role, version, ErrExpired, "on %s, now is %s", stamp(expires), stamp(now))
	e.Expires = expires
	return e
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
