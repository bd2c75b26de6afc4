package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// present is the repository as it is published.
type present struct {
	chain     *chain
	root      *tuf.Root // newest; nil in an empty repository
	timestamp []byte    // nil before the first content
	snapshot  []byte
	ts        *tuf.Timestamp
	snap      *tuf.Snapshot
	under     *tuf.Root // the root that the content was published under
	book      *book     // the ledger's document, as it was when this was read; nil for an empty storage
}

// load reads the repository from the trust anchor on and verifies all but dates:
// what has expired is there to be renewed. Where another process publishes or
// prunes meanwhile, it reads again.
func (r *Repo) load(ctx context.Context) (*present, error) {
	var before []byte // the timestamp at the time before
	for n := range maxReads {
		p := &present{}
		err := r.loadOnce(ctx, p)
		if err == nil {
			r.note(ctx, p)
			return p, nil
		}
		// A fault of the storage is the caller's to hear of.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, tuf.ErrUntrusted) {
			return nil, err
		}
		if p.timestamp == nil { // it was not read yet
			now, again := r.storage.Read(ctx, timestampName)
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

// moved reports whether something was published since p was read.
func (r *Repo) moved(ctx context.Context, p *present) (bool, error) {
	now, err := r.storage.Read(ctx, timestampName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if !bytes.Equal(now, p.timestamp) || p.root == nil {
		return !bytes.Equal(now, p.timestamp), nil
	}
	_, err = r.storage.Read(ctx, rootName(p.root.Version()+1))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// read returns a metadata file that p lists. Where it is gone because p is no
// longer what is published, the error wraps [ErrConflict].
func (r *Repo) read(ctx context.Context, p *present, f tuf.RoleFile) ([]byte, error) {
	name := roleName(f.Role, f.Version)
	data, err := r.storage.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		if moved, again := r.moved(ctx, p); again == nil && moved {
			return nil, fmt.Errorf("repo: %s is gone: %w", text.Name(name), ErrConflict)
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
	if len(p.chain.roots) == 0 {
		if a.book != nil && a.book.body.Published {
			return a.differs(p.chain, a.book.points()[0])
		}
		return nil
	}
	p.root = p.chain.last()
	if p.root.Charter() == nil {
		return fmt.Errorf("repo: %w", errNoCharter)
	}
	// What has decided where the chain ends, or the two might not fit together.
	if p.timestamp = p.chain.timestamp; p.timestamp == nil {
		if p.timestamp, err = r.storage.Read(ctx, timestampName); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	// A publish may have been cut off between a new root and its content: then
	// the content is still that of an older root.
	var why error
	for _, root := range slices.Backward(p.chain.roots) {
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
	if p.chain.junk != nil {
		return fmt.Errorf("repo: what is published fits no root: %w; perhaps for this: %w", why, p.chain.junk)
	}
	return fmt.Errorf("repo: what is published fits no root: %w", why)
}

// loadContent opens what is published under root, whatever its dates.
func (r *Repo) loadContent(ctx context.Context, p *present, root *tuf.Root) error {
	var err error
	if p.ts, err = root.Timestamp(p.timestamp, nil, longAgo); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	f := p.ts.SnapshotFile()
	if p.snapshot, err = r.storage.Read(ctx, roleName(f.Role, f.Version)); err != nil {
		return err
	}
	if p.snap, err = p.ts.Snapshot(p.snapshot, nil); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return openRoles(p.snap, func(f tuf.RoleFile) ([]byte, error) { return r.storage.Read(ctx, roleName(f.Role, f.Version)) })
}

// openRoles opens what a snapshot lists of the roles that root names, as a
// client would: targets, the parties' roles and the holds.
func openRoles(snap *tuf.Snapshot, get tuf.Fetch) error {
	if _, err := snap.Role("targets", get); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if err := snap.OpenRoles(get); err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	return nil
}

// listed returns the version of a role that the snapshot lists, 0 where none.
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

// serves reports whether the present timestamp and snapshot are good under a
// root: whether its keys signed them and its floors let them pass.
func (p *present) serves(root *tuf.Root) bool {
	ts, err := root.Timestamp(p.timestamp, nil, longAgo)
	if err != nil {
		return false
	}
	_, err = ts.Snapshot(p.snapshot, nil)
	return err == nil
}

// floors are the versions that are published.
func (p *present) floors() tuf.Floors {
	if p.snap == nil {
		return tuf.Floors{}
	}
	return tuf.Floors{Timestamp: p.ts.Version(), Snapshot: p.snap.Version(), Targets: p.listed("targets")}
}

// note records what a call has read, where it is newer than what the ledger has
// seen of roots and of the roles that it has records of: a signer does not go
// behind that any more. It is best effort: each signing checks and records again.
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
		if env, err := openEnvelope(p.snap.RoleBytes(x.role)); err == nil {
			contents[x.role] = bookContent{Version: version, SHA256: sum256(env.signed)}
		}
	}
	root := p.chain.at(p.chain.ordinary)
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

// freeVersion returns the first version from n on whose file is not there. A
// publish that was killed may have left one that nothing lists. Files are only
// asked for, not read: what a storage says is not believed any further.
func (r *Repo) freeVersion(ctx context.Context, role string, n int64) (int64, error) {
	src := storage.SourceOf(r.storage)
	for range maxSkip {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		there, _, err := storage.Stat(ctx, src, roleName(role, n))
		if err != nil {
			return 0, err
		}
		if !there {
			return n, nil
		}
		n++
	}
	return 0, fmt.Errorf("repo: %s: %w: files of the %d versions before v%d, which nothing lists; remove them", roleText(role), fs.ErrExist, maxSkip, n)
}

// loadFor loads the repository for a draft that shall be published. Who was killed
// while one recovery replaced another left something that nobody can open without
// the rest of it, which the draft has.
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
	says, saysErr := readRecovery(d.recovery)
	if chainErr != nil || saysErr != nil {
		return nil, err
	}
	tip, tipErr := c.recoverable(says.Tip.Version)
	if tipErr != nil {
		return nil, err
	}
	f, _ := recoveryAfter(tip) // without a rule nothing comes of it
	f.data = [2][]byte{d.recovery.bytes(), d.files["root"].bytes()}
	return r.with(recoveryOver{r.storage, f}).load(ctx)
}

// recoveryOver is a storage as it will be when a recovery has been written.
type recoveryOver struct {
	Storage
	files recoveryFiles
}

func (s recoveryOver) Read(ctx context.Context, name string) ([]byte, error) {
	for i := range s.files.names {
		if name == s.files.names[i] {
			return bytes.Clone(s.files.data[i]), nil
		}
	}
	return s.Storage.Read(ctx, name)
}

// healing is the handle for a draft that heals a fork; r itself for any other.
func (r *Repo) healing(d *Draft) *Repo {
	if len(d.heals) == 0 {
		return r
	}
	out := *r
	out.heals = d.heals
	return &out
}
