package tuf_test

import (
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

// H13: the form of the rule, overlapping quorums, keys without another role.
func TestLogRuleForm(t *testing.T) {
	replace := func(old, new string) func(r *rawtuf.Repo, l doc) {
		return func(_ *rawtuf.Repo, l doc) { l["policy"] = strings.Replace(l["policy"].(string), old, new, 1) }
	}
	set := func(name string, v any) func(r *rawtuf.Repo, l doc) {
		return func(_ *rawtuf.Repo, l doc) { l[name] = v }
	}
	asLog := func(k *rawlog.Signer) string {
		key := k.Key
		key.Type = tlog.TypeLog
		return key.String()
	}
	for name, tt := range map[string]struct {
		edit func(r *rawtuf.Repo, l doc)
		want error
		part string
	}{
		"good":                   {func(*rawtuf.Repo, doc) {}, nil, ""},
		"warn":                   {set("mode", "warn"), nil, ""},
		"without a standby":      {func(_ *rawtuf.Repo, l doc) { delete(l, "standby") }, nil, ""},
		"without an offline age": {func(_ *rawtuf.Repo, l doc) { delete(l, "offline_max_age_seconds") }, nil, ""},
		"warn, no overlap": {func(_ *rawtuf.Repo, l doc) {
			l["mode"] = "warn"
			l["policy"] = strings.Replace(policy(logName), "group q 2", "group q 1", 1)
		}, nil, ""},
		"an hour":                     {func(_ *rawtuf.Repo, l doc) { l["max_age_seconds"], l["offline_max_age_seconds"] = 3600, 3600 }, nil, ""},
		"366 days":                    {set("offline_max_age_seconds", 366*86400), nil, ""},
		"less than an hour":           {set("max_age_seconds", 3599), tuf.ErrCharter, "H13"},
		"more than 366 days":          {set("offline_max_age_seconds", 366*86400+1), tuf.ErrCharter, "H13"},
		"no age":                      {func(_ *rawtuf.Repo, l doc) { delete(l, "max_age_seconds") }, tuf.ErrUntrusted, ""},
		"offline shorter":             {set("offline_max_age_seconds", 86400), tuf.ErrCharter, "H13"},
		"no mode":                     {func(_ *rawtuf.Repo, l doc) { delete(l, "mode") }, tuf.ErrMalformed, "mode"},
		"another mode":                {set("mode", "Enforce"), tuf.ErrMalformed, "mode"},
		"no policy":                   {func(_ *rawtuf.Repo, l doc) { delete(l, "policy") }, tuf.ErrMalformed, "policy"},
		"no overlap":                  {replace("group q 2", "group q 1"), tuf.ErrCharter, "H13"},
		"a comment":                   {replace("group", "# two\ngroup"), tuf.ErrMalformed, "comments"},
		"a URL":                       {replace("\nwitness cert", " https://log.example/\nwitness cert"), tuf.ErrMalformed, "URLs"},
		"two spaces":                  {replace("group q", "group  q"), tuf.ErrMalformed, "one space"},
		"without the last line break": {replace("quorum q\n", "quorum q"), tuf.ErrMalformed, "one line"},
		"a bad policy":                {replace("quorum q", "quorum x"), tuf.ErrMalformed, "policy"},
		"the standby is no log key":   {set("standby", cosigners[0].String()), tuf.ErrMalformed, "standby"},
		"the standby is no key":       {set("standby", "x"), tuf.ErrMalformed, "standby"},
		"the standby is the log":      {set("standby", rawlog.NewSigner(logName, tlog.TypeLog).String()), tuf.ErrCharter, "H13"},
		"the standby is a cosigner":   {set("standby", asLog(cosigners[0])), tuf.ErrCharter, "H13"},
		"a cosigner is a key of root": {func(r *rawtuf.Repo, _ doc) {
			at(r.Root, "keys")["theirs"] = doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": fmt.Sprintf("%x", cosigners[1].Public)}}
		}, tuf.ErrCharter, "H13"},
		"the standby is a key of root": {func(r *rawtuf.Repo, _ doc) {
			at(r.Root, "keys")["theirs"] = doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": fmt.Sprintf("%x", rawlog.NewSigner(standbyName, tlog.TypeLog).Public)}}
		}, tuf.ErrCharter, "H13"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.New()
			l := logRule("enforce")
			r.Charter()["log"] = l
			tt.edit(r, l)
			r.PublishRoot()
			root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
			want(t, err, tt.want, tt.part)
			if err == nil && (root.Charter().Log().MaxAge < time.Hour || root.Charter().Log().OfflineMaxAge < root.Charter().Log().MaxAge || root.LogPending()) {
				t.Errorf("%+v", root.Charter().Log())
			}
		})
	}
}

