package storagetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo/storage"
)

// source tests a storage that implements [storage.Source].
func source(t *testing.T, s storage.Storage) {
	src, ok := s.(storage.Source)
	if !ok {
		t.Skip("the storage does not implement storage.Source")
	}
	ctx := t.Context()
	if f, err := src.Open(ctx, "targets/agent/big"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open of a missing file = %v, %v", f, err)
	}
	n := int64(3<<20 + 5)
	must(t, s.Create(ctx, "targets/agent/big", pattern(n)))
	f, err := src.Open(ctx, "targets/agent/big")
	must(t, err)
	got, err := io.ReadAll(f)
	must(t, errors.Join(err, f.Close()))
	if want, _ := io.ReadAll(pattern(n)); string(got) != string(want) {
		t.Fatalf("the opened file has other bytes than the created one (%d, want %d)", len(got), len(want))
	}
	// A file that is replaced during a read returns one content or an error, no mixture.
	must(t, s.Replace(ctx, "metadata/t", nil, []byte("one")))
	f, err = src.Open(ctx, "metadata/t")
	must(t, err)
	must(t, s.Replace(ctx, "metadata/t", []byte("one"), []byte("two and more")))
	got, err = io.ReadAll(f)
	f.Close()
	if err == nil && string(got) != "one" && string(got) != "two and more" {
		t.Fatalf("a replaced file reads as %q", got)
	}
	for _, name := range []string{"", "../x", "a//b", ".lock", "a/.visum-0123456789abcdef.tmp"} {
		if _, err := src.Open(ctx, name); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) = %v", name, err)
		}
	}
	ending, cancel := context.WithCancel(ctx)
	f, err = src.Open(ending, "targets/agent/big")
	must(t, err)
	defer f.Close()
	cancel()
	if _, err := io.Copy(io.Discard, f); !errors.Is(err, context.Canceled) {
		t.Errorf("a read succeeded after the end of the context: %v", err)
	}
	_, err = src.Open(ending, "metadata/t")
	ended(t, err)
}

// list returns the files that a storage lists, by name.
func list(t *testing.T, s storage.Storage, prefix string) map[string]storage.FileInfo {
	t.Helper()
	out := map[string]storage.FileInfo{}
	for f, err := range s.(storage.Lister).List(t.Context(), prefix) {
		must(t, err)
		if _, twice := out[f.Name]; twice {
			t.Errorf("%s is listed twice", f.Name)
		}
		out[f.Name] = f
	}
	return out
}

func lister(t *testing.T, s storage.Storage) {
	l, ok := s.(storage.Lister)
	if !ok {
		t.Skip("the storage does not implement storage.Lister")
	}
	ctx := t.Context()
	if got := list(t, s, ""); len(got) > 0 {
		t.Fatalf("an empty storage lists %v", got)
	}
	start := time.Now().Add(-time.Hour) // the storage's clock is its own
	files := map[string]string{"x": "1", "metadata/1.root.json": "22", "metadata/timestamp.json": "333", "metadata.txt": "", "targets/a/b/c": "4444",
		"targets/.well-known/x": "5"}
	for name, content := range files {
		if name == "metadata/timestamp.json" {
			must(t, s.Replace(ctx, name, nil, []byte(content)))
		} else {
			must(t, s.Create(ctx, name, strings.NewReader(content)))
		}
	}
	for _, prefix := range []string{"", "metadata/", "metadata", "metadata/1", "targets/a/b/c", "targets/a/", "none/", "..", "../", "/", "a//"} {
		got := list(t, s, prefix)
		for name, content := range files {
			f, listed := got[name]
			if listed != strings.HasPrefix(name, prefix) {
				t.Errorf("List(%q): %s listed: %v", prefix, name, listed)
			}
			if listed && (f.Size != int64(len(content)) || f.Written.Before(start)) {
				t.Errorf("List(%q): %s has %d bytes, written at %s", prefix, name, f.Size, f.Written)
			}
			delete(got, name)
		}
		if len(got) > 0 {
			t.Errorf("List(%q) also yields %v", prefix, maps.Keys(got))
		}
	}
	for range l.List(ctx, "") {
		break // the caller may stop early
	}
	ending, cancel := context.WithCancel(ctx)
	cancel()
	var last error
	for _, err := range l.List(ending, "") {
		last = err
	}
	ended(t, last)
}

func remover(t *testing.T, s storage.Storage) {
	r, ok := s.(storage.Remover)
	if !ok {
		t.Skip("the storage does not implement storage.Remover")
	}
	ctx, name := t.Context(), "targets/a/x"
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	must(t, r.Remove(ctx, name, future)) // nothing there
	must(t, s.Create(ctx, name, strings.NewReader("1")))
	conflict(t, r.Remove(ctx, name, past))
	holds(t, s, name, "1")
	must(t, r.Remove(ctx, name, future))
	absent(t, s, name)
	must(t, s.Create(ctx, name, strings.NewReader("2"))) // the name is free again
	must(t, s.Replace(ctx, "metadata/t", nil, []byte("1")))
	conflict(t, r.Remove(ctx, "metadata/t", past))
	must(t, r.Remove(ctx, "metadata/t", future))
	must(t, s.Replace(ctx, "metadata/t", nil, []byte("2")))

	for _, bad := range []string{"", "..", "../x", "a//b", ".lock"} {
		if err := r.Remove(ctx, bad, future); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Remove(%q) = %v", bad, err)
		}
	}
	ending, cancel := context.WithCancel(ctx)
	cancel()
	ended(t, r.Remove(ending, name, future))
	holds(t, s, name, "2")
}

