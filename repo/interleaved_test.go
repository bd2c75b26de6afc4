package repo_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/mirror"
	"github.com/visum-dev/visum/repo/signing"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Two reads of a storage need not be consistent: other processes publish and prune
// between them, and listings may lag. Here each call that makes many reads runs
// concurrently with other processes, which advance by some storage calls at each
// storage call that it makes. A seed determines the schedule of a call that runs in one
// goroutine; nothing depends on timing.

// raceRuns is the number of runs of each call: 4, or 3 with -short, or 2,000 if
// VISUM_LONG=1 is set.
func raceRuns() int {
	switch {
	case rawtuf.Long:
		return 2000
	case testing.Short():
		return 3
	}
	return 4
}

// race is a repository that other processes change while a call is made.
type race struct {
	*world
	rnd       *rand.Rand
	pin       []byte
	listings  []map[string]storage.FileInfo
	removed   map[string][]byte
	published [][]byte // timestamps, in order
	draft     *repo.Draft
	others    func() (string, bool) // advances by one storage call
	at        string                // the current operation of the other processes
	rooted    bool                  // a process has begun to publish a root
	dying     int                   // writes until the working process dies; 0: it does not
	n         int                   // releases so far
	keyed     int                   // keys taken into use
}

// racePasts are the two initial histories, made once: three releases; and the same
// followed by a publisher that died before its last write and many hours of new
// timestamps.
var racePasts = sync.OnceValue(func() [2]*race {
	x := &race{world: emptyWorld(panicking{})}
	x.watch()
	x.Update(x.Define)
	for n := range 40 {
		x.Public(fmt.Sprint("key-", n), fmt.Sprint("other-", n)) // of later roots
	}
	x.Update(func(tx *repo.Tx) error {
		return tx.Delegate("vendor", "agent", repo.Product{Role: "team", Paths: []string{"agent/team/*"}, Keys: repo.Keys{Keys: x.Public("team")}})
	})
	for ; x.n < 3; x.n++ {
		x.Update(swap(x.n + 1))
		x.Now = x.Now.Add(20 * time.Minute)
	}
	// The first ones were made by handles with another Expiry.
	x.published = nil
	noErr(x.T, x.handle(x.Store).Renew(context.Background()))
	y := x.copy()
	y.rnd = rand.New(rand.NewPCG(1, 1))
	y.dying = 4
	if err := y.publish(y.handle(&shared{y.Store, y.die})); !errors.Is(err, errKilled) {
		panic(err)
	}
	for range 4 {
		y.Now = y.Now.Add(3 * time.Hour)
		noErr(y.T, y.handle(y.Store).Renew(context.Background()))
	}
	for _, x := range []*race{x, y} {
		var err error
		x.pin, err = x.handle(x.Store).Pin(context.Background())
		noErr(x.T, err)
		x.draft, err = x.handle(x.Store).Stage(context.Background(), add("draft"))
		noErr(x.T, err)
	}
	return [2]*race{x, y}
})

// panicking is a test handle for fixtures that are made once for many tests.
type panicking struct{ testing.TB }

func (panicking) Helper()                           {}
func (panicking) Context() context.Context          { return context.Background() }
func (panicking) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (panicking) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

var raceExpiry = repo.Expiry{Timestamp: 6 * time.Hour}

// raceDrafts is the time that Prune waits for drafts in these tests.
var raceDrafts = &repo.PruneOptions{Drafts: time.Hour}

func newRace(t *testing.T, seed uint64) *race {
	rnd := rand.New(rand.NewPCG(seed, 12))
	x := racePasts()[rnd.IntN(2)].copy()
	x.T, x.rnd = t, rnd
	next, stop := iter.Pull(x.work)
	t.Cleanup(stop)
	x.others = next
	return x
}

func (x *race) copy() *race {
	out := &race{world: x.world.Copy(), pin: x.pin, draft: x.draft, published: slices.Clone(x.published), n: x.n}
	out.watch()
	return out
}

