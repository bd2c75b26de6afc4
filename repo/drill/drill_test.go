package drill_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/drill"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
)

// rehearse stages a step, signs it with all keys and drills it.
func rehearse(t *testing.T, w *repotest.Moving, cfg *repo.Config, step func(context.Context, *repo.Repo) (*repo.Draft, error), change ...func(*drill.Drill)) *drill.Report {
	t.Helper()
	cfg.Now = func() time.Time { return w.Now }
	d, err := step(t.Context(), repo.New(w.Store, cfg))
	rawtuf.NoErr(t, err)
	if !d.Empty() {
		w.Sign(d)
	}
	x := &drill.Drill{Storage: w.Store, Config: *cfg, Draft: d, Stolen: repotest.Signers(slices.Concat(repotest.OldKeys, repotest.ReviewKeys)...)}
	for _, c := range change {
		c(x)
	}
	before := len(w.Store.Written())
	r, err := x.Run(t.Context())
	rawtuf.NoErr(t, err)
	if len(w.Store.Written()) != before {
		t.Fatal("the drill wrote files")
	}
	return r
}

func signed(names ...string) *repo.Config {
	return &repo.Config{Signers: repotest.Signers(names...), UnsafeTrustStorage: true}
}

func bridged(t *testing.T, w *repotest.Moving) *repo.Config {
	cfg := signed(repotest.NewKeys...)
	chain, err := w.Repo().Chain(t.Context())
	rawtuf.NoErr(t, err)
	cfg.DualSigning = &signing.DualSigning{Root: chain[len(chain)-1], Signers: repotest.Signers(repotest.OldKeys...)}
	return cfg
}

func find(t *testing.T, r *drill.Report, scenario, client string) drill.Outcome {
	t.Helper()
	for _, o := range r.Outcomes {
		if o.Scenario == scenario && o.Client == client {
			return o
		}
	}
	t.Fatalf("no scenario %q in\n%s", scenario, r)
	return drill.Outcome{}
}

// Each step of a valid move, and an emergency move, passes every scenario.
func TestValidMove(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	good := func(r *drill.Report, root int64) {
		t.Helper()
		if err := r.Err(); err != nil || r.Root != root || len(r.Outcomes) < 15 {
			t.Fatalf("%v\n%s", err, r)
		}
		for _, client := range []string{"visum", "go-tuf"} {
			if o := find(t, r, "all locations healthy", client); o.Converged != o.Clients || o.Clients < int(root) {
				t.Errorf("all locations healthy, but of %d clients %d converged\n%s", o.Clients, o.Converged, r)
			}
		}
	}
	w.Now = w.Move.Dates.Announce
	w.Refresh(repotest.OldKeys...)
	if rawtuf.Long {
		good(rehearse(t, w, signed(repotest.OldKeys...), w.Move.Announce), 2)
	}
	w.Announce()

	w.Now = w.Move.Dates.CutOver
	w.Refresh(repotest.OldKeys...)
	ways := map[string]*repo.Config{"bridge": bridged(t, w), "no bridge": signed(repotest.NewKeys...)}
	if !rawtuf.Long {
		delete(ways, "no bridge")
	}
	for name, cfg := range ways {
		r := rehearse(t, w, cfg, w.Move.CutOver)
		good(r, 3)
		for _, scenario := range []string{"old location frozen before the step", "old location unreachable", "old location frozen, rendezvous unreachable", "old location answers every request with a web page",
			"old location and its keys compromised", "compromised old location serves a forged root",
			"old location and rendezvous frozen"} {
			if o := find(t, r, scenario, "visum"); o.Converged != o.Clients {
				t.Errorf("%s, %s: of %d clients %d converged", name, scenario, o.Clients, o.Converged)
			}
		}
		// A client that knows only the old location keeps its root, unharmed.
		if o := find(t, r, "old location frozen at the first root, rendezvous unreachable", "visum"); o.Waiting == 0 || o.Converged == 0 || o.Roots[1] == 0 {
			t.Errorf("%+v", o)
		}
		if o := find(t, r, "total outage", "visum"); o.Converged != 0 {
			t.Errorf("%+v", o)
		}
		if o := find(t, r, "only the compromised old location reachable", "visum"); o.Waiting == 0 {
			t.Errorf("%+v", o)
		}
	}
	if !rawtuf.Long {
		return
	}
	w.CutOver()
	w.Now = w.Move.Dates.Retire
	w.Refresh(repotest.NewKeys...)
	r := rehearse(t, w, signed(repotest.NewKeys...), w.Move.Retire)
	good(r, 4)
	w.Retire()
	r = rehearse(t, w, signed(repotest.NewKeys...), func(context.Context, *repo.Repo) (*repo.Draft, error) { return &repo.Draft{}, nil }, func(d *drill.Drill) { d.Draft = nil })
	good(r, 4)
	if data, err := json.Marshal(r); err != nil || !strings.Contains(string(data), `"scenario":"all locations healthy"`) {
		t.Errorf("%s %v", data, err)
	}
	if s := r.String(); !strings.Contains(s, "visum   all locations healthy") {
		t.Errorf("%s", s)
	}

	w = repotest.NewMoving(t)
	w.Now = w.Move.Dates.Announce
	w.Refresh(repotest.OldKeys...)
	good(rehearse(t, w, signed(repotest.NewKeys...), w.Move.Emergency), 2)
}

