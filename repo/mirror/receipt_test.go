package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/receipt"
)

// An auditor keeps a receipt, and verifies it years later without the repository.
func ExampleReceipt() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	pin := published(ctx, dir, now)

	data, err := mirror.Receipt(ctx, storage.SourceOf(storage.Dir(dir)), pin, "agent/agent-1.1",
		&mirror.ReceiptOptions{Options: mirror.Options{Now: func() time.Time { return now }}})
	check(err)

	r, err := receipt.Open(data, pin, nil)
	check(err)
	fmt.Println(r)
	fmt.Println("the file is:", r.Check(strings.NewReader("the new agent")))
	for _, s := range r.Statements() {
		fmt.Println(s.Party, "reviewed it on", s.Review.From.Format(time.DateOnly))
	}
	// Output:
	// agent/agent-1.1, 13 bytes, sha256 f78b726f5f161b6a: approved, as of 2026-11-20T12:00:00Z under root v1
	// the file is: <nil>
	// review reviewed it on 2026-11-20
}

// A receipt is not made of what can't be verified, or was not decided.
func TestReceiptRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		hurt func(w *world)
		path string
		want error
	}{
		"nothing":           {func(*world) {}, "agent/1", nil},
		"no such target":    {func(*world) {}, "agent/7", tuf.ErrNoTarget},
		"no class":          {func(*world) {}, "tools/7", tuf.ErrNotApproved},
		"not approved":      {func(w *world) { w.Update(add("2")) }, "agent/2", tuf.ErrNotApproved},
		"expired":           {func(w *world) { w.Now = w.Now.Add(48 * time.Hour) }, "agent/1", tuf.ErrExpired},
		"clock before root": {func(w *world) { w.Now = w.Now.Add(-48 * time.Hour) }, "agent/1", nil},
		"role changed":      {damage("metadata/2.review-agent.json"), "agent/1", tuf.ErrMismatch},
		"snapshot changed":  {damage("metadata/3.snapshot.json"), "agent/1", tuf.ErrMismatch},
		"timestamp changed": {damage("metadata/timestamp.json"), "agent/1", tuf.ErrUntrusted},
		"newest root":       {damage("metadata/2.root.json"), "agent/1", tuf.ErrUntrusted},
		"other role":        {damage("metadata/1.targets.json"), "agent/1", nil}, // no decision reads it
		"target gone":       {func(w *world) { delete(w.Store.Files, w.Store.File(t, "targets/agent/*")) }, "agent/1", nil},
		"false statement": {func(w *world) {
			w.Store.Files[w.Store.File(t, "targets/agent/*")+".reviews/review-agent.1.json"] = []byte("{}")
		}, "agent/1", nil},
		"publish not over": {func(w *world) { w.Store.Files["metadata/3.root.json"] = nextRoot(w) }, "agent/1", storage.ErrConflict},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := richWorld(t)
			pin := w.Pin()
			x.hurt(w)
			data, err := mirror.Receipt(t.Context(), storage.SourceOf(w.Store), pin, x.path, &mirror.ReceiptOptions{Options: mirror.Options{Now: func() time.Time { return w.Now }}})
			if !errors.Is(err, x.want) || (data == nil) != (x.want != nil) {
				t.Fatalf("got %v, want %v", err, x.want)
			}
			if x.want == nil {
				r, err := receipt.Open(data, pin, nil)
				noErr(t, err)
				if r.Err() != nil || r.Root().Version() != 2 || len(r.Statements()) != 0 {
					t.Error(r)
				}
			} else if !strings.HasPrefix(err.Error(), "mirror: receipt of "+x.path+": ") {
				t.Error(err)
			}
		})
	}
	_, err := mirror.Receipt(t.Context(), storage.SourceOf(newMemory()), []byte("{}"), "agent/1", nil)
	if !errors.Is(err, tuf.ErrMalformed) {
		t.Error(err)
	}
	plain := rawtuf.NewPlain()
	m := plainStore(t, plain, map[string]string{"top.txt": "top", "lib/a.txt": "a"})
	_, err = mirror.Receipt(t.Context(), storage.SourceOf(m), m.Files["metadata/1.root.json"], "top.txt", nil)
	if !errors.Is(err, tuf.ErrNotApproved) {
		t.Error(err)
	}
}

func damage(name string) func(w *world) {
	return func(w *world) { flip(name)(w, w.Store.Files) }
}

// nextRoot returns a root that follows the newest one and replaces the online keys.
func nextRoot(w *world) []byte {
	next := w.Copy()
	next.Update(func(tx *repo.Tx) error {
		tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = next.Public("timestamp-2"), next.Public("snapshot-2")
		return nil
	})
	return next.Store.Files["metadata/3.root.json"]
}

// Of many statements of a role, the receipt has the last ones.
func TestReceiptHasTheLastStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pin := w.Pin()
	w.Update(add("1"))
	for range 18 {
		w.Now = w.Now.Add(time.Second)
		w.Update(func(tx *repo.Tx) error { return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "not yet"}) })
	}
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reinstate: "now it is"})
	})
	data, err := mirror.Receipt(t.Context(), storage.SourceOf(w.Store), pin, "agent/1", &mirror.ReceiptOptions{Options: mirror.Options{Now: func() time.Time { return w.Now }}})
	noErr(t, err)
	r, err := receipt.Open(data, pin, nil)
	noErr(t, err)
	s := r.Statements()
	if len(s) != 16 || s[0].Number != 4 || s[0].Refusal == nil || s[15].Number != 19 || s[15].Review == nil || r.Err() != nil {
		t.Errorf("%d statements: %+v", len(s), s)
	}
}
