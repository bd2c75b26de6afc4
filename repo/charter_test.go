package repo_test

import (
	"errors"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// withHold has a hold and a recovery rule, which is everything that a charter can
// state.
func (w *world) withHold(tx *repo.Tx) error {
	if err := w.Define(tx); err != nil {
		return err
	}
	r := tx.Root()
	r.Classes[0].Hold = &repo.Hold{Role: "hold", Keys: repo.Keys{Keys: w.Public("review-release", "hold-2")}, Max: 7 * 24 * time.Hour}
	r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.Public("bank-1", "bank-2")}, {Name: "university", Keys: w.Public("university")}}, Counter: 3}
	return nil
}

// All members of a charter survive an edit of something else, and setting the same
// value is not a change.
func TestHoldAndRecovery(t *testing.T) {
	w := emptyWorld(t)
	w.Update(w.withHold)
	c := w.Root().Charter()
	if h := c.Classes()[0].Hold; h == nil || h.Role != "hold" || len(h.KeyIDs) != 2 || h.Threshold != 1 || h.Max != 7*24*time.Hour {
		t.Fatalf("hold is %+v", h)
	}
	rule := c.Recovery()
	if rule == nil || len(rule.Orgs) != 2 || len(rule.Orgs[0].KeyIDs) != 2 || rule.Threshold != 2 || rule.MinOrgs != 2 || rule.Hold != 14*24*time.Hour || rule.MinTicks != 14 || rule.Counter != 3 {
		t.Fatalf("recovery is %+v", rule)
	}
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	w.Sees("root 1 agent/1")
	w.Store.Wrote()
	w.Update(w.withHold)
	if wrote := w.Store.Wrote(); len(wrote) != 0 {
		t.Errorf("wrote %q", wrote)
	}
	w.Update(announce)
	if after := w.Root().Charter(); after.Recovery() == nil || after.Classes()[0].Hold == nil || after.Seq() != c.Seq()+1 {
		t.Error("the edit lost a member")
	}
	w.Sees("root 2 agent/1")

	// The hold gets other keys: its list is signed again.
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Hold.Keys.Keys = w.Public("review-release", "hold-3")
		tx.Root().Recovery = nil
		return nil
	})
	if w.Root().Charter().Recovery() != nil {
		t.Error("recovery is still there")
	}
	w.Sees("root 3 agent/1")
	// The list expires like the party's roles and is renewed with them; while it is
	// expired, no release is accepted.
	w.Now = w.Now.Add(29 * 24 * time.Hour)
	w.Update(func(tx *repo.Tx) error { return errors.Join(tx.Renew("vendor"), tx.Renew("review")) })
	w.Now = w.Now.Add(6 * 24 * time.Hour)
	noErr(t, w.Open().Renew(t.Context()))
	w.Sees("root 3 agent/1")
	w.Refused(tuf.ErrCharter, func() error {
		return w.Try(func(tx *repo.Tx) error { tx.Root().Classes[0].Hold.Keys.Keys = nil; return nil })
	})
}

// A cut-over has no gap: the last content under the old keys has the signatures of
// both generations, and so does the first content under the new keys.
func TestBridge(t *testing.T) {
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) })
	before := w.Root()
	cutOver := func(tx *repo.Tx) error {
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("timestamp-2"), w.Public("snapshot-2"), w.Public("targets-2")
		r.Classes[0].Roles[0].Keys.Keys = w.Public("vendor-release-2")
		return nil
	}
	old := []tuf.Signer{w.Signer("timestamp"), w.Signer("snapshot"), w.Signer("targets"), w.Signer("vendor-release"), w.Signer("vendor-1")}
	w.Public("timestamp-2", "snapshot-2", "targets-2", "vendor-release-2")
	cfg := w.Config()
	cfg.DualSigning = &signing.DualSigning{Root: before, Signers: old}
	for _, s := range w.Keys {
		cfg.Signers = append(cfg.Signers, s)
	}
	r := repo.New(w.Store, cfg)
	noErr(t, r.Update(t.Context(), cutOver))
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) }))
	w.Sees("root 2 agent/1 agent/2")

	// A client that does not see the new root takes the same content.
	p := w.Product()
	p.Root = before
	hidden := w.Store.Files["metadata/2.root.json"]
	delete(w.Store.Files, "metadata/2.root.json")
	if got := p.State(); got != "root 1 agent/1 agent/2" {
		t.Errorf("under the old root a client sees %q", got)
	}
	w.Store.Files["metadata/2.root.json"] = hidden

	// In the other direction, the content is published under the old root with the next
	// root prepared.
	w2 := newWorld(t)
	draft, err := w2.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w2.Public("timestamp-2"), w2.Public("snapshot-2")
		return nil
	})
	noErr(t, err)
	next, err := w2.Root().Next(draft.File("root"))
	noErr(t, err)
	cfg = w2.Config()
	cfg.DualSigning = &signing.DualSigning{Root: next, Signers: []tuf.Signer{w2.Signer("timestamp-2"), w2.Signer("snapshot-2")}}
	cfg.Signers = []tuf.Signer{w2.Signer("timestamp"), w2.Signer("snapshot"), w2.Signer("vendor-release"), w2.Signer("review-release")}
	noErr(t, repo.New(w2.Store, cfg).Update(t.Context(), func(tx *repo.Tx) error { return errors.Join(add("1")(tx), approve("1")(tx)) }))
	p = w2.Product()
	p.Root = next
	if got := p.State(); got != "root 2 agent/1" {
		t.Errorf("under the new root a client sees %q", got)
	}
}