func at(x any, path ...any) doc { return rawtuf.At(x, path...) }

// ruleWorld is a chain of roots with a rule that is enforced at root 1, and recovery.
type ruleWorld struct {
	*logWorld
	root    *tuf.Root
	standby *rawlog.Log
}

func newRuleWorld(t *testing.T) *ruleWorld {
	w := &logWorld{rawtuf.New(), t, rawlog.NewLog(logName)}
	w.Charter()["log"] = logRule("enforce")
	w.Recoverable()
	w.PublishRoot()
	root, err := tuf.OpenRoot(w.Files["1.root.json"], nil)
	rawtuf.NoErr(t, err)
	return &ruleWorld{w, root, rawlog.NewLog(standbyName)}
}

// next publishes and follows the next root.
func (w *ruleWorld) next(edit func(l doc)) *tuf.Root {
	w.t.Helper()
	w.NextRoot(func() {
		c := w.Charter()
		l, _ := rawtuf.Copy(c["log"]).(doc)
		edit(l)
		c["log"] = l
	})
	next, err := w.root.Next(w.Files[fmt.Sprintf("%d.root.json", w.root.Version()+1)])
	rawtuf.NoErr(w.t, err)
	w.root = next
	return next
}

// rootProof logs a root's leaf in a log and proves it, at a time.
func rootProof(l *rawlog.Log, r *tuf.Root, at time.Time, by ...*rawlog.Signer) []byte {
	l.Append(r.RootLeaf())
	return l.Proof(l.Tree.Size-1, l.Note(at, by...))
}

// T1, T2: what a root says comes into force with it, where nothing or warn was in force.
func TestRuleComesIntoForce(t *testing.T) {
	r := rawtuf.New()
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	rawtuf.NoErr(t, err)
	if root.LogRule() != nil || root.LogPending() {
		t.Error("a rule without a charter member")
	}
	for i, mode := range []string{"warn", "enforce"} {
		r.NextRoot(func() { r.Charter()["log"] = logRule(mode) })
		root, err = root.Next(r.Files[fmt.Sprintf("%d.root.json", i+2)])
		rawtuf.NoErr(t, err)
		if l := root.LogRule(); l == nil || l.Enforce != (mode == "enforce") || root.LogPending() || l.Policy.Log().Name != logName || l.Standby.Name != standbyName {
			t.Errorf("%s: %+v", mode, l)
		}
	}
}

