package repo

import (
	"errors"
	"fmt"

	"github.com/visum-dev/visum/repo/storage"
)

// ErrUnsigned: a draft still lacks signatures, which the text and [Draft.Missing] list.
var ErrUnsigned = errors.New("signatures are missing")

// ErrOtherDraft: two drafts are not copies of the same draft.
var ErrOtherDraft = errors.New("not the same draft")

// ErrNoPart: neither the published root nor the draft lists the key as a signer.
var ErrNoPart = errors.New("the draft requires no signature of this key")

var errEmpty = errors.New("repo: the repository is empty")

var errNoCharter = errors.New("root has no charter: this package can't edit a repository without a charter")

var errBusy = fmt.Errorf("repo: the repository kept changing during %d reads: %w", maxReads, ErrConflict)

// Errors of drafts that do not apply to the published repository. Nothing was changed.
var (
	// ErrStale: the draft follows versions that are no longer, or not yet, published.
	// Stage the draft again.
	ErrStale = errors.New("the draft does not follow what is published")
	// ErrPublished: the content of the draft is already published.
	ErrPublished = errors.New("the draft is already published")
	// ErrNotYet: the storage has older versions than those that the draft follows, as an
	// outdated copy has. Errors that wrap it also wrap ErrStale. Update the copy.
	ErrNotYet = errors.New("the storage has older versions")
)

// ErrConflict is [storage.ErrConflict]: another process changed the repository during
// the call. The call changed nothing. Read the repository again before retrying.
var ErrConflict = storage.ErrConflict

// maxReads limits how often the repository is read again because another process
// published during the read.
const maxReads = 10

// ErrSignature: the bytes are not a signature of the payload by that key.
var ErrSignature = errors.New("the signature does not verify")

// ErrHeal: the new root does not heal the fork, or no root can. The wrapped error has
// the reason.
var ErrHeal = errors.New("the fork is not healed")

// ErrKeyReuse: a key is assigned to a role although it already has a role that excludes
// it: a root key to an online or release role, or a key of one party to another party.
var ErrKeyReuse = errors.New("the key has another role already")
