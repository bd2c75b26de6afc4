package repo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// Sign signs every file and statement of the draft for which the published root or the
// draft's root lists the key of s. A second signature by one key replaces the first. The
// error wraps [ErrNoPart] if there is nothing to sign with the key, which is then most
// likely the wrong one.
//
// The draft must have been opened or staged by a handle ([Repo.OpenDraft],
// [Repo.LoadDraft], [Repo.Stage]), whose trust anchor and ledger are used. Sign signs
// nothing if one of these rules is violated; the exception is in parentheses:
//
//   - K1 [signing.ErrRootBehind], [signing.ErrSecondContent]: the published root chain is older than, or
//     forks from, the newest root that the ledger has seen (a draft that heals the fork,
//     [Tx.Heal]); or another root of this version was signed before
//     ([Draft.Supersede]).
//   - K2 [signing.ErrSecondContent]: other content of a role was signed under its version.
//   - K3 [signing.ErrRoleBehind]: the published content of a role is older than, or differs
//     from, the content that the ledger has seen published ([Draft.Compromised]).
//   - K4 [signing.ErrTakenBack]: a role lists bytes that a recall or refusal of its party names
//     ([ReviewRecord].Reinstate), or lacks a hold that was signed.
//   - K5 [signing.ErrDate]: signed_at is ahead of this machine's clock by more than
//     [Config].ClockTolerance; the clock is behind signed_at of the published root
//     ([Draft.Supersede]); an expiry has passed; or a root or a party's role expires more
//     than an hour earlier than the version that it replaces ([Draft.ShorterExpiry]).
//   - [signing.ErrSequence]: a list of a party lowers the highest sequence number of a product.
//   - [tuf.ErrRelease]: a list of a party has new release fields that clients refuse.
//
// Sign records the signatures durably in the ledger before it makes any of them. First
// roots are signed with [Draft.SignFirst].
func (d *Draft) Sign(ctx context.Context, s tuf.Signer) (err error) {
	defer text.OneLine(&err)
	return d.sign(ctx, s, false)
}

// SignFirst is Sign for a draft with the first root of a repository that was staged
// elsewhere. A first root has no predecessor, so digest replaces the trust anchor: the
// [Draft.Digest] on the machine that staged the draft, which two people have compared.
// The error wraps [ErrOtherDraft] if the digest differs. From then on the root is the
// anchor of the ledger.
func (d *Draft) SignFirst(ctx context.Context, s tuf.Signer, digest string) (err error) {
	defer text.OneLine(&err)
	if err := d.first(digest); err != nil {
		return err
	}
	return d.sign(ctx, s, true)
}

// AdoptFirst makes the first root of a draft the anchor of an empty ledger, and signs
// nothing: it is for a machine of a party whose keys have no part in that root. digest is
// that of [Draft.SignFirst]. The error wraps [ErrOtherDraft] if it differs, [ErrUnsigned]
// if a signature of the root is missing, and [signing.ErrLedger] if the ledger is not
// empty.
func (d *Draft) AdoptFirst(ctx context.Context, digest string) (err error) {
	defer text.OneLine(&err)
	if err := d.first(digest); err != nil {
		return err
	}
	p, err := d.handle(ctx)
	if err != nil {
		return err
	}
	r, f := d.repo, d.files["root"]
	if missing := f.missing(); len(missing) > 0 {
		return fmt.Errorf("repo: %w: %s", ErrUnsigned, missing[0])
	}
	root, err := tuf.OpenRoot(f.bytes(), &tuf.Options{UnsafeLoopback: r.cfg.UnsafeLoopback})
	if err != nil {
		return fmt.Errorf("repo: %w", err)
	}
	if root.Charter() == nil {
		return fmt.Errorf("repo: root v1: %w: it has no charter", tuf.ErrCharter)
	}
	if p.root != nil {
		return fmt.Errorf("repo: %w: the storage has root v%d; use Adopt", signing.ErrLedger, p.root.Version())
	}
	return r.change(ctx, root.Charter().RepoID(), func(b *book) error {
		if !b.empty() {
			return fmt.Errorf("repo: %w: it already has records of this repository, up to root v%d", signing.ErrLedger, b.body.Root.Version)
		}
		b.body.Root = newBookRoot(root)
		return nil
	})
}

// first checks that the draft is that of a first root with this digest.
func (d *Draft) first(digest string) error {
	if f := d.files["root"]; f == nil || f.version != 1 {
		return fmt.Errorf("repo: the draft has no first root: %w", ErrNoPart)
	}
	if have := d.Digest(); digest != have {
		return fmt.Errorf("repo: %w: its digest is %s, want %s", ErrOtherDraft, have, text.Quote(digest))
	}
	return nil
}

func (d *Draft) sign(ctx context.Context, s tuf.Signer, firstRoot bool) error {
	p, err := d.handle(ctx)
	if err != nil {
		return err
	}
	n, err := d.repo.signDraft(ctx, p, d, d.parts(), []tuf.Signer{s}, false, firstRoot)
	if err == nil && n == 0 {
		err = fmt.Errorf("repo: key %.16s: %w (%s)", s.Key().ID(), ErrNoPart, d)
	}
	return err
}

// Supersede is [Tx.Supersede] for a draft that was staged elsewhere.
func (d *Draft) Supersede(sha256 string) { d.override.supersede = sha256 }

// ShorterExpiry is [Tx.ShorterExpiry] for a draft that was staged elsewhere.
func (d *Draft) ShorterExpiry() { d.override.shorterExpiry = true }

// LoadDraft is [LoadDraft] for signing. The trust anchor and the ledger of the handle
// decide what may be signed.
func (r *Repo) LoadDraft(path string) (*Draft, error) {
	d, err := LoadDraft(path)
	if err == nil {
		d.repo = r
	}
	return d, err
}

// Warnings returns the [Root.Warnings] of the draft's root if this process staged the
// draft. [Repo.Diff] includes them for any draft.
func (d *Draft) Warnings() []string { return slices.Clone(d.warnings) }

// String lists the files and statements of the draft in one line of at most 4 kB.
func (d *Draft) String() string {
	var b bytes.Buffer
	files := d.sorted()
	if d.recovery != nil {
		files = append(files, d.recovery)
	}
	for i, f := range files {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s v%d", roleText(f.role), f.version)
	}
	for i, name := range slices.Sorted(maps.Keys(d.statements)) {
		if i > 0 || len(files) > 0 {
			b.WriteString(", ")
		}
		s := d.statements[name]
		fmt.Fprintf(&b, "%s of %s", s.what(), text.Name(s.claim.Subject.Path))
	}
	return text.Line(b.String())
}

// handle loads the repository that the draft is for.
func (d *Draft) handle(ctx context.Context) (*present, error) {
	if d.repo == nil {
		return nil, fmt.Errorf("repo: the draft was opened without a repository; to sign it, open it with Repo.OpenDraft or Repo.LoadDraft: %w", signing.ErrNoPin)
	}
	return d.repo.loadFor(ctx, d)
}
