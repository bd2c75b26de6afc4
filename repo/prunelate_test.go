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
	w.Update(swap(1))
	draft, err := w.Open().Stage(t.Context(), swap(2))
	noErr(t, err)
	w.Now = w.Now.Add(50 * time.Minute)
	noErr(t, w.Open().Publish(t.Context(), draft))
	w.Now = w.Now.Add(20 * time.Minute)
	w.Sees("root 1 agent/2")
	w.Elsewhere = without{w.Store, "metadata/3.snapshot.json"}
	if w.Store.Files["metadata/3.snapshot.json"] == nil || w.Store.Files["metadata/4.snapshot.json"] != nil {
		t.Fatal("the current snapshot has changed")
	}
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	w.Intact()
	w.Sees("root 1 agent/2")
}

// A publisher dies between its snapshot and the timestamp. The repository continues
// with the previous snapshot, signed again for hours, until a later publication passes
// the abandoned one. Clients with the last timestamp before that find the files that
// they request, although the abandoned snapshot looks like an old successor.
func TestPruneAfterDeadPublisher(t *testing.T) {
	t.Parallel()
	w := dated(t)
	w.Update(swap(1))
	w.Store.Before = func(name string) error {
		if name == "metadata/timestamp.json" {
			return errKilled
		}
		return nil
	}
	if err := w.Try(swap(2)); !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	w.Store.Before = nil
	for range 4 {
		w.Now = w.Now.Add(20 * time.Hour)
		noErr(t, w.Open().Renew(t.Context()))
	}
	p := w.Product()
	snap, err := p.Refresh()
	noErr(t, err)
	w.Store.Before = func(name string) error { // the next publisher does not clean up either
		if strings.HasSuffix(name, ".snapshot.json") && w.Store.Files[name] != nil {
			return errKilled
		}
		return nil
	}
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Remove("review", "agent/1"))
	})
	w.Store.Before = nil
	w.Sees("root 1")
	w.Now = w.Now.Add(2 * time.Hour)
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	a, err := snap.Approve("agent/1", p.Get)
	noErr(t, err)
	if w.Store.Files[layout.TargetName(a.Path(), a.SHA256())] == nil {
		t.Error("a client with a valid timestamp requests a missing file")
	}
	w.Intact()
	// Two days later no client has a valid copy of that timestamp.
	w.Now = w.Now.Add(48 * time.Hour)
	noErr(t, w.Open().Renew(t.Context()))
	w.prune(&repo.PruneOptions{Drafts: time.Hour})
	if w.Store.Files[layout.TargetName(a.Path(), a.SHA256())] != nil {
		t.Error("an unused file was not removed")
	}
	w.Intact()
}
