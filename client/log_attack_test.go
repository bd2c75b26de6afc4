package client_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// noProofs answers that there is no proof.
var noProofs = status(404, ".tlog-proof", nil)

// rootLeafOf is the leaf of the newest root of a repository.
func rootLeafOf(r *rawtuf.Repo) []byte {
	return fmt.Appendf(nil, `{"_type":"x-visum-root","repo_id":%q,"sha256":%q,"version":%v}`, rawtuf.RepoID, rawtuf.NameOf(r.Root)["sha256"], r.Root["version"])
}

// toWarn changes the mode to warn.
func toWarn(c rawtuf.Doc) { c["log"] = logRule("warn", logName) }

// One location serves a proof of the root's entry that was cosigned later, under the name
// of the first proof: that must not put off the change for ever, because the second proof
// is made once.
func TestAttackLaterProofAsTheFirst(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	w.changes(toWarn)
	start := w.now
	w.repo.Files["2.root.tlog-proof"] = w.rootProof(w.log, start)
	index := w.log.Tree.Size - 1
	w.prove(w.log, start)
	again := w.log.Proof(index, w.log.Note(start.Add(80*time.Hour), cosigners...))
	w.repo.Files["2.root.later.tlog-proof"] = w.log.Proof(index, w.log.Note(start.Add(73*time.Hour), cosigners...))
	w.does(body("2.root.tlog-proof", again), vendorHost)
	w.now = start.Add(81 * time.Hour)
	w.good(w.client(), 2)
	w.does(nil, vendorHost) // honest again
	w.now = start.Add(200 * time.Hour)
	if view := w.good(w.client(), 2); view.Root().LogPending() {
		t.Error("the change of the rule never comes into force")
	}
}

// A charter whose probes ask one operator: its rule can change too.
func TestAttackRuleChangesWithOneOperator(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.repo.Charter()["probe"] = rawtuf.Doc{"min_operators": 1, "every_seconds": 3600, "max_age_seconds": 30 * 86400, "mode": "warn"}
	w.repo.PublishRoot()
	w.prove(w.log, w.now)
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("enforce", standbyName); delete(rawtuf.At(c, "log"), "standby") })
	standby := rawlog.NewLog(standbyName)
	w.repo.Files["2.root.tlog-proof"] = w.rootProof(standby, w.now)
	w.prove(standby, w.now)
	w.good(w.client(), 2)
}

// A root that is found because the content can't be had is like any other: the proofs of
// its change are sought in this refresh, or at least later in this process.
func TestAttackRootFoundInSearch(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	old := w.repo.Clone()
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("enforce", standbyName); delete(rawtuf.At(c, "log"), "standby") })
	standby := rawlog.NewLog(standbyName)
	w.repo.Files["2.root.tlog-proof"] = w.rootProof(standby, w.now)
	w.prove(standby, w.now)
	w.shows(old, vendorHost) // which has no root 2 yet
	w.does(status(500, "timestamp.json", nil), vendorHost, cdnHost, reviewHost)
	if failed := w.bad(c, client.ErrNoContent); failed.Root.Version() != 2 {
		t.Fatalf("root v%d", failed.Root.Version())
	}
	w.shows(nil, vendorHost)
	w.does(nil, vendorHost, cdnHost, reviewHost)
	w.now = w.now.Add(7 * time.Hour) // a probe is due
	view, err := refreshed(t, c)
	if next := w.good(w.client(), 2); next.Root().LogPending() {
		t.Error("the standby is not the log in the next process")
	}
	if view.Root().LogPending() {
		t.Errorf("the standby is not the log in this process: %v", err)
	}
}

// A proof that was renewed counts for the last logged set too: a hold when the cosigners
// are down stops what is held, not everything.
func TestAttackRenewedProofRestricts(t *testing.T) {
	w := newLogWeb(t, "enforce")
	later := rawtuf.Doc{"product": "agent", "version": "11.5.0", "channel": "stable", "platform": "linux/amd64", "sequence": 8}
	w.repo.AddTarget(newPath, "the agent", later, "vendor-agent", "review-agent")
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
	w.prove(w.log, w.now)
	c := w.client()
	w.good(c, 1)
	w.now = w.now.Add(16 * day)
	w.prove(w.log, w.now) // cosigned again
	if head, err := w.good(c, 1).Head(); err != nil || !head.Time.Equal(w.now) {
		t.Fatalf("not renewed: %+v, %v", head, err)
	}
	w.now = w.now.Add(15 * day) // the renewed proof lasts 15 days more
	w.good(c, 1)
	w.hold() // cosigners are down
	view, err := c.Refresh(t.Context())
	if err != nil {
		t.Fatalf("a hold stops everything: %v", err)
	}
	w.decides(view, rawtuf.Path, tuf.ErrHeld)
	w.decides(view, newPath, nil)
}

