package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// Each file is requested once, in the specification's order, and existing files are
// not requested.
func TestRequests(t *testing.T) {
	w := newWorld(t)
	w.refresh(0, "2.root", "timestamp", "6.snapshot", "5.targets")
	w.trusts(at(1, 6, 6, 5))
	w.refresh(0, "2.root", "timestamp")
	w.publish()
	w.refresh(0, "2.root", "timestamp", "7.snapshot")
	w.publish("targets")
	w.refresh(0, "2.root", "timestamp", "8.snapshot", "6.targets")
	w.repo.Bump("targets")
	w.repo.PublishRole("targets") // not listed by any snapshot
	w.refresh(0, "2.root", "timestamp")
	w.repo.NextRoot(func() {})
	w.repo.NextRoot(func() {})
	w.refresh(0, "2.root", "3.root", "4.root", "timestamp")
	w.trusts(at(3, 8, 8, 6))
}

// The directory has the received files, byte for byte, and no other visible file.
func TestStoredAsReceived(t *testing.T) {
	w := newWorld(t)
	w.repo.NextRoot(func() {})
	served := map[string]string{"root": "2.root.json", "timestamp": "timestamp.json", "snapshot": "6.snapshot.json", "targets": "5.targets.json"}
	for _, file := range served {
		var indented bytes.Buffer
		if err := json.Indent(&indented, w.repo.Files[file], " ", "\t"); err != nil {
			t.Fatal(err)
		}
		w.serveFile(file, append(indented.Bytes(), " \n"...))
	}
	w.refresh(0, "2.root", "3.root", "timestamp", "6.snapshot", "5.targets")
	w.trusts(at(2, 6, 6, 5))
	for role, file := range served {
		if got := w.read(filepath.Join(w.md, role+".json")); !bytes.Equal(got, w.repo.Files[file]) {
			t.Errorf("%s was changed: %q", role, got)
		}
	}
}

// A refresh stores the files that passed before the first failure, and none after it.
func TestFailureInBetween(t *testing.T) {
	roles := []string{"root", "timestamp", "snapshot", "targets"}
	trusted := []map[string]int{at(1, 0, 0, 0), at(2, 0, 0, 0), at(2, 7, 0, 0), at(2, 7, 7, 0)}
	for name, breaks := range map[string]func(w *world, role string){
		"unsigned": func(w *world, role string) { w.repo.Signers[role] = nil },
		"signed by another role": func(w *world, role string) {
			w.repo.Signers[role] = []string{"lib"}
		},
		"version beyond its name": nil, "hung up on": nil, "absent": nil, "no JSON": nil,
	} {
		for i, role := range roles {
			// A timestamp has no version in its name. Without a next root the refresh succeeds,
			// and a closed connection there is treated like a missing root.
			if name == "version beyond its name" && role == "timestamp" || name == "absent" && role == "root" || name == "hung up on" && role == "root" {
				continue
			}
			t.Run(name+"/"+role, func(t *testing.T) {
				w := newWorld(t)
				if breaks != nil {
					breaks(w, role)
				}
				w.repo.NextRoot(func() {})
				w.publish("targets")
				file := map[string]string{"root": "2.root.json", "timestamp": "timestamp.json", "snapshot": "7.snapshot.json", "targets": "6.targets.json"}[role]
				switch name {
				case "absent":
					w.serveFile(file, nil)
				case "hung up on":
					w.hangUp = file
				case "no JSON":
					w.serveFile(file, []byte("<html>"))
				case "version beyond its name":
					d := w.repo.Root
					if role != "root" {
						d = w.repo.Roles[role]
					}
					d["version"] = 99
					w.serveFile(file, w.repo.Sign(d, w.repo.Signers[role]...))
				}
				requests := []string{"2.root", "3.root", "timestamp", "7.snapshot", "6.targets"}[:i+2]
				if i == 0 {
					requests = requests[:1]
				}
				w.refresh(1, requests...)
				w.trusts(trusted[i])
			})
		}
	}
}

// A timestamp of the trusted version brings no change, whatever its content.
func TestSameVersionOtherContent(t *testing.T) {
	w := newWorld(t)
	w.refresh(0, "2.root", "timestamp", "6.snapshot", "5.targets")
	before := w.read(filepath.Join(w.md, "timestamp.json"))
	rawtuf.At(w.repo.Roles["timestamp"], "meta", "snapshot.json")["version"] = 100
	w.repo.PublishTimestamp()
	w.refresh(0, "2.root", "timestamp")
	if got := w.read(filepath.Join(w.md, "timestamp.json")); !bytes.Equal(got, before) {
		t.Errorf("timestamp became %s", got)
	}
}

