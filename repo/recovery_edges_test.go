package repo_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

const (
	statement2 = "metadata/recovery/2.statement.json"
	recovered3 = "metadata/recovery/3.root.json"
)

// successors replaces the vendor's keys with those of a successor with that name.
func (w *world) successors(name string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[0].Keys = w.Public(name+"-1", name+"-2")
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public(name+"-timestamp"), w.Public(name+"-snapshot"), w.Public(name+"-targets")
		r.Classes[0].Roles[0].Keys.Keys = w.Public(name + "-release")
		return nil
	}
}

// stageRecovery stages a recovery after a root and signs it with all keys.
func (w *world) stageRecovery(after int64, fn func(*repo.Tx) error) *repo.Draft {
	w.T.Helper()
	d, err := w.Open().StageRecovery(w.T.Context(), repo.RecoveryOptions{Reason: "they are gone", After: after}, fn)
	noErr(w.T, err)
	for _, s := range w.Keys {
		if err := d.Sign(w.T.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			w.T.Fatal(err)
		}
	}
	return d
}

func (w *world) publish(d *repo.Draft) {
	w.T.Helper()
	noErr(w.T, w.Open().Publish(w.T.Context(), d))
}

// The process is killed at each write while one recovery replaces another. Publishing
// the same draft again completes the replacement, even if no other part of the
// repository can be opened.
func TestReplacementKilled(t *testing.T) {
	t.Parallel()
	for _, successor := range []string{"successor", "other"} { // the same online keys, and others
		start := recoverable(t)
		start.recover()
		start.Signer("successor-3")
		d := start.stageRecovery(1, func(tx *repo.Tx) error {
			err := start.successors(successor)(tx)
			tx.Root().Parties[0].Keys = start.Public("successor-1", "successor-3")
			return err
		})
		for n, more := 1, true; more; n++ {
			for _, after := range []bool{false, true} {
				w := start.Copy()
				killed := w.Store.Kill(n, after)
				err := w.Open().Publish(t.Context(), d)
				if !killed() {
					noErr(t, err)
					w.Store.Clock = func() time.Time { return w.Now.Add(-1000 * time.Hour) }
					for name := range w.Store.Files {
						w.Store.Written[name] = w.Store.Clock()
					}
					_, err = w.Open().Prune(t.Context(), nil)
					noErr(t, err)
					w.Intact()
					if findings := w.Verify(); len(findings) > 0 {
						t.Errorf("after Prune: %q", findings)
					}
					more = false
					break
				}
				if err := w.Open().Publish(t.Context(), d); err != nil {
					t.Fatalf("%s, killed at %d, %t: %v", successor, n, after, err)
				}
				if got := w.Product().Waits().State(); got != "root 2 agent/1" {
					t.Fatalf("%s, killed at %d: a client that has waited sees %q", successor, n, got)
				}
				for _, found := range w.Verify() { // metadata signed under the first recovery is reported as unknown
					if !strings.HasPrefix(found, "orphan ") && !strings.HasPrefix(found, "unknown ") {
						t.Error(found)
					}
				}
			}
		}
	}
}

// A regular root and a recovery are published at the same time. The regular root
// stays, whichever call reports the conflict, and its owners can continue.
func TestRecoveryRace(t *testing.T) {
	t.Parallel()
	renew := func(tx *repo.Tx) error { tx.RenewRoot(); return nil }
	for _, at := range []string{"metadata/2.snapshot.json", recovered2, statement1, "metadata/timestamp.json"} {
		w := recoverable(t)
		d := w.stageRecovery(0, w.lost)
		owners := w.Copy()
		ordinary, err := owners.Open().Stage(t.Context(), renew)
		noErr(t, err)
		owners.Store = w.Store
		once := false
		w.Store.Before = func(name string) error {
			if once || strings.HasSuffix(name, "snapshot.json") != strings.HasSuffix(at, "snapshot.json") || !strings.HasSuffix(at, "snapshot.json") && name != at {
				return nil
			}
			once = true
			return owners.Open().Publish(t.Context(), ordinary)
		}
		err = w.Open().Publish(t.Context(), d)
		w.Store.Before = nil
		if !once {
			t.Fatalf("%s was not written", at)
		}
		if !errors.Is(err, repo.ErrConflict) {
			t.Errorf("%s: the recovery: %v", at, err)
		}
		w.Update(func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) })
		w.Sees("root 2 agent/1 agent/2")
	}
}

