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
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Merge takes over the signatures of another copy of the draft, so that people
// sign their copies at the same time. Copies say the same in every byte but the
// signatures; otherwise the error is [ErrOtherDraft]. A signature that does not
// verify is [ErrSignature], one by a key that has no part in its file, unless d
// has the same, [ErrNoPart]. After an error d is as it was.
func (d *Draft) Merge(other *Draft) (err error) {
	defer oneLine(&err)
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

// draftName is the draft's file in a folder.
const draftName = "draft.json"

// maxDraft bounds a draft that is read, 512 MiB: the lists of a million targets.
const maxDraft = 512 << 20

// Save writes the draft to a file, or where path is a folder to draft.json in
// it; see [Repo.Export] for a folder with all that a signer wants to look at. The
// file is there whole, or as it was before.
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

// LoadDraft reads what [Draft.Save] wrote, as strictly as [OpenDraft]: at most
// 512 MiB, from a regular file.
func LoadDraft(path string) (_ *Draft, err error) {
	defer oneLine(&err)
	path = draftPath(path)
	info, err := os.Stat(path) // opening a named pipe would wait
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
	data := make([]byte, info.Size()) // at once: a buffer that grows holds it twice
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

// Export writes a folder that travels to a signer who has no access to the
// repository: laid out as a location, with the roots, the metadata that is
// published, the target files that the draft lists anew, and what reviewers have
// said of these and of all that is listed; and the draft, for [LoadDraft]. There, [New] with [Folder] of it reads what is published, [Repo.Diff]
// says what the draft changes, and the files can be examined. dir may be there,
// of an earlier export; it is made where it is not.
func (r *Repo) Export(ctx context.Context, d *Draft, dir string) (err error) {
	defer oneLine(&err)
	x, err := r.compareTo(ctx, d, false)
	if err != nil {
		return err
	}
	out := r.with(Folder(dir))
	c := &cloning{repo: out, from: storage.SourceOf(r.storage), to: storage.SourceOf(out.storage), seen: map[[16]byte]bool{}, anchor: &anchor{}}
	if p := x.tx.present; p.root != nil {
		root := p.chain.roots[0]
		c.anchor.points = []point{{version: root.Version(), sha256: root.SHA256(), whose: "pin"}}
		c.walker = &walker{src: c.from, opt: r.judge(), rootsOnly: p.snap == nil, found: foundInExport,
			opened: func(timestamp, snapshot []byte) error {
				if !bytes.Equal(timestamp, p.timestamp) { // the draft was compared with an older one
					return fmt.Errorf("repo: %s: %w", timestampName, ErrConflict)
				}
				return c.opened(ctx, timestamp, snapshot)
			},
			meta:     func(name string, data []byte) error { return c.metadata(ctx, name, data) },
			role:     func(_ string, t *tuf.Targets) error { return c.statementsOf(ctx, t) },
			recovery: func(f recoveryFiles) error { return c.recovery(ctx, f) }}
		if err := c.walker.conflict(ctx, c.walker.run(ctx, root)); err != nil {
			return err
		}
	}
	for _, top := range slices.Sorted(maps.Keys(x.top)) {
		for _, f := range x.top[top].found {
			if f.new == nil {
				continue
			}
			entry, err := parseListed(f.path, f.new)
			if err = cmp.Or(err, entry.unstorable); err != nil {
				return fmt.Errorf("repo: %s: %s: %w", roleText(top), text.Name(f.path), err)
			}
			if err := c.target(ctx, entry); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // a hold's entry may be of a file that is gone
			}
			if c.walker != nil { // what was said of it before, for whoever says more
				if err := c.statements(ctx, entry); err != nil {
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

// statementsOf fetches what reviewers have stated of what a role lists: what waits in
// the folder is more than what the draft adds, and some of it was refused.
func (c *cloning) statementsOf(ctx context.Context, t *tuf.Targets) error {
	targets, err := memberOf(t, "targets")
	if err != nil {
		return err
	}
	for path, v := range targets.Members() {
		x, err := parseListed(path.String(), v)
		if key := short(x.name, x.sha512); err == nil && !c.seen[key] { // what is malformed is approved by nobody
			c.seen[key] = true
			if err := c.statements(ctx, x); err != nil {
				return err
			}
		}
	}
	return nil
}

// foundInExport passes over junk where a recovery would lie: the draft may be what
// replaces it.
func foundInExport(f Finding) error {
	if strings.HasPrefix(f.Name, recoveryFolder) {
		return nil
	}
	return foundIsError(f)
}
