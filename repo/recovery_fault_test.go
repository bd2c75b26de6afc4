package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
)

// readHook is a storage that runs a function after a file was read.
type readHook struct {
	*memory
	after func(name string)
}

func (s *readHook) Read(ctx context.Context, name string) ([]byte, error) {
	data, err := s.memory.Read(ctx, name)
	s.after(name)
	return data, err
}

// A recovery is published while another process reads the repository, and another
// statement is published while a process checks for one.
func TestRecoveryWhileRead(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	d := w.stageRecovery(0, w.lost)
	w.Store.Before = func(name string) error { // root and statement are written, and no content yet
		if name == "metadata/timestamp.json" {
			return errKilled
		}
		return nil
	}
	if err := w.Open().Publish(t.Context(), d); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.Store.Before = nil
	other := w.Copy()
	other.Store = w.Store
	when, then := "metadata/timestamp.json", func() { other.publish(d) }
	w.Elsewhere = &readHook{w.Store, func(name string) {
		if name == when {
			when = ""
			then()
		}
	}}
	if _, err := w.Open().Stage(t.Context(), func(*repo.Tx) error { return nil }); err != nil || when != "" {
		t.Fatal(err)
	}
	one, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "one"})
	noErr(t, err)
	two, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "two"})
	noErr(t, err)
	when, then = statement1, func() { other.publish(two) }
	if err := w.Open().Publish(t.Context(), one); !errors.Is(err, repo.ErrConflict) || when != "" {
		t.Error(err)
	}
	if !bytes.Contains(w.Store.Files[statement1], []byte(`"two"`)) {
		t.Errorf("%s", w.Store.Files[statement1])
	}
}

// readFault is a storage in which one file can't be read from the n-th time on.
type readFault struct {
	*memory
	name string
	n    int
}

func (s *readFault) Read(ctx context.Context, name string) ([]byte, error) {
	if name == s.name {
		if s.n--; s.n <= 0 {
			return nil, errKilled
		}
	}
	return s.memory.Read(ctx, name)
}

func (s *readFault) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if _, err := s.Read(ctx, name); err != nil {
		return nil, err
	}
	return s.memory.Open(ctx, name)
}

// A file that can't be read is not treated as missing.
func TestRecoveryReadFaults(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first := w.Pin()
	d := w.stageRecovery(0, w.lost)
	before := w.Copy()
	w.publish(d)
	renewal, err := w.Open().RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "once more"})
	noErr(t, err)
	other := w.stageRecovery(1, w.successors("other"))
	for name, tt := range map[string]struct {
		w     *world
		files []string
		call  func(*repo.Repo, repo.Storage) error
	}{
		"Chain": {w, []string{"metadata/1.root.json", "metadata/2.root.json", statement1, recovered2, "metadata/timestamp.json"}, func(r *repo.Repo, _ repo.Storage) error { _, err := r.Chain(t.Context()); return err }},
		"Stage": {w, []string{statement1, recovered2, "metadata/timestamp.json"}, func(r *repo.Repo, _ repo.Storage) error {
			_, err := r.Stage(t.Context(), func(*repo.Tx) error { return nil })
			return err
		}},
		"RenewRecovery": {w, []string{statement1, recovered2}, func(r *repo.Repo, _ repo.Storage) error {
			_, err := r.RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "x"})
			return err
		}},
		"Diff":          {w, []string{statement1, recovered2}, func(r *repo.Repo, _ repo.Storage) error { _, err := r.Diff(t.Context(), renewal); return err }},
		"a renewal":     {w, []string{statement1, recovered2}, func(r *repo.Repo, _ repo.Storage) error { return r.Publish(t.Context(), renewal) }},
		"a replacement": {w, []string{statement1, recovered2}, func(r *repo.Repo, _ repo.Storage) error { return r.Publish(t.Context(), other) }},
		"a recovery":    {before, []string{statement1, "metadata/2.root.json"}, func(r *repo.Repo, _ repo.Storage) error { return r.Publish(t.Context(), d) }},
		"onto a mirror": {w, []string{statement1, recovered2, "metadata/2.root.json", "metadata/3.root.json"}, func(_ *repo.Repo, s repo.Storage) error {
			return mirror.Clone(t.Context(), s, storage.SourceOf(w.Store), first, nil)
		}},
		"from a mirror": {w, []string{statement1, recovered2}, func(_ *repo.Repo, s repo.Storage) error {
			return mirror.Clone(t.Context(), newMemory(), storage.SourceOf(s), first, nil)
		}},
		"back to before": {w, []string{statement1, recovered2}, func(_ *repo.Repo, s repo.Storage) error {
			return mirror.Clone(t.Context(), s, storage.SourceOf(before.Store), first, nil)
		}},
	} {
		for _, file := range tt.files {
			for n, more := 1, true; more; n++ {
				c := tt.w.Copy()
				fault := &readFault{c.Store, file, n}
				c.Elsewhere = fault
				err := tt.call(c.Open(), fault)
				if more = fault.n <= 0; more && !errors.Is(err, errKilled) {
					t.Errorf("%s, %s can't be read the %d. time: %v", name, file, n, err)
				}
				if n == 1 && !more {
					t.Errorf("%s does not read %s", name, file)
				}
			}
		}
	}
}

