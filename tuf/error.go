package tuf

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// sentinel is an error to compare with errors.Is. It wraps its parent, and the
// error type of go-tuf that says the same, for those who look for that.
type sentinel struct {
	msg   string
	wraps []error
}

func (s *sentinel) Error() string   { return s.msg }
func (s *sentinel) Unwrap() []error { return s.wraps }

// Reactions differ by family. Whatever wraps ErrUntrusted must not be used, and
// asking the same place again will not help. ErrExpired, ErrHeld and ErrNoTarget
// are states of the world: an attack, a wrong clock, or simply so.
//
// Where go-tuf has an error type for the same thing, errors.Is and errors.As
// find that too: metadata.ErrRepository for all of ErrUntrusted, ErrUnsignedMetadata,
// ErrBadVersionNumber, ErrLengthOrHashMismatch, ErrDownloadLengthMismatch, ErrExpiredMetadata.
var (
	ErrUntrusted error = &sentinel{"not trusted", []error{&metadata.ErrRepository{Msg: "not trusted"}}}

	// ErrMalformed: the bytes are not the metadata they should be.
	ErrMalformed error = &sentinel{"malformed", []error{ErrUntrusted}}
	// ErrTooLarge: more bytes, signatures, steps or delegations than the limit.
	ErrTooLarge error = &sentinel{"too large", []error{ErrUntrusted, &metadata.ErrDownloadLengthMismatch{Msg: "too large"}}}
	// ErrThreshold: fewer distinct keys signed than must.
	ErrThreshold error = &sentinel{"not enough signatures", []error{ErrUntrusted, &metadata.ErrUnsignedMetadata{Msg: "not enough signatures"}}}
	// ErrRollback: a version went backwards, or something listed before is gone.
	ErrRollback error = &sentinel{"went backwards", []error{ErrUntrusted, &metadata.ErrBadVersionNumber{Msg: "went backwards"}}}
	// ErrMismatch: not the bytes, version or identity that was promised.
	ErrMismatch error = &sentinel{"does not match", []error{ErrUntrusted, &metadata.ErrLengthOrHashMismatch{Msg: "does not match"}}}
	// ErrCharter: a charter that breaks a rule, alone or as a successor.
	ErrCharter error = &sentinel{"breaks the charter's rules", []error{ErrUntrusted}}
	// ErrNotApproved: not every party of the class, or not enough of the roles
	// that must agree, list the same target.
	ErrNotApproved error = &sentinel{"not approved", []error{ErrUntrusted}}

	// ErrExpired: signed and in order, but past its date.
	ErrExpired error = &sentinel{"expired", []error{&metadata.ErrExpiredMetadata{Msg: "expired"}}}
	// ErrNoTarget: no role lists the path.
	ErrNoTarget error = &sentinel{"no such target", nil}
	// ErrHeld: a review key holds the release back for now.
	ErrHeld error = &sentinel{"held by review", nil}
)

// Error tells what was refused and why. Every refusal of this package is one.
type Error struct {
	Role     string    // metadata role, target path, "pin" or "charter"
	Version  int64     // version of the refused metadata, 0 where not known
	Err      error     // one of the sentinels
	Detail   string    // the reason for people: names, have and want
	Expires  time.Time // for ErrExpired: when it did
	Have     int       // for ErrThreshold: distinct keys that signed
	Want     int       // for ErrThreshold: distinct keys that must
	KeyIDs   []string  // for ErrThreshold: the keys that did sign
	Evidence []byte    // the refused bytes; may be the caller's own slice, not a copy
}

// Error reads like "tuf: snapshot v7: went backwards: trusted v9".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("tuf: ")
	b.WriteString(e.Role)
	if e.Version > 0 {
		fmt.Fprintf(&b, " v%d", e.Version)
	}
	b.WriteString(": ")
	b.WriteString(e.Err.Error())
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	return b.String()
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
