package repo_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// begin creates a repository: the vendor stages the first root, the review centre
// signs it on its own machine, the vendor publishes it. No earlier root can verify the
// first one, so two people compare its digest.
func begin(ctx context.Context, vendor, centre *repo.Repo, root repo.Root, keys ...tuf.Signer) error {
	draft, err := vendor.Stage(ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
	if err != nil {
		return err
	}
	digest := draft.Digest()   // compared by two people, for example by telephone
	data, err := draft.Bytes() // sent to the review centre over any channel
	if err != nil {
		return err
	}
	if draft, err = centre.OpenDraft(data); err != nil {
		return err
	}
	fmt.Println(draft.Missing()[0])
	for _, key := range keys {
		if err := draft.SignFirst(ctx, key, digest); err != nil {
			return err
		}
	}
	return vendor.Publish(ctx, draft)
}

// A vendor and a review centre create a repository and publish a release.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key := func() tuf.Signer { // in production: keys.Generate and keys.Open
		_, private, err := ed25519.GenerateKey(nil)
		check(err)
		s, err := tuf.NewSigner(private)
		check(err)
		return s
	}
	public := func(s tuf.Signer) repo.Keys { return repo.Keys{Keys: []tuf.Key{s.Key()}} }
	vendorRoot, vendorRelease, online := key(), key(), [3]tuf.Signer{key(), key(), key()}
	reviewRoot, reviewRelease := key(), key()

	vendor := repo.New(repo.Folder(dir+"/repository"), &repo.Config{Ledger: repo.DirLedger(dir + "/vendor"), Signers: append(online[:], vendorRoot, vendorRelease)})
	centre := repo.New(repo.Folder(dir+"/repository"), &repo.Config{Ledger: repo.DirLedger(dir + "/centre"), Signers: []tuf.Signer{reviewRoot, reviewRelease}})
	check(begin(ctx, vendor, centre, repo.Root{
		Parties:   []repo.Party{{Name: "vendor", Keys: public(vendorRoot).Keys}, {Name: "review", Keys: public(reviewRoot).Keys}},
		Timestamp: public(online[0]), Snapshot: public(online[1]), Targets: public(online[2]),
		Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: public(vendorRelease)},
			{Party: "review", Role: "review-agent", Keys: public(reviewRelease)}}}},
		Locations: []tuf.Location{
			{ID: "vendor-1", Tier: tuf.Primary, Operator: "vendor-host", Base: "https://updates.vendor.example/r/", Metadata: "metadata/", Targets: "targets/"},
			{ID: "review-1", Tier: tuf.Rendezvous, Operator: "review-host", Base: "https://updates.review.example/r/", Metadata: "metadata/"}},
	}, reviewRoot, reviewRelease))

	file := strings.NewReader("the new agent")
	release := &tuf.Release{Product: "agent", Version: "1.1", Channel: "stable", Platform: "linux/amd64"}

	// The vendor lists a file. No client installs it yet.
	check(vendor.Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-1.1", file, release)
	}))
	// The review centre examines it on its own machine, and approves these bytes.
	pending, err := centre.Pending(ctx, "review")
	check(err)
	draft, err := centre.Stage(ctx, func(tx *repo.Tx) error {
		return tx.Approve("review", pending[0].Path, &repo.ReviewRecord{Reviewer: "Ann", SHA256: pending[0].SHA256})
	})
	check(err)
	// The vendor publishes the approval. Clients install the file from now on.
	check(vendor.Publish(ctx, draft))

	for _, p := range pending {
		fmt.Println(p.Path, p.Length, "listed by", p.ListedBy)
	}
	fmt.Println(draft)

	pin, err := vendor.Pin(ctx)
	check(err)
	opened, err := tuf.OpenPin(pin, nil)
	check(err)
	fmt.Println("the pin names the review party", opened.Review())

	// Output:
	// review-agent: 0 of 1 signatures of review (review-agent)
	// agent/agent-1.1 13 listed by [vendor-agent]
	// review-agent v2, review of agent/agent-1.1
	// the pin names the review party review
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
