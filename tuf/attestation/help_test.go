package attestation_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/attestation"
)

type doc = rawtuf.Doc

// world is a healthy repository whose review role needs two of three keys, with a client's view of
// it.
type world struct {
	t        testing.TB
	repo     *rawtuf.Repo
	root     *tuf.Root
	approved tuf.Approved
}

var now = rawtuf.Now

func newWorld(t testing.TB, edit func(*rawtuf.Repo)) *world {
	t.Helper()
	r := rawtuf.New()
	r.AddKeys(r.Root, "rb", "rc")
	role := rawtuf.At(r.Charter(), "classes", 0, "roles", 1)
	role["keyids"], role["threshold"] = r.IDs("ra", "rb", "rc"), 2
	r.Signers["review-agent"] = []string{"ra", "rb", "rc"}
	if edit != nil {
		edit(r)
	}
	r.PublishRoot()
	r.Publish()
	w := &world{t: t, repo: r}
	var err error
	w.root, err = tuf.OpenRoot(r.Files["1.root.json"], nil)
	noErr(t, err)
	ts, err := w.root.Timestamp(r.Files["timestamp.json"], nil, now)
	noErr(t, err)
	get := func(f tuf.RoleFile) ([]byte, error) {
		data, ok := r.Files[fmt.Sprintf("%d.%s.json", f.Version, f.Role)]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return data, nil
	}
	data, err := get(ts.SnapshotFile())
	noErr(t, err)
	snap, err := ts.Snapshot(data, nil)
	noErr(t, err)
	w.approved, err = snap.Approve(rawtuf.Path, get)
	noErr(t, err)
	return w
}

func (w *world) review() attestation.Review {
	return attestation.Review{Subject: attestation.SubjectOf(w.approved), RepoID: rawtuf.RepoID,
		Reviewer: attestation.Reviewer{Party: "review", Role: "review-agent", Name: "Ann Example"},
		Source:   tuf.SourceRef{URI: "git+https://src.example/agent", Revision: "abc"},
		Result:   attestation.Identical, Builder: "https://builder.example/3", Policy: strings.Repeat("ab", 32),
		From: now.Add(-time.Hour), Until: now.Add(time.Hour)}
}

func (w *world) refusal() attestation.Refusal {
	return attestation.Refusal{Subject: attestation.SubjectOf(w.approved), RepoID: rawtuf.RepoID,
		Reviewer: attestation.Reviewer{Party: "review", Role: "review-agent"}, Reason: "it phones home", At: now}
}

// sigs are the named keys' signatures of a payload.
func (w *world) sigs(payload []byte, names ...string) map[string][]byte {
	out := map[string][]byte{}
	for _, n := range names {
		s, err := tuf.NewSigner(w.repo.Key(n))
		noErr(w.t, err)
		sig, err := s.Sign(w.t.Context(), attestation.PAE(payload))
		noErr(w.t, err)
		out[s.Key().ID()] = sig
	}
	return out
}

func (w *world) id(name string) string { return w.repo.IDs(name)[0].(string) }

// seal signs any payload.
func (w *world) seal(payload []byte, names ...string) []byte {
	data, err := attestation.Seal(payload, w.sigs(payload, names...))
	noErr(w.t, err)
	return data
}

func (w *world) open(data []byte) error {
	_, err := attestation.Open(data, w.root, "review", w.approved, now)
	return err
}

func payload(t testing.TB, r interface{ Payload() ([]byte, error) }) []byte {
	t.Helper()
	p, err := r.Payload()
	noErr(t, err)
	return p
}

func parse(t testing.TB, data []byte) doc {
	t.Helper()
	var d doc
	noErr(t, json.Unmarshal(data, &d))
	return d
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, sentinel error, part string) {
	t.Helper()
	var e *tuf.Error
	if !errors.Is(err, sentinel) || !errors.As(err, &e) || !strings.Contains(err.Error(), part) {
		t.Fatalf("got %v, want %v with %q", err, sentinel, part)
	}
}
