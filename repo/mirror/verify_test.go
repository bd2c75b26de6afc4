package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Each row breaks one thing in a good repository. The report names it and nothing
// else. After healing the repository is good again.
func TestVerify(t *testing.T) {
	t.Parallel()
	healthy := richWorld(t)
	for name, x := range map[string]struct {
		hurt func(w *world, files map[string][]byte)
		want []string
	}{
		"nothing": {func(*world, map[string][]byte) {}, nil},
		"target gone": {func(w *world, files map[string][]byte) { delete(files, w.Store.File(t, "targets/agent/*")) },
			[]string{"missing targets/agent/1"}},
		"target longer": {func(w *world, files map[string][]byte) {
			name := w.Store.File(t, "targets/agent/*")
			files[name] = append(slices.Clone(files[name]), 'x')
		}, []string{"damaged targets/agent/1"}},
		"target shorter": {func(w *world, files map[string][]byte) { files[w.Store.File(t, "targets/agent/*")] = []byte("agent") },
			[]string{"damaged targets/agent/1"}},
		"target changed": {func(w *world, files map[string][]byte) { files[w.Store.File(t, "targets/agent/*")] = []byte("agent 2") },
			[]string{"damaged targets/agent/1"}},
		"root gone":        {func(w *world, files map[string][]byte) { delete(files, "metadata/1.root.json") }, []string{"missing metadata/1.root.json"}},
		"role gone":        {func(w *world, files map[string][]byte) { delete(files, "metadata/2.vendor-agent.json") }, []string{"missing metadata/2.vendor-agent.json"}},
		"snapshot gone":    {func(w *world, files map[string][]byte) { delete(files, "metadata/3.snapshot.json") }, []string{"missing metadata/3.snapshot.json"}},
		"timestamp gone":   {func(w *world, files map[string][]byte) { delete(files, "metadata/timestamp.json") }, []string{"missing metadata/timestamp.json"}},
		"role changed":     {flip("metadata/2.review-agent.json"), []string{"untrusted metadata/2.review-agent.json"}},
		"targets changed":  {flip("metadata/1.targets.json"), []string{"untrusted metadata/1.targets.json"}},
		"snapshot changed": {flip("metadata/3.snapshot.json"), []string{"untrusted metadata/3.snapshot.json"}},
		"timestamp changed": {flip("metadata/timestamp.json"),
			[]string{"untrusted metadata/timestamp.json"}},
		"pinned root changed": {flip("metadata/1.root.json"), []string{"untrusted metadata/1.root.json"}},
		"newest root changed": {flip("metadata/2.root.json"), []string{"untrusted metadata/2.root.json"}},
		"foreign root 3": {func(w *world, files map[string][]byte) {
			files["metadata/3.root.json"] = richWorld(t).Store.Files["metadata/2.root.json"]
		},
			[]string{"untrusted metadata/3.root.json"}},
		"unknown file in metadata": {func(w *world, files map[string][]byte) { files["metadata/notes.txt"] = []byte("hello") }, []string{"unknown metadata/notes.txt"}},
		"unknown role file": {func(w *world, files map[string][]byte) {
			files["metadata/7.vendor-agent.json"] = richWorld(t).Store.Files["metadata/2.vendor-agent.json"]
		}, []string{"unknown metadata/7.vendor-agent.json"}},
		"unknown targets file": {func(w *world, files map[string][]byte) {
			files["metadata/2.targets.json"] = richWorld(t).Store.Files["metadata/1.targets.json"]
		}, []string{"unknown metadata/2.targets.json"}},
		"unknown file in targets": {func(w *world, files map[string][]byte) { files["targets/agent/notes.txt"] = []byte("hello") }, []string{"unknown targets/agent/notes.txt"}},
		"unlisted target": {func(w *world, files map[string][]byte) {
			files[layout.TargetName("agent/x", sum("hello"))] = []byte("hello")
		}, []string{"orphan targets/agent/x"}},
		"unlisted target, damaged": {func(w *world, files map[string][]byte) {
			files[layout.TargetName("agent/x", sum("hello"))] = []byte("hullo")
		}, []string{"damaged targets/agent/x"}},
		"timestamp expired": {func(w *world, _ map[string][]byte) { w.Now = w.Now.Add(2 * 24 * time.Hour) }, []string{"expired metadata/timestamp.json"}},
		"all expired": {func(w *world, _ map[string][]byte) { w.Now = w.Now.Add(1000 * 24 * time.Hour) },
			[]string{"expired metadata/1.targets.json", "expired metadata/2.review-agent.json", "expired metadata/2.root.json",
				"expired metadata/2.vendor-agent.json", "expired metadata/3.snapshot.json", "expired metadata/timestamp.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := healthy.Copy()
			// Superseded files are reported and are harmless.
			superseded := []string{"orphan metadata/1.review-agent.json", "orphan metadata/1.snapshot.json", "orphan metadata/1.vendor-agent.json", "orphan metadata/2.snapshot.json"}
			x.hurt(w, w.Store.Files)
			got := slices.DeleteFunc(w.Verify(), func(s string) bool { return slices.Contains(superseded, s) })
			opened := !strings.Contains(name, "snapshot") && !strings.Contains(name, "timestamp gone") && !strings.Contains(name, "timestamp changed")
			if opened && !slices.Equal(got, slices.Sorted(slices.Values(x.want))) {
				t.Errorf("found %q, want %q", got, x.want)
			}
			if !opened && !slices.Contains(got, x.want[0]) {
				t.Errorf("found %q, want %q", got, x.want)
			}
			if report, err := mirror.Verify(t.Context(), healthy.Storage(), healthy.Pin(), options(healthy.Config())); err != nil || report.Err() != nil || report.Targets != 1 || report.Bytes != 7 || report.Roles != 3 || len(report.Findings) != len(superseded) {
				t.Fatalf("%v\n%v", report, err)
			}
		})
	}
}

