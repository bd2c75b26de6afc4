package repo_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// betaWorld has version 1.0 in stable, and 1.5 in beta for two platforms, all
// approved.
func betaWorld(t *testing.T) *world {
	w := newWorld(t)
	for path, rel := range map[string]*tuf.Release{
		"agent/stable/1.0/linux/agent": of("agent", "1.0", "stable", "linux/amd64"),
		"agent/beta/1.5/linux/agent":   of("agent", "1.5", "beta", "linux/amd64"),
		"agent/beta/1.5/mac/agent":     of("agent", "v1.5.0", "beta", "darwin/arm64"),
	} {
		rel.Notes, rel.MinVersion = "notes of "+path, "0.9"
		rel.Rollout = &tuf.Rollout{Percent: 50}
		w.Update(puts(path, rel))
		w.approved(path)
	}
	return w
}

func (w *world) approved(paths ...string) {
	w.T.Helper()
	w.Update(func(tx *repo.Tx) error {
		for _, p := range paths {
			if err := tx.Approve("review", p, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// offered are the release fields that clients find approved, by path.
func (w *world) offered() map[string]tuf.Release {
	w.T.Helper()
	c := w.Product()
	snap, err := c.Refresh()
	noErr(w.T, err)
	all, err := snap.Candidates(w.T.Context(), nil, c.Get)
	noErr(w.T, err)
	out := map[string]tuf.Release{}
	for _, x := range all {
		if x.Err == nil {
			rel, _ := x.Approved.Release()
			out[x.Path] = rel
		}
	}
	return out
}

func promote(p repo.Promotion) func(*repo.Tx) error {
	return func(tx *repo.Tx) error { return tx.Promote("vendor", p) }
}

var toStable = repo.Promotion{Product: "agent", Version: "1.5", From: "beta", To: "stable", Rollout: &tuf.Rollout{Percent: 10}}

// A beta becomes stable: it has the same bytes and fields, on all platforms, once both
// parties list it. Then its rollout is raised from 10 to 50 percent, halted, and
// resumed, again once both parties agree.
func TestPromote(t *testing.T) {
	t.Parallel()
	w := betaWorld(t)
	before := w.offered()
	if len(before) != 3 {
		t.Fatal(before)
	}
	w.Update(promote(toStable))
	if got := w.offered(); !maps.EqualFunc(got, before, sameFields) {
		t.Errorf("the vendor alone promoted: %v", got)
	}
	linux, mac := "agent/stable/1.5/linux/agent", "agent/stable/1.5/mac/agent"
	p := w.waiting(linux)
	if data, err := w.Store.Read(t.Context(), p.Name); err != nil || string(data) != "bytes of agent/beta/1.5/linux/agent" {
		t.Errorf("%q, %v", data, err)
	}
	if p.Previous == nil || p.Previous.Release.Version != "1.0" {
		t.Errorf("the predecessor is %+v", p.Previous)
	}
	says(t, p.Changes, "the same bytes are already listed as agent/beta/1.5/linux/agent: version 1.5, channel beta, platform linux/amd64")
	w.approved(linux, mac)
	got := w.offered()
	for path, from := range map[string]string{linux: "agent/beta/1.5/linux/agent", mac: "agent/beta/1.5/mac/agent"} {
		want := before[from]
		want.Channel, want.Rollout = "stable", &tuf.Rollout{Percent: 10}
		if !sameFields(got[path], want) || !sameFields(got[from], before[from]) {
			t.Errorf("%s: %+v, want %+v", path, got[path], want)
		}
	}

	for _, step := range []struct {
		percent int
		want    string
	}{{50, "rollout 10 -> 50 %"}, {0, "rollout 50 -> 0 %"}, {100, "rollout 0 -> 100 %"}} {
		w.Update(func(tx *repo.Tx) error {
			return tx.SetRollout("vendor", repo.ReleaseID{Product: "agent", Version: "1.5.0"}, "stable", step.percent)
		})
		for _, path := range []string{linux, mac} {
			p := w.waiting(path)
			if len(p.Changes) < 1 || p.Changes[0] != "review already lists it differently: the same bytes, "+step.want {
				t.Errorf("%s: %q", path, p.Changes)
			}
			if _, there := w.offered()[path]; there {
				t.Errorf("%s is offered while the parties disagree", path)
			}
		}
		w.Store.Wrote()
		w.approved(linux, mac)
		for _, name := range w.Store.Wrote() {
			if strings.HasPrefix(name, "targets/") {
				t.Errorf("the approval of another rollout wrote %s", name)
			}
		}
		for _, path := range []string{linux, mac} {
			if got := w.offered()[path]; got.Rollout == nil || got.Rollout.Percent != step.percent || got.Notes == "" || got.Sequence != before["agent/beta/1.5/linux/agent"].Sequence {
				t.Errorf("%d percent: %+v", step.percent, got)
			}
		}
	}
	if got := w.offered()["agent/beta/1.5/linux/agent"]; got.Rollout.Percent != 50 {
		t.Errorf("the beta's rollout is %d", got.Rollout.Percent)
	}
	said, err := w.Open().Statements(t.Context(), linux)
	if err != nil || len(said) != 1 || said[0].Err != nil {
		t.Errorf("statements after the rollouts: %+v, %v", said, err)
	}
	if report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config())); err != nil || report.Err() != nil {
		t.Errorf("%s, %v", report, err)
	}
}

func sameFields(a, b tuf.Release) bool {
	x, y := a.Rollout, b.Rollout
	a.Rollout, b.Rollout = nil, nil
	return a == b && (x == nil) == (y == nil) && (x == nil || *x == *y)
}

// A refused promotion changes nothing, and succeeds once the reason has been removed.
func TestPromoteRefused(t *testing.T) {
	t.Parallel()
	linux, mac := "agent/beta/1.5/linux/agent", "agent/beta/1.5/mac/agent"
	for name, x := range map[string]struct {
		spoil, heal func(w *world)
		change      func(p *repo.Promotion)
		want        error
	}{
		"another version":                   {change: func(p *repo.Promotion) { p.Version = "1.4" }, want: tuf.ErrNoTarget},
		"another product":                   {change: func(p *repo.Promotion) { p.Product = "tool" }, want: tuf.ErrNoTarget},
		"another channel":                   {change: func(p *repo.Promotion) { p.From = "edge" }, want: tuf.ErrNoTarget},
		"no version":                        {change: func(p *repo.Promotion) { p.Version = "newest" }, want: tuf.ErrMalformed},
		"the same":                          {change: func(p *repo.Promotion) { p.To = "beta" }, want: fs.ErrInvalid},
		"a bad channel":                     {change: func(p *repo.Promotion) { p.To = "stable " }, want: tuf.ErrRelease},
		"a bad rollout":                     {change: func(p *repo.Promotion) { p.Rollout = &tuf.Rollout{Percent: 101} }, want: tuf.ErrRelease},
		"one path for two":                  {change: func(p *repo.Promotion) { p.Path = func(string) string { return "agent/x" } }, want: fs.ErrInvalid},
		"its own path":                      {change: func(p *repo.Promotion) { p.Path = func(target string) string { return target } }, want: fs.ErrExist},
		"a path outside":                    {change: func(p *repo.Promotion) { p.Path = func(string) string { return "rules/x" } }, want: tuf.ErrNoTarget},
		"a path that few clients can fetch": {change: func(p *repo.Promotion) { p.Path = func(target string) string { return target + "%" } }, want: fs.ErrInvalid},
		"recalled by the centre": {want: tuf.ErrNotApproved,
			spoil: func(w *world) {
				w.Update(func(tx *repo.Tx) error { return tx.Recall("review", mac, repo.RecallRecord{Reason: "it eats disks"}) })
			},
			heal: func(w *world) {
				w.Update(func(tx *repo.Tx) error {
					return tx.Approve("review", mac, &repo.ReviewRecord{Reinstate: "it does not"})
				})
			}},
		"removed by the centre": {want: tuf.ErrNotApproved,
			spoil: func(w *world) { w.Update(func(tx *repo.Tx) error { return tx.Remove("review", mac) }) },
			heal:  func(w *world) { w.approved(mac) }},
		"recalled under another path": {want: signing.ErrTakenBack,
			spoil: func(w *world) {
				w.relist("vendor-agent", func(doc map[string]any) { // another tool continues to list them
					doc[layout.RecallMember] = []any{object{"path": "agent/old/name", "sha256": w.sumOf(linux), "reason": "it eats disks", "at": "2026-11-20T11:00:00Z"}}
				})
			},
			heal: func(w *world) {
				w.relist("vendor-agent", func(doc map[string]any) { delete(doc, layout.RecallMember) })
			}},
		"held": {want: signing.ErrTakenBack,
			spoil: func(w *world) {
				w.Update(func(tx *repo.Tx) error { return tx.Hold(linux, "examined again", w.Now.Add(time.Hour)) })
			},
			heal: func(w *world) { w.Update(func(tx *repo.Tx) error { return tx.Unhold(linux) }) }},
		"other bytes there": {want: repo.ErrReleased,
			spoil: func(w *world) { w.Update(puts("agent/there", of("agent", "1.5", "stable", "linux/amd64"))) },
			heal:  func(w *world) { w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/there") }) }},
		"another file under the path": {want: fs.ErrExist,
			spoil: func(w *world) { w.Update(puts("agent/stable/1.5/mac/agent", nil)) },
			heal: func(w *world) {
				w.Update(func(tx *repo.Tx) error { return tx.Remove("vendor", "agent/stable/1.5/mac/agent") })
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := betaWorld(t)
			w.Update(func(tx *repo.Tx) error {
				tx.Root().Classes[0].Hold = &repo.Hold{Role: "hold-agent", Keys: repo.Keys{Keys: w.Public("review-release")}, Max: 24 * time.Hour}
				return nil
			})
			p := toStable
			if x.change != nil {
				x.change(&p)
			}
			if x.spoil != nil {
				x.spoil(w)
			}
			w.Store.Wrote()
			w.Refused(x.want, func() error { return w.Try(promote(p)) })
			if wrote := w.Store.Wrote(); len(wrote) > 0 {
				t.Errorf("refused, and %q written", wrote)
			}
			if x.heal == nil {
				p = toStable
			} else {
				x.heal(w)
			}
			w.Update(promote(p))
		})
	}
}

// sumOf is the sha256 of the bytes that the vendor lists under an approved path.
func (w *world) sumOf(path string) string {
	w.T.Helper()
	c := w.Product()
	snap, err := c.Refresh()
	noErr(w.T, err)
	a, err := snap.Approve(path, c.Get)
	noErr(w.T, err)
	return a.SHA256()
}

// Entries that exist stay as they are: a platform that is added later is promoted
// later, and a call without any work is an error.
func TestPromoteAgain(t *testing.T) {
	t.Parallel()
	w := betaWorld(t)
	w.Update(promote(toStable))
	w.approved("agent/stable/1.5/linux/agent", "agent/stable/1.5/mac/agent")
	w.Refused(fs.ErrExist, func() error { return w.Try(promote(toStable)) })
	w.Update(puts("agent/beta/1.5/windows/agent", of("agent", "1.5", "beta", "windows/amd64")))
	w.Refused(tuf.ErrNotApproved, func() error { return w.Try(promote(toStable)) })
	w.approved("agent/beta/1.5/windows/agent")
	later := toStable
	later.Rollout = nil
	w.Update(promote(later))
	w.approved("agent/stable/1.5/windows/agent")
	got := w.offered()
	if got["agent/stable/1.5/windows/agent"].Rollout != nil || got["agent/stable/1.5/linux/agent"].Rollout.Percent != 10 {
		t.Errorf("%+v", got)
	}
}

// The copy is placed in a directory with the channel's name, or at the path that the
// caller specifies. The same team lists it as the first file, or the call is refused.
func TestPromotePaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	named := func(to string) repo.Promotion {
		p := repo.Promotion{Product: "agent", Version: "1", From: "beta", To: to}
		return p
	}
	w.Update(puts("agent/agent-1", of("agent", "1", "beta", "any")))
	w.approved("agent/agent-1")
	w.Update(promote(named("stable")))
	p := w.waiting("agent/stable/agent-1")
	if p.Release.Channel != "stable" || p.Release.Rollout != nil {
		t.Errorf("%+v", p.Release)
	}
	own := named("edge")
	own.Path = func(target string) string { return target + "-edge" }
	w.Update(promote(own))
	w.waiting("agent/agent-1-edge")

	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "tool", Paths: []string{"agent/tool-*"}, Keys: repo.Keys{Keys: w.Public("tool")}})
	})
	w.Update(puts("agent/tool-1", of("tool", "1", "beta", "any")))
	w.approved("agent/tool-1")
	tool := repo.Promotion{Product: "tool", Version: "1", From: "beta", To: "stable"}
	w.Refused(fs.ErrInvalid, func() error { return w.Try(promote(tool)) })
	tool.Path = func(target string) string { return target + "-stable" }
	team, err := w.Open("tool").Stage(t.Context(), promote(tool))
	noErr(t, err)
	if missing := team.Missing(); len(missing) > 0 {
		t.Errorf("the team promotes its product alone: %v", missing)
	}
}

