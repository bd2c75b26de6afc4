package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// forked is the same repository with the same signers elsewhere: from now on the two
// have separate histories.
func (w *world) forked() *world {
	return &world{&repotest.World{T: w.T, Now: w.Now, Pinned: w.Pinned, Store: w.Store.Copy(), Ledger: w.Ledger.Copy(), Keys: w.Keys}}
}

func prioritize(n int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error { tx.Root().Locations[0].Priority = n; return nil }
}

// online replaces the online keys.
func (w *world) online(prefix string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys = w.Public(prefix+"-timestamp"), w.Public(prefix+"-snapshot")
		return nil
	}
}

func retire(id string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error { return tx.Root().Retire(id) }
}

func both(fns ...func(*repo.Tx) error) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		for _, fn := range fns {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	}
}

// rootsFrom are the published roots from a version on.
func (w *world) rootsFrom(first int64) (out [][]byte) {
	for v := first; v <= w.Root().Version(); v++ {
		out = append(out, w.Store.Files[fmt.Sprintf("metadata/%d.root.json", v)])
	}
	return out
}

// Both parties signed two roots of one version, and clients have seen both. One call
// makes the next root, which both kinds of clients follow, whatever the differences.
func TestHeal(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		here, there []func(w *world) func(*repo.Tx) error // the roots of each side, one or more
		edit        func(w *world) func(*repo.Tx) error   // together with the healing
		check       func(t *testing.T, w, f *world)
	}{
		"locations":              {here: edits(prioritize(11)), there: edits(prioritize(12))},
		"a renewal":              {here: edits(renewRoot), there: edits(prioritize(12))},
		"the other is a renewal": {here: edits(prioritize(11)), there: edits(renewRoot)},
		"more changes there": {here: edits(prioritize(11), renewRoot, renewRoot), there: edits(prioritize(12), prioritize(13), prioritize(14)), check: func(t *testing.T, w, f *world) {
			if here, there := w.Root().Charter().Seq(), f.Root().Charter().Seq(); here != there+1 {
				t.Errorf("seq %d heals one of %d", here, there)
			}
		}},
		"a host retired here": {here: edits(retire("b")), there: edits(prioritize(12))},
		"a host retired there": {here: edits(prioritize(11)), there: edits(retire("b")), check: func(t *testing.T, w, _ *world) {
			c := w.Root().Charter()
			if len(c.Retired()) != 1 || slices.ContainsFunc(c.Locations(), func(l tuf.Location) bool { return l.ID == "b" }) {
				t.Errorf("retired are %v, listed %v", c.Retired(), c.Locations())
			}
		}},
		"an epoch here": {here: edits(nil), there: edits(prioritize(12))},
		"an epoch there": {here: edits(prioritize(11)), there: edits(nil), check: func(t *testing.T, w, f *world) {
			if w.Root().OnlineKeys() != f.Root().OnlineKeys() {
				t.Error("the online keys of the fork were not adopted")
			}
		}},
		"an epoch on each side": {here: edits(nil), there: edits(nil), edit: func(w *world) func(*repo.Tx) error { return w.online("third") }},
		"a party's keys there": {here: edits(prioritize(11)), there: []func(*world) func(*repo.Tx) error{func(w *world) func(*repo.Tx) error {
			return func(tx *repo.Tx) error { tx.Root().Parties[0].Keys = w.Public("v3", "v4"); return nil }
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Update(func(tx *repo.Tx) error {
				tx.Root().Locations = append(tx.Root().Locations, location("b", tuf.Mirror, 30))
				return nil
			})
			w.Update(add("1"))
			first := w.Root().Version() + 1
			f := w.forked()
			for i, side := range []*world{w, f} {
				for _, fn := range [][]func(*world) func(*repo.Tx) error{tt.here, tt.there}[i] {
					edit := fn(w)
					if edit == nil {
						edit = w.online([]string{"here", "there"}[i])
					}
					side.Update(edit)
				}
			}
			heal := func(tx *repo.Tx) error { return tx.Heal(f.rootsFrom(first)...) }
			before := w.Root()
			// In the counterpart, a regular next root does not move the fork's clients, or the
			// published root has no successor there.
			if tt.edit != nil {
				if _, err := w.Open().Stage(t.Context(), heal); !errors.Is(err, repo.ErrHeal) || !errors.Is(err, tuf.ErrCharter) || !strings.Contains(err.Error(), "H3") {
					t.Fatalf("without an edit: %v", err)
				}
				heal = both(heal, tt.edit(w))
			}
			d, err := w.Open("no-role").Stage(t.Context(), heal)
			noErr(t, err)
			d, err = w.Open().OpenDraft([]byte(bytesOf(t, d)))
			noErr(t, err)
			lines, err := w.Open().Diff(t.Context(), d)
			noErr(t, err)
			if s := fmt.Sprint(lines); !strings.Contains(s, "heals a fork: it also follows root v"+fmt.Sprint(first-1+int64(len(tt.here)))+" with sha256 "+f.Root().SHA256()) {
				t.Errorf("the diff does not report it:\n%s", s)
			}
			// If the keys differ, all keys of the published side alone do not meet the threshold.
			w.SignAll(d)
			noErr(t, w.Open().Publish(t.Context(), d))
			healed := w.Root()
			for side, root := range map[string]*tuf.Root{"here": before, "there": f.Root()} {
				next, err := root.Next(w.Store.Files[fmt.Sprintf("metadata/%d.root.json", healed.Version())])
				if err != nil || next.SHA256() != healed.SHA256() {
					t.Errorf("clients %s: %v", side, err)
				}
			}
			if tt.check != nil {
				tt.check(t, w, f)
			}
			w.Update(add("2")) // regular operation continues
		})
	}
}