// watch records what is listed, published and removed in the storage.
func (x *race) watch() {
	x.Store.Clock = func() time.Time { return x.Now }
	x.removed = map[string][]byte{}
	last := maps.Clone(x.Store.Files)
	list := func() {
		list := map[string]storage.FileInfo{}
		for name, data := range x.Store.Files {
			list[name] = storage.FileInfo{Name: name, Size: int64(len(data)), Written: x.Store.Written[name]}
		}
		x.listings = append(x.listings, list)
	}
	list()
	x.Store.After = func(name string) error {
		if data, there := x.Store.Files[name]; there {
			last[name] = data
		} else {
			x.removed[name] = last[name]
		}
		if list(); name == "metadata/timestamp.json" {
			x.published = append(x.published, x.Store.Files[name])
		}
		return nil
	}
}

func (x *race) die(write bool) error {
	if write && x.dying > 0 {
		if x.dying--; x.dying == 0 {
			return errKilled
		}
	}
	return nil
}

// handle returns a handle with every key.
func (x *race) handle(s repo.Storage) *repo.Repo {
	cfg := x.Config()
	cfg.Expiry = raceExpiry
	for _, name := range slices.Sorted(maps.Keys(x.Keys)) {
		cfg.Signers = append(cfg.Signers, x.Keys[name])
	}
	return repo.New(s, cfg)
}

// publish publishes a new release in place of older ones.
func (x *race) publish(r *repo.Repo) error {
	x.n++
	v := fmt.Sprint(x.n)
	return r.Update(context.Background(), func(tx *repo.Tx) error {
		for n := 1; n < x.n; n++ {
			old := fmt.Sprintf("agent/%d", n)
			if x.rnd.IntN(2) == 0 {
				continue
			}
			for _, party := range []string{"vendor", "review"} {
				if err := tx.Remove(party, old); err != nil && !errors.Is(err, tuf.ErrNoTarget) {
					return err
				}
			}
		}
		team := func(n int) string { return fmt.Sprint("agent/team/", n) }
		if err := tx.Remove("vendor", team(x.n-1)); err != nil && !errors.Is(err, tuf.ErrNoTarget) {
			return err
		}
		return errors.Join(add(v)(tx), approve(v)(tx), tx.Add("vendor", team(x.n), strings.NewReader(v), nil))
	})
}

// root publishes a new root with another location, another key of the vendor's role,
// or other online keys.
func (x *race) root(r func() *repo.Repo) error {
	x.n++
	kind := x.rnd.IntN(3)
	x.keyed++
	key, other := fmt.Sprint("key-", x.keyed), fmt.Sprint("other-", x.keyed)
	return r().Update(context.Background(), func(tx *repo.Tx) error {
		switch root := tx.Root(); kind {
		case 0:
			root.Locations = append(root.Locations[:2:2], location(fmt.Sprint("b", x.n), tuf.Mirror, 30))
		case 1:
			root.Classes[0].Roles[0].Keys = repo.Keys{Keys: x.Public(key)}
		default:
			root.Timestamp.Keys, root.Snapshot.Keys = x.Public(key), x.Public(other)
		}
		return nil
	})
}

// work makes the changes of the other processes, one storage call after another.
func (x *race) work(yield func(string) bool) {
	done := errors.New("done")
	call := func(write bool) error {
		if !yield(x.at) {
			return done
		}
		return x.die(write)
	}
	open := func() *repo.Repo { return x.handle(&shared{x.Store, call}) }
	var waiting *repo.Draft
	var since time.Time
	for {
		x.Now = x.Now.Add(time.Duration(x.rnd.IntN(20)) * time.Minute)
		x.dying = 0
		var err error
		x.at = []string{"publish", "publish", "refresh", "root", "prune", "die", "stage"}[x.rnd.IntN(7)]
		switch x.at {
		case "publish":
			err = x.publish(open())
		case "refresh":
			err = open().Renew(context.Background())
		case "root":
			x.rooted = true
			err = x.root(open)
		case "prune":
			_, err = open().Prune(context.Background(), raceDrafts)
		case "die":
			x.dying = 1 + x.rnd.IntN(6)
			err = x.publish(open())
		case "stage":
			switch {
			case waiting != nil && x.Now.Sub(since) >= raceDrafts.Drafts:
				waiting = nil // its files may have been removed
			case waiting != nil:
				if err = open().Publish(context.Background(), waiting); errors.Is(err, repo.ErrStale) || errors.Is(err, repo.ErrPublished) {
					err = nil // others have published since it was staged
				}
				waiting = nil
			default:
				x.n++
				since = x.Now
				waiting, err = open().Stage(context.Background(), add(fmt.Sprint(x.n)))
			}
		}
		if errors.Is(err, done) {
			return
		}
		if x.at == "stage" && errors.Is(err, repo.ErrStale) { // others published while the draft waited
			err = nil
		}
		if err != nil && !errors.Is(err, errKilled) && !x.faster(err) {
			x.T.Errorf("others, at %s: %v", x.at, err)
			return
		}
		x.at = ""
		if !yield("") {
			return
		}
	}
}