// copies counts what a storage copies within itself.
type copies struct {
	repo.Storage
	n int
}

func (c *copies) Copy(ctx context.Context, from, to string) error {
	c.n++
	return c.Storage.(storage.Copier).Copy(ctx, from, to)
}

// A storage that can copy internally does so; any other copy is checked against the
// listed hash.
func TestPromoteCopies(t *testing.T) {
	t.Parallel()
	w := emptyWorld(t)
	store := &copies{Storage: repo.Folder(t.TempDir())}
	w.Elsewhere = store
	w.Update(w.Define)
	w.Update(puts("agent/beta/1/agent", of("agent", "1", "beta", "any")))
	w.approved("agent/beta/1/agent")
	w.Update(promote(repo.Promotion{Product: "agent", Version: "1", From: "beta", To: "stable"}))
	if p := w.waiting("agent/stable/1/agent"); store.n != 1 || p.Release.Channel != "stable" {
		t.Errorf("%d copies, %+v", store.n, p)
	}

	w = betaWorld(t)
	for name := range w.Store.Files {
		if strings.HasPrefix(name, "targets/agent/beta/1.5/mac/") && strings.HasSuffix(name, ".agent") {
			w.Store.Files[name] = []byte("BYTES OF agent/beta/1.5/mac/agent")
		}
	}
	w.Refused(tuf.ErrMismatch, func() error { return w.Try(promote(toStable)) })
}

