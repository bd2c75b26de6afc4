package mirror_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// A mirror has the files in use, byte for byte, and later the new ones; no file is
// fetched twice.
func TestClone(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	m := newMemory()
	src := &countSource{Source: storage.SourceOf(w.Store)}
	noErr(t, mirror.Clone(t.Context(), m, src, w.Pin(), options(w.Config())))
	if wrote := m.Wrote(); wrote[len(wrote)-1] != "metadata/timestamp.json" || wrote[len(wrote)-2] != "metadata/2.root.json" ||
		slices.IndexFunc(wrote, isTarget) > slices.Index(wrote, "metadata/2.review-agent.json") {
		t.Errorf("wrote %q", wrote)
	}
	if got := w.Verify(mirror.Mirror{Name: "m", Source: m}); slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "m ") }) {
		t.Errorf("the copy: %q", got)
	}
	sameIn(w, m, "root 2 agent/1")

	w.Update(add("2"))
	w.Update(approve("2"))
	src.opened = nil
	noErr(t, mirror.Clone(t.Context(), m, src, w.Pin(), options(w.Config())))
	got := slices.DeleteFunc(src.opened, func(s string) bool { return !isTarget(s) || strings.Contains(s, ".reviews/") })
	if want := layout.TargetName("agent/2", sum("agent 2")); !slices.Equal(got, []string{want}) {
		t.Errorf("fetched %q", got)
	}
	sameIn(w, m, "root 2 agent/1 agent/2")
	m.Wrote()
	noErr(t, mirror.Clone(t.Context(), m, src, w.Pin(), options(w.Config())))
	if slices.ContainsFunc(m.Wrote(), isTarget) || slices.Contains(m.Wrote(), "metadata/timestamp.json") {
		t.Error("wrote again")
	}
}

func isTarget(name string) bool { return strings.HasPrefix(name, "targets/") }

// sameIn checks what a client of the mirror sees.
func sameIn(w *world, m *memory, want string) {
	w.T.Helper()
	at := w.Copy()
	at.Store = m
	at.Sees(want)
}

type countSource struct {
	storage.Source
	opened []string
}

func (c *countSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	c.opened = append(c.opened, name)
	return c.Source.Open(ctx, name)
}

// A mirror stores only files that verify, and no older state.
func TestCloneRefuses(t *testing.T) {
	t.Parallel()
	healthy := richWorld(t)
	healthy.Update(add("2"))
	early := healthy.Copy()
	healthy.Update(approve("2"))
	have := newMemory()
	noErr(t, mirror.Clone(t.Context(), have, early.Store, healthy.Pin(), options(healthy.Config())))
	for name, x := range map[string]struct {
		hurt func(files map[string][]byte)
		want error
	}{
		"target changed": {func(f map[string][]byte) { f[layout.TargetName("agent/2", sum("agent 2"))] = []byte("agent 3") }, tuf.ErrMismatch},
		"target longer": {func(f map[string][]byte) {
			f[layout.TargetName("agent/2", sum("agent 2"))] = []byte("agent 2, and more")
		}, tuf.ErrMismatch},
		"role changed":     {func(f map[string][]byte) { flip("metadata/3.vendor-agent.json")(nil, f) }, tuf.ErrMismatch},
		"snapshot changed": {func(f map[string][]byte) { flip("metadata/5.snapshot.json")(nil, f) }, tuf.ErrMismatch},
		"root changed":     {func(f map[string][]byte) { flip("metadata/2.root.json")(nil, f) }, tuf.ErrThreshold},
		"root 3 is another repository's": {func(f map[string][]byte) {
			f["metadata/3.root.json"] = richWorld(t).Store.Files["metadata/2.root.json"]
		}, tuf.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			source, m := healthy.Store.Copy(), newMemory()
			if name != "target changed" && name != "target longer" {
				m = have.Copy()
			}
			x.hurt(source.Files)
			before := maps.Clone(m.Files)
			if err := mirror.Clone(t.Context(), m, source, healthy.Pin(), options(healthy.Config())); !errors.Is(err, x.want) {
				t.Fatalf("got %v, want %v", err, x.want)
			}
			for name, data := range m.Files {
				if !bytes.Equal(data, healthy.Store.Files[name]) && !bytes.Equal(data, before[name]) {
					t.Errorf("%s is in the mirror", name)
				}
				if name == "metadata/timestamp.json" && !bytes.Equal(data, before[name]) {
					t.Error("published")
				}
			}
			noErr(t, mirror.Clone(t.Context(), m, healthy.Store, healthy.Pin(), options(healthy.Config()))) // and heals
		})
	}
	// An older state does not replace a newer one, even if it is signed.
	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, healthy.Store, healthy.Pin(), options(healthy.Config())))
	before := maps.Clone(m.Files)
	if err := mirror.Clone(t.Context(), m, early.Store, healthy.Pin(), options(healthy.Config())); !errors.Is(err, tuf.ErrRollback) || !maps.EqualFunc(before, m.Files, bytes.Equal) {
		t.Errorf("an old state: %v", err)
	}
	delete(early.Store.Files, "metadata/2.root.json")
	if err := mirror.Clone(t.Context(), m, early.Store, healthy.Pin(), options(healthy.Config())); !errors.Is(err, tuf.ErrRollback) || !maps.EqualFunc(before, m.Files, bytes.Equal) {
		t.Errorf("fewer roots: %v", err)
	}
}

