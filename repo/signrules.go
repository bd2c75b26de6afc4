package repo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/facts"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// dates applies rule K5.
func (s *signRequest) dates(x *item) error {
	f, now, tolerance := x.file, s.repo.now(), s.repo.cfg.ClockTolerance
	if s.draft != nil && s.draft.statements[f.role] != nil {
		return nil
	}
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s v%d: %w: %w", text.Name(f.role), f.version, signing.ErrDate, fmt.Errorf(format, args...))
	}
	if s.prev != nil && !(s.draft != nil && s.root != nil && s.draft.override.supersede == s.prev.SHA256()) {
		if at := s.prev.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("the published root v%d was signed at %s, this machine's clock is %s; if the clock is right, sign a root that follows it, and name its sha256 %s in Supersede",
				s.prev.Version(), text.Time(at), text.Time(now), s.prev.SHA256())
		}
	}
	if f.role == "root" {
		if at := s.root.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("signed_at is %s, this machine's clock is %s, at most %s ahead is allowed", text.Time(at), text.Time(now), tolerance)
		}
	}
	if !f.expires.After(now) {
		return no("%w: it expires on %s, this machine's clock is %s", tuf.ErrExpired, text.Time(f.expires), text.Time(now))
	}
	if s.draft != nil && s.draft.override.shorterExpiry || x.expires.IsZero() {
		return nil
	}
	if f.role == "root" || x.role.party != "" {
		if f.expires.Before(x.expires.Add(-oneHour)) {
			return no("it expires on %s, before v%d, which it replaces and which expires on %s; ShorterExpiry allows it", text.Time(f.expires), x.version, text.Time(x.expires))
		}
	}
	return nil
}

// automatic applies Config.Automation.
func (s *signRequest) automatic(b *book, x *item) error {
	a := (*automation)(s.repo.cfg.Automation)
	if a == nil {
		return nil
	}
	f := x.file
	no := func(why string) error {
		return fmt.Errorf("repo: %s: %w: %s", text.Name(f.role), signing.ErrNotAutomatic, why)
	}
	switch {
	case f.role == "root" || f.role == facts.RecoveryRole:
		return no("roots and recoveries need a person's signature")
	case !s.repo.cfg.SharedLedger && !s.holdsAll(x.role.keys.Keys):
		return fmt.Errorf("repo: %s: %w: other signers hold keys of the role; set Config.SharedLedger if all of them use this ledger", text.Name(f.role), signing.ErrLedgerNotShared)
	case x.online:
		return nil
	case len(s.draft.override.compromised) > 0:
		return no("the draft names compromised keys")
	case s.draft.statements[f.role] != nil:
		c := s.draft.statements[f.role].claim
		if c.Review == nil || c.Review.Reinstate != "" ||
			!slices.ContainsFunc(a.Releases, func(p string) bool { return p != "" && strings.HasPrefix(c.Subject.Path, p) }) {
			return no("a statement about " + text.Name(c.Subject.Path))
		}
		return nil
	}
	limit := s.repo.cfg.Expiry.Release
	if f.role == "targets" {
		limit = s.repo.cfg.Expiry.Targets
	}
	if latest := s.repo.now().Add(limit + chain.ClockTolerance); f.expires.After(latest) && f.expires.After(x.expires) {
		return no(fmt.Sprintf("it expires on %s, later than Config.Expiry allows", text.Time(f.expires)))
	}
	was, err := b.lastSeen(f.role)
	if err != nil {
		return err
	}
	if x.bin || was == nil && b.signedHere(f.role, x.version, x.was) {
		was = x.was
	}
	return a.automatic(x, was)
}

// record writes a signature and the published version of the role to the ledger.
func (s *signRequest) record(b *book, x *item, reinstated map[bytesOfParty]bool, now time.Time) {
	f := x.file
	if s.draft != nil && s.draft.statements[f.role] != nil {
		if c := s.draft.statements[f.role].claim; c.Refusal != nil {
			b.take(takenBack{Kind: "refusal", Role: c.Reviewer.Role, Path: c.Subject.Path, SHA256: c.Subject.SHA256, Reason: c.Refusal.Reason})
		}
		return
	}
	whole := !x.bin && !x.online && f.role != facts.RecoveryRole && f.role != "root"
	if x.version > 0 && x.was != nil && f.role != "root" && !s.excused(x) {
		b.see(f.role, x.wasKeys, x.version, x.was, whole)
	}
	signed := bookSigned{Version: f.version, SHA256: metafile.SHA256(f.signed)}
	if !x.bin {
		signed.At, signed.KeyIDs = text.Time(now), slices.Sorted(slices.Values(x.keyIDs))
		if s.draft != nil {
			signed.Draft = s.draft.Digest()
		}
	}
	b.sign(s.recordName(f), f, signed, whole)
	if x.top == "" {
		return
	}
	for _, t := range recalledIn(x.top, f.signed) {
		b.take(t)
	}
	if x.role.party == "" && x.role.class != "" {
		for _, t := range heldIn(x.top, f.signed, now) {
			b.take(t)
		}
	}
	if x.role.party != "" {
		s.reinstate(b, x.role.party, reinstated)
	}
}
