package receipt_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/receipt"
)

var noErr = rawtuf.NoErr

const day = 24 * time.Hour

type world struct{ *repotest.World }

// newWorld returns a repository with a hold, a recovery rule, and one release with a
// review statement.
func newWorld(t testing.TB) world {
	t.Helper()
	w := world{repotest.Empty(t)}
	w.Update(func(tx *repo.Tx) error {
		if err := w.Define(tx); err != nil {
			return err
		}
		r := tx.Root()
		r.Classes[0].Hold = &repo.Hold{Role: "hold", Keys: repo.Keys{Keys: w.Public("hold")}, Max: 7 * day}
		r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: w.Public("bank")}, {Name: "university", Keys: w.Public("university")}}}
		return nil
	})
	w.Pin()
	w.Update(repotest.Add("1"))
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reviewer: "Ann", Source: tuf.SourceRef{URI: "git+https://src.example/agent"}, Valid: 12 * time.Hour})
	})
	return w
}

func (w world) source() storage.Source { return storage.SourceOf(w.Store) }

func (w world) options() *mirror.ReceiptOptions {
	return &mirror.ReceiptOptions{Options: mirror.Options{Now: func() time.Time { return w.Now }}}
}

// receipt makes a receipt of agent/1 from the first pin.
func (w world) receipt() []byte {
	w.T.Helper()
	data, err := mirror.Receipt(w.T.Context(), w.source(), w.Pin(), "agent/1", w.options())
	noErr(w.T, err)
	return data
}

// newPin returns the pin of the newest root.
func (w world) newPin() []byte {
	w.T.Helper()
	pin, err := w.Open().Pin(w.T.Context())
	noErr(w.T, err)
	return pin
}

// roots returns the root files from a version on.
func (w world) roots(from int) (out [][]byte) {
	for n := from; w.Store.Files[fmt.Sprintf("metadata/%d.root.json", n)] != nil; n++ {
		out = append(out, w.Store.Files[fmt.Sprintf("metadata/%d.root.json", n)])
	}
	return out
}

func (w world) renewRoot() { w.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil }) }

// rotate gives new keys to every role, in two roots, and returns their pins.
func (w world) rotate() (middle, last []byte) {
	w.T.Helper()
	w.Update(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys, r.Targets.Keys = w.Public("timestamp-2"), w.Public("snapshot-2"), w.Public("targets-2")
		r.Classes[0].Roles[0].Keys.Keys, r.Classes[0].Roles[1].Keys.Keys = w.Public("vendor-release-2"), w.Public("review-release-2")
		r.Classes[0].Hold.Keys.Keys = w.Public("hold-2")
		return nil
	})
	middle = w.newPin()
	w.Update(func(tx *repo.Tx) error {
		r := tx.Root()
		r.Parties[0].Keys, r.Parties[1].Keys = w.Public("vendor-3", "vendor-4"), w.Public("review-3", "review-4")
		return nil
	})
	return middle, w.newPin()
}

func open(t *testing.T, data, pin []byte, opt *receipt.Options) *receipt.Receipt {
	t.Helper()
	r, err := receipt.Open(data, pin, opt)
	noErr(t, err)
	return r
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data := w.receipt()
	if again := w.receipt(); !bytes.Equal(again, data) {
		t.Error("the same state gives other bytes")
	}
	r := open(t, data, w.Pin(), nil)
	a := r.Approved()
	if r.Err() != nil || a.Path() != "agent/1" || a.Length() != 7 || a.SHA256() != repotest.Sum("agent 1") || len(a.Signoffs()) != 2 || a.Basis().Root != 1 || !a.Basis().Time.Equal(w.Now) {
		t.Errorf("%v: %v, %+v", r, r.Err(), a.Basis())
	}
	if g := r.Agreed(); g.Path != a.Path() || g.Length != a.Length() || g.SHA256 != a.SHA256() || g.Class != "agent" || g.RepoID != a.RepoID() || len(g.Signoffs) != 2 {
		t.Errorf("%+v", g)
	}
	if s := r.Statements(); len(s) != 1 || s[0].Party != "review" || s[0].Role != "review-agent" || s[0].Number != 1 || s[0].Review == nil || s[0].Review.Source.URI != "git+https://src.example/agent" || s[0].Rotated || len(s[0].KeyIDs) != 1 {
		t.Errorf("%+v", s)
	}
	if !r.Time().Equal(w.Now) || !r.Reviewed().Equal(w.Now) || !r.Expires().Equal(w.Now.Add(day)) || r.Root().Version() != 1 || r.Newest().Version() != 1 || r.Rotated() != nil || r.Recovered() != 0 || r.Proofs() != nil {
		t.Errorf("%v %v %v %v", r.Time(), r.Reviewed(), r.Expires(), r.Rotated())
	}
	if want := "agent/1, 7 bytes, sha256 " + a.SHA256()[:16] + ": approved, as of 2026-11-20T13:00:00Z under root v1"; r.String() != want {
		t.Errorf("got %q, want %q", r, want)
	}
	noErr(t, r.Check(strings.NewReader("agent 1")))
	for _, other := range []string{"agent 2", "agent", "agent 1 ", ""} {
		if err := r.Check(strings.NewReader(other)); !errors.Is(err, tuf.ErrMismatch) {
			t.Errorf("%q: %v", other, err)
		}
	}
	if err := r.Check(&repotest.Endless{Size: 1 << 30}); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
}