// edits are roots that need no key names; nil stands for new online keys.
func edits(fns ...func(*repo.Tx) error) (out []func(*world) func(*repo.Tx) error) {
	for _, fn := range fns {
		out = append(out, func(*world) func(*repo.Tx) error { return fn })
	}
	return out
}

// The parties of both roots must sign: without the parties that only the fork names,
// the draft reports the missing parties.
func TestHealNeedsBothKeySets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.forked()
	w.Update(prioritize(11))
	f.Update(func(tx *repo.Tx) error { tx.Root().Parties[0].Keys = w.Public("v3", "v4"); return nil })
	heal := func(tx *repo.Tx) error { return tx.Heal(f.rootsFrom(2)...) }
	d, err := w.Open(append(vendorKeys, reviewKeys...)...).Stage(t.Context(), heal)
	noErr(t, err)
	if err := w.Open(append(vendorKeys, reviewKeys...)...).Publish(t.Context(), d); !errors.Is(err, repo.ErrUnsigned) || !strings.Contains(err.Error(), "party vendor of the forked root") {
		t.Fatal(err)
	}
	// A draft's own list of required signers is ignored.
	bare := w.tampered(d, func(draft map[string]any) { w.files(draft)["root"]["needs"] = []any{} })
	if err := w.Open().Publish(t.Context(), bare); !errors.Is(err, repo.ErrHeal) || !errors.Is(err, tuf.ErrThreshold) {
		t.Fatal(err)
	}
	noErr(t, d.Sign(t.Context(), w.Signer("v3")))
	noErr(t, d.Sign(t.Context(), w.Signer("v4")))
	noErr(t, w.Open().Publish(t.Context(), d))
}

// A signer whose ledger has seen the other root published signs the healing root, and
// nothing else that follows the published one.
func TestHealAndTheLedgerOfTheOtherSide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(announce)
	f := w.forked()
	w.Update(prioritize(11))
	f.Update(retire("b"))
	theirs := func() *repo.Repo { // the fork's signers meet what is published here
		cfg := f.Config()
		for _, n := range append(vendorKeys, reviewKeys...) {
			cfg.Signers = append(cfg.Signers, w.Signer(n))
		}
		return repo.New(w.Store, cfg)
	}
	signs := func(d *repo.Draft) error {
		open, err := theirs().OpenDraft([]byte(bytesOf(t, d)))
		noErr(t, err)
		if _, err := theirs().Diff(t.Context(), open); err != nil {
			return err
		}
		return open.Sign(t.Context(), w.Signer("vendor-1"))
	}
	keyless := w.Open("no-role")
	ordinary, err := keyless.Stage(t.Context(), prioritize(13))
	noErr(t, err)
	if err := signs(ordinary); !errors.Is(err, signing.ErrRootBehind) {
		t.Fatal(err)
	}
	heal, err := keyless.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Heal(f.rootsFrom(3)...) })
	noErr(t, err)
	// A draft names a fork, and proposes a root that does not follow it.
	var honest map[string]any
	noErr(t, json.Unmarshal([]byte(bytesOf(t, heal)), &honest))
	lie := w.tampered(ordinary, func(draft map[string]any) { draft["heals"] = honest["heals"] })
	if err := signs(lie); !errors.Is(err, repo.ErrHeal) || !errors.Is(err, tuf.ErrCharter) {
		t.Fatal(err)
	}
	noErr(t, signs(heal))
	// A fork other than the one that the ledger has seen does not matter to it.
	g := newWorld(t)
	if _, err := keyless.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Heal(g.rootsFrom(1)...) }); !errors.Is(err, repo.ErrHeal) {
		t.Fatal(err)
	}
	w.SignAll(heal)
	noErr(t, w.Open().Publish(t.Context(), heal))
	if err := theirs().Update(t.Context(), add("2")); err != nil {
		t.Fatal(err)
	}
}

