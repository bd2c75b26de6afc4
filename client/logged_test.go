package client_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	logName     = "vendor.example/visum/1"
	standbyName = "review.example/visum/2"
	newPath     = "agent/linux/11.5.0"
)

var cosigners = []*rawlog.Signer{
	rawlog.NewSigner("third.example", tlog.TypeCosigner), rawlog.NewSigner("cert.example", tlog.TypeCosigner), rawlog.NewSigner("witness.example", tlog.TypeCosigner)}

// logRule is the log member of a charter: two of three cosigners, 30 days, and 60 without a
// network.
func logRule(mode, log string) rawtuf.Doc {
	s := "log " + rawlog.NewSigner(log, tlog.TypeLog).String() + "\n"
	for i, name := range []string{"third", "cert", "public"} {
		s += "witness " + name + " " + cosigners[i].String() + "\n"
	}
	return rawtuf.Doc{"mode": mode, "max_age_seconds": 30 * 86400, "offline_max_age_seconds": 60 * 86400,
		"policy": s + "group q 2 third cert public\nquorum q\n", "standby": rawlog.NewSigner(standbyName, tlog.TypeLog).String()}
}

// logWeb is a web whose repository has a rule of the log.
type logWeb struct {
	*web
	log *rawlog.Log
}

func newLogWeb(t *testing.T, mode string) *logWeb {
	w := &logWeb{newWeb(t, func(r *rawtuf.Repo) {
		r.Charter()["log"] = logRule(mode, logName)
		later := rawtuf.Stamp(rawtuf.Now.AddDate(2, 0, 0)) // the age of proofs is what ends
		r.Root["expires"] = later
		for _, role := range r.Roles {
			role["expires"] = later
		}
	}, (*rawtuf.Repo).Recoverable), rawlog.NewLog(logName)}
	w.log.Append([]byte("an earlier entry"))
	w.prove(w.log, w.now)
	return w
}

// head is the leaf of what is published.
func (w *logWeb) head() []byte {
	file := w.repo.Files[fmt.Sprintf("%v.snapshot.json", w.repo.Roles["snapshot"]["version"])]
	return fmt.Appendf(nil, `{"_type":"x-visum-head","repo_id":%q,"root":{"sha256":%q,"version":%v},"snapshot":{"length":%d,"sha256":%q,"version":%v}}`,
		rawtuf.RepoID, rawtuf.NameOf(w.repo.Root)["sha256"], w.repo.Root["version"], len(file), rawtuf.FileOf(file)["hashes"].(rawtuf.Doc)["sha256"], w.repo.Roles["snapshot"]["version"])
}

// proofName is the name of the proof of what is published.
func (w *logWeb) proofName() string {
	return fmt.Sprintf("%v.%v.tlog-proof", w.repo.Root["version"], w.repo.Roles["snapshot"]["version"])
}

// prove appends what is published to a log, unless it is its last entry, and serves the
// proof, cosigned at a time.
func (w *logWeb) prove(l *rawlog.Log, at time.Time) {
	leaf := w.head()
	if string(l.Leaves[len(l.Leaves)-1]) != string(leaf) {
		l.Append(leaf)
	}
	w.repo.Files[w.proofName()] = l.Proof(l.Tree.Size-1, l.Note(at, cosigners[:2]...))
}

// release adds a release that both parties list.
func (w *logWeb) release() {
	rel := rawtuf.Doc{"product": "agent", "version": "11.5.0", "channel": "stable", "platform": "linux/amd64", "sequence": 8}
	w.repo.AddTarget(newPath, "the agent", rel, "vendor-agent", "review-agent")
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
}

// hold holds the release of the healthy repository.
func (w *logWeb) hold() {
	f := rawtuf.FileOf(nil)
	f["custom"] = rawtuf.Doc{"visum": rawtuf.Doc{"reason": "wait", "until": rawtuf.Stamp(w.now.Add(time.Hour))}}
	rawtuf.At(w.repo.Roles["hold"], "targets")[rawtuf.Path] = f
	w.repo.Bump("hold")
	w.repo.Publish()
}