// Two processes renew a statement at the same time: one of them gets a conflict.
func TestRenewalRace(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	w.recover()
	renewal := func(reason string) *repo.Draft {
		d, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: reason})
		noErr(t, err)
		return d
	}
	one, two := renewal("one"), renewal("two")
	other := w.Copy()
	other.Store = w.Store
	once := false
	w.Store.Before = func(string) error {
		if once {
			return nil
		}
		once = true
		return other.Open().Publish(t.Context(), two)
	}
	if err := w.Open().Publish(t.Context(), one); !errors.Is(err, repo.ErrConflict) {
		t.Error(err)
	}
	if !bytes.Contains(w.Store.Files[statement1], []byte(`"two"`)) {
		t.Errorf("%s", w.Store.Files[statement1])
	}
}

// A malformed file under the name of a recovery statement does not count as a
// recovery: it blocks no operation, and a recovery replaces it.
func TestRecoveryJunk(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	other := recoverable(t)
	other.recover()
	for name, junk := range map[string]map[string][]byte{
		"no JSON":       {statement1: []byte("x"), recovered2: []byte("x")},
		"too large":     {statement1: make([]byte, tuf.MaxRecoveryStatement+1), recovered2: make([]byte, 5<<20)},
		"a high claim":  {statement1: []byte(`{"signatures":[],"signed":{"_type":"x-visum-recovery","version":9007199254740991}}`)},
		"empty":         {statement1: {}, recovered2: {}},
		"a statement":   {statement1: other.Store.Files[statement1]},
		"a root":        {recovered2: other.Store.Files[recovered2]},
		"another's":     {statement1: other.Store.Files[statement1], recovered2: other.Store.Files[recovered2]},
		"a large root":  {statement1: other.Store.Files[statement1], recovered2: make([]byte, 5<<20)},
		"a large claim": {statement1: make([]byte, 1<<20), recovered2: other.Store.Files[recovered2]},
	} {
		w := recoverable(t)
		for file, data := range junk {
			w.Store.Files[file] = data
		}
		w.Update(func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) })
		d := w.stageRecovery(0, w.lost)
		if err := w.Open().Export(t.Context(), d, t.TempDir()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Open().Publish(t.Context(), d); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := w.Product().Waits().State(); got != "root 2 agent/1 agent/2" {
			t.Errorf("%s: a client that has waited sees %q", name, got)
		}
		if !bytes.Contains(w.Store.Files[statement1], []byte(`"version":3}`)) {
			t.Errorf("%s: %s", name, w.Store.Files[statement1])
		}
		w.Intact()
	}
}

