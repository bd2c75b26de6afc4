package client_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// newSingle is a standard TUF repository without consistent snapshots.
func newSingle(t *testing.T) *plain {
	p := newPlain(t)
	p.repo.Files = map[string][]byte{}
	p.repo.Root["consistent_snapshot"] = false
	p.repo.AddTarget("bin/x."+baseOfPath, "the agent", nil, "lib")
	rawtuf.At(p.repo.Roles["targets"], "delegations", "roles", 0)["paths"] = []any{"lib/*", "bin/*"}
	p.repo.PublishRoot()
	p.repo.Publish()
	p.pin = p.repo.Files["1.root.json"]
	return p
}

// The file names of TUF 5.5.1, 5.6.1 and 5.7.3 if root does not set
// consistent_snapshot; nothing is requested twice, and changed files are requested.
func TestPlainWithoutConsistentSnapshots(t *testing.T) {
	p := newSingle(t)
	c := p.client()
	p.refresh(c, nil, "2.root", "timestamp", "snapshot", "targets")
	p.refresh(p.client(), nil, "2.root", "timestamp")
	p.repo.Bump("lib")
	p.repo.Publish()
	view := p.refresh(p.client(), nil, "2.root", "timestamp", "snapshot")
	p.asked = nil
	var a tuf.Approved
	for range 2 {
		var err error
		if a, err = view.Find(t.Context(), "bin/x."+baseOfPath); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(t.Context(), a, p.dir+"/agent"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"metadata/lib.json", "targets/bin/x." + baseOfPath}; !slices.Equal(p.asked, want) {
		t.Errorf("asked for %q, want %q", p.asked, want)
	}
	if data, err := os.ReadFile(p.dir + "/agent"); err != nil || string(data) != "the agent" {
		t.Errorf("%q, %v", data, err)
	}
	// An older state is detected, whatever its files are called.
	old := p.repo.Clone()
	p.repo.Bump("targets")
	p.repo.Publish()
	p.refresh(c, nil, "2.root", "timestamp", "snapshot", "targets")
	now := p.repo
	p.repo = old
	view = p.refresh(c, client.ErrNoContent, "2.root", "timestamp")
	if !errors.Is(view.Err(), tuf.ErrRollback) || len(view.Evidence()) > 0 { // a mirror that lags, not an attack
		t.Errorf("%v, evidence %q", view.Err(), view.Evidence())
	}
	p.repo = now
	// The newest root determines the names of content files.
	p.repo.NextRoot(func() { p.repo.Root["consistent_snapshot"] = true })
	p.repo.Bump("targets")
	p.repo.Publish()
	p.refresh(c, nil, "2.root", "3.root", "timestamp", "8.snapshot", "7.targets")
}

// A refresh during a publish sees files of two states. It fails, without evidence, and
// the next one succeeds.
func TestPlainDuringPublish(t *testing.T) {
	p := newSingle(t)
	c := p.client()
	p.refresh(c, nil, "2.root", "timestamp", "snapshot", "targets")
	p.repo.Bump("targets")
	p.repo.Publish()
	whole := p.repo.Clone()
	p.repo.Bump("targets")
	p.repo.Publish()
	for _, name := range []string{"timestamp.json", "snapshot.json"} {
		last := p.repo.Files[name]
		p.repo.Files[name] = whole.Files[name] // not written yet
		view, err := refreshed(t, c)
		if !errors.Is(err, client.ErrNoContent) || !errors.Is(err, tuf.ErrMismatch) || len(view.Evidence()) > 0 {
			t.Fatalf("%v, evidence %q", err, view.Evidence())
		}
		p.repo.Files[name] = last
	}
	if _, err := c.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A pin without consistent snapshots, and such a root in the middle of the chain.
func TestPlainRootsBeforeConsistentSnapshots(t *testing.T) {
	p := newSingle(t)
	for _, says := range []bool{true, false, true} {
		p.repo.NextRoot(func() { p.repo.Root["consistent_snapshot"] = says })
	}
	p.repo.Publish()
	p.refresh(p.client(), nil, "2.root", "3.root", "4.root", "5.root", "timestamp", "5.snapshot", "5.targets")
}

// A root that names the timestamp's key by another id does not invalidate kept files.
func TestPlainKeyUnderAnotherID(t *testing.T) {
	p := newPlain(t)
	c := p.client()
	old := p.repo.Clone()
	p.repo.Bump("targets")
	p.repo.Publish()
	p.refresh(c, nil, "2.root", "timestamp", "6.snapshot", "6.targets")
	id, key := p.repo.KeyDoc("timestamp")
	p.repo.NextRoot(func() {
		delete(rawtuf.At(p.repo.Root, "keys"), id)
		rawtuf.At(p.repo.Root, "keys")["other"] = key
		rawtuf.At(p.repo.Root, "roles", "timestamp")["keyids"] = []any{"other"}
	})
	renamed := func(data []byte) []byte { return bytes.ReplaceAll(data, []byte(id), []byte("other")) }
	p.repo.Bump("targets")
	p.repo.Publish()
	p.repo.Files["timestamp.json"] = renamed(p.repo.Files["timestamp.json"])
	view := p.refresh(c, nil, "2.root", "3.root", "timestamp", "7.snapshot", "7.targets")
	if len(view.Evidence()) > 0 {
		reason, _ := os.ReadFile(strings.TrimSuffix(view.Evidence()[0], ".json") + ".reason.json")
		t.Errorf("evidence %q: %s", view.Evidence(), reason)
	}
	// And old files stay old.
	now := p.repo.Files["timestamp.json"]
	p.repo.Files["timestamp.json"] = renamed(old.Files["timestamp.json"])
	p.refresh(c, tuf.ErrRollback, "3.root", "timestamp")
	p.repo.Files["timestamp.json"] = now
	p.refresh(c, nil, "3.root", "timestamp")
}
