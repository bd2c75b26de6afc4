// Package repotest provides repositories for tests: [World], in memory and with every key,
// and [Moving], for tests of moves, which has two parties,
// the locations A and Z, and the keys of both parties, which are always the same.
package repotest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Day is 24 hours.
const Day = 24 * time.Hour

// Moving is a repository in memory with all keys of the parties.
type Moving struct {
	T     testing.TB
	Now   time.Time
	Store *storage.OverlayStorage
	Move  *relocate.Move
}

// Signer returns the key with that name, always the same.
func Signer(name string) tuf.Signer {
	seed := sha256.Sum256([]byte(name))
	s, err := tuf.NewSigner(ed25519.NewKeyFromSeed(seed[:]))
	if err != nil {
		panic(err)
	}
	return s
}

// Keys are the public halves of the keys with those names.
func Keys(names ...string) (out []tuf.Key) {
	for _, n := range names {
		out = append(out, Signer(n).Key())
	}
	return out
}

// Signers are the keys with those names.
func Signers(names ...string) (out []tuf.Signer) {
	for _, n := range names {
		out = append(out, Signer(n))
	}
	return out
}

// These are the key names of each party; the vendor has others before and after the
// move.
var (
	ReviewKeys = []string{"review-1", "review-2", "review-release"}
	OldOnline  = []string{"timestamp", "snapshot", "targets"}
	NewOnline  = []string{"new-timestamp", "new-snapshot", "new-targets"}
	OldKeys    = append([]string{"vendor-1", "vendor-2", "vendor-release"}, OldOnline...)
	NewKeys    = append([]string{"new-1", "new-2", "new-release"}, NewOnline...)
	// RecoveryKeys are those of a bank and a university; see [Recoverable].
	RecoveryKeys = []string{"bank-1", "bank-2", "university"}
)

// Location is a location at https://ID.example.org/.
func Location(id, tier string, priority int) tuf.Location {
	l := tuf.Location{ID: id, Tier: tier, Operator: "host-" + id, Jurisdiction: "CH", Base: "https://" + id + ".example.org/", Metadata: "metadata/", Targets: "targets/", Priority: priority}
	if tier == tuf.Rendezvous {
		l.Targets = ""
	}
	return l
}

// NewMoving returns a repository at A with the rendezvous Z, one approved release, and a
// move to B that is due.
func NewMoving(t testing.TB, change ...func(*repo.Root)) *Moving {
	t.Helper()
	w := &Moving{T: t, Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Store: storage.Overlay(nil)}
	w.Publish(w.Repo(slices.Concat(OldKeys, ReviewKeys)...), func(r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(context.Background(), func(tx *repo.Tx) error {
			root := tx.Root()
			root.RepoID = strings.Repeat("ab", 16)
			root.Parties = []repo.Party{{Name: "vendor", Keys: Keys("vendor-1", "vendor-2")}, {Name: "review", Keys: Keys("review-1", "review-2")}}
			root.Timestamp.Keys, root.Snapshot.Keys, root.Targets.Keys = Keys("timestamp"), Keys("snapshot"), Keys("targets")
			root.Classes = []repo.Class{{Name: "agent", Prefix: "agent/", Roles: []repo.ReleaseRole{
				{Party: "vendor", Role: "vendor-agent", Keys: repo.Keys{Keys: Keys("vendor-release")}},
				{Party: "review", Role: "review-agent", Keys: repo.Keys{Keys: Keys("review-release")}}}}}
			root.Locations = []tuf.Location{Location("a", tuf.Primary, 10), Location("z", tuf.Rendezvous, 20)}
			for _, c := range change {
				c(root)
			}
			return nil
		})
	})
	w.Release("1.0", slices.Concat(OldKeys, ReviewKeys)...)
	w.Move = &relocate.Move{From: []string{"a"}, To: []tuf.Location{Location("b", tuf.Primary, 5)}, RootKeys: Keys("new-1", "new-2"),
		Timestamp: repo.Keys{Keys: Keys("new-timestamp")}, Snapshot: repo.Keys{Keys: Keys("new-snapshot")}, Targets: repo.Keys{Keys: Keys("new-targets")},
		Release: map[string]repo.Keys{"vendor-agent": {Keys: Keys("new-release")}},
		Dates:   relocate.Dates{Announce: w.Now.Add(Day), CutOver: w.Now.Add(15 * Day), Sunset: w.Now.Add(90 * Day), Retire: w.Now.Add(60 * Day)}}
	return w
}

// Recoverable adds a recovery rule to the charter: two organisations, ten days, five
// searches.
func Recoverable(r *repo.Root) {
	r.Recovery = &repo.RecoveryRule{Orgs: []repo.Org{{Name: "bank", Keys: Keys("bank-1", "bank-2")}, {Name: "university", Keys: Keys("university")}},
		Threshold: 2, MinOrgs: 2, Hold: 10 * Day, MinTicks: 5}
}

