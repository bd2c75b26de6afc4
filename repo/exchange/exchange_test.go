package exchange_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/exchange"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

const id = "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1"

var noErr = rawtuf.NoErr

// reviewers sign every release together.
var reviewers = []string{"ann", "ben", "cleo", "dora", "emil", "finn"}

// world is a repository with one approved release, whose review role takes all reviewers.
func world(t *testing.T) *repotest.World {
	t.Helper()
	w := repotest.Empty(t)
	w.Update(func(tx *repo.Tx) error {
		err := w.Define(tx)
		tx.Root().RepoID = id
		tx.Root().Classes[0].Roles[1].Keys = repo.Keys{Keys: w.Public(reviewers...), Threshold: len(reviewers)}
		return err
	})
	return w
}

func add(version string) func(*repo.Tx) error {
	return func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/"+version, strings.NewReader("agent "+version), repotest.Release(version))
	}
}

func open(t *testing.T, s storage.Storage, w *repotest.World, r *repo.Repo) *exchange.Exchange {
	t.Helper()
	x, err := exchange.New(s, r, w.Store, id)
	noErr(t, err)
	return x
}

func list(t *testing.T, x *exchange.Exchange) ([]*exchange.Item, []exchange.Skipped) {
	t.Helper()
	items, skipped, err := x.List(t.Context())
	noErr(t, err)
	return items, skipped
}

// Reviewers sign copies at the same time and send them. The exchange has one copy with
// every signature.
func TestCopiesMerge(t *testing.T) {
	t.Parallel()
	w := world(t)
	w.Update(add("1"))
	d, err := w.Open("vendor-1").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) })
	noErr(t, err)
	data, err := d.Bytes()
	noErr(t, err)
	for name, store := range map[string]storage.Storage{"memory": repotest.NewMemory(), "directory": storage.Dir(t.TempDir())} {
		var wg sync.WaitGroup
		for _, who := range reviewers {
			wg.Go(func() {
				r := w.Open(who)
				mine, err := r.OpenDraft(data)
				if err == nil {
					err = mine.Sign(t.Context(), w.Signer(who))
				}
				if err == nil {
					x, _ := exchange.New(store, r, w.Store, id)
					_, _, err = x.Send(t.Context(), mine)
				}
				if err != nil {
					t.Errorf("%s: %s: %v", name, who, err)
				}
			})
		}
		wg.Wait()
		x := open(t, store, w, w.Open("ann"))
		items, skipped := list(t, x)
		if len(items) != 1 || len(skipped) > 0 || len(items[0].Draft.Missing()) > 0 || items[0].State != exchange.Open {
			t.Fatalf("%s: %v, %v", name, items, skipped)
		}
		if _, sent, err := x.Send(t.Context(), items[0].Draft); err != nil || sent {
			t.Errorf("%s: sent again: %v, %v", name, sent, err)
		}
	}
}