// A quorum whose clocks were ahead for a while leaves nothing behind: the proof ends by the
// running time, and the next publish, in a larger tree with the right time, counts.
func TestAttackQuorumTimeAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		begun, start := time.Now(), w.now
		now := func() time.Time { return start.Add(time.Since(begun)) }
		c := w.client(func(cfg *client.Config) { cfg.Now = now })
		w.prove(w.log, start.Add(1000*day))
		w.good(c, 1)
		for range 31 {
			time.Sleep(day)
			w.prove(w.log, now()) // the clocks are right again
			_, _ = refreshed(t, c)
		}
		w.release()
		w.prove(w.log, now())
		if _, err := c.Refresh(t.Context()); err != nil {
			t.Errorf("a proof of a larger tree, cosigned now, is refused: %v", err)
		}
	})
}

// Who holds the network and the clock has several proofs of one head, as it was cosigned
// again, and shows one after the other: together they last no longer than one.
func TestAttackProofsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		c := w.client()
		w.good(c, 1)
		running := 0
		for n := 1; n <= 5; n++ {
			for range 29 {
				time.Sleep(day) // the clock of the machine stands still
				if running++; running > 40 {
					t.Fatalf("after %d days of running time the proofs of 5 days are accepted", running)
				}
				if _, err := c.Refresh(t.Context()); err != nil {
					return
				}
			}
			w.prove(w.log, w.now.Add(time.Duration(n)*day))
			w.now = w.now.Add(16 * day) // the next one is asked for
			_, err := c.Refresh(t.Context())
			w.now = w.now.Add(-16 * day)
			if err != nil {
				return
			}
		}
	})
}

// A client that knows no proven set sees two sets: one without a proof, with a hold, and
// an older one in the log at a mirror that lags. The hold must count.
func TestAttackUnloggedHoldIsPassedOver(t *testing.T) {
	w := newLogWeb(t, "enforce")
	logged := w.repo.Clone()
	w.shows(logged, reviewHost, cdnHost)
	w.hold() // without a proof, at the vendor
	view, err := w.client().Refresh(t.Context())
	if err != nil {
		return // nothing is installed
	}
	if _, err := view.Find(t.Context(), rawtuf.Path); err == nil {
		t.Errorf("a release is approved at snapshot v%d that the newest snapshot holds", logged.Roles["snapshot"]["version"])
	}
}

// The versions of the set without a proof are floors: when its location is down, the mirror
// that lags does not lift the hold.
func TestAttackUnloggedHoldStays(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.shows(w.repo.Clone(), reviewHost, cdnHost)
	w.hold() // without a proof, at the vendor
	for range 2 {
		if view, err := w.client().Refresh(t.Context()); err == nil {
			if _, err := view.Find(t.Context(), rawtuf.Path); err == nil {
				t.Error("a release is approved that the newest snapshot holds")
			}
		}
		w.does(unreachable, vendorHost)
		w.now = w.now.Add(time.Minute)
	}
}

// A role of the last logged set is damaged on the disk, and one location serves other
// bytes: the other locations have it.
func TestAttackLoggedRoleIsDamaged(t *testing.T) {
	for _, how := range []string{"damaged", "removed, and damaged at one location"} {
		w := newLogWeb(t, "enforce")
		w.good(w.client(), 1)
		name := fmt.Sprintf("%v.review-agent.json", w.repo.Roles["review-agent"]["version"])
		if how == "damaged" {
			mustWrite(t, w.state("roles", name), []byte("damaged"))
		} else {
			rawtuf.NoErr(t, os.Remove(w.state("roles", name)))
			w.does(body(name, []byte("damaged")), vendorHost)
		}
		w.repo.Bump("review-agent")
		w.repo.Publish() // without a proof
		view, err := w.client().Refresh(t.Context())
		if err != nil {
			t.Errorf("%s: %v", how, err)
			continue
		}
		w.decides(view, rawtuf.Path, nil)
	}
}

