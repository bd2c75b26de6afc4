package repo

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/proof"
)

// partyRoles are the party's release roles, of every class.
func (r *Root) partyRoles(party string) (out []string) {
	for _, x := range r.lists() {
		if x.party == party && party != "" {
			out = append(out, x.role)
		}
	}
	return out
}

// tookBack is what the party said against some bytes and has not taken back: a
// recall in one of its roles, the last word of these roles on the subject where that
// is a refusal, or what the ledger remembers of either, published or not. roles are
// the party's in the subject's class. Either result may be nil.
func (tx *Tx) tookBack(party string, roles []ReleaseRole, s proof.Subject) (recalled *tuf.Recall, refused *proof.Refusal, err error) {
	all := tx.layout().partyRoles(party)
	for _, role := range all {
		if recalled, err = tx.recallOf(role, s.SHA256); err != nil {
			return nil, nil, err
		}
		if recalled != nil {
			recalled.Party = party
			break
		}
	}
	for _, role := range roles {
		said, err := tx.repo.said(tx.ctx, tx.present, role, s)
		if err != nil {
			return nil, nil, err
		}
		if said = append(said, tx.saidInDrafts(role, s)...); refused == nil {
			refused = lastRefusal(said)
		}
	}
	for _, t := range tx.remembered(s.SHA256) {
		switch {
		case !slices.Contains(all, t.Role):
		case t.Kind == "recall" && recalled == nil:
			recalled = &tuf.Recall{Path: t.Path, SHA256: t.SHA256, Reason: t.Reason, Party: party, Role: t.Role}
		case t.Kind == "refusal" && refused == nil:
			refused = &proof.Refusal{Subject: proof.Subject{Path: t.Path, Length: s.Length, SHA256: t.SHA256}, RepoID: tx.layout().RepoID,
				Reviewer: proof.Reviewer{Party: party, Role: t.Role}, Reason: t.Reason}
		}
	}
	return recalled, refused, nil
}

// lastRefusal is the last word, where it is a refusal. What does not verify is no
// word: whoever writes the storage can put it there. A review that has expired is
// one.
func lastRefusal(said []Said) *proof.Refusal {
	for _, x := range slices.Backward(said) {
		if x.Err == nil || errors.Is(x.Err, tuf.ErrExpired) {
			return x.Refusal
		}
	}
	return nil
}

// saidInDrafts are the role's verified words on the subject in the drafts that tx
// is staged on.
func (tx *Tx) saidInDrafts(role ReleaseRole, s proof.Subject) (out []Said) {
	for _, d := range tx.drafts {
		for n := 1; n <= maxStatements && len(d.statements) > 0; n++ {
			st := d.statements[statementName(s, role.Role, n)]
			if st == nil {
				continue
			}
			if data, err := st.bytes(); err == nil {
				out = append(out, openStatement(data, tx.present.chain.roots, role.Party, s, tx.repo.now()))
			}
		}
	}
	return out
}

// remembered are the ledger's recalls and refusals of some bytes.
func (tx *Tx) remembered(sha256 string) []takenBack {
	if tx.ledgerBySum == nil {
		tx.ledgerBySum = map[string][]takenBack{}
		if b := tx.present.book; b != nil {
			for _, t := range b.body.TakenBack {
				if t.Kind != "hold" {
					tx.ledgerBySum[t.SHA256] = append(tx.ledgerBySum[t.SHA256], t)
				}
			}
		}
	}
	return tx.ledgerBySum[sha256]
}

// recallIndex is what a role's recalls say, by sha256.
type recallIndex struct {
	of    wire.Value // the member that it was made from
	bySum map[string]*tuf.Recall
}

// recallOf is the role's recall of some bytes as it stands within tx, nil for none.
func (tx *Tx) recallOf(role, sha256 string) (*tuf.Recall, error) {
	l, err := tx.read(role)
	if err != nil || l == nil || len(l.members[tuf.RecallMember]) == 0 {
		return nil, err
	}
	v := l.members[tuf.RecallMember]
	index := tx.recallsOf[role]
	if len(index.of) != len(v) || &index.of[0] != &v[0] { // values never change
		index = recallIndex{v, map[string]*tuf.Recall{}}
		for e := range v.Elements() {
			r := &tuf.Recall{Role: role}
			r.Path, _ = member(e, "path").Text()
			r.Reason, _ = member(e, "reason").Text()
			sum, _ := member(e, "sha256").Text()
			r.SHA256 = strings.ToLower(sum)
			at, _ := member(e, "at").Text()
			r.At, _ = time.Parse(time.RFC3339, at)
			index.bySum[r.SHA256] = r
		}
		tx.recallsOf[role] = index
	}
	if r := index.bySum[sha256]; r != nil {
		copied := *r
		return &copied, nil
	}
	return nil, nil
}

