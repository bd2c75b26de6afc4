package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
)

var everything = doc{"paths": []any{"*"}}

func paths(p ...any) doc { return doc{"paths": p} }

func terminating(how doc) doc {
	how = rawtuf.Copy(how).(doc)
	how["terminating"] = true
	return how
}

// edge is a delegation; its key is that of the role.
type edge struct {
	by, role string
	how      doc
}

// The search is depth-first, in the order of the list, and requests each role once.
func TestOrderOfSearch(t *testing.T) {
	py := paths("*.py")
	for name, tt := range map[string]struct {
		edges []edge
		want  string
	}{
		"one":                  {[]edge{{"targets", "a", everything}}, "a"},
		"two":                  {[]edge{{"targets", "a", everything}, {"targets", "b", everything}}, "a b"},
		"below the second":     {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"b", "c", everything}}, "a b c"},
		"below the first":      {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"a", "c", everything}, {"a", "d", everything}}, "a c d b"},
		"deep below the first": {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"a", "c", everything}, {"c", "d", everything}}, "a c d b"},
		"a terminating delegation ends the search":        {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"a", "c", terminating(everything)}, {"a", "d", everything}}, "a c"},
		"a terminating delegation allows its own subtree": {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"a", "c", terminating(everything)}, {"c", "d", everything}}, "a c d"},
		"a terminating delegation for other paths":        {[]edge{{"targets", "a", terminating(py)}, {"targets", "b", everything}}, "b"},
		"paths that do not match":                         {[]edge{{"targets", "a", py}, {"targets", "b", everything}, {"a", "c", everything}}, "b"},
		"paths that do not match, at depth two":           {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"a", "c", py}, {"c", "d", everything}}, "a b"},
		"a star does not match a slash":                   {[]edge{{"targets", "a", paths("*/*")}, {"targets", "b", paths("missing????")}}, "b"},
		"a cycle":                                         {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"b", "c", everything}, {"c", "d", everything}, {"d", "b", everything}}, "a b c d"},
		"two delegations to one role":                     {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"b", "c", everything}, {"a", "c", everything}}, "a c b"},
		"two delegations to one role, one does not match": {[]edge{{"targets", "a", everything}, {"targets", "b", everything}, {"b", "c", everything}, {"a", "c", py}}, "a b c"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for _, e := range tt.edges {
				w.delegate(e.by, e.role, e.how, e.role)
			}
			w.publish()
			w.download(1, "missingpath")
			var want []string
			for _, role := range strings.Fields(tt.want) {
				want = append(want, "metadata/5."+role+".json")
			}
			if got := w.askedRoles(); !slices.Equal(got, want) {
				t.Errorf("requested %q, want %q", got, want)
			}
		})
	}
}

// A target counts only if every delegation on the path to it covers it.
func TestFindBelow(t *testing.T) {
	w := newWorld(t)
	w.delegate("targets", "docs", paths("*.doc", "*.md"), "docs")
	w.delegate("targets", "rel", paths("releases/*/*"), "rel")
	w.delegate("rel", "x", paths("releases/x/*"), "x")
	w.delegate("rel", "y", paths("releases/y/*.zip"), "y")
	found := map[string]string{"plain": "targets", "README.md": "docs", "releases/x/v1": "x", "releases/y/v1.zip": "y"}
	for path, role := range found {
		w.add(role, path, path)
	}
	w.add("y", "releases/z/v1.zip", "never") // not delegated to y
	w.add("docs", "plain.txt", "never")
	w.publish("targets")
	ask := map[string]string{"plain": "", "README.md": "docs", "releases/x/v1": "rel x", "releases/y/v1.zip": "rel y", "releases/z/v1.zip": "rel", "plain.txt": ""}
	asked := map[string]bool{}
	for path, roles := range ask {
		var want []string
		for _, role := range strings.Fields(roles) {
			if !asked[role] {
				want = append(want, "metadata/5."+role+".json")
			}
			asked[role] = true
		}
		w.asked()
		exit := 1
		if found[path] != "" {
			exit = 0
		}
		w.download(exit, path)
		got := slices.DeleteFunc(w.askedRoles(), func(p string) bool { return strings.HasPrefix(p, "targets/") })
		if !slices.Equal(got, want) {
			t.Errorf("%s: asked for %q, want %q", path, got, want)
		}
	}
	if all, _ := os.ReadDir(w.td); len(all) != len(found) {
		t.Errorf("%d files of %d", len(all), len(found))
	}
}

