package tuf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

const (
	logName     = "vendor.example/visum/1"
	standbyName = "review.example/visum/2"
)

var cosigners = []*rawlog.Signer{
	rawlog.NewSigner("third.example", tlog.TypeCosigner), rawlog.NewSigner("cert.example", tlog.TypeCosigner), rawlog.NewSigner("witness.example", tlog.TypeCosigner)}

// policy is the text of a policy for a log: two of three cosigners.
func policy(log string) string {
	s := "log " + rawlog.NewSigner(log, tlog.TypeLog).String() + "\n"
	for i, name := range []string{"third", "cert", "public"} {
		s += "witness " + name + " " + cosigners[i].String() + "\n"
	}
	return s + "group q 2 third cert public\nquorum q\n"
}

// logRule is the log member of a charter: 30 days, and 60 without a network.
func logRule(mode string) doc {
	return doc{"mode": mode, "max_age_seconds": 30 * 86400, "offline_max_age_seconds": 60 * 86400, "policy": policy(logName),
		"standby": rawlog.NewSigner(standbyName, tlog.TypeLog).String()}
}

// logWorld is a repository whose root has a rule, with its log.
type logWorld struct {
	*rawtuf.Repo
	t   *testing.T
	log *rawlog.Log
}

func newLogWorld(t *testing.T, mode string) *logWorld {
	w := &logWorld{rawtuf.New(), t, rawlog.NewLog(logName)}
	w.Charter()["log"] = logRule(mode)
	w.PublishRoot()
	w.log.Append([]byte("an entry"))
	return w
}

// snapshot is the snapshot that is published, verified at a time, without a proof.
func (w *logWorld) snapshot(now time.Time) *tuf.Snapshot {
	w.t.Helper()
	root, err := tuf.OpenRoot(w.Files["1.root.json"], nil)
	rawtuf.NoErr(w.t, err)
	return w.under(root, now)
}

func (w *logWorld) under(root *tuf.Root, now time.Time) *tuf.Snapshot {
	w.t.Helper()
	ts, err := root.Timestamp(w.Files["timestamp.json"], nil, now)
	rawtuf.NoErr(w.t, err)
	s, err := ts.Snapshot(w.Files[ts.SnapshotFile().Name()], nil)
	rawtuf.NoErr(w.t, err)
	return s
}

// proves appends the head of s to the log, and returns its proof, cosigned at a time.
func (w *logWorld) proves(s *tuf.Snapshot, at time.Time) []byte {
	w.log.Append(s.HeadLeaf())
	return w.proof(at)
}

// proof is a proof of the last entry, cosigned by the first two.
func (w *logWorld) proof(at time.Time) []byte {
	return w.log.Proof(w.log.Tree.Size-1, w.log.Note(at, cosigners[:2]...))
}

// The leaves are canonical JSON, byte for byte.
func TestLeaves(t *testing.T) {
	w := newLogWorld(t, "warn")
	s := w.snapshot(rawtuf.Now)
	var plain any
	for _, x := range []struct {
		got    []byte
		format string
		args   []any
	}{
		{s.Root().RootLeaf(), `{"_type":"x-visum-root","repo_id":"%s","sha256":"%s","version":1}`, []any{rawtuf.RepoID, s.Root().SHA256()}},
		{s.HeadLeaf(), `{"_type":"x-visum-head","repo_id":"%s","root":{"sha256":"%s","version":1},"snapshot":{"length":%d,"sha256":"%s","version":5}}`,
			[]any{rawtuf.RepoID, s.Root().SHA256(), len(s.Bytes()), rawtuf.FileOf(s.Bytes())["hashes"].(doc)["sha256"]}},
	} {
		if want := fmt.Sprintf(x.format, x.args...); string(x.got) != want {
			t.Errorf("%s, want %s", x.got, want)
		}
		rawtuf.NoErr(t, json.Unmarshal(x.got, &plain))
	}
	if s.LogProofName() != "1.5.tlog-proof" {
		t.Error(s.LogProofName())
	}
	first, later, change := s.Root().LogFiles()
	if first != "1.root.tlog-proof" || later != "1.root.later.tlog-proof" || change != "recovery/1.log.json" {
		t.Error(first, later, change)
	}
	if new(tuf.Snapshot).HeadLeaf() != nil || new(tuf.Root).RootLeaf() != nil {
		t.Error("leaves of zero values")
	}
}

