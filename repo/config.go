package repo

import (
	"time"

	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Config configures a handle ([New]). The zero value of each field is safe.
type Config struct {
	// Pin is the trust anchor: a pin of this repository, or the bytes of any of its
	// roots that are known to be genuine. Every call verifies the root chain from it.
	// The error wraps [tuf.ErrUntrusted] if the chain does not contain exactly that
	// root. A newer root that the Ledger has seen must be in the chain too. If Pin is
	// empty, the Ledger's newest root is the anchor. If both are empty, the only
	// permitted operation is the first root of an empty storage; every other call
	// fails with [signing.ErrNoPin].
	Pin []byte
	// Ledger is this signer's record, which is required to sign anything beyond the
	// first root. nil: an in-memory ledger that is lost with the handle.
	Ledger signing.Ledger
	// SharedLedger declares that every machine that signs the same roles uses the
	// same Ledger. A handle with Automation requires it if other machines hold keys of
	// a role that it signs.
	SharedLedger bool
	// Automation limits what this handle signs without a person. nil: a person reviews
	// what is signed, with [Repo.Diff].
	Automation *signing.Automation
	// Party is the name of the signer's own party: [Repo.Adopt] and the digest of
	// [signing.ErrNoLedger] cover its roles. "": all roles that root names.
	Party string
	// ClockTolerance is how far signed_at of a root may be ahead of this machine's
	// clock when the root is signed. 0: 5 minutes; the maximum is 24 hours. Publishing
	// always allows 5 minutes.
	ClockTolerance time.Duration
	// UnsafeTrustStorage trusts the first root in the storage if there is neither a Pin
	// nor a record in the Ledger, and fills an empty Ledger from the published
	// metadata. It is for test fixtures: an attacker with write access to the storage
	// decides what is signed.
	UnsafeTrustStorage bool
	// Signers are the available keys. Each signs only the roles that list its key.
	Signers []tuf.Signer
	// Review is the name of the reviewing party; "": "review". targets.json delegates
	// standard TUF clients to its roles, and the pin lists its keys.
	Review string
	// Expiry is the validity of newly signed metadata.
	Expiry Expiry
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// DualSigning is the other generation of keys during a cut-over. nil: none.
	DualSigning *signing.DualSigning
	// Progress, if not nil, receives the progress of a long call. It runs in the
	// goroutine of the call, which continues when it returns.
	Progress func(storage.Progress)
	// Labels are human-readable names of keys, by key id: [Repo.Diff] and [Missing] show
	// a key by its label and the first digits of its id.
	Labels map[string]string
	// UnsafeLoopback permits http:// locations on this machine. For development and tests.
	UnsafeLoopback bool
}

// Expiry is the validity of each kind of metadata (TUF sections 4.3 to 4.6). Zero: the
// default.
type Expiry struct {
	Root      time.Duration // 365 days
	Targets   time.Duration // 365 days; targets.json, which only standard TUF clients read
	Release   time.Duration // 30 days; the parties' roles
	Snapshot  time.Duration // 7 days
	Timestamp time.Duration // 1 day
	Recovery  time.Duration // 365 days; recovery statements; must exceed the clients' waiting period
}