// A rollout is set for existing entries, within its bounds, and by the party itself.
func TestSetRollout(t *testing.T) {
	t.Parallel()
	w := betaWorld(t)
	set := func(product, version, channel string, percent int) func(*repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.SetRollout("vendor", repo.ReleaseID{Product: product, Version: version}, channel, percent)
		}
	}
	for want, fns := range map[error][]func(*repo.Tx) error{
		tuf.ErrRelease:   {set("agent", "1.5", "beta", 150), set("agent", "1.5", "beta", -1)},
		tuf.ErrNoTarget:  {set("agent", "1.5", "stable", 10), set("agent", "1.6", "beta", 10), set("tool", "1.5", "beta", 10)},
		tuf.ErrMalformed: {set("agent", "", "beta", 10)},
	} {
		for _, fn := range fns {
			w.Refused(want, func() error { return w.Try(fn) })
		}
	}
	w.Store.Wrote()
	w.Update(set("agent", "1.5", "beta", 50)) // as it is
	w.Update(puts("agent/whole", of("agent", "1.6", "beta", "any")))
	w.Store.Wrote()
	w.Update(set("agent", "1.6", "beta", 100)) // as it is, although no field states it
	if wrote := w.Store.Wrote(); slices.ContainsFunc(wrote, func(name string) bool { return strings.Contains(name, "vendor-agent") }) {
		t.Errorf("nothing changes, and %q written", wrote)
	}
	// Unknown members, and members on which the parties disagree, stay as they are.
	w.relist("vendor-agent", func(doc map[string]any) {
		custom := at(doc, "targets", "agent/beta/1.5/linux/agent", "custom")
		custom["visum-transport"] = object{"of": "the vendor"}
		custom["visum"].(object)["later"] = object{"than": "this version\u0001"}
	})
	d, err := w.Open().Stage(t.Context(), set("agent", "1.5", "beta", 60))
	noErr(t, err)
	custom := at(changesOf(t, d, "vendor-agent"), "targets", "agent/beta/1.5/linux/agent", "custom")
	if at(custom, "visum-transport")["of"] != "the vendor" || at(custom, "visum", "later")["than"] != "this version\u0001" || at(custom, "visum", "rollout")["percent"] != 60.0 {
		t.Errorf("%v", custom)
	}
}

