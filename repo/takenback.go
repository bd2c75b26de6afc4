package repo

import (
	"errors"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/internal/chain"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// partyRoles returns the party's release roles of every class.
func (r *Root) partyRoles(party string) (out []string) {
	for _, x := range r.lists() {
		if x.party == party && party != "" {
			out = append(out, x.role)
		}
	}
	return out
}

// tookBack returns the party's recall and refusal of some bytes that are in force: a
// recall in one of its roles; the latest statement of these roles on the subject, if it
// is a refusal; or what the ledger recorded of either, published or not. roles are the
// party's in the subject's class. Either result may be nil.
func (tx *Tx) tookBack(party string, roles []ReleaseRole, s attestation.Subject) (recalled *tuf.Recall, refused *attestation.Refusal, err error) {
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
			refused = &attestation.Refusal{Subject: attestation.Subject{Path: t.Path, Length: s.Length, SHA256: t.SHA256}, RepoID: tx.layout().RepoID,
				Reviewer: attestation.Reviewer{Party: party, Role: t.Role}, Reason: t.Reason}
		}
	}
	return recalled, refused, nil
}

// lastRefusal returns the latest statement if it is a refusal. Statements that do not
// verify are ignored, since anyone with write access to the storage can add them. An
// expired review counts.
func lastRefusal(said []Statement) *attestation.Refusal {
	for _, x := range slices.Backward(said) {
		if x.Err == nil || errors.Is(x.Err, tuf.ErrExpired) {
			return x.Refusal
		}
	}
	return nil
}

// saidInDrafts returns the role's verified statements on the subject in the drafts on
// which tx is staged.
func (tx *Tx) saidInDrafts(role ReleaseRole, s attestation.Subject) (out []Statement) {
	for _, d := range tx.drafts {
		for n := 1; n <= chain.MaxStatements && len(d.statements) > 0; n++ {
			st := d.statements[chain.StatementName(s, role.Role, n)]
			if st == nil {
				continue
			}
			if data, err := st.bytes(); err == nil {
				out = append(out, openStatement(data, tx.present.chain.Roots, role.Party, s, tx.repo.now()))
			}
		}
	}
	return out
}

// remembered returns the ledger's recalls and refusals of some bytes.
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

// recallOf returns the role's recall of some bytes within tx, or nil.
func (tx *Tx) recallOf(role, sha256 string) (*tuf.Recall, error) {
	l, err := tx.read(role)
	if err != nil || l == nil || len(l.Members[layout.RecallMember]) == 0 {
		return nil, err
	}
	v := l.Members[layout.RecallMember]
	index := tx.recallsOf[role]
	if len(index.of) != len(v) || &index.of[0] != &v[0] { // values are immutable
		index = recallIndex{v, map[string]*tuf.Recall{}}
		for r := range metafile.Recalls(v) {
			r.Role = role
			index.bySum[r.SHA256] = &r
		}
		tx.recallsOf[role] = index
	}
	if r := index.bySum[sha256]; r != nil {
		copied := *r
		return &copied, nil
	}
	return nil, nil
}

// mayApprove refuses approval of bytes that the party took back (rule K4). A reason to
// reinstate them permits it and withdraws the party's recalls of them.
func (tx *Tx) mayApprove(party string, class Class, s attestation.Subject, listed bool, reinstate string) error {
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
		return fmt.Errorf("repo: %s: %w: %s %s these bytes (sha256 %.16s): %s; ReviewRecord.Reinstate, with a reason, approves them again",
			text.Name(s.Path), signing.ErrTakenBack, text.Name(party), what, s.SHA256, text.Quote(why))
	}
	switch {
	case recalled != nil:
		return no("recalled", recalled.Path, recalled.Reason)
	case refused != nil && !listed: // the refusal does not apply to an entry that the party lists under this path
		return no("refused", refused.Path, refused.Reason)
	}
	return nil
}

// bytesOfParty identifies bytes of a party.
type bytesOfParty struct{ party, sha256 string }

// unrecall removes the role's recalls of these bytes, under any path.
func (tx *Tx) unrecall(role, sha256 string) error {
	l, err := tx.read(role)
	if err != nil || l == nil {
		return err
	}
	list, err := tx.recallsBut(role, func(_, sum string) bool { return sum == sha256 })
	if err != nil || len(list) == count(l.Members[layout.RecallMember]) {
		return err
	}
	if l, err = tx.edit(role); err != nil {
		return err
	}
	if delete(l.Members, layout.RecallMember); len(list) > 0 {
		l.Members[layout.RecallMember], err = metafile.Canonical(list)
	}
	return err
}
