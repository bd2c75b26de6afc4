package repo_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/diff"
	"github.com/visum-dev/visum/tuf"
)

// published returns a repository in a directory, with one release and with every key.
// In production each key belongs to a different signer.
func published(ctx context.Context, dir string, now *time.Time) *repo.Repo {
	keys := map[string]tuf.Signer{}
	public := func(name string) repo.Keys {
		seed := sha256.Sum256([]byte(name))
		s, err := tuf.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
		check(err)
		keys[name] = s
		return repo.Keys{Keys: []tuf.Key{s.Key()}}
	}
	root := repo.Root{RepoID: "0f6c1b0e5d0c4a0f9a3be1b4a2f0c7d1",
		Parties:   []repo.Party{{Name: "vendor", Keys: public("vendor").Keys}, {Name: "review", Keys: public("review").Keys}},
		Timestamp: public("timestamp"), Snapshot: public("snapshot"), Targets: public("targets"),
		Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: public("vendor-agent")},
			{Party: "review", Role: "review-agent", Keys: public("review-agent")}}}},
		Locations: []tuf.Location{
			{ID: "vendor-1", Tier: tuf.Primary, Operator: "vendor-host", Base: "https://updates.vendor.example/r/", Metadata: "metadata/", Targets: "targets/"},
			{ID: "review-1", Tier: tuf.Rendezvous, Operator: "review-host", Base: "https://updates.review.example/r/", Metadata: "metadata/"}}}
	cfg := &repo.Config{Now: func() time.Time { return *now }}
	for _, s := range keys {
		cfg.Signers = append(cfg.Signers, s)
	}
	r := repo.New(repo.Folder(dir), cfg)
	check(r.Update(ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil }))
	check(r.Update(ctx, func(tx *repo.Tx) error {
		if err := tx.Add("vendor", "agent/agent-1.1", strings.NewReader("the new agent"), &tuf.Release{
			Product: "agent", Version: "1.1", Channel: "stable", Platform: "linux/amd64"}); err != nil {
			return err
		}
		return tx.Approve("review", "agent/agent-1.1", nil)
	}))
	return r
}

// Status reports what will have expired in three weeks if nothing is signed.
func ExampleRepo_Status() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	pin, err := published(ctx, dir, &now).Pin(ctx)
	check(err)

	online := repo.New(repo.Folder(dir), &repo.Config{Pin: pin}) // on the operator's machine, without the parties' keys
	status, err := online.Status(ctx, now.AddDate(0, 0, 20))
	check(err)
	fmt.Println(status)
	fmt.Println("worst:", status.Urgency())
	// Output:
	// expired: timestamp v2 expired 19 days ago, on 2026-11-21T12:00:00Z; it takes 1 of 1 keys of timestamp, which are not available
	// expired: snapshot v2 expired 13 days ago, on 2026-11-27T12:00:00Z; it takes 1 of 1 keys of snapshot, which are not available
	// soon: vendor-agent v2 expires in 10 days, on 2026-12-20T12:00:00Z; it takes 1 of 1 keys of vendor (vendor-agent), which are not available
	// soon: review-agent v2 expires in 10 days, on 2026-12-20T12:00:00Z; it takes 1 of 1 keys of review (review-agent), which are not available
	// fine: root v1 expires in 345 days, on 2027-11-20T12:00:00Z; it takes 1 of 1 keys of party vendor of the root and 1 of 1 keys of party review of the root and 2 of 2 keys of all parties of the root, which are not available
	// fine: targets v1 expires in 345 days, on 2027-11-20T12:00:00Z; it takes 1 of 1 keys of targets, which are not available
	// worst: expired
}

// A signer reads the changes of a draft before signing it.
func ExampleRepo_Diff() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	vendor := published(ctx, dir, &now)
	now = now.AddDate(0, 0, 1)
	draft, err := vendor.Stage(ctx, func(tx *repo.Tx) error {
		root := tx.Root()
		root.Locations[0].UseUntil = now.AddDate(0, 6, 0)
		root.Locations = append(root.Locations, tuf.Location{ID: "zrh-1", Tier: tuf.Primary, Operator: "vendor-ch", Jurisdiction: "CH",
			Base: "https://updates.vendor.example.ch/r/", Metadata: "metadata/", Targets: "targets/", Priority: 10})
		return tx.Remove("vendor", "agent/agent-1.1")
	})
	check(err)

	changes, err := vendor.Diff(ctx, draft) // by the signer, with the signer's own handle
	check(err)
	for _, c := range changes {
		if c.What == "location" || c.Kind == diff.KindRemoved {
			fmt.Println(c)
		}
	}
	// Output:
	// root: location vendor-1: use_until added: 2027-05-21T12:00:00Z
	// root: location zrh-1 added: base "https://updates.vendor.example.ch/r/", jurisdiction CH, operator vendor-ch, paths.metadata metadata/, paths.targets targets/, priority 10, tier primary
	// vendor-agent: release agent/agent-1.1 removed, was: channel stable, length 13, platform linux/amd64, product agent, sequence 1, sha256 f78b726f5f161b6a0cf4acfcab196b2376884cdfea81df3455f217ff639f5473, version 1.1
}

// A version that was tested in one channel is promoted to another, at first for a
// tenth of the machines. The review centre sees the changes and approves them.
func ExampleTx_Promote() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	r := published(ctx, dir, &now)
	approve := func() {
		waiting, err := r.Pending(ctx, "review")
		check(err)
		for _, p := range waiting {
			fmt.Println(p.Path, p.Release.Version, p.Release.Channel, p.Changes)
			check(r.Update(ctx, func(tx *repo.Tx) error { return tx.Approve("review", p.Path, nil) }))
		}
	}
	check(r.Update(ctx, func(tx *repo.Tx) error {
		return tx.Promote("vendor", repo.Promotion{Product: "agent", Version: "1.1", From: "stable", To: "longterm", Rollout: &tuf.Rollout{Percent: 10}})
	}))
	approve()
	check(r.Update(ctx, func(tx *repo.Tx) error {
		return tx.SetRollout("vendor", repo.ReleaseID{Product: "agent", Version: "1.1"}, "longterm", 50)
	}))
	approve()
	// Output:
	// agent/longterm/agent-1.1 1.1 longterm [the same bytes are already listed as agent/agent-1.1: version 1.1, channel stable, platform linux/amd64]
	// agent/longterm/agent-1.1 1.1 longterm [review already lists it differently: the same bytes, rollout 10 -> 50 %]
}
