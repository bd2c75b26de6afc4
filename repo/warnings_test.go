package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Stage reports at once what Pin would refuse after all signatures: an error for a
// first root, and warnings for a later root and for useless spare keys.
func TestWarnings(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change  func(w *world, r *repo.Root)
		want    string // part of the error of a first root, or of its warning
		refused bool
	}{
		"healthy":                       {func(*world, *repo.Root) {}, "", false},
		"one operator":                  {func(_ *world, r *repo.Root) { r.Locations[0].Operator = r.Locations[1].Operator }, "its locations have 1 operator by name and host, min_operators is 2", true},
		"an operator past its end date": {func(w *world, r *repo.Root) { r.Locations[0].UseUntil = w.Now }, "its locations have 1 operator", true},
		"one key is enough": {func(_ *world, r *repo.Root) {
			r.Locations[0].Operator = r.Locations[1].Operator
			r.Probe = tuf.Probe{MinOperators: 1, Every: 1e9, MaxAge: 2e9}
		}, "min_operators is 1: one operator that serves old files hides every new root", false},
		"fewer keys than the threshold": {func(_ *world, r *repo.Root) { r.Probe = tuf.Probe{MinOperators: 3, Every: 1e9, MaxAge: 2e9} },
			"its locations have 2 operators by name and host, min_operators is 3, so clients can't reach enough", true},
		"two operators on one host": {func(_ *world, r *repo.Root) { r.Locations[0].Base = r.Locations[1].Base }, "its locations have 1 operator by name and host", true},
		"no party called review": {func(_ *world, r *repo.Root) {
			r.Parties[1].Name, r.Classes[0].Roles[1].Party = "audit", "audit"
		}, "no party has the name review", true},
		"a spare key for one party alone": {func(w *world, r *repo.Root) { r.Parties[0].Keys = w.Public("vendor-1", "vendor-2", "vendor-3") },
			"party vendor has 2 spare root keys, another party 1: no more than 1 of all 5 root keys may be lost, so 1 spare key of vendor makes losses worse", false},
	} {
		w := emptyWorld(t)
		edit := func(tx *repo.Tx) error {
			err := w.Define(tx)
			x.change(w, tx.Root())
			return err
		}
		stage := func() (d *repo.Draft, err error) {
			d, err = w.Open().Stage(t.Context(), edit)
			return d, err
		}
		d, err := stage()
		if x.refused {
			if !errors.Is(err, tuf.ErrCharter) || !strings.Contains(err.Error(), x.want) {
				t.Errorf("%s: %v", name, err)
			}
			w.Update(w.Define) // healed
			d, err = stage()   // and as a later root
			if err != nil || len(d.Warnings()) != 1 {
				t.Errorf("%s: %v", name, err)
				continue
			}
		}
		noErr(t, err)
		if got := strings.Join(d.Warnings(), "\n"); x.want == "" && got != "" || !strings.Contains(got, x.want) {
			t.Errorf("%s: %q", name, got)
		}
		// The recipient of the draft is warned too.
		told := slices.ContainsFunc(w.lines(d), func(l string) bool {
			return strings.Contains(l, "root: warning of v") && strings.Contains(l, x.want)
		})
		if told != (x.want != "") {
			t.Errorf("%s: %q", name, w.lines(d))
		}
	}
}