// T3: an enforced rule changes after three days in public, and in no other way.
func TestRuleChanges(t *testing.T) {
	two, three := cosigners[:2], cosigners
	now := rawtuf.Now
	for name, edit := range map[string]func(l doc){
		"warn":       func(l doc) { l["mode"] = "warn" },
		"age":        func(l doc) { l["max_age_seconds"] = 7 * 86400 },
		"quorum":     func(l doc) { l["policy"] = strings.Replace(policy(logName), "q 2", "q 3", 1) },
		"no standby": func(l doc) { delete(l, "standby") },
		"other public": func(l doc) {
			l["policy"] = strings.Replace(policy(logName), cosigners[2].String(), rawlog.NewSigner("new.example", tlog.TypeCosigner).String(), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRuleWorld(t)
			r := w.next(edit)
			if !r.LogPending() || !r.LogRule().Enforce || r.LogRule().MaxAge != 30*day || r.LogRule().Policy.String() != policy(logName) {
				t.Fatalf("in force at once: %+v", r.LogRule())
			}
			first := rootProof(w.log, r, now, two...)
			later := rootProof(w.log, r, now.Add(72*time.Hour), three...)
			early := rootProof(w.log, r, now.Add(72*time.Hour-time.Second), three...)
			mixed := w.log.Proof(1, mixedNote(w.log, now, now.Add(time.Hour))) // one cosigner is an hour late
			other := w.log.Proof(0, w.log.Note(now.Add(1000*time.Hour), three...))
			for what, p := range map[string]struct{ first, later []byte }{
				"no proof":                            {nil, nil},
				"one proof":                           {first, nil},
				"the same twice":                      {first, first},
				"a second less than 72 hours":         {first, early},
				"the later one first":                 {later, first},
				"dated back":                          {mixed, later},
				"of too few":                          {first, w.log.Proof(1, w.log.Note(now.Add(100*time.Hour), cosigners[0]))},
				"by the standby":                      {rootProof(w.standby, r, now, three...), rootProof(w.standby, r, now.Add(72*time.Hour), three...)},
				"of another root":                     {rootProof(w.log, mustNext(t, w, "other"), now, two...), later},
				"of another root, the second":         {first, rootProof(w.log, mustNext(t, w, "other"), now.Add(100*time.Hour), two...)},
				"an entry of the log that no root is": {first, other[:len(other)-10]},
			} {
				if got, err := r.Logged(p.first, p.later); !errors.Is(err, tuf.ErrNotLogged) || got != nil {
					t.Errorf("%s: %v, %v", what, got, err)
				}
			}
			got, err := r.Logged(first, later)
			rawtuf.NoErr(t, err)
			if got.LogPending() || got.LogRule().Policy.String() != got.Charter().Log().Policy.String() || got.LogRule().MaxAge != got.Charter().Log().MaxAge || got.LogRule().Enforce != got.Charter().Log().Enforce {
				t.Errorf("not in force: %+v", got.LogRule())
			}
			if !r.LogPending() {
				t.Error("the root without proofs has changed")
			}
			if again, err := got.Logged(nil, nil); err != nil || again != got {
				t.Errorf("nothing is pending: %v, %v", again, err)
			}
			// Its successor keeps it, with and without the proofs.
			w.NextRoot(func() {})
			file := w.Files["3.root.json"]
			if next, err := got.Next(file); err != nil || next.LogPending() {
				t.Errorf("after the proofs: %v", err)
			}
			next, err := r.Next(file)
			if err != nil || !next.LogPending() || next.LogRule().Policy.String() != policy(logName) {
				t.Errorf("without the proofs: %v", err)
			}
		})
	}
}

// mixedNote is cosigned by two at the first time and by one at the second.
func mixedNote(l *rawlog.Log, a, b time.Time) []byte {
	return append(l.Note(a, cosigners[:2]...), cosigners[2].Sign(l.Text(), b)...)
}

// mustNext is a root 2 other than the published one.
func mustNext(t *testing.T, w *ruleWorld, name string) *tuf.Root {
	other := newRuleWorld(t)
	return other.next(func(l doc) { l["max_age_seconds"] = 86400 * len(name) })
}

// A change is taken back by a root with what is in force. A rule that is dropped is a
// change, and so is another recovery: it counts only after the proofs.
func TestRuleChangeIsTakenBack(t *testing.T) {
	w := newRuleWorld(t)
	w.next(func(l doc) { l["mode"] = "warn" })
	if r := w.next(func(l doc) { l["mode"] = "enforce" }); r.LogPending() || !r.LogRule().Enforce {
		t.Error("the change was taken back")
	}
	w.NextRoot(func() { delete(w.Charter(), "log") })
	r, err := w.root.Next(w.Files["4.root.json"])
	rawtuf.NoErr(t, err)
	if !r.LogPending() || r.LogRule() == nil {
		t.Error("the rule was dropped")
	}
	first, later := rootProof(w.log, r, rawtuf.Now, cosigners...), rootProof(w.log, r, rawtuf.Now.Add(72*time.Hour), cosigners...)
	if got, err := r.Logged(first, later); err != nil || got.LogRule() != nil || got.LogPending() {
		t.Errorf("dropped in public: %v", err)
	}
}

