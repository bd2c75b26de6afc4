package repo

import (
	"context"
	"errors"
	"fmt"

	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// newSigning prepares a request for a draft against the published state.
func (r *Repo) newSigning(ctx context.Context, p *present, d *Draft) (*signRequest, error) {
	r = r.healing(d)
	s := &signRequest{repo: r, ctx: ctx, tx: r.newTx(ctx, p), draft: d, prev: p.root, parties: map[tuf.Key]string{}}
	if d.recovery != nil {
		stated, err := readRecovery(d.recovery)
		if err != nil {
			return nil, err
		}
		if s.prev = p.chain.At(stated.Tip.Version); s.prev == nil || s.prev.SHA256() != stated.Tip.SHA256 {
			return nil, fmt.Errorf("repo: %s: %w: it follows a root v%d that is not published", facts.RecoveryRole, tuf.ErrMismatch, stated.Tip.Version)
		}
	}
	f := d.files["root"]
	switch {
	case f == nil && p.root == nil:
		return nil, errEmpty
	case f == nil:
		s.layout = rootOf(p.root)
	case s.prev != nil && f.version == s.prev.Version() && metafile.SHA256(f.signed) == s.prev.SHA256():
		s.root, s.layout = s.prev, rootOf(s.prev) // already published
	default:
		// Verified as a client would, before anything is signed.
		var proposal *tuf.Proposal
		var err error
		if s.prev == nil {
			proposal, err = tuf.ProposeFirst(f.bytes(), r.tufOptions())
		} else {
			proposal, err = s.prev.Propose(f.bytes())
		}
		if err != nil {
			if s.prev != nil && f.base != s.prev.Version() {
				err = fmt.Errorf("%w: %w", f.behindRoot(p.chain), err)
			}
			return nil, fmt.Errorf("repo: %w", err)
		}
		if proposal.Charter() == nil {
			return nil, fmt.Errorf("repo: %w", errNoCharter)
		}
		s.root, s.layout = proposal, rootOf(proposal)
		if s.fork, err = r.healed(p.chain, d, f.bytes()); err != nil {
			return nil, err
		}
	}
	for _, p := range s.layout.Parties {
		for _, k := range p.Keys {
			s.parties[k] = p.Name
		}
	}
	for _, x := range s.layout.lists() {
		for _, k := range x.keys.Keys {
			if x.party != "" {
				s.parties[k] = x.party
			}
		}
	}
	return s, s.trace()
}

// signDraft signs those parts of a draft for which the signers hold keys, after the
// rules have been checked and the ledger has recorded it. It returns the number of
// signed parts. fresh states that the parts were staged in the same call.
func (r *Repo) signDraft(ctx context.Context, p *present, d *Draft, parts []*draftFile, signers []tuf.Signer, fresh, firstRoot bool) (int, error) {
	if len(parts) == 0 || len(signers) == 0 && r.cfg.DualSigning == nil {
		return 0, nil
	}
	s, err := r.newSigning(ctx, p, d)
	if err != nil {
		return 0, err
	}
	for _, f := range parts {
		x, err := s.item(f)
		if err != nil {
			return 0, err
		}
		x.choose(signers, r.cfg.DualSigning, func(k tuf.Key) bool { return s.may(x, k) })
		x.fresh = fresh
		if len(x.signers) > 0 {
			s.items = append(s.items, x)
		}
	}
	if len(s.items) == 0 {
		return 0, nil
	}
	if err := s.permit(firstRoot); err != nil {
		return 0, err
	}
	for _, x := range s.items {
		for _, signer := range x.signers {
			if err := x.file.add(ctx, signer); err != nil {
				return 0, err
			}
		}
	}
	return len(s.items), nil
}

// permit checks the rules and records the signatures, in one durable step.
func (s *signRequest) permit(firstRoot bool) error {
	p := s.tx.present
	for _, x := range s.items {
		if err := s.dates(x); err != nil {
			return err
		}
	}
	err := s.repo.change(s.ctx, s.layout.RepoID, func(b *book) error {
		if p.root == nil {
			return s.first(b, firstRoot)
		}
		if err := s.repo.known(s.ctx, p, b); err != nil {
			return err
		}
		b.leaveFork(p.chain, s.fork)
		if x := b.leaves(p.chain); x != nil && !s.endsRecovery(x) {
			return fmt.Errorf("repo: %w: the ledger has recorded content under the recovery root v%d with sha256 %s, which is no longer there; name it in Supersede to abandon the recovery",
				signing.ErrRootBehind, x.Version, x.SHA256)
		}
		b.seeRoots(p.chain)
		return s.check(b)
	})
	if errors.Is(err, signing.ErrRootBehind) || errors.Is(err, signing.ErrRoleBehind) {
		// The ledger may already contain what was published while this call was
		// running.
		if moved, again := s.repo.moved(s.ctx, p); again == nil && moved {
			return fmt.Errorf("%w: %w", ErrConflict, err)
		}
	}
	return err
}

// known checks that the ledger knows the repository, and compares the root chain with
// it (rule K1).
func (r *Repo) known(ctx context.Context, p *present, b *book) error {
	if b.empty() && r.cfg.UnsafeTrustStorage {
		roles, err := r.ownRoles(ctx, p)
		if err != nil {
			return err
		}
		b.adopt(p, roles)
	}
	if b.empty() {
		digest, err := r.adoptDigest(ctx, p)
		if err != nil {
			return err
		}
		return fmt.Errorf("repo: %w: this machine has no record of repository %s; use or import the ledger of the party, or compare %s with another machine and call Adopt with it",
			signing.ErrNoLedger, p.root.Charter().RepoID(), digest)
	}
	a := &anchor{book: b, heals: r.heals, opt: r.tufOptions()}
	a.points = b.points()
	return a.check(p.chain)
}

// endsRecovery reports whether the request may abandon the recovery that the ledger has
// recorded: it replaces the recovery by another, or ends it by a regular root for which
// the caller named the recovery root (rule K1).
func (s *signRequest) endsRecovery(x *bookRoot) bool {
	if s.draft == nil {
		return s.ends
	}
	return s.draft.recovery != nil || s.draft.override.supersede == x.SHA256
}

// first checks the request for the first root of a repository.
func (s *signRequest) first(b *book, allowed bool) error {
	have := b.body.Root
	if s.draft == nil { // timestamp and snapshot at the publication of a first root
		pin, err := s.repo.pinRoot()
		switch {
		case err != nil:
			return err
		case have != nil && have.SHA256 == s.prev.SHA256() && !b.body.Published:
		case have == nil && (s.repo.cfg.UnsafeTrustStorage || pin != nil && pin.SHA256() == s.prev.SHA256()):
		default:
			return fmt.Errorf("repo: root v1: %w: this handle did not sign it; publish it with a handle that did, or with Config.Pin set to it", signing.ErrNoPin)
		}
		return s.check(b)
	}
	f := s.draft.files["root"]
	sum := metafile.SHA256(f.signed)
	switch {
	case have != nil && b.body.Published:
		return fmt.Errorf("repo: %w: the ledger has recorded root v%d as published, but the storage is empty", signing.ErrRootBehind, have.Version)
	case have != nil && have.SHA256 == sum:
	case have != nil && s.draft.override.supersede != have.SHA256:
		return fmt.Errorf("repo: root v1: %w: another first root was signed, with sha256 %s; name it in Supersede to replace it", signing.ErrSecondContent, have.SHA256)
	case !allowed && s.draft.staged != s.repo:
		return fmt.Errorf("repo: root v1: %w: a first root has no predecessor to verify it, so it needs SignFirst with the digest that two people compared (%s)", signing.ErrNoPin, s.draft.Digest())
	}
	b.body.Root = &bookRoot{1, sum, f.bytes()}
	return s.check(b)
}

// check applies rules K1 to K4 to each file and records the signatures.
func (s *signRequest) check(b *book) error {
	now := s.repo.now()
	reinstated := s.reinstated()
	for _, x := range s.items {
		f := x.file
		sum := metafile.SHA256(f.signed)
		r := b.keys(s.recordName(f), x.wasKeys)
		if h := r.high(); f.role != "root" && h != nil && !s.excused(x) && (x.version < h.Version || x.version == h.Version && x.was != nil && metafile.SHA256(x.was) != h.SHA256) {
			return fmt.Errorf("repo: %s: %w: v%d is published, the ledger has recorded v%d with sha256 %.16s: the storage serves an older version or other content",
				text.Name(f.role), signing.ErrRoleBehind, x.version, h.Version, h.SHA256)
		}
		same, other := r.signedBefore(f.version, sum)
		if !same && other != nil && x.fresh && f.role != "root" && !s.unnumbered(f) {
			// Another process with this ledger used the version first.
			f.renumber(b.highest(f.role) + 1)
			other = nil
		}
		if !same && other != nil && !s.unnumbered(f) {
			if f.role != "root" || s.draft.override.supersede != other.SHA256 || other.SHA256 == "" {
				return s.second(f, sum, other)
			}
		}
		if err := s.takenBack(b, x, reinstated, now); err != nil {
			return err
		}
		if err := errors.Join(s.sequences(x), s.releases(x)); err != nil {
			return err
		}
		if err := s.automatic(b, x); err != nil {
			return err
		}
	}
	for _, x := range s.items {
		s.record(b, x, reinstated, now)
	}
	return nil
}

// second describes a second content under one version.
func (s *signRequest) second(f *draftFile, sum string, other *bookSigned) error {
	hint := "stage the draft again: it takes the next free version"
	if f.role == "root" {
		hint = "name the first in Supersede to replace it"
	}
	if other.SHA256 == "" {
		return fmt.Errorf("repo: %s v%d: %w: later versions were signed; %s", text.Name(f.role), f.version, signing.ErrSecondContent, hint)
	}
	return fmt.Errorf("repo: %s v%d with sha256 %.16s: %w: sha256 %s on %s; %s", text.Name(f.role), f.version, sum, signing.ErrSecondContent, other.SHA256, other.At, hint)
}
