package repo

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/visum-dev/visum/internal/ctxio"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Add stores a file and lists it in the party's role with its release data. rel is nil
// for a target without release data. The path must be below the prefix of a class. Add
// reads the file twice, once to hash it and once to store it, and never holds it in
// memory. Clients accept the file only after the other parties list it too.
//
// Leave rel.Sequence 0: Add assigns the sequence number. A new version of a product gets
// the next higher number, and all channels and platforms of the version share it.
// Versions that compare equal are the same version. If rel.Sequence is neither 0 nor
// the number to be assigned, the error wraps [signing.ErrSequence].
//
// Add refuses files that clients could not use, before it stores anything: release
// fields that [tuf.Release.Check] refuses, with its error; and, with [fs.ErrInvalid],
// paths that not all clients can fetch: with % or #, with more than 7 directories below
// the class's prefix, or with a last element of more than 182 bytes, which would make
// the name of a review statement too long. The error wraps [ErrReleased] if other bytes
// are listed for the same product, version, channel and platform; remove them first,
// which may be in the same draft.
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
	entry, err := rolelist.NewEntry(n, sum, rel)
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	// The stored bytes must be the hashed ones, even if the file changes in between.
	again := sha256.New()
	if err := tx.repo.storage.Create(storage.WithProgress(tx.ctx, tx.repo.progress), layout.TargetName(target, hex.EncodeToString(sum)), io.TeeReader(&sameFile{counted, again, sum}, again)); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return tx.list(roles, target, entry)
}

// sameFile is a reader that fails at the end unless its bytes have the wanted hash.
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
		err = nil // the hash is checked at the next read, when it has all bytes
	}
	return n, err
}

// Remove removes a path from the party's role. Clients no longer install it. The file
// stays in storage until [Repo.Prune].
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

// Renew signs all roles of the party again with a later expiry. It includes their hash
// bins, the products that have the same keys, and the hold roles that list a key of the
// party.
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
			l.Renewed = true
		}
		if c.Hold != nil && slices.ContainsFunc(c.Hold.Keys.Keys, func(k tuf.Key) bool { return slices.Contains(keys, k) }) {
			if _, err := tx.edit(c.Hold.Role); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("repo: party %s has no role", text.Quote(party))
	}
	return nil
}

// RenewTargets signs targets.json, which standard TUF clients require, again with a
// later expiry.
func (tx *Tx) RenewTargets() error {
	_, err := tx.edit("targets")
	return err
}

// counter counts the bytes read from a reader.
type counter struct {
	r    io.Reader
	n    int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.n += int64(n); n > 0 {
		c.tell(c.n)
	}
	return n, err
}
