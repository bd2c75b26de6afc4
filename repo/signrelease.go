package repo

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/rolelist"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/signing"
)

// sequences checks that no highest sequence number decreases. Otherwise a number would
// be assigned twice.
func (s *signRequest) sequences(x *item) error {
	if x.role.party == "" || x.bin {
		return nil
	}
	was, err := rolelist.SequencesIn(metafile.Member(x.was, layout.SequenceMember))
	var now map[string]int64
	if err == nil {
		now, err = rolelist.SequencesIn(metafile.Member(x.file.signed, layout.SequenceMember))
	}
	if err != nil {
		return fmt.Errorf("repo: %s v%d: %w", text.Name(x.file.role), x.file.version, err)
	}
	for _, product := range slices.Sorted(maps.Keys(was)) {
		if now[product] < was[product] {
			return fmt.Errorf("repo: %s v%d: %w: the highest assigned number of product %s is %d, the draft states %d",
				text.Name(x.file.role), x.file.version, signing.ErrSequence, text.Name(product), was[product], now[product])
		}
	}
	return nil
}

// releases refuses a file that newly lists release data that clients refuse.
func (s *signRequest) releases(x *item) error {
	if x.role.party == "" || x.bin {
		return nil
	}
	was := map[string]string{}
	for path, v := range metafile.Member(x.was, "targets").Members() {
		if !rolelist.IsPlain(v) {
			was[path.String()] = string(v)
		}
	}
	for path, v := range metafile.Member(x.file.signed, "targets").Members() {
		if rolelist.IsPlain(v) || was[path.String()] == string(v) {
			continue
		}
		if err := rolelist.CheckRelease(path.String(), v); err != nil {
			return err
		}
	}
	return nil
}

// takenBack applies rule K4.
func (s *signRequest) takenBack(b *book, x *item, reinstated map[bytesOfParty]bool, now time.Time) error {
	if s.layout == nil || x.top == "" {
		return nil
	}
	recalls, err := s.recallsOf(x.role.party)
	if err != nil || len(recalls)+len(b.body.TakenBack) == 0 {
		return err
	}
	after, before := rolelist.New(x.file.role), rolelist.New(x.file.role)
	if err := after.Take(x.file.signed); err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
	}
	if x.was != nil {
		if err := before.Take(x.was); err != nil {
			return fmt.Errorf("repo: %s: %w", text.Name(x.file.role), err)
		}
	}
	sums := map[string][]string{} // paths by sha256
	for path, v := range after.Targets {
		if e, err := rolelist.ParseEntry(v); err == nil {
			sums[e.Hashes.SHA256] = append(sums[e.Hashes.SHA256], path)
		}
	}
	parties := map[string]string{}
	for _, n := range s.layout.lists() {
		parties[n.role] = n.party
	}
	for _, t := range slices.Concat(b.body.TakenBack, recalls) {
		if t.Kind == "hold" {
			until, err := time.Parse(time.RFC3339, t.Until)
			if t.Role != x.top || err != nil || !until.After(now) || after.Targets[t.Path] != nil || s.draft.override.lift[t.Path] {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: the hold of %s until %s was signed and is not published yet: add it to this draft, or lift it",
				text.Name(x.file.role), x.file.version, signing.ErrTakenBack, text.Name(t.Path), t.Until)
		}
		if t.Role != x.top && (x.role.party == "" || parties[t.Role] != x.role.party) || reinstated[bytesOfParty{x.role.party, t.SHA256}] {
			continue
		}
		slices.Sort(sums[t.SHA256])
		for _, path := range sums[t.SHA256] {
			// A recall by this role applies to the bytes under all of its paths. A refusal
			// under another path, or a statement by another role of the party, does not
			// apply to unchanged entries of this role.
			if (t.Kind == "refusal" && path != t.Path || t.Role != x.top) && string(before.Targets[path]) == string(after.Targets[path]) {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: a %s names the bytes of %s (sha256 %.16s: %s); Reinstate approves them again, Recall or Remove removes them from the list",
				text.Name(x.file.role), x.file.version, signing.ErrTakenBack, t.Kind, text.Name(path), t.SHA256, text.Quote(t.Reason))
		}
	}
	return nil
}

// recallsOf returns the recalls in a party's roles, as published and in the draft.
func (s *signRequest) recallsOf(party string) ([]takenBack, error) {
	if s.recalls == nil {
		s.recalls = map[string][]takenBack{}
	}
	if out, ok := s.recalls[party]; ok {
		return out, nil
	}
	var out []takenBack
	for _, role := range s.layout.partyRoles(party) {
		for _, e := range []*edition{s.before, s.after} {
			l, err := e.top(role)
			if err != nil {
				return nil, err
			}
			if l != nil && l.Signed != nil {
				out = append(out, recalledIn(role, l.Signed)...)
			}
		}
	}
	s.recalls[party] = out
	return out, nil
}

// reinstated returns the bytes for which the draft has a review with a reason to
// approve them in spite of a recall or a refusal.
func (s *signRequest) reinstated() map[bytesOfParty]bool {
	out := map[bytesOfParty]bool{}
	if s.draft == nil {
		return out
	}
	for _, st := range s.draft.statements {
		c := st.claim
		if c.Review != nil && c.Review.Reinstate != "" && slices.Contains(s.layout.partyRoles(c.Reviewer.Party), c.Reviewer.Role) {
			out[bytesOfParty{c.Reviewer.Party, c.Subject.SHA256}] = true
		}
	}
	return out
}

// reinstate deletes the ledger's recalls and refusals, by the party of a signed role,
// of the bytes that the draft reinstates.
func (s *signRequest) reinstate(b *book, party string, reinstated map[bytesOfParty]bool) {
	for r := range maps.Keys(reinstated) {
		if r.party != party {
			continue
		}
		for _, role := range s.layout.partyRoles(party) {
			b.release(role, r.sha256, "recall", "refusal")
		}
	}
}