// A role on the disk that was verified for one delegating role is verified again for
// another, with the keys and threshold of that role, and is not fetched again.
func TestCachedRoleForAnotherDelegator(t *testing.T) {
	for name, tt := range map[string]struct {
		signers   []string
		threshold int
		a, b      int
	}{
		"signed with the key of a": {[]string{"ka"}, 1, 0, 1},
		"signed with the key of b": {[]string{"kb"}, 1, 1, 0},
		"signed with both keys":    {[]string{"ka", "kb"}, 1, 0, 0},
		"b has a threshold of two": {[]string{"ka", "kb"}, 2, 0, 1},
	} {
		for _, order := range []string{"one process", "a first", "b first"} {
			t.Run(name+"/"+order, func(t *testing.T) {
				w := newWorld(t)
				for _, by := range []string{"a", "b"} {
					w.delegate("targets", by, terminating(paths(by+"/*")), by)
					w.delegate(by, "shared", terminating(paths(by+"/*")), "k"+by)
				}
				rawtuf.At(w.repo.Roles["b"], "delegations", "roles", 0)["threshold"] = tt.threshold
				w.repo.Signers["shared"] = tt.signers
				w.add("shared", "a/file", "for a")
				w.add("shared", "b/file", "for b")
				w.publish("targets")
				switch order {
				case "one process":
					w.download(max(tt.a, tt.b), "a/file", "b/file")
				case "a first":
					w.download(tt.a, "a/file")
					w.download(tt.b, "b/file")
				case "b first":
					w.download(tt.b, "b/file")
					w.download(tt.a, "a/file")
				}
				got := w.askedRoles()
				n := 0
				for _, p := range got {
					if p == "metadata/5.shared.json" {
						n++
					}
					if tt.a == 1 && strings.HasPrefix(p, "targets/a/") || tt.b == 1 && strings.HasPrefix(p, "targets/b/") {
						t.Errorf("requested %q", p)
					}
				}
				if tt.a == 0 && order != "b first" && tt.b == 0 && n != 1 {
					t.Errorf("shared was requested %d times", n)
				}
				all, err := os.ReadDir(w.td)
				want := 2 - tt.a - tt.b
				if order == "one process" && tt.a == 1 {
					want = 0
				}
				if err != nil || len(all) != want {
					t.Errorf("%d files, want %d: %v", len(all), want, err)
				}
			})
		}
	}
}

