package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// present is the published state of the repository.
type present struct {
	chain     *chain.Chain
	root      *tuf.Root // newest; nil in an empty repository
	timestamp []byte    // nil before the first content
	snapshot  []byte
	ts        *tuf.Timestamp
	snap      *tuf.Snapshot
	under     *tuf.Root // the root under which the content was published
	book      *book     // the ledger's document at the time of the read; nil for an empty storage
}

// load reads the repository and verifies it from the trust anchor, except expiries,
// because expired metadata must be renewable. If another process publishes or prunes
// during the read, load reads again.
func (r *Repo) load(ctx context.Context) (*present, error) {
	var before []byte // the timestamp of the previous read
	for n := range maxReads {
		p := &present{}
		err := r.loadOnce(ctx, p)
		if err == nil {
			r.note(ctx, p)
			return p, nil
		}
		// Return errors of the storage at once.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
		if p.timestamp == nil { // the read failed before the timestamp
			now, again := r.storage.Read(ctx, layout.TimestampName)
			if again != nil || n > 0 && bytes.Equal(now, before) {
				return nil, err
			}
			before = now
			continue
		}
		if moved, again := r.moved(ctx, p); again != nil || !moved {
			return nil, err
		}
	}
	return nil, errBusy
}

// loadPublished is load for calls that need a published root.
func (r *Repo) loadPublished(ctx context.Context) (*present, error) {
	p, err := r.load(ctx)
	if err == nil && p.root == nil {
		return nil, errEmpty
	}
	return p, err
}

