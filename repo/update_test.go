package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// The root threshold follows from the parties (rule Q), and the pin can be opened.
func TestRuleQ(t *testing.T) {
	for _, x := range []struct{ keys, min, want int }{{1, 1, 2}, {2, 1, 3}, {2, 2, 4}, {4, 2, 6}} {
		w := emptyWorld(t)
		party := func(name string) repo.Party {
			p := repo.Party{Name: name, Min: x.min}
			for i := range x.keys {
				p.Keys = append(p.Keys, w.Public(fmt.Sprint(name, i))...)
			}
			return p
		}
		w.Update(func(tx *repo.Tx) error {
			err := w.Define(tx)
			tx.Root().Parties = []repo.Party{party("vendor"), party("review")}
			return err
		})
		if ids, threshold := w.Root().RoleKeys("root"); threshold != x.want || len(ids) != 2*x.keys {
			t.Errorf("2 times %d keys, minimum %d: threshold %d of %d, want %d", x.keys, x.min, threshold, len(ids), x.want)
		}
		data, err := w.Open().Pin(t.Context())
		noErr(t, err)
		pin, err := tuf.OpenPin(data, nil)
		noErr(t, err)
		if pin.Review() != "review" || pin.Root().Charter().RepoID() != w.Root().Charter().RepoID() || len(pin.Locations()) != 2 {
			t.Errorf("pin of %s with %v", pin.Review(), pin.Locations())
		}
	}
}

// Edits that the charter's rules forbid are refused before anything is written.
func TestUnlawfulRoot(t *testing.T) {
	for name, change := range map[string]func(w *world, r *repo.Root){
		"parties share a key":  func(w *world, r *repo.Root) { r.Parties[1].Keys[0] = r.Parties[0].Keys[0] },
		"one party":            func(w *world, r *repo.Root) { r.Parties, r.Classes = r.Parties[:1], nil },
		"minimum above keys":   func(w *world, r *repo.Root) { r.Parties[0].Keys = r.Parties[0].Keys[:1]; r.Parties[0].Min = 2 },
		"class of one party":   func(w *world, r *repo.Root) { r.Classes[0].Roles = r.Classes[0].Roles[:1] },
		"one key in two roles": func(w *world, r *repo.Root) { r.Classes[0].Roles[0].Keys = r.Classes[0].Roles[1].Keys },
		"classes overlap": func(w *world, r *repo.Root) {
			c := w.Class("x")
			c.Prefix = "agent/x/"
			r.Classes = append(r.Classes, c)
		},
		"plain http":                      func(w *world, r *repo.Root) { r.Locations[1].Base = "http://a.example.org/" },
		"loopback":                        func(w *world, r *repo.Root) { r.Locations[1].Base = "http://127.0.0.1:8080/" },
		"no location without an end date": func(w *world, r *repo.Root) { r.Locations[1].UseUntil = w.Now.Add(time.Hour) },
		"repo_id":                         func(w *world, r *repo.Root) { r.RepoID = "mine" },
		"timestamp without key":           func(w *world, r *repo.Root) { r.Timestamp.Keys = nil },
		"party without key":               func(w *world, r *repo.Root) { r.Parties[1].Keys = nil },
		"release without key":             func(w *world, r *repo.Root) { r.Classes[0].Roles[1].Keys.Keys = nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := emptyWorld(t)
			w.Refused(tuf.ErrCharter, func() error {
				return w.Try(func(tx *repo.Tx) error {
					err := w.Define(tx)
					change(w, tx.Root())
					return err
				})
			})
			w.Update(w.Define)
			w.Sees("root 1")
		})
	}
	// Settings that are refused for products may be permitted for development.
	w := emptyWorld(t)
	cfg := &repo.Config{UnsafeLoopback: true}
	local := func(tx *repo.Tx) error {
		err := w.Define(tx)
		tx.Root().Locations[0].Base = "http://127.0.0.1:8080/"
		return err
	}
	for _, name := range slices.Concat(vendorKeys, reviewKeys) {
		cfg.Signers = append(cfg.Signers, w.Signer(name))
	}
	noErr(t, repo.New(w.Store, cfg).Update(t.Context(), local))
	// An empty repository can't be edited.
	for _, fn := range []func(r *repo.Repo) error{
		func(r *repo.Repo) error { return r.Renew(t.Context()) },
		func(r *repo.Repo) error { _, err := r.Pin(t.Context()); return err },
		func(r *repo.Repo) error { _, err := r.Pending(t.Context(), "review"); return err },
		func(r *repo.Repo) error { return r.Update(t.Context(), func(*repo.Tx) error { return nil }) },
	} {
		if err := fn(repo.New(newMemory(), nil)); err == nil {
			t.Error("an empty repository was edited")
		}
	}
}

