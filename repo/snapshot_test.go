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
	w.Pin()
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
	w.Update(func(tx *repo.Tx) error {
		c := w.Class("rules")
		c.HashBins = true
		tx.Root().Classes = append(tx.Root().Classes, c)
		return nil
	})
	w.Update(many("agent/f"))
	w.Update(many("rules/"))
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.Public("team")}})
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
	old := w.Copy()
	old.strip("snapshot")
	if meta, _ := old.listed(); meta["targets.json"]["length"] != nil {
		t.Fatal("nothing was stripped")
	}
	old.Update(add("1"))
	if again, _ := old.listed(); len(again) != len(meta) || slices.ContainsFunc(slices.Collect(maps.Values(again)), func(e map[string]any) bool { return e["length"] == nil }) {
		t.Errorf("%v", again)
	}
	old.Update(approve("1"))
	if got := old.Product().State(); !strings.Contains(got, "agent/1") {
		t.Error(got)
	}
}

// listed is the content of the published snapshot, and the timestamp's entry for the
// snapshot.
func (w *world) listed() (meta map[string]map[string]any, snapshot map[string]any) {
	w.T.Helper()
	var doc struct {
		Signed struct {
			Meta map[string]map[string]any `json:"meta"`
		} `json:"signed"`
	}
	noErr(w.T, json.Unmarshal(w.Store.Files["metadata/timestamp.json"], &doc))
	snapshot = doc.Signed.Meta["snapshot.json"]
	doc.Signed.Meta = nil
	noErr(w.T, json.Unmarshal(w.Store.Files[fmt.Sprintf("metadata/%v.snapshot.json", snapshot["version"])], &doc))
	return doc.Signed.Meta, snapshot
}

// strip signs the published snapshot and timestamp again in the form that earlier
// versions of this package wrote.
func (w *world) strip(string) {
	w.T.Helper()
	sign := func(name, key string, change func(meta map[string]any)) {
		var doc map[string]any
		noErr(w.T, json.Unmarshal(w.Store.Files[name], &doc))
		signed := doc["signed"].(map[string]any)
		change(signed["meta"].(map[string]any))
		data, err := json.Marshal(signed)
		noErr(w.T, err)
		sig, err := w.Signer(key).Sign(w.T.Context(), data) // sorted, and without escapes: canonical
		noErr(w.T, err)
		w.Store.Files[name], err = json.Marshal(map[string]any{"signed": json.RawMessage(data), "signatures": []any{map[string]string{"keyid": w.Signer(key).Key().ID(), "sig": fmt.Sprintf("%x", sig)}}})
		noErr(w.T, err)
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
	w.Ledger = newMemory() // the version before had none
	digest, err := repo.New(w.Store, &repo.Config{Pin: w.Pin(), Now: func() time.Time { return w.Now }}).AdoptDigest(w.T.Context())
	noErr(w.T, err)
	cfg := w.Config()
	cfg.Pin = w.Pin()
	noErr(w.T, repo.New(w.Store, cfg).Adopt(w.T.Context(), digest))
}

// Every role names its repository and itself.
func TestRolesAreBound(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: w.Public("team")}})
	})
	n := 0
	for name, data := range w.Store.Files {
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
		if doc.Signed.Repo != w.Root().Charter().RepoID() || !strings.HasSuffix(name, "."+doc.Signed.Role+".json") {
			t.Errorf("%s names %q %q", name, doc.Signed.Repo, doc.Signed.Role)
		}
	}
	if n < 6 {
		t.Errorf("%d roles", n)
	}
}