// A receipt outlives the keys, the metadata and the release.
func TestReceiptAfterRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	data, first := w.receipt(), w.Pin()
	second := w.newPin()
	middle, third := w.rotate()
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Remove("review", "agent/1"))
	})
	w.Now = w.Now.Add(2000 * day)
	for name := range w.Store.Files { // roots are never pruned
		if !strings.HasSuffix(name, ".root.json") {
			delete(w.Store.Files, name)
		}
	}
	all := []string{"hold", "review-agent", "snapshot", "timestamp", "vendor-agent"}
	for name, x := range map[string]struct {
		pin     []byte
		roots   [][]byte
		newest  int64
		rotated []string
	}{
		"first pin":                         {first, nil, 1, nil},
		"same pin":                          {second, nil, 1, nil},
		"first pin, later roots":            {first, w.roots(2), 3, all},
		"all roots":                         {first, w.roots(1), 3, all},
		"pin of the next root":              {middle, nil, 2, all},
		"newer pin, roots in between":       {third, w.roots(2)[:1], 3, all},
		"newer pin, roots up to the newest": {third, w.roots(2), 3, all},
	} {
		r := open(t, data, x.pin, &receipt.Options{Roots: x.roots})
		if r.Err() != nil || r.Root().Version() != 1 || r.Newest().Version() != x.newest || !slices.Equal(r.Rotated(), x.rotated) || len(r.Statements()) != 1 {
			t.Errorf("%s: %v, newest v%d, rotated %q", name, r, r.Newest().Version(), r.Rotated())
		}
	}
	for _, x := range map[string]struct {
		pin   []byte
		roots [][]byte
		says  string
	}{
		"newer pin, no roots":   {third, nil, "the pin has root v3, the receipt and the given roots are v1 to v1"},
		"a gap":                 {first, w.roots(3), "the root after v2 must be v2, it is v3"},
		"roots in wrong order":  {first, [][]byte{w.roots(2)[1], w.roots(2)[0]}, "it is v3"},
		"something that is not": {first, [][]byte{w.roots(2)[0], []byte("{}")}, ""},
	} {
		_, err := receipt.Open(data, x.pin, &receipt.Options{Roots: x.roots})
		if x.says == "" {
			noErr(t, err) // version 0 is not after the receipt: ignored
			continue
		}
		wantErr(t, err, tuf.ErrVersion, x.says)
	}
	if one := open(t, data, first, &receipt.Options{Roots: w.roots(2)}); !strings.HasSuffix(one.String(), ", keys rotated by root v3") {
		t.Error(one)
	}
}

// A receipt that is made after rotations has the whole chain, for the first pin too.
func TestReceiptOfLaterRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.renewRoot()
	middle := w.newPin()
	w.renewRoot()
	data := w.receipt()
	for _, pin := range [][]byte{w.Pin(), middle, w.newPin()} {
		if r := open(t, data, pin, nil); r.Root().Version() != 3 || r.Rotated() != nil {
			t.Error(r)
		}
	}
	fromNewest, err := mirror.Receipt(t.Context(), w.source(), w.newPin(), "agent/1", w.options())
	if err != nil || !bytes.Equal(fromNewest, data) {
		t.Error("another pin gives another receipt", err)
	}

	// The statement is older than the keys of the reviewers, and says so.
	w.Now = w.Now.Add(time.Hour)
	w.rotate()
	w.Update(func(tx *repo.Tx) error { return errors.Join(tx.Renew("vendor"), tx.Renew("review")) })
	r := open(t, w.receipt(), w.Pin(), nil)
	if s := r.Statements(); len(s) != 1 || !s[0].Rotated || r.Root().Version() != 5 || r.Rotated() != nil {
		t.Errorf("%v: %+v", r, s)
	}
	// One that is expired is still a statement of its time.
	w.Now = w.Now.Add(13 * time.Hour)
	r = open(t, w.receipt(), w.Pin(), nil)
	if s := r.Statements(); len(s) != 1 || !r.Reviewed().Before(w.Now.Add(-12*time.Hour)) {
		t.Errorf("%v: %+v", r, s)
	}
}