// Under an enforced rule nothing is approved without a proof; with one everything is as
// before, and the head says what was seen by whom and until when. Under warn the proof is
// for the report.
func TestRuleDecides(t *testing.T) {
	for _, mode := range []string{"enforce", "warn"} {
		w := newLogWorld(t, mode)
		s := w.snapshot(rawtuf.Now)
		want := error(nil)
		if mode == "enforce" {
			want = tuf.ErrNotLogged
		}
		if _, err := s.Approve(rawtuf.Path, from(w.Repo)); !errors.Is(err, want) {
			t.Errorf("%s: Approve without a proof: %v", mode, err)
		}
		list, err := s.Candidates(t.Context(), nil, from(w.Repo))
		if err != nil || len(list) == 0 || !errors.Is(list[0].Err, want) || list[0].Approved.IsZero() != (want != nil) {
			t.Errorf("%s: Candidates without a proof: %+v, %v", mode, list, err)
		}
		if _, ok := s.Head(); ok {
			t.Error("a head without a proof")
		}
		// What takes away needs no proof.
		if _, err := s.Recalls(from(w.Repo)); err != nil {
			t.Errorf("%s: Recalls: %v", mode, err)
		}
		at := rawtuf.Now.Add(-time.Hour)
		logged, err := s.Logged(w.proves(s, at), tuf.LogState{})
		rawtuf.NoErr(t, err)
		if _, err := logged.Approve(rawtuf.Path, from(w.Repo)); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
		head, ok := logged.Head()
		if !ok || head.Origin != logName || head.Index != 1 || head.Size != 2 || !head.Time.Equal(at) || !head.Until.Equal(at.Add(30*day)) || len(head.Cosigners) != 2 || head.Cosigners[1].Name != "cert" {
			t.Errorf("%s: %+v", mode, head)
		}
		if _, err := s.Approve(rawtuf.Path, from(w.Repo)); !errors.Is(err, want) {
			t.Errorf("%s: the snapshot without a proof has changed: %v", mode, err)
		}
	}
	// A tool that publishes examines what is not in the log yet.
	w := newLogWorld(t, "enforce")
	root, err := tuf.OpenRoot(w.Files["1.root.json"], &tuf.Options{UnsafeUnlogged: true})
	rawtuf.NoErr(t, err)
	if _, err := w.under(root, rawtuf.Now).Approve(rawtuf.Path, from(w.Repo)); err != nil {
		t.Error(err)
	}
}

