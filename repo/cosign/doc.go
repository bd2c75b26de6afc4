// Package cosign asks the cosigners of a public log for their signatures: it is the client of
// C2SP tlog-witness.
//
// [Ask] sends a checkpoint with the signature of the log to all cosigners at the same time,
// each with a proof that the tree they have seen is the beginning of the new one. It ends
// when every policy has a quorum and the remaining cosigners had a second more, or when the
// time is over. What a cosigner answers is verified; an answer that does not verify, or none,
// is a [Failure] of this cosigner alone.
//
// A cosigner that has seen another tree signed by the log proves a fork: the key of the log
// is used elsewhere, or the storage of the log was set back. Then Ask returns a [ForkError]
// with both notes, and no further tree must be signed before a person has looked at it. A
// claim of a fork without such a note is a failure of the cosigner, so that one dishonest
// cosigner cannot stop a log.
//
// Requests follow no redirects, take at most ten seconds each, and read at most 64 KiB.
package cosign

import (
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/text"
)

var (
	// ErrUnwitnessed: a policy has no quorum of cosignatures. Calling again later continues.
	ErrUnwitnessed = errors.New("not enough cosigners have signed")
	// ErrAhead: a cosigner has seen a larger tree that the log has signed. Another process
	// has appended to the log, or the storage of the log was set back.
	ErrAhead = errors.New("a cosigner has seen a larger tree")
	// ErrFork: a cosigner has a checkpoint of the log, signed by it, that is not the
	// beginning of ours. The error is a [*ForkError].
	ErrFork = errors.New("the log has signed another tree")
)

// ForkError is a proven fork.
type ForkError struct {
	Cosigner string // its name in the policy
	Ours     []byte // the checkpoint that was to be cosigned
	Theirs   []byte // the checkpoint that the cosigner has, with the signature of the log
}

// Error returns the text of the error.
func (e *ForkError) Error() string {
	return fmt.Sprintf("cosign: %s: %v", text.Quote(e.Cosigner), ErrFork)
}

// Unwrap returns [ErrFork].
func (e *ForkError) Unwrap() error { return ErrFork }
