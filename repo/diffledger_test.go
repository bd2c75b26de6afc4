package repo_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
)

// headlines are the first lines of a machine's diff.
func (m *machine) diff(d *repo.Draft) []string {
	m.w.T.Helper()
	changes, err := m.open().Diff(m.w.T.Context(), d)
	noErr(m.w.T, err)
	var out []string
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}

// A signer is shown the difference to what its own ledger has seen: it includes a
// release that another signer of the party has approved since.
func TestDiffAgainstTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	w.Update(approve("1"))
	ann := w.machine().adopts()
	d, err := repo.New(w.Store, w.Config()).Stage(t.Context(), resignReview)
	noErr(t, err)
	if lines := strings.Join(ann.diff(d), "\n"); strings.Contains(lines, "agent/") {
		t.Errorf("the diff lacks what Ann has not seen:\n%s", lines)
	}
	w.Update(approve("2")) // by another signer
	w.Now = w.Now.Add(time.Hour)
	w.Update(renewRoot)
	d, err = repo.New(w.Store, w.Config()).Stage(t.Context(), func(tx *repo.Tx) error { return errors.Join(resignReview(tx), announce(tx)) })
	noErr(t, err)
	says(t, ann.diff(d), "review-agent: release agent/2 added")
	says(t, ann.diff(d), "root: ", "signed_at ")
	if lines := strings.Join(w.machine().adopts().diff(d), "\n"); strings.Contains(lines, "agent/2") {
		t.Errorf("seen content is shown again:\n%s", lines)
	}
	// A party with an empty ledger sees its roles in full.
	says(t, w.machine().diff(d), "review-agent: release agent/1 added")
	says(t, w.machine().diff(d), "review-agent: release agent/2 added")
}

// The first lines show previously signed content that is dropped, and content that is
// approved again.
func TestDiffBeginsWithWhatWasBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx)) })
	m := w.machine().adopts()
	r := m.open("review-release", "review-1")
	if _, err := r.Stage(t.Context(), approve("1")); err != nil { // the draft is discarded
		t.Fatal(err)
	}
	d, err := r.Stage(t.Context(), approve("2"))
	noErr(t, err)
	// The content that this draft signs is now the newest, so another content is compared.
	other, err := m.open().Stage(t.Context(), approve("1"))
	noErr(t, err)
	if lines := m.diff(other); lines[0] != "review-agent: signed before agent/2 removed, was: listed in v3, which this signer signed and which is not published" {
		t.Errorf("%q", lines[0])
	}
	if lines := m.diff(d); strings.Contains(lines[0], "signed before") {
		t.Errorf("%q", lines[0])
	}

	if _, err := r.Stage(t.Context(), renewRoot); err != nil {
		t.Fatal(err)
	}
	w.Now = w.Now.Add(time.Minute)
	root, err := m.open().Stage(t.Context(), renewRoot)
	noErr(t, err)
	if lines := m.diff(root); !strings.HasPrefix(lines[0], "root: signed before v2 changed: another root with sha256 ") {
		t.Errorf("%q", lines[0])
	}
	cfg := w.Config()
	cfg.ClockTolerance = time.Hour
	changes, err := repo.New(w.Store, cfg).Diff(t.Context(), root)
	noErr(t, err)
	var lines []string
	for _, c := range changes {
		lines = append(lines, c.String())
	}
	says(t, lines, "root: clock tolerance of this machine 1h0m0s")

	w.Update(func(tx *repo.Tx) error {
		return tx.Refuse("review", "agent/1", repo.RefusalRecord{Reason: "no source"})
	})
	again, err := w.Open("review-release").Stage(t.Context(), func(tx *repo.Tx) error {
		return tx.Approve("review", "agent/1", &repo.ReviewRecord{Reinstate: "here it is"})
	})
	noErr(t, err)
	if lines := w.lines(again); !strings.HasPrefix(lines[0], "review-agent: reinstatement of agent/1 added: ") || !strings.Contains(lines[0], `"here it is"`) {
		t.Errorf("%q", lines[0])
	}
}
