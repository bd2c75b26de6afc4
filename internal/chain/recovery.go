package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Recovery is a recovery statement for a root and the root that it names, as far
// as a storage or mirror has them.
type Recovery struct {
	Before    *tuf.Root
	Names     [2]string // of the statement, of the root
	Data      [2][]byte
	Statement *tuf.Recovery
	// counter of the statement in a storage, also if an interrupted replacement left a
	// root that does not match the statement.
	Counter int64
	Over    [2][]byte // the files to replace, as read when the replacement was decided
}

// Root opens the root that the statement names. The waiting period applies to clients
// only, not to checks of a repository.
func (f *Recovery) Root() (*tuf.Root, error) {
	rule := f.Statement.Rule()
	return f.Statement.Accept(tuf.Wait{Statement: f.Statement.ID(), Held: rule.Hold, Ticks: rule.MinTicks})
}

// Put replaces a recovery; it writes the root before the statement that names it.
func (f *Recovery) Put(ctx context.Context, s storage.Storage) error {
	for _, i := range []int{1, 0} {
		if bytes.Equal(f.Over[i], f.Data[i]) {
			continue
		}
		if err := s.Replace(ctx, f.Names[i], f.Over[i], f.Data[i]); err != nil {
			return fmt.Errorf("%s: %w", text.Name(f.Names[i]), err)
		}
	}
	return nil
}

// RecoveryOf reads the recovery that is prepared in case root gets no regular
// successor. rec is nil if there is none.
func RecoveryOf(ctx context.Context, src storage.Source, root *tuf.Root) (f Recovery, err error) {
	f, ok := RecoveryAfter(root)
	if !ok {
		return f, nil
	}
	for i, limit := range []int64{tuf.MaxRecoveryStatement, tuf.Limits{}.WithDefaults().Root} {
		if f.Data[i], err = storage.ReadAll(ctx, src, f.Names[i], limit); errors.Is(err, fs.ErrNotExist) {
			return f, nil
		} else if err != nil {
			return f, err
		}
	}
	f.Statement, err = root.Recovery(f.Data[0], f.Data[1], LongAgo)
	return f, err
}

// RecoveryIn reads the files at the location of a recovery that follows before. rec is nil if
// they are not a valid recovery.
func RecoveryIn(ctx context.Context, s storage.Storage, before *tuf.Root) (f Recovery, err error) {
	f, ok := RecoveryAfter(before)
	if !ok {
		return f, nil
	}
	for i, name := range f.Names {
		if f.Data[i], err = s.Read(ctx, name); errors.Is(err, fs.ErrNotExist) {
			f.Data[i] = nil
		} else if err != nil {
			return f, err
		}
	}
	f.Statement, _ = before.Recovery(f.Data[0], f.Data[1], LongAgo)
	rule := before.Charter().Recovery()
	keys := map[string]tuf.Key{}
	for _, o := range rule.Orgs {
		maps.Copy(keys, before.Keys(o.KeyIDs))
	}
	if e, err := metafile.Open(f.Data[0]); err == nil && e.Type == RecoveryType && e.Signers(keys) >= rule.Threshold {
		f.Counter = e.Version
	}
	return f, nil
}

// RecoveryAfter returns the names of a recovery after root; false if its charter allows
// none.
func RecoveryAfter(root *tuf.Root) (f Recovery, ok bool) {
	f.Before = root
	if root.Charter() == nil || root.Charter().Recovery() == nil {
		return f, false
	}
	statement, next := root.RecoveryFiles()
	f.Names = [2]string{"metadata/" + statement, "metadata/" + next}
	return f, true
}
