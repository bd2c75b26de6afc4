package tuf_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// T5 with a root that drops the rule and changes the recovery: no rule is in force, the
// recovery is pending, and no proof can bring it into force.
func TestAttackLoggedAfterRuleIsDropped(t *testing.T) {
	w := newRuleWorld(t)
	w.NextRoot(func() {
		delete(w.Charter(), "log")
		at(w.Charter(), "recovery")["hold_seconds"] = 2 * 864000
	})
	r, err := w.root.Next(w.Files["2.root.json"])
	rawtuf.NoErr(t, err)
	first, later := rootProof(w.log, r, rawtuf.Now, cosigners...), rootProof(w.log, r, rawtuf.Now.Add(72*time.Hour), cosigners...)
	r, err = r.LoggedByRecovery(w.Sign(doc{"_type": "x-visum-log-change", "repo_id": rawtuf.RepoID, "root": rawtuf.NameOf(w.Root), "reason": "lost"}, "bank1", "university"))
	rawtuf.NoErr(t, err)
	if r.LogRule() != nil {
		t.Fatal("not dropped")
	}
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	if _, err := r.Logged(first, later); err != nil && !errors.Is(err, tuf.ErrUntrusted) {
		t.Error(err)
	}
}

// The quorum changes under one root, whose head was proven before: the same tree with the
// new cosignatures is no rollback.
func TestAttackSameTreeWithAnotherQuorum(t *testing.T) {
	w := newRuleWorld(t)
	fourth := rawlog.NewSigner("fourth.example", tlog.TypeCosigner)
	r := w.next(func(l doc) {
		l["policy"] = "log " + rawlog.NewSigner(logName, tlog.TypeLog).String() + "\nwitness fourth " + fourth.String() + "\nquorum fourth\n"
	})
	first, later := rootProof(w.log, r, rawtuf.Now, cosigners...), rootProof(w.log, r, rawtuf.Now.Add(72*time.Hour), cosigners...)
	prior := w.proves(w.under(r, rawtuf.Now), rawtuf.Now) // by the rule in force
	if _, err := w.under(r, rawtuf.Now).Logged(prior, tuf.LogState{}); err != nil {
		t.Fatal(err)
	}
	r, err := r.Logged(first, later)
	rawtuf.NoErr(t, err)
	again := w.log.Proof(w.log.Tree.Size-1, w.log.Note(rawtuf.Now, fourth))
	s := w.under(r, rawtuf.Now)
	if _, err := s.Logged(again, tuf.LogState{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Logged(again, tuf.LogState{Prior: prior}); err != nil {
		t.Errorf("the same tree after the change: %v", err)
	}
}

// What a caller does to a returned rule changes no decision.
func TestAttackRuleIsACopy(t *testing.T) {
	w := newRuleWorld(t)
	before := w.root.LogRule()
	standby, log := before.Standby.String(), before.Policy.Log().String()
	clear(before.Standby.Public)
	clear(before.Policy.Log().Public)
	clear(before.Policy.Cosigners()[0].Key.Public)
	after := w.root.LogRule()
	if after.Standby.String() != standby {
		t.Error("the standby in force has changed")
	}
	if after.Policy.Log().String() != log || !strings.Contains(after.Policy.String(), cosigners[0].String()) {
		t.Error("the policy in force has changed")
	}
}
