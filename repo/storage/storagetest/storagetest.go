// Package storagetest tests implementations of [storage.Storage]. A storage that passes
// is safe for a repository with several concurrent publishers.
//
// It requires the three methods only, and tests [storage.Source], [storage.Lister],
// [storage.Remover], [storage.Copier] and [storage.Batcher] if the storage implements them. It takes a few
// seconds on a local disk, and writes some megabytes that it does not remove. It can't
// test that a change survives a power failure or a killed process, and it does not test
// that Read refuses more than [storage.MaxRead] bytes, because such a file would have
// to be stored first.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/repo/storage"
)

// Run tests the storage that open returns, in subtests of t. Each call of open receives
// its own subtest and must return an empty storage. Register cleanup with t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) storage.Storage) {
	for _, x := range []struct {
		name string
		test func(t *testing.T, s storage.Storage)
	}{
		{"Empty", empty},
		{"Create", create},
		{"CreateLarge", createLarge},
		{"CreateReaderFails", createReaderFails},
		{"CreateRace", createRace},
		{"CreateSameRace", createSameRace},
		{"Replace", replace},
		{"ReplaceRace", replaceRace},
		{"ReplaceCounter", replaceCounter},
		{"ReadDuringReplace", readDuringReplace},
		{"SlicesStayTheCallers", slices},
		{"TooLarge", tooLarge},
		{"Cancelled", cancelled},
		{"CancelledWhileReading", cancelledWhileReading},
		{"BadNames", badNames},
		{"GoodNames", goodNames},
		{"Source", source},
		{"Lister", lister},
		{"Remover", remover},
		{"RemoveOrCreate", removeOrCreate},
		{"Copier", copier},
		{"Batcher", batcher},
		{"BatchInner", batchInner},
		{"BatchRace", batchRace},
	} {
		t.Run(x.name, func(t *testing.T) { x.test(t, open(t)) })
	}
}

func empty(t *testing.T, s storage.Storage) {
	absent(t, s, "timestamp.json")
	absent(t, s, "metadata/1.root.json")
}

func create(t *testing.T, s storage.Storage) {
	ctx, name := t.Context(), "metadata/1.root.json"
	must(t, s.Create(ctx, name, strings.NewReader("one")))
	holds(t, s, name, "one")
	absent(t, s, "metadata/2.root.json")
	absent(t, s, "1.root.json")

	must(t, s.Create(ctx, name, strings.NewReader("one")))
	must(t, s.Create(ctx, name, drip{strings.NewReader("one")}))
	for _, other := range []string{"", "o", "on", "onE", "two", "one ", "one, and more of it"} {
		conflict(t, s.Create(ctx, name, strings.NewReader(other)))
		holds(t, s, name, "one")
	}
	must(t, s.Create(ctx, "metadata/empty", strings.NewReader("")))
	holds(t, s, "metadata/empty", "")
	must(t, s.Create(ctx, "metadata/empty", strings.NewReader("")))
	conflict(t, s.Create(ctx, "metadata/empty", strings.NewReader("x")))
}

// createLarge creates a file of several buffers, and compares files that differ only at
// the end.
func createLarge(t *testing.T, s storage.Storage) {
	ctx, name, n := t.Context(), "targets/agent/big", int64(5<<20+17)
	must(t, s.Create(ctx, name, pattern(n)))
	must(t, s.Create(ctx, name, pattern(n)))
	conflict(t, s.Create(ctx, name, pattern(n-1)))
	conflict(t, s.Create(ctx, name, pattern(n+1)))
	conflict(t, s.Create(ctx, name, io.MultiReader(pattern(n-1), strings.NewReader("?"))))
	got, err := s.Read(ctx, name)
	must(t, err)
	want, _ := io.ReadAll(pattern(n))
	if !bytes.Equal(got, want) {
		t.Fatalf("read back other bytes than were created (%d, want %d)", len(got), len(want))
	}
}

func createReaderFails(t *testing.T, s storage.Storage) {
	ctx, name := t.Context(), "targets/agent/broken"
	// An error of the reader is returned as such, even one that storages also return.
	for _, cause := range []error{errors.New("line cut"), fs.ErrNotExist, fs.ErrExist, io.ErrUnexpectedEOF} {
		for _, n := range []int64{0, 1, 1 << 20} {
			err := s.Create(ctx, name, io.MultiReader(pattern(n), broken{cause}, pattern(10)))
			if !errors.Is(err, cause) {
				t.Fatalf("reader failed after %d bytes with %q: Create returned %v", n, cause, err)
			}
			absent(t, s, name)
		}
	}
	must(t, s.Create(ctx, name, pattern(2<<20)))
	if err := s.Create(ctx, name, io.MultiReader(pattern(1<<20), broken{errCut})); !errors.Is(err, errCut) {
		t.Fatalf("the file exists, and the reader fails after equal bytes: %v", err)
	}
	must(t, s.Create(ctx, name, pattern(2<<20)))
}