// A mirror is not rolled back, and a regular root on the mirror takes precedence over
// the recovery at the source.
func TestRecoveryOnMirrors(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first := w.Pin()
	stale := w.Store.Copy()
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("2")(tx), approve("2")(tx)) })
	owners := w.Copy()
	owners.Store = w.Store.Copy()
	owners.Update(announce)
	w.recover()
	early := w.Store.Copy()
	clone := func(to *memory, from *memory) error {
		return mirror.Clone(t.Context(), to, storage.SourceOf(from), first, options(w.Config()))
	}
	refused := func(what string, to, from *memory) {
		t.Helper()
		before := to.Copy()
		if err := clone(to, from); !errors.Is(err, tuf.ErrRollback) {
			t.Errorf("%s: %v", what, err)
		}
		for name, data := range before.Files {
			if !bytes.Equal(data, to.Files[name]) {
				t.Errorf("%s: %s was changed", what, name)
			}
		}
	}
	refused("the mirror has a regular root", owners.Store.Copy(), w.Store)

	copied := newMemory()
	noErr(t, clone(copied, w.Store))
	d, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "once more"})
	noErr(t, err)
	w.publish(d)
	noErr(t, clone(copied, w.Store))
	noErr(t, clone(copied, early)) // the same root, an older statement: the newer one stays
	if !bytes.Equal(copied.Files[statement1], w.Store.Files[statement1]) {
		t.Error("the statement was rolled back")
	}
	w.publish(w.stageRecovery(1, w.successors("other")))
	noErr(t, clone(copied, w.Store))
	if !bytes.Equal(copied.Files[recovered2], w.Store.Files[recovered2]) {
		t.Error("the mirror does not follow the replacement")
	}
	refused("the source has the recovery that was replaced", copied, early)

	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, clone(copied, w.Store))
	refused("the source is from before the recovery", copied, stale)

	// A recovery that has no successor yet is a proposal: the later one stays.
	proposed, later := stale.Copy(), stale.Copy()
	for _, name := range []string{statement1, recovered2} {
		proposed.Files[name], later.Files[name] = early.Files[name], w.Store.Files[name]
	}
	noErr(t, clone(later, proposed))
	if !bytes.Equal(later.Files[statement1], w.Store.Files[statement1]) || !bytes.Equal(later.Files[recovered2], w.Store.Files[recovered2]) {
		t.Error("a proposal was rolled back")
	}
}

// A recovery that keeps the online keys would take effect at once, because the
// published metadata is signed with these keys: it is refused.
func TestRecoveryBringsNewOnlineKeys(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	for _, keep := range []func(r *repo.Root){
		func(r *repo.Root) { r.Timestamp.Keys, r.Snapshot.Keys = w.Public("timestamp"), w.Public("snapshot") },
		func(r *repo.Root) { r.Timestamp.Keys = w.Public("timestamp") },
		func(r *repo.Root) { r.Snapshot.Keys = w.Public("snapshot") },
	} {
		w.Refused(tuf.ErrCharter, func() error {
			_, err := w.Open().StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, func(tx *repo.Tx) error {
				noErr(t, w.lost(tx))
				keep(tx.Root())
				return nil
			})
			return err
		})
	}
}

