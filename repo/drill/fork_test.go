package drill_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// A root that heals a fork is also rehearsed with clients of the other branch.
func TestForkIsRehearsed(t *testing.T) {
	t.Parallel()
	if !rawtuf.Long {
		t.Skip("rehearses several forks; set VISUM_LONG=1")
	}
	keys := slices.Concat(repotest.OldKeys, repotest.ReviewKeys)
	staged := func(fn func(*repo.Tx) error) func(*repo.Repo) (*repo.Draft, error) {
		return func(r *repo.Repo) (*repo.Draft, error) { return r.Stage(context.Background(), fn) }
	}
	mirror := func(id string) func(*repo.Tx) error {
		return func(tx *repo.Tx) error {
			tx.Root().Locations = append(tx.Root().Locations, repotest.Location(id, tuf.Mirror, 30))
			return nil
		}
	}
	w := repotest.NewMoving(t)
	other := &repotest.Moving{T: t, Now: w.Now, Store: storage.Overlay(w.Store)}
	other.Publish(other.Repo(keys...), staged(mirror("c")))
	other.Publish(other.Repo(keys...), staged(func(tx *repo.Tx) error { return tx.Root().Retire("c") }))
	w.Publish(w.Repo(keys...), staged(mirror("d")))
	w.Publish(w.Repo(keys...), staged(func(tx *repo.Tx) error { tx.RenewRoot(); return nil }))
	var fork [][]byte
	for _, name := range []string{"metadata/2.root.json", "metadata/3.root.json"} {
		data, err := other.Store.Read(t.Context(), name)
		rawtuf.NoErr(t, err)
		fork = append(fork, data)
	}
	const scenario = "all locations healthy, after the other branch of a fork"
	heal := func(_ context.Context, r *repo.Repo) (*repo.Draft, error) {
		return staged(func(tx *repo.Tx) error { return tx.Heal(fork...) })(r)
	}
	r := rehearse(t, w, signed(repotest.OldKeys...), heal)
	if err := r.Err(); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	if o := find(t, r, scenario, "visum"); o.Clients == 0 || o.Converged != o.Clients {
		t.Errorf("%+v", o)
	}
	// For a draft that heals no fork there are no such clients.
	r = rehearse(t, w, signed(repotest.OldKeys...), func(_ context.Context, r *repo.Repo) (*repo.Draft, error) {
		return staged(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })(r)
	})
	if strings.Contains(r.String(), scenario) {
		t.Errorf("%s", r)
	}
}