// The centre approves a promotion, and later a rollout, on its own machine, from the
// draft that the vendor exports before its publication: each takes one step.
func TestPromoteInADraft(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(puts("agent/beta/1.5/agent", of("agent", "1.5", "beta", "any")))
	w.approved("agent/beta/1.5/agent")
	vendor, path := w.Open(vendorOnly...), "agent/stable/1.5/agent"
	for _, x := range []struct {
		edit     func(*repo.Tx) error
		want     string
		percent  int
		sentence string
	}{
		{promote(repo.Promotion{Product: "agent", Version: "1.5", From: "beta", To: "stable", Rollout: &tuf.Rollout{Percent: 10}}), "the same bytes are already listed as agent/beta/1.5/agent: version 1.5, channel beta, platform any", 10, "release " + path + " added"},
		{func(tx *repo.Tx) error {
			return tx.SetRollout("vendor", repo.ReleaseID{Product: "agent", Version: "1.5"}, "stable", 50)
		}, "review already lists it differently: the same bytes, rollout 10 -> 50 %", 50, "release " + path + ": rollout.percent 10 -> 50"},
	} {
		draft, err := vendor.Stage(t.Context(), x.edit)
		noErr(t, err)
		dir := t.TempDir()
		noErr(t, vendor.Export(t.Context(), draft, dir))
		centre := w.centre(dir, "ann", "ben")
		draft, err = repo.LoadDraft(dir)
		noErr(t, err)
		waiting, err := centre.PendingIn(t.Context(), "review", draft)
		if err != nil || len(waiting) != 1 || waiting[0].Path != path || !slices.Equal(waiting[0].Changes, []string{x.want}) {
			t.Fatalf("%+v, %v", waiting, err)
		}
		f, err := centre.OpenPending(t.Context(), waiting[0])
		noErr(t, err)
		if data, err := io.ReadAll(f); err != nil || string(data) != "bytes of agent/beta/1.5/agent" {
			t.Errorf("%q, %v", data, err)
		}
		noErr(t, f.Close())
		signed, err := centre.StageOn(t.Context(), draft, func(tx *repo.Tx) error { return tx.Approve("review", path, nil) })
		noErr(t, err)
		says(t, w.lines(signed), "review-agent: "+x.sentence, "vendor-agent lists the same")
		noErr(t, vendor.Publish(t.Context(), signed))
		if got := w.offered()[path]; got.Rollout == nil || got.Rollout.Percent != x.percent {
			t.Errorf("%+v", got)
		}
	}
}

