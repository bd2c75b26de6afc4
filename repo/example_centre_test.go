package repo_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/keys"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

// review is the reviewer's program. dir is the directory that the vendor handed over.
// The reviewer has a ledger, which is the directory with the record of what was seen
// and signed before, and the key at the URI. build rebuilds a release from its source.
func review(ctx context.Context, dir, ledger, key string, opts *keys.Options, build func(tuf.SourceRef) (sha256 string)) error {
	signer, err := keys.Open(ctx, key, opts)
	if err != nil {
		return err
	}
	centre := repo.New(repo.Folder(dir), &repo.Config{Ledger: repo.DirLedger(ledger), Signers: []tuf.Signer{signer}})
	draft, err := centre.LoadDraft(dir)
	if err != nil {
		return err
	}
	waiting, err := centre.PendingIn(ctx, "review", draft)
	if err != nil {
		return err
	}
	draft, err = centre.StageOn(ctx, draft, func(tx *repo.Tx) error {
		for _, p := range waiting {
			if p.Recalled != nil || p.Refused != nil {
				continue // decided before: an approval must state a reason in ReviewRecord.Reinstate
			}
			fmt.Println(p.Path, p.Length, p.Changes)
			file, err := centre.OpenPending(ctx, p)
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, file) // to scanners and reviewers; the hash is checked at the end
			file.Close()
			if err != nil {
				return err
			}
			if build(p.Release.Source) != p.SHA256 {
				err = tx.Refuse("review", p.Path, repo.RefusalRecord{Reason: "the source gives other bytes", Reviewer: "Ann"})
			} else {
				err = tx.Approve("review", p.Path, &repo.ReviewRecord{Reviewer: "Ann", SHA256: p.SHA256, Result: attestation.Identical, Builder: "https://builder.review.example"})
			}
			if err != nil {
				return err
			}
			fmt.Println("examined", n, "bytes")
		}
		return nil
	})
	if err != nil {
		return err
	}
	return draft.Save(dir) // to be returned to the vendor
}

// The review centre receives a directory, examines it, and returns it.
func ExampleRepo_StageOn() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	key := func(label string) tuf.Signer {
		s, err := keys.UnsafeGeneratePlain(filepath.Join(dir, strings.ReplaceAll(label, " ", "-")), label)
		check(err)
		return s
	}
	signers := map[string]tuf.Signer{}
	public := func(label string) repo.Keys {
		signers[label] = key(label)
		return repo.Keys{Keys: []tuf.Key{signers[label].Key()}}
	}
	root := repo.Root{
		Parties:   []repo.Party{{Name: "vendor", Keys: public("vendor root").Keys}, {Name: "review", Keys: public("review root").Keys}},
		Timestamp: public("timestamp"), Snapshot: public("snapshot"), Targets: public("targets"),
		Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: public("vendor release")}, {Party: "review", Role: "review-agent", Keys: public("review release")}},
			Hold: &repo.Hold{Role: "hold-agent", Keys: repo.Keys{Keys: []tuf.Key{signers["review release"].Key()}}, Max: 7 * 24 * time.Hour}}},
		Locations: []tuf.Location{
			{ID: "vendor-1", Tier: tuf.Primary, Operator: "vendor-host", Base: "https://updates.vendor.example/r/", Metadata: "metadata/", Targets: "targets/"},
			{ID: "review-1", Tier: tuf.Rendezvous, Operator: "review-host", Base: "https://updates.review.example/r/", Metadata: "metadata/"}},
	}
	vendor := repo.New(repo.Folder(filepath.Join(dir, "vendor")), &repo.Config{Ledger: repo.DirLedger(filepath.Join(dir, "vendor-ledger")),
		Signers: []tuf.Signer{signers["vendor root"], signers["vendor release"], signers["timestamp"], signers["snapshot"], signers["targets"]}})
	ledger := filepath.Join(dir, "centre-ledger")
	centre := repo.New(repo.Folder(filepath.Join(dir, "centre")), &repo.Config{Ledger: repo.DirLedger(ledger)})
	check(begin(ctx, vendor, centre, root, signers["review root"], signers["review release"]))

	// The vendor hands over a release as a draft with all its files.
	draft, err := vendor.Stage(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-1.0", strings.NewReader("the agent"), &tuf.Release{Product: "agent", Version: "1.0",
			Channel: "stable", Platform: "linux/amd64", Source: tuf.SourceRef{URI: "git+https://src.vendor.example/agent", Revision: "4f2a"}})
	})
	check(err)
	there := filepath.Join(dir, "centre")
	check(vendor.Export(ctx, draft, there))

	check(review(ctx, there, ledger, keys.FileURI(filepath.Join(dir, "review-release")), &keys.Options{Purpose: "review release"},
		func(tuf.SourceRef) string {
			sum := sha256.Sum256([]byte("the agent"))
			return hex.EncodeToString(sum[:])
		}))

	// The vendor publishes the reviewed draft.
	draft, err = repo.LoadDraft(there)
	check(err)
	check(vendor.Publish(ctx, draft))
	said, err := vendor.Statements(ctx, "agent/agent-1.0")
	check(err)
	for _, s := range said {
		fmt.Println(s.Party, "says:", s.Review.Result, "by", s.Review.Builder, "from revision", s.Review.Source.Revision)
	}

	// Output:
	// hold-agent: 0 of 1 signatures of the hold of agent
	// agent/agent-1.0 9 []
	// examined 9 bytes
	// review says: identical by https://builder.review.example from revision 4f2a
}
