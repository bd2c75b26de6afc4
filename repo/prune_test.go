package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// swap publishes release n in place of the one before.
func swap(n int) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		v := fmt.Sprint(n)
		if err := errors.Join(add(v)(tx), approve(v)(tx)); err != nil || n == 1 {
			return err
		}
		old := "agent/" + fmt.Sprint(n-1)
		return errors.Join(tx.Remove("vendor", old), tx.Remove("review", old))
	}
}

// prune returns the removed names, sorted.
func (w *world) prune(opt *repo.PruneOptions) (names []string) {
	w.T.Helper()
	done, err := w.Open().Prune(w.T.Context(), opt)
	noErr(w.T, err)
	for _, f := range done {
		names = append(names, f.Name)
	}
	return slices.Sorted(slices.Values(names))
}

// A client that saw a timestamp may use it until it expires, and finds every file that
// it requests. Afterwards unlisted files are removed; roots are never removed.
func TestPrune(t *testing.T) {
	t.Parallel()
	w := dated(t)
	w.Update(swap(1))
	w.Update(announce) // root 2
	w.Now = w.Now.Add(10 * time.Hour)
	noErr(t, w.Open().Renew(t.Context())) // the same snapshot for another day
	p := w.Product()
	snap, err := p.Refresh()
	noErr(t, err)
	w.Now = w.Now.Add(time.Hour)
	w.Update(swap(2))
	hour := &repo.PruneOptions{Drafts: time.Hour}

	w.Now = w.Now.Add(22 * time.Hour)
	w.Update(swap(3))
	draft, err := w.Open().Stage(t.Context(), swap(4))
	noErr(t, err)
	before := maps.Clone(w.Store.Files)
	w.prune(hour)
	got, err := snap.Approve("agent/1", p.Get)
	noErr(t, err)
	if before[layout.TargetName(got.Path(), got.SHA256())] == nil || w.Store.Files[layout.TargetName(got.Path(), got.SHA256())] == nil {
		t.Fatal("a client with a valid timestamp requests a missing file")
	}

	w.Now = w.Now.Add(3 * time.Hour) // its timestamp has expired
	noErr(t, w.Open().Renew(t.Context()))
	dry := w.prune(&repo.PruneOptions{Drafts: 4 * time.Hour, DryRun: true})
	files := len(w.Store.Files)
	gone := w.prune(&repo.PruneOptions{Drafts: 4 * time.Hour})
	if !slices.Equal(dry, gone) || files-len(gone) != len(w.Store.Files) {
		t.Fatalf("the dry run listed %q, removed %q", dry, gone)
	}
	for _, want := range []string{"metadata/2.vendor-agent.json", "metadata/2.review-agent.json", layout.TargetName("agent/1", got.SHA256())} {
		if !slices.Contains(gone, want) {
			t.Errorf("%s is still there; removed %q", want, gone)
		}
	}
	if slices.ContainsFunc(gone, func(name string) bool { return strings.HasSuffix(name, ".root.json") }) {
		t.Errorf("removed %q", gone)
	}
	w.Sees("root 2 agent/3")
	// Files that a draft in transit lists have stayed.
	for _, s := range w.Keys {
		_ = draft.Sign(t.Context(), s)
	}
	noErr(t, w.Open().Publish(t.Context(), draft))
	w.Sees("root 2 agent/4")
	w.Intact()
	// In the end there are the published files, and no others.
	w.Now = w.Now.Add(29 * 24 * time.Hour)
	w.Update(func(tx *repo.Tx) error { return errors.Join(tx.Renew("vendor"), tx.Renew("review")) })
	w.Now = w.Now.Add(2 * 24 * time.Hour)
	noErr(t, w.Open().Renew(t.Context()))
	w.prune(nil)
	if left := len(w.Store.Files); left != 2+1+1+3+1 {
		t.Errorf("%d files are left: %q", left, slices.Sorted(maps.Keys(w.Store.Files)))
	}
	w.Intact()
}

