package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// countingSource counts the requests by the last element of the name.
type countingSource struct {
	storage.Source
	mu   sync.Mutex
	seen map[string]int
}

func counting(s storage.Storage) *countingSource {
	return &countingSource{Source: storage.SourceOf(s), seen: map[string]int{}}
}

func (c *countingSource) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	c.mu.Lock()
	c.seen[path.Base(name)]++
	c.mu.Unlock()
	return c.Source.Open(ctx, name)
}

// of counts the requests for files of a role.
func (c *countingSource) of(role string) (n int) {
	for name, times := range c.seen {
		if strings.HasSuffix(name, role+".json") {
			n += times
		}
	}
	return n
}

func auditOptions(w *world, sums ...string) *mirror.AuditOptions {
	return &mirror.AuditOptions{Options: mirror.Options{Now: func() time.Time { return w.Now }}, SHA256: sums}
}

func audited(t *testing.T, w *world, opt *mirror.AuditOptions, from ...mirror.Mirror) *mirror.AuditReport {
	t.Helper()
	if len(from) == 0 {
		from = []mirror.Mirror{{Source: storage.SourceOf(w.Store)}}
	}
	r, err := mirror.Audit(t.Context(), from, w.Pin(), opt)
	noErr(t, err)
	return r
}

// states are the entries as path and state.
func states(r *mirror.AuditReport) string {
	var out []string
	for _, e := range r.Entries {
		s := e.Path + " " + string(e.State)
		if e.Later != "" {
			s += " by " + e.Later
		}
		out = append(out, s)
	}
	return strings.Join(out, ", ")
}

func holdWorld(t *testing.T) *world {
	w := repotest.Empty(t)
	w.Update(func(tx *repo.Tx) error {
		if err := w.Define(tx); err != nil {
			return err
		}
		tx.Root().Classes[0].Hold = &repo.Hold{Role: "hold", Keys: repo.Keys{Keys: w.Public("hold")}, Max: 7 * 24 * time.Hour}
		return nil
	})
	w.Pin()
	return w
}

// Each state of a release.
func TestAuditStates(t *testing.T) {
	t.Parallel()
	w := holdWorld(t)
	expect := func(want string) *mirror.AuditReport {
		t.Helper()
		r := audited(t, w, auditOptions(w))
		if got := states(r); got != want {
			t.Fatalf("got %s\nwant %s", got, want)
		}
		return r
	}
	expect("")
	w.Update(add("1"))
	r := expect("agent/1 waiting")
	if e := r.Entries[0]; !errors.Is(e.Err, tuf.ErrNotApproved) || e.Release.Version != "1" || len(e.Signoffs) != 1 || e.Signoffs[0].Party != "vendor" || e.Length != 7 {
		t.Errorf("%+v", e)
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no source", Reviewer: "Ann"})
	})
	r = expect("agent/1 refused")
	if e := r.Entries[0]; !strings.Contains(e.Err.Error(), `refused by review on 2026-11-20T12:00:00Z: "no source"`) || len(e.Statements) != 1 || e.Statements[0].Refusal == nil {
		t.Errorf("%+v", e)
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reinstate: "it has one now"})
	})
	if r = expect("agent/1 offered"); len(r.Entries[0].Statements) != 2 || len(r.Entries[0].Signoffs) != 2 || r.Entries[0].Err != nil {
		t.Errorf("%+v", r.Entries[0])
	}
	w.Update(add("2"))
	expect("agent/1 offered, agent/2 waiting")
	w.Update(approve("2"))
	expect("agent/1 superseded by 2, agent/2 offered")
	w.Update(func(tx *repo.Tx) error {
		return tx.SetRollout("vendor", repo.ReleaseID{Product: "agent", Version: "2"}, "stable", 50)
	})
	expect("agent/1 offered, agent/2 waiting") // the parties disagree on the rollout
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/2", &repo.ReviewRecord{Unrecorded: true})
	})
	expect("agent/1 offered, agent/2 offered") // half of the machines are still offered 1
	w.Update(func(tx *repo.Tx) error { return tx.Hold("agent/2", "looks wrong", w.Now.Add(24*time.Hour)) })
	expect("agent/1 offered, agent/2 held")
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("vendor", "agent/1", repo.RecallRecord{Reason: "data loss"})
	})
	if r = expect("agent/1 recalled, agent/2 held"); !strings.Contains(r.Entries[0].Err.Error(), "data loss") || r.Entries[0].Recall == nil || r.Entries[0].Recall.Party != "vendor" || r.Entries[1].Recall != nil {
		t.Errorf("%+v", r.Entries)
	}
	// By bytes, and those that no role lists.
	r = audited(t, w, auditOptions(w, sum("agent 2"), sum("nothing")))
	if states(r) != "agent/2 held" || r.Root.Version() != 1 || r.Snapshot == nil || len(r.Roots) != 1 {
		t.Error(states(r))
	}
	// Targets without release data only if they are asked for.
	w.Update(func(tx *repo.Tx) error { return tx.Add("vendor", "agent/rules", strings.NewReader("rules"), nil) })
	expect("agent/1 recalled, agent/2 held")
	opt := auditOptions(w)
	opt.Files, opt.Prefix = true, "agent/r"
	if got := states(audited(t, w, opt)); got != "agent/rules waiting" {
		t.Error(got)
	}
}