// Processes that run for less than an hour: their running time counts too.
func TestAttackShortProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		rawtuf.At(w.repo.Charter(), "log")["max_age_seconds"] = 6 * 3600
		w.repo.PublishRoot()
		w.prove(w.log, w.now)
		w.good(w.client(), 1)
		w.does(noProofs, vendorHost, cdnHost, reviewHost)
		for range 24 { // 20 hours of running time
			c := w.client()
			if _, err := c.Refresh(t.Context()); err != nil {
				return
			}
			time.Sleep(50 * time.Minute)
			if _, err := c.Refresh(t.Context()); err != nil {
				return
			}
		}
		t.Error("a clock that stands still hides everything from short processes")
	})
}

// The process is killed when the proof is written and the state is not: the running time
// of that proof counts all the same.
func TestAttackKilledAfterProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		w.good(w.client(), 1)
		was := map[string][]byte{}
		for _, name := range []string{"state.json", "state.bak"} {
			data, err := os.ReadFile(w.state(name))
			rawtuf.NoErr(t, err)
			was[name] = data
		}
		w.release()
		w.prove(w.log, w.now.Add(time.Minute))
		w.good(w.client(), 1)
		for name, data := range was {
			mustWrite(t, w.state(name), data)
		}
		w.does(noProofs, vendorHost, cdnHost, reviewHost)
		c := w.client()
		for range 70 {
			if _, err := c.Refresh(t.Context()); err != nil {
				return
			}
			time.Sleep(day)
		}
		t.Error("the proof is used for 70 days of running time")
	})
}

// A view that is restricted by the last logged set ends with that set's roles.
func TestAttackViewOutlivesLoggedRole(t *testing.T) {
	w := newLogWeb(t, "enforce")
	for _, role := range []string{"vendor-agent", "review-agent"} {
		w.repo.Roles[role]["expires"] = rawtuf.Stamp(w.now.Add(time.Hour))
	}
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
	w.prove(w.log, w.now)
	c := w.client()
	w.good(c, 1)
	for _, role := range []string{"vendor-agent", "review-agent"} {
		w.repo.Roles[role]["expires"] = w.repo.Roles["snapshot"]["expires"]
	}
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish() // without a proof
	view := w.good(c, 1)
	w.now = w.now.Add(2 * time.Hour)
	w.decides(view, rawtuf.Path, tuf.ErrExpired)
}

// A view is used for longer than the maximum age of running time, under a clock that is
// set back.
func TestAttackViewOutlivesRunningTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		view := w.good(w.client(), 1)
		time.Sleep(31 * day)
		w.decides(view, rawtuf.Path, tuf.ErrExpired)
	})
}

