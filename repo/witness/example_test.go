package witness_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/rawlog"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/witness"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/tlog"
)

// A witness with its state in a directory signs for one log. It signs a growth only after
// it has the entries.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	check(err)
	defer os.RemoveAll(dir)
	// A program opens the key with package repo/keys.
	signer, err := tuf.NewSigner(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	check(err)
	log := rawlog.NewLog("vendor.example/visum/0f6c/1")

	mirrored := int64(0)
	w, err := witness.New(witness.Config{
		Name:    "witness.example/w1",
		Signer:  signer,
		Logs:    []tlog.Key{log.Key},
		Storage: storage.Dir(dir),
		Check: func(_ context.Context, g witness.Growth) error {
			if mirrored < g.New.Size {
				return errors.New("the entries are being read")
			}
			return nil
		},
		Now: func() time.Time { return time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC) },
	})
	check(err)
	server := httptest.NewServer(w) // or an http.Server with timeouts
	defer server.Close()

	log.Append([]byte("the first entry"))
	request := "old 0\n\n" + string(log.Note(time.Time{}))
	for range 2 {
		resp, err := http.Post(server.URL+"/add-checkpoint", "text/plain", strings.NewReader(request))
		check(err)
		body, err := io.ReadAll(resp.Body)
		check(err)
		resp.Body.Close()
		fmt.Println(resp.Status)
		if resp.StatusCode != http.StatusOK {
			fmt.Print("retry after ", resp.Header.Get("Retry-After"), " s: ", string(body))
			mirrored = log.Tree.Size
			continue
		}
		// What a client does, with the policy of its root.
		policy, err := tlog.ParsePolicy("log " + log.Key.String() + "\nwitness third " + w.Key().String() + "\nquorum third\n")
		check(err)
		c, err := policy.Checkpoint(append(log.Note(time.Time{}), body...))
		check(err)
		fmt.Println(c.Cosigners[0].Name, "has seen", c.Size, "entry at", c.Time)
	}
	// Output:
	// 503 Service Unavailable
	// retry after 5 s: witness: not signed now: the entries are being read
	// 200 OK
	// third has seen 1 entry at 2026-12-24 18:00:00 +0000 UTC
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
