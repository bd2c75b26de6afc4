package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
)

var errFault = errors.New("the disk is on fire")

// faulty is a storage whose n-th call fails, before its effect or after it.
type faulty struct {
	*memory
	n, count int
	after    bool
	shown    bool // the fault was reported: opening a file only to check that it exists does not report it
}

// fails counts a call. before reports that it fails before its effect; otherwise after
// is its result.
func (f *faulty) fails() (before bool, after error) {
	if f.count++; f.count != f.n {
		return false, nil
	}
	f.shown = true
	return !f.after, errFault
}

func (f *faulty) Read(ctx context.Context, name string) ([]byte, error) {
	before, fault := f.fails()
	if before {
		return nil, fault
	}
	data, err := f.memory.Read(ctx, name)
	if fault != nil {
		return nil, fault
	}
	return data, err
}

func (f *faulty) Create(ctx context.Context, name string, r io.Reader) error {
	before, fault := f.fails()
	if before {
		return fault
	}
	return errors.Join(f.memory.Create(ctx, name, r), fault)
}

func (f *faulty) Replace(ctx context.Context, name string, old, new []byte) error {
	before, fault := f.fails()
	if before {
		return fault
	}
	return errors.Join(f.memory.Replace(ctx, name, old, new), fault)
}

func (f *faulty) Remove(ctx context.Context, name string, before time.Time) error {
	now, fault := f.fails()
	if now {
		return fault
	}
	return errors.Join(f.memory.Remove(ctx, name, before), fault)
}

// Open fails at once, or in the middle of the file.
func (f *faulty) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	before, fault := f.fails()
	if before {
		return nil, fault
	}
	r, err := f.memory.Open(ctx, name)
	if fault == nil {
		return r, err
	}
	if err != nil {
		return nil, fault
	}
	f.shown = false
	return io.NopCloser(io.MultiReader(io.LimitReader(r, 3), readerFunc(func([]byte) (int, error) { f.shown = true; return 0, fault }))), nil
}

func (f *faulty) List(ctx context.Context, prefix string) iter.Seq2[storage.FileInfo, error] {
	before, fault := f.fails()
	return func(yield func(storage.FileInfo, error) bool) {
		if !before {
			for info, err := range f.memory.List(ctx, prefix) {
				if !yield(info, err) {
					return
				}
			}
		}
		if fault != nil {
			yield(storage.FileInfo{}, fault)
		}
	}
}

// The storage fails at its n-th call, for every n, before the effect and after it. The
// call returns the error, clients see the old state or the new one, and a repetition
// succeeds.
func TestStorageFails(t *testing.T) {
	t.Parallel()
	past := founded(t)
	past.Update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	source := past.Copy()
	source.Update(add("2"))
	source.Update(approve("2"))
	draft, err := repo.New(past.Store, past.Config()).Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(add("2")(tx), announce(tx)) })
	noErr(t, err)
	for name, x := range map[string]struct {
		do   func(w *world, s repo.Storage) error
		goal string // "": nothing changes
	}{
		"Update": {func(w *world, s repo.Storage) error {
			return w.at(s).Update(w.T.Context(), func(tx *repo.Tx) error { return tx.Renew("review") })
		}, "root 2 agent/1"},
		"Publish": {func(w *world, s repo.Storage) error {
			return w.at(s).Update(w.T.Context(), func(tx *repo.Tx) error {
				return errors.Join(tx.Add("vendor", "agent/2", strings.NewReader("agent 2"), release("2")), tx.Approve("review", "agent/2", nil))
			})
		}, "root 2 agent/1 agent/2"},
		"Refresh": {func(w *world, s repo.Storage) error { return w.at(s).Renew(w.T.Context()) }, "root 2 agent/1"},
		"Clone": {func(w *world, s repo.Storage) error {
			return mirror.Clone(w.T.Context(), s, source.Store, past.Pin(), options(w.Config()))
		},
			"root 2 agent/1 agent/2"},
		"Status": {func(w *world, s repo.Storage) error { _, err := w.at(s).Status(w.T.Context(), w.Now); return err }, ""},
		"Diff":   {func(w *world, s repo.Storage) error { _, err := w.at(s).Diff(w.T.Context(), draft); return err }, ""},
		"Bundle": {func(w *world, s repo.Storage) error {
			return mirror.Bundle(w.T.Context(), io.Discard, s, w.Pin(), &mirror.BundleOptions{Targets: func(string) bool { return true }})
		}, ""},
		"Export": {func(w *world, s repo.Storage) error { return w.at(s).Export(w.T.Context(), draft, memoryDir(t)) }, ""},
		"Clone from": {func(w *world, s repo.Storage) error {
			return mirror.Clone(w.T.Context(), newMemory(), storage.SourceOf(s), past.Pin(), options(w.Config()))
		}, ""},
		"Verify": {func(w *world, s repo.Storage) error {
			report, err := mirror.Verify(w.T.Context(), s, past.Pin(), options(w.Config()))
			if err != nil {
				return err
			}
			for _, f := range report.Findings {
				if f.Kind == mirror.FileUnreadable && errors.Is(f.Err, errFault) {
					return f.Err
				}
				if !f.Harmless() {
					return errors.New(f.String()) // the fault was reported as another error
				}
			}
			return nil
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n, more := 1, true; more; n++ {
				for _, after := range []bool{false, true} {
					if !rawtuf.Long && after != (n%2 == 0) {
						continue // by turns
					}
					w := past.Copy()
					w.T = t
					s := &faulty{memory: w.Store, n: n, after: after}
					before := w.Store.Copy()
					err := x.do(w, s)
					if s.count < n {
						noErr(t, err)
						more = false
						break
					}
					if err == nil && s.shown || err != nil && !errors.Is(err, errFault) {
						t.Fatalf("call %d failed (after its effect: %v), and %s returned %v", n, after, name, err)
					}
					if x.goal == "" {
						if len(before.Files) != len(w.Store.Files) {
							t.Fatalf("call %d: files were added or removed", n)
						}
					} else if got := w.Product().State(); got != "root 2 agent/1" && got != x.goal {
						t.Fatalf("call %d: clients see %q", n, got)
					}
					noErr(t, x.do(w, w.Store))
					if x.goal != "" {
						w.Sees(x.goal)
					}
				}
			}
		})
	}
}

