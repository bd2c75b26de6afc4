package tuf_test

import (
	"errors"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// ProposeFirst applies the rules of OpenRoot except signatures.
func TestProposeFirst(t *testing.T) {
	r := rawtuf.New()
	unsigned := func() []byte { return rawtuf.Marshal(doc{"signed": r.Root, "signatures": []any{}}) }
	if _, err := tuf.OpenRoot(unsigned(), nil); !errors.Is(err, tuf.ErrThreshold) {
		t.Fatal(err)
	}
	p, err := tuf.ProposeFirst(unsigned(), nil)
	if err != nil || p.Version() != 1 || p.Charter().RepoID() != rawtuf.RepoID {
		t.Fatal(p, err)
	}
	r.PublishRoot()
	if root, err := tuf.OpenRoot(r.Files["1.root.json"], nil); err != nil || root.SHA256() != p.SHA256() {
		t.Error(err)
	}
	r.Charter()["repo_id"] = "x"
	if p, err := tuf.ProposeFirst(unsigned(), nil); !errors.Is(err, tuf.ErrCharter) || p != nil {
		t.Error(p, err)
	}
	if p, err := tuf.ProposeFirst([]byte("{}"), nil); !errors.Is(err, tuf.ErrMalformed) || p != nil {
		t.Error(p, err)
	}
}
