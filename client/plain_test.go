package client_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// plain is a standard TUF repository behind a Source that records requests.
type plain struct {
	t     *testing.T
	repo  *rawtuf.Repo
	pin   []byte
	dir   string
	asked []string
	fails string // a file for which the server fails
}

func newPlain(t *testing.T) *plain {
	p := &plain{t: t, repo: rawtuf.NewPlain(), dir: t.TempDir()}
	p.pin = p.repo.Files["1.root.json"]
	return p
}

func (p *plain) Open(_ context.Context, name string) (io.ReadCloser, error) {
	p.asked = append(p.asked, name)
	if name == p.fails {
		return nil, errors.New("500 Internal Server Error")
	}
	data, ok := fileOf(p.repo, name)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(readerOf(data)), nil
}

func (p *plain) client() *client.Client {
	p.t.Helper()
	c, err := client.New(p.pin, &client.Config{Dir: p.dir, UnsafeNoReview: true, Sources: []client.Source{p}, Now: clock, Retries: -1})
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// refresh requires the error, and exactly these requests.
func (p *plain) refresh(c *client.Client, want error, requests ...string) outcome {
	p.t.Helper()
	p.asked = nil
	o, err := refreshed(p.t, c)
	if !errors.Is(err, want) {
		p.t.Fatalf("got %v, want %v", err, want)
	}
	for i := range requests {
		requests[i] = "metadata/" + requests[i] + ".json"
	}
	if !slices.Equal(p.asked, requests) {
		p.t.Fatalf("asked for %q, want %q", p.asked, requests)
	}
	return o
}

// The requests of the specification, in its order, each once, and none for files that
// are available already, in the same process or the next.
func TestPlainRequests(t *testing.T) {
	p := newPlain(t)
	c := p.client()
	p.refresh(c, nil, "2.root", "timestamp", "5.snapshot", "5.targets")
	p.refresh(c, nil, "2.root", "timestamp")
	p.refresh(p.client(), nil, "2.root", "timestamp")
	p.repo.Bump()
	p.repo.Publish() // a new snapshot without new targets
	p.refresh(c, nil, "2.root", "timestamp", "6.snapshot")
	p.repo.Bump("targets")
	p.repo.Publish()
	p.refresh(p.client(), nil, "2.root", "timestamp", "7.snapshot", "6.targets")
	p.repo.NextRoot(nothing)
	p.repo.NextRoot(nothing)
	view := p.refresh(p.client(), nil, "2.root", "3.root", "4.root", "timestamp")
	if view.Root().Version() != 3 || view.Err() != nil || view.Location() != "source 1" {
		t.Errorf("root v%d, %v from %s", view.Root().Version(), view.Err(), view.Location())
	}

	// Delegated roles are fetched on demand, once.
	p.asked = nil
	for range 2 {
		if _, err := view.Find(t.Context(), "lib/a.txt"); err != nil {
			t.Fatal(err)
		}
	}
	if want := []string{"metadata/5.lib.json"}; !slices.Equal(p.asked, want) {
		t.Errorf("asked for %q, want %q", p.asked, want)
	}
	view = p.refresh(p.client(), nil, "4.root", "timestamp")
	p.asked = nil
	a, err := view.Find(t.Context(), "lib/a.txt")
	if err != nil || len(p.asked) > 0 {
		t.Errorf("%v, asked for %q", err, p.asked)
	}
	if len(a.Signoffs()) != 1 || a.Signoffs()[0].Role != "lib" || a.RepoID() != "" {
		t.Errorf("%+v", a.Signoffs())
	}
	if _, err := view.Find(t.Context(), "lib/none"); !errors.Is(err, tuf.ErrNoTarget) {
		t.Error(err)
	}
	if _, err := view.Latest(t.Context(), client.Query{Product: "agent"}); !errors.Is(err, tuf.ErrNotApproved) {
		t.Errorf("there is no review: %v", err)
	}
}

func TestPlainSave(t *testing.T) {
	p := newPlain(t)
	p.repo.AddTarget("bin/"+baseOfPath, "the agent", nil, "targets")
	p.repo.Bump("targets")
	p.repo.Publish()
	c := p.client()
	a, err := p.refresh(c, nil, "2.root", "timestamp", "6.snapshot", "6.targets").Find(t.Context(), "bin/"+baseOfPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(t.Context(), a, p.dir+"/agent"); err != nil {
		t.Fatal(err)
	}
	// A hash of either kind is sufficient without a review.
	for _, content := range []string{"the agenT", "the agent"} {
		sum := fmt.Sprintf("%x", sha512.Sum512([]byte(content)))
		p.repo.AddTarget("512/"+baseOfPath, "the agent", nil, "targets")
		rawtuf.At(p.repo.Roles["targets"], "targets", "512/"+baseOfPath)["hashes"] = map[string]any{"sha512": sum}
		p.repo.Bump("targets")
		p.repo.Publish()
		view, err := refreshed(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if a, err = view.Find(t.Context(), "512/"+baseOfPath); err != nil || a.Hash() != sum || a.SHA256() != "" {
			t.Fatal(a, err)
		}
		p.asked = nil
		err = c.Save(t.Context(), a, p.dir+"/512")
		if content == "the agent" && err != nil || content != "the agent" && !errors.Is(err, tuf.ErrMismatch) {
			t.Errorf("%q: %v", content, err)
		}
		if want := "targets/512/" + sum + "." + baseOfPath; len(p.asked) == 0 || p.asked[0] != want {
			t.Errorf("asked for %q, want %q", p.asked, want)
		}
	}
	// A target approved by another repository is refused.
	w := newWeb(t)
	if err := c.Save(t.Context(), w.approved(w.client()), p.dir+"/other"); !errors.Is(err, tuf.ErrMismatch) {
		t.Error(err)
	}
}

// Trap 1: a process that restarts with its embedded root does not forget that this
// root's keys were revoked.
func TestPlainRevokedRootKey(t *testing.T) {
	p := newPlain(t)
	attacker := p.repo.Clone()
	p.repo.NextRoot(func() {
		p.repo.AddKeys(p.repo.Root, "root2")
		rawtuf.At(p.repo.Root, "roles")["root"] = p.repo.Role(1, "root2")
		p.repo.Signers["root"] = []string{"root", "root2"}
	})
	p.refresh(p.client(), nil, "2.root", "3.root", "timestamp", "5.snapshot", "5.targets")
	honest := p.repo
	p.repo = attacker
	attacker.Root["version"] = 2
	attacker.Files["3.root.json"] = func() []byte { r := attacker.Clone(); r.Root["version"] = 3; return r.Sign(r.Root, "root") }()
	attacker.Bump("targets")
	attacker.Publish()
	view := p.refresh(p.client(), client.ErrNoContent, "3.root")
	if view.Root().Version() != 2 || len(view.Evidence()) != 1 || !errors.Is(view.Err(), tuf.ErrThreshold) {
		t.Errorf("root v%d, evidence %q, %v", view.Root().Version(), view.Evidence(), view.Err())
	}
	p.repo = honest
	p.refresh(p.client(), nil, "3.root", "timestamp")

	// One honest location is enough, whatever another serves.
	c, err := client.New(p.pin, &client.Config{Dir: p.dir, UnsafeNoReview: true, Sources: []client.Source{&plain{t: t, repo: attacker}, p}, Now: clock, Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	if view, err := refreshed(t, c); err != nil || len(view.Evidence()) != 1 {
		t.Errorf("evidence %q, %v", view.Evidence(), err)
	}
}

// Version numbers inflated with a compromised online key do not bind after a rotation
// of either online key (TUF 5.3.11).
func TestPlainFastForward(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot"} {
		t.Run(role, func(t *testing.T) {
			p := newPlain(t)
			c := p.client()
			attacker := p.repo.Clone()
			for _, driven := range []string{"timestamp", "snapshot", "targets"} {
				attacker.Roles[driven]["version"] = 1 << 40
			}
			attacker.Publish()
			honest := p.repo
			p.repo = attacker
			p.refresh(c, nil, "2.root", "timestamp", "1099511627776.snapshot", "1099511627776.targets")
			p.repo = honest
			p.refresh(c, client.ErrNoContent, "2.root", "timestamp")
			p.repo.NextRoot(func() {
				p.repo.AddKeys(p.repo.Root, role+"2")
				rawtuf.At(p.repo.Root, "roles")[role] = p.repo.Role(1, role+"2")
				p.repo.Signers[role] = []string{role + "2"}
			})
			p.repo.Bump("targets")
			p.repo.Publish()
			p.refresh(p.client(), nil, "2.root", "3.root", "timestamp", "6.snapshot", "6.targets")
			p.refresh(c, nil, "3.root", "timestamp")
		})
	}
}

// A server error for the root after a new one is not an invalid root: the update
// continues under the newest root (TUF 5.3.3).
func TestPlainServerErrorForNextRoot(t *testing.T) {
	p := newPlain(t)
	p.repo.NextRoot(nothing)
	p.fails = "metadata/3.root.json"
	view, err := refreshed(t, p.client())
	if err != nil || view.Root().Version() != 2 {
		t.Fatalf("root v%d, %v", view.Root().Version(), err)
	}
}

// Files that verified before a later one failed are kept, and not requested again.
func TestPlainKeepsVerifiedFiles(t *testing.T) {
	p := newPlain(t)
	missing := p.repo.Files["5.targets.json"]
	delete(p.repo.Files, "5.targets.json")
	c := p.client()
	p.refresh(c, client.ErrNoContent, "2.root", "timestamp", "5.snapshot", "5.targets")
	p.repo.Files["5.targets.json"] = []byte(`{"signed":{},"signatures":[]}`)
	p.refresh(p.client(), tuf.ErrMismatch, "2.root", "timestamp", "5.targets")
	p.repo.Files["5.targets.json"] = missing
	p.refresh(c, nil, "2.root", "timestamp", "5.targets")
}

func TestPlainExpiry(t *testing.T) {
	p := newPlain(t)
	p.refresh(p.client(), nil, "2.root", "timestamp", "5.snapshot", "5.targets")
	good := p.repo.Clone()
	// The kept targets role has expired: the set is no longer complete.
	p.repo.Roles["targets"]["expires"] = rawtuf.Stamp(rawtuf.Now)
	p.repo.Bump("targets")
	p.repo.Publish()
	p.refresh(p.client(), tuf.ErrExpired, "2.root", "timestamp", "6.snapshot", "6.targets")
	p.repo = good
	p.repo.NextRoot(func() { p.repo.Root["expires"] = rawtuf.Stamp(rawtuf.Now) })
	p.refresh(p.client(), client.ErrStale, "2.root", "3.root")
	p.repo.NextRoot(func() { p.repo.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(1, 0, 0)) })
	p.repo.Roles["timestamp"]["version"], p.repo.Roles["snapshot"]["version"] = 7, 7
	p.repo.Roles["targets"]["version"] = 7
	p.repo.Publish()
	p.refresh(p.client(), nil, "3.root", "4.root", "timestamp", "7.snapshot", "7.targets")
}

func TestPlainNeedsItsSwitchAndSources(t *testing.T) {
	p := newPlain(t)
	if _, err := client.New(p.pin, &client.Config{Dir: p.dir, Sources: []client.Source{p}}); !errors.Is(err, tuf.ErrCharter) {
		t.Error(err)
	}
	if _, err := client.New(p.pin, &client.Config{Dir: p.dir, UnsafeNoReview: true}); err == nil {
		t.Error("no sources")
	}
	// UnsafeNoReview does not disable a pinned review.
	w := newWeb(t)
	c := w.client(func(cfg *client.Config) { cfg.UnsafeNoReview = true })
	w.good(c, 1)
	w.repo.AddTarget("agent/x", "x", nil, "vendor-agent")
	renew(w.repo)
	if _, err := w.good(c, 1).Find(t.Context(), "agent/x"); !errors.Is(err, tuf.ErrNotApproved) {
		t.Error(err)
	}
}

var baseOfPath = path.Base(rawtuf.Path)

func readerOf(data []byte) io.Reader { return bytes.NewReader(data) }

func clock() time.Time { return rawtuf.Now }