// flip changes a byte of the signed part.
func flip(name string) func(*world, map[string][]byte) {
	return func(_ *world, files map[string][]byte) {
		files[name] = []byte(strings.Replace(string(files[name]), `"expires":"2`, `"expires":"3`, 1))
	}
}

// A copy is compared with the repository, byte for byte.
func TestVerifyCopies(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	good, roots := w.Store.Copy(), newMemory()
	for _, name := range []string{"metadata/1.root.json", "metadata/2.root.json"} {
		roots.Files[name] = w.Store.Files[name]
	}
	for name, x := range map[string]struct {
		hurt func(files map[string][]byte)
		want []string
	}{
		"nothing":        {func(map[string][]byte) {}, nil},
		"target gone":    {func(f map[string][]byte) { delete(f, w.Store.File(t, "targets/agent/*")) }, []string{"B missing targets/agent/1"}},
		"target changed": {func(f map[string][]byte) { f[w.Store.File(t, "targets/agent/*")] = []byte("agent 2") }, []string{"B damaged targets/agent/1"}},
		"root gone":      {func(f map[string][]byte) { delete(f, "metadata/2.root.json") }, []string{"B missing metadata/2.root.json"}},
		"old timestamp":  {func(f map[string][]byte) { f["metadata/timestamp.json"] = []byte("{}") }, []string{"B differs metadata/timestamp.json"}},
		"one root more":  {func(f map[string][]byte) { f["metadata/3.root.json"] = []byte("{}") }, []string{"B differs metadata/3.root.json"}},
		"white space": {func(f map[string][]byte) {
			f["metadata/1.targets.json"] = append(slices.Clone(f["metadata/1.targets.json"]), '\n')
		}, []string{"B differs metadata/1.targets.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := good.Copy()
			x.hurt(b.Files)
			got := w.Verify(mirror.Mirror{Name: "B", Source: storage.SourceOf(b)}, mirror.Mirror{Name: "Z", Source: storage.SourceOf(roots), RootsOnly: true})
			if got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "orphan ") }); !slices.Equal(got, x.want) {
				t.Errorf("found %q, want %q", got, x.want)
			}
		})
	}
	// A mirror that fails is not reported as one that lacks files.
	got := w.Verify(mirror.Mirror{Name: "B", Source: brokenSource{}, RootsOnly: true})
	if got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, "orphan ") }); !slices.Equal(got, []string{"B unreadable metadata/1.root.json", "B unreadable metadata/2.root.json", "B unreadable metadata/3.root.json"}) {
		t.Errorf("found %q", got)
	}
}

type brokenSource struct{}

func (brokenSource) Open(context.Context, string) (io.ReadCloser, error) { return nil, errCut }

// A publication was interrupted between a new root and its content.
func TestVerifyUnfinished(t *testing.T) {
	w := richWorld(t)
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
	unfinished := func() bool { return slices.Contains(w.Verify(), "unfinished metadata/3.root.json") }
	if !unfinished() {
		t.Errorf("found %q", w.Verify())
	}
	noErr(t, w.Open().Renew(t.Context()))
	if unfinished() {
		t.Errorf("healed, found %q", w.Verify())
	}
}

