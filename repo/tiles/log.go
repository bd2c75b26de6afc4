package tiles

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// Limits of one batch.
const (
	MaxLeaves     = 1 << 16  // leaves
	MaxBatchBytes = 32 << 20 // bytes of all its leaves
)

// Config configures [New].
type Config struct {
	// Origin is the name of the log: DOMAIN/visum/REPO_ID/N, where N is a number from 1. A
	// log with another key has another N.
	Origin string
	// Signer has the key of the log, of scheme ed25519, which is used for nothing else. It is
	// called with the text of a checkpoint, only after the ledger has recorded its size and
	// root.
	Signer tuf.Signer
	// Ledger is the record of what the key has signed. All processes that use the key must
	// share it.
	Ledger signing.Ledger
}

// Log is a log in a storage. It implements [repo.Log]; its methods are safe for concurrent
// use, also by other processes on other handles. A batch has at most [MaxLeaves] leaves
// with [MaxBatchBytes] together. Reads and writes of one Append do not depend on the
// length of the log but for a tile of each level, of which there is one more with each
// factor of 256.
type Log struct {
	storage  storage.Storage
	ledger   signing.Ledger
	signer   tuf.Signer
	key      tlog.Key
	ledgerID string
	prefix   string // log/N/
	pending  string // name of the file
}

var _ repo.Log = (*Log)(nil)

// New returns a handle on the log in a storage. It reads nothing; the first Append creates
// the log. The error wraps [fs.ErrInvalid].
func New(s storage.Storage, cfg Config) (*Log, error) {
	invalid := func(format string, args ...any) (*Log, error) {
		return nil, fmt.Errorf("tiles: %w: %s", fs.ErrInvalid, fmt.Sprintf(format, args...))
	}
	number, err := numberOf(cfg.Origin)
	switch {
	case err != nil:
		return nil, err
	case s == nil || cfg.Ledger == nil || cfg.Signer == nil:
		return invalid("a log needs a storage, a signer and a ledger")
	}
	k := cfg.Signer.Key()
	public, err := hex.DecodeString(k.Public)
	if err != nil || k.Scheme != "ed25519" || len(public) != ed25519.PublicKeySize {
		return invalid("the key of a log must be one of scheme ed25519, not %s", text.Quote(k.Scheme))
	}
	key, err := tlog.ParseKey(tlog.Key{Name: cfg.Origin, Type: tlog.TypeLog, Public: public}.String())
	if err != nil {
		return invalid("%v", err)
	}
	return &Log{storage: s, ledger: cfg.Ledger, signer: cfg.Signer, key: key, ledgerID: ledgerID(cfg.Origin),
		prefix: "log/" + number + "/", pending: "private/log-pending/" + number}, nil
}

// Prefix returns the prefix of the names of the log's files: log/N/ for the origin
// DOMAIN/visum/REPO_ID/N. The error wraps [fs.ErrInvalid].
func Prefix(origin string) (string, error) {
	number, err := numberOf(origin)
	if err != nil {
		return "", err
	}
	return "log/" + number + "/", nil
}

// numberOf returns the last element of an origin.
func numberOf(origin string) (string, error) {
	part := strings.Split(origin, "/")
	if len(part) == 4 && part[0] != "" && part[1] == "visum" && layout.IsRepoID(part[2]) {
		if n, err := strconv.ParseInt(part[3], 10, 64); err == nil && n >= 1 && strconv.FormatInt(n, 10) == part[3] {
			return part[3], nil
		}
	}
	return "", fmt.Errorf("tiles: %w: origin %s is not DOMAIN/visum/REPO_ID/N", fs.ErrInvalid, text.Quote(origin))
}

// Key returns the public key of the log, under which its checkpoints verify.
func (l *Log) Key() tlog.Key { return l.key }

// Append implements [repo.Log]. If other processes keep changing the log during 100
// attempts, the error wraps [repo.ErrConflict]. If another process has completed the batch
// and appended a further one before this call could return, the leaves are in the log and
// the error says so; it does not wrap ErrConflict.
func (l *Log) Append(ctx context.Context, after []byte, leaves [][]byte) (checkpoint []byte, err error) {
	defer text.OneLine(&err)
	if err := checkLeaves(leaves); err != nil {
		return nil, err
	}
	var seen head
	if after != nil {
		if seen, err = openHead(after, l.key); err != nil {
			return nil, fmt.Errorf("tiles: the checkpoint to append after: %w", err)
		}
	}
	for range maxAttempts {
		st, err := l.settled(ctx)
		if err != nil {
			return nil, err
		}
		if err := st.follows(seen); err != nil {
			return nil, err
		}
		st, err = l.propose(ctx, st, leaves)
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return l.complete(ctx, st)
	}
	return nil, errBusy
}

// Checkpoint implements [repo.Log].
func (l *Log) Checkpoint(ctx context.Context) (_ []byte, err error) {
	defer text.OneLine(&err)
	st, err := l.settled(ctx)
	if err != nil {
		return nil, err
	}
	if st.note == nil {
		return nil, fmt.Errorf("tiles: log %s: no checkpoint: %w", text.Name(l.key.Name), fs.ErrNotExist)
	}
	return st.note, nil
}

// Tile implements [repo.Log].
func (l *Log) Tile(ctx context.Context, path string) (_ []byte, err error) {
	defer text.OneLine(&err)
	return l.files(ctx)(path)
}

func checkLeaves(leaves [][]byte) error {
	if len(leaves) == 0 {
		return fmt.Errorf("tiles: %w: a batch without leaves", fs.ErrInvalid)
	}
	if len(leaves) > MaxLeaves {
		return fmt.Errorf("tiles: batch: %w: %d leaves, at most %d", tuf.ErrTooLarge, len(leaves), MaxLeaves)
	}
	total := 0
	for i, leaf := range leaves {
		if len(leaf) > tlog.MaxEntry {
			return fmt.Errorf("tiles: leaf %d: %w: %d bytes, at most %d", i, tuf.ErrTooLarge, len(leaf), tlog.MaxEntry)
		}
		total += len(leaf)
	}
	if total > MaxBatchBytes {
		return fmt.Errorf("tiles: batch: %w: %d bytes, at most %d", tuf.ErrTooLarge, total, MaxBatchBytes)
	}
	return nil
}

// maxAttempts limits how often the log is read again because another process has changed
// it.
const maxAttempts = 100

var (
	// errAgain: another process has changed the ledger or the storage. The caller reads both
	// again.
	errAgain = errors.New("changed by another process")
	errBusy  = fmt.Errorf("tiles: the log kept changing during %d attempts: %w", maxAttempts, repo.ErrConflict)
)
