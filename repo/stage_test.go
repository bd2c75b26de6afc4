package repo_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/tuf"
)

// travel serializes a draft. The same handle opens it, as a draft that was staged
// elsewhere.
func travel(t testing.TB, d *repo.Draft) *repo.Draft {
	t.Helper()
	data, err := d.Bytes()
	noErr(t, err)
	if r := d.Handle(); r != nil {
		d, err = r.OpenDraft(data)
	} else {
		d, err = repo.OpenDraft(data)
	}
	noErr(t, err)
	again, err := d.Bytes()
	noErr(t, err)
	if !bytes.Equal(data, again) {
		t.Fatalf("changed in transit:\n%s\n%s", data, again)
	}
	return d
}

// tampered changes a draft in transit.
func (w *world) tampered(d *repo.Draft, change func(draft map[string]any)) *repo.Draft {
	w.T.Helper()
	out, err := w.Open().OpenDraft(w.tamper(d, change))
	noErr(w.T, err)
	return out
}

// received opens a draft from another machine.
func (w *world) received(d *repo.Draft) *repo.Draft {
	w.T.Helper()
	data, err := d.Bytes()
	noErr(w.T, err)
	d, err = w.Open("review-1").OpenDraft(data)
	noErr(w.T, err)
	return d
}

func (w *world) tamper(d *repo.Draft, change func(draft map[string]any)) []byte {
	w.T.Helper()
	data, err := d.Bytes()
	noErr(w.T, err)
	var m map[string]any
	noErr(w.T, json.Unmarshal(data, &m))
	change(m)
	data, err = json.Marshal(m)
	noErr(w.T, err)
	return data
}

// files are a draft's files by role.
func (w *world) files(draft map[string]any) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, f := range draft["files"].([]any) {
		out[f.(map[string]any)["role"].(string)] = f.(map[string]any)
	}
	return out
}

// at walks into decoded JSON.
func at(v any, path ...any) map[string]any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			v = v.(map[string]any)[p]
		case int:
			v = v.([]any)[p]
		}
	}
	return v.(map[string]any)
}

func lacks(d *repo.Draft) (out []string) {
	for _, m := range d.Missing() {
		out = append(out, m.String())
	}
	return out
}