// A mirror of a recovered repository, read over HTTP, serves readers, verifiers and
// other mirrors.
func TestRecoveryOverHTTP(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	first := w.Pin()
	w.recover()
	w.publish(w.stageRecovery(0, w.successors("other")))
	server := httptest.NewServer(mirror.Handler(w.Store))
	defer server.Close()
	place := client.HTTPSource(server.URL+"/metadata/", server.URL+"/targets/")
	cfg := w.Config()
	chain, err := repo.New(storage.ReadOnly(place), cfg).Chain(t.Context())
	if err != nil || len(chain) != 3 {
		t.Errorf("%d roots, %v", len(chain), err)
	}
	copied := newMemory()
	noErr(t, mirror.Clone(t.Context(), copied, place, first, options(cfg)))
	report, err := mirror.Verify(t.Context(), copied, first, options(cfg), mirror.Mirror{Source: place})
	if noErr(t, err); report.Err() != nil || report.Root != 3 {
		t.Error(report)
	}
}

// The old online keys still exist: with dual signing, clients of the old root have
// content at every moment of a recovery, wherever it is killed, and after it.
func TestRecoveryBridged(t *testing.T) {
	t.Parallel()
	start := recoverable(t)
	bridged := func(w *world) *repo.Repo {
		cfg := w.Config()
		cfg.DualSigning = &signing.DualSigning{Root: start.Root()}
		for _, n := range slices.Concat(successorKeys, reviewKeys) {
			cfg.Signers = append(cfg.Signers, w.Signer(n))
		}
		for _, n := range []string{"vendor-release", "targets", "timestamp", "snapshot"} {
			cfg.DualSigning.Signers = append(cfg.DualSigning.Signers, w.Signer(n))
		}
		return repo.New(w.Store, cfg)
	}
	d, err := bridged(start).StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, start.lost)
	noErr(t, err)
	start.signs(d, "bank-1", "university")
	for n, more := 1, true; more; n++ {
		for _, after := range []bool{false, true} {
			w := start.Copy()
			killed := w.Store.Kill(n, after)
			err := bridged(w).Publish(t.Context(), d)
			if !killed() {
				noErr(t, err)
				more = false
			} else {
				w.Sees("root 1 agent/1")
				noErr(t, bridged(w).Publish(t.Context(), d))
			}
			w.Sees("root 1 agent/1")
			if got := w.Product().Waits().State(); got != "root 2 agent/1" {
				t.Fatalf("killed at %d: a client that has waited sees %q", n, got)
			}
			w.Intact()
			w.Now = w.Now.Add(time.Hour)
			noErr(t, bridged(w).Renew(t.Context()))
			w.Sees("root 1 agent/1")
		}
	}
}

// Export omits only malformed files under the names of a recovery.
func TestExportOfUnfinished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, err := w.Open().Stage(t.Context(), add("1"))
	noErr(t, err)
	w.Store.Before = func(name string) error {
		if name == "metadata/timestamp.json" {
			return errKilled
		}
		return nil
	}
	if err := w.Try(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("new-1"), w.Public("new-2"), w.Public("new-3")
		return nil
	}); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.Store.Before = nil
	w.Store.Files[statement1] = []byte("x")
	if err := w.Open().Export(t.Context(), d, t.TempDir()); !errors.Is(err, repo.ErrConflict) {
		t.Error(err)
	}
}

// The draft asks for one key of each organisation, without naming a particular key.
func TestRecoveryAsksForKeys(t *testing.T) {
	t.Parallel()
	w := recoverable(t)
	d, err := w.afterLoss().StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "the vendor is gone"}, w.lost)
	noErr(t, err)
	id := func(names ...string) (ids []string) {
		for _, n := range names {
			ids = append(ids, w.Signer(n).Key().ID())
		}
		slices.Sort(ids)
		return ids
	}
	asks := func(keys, orgs []string) {
		t.Helper()
		got := map[string][]string{}
		for _, m := range d.Missing() {
			got[m.Who] = m.KeyIDs
		}
		if !slices.Equal(got["the recovery keys"], keys) || !slices.Equal(got["the recovery organisations"], orgs) {
			t.Errorf("the draft asks for %q", got)
		}
	}
	asks(id("bank-1", "bank-2", "university"), id("bank-1", "bank-2", "university"))
	w.signs(d, "bank-1")
	asks(id("bank-2", "university"), id("university"))
	w.signs(d, "bank-2")
	asks(nil, id("university"))
}