// The process is killed at any write, before or after it. The mirror has the old state
// or the new one, and the next call completes the work.
func TestCloneKilled(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	have := newMemory()
	noErr(t, mirror.Clone(t.Context(), have, w.Store, w.Pin(), options(w.Config())))
	w.Update(add("2"))
	w.Update(approve("2"))
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	for _, start := range []*memory{newMemory(), have} {
		at := w.Copy()
		at.Store = start.Copy()
		old := at.Product().State()
		for n, more := 1, true; more; n++ {
			for _, after := range []bool{false, true} {
				m := start.Copy()
				killed := m.Kill(n, after)
				err := mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config()))
				if !killed() {
					noErr(t, err)
					more = false
					break
				}
				if !errors.Is(err, errKilled) {
					t.Fatal(err)
				}
				at := w.Copy()
				at.Store = m
				got := at.Product().State()
				// A root may be there before the timestamp; both are the source's.
				if got != old && got != "root 3 agent/1 agent/2" && got != strings.Replace(old, "root 2", "root 3", 1) && !strings.HasSuffix(got, " without content") {
					t.Fatalf("killed at write %d: clients see %q", n, got)
				}
				if old != "empty" && strings.HasSuffix(got, " without content") {
					t.Fatalf("killed at write %d: clients see %q", n, got)
				}
				noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
				sameIn(w, m, "root 3 agent/1 agent/2")
			}
		}
	}
}

// The source fails at its n-th answer, for every n, at once or in the middle of the
// file.
func TestCloneSourceFails(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	for _, within := range []bool{false, true} {
		for n := 1; ; n++ {
			m := newMemory()
			src := &failSource{Source: w.Store, at: n, within: within}
			err := mirror.Clone(t.Context(), m, src, w.Pin(), options(w.Config()))
			if src.n < n {
				noErr(t, err)
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("answer %d: %v", n, err)
			}
			for name, data := range m.Files {
				if !bytes.Equal(data, w.Store.Files[name]) {
					t.Fatalf("%s is in the mirror", name)
				}
			}
			noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
			sameIn(w, m, "root 2 agent/1")
		}
	}
}

type failSource struct {
	storage.Source
	n, at  int
	within bool
}

func (f *failSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := f.Source.Open(ctx, name)
	if f.n++; f.n != f.at {
		return r, err
	}
	if !f.within || err != nil {
		return nil, errCut
	}
	return io.NopCloser(io.MultiReader(io.LimitReader(r, 5), iotest.ErrReader(errCut))), nil
}

