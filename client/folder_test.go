package client_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// If the state cannot be stored there is an error, and nothing else is affected.
func TestStateCannotBeStored(t *testing.T) {
	w := newWeb(t)
	if err := os.WriteFile(w.state(), []byte("a foreign file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if view, err := w.client().Refresh(t.Context()); err == nil || isRefreshError(err) {
		t.Errorf("%v, %v", view, err)
	}
	if got, err := os.ReadFile(w.state()); err != nil || string(got) != "a foreign file" {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Remove(w.state()); err != nil {
		t.Fatal(err)
	}
	w.good(w.client(), 1)
	renew(w.repo)
	t.Run("read-only", func(t *testing.T) {
		for _, d := range []string{".", "roles"} {
			mountReadOnly(t, w.state(d))
		}
		_, err := w.client().Refresh(t.Context())
		if isRefreshError(err) || !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			t.Errorf("got %v", err)
		}
	})
	w.good(w.client(), 1)
}

// A forged root in the cache is discarded or replaced.
func TestForgedRootInTheCache(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	if err := os.Mkdir(w.state("roots"), 0o700); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, w.state("roots", "2.root.json"), w.repo.Files["1.root.json"])
	mustWrite(t, w.state("roots", "3.root.json"), []byte("{}"))
	if view := w.good(w.client(), 1); len(view.Evidence()) != 1 {
		t.Errorf("evidence %q", view.Evidence())
	}
	if got := files(t, w.state("roots")); len(got) > 0 {
		t.Errorf("kept %q", got)
	}
	if err := os.MkdirAll(w.state("roots", "3.root.json", "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.repo.NextRoot(nothing)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 3)
}

// Links in the state are not followed out of it, and the state contains no paths: an
// attacker with write access cannot make the client write or remove files elsewhere.
func TestStateStaysInItsFolder(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	outside := t.TempDir()
	precious := filepath.Join(outside, "9.root.json")
	mustWrite(t, precious, []byte("x"))
	for _, d := range []string{"roots", "roles", "evidence"} {
		if err := os.RemoveAll(w.state(d)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, w.state(d)); err != nil {
			t.Skip(err)
		}
	}
	w.repo.NextRoot(nothing)
	w.does(body("timestamp.json", []byte("{}")), vendorHost)
	renew(w.repo)
	w.good(w.client(), 2)
	if got := files(t, outside); len(got) != 1 {
		t.Errorf("wrote outside: %q", got)
	}
	// An invalid root removes the later ones, but only files in the directory.
	if err := os.RemoveAll(w.state("roots")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, w.state("roots")); err != nil {
		t.Fatal(err)
	}
	w.good(w.client(), 2)
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// Evidence is limited, the first files stay, and junk leaves room for better evidence.
func TestEvidenceIsBounded(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	c := w.client()
	n := 0
	junk := func(form string) answer {
		return func(name string, r *http.Request) (*http.Response, error) {
			n++
			return body("root.json", fmt.Appendf(nil, form, n, strings.Repeat("x", 400_000)))(name, r)
		}
	}
	w.does(junk("<html>%d %s"), vendorHost)
	later := func() { w.now = w.now.Add(3 * time.Hour) } // the location is not asked last any more
	for range 12 {
		later()
		w.good(c, 1)
	}
	first := files(t, w.state("evidence"))
	if len(first) != 16 {
		t.Fatalf("%d files of junk", len(first))
	}
	forged := func(name string, r *http.Request) (*http.Response, error) {
		n++
		fake := w.repo.Clone()
		fake.Root["version"], fake.Root["x"] = 2, strings.Repeat("x", n)
		return body("2.root.json", fake.Sign(fake.Root, "attacker"))(name, r)
	}
	w.does(forged, vendorHost)
	for range 40 {
		later()
		w.good(c, 1)
	}
	all := files(t, w.state("evidence"))
	if len(all) != 48 {
		t.Fatalf("%d files", len(all))
	}
	for _, name := range first {
		if _, err := os.Stat(w.state("evidence", name)); err != nil {
			t.Error(err)
		}
	}
	// A role of the maximum size is not kept as evidence.
	w.does(nil, vendorHost)
	if err := os.RemoveAll(w.state("evidence")); err != nil {
		t.Fatal(err)
	}
	w.repo.Roles["vendor-agent"]["x"] = strings.Repeat("x", 17<<20)
	w.repo.Bump("vendor-agent")
	w.repo.Signers["vendor-agent"] = []string{"attacker"}
	w.repo.Publish()
	w.bad(c, tuf.ErrThreshold)
	if _, err := os.Stat(w.state("evidence")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("kept")
	}
}

// Files of former sets, and of killed processes, are removed.
func TestLeftoversAreSwept(t *testing.T) {
	w := newWeb(t)
	w.good(w.client(), 1)
	was := files(t, w.state("roles"))
	mustWrite(t, w.state("roles", "9.x.json"), nil)
	temp := w.state("roles", ".visum-0123456789abcdef.tmp")
	mustWrite(t, temp, nil)
	if err := os.Chtimes(temp, rawtuf.Now.AddDate(-10, 0, 0), rawtuf.Now.AddDate(-10, 0, 0)); err != nil {
		t.Fatal(err)
	}
	renew(w.repo)
	w.good(w.client(), 1)
	now := files(t, w.state("roles"))
	if len(was) != len(now) || slices.ContainsFunc(was, func(s string) bool { return slices.Contains(now, s) }) {
		t.Errorf("roles were %q and are %q", was, now)
	}
}

// A damaged file is kept as evidence, with a reason, before a good one replaces it.
func TestQuarantine(t *testing.T) {
	w := newWeb(t)
	w.repo.NextRoot(nothing)
	w.good(w.client(), 2)
	for _, name := range files(t, w.state()) {
		if name == "lock" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w.t = t
			must(t, os.RemoveAll(w.state("evidence")))
			mustWrite(t, w.state(filepath.FromSlash(name)), []byte("not what was written to "+name))
			if !strings.HasPrefix(name, "roles/") {
				renew(w.repo)
			} else { // which is only requested if the set is not the previous one
				must(t, os.Remove(w.state("snapshot.json")))
			}
			view := w.good(w.client(), 2)
			if len(view.Evidence()) != 1 {
				t.Fatalf("evidence %q", view.Evidence())
			}
			kept, err := os.ReadFile(view.Evidence()[0])
			if err != nil || string(kept) != "not what was written to "+name {
				t.Errorf("%q, %v", kept, err)
			}
			why, err := os.ReadFile(view.Evidence()[0] + ".reason.json")
			if err != nil || !strings.Contains(string(why), `"from": "state"`) {
				t.Errorf("%s, %v", why, err)
			}
			if view := w.good(w.client(), 2); len(view.Evidence()) > 0 {
				t.Errorf("again: %q", view.Evidence())
			}
		})
	}
}
