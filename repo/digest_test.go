package repo_test

import (
	"errors"
	"regexp"
	"slices"
	"testing"

	"github.com/visum-dev/visum/repo"
)

// A draft's digest covers what is signed: it is the same for every reader, before and
// after signing, and differs for any other content.
func TestDraftDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(add("2"))
	d, err := w.Open("no-role").Stage(t.Context(), func(tx *repo.Tx) error {
		tx.RenewRoot()
		return errors.Join(add("3")(tx), tx.Approve("review", "agent/1", examined()), tx.Refuse("review", "agent/2", repo.RefusalRecord{Reason: "no", Reviewer: "Ann"}))
	})
	noErr(t, err)
	want := d.Digest()
	if !regexp.MustCompile(`^[a-z2-7]{4}(-[a-z2-7]{4}){7}$`).MatchString(want) {
		t.Error(want)
	}
	same := func(what string, d *repo.Draft) {
		t.Helper()
		if got := d.Digest(); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
	same("as it travels", travel(t, d))
	noErr(t, d.Sign(t.Context(), w.Signer("vendor-1")))
	noErr(t, d.Sign(t.Context(), w.Signer("review-release")))
	same("signed", d)
	same("with other hints, in another order", w.tampered(d, func(draft map[string]any) {
		slices.Reverse(draft["files"].([]any))
		slices.Reverse(draft["statements"].([]any))
		for _, f := range draft["files"].([]any) {
			f.(object)["under"], f.(object)["needs"] = []any{"x"}, []any{}
			at(f, "content")["signatures"] = []any{}
		}
	}))
	seen := map[string]string{want: "the draft"}
	for what, change := range map[string]func(draft map[string]any){
		"another date": func(m map[string]any) {
			at(w.files(m)["root"], "content", "signed")["expires"] = "2027-01-01T00:00:00Z"
		},
		"another release": func(m map[string]any) {
			at(w.files(m)["vendor-agent"], "content", "signed", "targets", "agent/3")["length"] = 8
		},
		"another role":        func(m map[string]any) { w.files(m)["vendor-agent"]["role"] = "vendor-other" },
		"a role missing":      func(m map[string]any) { m["files"] = m["files"].([]any)[1:] },
		"a statement missing": func(m map[string]any) { m["statements"] = m["statements"].([]any)[1:] },
		"no statements":       func(m map[string]any) { m["statements"] = nil },
		"nothing":             func(m map[string]any) { m["files"], m["statements"] = nil, nil },
		"another statement": func(m map[string]any) {
			s := at(m, "statements", 1)
			s["payload"] = altered(t, s, `"name":"Ann"`, `"name":"Ben"`)
		},
		"roles exchanged": func(m map[string]any) {
			a, b := w.files(m)["vendor-agent"], w.files(m)["review-agent"]
			a["content"], b["content"], a["base"], b["base"] = b["content"], a["content"], b["base"], a["base"]
		},
	} {
		got := w.tampered(d, change).Digest()
		if other, ok := seen[got]; ok {
			t.Errorf("%s has the digest of %s", what, other)
		}
		seen[got] = what
	}
}