// What others put there is reported and skipped, and nothing of it reaches a signer.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	w, other := world(t), world(t)
	w.Update(add("1"))
	r := w.Open("vendor-1", "vendor-release")
	d, err := r.Stage(t.Context(), add("2"))
	noErr(t, err)
	store := repotest.NewMemory()
	x := open(t, store, w, r)
	name, sent, err := x.Send(t.Context(), d)
	noErr(t, err)
	if want := id + "/drafts/" + d.Digest() + ".draft"; name != want || !sent {
		t.Fatal(name, sent)
	}
	good := string(store.Files[name])
	foreign, err := other.Open().Stage(t.Context(), add("3"))
	noErr(t, err)
	theirs, err := foreign.Bytes()
	noErr(t, err)
	aaaa := strings.TrimSuffix(strings.Repeat("aaaa-", 8), "-")
	for file, content := range map[string]string{
		"/drafts/junk":                           "x",
		"/drafts/" + aaaa + ".draft":             "{",
		"/drafts/" + aaaa + "-2.draft":           good,
		"/drafts/" + aaaa + "-9.draft":           good,
		"/drafts/x/" + aaaa + ".draft":           good,
		"/drafts/" + d.Digest() + "-3.draft":     strings.Replace(good, `"visum-draft": 1`, `"visum-draft": 2`, 1),
		"/drafts/" + foreign.Digest() + ".draft": string(theirs),
	} {
		store.Files[id+file] = []byte(content)
	}
	items, skipped := list(t, x)
	got := map[string]string{}
	for _, s := range skipped {
		if !errors.Is(s.Err, exchange.ErrForeign) {
			t.Errorf("%s: %v", s.Name, s.Err)
		}
		got[strings.TrimPrefix(s.Name, id+"/drafts/")] = s.Err.Error()
	}
	// A draft of another repository can't be told from one of this by its name; its states
	// and its signatures do not fit.
	if len(items)+len(got) != 8 || len(got) < 6 {
		t.Errorf("%d items, skipped %v", len(items), got)
	}
	for _, it := range items {
		if it.Digest == foreign.Digest() && it.State == exchange.Open {
			if _, err := r.PendingIn(t.Context(), "review", it.Draft); err == nil {
				t.Error("a draft of another repository counts")
			}
		}
	}

	// A copy with signatures that do not verify: they are dropped, so the signers see what
	// is missing. A copy with other needs can't be merged: the next name is used.
	clear(store.Files)
	sig := good[strings.Index(good, `"sig": "`)+8:][:128]
	store.Files[name] = []byte(strings.Replace(good, sig, strings.Repeat("0", 128), 1))
	items, _ = list(t, x)
	if len(items) != 1 || len(items[0].Draft.Missing()) == 0 {
		t.Fatalf("%v: the bad signature counts", items)
	}
	if again, _, err := x.Send(t.Context(), d); err != nil || again != name {
		t.Fatal(again, err)
	}
	if items, _ = list(t, x); len(items[0].Draft.Missing()) > 0 {
		t.Error("the good signature does not replace it")
	}
	store.Files[name] = []byte(strings.Replace(good, `"threshold": 1`, `"threshold": 0`, 1))
	if string(store.Files[name]) == good {
		t.Fatal("the draft has no threshold")
	}
	again, _, err := x.Send(t.Context(), d)
	noErr(t, err)
	if want := id + "/drafts/" + d.Digest() + "-2.draft"; again != want {
		t.Errorf("sent as %s", again)
	}
	for n := range 9 {
		store.Files[fmt.Sprintf("%s/drafts/%s-%d.draft", id, d.Digest(), n)] = []byte("x")
	}
	if _, _, err := x.Send(t.Context(), d); !errors.Is(err, exchange.ErrForeign) {
		t.Errorf("all names are taken: %v", err)
	}
	if _, err := exchange.New(store, r, w.Store, "../x"); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
}

// However many files an attacker writes, List reads a bounded number.
func TestBounds(t *testing.T) {
	t.Parallel()
	w := world(t)
	store := repotest.NewMemory()
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	for i := range 10_500 {
		n := string([]byte{digits[i/1024%32], digits[i/32%32], digits[i%32], 'a'})
		store.Files[id+"/drafts/"+n+strings.Repeat("-aaaa", 7)+".draft"] = []byte("{}")
	}
	reads := 0
	x, err := exchange.New(counted{store, &reads}, w.Open("vendor-1"), w.Store, id)
	noErr(t, err)
	items, skipped := list(t, x)
	if len(items) > 0 || len(skipped) != 10_001 || reads != 1000 {
		t.Errorf("%d items, %d skipped, %d read", len(items), len(skipped), reads)
	}
	if _, _, err := open(t, onlyStorage{store}, w, w.Open("vendor-1")).List(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

type counted struct {
	*repotest.Memory
	reads *int
}

func (c counted) Read(ctx context.Context, name string) ([]byte, error) {
	*c.reads++
	return c.Memory.Read(ctx, name)
}

type onlyStorage struct{ storage.Storage }

// A draft is open, then published; another one becomes stale; a copy of the repository
// that is behind finds neither. Prune removes published and stale drafts alone.
func TestStates(t *testing.T) {
	t.Parallel()
	w := world(t)
	w.Update(add("1"))
	old := w.Store.Copy()
	w.Update(add("2"))
	r := w.Open()
	store := repotest.NewMemory()
	store.Clock = func() time.Time { return w.Now }
	x := open(t, store, w, r)
	var drafts []*repo.Draft
	for _, v := range []string{"3", "4"} {
		d, err := r.Stage(t.Context(), add(v))
		noErr(t, err)
		drafts = append(drafts, d)
		n, err := x.SendFiles(t.Context(), d)
		if noErr(t, err); n != 1 {
			t.Fatal(n, "files")
		}
		_, _, err = x.Send(t.Context(), d)
		noErr(t, err)
	}
	refusal, err := r.Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/2", repo.RefusalRecord{Reason: "x"})
	})
	noErr(t, err)
	_, _, err = x.Send(t.Context(), refusal)
	noErr(t, err)
	states := func(x *exchange.Exchange) map[string]exchange.State {
		items, skipped := list(t, x)
		if len(skipped) > 0 {
			t.Fatal(skipped)
		}
		out := map[string]exchange.State{}
		for _, it := range items {
			out[it.Digest] = it.State
			if (it.State == exchange.Open) == (it.Reason != "") || it.State != exchange.Open && len(it.Targets) > 0 {
				t.Errorf("%s: reason %q, %v", it.State, it.Reason, it.Targets)
			}
		}
		return out
	}
	want := func(x *exchange.Exchange, all ...exchange.State) {
		t.Helper()
		got := states(x)
		for i, d := range []*repo.Draft{drafts[0], drafts[1], refusal} {
			if got[d.Digest()] != all[i] {
				t.Errorf("draft %d is %q, want %q", i, got[d.Digest()], all[i])
			}
		}
	}
	want(x, exchange.Open, exchange.Open, exchange.Open)

	// The copy has files of its own, and its signer has no ledger of these versions.
	cfg := w.Config()
	cfg.Ledger, cfg.Pin = nil, w.Pin()
	behind, err := exchange.New(store, repo.New(old, cfg), old, id)
	noErr(t, err)
	want(behind, exchange.NotYet, exchange.NotYet, exchange.Open)
	items, _ := list(t, behind)
	if removed, err := behind.Prune(t.Context(), items, false); err != nil || len(removed) > 0 {
		t.Error(removed, err)
	}
	if removed, err := behind.PruneFiles(t.Context(), items, w.Now.Add(repotest.Day), false); err != nil || len(removed) > 0 {
		t.Error(removed, err)
	}

	noErr(t, r.Publish(t.Context(), drafts[0]))
	noErr(t, r.Publish(t.Context(), refusal))
	want(x, exchange.Published, exchange.Stale, exchange.Published)
	items, _ = list(t, x)
	if removed, err := x.Prune(t.Context(), items, true); err != nil || len(removed) != 3 {
		t.Error(removed, err)
	}
	want(x, exchange.Published, exchange.Stale, exchange.Published)
	w.Now = w.Now.Add(repotest.Day)
	// A file that was written since the listing stays.
	var name string
	for _, it := range items {
		if it.State == exchange.Stale {
			name = id + "/drafts/" + it.Digest + ".draft"
		}
	}
	data := store.Files[name]
	noErr(t, store.Replace(t.Context(), name, data, append(data, '\n')))
	if removed, err := x.Prune(t.Context(), items, false); err != nil || len(removed) != 2 {
		t.Error(removed, err)
	}
	items, _ = list(t, x)
	if len(items) != 1 {
		t.Fatal(items)
	}
	if removed, err := x.Prune(t.Context(), items, false); err != nil || len(removed) != 1 {
		t.Error(removed, err)
	}
	for _, dry := range []bool{true, false} {
		if removed, err := x.PruneFiles(t.Context(), nil, w.Now.Add(-2*repotest.Day), dry); err != nil || len(removed) > 0 {
			t.Error("young files: ", removed, err)
		}
	}
	if removed, err := x.PruneFiles(t.Context(), nil, w.Now, false); err != nil || len(removed) != 2 || len(store.Files) > 0 {
		t.Error(removed, err)
	}
}