// A statement of refusal counts also if all parties list the bytes.
func TestAuditRefusedAndListed(t *testing.T) {
	t.Parallel()
	w := holdWorld(t)
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no"}) })
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reinstate: "yes"})
	})
	maps.DeleteFunc(w.Store.Files, func(name string, _ []byte) bool { return strings.HasSuffix(name, "review-agent.2.json") })
	r := audited(t, w, auditOptions(w))
	if states(r) != "agent/1 refused" || !strings.Contains(r.Entries[0].Err.Error(), "clients are offered it all the same") {
		t.Error(states(r), r.Entries[0].Err)
	}
}

// A directory of any size takes the same number of reads of roots, timestamp and
// snapshot, and one for each role and decision.
func TestAuditReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pin := w.Pin()
	reads := func(n int) (head, roles int) {
		t.Helper()
		var sums []string
		for i := range n {
			sums = append(sums, sum(fmt.Sprintf("agent 1.%d", i)))
		}
		c := counting(w.Store)
		r, err := mirror.Audit(t.Context(), []mirror.Mirror{{Source: c}}, pin, auditOptions(w, sums...))
		noErr(t, err)
		if len(r.Entries) != n {
			t.Fatalf("%d entries, want %d", len(r.Entries), n)
		}
		return c.of(".root") + c.of("timestamp") + c.of(".snapshot"), c.of("-agent")
	}
	w.Update(func(tx *repo.Tx) error {
		for i := range 40 {
			version := fmt.Sprintf("1.%d", i)
			if err := errors.Join(add(version)(tx), approve(version)(tx)); err != nil {
				return err
			}
		}
		return nil
	})
	head, roles := reads(1)
	if h, _ := reads(40); h != head || head > 10 {
		t.Errorf("%d reads of roots, timestamp and snapshot for 40 files, %d for one", h, head)
	}
	if roles > 4+2 {
		t.Errorf("%d reads of roles and statements", roles)
	}
}

// The newest valid snapshot of several sources counts, and differences are reported.
func TestAuditSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pin := w.Pin()
	w.Update(add("1"))
	w.Update(approve("1"))
	old := w.Copy()
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "data loss"})
	})
	at := func(name string, w *world) mirror.Mirror {
		return mirror.Mirror{Name: name, Source: storage.SourceOf(w.Store)}
	}
	audit := func(from ...mirror.Mirror) (string, []string) {
		t.Helper()
		r, err := mirror.Audit(t.Context(), from, pin, auditOptions(w))
		noErr(t, err)
		var differ []string
		for _, x := range r.Answers {
			differ = append(differ, x.Differs)
		}
		return states(r), differ
	}
	wants := func(state string, differ []string, want ...string) {
		t.Helper()
		if state != "agent/1 recalled" {
			t.Errorf("state: %s", state)
		}
		for i, d := range differ {
			if (want[i] == "") != (d == "") || !strings.Contains(d, want[i]) {
				t.Errorf("source %d: %q, want %q", i+1, d, want[i])
			}
		}
	}
	got, differ := audit(at("a", w), at("b", w))
	wants(got, differ, "", "")
	got, differ = audit(at("a", old), at("b", w))
	wants(got, differ, "it has snapshot v3, another source has v4", "")

	// A source that can't be read, and one whose roles can't.
	broken := w.Copy()
	damage("metadata/2.vendor-agent.json")(broken)
	got, differ = audit(at("gone", &world{Store: newMemory()}), at("broken", broken), at("b", w))
	wants(got, differ, "no valid answer", "no valid answer", "")

	// The next root replaces the online keys: what the former keys signed is not valid.
	later := w.Copy()
	later.Update(func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = later.Public("timestamp-2"), later.Public("snapshot-2")
		return nil
	})
	got, differ = audit(at("a", w), at("b", later))
	wants(got, differ, "no valid answer", "")
	roots := mirror.Mirror{Name: "roots", Source: storage.SourceOf(later.Store), RootsOnly: true}
	if _, err := mirror.Audit(t.Context(), []mirror.Mirror{at("a", w), roots}, pin, auditOptions(w)); !errors.Is(err, tuf.ErrThreshold) {
		t.Errorf("content that is not signed under the newest root: %v", err)
	}
	got, differ = audit(at("b", later), mirror.Mirror{Name: "roots", Source: storage.SourceOf(w.Store), RootsOnly: true})
	wants(got, differ, "", "its newest root is v1, another source has v2")

	// Two snapshots of one version.
	fork := old.Copy()
	fork.Update(add("3"))
	r, err := mirror.Audit(t.Context(), []mirror.Mirror{at("a", w), at("b", fork)}, pin, auditOptions(w))
	noErr(t, err)
	if !r.Answers[0].Fork && !r.Answers[1].Fork {
		t.Error("the fork is not reported as one")
	}
	if _, differ = audit(at("a", w), at("b", fork)); !strings.Contains(differ[0]+differ[1], "ANOTHER snapshot v4") {
		t.Errorf("a fork: %q", differ)
	}
}

