package tuf_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

const day = 24 * time.Hour

func recoverable() *rawtuf.Repo {
	r := rawtuf.New()
	r.Recoverable()
	r.PublishRoot()
	return r
}

func nothing(doc) {}

// recovery opens the recovery statement that r serves for its first root.
func recovery(t *testing.T, r *rawtuf.Repo) (*tuf.Recovery, error) {
	t.Helper()
	pin, err := tuf.OpenPin(rawtuf.Marshal(r.Pin()), nil)
	if err != nil {
		t.Fatal(err)
	}
	root := pin.Root()
	statement, next := root.RecoveryFiles()
	return root.Recovery(r.Files[statement], r.Files[next], rawtuf.Now)
}

// served is a repository with a recovery statement for its first root.
func served(by ...string) *rawtuf.Repo {
	r := recoverable()
	r.Recover(nothing, by...)
	return r
}

// The vendor and the review centre have lost their keys. Two organisations name a new root,
// which is accepted after a waiting period of root checks without a regular root.
func TestRecovery(t *testing.T) {
	r := served("bank1", "university")
	rec, err := recovery(t, r)
	want(t, err, nil, "")
	var w tuf.Wait
	now := rawtuf.Now
	waits := func() {
		t.Helper()
		if root, err := rec.Accept(w); !errors.Is(err, tuf.ErrWaiting) || root != nil {
			t.Fatalf("%v, %v", root, err)
		}
	}
	waits()
	w = w.Tick(rec, now) // seen for the first time
	for range 4 {
		waits()
		now = now.Add(2 * day)
		w = w.Tick(rec, now)
	}
	waits()
	w = w.Tick(rec, now.Add(2*day))
	root, err := rec.Accept(w)
	want(t, err, nil, "")
	if root.Version() != 2 || root.Charter().Epoch() != 2 {
		t.Errorf("root v%d, epoch %d", root.Version(), root.Charter().Epoch())
	}
	// Then the chain continues regularly with the new keys only.
	c := &client{root: root}
	r.NextRoot(func() {})
	renewAll(r)
	_, err = c.find(r, rawtuf.Path)
	want(t, err, nil, "")
}

func renewAll(r *rawtuf.Repo) {
	r.Bump("targets", "vendor-agent", "review-agent", "hold")
	r.Publish()
}