// The repository is another implementation's: it has bins, delegations, hashes of both
// kinds, and unknown members.
func TestClonePlain(t *testing.T) {
	t.Parallel()
	r := rawtuf.NewPlain()
	r.Roles["lib"]["x-theirs"] = rawtuf.Doc{"a": []any{1, "b"}}
	r.Roles["targets"]["targets"].(rawtuf.Doc)["both.txt"] = rawtuf.Doc{"length": 4, "hashes": rawtuf.Doc{"sha256": sum("both"), "sha512": sum512("both")}}
	content := map[string]string{"top.txt": "top", "lib/a.txt": "a", "both.txt": "both"}
	for bin := range 4 {
		role := fmt.Sprintf("bin-%d", bin)
		r.Roles[role], r.Signers[role] = rawtuf.Targets(), []string{"bins"}
		content[fmt.Sprintf("lib/%d", bin)] = fmt.Sprint(bin)
		r.AddTarget(fmt.Sprintf("lib/%d", bin), fmt.Sprint(bin), nil, role) // in any bin
	}
	d := rawtuf.Doc{"keys": rawtuf.Doc{}}
	r.AddKeys(d, "bins")
	succinct := r.Role(1, "bins")
	succinct["bit_length"], succinct["name_prefix"] = 2, "bin"
	d["succinct_roles"] = succinct
	r.Roles["lib"]["delegations"] = d
	r.Bump("lib", "targets")
	r.Publish()
	store := plainStore(t, r, content)
	extra := layout.TargetName("both.txt", sum512("both"))
	noErr(t, store.Create(t.Context(), extra, strings.NewReader("both")))

	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, store, r.Files["1.root.json"], nil))
	for name, data := range store.Files {
		if !bytes.Equal(m.Files[name], data) && name != "metadata/5.lib.json" && name != "metadata/5.targets.json" && name != "metadata/5.snapshot.json" {
			t.Errorf("%s is not in the mirror", name)
		}
	}
	if len(m.Files) != len(store.Files)-3 {
		t.Errorf("%d files of %d", len(m.Files), len(store.Files))
	}
	report, err := mirror.Verify(t.Context(), m, r.Files["1.root.json"], options(&repo.Config{Now: func() time.Time { return rawtuf.Now }}))
	noErr(t, err)
	if got := findings(report); !slices.Equal(got, []string(nil)) {
		t.Errorf("found %q", got)
	}
}

// The statements on a release are copied with it, whenever they were signed.
func TestStatementsTravel(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	state := func(n int, key string) string {
		t.Helper()
		s := attestation.Subject{Path: "agent/1", Length: 7, SHA256: sum("agent 1")}
		payload, err := attestation.Review{Subject: s, RepoID: w.Root().Charter().RepoID(), Reviewer: attestation.Reviewer{Party: "review", Role: "review-agent"},
			Result: attestation.NotDone, From: w.Now.AddDate(-1, 0, 0), Until: w.Now.AddDate(0, -6, n)}.Payload()
		noErr(t, err)
		sig, err := w.Signer(key).Sign(t.Context(), attestation.PAE(payload))
		noErr(t, err)
		data, err := attestation.Seal(payload, map[string][]byte{w.Signer(key).Key().ID(): sig})
		noErr(t, err)
		name := "targets/" + attestation.Name(s, "review-agent", n)
		w.Store.Files[name] = data
		return name
	}
	first := state(1, "review-release")
	m := newMemory()
	noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
	if m.Files[first] == nil {
		t.Error("the mirror has no statement")
	}
	copies := func() []string {
		return slices.DeleteFunc(w.Verify(mirror.Mirror{Name: "m", Source: m}), func(s string) bool { return strings.Contains(s, "orphan ") })
	}
	if got := copies(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	var b bytes.Buffer
	noErr(t, mirror.Bundle(t.Context(), &b, w.Storage(), w.Pin(), &mirror.BundleOptions{Targets: func(string) bool { return true }}))
	z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
	noErr(t, err)
	if _, err := z.Open(first); err != nil {
		t.Error(err)
	}

	// A second statement exists, and one that an unknown key signed.
	second, third := state(2, "review-release"), state(3, "unknown")
	if got := copies(); !slices.Equal(got, []string{"m missing " + shorten(second), "untrusted " + shorten(third)}) {
		t.Errorf("found %q", got)
	}
	w.Update(func(tx *repo.Tx) error { return tx.Renew("review") })
	noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
	if m.Files[second] == nil || m.Files[third] != nil {
		t.Errorf("second %v, third %v", m.Files[second] != nil, m.Files[third] != nil)
	}
	// The keys change; statements by the old keys stay valid.
	w.Update(func(tx *repo.Tx) error {
		tx.Root().Classes[0].Roles[1].Keys.Keys = w.Public("review-release-2")
		return nil
	})
	delete(w.Store.Files, third)
	noErr(t, mirror.Clone(t.Context(), m, w.Store, w.Pin(), options(w.Config())))
	if got := copies(); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	// Statements on a release that is not listed are not fetched.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Remove("review", "agent/1"))
	})
	if got := w.Verify(); !slices.Contains(got, "orphan "+shorten(first)) || !slices.Contains(got, "orphan "+shorten(second)) {
		t.Errorf("found %q", got)
	}
}