// changes are edits of root, each on a repository with one approved release that must
// stay available, and the expected root afterwards.
func TestRootChanges(t *testing.T) {
	for name, x := range map[string]struct {
		edit       func(w *world, tx *repo.Tx)
		seq, epoch int64
		check      func(t *testing.T, w *world, r *tuf.Root)
	}{
		"renewal": {edit: func(w *world, tx *repo.Tx) { tx.RenewRoot() }, check: func(t *testing.T, w *world, r *tuf.Root) {
			if wrote := w.Store.Wrote(); !slices.Equal(wrote, []string{"metadata/2.root.json"}) {
				t.Errorf("wrote %q", wrote)
			}
			if !r.Expires().Equal(w.Now.Add(365*24*time.Hour)) || !r.Charter().SignedAt().Equal(w.Now) {
				t.Error("expires", r.Expires(), "signed", r.Charter().SignedAt())
			}
		}},
		"announcement": {seq: 1, edit: func(w *world, tx *repo.Tx) {
			l := location("b", tuf.Primary, 5)
			l.UseFrom = w.Now.Add(time.Hour)
			tx.Root().Locations = append(tx.Root().Locations, l)
		}, check: func(t *testing.T, w *world, r *tuf.Root) {
			if l := r.Charter().Locations(); len(l) != 3 || l[0].ID != "b" || !l[0].UseFrom.Equal(w.Now.Add(time.Hour)) {
				t.Error(l)
			}
		}},
		"retirement": {seq: 1, edit: func(w *world, tx *repo.Tx) {
			tx.Root().Locations = append(tx.Root().Locations, location("b", tuf.Primary, 5))
			noErr(w.T, tx.Root().Retire("a"))
			if tx.Root().Retire("a") == nil {
				w.T.Error("retired twice")
			}
		}, check: func(t *testing.T, w *world, r *tuf.Root) {
			c := r.Charter()
			if was := location("a", tuf.Primary, 10); c.Usable(was, w.Now) || len(c.Retired()) != 1 || c.Retired()[0].Hosts[0] != "a.example.org" {
				t.Error(c.Retired())
			}
		}},
		"cut over": {seq: 1, epoch: 1, edit: func(w *world, tx *repo.Tx) {
			tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
		}, check: func(t *testing.T, w *world, r *tuf.Root) {
			// Three updates were published before: founding, release, approval.
			if f := r.Charter().Floors(); f != (tuf.Floors{Timestamp: 3, Snapshot: 3, Targets: 1}) {
				t.Error(f)
			}
		}},
		"release key replaced": {seq: 1, edit: func(w *world, tx *repo.Tx) {
			tx.Root().Classes[0].Roles[0].Keys.Keys = w.Public("vendor-release-2")
		}, check: func(t *testing.T, w *world, r *tuf.Root) {
			if got := w.signedBy("vendor-agent"); !slices.Equal(got, []string{"vendor-release-2"}) {
				t.Error("signed by", got)
			}
			if got := w.signedBy("review-agent"); !slices.Equal(got, []string{"review-release"}) {
				t.Error("signed by", got)
			}
		}},
		"targets key replaced": {edit: func(w *world, tx *repo.Tx) { tx.Root().Targets.Keys = w.Public("targets-2") }, check: func(t *testing.T, w *world, r *tuf.Root) {
			if got := w.signedBy("targets"); !slices.Equal(got, []string{"targets-2"}) {
				t.Error("signed by", got)
			}
		}},
		"minimum raised": {seq: 1, edit: func(w *world, tx *repo.Tx) { tx.Root().Parties[1].Min = 2 }, check: func(t *testing.T, w *world, r *tuf.Root) {
			if _, threshold := r.RoleKeys("root"); threshold != 4 {
				t.Error("threshold", threshold)
			}
		}},
		"party's keys replaced": {seq: 1, edit: func(w *world, tx *repo.Tx) { tx.Root().Parties[0].Keys = w.Public("v3", "v4", "v5") }},
		"class added":           {seq: 1, edit: func(w *world, tx *repo.Tx) { tx.Root().Classes = append(tx.Root().Classes, w.Class("rules")) }},
		"probe changed":         {seq: 1, edit: func(w *world, tx *repo.Tx) { tx.Root().Probe.Enforce = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Update(add("1"))
			w.Update(approve("1"))
			p := w.Product()
			p.Refresh()
			old := w.Root()
			w.Now = w.Now.Add(time.Hour)
			w.Store.Wrote()
			w.Update(func(tx *repo.Tx) error { x.edit(w, tx); return nil })
			root := w.Root()
			if c, was := root.Charter(), old.Charter(); c.Seq() != was.Seq()+x.seq || c.Epoch() != was.Epoch()+x.epoch || c.RepoID() != was.RepoID() || c.PrevRoot() != old.SHA256() {
				t.Errorf("seq %d, epoch %d, after %d and %d", c.Seq(), c.Epoch(), was.Seq(), was.Epoch())
			}
			if x.check != nil {
				x.check(t, w, root)
			}
			for _, p := range []*product{p, w.Product()} {
				if got := p.State(); got != "root 2 agent/1" {
					t.Errorf("a client sees %q", got)
				}
			}
			w.follows()
			// From here on regular operation continues, and an edit without changes makes no new
			// root.
			w.Update(func(tx *repo.Tx) error { tx.Root(); return add("2")(tx) })
			w.Update(approve("2"))
			w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
			w.Sees("root 3 agent/1 agent/2")
		})
	}
}

