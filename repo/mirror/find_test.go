package mirror_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/visum-dev/visum/internal/metafile"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// FindBytes finds what any role lists, approved or not, and what was recalled.
func TestFindBytes(t *testing.T) {
	t.Parallel()
	w := richWorld(t)
	pin := w.Pin()
	w.Update(add("2")) // the vendor alone
	one, two, none := metafile.SHA256([]byte("agent 1")), metafile.SHA256([]byte("agent 2")), metafile.SHA256(nil)
	find := func() map[string][]string {
		t.Helper()
		paths, err := mirror.FindBytes(t.Context(), storage.SourceOf(w.Store), pin, []string{one, two, none}, nil)
		noErr(t, err)
		return paths
	}
	want := map[string][]string{one: {"agent/1"}, two: {"agent/2"}, none: nil}
	if got := find(); !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("got %v, want %v", got, want)
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("vendor", "agent/1", repo.RecallRecord{Reason: "data loss"})
	})
	if got := find(); !maps.EqualFunc(got, want, slices.Equal) {
		t.Fatalf("after the recall: got %v, want %v", got, want)
	}

	// What does not verify is not searched.
	healthy := maps.Clone(w.Store.Files)
	damage("metadata/2.review-agent.json")(w)
	if _, err := mirror.FindBytes(t.Context(), storage.SourceOf(w.Store), pin, []string{one}, nil); !errors.Is(err, tuf.ErrUntrusted) {
		t.Fatal(err)
	}
	w.Store.Files = healthy
	find()
}
