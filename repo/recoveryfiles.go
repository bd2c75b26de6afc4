package repo

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

// recoveryFiles is a recovery statement for a root and the root that it names, as far
// as a storage or mirror has them.
type recoveryFiles struct {
	before *tuf.Root
	names  [2]string // of the statement, of the root
	data   [2][]byte
	rec    *tuf.Recovery
	// counter of the statement in a storage, also if an interrupted replacement left a
	// root that does not match the statement.
	counter int64
	over    [2][]byte // the files to replace, as read when the replacement was decided
}

// root opens the root that the statement names. The waiting period applies to clients
// only, not to checks of a repository.
func (f *recoveryFiles) root() (*tuf.Root, error) {
	rule := f.rec.Rule()
	return f.rec.Accept(tuf.Wait{Statement: f.rec.ID(), Held: rule.Hold, Ticks: rule.MinTicks})
}

// put replaces a recovery; it writes the root before the statement that names it.
func (f *recoveryFiles) put(ctx context.Context, s Storage) error {
	for _, i := range []int{1, 0} {
		if bytes.Equal(f.over[i], f.data[i]) {
			continue
		}
		if err := s.Replace(ctx, f.names[i], f.over[i], f.data[i]); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(f.names[i]), err)
		}
	}
	return nil
}

// follows checks that a draft's statement was made after this one, or is this one.
func (f *recoveryFiles) follows(statement *draftFile) error {
	if f.counter != statement.base && !bytes.Equal(f.data[0], statement.bytes()) {
		return fmt.Errorf("repo: %w: %s v%d is published, the draft replaces v%d", ErrStale, recoveryRole, f.counter, statement.base)
	}
	return nil
}

// recoveryOf reads the recovery that is prepared in case root gets no regular
// successor. rec is nil if there is none.
func recoveryOf(ctx context.Context, src storage.Source, root *tuf.Root) (f recoveryFiles, err error) {
	f, ok := recoveryAfter(root)
	if !ok {
		return f, nil
	}
	for i, limit := range []int64{tuf.MaxRecoveryStatement, tuf.Limits{}.WithDefaults().Root} {
		if f.data[i], err = storage.ReadAll(ctx, src, f.names[i], limit); errors.Is(err, fs.ErrNotExist) {
			return f, nil
		} else if err != nil {
			return f, err
		}
	}
	f.rec, err = root.Recovery(f.data[0], f.data[1], longAgo)
	return f, err
}

// recoveryIn reads the files at the location of a recovery that follows before. rec is nil if
// they are not a valid recovery.
func recoveryIn(ctx context.Context, s Storage, before *tuf.Root) (f recoveryFiles, err error) {
	f, ok := recoveryAfter(before)
	if !ok {
		return f, nil
	}
	for i, name := range f.names {
		if f.data[i], err = s.Read(ctx, name); errors.Is(err, fs.ErrNotExist) {
			f.data[i] = nil
		} else if err != nil {
			return f, err
		}
	}
	f.rec, _ = before.Recovery(f.data[0], f.data[1], longAgo)
	rule := before.Charter().Recovery()
	keys := map[string]tuf.Key{}
	for _, o := range rule.Orgs {
		maps.Copy(keys, before.Keys(o.KeyIDs))
	}
	if e, err := metafile.Open(f.data[0]); err == nil && e.Type == recoveryType && e.Signers(keys) >= rule.Threshold {
		f.counter = e.Version
	}
	return f, nil
}

// readRecovery reads the signed part of a statement.
func readRecovery(f *draftFile) (s recoveryStatement, err error) {
	for _, x := range []struct {
		member string
		to     *recoveredRoot
	}{{"tip", &s.Tip}, {"root", &s.Root}} {
		v := metafile.Member(f.signed, x.member)
		n, err := metafile.Member(v, "version").Int()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", recoveryRole, x.member, tuf.ErrMalformed)
		}
		sum, err := metafile.Member(v, "sha256").Text()
		if err != nil {
			return s, fmt.Errorf("repo: %s: %s: %w", recoveryRole, x.member, tuf.ErrMalformed)
		}
		*x.to = recoveredRoot{n, sum}
	}
	return s, nil
}

type recoveredRoot struct {
	Version int64  `json:"version"`
	SHA256  string `json:"sha256"`
}

// recoveryAfter returns the names of a recovery after root; false if its charter allows
// none.
func recoveryAfter(root *tuf.Root) (f recoveryFiles, ok bool) {
	f.before = root
	if root.Charter() == nil || root.Charter().Recovery() == nil {
		return f, false
	}
	statement, next := root.RecoveryFiles()
	f.names = [2]string{"metadata/" + statement, "metadata/" + next}
	return f, true
}

// recoveryStatement is the signed part of a recovery statement.
type recoveryStatement struct {
	Type        string        `json:"_type"`
	SpecVersion string        `json:"spec_version"`
	Version     int64         `json:"version"`
	Expires     string        `json:"expires"`
	RepoID      string        `json:"repo_id"`
	Tip         recoveredRoot `json:"tip"`
	Root        recoveredRoot `json:"root"`
	Reason      string        `json:"reason"`
}
