package storagetest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

// batcher tests a storage that implements [storage.Batcher].
func batcher(t *testing.T, s storage.Storage) {
	b, ok := s.(storage.Batcher)
	if !ok {
		t.Skip("the storage does not implement storage.Batcher")
	}
	ctx := t.Context()
	must(t, s.Create(ctx, "metadata/old", strings.NewReader("old")))
	must(t, s.Replace(ctx, "metadata/t", nil, []byte("1")))

	// All changes become visible at once, at the end, and then the functions are called.
	var order []string
	must(t, b.Batch(ctx, func(in storage.Batched) error {
		in.AfterCommit(func() error { order = append(order, "first"); holds(t, s, "metadata/t", "2"); return nil })
		must(t, in.Create(ctx, "targets/a/x", pattern(200_000)))
		must(t, in.Create(ctx, "targets/a/x", pattern(200_000)))
		conflict(t, in.Create(ctx, "targets/a/x", strings.NewReader("other")))
		conflict(t, in.Create(ctx, "metadata/old", strings.NewReader("other")))
		holds(t, in, "metadata/t", "1")
		conflict(t, in.Replace(ctx, "metadata/t", nil, []byte("2")))
		must(t, in.Replace(ctx, "metadata/t", []byte("1"), []byte("between")))
		must(t, in.Replace(ctx, "metadata/t", []byte("between"), []byte("2")))
		holds(t, in, "metadata/t", "2")
		holds(t, s, "metadata/t", "1")
		absent(t, s, "targets/a/x")
		in.AfterCommit(func() error { order = append(order, "second"); return nil })
		order = append(order, "end")
		return nil
	}))
	if got := strings.Join(order, " "); got != "end first second" {
		t.Errorf("called in the order %q", got)
	}
	if data, err := s.Read(ctx, "targets/a/x"); err != nil || len(data) != 200_000 {
		t.Fatalf("after the batch: %d bytes, %v", len(data), err)
	}
	failed := errors.New("failed")
	if err := b.Batch(ctx, func(in storage.Batched) error { in.AfterCommit(func() error { return failed }); return nil }); !errors.Is(err, failed) {
		t.Errorf("a batch whose last function fails: %v", err)
	}

	// After an error nothing has changed, and the storage can't be used any more.
	var left storage.Batched
	err := b.Batch(ctx, func(in storage.Batched) error {
		left = in
		in.AfterCommit(func() error { t.Error("called after a failed batch"); return nil })
		must(t, in.Create(ctx, "metadata/new", strings.NewReader("new")))
		must(t, in.Replace(ctx, "metadata/t", []byte("2"), []byte("3")))
		return failed
	})
	if !errors.Is(err, failed) || errors.Is(err, storage.ErrConflict) {
		t.Fatalf("the function failed: %v", err)
	}
	absent(t, s, "metadata/new")
	holds(t, s, "metadata/t", "2")
	if err := left.Create(ctx, "metadata/late", strings.NewReader("x")); err == nil {
		t.Error("a change after the end of the batch succeeds")
	}
	absent(t, s, "metadata/late")
}

