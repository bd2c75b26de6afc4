package relocate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/relocate"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/repo/storage/storagetest"
	"github.com/visum-dev/visum/tuf"
)

func TestOverlay(t *testing.T) {
	t.Parallel()
	storagetest.Run(t, func(t *testing.T) repo.Storage { return storage.Overlay(storage.Overlay(nil)) })
}

const (
	saysPlanned   = "v1 epoch 0: primary a rendezvous z"
	saysAnnounced = "v2 epoch 0: primary b from 2026-03-16 primary a rendezvous z"
	saysCutOver   = "v3 epoch 1: primary b legacy a until 2026-05-30 rendezvous z"
	saysRetired   = "v4 epoch 1: primary b rendezvous z retired a"
)

func TestWholeMove(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	w.Want(saysPlanned)
	w.Announce()
	w.Want(saysAnnounced)
	w.CutOver()
	w.Want(saysCutOver)
	w.Release("1.1", slices.Concat(repotest.NewKeys, repotest.ReviewKeys)...)
	w.Retire()
	w.Want(saysRetired)
	w.Release("1.2", slices.Concat(repotest.NewKeys, repotest.ReviewKeys)...)
	for key, role := range map[string]string{"vendor-1": "root", "timestamp": "timestamp", "vendor-release": "vendor-agent"} {
		if ids := slices.Collect(maps.Keys(w.Tip().Keys([]string{repotest.Signer(key).Key().ID()}))); len(ids) > 0 {
			t.Errorf("the old key of %s is still there", role)
		}
	}
}

// A repeated step is an empty draft; publishing it changes nothing.
func TestStepsAreIdempotent(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	for _, step := range []struct {
		take  func()
		again func(context.Context, *repo.Repo) (*repo.Draft, error)
	}{{w.Announce, w.Move.Announce}, {w.CutOver, w.Move.CutOver}, {w.Retire, w.Move.Retire}, {func() {}, w.Move.Emergency}} {
		step.take()
		before := w.Store.Written()
		w.Publish(w.Repo(repotest.NewKeys...), func(r *repo.Repo) (*repo.Draft, error) { return step.again(t.Context(), r) })
		if len(before) != len(w.Store.Written()) {
			t.Fatal("a step taken twice wrote something")
		}
	}
}

// In each phase only the next step is available, and only from its date on.
func TestStepsInOrder(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := repotest.NewMoving(t)
	type steps = map[string]error // nil: allowed
	check := func(want steps) {
		t.Helper()
		for name, step := range map[string]func(context.Context, *repo.Repo) (*repo.Draft, error){
			"announce": w.Move.Announce, "cut over": w.Move.CutOver, "retire": w.Move.Retire, "abort": w.Move.Abort, "emergency": w.Move.Emergency} {
			d, err := step(t.Context(), w.Repo(repotest.NewKeys...))
			if !errors.Is(err, want[name]) || (err == nil) != (d != nil) {
				t.Errorf("%s: got %v, want %v", name, err, want[name])
			}
		}
	}
	order, early := relocate.ErrOrder, relocate.ErrEarly
	check(steps{"announce": early, "cut over": order, "retire": order})
	w.Now = w.Move.Dates.Announce
	check(steps{"cut over": order, "retire": order})
	w.Announce()
	check(steps{"cut over": early, "retire": order})
	w.Now = w.Move.Dates.CutOver
	check(steps{"retire": order})
	w.CutOver()
	check(steps{"announce": order, "retire": early})
	w.Now = w.Move.Dates.Retire
	check(steps{"announce": order})
	w.Retire()
	check(steps{"announce": order, "cut over": order, "abort": relocate.ErrRetired})
	if phase, err := w.Move.Phase(t.Context(), w.Repo()); err != nil || phase != relocate.PhaseRetired {
		t.Fatal(phase, err)
	}
}

