package tuf_test

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// A public call returns each sentinel as an *Error, and it matches the corresponding error of
// go-tuf. A sentinel without a row fails the test.
func TestEverySentinel(t *testing.T) {
	held := func(r *rawtuf.Repo) {
		f := rawtuf.FileOf(nil)
		f["custom"] = doc{"visum": doc{"reason": "wait", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}}
		rawtuf.At(r.Roles["hold"], "targets")[rawtuf.Path] = f
		r.Bump("hold")
		r.Publish()
	}
	rows := map[string]struct {
		sentinel error
		mutate   func(r *rawtuf.Repo)
		theirs   []error // of go-tuf; all others must not match
	}{
		"ErrMalformed": {tuf.ErrMalformed, func(r *rawtuf.Repo) { r.Files["timestamp.json"] = nil }, []error{&metadata.ErrRepository{}}},
		"ErrTooLarge": {tuf.ErrTooLarge, func(r *rawtuf.Repo) { r.Files["timestamp.json"] = make([]byte, 16<<10+1) },
			[]error{&metadata.ErrRepository{}, &metadata.ErrDownload{}, &metadata.ErrDownloadLengthMismatch{}}},
		"ErrThreshold": {tuf.ErrThreshold, func(r *rawtuf.Repo) { r.Signers["timestamp"] = nil; r.Publish() },
			[]error{&metadata.ErrRepository{}, &metadata.ErrUnsignedMetadata{}}},
		"ErrUnknownKey": {tuf.ErrUnknownKey, func(r *rawtuf.Repo) {
			r.NextRoot(func() {
				r.Charter()["epoch"] = 2
				r.AddKeys(r.Root, "snapshot-2")
				rawtuf.At(r.Root, "keys")["new"] = doc{"keytype": "ml-dsa", "scheme": "ml-dsa-44/1", "keyval": doc{"public": "PEM"}}
				rawtuf.At(r.Root, "roles")["timestamp"] = doc{"keyids": []any{"new"}, "threshold": 1}
				rawtuf.At(r.Root, "roles")["snapshot"] = r.Role(1, "snapshot-2")
			})
			envelope(r, "timestamp.json", func([]any) []any { return []any{doc{"keyid": "new", "sig": "00"}} })
		}, []error{&metadata.ErrRepository{}, &metadata.ErrUnsignedMetadata{}}},
		"ErrRollback": {tuf.ErrRollback, func(r *rawtuf.Repo) { r.Roles["timestamp"]["version"] = 4; r.Publish() },
			[]error{&metadata.ErrRepository{}, &metadata.ErrBadVersionNumber{}}},
		"ErrMismatch": {tuf.ErrMismatch, func(r *rawtuf.Repo) { edit(r, "5.snapshot.json", "2030", "2031") },
			[]error{&metadata.ErrRepository{}, &metadata.ErrLengthOrHashMismatch{}}},
		"ErrVersion": {tuf.ErrVersion, func(r *rawtuf.Repo) {
			r.NextRoot(func() { r.Root["version"] = 3 })
			r.Files["2.root.json"] = r.Files["3.root.json"]
		}, []error{&metadata.ErrRepository{}, &metadata.ErrLengthOrHashMismatch{}, &metadata.ErrBadVersionNumber{}}},
		"ErrCharter": {tuf.ErrCharter, func(r *rawtuf.Repo) { r.NextRoot(func() { delete(r.Root, "x-visum") }) }, []error{&metadata.ErrRepository{}}},
		"ErrNotApproved": {tuf.ErrNotApproved, func(r *rawtuf.Repo) {
			delete(rawtuf.At(r.Roles["review-agent"], "targets"), rawtuf.Path)
			r.Bump("review-agent")
			r.Publish()
		}, []error{&metadata.ErrRepository{}}},
		"ErrNotLogged": {tuf.ErrNotLogged, func(r *rawtuf.Repo) { r.NextRoot(func() { r.Charter()["log"] = logRule("enforce") }) }, []error{&metadata.ErrRepository{}}},
		"ErrRelease": {tuf.ErrRelease, func(r *rawtuf.Repo) {
			r.AddTarget(rawtuf.Path, "the agent", doc{"product": "agent"}, "vendor-agent", "review-agent")
			r.Bump("vendor-agent", "review-agent")
			r.Publish()
		}, []error{&metadata.ErrRepository{}}},
		"ErrExpired": {tuf.ErrExpired, func(r *rawtuf.Repo) {
			r.Bump()
			r.Roles["timestamp"]["expires"] = rawtuf.Stamp(rawtuf.Now)
			r.Publish()
		}, []error{&metadata.ErrRepository{}, &metadata.ErrExpiredMetadata{}}},
		"ErrNoTarget": {tuf.ErrNoTarget, func(r *rawtuf.Repo) {
			for _, role := range []string{"vendor-agent", "review-agent"} {
				delete(rawtuf.At(r.Roles[role], "targets"), rawtuf.Path)
			}
			r.Bump("vendor-agent", "review-agent")
			r.Publish()
		}, nil},
		"ErrHeld": {tuf.ErrHeld, held, nil},
		"ErrRecalled": {tuf.ErrRecalled, func(r *rawtuf.Repo) {
			sum := rawtuf.At(r.Roles["review-agent"], "targets", rawtuf.Path, "hashes")["sha256"]
			r.Roles["review-agent"][layout.RecallMember] = []any{doc{"path": rawtuf.Path, "sha256": sum, "reason": "bad", "at": rawtuf.Stamp(rawtuf.Now)}}
			r.Bump("review-agent")
			r.Publish()
		}, nil},
	}
	theirs := []error{&metadata.ErrRepository{}, &metadata.ErrUnsignedMetadata{}, &metadata.ErrBadVersionNumber{}, &metadata.ErrEqualVersionNumber{},
		&metadata.ErrExpiredMetadata{}, &metadata.ErrLengthOrHashMismatch{}, &metadata.ErrDownload{}, &metadata.ErrDownloadLengthMismatch{}, &metadata.ErrDownloadHTTP{}}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.New()
			c := newClient(t, r)
			want(t, c.walk(r), nil, "")
			row.mutate(r)
			err := c.walk(r)
			var e *tuf.Error
			if !errors.Is(err, row.sentinel) || !errors.As(err, &e) || !errors.Is(e.Err, row.sentinel) {
				t.Fatalf("got %v", err)
			}
			state := row.sentinel == tuf.ErrExpired || row.sentinel == tuf.ErrNoTarget || row.sentinel == tuf.ErrHeld || row.sentinel == tuf.ErrRecalled
			if errors.Is(err, tuf.ErrUntrusted) == state {
				t.Errorf("%v: do not trust it: %v", err, !state)
			}
			both := gotuf.Error(err)
			if both.Error() != err.Error() || !errors.Is(both, row.sentinel) || (both == err) != (len(row.theirs) == 0) {
				t.Errorf("converted to %v", both)
			}
			for _, x := range theirs {
				if errors.Is(err, x) {
					t.Errorf("%v is a %T without conversion", err, x)
				}
				expected := false
				for _, w := range row.theirs {
					expected = expected || errors.Is(w, x) && errors.Is(x, w)
				}
				if errors.Is(both, x) != expected {
					t.Errorf("%v is a %T: %v", err, x, !expected)
				}
			}
		})
	}
	var stale *metadata.ErrExpiredMetadata
	if !errors.As(gotuf.Error(&tuf.Error{Err: tuf.ErrExpired}), &stale) {
		t.Error("errors.As finds nothing of go-tuf")
	}
	f, err := parser.ParseFile(token.NewFileSet(), "error.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(f, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
			n++
			if name := v.Names[0].Name; name != "ErrUntrusted" && name != "ErrWaiting" && name != "ErrLogFork" && rows[name].sentinel == nil {
				t.Errorf("%s has no row", name)
			}
		}
		return true
	})
	if n != len(rows)+3 { // ErrUntrusted; ErrWaiting, which has TestRecovery; ErrLogFork, which has TestLoggedPrior
		t.Errorf("%d sentinels, %d rows", n, len(rows))
	}
}