// A role's name is escaped as a whole in requests. On the disk no name leads out of
// the directory, hides another role, or shares its file.
func TestOddRoleNames(t *testing.T) {
	odd := []string{"?", "#", "/role", "../role", "a/../b", "..", "%2F", "a b", "A", "a", "=root", "=a", "1.a", "ü", "a.json", "roles", ".visum", strings.Repeat("long", 30), strings.Repeat("long", 30) + "r", strings.Repeat("?", 60)}
	requests := map[string]string{"?": "%3F", "#": "%23", "/role": "%2Frole", "../role": "..%2Frole", "a/../b": "a%2F..%2Fb", "%2F": "%252F", "a b": "a%20b", "=root": "%3Droot", "=a": "%3Da", "ü": "%C3%BC", strings.Repeat("?", 60): strings.Repeat("%3F", 60)}
	w := newWorld(t)
	want := map[string]bool{}
	for i, role := range odd {
		w.delegate("targets", role, paths(fmt.Sprintf("%d/*", i)), "k")
		w.add(role, fmt.Sprintf("%d/file", i), fmt.Sprint(i))
		escaped := requests[role]
		if escaped == "" {
			escaped = role
		}
		want["metadata/5."+escaped+".json"] = true
	}
	w.publish("targets")
	for name, data := range w.repo.Files { // by request path
		if _, role, ok := strings.Cut(strings.TrimSuffix(name, ".json"), "."); ok && requests[role] != "" {
			w.serveFile("5."+requests[role]+".json", data)
		}
	}
	for i := range odd {
		w.download(0, fmt.Sprintf("%d/file", i))
	}
	for _, path := range w.askedRoles() {
		if strings.HasPrefix(path, "targets/") {
			continue
		}
		if !want[path] {
			t.Errorf("requested %q, or twice", path)
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("not requested: %v", want)
	}
	all, err := filepath.Glob(filepath.Join(w.md, "*.json"))
	if err != nil || len(all) != 4+len(odd) {
		t.Errorf("%d files for %d roles, %v", len(all), 4+len(odd), err)
	}
	if entries, _ := os.ReadDir(w.md); len(entries) != 4+len(odd)+1 {
		t.Errorf("the directory has %v", entries)
	}
	// The stored roles are found again, and a later version replaces the former one.
	w.publish(odd...)
	for name, data := range w.repo.Files {
		if _, role, ok := strings.Cut(strings.TrimSuffix(name, ".json"), "."); ok && requests[role] != "" {
			w.serveFile(name[:1]+"."+requests[role]+".json", data)
		}
	}
	for i := range odd {
		w.download(0, fmt.Sprintf("%d/file", i))
	}
	if now, _ := filepath.Glob(filepath.Join(w.md, "*.json")); !slices.Equal(now, all) {
		t.Errorf("the directory had %q, now has %q", all, now)
	}
}

// A delegated role can't have the name of a top-level role: a role that delegates to
// such a name is refused as a whole, and the trusted version is kept.
func TestRolesCalledAsTopLevelOnes(t *testing.T) {
	for _, role := range []string{"root", "snapshot", "timestamp", "targets"} {
		t.Run(role, func(t *testing.T) {
			w := newWorld(t)
			w.add("targets", "file", "file")
			w.publish("targets")
			w.delegate("lib", role, paths("lib/*"), role)
			w.publish("lib")
			w.download(1, "lib/b.txt")
			w.download(0, "file")
			w.has("file")
			if got := w.askedRoles(); len(got) != 2 || got[0] != "metadata/6.lib.json" {
				t.Errorf("requested %q", got)
			}
			w.trusts(at(1, 8, 8, 6))
			w.delegate("targets", role, paths("odd/*"), role)
			w.publish("targets")
			w.refresh(1, "2.root", "timestamp", "9.snapshot", "7.targets")
			w.trusts(at(1, 9, 9, 6))
		})
	}
}

// An expired role is neither used nor stored, whether it is new or already on the
// disk; a newer one replaces it.
func TestExpiredDelegation(t *testing.T) {
	w := newWorld(t)
	w.delegate("targets", "d", paths("d/*"), "d")
	w.expires("d", -day)
	w.add("d", "d/1", "one")
	w.add("d", "d/2", "two")
	w.publish("targets")
	w.refresh(0, "2.root", "timestamp", "7.snapshot", "6.targets")
	w.download(1, "d/1")
	w.has()
	w.trusts(at(1, 7, 7, 6))
	w.expires("d", 7*day)
	w.publish("d")
	w.download(0, "d/1")
	w.later = 18 * day
	w.download(1, "d/2")
	w.has("one")
	w.expires("d", 21*day)
	w.publish("d")
	w.download(0, "d/2")
	w.has("one", "two")
}

// Hash bins are tested in both of their forms.
func TestBins(t *testing.T) {
	sum := sha256.Sum256([]byte("some/file"))
	prefix := hex.EncodeToString(sum[:])
	for name, how := range map[string]doc{"prefixes": {"path_hash_prefixes": []any{prefix[:2], "00"}}, "other prefixes": {"path_hash_prefixes": []any{"zz"}}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.delegate("targets", "bin", how, "bin")
			w.add("bin", "some/file", "data")
			w.publish("targets")
			if name == "prefixes" {
				w.download(0, "some/file")
				w.has("data")
			} else {
				w.download(1, "some/file")
			}
		})
	}
	t.Run("succinct", func(t *testing.T) {
		w := newWorld(t)
		roles := w.repo.Role(1, "bins")
		roles["bit_length"], roles["name_prefix"] = 6, "bin"
		delegations := doc{"succinct_roles": roles}
		w.repo.AddKeys(delegations, "bins")
		w.repo.Roles["targets"]["delegations"] = delegations
		bin := fmt.Sprintf("bin-%02x", sum[0]>>2)
		for i := range 64 {
			role := fmt.Sprintf("bin-%02x", i)
			w.repo.Roles[role], w.repo.Signers[role] = rawtuf.Targets(), []string{"bins"}
		}
		w.add(bin, "some/file", "data")
		w.publish("targets")
		w.download(0, "some/file")
		w.has("data")
		if got := w.askedRoles(); len(got) != 2 || got[0] != "metadata/5."+bin+".json" {
			t.Errorf("requested %q", got)
		}
	})
}
