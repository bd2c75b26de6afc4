package repo_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
)

// A snapshot lists the length and sha256 of the roles that the charter names, of
// targets and of products. It lists the length of hash bins, and their sha256 if the
// class requires it.
func TestSnapshotListsContents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pin()
	many := func(prefix string) func(tx *repo.Tx) error {
		return func(tx *repo.Tx) error {
			for i := range 600 {
				if err := tx.Add("vendor", fmt.Sprintf("%s%d", prefix, i), strings.NewReader(fmt.Sprint(i)), nil); err != nil {
					return err
				}
			}
			return nil
		}
	}
	w.update(func(tx *repo.Tx) error {
		c := w.class("rules")
		c.HashBins = true
		tx.Root().Classes = append(tx.Root().Classes, c)
		return nil
	})
	w.update(many("agent/f"))
	w.update(many("rules/"))
	w.update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.public("team")}})
	})
	meta, ts := w.listed()
	if ts["length"] == nil || ts["hashes"] == nil {
		t.Errorf("the timestamp lists %v", ts)
	}
	bins := 0
	for file, entry := range meta {
		bin := strings.Contains(file, ".b-")
		if bin {
			bins++
		}
		if entry["length"] == nil || (entry["hashes"] == nil) != (bin && strings.Contains(file, "agent")) {
			t.Errorf("%s: %v", file, entry)
		}
	}
	for _, file := range []string{"targets.json", "vendor-agent.json", "review-agent.json", "vendor-rules.json", "review-rules.json", "team.json"} {
		if meta[file] == nil {
			t.Errorf("%s is not listed", file)
		}
	}
	if bins < 8 {
		t.Fatalf("%d hash bins", bins)
	}

	// The snapshot was written by an earlier version of visum, without lengths: the next
	// one has them.
	old := w.copy()
	old.strip("snapshot")
	if meta, _ := old.listed(); meta["targets.json"]["length"] != nil {
		t.Fatal("nothing was stripped")
	}
	old.update(add("1"))
	if again, _ := old.listed(); len(again) != len(meta) || slices.ContainsFunc(slices.Collect(maps.Values(again)), func(e map[string]any) bool { return e["length"] == nil }) {
		t.Errorf("%v", again)
	}
	old.update(approve("1"))
	if got := old.product().state(); !strings.Contains(got, "agent/1") {
		t.Error(got)
	}
}

// listed is the content of the published snapshot, and the timestamp's entry for the
// snapshot.
func (w *world) listed() (meta map[string]map[string]any, snapshot map[string]any) {
	w.t.Helper()
	var doc struct {
		Signed struct {
			Meta map[string]map[string]any `json:"meta"`
		} `json:"signed"`
	}
	noErr(w.t, json.Unmarshal(w.store.files["metadata/timestamp.json"], &doc))
	snapshot = doc.Signed.Meta["snapshot.json"]
	doc.Signed.Meta = nil
	noErr(w.t, json.Unmarshal(w.store.files[fmt.Sprintf("metadata/%v.snapshot.json", snapshot["version"])], &doc))
	return doc.Signed.Meta, snapshot
}

// strip signs the published snapshot and timestamp again in the form that earlier
// versions of this package wrote.
func (w *world) strip(string) {
	w.t.Helper()
	sign := func(name, key string, change func(meta map[string]any)) {
		var doc map[string]any
		noErr(w.t, json.Unmarshal(w.store.files[name], &doc))
		signed := doc["signed"].(map[string]any)
		change(signed["meta"].(map[string]any))
		data, err := json.Marshal(signed)
		noErr(w.t, err)
		sig, err := w.signer(key).Sign(w.t.Context(), data) // sorted, and without escapes: canonical
		noErr(w.t, err)
		w.store.files[name], err = json.Marshal(map[string]any{"signed": json.RawMessage(data), "signatures": []any{map[string]string{"keyid": w.signer(key).Key().ID(), "sig": fmt.Sprintf("%x", sig)}}})
		noErr(w.t, err)
	}
	_, snap := w.listed()
	sign(fmt.Sprintf("metadata/%v.snapshot.json", snap["version"]), "snapshot", func(meta map[string]any) {
		for file, e := range meta {
			meta[file] = map[string]any{"version": e.(map[string]any)["version"]}
		}
	})
	sign("metadata/timestamp.json", "timestamp", func(meta map[string]any) {
		meta["snapshot.json"] = map[string]any{"version": snap["version"]}
	})
	w.ledger = newMemory() // the version before had none
	digest, err := repo.New(w.store, &repo.Config{Pin: w.pin(), Now: func() time.Time { return w.now }}).AdoptDigest(w.t.Context())
	noErr(w.t, err)
	cfg := w.config()
	cfg.Pin = w.pin()
	noErr(w.t, repo.New(w.store, cfg).Adopt(w.t.Context(), digest))
}

// Every role names its repository and itself.
func TestRolesAreBound(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.update(add("1"))
	w.update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.public("team")}})
	})
	n := 0
	for name, data := range w.store.files {
		var doc struct {
			Signed struct {
				Type string `json:"_type"`
				Repo string `json:"x-visum-repo"`
				Role string `json:"x-visum-role"`
			} `json:"signed"`
		}
		if !strings.HasPrefix(name, "metadata/") || json.Unmarshal(data, &doc) != nil || doc.Signed.Type != "targets" {
			continue
		}
		n++
		if doc.Signed.Repo != w.root().Charter().RepoID() || !strings.HasSuffix(name, "."+doc.Signed.Role+".json") {
			t.Errorf("%s names %q %q", name, doc.Signed.Repo, doc.Signed.Role)
		}
	}
	if n < 6 {
		t.Errorf("%d roles", n)
	}
}