// Foreign names can't add lines to a log, nor very long lines.
func TestErrorTextIsOneLine(t *testing.T) {
	for name, shown := range map[string]string{"lib": "tuf: lib v1: expired", "ä b": `tuf: "\u00e4 b" v1: expired`, "a\nb": `tuf: "a\nb" v1: expired`,
		"\u202eb": `tuf: "\u202eb" v1: expired`, strings.Repeat("x", 200): "tuf: " + strings.Repeat("x", 200) + " v1: expired",
		strings.Repeat("x", 201): `tuf: "` + strings.Repeat("x", 200) + `"... (201 bytes, sha256 84a0678c90937f5dcf9994d5866668da6b995109c8ad845410559b48a4ecafed) v1: expired`} {
		if got := (&tuf.Error{Role: name, Version: 1, Err: tuf.ErrExpired}).Error(); got != shown {
			t.Errorf("got %s, want %s", got, shown)
		}
	}
	// Nor can an Error that a caller changed.
	for _, detail := range []string{"a\nb", "\x1b[2J", "\u202e", strings.Repeat("x", 10_000)} {
		if got := (&tuf.Error{Role: "x", Err: tuf.ErrExpired, Detail: detail}).Error(); rawtuf.BadText(got) != "" {
			t.Errorf("%.100q", got)
		}
	}
	// Nor can the details.
	const evil = "a\nb"
	r := rawtuf.NewPlain()
	r.Delegate("targets", evil, doc{"paths": []any{"evil/*"}}, "lib")
	r.Roles[evil], r.Signers[evil] = rawtuf.Targets(), []string{"targets"}
	r.Publish()
	envelope(r, "5.lib.json", func(s []any) []any {
		return append(s, doc{"keyid": evil, "sig": ""}, doc{"keyid": evil, "sig": ""})
	})
	entry := rawtuf.At(r.Roles["snapshot"], "meta", "lib.json")
	delete(entry, "hashes")
	delete(entry, "length")
	r.PublishSnapshot()
	snap := mustSnapshot(t, r)
	for _, path := range []string{"evil/x", "lib/a.txt", "a\nb"} {
		_, err := snap.UnsafeTarget(path, from(r))
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
	_, err := snap.UnsafeTarget("evil/x", from(r))
	want(t, err, tuf.ErrThreshold, `keys of "a\nb" signed`)
}
