package repo

import (
	"time"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Config says who works on the repository and how. Zero fields are safe.
type Config struct {
	// Pin is the trust anchor: a pin of this repository, or the bytes of any of its
	// roots that the holder knows to be genuine. Every call verifies the chain of
	// roots from it; a chain without exactly that root is an error that wraps
	// [tuf.ErrUntrusted]. A newer root that the Ledger has seen must be in the chain
	// too. Empty: the Ledger's newest root is the anchor; where that is empty as
	// well an empty storage may be given its first root, and every other call fails
	// with [ErrNoPin].
	Pin []byte
	// Ledger is this signer's memory, which is needed to sign anything beyond the
	// first root. nil: a ledger in memory that ends with the handle.
	Ledger Ledger
	// SharedLedger declares that every machine that signs the same roles uses the
	// same Ledger. A handle with Automation needs it where others hold keys of a
	// role that it signs.
	SharedLedger bool
	// Automation limits what this handle signs without a person; nil: a person
	// looks at what is signed, with [Repo.Diff].
	Automation *Automation
	// Party is the name of the own party: [Repo.Adopt] and the digest of
	// [ErrNoLedger] cover its roles. "": all roles that root names.
	Party string
	// ClockTolerance is how far ahead of this machine's clock signed_at of a root
	// may be when it is signed; 0: 5 minutes, at most 24 hours. Publishing always
	// allows 5 minutes.
	ClockTolerance time.Duration
	// UnsafeTrustStorage takes the first root in the storage for genuine where there
	// is neither a Pin nor a record in the Ledger, and fills an empty Ledger with
	// what is published. For fixtures of tests: whoever can write the storage
	// decides what is signed.
	UnsafeTrustStorage bool
	// Signers are the keys at hand. Each signs only what its key has a part in.
	Signers []tuf.Signer
	// Review is the name of the reviewing party; "": "review". Stock TUF clients
	// are led to its roles, and the pin names its keys.
	Review string
	// Expiry says how long what is signed stays valid.
	Expiry Expiry
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// DualSigning is the other generation of keys during a cut-over; nil: there is none.
	DualSigning *DualSigning
	// Progress is told how far a long call is; nil: nobody is. It is called from the
	// call's own goroutine, which goes on when it returns.
	Progress func(storage.Progress)
	// Skipped is told of each target that [Repo.Clone] or [Repo.Bundle] passes over,
	// with the reason, as Progress is; nil: nobody is.
	Skipped func(Finding)
	// Labels are what people call keys, by key id: [Repo.Diff] and [Missing] show a key
	// by its label and the first digits of its id.
	Labels map[string]string
	// UnsafeLoopback lets locations be http:// on this machine. For development and tests.
	UnsafeLoopback bool
}

// DualSigning lets metadata carry the signatures of two generations of keys, so that
// clients on either side of a cut-over take it: whatever Update, Stage, Publish
// and Renew sign is also signed by those of Signers whose keys have a part in
// the same role under Root. The root that is published counts none of them, and
// no root is ever signed so.
type DualSigning struct {
	Root    *tuf.Root // the one before, or the next one, which may be unpublished
	Signers []tuf.Signer
}

// Expiry is how long each kind of metadata stays valid. Zero: the default.
type Expiry struct {
	Root      time.Duration // 365 days
	Targets   time.Duration // 365 days; targets.json, which only stock clients read
	Release   time.Duration // 30 days; the parties' roles
	Snapshot  time.Duration // 7 days
	Timestamp time.Duration // 1 day
	Recovery  time.Duration // 365 days; recovery statements, longer than clients wait
}

// Automation lists the changes that a handle may sign without a person, compared
// with what its ledger has seen published, not with what lies in the storage.
// Everything else fails with [ErrNotAutomatic]: roots and recoveries always, and
// recalls, refusals and holds. Timestamp and snapshot may always be signed.
type Automation struct {
	// Renew allows a role that differs in version and expiry alone.
	Renew bool
	// Transport allows changes of custom["visum-transport"] of listed targets.
	Transport bool
	// Plain are path prefixes, such as "rules/", below which targets without release
	// fields may be added, changed and removed.
	Plain []string
	// Releases are path prefixes, such as "agent/", below which targets with release
	// fields may be added and changed, with statements of review about them.
	Releases []string
}