// If there is no fork, or it can't be healed, the call is refused with the reason, and
// nothing changes.
func TestHealIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.forked()
	w.Update(prioritize(11))
	f.Update(prioritize(12))
	other := newWorld(t)
	other.Update(prioritize(12))
	longer := f.forked()
	longer.Update(prioritize(13))
	unsigned := bytes.Replace(f.rootsFrom(2)[0], []byte(`"sig":"`), []byte(`"sig":"00`), -1)
	for name, tt := range map[string]struct {
		fork [][]byte
		want error
		why  string
	}{
		"none":                   {nil, repo.ErrHeal, "0 roots are given"},
		"too many":               {slices.Repeat(f.rootsFrom(2), 17), repo.ErrHeal, "17 roots are given"},
		"no root":                {[][]byte{[]byte("{}")}, tuf.ErrMalformed, ""},
		"a signature missing":    {[][]byte{unsigned}, tuf.ErrThreshold, ""},
		"the published one":      {w.rootsFrom(2), repo.ErrHeal, "is the published one"},
		"of another repository":  {other.rootsFrom(2), tuf.ErrUntrusted, "is not a root chain"},
		"a first root":           {other.rootsFrom(1)[:1], repo.ErrHeal, "root v0 is not published"},
		"a longer one":           {longer.rootsFrom(2), repo.ErrHeal, "ends with root v3, the published chain with v2"},
		"not from the beginning": {longer.rootsFrom(3), repo.ErrHeal, "ends with root v3"},
		"out of order":           {[][]byte{f.rootsFrom(2)[0], f.rootsFrom(2)[0]}, tuf.ErrUntrusted, "is not a root chain"},
	} {
		_, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { return tx.Heal(tt.fork...) })
		if !errors.Is(err, repo.ErrHeal) || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The only location without an end date is retired there: the caller must specify a
	// new one.
	g := newWorld(t)
	h := g.forked()
	g.Update(prioritize(11))
	h.Update(func(tx *repo.Tx) error {
		tx.Root().Locations = append(tx.Root().Locations, location("b", tuf.Primary, 5))
		return tx.Root().Retire("a")
	})
	heal := func(tx *repo.Tx) error { return tx.Heal(h.rootsFrom(2)...) }
	if _, err := g.Open().Stage(t.Context(), heal); !errors.Is(err, tuf.ErrCharter) || !strings.Contains(err.Error(), "H7") {
		t.Error(err)
	}
	g.Update(both(heal, func(tx *repo.Tx) error {
		tx.Root().Locations = append(tx.Root().Locations, location("b", tuf.Primary, 5))
		return nil
	}))
	if _, err := h.Root().Next(g.rootsFrom(3)[0]); err != nil {
		t.Error(err)
	}
}

// A forged root is succeeded by the true root that a signer knows, once the forger has
// added own signatures to that file. A draft that calls the true root a fork to be
// healed does not make the signer accept the forged ones: the true root names the root
// before it.
func TestHealOfAForgedPast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(prioritize(11))
	f := w.forgery()
	f.Update(prioritize(12))
	known := appendSignatures(t, w.rootsFrom(2)[0], f.Signer("vendor-1"), f.Signer("vendor-2"), f.Signer("review-1"), f.Signer("review-2"))
	evil, err := f.Open("no-role").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Heal(known) })
	if err != nil {
		t.Fatal("the forgery must be one that a forger can stage:", err)
	}
	sign := func(store *memory, d *repo.Draft) error {
		cfg := w.Config() // the victim's ledger
		open, err := repo.New(store, cfg).OpenDraft([]byte(bytesOf(t, d)))
		noErr(t, err)
		return open.Sign(t.Context(), w.Signer("vendor-1"))
	}
	if err := sign(f.Store, evil); !errors.Is(err, signing.ErrRootBehind) {
		t.Fatal(err)
	}
	honest, err := w.Open("no-role").Stage(t.Context(), renewRoot)
	noErr(t, err)
	noErr(t, sign(w.Store, honest))
}
