package main

import (
	"crypto/sha512"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

// A download refreshes first, whatever the result.
func TestDownloadRefreshes(t *testing.T) {
	w := newWorld(t)
	w.download(1, "no such target")
	w.wereAsked([]string{"2.root", "timestamp", "6.snapshot", "5.targets"})
	w.trusts(at(1, 6, 6, 5))
	w.has()
}

// Each target is fetched once: an existing file is not requested again.
func TestDownloadOnce(t *testing.T) {
	w := newWorld(t)
	w.add("targets", "file.txt", "one")
	w.add("targets", "path/to/a/file.txt", "two")
	w.publish("targets")
	w.download(0, "file.txt")
	w.has("one")
	w.download(0, "file.txt")
	w.download(0, "path/to/a/file.txt", "file.txt")
	w.has("one", "two")
	if got := w.askedRoles(); len(got) != 2 || !strings.HasPrefix(got[0], "targets/") || !strings.HasPrefix(got[1], "targets/path/to/a/") || !strings.HasSuffix(got[1], ".file.txt") {
		t.Errorf("requested %q", got)
	}
	// An existing file with wrong content is replaced.
	entries, err := os.ReadDir(w.td)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.WriteFile(filepath.Join(w.td, e.Name()), []byte("bad"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.download(0, "file.txt", "path/to/a/file.txt")
	w.has("one", "two")
}

// Wrong bytes under the right name are never stored and leave nothing behind; the
// existing file stays.
func TestSubstitution(t *testing.T) {
	w := newWorld(t)
	w.add("targets", "a", "one")
	w.add("targets", "b", "two")
	w.publish("targets")
	w.download(0, "a")
	for path, bad := range map[string]string{"a": "evil", "b": "evil, and longer than it may be"} {
		sum := rawtuf.At(w.repo.Roles["targets"], "targets", path, "hashes")["sha256"].(string)
		w.serveTarget(path, bad, sum)
	}
	w.download(0, "a")
	w.download(1, "b")
	w.has("one")
	for _, f := range []string{"tw", ""} {
		w.serveTarget("b", f, rawtuf.At(w.repo.Roles["targets"], "targets", "b", "hashes")["sha256"].(string))
		w.download(1, "b")
		w.has("one")
	}
	if all, _ := filepath.Glob(filepath.Join(w.td, ".*")); len(all) > 0 {
		t.Errorf("hidden files stay: %q", all)
	}
}

// A target keeps its file name when its content changes; the file has the newest
// content.
func TestChanges(t *testing.T) {
	w := newWorld(t)
	for i, want := range [][]string{{"a0", "b0"}, {"a1", "b1"}, {"a2", "b2"}} {
		w.add("targets", "a", fmt.Sprintf("a%d", i))
		w.add("targets", "b", fmt.Sprintf("b%d", i))
		w.publish("targets")
		w.download(0, "a")
		w.download(0, "b")
		w.has(want...)
	}
}

// Any one known, listed hash suffices; one is required.
func TestHashesOfTargets(t *testing.T) {
	w := newWorld(t)
	for _, p := range []string{"256", "512", "both", "unknown", "none", "wrong512"} {
		w.repo.AddTarget(p, p, nil, "targets")
		f := rawtuf.At(w.repo.Roles["targets"], "targets", p)
		sum256, sum512 := rawtuf.At(f, "hashes")["sha256"].(string), fmt.Sprintf("%x", sha512.Sum512([]byte(p)))
		switch p {
		case "512":
			f["hashes"] = doc{"sha512": sum512}
		case "both":
			f["hashes"] = doc{"sha256": sum256, "sha512": sum512, "md5": "00"}
		case "unknown":
			f["hashes"] = doc{"sha3": sum256}
		case "none":
			f["hashes"] = doc{}
		case "wrong512":
			f["hashes"] = doc{"sha256": sum256, "sha512": strings.Repeat("00", 64)}
		}
		w.serveTarget(p, p, sum256)
		w.serveTarget(p, p, sum512)
	}
	w.publish("targets")
	for _, p := range []string{"256", "512", "both"} {
		w.asked()
		w.download(0, p)
		if got := w.askedRoles(); len(got) != 1 {
			t.Errorf("%s: asked for %q", p, got)
		}
	}
	for _, p := range []string{"unknown", "none", "wrong512"} {
		w.download(1, p)
	}
	w.has("256", "512", "both")
}

// The first failure ends the call; earlier downloads stay.
func TestSeveralNames(t *testing.T) {
	w := newWorld(t)
	w.add("targets", "a", "one")
	w.add("targets", "c", "three")
	w.publish("targets")
	w.download(1, "a", "b", "c")
	w.has("one")
	w.download(0, "c", "a", "c")
	w.has("one", "three")
}

// Names are escaped as a whole in requests, and are not used as paths on the disk. Two
// names never share a file.
func TestOddNames(t *testing.T) {
	w := newWorld(t)
	odd := map[string]string{
		"a b":                              "targets/%s.a%%20b",
		"what?#%2f%":                       "targets/%s.what%%3F%%23%%252f%%25",
		"ünicode/ß":                        "targets/%%C3%%BCnicode/%s.%%C3%%9F",
		`back\slash`:                       `targets/%s.back%%5Cslash`,
		"target-a+b":                       "targets/%s.target-a%%2Bb",
		".hidden":                          "targets/%s..hidden",
		"CON":                              "targets/%s.CON",
		"deep/" + strings.Repeat("x", 230): "targets/deep/%s." + strings.Repeat("x", 230),
		"deep/" + strings.Repeat("x", 231): "targets/deep/%s." + strings.Repeat("x", 231),
	}
	want := map[string]bool{}
	for name, request := range odd {
		w.repo.AddTarget(name, name, nil, "targets")
		sum := rawtuf.At(w.repo.Roles["targets"], "targets", name, "hashes")["sha256"].(string)
		path := fmt.Sprintf(request, sum)
		w.targets[strings.TrimPrefix(path, "targets/")] = name
		want[path] = true
	}
	out := []string{"../up", "/etc/passwd", "a/../../up", "a//b", "./a"}
	for _, name := range out {
		w.repo.AddTarget(name, name, nil, "targets")
	}
	w.publish("targets")
	for name := range odd {
		w.download(0, name)
	}
	for _, path := range w.askedRoles() {
		if !want[path] {
			t.Errorf("requested %q", path)
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("not requested: %v", want)
	}
	// Names that would traverse upwards, or mean another directory on some server, are not
	// requested.
	for _, name := range append(out, "") {
		w.download(1, name)
	}
	if got := w.askedRoles(); len(got) > 0 {
		t.Errorf("requested %q", got)
	}
	entries, err := os.ReadDir(w.td)
	if err != nil || len(entries) != len(odd) {
		t.Errorf("%d files of %d, %v", len(entries), len(odd), err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "target-") || !e.Type().IsRegular() {
			t.Errorf("the directory has %s", e)
		}
	}
}