func (w *logWeb) decides(v *client.View, path string, want error) {
	w.t.Helper()
	if _, err := v.Find(w.t.Context(), path); !errors.Is(err, want) {
		w.t.Errorf("%s: %v, want %v", path, err, want)
	}
}

// With a proof all is as before. With nothing new no request is made for it, with news one.
func TestLogRequests(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	view := w.good(c, 1)
	head, err := view.Head()
	if err != nil || head.Origin != logName || head.Size != 2 || head.Index != 1 || len(head.Cosigners) != 2 || !head.Until.Equal(w.now.Add(30*day)) {
		t.Errorf("%+v, %v", head, err)
	}
	proofs := func() (n int) {
		for _, r := range w.asked("") {
			if strings.HasSuffix(r, ".tlog-proof") {
				n++
			}
		}
		return n
	}
	proofs()
	for range 2 {
		w.good(c, 1)
		w.good(w.client(), 1) // the next process
	}
	if n := proofs(); n != 0 {
		t.Errorf("%d requests with nothing new", n)
	}
	w.release()
	w.prove(w.log, w.now)
	w.decides(w.good(c, 1), newPath, nil)
	if n := proofs(); n != 1 {
		t.Errorf("%d requests with news", n)
	}
	w.repo.Roles["timestamp"]["version"] = w.repo.Roles["timestamp"]["version"].(int) + 1
	w.repo.PublishTimestamp()
	w.good(c, 1)
	if n := proofs(); n != 0 {
		t.Errorf("%d requests for a new timestamp of the same snapshot", n)
	}
}

// A proof proves itself: any location may have it, and a bad one is passed over.
func TestProofFromAnyLocation(t *testing.T) {
	for name, bad := range map[string]answer{
		"absent":        status(404, ".tlog-proof", nil),
		"broken":        body(".tlog-proof", []byte("c2sp.org/tlog-proof@v1\n")),
		"endless":       body(".tlog-proof", make([]byte, 1<<20)),
		"server error":  status(500, ".tlog-proof", nil),
		"one cosigner":  nil,
		"another entry": nil,
	} {
		t.Run(name, func(t *testing.T) {
			w := newLogWeb(t, "enforce")
			switch name {
			case "one cosigner":
				bad = body(".tlog-proof", w.log.Proof(1, w.log.Note(w.now, cosigners[0])))
			case "another entry":
				bad = body(".tlog-proof", w.log.Proof(0, w.log.Note(w.now, cosigners...)))
			}
			w.does(bad, vendorHost, cdnHost)
			w.good(w.client(), 1)
			w.dir = quickDir(t)
			w.does(bad, vendorHost, cdnHost, reviewHost)
			failed := w.bad(w.client(), client.ErrNoContent)
			if !errors.Is(failed, tuf.ErrNotLogged) {
				t.Errorf("no reason: %v", failed)
			}
			w.does(nil, vendorHost, cdnHost, reviewHost)
			w.good(w.client(), 1)
		})
	}
}