// The two parties create a repository and publish a release; each has only its own
// keys, and they exchange only drafts.
func TestTwoParties(t *testing.T) {
	w := emptyWorld(t)
	vendor := w.Open(vendorKeys...)
	w.Public(append(reviewKeys, "unknown")...)
	theirs := w.Copy() // the review centre's ledger, and its own view of the storage
	theirs.Store = w.Store
	review := theirs.Open(reviewKeys...)
	d, err := vendor.Stage(t.Context(), w.Define)
	noErr(t, err)
	if want := []string{"review-agent: 0 of 1 signatures of review (review-agent)",
		"root: 0 of 1 signatures of party review of the new root", "root: 2 of 3 signatures of all parties of the new root"}; !slices.Equal(lacks(d), want) {
		t.Fatalf("lacks %q", lacks(d))
	}
	if m := d.Missing()[1]; len(m.KeyIDs) != 2 || !slices.Contains(m.KeyIDs, w.Signer("review-1").Key().ID()) {
		t.Error("may still sign:", m.KeyIDs)
	}
	err = w.Refused(repo.ErrUnsigned, func() error { return vendor.Publish(t.Context(), d) })
	if !strings.Contains(err.Error(), "party review of the new root") {
		t.Error(err)
	}

	d = theirs.received(d) // by the review centre
	if d.Empty() || d.String() != "review-agent v1, root v1, targets v1, vendor-agent v1" {
		t.Error(d)
	}
	// One root key is enough; the same key twice is one signature.
	wantErr(t, d.Sign(t.Context(), w.Signer("review-1")), signing.ErrNoPin)
	wantErr(t, d.SignFirst(t.Context(), w.Signer("review-1"), "aaaa-"+d.Digest()[5:]), repo.ErrOtherDraft)
	noErr(t, d.SignFirst(t.Context(), w.Signer("review-1"), d.Digest()))
	noErr(t, d.Sign(t.Context(), w.Signer("review-1")))
	w.tamper(d, func(draft map[string]any) {
		if n := len(at(w.files(draft)["root"], "content")["signatures"].([]any)); n != 3 {
			t.Errorf("%d signatures of root, want 3", n)
		}
	})
	if err := d.Sign(t.Context(), w.Signer("unknown")); !errors.Is(err, repo.ErrNoPart) {
		t.Error(err)
	}
	noErr(t, d.Sign(t.Context(), w.Signer("review-release")))
	if len(d.Missing()) > 0 {
		t.Errorf("lacks %q", lacks(d))
	}
	// The centre has no online keys: it can't publish, only the vendor.
	d = travel(t, d)
	w.Refused(repo.ErrUnsigned, func() error { return review.Publish(t.Context(), d) })
	noErr(t, vendor.Publish(t.Context(), d))
	w.Sees("root 1")

	noErr(t, vendor.Update(t.Context(), add("1")))
	w.Sees("root 1")
	d, err = review.Stage(t.Context(), approve("1"))
	noErr(t, err)
	noErr(t, vendor.Publish(t.Context(), travel(t, d)))
	w.Sees("root 1 agent/1")

	// Neither party can renew root alone.
	renew := func(tx *repo.Tx) error { tx.RenewRoot(); return nil }
	for _, party := range []string{"vendor", "review"} {
		r, other := w.Open(append(vendorKeys, reviewKeys[2])...), "review"
		if party == "review" {
			r, other = w.Open(append(reviewKeys, vendorKeys[2:]...)...), "vendor"
		}
		err := w.Refused(repo.ErrUnsigned, func() error { return r.Update(t.Context(), renew) })
		if !strings.Contains(err.Error(), "party "+other+" of the present root") {
			t.Error(err)
		}
	}
	w.Update(renew)
	w.Sees("root 2 agent/1")
}

// When keys are replaced, the old and the new ones must sign.
func TestOldAndNewKeysSign(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Parties[0].Keys = w.Public("vendor-3", "vendor-4")
		return nil
	})
	noErr(t, err)
	if want := []string{"root: 0 of 1 signatures of party vendor of the new root", "root: 2 of 3 signatures of all parties of the new root"}; !slices.Equal(lacks(d), want) {
		t.Fatalf("lacks %q", lacks(d))
	}
	noErr(t, d.Sign(t.Context(), w.Signer("vendor-4")))
	noErr(t, w.Open().Publish(t.Context(), travel(t, d)))
	w.Sees("root 2")
}

// A draft's list of required signers is informative only: whatever is changed in it in
// transit, package tuf verifies the draft before a byte is written.
func TestTamperedDraft(t *testing.T) {
	for name, x := range map[string]struct {
		change func(w *world, files map[string]map[string]any, draft map[string]any)
		want   error
	}{
		"forged signature": {func(w *world, f map[string]map[string]any, _ map[string]any) {
			s := at(f["vendor-agent"], "content", "signatures", 0)
			s["sig"] = strings.NewReplacer("0", "1", "1", "0").Replace(s["sig"].(string))
		}, tuf.ErrThreshold},
		"another's signature": {func(w *world, f map[string]map[string]any, _ map[string]any) {
			at(f["vendor-agent"], "content", "signatures", 0)["sig"] = at(f["root"], "content", "signatures", 0)["sig"]
		}, tuf.ErrThreshold},
		"needs removed": {func(w *world, f map[string]map[string]any, _ map[string]any) {
			f["root"]["needs"], at(f["root"], "content")["signatures"] = []any{}, []any{}
		}, tuf.ErrThreshold},
		"content changed": {func(w *world, f map[string]map[string]any, _ map[string]any) {
			at(f["vendor-agent"], "content", "signed")["expires"] = "2030-01-01T00:00:00Z"
		}, tuf.ErrThreshold},
		"an undelegated role": {func(w *world, f map[string]map[string]any, draft map[string]any) {
			extra := map[string]any{"role": "unknown", "base": 0, "needs": []any{}, "content": f["vendor-agent"]["content"]}
			draft["files"] = append(draft["files"].([]any), extra)
		}, tuf.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.Now = w.Now.Add(time.Hour)
			good, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return add("1")(tx) })
			noErr(t, err)
			bad := w.tampered(good, func(draft map[string]any) { x.change(w, w.files(draft), draft) })
			w.Refused(x.want, func() error { return w.Open().Publish(t.Context(), bad) })
			noErr(t, w.Open().Publish(t.Context(), good))
			w.Sees("root 2")
		})
	}
}

