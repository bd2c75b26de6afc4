package relocate_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/tuf"
)

const day = 24 * time.Hour

// world is a repository in memory and everybody's keys.
type world struct {
	t     testing.TB
	now   time.Time
	store *relocate.OverlayStorage
	move  *relocate.Move
}

// signer returns the key of that name, always the same.
func signer(name string) tuf.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := tuf.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

func keys(names ...string) (out []tuf.Key) {
	for _, n := range names {
		out = append(out, signer(n).Key())
	}
	return out
}

func signers(names ...string) (out []tuf.Signer) {
	for _, n := range names {
		out = append(out, signer(n))
	}
	return out
}

var (
	reviewKeys = []string{"review-1", "review-2", "review-release"}
	oldOnline  = []string{"timestamp", "snapshot", "targets"}
	newOnline  = []string{"new-timestamp", "new-snapshot", "new-targets"}
	oldKeys    = append([]string{"vendor-1", "vendor-2", "vendor-release"}, oldOnline...)
	newKeys    = append([]string{"new-1", "new-2", "new-release"}, newOnline...)
)

func place(id, tier string, priority int) tuf.Location {
	l := tuf.Location{ID: id, Tier: tier, Operator: "host-" + id, Jurisdiction: "CH", Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/", Priority: priority}
	if tier == tuf.Rendezvous {
		l.Targets = ""
	}
	return l
}

// newWorld is a repository at A with the rendezvous Z, one approved release, and
// a move to B that is due.
func newWorld(t testing.TB, change ...func(*repo.Root)) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), store: relocate.Overlay(nil)}
	w.publish(w.repo(slices.Concat(oldKeys, reviewKeys)...), func(r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(context.Background(), func(tx *repo.Tx) error {
			root := tx.Root()
			root.RepoID = strings.Repeat("ab", 16)
			root.Parties = []repo.Party{{Name: "vendor", Keys: keys("vendor-1", "vendor-2")}, {Name: "review", Keys: keys("review-1", "review-2")}}
			root.Timestamp.Keys, root.Snapshot.Keys, root.Targets.Keys = keys("timestamp"), keys("snapshot"), keys("targets")
			root.Classes = []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
				{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: keys("vendor-release")}},
				{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: keys("review-release")}}}}}
			root.Locations = []tuf.Location{place("a", tuf.Primary, 10), place("z", tuf.Rendezvous, 20)}
			for _, c := range change {
				c(root)
			}
			return nil
		})
	})
	w.release("1.0", slices.Concat(oldKeys, reviewKeys)...)
	w.move = &relocate.Move{From: []string{"a"}, To: []tuf.Location{place("b", tuf.Primary, 5)}, RootKeys: keys("new-1", "new-2"),
		Timestamp: repo.Keys{Keys: keys("new-timestamp")}, Snapshot: repo.Keys{Keys: keys("new-snapshot")}, Targets: repo.Keys{Keys: keys("new-targets")},
		Release: map[string]repo.Keys{"vendor-agent": {Keys: keys("new-release")}},
		Dates:   relocate.Dates{Announce: w.now.Add(day), CutOver: w.now.Add(15 * day), Sunset: w.now.Add(90 * day), Retire: w.now.Add(60 * day)}}
	return w
}

// repo is a handle with the named keys.
func (w *world) repo(names ...string) *repo.Repo {
	return repo.New(w.store, &repo.Config{Signers: signers(names...), Now: func() time.Time { return w.now }, UnsafeLoopback: true})
}

// release adds and approves a version.
func (w *world) release(version string, names ...string) {
	w.t.Helper()
	r := w.repo(names...)
	path := "agent/" + version
	noErr(w.t, r.Update(context.Background(), func(tx *repo.Tx) error {
		return tx.Add("vendor", path, strings.NewReader("agent "+version), &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"})
	}))
	noErr(w.t, r.Update(context.Background(), func(tx *repo.Tx) error { return tx.Approve("review", path) }))
}

// sign adds what everybody would sign, all keys of both parties, old and new.
func (w *world) sign(d *repo.Draft) *repo.Draft {
	w.t.Helper()
	for _, s := range signers(slices.Concat(oldKeys, newKeys, reviewKeys)...) {
		if err := d.Sign(context.Background(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			w.t.Fatal(err)
		}
	}
	return d
}

// publish makes a step, signs it and publishes it.
func (w *world) publish(r *repo.Repo, step func(*repo.Repo) (*repo.Draft, error)) {
	w.t.Helper()
	d, err := step(r)
	noErr(w.t, err)
	if !d.Empty() {
		w.sign(d)
	}
	noErr(w.t, r.Publish(context.Background(), d))
}

// steps of the move, each on its day.
func (w *world) announce() {
	w.t.Helper()
	w.now = w.move.Dates.Announce
	w.publish(w.repo(oldKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.move.Announce(context.Background(), r) })
}

func (w *world) cutOver() {
	w.t.Helper()
	w.now = w.move.Dates.CutOver
	w.refresh(oldKeys...)
	w.publish(w.repo(newKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.move.CutOver(context.Background(), r) })
}

func (w *world) retire() {
	w.t.Helper()
	w.now = w.move.Dates.Retire
	w.publish(w.repo(newKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.move.Retire(context.Background(), r) })
}

// refresh signs what has become old.
func (w *world) refresh(names ...string) {
	w.t.Helper()
	r := w.repo(slices.Concat(names, reviewKeys)...)
	noErr(w.t, r.Update(context.Background(), func(tx *repo.Tx) error { return errors.Join(tx.Resign("vendor"), tx.Resign("review")) }))
}

func (w *world) tip() *tuf.Root {
	w.t.Helper()
	chain, err := w.repo().Chain(context.Background())
	noErr(w.t, err)
	return chain[len(chain)-1]
}

// says describes the newest root in one line.
func (w *world) says() string {
	w.t.Helper()
	root := w.tip()
	c := root.Charter()
	s := fmt.Sprintf("v%d epoch %d:", root.Version(), c.Epoch())
	for _, l := range c.Locations() {
		s += " " + l.Tier + " " + l.ID
		if !l.UseFrom.IsZero() {
			s += " from " + l.UseFrom.Format(time.DateOnly)
		}
		if !l.UseUntil.IsZero() {
			s += " until " + l.UseUntil.Format(time.DateOnly)
		}
	}
	for _, r := range c.Retired() {
		s += " retired " + r.ID
	}
	return s
}

func (w *world) want(says string) {
	w.t.Helper()
	if got := w.says(); got != says {
		w.t.Fatalf("the newest root is %q, want %q", got, says)
	}
}

func noErr(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
