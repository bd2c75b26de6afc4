package repo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/fingerprint"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// Adopt fills an empty ledger from the published metadata, which it verifies from the
// trust anchor. It is for a signer that has lost its ledger, or that joins an existing
// repository. digest is a value that two people have compared: the error that wraps
// [signing.ErrNoLedger] contains it on this machine, and [Repo.AdoptDigest] returns it on
// another one. It covers the newest root and, for each role of the own party
// ([Config].Party), its name, version and sha256. The error wraps [ErrOtherDraft] if
// digest differs from the published metadata, and [signing.ErrLedger] if the ledger is not
// empty. Short-lived machines should not adopt, but use or import the ledger of their
// party.
func (r *Repo) Adopt(ctx context.Context, digest string) error {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return err
	}
	roles, err := r.ownRoles(ctx, p)
	if err != nil {
		return err
	}
	if have := digestOf(p, roles); have != digest {
		return fmt.Errorf("repo: %w: the published metadata has digest %s, want %s", ErrOtherDraft, have, text.Quote(digest))
	}
	return r.change(ctx, p.root.Charter().RepoID(), func(b *book) error {
		if !b.empty() {
			return fmt.Errorf("repo: %w: it already has records of this repository, up to root v%d", signing.ErrLedger, b.body.Root.Version)
		}
		b.adopt(p, roles)
		return nil
	})
}

// adopt records the published roots and roles.
func (b *book) adopt(p *present, roles []ownRole) {
	b.seeRoots(p.chain)
	for _, x := range roles {
		b.see(x.role, x.keys, x.version, x.signed, true)
	}
	b.seeOnline(p)
}

// seeOnline records the published timestamp and snapshot.
func (b *book) seeOnline(p *present) {
	if p.snap == nil || p.under == nil {
		return
	}
	layout := rootOf(p.under)
	for _, x := range []struct {
		role    string
		keys    []tuf.Key
		version int64
		data    []byte
	}{{"timestamp", layout.Timestamp.Keys, p.ts.Version(), p.timestamp}, {"snapshot", layout.Snapshot.Keys, p.snap.Version(), p.snapshot}} {
		env, err := metafile.Open(x.data)
		if err != nil {
			continue // not possible: the file is verified, so it has a signed part
		}
		b.see(x.role, x.keys, x.version, env.Signed, false)
	}
}

// AdoptDigest returns the digest of the published metadata that [Repo.Adopt] requires.
func (r *Repo) AdoptDigest(ctx context.Context) (string, error) {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return "", err
	}
	return r.adoptDigest(ctx, p)
}

func (r *Repo) adoptDigest(ctx context.Context, p *present) (string, error) {
	roles, err := r.ownRoles(ctx, p)
	if err != nil {
		return "", err
	}
	return digestOf(p, roles), nil
}

// digestOf is the digest of the newest root and of the own roles.
func digestOf(p *present, roles []ownRole) string {
	parts := []string{"visum ledger", p.root.Charter().RepoID(), fmt.Sprint(p.root.Version()), p.root.SHA256()}
	for _, x := range roles {
		parts = append(parts, x.role, fmt.Sprint(x.version), metafile.SHA256(x.signed))
	}
	return fingerprint.New(parts...)
}

// ownRole is a published role with its signed part.
type ownRole struct {
	role    string
	keys    []tuf.Key
	version int64
	signed  wire.Value
}

// ownRoles returns the published roles in order of names, except hash bins, which belong
// to the role that delegates to them. If Config.Party is set, only roles of that party
// are included.
func (r *Repo) ownRoles(ctx context.Context, p *present) (out []ownRole, err error) {
	if p.snap == nil {
		return nil, nil
	}
	everyBin := func(named) bool { return true }
	err = r.eachList(ctx, p, everyBin, func(x named, _ string, t *tuf.Targets, _ time.Time, _ int) error {
		if r.cfg.Party != "" && x.party != r.cfg.Party && !r.holds(p.root, x) {
			return nil
		}
		env, err := metafile.Open(t.Bytes())
		if err == nil {
			out = append(out, ownRole{x.role, x.keys.Keys, t.Version(), env.Signed})
		}
		return err
	})
	slices.SortFunc(out, func(a, b ownRole) int {
		if a.role < b.role {
			return -1
		}
		return 1
	})
	return out, err
}