// A root with a concurrent edit is no phase of the move.
func TestAnotherMove(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	w.Announce()
	w.Publish(w.Repo(append(repotest.OldKeys, "new-timestamp", "other")...), func(r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(t.Context(), func(tx *repo.Tx) error {
			tx.Root().Timestamp.Keys, tx.Root().Snapshot.Keys = repotest.Keys("new-timestamp"), repotest.Keys("other")
			return tx.Root().Retire("a")
		})
	})
	for _, step := range []func(context.Context, *repo.Repo) (*repo.Draft, error){w.Move.Announce, w.Move.CutOver, w.Move.Retire, w.Move.Abort} {
		if _, err := step(t.Context(), w.Repo(repotest.NewKeys...)); !errors.Is(err, relocate.ErrOrder) || !strings.Contains(err.Error(), "new keys false; of 1 old locations 0 in use, 0 legacy, 1 retired; 1 of 1 new locations, 1 for later") {
			t.Errorf("got %v", err)
		}
	}
	// A key of the move is in use meanwhile: it is not new any more.
	if _, err := w.Move.Emergency(t.Context(), w.Repo(repotest.NewKeys...)); !errors.Is(err, relocate.ErrKeys) {
		t.Errorf("got %v", err)
	}
	// The same for a new location that is listed for another purpose.
	w = repotest.NewMoving(t, func(r *repo.Root) { r.Locations = append(r.Locations, repotest.Location("b", tuf.Mirror, 30)) })
	if _, err := w.Move.Plan(t.Context(), w.Repo()); !errors.Is(err, relocate.ErrLocations) {
		t.Errorf("got %v", err)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	abort := func(w *repotest.Moving, names []string) {
		w.Publish(w.Repo(names...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.Abort(t.Context(), r) })
	}
	w := repotest.NewMoving(t)
	w.Announce()
	abort(w, repotest.OldKeys)
	w.Want("v3 epoch 0: primary a rendezvous z")
	w.Announce() // a cancelled announcement may be made again
	w.Want("v4 epoch 0: primary b from 2026-03-16 primary a rendezvous z")
	w.CutOver()
	abort(w, repotest.NewKeys)
	w.Want("v6 epoch 1: primary a rendezvous z")
	if p := w.Tip().Charter().Locations()[0].Priority; p != 10 {
		t.Errorf("a has priority %d", p)
	}
	abort(w, repotest.NewKeys)
	w.Want("v6 epoch 1: primary a rendezvous z")
	for _, step := range []func(context.Context, *repo.Repo) (*repo.Draft, error){w.Move.Announce, w.Move.CutOver, w.Move.Retire, w.Move.Emergency} {
		if _, err := step(t.Context(), w.Repo(repotest.NewKeys...)); !errors.Is(err, relocate.ErrOrder) {
			t.Errorf("after it was cancelled: %v", err)
		}
	}
}

func TestEmergency(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	for name, before := range map[string]func(*repotest.Moving){"planned": func(*repotest.Moving) {}, "announced": (*repotest.Moving).Announce, "cut over": func(w *repotest.Moving) { w.Announce(); w.CutOver() }} {
		w := repotest.NewMoving(t)
		before(w)
		w.Publish(w.Repo(repotest.NewKeys...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.Emergency(t.Context(), r) })
		if got := w.Says(); !strings.HasSuffix(got, "epoch 1: primary b rendezvous z retired a") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	before := len(w.Store.Written())
	plan, err := w.Move.Plan(t.Context(), w.Repo())
	rawtuf.NoErr(t, err)
	if len(w.Store.Written()) != before {
		t.Error("a plan wrote something")
	}
	text := plan.String()
	for _, line := range []string{
		"Move of repository abababababababababababababababab from a to b, starting at root v1.",
		"Root v2, announced, due 2026-03-02, expires 2027-03-02; epoch 0.",
		"    primary b (host-b, https://b.example.org/), preferred from 2026-03-16 on",
		"Root v3, cut over, due 2026-03-16, expires 2027-03-16; epoch 1.",
		"    legacy a (host-a, https://a.example.org/), not contacted from 2026-05-30 on",
		"    1 of the 2 old root keys of party vendor",
		"    3 of the 4 new root keys in all",
		"Root v4, retired, due 2026-04-30",
		"    access logs show 98 % of the fleet at root v3 or newer, and 98 % of the requests at b",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("the plan lacks %q:\n%s", line, text)
		}
	}
	data, err := json.Marshal(plan)
	rawtuf.NoErr(t, err)
	var again relocate.Plan
	rawtuf.NoErr(t, json.Unmarshal(data, &again))
	if again.String() != text {
		t.Error("the plan is another one after its JSON was read")
	}
	// A move read from the JSON is the same move.
	w.Move = &again.Move
	w.Announce()
	w.CutOver()
	w.Retire()
	w.Want(saysRetired)
	for i, root := range plan.Roots {
		chain, err := w.Repo().Chain(t.Context())
		rawtuf.NoErr(t, err)
		if c := chain[i+1].Charter(); c.Epoch() != root.Epoch || c.Seq() != root.Seq || chain[i+1].Version() != root.Version {
			t.Errorf("root v%d is not as planned", root.Version)
		}
	}
	if _, err := w.Move.Plan(t.Context(), w.Repo()); !errors.Is(err, relocate.ErrOrder) {
		t.Errorf("planned after it was done: %v", err)
	}
}

// An impossible move is refused before its first step, with a reason.
func TestImpossiblePlans(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	for name, x := range map[string]struct {
		change func(*relocate.Move)
		want   error
		says   string
	}{
		"no old location":         {func(m *relocate.Move) { m.From = nil }, relocate.ErrLocations, "an old and a new location"},
		"unknown location":        {func(m *relocate.Move) { m.From = []string{"x"} }, relocate.ErrLocations, `no location "x"`},
		"leaves the rendezvous":   {func(m *relocate.Move) { m.From = []string{"z"} }, relocate.ErrLocations, "rendezvous"},
		"to nowhere":              {func(m *relocate.Move) { m.To = nil }, relocate.ErrLocations, ""},
		"to a rendezvous only":    {func(m *relocate.Move) { m.To[0].Tier, m.To[0].Targets = tuf.Rendezvous, "" }, relocate.ErrLocations, "primary or a mirror"},
		"location with dates":     {func(m *relocate.Move) { m.To[0].UseFrom = m.Dates.CutOver }, relocate.ErrLocations, "use_from"},
		"one operator is left":    {func(m *relocate.Move) { m.To[0].Operator = "host-z" }, relocate.ErrLocations, "need 2 operators, the move leaves 1"},
		"H4 http":                 {func(m *relocate.Move) { m.To[0].Base = "http://b.example.org/" }, tuf.ErrCharter, "root v2: breaks the charter's rules: H4"},
		"H5 paths":                {func(m *relocate.Move) { m.To[0].Metadata = "../m/" }, tuf.ErrCharter, "H5"},
		"H6 id twice":             {func(m *relocate.Move) { m.To = append(m.To, m.To[0]) }, tuf.ErrCharter, "H6"},
		"H8 back at the old host": {func(m *relocate.Move) { m.To[0].Base = "https://a.example.org/new/" }, tuf.ErrCharter, "root v4: breaks the charter's rules: H8"},
		"H3 online keys stay":     {func(m *relocate.Move) { m.Timestamp.Keys = repotest.Keys("timestamp") }, relocate.ErrKeys, "timestamp in root v1"},
		"root key stays":          {func(m *relocate.Move) { m.RootKeys = repotest.Keys("vendor-1", "new-2") }, relocate.ErrKeys, "root in root v1"},
		"review key as online":    {func(m *relocate.Move) { m.Targets.Keys = repotest.Keys("review-1") }, relocate.ErrKeys, "is not new"},
		"root key as online":      {func(m *relocate.Move) { m.Targets.Keys = repotest.Keys("new-1") }, relocate.ErrKeys, "is for"},
		"no root keys":            {func(m *relocate.Move) { m.RootKeys = nil }, relocate.ErrKeys, "root"},
		"too few root keys":       {func(m *relocate.Move) { m.Min = 3 }, relocate.ErrKeys, "3 of 2"},
		"broken key": {func(m *relocate.Move) {
			m.Snapshot.Keys = []tuf.Key{{Type: "ed25519", Scheme: "ed25519", Public: "ff"}}
		}, relocate.ErrKeys, "snapshot"},
		"no such party":          {func(m *relocate.Move) { m.Party = "unknown" }, relocate.ErrKeys, "unknown"},
		"no such release role":   {func(m *relocate.Move) { m.Release["x"] = repo.Keys{Keys: repotest.Keys("new-x")} }, relocate.ErrKeys, `"x"`},
		"release role of review": {func(m *relocate.Move) { m.Release["review-agent"] = repo.Keys{Keys: repotest.Keys("new-x")} }, relocate.ErrKeys, "party vendor has no"},
		"no dates":               {func(m *relocate.Move) { m.Dates = relocate.Dates{} }, relocate.ErrDates, "missing"},
		"sunset first":           {func(m *relocate.Move) { m.Dates.Sunset = m.Dates.CutOver }, relocate.ErrDates, "sunset"},
		"in a hurry":             {func(m *relocate.Move) { m.Dates.CutOver = m.Dates.Announce.Add(repotest.Day) }, relocate.ErrDates, "at least 7 days"},
		"retired too soon":       {func(m *relocate.Move) { m.Dates.Retire = m.Dates.CutOver.Add(29 * repotest.Day) }, relocate.ErrDates, "at least 30 days"},
		"longer than a root": {func(m *relocate.Move) {
			m.Dates.Retire, m.Dates.Sunset = m.Dates.CutOver.Add(400*repotest.Day), m.Dates.CutOver.Add(401*repotest.Day)
		}, relocate.ErrDates, "root v3 expires before"},
		"share of more than all": {func(m *relocate.Move) { m.Criteria.Moved = 1.5 }, relocate.ErrDates, "share"},
		"a negative time":        {func(m *relocate.Move) { m.Criteria.Both = -repotest.Day }, relocate.ErrDates, "negative"},
	} {
		w := repotest.NewMoving(t)
		x.change(w.Move)
		_, err := w.Move.Plan(t.Context(), w.Repo())
		if !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: got %v, want %v with %q", name, err, x.want, x.says)
		}
		w.Now = w.Move.Dates.Announce.Add(repotest.Day)
		if _, err := w.Move.Announce(t.Context(), w.Repo(repotest.OldKeys...)); err == nil && !errors.Is(x.want, relocate.ErrDates) && !errors.Is(x.want, tuf.ErrCharter) {
			t.Errorf("%s: can be announced", name)
		}
	}
	empty := &repotest.Moving{T: t, Now: time.Now(), Store: storage.Overlay(nil)}
	if _, err := repotest.NewMoving(t).Move.Plan(t.Context(), empty.Repo()); !errors.Is(err, relocate.ErrOrder) {
		t.Errorf("an empty repository: %v", err)
	}
}

