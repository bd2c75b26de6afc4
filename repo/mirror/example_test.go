package mirror_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// published returns a repository in a directory, with one release and its pin.
func published(ctx context.Context, dir string, now time.Time) (pin []byte) {
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
	cfg := &repo.Config{Now: func() time.Time { return now }}
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
	pin, err := r.Pin(ctx)
	check(err)
	return pin
}

// A weekly check covers the repository and a mirror on which a file was truncated.
func ExampleVerify() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	pin := published(ctx, dir+"/main", now)
	main, other := storage.Dir(dir+"/main"), storage.Dir(dir+"/mirror")
	check(mirror.Clone(ctx, other, storage.SourceOf(main), pin, nil))
	sum := sha256.Sum256([]byte("the new agent"))
	file := fmt.Sprintf("targets/agent/%x.agent-1.1", sum)
	check(os.Truncate(dir+"/mirror/"+file, 7))

	report, err := mirror.Verify(ctx, main, pin, &mirror.Options{Now: func() time.Time { return now }},
		mirror.Mirror{Name: "mirror", Source: storage.SourceOf(other)})
	check(err)
	fmt.Println("good:", report.Err() == nil)
	for _, f := range report.Findings {
		if !f.Harmless() {
			fmt.Println(f.Kind, "on the", f.Copy, "-", f.Text)
		}
	}
	// Output:
	// good: false
	// damaged on the mirror - length is 7, 13 is listed
}

// A bundle for a USB stick has all roots, the metadata, and the selected targets.
func ExampleBundle() {
	ctx, now := context.Background(), time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	pin := published(ctx, dir, now)

	var stick bytes.Buffer
	check(mirror.Bundle(ctx, &stick, storage.Dir(dir), pin, &mirror.BundleOptions{Targets: func(path string) bool { return path == "agent/agent-1.1" }}))
	z, err := zip.NewReader(bytes.NewReader(stick.Bytes()), int64(stick.Len())) // client.FSSource(z) is a source
	check(err)
	for _, f := range z.File {
		fmt.Println(f.Name)
	}
	// Output:
	// targets/agent/f78b726f5f161b6a0cf4acfcab196b2376884cdfea81df3455f217ff639f5473.agent-1.1
	// targets/agent/f78b726f5f161b6a0cf4acfcab196b2376884cdfea81df3455f217ff639f5473.agent-1.1.reviews/review-agent.1.json
	// metadata/2.review-agent.json
	// metadata/1.targets.json
	// metadata/2.vendor-agent.json
	// metadata/2.snapshot.json
	// metadata/1.root.json
	// metadata/timestamp.json
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