// A draft that waited until Prune removed one of its files is not published, because
// clients would be offered a release that can't be downloaded. After it is staged
// again, it is.
func TestDraftThatWaitedTooLong(t *testing.T) {
	t.Parallel()
	w := dated(t)
	w.Update(swap(1))
	draft, err := w.Open().Stage(t.Context(), swap(2))
	noErr(t, err)
	for _, s := range w.Keys {
		_ = draft.Sign(t.Context(), s)
	}
	w.Now = w.Now.Add(2 * time.Hour)
	noErr(t, w.Open().Renew(t.Context()))
	if gone := w.prune(&repo.PruneOptions{Drafts: time.Hour}); len(gone) == 0 {
		t.Fatal("nothing was removed")
	}
	before := w.Store.Copy()
	err = w.Open().Publish(t.Context(), draft)
	wantErr(t, err, repo.ErrStale)
	wantErr(t, err, fs.ErrNotExist)
	if !strings.Contains(err.Error(), ".2 is no longer in the storage") {
		t.Error(err)
	}
	if !maps.EqualFunc(before.Files, w.Store.Files, bytes.Equal) {
		t.Error("something was written")
	}
	w.Sees("root 1 agent/1")
	w.Update(swap(2))
	w.Sees("root 1 agent/2")
	w.Intact()
}

// A storage that can't list and remove can't be pruned.
func TestPruneUnsupported(t *testing.T) {
	w := newWorld(t)
	w.Elsewhere = noTargets{w.Store}
	if _, err := w.Open().Prune(t.Context(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	if removed, err := repo.New(newMemory(), nil).Prune(t.Context(), nil); err != nil || len(removed) != 0 {
		t.Fatal(removed, err)
	}
}

// If Prune is killed at any removal, the repository is as good as before, and the next
// Prune completes the work.
func TestPruneKilled(t *testing.T) {
	t.Parallel()
	past := dated(t)
	for n := range 4 {
		past.Update(swap(n + 1))
		past.Now = past.Now.Add(2 * 24 * time.Hour)
	}
	past.Update(swap(5))
	hour := &repo.PruneOptions{Drafts: time.Hour}
	whole := past.Copy()
	want := whole.prune(hour)
	if len(want) < 10 {
		t.Fatalf("removed only %q", want)
	}
	for n, more := 1, true; more; n++ {
		for _, after := range []bool{false, true} {
			w := past.Copy()
			w.Store.Clock = func() time.Time { return w.Now }
			killed := w.Store.Kill(n, after)
			_, err := w.Open().Prune(t.Context(), hour)
			if !killed() {
				noErr(t, err)
				more = false
				break
			}
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			w.Sees("root 1 agent/5")
			w.Update(swap(6))
			w.Sees("root 1 agent/6")
			w.prune(hour)
			w.Intact()
			for _, name := range want {
				if w.Store.Files[name] != nil {
					t.Fatalf("killed at %d: %s is still there", n, name)
				}
			}
		}
	}
}

// paused calls pause once, after a read of the timestamp.
type paused struct {
	*memory
	pause func()
}

func (p *paused) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := p.memory.Read(ctx, name)
	if pause := p.pause; pause != nil && name == "metadata/timestamp.json" {
		p.pause = nil
		pause()
	}
	return data, err
}

// A Prune is paused for hours after it has read what is published, as on a machine that
// sleeps. What was published in the meantime stays.
func TestPrunePaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Store.Clock = func() time.Time { return w.Now }
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/1") })
	w.Now = w.Now.Add(3 * time.Hour)
	store := &paused{memory: w.Store, pause: func() {
		w.Update(add("1")) // the same bytes come back
		w.Now = w.Now.Add(3 * time.Hour)
	}}
	list, err := repo.New(store, w.Config()).Prune(t.Context(), &repo.PruneOptions{Drafts: time.Hour})
	noErr(t, err)
	if store.pause != nil {
		t.Fatal("not paused")
	}
	for _, f := range list {
		if strings.HasPrefix(f.Name, "targets/") {
			t.Errorf("removed %s", f.Name)
		}
	}
	w.Intact()
}