func createRace(t *testing.T, s storage.Storage) {
	for round := range 5 {
		name := fmt.Sprintf("metadata/%d.root.json", round)
		content := func(i int) string { return strings.Repeat(fmt.Sprintf("%02d,", i), 20_000) }
		errs := together(32, func(i int) error { return s.Create(t.Context(), name, strings.NewReader(content(i))) })
		winner := one(t, errs)
		holds(t, s, name, content(winner))
	}
}

func createSameRace(t *testing.T, s storage.Storage) {
	for _, err := range together(16, func(int) error { return s.Create(t.Context(), "targets/same", pattern(100_000)) }) {
		must(t, err)
	}
}

func replace(t *testing.T, s storage.Storage) {
	ctx, name := t.Context(), "metadata/timestamp.json"
	conflict(t, s.Replace(ctx, name, []byte("old"), []byte("new")))
	conflict(t, s.Replace(ctx, name, []byte{}, []byte("new")))
	absent(t, s, name)

	must(t, s.Replace(ctx, name, nil, []byte("1")))
	holds(t, s, name, "1")
	conflict(t, s.Replace(ctx, name, nil, []byte("2")))
	conflict(t, s.Replace(ctx, name, nil, []byte("1")))
	conflict(t, s.Replace(ctx, name, []byte{}, []byte("2")))
	conflict(t, s.Replace(ctx, name, []byte("11"), []byte("2")))
	conflict(t, s.Replace(ctx, name, []byte("0"), []byte("1")))
	holds(t, s, name, "1")

	must(t, s.Replace(ctx, name, []byte("1"), []byte("2")))
	holds(t, s, name, "2")
	must(t, s.Replace(ctx, name, []byte("2"), []byte("2")))
	must(t, s.Replace(ctx, name, []byte("2"), []byte{}))
	holds(t, s, name, "")
	conflict(t, s.Replace(ctx, name, nil, []byte("3")))
	must(t, s.Replace(ctx, name, []byte{}, []byte("1"))) // back again: only content counts
	holds(t, s, name, "1")

	// Create and Replace see each other's files.
	conflict(t, s.Create(ctx, name, strings.NewReader("2")))
	must(t, s.Create(ctx, "metadata/other", strings.NewReader("a")))
	conflict(t, s.Replace(ctx, "metadata/other", nil, []byte("b")))
	holds(t, s, "metadata/other", "a")
}

func replaceRace(t *testing.T, s storage.Storage) {
	ctx, name, old := t.Context(), "metadata/timestamp.json", []byte(nil)
	for round := range 5 {
		content := func(i int) []byte { return fmt.Appendf(nil, "round %d, writer %d", round, i) }
		winner := one(t, together(32, func(i int) error { return s.Replace(ctx, name, old, content(i)) }))
		old = content(winner)
		holds(t, s, name, string(old))
	}
}

// replaceCounter checks that no increment is lost or repeated.
func replaceCounter(t *testing.T, s storage.Storage) {
	const writers = 8
	each := 25
	if _, in := s.(storage.Batched); !in {
		if _, slow := s.(storage.Batcher); slow { // each change is a push
			each = 4
		}
	}
	ctx, name := t.Context(), "metadata/counter"
	must(t, s.Replace(ctx, name, nil, []byte("0")))
	errs := together(writers, func(int) error {
		for done := 0; done < each; {
			old, err := s.Read(ctx, name)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(old))
			if err != nil {
				return err
			}
			switch err := s.Replace(ctx, name, old, []byte(strconv.Itoa(n+1))); {
			case err == nil:
				done++
			case !errors.Is(err, storage.ErrConflict):
				return err
			}
		}
		return nil
	})
	for _, err := range errs {
		must(t, err)
	}
	holds(t, s, name, strconv.Itoa(writers*each))
}