// A review centre whose copy lacks a file gets it from the exchange if its bytes are
// those that the vendor has signed.
func TestFiles(t *testing.T) {
	t.Parallel()
	w := world(t)
	centre := w.Store.Copy()
	vendor := w.Open("vendor-1", "vendor-release")
	d, err := vendor.Stage(t.Context(), add("1"))
	noErr(t, err)
	store := repotest.NewMemory()
	x := open(t, store, w, vendor)
	_, err = x.SendFiles(t.Context(), d)
	noErr(t, err)
	cfg := w.Config()
	cfg.Pin = w.Pin()
	r := repo.New(centre, cfg)
	mine, err := exchange.New(store, r, centre, id)
	noErr(t, err)
	pending, err := r.PendingIn(t.Context(), "review", d)
	noErr(t, err)
	if len(pending) != 1 {
		t.Fatal(pending)
	}
	name := id + "/" + pending[0].Name
	good := store.Files[name]
	for _, bad := range []string{"agent 2", "agent", "agent 11"} {
		store.Files[name] = []byte(bad)
		n, skipped, err := mine.FetchFiles(t.Context(), pending)
		if noErr(t, err); n != 0 || len(skipped) != 1 || !errors.Is(skipped[0].Err, tuf.ErrMismatch) || centre.Files[pending[0].Name] != nil {
			t.Fatal(bad, n, skipped)
		}
	}
	delete(store.Files, name)
	if n, skipped, err := mine.FetchFiles(t.Context(), pending); err != nil || n != 0 || len(skipped) > 0 {
		t.Fatal(n, skipped, err)
	}
	store.Files[name] = good
	if n, skipped, err := mine.FetchFiles(t.Context(), pending); err != nil || n != 1 || len(skipped) > 0 || string(centre.Files[pending[0].Name]) != "agent 1" {
		t.Fatal(n, skipped, err)
	}
	if n, _, err := mine.FetchFiles(t.Context(), pending); err != nil || n != 0 {
		t.Fatal(n, err)
	}
}
