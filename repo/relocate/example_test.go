package relocate_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/drill"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// step stages a step of the move, lets both parties sign it, rehearses the signed
// draft, and publishes it.
func step(ctx context.Context, storage repo.Storage, cfg *repo.Config, make func(context.Context, *repo.Repo) (*repo.Draft, error), centre ...tuf.Signer) error {
	r := repo.New(storage, cfg)
	draft, err := make(ctx, r)
	if err != nil {
		return err
	}
	for _, key := range centre { // on its own machine: the draft travels as bytes
		if err := draft.Sign(ctx, key); err != nil {
			return err
		}
	}
	checks := relocate.Preflight{Repo: r, Storage: storage, Draft: draft} // in production: with Move and HTTP
	report, err := checks.Run(ctx)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return err
	}
	rehearsal := drill.Drill{Storage: storage, Config: *cfg, Draft: draft}
	fleet, err := rehearsal.Run(ctx)
	if err != nil {
		return err
	}
	if err := fleet.Err(); err != nil {
		return err
	}
	fmt.Printf("root v%d: %s: %d of %d clients converge\n", fleet.Root, fleet.Outcomes[0].Scenario, fleet.Outcomes[0].Converged, fleet.Outcomes[0].Clients)
	return r.Publish(ctx, draft)
}