// No change of the log line ever comes into force, but to the standby, which then proves it.
func TestLogIsReplaced(t *testing.T) {
	now := rawtuf.Now
	w := newRuleWorld(t)
	r := w.next(func(l doc) { l["policy"] = policy("elsewhere.example/visum/3") })
	first, later := rootProof(w.log, r, now, cosigners...), rootProof(w.log, r, now.Add(100*time.Hour), cosigners...)
	_, err := r.Logged(first, later)
	want(t, err, tuf.ErrCharter, "T3")

	w = newRuleWorld(t)
	third := rawlog.NewSigner("third.example/visum/3", tlog.TypeLog).String()
	r = w.next(func(l doc) { l["policy"], l["standby"] = policy(standbyName), third })
	if !r.LogPending() {
		t.Error("the standby is in force without a proof")
	}
	byLog := rootProof(w.log, r, now, cosigners...)
	for what, proof := range map[string][]byte{
		"none": nil, "by the log": byLog, "one cosigner": rootProof(w.standby, r, now, cosigners[0]), "another root": rootProof(w.standby, w.root, now)} {
		_, err := r.Logged(proof, byLog)
		t.Run(what, func(t *testing.T) { want(t, err, tuf.ErrNotLogged, "standby") })
	}
	got, err := r.Logged(rootProof(w.standby, r, now, cosigners[1:]...), nil)
	rawtuf.NoErr(t, err)
	if got.LogPending() || got.LogRule().Policy.Log().Name != standbyName || got.LogRule().Standby.String() != third {
		t.Errorf("%+v", got.LogRule())
	}

	// The same with any other change needs what never comes: a log that changes.
	for name, edit := range map[string]func(l doc){
		"age":    func(l doc) { l["max_age_seconds"] = 86400 },
		"warn":   func(l doc) { l["mode"] = "warn" },
		"quorum": func(l doc) { l["policy"] = strings.Replace(policy(standbyName), "q 2", "q 3", 1) },
	} {
		w := newRuleWorld(t)
		r := w.next(func(l doc) { l["policy"] = policy(standbyName); l["standby"] = third; edit(l) })
		proof := rootProof(w.standby, r, now, cosigners...)
		_, err := r.Logged(proof, rootProof(w.standby, r, now.Add(100*time.Hour), cosigners...))
		t.Run(name, func(t *testing.T) { want(t, err, tuf.ErrCharter, "T3") })
	}
	w = newRuleWorld(t)
	w.NextRoot(func() {
		w.Charter()["log"].(doc)["policy"], w.Charter()["log"].(doc)["standby"] = policy(standbyName), third
		w.Charter()["recovery"].(doc)["hold_seconds"] = 2 * 864000
	})
	r, err = w.root.Next(w.Files["2.root.json"])
	rawtuf.NoErr(t, err)
	_, err = r.Logged(rootProof(w.standby, r, now, cosigners...), nil)
	want(t, err, tuf.ErrCharter, "T3")
}

// T4: while a change is pending, the recovery in force counts, and the recovered root brings
// its own rule and recovery.
func TestRecoveryUnderARule(t *testing.T) {
	w := newRuleWorld(t)
	w.NextRoot(func() { // root keys and parties lead away: another recovery, no rule
		delete(w.Charter(), "log")
		w.AddKeys(w.Root, "theirs1", "theirs2")
		w.Charter()["recovery"] = doc{"keyids": w.IDs("theirs1", "theirs2"), "orgs": []any{doc{"name": "one", "keyids": w.IDs("theirs1")}, doc{"name": "two", "keyids": w.IDs("theirs2")}},
			"threshold": 2, "min_orgs": 2, "hold_seconds": 864000, "min_ticks": 5, "counter": 1}
	})
	r, err := w.root.Next(w.Files["2.root.json"])
	rawtuf.NoErr(t, err)
	if !r.LogPending() || r.LogRule() == nil {
		t.Fatal("in force")
	}
	theirs := w.Repo.Clone()
	theirs.Recover(func(doc) {}, "theirs1", "theirs2")
	_, err = r.Recovery(theirs.Files["recovery/2.statement.json"], theirs.Files["recovery/3.root.json"], rawtuf.Now)
	want(t, err, tuf.ErrThreshold, "recovery")
	w.Recover(func(doc) {}, "bank1", "university")
	rec, err := r.Recovery(w.Files["recovery/2.statement.json"], w.Files["recovery/3.root.json"], rawtuf.Now)
	rawtuf.NoErr(t, err)
	var wait tuf.Wait
	now := rawtuf.Now
	for range 12 {
		wait, now = wait.Tick(rec, now), now.Add(2*day)
	}
	got, err := rec.Accept(wait)
	rawtuf.NoErr(t, err)
	if got.LogPending() || got.LogRule() != nil {
		t.Errorf("%+v", got.LogRule())
	}
}