// faster reports whether an error means that another process published first. It is a
// conflict, or a draft that is older than the last publication. After a publication
// between a new root and its content, it may also say that the new root's keys must
// sign, or that another root was signed before.
func (x *race) faster(err error) bool {
	return errors.Is(err, repo.ErrConflict) || errors.Is(err, repo.ErrStale) || x.rooted && (errors.Is(err, tuf.ErrThreshold) || errors.Is(err, signing.ErrSecondContent))
}

// heal publishes once more, and checks that the repository is then in order.
func (x *race) heal() {
	x.T.Helper()
	noErr(x.T, x.publish(x.handle(x.Store)))
	x.kept()
	x.whole(x.Store)
}

// finish lets the other processes complete their current operations.
func (x *race) finish() {
	for range 10000 {
		if at, ok := x.others(); at == "" || !ok {
			return
		}
	}
	x.T.Fatal("the other processes never finish")
}

// kept checks that every file exists that a client may request by a timestamp that has
// not expired.
func (x *race) kept() {
	x.T.Helper()
	decode := func(name string, to any) {
		data, err := x.Store.Read(x.T.Context(), name)
		noErr(x.T, err)
		noErr(x.T, json.Unmarshal(data, to))
	}
	type meta struct {
		Signed struct {
			Expires time.Time
			Meta    map[string]struct{ Version int64 }
			Targets map[string]struct{ Hashes struct{ SHA256 string } }
		}
	}
	for _, data := range x.published {
		var ts, snap meta
		noErr(x.T, json.Unmarshal(data, &ts))
		if !x.Now.Before(ts.Signed.Expires) {
			continue
		}
		decode(fmt.Sprintf("metadata/%d.snapshot.json", ts.Signed.Meta["snapshot.json"].Version), &snap)
		for file, v := range snap.Signed.Meta {
			var role meta
			decode(fmt.Sprintf("metadata/%d.%s", v.Version, file), &role)
			for path, v := range role.Signed.Targets {
				if _, err := x.Store.Read(x.T.Context(), layout.TargetName(path, v.Hashes.SHA256)); err != nil {
					x.T.Errorf("a client with a valid timestamp requests a missing file: %v", err)
				}
			}
		}
	}
}

// state reports whether a timestamp is one of those published so far.
func (x *race) state(timestamp []byte) bool {
	return slices.ContainsFunc(x.published, func(p []byte) bool { return bytes.Equal(p, timestamp) })
}

// whole checks that a copy has one of the published states, and that it is complete.
func (x *race) whole(place *memory) {
	x.T.Helper()
	if !x.state(place.Files["metadata/timestamp.json"]) {
		x.T.Error("a timestamp that was never published")
	}
	report, err := mirror.Verify(x.T.Context(), place, x.pin, options(x.Config()))
	noErr(x.T, err)
	// The state may have been published hours ago.
	report.Findings = slices.DeleteFunc(report.Findings, func(f mirror.Finding) bool { return f.Kind == mirror.FileExpired })
	if report.Err() != nil {
		x.T.Error(report)
	}
}

