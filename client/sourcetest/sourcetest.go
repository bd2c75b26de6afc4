// Package sourcetest tests implementations of client.Source.
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
)

// Run tests whether a Source follows its contract, and that of a RangeSource if it is
// one. open returns a source with exactly these files; each subtest calls it once. Some
// names contain characters that are escaped in URLs, and one file has 1 MiB.
func Run(t *testing.T, open func(t *testing.T, files map[string][]byte) client.Source) {
	for name, test := range map[string]func(*testing.T, client.Source){
		"files": whole, "absent": absent, "path traversal": climbing, "readers": readers,
		"many at once": together, "closed early": closedEarly, "ends with its context": ends,
		"ranges": ranges, "no such range": noRange, "tags": tags,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t, maps.Clone(files))) })
	}
}

const large = "targets/agent/large"

// files are the files of the tested source.
var files = map[string][]byte{
	"metadata/1.root.json":                        []byte(`{"signed":{},"signatures":[]}`),
	"metadata/timestamp.json":                     []byte("x"),
	"metadata/5.a b+c%2F=é.json":                  []byte("a role with a name that is escaped"),
	"targets/top":                                 []byte("in no directory"),
	"targets/agent/empty":                         nil,
	"targets/a b/c+d%20;&=@'/e,f~#!é":             []byte("a target with a name that is escaped"),
	"targets/agent/deep/er/and/deeper":            []byte("deep"),
	"targets/agent/compressed.tar.gz":             {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 1, 2, 3}, // must not be decompressed
	"targets/agent/page.html":                     []byte("<html></html>"),
	"targets/agent/" + strings.Repeat("long", 40): []byte("long"),
	large: pattern(1 << 20),
}

// pattern returns content without repetition.
func pattern(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%08x\n", i)
	}
	return b.Bytes()[:n]
}

func whole(t *testing.T, s client.Source) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := s.Open(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		holds(t, name, f, files[name])
	}
}

// holds checks that r has exactly the content, and closes it.
func holds(t *testing.T, name string, r io.ReadCloser, want []byte) {
	t.Helper()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(want))
	}
	if err := r.Close(); err != nil {
		t.Errorf("%s: closing: %v", name, err)
	}
}

// Absent files are reported as fs.ErrNotExist.
func absent(t *testing.T, s client.Source) {
	for _, name := range []string{"metadata/2.root.json", "metadata/none", "targets/none", "targets/agent/none", "targets/none/x", "targets/agent/EMPTY", "targets/agent/deep/er/and/deeper.x"} {
		f, err := s.Open(t.Context(), name)
		if err == nil {
			f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) || f != nil {
			t.Errorf("%s: %v, %v; want fs.ErrNotExist", name, f, err)
		}
	}
	// A directory is not a file; the error is not specified.
	if f, err := s.Open(t.Context(), "targets/agent/deep"); err == nil {
		f.Close()
		t.Error("a directory was opened")
	}
}

// Names come from metadata, which an attacker may have written.
func climbing(t *testing.T, s client.Source) {
	for _, name := range []string{"", "/", ".", "..", "metadata", "targets/", "targets/../metadata/timestamp.json", "targets/./top", "targets//top", "../metadata/timestamp.json", "/metadata/timestamp.json", "targets/agent/../top"} {
		if f, err := s.Open(t.Context(), name); err == nil {
			f.Close()
			t.Errorf("%q was opened", name)
		}
	}
}

// Readers are independent of each other.
func readers(t *testing.T, s client.Source) {
	a, err := s.Open(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	half := make([]byte, 1<<19)
	if _, err := io.ReadFull(a, half); err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(t.Context(), large)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, large, b, files[large])
	holds(t, large, a, files[large][len(half):])
}

func together(t *testing.T, s client.Source) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for name, want := range files {
				f, err := s.Open(t.Context(), name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				holds(t, name, f, want)
			}
		})
	}
	all.Wait()
}