// A prepared recovery is copied to the mirrors too. A later statement replaces an
// earlier one, and never the reverse.
func TestCloneRecovery(t *testing.T) {
	t.Parallel()
	r := rawtuf.New()
	r.Recoverable()
	r.PublishRoot()
	r.Publish()
	pin := rawtuf.Marshal(r.Pin())
	first, second, junk := r.Clone(), r.Clone(), r.Clone()
	first.Recover(func(rawtuf.Doc) {}, "bank1", "university")
	second.Recover(func(s rawtuf.Doc) { s["version"] = 2 }, "bank1", "university")
	junk.Recover(func(rawtuf.Doc) {}, "bank1", "bank2")
	const statement, root = "metadata/recovery/1.statement.json", "metadata/recovery/2.root.json"
	store := func(r *rawtuf.Repo) *memory {
		return plainStore(t, r, map[string]string{rawtuf.Path: "the agent"})
	}
	verify := func(m *memory) []string {
		report, err := mirror.Verify(t.Context(), m, pin, options(&repo.Config{Now: func() time.Time { return rawtuf.Now }}))
		noErr(t, err)
		return findings(report)
	}
	m := newMemory()
	for _, x := range []struct {
		from *rawtuf.Repo
		want []byte
		err  error
	}{
		{r, nil, nil},
		{junk, nil, tuf.ErrThreshold},
		{first, first.Files["recovery/1.statement.json"], nil},
		{second, second.Files["recovery/1.statement.json"], nil},
		{first, second.Files["recovery/1.statement.json"], nil},
	} {
		if err := mirror.Clone(t.Context(), m, store(x.from), pin, nil); !errors.Is(err, x.err) {
			t.Fatalf("%v, want %v", err, x.err)
		}
		if !bytes.Equal(m.Files[statement], x.want) || (m.Files[root] == nil) != (x.want == nil) {
			t.Errorf("the mirror has %.80s, want %.80s", m.Files[statement], x.want)
		}
		if got := verify(m); len(got) > 0 {
			t.Errorf("found %q", got)
		}
	}
	if got := verify(store(junk)); !slices.Equal(got, []string{"untrusted " + statement}) {
		t.Errorf("found %q", got)
	}
	if got := verify(store(second)); len(got) > 0 {
		t.Errorf("found %q", got)
	}
}

