package repo_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// The files that a file lists are written before it; timestamp.json is written last,
// on its own.
func TestOrderOfWrites(t *testing.T) {
	w := emptyWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(w.Define(tx), add("1")(tx)) })
	wrote := w.Store.Wrote()
	if !strings.HasPrefix(wrote[0], "targets/agent/") {
		t.Errorf("first is %s", wrote[0])
	}
	want := []string{"metadata/1.review-agent.json", "metadata/1.targets.json", "metadata/1.vendor-agent.json", "metadata/1.snapshot.json", "metadata/1.root.json", "metadata/timestamp.json"}
	if !slices.Equal(wrote[1:], want) {
		t.Errorf("wrote %q", wrote[1:])
	}
	// A release changes its role and the metadata that lists it, nothing else.
	w.Update(approve("1"))
	if wrote := w.Store.Wrote(); !slices.Equal(wrote, []string{"metadata/2.review-agent.json", "metadata/2.snapshot.json", "metadata/timestamp.json"}) {
		t.Errorf("wrote %q", wrote)
	}
}

// Two drafts have the same base: the second is refused, and succeeds after it is
// staged again. Nothing of the first is lost.
func TestConflict(t *testing.T) {
	renew := func(tx *repo.Tx) error { tx.RenewRoot(); return nil }
	for name, edits := range map[string][2]func(*repo.Tx) error{
		"releases": {add("1"), add("2")},
		"roots":    {renew, renew},
		"release and new release key": {add("1"), func(tx *repo.Tx) error {
			r := tx.Root()
			r.Classes[0].Roles[0].Keys = repo.Keys{Keys: slices.Concat(r.Classes[0].Roles[0].Keys.Keys, r.Targets.Keys)}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var drafts [2]*repo.Draft
			for i, edit := range edits {
				w.Now = w.Now.Add(time.Minute)
				var err error
				drafts[i], err = w.Open().Stage(t.Context(), w.Again(edit))
				noErr(t, err)
			}
			noErr(t, w.Open().Publish(t.Context(), drafts[0]))
			w.Refused(repo.ErrStale, func() error { return w.Open().Publish(t.Context(), travel(t, drafts[1])) })
			w.Refused(repo.ErrPublished, func() error { return w.Open().Publish(t.Context(), drafts[0]) }) // it is not published twice either
			w.Update(edits[1])
			for _, p := range w.pending() {
				if err := w.Try(approve(strings.TrimPrefix(p, "agent/"))); err != nil {
					t.Error(err)
				}
			}
			want := map[string]string{"releases": "root 1 agent/1 agent/2", "roots": "root 3", "release and new release key": "root 2 agent/1"}
			w.Sees(want[name])
		})
	}
}

// pending are the paths that are pending for the review party.
func (w *world) pending() (paths []string) {
	w.T.Helper()
	list, err := w.Open().Pending(w.T.Context(), "review")
	noErr(w.T, err)
	for _, p := range list {
		paths = append(paths, p.Path)
	}
	return paths
}

// A draft skips a version that a killed publisher left behind. If that version is
// published after all, the draft is out of date although its number is higher.
func TestOrphanComesAlive(t *testing.T) {
	w := newWorld(t)
	first, err := w.Open().Stage(t.Context(), add("1"))
	noErr(t, err)
	w.Store.Before = func(name string) error {
		if strings.HasSuffix(name, "snapshot.json") {
			return errKilled
		}
		return nil
	}
	if err := w.Open().Publish(t.Context(), first); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.Store.Before = nil
	second, err := w.Open().Stage(t.Context(), add("2"))
	noErr(t, err)
	if second.String() != "vendor-agent v3" {
		t.Fatalf("draft of %s", second)
	}
	noErr(t, w.Open().Publish(t.Context(), first))
	w.Refused(repo.ErrStale, func() error { return w.Open().Publish(t.Context(), second) })
	w.Update(add("2"))
	if got := w.pending(); !slices.Equal(got, []string{"agent/1", "agent/2"}) {
		t.Errorf("published %q", got)
	}
}

// Another process publishes while a root is being published: a root can't be taken
// back, so it is not written.
func TestRootLosesTheRace(t *testing.T) {
	w := newWorld(t)
	cutOver := func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
		return nil
	}
	once := sync.OnceFunc(func() { w.Update(add("1")) })
	w.Store.After = func(name string) error {
		if strings.HasSuffix(name, "snapshot.json") {
			w.Store.After = nil
			once()
		}
		return nil
	}
	if err := w.Try(cutOver); !errors.Is(err, repo.ErrConflict) {
		t.Fatal(err)
	}
	w.Sees("root 1")
	w.Refused(signing.ErrSecondContent, func() error { return w.Try(cutOver) })
	w.Update(w.Again(cutOver))
	w.Update(approve("1"))
	w.Sees("root 2 agent/1")
}

