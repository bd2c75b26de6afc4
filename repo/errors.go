package repo

import (
	"errors"
	"fmt"

	"github.com/visum-dev/visum/repo/storage"
)

// ErrUnsigned: a draft still lacks signatures. [Draft.Missing] says whose.
var ErrUnsigned = errors.New("signatures are missing")

// ErrOtherDraft: two drafts are not copies of one.
var ErrOtherDraft = errors.New("not the same draft")

// ErrNoPart: the key signs nothing in this draft.
var ErrNoPart = errors.New("the key has no part in the draft")

var errEmpty = errors.New("repo: the repository is empty")

var errNoCharter = errors.New("root has no charter: a plain TUF repository can't be edited with this package")

var errBusy = fmt.Errorf("repo: %w, %d times while this was read", ErrConflict, maxReads)

// Errors of drafts that what is published has left behind. Nothing was changed.
var (
	// ErrStale: what the draft follows is not what is published any more, or not yet.
	// Stage it again.
	ErrStale = errors.New("the draft does not follow what is published")
	// ErrPublished: what the draft says is published already.
	ErrPublished = errors.New("the draft is published already")
)

// ErrConflict is [storage.ErrConflict]: another process changed the repository while
// the call was at work. The call changed nothing; read again, and decide again.
var ErrConflict = storage.ErrConflict

// maxReads bounds how often what is published is read again because somebody
// published meanwhile.
const maxReads = 10

// ErrSignature: not a signature by that key of what was to be signed.
var ErrSignature = errors.New("the signature does not verify")

// ErrHeal: no next root, or not this one, heals the fork. What is joined to it says why.
var ErrHeal = errors.New("the fork is not healed")

// ErrKeyReuse: a key is given to a role although it has another one that the same key
// must not have: a root key for an online or a release role, or a key of one party for
// another party.
var ErrKeyReuse = errors.New("the key has another role already")
