package git

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo/storage"
)

// The answer to a push is lost, and the branch has changed again since.
func TestLostAnswer(t *testing.T) {
	other := func(h *host) {
		rawtuf.NoErr(t, h.open().Create(t.Context(), "targets/other", strings.NewReader("other")))
	}
	foreign := func(h *host) {
		blob := strings.TrimSpace(h.run("a site", "hash-object", "-w", "--stdin"))
		tree := strings.TrimSpace(h.run("100644 blob "+blob+"\tindex.html\n", "mktree"))
		h.run("", "update-ref", "refs/heads/"+branch, strings.TrimSpace(h.run("", "commit-tree", "-m", "by hand", tree)))
	}
	for what, x := range map[string]struct {
		effect bool
		then   func(*host)
		after  string // "": the result is unknown
	}{
		"it took effect":                           {true, func(*host) {}, "metadata/t:3:new targets/kept:4 targets/old:3"},
		"it took effect, another publish":          {true, other, "metadata/t:3:new targets/kept:4 targets/old:3 targets/other:5"},
		"it took no effect, another publish":       {false, other, "metadata/t:3:new targets/kept:4 targets/old:3 targets/other:5"},
		"it took effect, the branch is another":    {true, foreign, ""},
		"it took no effect, the branch is another": {false, foreign, ""},
	} {
		t.Run(what, func(t *testing.T) {
			h := prepare(t)
			b := h.open()
			run := b.run
			b.run = func(ctx context.Context, c *command) error {
				if c.args[0] != "push" {
					return run(ctx, c)
				}
				b.run = run
				if x.effect {
					rawtuf.NoErr(t, run(ctx, c))
				}
				x.then(h)
				return &runError{what: "push", messages: "the connection was cut", err: errFault}
			}
			err := b.Replace(t.Context(), "metadata/t", []byte("old"), []byte("new"))
			if x.after == "" {
				if err == nil || errors.Is(err, storage.ErrConflict) || !strings.Contains(err.Error(), "unknown whether the push took effect") || !strings.Contains(err.Error(), "the connection was cut") {
					t.Fatal(err)
				}
				return
			}
			if got := h.state(); err != nil || got != x.after {
				t.Errorf("%v, and the branch has %s", err, got)
			}
		})
	}
}

// Old objects of the local copy are collected, and nothing that is needed.
func TestCollect(t *testing.T) {
	ctx, h := t.Context(), prepare(t)
	b := h.open()
	rawtuf.NoErr(t, b.Create(ctx, "targets/big", strings.NewReader(random(2<<20))))
	old := time.Now().AddDate(0, 0, -3)
	var dir string
	for i := range 1500 {
		oid, err := b.storeBytes(ctx, []byte(strconv.Itoa(i)))
		rawtuf.NoErr(t, err)
		dir = filepath.Join(b.shared, "objects", oid[:2])
		rawtuf.NoErr(t, os.Chtimes(filepath.Join(dir, oid[2:]), old, old))
	}
	rawtuf.NoErr(t, b.Batch(ctx, func(s storage.Batched) error {
		rawtuf.NoErr(t, s.Create(ctx, "targets/number", strings.NewReader("17"))) // an old object is used again
		b.pushes = 0
		other := h.open(func(o *Options) { *o = b.opt })
		other.loose = 100
		return other.Create(ctx, "targets/other", strings.NewReader("other")) // collects
	}))
	if left, _ := os.ReadDir(dir); len(left) > 3 {
		t.Errorf("%d objects are left in one of 256 directories", len(left))
	}
	if got := h.state(); got != "metadata/t:3:old targets/big:2097152 targets/kept:4 targets/number:2 targets/old:3 targets/other:5" {
		t.Error(got)
	}
	for name, want := range map[string]string{"targets/number": "17", "metadata/t": "old", "targets/other": "other"} {
		if data, err := b.Read(ctx, name); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	h.run("", "fsck", "--strict")
}