// A recovery is rehearsed like a step: clients follow it after the waiting period and
// not before. Every later step of the repository passes too.
func TestRecovery(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t, repotest.Recoverable)
	w.Now = w.Now.Add(repotest.Day)
	w.Refresh(repotest.OldKeys...)
	stage := func(_ context.Context, r *repo.Repo) (*repo.Draft, error) { return w.StageRecovery(r) }
	successor := signed(slices.Concat(repotest.NewKeys, repotest.ReviewKeys)...)
	ways := map[string]*repo.Config{"at once": successor, "bridge": bridged(t, w)}
	if !rawtuf.Long {
		delete(ways, "bridge")
	}
	for name, cfg := range ways {
		r := rehearse(t, w, cfg, stage, func(d *drill.Drill) { d.MaxPins = 2 })
		if err := r.Err(); err != nil || r.Root != 2 {
			t.Fatalf("%s: %v\n%s", name, err, r)
		}
		if o := find(t, r, "all locations healthy", "visum"); o.Converged != o.Clients || o.Clients < 3 {
			t.Errorf("%s: all locations healthy, but of %d clients %d converged\n%s", name, o.Clients, o.Converged, r)
		}
		if o := find(t, r, "all locations healthy", "go-tuf"); o.Roots[1] == 0 || o.Roots[2] == 0 {
			t.Errorf("%s: %+v", name, o)
		}
	}
	w.Recover()
	renew := func(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(ctx, func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	}
	r := rehearse(t, w, successor, renew)
	if err := r.Err(); err != nil || r.Root != 3 {
		t.Fatalf("%v\n%s", err, r)
	}
	if o := find(t, r, "all locations healthy", "visum"); o.Converged != o.Clients || o.Clients < 4 {
		t.Errorf("all locations healthy, but of %d clients %d converged\n%s", o.Clients, o.Converged, r)
	}
	// The rendezvous has roots but no statements: one operator is not enough.
	r = rehearse(t, w, successor, renew, func(d *drill.Drill) { d.Locations = map[string]repo.Storage{"z": lacks(w, "recovery/")} })
	if err := r.Err(); !errors.Is(err, drill.ErrDrill) || !strings.Contains(r.String(), "L5") {
		t.Errorf("%v\n%s", err, r)
	}
}