// The receipt of held or recalled bytes is valid and has the reason.
func TestReceiptOfStoppedBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.receipt()
	bytesOf := func(r *receipt.Receipt) string { return r.Agreed().SHA256 }
	w.Update(func(tx *repo.Tx) error { return tx.Hold("agent/1", "looks wrong", w.Now.Add(day)) })
	held := open(t, w.receipt(), w.Pin(), nil)
	if !errors.Is(held.Err(), tuf.ErrHeld) || !strings.Contains(held.Err().Error(), "looks wrong") || !held.Approved().IsZero() || held.Agreed().Length != 7 || len(held.Statements()) != 1 {
		t.Errorf("%v: %v", held, held.Err())
	}
	noErr(t, held.Check(strings.NewReader("agent 1")))

	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "data loss"})
	})
	recalled := open(t, w.receipt(), w.Pin(), nil)
	if !errors.Is(recalled.Err(), tuf.ErrRecalled) || !strings.Contains(recalled.Err().Error(), "by review at 2026-11-20T14:00:00Z: \"data loss\"") || !recalled.Approved().IsZero() || bytesOf(recalled) != bytesOf(held) {
		t.Errorf("%v: %v", recalled, recalled.Err())
	}
	if g := recalled.Agreed(); g.Length != 0 || g.Signoffs != nil || recalled.Statements() != nil {
		t.Errorf("%+v", g)
	}
	noErr(t, recalled.Check(strings.NewReader("agent 1")))
	if err := recalled.Check(strings.NewReader("agent 2")); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
	c := contents(t, w.receipt())
	c.Statements = contents(t, before).Statements
	_, err := receipt.Open(receipt.Seal(c), w.Pin(), nil)
	wantErr(t, err, tuf.ErrMalformed, "statements on bytes that the parties do not list")
	// A release with other bytes under the path does not hide the recall of these.
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Remove("vendor", "agent/1"), tx.Add("vendor", "agent/1", strings.NewReader("agent one"), repotest.Release("1.1")))
	})
	w.Update(repotest.Approve("1"))
	opt := w.options()
	opt.SHA256 = bytesOf(held)
	data, err := mirror.Receipt(t.Context(), w.source(), w.Pin(), "agent/1", opt)
	noErr(t, err)
	if r := open(t, data, w.Pin(), nil); !errors.Is(r.Err(), tuf.ErrRecalled) || bytesOf(r) != bytesOf(held) {
		t.Error(r)
	}
	opt.SHA256 = strings.Repeat("0", 64)
	_, err = mirror.Receipt(t.Context(), w.source(), w.Pin(), "agent/1", opt)
	wantErr(t, err, tuf.ErrMismatch, "under agent/1, not \"000")
	// Without a sha256 it is about the latest recall.
	w.Now = w.Now.Add(time.Hour)
	w.Update(func(tx *repo.Tx) error {
		return tx.Recall("review", "agent/1", repo.RecallRecord{Reason: "again"})
	})
	if r := open(t, w.receipt(), w.Pin(), nil); !errors.Is(r.Err(), tuf.ErrRecalled) || bytesOf(r) != repotest.Sum("agent one") {
		t.Error(r)
	}
	// The receipt from before shows the state of its time.
	if r := open(t, before, w.Pin(), nil); r.Err() != nil {
		t.Error(r)
	}
}

// A recovered root has no waiting period in a file.
func TestReceiptAfterRecovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.Pin()
	r := w.Open()
	d, err := r.StageRecovery(t.Context(), repo.RecoveryOptions{Reason: "lost"}, func(tx *repo.Tx) error {
		x := tx.Root()
		x.Parties[0].Keys = w.Public("vendor-3", "vendor-4")
		x.Timestamp.Keys, x.Snapshot.Keys, x.Targets.Keys = w.Public("timestamp-2"), w.Public("snapshot-2"), w.Public("targets-2")
		return nil
	})
	noErr(t, err)
	for _, s := range w.Keys {
		if err := d.Sign(t.Context(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			t.Fatal(err)
		}
	}
	noErr(t, w.Open().Publish(t.Context(), d))
	_, err = mirror.Receipt(t.Context(), w.source(), first, "agent/1", w.options())
	wantErr(t, err, tuf.ErrWaiting, "root v2")

	// From a pin that was made after the recovery, it is a root like any other; a receipt
	// with it needs an explicit decision from the first pin.
	w.renewRoot()
	later := w.newPin()
	data, err := mirror.Receipt(t.Context(), w.source(), later, "agent/1", w.options())
	noErr(t, err)
	if r := open(t, data, later, nil); r.Root().Version() != 3 || r.Recovered() != 0 {
		t.Error(r)
	}
	_, err = receipt.Open(data, first, nil)
	wantErr(t, err, tuf.ErrWaiting, "root v2")
	if r := open(t, data, first, &receipt.Options{UnsafeSkipWait: true}); r.Recovered() != 2 || r.Root().Version() != 3 {
		t.Error(r, r.Recovered())
	}
	// The statement is that of another root.
	c := contents(t, data)
	c.Roots[1].Recovery, c.Roots[2].Recovery = nil, c.Roots[1].Recovery
	_, err = receipt.Open(receipt.Seal(c), first, &receipt.Options{UnsafeSkipWait: true})
	wantErr(t, err, tuf.ErrThreshold, "")
}

func contents(t *testing.T, data []byte) receipt.Contents {
	t.Helper()
	c, err := receipt.Read(data)
	noErr(t, err)
	return c
}

func wantErr(t *testing.T, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want %v: %s", err, want, says)
	}
	var e *tuf.Error
	if !errors.As(err, &e) {
		t.Fatalf("%T is no *tuf.Error", err)
	}
}