// What is not in the log only takes away; the proof heals it.
func TestUnloggedTakesAway(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	w.release()
	for _, c := range []*client.Client{c, w.client()} {
		view := w.good(c, 1) // the old release is in both
		w.decides(view, newPath, tuf.ErrNoTarget)
		if _, err := view.Head(); !errors.Is(err, tuf.ErrNotLogged) {
			t.Error("a head without a proof")
		}
	}
	w.hold()
	view, err := w.client().Refresh(t.Context())
	rawtuf.NoErr(t, err)
	w.decides(view, rawtuf.Path, tuf.ErrHeld)
	w.decides(view, newPath, tuf.ErrNoTarget)
	// A client that was never at a proven state gets nothing.
	was := w.dir
	w.dir = quickDir(t)
	w.bad(w.client(), client.ErrNoContent)
	w.dir = was
	// The hold ends, the proof comes.
	delete(rawtuf.At(w.repo.Roles["hold"], "targets"), rawtuf.Path)
	w.repo.Bump("hold")
	w.repo.Publish()
	w.prove(w.log, w.now)
	view = w.good(w.client(), 1)
	w.decides(view, newPath, nil)
	if _, err := view.Head(); err != nil {
		t.Error(err)
	}
	// The state that was proven now is the next one to restrict.
	w.repo.AddTarget("agent/linux/11.6.0", "the agent", nil, "vendor-agent", "review-agent")
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
	view = w.good(w.client(), 1)
	w.decides(view, newPath, nil)
	w.decides(view, "agent/linux/11.6.0", tuf.ErrNoTarget)
}

// Other bytes under a listed path are not in the log: the decision says so.
func TestUnloggedBytes(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.good(w.client(), 1)
	rel := rawtuf.Doc{"product": "agent", "version": "11.4.0", "channel": "stable", "platform": "linux/amd64", "sequence": 7}
	w.repo.AddTarget(rawtuf.Path, "a hidden build", rel, "vendor-agent", "review-agent")
	w.repo.Bump("vendor-agent", "review-agent")
	w.repo.Publish()
	view, err := w.client().Refresh(t.Context())
	rawtuf.NoErr(t, err)
	if d := view.Decide(t.Context(), rawtuf.Path); d.Accepted || d.Reason != "not-logged" {
		t.Errorf("%+v", d)
	}
}

// With the mode warn nothing changes but the report.
func TestLogWarns(t *testing.T) {
	w := newLogWeb(t, "warn")
	if _, err := w.good(w.client(), 1).Head(); err != nil {
		t.Error(err)
	}
	w.release()
	view := w.good(w.client(), 1)
	w.decides(view, newPath, nil)
	if _, err := view.Head(); err == nil {
		t.Error("a head without a proof")
	}
	plain := newWeb(t)
	if _, err := plain.good(plain.client(), 1).Head(); !errors.Is(err, tuf.ErrNotLogged) {
		t.Errorf("without a rule: %v", err)
	}
}

// A proof is renewed when half of its maximum age is over, and used until its end.
func TestProofIsRenewed(t *testing.T) {
	w := newLogWeb(t, "enforce")
	c := w.client()
	w.good(c, 1)
	first := w.now
	w.now = first.Add(15*day - time.Second)
	w.asked("")
	w.good(c, 1)
	asked := func() bool {
		return slices.ContainsFunc(w.asked(""), func(r string) bool { return strings.HasSuffix(r, ".tlog-proof") })
	}
	if asked() {
		t.Error("renewed before half of its age")
	}
	w.now = first.Add(15 * day)
	w.good(c, 1) // the location has no newer one
	if !asked() {
		t.Error("not renewed")
	}
	w.good(c, 1)
	if asked() {
		t.Error("sought at each refresh")
	}
	w.does(status(404, ".tlog-proof", nil), vendorHost, cdnHost, reviewHost)
	w.now = first.Add(30*day - time.Second)
	view := w.good(c, 1)
	w.now = first.Add(30 * day)
	if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrExpired) {
		t.Errorf("the view outlives its proof: %v", err)
	}
	failed := w.bad(c, client.ErrNoContent)
	if !errors.Is(failed, tuf.ErrExpired) {
		t.Errorf("no reason: %v", failed)
	}
	w.does(nil, vendorHost, cdnHost, reviewHost)
	w.prove(w.log, w.now)
	view = w.good(c, 1)
	if head, _ := view.Head(); !head.Time.Equal(w.now) {
		t.Errorf("%+v", head)
	}
}

