package client

import (
	"errors"
	"io/fs"
	"time"

	"github.com/visum-dev/visum/tuf"
)

// Errors of [Client.Refresh]. The causes that led to one are joined to it.
var (
	// ErrUnreachable: no location could be reached. The state is kept.
	ErrUnreachable = errors.New("no repository location is reachable")
	// ErrStale: the newest available root has expired, or, if the charter enforces
	// confirmation, too few operators confirmed it for too long. Nothing new is
	// installed under it.
	ErrStale = errors.New("trusted root is expired or unconfirmed and no newer root is available")
	// ErrRootRollback: the repository serves an older root than already trusted (rollback).
	ErrRootRollback = errors.New("repository serves an older root than already trusted")
	// ErrMoreRoots: there are more new roots than one refresh follows. Refresh again.
	ErrMoreRoots = errors.New("more new roots than one refresh follows; refresh again")
	// ErrNoContent: the root is current, but no location delivers a complete, valid set
	// under it.
	ErrNoContent = errors.New("no location delivers valid content")
	// ErrUpToDate: there is no approved release newer than the installed one.
	ErrUpToDate = errors.New("no newer approved release")
)

// Reasons why an approved release is not offered to this machine now.
var (
	// ErrRollout: the release is rolled out to a part of the machines, which does not
	// include this one yet; or its rollout is halted for all machines.
	ErrRollout = errors.New("not yet rolled out to this machine")
	// ErrMinVersion: the installed version is too old to be updated to this release
	// directly (min_version).
	ErrMinVersion = errors.New("an intermediate release is required first")
	// ErrDeferred: Config.DeferFor has not passed since this client first saw the release.
	ErrDeferred = errors.New("deferred by the administrator")
	// ErrDenied: Config.DenyVersions lists the version, or Config.AllowVersion excludes it.
	ErrDenied = errors.New("not allowed by the administrator")
	// ErrPlatform: a release for platform "any" is not offered, because its version
	// also has a release for this platform.
	ErrPlatform = errors.New("the version has a release for this platform")
)

// Errors of [View.Latest] about the Query, in addition to [ErrUpToDate].
var (
	// ErrInstalled: Query.Installed is not a version.
	ErrInstalled = errors.New("Query.Installed is not a version")
	// ErrUnknownProduct: no role lists a release of that product, channel and platform.
	ErrUnknownProduct = errors.New("no such product, channel or platform")
)

// ErrRange: a source cannot serve a file from the requested offset.
var ErrRange = errors.New("no such range")

// errLate: a location did not answer in time, so that others were asked.
var errLate = errors.New("did not answer in time")

var errSlow = errors.New("too slow")

// errDiffers: an answer from offset 0 differs from the bytes downloaded before.
var errDiffers = errors.New("differs from the bytes downloaded before")

var errTooLong = errors.New("too long")

// diskError tells errors of the local store from those of locations.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

// busyError is the answer of a location that limits its rate: no requests before until.
type busyError struct {
	error
	until time.Time
}

func (e *busyError) Unwrap() error { return e.error }

// responseError is an error response that does not concern the file. final: repeating
// the same request will not change it.
type responseError struct {
	error
	final bool
}

func (e responseError) Unwrap() error { return e.error }

// lasting reports whether repeating this request at the same location is useless.
func lasting(err error) bool {
	if isAbsent(err) || errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		return true
	}
	e, ok := errors.AsType[responseError](err)
	return ok && e.final
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// decided reports whether err is a decision, which no other location can change.
func decided(err error) bool {
	for _, final := range []error{tuf.ErrNotApproved, tuf.ErrNoTarget, tuf.ErrHeld, tuf.ErrRecalled, tuf.ErrRelease, tuf.ErrNotLogged} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// retryable returns err unless it is final: a decision, or a correctly signed role that
// has expired.
func retryable(err error) error {
	if err == nil || decided(err) || errors.Is(err, tuf.ErrExpired) {
		return nil
	}
	return err
}
