package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Ledger is a signer's own record: one document for each repository, with the content
// that this signer has seen published and the content that it has signed. Draft.Sign
// and Draft.Payload compare every request with it (rules K1 to K5, see [Draft.Sign]).
// It must be stored where no other party can write. It contains no secret. Package
// ledgertest tests implementations.
//
// Methods must be safe for concurrent use, also by other processes on other handles
// of the same ledger. Errors of the underlying medium are returned wrapped.
type Ledger interface {
	// Load returns the document of a repository; the caller owns the slice. repoID is
	// 32 lower-case hex digits. The error wraps [fs.ErrNotExist] if and only if there is
	// no document.
	Load(ctx context.Context, repoID string) ([]byte, error)

	// Swap replaces the content old of the document by new (compare-and-swap). If old is
	// nil, there must be no document. If the content differs, the error wraps
	// [ErrConflict] and nothing changes. When Swap returns nil, the document is durable
	// and survives a crash. After any other error, or after the process dies, either
	// nothing or everything was changed. Documents have at most [storage.MaxRead] bytes. Swap
	// keeps neither slice.
	Swap(ctx context.Context, repoID string, old, new []byte) error
}

// StorageLedger keeps a ledger in a storage that only this party can write, one file
// REPO_ID.ledger.json for each repository. Several machines of one party can share it:
// see [Config].SharedLedger.
func StorageLedger(s Storage) Ledger { return storageLedger{s} }

// DirLedger keeps a ledger in a directory, as [StorageLedger] over [Folder] does. The
// first record creates the directory. Records are flushed to disk.
func DirLedger(dir string) Ledger { return StorageLedger(Folder(dir)) }

type storageLedger struct{ storage Storage }

func (l storageLedger) Load(ctx context.Context, repoID string) ([]byte, error) {
	name, err := ledgerName(repoID)
	if err != nil {
		return nil, err
	}
	return l.storage.Read(ctx, name)
}

func (l storageLedger) Swap(ctx context.Context, repoID string, old, new []byte) error {
	name, err := ledgerName(repoID)
	if err != nil {
		return err
	}
	return l.storage.Replace(ctx, name, old, new)
}

func ledgerName(repoID string) (string, error) {
	if !isRepoID(repoID) {
		return "", fmt.Errorf("repo: ledger: %w: a repository id has 32 lower-case hex digits", fs.ErrInvalid)
	}
	return repoID + ".ledger.json", nil
}

func isRepoID(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 32
}

// MemLedger returns an empty in-memory ledger, for tests and for tools that exit before
// they sign again. Its records are lost with the process.
func MemLedger() Ledger { return &memLedger{docs: map[string][]byte{}} }

type memLedger struct {
	mu   sync.Mutex
	docs map[string][]byte
}

func (l *memLedger) Load(ctx context.Context, repoID string) ([]byte, error) {
	if _, err := ledgerName(repoID); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	data, ok := l.docs[repoID]
	if !ok {
		return nil, fmt.Errorf("repo: ledger of %s: %w", repoID, fs.ErrNotExist)
	}
	return bytes.Clone(data), nil
}

func (l *memLedger) Swap(ctx context.Context, repoID string, old, new []byte) error {
	if _, err := ledgerName(repoID); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(new) > storage.MaxRead {
		return fmt.Errorf("repo: ledger of %s: %w: %d bytes, at most %d", repoID, tuf.ErrTooLarge, len(new), storage.MaxRead)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have, there := l.docs[repoID]
	if there != (old != nil) || !bytes.Equal(have, old) {
		return fmt.Errorf("repo: ledger of %s: %w", repoID, ErrConflict)
	}
	l.docs[repoID] = bytes.Clone(new)
	return nil
}

// Errors of the trust anchor and the ledger. A call that returns one of them has signed
// nothing and written nothing.
var (
	// ErrNoPin: the handle has no trust anchor, so it can't distinguish this repository
	// from a forged one. Set [Config].Pin.
	ErrNoPin = errors.New("no trust anchor")
	// ErrNoLedger: the signer's ledger has no record of this repository. Use the ledger
	// of the party, or fill an empty one with [Repo.Adopt].
	ErrNoLedger = errors.New("the ledger is empty")
	// ErrLedger: the ledger is damaged, or belongs to another repository.
	ErrLedger = errors.New("the ledger is not usable")
	// ErrLedgerNotShared: another machine may sign the same role without access to this
	// ledger. See [Config].SharedLedger.
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
	// ErrNotAutomatic: [Config].Automation does not permit this kind of change. A person
	// must sign it.
	ErrNotAutomatic = errors.New("not permitted for automation")
)
