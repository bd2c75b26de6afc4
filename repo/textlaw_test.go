package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// evilTexts are strings of an attacker: escape sequences, line breaks, bidirectional
// marks, letters that look like others, and very long strings.
var evilTexts = []string{"\x1b[2J\n[ok] all is well", "a\u202egro", "\u0430gent", strings.Repeat("long", 5000), "\u2028root v9: is signed again", `"`, "\x7f"}

// printable checks that a message is one line of printable ASCII, of at most 4 kB.
func printable(t *testing.T, what, s string) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 || len(s) > 4096 {
		t.Errorf("%s: %d bytes, byte %d of %.300q", what, len(s), i, s)
	}
}

// someTexts is one of the evil texts in rotation, or two if VISUM_LONG=1 is set.
func someTexts() []string {
	i := turn.Add(1)
	if !rawtuf.Long {
		return []string{evilTexts[i%uint64(len(evilTexts))]}
	}
	return []string{evilTexts[i%uint64(len(evilTexts))], evilTexts[(i+2)%uint64(len(evilTexts))]}
}

var turn atomic.Uint64

// evilVariants calls fn for each string and member name below v, with an evil text in
// its place.
func evilVariants(v any, fn func()) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(mapKeys(v)) {
			was := v[name]
			if _, ok := was.(string); ok {
				for _, evil := range someTexts() {
					v[name] = evil
					fn()
				}
				v[name] = was
			}
			for _, evil := range someTexts()[:1] {
				delete(v, name)
				v[evil] = was
				fn()
				delete(v, evil)
				v[name] = was
			}
			evilVariants(was, fn)
		}
	case []any:
		for i, was := range v {
			if _, ok := was.(string); ok {
				v[i] = someTexts()[0]
				fn()
				v[i] = was
			}
			evilVariants(was, fn)
		}
	}
}

func mapKeys(m map[string]any) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// Whatever the content of a draft is, its descriptions are safe for a terminal and a
// log.
func TestDraftTextLaw(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := heldWorld(t)
	w.Update(add("1"))
	w.Update(add("2"))
	d, err := w.Open("vendor-release", "ann").Stage(t.Context(), func(tx *repo.Tx) error {
		tx.RenewRoot()
		return errors.Join(add("3")(tx), tx.Approve("review", "agent/1", examined()), tx.Refuse("review", "agent/2", repo.RefusalRecord{Reason: "no", Reviewer: "Ann"}), tx.RenewTargets(),
			tx.Hold("agent/2", "a doubt", w.Now.AddDate(0, 0, 1)), tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team-*"}}))
	})
	noErr(t, err)
	var doc any
	w.tamper(d, func(draft map[string]any) { doc = draft })
	r := w.Open()
	n, opened := 0, 0
	say := func(what string, err error) {
		if err != nil {
			printable(t, what, err.Error())
		}
	}
	evilVariants(doc, func() {
		n++
		data, err := json.Marshal(doc)
		noErr(t, err)
		evil, err := repo.OpenDraft(data)
		if err != nil {
			say("OpenDraft", err)
			return
		}
		opened++
		printable(t, "String", evil.String())
		for _, m := range evil.Missing() {
			printable(t, "Missing", m.String())
		}
		_, err = evil.Payload(evilTexts[0])
		say("Payload", err)
		say("AddSignature", evil.AddSignature("vendor-agent", evilTexts[0], nil))
		say("Merge", evil.Merge(d))
		say("Merge", d.Merge(evil))
		if n%lawStep() != 0 { // each of the following steps reads the repository
			return
		}
		changes, err := r.Diff(t.Context(), evil)
		say("Diff", err)
		for _, c := range changes {
			printable(t, "Change", c.String())
			for _, s := range []string{c.Role, c.What, c.Name, c.Fact, c.Old, c.New, c.Note} {
				if c.What == "lists below it" {
					continue
				}
				if strings.ContainsAny(s, "\n\x1b\u202e\u2028\u0430\x7f") {
					t.Errorf("a field of a change is %.200q", s)
				}
			}
		}
		_, err = r.PendingIn(t.Context(), "review", evil)
		say("Pending", err)
		_, err = r.StageOn(t.Context(), evil, func(*repo.Tx) error { return nil })
		say("StageOn", err)
		say("Export", r.Export(t.Context(), evil, t.TempDir()))
		said, err := r.StatementsIn(t.Context(), evil)
		say("StatementsIn", err)
		for _, s := range said {
			say("Said", s.Err)
		}
		say("Publish", w.Copy().Open().Publish(t.Context(), evil))
	})
	if n < 500 || opened < 100 {
		t.Errorf("%d variants, %d opened", n, opened)
	}
}

// lawStep is which share of the variants is read in whole: an odd number.
func lawStep() int {
	if rawtuf.Long {
		return 7
	}
	return 51
}

// The same applies to a repository, whether its files are signed again or not.
func TestRepositoryTextLaw(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	healthy := richWorld(t)
	healthy.Update(func(tx *repo.Tx) error { return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "bad"}) })
	signers := map[string]string{"root": "vendor-1", "timestamp": "timestamp", "snapshot": "snapshot", "targets": "targets", "vendor-agent": "vendor-release", "review-agent": "review-release"}
	n := 0
	for name, file := range healthy.Store.Copy().Files {
		if !strings.HasPrefix(name, "metadata/") {
			continue
		}
		role := strings.TrimSuffix(strings.TrimPrefix(name, "metadata/"), ".json")
		role = strings.TrimLeft(role, "0123456789.")
		var doc object
		noErr(t, json.Unmarshal(file, &doc))
		evilVariants(doc, func() {
			if n++; n%lawStep() != 0 { // an odd number, so that half are signed again
				return
			}
			w := healthy.Copy()
			w.T = t
			w.Store.Files[name] = w.resigned(doc, signers[role])
			if n%2 == 0 {
				raw, err := json.Marshal(doc)
				noErr(t, err)
				w.Store.Files[name] = raw
			}
			report, err := mirror.Verify(t.Context(), w.Storage(), healthy.Pinned, options(w.Config()))
			if err != nil {
				printable(t, "Verify", err.Error())
			} else {
				for _, line := range strings.Split(report.String(), "\n") {
					printable(t, "Report", line)
				}
				for _, f := range report.Findings {
					printable(t, "Finding", f.String())
					printable(t, "Finding.Text", f.Text)
				}
			}
			status, err := w.Open().Status(t.Context(), w.Now)
			if err != nil {
				printable(t, "Status", err.Error())
			} else {
				for _, line := range strings.Split(status.String(), "\n") {
					printable(t, "Status", line)
				}
			}
			for what, call := range map[string]func(r *repo.Repo) error{
				"Stage":   func(r *repo.Repo) error { _, err := r.Stage(t.Context(), add("9")); return err },
				"Pending": func(r *repo.Repo) error { _, err := r.Pending(t.Context(), "review"); return err },
				"Clone": func(r *repo.Repo) error {
					return mirror.Clone(t.Context(), newMemory(), storage.SourceOf(w.Store), healthy.Pinned, nil)
				},
				"Bundle": func(*repo.Repo) error {
					return mirror.Bundle(t.Context(), io.Discard, w.Store, healthy.Pinned, &mirror.BundleOptions{Metadata: true})
				},
				"Chain": func(r *repo.Repo) error { _, err := r.Chain(t.Context()); return err },
				"Prune": func(r *repo.Repo) error { _, err := r.Prune(t.Context(), &repo.PruneOptions{DryRun: true}); return err },
			} {
				if err := call(w.Open()); err != nil {
					printable(t, what, err.Error())
				}
			}
		})
	}
	if n < 300 {
		t.Errorf("%d variants", n)
	}
}

