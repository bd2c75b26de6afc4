package repo_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
)

// without is a storage whose listings lack a file, as listings of an object store may
// for a while.
type without struct {
	*memory
	name string
}

func (s without) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	return func(yield func(storage.FileInfo, error) bool) {
		for info, err := range s.memory.List(ctx, prefix) {
			if info.Name != s.name && !yield(info, err) {
				return
			}
		}
	}
}

// A draft waits for its signatures and is published. Prune runs soon after, and the
// listing does not show the new snapshot yet.
func TestPruneListingBehind(t *testing.T) {
	t.Parallel()
	w := dated(t)
	w.update(swap(1))
	draft, err := w.open().Stage(t.Context(), swap(2))
	noErr(t, err)
	w.now = w.now.Add(50 * time.Minute)
	noErr(t, w.open().Publish(t.Context(), draft))
	w.now = w.now.Add(20 * time.Minute)
	w.sees("root 1 agent/2")
	w.elsewhere = without{w.store, "metadata/3.snapshot.json"}
	if w.store.files["metadata/3.snapshot.json"] == nil || w.store.files["metadata/4.snapshot.json"] != nil {
		t.Fatal("the current snapshot has changed")
	}
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	w.intact()
	w.sees("root 1 agent/2")
}

// A publisher dies between its snapshot and the timestamp. The repository continues
// with the previous snapshot, signed again for hours, until a later publication passes
// the abandoned one. Clients with the last timestamp before that find the files that
// they request, although the abandoned snapshot looks like an old successor.
func TestPruneAfterDeadPublisher(t *testing.T) {
	t.Parallel()
	w := dated(t)
	w.update(swap(1))
	w.store.before = func(name string) error {
		if name == "metadata/timestamp.json" {
			return errKilled
		}
		return nil
	}
	if err := w.try(swap(2)); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.store.before = nil
	for range 4 {
		w.now = w.now.Add(20 * time.Hour)
		noErr(t, w.open().Renew(t.Context()))
	}
	p := w.product()
	snap, err := p.refresh()
	noErr(t, err)
	w.store.before = func(name string) error { // the next publisher does not clean up either
		if strings.HasSuffix(name, ".snapshot.json") && w.store.files[name] != nil {
			return errKilled
		}
		return nil
	}
	w.update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Remove("review", "agent/1"))
	})
	w.store.before = nil
	w.sees("root 1")
	w.now = w.now.Add(2 * time.Hour)
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	a, err := snap.Approve("agent/1", p.get)
	noErr(t, err)
	if w.store.files[layout.TargetName(a.Path(), a.SHA256())] == nil {
		t.Error("a client with a valid timestamp requests a missing file")
	}
	w.intact()
	// Two days later no client has a valid copy of that timestamp.
	w.now = w.now.Add(48 * time.Hour)
	noErr(t, w.open().Renew(t.Context()))
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	if w.store.files[layout.TargetName(a.Path(), a.SHA256())] != nil {
		t.Error("an unused file was not removed")
	}
	w.intact()
}
