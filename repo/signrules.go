package repo

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/tuf"
)

// dates is rule K5.
func (s *signing) dates(x *item) error {
	f, now, tolerance := x.file, s.repo.now(), s.repo.cfg.ClockTolerance
	if s.draft != nil && s.draft.statements[f.role] != nil {
		return nil
	}
	no := func(format string, args ...any) error {
		return fmt.Errorf("repo: %s v%d: %w: %s", text.Name(f.role), f.version, ErrDate, fmt.Sprintf(format, args...))
	}
	if s.tip != nil {
		if at := s.tip.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("the published root v%d was signed at %s, this machine's clock is %s", s.tip.Version(), stamp(at), stamp(now))
		}
	}
	if f.role == "root" {
		if at := s.root.Charter().SignedAt(); at.After(now.Add(tolerance)) {
			return no("signed_at is %s, this machine's clock is %s, at most %s ahead is allowed", stamp(at), stamp(now), tolerance)
		}
	}
	if !f.expires.After(now) {
		return no("it expires on %s, this machine's clock is %s", stamp(f.expires), stamp(now))
	}
	if s.draft != nil && s.draft.override.shorterExpiry || x.expires.IsZero() {
		return nil
	}
	if f.role == "root" || x.role.party != "" {
		if f.expires.Before(x.expires.Add(-oneHour)) {
			return no("it expires on %s, before v%d which it replaces, on %s; ShorterExpiry allows it", stamp(f.expires), x.version, stamp(x.expires))
		}
	}
	return nil
}

// takenBack is rule K4.
func (s *signing) takenBack(b *book, x *item, reinstated map[subjectOfRole]bool, now time.Time) error {
	if s.layout == nil || x.top == "" || len(b.body.TakenBack) == 0 {
		return nil
	}
	after, before := newListing(x.file.role), newListing(x.file.role)
	if err := after.take(x.file.signed); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
	}
	if x.was != nil {
		if err := before.take(x.was); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
		}
	}
	sums := map[string][]string{} // paths by sha256
	for path, v := range after.targets {
		if e, err := parseEntry(v); err == nil {
			sums[strings.ToLower(e.sha256)] = append(sums[strings.ToLower(e.sha256)], path)
		}
	}
	for _, t := range b.body.TakenBack {
		if t.Role != x.top {
			continue
		}
		if t.Kind == "hold" {
			until, err := time.Parse(time.RFC3339, t.Until)
			if err != nil || !until.After(now) || after.targets[t.Path] != nil || s.draft.override.lift[t.Path] {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: the hold of %s until %s was signed and is not published yet: hold it in this draft too, or lift it",
				text.Name(x.file.role), x.file.version, ErrTakenBack, text.Name(t.Path), t.Until)
		}
		if reinstated[subjectOfRole{x.top, t.SHA256}] {
			continue
		}
		slices.Sort(sums[t.SHA256])
		for _, path := range sums[t.SHA256] {
			if path != t.Path && string(before.targets[path]) == string(after.targets[path]) {
				continue // the same bytes under another path, listed all along
			}
			return fmt.Errorf("repo: %s v%d: %w: a %s names the bytes of %s (sha256 %.16s: %s); Reinstate approves them again",
				text.Name(x.file.role), x.file.version, ErrTakenBack, t.Kind, text.Name(path), t.SHA256, text.Quote(t.Reason))
		}
	}
	return nil
}

// subjectOfRole is the bytes that a role speaks of.
type subjectOfRole struct{ role, sha256 string }

// reinstated are the bytes that reviews in the draft approve again in spite of a
// recall or a refusal, with a reason.
func (s *signing) reinstated() (map[subjectOfRole]bool, error) {
	out := map[subjectOfRole]bool{}
	if s.draft == nil {
		return out, nil
	}
	for _, st := range s.draft.statements {
		c := st.claim
		if c.Review != nil && c.Review.Reinstate != "" {
			out[subjectOfRole{c.Reviewer.Role, c.Subject.SHA256}] = true
		}
	}
	return out, nil
}

// automatic applies Config.Automation.
func (s *signing) automatic(b *book, x *item) error {
	a := s.repo.cfg.Automation
	if a == nil {
		return nil
	}
	f := x.file
	no := func(why string) error { return fmt.Errorf("repo: %s: %w: %s", text.Name(f.role), ErrNotAutomatic, why) }
	switch {
	case f.role == "root" || f.role == recoveryRole:
		return no("roots and recoveries are signed by people")
	case !s.repo.cfg.SharedLedger && !s.holdsAll(x.role.keys.Keys):
		return fmt.Errorf("repo: %s: %w: others hold keys of the role; declare Config.SharedLedger where all of them use this ledger", text.Name(f.role), ErrLedgerNotShared)
	case x.online:
		return nil
	case len(s.draft.override.compromised) > 0:
		return no("keys were named compromised")
	case s.draft.statements[f.role] != nil:
		c := s.draft.statements[f.role].claim
		if c.Review == nil || c.Review.Reinstate != "" ||
			!slices.ContainsFunc(a.Releases, func(p string) bool { return p != "" && strings.HasPrefix(c.Subject.Path, p) }) {
			return no("a statement about " + text.Name(c.Subject.Path))
		}
		return nil
	}
	was, err := b.lastWord(f.role)
	if err != nil {
		return err
	}
	if x.bin {
		was = x.was
	}
	return a.automatic(x, was)
}

// holdsAll reports whether this handle's own signers hold every one of the keys.
func (s *signing) holdsAll(keys []tuf.Key) bool {
	for _, k := range keys {
		if !slices.ContainsFunc(s.repo.cfg.Signers, func(o tuf.Signer) bool { return o.Key() == k }) {
			return false
		}
	}
	return true
}

// record writes a signing into the book, with what was seen of the role.
func (s *signing) record(b *book, x *item, reinstated map[subjectOfRole]bool, now time.Time) {
	f := x.file
	if s.draft != nil && s.draft.statements[f.role] != nil {
		if c := s.draft.statements[f.role].claim; c.Refusal != nil {
			b.take(takenBack{Kind: "refusal", Role: c.Reviewer.Role, Path: c.Subject.Path, SHA256: c.Subject.SHA256, Reason: c.Refusal.Reason})
		}
		return
	}
	whole := !x.bin && !x.online && f.role != recoveryRole && f.role != "root"
	if x.version > 0 && x.was != nil && f.role != "root" && !s.excused(x) {
		b.see(f.role, x.wasKeys, x.version, x.was, whole)
	}
	signed := bookSigned{Version: f.version, SHA256: sum256(f.signed)}
	if !x.bin {
		signed.At, signed.KeyIDs = stamp(now), slices.Sorted(slices.Values(x.keyIDs))
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
	for r := range reinstated {
		if r.role == x.top {
			b.release(r.role, r.sha256, "recall", "refusal")
		}
	}
}