// signedBy names the keys that signed the published version of a role.
func (w *world) signedBy(role string) (names []string) {
	p := w.Product()
	snap, err := p.Refresh()
	noErr(w.T, err)
	f, err := snap.RoleFile(role)
	noErr(w.T, err)
	data, err := p.Get(f)
	noErr(w.T, err)
	var env struct{ Signatures []struct{ KeyID string } }
	noErr(w.T, json.Unmarshal(data, &env))
	for name, k := range w.Keys {
		if slices.ContainsFunc(env.Signatures, func(s struct{ KeyID string }) bool { return s.KeyID == k.Key().ID() }) {
			names = append(names, name)
		}
	}
	return names
}

// follows checks that targets.json delegates for standard TUF clients as the charter
// specifies: first to the review party's roles, which end the search, then to the
// others.
func (w *world) follows() {
	w.T.Helper()
	p := w.Product()
	snap, err := p.Refresh()
	noErr(w.T, err)
	f, err := snap.RoleFile("targets")
	noErr(w.T, err)
	data, err := p.Get(f)
	noErr(w.T, err)
	targets, err := snap.Targets(data)
	noErr(w.T, err)
	md, err := gotuf.Targets(targets)
	noErr(w.T, err)
	var got, want []string
	for _, d := range md.Signed.Delegations.Roles {
		got = append(got, fmt.Sprint(d.Name, d.KeyIDs, d.Threshold, d.Terminating, d.Paths[0]))
		for _, id := range d.KeyIDs {
			if md.Signed.Delegations.Keys[id] == nil {
				w.T.Error("no key", id)
			}
		}
	}
	for _, party := range []string{"review", "vendor"} {
		for _, c := range p.Root.Charter().Classes() {
			for _, r := range c.Roles {
				if r.Party == party {
					want = append(want, fmt.Sprint(r.Role, r.KeyIDs, r.Threshold, party == "review", c.Prefix+"*"))
				}
			}
		}
	}
	if !slices.Equal(got, want) {
		w.T.Errorf("targets.json delegates to\n%q, the charter specifies\n%q", got, want)
	}
}

// Content that the new root's rules no longer accept is signed again together with the
// root.
func TestOnlineThresholdRaised(t *testing.T) {
	w := emptyWorld(t)
	w.Update(func(tx *repo.Tx) error {
		err := w.Define(tx)
		tx.Root().Snapshot.Keys = w.Public("snapshot", "snapshot-b")
		return err
	})
	// One of the two has signed.
	noErr(t, w.Open("vendor-release", "snapshot", "timestamp").Update(t.Context(), add("1")))
	w.Update(func(tx *repo.Tx) error { tx.Root().Snapshot.Threshold = 2; return nil })
	w.Sees("root 2")
	w.Refused(repo.ErrUnsigned, func() error {
		return w.Open("review-release", "snapshot", "timestamp").Update(t.Context(), approve("1"))
	})
	w.Update(approve("1"))
	w.Sees("root 2 agent/1")

	// A release role behaves alike.
	keys := func(threshold int) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			tx.Root().Classes[0].Roles[0].Keys = repo.Keys{Keys: w.Public("vendor-release", "vendor-release-b"), Threshold: threshold}
			return nil
		}
	}
	w.Update(keys(1))
	noErr(t, w.Open("vendor-release", "snapshot", "snapshot-b", "timestamp").Update(t.Context(), add("2")))
	w.Update(keys(2))
	w.Update(approve("2"))
	w.Sees("root 4 agent/1 agent/2")
}

// A new epoch needs new keys for both online roles (H3): one is not enough.
func TestHalfACutOver(t *testing.T) {
	w := newWorld(t)
	half := func(tx *repo.Tx) error { tx.Root().Timestamp.Keys = w.Public("timestamp-2"); return nil }
	w.Refused(tuf.ErrCharter, func() error { return w.Try(half) })
	w.Update(func(tx *repo.Tx) error { tx.Root().Snapshot.Keys = w.Public("snapshot-2"); return half(tx) })
	w.Sees("root 2")
}

// A charter with members that this package does not know is not edited, because the
// members would be lost; releases can still be published.
func TestForeignCharter(t *testing.T) {
	w := emptyWorld(t)
	d, err := w.Open().Stage(t.Context(), w.Define)
	noErr(t, err)
	d = w.tampered(d, func(draft map[string]any) {
		at(w.files(draft)["root"], "content", "signed", "x-visum", "classes", 0)["later"] = 1
	})
	w.SignAll(d)
	noErr(t, w.Open().Publish(t.Context(), d))
	err = w.Try(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	if err == nil || !strings.Contains(err.Error(), "classes.later") {
		t.Fatal(err)
	}
	w.Update(add("1"))
	if errors.Is(w.Try(approve("1")), repo.ErrConflict) {
		t.Fatal("conflict")
	}
}
