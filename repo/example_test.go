package repo_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// begin makes a repository: the vendor stages the first root, the review centre
// signs it on its own machine, the vendor publishes it. Nothing comes before a
// first root, so two people compare its digest.
func begin(ctx context.Context, vendor, centre *repo.Repo, root repo.Root, keys ...tuf.Signer) error {
	draft, err := vendor.Stage(ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil })
	if err != nil {
		return err
	}
	digest := draft.Digest()   // read over the telephone
	data, err := draft.Bytes() // travels to the review centre by any channel
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

// releaseAlone is the vendor's part of a release: no client takes it yet.
func releaseAlone(ctx context.Context, vendor *repo.Repo, file io.ReadSeeker) error {
	return vendor.Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-1.1", file, &tuf.Release{
			Product: "agent", Version: "1.1", Channel: "stable", Platform: "linux/amd64"})
	})
}

// approvePending is the review centre's part: a draft that lists what waits for it.
func approvePending(ctx context.Context, centre *repo.Repo) (*repo.Draft, error) {
	pending, err := centre.Pending(ctx, "review")
	if err != nil {
		return nil, err
	}
	return centre.Stage(ctx, func(tx *repo.Tx) error {
		for _, p := range pending { // after it was examined
			if p.Recalled != nil || p.Refused != nil {
				continue // decided before; approving it needs ReviewRecord.Reinstate, with a reason
			}
			fmt.Println(p.Path, p.Length, "listed by", p.ListedBy)
			if err := tx.Approve("review", p.Path, &repo.ReviewRecord{Reviewer: "Ann", SHA256: p.SHA256}); err != nil {
				return err
			}
		}
		return nil
	})
}

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key := func() tuf.Signer { // in earnest: keys.Generate, keys.Open, an HSM
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

	check(releaseAlone(ctx, vendor, strings.NewReader("the new agent")))
	draft, err := approvePending(ctx, centre)
	check(err)
	fmt.Println(draft)
	check(vendor.Publish(ctx, draft))

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