func closedEarly(t *testing.T, s client.Source) {
	for range 20 {
		f, err := s.Open(t.Context(), large)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		f.Close() // its result is not specified
	}
	whole(t, s)
}

// Opening and reading end with the context, and do not report fs.ErrNotExist.
func ends(t *testing.T, s client.Source) {
	ctx, cancel := context.WithCancel(t.Context())
	f, err := s.Open(ctx, large)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, f)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("was read to its end after the context had ended")
		}
	case <-time.After(10 * time.Second):
		t.Error("is still read 10 s after the context has ended")
	}
	for _, name := range []string{large, "metadata/2.root.json"} {
		if f, err := s.Open(ctx, name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, %v with a context that has ended", name, f, err)
		}
	}
}

func ranges(t *testing.T, s client.Source) {
	at := rangeSource(t, s)
	for _, name := range []string{large, "targets/top", "targets/agent/compressed.tar.gz"} {
		want := files[name]
		for _, offset := range []int64{0, 1, int64(len(want)) / 2, int64(len(want)) - 1} {
			r, err := at.OpenAt(t.Context(), name, offset, "")
			if err != nil {
				t.Errorf("%s from %d: %v", name, offset, err)
				continue
			}
			check(t, name, r, offset)
		}
	}
	r, err := at.OpenAt(t.Context(), "targets/agent/empty", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	check(t, "targets/agent/empty", r, 0)
	if _, err := at.OpenAt(t.Context(), "targets/none", 1, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the middle of a missing file: %v", err)
	}
}

// check checks that a Range is consistent with its fields.
func check(t *testing.T, name string, r *client.Range, asked int64) {
	t.Helper()
	want := files[name]
	if r.Offset != asked && r.Offset != 0 {
		t.Errorf("%s: begins at %d, asked from %d", name, r.Offset, asked)
	}
	if r.Size != -1 && r.Size != int64(len(want)) {
		t.Errorf("%s: reports %d bytes, has %d", name, r.Size, len(want))
	}
	holds(t, name, r, want[min(max(r.Offset, 0), int64(len(want))):])
}

func rangeSource(t *testing.T, s client.Source) client.RangeSource {
	t.Helper()
	at, ok := s.(client.RangeSource)
	if !ok {
		t.Skip("no RangeSource: always begins at the beginning")
	}
	return at
}

// Starting at 0 instead is allowed if the bytes are correct.
func noRange(t *testing.T, s client.Source) {
	at := rangeSource(t, s)
	for name, offsets := range map[string][]int64{large: {1 << 20, 1<<20 + 1, 1 << 40, -1}, "targets/agent/empty": {1}} {
		for _, offset := range offsets {
			r, err := at.OpenAt(t.Context(), name, offset, "")
			switch {
			case err == nil && r.Offset == 0 && offset > 0:
				check(t, name, r, 0)
			case err == nil:
				r.Close()
				t.Errorf("%s begins at %d", name, r.Offset)
			case !errors.Is(err, client.ErrRange):
				t.Errorf("%s from %d: %v; want client.ErrRange", name, offset, err)
			}
		}
	}
}

// An unchanged file is resumed; with a tag of another file, a source that supports tags
// starts at 0 or returns an error.
func tags(t *testing.T, s client.Source) {
	at := rangeSource(t, s)
	r, err := at.OpenAt(t.Context(), large, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	tag := r.Tag
	r.Close()
	for range 2 {
		if r, err = at.OpenAt(t.Context(), large, 1000, tag); err != nil {
			t.Fatal(err)
		}
		if r.Tag != "" && r.Tag != tag {
			t.Errorf("the tag was %q and is %q", tag, r.Tag)
		}
		check(t, large, r, 1000)
	}
	if tag == "" {
		return
	}
	r, err = at.OpenAt(t.Context(), large, 1000, `"of another file"`)
	if err != nil && !errors.Is(err, client.ErrRange) {
		t.Errorf("a tag of another file: %v", err)
	}
	if err == nil {
		check(t, large, r, 1000)
	}
}
