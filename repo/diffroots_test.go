package repo_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// Two published roots are compared as the draft of the second one was.
func TestDiffRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.Root()
	d, err := w.Open().Stage(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Parties[1].Keys = w.Public("review-3", "review-4")
		return nil
	})
	noErr(t, err)
	w.SignAll(d)
	want, err := w.Open().Diff(t.Context(), d)
	noErr(t, err)
	noErr(t, w.Open().Publish(t.Context(), d))
	got, err := repo.DiffRoots(first, w.Root(), nil)
	noErr(t, err)
	lines := func(changes []diff.Change) string {
		var b strings.Builder
		for _, c := range changes {
			if c.Role == "root" {
				b.WriteString(c.String() + "\n")
			}
		}
		return b.String()
	}
	if lines(got) != lines(want) || !strings.HasPrefix(lines(got), "root v2: review replaces 2 of its 2 root keys by 2") {
		t.Errorf("got\n%swant\n%s", lines(got), lines(want))
	}
	got, err = repo.DiffRoots(nil, first, nil)
	noErr(t, err)
	if !strings.HasPrefix(lines(got), "root v1: is the first root, of vendor and review") {
		t.Error(lines(got))
	}
	labelled, err := repo.DiffRoots(first, w.Root(), map[string]string{w.Signer("review-3").Key().ID(): "the third"})
	noErr(t, err)
	if !strings.Contains(lines(labelled), "the third") {
		t.Error(lines(labelled))
	}
	plain, err := tuf.OpenRoot(rawtuf.NewPlain().Files["1.root.json"], nil)
	noErr(t, err)
	if _, err := repo.DiffRoots(nil, plain, nil); !errors.Is(err, tuf.ErrCharter) {
		t.Error(err)
	}
}
