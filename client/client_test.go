package client_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// A release that only the vendor lists is refused; it is offered after the review
// centre lists it too.
func TestReleaseNeedsBothParties(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.pin())
	w.add("1.0", "one")
	_, err := w.latest(c, "")
	if !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tuf.ErrNotApproved) {
		t.Fatalf("got %v", err)
	}
	if want := "agent/agent-1.0: not approved: listed by vendor (vendor-agent v2), but not by review (review-agent v1)"; !strings.Contains(err.Error(), want) {
		t.Fatalf("%v\nlacks %s", err, want)
	}
	w.approve("1.0")
	w.mustGet(c, "", "1.0", "one")
	if _, err := w.latest(c, "1.0"); !errors.Is(err, client.ErrUpToDate) || errors.Is(err, tuf.ErrNotApproved) {
		t.Fatalf("got %v", err)
	}
	// A newer release that is not approved does not hide the approved one.
	w.add("1.1", "two")
	rel, err := w.latest(c, "")
	if err != nil || rel.Version != "1.0" || len(rel.Decisions) != 2 || !errors.Is(rel.Decisions[0].Err, tuf.ErrNotApproved) {
		t.Fatalf("%+v, %v", rel, err)
	}
}

// After the first refresh, one without changes makes two requests, and one more to
// another operator if a probe is due.
func TestRequestsOfARefresh(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.pin())
	refresh := func() (a, z []string) {
		t.Helper()
		if _, err := c.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, z = w.a.asked(), w.z.asked()
		slices.Sort(a) // root and timestamp are requested in parallel
		return a, z
	}
	a, z := refresh()
	if want := []string{"metadata/1.review-agent.json", "metadata/1.snapshot.json", "metadata/1.vendor-agent.json", "metadata/2.root.json", "metadata/timestamp.json"}; !slices.Equal(a, want) {
		t.Errorf("first: %q", a)
	}
	probe := []string{"metadata/2.root.json"}
	if !slices.Equal(z, probe) {
		t.Errorf("first: the second operator was asked %q", z)
	}
	steady := []string{"metadata/2.root.json", "metadata/timestamp.json"}
	if a, z = refresh(); !slices.Equal(a, steady) || len(z) != 0 {
		t.Errorf("steady: %q and %q", a, z)
	}
	w.now = w.now.Add(6 * time.Hour)
	if a, z = refresh(); !slices.Equal(a, steady) || !slices.Equal(z, probe) {
		t.Errorf("probe due: %q and %q", a, z)
	}
}

// The repository moves from a to b. A client that was offline finds a frozen a and
// learns of the move from the second operator; after a is retired it is never contacted
// again.
func TestFollowsAMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	pin := w.pin()
	sleeper, awake := w.client(pin), w.client(pin)
	w.mustGet(sleeper, "", "1.0", "one")
	frozen := t.TempDir()
	if err := os.CopyFS(frozen, os.DirFS(w.a.dir)); err != nil {
		t.Fatal(err)
	}

	w.update(func(tx *repo.Tx) error { // announce
		tx.Root().Locations = append(tx.Root().Locations, w.location("b", tuf.Primary, "new-host", w.b, 5))
		return nil
	})
	w.copyTo(w.b)
	w.mustGet(awake, "", "1.0", "one")
	w.update(func(tx *repo.Tx) error { // cut over and retire, with new keys
		r := tx.Root()
		r.Timestamp.Keys, r.Snapshot.Keys = w.public("timestamp-2"), w.public("snapshot-2")
		r.Parties[0].Keys = w.public("vendor-3", "vendor-4")
		r.Classes[0].Roles[0].Keys.Keys = w.public("vendor-release-2")
		return r.Retire("a")
	})
	w.add("1.2", "three")
	w.approve("1.2")
	w.copyTo(w.b)

	w.a.clear()
	if err := os.CopyFS(w.a.dir, os.DirFS(frozen)); err != nil {
		t.Fatal(err)
	}
	w.a.asked()
	for name, c := range map[string]*client.Client{"sleeper": sleeper, "awake": awake} {
		w.now = w.now.Add(6 * time.Hour)
		w.mustGet(c, "1.0", "1.2", "three")
		w.a.asked()
		w.mustGet(c, "1.0", "1.2", "three")
		if asked := w.a.asked(); len(asked) > 0 {
			t.Errorf("%s asked the retired location for %q", name, asked)
		}
	}
}

