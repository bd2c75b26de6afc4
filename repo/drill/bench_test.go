package drill_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/drill"
)

// BenchmarkDrill rehearses an announcement for chains of roots of different length,
// with two pins in each scenario and with the default number.
func BenchmarkDrill(b *testing.B) {
	for _, roots := range []int{3, 100, 300} {
		w := repotest.NewMoving(b)
		keys := slices.Concat(repotest.OldKeys, repotest.ReviewKeys)
		r := w.Repo(keys...)
		for range roots - 1 {
			rawtuf.NoErr(b, r.Update(context.Background(), func(tx *repo.Tx) error { tx.RenewRoot(); return nil }))
		}
		w.Now = w.Move.Dates.Announce
		w.Refresh(repotest.OldKeys...)
		d, err := w.Move.Announce(context.Background(), w.Repo(keys...))
		rawtuf.NoErr(b, err)
		x := &drill.Drill{Storage: w.Store, Draft: w.Sign(d), Stolen: repotest.Signers(repotest.OldKeys...)}
		x.Config.Signers, x.Config.Now = repotest.Signers(repotest.OldKeys...), w.Repo().Now
		for _, pins := range []int{2, 16} {
			x.MaxPins = pins
			b.Run(fmt.Sprintf("%d_roots/%d_pins", roots, pins), func(b *testing.B) {
				for b.Loop() {
					report, err := x.Run(context.Background())
					if err == nil {
						err = report.Err()
					}
					rawtuf.NoErr(b, err)
				}
			})
		}
	}
}