// Text of a draft can't imitate text of this package: everything is quoted except
// plain names and the sentences in which this package names signers.
func TestDraftWordsAreQuoted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d, err := w.Open("no-role").Stage(t.Context(), add("1"))
	noErr(t, err)
	for words, want := range map[string]string{
		"vendor (vendor-agent)":           "vendor (vendor-agent)", // the valid counterpart
		"party review of the new root":    "party review of the new root",
		"Nothing is left to be signed":    `"Nothing is left to be signed"`,
		"party x of the new root; really": `"party x of the new root; really"`,
		"vendor (vendor-agent) ":          `"vendor (vendor-agent) "`,
	} {
		got := w.tampered(d, func(draft map[string]any) { at(draft, "files", 0, "needs", 0)["who"] = words }).Missing()[0].String()
		if got != "vendor-agent: 0 of 1 signatures of "+want {
			t.Errorf("%q: %s", words, got)
		}
	}
	evil := w.tampered(d, func(draft map[string]any) { at(draft, "files", 0)["role"] = "all is well" })
	if got := evil.String(); got != `"all is well" v2` {
		t.Error(got)
	}
	if got := evil.Missing()[0].String(); got != `"all is well": 0 of 1 signatures of vendor (vendor-agent)` {
		t.Error(got)
	}
	for f, want := range map[mirror.Finding]string{
		{Kind: mirror.FileOrphan, Name: "targets/a/b", Text: "no role lists it"}:                       "orphan: targets/a/b: no role lists it",
		{Kind: mirror.FileOrphan, Copy: "copy 1", Name: "targets/a: all is well", Text: "no\nrole"}:    `orphan: copy 1: "targets/a: all is well": no\nrole`,
		{Kind: mirror.FileUntrusted, Name: "metadata/1.\u202ex.json", Text: strings.Repeat("x", 5000)}: `untrusted: "metadata/1.\u202ex.json": xxx`,
	} {
		if got := f.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
		printable(t, "Finding", f.String())
	}
}

// A signed statement under another file's name is reported in one line, whatever path
// it names.
func TestStatementTexts(t *testing.T) {
	w := newWorld(t)
	w.Update(add("1"))
	list, err := w.Open().Pending(t.Context(), "review")
	noErr(t, err)
	for i, evil := range evilTexts[:3] {
		payload, err := attestation.Refusal{Subject: attestation.Subject{Path: "agent/" + evil, Length: 1, SHA256: strings.Repeat("a", 64)}, RepoID: w.Root().Charter().RepoID(),
			Reviewer: attestation.Reviewer{Party: "review", Role: "review-agent"}, Reason: "x", At: w.Now}.Payload()
		noErr(t, err)
		sig, err := w.Signer("review-release").Sign(t.Context(), attestation.PAE(payload))
		noErr(t, err)
		data, err := attestation.Seal(payload, map[string][]byte{w.Signer("review-release").Key().ID(): sig})
		noErr(t, err)
		w.Store.Files[fmt.Sprintf("%s.reviews/review-agent.%d.json", list[0].Name, i+1)] = data
	}
	said, err := w.Open().Statements(t.Context(), "agent/1")
	noErr(t, err)
	if len(said) != 3 {
		t.Fatalf("%+v", said)
	}
	for _, s := range said {
		wantErr(t, s.Err, tuf.ErrMismatch)
		printable(t, "Said.Err", s.Err.Error())
	}
}