func TestTombstone(t *testing.T) {
	t.Parallel()
	rawtuf.Sequential(t)
	w := repotest.NewMoving(t)
	w.Announce()
	w.CutOver()
	w.Retire()
	stone := storage.Overlay(nil)
	for range 2 {
		rawtuf.NoErr(t, relocate.PublishRootsOnly(t.Context(), w.Repo(), stone))
	}
	var want []string
	for _, n := range []string{"1", "2", "3", "4"} {
		want = append(want, "metadata/"+n+".root.json")
	}
	if got := slices.Sorted(maps.Keys(stone.Written())); !slices.Equal(got, want) {
		t.Fatalf("the roots-only copy has %q", got)
	}
	if err := relocate.PublishRootsOnly(t.Context(), w.Repo(), w.Store); !errors.Is(err, relocate.ErrLocations) {
		t.Fatalf("over content: %v", err)
	}
	if err := relocate.PublishRootsOnly(t.Context(), repotest.NewMoving(t, repotest.Recoverable).Repo(), stone); !errors.Is(err, relocate.ErrLocations) {
		t.Fatalf("over the roots of another repository: %v", err)
	}
}

// The successor of a vendor who lost all keys moves the repository. Clients of the old location
// find the recovery in the roots-only copy, also after a renewal of the statement.
func TestMoveAfterRecovery(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t, repotest.Recoverable)
	w.Recover()
	heir := slices.Concat(repotest.NewKeys, repotest.ReviewKeys)
	key := func(name string) repo.Keys { return repo.Keys{Keys: repotest.Keys(name)} }
	w.Move.RootKeys, w.Move.Timestamp, w.Move.Snapshot, w.Move.Targets = repotest.Keys("x-1", "x-2"), key("x-timestamp"), key("x-snapshot"), key("x-targets")
	w.Move.Release = map[string]repo.Keys{"vendor-agent": key("x-release")}
	if _, err := w.Move.Plan(t.Context(), w.Repo()); err != nil {
		t.Fatal(err)
	}
	w.Now = w.Move.Dates.Announce
	w.Publish(w.Repo(heir...), func(r *repo.Repo) (*repo.Draft, error) { return w.Move.Announce(t.Context(), r) })
	w.Want("v3 epoch 1: primary b from 2026-03-16 primary a rendezvous z")
	stone := storage.Overlay(nil)
	for range 2 {
		for range 2 {
			rawtuf.NoErr(t, relocate.PublishRootsOnly(t.Context(), w.Repo(), stone))
		}
		files, err := w.Repo().RootFiles(t.Context())
		rawtuf.NoErr(t, err)
		if got := len(stone.Written()); got != len(files) || got != 4 {
			t.Fatalf("the roots-only copy has %d files", got)
		}
		for _, f := range files {
			if data, err := stone.Read(t.Context(), f.Name); err != nil || !bytes.Equal(data, f.Data) {
				t.Errorf("%s: %v", f.Name, err)
			}
		}
		w.Publish(w.Repo(heir...), func(r *repo.Repo) (*repo.Draft, error) {
			return r.RenewRecovery(t.Context(), repo.RecoveryOptions{Reason: "for offline clients"})
		})
	}
}