// holds reports whether x is a hold role that lists a key of the own party.
func (r *Repo) holds(root *tuf.Root, x named) bool {
	if x.party != "" || x.class == "" {
		return false
	}
	for _, c := range rootOf(root).Classes {
		for _, role := range c.Roles {
			if role.Party == r.cfg.Party && slices.ContainsFunc(role.Keys.Keys, func(k tuf.Key) bool { return slices.Contains(x.keys.Keys, k) }) {
				return true
			}
		}
	}
	return false
}

// ExportLedger returns this signer's ledger of the repository, to be imported by another
// signer of the same party with [Repo.ImportLedger]. The caller owns the slice.
func (r *Repo) ExportLedger(ctx context.Context) ([]byte, error) {
	b, err := r.ledgerOf(ctx)
	if err != nil {
		return nil, err
	}
	if b.empty() {
		return nil, fmt.Errorf("repo: %w", signing.ErrNoLedger)
	}
	return b.bytes()
}

// ledgerOf returns the ledger's document of the repository in the storage.
func (r *Repo) ledgerOf(ctx context.Context) (*book, error) {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return nil, err
	}
	return r.loadBook(ctx, p.root.Charter().RepoID())
}

// ImportLedger adds the records of another signer of the same party: seen and signed
// content, recalls, refusals and holds. An empty ledger becomes a copy. No existing
// record is dropped. The newest root in data must be in the published chain; otherwise
// the error wraps [signing.ErrRootBehind]. Import only ledgers of the own party, because the
// records decide which requests this signer refuses.
func (r *Repo) ImportLedger(ctx context.Context, data []byte) error {
	p, err := r.loadPublished(ctx)
	if err != nil {
		return err
	}
	other, err := openBook(data, p.root.Charter().RepoID())
	if err != nil {
		return err
	}
	if other.empty() {
		return fmt.Errorf("repo: %w: the ledger to be imported has no records", signing.ErrNoLedger)
	}
	if err := (&anchor{book: other, points: other.points()}).check(p.chain); err != nil {
		return err
	}
	return r.change(ctx, p.root.Charter().RepoID(), func(b *book) error {
		b.merge(other)
		b.seeRoots(p.chain)
		return nil
	})
}

// merge adds the records of another book of the same repository.
func (b *book) merge(other *book) {
	if b.body.Root == nil {
		b.body.Root, b.body.Published, b.body.Recovered = other.body.Root, other.body.Published, other.body.Recovered
	}
	for name, o := range other.body.Roles {
		r := b.role(name)
		if len(r.Keys) == 0 {
			r.Keys = o.Keys
		}
		r.Floor = max(r.Floor, o.Floor)
		for _, s := range o.Signed {
			if same, _ := r.signedBefore(s.Version, s.SHA256); !same {
				r.Signed = append(r.Signed, s)
			}
		}
		slices.SortStableFunc(r.Signed, func(a, b bookSigned) int { return int(min(max(a.Version-b.Version, -1), 1)) })
		if o.Seen != nil && (r.Seen == nil || o.Seen.Version > r.Seen.Version) {
			r.Seen = o.Seen
		}
		if h := o.high(); h != nil && (r.high() == nil || h.Version > r.high().Version) {
			r.High = &bookContent{Version: h.Version, SHA256: h.SHA256}
		}
		if o.Newest != nil && (r.Newest == nil || o.Newest.Version > r.Newest.Version) {
			r.Newest = o.Newest
		}
	}
	for _, t := range other.body.TakenBack {
		b.take(t)
	}
	for _, c := range other.body.Checkpoints {
		b.checkpoint(c)
	}
}

// checkpoint records a signed tree head of a log. It keeps the largest one of each log.
func (b *book) checkpoint(c signing.Checkpoint) {
	for i, have := range b.body.Checkpoints {
		if have.Origin == c.Origin {
			if c.Size > have.Size {
				b.body.Checkpoints[i] = c
			}
			return
		}
	}
	b.body.Checkpoints = append(b.body.Checkpoints, c)
}