// Verify reports the files of a recovery that a copy lacks, and the files that it has
// in addition.
func TestVerifyRecoveryOnCopies(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first, err := w.Open().Pin(t.Context())
	noErr(t, err)
	before := w.Copy()
	w.recover()
	early := w.Store.Copy()
	d, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "once more"})
	noErr(t, err)
	w.publish(d)
	check := func(what string, change func(*memory), roots bool, want ...string) {
		t.Helper()
		m := w.Store.Copy()
		change(m)
		got := w.Verify(mirror.Mirror{Name: "m", Source: storage.SourceOf(m), RootsOnly: roots})
		got = slices.DeleteFunc(got, func(f string) bool { return strings.Contains(f, "orphan ") })
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	rootsOnly := func(m *memory) {
		for name := range m.Files {
			if !strings.HasSuffix(name, ".root.json") && !strings.HasPrefix(name, "metadata/recovery/") {
				delete(m.Files, name)
			}
		}
	}
	check("all", func(*memory) {}, false)
	check("roots", rootsOnly, true)
	check("no statement", func(m *memory) { delete(m.Files, statement1) }, false, "m missing "+statement1)
	check("no root", func(m *memory) { rootsOnly(m); delete(m.Files, recovered2) }, true, "m missing "+recovered2)
	check("an older statement", func(m *memory) { m.Files[statement1] = early.Files[statement1] }, false, "m differs "+statement1)
	check("junk", func(m *memory) { rootsOnly(m); m.Files[statement1] = []byte("x") }, true, "m untrusted "+statement1)
	owners := recoverable(t)
	check("a regular root", func(m *memory) { m.Files["metadata/2.root.json"] = owners.Store.Files["metadata/1.root.json"] }, false, "m differs metadata/2.root.json")

	// One of the two files of a recovery is missing.
	for _, name := range []string{statement1, recovered2} {
		for _, pin := range [][]byte{w.Pin(), first} {
			half := w.Copy()
			half.Pinned = pin
			delete(half.Store.Files, name)
			if got := half.Verify(); !slices.Contains(got, "missing "+name) {
				t.Errorf("without %s: %q", name, got)
			}
		}
	}
	// The cases are an unreadable statement, a recovery that exists only in the copy,
	// which is not a fault of the copy, and an expired root, which is reported by its
	// name.
	if got := w.Verify(mirror.Mirror{Name: "m", Source: storage.SourceOf(&readFault{w.Store, statement1, 1})}); !slices.Contains(got, "m unreadable "+statement1) {
		t.Errorf("%q", got)
	}
	ahead := before.Store.Copy()
	ahead.Files[statement1], ahead.Files[recovered2] = w.Store.Files[statement1], w.Store.Files[recovered2]
	if got := before.Verify(mirror.Mirror{Name: "m", Source: storage.SourceOf(ahead)}); slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, "recovery") }) {
		t.Errorf("%q", got)
	}
	later := w.Copy()
	later.Now = later.Now.AddDate(2, 0, 0)
	if got := later.Verify(); !slices.Contains(got, "expired "+recovered2) {
		t.Errorf("%q", got)
	}
	bare := recoverable(t)
	if got := bare.Verify(mirror.Mirror{Name: "m", Source: storage.SourceOf(&readFault{bare.Store, recovered2, 1})}); !slices.Contains(got, "m unreadable "+recovered2) {
		t.Errorf("%q", got)
	}

	// The statement is damaged: the report names it and says why nothing after it can be
	// verified.
	w.Store.Files[statement1] = bytes.ReplaceAll(w.Store.Files[statement1], []byte("once more"), []byte("once less"))
	report, err := mirror.Verify(t.Context(), w.Storage(), w.Pin(), options(w.Config()))
	noErr(t, err)
	if !slices.ContainsFunc(report.Findings, func(f mirror.Finding) bool { return f.Name == statement1 && f.Kind == mirror.FileUntrusted }) {
		t.Error(report)
	}
	_, err = w.Open().Stage(t.Context(), func(*repo.Tx) error { return nil })
	if !errors.Is(err, tuf.ErrUntrusted) || !strings.Contains(err.Error(), statement1) {
		t.Error(err)
	}
}

// Two recoveries follow each other, and then a regular root.
func TestTwoRecoveries(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first := w.Pin()
	w.recover()
	w.publish(w.stageRecovery(0, w.successors("other")))
	check := func(root int64) {
		t.Helper()
		chain, err := w.Open().Chain(t.Context())
		noErr(t, err)
		if int64(len(chain)) != root {
			t.Fatalf("%d roots", len(chain))
		}
		p := w.Product().Waits().Waits()
		if got := p.State(); p.Root.Version() != root || !strings.HasSuffix(got, " agent/1") {
			t.Errorf("a client that has waited twice sees %q", got)
		}
		pins, err := w.Open().Pins(t.Context())
		noErr(t, err)
		for _, pin := range append(pins, first) {
			copied := newMemory()
			noErr(t, mirror.Clone(t.Context(), copied, storage.SourceOf(w.Store), pin, nil))
			report, err := mirror.Verify(t.Context(), w.Storage(), pin, options(w.Config()), mirror.Mirror{Source: storage.SourceOf(copied)})
			if noErr(t, err); report.Err() != nil || report.Root != root {
				t.Errorf("root v%d: %v", report.Root, report)
			}
		}
		for _, opts := range []*mirror.BundleOptions{nil, {Metadata: true}} {
			var b bytes.Buffer
			noErr(t, mirror.Bundle(t.Context(), &b, w.Storage(), w.Pin(), opts))
			z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
			noErr(t, err)
			for _, name := range []string{statement1, recovered2, statement2, recovered3} {
				if _, err := fs.Stat(z, name); err != nil {
					t.Error(err)
				}
			}
		}
	}
	check(3)
	if _, err := w.Open().StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "x", After: 1}, w.lost); !errors.Is(err, repo.ErrStale) {
		t.Error("the first recovery can be replaced after a second one:", err)
	}
	d, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "once more", After: 1})
	noErr(t, err)
	w.publish(d)
	check(3)
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	check(4)
}