// T5: the recovery organisations bring a rule into force at once, and not the recovery.
func TestRuleByRecovery(t *testing.T) {
	w := newRuleWorld(t)
	r := w.next(func(l doc) { l["policy"] = policy("elsewhere.example/visum/3") })
	statement := func(edit func(s doc), by ...string) []byte {
		s := doc{"_type": "x-visum-log-change", "repo_id": rawtuf.RepoID, "root": rawtuf.NameOf(w.Root), "reason": "the quorum is lost"}
		edit(s)
		return w.Sign(s, by...)
	}
	as := func(doc) {}
	for name, tt := range map[string]struct {
		statement []byte
		want      error
	}{
		"no signatures":       {statement(as), tuf.ErrThreshold},
		"one organisation":    {statement(as, "bank1", "bank2"), tuf.ErrThreshold},
		"the root keys":       {statement(as, "vendor1", "vendor2", "review1", "review2"), tuf.ErrThreshold},
		"another type":        {statement(func(s doc) { s["_type"] = "x-visum-recovery" }, "bank1", "university"), tuf.ErrMalformed},
		"another repository":  {statement(func(s doc) { s["repo_id"] = strings.Repeat("0", 32) }, "bank1", "university"), tuf.ErrMismatch},
		"another root":        {statement(func(s doc) { s["root"].(doc)["sha256"] = strings.Repeat("0", 64) }, "bank1", "university"), tuf.ErrMismatch},
		"another version":     {statement(func(s doc) { s["root"].(doc)["version"] = 3 }, "bank1", "university"), tuf.ErrMismatch},
		"an unknown member":   {statement(func(s doc) { s["expires"] = "2031-01-01T00:00:00Z" }, "bank1", "university"), tuf.ErrMalformed},
		"without a reason":    {statement(func(s doc) { delete(s, "reason") }, "bank1", "university"), tuf.ErrMalformed},
		"no JSON":             {[]byte("{"), tuf.ErrMalformed},
		"too long":            {make([]byte, 64<<10+1), tuf.ErrTooLarge},
		"signatures no array": {[]byte(`{"signed":{},"signatures":{}}`), tuf.ErrMalformed},
	} {
		_, err := r.LoggedByRecovery(tt.statement)
		t.Run(name, func(t *testing.T) { want(t, err, tt.want, "log change") })
	}
	good := statement(as, "bank2", "university")
	got, err := r.LoggedByRecovery(good)
	rawtuf.NoErr(t, err)
	if got.LogPending() || got.LogRule().Policy.Log().Name != "elsewhere.example/visum/3" {
		t.Errorf("%+v", got.LogRule())
	}
	// With another recovery the rule comes into force, the recovery stays pending.
	w = newRuleWorld(t)
	w.NextRoot(func() {
		w.Charter()["log"].(doc)["policy"] = policy("elsewhere.example/visum/3")
		w.Charter()["recovery"].(doc)["hold_seconds"] = 2 * 864000
	})
	r, err = w.root.Next(w.Files["2.root.json"])
	rawtuf.NoErr(t, err)
	got, err = r.LoggedByRecovery(statement(as, "bank2", "university"))
	rawtuf.NoErr(t, err)
	if !got.LogPending() || got.LogRule().Policy.Log().Name != "elsewhere.example/visum/3" {
		t.Errorf("%v, %+v", got.LogPending(), got.LogRule())
	}
	// Without a recovery in force there is no such way.
	plain := newLogWorld(t, "enforce")
	root, err := tuf.OpenRoot(plain.Files["1.root.json"], nil)
	rawtuf.NoErr(t, err)
	_, err = root.LoggedByRecovery(good)
	want(t, err, tuf.ErrCharter, "no rule of recovery")
	_, err = new(tuf.Root).LoggedByRecovery(good)
	want(t, err, tuf.ErrUntrusted, "zero")
	_, err = new(tuf.Root).Logged(nil, nil)
	want(t, err, tuf.ErrUntrusted, "zero")
}