// A clock that is set back does not hide anything for longer than the maximum age of
// running time.
func TestRunningTimeCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLogWeb(t, "enforce")
		w.does(status(404, ".tlog-proof", nil), vendorHost, cdnHost)
		c := w.client()
		w.good(c, 1)
		w.does(status(404, ".tlog-proof", nil), vendorHost, cdnHost, reviewHost)
		for d := time.Duration(0); d < 29*day; d += day {
			time.Sleep(day) // the clock of the product stands still
			w.good(c, 1)
			if d == 10*day {
				c = w.client() // another process: what has passed is in the state
				w.good(c, 1)
			}
		}
		time.Sleep(day)
		w.bad(c, client.ErrNoContent)
		w.bad(w.client(), client.ErrNoContent)
		w.does(nil, vendorHost, cdnHost, reviewHost)
		w.bad(c, client.ErrNoContent) // the same proof
		w.prove(w.log, w.now.Add(time.Minute))
		w.good(c, 1)
		w.good(w.client(), 1)
	})
}

// A quorum that signs in the future leaves nothing behind.
func TestProofOfTheFuture(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.prove(w.log, w.now.Add(1000*day))
	view := w.good(w.client(), 1)
	if view.ClockBehind() != 0 {
		t.Error("the quorum time moves the clock")
	}
	w.release()
	w.now = w.now.Add(day)
	w.prove(w.log, w.now)
	w.decides(w.good(w.client(), 1), newPath, nil)
}

// The log signs two trees, or an old head: refused, and both proofs of a fork are kept.
func TestLogForkIsEvidence(t *testing.T) {
	w := newLogWeb(t, "enforce")
	w.release()
	w.prove(w.log, w.now)
	w.good(w.client(), 1)
	old := w.log
	w.hold()
	forked := rawlog.NewLog(logName)
	for i := range old.Tree.Size - 1 {
		forked.Append(fmt.Appendf(nil, "other %d", i))
	}
	w.prove(forked, w.now)
	view, err := w.client().Refresh(t.Context())
	rawtuf.NoErr(t, err)
	w.decides(view, rawtuf.Path, tuf.ErrHeld) // it only takes away
	if e := slices.Compact(view.Evidence()); len(e) != 1 || !strings.Contains(e[0], "log-fork") {
		t.Errorf("evidence %q", e)
	}
	w.prove(old, w.now)
	view, err = w.client().Refresh(t.Context())
	rawtuf.NoErr(t, err)
	if _, err := view.Head(); err != nil {
		t.Errorf("healed: %v", err)
	}
}

// Files of the state that are damaged or missing are fetched again, or do no harm.
func TestDamagedLogState(t *testing.T) {
	for _, name := range []string{"head.tlog-proof", "logged/snapshot.json", "logged/timestamp.json", "logged/head.tlog-proof", "state.json", "both states"} {
		for _, how := range []string{"removed", "damaged", "empty"} {
			t.Run(name+" "+how, func(t *testing.T) {
				w := newLogWeb(t, "enforce")
				w.good(w.client(), 1)
				names := []string{name}
				if name == "both states" {
					names = []string{"state.json", "state.bak"}
				}
				for _, name := range names {
					file := w.state(filepath.FromSlash(name))
					switch how {
					case "removed":
						rawtuf.NoErr(t, os.Remove(file))
					case "damaged":
						data, err := os.ReadFile(file)
						rawtuf.NoErr(t, err)
						data[len(data)/2] ^= 1
						rawtuf.NoErr(t, os.WriteFile(file, data, 0o600))
					case "empty":
						rawtuf.NoErr(t, os.WriteFile(file, nil, 0o600))
					}
				}
				c := w.client()
				w.good(c, 1)
				w.release() // not in the log
				view, err := w.client().Refresh(t.Context())
				if err == nil {
					w.decides(view, newPath, tuf.ErrNoTarget)
				} else if !errors.Is(err, client.ErrNoContent) {
					t.Error(err)
				}
				w.prove(w.log, w.now)
				w.decides(w.good(w.client(), 1), newPath, nil)
			})
		}
	}
}