// A signer of a statement that follows a version other than the published one is
// warned, and no draft that is staged on top of this draft loses the warning.
func TestRecoveryDraftLate(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	w.recover()
	renewal := func(reason string) *repo.Draft {
		d, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: reason})
		noErr(t, err)
		return d
	}
	late, next := renewal("once more"), renewal("and once more")
	if _, err := w.Open().StageOn(t.Context(), late, func(*repo.Tx) error { return nil }); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	other, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { return tx.Renew("vendor") })
	noErr(t, err)
	a, err := other.Bytes()
	noErr(t, err)
	b, err := next.Bytes()
	noErr(t, err)
	var both, statement map[string]any
	noErr(t, errors.Join(json.Unmarshal(a, &both), json.Unmarshal(b, &statement)))
	both["recovery"] = statement["recovery"]
	a, err = json.Marshal(both)
	noErr(t, err)
	mixed, err := repo.OpenDraft(a)
	noErr(t, err)
	w.Store.Wrote()
	if err := w.Open().Publish(t.Context(), mixed); err == nil || !strings.Contains(err.Error(), "published by itself") || len(w.Store.Wrote()) > 0 {
		t.Error("one draft has releases and a statement:", err)
	}
	w.publish(next)
	if _, err := w.Open().Diff(t.Context(), late); !errors.Is(err, repo.ErrStale) {
		t.Error(err)
	}
	w.Refused(repo.ErrStale, func() error { return w.Open().Publish(t.Context(), late) })
}

