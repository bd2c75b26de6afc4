package client_test

import (
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// changes publishes the next root with another log member, and its content with a proof.
func (w *logWeb) changes(edit func(c rawtuf.Doc)) {
	w.repo.NextRoot(func() { edit(w.repo.Charter()) })
	w.repo.Bump()
	w.repo.Publish()
}

// rootLeaf is the leaf of the newest root.
func (w *logWeb) rootLeaf() []byte {
	return []byte(`{"_type":"x-visum-root","repo_id":"` + rawtuf.RepoID + `","sha256":"` + rawtuf.NameOf(w.repo.Root)["sha256"].(string) + `","version":2}`)
}

// rootProof logs the newest root and returns its proof.
func (w *logWeb) rootProof(l *rawlog.Log, at time.Time) []byte {
	l.Append(w.rootLeaf())
	return l.Proof(l.Tree.Size-1, l.Note(at, cosigners...))
}

// A change of an enforced rule comes into force after three days in public; in the
// meantime content needs the proof of the rule in force. Later processes, and clients that
// come years later, find the same with the kept or served files.
func TestRuleChangesInPublic(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("warn", logName) })
	first := w.rootProof(w.log, w.now)
	w.prove(w.log, w.now)
	w.repo.Files["2.root.tlog-proof"] = first
	view := w.good(w.client(), 2)
	if !view.Root().LogPending() || !view.Root().LogRule().Enforce {
		t.Fatal("in force at once")
	}
	w.now = w.now.Add(72 * time.Hour)
	w.release() // without a proof
	w.decides(w.good(w.client(), 2), newPath, tuf.ErrNoTarget)
	w.repo.Files["2.root.later.tlog-proof"] = w.rootProof(w.log, w.now.Add(-time.Second))
	if view := w.good(w.client(), 2); !view.Root().LogPending() {
		t.Fatal("in force after a second less than 72 hours")
	}
	w.repo.Files["2.root.later.tlog-proof"] = w.rootProof(w.log, w.now)
	inForce := func(c *client.Client) {
		t.Helper()
		view := w.good(c, 2)
		if view.Root().LogPending() || view.Root().LogRule().Enforce {
			t.Fatal("not in force")
		}
		w.decides(view, newPath, nil)
	}
	c := w.client()
	inForce(c)
	inForce(c)
	// The files are kept: the next process needs no location for them.
	gone := func(name string, r *http.Request) (*http.Response, error) {
		if strings.HasPrefix(name, "metadata/2.root.") && name != "metadata/2.root.json" {
			return respond(r, 404, strings.NewReader("")), nil
		}
		return nil, nil
	}
	w.does(gone, vendorHost, cdnHost, reviewHost)
	inForce(w.client())
	// A client that comes later reads them from where they are.
	w.dir = quickDir(t)
	w.does(nil, vendorHost)
	w.now = w.now.Add(600 * day)
	w.prove(w.log, w.now)
	inForce(w.client())
	// Kept files that are damaged are sought again.
	for _, name := range []string{"2.root.tlog-proof", "2.root.later.tlog-proof"} {
		rawtuf.NoErr(t, os.WriteFile(w.state("roots", name), []byte("damaged"), 0o600))
		inForce(w.client())
	}
}