// readDuringReplace checks that a reader gets the whole old or the whole new content.
func readDuringReplace(t *testing.T, s storage.Storage) {
	ctx, name := t.Context(), "metadata/timestamp.json"
	a, b := bytes.Repeat([]byte("a"), 300_000), bytes.Repeat([]byte("b"), 200_000)
	must(t, s.Replace(ctx, name, nil, a))
	var writing sync.WaitGroup
	done := make(chan struct{})
	writing.Go(func() {
		defer close(done)
		for range 20 {
			if err := errors.Join(s.Replace(ctx, name, a, b), s.Replace(ctx, name, b, a)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer writing.Wait()
	for {
		got, err := s.Read(ctx, name)
		if err != nil || !bytes.Equal(got, a) && !bytes.Equal(got, b) {
			t.Fatalf("read during Replace: %d bytes, %v", len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func slices(t *testing.T, s storage.Storage) {
	ctx, name := t.Context(), "metadata/timestamp.json"
	data := []byte("one")
	must(t, s.Replace(ctx, name, nil, data))
	data[0] = 'X'
	holds(t, s, name, "one")
	got, err := s.Read(ctx, name)
	must(t, err)
	got[0] = 'X'
	holds(t, s, name, "one")
}

func tooLarge(t *testing.T, s storage.Storage) {
	ctx := t.Context()
	if err := s.Replace(ctx, "metadata/huge", nil, make([]byte, storage.MaxRead+1)); err == nil || errors.Is(err, storage.ErrConflict) {
		t.Fatalf("Replace with more than MaxRead bytes: %v", err)
	}
	absent(t, s, "metadata/huge")
}

func cancelled(t *testing.T, s storage.Storage) {
	must(t, s.Create(t.Context(), "metadata/there", strings.NewReader("x")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Read(ctx, "metadata/there")
	ended(t, err)
	ended(t, s.Create(ctx, "metadata/new", strings.NewReader("x")))
	ended(t, s.Replace(ctx, "metadata/new", nil, []byte("x")))
	ended(t, s.Replace(ctx, "metadata/there", []byte("x"), []byte("y")))
	absent(t, s, "metadata/new")
	holds(t, s, "metadata/there", "x")
}

// cancelledWhileReading checks that Create stops reading soon after ctx ends, and also
// fails if ctx ends together with the reader.
func cancelledWhileReading(t *testing.T, s storage.Storage) {
	const soon = 64 << 20 // bytes that an implementation may buffer for parts of an upload
	for _, rest := range []int64{0, 1, soon} {
		ctx, cancel := context.WithCancel(t.Context())
		left := &io.LimitedReader{R: &ring{}, N: rest}
		err := s.Create(ctx, "targets/late", io.MultiReader(pattern(1<<20), act(cancel), left))
		if ended(t, err); left.N == 0 && rest == soon {
			t.Errorf("read another %d bytes after the end of the context", rest)
		}
		absent(t, s, "targets/late")
	}
}

func badNames(t *testing.T, s storage.Storage) {
	for _, name := range []string{
		"", ".", "..", "/", "/etc/passwd", "a/", "a//b", "./a", "a/.", "../a", "a/../b", "a/..", `a\b`, `..\a`, "a\x00b", "a\nb",
		"c:a", "a:stream", "NUL", "nul.txt", "a/CON", "com1", "lpt9.json", "COM¹", "conin$", "aux .x", "a.", "a/b ", "a./b",
		".lock", "a/.visum-0123456789abcdef.tmp", "a\xff", "a*", `a"b`, strings.Repeat("x", 256), strings.Repeat("x/", 513) + "x",
	} {
		if err := storage.CheckName(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
		_, err := s.Read(t.Context(), name)
		for op, err := range map[string]error{
			"Read":    err,
			"Create":  s.Create(t.Context(), name, strings.NewReader("x")),
			"Replace": s.Replace(t.Context(), name, nil, []byte("x")),
		} {
			if !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s(%q) = %v", op, name, err)
			}
		}
	}
}

func goodNames(t *testing.T, s storage.Storage) {
	names := []string{
		"x", "a b", "ä/ü", "a..b", "a/..b/c", "metadata/1.root.json", "targets/.well-known/x", "com10", "console", "nullable/x",
		"100%", "a+b&c=d,e;f'(g)[h]{i}~#!@$^`", strings.Repeat("y", 255), strings.Repeat("d/", 40) + "deep",
	}
	for _, name := range names {
		must(t, s.Create(t.Context(), name, strings.NewReader(name)))
	}
	for _, name := range names {
		holds(t, s, name, name)
	}
}
