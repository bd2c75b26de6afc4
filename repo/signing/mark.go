package signing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/repo/storage"
)

// MarkedLedger is a ledger elsewhere, such as in a bucket, of which a machine keeps the
// number and the sha256 of the newest document that it has seen, in a directory of its
// own. Load and Swap fail with [ErrLedger] if the ledger has no document any more, an
// older one, or one that does not follow the seen one, as after a restored backup. A
// document names its newest 256 predecessors; beyond that the number alone is compared.
// Documents without a number, of earlier versions, are not marked.
func MarkedLedger(l Ledger, own storage.Storage) Ledger { return markedLedger{l, own} }

// KeptPredecessors is the number of predecessors that a document of package repo names.
const KeptPredecessors = 256

type markedLedger struct {
	ledger Ledger
	own    storage.Storage
}

// mark identifies a document.
type mark struct {
	Number int64  `json:"number"`
	SHA256 string `json:"sha256"`
}

// numbered are the members of a document by which it is marked.
type numbered struct {
	Number int64    `json:"number"`
	Before []string `json:"before"` // sha256 of the documents before it, the newest last
}

// marked returns the mark of a document; false if it has no number.
func marked(doc []byte) (mark, numbered, bool) {
	var n numbered
	if json.Unmarshal(doc, &n) != nil || n.Number < 1 {
		return mark{}, n, false
	}
	sum := sha256.Sum256(doc)
	return mark{n.Number, hex.EncodeToString(sum[:])}, n, true
}

func (l markedLedger) Load(ctx context.Context, repoID string) ([]byte, error) {
	// The mark is read first: another process may write both in the meantime.
	seen, raw, err := l.seen(ctx, repoID)
	if err != nil {
		return nil, err
	}
	doc, err := l.ledger.Load(ctx, repoID)
	if errors.Is(err, fs.ErrNotExist) && seen.Number > 0 {
		return nil, fmt.Errorf("signing: %w: it has no document of repository %s, but this machine has seen number %d", ErrLedger, repoID, seen.Number)
	}
	if err != nil {
		return nil, err
	}
	now, n, ok := marked(doc)
	if seen.Number > 0 {
		before := len(n.Before) - int(min(now.Number-seen.Number, int64(len(n.Before))+1))
		switch {
		case !ok || now.Number < seen.Number:
			return nil, fmt.Errorf("signing: %w: its document has number %d, this machine has seen number %d: it is an older copy", ErrLedger, now.Number, seen.Number)
		case now.Number == seen.Number && now != seen,
			now.Number > seen.Number && before >= 0 && n.Before[before] != seen.SHA256:
			return nil, fmt.Errorf("signing: %w: its document number %d does not follow number %d, which this machine has seen", ErrLedger, now.Number, seen.Number)
		}
	}
	return doc, l.keep(ctx, repoID, raw, now, ok)
}

func (l markedLedger) Swap(ctx context.Context, repoID string, old, new []byte) error {
	if err := l.ledger.Swap(ctx, repoID, old, new); err != nil {
		return err
	}
	_, raw, err := l.seen(ctx, repoID)
	if err != nil {
		return err
	}
	now, _, ok := marked(new)
	return l.keep(ctx, repoID, raw, now, ok)
}

// seen returns the mark of the newest document that this machine has seen.
func (l markedLedger) seen(ctx context.Context, repoID string) (mark, []byte, error) {
	name, err := markName(repoID)
	if err != nil {
		return mark{}, nil, err
	}
	raw, err := l.own.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil, nil
	}
	var m mark
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err = dec.Decode(&m); err == nil && m.Number < 1 {
			err = errors.New("no number")
		}
	}
	if err != nil {
		return mark{}, nil, fmt.Errorf("signing: mark of the ledger: %w", err)
	}
	return m, raw, nil
}

// keep records a mark unless a newer one is recorded.
func (l markedLedger) keep(ctx context.Context, repoID string, raw []byte, now mark, ok bool) error {
	name, err := markName(repoID)
	if err != nil || !ok {
		return err
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	for range 100 {
		var have mark
		if raw != nil {
			if err := json.Unmarshal(raw, &have); err != nil {
				return fmt.Errorf("signing: mark of the ledger: %w", err)
			}
		}
		if have.Number >= now.Number {
			return nil
		}
		err = l.own.Replace(ctx, name, raw, slices.Clone(data))
		if !errors.Is(err, storage.ErrConflict) {
			break
		}
		if _, raw, err = l.seen(ctx, repoID); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("signing: mark of the ledger: %w", err)
	}
	return nil
}

func markName(repoID string) (string, error) {
	name, err := ledgerName(repoID)
	return name + ".seen", err
}
