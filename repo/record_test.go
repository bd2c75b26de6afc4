package repo_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf/attestation"
)

// An approval of a release writes a statement, with or without a ReviewRecord of the
// examination, and only once. No statement is written if the record sets Unrecorded, as
// for approvals by a machine, nor for a target without release data.
func TestApprovalsAreRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plain := func(tx *repo.Tx) error { return tx.Add("vendor", "agent/README", strings.NewReader("read me"), nil) }
	w.Update(func(tx *repo.Tx) error { return errors.Join(add("1")(tx), add("2")(tx), plain(tx)) })
	w.Update(func(tx *repo.Tx) error {
		return errors.Join(tx.Approve("review", "agent/1", nil), tx.Approve("review", "agent/2", &repo.ReviewRecord{Unrecorded: true}), tx.Approve("review", "agent/README", nil))
	})
	if d, err := w.Open("vendor-release", "review-release").Stage(t.Context(), func(tx *repo.Tx) error { return tx.Approve("review", "agent/1", nil) }); err != nil || !d.Empty() {
		t.Errorf("approved twice: %v, %v", d, err)
	}
	for path, want := range map[string]int{"agent/1": 1, "agent/2": 0, "agent/README": 0} {
		all, err := w.Open().Statements(t.Context(), path)
		if err != nil || len(all) != want {
			t.Errorf("%s: %+v, %v; want %d", path, all, err, want)
		}
		if want == 1 && (all[0].Review == nil || all[0].Review.Result != attestation.NotDone) {
			t.Errorf("%s: %+v", path, all[0])
		}
	}
}
