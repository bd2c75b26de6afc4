package repo_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
)

// Several signers sign separate copies at the same time; merged, the signatures meet
// the threshold.
func TestMerge(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open("targets").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, err)
	copies := []*repo.Draft{}
	for _, key := range []string{"vendor-1", "review-1", "review-2"} {
		c := travel(t, d)
		noErr(t, c.Sign(t.Context(), w.Signer(key)))
		copies = append(copies, travel(t, c))
	}
	for _, c := range copies {
		if len(d.Missing()) == 0 {
			t.Fatal("nothing is missing before all have signed")
		}
		noErr(t, d.Merge(c))
		noErr(t, d.Merge(c)) // a repetition changes nothing
	}
	noErr(t, w.Open("timestamp", "snapshot").Publish(t.Context(), d))
	w.Sees("root 2")

	// Each row is refused, and d is unchanged.
	d, err = w.Open("targets").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return tx.Renew("vendor") })
	noErr(t, err)
	noErr(t, d.Sign(t.Context(), w.Signer("vendor-1")))
	before, err := d.Bytes()
	noErr(t, err)
	own, other := w.Signer("vendor-1").Key().ID(), w.Signer("vendor-2").Key().ID()
	sigOf := func(d *repo.Draft) string {
		data := string(d.File("root"))
		_, rest, _ := strings.Cut(data, `"sig":"`)
		sig, _, _ := strings.Cut(rest, `"`)
		return sig
	}
	tampered := func(old, new string) *repo.Draft {
		data := strings.Replace(string(before), old, new, 1)
		if data == string(before) {
			t.Fatalf("no %s in the draft", old)
		}
		c, err := repo.OpenDraft([]byte(data))
		noErr(t, err)
		return c
	}
	w.Now = w.Now.Add(time.Hour)
	later, err := w.Open("targets").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return tx.Renew("vendor") })
	noErr(t, err)
	fewer, err := w.Open("targets").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	noErr(t, err)
	for name, x := range map[string]struct {
		other *repo.Draft
		want  error
	}{
		"another date":         {later, repo.ErrOtherDraft},
		"fewer files":          {fewer, repo.ErrOtherDraft},
		"other needs":          {tampered(`"threshold": 1`, `"threshold": 2`), repo.ErrOtherDraft},
		"other base":           {tampered(`"base": 1`, `"base": 0`), repo.ErrOtherDraft},
		"junk":                 {tampered(sigOf(d), hex.EncodeToString(make([]byte, 64))), repo.ErrSignature},
		"no hex":               {tampered(sigOf(d), "junk"), repo.ErrSignature},
		"another's signature":  {tampered(`"keyid": "`+own, `"keyid": "`+other), repo.ErrSignature},
		"a key without a role": {tampered(`"keyid": "`+own, `"keyid": "`+w.Signer("unknown").Key().ID()), repo.ErrNoPart},
	} {
		t.Run(name, func(t *testing.T) {
			if err := d.Merge(x.other); !errors.Is(err, x.want) {
				t.Errorf("got %v, want %v", err, x.want)
			}
			if after, err := d.Bytes(); err != nil || !bytes.Equal(before, after) {
				t.Errorf("changed, %v", err)
			}
		})
	}
}

// A draft can be transferred as a file, and as a directory with all files to review.
func TestDraftTravels(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	d, err := w.Open("vendor-release").Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return add("2")(tx) })
	noErr(t, err)
	want := strings.Join(w.lines(d), "\n")
	dir := filepath.Join(t.TempDir(), "new", "folder")
	noErr(t, w.Open().Export(t.Context(), d, dir))
	noErr(t, w.Open().Export(t.Context(), d, dir)) // and again

	// On the reviewer's machine: no access to the vendor's storage.
	there := repo.New(repo.Folder(dir), w.Config())
	theirs, err := there.LoadDraft(dir)
	noErr(t, err)
	changes, err := there.Diff(t.Context(), theirs)
	noErr(t, err)
	if len(changes) != strings.Count(want, "\n")+1 {
		t.Errorf("%d changes there, here\n%s", len(changes), want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, layout.TargetName("agent/2", sum("agent 2")))); err != nil || string(data) != "agent 2" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(dir, layout.TargetName("agent/1", sum("agent 1")))); err == nil {
		t.Error("the draft has unchanged files")
	}
	for _, key := range []string{"review-1", "review-2"} {
		noErr(t, theirs.Sign(t.Context(), w.Signer(key)))
	}
	noErr(t, theirs.Save(dir))

	// The vendor receives the signed draft.
	signed, err := repo.LoadDraft(filepath.Join(dir, "draft.json"))
	noErr(t, err)
	noErr(t, d.Merge(signed))
	noErr(t, d.Sign(t.Context(), w.Signer("vendor-1")))
	noErr(t, w.Open().Publish(t.Context(), d))
	w.Update(approve("2"))
	w.Sees("root 3 agent/1 agent/2")

	// The very first draft has no predecessor.
	empty := emptyWorld(t)
	first, err := empty.Open().Stage(t.Context(), empty.Define)
	noErr(t, err)
	noErr(t, empty.Open().Export(t.Context(), first, t.TempDir()))
}

func TestLoadDraftRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none")} {
		if _, err := repo.LoadDraft(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(dir, "draft.json")
	noErr(t, os.WriteFile(path, []byte(`{"visum-draft":1,"files":[],"files":[]}`), 0o600))
	if _, err := repo.LoadDraft(dir); err == nil {
		t.Error("opened a draft with duplicate members")
	}
	noErr(t, os.Truncate(path, 512<<20+1))
	if _, err := repo.LoadDraft(dir); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a huge draft: %v", err)
	}
	noErr(t, os.Remove(path))
	noErr(t, os.Mkdir(path, 0o700))
	if _, err := repo.LoadDraft(dir); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a directory: %v", err)
	}
}