// moved reports whether another state was published since p was read.
func (r *Repo) moved(ctx context.Context, p *present) (bool, error) {
	now, err := r.storage.Read(ctx, layout.TimestampName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !bytes.Equal(now, p.timestamp) || p.root == nil {
		return !bytes.Equal(now, p.timestamp), nil
	}
	_, err = r.storage.Read(ctx, layout.RootName(p.root.Version()+1))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read returns a metadata file that p lists. If the file was removed because another
// state was published, the error wraps [ErrConflict].
func (r *Repo) read(ctx context.Context, p *present, f tuf.RoleFile) ([]byte, error) {
	name := layout.RoleName(f.Role, f.Version)
	data, err := r.storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if moved, again := r.moved(ctx, p); again == nil && moved {
			return nil, fmt.Errorf("repo: %s does not exist any more: %w", text.Name(name), ErrConflict)
		}
	}
	return data, err
}

func (r *Repo) loadOnce(ctx context.Context, p *present) error {
	a, err := r.anchor(ctx)
	if err != nil {
		return err
	}
	p.book = a.book
	if p.chain, err = r.readChain(ctx, a); err != nil {
		return err
	}
	if len(p.chain.Roots) == 0 {
		if a.book != nil && a.book.body.Published {
			return a.differs(p.chain, a.book.points()[0])
		}
		return nil
	}
	p.root = p.chain.Last()
	if p.root.Charter() == nil {
		return fmt.Errorf("repo: %w", errNoCharter)
	}
	// Use the timestamp that decided where the chain ends, so that both are consistent.
	if p.timestamp = p.chain.Timestamp; p.timestamp == nil {
		if p.timestamp, err = r.storage.Read(ctx, layout.TimestampName); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	// After a publish that was interrupted between the new root and its content, the
	// content is still that of an older root.
	var why error
	for _, root := range slices.Backward(p.chain.Roots) {
		if err = r.loadContent(ctx, p, root); err == nil {
			p.under = root
			return nil
		}
		if !errors.Is(err, tuf.ErrUntrusted) {
			return err
		}
		if why == nil {
			why = err
		}
	}
	if p.chain.Invalid != nil {
		return fmt.Errorf("repo: the published metadata verifies under no root: %w; a possible cause: %w", why, p.chain.Invalid)
	}
	return fmt.Errorf("repo: the published metadata verifies under no root: %w", why)
}

// loadContent opens the content that is published under root, except expiries.
func (r *Repo) loadContent(ctx context.Context, p *present, root *tuf.Root) error {
	var err error
	if p.ts, err = root.Timestamp(p.timestamp, nil, chain.LongAgo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	f := p.ts.SnapshotFile()
	if p.snapshot, err = r.storage.Read(ctx, layout.RoleName(f.Role, f.Version)); err != nil {
		return err
	}
	if p.snap, err = p.ts.Snapshot(p.snapshot, nil); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return openRoles(p.snap, func(f tuf.RoleFile) ([]byte, error) { return r.storage.Read(ctx, layout.RoleName(f.Role, f.Version)) })
}

// openRoles opens the roles that root names and a snapshot lists, as a client would:
// targets, the parties' roles and the hold roles.
func openRoles(snap *tuf.Snapshot, get tuf.Fetch) error {
	if _, err := snap.Role("targets", get); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if err := snap.OpenRoles(get); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return nil
}

// listed returns the version of a role that the snapshot lists, 0 for none.
func (p *present) listed(role string) int64 {
	if p.snap == nil {
		return 0
	}
	f, err := p.snap.RoleFile(role)
	if err != nil {
		return 0
	}
	return f.Version
}

// serves reports whether the published timestamp and snapshot are valid under a root:
// its keys signed them, and they satisfy its version floors.
func (p *present) serves(root *tuf.Root) bool {
	ts, err := root.Timestamp(p.timestamp, nil, chain.LongAgo)
	if err != nil {
		return false
	}
	_, err = ts.Snapshot(p.snapshot, nil)
	return err == nil
}

// floors returns the published versions.
func (p *present) floors() tuf.Floors {
	if p.snap == nil {
		return tuf.Floors{}
	}
	return tuf.Floors{Timestamp: p.ts.Version(), Snapshot: p.snap.Version(), Targets: p.listed("targets")}
}

// note records the newest root and newer versions of recorded roles that a call has
// read, as protection against rollback. It is best effort, because each signature checks
// and records again.
func (r *Repo) note(ctx context.Context, p *present) {
	if r.cfg.Ledger == nil || p.book.empty() || p.snap == nil {
		return
	}
	contents := map[string]bookContent{}
	for _, x := range rootOf(p.under).lists() {
		have, version := p.book.body.Roles[x.role], p.listed(x.role)
		if have == nil || have.high() != nil && have.high().Version >= version {
			continue
		}
		if env, err := metafile.Open(p.snap.RoleBytes(x.role)); err == nil {
			contents[x.role] = bookContent{Version: version, SHA256: metafile.SHA256(env.Signed)}
		}
	}
	root := p.chain.At(p.chain.Regular)
	newer := func(b *book) bool {
		return b.body.Published && root != nil && !slices.ContainsFunc(b.points(), func(x point) bool { return x.version >= root.Version() })
	}
	if len(contents) == 0 && !newer(p.book) {
		return
	}
	_ = r.change(ctx, p.root.Charter().RepoID(), func(b *book) error {
		for role, c := range contents {
			if have := b.body.Roles[role]; have != nil && (have.high() == nil || have.high().Version < c.Version) {
				have.High = &c
			}
		}
		if newer(b) {
			b.body.HighRoot = &bookRoot{Version: root.Version(), SHA256: root.SHA256()}
		}
		return nil
	})
}

// freeVersion returns the first version from n on without a file in storage. An
// interrupted publish may have left a file that no snapshot lists. freeVersion checks
// only for existence, because the content of such files is not trusted.
func (r *Repo) freeVersion(ctx context.Context, role string, n int64) (int64, error) {
	if r.updates && r.warm.published.Load() {
		return n, nil
	}
	src := storage.SourceOf(r.storage)
	for range maxSkip {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		there, _, err := storage.Stat(ctx, src, layout.RoleName(role, n))
		if err != nil {
			return 0, err
		}
		if !there {
			return n, nil
		}
		n++
	}
	return 0, fmt.Errorf("repo: %s: %w: the files of the %d versions before v%d are unlisted; remove them", roleText(role), fs.ErrExist, maxSkip, n)
}

// loadFor loads the repository for a draft that is to be published. A process that died
// while one recovery replaced another left a state that can't be verified without the
// missing file, which the draft contains.
func (r *Repo) loadFor(ctx context.Context, d *Draft) (*present, error) {
	r = r.healing(d)
	p, err := r.load(ctx)
	if !errors.Is(err, tuf.ErrUntrusted) || d.recovery == nil || d.files["root"] == nil {
		return p, err
	}
	a, anchorErr := r.anchor(ctx)
	if anchorErr != nil {
		return nil, err
	}
	c, chainErr := r.readChain(ctx, a)
	statement, statementErr := readRecovery(d.recovery)
	if chainErr != nil || statementErr != nil {
		return nil, err
	}
	before, beforeErr := recoverable(c, statement.Tip.Version)
	if beforeErr != nil {
		return nil, err
	}
	f, _ := chain.RecoveryAfter(before) // without a recovery rule the load below fails again
	f.Data = [2][]byte{d.recovery.bytes(), d.files["root"].bytes()}
	return r.with(recoveryOver{r.storage, f}).load(ctx)
}

// recoveryOver is the storage with the files of a recovery added.
type recoveryOver struct {
	Storage
	files chain.Recovery
}

func (s recoveryOver) Read(ctx context.Context, name string) ([]byte, error) {
	for i := range s.files.Names {
		if name == s.files.Names[i] {
			return bytes.Clone(s.files.Data[i]), nil
		}
	}
	return s.Storage.Read(ctx, name)
}

// healing returns the handle for a draft that heals a fork; r for any other draft.
func (r *Repo) healing(d *Draft) *Repo {
	if len(d.heals) == 0 {
		return r
	}
	out := *r
	out.heals = d.heals
	return &out
}