// The drill reports a faulty step with the broken rule or invariant.
func TestFaultySteps(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		draft  func(w *repotest.Moving, d *repo.Draft) *repo.Draft
		change func(w *repotest.Moving, d *drill.Drill)
		want   string
		long   bool
	}{
		"floor too high": {draft: func(w *repotest.Moving, d *repo.Draft) *repo.Draft {
			return edit(w, d, func(c map[string]any) { c["floors"].(map[string]any)["timestamp"] = 100 })
		}, want: "the charter's floors are v100"},
		"floor of targets lowered": {draft: func(w *repotest.Moving, d *repo.Draft) *repo.Draft {
			return edit(w, d, func(c map[string]any) { c["epoch"] = 0; c["floors"].(map[string]any)["targets"] = 0 })
		}, want: "H3"},
		"old online keys stay": {draft: func(w *repotest.Moving, d *repo.Draft) *repo.Draft {
			return edit(w, d, func(c map[string]any) { c["epoch"] = 0 })
		}, want: "H3"},
		"not signed by the review centre": {draft: func(w *repotest.Moving, _ *repo.Draft) *repo.Draft {
			d, err := w.Move.CutOver(context.Background(), w.Repo(repotest.NewKeys...))
			rawtuf.NoErr(w.T, err)
			return d
		}, want: "signatures are missing"},
		"the new location is empty": {change: func(w *repotest.Moving, d *drill.Drill) {
			d.Locations = map[string]repo.Storage{"b": storage.Overlay(nil)}
		}, want: "L1"},
		"the new location lacks a target": {change: func(w *repotest.Moving, d *drill.Drill) {
			d.Locations = map[string]repo.Storage{"b": lacks(w, "targets/")}
		}, want: "location b: agent/1.0: the location lacks it"},
		"the new location lacks a role": {change: func(w *repotest.Moving, d *drill.Drill) {
			d.Locations = map[string]repo.Storage{"b": lacks(w, "review-agent")}
		}, want: "without content, although content is available", long: true},
		"the rendezvous lacks the root before": {change: func(w *repotest.Moving, d *drill.Drill) {
			d.Locations = map[string]repo.Storage{"z": lacks(w, "2.root.json")}
		}, want: "L1", long: true},
		"content has expired": {change: func(w *repotest.Moving, d *drill.Drill) {
			for i := 1; i < 100; i++ {
				w.Now = w.Now.Add(repotest.Day)
			}
			d.Draft = nil
		}, want: "L1", long: true},
	} {
		if x.long && testing.Short() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := repotest.NewMoving(t)
			w.Announce()
			w.Now = w.Move.Dates.CutOver
			w.Refresh(repotest.OldKeys...)
			r := rehearse(t, w, bridged(t, w), w.Move.CutOver, func(d *drill.Drill) {
				d.MaxPins = 2
				if x.draft != nil {
					d.Draft = x.draft(w, d.Draft)
				}
				if x.change != nil {
					x.change(w, d)
				}
			})
			if err := r.Err(); !errors.Is(err, drill.ErrDrill) || !strings.Contains(err.Error()+r.String(), x.want) {
				t.Errorf("got %v, want %q\n%s", err, x.want, r)
			}
		})
	}
}

// edit changes the charter in a draft's root and signs it with all keys.
func edit(w *repotest.Moving, d *repo.Draft, change func(charter map[string]any)) *repo.Draft {
	w.T.Helper()
	data, err := d.Bytes()
	rawtuf.NoErr(w.T, err)
	var doc map[string]any
	rawtuf.NoErr(w.T, json.Unmarshal(data, &doc))
	for _, f := range doc["files"].([]any) {
		if f := f.(map[string]any); f["role"] == "root" {
			content := f["content"].(map[string]any)
			content["signatures"] = []any{}
			change(content["signed"].(map[string]any)["x-visum"].(map[string]any))
		}
	}
	data, err = json.Marshal(doc)
	rawtuf.NoErr(w.T, err)
	d, err = repo.OpenDraft(data)
	rawtuf.NoErr(w.T, err)
	return w.Force(d)
}

// lacks is a mirror without the files whose names contain the given text.
func lacks(w *repotest.Moving, what string) repo.Storage {
	s := storage.Overlay(nil)
	for name, data := range w.Store.Written() {
		if !strings.Contains(name, what) {
			rawtuf.NoErr(w.T, s.Create(context.Background(), name, strings.NewReader(string(data))))
		}
	}
	return s
}

// After a rotation of release keys, of one party or of both, no client loses anything,
// and the drill reports no violation before and after the publication of the root.
func TestReleaseKeysRotated(t *testing.T) {
	t.Parallel()
	for name, roles := range map[string][]int{"one party": {0}, "both": {0, 1}} {
		w := repotest.NewMoving(t)
		w.Release("1.1", slices.Concat(repotest.OldKeys, repotest.ReviewKeys)...)
		fresh := []string{"rotated-vendor-release", "rotated-review-release"}
		rotate := func(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
			return r.Stage(ctx, func(tx *repo.Tx) error {
				for _, i := range roles {
					tx.Root().Classes[0].Roles[i].Keys = repo.Keys{Keys: repotest.Keys(fresh[i])}
				}
				return nil
			})
		}
		cfg := signed(slices.Concat(repotest.OldKeys, repotest.ReviewKeys, fresh)...)
		for _, later := range []bool{false, true} {
			step := rotate
			if later {
				cfg.Now = func() time.Time { return w.Now }
				r := repo.New(w.Store, cfg)
				d, err := rotate(t.Context(), r)
				rawtuf.NoErr(t, err)
				w.Sign(d)
				rawtuf.NoErr(t, r.Publish(t.Context(), d))
				step = func(context.Context, *repo.Repo) (*repo.Draft, error) { return &repo.Draft{}, nil }
			}
			r := rehearse(t, w, cfg, step, func(d *drill.Drill) {
				if later {
					d.Draft = nil
				}
			})
			if err := r.Err(); err != nil || r.Root != 2 {
				t.Errorf("%s, published %t: %v\n%s", name, later, err, r)
			}
		}
	}
}