// An attacker with every vendor key and the old location cannot publish a release or a
// root. The attempts are kept as evidence.
func TestVendorKeysCompromised(t *testing.T) {
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	c := w.client(w.pin())
	w.mustGet(c, "", "1.0", "one")

	var vendor []string
	for name := range w.keys {
		if !strings.HasPrefix(name, "review") {
			vendor = append(vendor, name)
		}
	}
	attacker := w.open(vendor...)
	err := attacker.Update(t.Context(), func(tx *repo.Tx) error {
		return tx.Add("vendor", target("6.6.6"), strings.NewReader("evil"), &tuf.Release{Product: "agent", Version: "6.6.6", Channel: "stable", Platform: "any"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.latest(c, "1.0"); !errors.Is(err, tuf.ErrNotApproved) {
		t.Fatalf("got %v", err)
	}
	// A root without the review centre. The tool refuses to publish it, so the test
	// writes the file itself.
	d, err := attacker.Stage(t.Context(), func(tx *repo.Tx) error {
		tx.Root().Parties[1].Keys = w.public("attacker-1", "attacker-2")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"attacker-1", "attacker-2"} {
		if err := d.Sign(t.Context(), w.signer(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := attacker.Publish(t.Context(), d); !errors.Is(err, repo.ErrUnsigned) {
		t.Fatalf("got %v", err)
	}
	data, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	start := strings.Index(string(data), `"content": `) + len(`"content": `)
	w.a.does(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "2.root.json") {
			rw.Write(firstJSON(t, data[start:]))
			return true
		}
		return false
	})
	view, err := c.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if view.Root().Version() != 1 || len(view.Evidence()) != 1 {
		t.Fatalf("root v%d, evidence %q", view.Root().Version(), view.Evidence())
	}
	reason, err := os.ReadFile(view.Evidence()[0] + ".reason.json")
	if err != nil || !strings.Contains(string(reason), "root v2: not enough signatures: 0 of 1 needed keys of party review in the trusted root signed") {
		t.Fatalf("%s %v", reason, err)
	}
	w.a.heal()
	if view, err = c.Refresh(t.Context()); err != nil || len(view.Evidence()) != 0 {
		t.Fatalf("not healed: %v", err)
	}
}

func TestErrorsOfRefresh(t *testing.T) {
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	pin := w.pin()
	c := w.client(pin)
	w.mustGet(c, "", "1.0", "one")
	good := func(what string) {
		t.Helper()
		if _, err := c.Refresh(t.Context()); err != nil {
			t.Fatalf("not recovered after %s: %v", what, err)
		}
	}
	bad := func(what string, want error) error {
		t.Helper()
		view, err := c.Refresh(t.Context())
		if !errors.Is(err, want) || view != nil {
			t.Fatalf("%s: got %v, want %v", what, err, want)
		}
		return err
	}

	w.a.unreachable()
	w.z.unreachable()
	bad("all unreachable", client.ErrUnreachable)
	w.z.heal()
	bad("content unreachable", client.ErrNoContent)
	w.a.heal()
	good("darkness")

	w.now = w.now.Add(2 * 24 * time.Hour)
	bad("timestamp expired", client.ErrNoContent)
	if err := w.repo.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	good("expiry")

	start := w.now
	w.now = w.now.Add(366 * 24 * time.Hour)
	if err := bad("root expired", client.ErrStale); !errors.Is(err, tuf.ErrExpired) {
		t.Fatal(err)
	}
	w.now = start
	good("a wrong clock")

	w.update(func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	good("renewal")
	for _, s := range []*server{w.a, w.z} {
		s.does(func(rw http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "2.root.json") {
				http.NotFound(rw, r)
				return true
			}
			return false
		})
	}
	state, err := filepath.Glob(filepath.Join(stateDir(t, c, w), "roots", "*"))
	if err != nil || len(state) != 1 {
		t.Fatal(state, err)
	}
	if err := os.Remove(state[0]); err != nil {
		t.Fatal(err)
	}
	c = w.client(pin, func(cfg *client.Config) { cfg.Dir = client.ConfigDir(c) }) // a running client remembers
	bad("roots lost, old chain served", client.ErrRootRollback)
	w.a.heal()
	good("a short chain")
}

// stateDir is the directory of c's state: the only repository below Config.Dir.
func stateDir(t *testing.T, c *client.Client, w *world) string {
	t.Helper()
	p, err := tuf.OpenPin(w.pin(), &tuf.Options{UnsafeLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(client.ConfigDir(c), p.Root().Charter().RepoID())
}

// A directory, an embedded tree or a bundle is a source like any other; offline,
// nothing else is contacted.
func TestOfflineFromAFolder(t *testing.T) {
	w := newWorld(t)
	w.add("1.0", "one")
	w.approve("1.0")
	pin := w.pin()
	w.a.asked()
	c := w.client(pin, func(cfg *client.Config) {
		cfg.Sources, cfg.Offline = []client.Source{client.FSSource(os.DirFS(w.a.dir))}, true
	})
	w.mustGet(c, "", "1.0", "one")
	if a, z := w.a.asked(), w.z.asked(); len(a)+len(z) > 0 {
		t.Fatalf("offline, but asked %q %q", a, z)
	}
	empty := w.client(pin, func(cfg *client.Config) {
		cfg.Sources, cfg.Offline = []client.Source{client.FSSource(fstest.MapFS{})}, true
	})
	if _, err := empty.Refresh(t.Context()); !errors.Is(err, client.ErrNoContent) {
		t.Fatalf("got %v", err)
	}
}