// The public repository has a long history: its first roots have a form that is no
// longer written, or are missing, and the pin is a later root. Targets that are listed
// with sha512 alone are also mirrored and verified.
func TestCloneFromThePin(t *testing.T) {
	t.Parallel()
	r := rawtuf.NewPlain()
	r.Root["spec_version"] = "0.9"
	r.PublishRoot()
	r.NextRoot(func() { r.Root["spec_version"] = "1.0"; r.Root["consistent_snapshot"] = false })
	r.NextRoot(func() { r.Root["consistent_snapshot"] = true })
	pin := r.Files["3.root.json"]
	r.NextRoot(func() {})
	r.Roles["targets"]["targets"].(rawtuf.Doc)["512.txt"] = rawtuf.Doc{"length": 3, "hashes": rawtuf.Doc{"sha512": sum512("512")}}
	r.Bump("targets")
	r.Publish()
	store := plainStore(t, r, map[string]string{"top.txt": "top", "lib/a.txt": "a"})
	name := layout.TargetName("512.txt", sum512("512"))
	verify := func(m *memory) []string {
		report, err := mirror.Verify(t.Context(), m, pin, options(&repo.Config{Now: func() time.Time { return rawtuf.Now }}))
		noErr(t, err)
		return slices.DeleteFunc(findings(report), func(s string) bool { return strings.Contains(s, "orphan ") })
	}
	clone := func() (*memory, error) {
		m := newMemory()
		return m, mirror.Clone(t.Context(), m, store, pin, nil)
	}
	if _, err := clone(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, content := range []string{"51", "513", "512"} {
		store.Files[name] = []byte(content)
		m, err := clone()
		if content != "512" {
			if !errors.Is(err, tuf.ErrMismatch) || m.Files[name] != nil {
				t.Errorf("%q: %v", content, err)
			}
			if got := verify(store); len(got) != 1 || !strings.HasPrefix(got[0], "damaged targets/") {
				t.Errorf("found %q", got)
			}
			continue
		}
		noErr(t, err)
		if string(m.Files[name]) != content || m.Files["metadata/1.root.json"] != nil || m.Files["metadata/2.root.json"] == nil {
			t.Errorf("the mirror has %q", slices.Sorted(maps.Keys(m.Files)))
		}
		if got := verify(m); len(got) > 0 {
			t.Errorf("found %q", got)
		}
	}
	if got := verify(store); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	delete(store.Files, "metadata/1.root.json")
	delete(store.Files, "metadata/2.root.json")
	_, err := clone()
	noErr(t, err)
	// Another root under the pin's version is not one of those.
	store.Files["metadata/3.root.json"] = r.Files["2.root.json"]
	if _, err := clone(); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
}

// A repository without consistent snapshots is verified completely; a mirror of it
// would have files of two states while it is written.
func TestPlainWithoutConsistentSnapshots(t *testing.T) {
	t.Parallel()
	r := rawtuf.NewPlain()
	r.Files = map[string][]byte{}
	r.Root["consistent_snapshot"] = false
	r.PublishRoot()
	r.Publish()
	m := newMemory()
	for name, data := range r.Files {
		m.Files["metadata/"+name] = data
	}
	m.Files["targets/top.txt"], m.Files["targets/lib/a.txt"] = []byte("top"), []byte("a")
	verify := func() []string {
		report, err := mirror.Verify(t.Context(), m, r.Files["1.root.json"], options(&repo.Config{Now: func() time.Time { return rawtuf.Now }}))
		noErr(t, err)
		return findings(report)
	}
	if got := verify(); len(got) > 0 {
		t.Fatalf("found %q", got)
	}
	for name, broken := range map[string]struct{ content, finding string }{
		"metadata/lib.json":      {"{}", "untrusted metadata/lib.json"},
		"metadata/snapshot.json": {"{}", "untrusted metadata/snapshot.json"},
		"targets/top.txt":        {"tip", "damaged targets/top.txt"},
	} {
		whole := m.Files[name]
		m.Files[name] = []byte(broken.content)
		if got := verify(); !slices.Contains(got, broken.finding) {
			t.Errorf("found %q", got)
		}
		m.Files[name] = whole
	}
	copied := newMemory()
	if err := mirror.Clone(t.Context(), copied, m, r.Files["1.root.json"], nil); !errors.Is(err, errors.ErrUnsupported) || len(copied.Files) > 0 {
		t.Errorf("%v, %d files", err, len(copied.Files))
	}
}
