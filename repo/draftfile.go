package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/visum-dev/visum/internal/durable"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/walk"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Merge adds the signatures of another copy of the draft, so that several people can
// sign copies at the same time. The error is [ErrOtherDraft] if the copies differ in
// anything except signatures, [ErrSignature] if a signature does not verify, and
// [ErrNoPart] if a key that may not sign the file made a signature that d lacks. After an
// error d is unchanged.
func (d *Draft) Merge(other *Draft) (err error) {
	defer text.OneLine(&err)
	parts := d.parts()
	if !slices.EqualFunc(parts, other.parts(), func(a, b *draftFile) bool { return a.role == b.role }) {
		return fmt.Errorf("repo: merge: %w: one has %s, the other %s", ErrOtherDraft, d, other)
	}
	if !slices.EqualFunc(d.heals, other.heals, sameFork) {
		return fmt.Errorf("repo: merge: %w: they heal different forks", ErrOtherDraft)
	}
	for name, s := range d.statements {
		if o := other.statements[name]; o == nil || string(s.payload) != string(o.payload) {
			return fmt.Errorf("repo: merge: %w: %s differ", ErrOtherDraft, roleText(name))
		}
	}
	for _, f := range parts {
		role, o := f.role, other.part(f.role)
		if string(f.signed) != string(o.signed) || f.base != o.base || !reflect.DeepEqual(f.signers, o.signers) {
			return fmt.Errorf("repo: merge: %w: %s v%d and v%d differ", ErrOtherDraft, roleText(role), f.version, o.version)
		}
		for id, sig := range o.sigs {
			if f.sigs[id] == sig {
				continue
			}
			if err := o.checkSignature(id); err != nil {
				return fmt.Errorf("repo: merge: %w", err)
			}
		}
	}
	for _, f := range parts {
		maps.Copy(f.sigs, other.part(f.role).sigs)
	}
	return nil
}

// DropInvalid removes the signatures that do not verify with a key that may sign the
// file, and returns their number. Merge refuses copies with such signatures, so call it
// for drafts from a place to which others can write.
func (d *Draft) DropInvalid() (n int) {
	for _, f := range d.parts() {
		for _, id := range slices.Collect(maps.Keys(f.sigs)) {
			if f.checkSignature(id) != nil {
				delete(f.sigs, id)
				n++
			}
		}
	}
	return n
}

// draftName is the name of a draft's file in a directory.
const draftName = "draft.json"

// maxDraft is the maximum size of a draft, 512 MiB: the lists of a million targets.
const maxDraft = 512 << 20

// Save writes the draft to a file, or to draft.json in path if path is a directory. It
// replaces the file atomically. [Repo.Export] writes a directory with everything that a
// signer needs to review the draft.
func (d *Draft) Save(path string) error {
	data, err := d.Bytes()
	if err != nil {
		return fmt.Errorf("repo: draft: %w", err)
	}
	if err := durable.WriteFile(draftPath(path), data, 0o644); err != nil {
		return fmt.Errorf("repo: draft: %w", err)
	}
	return nil
}

// LoadDraft reads a file of [Draft.Save] with the checks of [OpenDraft]. The file must be
// regular and have at most 512 MiB.
func LoadDraft(path string) (_ *Draft, err error) {
	defer text.OneLine(&err)
	path = draftPath(path)
	info, err := os.Stat(path) // before opening, because opening a named pipe blocks
	if err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("repo: draft: %s: not a regular file: %w", text.Name(path), fs.ErrInvalid)
	}
	if info.Size() > maxDraft {
		return nil, fmt.Errorf("repo: draft: %s: %w: %d bytes, at most %d", text.Name(path), tuf.ErrTooLarge, info.Size(), maxDraft)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	defer f.Close()
	data := make([]byte, info.Size()) // allocated once: a growing buffer needs twice the memory
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("repo: draft: %w", err)
	}
	return OpenDraft(data)
}

func draftPath(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, draftName)
	}
	return path
}

// Export writes a directory for a signer without access to the repository. It has the
// layout of a location, with the roots, the published metadata, the target files that the
// draft newly lists, the review statements of all listed targets, and the draft for
// [LoadDraft]. The signer opens it with [New] and [Folder], compares it with [Repo.Diff],
// and examines the files. dir is created if necessary, and may be an earlier export.
func (r *Repo) Export(ctx context.Context, d *Draft, dir string) (err error) {
	defer text.OneLine(&err)
	x, err := r.compareTo(ctx, d, false)
	if err != nil {
		return err
	}
	var first *tuf.Root
	p := x.tx.present
	if p.root != nil {
		first = p.chain.Roots[0]
	}
	c := walk.NewCopier(storage.SourceOf(r.storage), Folder(dir), r.tufOptions(), first)
	c.Progress = r.progress
	if first != nil {
		c.Walker.RootsOnly, c.Walker.Found, c.Walker.Role = p.snap == nil, faultInExport, c.StatementsOf
		c.Walker.Opened = func(ctx context.Context, timestamp, snapshot []byte) error {
			if !bytes.Equal(timestamp, p.timestamp) { // another state than the draft was compared with
				return fmt.Errorf("%s: %w", layout.TimestampName, ErrConflict)
			}
			return c.Opened(ctx, timestamp, snapshot)
		}
		if err := c.Run(ctx); err != nil {
			return fmt.Errorf("repo: %w", err)
		}
	}
	for _, top := range slices.Sorted(maps.Keys(x.top)) {
		for _, f := range x.top[top].found {
			if f.new == nil {
				continue
			}
			entry, err := metafile.ParseTarget(f.path, f.new)
			if err = cmp.Or(err, entry.Unstorable); err != nil {
				return fmt.Errorf("repo: %s: %s: %w", roleText(top), text.Name(f.path), err)
			}
			if err := c.Target(ctx, entry); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // the file of a hold may be removed already
			}
			if c.Walker != nil { // the earlier statements about the target
				if err := c.Statements(ctx, entry); err != nil {
					return err
				}
			}
		}
	}
	if err := durable.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return d.Save(dir)
}

// NewTargets returns the targets that a draft newly lists, sorted by path: what clients
// find when the draft is published and do not find now, or find with another entry. The
// signatures of the draft are not verified; [Repo.PendingIn] verifies them. If the draft
// does not follow the published metadata, the error wraps [ErrStale] or [ErrPublished].
func (r *Repo) NewTargets(ctx context.Context, d *Draft) (_ []Target, err error) {
	defer text.OneLine(&err)
	x, err := r.compareTo(ctx, d, false)
	if err != nil {
		return nil, err
	}
	var out []Target
	seen := map[string]bool{} // by name, which has the path and the hash
	for _, top := range slices.Sorted(maps.Keys(x.top)) {
		for _, f := range x.top[top].found {
			if f.new == nil || x.top[top].holds {
				continue
			}
			t, err := listedAs(f.path, f.new)
			if err != nil {
				return nil, err
			}
			if !seen[t.Name] {
				seen[t.Name] = true
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, func(a, b Target) int { return cmp.Compare(a.Path, b.Path) })
	return out, nil
}

// faultInExport ignores invalid recovery files, because the draft may replace them.
func faultInExport(f walk.Fault) error {
	if strings.HasPrefix(f.Name, layout.RecoveryFolder) {
		return nil
	}
	return walk.FirstFault(f)
}
