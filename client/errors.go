package client

import (
	"errors"
	"io/fs"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// States of the world after a refresh. What led to one is joined to it.
var (
	// ErrDark: no place answered. State is kept.
	ErrDark = errors.New("client: no place answers")
	// ErrStale: the newest root that can be had has expired, or, where the charter
	// asks for that, too few operators confirmed it for too long. Nothing new is
	// installed under it.
	ErrStale = errors.New("client: the newest root that can be had is too old")
	// ErrBehind: the network shows an older chain of roots than was seen before.
	ErrBehind = errors.New("client: the chain of roots is shorter than it was")
	// ErrPartial: more new roots than one cycle follows. Refresh again.
	ErrPartial = errors.New("client: more roots follow; refresh again")
	// ErrNoContent: the root is current, but no place delivers a complete, valid set under it.
	ErrNoContent = errors.New("client: no place delivers valid content")
	// ErrUpToDate: there is no approved release above what is installed.
	ErrUpToDate = errors.New("client: no newer approved release")
)

// Why an approved release is not offered to this machine now.
var (
	// ErrRollout: the release goes to a part of the machines first, and this is none
	// of it; or its rollout is halted, and no machine gets it.
	ErrRollout = errors.New("client: not this machine's turn")
	// ErrMinVersion: the release steps up from newer versions than the installed one.
	ErrMinVersion = errors.New("client: an older release comes first")
	// ErrDeferred: Config.Defer has not passed since this client first saw it.
	ErrDeferred = errors.New("client: deferred by the administrator")
	// ErrDenied: Config.Deny names it, or Config.Only does not.
	ErrDenied = errors.New("client: not allowed by the administrator")
	// ErrRecalled: a party says that its bytes should not run any more.
	ErrRecalled = tuf.ErrRecalled
	// ErrPlatform: a release for any platform, of a version that has one for this platform.
	ErrPlatform = errors.New("client: this platform has a release of its own")
)

// Errors of [View.Latest] about what it was asked, beside [ErrUpToDate].
var (
	// ErrInstalled: Query.Installed is not a version.
	ErrInstalled = errors.New("client: Query.Installed is not a version")
	// ErrUnknownProduct: nothing is listed of that product, channel and platform.
	ErrUnknownProduct = errors.New("client: no such product, channel or platform")
)

// ErrRange: a place does not begin a file where it was asked to.
var ErrRange = errors.New("client: no such range")

// errLate: a location did not answer in time, so that others were asked.
var errLate = errors.New("did not answer in time")

var errSlow = errors.New("too slow")

// errDiffers: an answer that begins at 0 is not what is there already.
var errDiffers = errors.New("not the bytes that are there already")

var errTooLong = errors.New("longer than it may be")

// diskError tells the errors of our own store from those of places.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// busyError is the answer of a place that asks to be left alone for some time.
type busyError struct {
	error
	until time.Time
}

func (e *busyError) Unwrap() error { return e.error }

// answerError is a place's word that is not about the file. final: asking the
// same again will not change it.
type responseError struct {
	error
	final bool
}

func (e responseError) Unwrap() error { return e.error }

// lasting reports whether a place is to be left alone with this request from now on.
func lasting(err error) bool {
	if isAbsent(err) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		return true
	}
	e, ok := errors.AsType[responseError](err)
	return ok && e.final
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// decided reports whether err is an answer, which no other place can change.
func decided(err error) bool {
	for _, final := range []error{tuf.ErrNotApproved, tuf.ErrNoTarget, tuf.ErrHeld, tuf.ErrRecalled, tuf.ErrRelease} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// retryable returns err unless it is final: a decision, or a role that its keys
// signed and that is past its date.
func retryable(err error) error {
	if err == nil || decided(err) || errors.Is(err, tuf.ErrExpired) {
		return nil
	}
	return err
}