// A standard TUF repository with delegations: the pin is its root.
func TestVerifyPlain(t *testing.T) {
	t.Parallel()
	r := rawtuf.NewPlain()
	m := plainStore(t, r, map[string]string{"top.txt": "top", "lib/a.txt": "a"})
	verify := func() []string {
		report, err := mirror.Verify(t.Context(), m, r.Files["1.root.json"], options(&repo.Config{Now: func() time.Time { return rawtuf.Now }}))
		noErr(t, err)
		return slices.DeleteFunc(findings(report), func(s string) bool { return strings.Contains(s, "orphan ") })
	}
	if got := verify(); len(got) > 0 {
		t.Fatalf("found %q", got)
	}
	name := m.File(t, "targets/lib/*")
	m.Files[name] = []byte("b")
	if got := verify(); !slices.Equal(got, []string{"damaged targets/lib/a.txt"}) {
		t.Errorf("found %q", got)
	}
	m.Files[name] = []byte("a")
	role := m.File(t, "metadata/*.lib.json")
	m.Files[role] = []byte(strings.Replace(string(m.Files[role]), `lib/a`, `lib/b`, 1))
	if got := verify(); !slices.Contains(got, "untrusted "+role) {
		t.Errorf("found %q", got)
	}
}

// Another repository is reported, even if it is valid in itself.
func TestVerifyOtherPin(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	report, err := mirror.Verify(t.Context(), w.Storage(), other.Pin(), options(w.Config()))
	noErr(t, err)
	if got := findings(report); !slices.Contains(got, "untrusted metadata/1.root.json") || report.Err() == nil {
		t.Errorf("found %q", got)
	}
}

func TestVerifyStops(t *testing.T) {
	w := richWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err := mirror.Verify(ctx, w.Storage(), w.Pin(), options(w.Config())); report != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", report, err)
	}
	if _, err := mirror.Verify(t.Context(), w.Storage(), []byte("{}"), options(w.Config())); !errors.Is(err, tuf.ErrUntrusted) {
		t.Error(err)
	}
	// The progress function cancels the context at any file.
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := mirror.Verify(ctx, w.Store, w.Pin(), &mirror.Options{Now: func() time.Time { return w.Now }, Progress: func(storage.Progress) {
			if calls++; calls == n {
				cancel()
			}
		}})
		cancel()
		if calls < n {
			noErr(t, err)
			break
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

// The files of a former product are part of the repository; an attacker's files under
// the same name are not.
func TestVerifyFormerProduct(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	product := func(keys ...string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			return tx.Delegate("vendor", "agent", repo.Product{Role: "pump", Paths: []string{"agent/pump-*"}, Keys: repo.Keys{Keys: w.Public(keys...)}})
		}
	}
	w.Update(product("pump-1"))
	w.Update(add("pump-1"))
	w.Update(product("pump-2")) // new keys for the same product
	w.Update(add("pump-2"))
	w.Update(func(tx *repo.Tx) error { return tx.Undelegate("vendor", "agent", "pump") })
	kinds := func() map[string]mirror.FindingKind {
		t.Helper()
		report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config()))
		noErr(t, err)
		out := map[string]mirror.FindingKind{}
		for _, f := range report.Findings {
			out[f.Name] = f.Kind
		}
		return out
	}
	pumps := 0
	for name, kind := range kinds() {
		if kind != mirror.FileOrphan {
			t.Errorf("%s is %s", name, kind)
		}
		if strings.HasSuffix(name, ".pump.json") {
			pumps++
		}
	}
	if pumps < 2 {
		t.Fatalf("%d files of the product", pumps)
	}
	// The file has the same name and form, but the key that signed it never belonged to
	// the product.
	for name, data := range w.Store.Copy().Files {
		if strings.HasSuffix(name, ".pump.json") {
			var env object
			noErr(t, json.Unmarshal(data, &env))
			env["signed"].(object)["version"] = 99
			forged, err := json.Marshal(env)
			noErr(t, err)
			w.Store.Files["metadata/99.pump.json"] = forged
		}
	}
	if got := kinds()["metadata/99.pump.json"]; got != mirror.FileUnknown {
		t.Errorf("a forged file is %q", got)
	}
}

// A publisher has written a snapshot that new keys signed, and not yet the root that
// names them. That file is not reported as unknown, unless the state persists.
func TestVerifyBesidePublisher(t *testing.T) {
	t.Parallel()
	w := dated(t)
	timestamp, snapshot := w.Public("timestamp 2"), w.Public("snapshot 2")
	var during []string
	w.Store.Before = func(name string) error {
		if name == "metadata/2.root.json" {
			during = w.Verify()
			return errKilled
		}
		return nil
	}
	rotate := func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = timestamp, snapshot
		return nil
	}
	if err := w.Try(rotate); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.Store.Before = nil
	role := "metadata/2.snapshot.json"
	if !slices.Contains(during, "orphan "+role) || slices.Contains(during, "unknown "+role) {
		t.Errorf("found %q", during)
	}
	w.Now = w.Now.Add(2 * time.Hour)
	if got := w.Verify(); !slices.Contains(got, "unknown "+role) {
		t.Errorf("found %q", got)
	}
	w.Update(w.Again(rotate))
	w.Intact()
}
