package client_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// files lists the files below a directory, sorted.
func files(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// damages are the kinds of damage to a file of the state, by a crash, a bad disk or an
// attacker.
var damages = map[string]func(t *testing.T, file string, was []byte){
	"absent":    func(t *testing.T, file string, was []byte) {},
	"empty":     func(t *testing.T, file string, was []byte) { mustWrite(t, file, nil) },
	"truncated": func(t *testing.T, file string, was []byte) { mustWrite(t, file, was[:len(was)/2]) },
	"zeros":     func(t *testing.T, file string, was []byte) { mustWrite(t, file, make([]byte, len(was))) },
	"garbage":   func(t *testing.T, file string, was []byte) { mustWrite(t, file, []byte("\xff{]garbage")) },
	"flipped": func(t *testing.T, file string, was []byte) {
		bad := bytes.Clone(was)
		bad[len(bad)/2] ^= 1
		mustWrite(t, file, bad)
	},
	"grown": func(t *testing.T, file string, was []byte) {
		mustWrite(t, file, was)
		if err := os.Truncate(file, 65<<20); err != nil {
			t.Fatal(err)
		}
	},
	"folder": func(t *testing.T, file string, was []byte) {
		if err := os.MkdirAll(filepath.Join(file, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
	},
	"link": func(t *testing.T, file string, was []byte) {
		if err := os.Symlink(filepath.Join(filepath.Dir(file), "nowhere"), file); err != nil {
			t.Skip(err)
		}
	},
}

// Each file of the state is damaged in each way. The client recovers, and no rollback
// is possible: neither to older content nor to an older root.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	old := w.repo.Clone()
	w.repo.NextRoot(nothing)
	rootless := w.repo.Clone() // the newest root with old content
	renew(w.repo)
	w.good(w.client(), 2)
	renew(w.repo)
	w.good(w.client(), 2)
	healthy := t.TempDir()
	if err := os.CopyFS(healthy, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	names := files(t, w.state())
	if len(names) < 9 { // lock, two state files, a root, two floors, three roles
		t.Fatalf("only %q", names)
	}
	hosts := []string{vendorHost, cdnHost, reviewHost}
	for _, name := range names {
		for how, damage := range damages {
			t.Run(name+" "+how, func(t *testing.T) {
				w.t, w.dir = t, quickDir(t)
				if err := os.CopyFS(w.dir, os.DirFS(healthy)); err != nil {
					t.Fatal(err)
				}
				file := w.state(filepath.FromSlash(name))
				was, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if len(was) == 0 && (how == "truncated" || how == "zeros" || how == "flipped") {
					return // the lock is empty
				}
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
				damage(t, file, was)
				w.shows(rootless, hosts...)
				view := w.bad(w.client(), client.ErrNoContent)
				if !errors.Is(view.Err, tuf.ErrRollback) {
					t.Fatalf("old content is refused for %v", view.Err)
				}
				w.shows(old, hosts...)
				_, err = w.client().Refresh(t.Context())
				if err == nil || !errors.Is(err, client.ErrRootRollback) && !errors.Is(err, tuf.ErrRollback) {
					t.Fatalf("the old root: %v", err)
				}
				w.shows(nil, hosts...)
				w.good(w.client(), 2)
				w.asked("")
				w.good(w.client(), 2)
				if got := w.asked(vendorHost); len(got) != 2 {
					t.Errorf("not repaired on disk, asked %q", got)
				}
			})
		}
	}
}

// One flipped bit can change a version: the checksum detects it. And a lost copy is
// written again before it is needed.
func TestStateFilesHealEachOther(t *testing.T) {
	w := newWeb(t)
	old := w.repo.Clone()
	w.repo.NextRoot(nothing)
	renew(w.repo)
	w.good(w.client(), 2)
	was, err := os.ReadFile(w.state("state.json"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Replace(was, []byte(`"root":2`), []byte(`"root":3`), 1)
	if bytes.Equal(flipped, was) {
		t.Fatal("no root in the state")
	}
	for _, name := range []string{"state.json", "state.bak", "state.json"} {
		mustWrite(t, w.state(name), flipped)
		w.good(w.client(), 2)
		got, err := os.ReadFile(w.state(name))
		other, otherErr := os.ReadFile(w.state(map[string]string{"state.json": "state.bak", "state.bak": "state.json"}[name]))
		if err != nil || otherErr != nil || !bytes.Equal(got, other) || !bytes.Contains(got, []byte(`"root":2,`)) {
			t.Errorf("%s is %q, %v; the other is %q, %v", name, got, err, other, otherErr)
		}
	}
	if err := os.RemoveAll(w.state("roots")); err != nil {
		t.Fatal(err)
	}
	w.repo = old
	w.bad(w.client(), client.ErrRootRollback)
}

// Without both floor files the numbers in the state hold, as long as the keys are the
// same.
func TestFloorsWithoutFiles(t *testing.T) {
	w := newWeb(t)
	old := w.repo.Clone()
	renew(w.repo)
	w.good(w.client(), 1)
	for _, name := range []string{"timestamp.json", "snapshot.json"} {
		if err := os.Remove(w.state(name)); err != nil {
			t.Fatal(err)
		}
	}
	w.shows(old, vendorHost, cdnHost, reviewHost)
	if view := w.bad(w.client(), client.ErrNoContent); !errors.Is(view.Err, tuf.ErrRollback) || !strings.Contains(view.Err.Error(), "timestamp v5: rollback: trusted v6") {
		t.Fatal(view.Err)
	}
	// A new timestamp that lists an old snapshot.
	old.Roles["timestamp"]["version"] = 7
	old.PublishTimestamp()
	if view := w.bad(w.client(), client.ErrNoContent); !strings.Contains(view.Err.Error(), "lists snapshot v5, trusted v6") {
		t.Fatal(view.Err)
	}
	// A new epoch starts again, but not for the release roles.
	w.shows(nil, vendorHost, cdnHost, reviewHost)
	epoch := func(r *rawtuf.Repo, version int) {
		r.NextRoot(func() {
			r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
			r.AddKeys(r.Root, "ts2", "sn2")
			roles := r.Root["roles"].(rawtuf.Doc)
			roles["timestamp"], roles["snapshot"] = r.Role(1, "ts2"), r.Role(1, "sn2")
			r.Charter()["epoch"] = 2
		})
		r.Roles["timestamp"]["version"], r.Roles["snapshot"]["version"] = version, version
		r.Publish()
	}
	epoch(old, 1)
	good := w.repo.Clone()
	epoch(good, 2)
	w.repo = old
	if view := w.bad(w.client(), client.ErrNoContent); !strings.Contains(view.Err.Error(), "lists vendor-agent v5, trusted v6") {
		t.Fatal(view.Err)
	}
	w.repo = good
	w.good(w.client(), 2)
}

// A hold is a release role too: an older one does not return in a new epoch.
func TestHoldHasAFloor(t *testing.T) {
	w := newWeb(t)
	old := w.repo.Clone()
	w.repo.Bump("hold")
	w.repo.Roles["hold"]["targets"] = rawtuf.Doc{rawtuf.Path: rawtuf.Doc{"length": 1, "hashes": rawtuf.FileOf(nil)["hashes"],
		"custom": rawtuf.Doc{"visum": rawtuf.Doc{"reason": "broken", "until": rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, 3))}}}}
	w.repo.Publish()
	c := w.client()
	view, err := refreshed(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := view.Find(t.Context(), rawtuf.Path); !errors.Is(err, tuf.ErrHeld) {
		t.Fatal(err)
	}
	old.NextRoot(func() {
		old.Signers["timestamp"], old.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
		old.AddKeys(old.Root, "ts2", "sn2")
		roles := old.Root["roles"].(rawtuf.Doc)
		roles["timestamp"], roles["snapshot"] = old.Role(1, "ts2"), old.Role(1, "sn2")
		old.Charter()["epoch"] = 2
	})
	old.Publish()
	w.repo = old
	w.bad(c, tuf.ErrRollback)
}

// A location returns to an older state.
func TestRollbackByALocation(t *testing.T) {
	w := newWeb(t)
	old := w.repo.Clone()
	renew(w.repo)
	c := w.client()
	w.good(c, 1)
	w.shows(old, vendorHost)
	if view := w.good(c, 1); view.Location() != "cdn" || len(view.Evidence()) != 0 {
		t.Errorf("served by %s, evidence %q", view.Location(), view.Evidence())
	}
	w.shows(old, cdnHost)
	if view := w.bad(c, tuf.ErrRollback); len(view.Evidence) != 0 { // a mirror that lags is not an attack
		t.Errorf("evidence %q", view.Evidence)
	}
	// The newest timestamp with the previous snapshot.
	w.shows(nil, vendorHost, cdnHost)
	w.does(body("6.snapshot.json", old.Files["5.snapshot.json"]), vendorHost, cdnHost)
	w.good(c, 1) // which is on disk
	if err := os.Remove(w.state("snapshot.json")); err != nil {
		t.Fatal(err)
	}
	w.bad(c, tuf.ErrMismatch)
	w.does(nil, vendorHost, cdnHost)
	w.good(c, 1)
	// A role without releases is rolled back in a new snapshot.
	w.repo.Roles["targets"]["version"] = 5
	w.repo.Bump()
	w.repo.Publish()
	if view := w.bad(c, tuf.ErrRollback); !strings.Contains(view.Err.Error(), "lists targets.json v5, trusted v6") || len(view.Evidence) == 0 {
		t.Error(view.Err, view.Evidence)
	}
}

// After weeks in which a mirror lags now and then, and clients know the next version
// already, there is still room for the evidence of a forged root.
func TestForgedRootAfterWeeksOfLag(t *testing.T) {
	w := newWeb(t)
	c := w.client()
	old := w.repo.Clone()
	for range 40 {
		w.now = w.now.Add(2 * time.Hour)
		w.does(nil, cdnHost)
		w.shows(nil, vendorHost)
		w.repo.Bump()
		w.repo.Publish()
		w.good(c, 1)
		w.shows(old, vendorHost)
		w.does(unreachable, cdnHost)
		if view := w.bad(c, tuf.ErrRollback); len(view.Evidence) > 0 {
			t.Fatalf("evidence %q", view.Evidence)
		}
		old = w.repo.Clone()
	}
	forged := w.repo.Clone()
	forged.Root["version"] = 2
	w.shows(nil, vendorHost)
	w.now = w.now.Add(2 * time.Hour)
	w.does(body("2.root.json", forged.Sign(forged.Root, "attacker")), vendorHost, cdnHost, reviewHost)
	view, _ := refreshed(t, w.client())
	if len(view.Evidence()) == 0 {
		t.Errorf("evidence %q", view.Evidence())
	}
}

// An unknown type of key is not an attack: the error names the type, and no evidence is
// kept.
func TestUnknownKindOfKeyIsNoEvidence(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	w.repo.NextRoot(func() {
		rawtuf.At(w.repo.Root, "keys")["new"] = rawtuf.Doc{"keytype": "ml-dsa", "scheme": "ml-dsa-44/1", "keyval": rawtuf.Doc{"public": "x"}}
		roles := w.repo.Root["roles"].(rawtuf.Doc)
		w.repo.AddKeys(w.repo.Root, "sn2")
		roles["timestamp"], roles["snapshot"] = rawtuf.Doc{"keyids": []any{"new"}, "threshold": 1}, w.repo.Role(1, "sn2")
		w.repo.Signers["snapshot"] = []string{"sn2"}
		w.repo.Charter()["epoch"] = 2
	})
	w.repo.Publish()
	env := rawtuf.Doc{"signed": w.repo.Roles["timestamp"], "signatures": []any{rawtuf.Doc{"keyid": "new", "sig": "00"}}}
	w.does(body("timestamp.json", rawtuf.Marshal(env)), vendorHost, cdnHost)
	view := w.bad(w.client(), tuf.ErrUnknownKey)
	if view.Root.Version() != 2 || len(view.Evidence) > 0 || !strings.Contains(view.Err.Error(), `kind "ml-dsa"`) {
		t.Errorf("root v%d, evidence %q, %v", view.Root.Version(), view.Evidence, view.Err)
	}
}