// The draft comes from an attacker: its recovery part is refused by Open, Diff or
// Publish. No call panics or writes.
func TestRecoveryHostileDraft(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	r := w.afterLoss()
	d, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, w.lost)
	noErr(t, err)
	w.signs(d, "bank-1", "university")
	data, err := d.Bytes()
	noErr(t, err)
	stuck := w.Copy() // its recovery is missing, and with it the root that verifies the timestamp
	stuck.recover()
	delete(stuck.Store.Files, statement1)
	plain := newWorld(t) // this repository has no recovery rule either
	plain.Store.Files["metadata/timestamp.json"] = stuck.Store.Files["metadata/timestamp.json"]
	if err := plain.Refused(tuf.ErrUntrusted, func() error { return plain.afterLoss().Publish(t.Context(), d) }); strings.Contains(err.Error(), "perhaps") {
		t.Error(err)
	}
	stuck.Elsewhere = &readFault{stuck.Store, "metadata/1.root.json", 4}
	stuck.Refused(tuf.ErrUntrusted, func() error { return stuck.afterLoss().Publish(t.Context(), d) })
	stuck.Elsewhere = nil
	type object = map[string]any
	open := func(change func(draft, part, signed object)) (*repo.Draft, error) {
		t.Helper()
		draft := object{}
		noErr(t, json.Unmarshal(data, &draft))
		part := draft["recovery"].(object)
		change(draft, part, part["content"].(object)["signed"].(object))
		data, err := json.Marshal(draft)
		noErr(t, err)
		return repo.OpenDraft(data)
	}
	for name, change := range map[string]func(draft, part, signed object){
		"a role's name":      func(_, part, _ object) { part["role"] = "root" },
		"a list of releases": func(_, part, signed object) { part["role"], signed["_type"] = "agent", "targets" },
		"another type":       func(_, _, signed object) { signed["_type"] = "root" },
		"among the files":    func(draft, part, _ object) { draft["files"] = []any{part} },
		"no content":         func(_, part, _ object) { delete(part, "content") },
		"a list":             func(draft, part, _ object) { draft["recovery"] = []any{part} },
		"no version":         func(_, _, signed object) { delete(signed, "version") },
		"below its base":     func(_, part, _ object) { part["base"] = 3 },
		"a negative base":    func(_, part, _ object) { part["base"] = -1 },
		"an unknown member":  func(_, part, _ object) { part["also"] = 1 },
		"a name with spaces": func(_, part, _ object) { part["role"] = "recovery  statement" },
	} {
		if _, err := open(change); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
	for name, change := range map[string]func(draft, part, signed object){
		"no tip":            func(_, _, signed object) { delete(signed, "tip") },
		"no root":           func(_, _, signed object) { delete(signed, "root") },
		"a tip as text":     func(_, _, signed object) { signed["tip"] = "v1" },
		"a hash of numbers": func(_, _, signed object) { signed["root"] = object{"version": 2, "sha256": 7} },
		"tip 0":             func(_, _, signed object) { signed["tip"].(object)["version"] = 0 },
		"tip -1":            func(_, _, signed object) { signed["tip"].(object)["version"] = -1 },
		"tip 9e15":          func(_, _, signed object) { signed["tip"].(object)["version"] = int64(9e15) },
		"only the statement": func(draft, _, _ object) {
			draft["files"] = []any{}
		},
		"no root in the draft": func(draft, _, _ object) {
			draft["files"] = slices.DeleteFunc(draft["files"].([]any), func(f any) bool { return f.(object)["role"] == "root" })
		},
		"another root":    func(_, _, signed object) { signed["root"].(object)["sha256"] = strings.Repeat("0", 64) },
		"another version": func(_, _, signed object) { signed["root"].(object)["version"] = 3 },
		"a later base":    func(_, part, signed object) { part["base"], signed["version"] = 2, 3 },
	} {
		d, err := open(change)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := r.Diff(t.Context(), d); err == nil {
			t.Errorf("%s: Diff reports no error", name)
		}
		if err := r.Export(t.Context(), d, t.TempDir()); errors.Is(err, errKilled) {
			t.Error(err)
		}
		for _, w := range []*world{w, stuck} {
			w.Refused(nil, func() error {
				if err := w.afterLoss().Publish(t.Context(), d); err == nil {
					t.Errorf("%s: published", name)
				}
				return nil
			})
		}
	}
	// The list of required signers is informative only; changing it has no effect.
	odd, err := open(func(_, part, _ object) {
		part["needs"] = []any{object{"who": "\x1b[2Jnobody", "keys": object{}, "threshold": -1, "orgs": object{"a": "b"}}}
		part["under"] = []any{"recovery statement"}
	})
	noErr(t, err)
	_ = odd.Missing()
	if err := odd.Merge(d); !errors.Is(err, repo.ErrOtherDraft) {
		t.Error(err)
	}
	if err := odd.AddSignature("recovery statement", w.Signer("bank-1").Key().ID(), nil); !errors.Is(err, repo.ErrNoPart) {
		t.Error(err)
	}
	if payload, err := odd.Payload("recovery statement"); !errors.Is(err, signing.ErrNoPin) || payload != nil {
		t.Errorf("%s, %v", payload, err)
	}
	// A reason that makes a statement too long is refused before signing.
	if _, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: strings.Repeat("x", tuf.MaxRecoveryStatement)}, w.lost); !errors.Is(err, tuf.ErrTooLarge) {
		t.Error(err)
	}
}
