package signing

import "errors"

// Errors of the trust anchor and the ledger. A call that returns one of them has signed
// nothing and written nothing.
var (
	// ErrNoPin: the handle has no trust anchor, so it can't distinguish this repository
	// from a forged one. Set repo.Config.Pin.
	ErrNoPin = errors.New("no trust anchor")
	// ErrNoLedger: the signer's ledger has no record of this repository. Use the ledger
	// of the party, or fill an empty one with repo.Repo.Adopt.
	ErrNoLedger = errors.New("the ledger is empty")
	// ErrLedger: the ledger is damaged, or belongs to another repository.
	ErrLedger = errors.New("the ledger is not usable")
	// ErrLedgerNotShared: another machine may sign the same role without access to this
	// ledger. See repo.Config.SharedLedger.
	ErrLedgerNotShared = errors.New("the ledger is not shared by all signers of the role")

	// ErrRootBehind (rule K1): the root chain is older than, or forks from, the newest
	// root that the ledger has seen published (rollback).
	ErrRootBehind = errors.New("root is older than or differs from the one in the ledger")
	// ErrSecondContent (rules K1 and K2): the ledger records a signature of other content
	// of the same role and version.
	ErrSecondContent = errors.New("other content was signed under this version")
	// ErrRoleBehind (rule K3): the published role is older than, or differs from, the
	// content that the ledger has seen published (rollback).
	ErrRoleBehind = errors.New("published content is older than or differs from the one in the ledger")
	// ErrTakenBack (rule K4): a recall, a refusal or a hold of this signer is in force.
	ErrTakenBack = errors.New("recalled, refused or held before")
	// ErrDate (rule K5): signed_at or an expiry is not consistent with this machine's
	// clock or with the metadata that it replaces. For expired metadata the error also
	// wraps [tuf.ErrExpired].
	ErrDate = errors.New("inconsistent date")
	// ErrNotAutomatic: repo.Config.Automation does not permit this kind of change. A person
	// must sign it.
	ErrNotAutomatic = errors.New("not permitted for automation")
	// ErrSequence: a sequence number is not the next one, or a role states a lower
	// highest number than before.
	ErrSequence = errors.New("sequence number out of order")
)