// Damaged files of the last logged set are written again when the set is proven, as other
// files of the state are.
func TestAttackLoggedFilesAreRepaired(t *testing.T) {
	for _, name := range []string{"snapshot.json", "timestamp.json", "head.tlog-proof"} {
		w := newLogWeb(t, "enforce")
		w.good(w.client(), 1)
		mustWrite(t, w.state("logged", name), []byte("damaged"))
		w.good(w.client(), 1) // proven
		w.release()           // without a proof
		if _, err := w.client().Refresh(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is listed with other bytes without a proof is a decision, not the fault of the
// location, and not a failure of CheckInstalled.
func TestAttackOtherBytesAreADecision(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	a, err := w.good(c, 1).Find(t.Context(), rawtuf.Path)
	rawtuf.NoErr(t, err)
	rel := rawtuf.Doc{"product": "agent", "version": "11.4.0", "channel": "stable", "platform": "linux/amd64", "sequence": 7}
	w.repo.AddTarget(rawtuf.Path, "a hidden build", rel, "vendor-agent", "review-agent")
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
	view, err := c.Refresh(t.Context())
	rawtuf.NoErr(t, err)
	d, err := view.CheckInstalled(t.Context(), rawtuf.Path, a.SHA256())
	if err != nil || d.Accepted || d.Reason != "not-logged" {
		t.Errorf("CheckInstalled: %+v, %v", d, err)
	}
}

// The role of the last logged set stays on the disk as long as it restricts: the second
// publish without a proof does not remove it.
func TestAttackLoggedRolesStay(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	version := w.repo.Roles["review-agent"]["version"]
	for n := range 3 { // without a proof
		w.repo.Bump("review-agent")
		w.repo.Publish()
		delete(w.repo.Files, fmt.Sprintf("%v.review-agent.json", version)) // the locations keep no old files
		view, err := c.Refresh(t.Context())
		rawtuf.NoErr(t, err)
		if _, err := view.Find(t.Context(), rawtuf.Path); err != nil {
			t.Fatalf("publish %d without a proof: %v", n+1, err)
		}
	}
}

// T5 brings the log member into force, and T3 the recovery member later, in one process.
func TestAttackRecoveryMemberAfterT5(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	w.changes(func(c rawtuf.Doc) {
		c["log"] = logRule("enforce", "new.example/visum/3")
		rawtuf.At(c, "recovery")["hold_seconds"] = 2 * 864000
	})
	other := rawlog.NewLog("new.example/visum/3")
	other.Append([]byte("the last checkpoint of the log before"))
	first := w.rootProof(other, w.now)
	index := other.Tree.Size - 1
	w.prove(other, w.now)
	s := rawtuf.Doc{"_type": "x-visum-log-change", "repo_id": rawtuf.RepoID, "root": rawtuf.NameOf(w.repo.Root), "reason": "two cosigners are gone"}
	w.repo.Files["recovery/2.log.json"] = w.repo.Sign(s, "bank1", "university")
	w.now = w.now.Add(7 * time.Hour) // a probe is due
	if view := w.good(c, 2); view.Root().LogRule().Policy.Log().Name != "new.example/visum/3" || !view.Root().LogPending() {
		t.Fatal("T5")
	}
	w.repo.Files["2.root.tlog-proof"] = first
	w.now = w.now.Add(80 * time.Hour)
	w.repo.Files["2.root.later.tlog-proof"] = other.Proof(index, other.Note(w.now, cosigners...))
	w.good(c, 2)
	w.now = w.now.Add(7 * time.Hour)
	if view := w.good(c, 2); view.Root().LogPending() {
		fresh := w.good(w.client(), 2)
		t.Errorf("the recovery member never comes into force in this process; in the next one it is pending: %v", fresh.Root().LogPending())
	}
}

// T5 with a root that drops the rule and changes the recovery, when a first proof of T3 is
// kept already.
func TestAttackRuleDroppedByT5(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) {
		delete(c, "log")
		rawtuf.At(c, "recovery")["hold_seconds"] = 2 * 864000
	})
	w.repo.Files["2.root.tlog-proof"] = w.rootProof(w.log, w.now)
	w.prove(w.log, w.now)
	w.good(w.client(), 2)
	s := rawtuf.Doc{"_type": "x-visum-log-change", "repo_id": rawtuf.RepoID, "root": rawtuf.NameOf(w.repo.Root), "reason": "the cosigners are gone"}
	w.repo.Files["recovery/2.log.json"] = w.repo.Sign(s, "bank1", "university")
	for range 2 {
		view, panicked := refreshSafely(t, w.client())
		if panicked != nil {
			t.Errorf("panic: %v", panicked)
			continue
		}
		if view.Root().LogRule() != nil {
			t.Error("not in force")
		}
	}
}

func refreshSafely(t *testing.T, c *client.Client) (view *client.View, panicked any) {
	defer func() { panicked = recover() }()
	view, err := c.Refresh(t.Context())
	rawtuf.NoErr(t, err)
	return view, nil
}

// A client that slept through more changes than are sought follows them all. Each replaces
// the cosigners, so that each root is proven by those before.
func TestAttackManyChanges(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	start := w.now
	const changes = 70
	before := cosigners[0]
	for n := range changes {
		next := rawlog.NewSigner(fmt.Sprintf("cosigner%d.example", n), tlog.TypeCosigner)
		w.repo.NextRoot(func() {
			rawtuf.At(w.repo.Charter(), "log")["policy"] = "log " + w.log.Signer.String() + "\nwitness one " + next.String() + "\nquorum one\n"
		})
		w.log.Append(rootLeafOf(w.repo))
		index := w.log.Tree.Size - 1
		by := []*rawlog.Signer{before}
		if n == 0 {
			by = cosigners
		}
		v := w.repo.Root["version"]
		w.repo.Files[fmt.Sprintf("%v.root.tlog-proof", v)] = w.log.Proof(index, w.log.Note(start, by...))
		w.repo.Files[fmt.Sprintf("%v.root.later.tlog-proof", v)] = w.log.Proof(index, w.log.Note(start.Add(72*time.Hour), by...))
		before = next
	}
	w.repo.Bump()
	w.repo.Publish()
	w.now = start.Add(100 * time.Hour)
	w.log.Append(w.head())
	w.repo.Files[w.proofName()] = w.log.Proof(w.log.Tree.Size-1, w.log.Note(w.now, before))
	if view := w.good(w.client(), changes+1); view.Root().LogPending() {
		t.Errorf("the rule in force is still that of root 1, age %s", view.Root().LogRule().MaxAge)
	}
}

// A view after the renewal of the proof lasts as long as the renewed proof.
func TestAttackViewAfterRenewal(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	w.now = w.now.Add(30*day - time.Hour)
	w.prove(w.log, w.now)
	view := w.good(c, 1)
	head, err := view.Head()
	rawtuf.NoErr(t, err)
	w.now = w.now.Add(2 * time.Hour)
	if w.now.Before(head.Until) {
		w.decides(view, rawtuf.Path, nil)
	}
}

// The clock was set back by more than the maximum age, such as to the time of the root by
// an empty battery: the last logged set is used, for as long as the running time says.
func TestAttackClockSetBackWithHold(t *testing.T) {
	w := newLogWeb(t, "enforce")
	start := w.now
	w.now = start.Add(40 * day)
	w.repo.Bump()
	w.repo.Publish()
	w.prove(w.log, w.now)
	w.good(w.client(), 1)
	w.now = start
	w.good(w.client(), 1)
	w.release() // without a proof
	view, err := w.client().Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.decides(view, rawtuf.Path, nil)
	w.decides(view, newPath, tuf.ErrNoTarget)
}

// The parties' roots have forked, and the client has followed the branch that is not
// continued. The next root heals it: its own proofs bring its rule into force.
func TestAttackForkThatChangesTheRule(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	theirs := w.repo.Clone()
	changed := func(c rawtuf.Doc) { rawtuf.At(c, "log")["max_age_seconds"] = 20 * 86400 }
	theirs.NextRoot(func() {
		changed(theirs.Charter())
		theirs.Root["expires"] = rawtuf.Stamp(w.now.AddDate(1, 0, 0))
	})
	w.shows(theirs, vendorHost, cdnHost, reviewHost)
	_, _ = refreshed(t, w.client())
	// The honest root 2 makes the same change in public; root 3 is in the log too.
	w.changes(changed)
	start := w.now
	for n := range 2 {
		if n > 0 {
			w.repo.NextRoot(func() {})
			w.repo.Bump()
			w.repo.Publish()
		}
		w.log.Append(rootLeafOf(w.repo))
		index := w.log.Tree.Size - 1
		v := w.repo.Root["version"]
		w.repo.Files[fmt.Sprintf("%v.root.tlog-proof", v)] = w.log.Proof(index, w.log.Note(start, cosigners...))
		w.repo.Files[fmt.Sprintf("%v.root.later.tlog-proof", v)] = w.log.Proof(index, w.log.Note(start.Add(72*time.Hour), cosigners...))
	}
	w.now = start.Add(100 * time.Hour)
	w.prove(w.log, w.now)
	w.shows(nil, vendorHost, cdnHost, reviewHost)
	if view := w.good(w.client(), 3); view.Root().LogPending() {
		t.Error("never in force for clients of the other branch")
	}
	w.dir = quickDir(t)
	if view := w.good(w.client(), 3); view.Root().LogPending() {
		t.Error("not in force for a new client")
	}
}

// Views that are restricted, and refreshes that lift the restriction, run at the same time.
func TestAttackViewsAndRefreshes(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	w.release() // without a proof
	view := w.good(c, 1)
	done := make(chan error)
	for range 4 {
		go func() {
			_, err := view.Find(t.Context(), rawtuf.Path)
			_, _ = view.Head()
			if _, latest := view.Latest(t.Context(), client.Query{Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: "11.0.0"}); latest != nil {
				err = errors.Join(err, latest)
			}
			if _, unlogged := view.Find(t.Context(), newPath); !errors.Is(unlogged, tuf.ErrNoTarget) {
				err = errors.Join(err, fmt.Errorf("%s: %v", newPath, unlogged))
			}
			done <- err
		}()
		go func() {
			_, err := c.Refresh(t.Context())
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
