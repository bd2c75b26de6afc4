package attestation_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

var update = flag.Bool("update", false, "write the vectors")

const vectorDir = "testdata/vectors"

// A vector is a txtar archive for any implementation: lines "key: value" with about, now, party,
// path, length, sha256, kind (review or refusal) and expect (ok, or the name of the sentinel); then
// root.json and statement.json.
type vector struct {
	name, about, kind, expect string
	statement                 []byte
}

func vectors(t testing.TB) (*world, []vector) {
	w := newWorld(t, nil)
	review, refusal := w.review(), w.refusal()
	p := payload(t, review)
	edit := func(change func(doc)) []byte {
		d := parse(t, p)
		change(d)
		return w.seal(rawtuf.Marshal(d), "ra", "rb")
	}
	reseal := func(change func(doc)) []byte {
		d := parse(t, w.seal(p, "ra", "rb"))
		change(d)
		return rawtuf.Marshal(d)
	}
	old := review
	old.From, old.Until = now.Add(-2*time.Hour), now
	return w, []vector{
		{"healthy", "a review by two of three keys", "review", "ok", w.seal(p, "ra", "rb")},
		{"refusal", "a refusal by two of three keys", "refusal", "ok", w.seal(payload(t, refusal), "ra", "rb")},
		{"refusal-as-review", "a refusal is not accepted as a review, whatever keys signed it", "review", "ErrMalformed", w.seal(payload(t, refusal), "ra", "rb")},
		{"one-key", "one key, two are needed", "review", "ErrThreshold", w.seal(p, "ra")},
		{"one-key-two-ids", "one key's signature under two ids", "review", "ErrThreshold",
			reseal(func(d doc) {
				d["signatures"] = []any{doc{"keyid": w.id("ra"), "sig": b64(w.sigs(p, "ra")[w.id("ra")])}, doc{"keyid": w.id("rb"), "sig": b64(w.sigs(p, "ra")[w.id("ra")])}}
			})},
		{"broken-signature", "an undecodable signature before two valid ones", "review", "ok",
			reseal(func(d doc) {
				d["signatures"] = append([]any{doc{"keyid": w.id("rc"), "sig": "%%%"}}, d["signatures"].([]any)...)
			})},
		{"payload-type", "valid signatures with another payloadType", "review", "ErrMalformed",
			reseal(func(d doc) { d["payloadType"] = "application/json" })},
		{"unknown-member", "an unknown member of the predicate", "review", "ErrMalformed",
			edit(func(d doc) { d["predicate"].(doc)["platforms"] = []any{"linux/arm64"} })},
		{"other-bytes", "a review of other bytes under the same path", "review", "ErrMismatch",
			edit(func(d doc) { rawtuf.At(d, "subject", 0, "digest")["sha256"] = strings.Repeat("0", 64) })},
		{"expired", "a review that is no longer valid", "review", "ErrExpired", w.seal(payload(t, old), "ra", "rb")},
	}
}

var sentinels = map[string]error{"ErrMalformed": tuf.ErrMalformed, "ErrThreshold": tuf.ErrThreshold, "ErrMismatch": tuf.ErrMismatch, "ErrExpired": tuf.ErrExpired}

func (v vector) archive(w *world) []byte {
	s := attestation.SubjectOf(w.approved)
	a := &txtar.Archive{Comment: fmt.Appendf(nil, "about: %s\nnow: %s\nparty: review\npath: %s\nlength: %d\nsha256: %s\nkind: %s\nexpect: %s\n",
		v.about, rawtuf.Stamp(now), s.Path, s.Length, s.SHA256, v.kind, v.expect)}
	a.Files = []txtar.File{{Name: "root.json", Data: append(w.repo.Files["1.root.json"], '\n')}, {Name: "statement.json", Data: append(v.statement, '\n')}}
	return txtar.Format(a)
}

// The files in testdata are generated from the list above, and each is checked from the file alone.
// go test -update writes them.
func TestVectors(t *testing.T) {
	w, list := vectors(t)
	if *update {
		noErr(t, os.MkdirAll(vectorDir, 0o755))
		for _, v := range list {
			noErr(t, os.WriteFile(filepath.Join(vectorDir, v.name+".txtar"), v.archive(w), 0o644))
		}
	}
	entries, err := os.ReadDir(vectorDir)
	noErr(t, err)
	if len(entries) != len(list) || len(list) == 0 {
		t.Fatalf("%d files for %d vectors; go test -update", len(entries), len(list))
	}
	for _, v := range list {
		t.Run(v.name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join(vectorDir, v.name+".txtar"))
			noErr(t, err)
			if !bytes.Equal(data, v.archive(w)) {
				t.Error("the file is not what the list makes; go test -update")
			}
			if err := verdict(t, data); err != nil {
				t.Error(err)
			}
			// A wrong expectation must fail.
			other := strings.Replace(string(data), "expect: "+v.expect, "expect: ErrRollback", 1)
			if verdict(t, []byte(other)) == nil {
				t.Error("agrees with anything")
			}
		})
	}
}

// verdict compares the result with the expected one; nil if they agree.
func verdict(t *testing.T, data []byte) error {
	a := txtar.Parse(data)
	head, files := map[string]string{}, map[string][]byte{}
	for line := range strings.Lines(string(a.Comment)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		head[key] = value
	}
	for _, f := range a.Files {
		files[f.Name] = f.Data
	}
	root, err := tuf.OpenRoot(files["root.json"], nil)
	noErr(t, err)
	at, err := time.Parse(time.RFC3339, head["now"])
	noErr(t, err)
	s := attestation.Subject{Path: head["path"], SHA256: head["sha256"]}
	_, err = fmt.Sscan(head["length"], &s.Length)
	noErr(t, err)
	switch head["kind"] {
	case "review":
		_, err = attestation.OpenListed(files["statement.json"], root, head["party"], s, at)
	case "refusal":
		_, err = attestation.OpenRefusal(files["statement.json"], root, head["party"], s)
	default:
		t.Fatalf("kind %q", head["kind"])
	}
	if head["expect"] == "ok" && err == nil || sentinels[head["expect"]] != nil && errors.Is(err, sentinels[head["expect"]]) {
		return nil
	}
	return fmt.Errorf("expected %s, got %v", head["expect"], err)
}
