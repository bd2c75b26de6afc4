package repo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/signing"
)

// A machine that adopts has seen what is published, and signed nothing. After its first
// signature, and after another machine's, its ledger says so.
func TestLedgerInfo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(add("1"))
	w.Update(approve("1"))
	m := w.machine()
	r := m.open("review-release", "timestamp", "snapshot")
	m.refuses(signing.ErrNoLedger, func() error { _, err := r.LedgerInfo(t.Context()); return err })
	digest, err := r.AdoptDigest(t.Context())
	noErr(t, err)
	noErr(t, r.Adopt(t.Context(), digest))

	role := func(x *repo.LedgerInfo, name string) repo.LedgerRole {
		t.Helper()
		i := slices.IndexFunc(x.Roles, func(r repo.LedgerRole) bool { return r.Role == name })
		if i < 0 {
			t.Fatalf("no %s in %+v", name, x.Roles)
		}
		return x.Roles[i]
	}
	read := func() *repo.LedgerInfo {
		t.Helper()
		x, err := r.LedgerInfo(t.Context())
		noErr(t, err)
		return x
	}
	x := read()
	if x.Digest != digest || !x.Current || x.First || x.Root.Version != 1 || len(x.TakenBack) > 0 {
		t.Errorf("after Adopt: %+v", x)
	}
	if got := role(x, "review-agent"); got.Seen.Version != 2 || got.High != got.Seen || len(got.Signed) > 0 {
		t.Errorf("after Adopt: %+v", got)
	}

	recall := func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "loses data"})
	}
	noErr(t, r.Update(t.Context(), recall))
	x = read()
	got := role(x, "review-agent")
	if !x.Current || len(got.Signed) != 1 || got.Signed[0].Version != 3 || !got.Signed[0].At.Equal(w.Now) || len(got.Signed[0].KeyIDs) != 1 {
		t.Errorf("after a signature: %+v, current %t", got, x.Current)
	}
	if len(x.TakenBack) != 1 || x.TakenBack[0].Kind != "recall" || x.TakenBack[0].Path != "agent/1" || x.TakenBack[0].Reason != "loses data" {
		t.Errorf("after a recall: %+v", x.TakenBack)
	}

	w.Now = w.Now.Add(time.Hour)
	noErr(t, w.Open("vendor-release", "timestamp", "snapshot").Update(t.Context(), add("2")))
	if x = read(); x.Current || x.Digest == digest {
		t.Errorf("another machine published: current %t", x.Current)
	}
}