// Two publishers and two pruners run concurrently: no listed file is lost.
func TestPruneRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	now := w.Now
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	w.Store.Clock = clock
	open := func() *repo.Repo {
		cfg := w.Config()
		cfg.Now, cfg.Expiry = clock, repo.Expiry{Timestamp: 2 * time.Hour}
		for _, s := range w.Keys {
			cfg.Signers = append(cfg.Signers, s)
		}
		return repo.New(w.Store, cfg)
	}
	// The clock advances with the publishers: a slow process may find that hours have
	// passed since it began, and that the metadata that it read or signed has expired.
	again := func(err error) bool {
		return errors.Is(err, repo.ErrConflict) || errors.Is(err, tuf.ErrExpired)
	}
	rounds := 20
	if rawtuf.Long {
		rounds = 60
	}
	var all, publishing sync.WaitGroup
	done := make(chan struct{})
	for who := range 2 {
		r := open()
		publishing.Go(func() {
			for i := range rounds {
				mu.Lock()
				now = now.Add(20 * time.Minute)
				mu.Unlock()
				edit := func(tx *repo.Tx) error {
					v := fmt.Sprintf("%d-%d", who, i%3) // the same bytes come back
					if err := tx.Remove("vendor", "agent/"+v); err != nil && !errors.Is(err, tuf.ErrNoTarget) {
						return err
					}
					if i%2 == 1 {
						return nil
					}
					return add(v)(tx)
				}
				err := r.Update(t.Context(), edit)
				for again(err) {
					err = r.Update(t.Context(), edit)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	removed := 0
	for range 2 {
		r := open()
		all.Go(func() {
			for {
				list, err := r.Prune(t.Context(), &repo.PruneOptions{Drafts: time.Hour})
				if err != nil && !again(err) {
					t.Error(err)
				}
				mu.Lock()
				removed += len(list)
				mu.Unlock()
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	publishing.Wait()
	close(done)
	all.Wait()
	w.Now = now
	w.Intact()
	if removed == 0 {
		t.Error("nothing was removed")
	}
}

// Engines are published weekly and signed manually; rules every few minutes,
// with the keys of rules and the online keys alone.
func TestTwoSpeeds(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := emptyWorld(t)
	w.Store.Clock = func() time.Time { return w.Now }
	w.Update(func(tx *repo.Tx) error {
		noErr(t, w.Define(tx))
		engine, rules := w.Class("engine"), w.Class("rules")
		engine.Roles[1].Keys = repo.Keys{Keys: w.Public("c1", "c2", "c3"), Threshold: 2}
		rules.Roles[0].Keys.Keys, rules.Roles[1].Keys.Keys = w.Public("vendor-rules"), w.Public("review-automation")
		tx.Root().Classes = []repo.Class{engine, rules}
		return tx.Add("vendor", "engine/1", strings.NewReader("engine"), release("1"))
	})
	w.Update(func(tx *repo.Tx) error { return tx.Approve("review", "engine/1", nil) })
	fast := w.Open("vendor-rules", "review-automation", "timestamp", "snapshot")
	most, times := 0, 50
	if rawtuf.Long {
		times = 300
	}
	for n := 1; n <= times; n++ {
		w.Now = w.Now.Add(24 * time.Hour / time.Duration(times))
		w.Store.Wrote()
		path, old := fmt.Sprintf("rules/%d", n), fmt.Sprintf("rules/%d", n-1)
		noErr(t, fast.Update(t.Context(), func(tx *repo.Tx) error {
			rel := &tuf.Release{Product: "rules", Version: fmt.Sprint(n), Channel: "stable", Platform: "any"}
			err := errors.Join(tx.Add("vendor", path, strings.NewReader(path), rel), tx.Approve("review", path, &repo.ReviewRecord{Unrecorded: true}))
			if n > 1 {
				err = errors.Join(err, tx.Remove("vendor", old), tx.Remove("review", old))
			}
			return err
		}))
		for _, name := range w.Store.Wrote() {
			if strings.Contains(name, "engine") || strings.HasSuffix(name, ".targets.json") {
				t.Fatalf("publish %d wrote %s", n, name)
			}
		}
		if n%25 == 0 {
			// Three hours of timestamps keep three hours of files.
			cfg := w.Config()
			cfg.Expiry = repo.Expiry{Timestamp: 3 * time.Hour}
			_, err := repo.New(w.Store, cfg).Prune(t.Context(), &repo.PruneOptions{Drafts: time.Hour})
			noErr(t, err)
			most = max(most, len(w.Store.Files))
		}
	}
	w.Sees(fmt.Sprintf("root 1 engine/1 rules/%d", times))
	if most > times {
		t.Errorf("up to %d files", most)
	}
	// An engine key has no role in rules, nor the reverse.
	for _, name := range []string{"c1", "vendor-release", "review-automation"} {
		r := w.Open(name, "timestamp", "snapshot")
		err := r.Update(t.Context(), func(tx *repo.Tx) error {
			return tx.Add("vendor", map[bool]string{true: "engine/2", false: "rules/x"}[name == "review-automation"], strings.NewReader("x"), nil)
		})
		if !errors.Is(err, repo.ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.Intact()
}