func TestAuditRefusals(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	pin := w.Pin()
	from := func(w *world) []mirror.Mirror { return []mirror.Mirror{{Source: storage.SourceOf(w.Store)}} }
	for name, x := range map[string]struct {
		hurt func(*world)
		want error
	}{
		"expired":           {func(w *world) { w.Now = w.Now.Add(48 * time.Hour) }, tuf.ErrExpired},
		"role changed":      {damage("metadata/2.review-agent.json"), tuf.ErrMismatch},
		"timestamp changed": {damage("metadata/timestamp.json"), tuf.ErrUntrusted},
		"publish not over":  {func(w *world) { w.Store.Files["metadata/3.root.json"] = nextRoot(w) }, storage.ErrConflict},
	} {
		w := w.Copy()
		x.hurt(w)
		if r, err := mirror.Audit(t.Context(), from(w), pin, auditOptions(w)); !errors.Is(err, x.want) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := mirror.Audit(t.Context(), nil, pin, nil); err == nil {
		t.Error("no source")
	}
	if _, err := mirror.Audit(t.Context(), from(w), []byte("{}"), nil); !errors.Is(err, tuf.ErrMalformed) {
		t.Error(err)
	}
	// Another snapshot is published between the two reads.
	next := w.Copy()
	next.Update(add("2"))
	c := &turning{Source: storage.SourceOf(w.Store), then: next.Store}
	if _, err := mirror.Audit(t.Context(), []mirror.Mirror{{Source: c}}, pin, auditOptions(w)); !errors.Is(err, storage.ErrConflict) {
		t.Error(err)
	}
}

// turning serves another storage after the first snapshot.
type turning struct {
	storage.Source
	then storage.Storage
}

func (s *turning) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	f, err := s.Source.Open(ctx, name)
	if strings.HasSuffix(name, "snapshot.json") {
		s.Source = storage.SourceOf(s.then)
	}
	return f, err
}

// A recovered root after the pin's is nothing to decide with, as for receipts.
func TestAuditRecovery(t *testing.T) {
	t.Parallel()
	w := repotest.Empty(t)
	w.Update(func(tx *repo.Tx) error {
		if err := w.Define(tx); err != nil {
			return err
		}
		tx.Root().Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.Public("bank")}, {Name: "university", Keys: w.Public("university")}}}
		return nil
	})
	w.Pin()
	d, err := w.Open().StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "lost"}, func(tx *repo.Tx) error {
		x := tx.Root()
		x.Parties[0].Keys = w.Public("vendor-3", "vendor-4")
		x.Timestamp.Keys, x.Snapshot.Keys, x.Targets.Keys = w.Public("timestamp-2"), w.Public("snapshot-2"), w.Public("targets-2")
		return nil
	})
	noErr(t, err)
	for _, s := range w.Keys {
		if err := d.Sign(t.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			t.Fatal(err)
		}
	}
	noErr(t, w.Open().Publish(t.Context(), d))
	w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	from := []mirror.Mirror{{Source: storage.SourceOf(w.Store)}}
	if _, err := mirror.Audit(t.Context(), from, w.Pin(), auditOptions(w)); !errors.Is(err, tuf.ErrWaiting) {
		t.Error(err)
	}
	opt := auditOptions(w)
	opt.RootsOnly = true
	r := audited(t, w, opt)
	if len(r.Roots) != 3 || r.Roots[0].Recovered || !r.Roots[1].Recovered || r.Roots[2].Recovered {
		t.Errorf("%+v", r.Roots)
	}
	later, err := w.Open().Pin(t.Context())
	noErr(t, err)
	if _, err = mirror.Audit(t.Context(), from, later, auditOptions(w)); err != nil {
		t.Error(err)
	}
}

// The roots alone.
func TestAuditRoots(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	opt := auditOptions(w)
	opt.RootsOnly = true
	files := maps.Clone(w.Store.Files)
	delete(w.Store.Files, "metadata/timestamp.json")
	r := audited(t, w, opt)
	w.Store.Files = files
	if len(r.Roots) != 2 || r.Roots[1].Version() != 2 || r.Roots[0].Recovered || r.Entries != nil || r.Root != nil {
		t.Errorf("%+v", r)
	}
	if metafile.SHA256(r.Roots[0].Bytes()) != metafile.SHA256(files["metadata/1.root.json"]) {
		t.Error("another root 1")
	}
}
