package tuf_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func hexSign(r *rawtuf.Repo, key string, msg []byte) string {
	return hex.EncodeToString(ed25519.Sign(r.Key(key).(ed25519.PrivateKey), msg))
}

// hundredThousand is a repository without a charter, with 100,000 targets in one role of
// three keys.
func hundredThousand() *rawtuf.Repo {
	r := rawtuf.NewPlain()
	keys := []string{"t1", "t2", "t3"}
	r.AddKeys(r.Root, keys...)
	r.Root["roles"].(doc)["targets"], r.Signers["targets"] = r.Role(3, keys...), keys
	for i := range 100_000 {
		path := fmt.Sprintf("pool/%02x/package-%06d.tar.gz", i%256, i)
		r.AddTarget(path, path, doc{"product": "package", "version": fmt.Sprintf("1.0.%d", i), "channel": "stable", "platform": "linux/amd64", "sequence": i + 1}, "targets")
	}
	r.PublishRoot()
	r.Publish()
	return r
}

// BenchmarkLookup100k verifies a role of 100,000 targets and looks one up. The metric is
// the ratio of go-tuf's time for decoding and verifying it.
func BenchmarkLookup100k(b *testing.B) {
	r := hundredThousand()
	data := r.Files["5.targets.json"]
	path := fmt.Sprintf("pool/%02x/package-%06d.tar.gz", 99_999%256, 99_999)
	ts, err := newClient(b, r).root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	theirs := func() error {
		root, err := metadata.Root().FromBytes(r.Files["1.root.json"])
		if err != nil {
			return err
		}
		targets, err := metadata.Targets().FromBytes(data)
		if err != nil {
			return err
		}
		return root.VerifyDelegate("targets", targets)
	}
	if testing.Short() {
		theirs = nil // go-tuf takes some ten seconds
	}
	measured(b, func() error {
		snap, err := ts.Snapshot(r.Files["5.snapshot.json"], nil)
		if err != nil {
			return err
		}
		_, err = snap.UnsafeTarget(path, func(tuf.RoleFile) ([]byte, error) { return data, nil })
		return err
	}, theirs)
}
