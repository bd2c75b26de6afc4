package tuf_test

import (
	"fmt"
	"testing"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/tuftest"
)

func canonical(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cjson.EncodeCanonical(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// stockVerify asks go-tuf whether root v1 vouches for a top-level role.
func stockVerify(r *tuftest.Repo, role string) error {
	root, err := metadata.Root().FromBytes(r.Files["1.root.json"])
	if err != nil {
		return err
	}
	file := fmt.Sprintf("5.%s.json", role)
	switch role {
	case "root":
		return root.VerifyDelegate(role, root)
	case "timestamp":
		m, err := metadata.Timestamp().FromBytes(r.Files["timestamp.json"])
		if err != nil {
			return err
		}
		return root.VerifyDelegate(role, m)
	case "snapshot":
		m, err := metadata.Snapshot().FromBytes(r.Files[file])
		if err != nil {
			return err
		}
		return root.VerifyDelegate(role, m)
	}
	m, err := metadata.Targets().FromBytes(r.Files[file])
	if err != nil {
		return err
	}
	return root.VerifyDelegate(role, m)
}
