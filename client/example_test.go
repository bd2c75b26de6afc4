package client_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// In a product: //go:embed pin.json
var pin []byte

// update saves the newest approved release to file, if there is one newer than
// what is installed, and returns its version. cfg names a folder for the state:
// &client.Config{Dir: "..."}.
func update(ctx context.Context, cfg *client.Config, file, installed string) (string, error) {
	c, err := client.New(pin, cfg)
	if err != nil {
		return "", err
	}
	view, err := c.Refresh(ctx)
	if err != nil {
		return "", err // no update now; the installed version is unchanged
	}
	rel, err := view.Latest(ctx, client.Query{
		Product: "agent", Channel: "stable", Platform: "linux/amd64", Installed: installed,
	})
	if errors.Is(err, client.ErrUpToDate) {
		fmt.Println(err) // also states why a newer release was refused
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return rel.Version, c.Save(ctx, rel.Approved, file)
}

// The vendor lists a release; it is offered after the review centre lists it too.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	ctx := context.Background()
	r := exampleRepository(ctx, filepath.Join(dir, "repository"))
	pin, err = r.Pin(ctx)
	check(err)

	cfg := &client.Config{Dir: filepath.Join(dir, "state"), HTTP: hosts(filepath.Join(dir, "repository"))}
	file := filepath.Join(dir, "agent")
	check(r.Update(ctx, func(tx *repo.Tx) error {
		return tx.Add("vendor", "agent/agent-1.1", strings.NewReader("the new agent"), &tuf.Release{Product: "agent", Version: "1.1", Channel: "stable", Platform: "linux/amd64"})
	}))
	version, err := update(ctx, cfg, file, "")
	fmt.Printf("%q %v\n", version, err)

	check(r.Update(ctx, func(tx *repo.Tx) error { return tx.Approve("review", "agent/agent-1.1", nil) }))
	version, err = update(ctx, cfg, file, "")
	fmt.Printf("%q %v\n", version, err)
	data, err := os.ReadFile(file)
	check(err)
	fmt.Println(bytes.NewBuffer(data))

	// Output:
	// client: no newer approved release: tuf: agent/agent-1.1: not approved: listed by vendor (vendor-agent v2), but not by review (review-agent v1)
	// "" <nil>
	// "1.1" <nil>
	// the new agent
}

// exampleRepository makes a repository with all keys available. In production each
// party keeps its own keys: see repo.Repo.Stage.
func exampleRepository(ctx context.Context, dir string) *repo.Repo {
	var signers []tuf.Signer
	key := func() repo.Keys {
		_, private, err := ed25519.GenerateKey(nil)
		check(err)
		s, err := tuf.NewSigner(private)
		check(err)
		signers = append(signers, s)
		return repo.Keys{Keys: []tuf.Key{s.Key()}}
	}
	root := repo.Root{
		Parties:   []repo.Party{{Name: "vendor", Keys: key().Keys}, {Name: "review", Keys: key().Keys}},
		Timestamp: key(), Snapshot: key(), Targets: key(),
		Classes: []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
			{Party: "vendor", Role: "vendor-agent", Keys: key()}, {Party: "review", Role: "review-agent", Keys: key()}}}},
		Locations: []tuf.Location{
			{ID: "vendor-1", Tier: tuf.Primary, Operator: "vendor-host", Base: "https://updates.vendor.example/r/", Metadata: "metadata/", Targets: "targets/"},
			{ID: "review-1", Tier: tuf.Rendezvous, Operator: "review-host", Base: "https://updates.review.example/r/", Metadata: "metadata/"}},
	}
	r := repo.New(repo.Folder(dir), &repo.Config{Signers: signers})
	check(r.Update(ctx, func(tx *repo.Tx) error { tx.SetRoot(root); return nil }))
	return r
}

// hosts serves both example hosts from a directory.
func hosts(dir string) *http.Client {
	t := http.NewFileTransport(http.Dir(dir))
	return &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/r")
		return t.RoundTrip(r)
	})}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func check(err error) {
	if err != nil {
		panic(err)
	}
}