// Time without root checks does not count, nor does a clock that is set ahead or back, nor do
// many root checks at once.
func TestRecoveryWait(t *testing.T) {
	rec, err := recovery(t, served("bank2", "university"))
	want(t, err, nil, "")
	ticks := func(gaps ...time.Duration) (w tuf.Wait) {
		now := rawtuf.Now
		w = w.Tick(rec, now)
		for _, gap := range gaps {
			now = now.Add(gap)
			w = w.Tick(rec, now)
		}
		return w
	}
	for name, tt := range map[string]struct {
		w  tuf.Wait
		ok bool
	}{
		"in order":             {ticks(2*day, 2*day, 2*day, 2*day, 2*day), true},
		"more often":           {ticks(day, day, day, day, day, day, day, day, day, day), true},
		"off for years":        {ticks(1000 * day), false},
		"off between searches": {ticks(50*day, 50*day, 50*day, 50*day), false},
		"and then awake":       {ticks(50*day, 50*day, 50*day, 50*day, 2*day), true},
		"off, then in a hurry": {ticks(50*day, 0, 0, 0, 0), false},
		"in a hurry":           {ticks(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), false},
		"clock back":           {ticks(-5*day, 2*day, 2*day, 2*day, 2*day), false},
		"swinging clock":       {ticks(2*day, -2*day, 2*day, -2*day, 2*day, -2*day, 2*day, -2*day, 2*day, -2*day), false},
		"swinging, then on":    {ticks(2*day, -2*day, 2*day, -2*day, 4*day, 2*day, 2*day, 2*day), true},
		"ahead, then right":    {ticks(30*day, -29*day, day, day, day, day, day, day, day, day), false},
		"no search":            {tuf.Wait{}, false},
		"another's wait":       {tuf.Wait{Statement: strings.Repeat("0", 64), Held: 100 * day, Ticks: 100}, false},
		"time without ticks":   {tuf.Wait{Statement: rec.ID(), Held: 100 * day, Ticks: 4}, false},
	} {
		if _, err := rec.Accept(tt.w); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Setting the clock back neither reduces the wait nor lets time count twice.
	w := ticks(2*day, -2*day, 2*day)
	if w.Held != 2*day || w.Ticks != 3 || !w.Last.Equal(rawtuf.Now.Add(2*day)) {
		t.Errorf("held %s in %d root checks, the last at %s", w.Held, w.Ticks, w.Last)
	}
	if _, err := new(tuf.Recovery).Accept(tuf.Wait{}); !errors.Is(err, tuf.ErrUntrusted) {
		t.Error(err)
	}
	var zero *tuf.Recovery
	if _, err := zero.Accept(ticks(2*day, 2*day, 2*day, 2*day, 2*day)); !errors.Is(err, tuf.ErrUntrusted) {
		t.Error(err)
	}
}

// Statements that do not meet the charter's rule, and roots that the statement does not name or
// that break another rule.
func TestRecoveryRefused(t *testing.T) {
	stmt := func(edit func(s doc)) func() *rawtuf.Repo {
		return func() *rawtuf.Repo {
			r := recoverable()
			r.Recover(edit, "bank1", "university")
			return r
		}
	}
	by := func(keys ...string) func() *rawtuf.Repo { return func() *rawtuf.Repo { return served(keys...) } }
	root := func(edit func(r *rawtuf.Repo)) func() *rawtuf.Repo {
		return func() *rawtuf.Repo {
			r := recoverable()
			r.Recover(func(s doc) {
				edit(r)
				s["root"] = rawtuf.NameOf(r.Root)
			}, "bank1", "university")
			r.Files["recovery/2.root.json"] = r.Sign(r.Root, r.Signers["root"]...)
			return r
		}
	}
	for name, tt := range map[string]struct {
		repo   func() *rawtuf.Repo
		want   error
		detail string
	}{
		"no signature":                     {by(), tuf.ErrThreshold, "0 of 2 needed keys of recovery"},
		"one key":                          {by("bank1"), tuf.ErrThreshold, "1 of 2"},
		"one organisation":                 {by("bank1", "bank2"), tuf.ErrThreshold, "keys of 1 organisations (bank), 2 must take part"},
		"the old root keys":                {by("vendor1", "vendor2", "review1", "review2"), tuf.ErrThreshold, "0 of 2"},
		"another predecessor":              {stmt(func(s doc) { rawtuf.At(s, "tip")["sha256"] = strings.Repeat("0", 64) }), tuf.ErrMismatch, "tip: v1"},
		"a predecessor of another version": {stmt(func(s doc) { rawtuf.At(s, "tip")["version"] = 2 }), tuf.ErrMismatch, "tip: v2"},
		"no tip member":                    {stmt(func(s doc) { delete(s, "tip") }), tuf.ErrMismatch, "tip:"},
		"another root":                     {stmt(func(s doc) { rawtuf.At(s, "root")["sha256"] = strings.Repeat("0", 64) }), tuf.ErrMismatch, "root: v2"},
		"another repository":               {stmt(func(s doc) { s["repo_id"] = strings.Repeat("0", 32) }), tuf.ErrMismatch, "for repository 0000"},
		"expired":                          {stmt(func(s doc) { s["expires"] = rawtuf.Stamp(rawtuf.Now) }), tuf.ErrExpired, ""},
		"a root of another type":           {stmt(func(s doc) { s["_type"] = "root" }), tuf.ErrMalformed, "_type"},
		"too large":                        {stmt(func(s doc) { s["x"] = strings.Repeat("x", 64<<10) }), tuf.ErrTooLarge, "at most 65536"},
		"root two versions on":             {root(func(r *rawtuf.Repo) { r.Root["version"] = 3 }), tuf.ErrMismatch, "v3 does not follow v1"},
		"root of the same version":         {root(func(r *rawtuf.Repo) { r.Root["version"] = 1 }), tuf.ErrMismatch, "v1 does not follow v1"},
		"root not signed by itself":        {root(func(r *rawtuf.Repo) { r.Signers["root"] = r.Signers["root"][:2] }), tuf.ErrThreshold, "the new root"},
		"root without one party": {root(func(r *rawtuf.Repo) {
			r.Signers["root"] = []string{rawtuf.Fresh(2, "vendor1"), rawtuf.Fresh(2, "vendor2")}
		}), tuf.ErrThreshold, "party review"},
		"root of another repository": {root(func(r *rawtuf.Repo) { r.Charter()["repo_id"] = strings.Repeat("ab", 16) }), tuf.ErrCharter, "H1"},
		"root without a charter":     {root(func(r *rawtuf.Repo) { delete(r.Root, "x-visum") }), tuf.ErrCharter, "H10"},
		"root keeps the epoch":       {root(func(r *rawtuf.Repo) { r.Charter()["epoch"] = 1 }), tuf.ErrCharter, "H3"},
		"root keeps the online keys": {root(func(r *rawtuf.Repo) {
			roles := rawtuf.At(r.Root, "roles")
			roles["timestamp"], roles["snapshot"] = r.Role(1, "timestamp"), r.Role(1, "snapshot")
			r.Charter()["epoch"] = 1
		}), tuf.ErrCharter, "root v2 keeps the online keys of v1"},
		"root lowers a floor":       {root(func(r *rawtuf.Repo) { rawtuf.At(r.Charter(), "floors")["targets"] = 0 }), tuf.ErrCharter, "H3"},
		"root drops a retired host": {root(func(r *rawtuf.Repo) { r.Charter()["retired"] = []any{} }), tuf.ErrCharter, "H8"},
	} {
		t.Run(name, func(t *testing.T) {
			rec, err := recovery(t, tt.repo())
			want(t, err, tt.want, tt.detail)
			if rec != nil {
				t.Error("a Recovery together with the error")
			}
		})
	}
	// The evidence: the statement, or the root if the root breaks a rule.
	t.Run("evidence", func(t *testing.T) {
		for root, r := range map[bool]*rawtuf.Repo{false: by("bank1")(), true: root(func(r *rawtuf.Repo) { r.Charter()["epoch"] = 1 })()} {
			_, err := recovery(t, r)
			var e *tuf.Error
			if !errors.As(err, &e) || string(e.Evidence) != string(r.Files[map[bool]string{false: "recovery/1.statement.json", true: "recovery/2.root.json"}[root]]) {
				t.Errorf("%v: evidence %.40q", err, e.Evidence)
			}
		}
	})
	t.Run("a root that is none", func(t *testing.T) {
		r := served("bank1", "university")
		r.Files["recovery/2.root.json"] = []byte("<html>")
		_, err := recovery(t, r)
		want(t, err, tuf.ErrMalformed, "root")
	})
	t.Run("as large as the limit", func(t *testing.T) {
		r := served("bank1", "university")
		s := r.Files["recovery/1.statement.json"]
		r.Files["recovery/1.statement.json"] = append(s, bytes.Repeat([]byte(" "), tuf.MaxRecoveryStatement-len(s))...)
		_, err := recovery(t, r)
		want(t, err, nil, "")
	})
	t.Run("counter", func(t *testing.T) {
		r := recoverable()
		rawtuf.At(r.Charter(), "recovery")["counter"] = 2
		r.PublishRoot()
		r.Recover(nothing, "bank1", "university")
		_, err := recovery(t, r)
		want(t, err, tuf.ErrRollback, "the charter's counter is 2")
	})
	t.Run("no recovery in the charter", func(t *testing.T) {
		r := served("bank1", "university")
		plain := rawtuf.New()
		root := newClient(t, plain).root
		_, err := root.Recovery(r.Files["recovery/1.statement.json"], r.Files["recovery/2.root.json"], rawtuf.Now)
		want(t, err, tuf.ErrCharter, "no recovery")
	})
}

// H12: recovery keys have no other role in the repository, and no organisation can recover
// alone or at once.
func TestRecoveryRule(t *testing.T) {
	rule := func(edit func(r *rawtuf.Repo, rule doc)) func(*rawtuf.Repo) {
		return newRoot(func(r *rawtuf.Repo, c doc) { r.Recoverable(); edit(r, rawtuf.At(c, "recovery")) })
	}
	set := func(name string, v any) func(*rawtuf.Repo) {
		return rule(func(_ *rawtuf.Repo, rule doc) { rule[name] = v })
	}
	second := func(keys ...string) func(*rawtuf.Repo) {
		return rule(func(r *rawtuf.Repo, rule doc) {
			rawtuf.At(rule, "orgs", 1)["keyids"] = r.IDs(keys...)
			rule["keyids"] = append(r.IDs("bank1", "bank2"), r.IDs(keys...)...)
		})
	}
	h12 := func(name string, mutate func(*rawtuf.Repo), detail string) attack {
		return attack{name, mutate, tuf.ErrCharter, "H12: " + detail}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		{"healthy", rule(func(*rawtuf.Repo, doc) {}), nil, ""},
		{"in a class without a hold", rule(func(r *rawtuf.Repo, _ doc) { delete(rawtuf.At(r.Charter(), "classes", 0), "hold") }), nil, ""},
		{"with all keys of all", set("threshold", 3), nil, ""},
		{"in a thousand searches", set("min_ticks", 1000), nil, ""},
		h12("in more than a thousand", set("min_ticks", 1001), "recovery after 1001 searches"),
		h12("a vendor's root key", second("vendor1"), "recovery key"),
		h12("a vendor's release key", second("va"), "recovery key"),
		h12("a review centre's release key", second("ra"), "recovery key"),
		h12("a hold's key", rule(func(r *rawtuf.Repo, rule doc) {
			r.AddKeys(r.Root, "hk")
			rawtuf.At(r.Charter(), "classes", 0, "hold")["keyids"] = r.IDs("hk")
			rawtuf.At(rule, "orgs", 1)["keyids"] = r.IDs("hk")
			rule["keyids"] = r.IDs("bank1", "bank2", "hk")
		}), "recovery key"),
		h12("a key of an unknown kind", rule(func(r *rawtuf.Repo, rule doc) {
			rawtuf.At(r.Root, "keys")["odd"] = doc{"keytype": "ml-dsa", "scheme": "ml-dsa-65", "keyval": doc{"public": "00"}}
			rawtuf.At(rule, "orgs", 1)["keyids"] = []any{"odd"}
			rule["keyids"] = append(r.IDs("bank1", "bank2"), "odd")
		}), "recovery key odd of university is missing or can't be used"),
		h12("an organisation in capitals", rule(func(_ *rawtuf.Repo, rule doc) { rawtuf.At(rule, "orgs", 1)["name"] = "University" }), "recovery organisation"),
		h12("an organisation without keys", rule(func(r *rawtuf.Repo, rule doc) {
			rawtuf.At(rule, "orgs", 1)["keyids"] = []any{}
			rule["keyids"] = r.IDs("bank1", "bank2")
		}), "recovery organisation"),
		h12("an online key", second("timestamp"), "recovery key"),
		h12("one key of two organisations", rule(func(r *rawtuf.Repo, rule doc) {
			rawtuf.At(rule, "orgs", 1)["keyids"] = r.IDs("bank1")
			rule["keyids"] = append(r.IDs("bank1", "bank2"), "ghost")
		}), "recovery key"),
		h12("an id without a key", rule(func(r *rawtuf.Repo, rule doc) {
			rawtuf.At(rule, "orgs", 1)["keyids"] = []any{"ghost"}
			rule["keyids"] = append(r.IDs("bank1", "bank2"), "ghost")
		}), "recovery key ghost of university is missing"),
		h12("one organisation is enough", set("min_orgs", 1), "recovery by 1 of 2 organisations"),
		h12("more organisations than there are", set("min_orgs", 3), "recovery by 3 of 2"),
		h12("one key is enough", set("threshold", 1), "recovery threshold is 1 of 3"),
		h12("more keys than there are", set("threshold", 4), "recovery threshold is 4 of 3"),
		h12("at once", set("hold_seconds", 86399), "recovery after 23h59m59s"),
		h12("in one search", set("min_ticks", 1), "recovery after 1 searches"),
		h12("two organisations of one name", rule(func(_ *rawtuf.Repo, rule doc) { rawtuf.At(rule, "orgs", 1)["name"] = "bank" }), "recovery organisation"),
		{"a key of no organisation", rule(func(r *rawtuf.Repo, rule doc) { rule["keyids"] = append(rule["keyids"].([]any), "ghost") }), tuf.ErrMalformed, "4 keyids, the organisations hold 3"},
		{"a key that is not listed", rule(func(r *rawtuf.Repo, rule doc) { rule["keyids"] = r.IDs("bank1", "bank2") }), tuf.ErrMalformed, "not among the keyids"},
	})
}
