package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Add puts a file into storage and lists it in the party's role, with its
// release fields; rel may be nil for a plain file. The path's directory must be
// in a class. The file is read twice, once to name it by its hash and once to
// store it, and never held in memory. Until another party lists it too, no client
// takes it.
//
// rel.Sequence is the repository's to give, so leave it 0: a new version of a
// product gets one more than any before it, whatever its channel and platform, and
// the same for all of them. Versions that compare equal are one version. Another
// number than the one to be given is an error that wraps [ErrSequence].
//
// What clients could not use is refused before anything is stored: release fields
// that [tuf.Release.Check] refuses, with its error; with [fs.ErrInvalid], names
// that only some clients can fetch: with % or #, more than 7 folders below the
// class's prefix, or so long that the name of a review statement has no room (an
// element of more than 182 bytes at the end). Other bytes for the same product,
// version, channel and platform are an error that wraps [ErrReleased], unless those
// before were removed first, which may be in the same draft.
func (tx *Tx) Add(party, target string, file io.ReadSeeker, rel *tuf.Release) error {
	class, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	if err := fetchable(class, target); err != nil {
		return err
	}
	if rel != nil {
		copied := *rel
		rel = &copied
		if err := tx.number(party, rel); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(target), err)
		}
	}
	h := sha256.New()
	if tx.buf == nil {
		tx.buf = make([]byte, 128<<10)
	}
	total := int64(-1)
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		total = 2 * size // it is read twice
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	counted := &counter{r: file, tell: func(n int64) { tx.repo.progress(storage.Progress{Path: "targets/" + target, Done: n, Total: total}) }}
	n, err := io.CopyBuffer(h, ctxio.NewReader(tx.ctx, counted), tx.buf)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	sum := h.Sum(nil)
	if rel != nil {
		if err := tx.sameBytes(party, target, rel, hex.EncodeToString(sum)); err != nil {
			return err
		}
	}
	entry, err := newEntry(n, sum, rel)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	// What is stored must be what was hashed, should the file change under our hands.
	again := sha256.New()
	if err := tx.repo.storage.Create(tx.ctx, TargetName(target, hex.EncodeToString(sum)), io.TeeReader(&sameFile{counted, again, sum}, again)); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return tx.list(roles, target, entry)
}

// sameFile is a file that must still have the hash it had.
type sameFile struct {
	r    io.Reader
	hash interface{ Sum([]byte) []byte }
	want []byte
}

func (s *sameFile) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == io.EOF && n == 0 && !slices.Equal(s.hash.Sum(nil), s.want) {
		return 0, errors.New("the file changed while it was read")
	}
	if err == io.EOF && n > 0 {
		err = nil // the end is judged once all of it went through the hash
	}
	return n, err
}

// Remove takes a path off the party's role. Clients no longer install it; the
// file stays in storage until [Repo.Prune].
func (tx *Tx) Remove(party, target string) error {
	_, roles, err := tx.role(party, target)
	if err != nil {
		return err
	}
	listed := false
	for _, role := range roles {
		was, err := tx.drop(role, target)
		if err != nil {
			return err
		}
		listed = listed || was
	}
	if !listed {
		return fmt.Errorf("repo: %s: %s does not list it: %w", text.Name(target), roleText(roles[0]), tuf.ErrNoTarget)
	}
	return nil
}

// Renew signs all roles of the party again with a later date, before they
// expire: with their hash bins, the products that have the same keys, and the
// holds of which it has a key.
func (tx *Tx) Renew(party string) error {
	found := false
	for _, c := range tx.layout().Classes {
		var keys []tuf.Key
		for _, role := range c.Roles {
			if role.Party != party {
				continue
			}
			found = true
			keys = append(keys, role.Keys.Keys...)
			l, err := tx.edit(role.Role)
			if err != nil {
				return err
			}
			l.renewed = true
		}
		if c.Hold != nil && slices.ContainsFunc(c.Hold.Keys.Keys, func(k tuf.Key) bool { return slices.Contains(keys, k) }) {
			if _, err := tx.edit(c.Hold.Role); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("repo: no role of party %s", text.Quote(party))
	}
	return nil
}

// RenewTargets signs targets.json again with a later date, before it expires:
// stock TUF clients need it.
func (tx *Tx) RenewTargets() error {
	_, err := tx.edit("targets")
	return err
}