// A complete move, from location A in one country to location B in another.
func Example() {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	store := storage.Overlay(nil) // in production: repo.Folder(dir)
	ledger := signing.MemLedger() // in production: repo.DirLedger(dir), one for each party

	// The vendor's keys, a new generation of them, and the review centre's.
	var old, fresh [6]tuf.Signer // two root keys, timestamp, snapshot, targets, release
	var centre [3]tuf.Signer     // two root keys, release
	for _, list := range [][]tuf.Signer{old[:], fresh[:], centre[:]} {
		for i := range list {
			list[i] = newKey()
		}
	}
	public := func(signers ...tuf.Signer) (k repo.Keys) {
		for _, s := range signers {
			k.Keys = append(k.Keys, s.Key())
		}
		return k
	}
	location := func(id, tier, operator string, priority int) tuf.Location {
		return tuf.Location{ID: id, Tier: tier, Operator: operator, Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/", Priority: priority}
	}
	allSigners := append(old[:], centre[:]...)
	check(repo.New(store, &repo.Config{Signers: allSigners, Now: clock, Ledger: ledger}).Update(ctx, func(tx *repo.Tx) error {
		tx.SetRoot(repo.Root{
			Parties:   []repo.Party{{Name: "vendor", Keys: public(old[0], old[1]).Keys}, {Name: "review", Keys: public(centre[0], centre[1]).Keys}},
			Timestamp: public(old[2]), Snapshot: public(old[3]), Targets: public(old[4]),
			Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
				{Party: "vendor", Role: "vendor-agent", Keys: public(old[5])}, {Party: "review", Role: "review-agent", Keys: public(centre[2])}}}},
			Locations: []tuf.Location{location("place-a", tuf.Primary, "vendor-old", 10), location("place-z", tuf.Rendezvous, "review", 20)},
		})
		return tx.Add("vendor", "agent/1.0", strings.NewReader("the agent"), &tuf.Release{Product: "agent", Version: "1.0", Channel: "stable", Platform: "any"})
	}))
	check(repo.New(store, &repo.Config{Signers: allSigners, Now: clock, Ledger: ledger}).Update(ctx, func(tx *repo.Tx) error { return tx.Approve("review", "agent/1.0", nil) }))

	// 1. Plan.
	move := &relocate.Move{From: []string{"place-a"}, To: []tuf.Location{location("place-b", tuf.Primary, "vendor-new", 5)},
		RootKeys: public(fresh[0], fresh[1]).Keys, Timestamp: public(fresh[2]), Snapshot: public(fresh[3]), Targets: public(fresh[4]),
		Release: map[string]repo.Keys{"vendor-agent": public(fresh[5])},
		Dates:   relocate.Dates{Announce: now.AddDate(0, 0, 0), CutOver: now.AddDate(0, 0, 14), Retire: now.AddDate(0, 0, 60), Sunset: now.AddDate(0, 0, 90)}}
	plan, err := move.Plan(ctx, repo.New(store, &repo.Config{Now: clock, Ledger: ledger}))
	check(err)
	for _, root := range plan.Roots {
		fmt.Printf("root v%d, %s, due %s, epoch %d: %s\n", root.Version, root.Phase, root.Due.Format(time.DateOnly), root.Epoch, root.Locations[0])
	}

	// 2. Announce, with the old keys.
	check(step(ctx, store, &repo.Config{Signers: old[:], Now: clock, Ledger: ledger}, move.Announce, centre[:2]...))

	// 3. Cut over, with dual signing for a day.
	now = move.Dates.CutOver
	check(repo.New(store, &repo.Config{Signers: allSigners, Now: clock, Ledger: ledger}).Update(ctx, func(tx *repo.Tx) error { return tx.Renew("review") }))
	chain, err := repo.New(store, &repo.Config{Ledger: ledger}).Chain(ctx)
	check(err)
	check(step(ctx, store, &repo.Config{Signers: append(fresh[:], old[:2]...), DualSigning: &signing.DualSigning{Root: chain[1], Signers: old[2:]}, Now: clock, Ledger: ledger}, move.CutOver, centre[:2]...))

	// 4. Retire, after the logs show that the fleet has the new root.
	now = move.Dates.Retire
	var census relocate.AccessLog
	check(census.Read(ctx, "place-b", strings.NewReader(strings.Repeat(
		`192.0.2.1 - - [28/Apr/2026:10:00:00 +0000] "GET /metadata/4.root.json HTTP/1.1" 404 9`+"\n", 500))))
	fmt.Println(move.Ready(census.Adoption(), relocate.PhaseRetired, plan.Roots[1].Version))
	check(repo.New(store, &repo.Config{Signers: append(fresh[:], centre[:]...), Now: clock, Ledger: ledger}).Update(ctx, func(tx *repo.Tx) error {
		return errors.Join(tx.Renew("vendor"), tx.Renew("review")) // as every day
	}))
	check(step(ctx, store, &repo.Config{Signers: fresh[:], Now: clock, Ledger: ledger}, move.Retire, centre[:2]...))

	// 5. Location A serves a roots-only copy from now on.
	rootsOnly := storage.Overlay(nil)
	check(relocate.PublishRootsOnly(ctx, repo.New(store, &repo.Config{Ledger: ledger}), rootsOnly))
	fmt.Println("the roots-only copy of location A has", len(rootsOnly.Written()), "roots and nothing else")

	// Output:
	// root v2, announced, due 2026-03-01, epoch 0: primary place-b (vendor-new, https://place-b.example.org/), preferred from 2026-03-15 on
	// root v3, cut over, due 2026-03-15, epoch 1: primary place-b (vendor-new, https://place-b.example.org/)
	// root v4, retired, due 2026-04-30, epoch 1: primary place-b (vendor-new, https://place-b.example.org/)
	// root v2: all locations healthy: 3 of 3 clients converge
	// root v3: all locations healthy: 5 of 5 clients converge
	// You may retire the old locations: from 2026-04-28 to 2026-04-28, 100 % of 500 root checks came from clients at root v3 or newer, and the new locations answered 100 % of the requests.
	// root v4: all locations healthy: 7 of 7 clients converge
	// the roots-only copy of location A has 4 roots and nothing else
}

func newKey() tuf.Signer { // in production: repo.GenerateKey, repo.OpenSigner
	_, private, err := ed25519.GenerateKey(nil)
	check(err)
	s, err := tuf.NewSigner(private)
	check(err)
	return s
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
