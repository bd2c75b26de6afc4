package repo

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/tuf"
)

// Tx collects changes. It is valid within the function it was handed to.
type Tx struct {
	ctx     context.Context
	repo    *Repo
	present *present
	root    *Root
	roles   map[string]*metadata.Metadata[metadata.TargetsType] // changed roles
}

// Root returns what the next root shall say, for editing. A new root comes to
// be only where something was changed.
func (tx *Tx) Root() *Root {
	if tx.root == nil {
		tx.root = &Root{}
		if tx.present.root != nil {
			tx.root = rootOf(tx.present.root)
		}
	}
	return tx.root
}

// RenewRoot makes a new root even where nothing but its date changes.
func (tx *Tx) RenewRoot() { tx.Root().renew = true }

// Add puts a file into storage and lists it in the party's role, with its
// release fields; rel may be nil for a plain file. The path's directory must be
// in a class. Where rel.Sequence is 0 it is set to the next one. The file is
// read twice, once to name it by its hash and once to store it, and never held
// in memory. Until another party lists it too, no client takes it.
func (tx *Tx) Add(party, target string, file io.ReadSeeker, rel *tuf.Release) error {
	class, role, err := tx.role(party, target)
	if err != nil {
		return err
	}
	if err := checkRelease(rel); err != nil {
		return fmt.Errorf("repo: %s: %w", target, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("repo: %s: %w", target, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, &ctxReader{ctx: tx.ctx, r: file})
	if err != nil {
		return fmt.Errorf("repo: %s: %w", target, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("repo: %s: %w", target, err)
	}
	sum := h.Sum(nil)
	entry := &metadata.TargetFiles{Length: n, Hashes: metadata.Hashes{"sha256": sum}}
	if rel != nil {
		copied := *rel
		if copied.Sequence == 0 {
			copied.Sequence = tx.nextSequence(class, &copied)
		}
		custom, err := json.Marshal(map[string]any{tuf.ReleaseMember: copied})
		if err != nil {
			return err
		}
		entry.Custom = (*json.RawMessage)(&custom)
	}
	// What is stored must be what was hashed, should the file change under our hands.
	again := sha256.New()
	if err := tx.repo.storage.Create(tx.ctx, TargetName(target, hex.EncodeToString(sum)), io.TeeReader(&sameFile{file, again, sum}, again)); err != nil {
		return fmt.Errorf("repo: %s: %w", target, err)
	}
	md, err := tx.edit(role)
	if err != nil {
		return err
	}
	md.Signed.Targets[target] = entry
	return nil
}

// checkRelease refuses what clients would not understand.
func checkRelease(rel *tuf.Release) error {
	if rel != nil && (rel.Product == "" || rel.Version == "" || rel.Channel == "" || rel.Sequence < 0 ||
		rel.Platform != "any" && strings.Count(rel.Platform, "/") != 1) {
		return errors.New("a release needs product, version, channel and a platform GOOS/GOARCH or any")
	}
	return nil
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

// TargetName is where a target's file is stored and served: the path with its
// sha256 (lower-case hex) before the last element.
func TargetName(target, sha256 string) string {
	dir, base := path.Split(target)
	return "targets/" + dir + sha256 + "." + base
}

// nextSequence is one more than the highest that any role of the class lists
// for the product, channel and platform.
func (tx *Tx) nextSequence(class Class, rel *tuf.Release) int64 {
	var top int64
	for _, role := range class.Roles {
		md := tx.read(role.Role)
		if md == nil {
			continue
		}
		for _, t := range md.Signed.Targets {
			if have, ok := releaseOf(t); ok && have.Product == rel.Product && have.Channel == rel.Channel && have.Platform == rel.Platform {
				top = max(top, have.Sequence)
			}
		}
	}
	return top + 1
}

// Approve lists a path in the party's role exactly as the other parties list
// it. They must all list it, and agree.
func (tx *Tx) Approve(party, target string) error {
	class, role, err := tx.role(party, target)
	if err != nil {
		return err
	}
	var entry *metadata.TargetFiles
	for _, other := range class.Roles {
		if other.Party == party {
			continue
		}
		md := tx.read(other.Role)
		if md == nil || md.Signed.Targets[target] == nil {
			return fmt.Errorf("repo: %s: %s does not list it: %w", target, other.Role, tuf.ErrNoTarget)
		}
		t := md.Signed.Targets[target]
		if entry != nil {
			if differs, err := differ(entry, t); err != nil || differs {
				return fmt.Errorf("repo: %s: the other parties disagree about it: %w", target, tuf.ErrNotApproved)
			}
		}
		entry = t
	}
	md, err := tx.edit(role)
	if err != nil {
		return err
	}
	md.Signed.Targets[target] = entry
	return nil
}

// Remove takes a path off the party's role. Clients no longer install it; the
// file stays in storage.
func (tx *Tx) Remove(party, target string) error {
	_, role, err := tx.role(party, target)
	if err != nil {
		return err
	}
	md, err := tx.edit(role)
	if err != nil {
		return err
	}
	if md.Signed.Targets[target] == nil {
		return fmt.Errorf("repo: %s: %s does not list it: %w", target, role, tuf.ErrNoTarget)
	}
	delete(md.Signed.Targets, target)
	return nil
}

// Resign signs the party's roles again with a later date, before they expire.
func (tx *Tx) Resign(party string) error {
	found := false
	for _, c := range tx.layout().Classes {
		for _, role := range c.Roles {
			if role.Party == party {
				found = true
				if _, err := tx.edit(role.Role); err != nil {
					return err
				}
			}
		}
	}
	if !found {
		return fmt.Errorf("repo: no role of party %q", party)
	}
	return nil
}

// ResignTargets signs targets.json again with a later date, before it expires:
// stock TUF clients need it.
func (tx *Tx) ResignTargets() error {
	_, err := tx.edit("targets")
	return err
}

// layout is the root as it will be.
func (tx *Tx) layout() *Root {
	if tx.root != nil {
		return tx.root
	}
	if tx.present.root != nil {
		return rootOf(tx.present.root)
	}
	return &Root{}
}

// role finds the party's role of the class that a target path belongs to.
func (tx *Tx) role(party, target string) (Class, string, error) {
	if err := errors.Join(CheckName("targets/"+target), CheckName(TargetName(target, strings.Repeat("0", 64)))); err != nil {
		return Class{}, "", err
	}
	for _, c := range tx.layout().Classes {
		if !strings.HasPrefix(target, c.Prefix) {
			continue
		}
		for _, role := range c.Roles {
			if role.Party == party {
				return c, role.Role, nil
			}
		}
		return Class{}, "", fmt.Errorf("repo: %s: class %s has no role of party %q", target, c.Name, party)
	}
	return Class{}, "", fmt.Errorf("repo: %s: the path is in no class: %w", target, tuf.ErrNoTarget)
}

// read returns a role as it stands within tx, nil where there is none yet.
func (tx *Tx) read(role string) *metadata.Metadata[metadata.TargetsType] {
	if md, ok := tx.roles[role]; ok {
		return md
	}
	return tx.present.roles[role]
}

// edit returns a copy of a role for changing.
func (tx *Tx) edit(role string) (*metadata.Metadata[metadata.TargetsType], error) {
	if md, ok := tx.roles[role]; ok {
		return md, nil
	}
	md := metadata.Targets()
	if old := tx.present.roles[role]; old != nil {
		data, err := old.ToBytes(false)
		if err != nil {
			return nil, err
		}
		if md, err = metadata.Targets().FromBytes(data); err != nil {
			return nil, err
		}
	}
	tx.roles[role] = md
	return md, nil
}

// releaseOf reads the release fields of a target.
func releaseOf(t *metadata.TargetFiles) (tuf.Release, bool) {
	var custom struct {
		Visum *tuf.Release `json:"visum"`
	}
	if t.Custom == nil || json.Unmarshal(*t.Custom, &custom) != nil || custom.Visum == nil {
		return tuf.Release{}, false
	}
	return *custom.Visum, true
}

func newRepoID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}