// mayApprove refuses to approve bytes that the party took back (rule K4), unless a
// reason to reinstate them is given, which takes its recalls of them back.
func (tx *Tx) mayApprove(party string, class Class, s proof.Subject, listed bool, reinstate string) error {
	recalled, refused, err := tx.tookBack(party, class.rolesOf(party), s)
	if err != nil {
		return err
	}
	if reinstate != "" {
		for _, role := range tx.layout().partyRoles(party) {
			if err := tx.unrecall(role, s.SHA256); err != nil {
				return err
			}
		}
		return nil
	}
	no := func(what, under, why string) error {
		if under != s.Path {
			what += " as " + text.Name(under)
		}
		return fmt.Errorf("repo: %s: %w: %s %s these bytes (sha256 %.16s): %s; Examined.Reinstate, with a reason, approves them again",
			text.Name(s.Path), ErrTakenBack, text.Name(party), what, s.SHA256, text.Quote(why))
	}
	switch {
	case recalled != nil:
		return no("recalled", recalled.Path, recalled.Reason)
	case refused != nil && !listed: // what it lists all along under this path it did not refuse
		return no("refused", refused.Path, refused.Reason)
	}
	return nil
}

// rolesOf are the party's roles in the class.
func (c Class) rolesOf(party string) (out []ReleaseRole) {
	for _, role := range c.Roles {
		if role.Party == party {
			out = append(out, role)
		}
	}
	return out
}

// takenBack is rule K4.
func (s *signing) takenBack(b *book, x *item, reinstated map[bytesOfParty]bool, now time.Time) error {
	if s.layout == nil || x.top == "" {
		return nil
	}
	recalls, err := s.recallsOf(x.role.party)
	if err != nil || len(recalls)+len(b.body.TakenBack) == 0 {
		return err
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
	parties := map[string]string{}
	for _, n := range s.layout.lists() {
		parties[n.role] = n.party
	}
	for _, t := range slices.Concat(b.body.TakenBack, recalls) {
		if t.Kind == "hold" {
			until, err := time.Parse(time.RFC3339, t.Until)
			if t.Role != x.top || err != nil || !until.After(now) || after.targets[t.Path] != nil || s.draft.override.lift[t.Path] {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: the hold of %s until %s was signed and is not published yet: hold it in this draft too, or lift it",
				text.Name(x.file.role), x.file.version, ErrTakenBack, text.Name(t.Path), t.Until)
		}
		if t.Role != x.top && (x.role.party == "" || parties[t.Role] != x.role.party) || reinstated[bytesOfParty{x.role.party, t.SHA256}] {
			continue
		}
		slices.Sort(sums[t.SHA256])
		for _, path := range sums[t.SHA256] {
			// A recall by a role names these bytes under all of its paths. A refusal, and
			// what another role of the party says, is no reason to stop what this one has
			// listed all along.
			if (t.Kind == "refusal" && path != t.Path || t.Role != x.top) && string(before.targets[path]) == string(after.targets[path]) {
				continue
			}
			return fmt.Errorf("repo: %s v%d: %w: a %s names the bytes of %s (sha256 %.16s: %s); Reinstate approves them again, Recall or Remove takes them off",
				text.Name(x.file.role), x.file.version, ErrTakenBack, t.Kind, text.Name(path), t.SHA256, text.Quote(t.Reason))
		}
	}
	return nil
}

// recallsOf are the recalls that a party's roles list, as published and in the draft.
func (s *signing) recallsOf(party string) ([]takenBack, error) {
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
			if l != nil && l.doc != nil {
				out = append(out, recalledIn(role, l.doc)...)
			}
		}
	}
	s.recalls[party] = out
	return out, nil
}

// bytesOfParty are bytes that a party speaks of.
type bytesOfParty struct{ party, sha256 string }

// reinstated are the bytes that reviews in the draft approve again in spite of a
// recall or a refusal, with a reason.
func (s *signing) reinstated() map[bytesOfParty]bool {
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

// reinstate forgets what the party of a signed role took back of the bytes that the
// draft reinstates.
func (s *signing) reinstate(b *book, party string, reinstated map[bytesOfParty]bool) {
	for r := range maps.Keys(reinstated) {
		if r.party != party {
			continue
		}
		for _, role := range s.layout.partyRoles(party) {
			b.release(role, r.sha256, "recall", "refusal")
		}
	}
}