// A reviewer is informed of earlier approved releases of the same product.
func TestPendingOtherBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(puts("agent/1", of("agent", "1.2", "stable", "any")))
	w.approved("agent/1")
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), puts("agent/2", of("agent", "v1.2.0", "stable", "any"))(tx))
	})
	says(t, w.waiting("agent/2").Changes, "other bytes are already listed as agent/1, with the same version")
	w.Update(func(tx *repo.Tx) error { return tx.Remove("review", "agent/1") })
	if p := w.waiting("agent/2"); len(p.Changes) > 0 {
		t.Errorf("%q", p.Changes)
	}
}

// The predecessor is the next lower version, not the one that was added last.
func TestPendingPrevious(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, version := range []string{"1.2.8", "1.10", "1.4"} {
		w.Update(add(version))
		w.Update(approve(version))
	}
	for version, want := range map[string]string{"1.2.9": "1.2.8", "1.5": "1.4", "2.0": "1.10", "1.10.0-rc.1": "1.4", "1.0": ""} {
		w.Update(add(version))
		got := ""
		if p := w.waiting("agent/" + version); p.Previous != nil {
			got = p.Previous.Release.Version
		}
		if got != want {
			t.Errorf("the predecessor of %s is %q, want %q", version, got, want)
		}
	}
}
