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

// Ledger is a signer's own memory: for each repository one document, which says
// what this signer has seen published and what it has signed. Draft.Sign and
// Draft.Payload compare every request with it (rules K1 to K5, see [Draft.Sign]).
// It must lie where no other party can write; it holds no secret. Package
// ledgertest has the examiner for implementations.
//
// Methods may be called by many goroutines, and by other processes on other
// handles of the same ledger. Errors of the medium are passed on, wrapped.
type Ledger interface {
	// Load returns the document of a repository, the caller's to keep. repoID is
	// 32 lower-case hex digits. The error wraps [fs.ErrNotExist] where there is no
	// document, and only then.
	Load(ctx context.Context, repoID string) ([]byte, error)

	// Swap gives the document the content new if its content is old, compare and
	// swap; with old nil there must be no document. Otherwise the error wraps
	// [ErrConflict] and nothing changes. When Swap returns nil the document is
	// durable: a crash right after does not lose it. A Swap that failed with
	// another error, or whose process died, has changed nothing or everything.
	// Documents have at most [MaxRead] bytes. Both slices stay the caller's.
	Swap(ctx context.Context, repoID string, old, new []byte) error
}

// StorageLedger keeps a ledger in a storage that this party alone can write, one
// file REPO_ID.ledger.json for each repository. Several machines of one party can
// share it: see [Config].SharedLedger.
func StorageLedger(s Storage) Ledger { return storageLedger{s} }

// DirLedger keeps a ledger in a folder, as [StorageLedger] over [DirStore] does.
// The folder is made with the first record. Records are flushed to the disk.
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

// MemLedger returns an empty ledger in memory, for tests and for tools that end
// before anything else signs. What it holds is lost with the process.
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

// Errors of the trust anchor and the ledger. Nothing was signed and nothing was
// written where a call returns one of them.
var (
	// ErrNoPin: the handle has no trust anchor, so it can't tell this repository
	// from a forged one. Set [Config].Pin.
	ErrNoPin = errors.New("no trust anchor")
	// ErrNoLedger: the signer has no memory of this repository yet. Use the ledger
	// of the party, or fill an empty one with [Repo.Adopt].
	ErrNoLedger = errors.New("the ledger is empty")
	// ErrLedger: the ledger is damaged, or belongs to another repository.
	ErrLedger = errors.New("the ledger can't be used")
	// ErrLedgerNotShared: another machine may sign the same role without this
	// ledger's records. See [Config].SharedLedger.
	ErrLedgerNotShared = errors.New("the ledger is not shared by all signers of the role")

	// ErrRootBehind (rule K1): the chain of roots ends below, or forks from, the
	// newest root that the ledger has seen published.
	ErrRootBehind = errors.New("older or other root than the ledger has seen")
	// ErrSecondContent (rules K1 and K2): other content was signed before under the
	// same role and version.
	ErrSecondContent = errors.New("other content was signed under this version")
	// ErrRoleBehind (rule K3): the published role is older or other than what the
	// ledger has seen published.
	ErrRoleBehind = errors.New("older or other content than the ledger has seen published")
	// ErrTakenBack (rule K4): a recall, a refusal or a hold of this signer is in
	// force.
	ErrTakenBack = errors.New("taken back before")
	// ErrDate (rule K5): signed_at or an expiry is out of line with this machine's
	// clock or with what it replaces. What has expired wraps [tuf.ErrExpired] too.
	ErrDate = errors.New("date out of line")
	// ErrNotAutomatic: the change is of a kind that [Config].Automation does not
	// list. A person has to sign it.
	ErrNotAutomatic = errors.New("not for automation")
)