// batchInner tests a batch inside of a batch.
func batchInner(t *testing.T, s storage.Storage) {
	b, ok := s.(storage.Batcher)
	if !ok {
		t.Skip("the storage does not implement storage.Batcher")
	}
	ctx, failed := t.Context(), errors.New("failed")
	var order []string
	must(t, b.Batch(ctx, func(out storage.Batched) error {
		must(t, out.Create(ctx, "metadata/outer", strings.NewReader("outer")))
		must(t, out.(storage.Batcher).Batch(ctx, func(in storage.Batched) error {
			holds(t, in, "metadata/outer", "outer")
			in.AfterCommit(func() error { order = append(order, "inner"); return nil })
			must(t, in.Create(ctx, "metadata/inner", strings.NewReader("inner")))
			absent(t, out, "metadata/inner")
			return nil
		}))
		holds(t, out, "metadata/inner", "inner")
		absent(t, s, "metadata/inner")
		err := out.(storage.Batcher).Batch(ctx, func(in storage.Batched) error {
			in.AfterCommit(func() error { t.Error("called after a failed batch"); return nil })
			must(t, in.Create(ctx, "metadata/dropped", strings.NewReader("x")))
			must(t, in.Replace(ctx, "metadata/outer", []byte("outer"), []byte("x")))
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("an inner batch fails: %v", err)
		}
		absent(t, out, "metadata/dropped")
		holds(t, out, "metadata/outer", "outer")
		order = append(order, "end")
		return nil
	}))
	if got := strings.Join(order, " "); got != "end inner" {
		t.Errorf("called in the order %q", got)
	}
	holds(t, s, "metadata/outer", "outer")
	holds(t, s, "metadata/inner", "inner")
	absent(t, s, "metadata/dropped")
}

// batchRace changes the storage while a batch runs.
func batchRace(t *testing.T, s storage.Storage) {
	b, ok := s.(storage.Batcher)
	if !ok {
		t.Skip("the storage does not implement storage.Batcher")
	}
	ctx, n := t.Context(), 0
	must(t, s.Replace(ctx, "metadata/t", nil, []byte("1")))
	must(t, s.Create(ctx, "targets/old", strings.NewReader("old")))
	for what, x := range map[string]struct {
		in, out func(s storage.Storage, name string) error
		ok      bool
	}{
		"a file that was read is replaced": {
			in:  func(s storage.Storage, _ string) error { _, err := s.Read(ctx, "metadata/t"); return err },
			out: func(s storage.Storage, name string) error { return exchange(t, s, "metadata/t", name) },
		},
		"a file that was replaced is replaced": {
			in:  func(s storage.Storage, name string) error { return exchange(t, s, "metadata/t", name+" inside") },
			out: func(s storage.Storage, name string) error { return exchange(t, s, "metadata/t", name) },
		},
		"a file that was missing is created": {
			in: func(s storage.Storage, name string) error {
				if _, err := s.Read(ctx, "metadata/"+name); !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return nil
			},
			out: func(s storage.Storage, name string) error {
				return s.Create(ctx, "metadata/"+name, strings.NewReader("x"))
			},
		},
		"a file that was created is created with other bytes": {
			in: func(s storage.Storage, name string) error {
				return s.Create(ctx, "targets/"+name, strings.NewReader("inside"))
			},
			out: func(s storage.Storage, name string) error {
				return s.Create(ctx, "targets/"+name, strings.NewReader("outside"))
			},
		},
		"a file that was created is created with the same bytes": {
			in: func(s storage.Storage, name string) error {
				return s.Create(ctx, "targets/"+name, strings.NewReader("same"))
			},
			out: func(s storage.Storage, name string) error {
				return s.Create(ctx, "targets/"+name, strings.NewReader("same"))
			},
			ok: true,
		},
		"another file is created": {
			in: func(s storage.Storage, name string) error {
				_, err := s.Read(ctx, "targets/old")
				return err
			},
			out: func(s storage.Storage, name string) error {
				return s.Create(ctx, "targets/"+name, strings.NewReader("other"))
			},
			ok: true,
		},
	} {
		n++
		name := fmt.Sprintf("x%d", n)
		act := func(in storage.Batched) error {
			if err := errors.Join(x.in(in, name), in.Create(ctx, "metadata/mark-"+name, strings.NewReader("x"))); err != nil {
				return err
			}
			return x.out(s, name)
		}
		err := b.Batch(ctx, act)
		if x.ok {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
			holds(t, s, "metadata/mark-"+name, "x")
			continue
		}
		if !errors.Is(err, storage.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", what, err)
		}
		absent(t, s, "metadata/mark-"+name)
	}

	// An error of the function may come from the change.
	err := b.Batch(ctx, func(in storage.Batched) error {
		if _, err := in.Read(ctx, "metadata/t"); err != nil {
			return err
		}
		must(t, exchange(t, s, "metadata/t", "again"))
		return errCut
	})
	if !errors.Is(err, errCut) || !errors.Is(err, storage.ErrConflict) {
		t.Errorf("a function failed after a change: %v", err)
	}
	r, removes := s.(storage.Remover)
	if !removes {
		return
	}
	// A file that another process writes again is not removed by an earlier decision.
	must(t, s.Create(ctx, "targets/young", strings.NewReader("x")))
	before := list(t, s, "targets/young")["targets/young"].Written.Add(time.Nanosecond)
	err = b.Batch(ctx, func(in storage.Batched) error {
		must(t, in.(storage.Remover).Remove(ctx, "targets/young", before))
		absent(t, in, "targets/young")
		return s.Create(ctx, "targets/young", strings.NewReader("x"))
	})
	conflict(t, err)
	holds(t, s, "targets/young", "x")
	must(t, r.Remove(ctx, "targets/young", time.Now().Add(time.Hour)))
}

// exchange replaces the content of a file, whatever it is.
func exchange(t *testing.T, s storage.Storage, name, content string) error {
	t.Helper()
	old, err := s.Read(t.Context(), name)
	if err != nil {
		return err
	}
	return s.Replace(t.Context(), name, old, []byte(content))
}