// A context that ends at any time leaves the old state or the new one, and the error
// reports it.
func TestCancelled(t *testing.T) {
	t.Parallel()
	past := founded(t)
	source := past.Copy()
	source.Update(add("2"))
	source.Update(approve("2"))
	for name, do := range map[string]func(ctx context.Context, w *world, s repo.Storage) error{
		"Update": func(ctx context.Context, w *world, s repo.Storage) error {
			return w.at(s).Update(ctx, func(tx *repo.Tx) error {
				return errors.Join(tx.Add("vendor", "agent/2", strings.NewReader("agent 2"), release("2")), tx.Approve("review", "agent/2", nil))
			})
		},
		"Clone": func(ctx context.Context, _ *world, s repo.Storage) error {
			return mirror.Clone(ctx, s, source.Store, past.Pin(), nil)
		},
	} {
		for n, more := 1, true; more; n++ {
			w := past.Copy()
			ctx, cancel := context.WithCancel(t.Context())
			s := &ending{memory: w.Store, n: n, end: cancel}
			err := do(ctx, w, s)
			more = s.count >= n
			cancel()
			if got := w.Product().State(); got != "root 1 agent/1" && got != "root 1 agent/1 agent/2" || err == nil && got == "root 1 agent/1" {
				t.Fatalf("%s, ended at call %d: clients see %q, %v", name, n, got, err)
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, ended at call %d: %v", name, n, err)
			}
			noErr(t, do(t.Context(), w, w.Store))
			w.Sees("root 1 agent/1 agent/2")
		}
	}
}

// ending is a storage that ends a context at its n-th call.
type ending struct {
	*memory
	n, count int
	end      func()
}

func (e *ending) call() {
	if e.count++; e.count == e.n {
		e.end()
	}
}

func (e *ending) Read(ctx context.Context, name string) ([]byte, error) {
	e.call()
	return e.memory.Read(ctx, name)
}

func (e *ending) Create(ctx context.Context, name string, r io.Reader) error {
	e.call()
	return e.memory.Create(ctx, name, r)
}

func (e *ending) Replace(ctx context.Context, name string, old, new []byte) error {
	e.call()
	return e.memory.Replace(ctx, name, old, new)
}

func (e *ending) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	e.call()
	return e.memory.Open(ctx, name)
}

// Long calls report their progress: each file in turn, never backwards.
func TestProgress(t *testing.T) {
	t.Parallel()
	w := founded(t)
	var told []storage.Progress
	cfg := w.Config()
	cfg.Progress = func(p storage.Progress) { told = append(told, p) }
	for _, name := range vendorKeys {
		cfg.Signers = append(cfg.Signers, w.Signer(name))
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	check := func(name string, err error, ends ...string) {
		t.Helper()
		noErr(t, err)
		var last storage.Progress
		var got []string
		for _, p := range told {
			if p.Done > p.Total || p.Path == last.Path && p.Done < last.Done || p.Files < last.Files {
				t.Errorf("%s: %+v after %+v", name, p, last)
			}
			if p.Done == p.Total {
				got = append(got, shorten(p.Path))
			}
			last = p
		}
		for _, want := range ends {
			if !slices.Contains(got, want) {
				t.Errorf("%s: nothing told of the end of %s: %q", name, want, got)
			}
		}
		told = nil
	}
	check("Update", repo.New(w.Store, cfg).Update(t.Context(), func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/big", bytes.NewReader(big), nil)
	}), "targets/agent/big")
	_, err := mirror.Verify(t.Context(), w.Store, w.Pin(), options(cfg))
	check("Verify", err, "targets/agent/big", "targets/agent/1", "metadata/1.root.json", "metadata/timestamp.json")
	check("Clone", mirror.Clone(t.Context(), newMemory(), w.Store, w.Pin(), options(cfg)), "targets/agent/big", "metadata/timestamp.json")
	check("Bundle", mirror.Bundle(t.Context(), io.Discard, w.Store, w.Pin(), &mirror.BundleOptions{Options: *options(cfg), Targets: func(string) bool { return true }}), "targets/agent/big", "metadata/timestamp.json")
}
