package signing

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"sync"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Ledger is a signer's own record: one document for each repository, with the content
// that this signer has seen published and the content that it has signed. Draft.Sign
// and Draft.Payload compare every request with it (rules K1 to K5, see repo.Draft.Sign).
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
	// [storage.ErrConflict] and nothing changes. When Swap returns nil, the document is durable
	// and survives a crash. After any other error, or after the process dies, either
	// nothing or everything was changed. Documents have at most [storage.MaxRead] bytes. Swap
	// keeps neither slice.
	Swap(ctx context.Context, repoID string, old, new []byte) error
}

// StorageLedger keeps a ledger in a storage that only this party can write, one file
// REPO_ID.ledger.json for each repository. Several machines of one party can share it:
// see repo.Config.SharedLedger.
func StorageLedger(s storage.Storage) Ledger { return storageLedger{s} }

// DirLedger keeps a ledger in a directory, as [StorageLedger] over [storage.Dir] does. The
// first record creates the directory. Records are flushed to disk.
func DirLedger(dir string) Ledger { return StorageLedger(storage.Dir(dir)) }

type storageLedger struct{ storage storage.Storage }

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
	if !layout.IsRepoID(repoID) {
		return "", fmt.Errorf("signing: ledger: %w: a repository id has 32 lower-case hex digits", fs.ErrInvalid)
	}
	return repoID + ".ledger.json", nil
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
		return nil, fmt.Errorf("signing: ledger of %s: %w", repoID, fs.ErrNotExist)
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
		return fmt.Errorf("signing: ledger of %s: %w: %d bytes, at most %d", repoID, tuf.ErrTooLarge, len(new), storage.MaxRead)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	have, there := l.docs[repoID]
	if there != (old != nil) || !bytes.Equal(have, old) {
		return fmt.Errorf("signing: ledger of %s: %w", repoID, storage.ErrConflict)
	}
	l.docs[repoID] = bytes.Clone(new)
	return nil
}

// Checkpoint is a signed tree head of a public transparency log.
type Checkpoint struct {
	Origin string `json:"origin"` // name of the log (C2SP checkpoint origin)
	Size   int64  `json:"size"`   // leaves
	Root   string `json:"root"`   // hash of the tree, base64
}