// Both root quorums and all other keys of the parties are stolen; the attacker has one
// machine and its network, and the log is honest.
func TestStolenKeysWithoutTheLog(t *testing.T) {
	for name, edit := range map[string]func(c rawtuf.Doc){
		"drop the rule":         func(c rawtuf.Doc) { delete(c, "log") },
		"warn":                  func(c rawtuf.Doc) { c["log"] = logRule("warn", logName) },
		"a log of their own":    func(c rawtuf.Doc) { c["log"] = logRule("enforce", "attacker.example/visum/1") },
		"the standby's log":     func(c rawtuf.Doc) { c["log"] = logRule("enforce", standbyName); delete(rawtuf.At(c, "log"), "standby") },
		"recovery of their own": func(c rawtuf.Doc) { rawtuf.At(c, "recovery")["hold_seconds"] = 86400 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newLogWeb(t, "enforce")
			w.good(w.client(), 1)
			honest := w.repo.Clone()
			w.changes(edit)
			w.release()
			own := rawlog.NewLog("attacker.example/visum/1")
			w.repo.Files["2.root.tlog-proof"] = w.rootProof(own, w.now)
			w.repo.Files["2.root.later.tlog-proof"] = w.rootProof(own, w.now.Add(100*time.Hour))
			w.prove(own, w.now)
			for range 10 {
				view, err := refreshed(t, w.client())
				if view.Root().Version() != 2 || !view.Root().LogPending() {
					t.Fatalf("root v%d", view.Root().Version())
				}
				if err == nil {
					w.decides(view.View, newPath, tuf.ErrNoTarget)
				}
				w.now = w.now.Add(10 * day)
			}
			// The parties take it back with a root of their own, in the log.
			w.repo.NextRoot(func() {
				for _, member := range []string{"log", "recovery"} {
					w.repo.Charter()[member] = rawtuf.Copy(rawtuf.At(honest.Root, "x-visum")[member])
				}
			})
			w.repo.Publish()
			w.prove(w.log, w.now)
			if view := w.good(w.client(), 3); view.Root().LogPending() {
				t.Error("still pending")
			}
		})
	}
}

// The log is gone: the standby proves the root that makes it the log, and the content.
func TestStandbyTakesOver(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("enforce", standbyName); delete(rawtuf.At(c, "log"), "standby") })
	standby := rawlog.NewLog(standbyName)
	w.repo.Files["2.root.tlog-proof"] = w.rootProof(standby, w.now)
	w.prove(standby, w.now)
	view := w.good(w.client(), 2)
	if head, err := view.Head(); err != nil || head.Origin != standbyName || view.Root().LogPending() {
		t.Errorf("%+v, %v", head, err)
	}
	w.good(w.client(), 2)
}

// The quorum is lost: the recovery organisations bring another rule into force at once.
func TestQuorumIsLost(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("enforce", "new.example/visum/3") })
	other := rawlog.NewLog("new.example/visum/3")
	other.Append([]byte("the last checkpoint of the log before"))
	w.prove(other, w.now)
	w.bad(w.client(), client.ErrNoContent)
	s := rawtuf.Doc{"_type": "x-visum-log-change", "repo_id": rawtuf.RepoID, "root": rawtuf.NameOf(w.repo.Root), "reason": "two cosigners are gone"}
	w.repo.Files["recovery/2.log.json"] = w.repo.Sign(s, "bank1", "bank2")
	if failed := w.bad(w.client(), client.ErrNoContent); !failed.Root.LogPending() {
		t.Error("one organisation is enough")
	}
	w.repo.Files["recovery/2.log.json"] = w.repo.Sign(s, "bank1", "university")
	if view := w.good(w.client(), 2); view.Root().LogPending() || view.Root().LogRule().Policy.Log().Name != "new.example/visum/3" {
		t.Error("not in force")
	}
	w.good(w.client(), 2)
}

// A client of years ago, whose newest root has no rule, follows to the rule (T2); what it
// says about the head needs the proof then.
func TestRuleIsNew(t *testing.T) {
	w := &logWeb{newWeb(t), rawlog.NewLog(logName)}
	w.log.Append([]byte("an earlier entry"))
	w.good(w.client(), 1)
	w.changes(func(c rawtuf.Doc) { c["log"] = logRule("enforce", logName) })
	failed := w.bad(w.client(), client.ErrNoContent)
	if !errors.Is(failed, tuf.ErrNotLogged) {
		t.Errorf("no reason: %v", failed)
	}
	w.prove(w.log, w.now)
	w.good(w.client(), 2)
}