// removeOrCreate creates an existing file again while another goroutine removes it as
// an old one. If Create succeeded, the file exists.
func removeOrCreate(t *testing.T, s storage.Storage) {
	r, ok := s.(storage.Remover)
	l, ok2 := s.(storage.Lister)
	if !ok || !ok2 {
		t.Skip("the storage does not implement storage.Remover and storage.Lister")
	}
	ctx, name := t.Context(), "targets/a/x"
	for range 20 {
		must(t, s.Create(ctx, name, pattern(200_000)))
		var written time.Time
		for f, err := range l.List(ctx, name) {
			must(t, err)
			written = f.Written
		}
		for !time.Now().After(written.Add(5 * time.Millisecond)) {
			time.Sleep(time.Millisecond)
		}
		before := written.Add(time.Nanosecond) // removes the listed file, and no newer one
		var created, removed error
		var both sync.WaitGroup
		both.Go(func() { created = s.Create(ctx, name, pattern(200_000)) })
		both.Go(func() { removed = r.Remove(ctx, name, before) })
		both.Wait()
		if removed != nil {
			conflict(t, removed)
		}
		if created != nil {
			conflict(t, created) // removed during the comparison: the caller must retry
			must(t, s.Create(ctx, name, pattern(200_000)))
		}
		if data, err := s.Read(ctx, name); err != nil || len(data) != 200_000 {
			t.Fatalf("Create succeeded, but Read = %d bytes, %v (remove: %v)", len(data), err, removed)
		}
	}
}

// copier tests a storage that implements [storage.Copier].
func copier(t *testing.T, s storage.Storage) {
	c, ok := s.(storage.Copier)
	if !ok {
		t.Skip("the storage does not implement storage.Copier")
	}
	ctx, from, to := t.Context(), "targets/agent/beta/x", "targets/agent/stable/x"
	if err := c.Copy(ctx, from, to); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Copy of a missing file = %v", err)
	}
	absent(t, s, to)
	must(t, s.Create(ctx, from, pattern(2<<20)))
	must(t, s.Create(ctx, "targets/agent/other", strings.NewReader("other")))
	must(t, c.Copy(ctx, from, to))
	data, err := s.Read(ctx, to)
	must(t, err)
	if want, _ := io.ReadAll(pattern(2 << 20)); string(data) != string(want) {
		t.Fatalf("the copy has other bytes (%d, want %d)", len(data), len(want))
	}
	must(t, c.Copy(ctx, from, to)) // the copy exists already
	must(t, c.Copy(ctx, from, from))
	must(t, s.Create(ctx, to, pattern(2<<20)))
	conflict(t, c.Copy(ctx, "targets/agent/other", to))
	conflict(t, s.Create(ctx, to, strings.NewReader("other")))

	// The files are independent.
	must(t, s.Create(ctx, "metadata/a", strings.NewReader("one")))
	must(t, c.Copy(ctx, "metadata/a", "metadata/b"))
	must(t, s.Replace(ctx, "metadata/a", []byte("one"), []byte("two")))
	holds(t, s, "metadata/b", "one")
	must(t, c.Copy(ctx, "metadata/b", "metadata/c"))
	must(t, s.Replace(ctx, "metadata/c", []byte("one"), []byte("three")))
	holds(t, s, "metadata/b", "one")

	for i, err := range together(16, func(i int) error { return c.Copy(ctx, from, "targets/race/x") }) {
		if err != nil {
			t.Fatalf("concurrent copy %d of the same file: %v", i, err)
		}
	}
	for _, bad := range []string{"", "..", "../x", "a//b", ".lock"} {
		if err := c.Copy(ctx, bad, "targets/y"); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Copy from %q = %v", bad, err)
		}
		if err := c.Copy(ctx, from, bad); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Copy to %q = %v", bad, err)
		}
	}
	ending, cancel := context.WithCancel(ctx)
	cancel()
	ended(t, c.Copy(ending, from, "targets/late"))
	absent(t, s, "targets/late")
	r, removes := s.(storage.Remover)
	if _, lists := s.(storage.Lister); lists && removes {
		// The copy counts as written now, whatever the age of the original, and survives
		// the removal of the original.
		old := list(t, s, from)[from].Written
		for !time.Now().After(old.Add(5 * time.Millisecond)) {
			time.Sleep(time.Millisecond)
		}
		must(t, c.Copy(ctx, from, "targets/young"))
		conflict(t, r.Remove(ctx, "targets/young", old.Add(time.Nanosecond)))
		must(t, r.Remove(ctx, from, time.Now().Add(time.Hour)))
		if data, err := s.Read(ctx, "targets/young"); err != nil || len(data) != 2<<20 {
			t.Fatalf("the copy after its original was removed: %d bytes, %v", len(data), err)
		}
	}
}