// A malformed draft is not opened, so that it can't be signed.
func TestMalformedDraft(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open(reviewKeys...).Stage(t.Context(), func(tx *repo.Tx) error { tx.RenewRoot(); return tx.Renew("vendor") })
	noErr(t, err)
	for name, change := range map[string]func(f map[string]map[string]any, draft map[string]any){
		"unknown member":    func(f map[string]map[string]any, draft map[string]any) { draft["x"] = 1 },
		"unknown in a file": func(f map[string]map[string]any, draft map[string]any) { f["root"]["x"] = 1 },
		"format 2":          func(f map[string]map[string]any, draft map[string]any) { draft["visum-draft"] = 2 },
		"no format":         func(f map[string]map[string]any, draft map[string]any) { delete(draft, "visum-draft") },
		"role twice":        func(f map[string]map[string]any, draft map[string]any) { draft["files"] = []any{f["root"], f["root"]} },
		"content is text":   func(f map[string]map[string]any, draft map[string]any) { f["root"]["content"] = "root" },
		"nothing to sign": func(f map[string]map[string]any, draft map[string]any) {
			delete(f["root"]["content"].(map[string]any), "signed")
		},
		"version 0": func(f map[string]map[string]any, draft map[string]any) {
			at(f["root"], "content", "signed")["version"] = 0
		},
		"version is text": func(f map[string]map[string]any, draft map[string]any) {
			at(f["root"], "content", "signed")["version"] = "2"
		},
		"follows itself":  func(f map[string]map[string]any, draft map[string]any) { f["root"]["base"] = 2 },
		"follows below 0": func(f map[string]map[string]any, draft map[string]any) { f["root"]["base"] = -1 },
		"no date": func(f map[string]map[string]any, draft map[string]any) {
			delete(at(f["root"], "content", "signed"), "expires")
		},
		"bad date": func(f map[string]map[string]any, draft map[string]any) {
			at(f["root"], "content", "signed")["expires"] = "soon"
		},
		"a root in disguise": func(f map[string]map[string]any, draft map[string]any) {
			f["vendor-agent"]["content"] = f["root"]["content"]
		},
		"a disguised role": func(f map[string]map[string]any, draft map[string]any) {
			f["root"]["content"] = f["vendor-agent"]["content"]
		},
		"a timestamp": func(f map[string]map[string]any, draft map[string]any) {
			f["vendor-agent"]["role"] = "timestamp"
			at(f["vendor-agent"], "content", "signed")["_type"] = "timestamp"
		},
	} {
		if d, err := repo.OpenDraft(w.tamper(d, func(draft map[string]any) { change(w.files(draft), draft) })); err == nil {
			t.Errorf("%s: opened %s", name, d)
		}
	}
	data, err := d.Bytes()
	noErr(t, err)
	for name, bad := range map[string][]byte{
		"nothing":      nil,
		"garbage":      []byte("MZ\x90"),
		"cut":          data[:len(data)/2],
		"more after":   append(slices.Clone(data), "{}"...),
		"member twice": bytes.Replace(data, []byte("{"), []byte(`{"visum-draft": 1,`), 1),
		"null":         []byte("null"),
	} {
		if d, err := repo.OpenDraft(bad); err == nil {
			t.Errorf("%s: opened %s", name, d)
		}
	}
	_, err = repo.OpenDraft(data)
	noErr(t, err)
}