// Two publishers with many releases each run concurrently: nothing is lost.
func TestRace(t *testing.T) {
	t.Parallel()
	each := 20
	if rawtuf.Long {
		each = 100
	}
	w := newWorld(t)
	var all sync.WaitGroup
	for who := range 2 {
		r := w.Open()
		all.Go(func() {
			for i := range each {
				edit := add(fmt.Sprintf("%d-%02d", who, i))
				err := r.Update(t.Context(), edit)
				for errors.Is(err, repo.ErrConflict) {
					err = r.Update(t.Context(), edit)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := len(w.pending()); got != 2*each {
		t.Errorf("%d releases, want %d", got, 2*each)
	}
}

// A publisher is killed at its n-th write, for every n. Clients see the old state or
// the new one; if keys change there is an intermediate state, in which the new root
// waits for its content. The next update heals it, whether it is another edit or the
// same one.
func TestKilledAtEveryWrite(t *testing.T) {
	for name, x := range map[string]struct {
		edit    func(w *world, tx *repo.Tx) error
		between bool // a new root may be without content
		goal    string
	}{
		"founding":     {edit: func(w *world, tx *repo.Tx) error { return w.Define(tx) }, between: true, goal: "root 1"},
		"release":      {edit: func(w *world, tx *repo.Tx) error { return add("2")(tx) }, goal: "root 1 agent/1 agent/2"},
		"announcement": {edit: func(w *world, tx *repo.Tx) error { return announce(tx) }, goal: "root 2 agent/1"},
		"new online keys": {edit: func(w *world, tx *repo.Tx) error {
			tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
			return nil
		}, between: true, goal: "root 2 agent/1"},
		"new release keys": {edit: func(w *world, tx *repo.Tx) error {
			tx.Root().Classes[0].Roles[0].Keys.Keys = w.Public("vendor-release-2")
			tx.Root().Classes[0].Roles[1].Keys.Keys = w.Public("review-release-2")
			return nil
		}, between: true, goal: "root 2 agent/1"},
		"first hash bins": {edit: func(w *world, tx *repo.Tx) error {
			return errors.Join(addFiles(0, 520)(tx), approveFiles(0, 520)(tx))
		}, goal: "root 1 agent/1"},
		"new class and its release": {edit: func(w *world, tx *repo.Tx) error {
			tx.Root().Classes = append(tx.Root().Classes[:1:1], w.Class("rules"))
			return errors.Join(tx.Add("vendor", "rules/1", strings.NewReader("1"), release("2")), tx.Approve("review", "rules/1", nil))
		}, between: true, goal: "root 2 agent/1 rules/1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			variants := 4 // killed before or after the write, healed by the same edit or after another
			if testing.Short() {
				variants = 2
			}
			every := 2 // of the variants, others from write to write
			if rawtuf.Long {
				every = 1
			}
			if name == "first hash bins" {
				variants = 2
			}
			past := emptyWorld(t)
			if name != "founding" {
				past.Update(past.Define)
				past.Update(add("1"))
				past.Update(approve("1"))
			}
			for n, more := 1, true; more; n++ {
				for i := range variants {
					if (n+i/2+i)%every != 0 {
						continue
					}
					w := past.Copy()
					seen := w.Product()
					old := seen.State()
					edit := func(tx *repo.Tx) error { return x.edit(w, tx) }
					folder := ""
					if name == "first hash bins" {
						folder = "metadata/" // there are too many files to test each
					}
					killed := w.Store.KillIn(folder, n, i%2 == 1)
					err := w.Try(edit)
					if !killed() {
						noErr(t, err)
						more = false
						break
					}
					if !errors.Is(err, errKilled) {
						t.Fatalf("write %d: %v", n, err)
					}
					for _, p := range []*product{seen, w.Product()} {
						got := p.State()
						// A class whose roles are not yet published does not affect the others.
						between := x.between && (strings.HasSuffix(got, " without content") || got == strings.Replace(old, "root 1", "root 2", 1))
						if got != old && got != x.goal && !between {
							t.Fatalf("killed at write %d: a client sees %q", n, got)
						}
					}
					if i >= 2 && name != "founding" { // another process publishes first
						w.Update(func(tx *repo.Tx) error { return tx.Renew("vendor") })
					}
					w.Update(w.Again(edit))
					for _, p := range w.pending() {
						w.Update(func(tx *repo.Tx) error { return tx.Approve("review", p, nil) })
					}
					if left := w.leftovers(); len(left) > 0 {
						t.Fatalf("killed at write %d, and healed: %q are still there", n, left)
					}
					for _, p := range []*product{seen, w.Product()} {
						if got := p.State(); got != x.goal && (name != "release" || got != old+" agent/2") {
							t.Fatalf("killed at write %d, and healed: a client sees %q, want %q", n, got, x.goal)
						}
					}
				}
			}
		})
	}
}

// leftovers are metadata files that no snapshot ever listed.
func (w *world) leftovers() (names []string) {
	w.T.Helper()
	listed := map[string]bool{"metadata/timestamp.json": true}
	ts, err := metadata.Timestamp().FromBytes(w.Store.Files["metadata/timestamp.json"])
	noErr(w.T, err)
	for name, data := range w.Store.Files {
		if !strings.HasSuffix(name, ".snapshot.json") {
			continue
		}
		snap, err := metadata.Snapshot().FromBytes(data)
		noErr(w.T, err)
		listed[name] = snap.Signed.Version <= ts.Signed.Meta["snapshot.json"].Version
		for role, f := range snap.Signed.Meta {
			listed[fmt.Sprintf("metadata/%d.%s", f.Version, role)] = true
		}
	}
	for name := range w.Store.Files {
		if strings.HasPrefix(name, "metadata/") && !listed[name] && !strings.HasSuffix(name, ".root.json") {
			names = append(names, name)
		}
	}
	return names
}

func announce(tx *repo.Tx) error {
	if r := tx.Root(); len(r.Locations) == 2 {
		r.Locations = append(r.Locations, location("b", tuf.Mirror, 30))
	}
	return nil
}

// After an interruption between a new root and its content, the daily job alone heals
// the repository if it has all the required keys.
func TestRefreshHeals(t *testing.T) {
	for _, heal := range []func(r *repo.Repo, t *testing.T) error{
		func(r *repo.Repo, t *testing.T) error { return r.Renew(t.Context()) },
		func(r *repo.Repo, t *testing.T) error {
			return r.Update(t.Context(), func(*repo.Tx) error { return nil })
		},
	} {
		w := newWorld(t)
		w.Store.Before = func(name string) error {
			if name == "metadata/timestamp.json" {
				return errKilled
			}
			return nil
		}
		err := w.Try(func(tx *repo.Tx) error {
			tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = w.Public("timestamp-2"), w.Public("snapshot-2")
			return nil
		})
		if w.Store.Before = nil; !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		w.Sees("root 2 without content")
		w.Refused(repo.ErrUnsigned, func() error { return heal(w.Open("timestamp", "snapshot"), t) })
		noErr(t, heal(w.Open("timestamp-2", "snapshot-2"), t))
		w.Sees("root 2")
	}
}

// The daily job signs the timestamp, and also the snapshot when half of its lifetime
// has passed.
func TestRefresh(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	online := w.Open("timestamp", "snapshot")
	p := w.Product()
	for day, want := range []string{"metadata/timestamp.json", "metadata/timestamp.json", "metadata/timestamp.json", "metadata/timestamp.json",
		"metadata/4.snapshot.json metadata/timestamp.json", "metadata/timestamp.json"} {
		w.Store.Wrote()
		noErr(t, online.Renew(t.Context()))
		if got := strings.Join(w.Store.Wrote(), " "); got != want {
			t.Errorf("day %d: wrote %s", day, got)
		}
		if got := p.State(); got != "root 1 agent/1" {
			t.Errorf("day %d: a client sees %q", day, got)
		}
		w.Now = w.Now.Add(24 * time.Hour)
	}
	w.Refused(repo.ErrUnsigned, func() error { return w.Open(reviewKeys...).Renew(t.Context()) })
}

// Everything has expired, root included. It is renewed step by step by each party,
// without waiting for the other's signature.
func TestExpired(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	w.Now = w.Now.Add(400 * 24 * time.Hour)
	vendor := w.Open(vendorKeys...)
	w.Refused(tuf.ErrExpired, func() error { return vendor.Renew(t.Context()) })
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, w.Open("timestamp", "snapshot").Renew(t.Context()))

	p := w.Product()
	snap, err := p.Refresh()
	noErr(t, err)
	if _, err := snap.Approve("agent/1", p.Get); !errors.Is(err, tuf.ErrExpired) {
		t.Fatal(err)
	}
	noErr(t, vendor.Update(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") }))
	d, err := w.Open(reviewKeys...).Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
	noErr(t, err)
	noErr(t, vendor.Publish(t.Context(), travel(t, d)))
	w.Sees("root 2 agent/1")

	// Standard TUF clients need targets.json too.
	openTargets := func() error {
		snap, err := p.Refresh()
		noErr(t, err)
		f, err := snap.RoleFile("targets")
		noErr(t, err)
		data, err := p.Get(f)
		noErr(t, err)
		_, err = snap.Targets(data)
		return err
	}
	if err := openTargets(); !errors.Is(err, tuf.ErrExpired) {
		t.Fatal(err)
	}
	noErr(t, vendor.Update(t.Context(), (*repo.Tx).RenewTargets))
	noErr(t, openTargets())
	w.follows()
}