// raced are the calls under test. Each one succeeds, or reports that another process
// published first.
var raced = map[string]func(x *race, s *late) error{
	"Prune": func(x *race, s *late) error {
		_, err := x.handle(s).Prune(x.T.Context(), raceDrafts)
		return err
	},
	"Verify": func(x *race, s *late) error {
		report, err := mirror.Verify(x.T.Context(), s, x.pin, options(x.Config()))
		if err == nil && report.Err() != nil && !(x.at != "" && unfinished(report)) {
			x.T.Errorf("the repository is in order (others at %q), the report says:\n%v", x.at, report)
		}
		return err
	},
	"Clone": func(x *race, s *late) error {
		copied := newMemory()
		if x.rnd.IntN(2) == 0 {
			copied = racePasts()[0].Store.Copy()
		}
		copied.Clock = x.Store.Clock
		before := maps.Clone(copied.Files)
		err := mirror.Clone(x.T.Context(), copied, s, x.pin, options(x.Config()))
		if err == nil || len(before) > 0 {
			if err == nil || bytes.Equal(before["metadata/timestamp.json"], copied.Files["metadata/timestamp.json"]) {
				x.whole(copied)
			}
		}
		return err
	},
	"Status": func(x *race, s *late) error {
		status, err := x.handle(s).Status(x.T.Context(), x.Now)
		if err == nil && len(status.Due) == 0 {
			x.T.Error("nothing is ever due")
		}
		return err
	},
	"Export": func(x *race, s *late) error {
		dir := x.T.TempDir()
		err := x.handle(s).Export(x.T.Context(), x.draft, dir)
		if err == nil {
			d, err := repo.LoadDraft(filepath.Join(dir, "draft.json"))
			noErr(x.T, err)
			_, err = repo.New(repo.Folder(dir), &repo.Config{Pin: x.pin, Now: x.Config().Now}).Diff(x.T.Context(), d)
			noErr(x.T, err)
		}
		return err
	},
	"Bundle": func(x *race, s *late) error {
		var b bytes.Buffer
		err := mirror.Bundle(x.T.Context(), &b, s, x.pin, &mirror.BundleOptions{Metadata: true, Targets: func(string) bool { return true }})
		if err == nil {
			z, err := zip.NewReader(bytes.NewReader(b.Bytes()), int64(b.Len()))
			noErr(x.T, err)
			place := newMemory()
			noErr(x.T, mirror.Clone(x.T.Context(), place, client.FSSource(z), x.pin, options(x.Config())))
			x.whole(place)
		}
		return err
	},
	"Pending": func(x *race, s *late) error {
		_, err := x.handle(s).Pending(x.T.Context(), "review")
		return err
	},
	"Statements": func(x *race, s *late) error {
		_, err := x.handle(s).Statements(x.T.Context(), "agent/3")
		return err
	},
	"Diff": func(x *race, s *late) error {
		_, err := x.handle(s).Diff(x.T.Context(), x.draft)
		return err
	},
	"Refresh": func(x *race, s *late) error { return x.handle(s).Renew(x.T.Context()) },
	"Update":  func(x *race, s *late) error { return x.publish(x.handle(s)) },
	"Pins": func(x *race, s *late) error {
		pins, err := x.handle(s).Pins(x.T.Context())
		if err == nil && len(pins) == 0 {
			x.T.Error("no pins")
		}
		return err
	},
}

// unfinished reports whether the only finding of a report is a root that waits for its
// content.
func unfinished(r *mirror.Report) bool {
	for _, f := range r.Findings {
		if !f.Harmless() && f.Kind != mirror.FileUnfinished {
			return false
		}
	}
	return true
}

func TestInterleaved(t *testing.T) {
	t.Parallel()
	for _, name := range slices.Sorted(maps.Keys(raced)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			well := 0
			for seed := range raceRuns() {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					x := newRace(t, uint64(seed))
					err := raced[name](x, x.victim())
					if err == nil {
						well++
					} else if !errors.Is(err, repo.ErrConflict) && !(x.faster(err) && (name == "Update" || name == "Refresh" || errors.Is(err, repo.ErrStale))) {
						t.Errorf("others at %q: %v", x.at, err)
					}
					x.kept()
					x.finish()
					x.kept()
					x.heal()
				})
			}
			t.Logf("%d of %d runs succeeded, in the others another process published first", well, raceRuns())
			if well == 0 {
				t.Error("no run succeeded")
			}
		})
	}
}