// A draft that waited too long is not published.
func TestDraftExpires(t *testing.T) {
	w := newWorld(t)
	d, err := w.Open(vendorKeys...).Stage(t.Context(), add("1"))
	noErr(t, err)
	w.Now = w.Now.Add(31 * 24 * time.Hour)
	w.Refused(tuf.ErrExpired, func() error { return w.Open().Publish(t.Context(), d) })
	w.Update(add("1"))
	w.Update(func(tx *repo.Tx) error { return tx.Renew("review") })
	w.Update(approve("1"))
	w.Sees("root 1 agent/1")
	if err := w.Try(func(tx *repo.Tx) error { return tx.Renew("unknown") }); err == nil {
		t.Error("signed for an unknown party")
	}
	renew := func(tx *repo.Tx) error { tx.RenewRoot(); return nil }
	d, err = w.Open().Stage(t.Context(), renew)
	noErr(t, err)
	w.Now = w.Now.Add(366 * 24 * time.Hour)
	w.Refused(tuf.ErrExpired, func() error { return w.Open().Publish(t.Context(), d) })
	w.Update(w.Again(renew))
}

// A failing edit leaves nothing behind, and an edit without changes makes no draft.
func TestEmptyDraft(t *testing.T) {
	w := newWorld(t)
	errStop := fmt.Errorf("stop")
	w.Refused(errStop, func() error {
		return w.Try(func(tx *repo.Tx) error { noErr(t, add("1")(tx)); return errStop })
	})
	d, err := w.Open().Stage(t.Context(), w.Define)
	noErr(t, err)
	if !d.Empty() || len(d.Missing()) > 0 {
		t.Errorf("draft of %s", d)
	}
	w.Store.Wrote()
	noErr(t, w.Open().Publish(t.Context(), travel(t, d)))
	if wrote := w.Store.Wrote(); len(wrote) > 0 {
		t.Errorf("wrote %q", wrote)
	}
}

// Each missing signature is reported in one sentence on its own line, and keys by
// their human-readable names.
func TestMissingInWords(t *testing.T) {
	t.Parallel()
	w := heldWorld(t)
	w.Update(add("1"))
	cfg := w.Config()
	id := func(name string) string { return w.Signer(name).Key().ID() }
	cfg.Labels = map[string]string{id("ann"): "Ann", id("ben"): "Ben \"B\"\nC", id("review-1"): "root key in the safe"}
	r := repo.New(w.Store, cfg)
	d, err := r.Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(approve("1")(tx), renewRoot(tx)) })
	noErr(t, err)
	err = r.Publish(t.Context(), d)
	if !errors.Is(err, repo.ErrUnsigned) {
		t.Fatal(err)
	}
	lines := lacks(d)
	if len(lines) < 3 || !strings.HasSuffix(err.Error(), strings.Join(lines, "; ")) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q, %v", lines, err)
	}
	called := map[string]string{"Ann": `"Ann" ` + id("ann")[:16], "Ben": `"Ben \"B\"\nC" ` + id("ben")[:16]}
	names := []string{called["Ann"], called["Ben"]}
	if id("ben") < id("ann") {
		slices.Reverse(names)
	}
	for _, want := range []string{"review-agent: 0 of 2 signatures of review (review-agent), missing: " + strings.Join(names, ", "),
		`root: 0 of 1 signatures of party review of the present root, missing: "root key in the safe" ` + id("review-1")[:16],
		"root: 0 of 1 signatures of party vendor of the present root"} {
		if !slices.Contains(lines, want) {
			t.Errorf("no line %q in %q", want, lines)
		}
	}
	// A key that has signed is not requested again.
	noErr(t, d.Sign(t.Context(), w.Signer("ann")))
	if got := lacks(d); !slices.Contains(got, "review-agent: 1 of 2 signatures of review (review-agent), missing: "+called["Ben"]) {
		t.Errorf("%q", got)
	}
}
