package repo_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// The foreseen roots are the roots that are later published, except for signatures.
func TestForesee(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	at := w.Now.Add(48 * time.Hour)
	edits := []func(*repo.Root) error{
		func(r *repo.Root) error { r.Locations = append(r.Locations, location("b", tuf.Primary, 5)); return nil },
		func(r *repo.Root) error {
			r.Timestamp.Keys, r.Snapshot.Keys, r.Parties[0].Keys = w.Public("ts2"), w.Public("sn2"), w.Public("vendor-3")
			return nil
		},
		func(r *repo.Root) error { return r.Retire("a") },
	}
	var steps []repo.RootEdit
	for i, e := range edits {
		steps = append(steps, repo.RootEdit{At: at.Add(time.Duration(i) * time.Hour), Edit: e})
	}
	before := w.Store.Copy()
	plan, err := w.Open("timestamp").PlanRoots(t.Context(), steps...)
	noErr(t, err)
	if len(plan) != 3 || len(before.Files) != len(w.Store.Files) {
		t.Fatal(len(plan))
	}
	for i, s := range steps {
		w.Now = s.At
		w.Update(func(tx *repo.Tx) error { return s.Edit(tx.Root()) })
		if got := w.Root(); got.Version() != plan[i].Version() {
			t.Fatal(got.Version())
		}
	}
	chain, err := w.Open().Chain(t.Context())
	noErr(t, err)
	for i, p := range plan {
		// Publishing made newer content before the second root, so floors and what follows differ.
		if got := chain[i+1]; i == 0 && got.SHA256() != p.SHA256() || got.Charter().Epoch() != p.Charter().Epoch() ||
			len(got.Charter().Retired()) != len(p.Charter().Retired()) || !got.Expires().Equal(p.Expires()) {
			t.Errorf("root v%d is not as foreseen", p.Version())
		}
	}
	// A plan that no client would follow is refused, and the error names the failing step.
	var refused *tuf.Error
	_, err = w.Open().PlanRoots(t.Context(), repo.RootEdit{At: at, Edit: func(*repo.Root) error { return nil }}, repo.RootEdit{At: at, Edit: func(r *repo.Root) error {
		r.Locations = append(r.Locations, location("a", tuf.Primary, 5))
		return nil
	}})
	if !errors.Is(err, tuf.ErrCharter) || !errors.As(err, &refused) || refused.Version != 6 {
		t.Fatalf("got %v", err)
	}
}

// Every root in the history gives a pin, with the locations of its time.
func TestPins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want [][]byte
	keep := func() {
		pin, err := w.Open().Pin(t.Context())
		noErr(t, err)
		want = append(want, pin)
	}
	keep()
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Locations = append(tx.Root().Locations, location("b", tuf.Primary, 5))
		return nil
	})
	keep()
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error { return tx.Root().Retire("a") })
	keep()
	w.Update(func(tx *repo.Tx) error { // one operator is left: no pin
		tx.Root().Locations[0].Operator = tx.Root().Locations[1].Operator
		return nil
	})
	got, err := w.Open().Pins(t.Context())
	noErr(t, err)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Fatalf("%d pins, want %d", len(got), len(want))
	}
}

// Another organisation takes the part of the reviewing party under another name: products
// with pins of the roots before were shipped too.
func TestPinsOfAReplacedParty(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before, err := w.Open().Pin(t.Context())
	noErr(t, err)
	root, release := w.Public("centre-1"), w.Public("centre-release")
	cfg := w.Config()
	cfg.Review = "centre"
	for _, k := range w.Keys {
		cfg.Signers = append(cfg.Signers, k)
	}
	r := repo.New(w.Store, cfg)
	noErr(t, r.Update(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Parties[1] = repo.Party{Name: "centre", Keys: root, Min: 1}
		tx.Root().Classes[0].Roles[1] = repo.ReleaseRole{Party: "centre", Role: "centre-agent", Keys: repo.Keys{Keys: release}}
		return nil
	}))
	after, err := r.Pin(t.Context())
	noErr(t, err)
	got, err := r.Pins(t.Context())
	noErr(t, err)
	if !slices.EqualFunc(got, [][]byte{before, after}, bytes.Equal) {
		t.Errorf("%d pins, want 2: %s", len(got), got)
	}
	// The handle of a party whose identity was not changed yet names what is wrong.
	if _, err := w.Open().Pins(t.Context()); err == nil || !strings.Contains(err.Error(), `root v2 has no party "review"`) {
		t.Error(err)
	}
}