// Each way in which the proof of a head can be wrong.
func TestLoggedRefuses(t *testing.T) {
	w := newLogWorld(t, "enforce")
	s := w.snapshot(rawtuf.Now)
	good := w.proves(s, rawtuf.Now)
	if _, err := s.Logged(good, tuf.LogState{}); err != nil {
		t.Fatal(err)
	}
	aged := func(age time.Duration) []byte {
		return w.log.Proof(1, w.log.Note(rawtuf.Now.Add(-age), cosigners[:2]...))
	}
	other := rawlog.NewLog("other.example/log")
	other.Append(s.HeadLeaf())
	old := newLogWorld(t, "enforce") // the snapshot under another root
	old.NextRoot(func() {})
	next, err := tuf.OpenRoot(old.Files["2.root.json"], nil)
	rawtuf.NoErr(t, err)
	for name, tt := range map[string]struct {
		proof []byte
		state tuf.LogState
		want  error
		part  string
	}{
		"none":                   {nil, tuf.LogState{}, tuf.ErrNotLogged, "malformed"},
		"one cosigner":           {w.log.Proof(1, w.log.Note(rawtuf.Now, cosigners[0])), tuf.LogState{}, tuf.ErrNotLogged, "no quorum"},
		"another log":            {other.Proof(0, other.Note(rawtuf.Now, cosigners...)), tuf.LogState{}, tuf.ErrNotLogged, "other.example"},
		"too old":                {aged(30 * day), tuf.LogState{}, tuf.ErrExpired, "is of 2029-12-16"},
		"too old, offline":       {aged(60 * day), tuf.LogState{Offline: true}, tuf.ErrExpired, ""},
		"waited too long":        {good, tuf.LogState{Newest: rawtuf.Now, Waited: 30 * day}, tuf.ErrExpired, ""},
		"waited, offline":        {good, tuf.LogState{Newest: rawtuf.Now, Waited: 60 * day, Offline: true}, tuf.ErrExpired, ""},
		"a second less":          {aged(30*day - time.Second), tuf.LogState{}, nil, ""},
		"a second less, offline": {aged(60*day - time.Second), tuf.LogState{Offline: true}, nil, ""},
		"waited a second less":   {good, tuf.LogState{Newest: rawtuf.Now, Waited: 30*day - time.Second}, nil, ""},
		"waited, little newer":   {good, tuf.LogState{Newest: rawtuf.Now.Add(-time.Second), Waited: 300 * day}, tuf.ErrExpired, ""},
		"waited, as much newer":  {good, tuf.LogState{Newest: rawtuf.Now.Add(-271 * day), Waited: 300 * day}, nil, ""},
		"of the future":          {aged(-300 * day), tuf.LogState{}, nil, ""},
		"too long":               {bytes.Repeat([]byte("x"), 1<<20), tuf.LogState{}, tuf.ErrNotLogged, "at most"},
	} {
		got, err := s.Logged(tt.proof, tt.state)
		t.Run(name, func(t *testing.T) { want(t, err, tt.want, tt.part) })
		if (got == nil) != (err != nil) {
			t.Errorf("%s: %v with %v", name, got, err)
		}
	}
	if _, err := old.under(next, rawtuf.Now).Logged(good, tuf.LogState{}); !errors.Is(err, tuf.ErrNotLogged) {
		t.Errorf("the same snapshot under root 2: %v", err)
	}
	w.log.Append([]byte("another entry"))
	if _, err := s.Logged(w.log.Proof(1, w.log.Note(rawtuf.Now, cosigners...)), tuf.LogState{}); !errors.Is(err, tuf.ErrNotLogged) || !strings.Contains(err.Error(), "not the last") {
		t.Errorf("not the last entry: %v", err)
	}
	// The snapshot must list length and sha256 of every role.
	for _, member := range []string{"length", "hashes"} {
		w := newLogWorld(t, "enforce")
		meta := rawtuf.At(w.Roles["snapshot"], "meta", "review-agent.json")
		was := meta[member]
		delete(meta, member)
		w.PublishSnapshot()
		s := w.snapshot(rawtuf.Now)
		_, err := s.Logged(w.proves(s, rawtuf.Now), tuf.LogState{})
		want(t, err, tuf.ErrNotLogged, "review-agent.json without length or sha256")
		meta[member] = was
		w.PublishSnapshot()
		s = w.snapshot(rawtuf.Now)
		if _, err := s.Logged(w.proves(s, rawtuf.Now), tuf.LogState{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := mustSnapshot(t, rawtuf.New()).Logged(good, tuf.LogState{}); !errors.Is(err, tuf.ErrNotLogged) {
		t.Errorf("without a rule: %v", err)
	}
	if _, err := new(tuf.Snapshot).Logged(good, tuf.LogState{}); !errors.Is(err, tuf.ErrUntrusted) {
		t.Errorf("zero: %v", err)
	}
}

// A proof against the last accepted one: the log only grows.
func TestLoggedPrior(t *testing.T) {
	w := newLogWorld(t, "enforce")
	first := w.snapshot(rawtuf.Now)
	one := w.proves(first, rawtuf.Now.Add(-2*time.Hour))
	again := w.proof(rawtuf.Now) // the same tree, cosigned later
	w.Bump()
	w.Publish()
	second := w.snapshot(rawtuf.Now)
	two := w.proves(second, rawtuf.Now.Add(-time.Hour))
	grown := w.proves(second, rawtuf.Now) // the same head once more, in a larger tree
	fork := &logWorld{w.Repo, t, rawlog.NewLog(logName)}
	fork.log.Append([]byte("another entry"))
	forked := fork.proves(first, rawtuf.Now)
	for name, tt := range map[string]struct {
		s            *tuf.Snapshot
		proof, prior []byte
		want         error
	}{
		"next":                     {second, two, one, nil},
		"cosigned again":           {first, again, one, nil},
		"an older cosignature":     {first, one, again, nil},
		"the same head, larger":    {second, grown, two, nil},
		"the same head, smaller":   {second, two, grown, nil},
		"an older head":            {first, one, two, tuf.ErrRollback},
		"an older head, later":     {first, again, grown, tuf.ErrRollback},
		"two trees of one size":    {first, forked, one, tuf.ErrLogFork},
		"no prior":                 {first, one, nil, nil},
		"a prior that is damaged":  {first, one, []byte("damaged"), nil},
		"a prior of another log":   {first, one, otherProof(), nil},
		"a prior without a quorum": {first, one, w.log.Proof(3, w.log.Note(rawtuf.Now)), tuf.ErrRollback},
	} {
		_, err := tt.s.Logged(tt.proof, tuf.LogState{Prior: tt.prior})
		want(t, err, tt.want, "")
		if errors.Is(err, tuf.ErrLogFork) {
			e, _ := errors.AsType[*tuf.Error](err)
			if !errors.Is(err, tuf.ErrNotLogged) || !bytes.Contains(e.Evidence, one) || !bytes.Contains(e.Evidence, forked) {
				t.Errorf("%s: evidence %s", name, e.Evidence)
			}
		}
	}
}

func otherProof() []byte {
	l := rawlog.NewLog("other.example/log")
	for i := range 9 {
		l.Append(fmt.Append(nil, i))
	}
	return l.Proof(8, l.Note(rawtuf.Now, cosigners...))
}

// A set without a proof only takes away from the last logged one.
func TestWithin(t *testing.T) {
	second := "agent/1.1"
	newWorld := func() (*logWorld, *tuf.Snapshot) {
		w := newLogWorld(t, "enforce")
		s := w.snapshot(rawtuf.Now)
		logged, err := s.Logged(w.proves(s, rawtuf.Now.Add(-29*day)), tuf.LogState{})
		rawtuf.NoErr(t, err)
		return w, logged
	}
	add := func(w *logWorld, path, content string) {
		release := doc{"product": "agent", "version": "11.5.0", "channel": "stable", "platform": "linux/amd64", "sequence": 8}
		w.AddTarget(path, content, release, "vendor-agent", "review-agent")
		w.Bump("vendor-agent", "review-agent")
	}
	for name, tt := range map[string]struct {
		change func(w *logWorld)
		path   string
		want   error
	}{
		"nothing changed":  {func(w *logWorld) { w.Bump() }, rawtuf.Path, nil},
		"another release":  {func(w *logWorld) { add(w, second, "1.1") }, rawtuf.Path, nil},
		"what is only new": {func(w *logWorld) { add(w, second, "1.1") }, second, tuf.ErrNoTarget},
		"other bytes":      {func(w *logWorld) { add(w, rawtuf.Path, "other") }, rawtuf.Path, tuf.ErrNotLogged},
		"other fields":     {func(w *logWorld) { add(w, rawtuf.Path, "the agent") }, rawtuf.Path, tuf.ErrNotLogged},
		"removed": {func(w *logWorld) {
			for _, role := range []string{"vendor-agent", "review-agent"} {
				delete(rawtuf.At(w.Roles[role], "targets"), rawtuf.Path)
			}
			w.Bump("vendor-agent", "review-agent")
		}, rawtuf.Path, tuf.ErrNoTarget},
		"held": {func(w *logWorld) {
			f := rawtuf.FileOf(nil)
			f["custom"] = doc{"visum": doc{"reason": "wait", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}}
			rawtuf.At(w.Roles["hold"], "targets")[rawtuf.Path] = f
			w.Bump("hold")
		}, rawtuf.Path, tuf.ErrHeld},
		"recalled": {func(w *logWorld) { recall(w.Repo); w.Bump("review-agent") }, rawtuf.Path, tuf.ErrRecalled},
	} {
		t.Run(name, func(t *testing.T) {
			w, logged := newWorld()
			tt.change(w)
			w.Publish()
			s := w.snapshot(rawtuf.Now)
			if _, err := s.Approve(tt.path, from(w.Repo)); !errors.Is(err, tuf.ErrNotLogged) {
				t.Errorf("without the logged one: %v", err)
			}
			both, err := s.Within(logged)
			rawtuf.NoErr(t, err)
			_, err = both.Approve(tt.path, from(w.Repo))
			want(t, err, tt.want, "")
			list, err := both.Candidates(t.Context(), nil, from(w.Repo))
			rawtuf.NoErr(t, err)
			for _, c := range list {
				if c.Path == tt.path && !errors.Is(c.Err, tt.want) {
					t.Errorf("%+v", c)
				}
			}
		})
	}
	// A recall and a hold that are only in the logged one stay.
	w := newLogWorld(t, "enforce")
	recall(w.Repo)
	w.Bump("review-agent")
	w.Publish()
	s := w.snapshot(rawtuf.Now)
	logged, err := s.Logged(w.proves(s, rawtuf.Now), tuf.LogState{})
	rawtuf.NoErr(t, err)
	delete(w.Roles["review-agent"], "x-visum-recalled")
	w.Bump("review-agent")
	w.Publish()
	both, err := w.snapshot(rawtuf.Now).Within(logged)
	rawtuf.NoErr(t, err)
	if _, err := both.Approve(rawtuf.Path, from(w.Repo)); !errors.Is(err, tuf.ErrRecalled) {
		t.Errorf("a recall was taken back without the log: %v", err)
	}
	if list, err := both.Recalls(from(w.Repo)); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	// What Within needs.
	w, logged = newWorld()
	w.Bump()
	w.Publish()
	late := w.snapshot(rawtuf.Now.Add(day - time.Second))
	if _, err := late.Within(logged); err != nil {
		t.Error(err)
	}
	w.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now.Add(100 * day))
	w.Publish()
	if _, err := w.snapshot(rawtuf.Now.Add(day)).Within(logged); !errors.Is(err, tuf.ErrExpired) {
		t.Errorf("the proof has expired: %v", err)
	}
	if _, err := w.snapshot(rawtuf.Now).Within(w.snapshot(rawtuf.Now)); !errors.Is(err, tuf.ErrNotLogged) {
		t.Errorf("not logged: %v", err)
	}
	if _, err := newSnapshotOfOld(t, logged).Within(logged); !errors.Is(err, tuf.ErrRollback) {
		t.Errorf("older than the logged one: %v", err)
	}
	w.NextRoot(func() {})
	root, err := tuf.OpenRoot(w.Files["2.root.json"], nil)
	rawtuf.NoErr(t, err)
	if _, err := w.under(root, rawtuf.Now).Within(logged); !errors.Is(err, tuf.ErrNotLogged) {
		t.Errorf("another root: %v", err)
	}
	if _, err := new(tuf.Snapshot).Within(logged); !errors.Is(err, tuf.ErrUntrusted) {
		t.Errorf("zero: %v", err)
	}
}

// newSnapshotOfOld is a snapshot below the version of another.
func newSnapshotOfOld(t *testing.T, logged *tuf.Snapshot) *tuf.Snapshot {
	w := newLogWorld(t, "enforce")
	w.Roles["snapshot"]["version"] = int(logged.Version()) - 1
	w.Publish()
	return w.snapshot(rawtuf.Now)
}

// recall adds a recall of the release by the centre.
func recall(r *rawtuf.Repo) {
	sum := rawtuf.At(r.Roles["review-agent"], "targets", rawtuf.Path, "hashes")["sha256"]
	r.Roles["review-agent"]["x-visum-recalled"] = []any{doc{"path": rawtuf.Path, "sha256": sum, "reason": "bad", "at": rawtuf.Stamp(rawtuf.Now)}}
}
