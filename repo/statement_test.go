package repo_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// The meaning of a statement in a draft is that of its payload: a draft whose other
// members contradict it is refused, and the headline is derived from the payload.
func TestStatementIsItsPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("good"))
	w.Update(add("evil"))
	centre := w.Open("review-release")
	refusal, err := centre.Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/good", repo.RefusalRecord{Reason: "no", Reviewer: "Ann"})
	})
	noErr(t, err)
	review, err := centre.Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", "agent/evil", examined()) })
	noErr(t, err)
	says(t, w.lines(refusal), "review-agent: refusal agent/good added: 10 bytes, sha256 HASH("+sum("agent good")[:4]+"), statement 1")
	other := w.statement(review)["payload"]
	edit := func(change func(s object)) ([]byte, error) {
		data := w.tamper(refusal, func(draft map[string]any) { change(at(draft, "statements", 0)) })
		_, err := repo.OpenDraft(data)
		return data, err
	}
	if _, err := edit(func(object) {}); err != nil { // the valid counterpart
		t.Fatal(err)
	}
	name := w.statement(refusal)["name"].(string)
	for what, x := range map[string]struct {
		change func(s object)
		want   error
	}{
		"another payload":  {func(s object) { s["payload"] = other }, tuf.ErrMismatch},
		"another kind":     {func(s object) { s["kind"] = "https://visum.dev/review/v1" }, tuf.ErrMismatch},
		"another party":    {func(s object) { s["party"] = "vendor" }, tuf.ErrMismatch},
		"another path":     {func(s object) { s["path"] = "agent/evil" }, tuf.ErrMismatch},
		"another length":   {func(s object) { s["length"] = 8 }, tuf.ErrMismatch},
		"no length":        {func(s object) { delete(s, "length") }, tuf.ErrMismatch},
		"another hash":     {func(s object) { s["sha256"] = strings.Repeat("0", 64) }, tuf.ErrMismatch},
		"another role":     {func(s object) { s["name"] = strings.Replace(name, "review-agent", "vendor-agent", 1) }, tuf.ErrMismatch},
		"another folder":   {func(s object) { s["name"] = strings.Replace(name, "targets/agent", "targets/other", 1) }, tuf.ErrMismatch},
		"number 0":         {func(s object) { s["name"] = strings.Replace(name, ".1.json", ".0.json", 1) }, fs.ErrInvalid},
		"padded number":    {func(s object) { s["name"] = strings.Replace(name, ".1.json", ".01.json", 1) }, fs.ErrInvalid},
		"number 1001":      {func(s object) { s["name"] = strings.Replace(name, ".1.json", ".1001.json", 1) }, fs.ErrInvalid},
		"no number":        {func(s object) { s["name"] = strings.Replace(name, ".1.json", ".json", 1) }, fs.ErrInvalid},
		"unknown kind":     {func(s object) { s["payload"] = altered(t, s, "refusal/v1", "refusal/v2") }, tuf.ErrMalformed},
		"unknown member":   {func(s object) { s["payload"] = altered(t, s, `"reason":"no"`, `"reason":"no","x":1`) }, tuf.ErrMalformed},
		"not canonical":    {func(s object) { s["payload"] = altered(t, s, `"reason":"no"`, `"reason": "no"`) }, tuf.ErrMalformed},
		"other reason":     {func(s object) { s["payload"] = altered(t, s, `"reason":"no"`, `"reason":"yes"`) }, nil}, // it is another statement
		"twice in a draft": {func(s object) {}, nil},
	} {
		data, err := edit(x.change)
		if !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", what, err, x.want)
		}
		if what == "other reason" {
			d, err := repo.OpenDraft(data)
			noErr(t, err)
			says(t, w.lines(d), "review-agent: refusal agent/good", "predicate.reason yes")
		}
	}
	twice := w.tamper(refusal, func(draft map[string]any) {
		list := draft["statements"].([]any)
		draft["statements"] = append(list, list[0])
	})
	if _, err := repo.OpenDraft(twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Error(err)
	}
}

// statement is the first statement of a serialized draft.
func (w *world) statement(d *repo.Draft) (out object) {
	w.tamper(d, func(draft map[string]any) { out = at(draft, "statements", 0) })
	return out
}

// altered is a statement's payload with one part replaced.
func altered(t *testing.T, s object, old, new string) string {
	t.Helper()
	data, err := base64.StdEncoding.DecodeString(s["payload"].(string))
	noErr(t, err)
	if !strings.Contains(string(data), old) || !json.Valid(data) {
		t.Fatalf("no %s in %s", old, data)
	}
	return base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(string(data), old, new)))
}

// A file that is too large for a statement has no effect, and is not read to its end.
func TestHugeStatements(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no"}) })
	list, err := w.Open().Pending(t.Context(), "review")
	noErr(t, err)
	if list[0].Refused == nil { // the valid counterpart
		t.Fatalf("%+v", list)
	}
	base := list[0].Name + ".reviews/review-agent."
	huge := make([]byte, 1<<20)
	w.Store.Files[base+"2.json"] = huge
	read := &counting{memory: w.Store}
	r := repo.New(storage.ReadOnly(read), w.Config())
	said, err := r.Statements(t.Context(), "agent/1")
	noErr(t, err)
	if len(said) != 2 || said[0].Refusal == nil || !errors.Is(said[1].Err, tuf.ErrTooLarge) || said[1].Number != 2 {
		t.Errorf("%+v", said)
	}
	if n := read.bytes[base+"2.json"]; n > 128<<10 {
		t.Errorf("%d bytes were read of it", n)
	}
}