// Lengths and hashes of metadata are optional, and are enforced if present.
func TestHashesOfMetadata(t *testing.T) {
	for _, what := range []string{"sha256", "sha512", "length"} {
		t.Run(what, func(t *testing.T) {
			w := newWorld(t)
			w.hashes = true
			w.publish("targets")
			w.refresh(0, "2.root", "timestamp", "7.snapshot", "6.targets")
			w.publish("targets")
			listed := rawtuf.At(w.repo.Roles["snapshot"], "meta", "targets.json")
			switch what {
			case "sha256":
				rawtuf.At(listed, "hashes")["sha256"] = "46419349341cfb2d95f6ae3d4cd5c3d3dd7f4673985dad42a45130be5e0531a0"
			case "sha512":
				listed["hashes"] = doc{"sha512": rawtuf.FileOf(nil)["hashes"].(doc)["sha256"].(string) + rawtuf.FileOf(nil)["hashes"].(doc)["sha256"].(string)}
			case "length":
				listed["length"] = listed["length"].(int) - 1
			}
			w.repo.PublishSnapshot()
			w.refresh(1, "2.root", "timestamp", "8.snapshot", "7.targets")
			w.trusts(at(1, 8, 8, 6))
		})
	}
}

// A file of type snapshot is not accepted as a timestamp, even if the timestamp's keys
// signed it and it has the form of a timestamp.
func TestWrongType(t *testing.T) {
	w := newWorld(t)
	d := rawtuf.Copy(w.repo.Roles["timestamp"]).(doc)
	d["_type"] = "snapshot"
	w.serveFile("timestamp.json", w.repo.Sign(d, "timestamp"))
	w.refresh(1, "2.root", "timestamp")
	w.trusts(at(1, 0, 0, 0))
}

// Unknown members do no harm, and are covered by the signature.
func TestUnknownMembers(t *testing.T) {
	w := newWorld(t)
	w.repo.NextRoot(func() {
		w.repo.Root["x-any"] = doc{"a": []any{1, "b"}}
		rawtuf.At(w.repo.Root, "roles", "snapshot")["x-note"] = "why"
		for _, k := range rawtuf.At(w.repo.Root, "keys") {
			k.(doc)["x-owner"], k.(doc)["keyid_hash_algorithms"] = "@someone", []any{"md5"}
		}
	})
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		w.repo.Roles[role]["x-more"] = doc{"period": 7}
	}
	w.publish("targets")
	w.refresh(0, "2.root", "3.root", "timestamp", "7.snapshot", "6.targets")
	w.trusts(at(2, 7, 7, 6))
}

// The argument of init is verified before any request.
func TestInitialRoot(t *testing.T) {
	for name, change := range map[string]func(r *rawtuf.Repo) []byte{
		"no version": func(r *rawtuf.Repo) []byte { delete(r.Root, "version"); return r.Sign(r.Root, "root") },
		"not signed": func(r *rawtuf.Repo) []byte { return r.Sign(r.Root, "targets") },
		"no JSON":    func(*rawtuf.Repo) []byte { return []byte("{") },
		"another role": func(r *rawtuf.Repo) []byte {
			return r.Files["timestamp.json"]
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.init(change(w.repo.Clone()))
			w.refresh(1)
		})
	}
}

// Every invalid call ends with 1.
func TestUsage(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{
		{}, {"refresh"}, {"--help"}, {"--nonsense", "x", "refresh"}, {"--metadata-dir"},
		{"--metadata-dir", w.md}, {"--metadata-dir", w.md, "install"},
		{"--metadata-dir", w.md, "init"}, {"--metadata-dir", w.md, "init", filepath.Join(w.td, "none")},
		{"--metadata-dir", w.md, "refresh"}, {"--metadata-url", "nonsense", "--metadata-dir", w.md, "refresh"},
		{"--metadata-url", w.base, "--metadata-dir", filepath.Join(w.td, "never"), "refresh"},
		append(w.urls(), "download"),
		append(w.urls(), "--target-name", "top.txt", "--target-dir", w.td, "download"),
		append(w.urls(), "--target-dir", w.td, "--target-base-url", w.base+"targets/", "download"),
	} {
		w.exits(1, args...)
	}
	if got := w.asked(); len(got) > 0 {
		t.Errorf("requested %q", got)
	}
	// The order of flags is not specified.
	w.exits(0, "--metadata-dir", w.md, "--metadata-url", w.base+"metadata/", "refresh")
	w.has()
	if _, err := os.Lstat(filepath.Join(w.td, "never")); err == nil {
		t.Error("a directory was created")
	}
}