// StageRecovery stages the draft by which a successor with the new keys replaces a
// vendor that has lost all keys, at the same locations.
func (w *Moving) StageRecovery(r *repo.Repo) (*repo.Draft, error) {
	return r.StageRecovery(context.Background(), repo.RecoveryOptions{Reason: "the vendor is gone"}, func(tx *repo.Tx) error {
		root := tx.Root()
		root.Parties[0].Keys = Keys("new-1", "new-2")
		root.Timestamp.Keys, root.Snapshot.Keys, root.Targets.Keys = Keys("new-timestamp"), Keys("new-snapshot"), Keys("new-targets")
		root.Classes[0].Roles[0].Keys.Keys = Keys("new-release")
		return nil
	})
}

// Recover publishes the draft of [Moving.StageRecovery].
func (w *Moving) Recover() {
	w.T.Helper()
	w.Publish(w.Repo(append(NewKeys, ReviewKeys...)...), w.StageRecovery)
}

// Repo returns a handle with the named keys.
func (w *Moving) Repo(names ...string) *repo.Repo {
	return repo.New(w.Store, &repo.Config{Signers: Signers(names...), Now: func() time.Time { return w.Now }, UnsafeLoopback: true, UnsafeTrustStorage: true})
}

// Release adds and approves a version.
func (w *Moving) Release(version string, names ...string) {
	w.T.Helper()
	r := w.Repo(names...)
	path := "agent/" + version
	rawtuf.NoErr(w.T, r.Update(context.Background(), func(tx *repo.Tx) error {
		return tx.Add("vendor", path, strings.NewReader("agent "+version), &tuf.Release{Product: "agent", Version: version, Channel: "stable", Platform: "any"})
	}))
	rawtuf.NoErr(w.T, r.Update(context.Background(), func(tx *repo.Tx) error { return tx.Approve("review", path, nil) }))
}

// Sign signs with all keys of both parties, old and new.
func (w *Moving) Sign(d *repo.Draft) *repo.Draft {
	w.T.Helper()
	for _, s := range Signers(slices.Concat(OldKeys, NewKeys, ReviewKeys, RecoveryKeys)...) {
		if err := d.Sign(context.Background(), s); err != nil && !errors.Is(err, repo.ErrNoPart) {
			w.T.Fatal(err)
		}
	}
	return d
}

// Force signs the metadata of a draft with every key that the draft lists, as an
// attacker's tool does: without a trust anchor, a ledger or rules.
func (w *Moving) Force(d *repo.Draft) *repo.Draft {
	w.T.Helper()
	all := map[string]tuf.Signer{}
	for _, s := range Signers(slices.Concat(OldKeys, NewKeys, ReviewKeys, RecoveryKeys)...) {
		all[s.Key().ID()] = s
	}
	for _, m := range d.Missing() {
		var file struct {
			Signed json.RawMessage `json:"signed"`
		}
		rawtuf.NoErr(w.T, json.Unmarshal(d.File(m.Role), &file))
		payload, err := wire.Canonical(file.Signed)
		rawtuf.NoErr(w.T, err)
		for _, id := range m.KeyIDs {
			if all[id] == nil {
				continue
			}
			sig, err := all[id].Sign(context.Background(), payload)
			rawtuf.NoErr(w.T, err)
			rawtuf.NoErr(w.T, d.AddSignature(m.Role, id, sig))
		}
	}
	return d
}

// Publish stages a step, signs it and publishes it.
func (w *Moving) Publish(r *repo.Repo, step func(*repo.Repo) (*repo.Draft, error)) {
	w.T.Helper()
	d, err := step(r)
	rawtuf.NoErr(w.T, err)
	if !d.Empty() {
		w.Sign(d)
	}
	rawtuf.NoErr(w.T, r.Publish(context.Background(), d))
}

// These are the steps of the move, each on its Day.
func (w *Moving) Announce() {
	w.T.Helper()
	w.Now = w.Move.Dates.Announce
	w.Publish(w.Repo(OldKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.Announce(context.Background(), r) })
}

// CutOver takes the second step, without dual signing.
func (w *Moving) CutOver() {
	w.T.Helper()
	w.Now = w.Move.Dates.CutOver
	w.Refresh(OldKeys...)
	w.Publish(w.Repo(NewKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.CutOver(context.Background(), r) })
}

// Retire takes the third step.
func (w *Moving) Retire() {
	w.T.Helper()
	w.Now = w.Move.Dates.Retire
	w.Publish(w.Repo(NewKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.Retire(context.Background(), r) })
}

// Refresh signs roles that are close to expiry.
func (w *Moving) Refresh(names ...string) {
	w.T.Helper()
	r := w.Repo(slices.Concat(names, ReviewKeys)...)
	rawtuf.NoErr(w.T, r.Update(context.Background(), func(tx *repo.Tx) error { return errors.Join(tx.Renew("vendor"), tx.Renew("review")) }))
}

// Tip returns the newest root.
func (w *Moving) Tip() *tuf.Root {
	w.T.Helper()
	chain, err := w.Repo().Chain(context.Background())
	rawtuf.NoErr(w.T, err)
	return chain[len(chain)-1]
}

// Says describes the newest root in one line.
func (w *Moving) Says() string {
	w.T.Helper()
	root := w.Tip()
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

// Want checks the description of the newest root.
func (w *Moving) Want(says string) {
	w.T.Helper()
	if got := w.Says(); got != says {
		w.T.Fatalf("the newest root is %q, want %q", got, says)
	}
}
