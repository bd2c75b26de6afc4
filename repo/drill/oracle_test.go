package drill

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// Tests of the oracle: clients violate an invariant, because the locations force it or
// because the client is faulty, and the oracle must report that invariant.

type step = func(context.Context, *repo.Repo) (*repo.Draft, error)

// cutting returns a play of the cut-over, retiring one of the last step.
func cutting(t *testing.T) *play {
	w := repotest.NewMoving(t)
	w.Announce()
	w.Now = w.Move.Dates.CutOver
	w.Refresh(repotest.OldKeys...)
	return prepared(t, w, repotest.NewKeys, w.Move.CutOver)
}

func retiring(t *testing.T) *play {
	w := repotest.NewMoving(t)
	w.Announce()
	w.CutOver()
	w.Now = w.Move.Dates.Retire
	w.Refresh(repotest.NewKeys...)
	yesterday := storage.Overlay(nil)
	for name, data := range w.Store.Written() {
		rawtuf.NoErr(t, yesterday.Create(t.Context(), name, bytes.NewReader(data)))
	}
	w.Release("1.1", slices.Concat(repotest.NewKeys, repotest.ReviewKeys)...)
	p := prepared(t, w, repotest.NewKeys, w.Move.Retire)
	p.files["yesterday"] = late{p.files["after"], yesterday}
	return p
}

func prepared(t *testing.T, w *repotest.Moving, keys []string, s step) *play {
	t.Helper()
	cfg := repo.Config{Signers: repotest.Signers(keys...), Now: func() time.Time { return w.Now }, UnsafeTrustStorage: true}
	d, err := s(t.Context(), repo.New(w.Store, &cfg))
	rawtuf.NoErr(t, err)
	p := newPlay(&Drill{Storage: w.Store, Config: cfg, Draft: w.Sign(d), MaxPins: 2,
		Stolen: repotest.Signers(slices.Concat(repotest.OldKeys, repotest.ReviewKeys)...)})
	done, err := p.prepare(t.Context())
	rawtuf.NoErr(t, err)
	if done {
		t.Fatal(p.report.Refused)
	}
	return p
}

// plays runs the clients in one scenario.
func (p *play) plays(t *testing.T, name string) (out []Violation) {
	t.Helper()
	for _, s := range p.scenes() {
		if s.name != name {
			continue
		}
		outcomes, err := p.run(t.Context(), s)
		rawtuf.NoErr(t, err)
		for _, o := range outcomes {
			out = append(out, o.Violations...)
		}
		return out
	}
	t.Fatalf("no scenario %q", name)
	return nil
}

// demand checks that exactly these invariants are violated. Those of standard TUF
// clients are marked with *.
func demand(t *testing.T, got []Violation, want string) {
	t.Helper()
	found := map[string]bool{}
	for _, v := range got {
		if strings.HasPrefix(v.Client, "go-tuf") {
			v.Invariant += "*"
		}
		found[v.Invariant] = true
	}
	if s := strings.Join(slices.Sorted(maps.Keys(found)), " "); s != want {
		t.Errorf("violated %q, want %q: %v", s, want, got)
	}
}

func (p *play) base(id string) string {
	i := slices.IndexFunc(p.locations, func(l tuf.Location) bool { return l.ID == id })
	return p.locations[i].Base
}

// everywhere gives all locations the same behaviour.
func (p *play) everywhere(h host) map[string]host {
	out := map[string]host{}
	for _, l := range p.locations {
		out[l.Base] = h
	}
	return out
}

// reviewed gives the attacker the keys of the review party too.
func (p *play) reviewed(t *testing.T) {
	t.Helper()
	p.Config.Review, p.fork, p.evil = "nobody", nil, ""
	rawtuf.NoErr(t, p.arm(t.Context()))
}

// Correct clients violate invariants under attacks beyond the threat model.
func TestOracleOfScenarios(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		scenario string
		worse    func(t *testing.T, p *play)
		want     string
	}{
		"both parties sign two roots": {"only the compromised old location reachable, with a forged root", func(t *testing.T, p *play) { p.reviewed(t) }, "L1 L5 S1"},
		"both parties approve evil":   {"only the compromised old location reachable", func(t *testing.T, p *play) { p.reviewed(t) }, "L5 S3"},
		"and standard TUF clients get them": {"compromised old location serves a forged root", func(t *testing.T, p *play) {
			p.reviewed(t)
			delete(p.files, "evil")
		}, "S1*"},
		"a target that the oracle does not know": {allHealthy, func(t *testing.T, p *play) {
			p.evil = p.paths[0].Path()
			delete(p.good, p.evil)
		}, "L1* S3 S3*"},
		"a release that no location has": {allHealthy, func(t *testing.T, p *play) { p.paths = retiring(t).paths }, "L1 L1*"},
		"a location with an old root": {allHealthy, func(t *testing.T, p *play) {
			p.well[p.base("b")] = host{files: "before", content: true}
		}, "L1*"},
		"a location with old content": {allHealthy, func(t *testing.T, p *play) {
			p.well[p.base("b")] = host{files: "late", content: true}
		}, "L1*"},
		"locations that lack their files": {"old location unreachable", func(t *testing.T, p *play) {
			p.pins, p.Locations = p.pins[:1], map[string]repo.Storage{"a": storage.Overlay(nil), "b": storage.Overlay(nil), "z": storage.Overlay(nil)}
		}, "L1 L5"},
		"an unlisted location": {"old location unreachable", func(t *testing.T, p *play) {
			base := p.base("b")
			p.locations = slices.DeleteFunc(p.locations, func(l tuf.Location) bool { return l.Base == base })
		}, "L1 S6"},
		"unexpected content": {"old location unreachable", func(t *testing.T, p *play) {
			for _, l := range p.locations {
				p.valid[validKey{p.tip().Version(), l.Base, "after", true}] = false
			}
		}, "S12"},
		"missing content": {"old location unreachable", func(t *testing.T, p *play) {
			for base, h := range p.well {
				p.well[base] = host{files: h.files}
			}
			for _, l := range p.locations {
				p.valid[validKey{p.tip().Version(), l.Base, "after", false}] = true
			}
		}, "L5"},
		"unreachable for ever": {"total outage", func(t *testing.T, p *play) { p.well = p.everywhere(host{unreachable: true}) }, "L5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			demand(t, cutting(t).plays(t, x.scenario), "")
			p := cutting(t)
			x.worse(t, p)
			demand(t, p.plays(t, x.scenario), x.want)
		})
	}
}

// Two operators without the next root do not hide the one that has it: the client
// asks all in turn, and the oracle expects that.
func TestOracleOfHiddenRoots(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t, func(r *repo.Root) { r.Locations = append(r.Locations, repotest.Location("c", tuf.Mirror, 15)) })
	p := prepared(t, w, slices.Concat(repotest.OldKeys, repotest.ReviewKeys), func(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(ctx, func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	})
	scene := "all content locations frozen, rendezvous healthy"
	demand(t, p.plays(t, scene), "")
	// The first root check finds nothing, the second finds the root.
	for _, s := range p.scenes() {
		if s.name != scene {
			continue
		}
		m, err := p.member(t.Context(), 0, false)
		rawtuf.NoErr(t, err)
		if e := p.expect(t.Context(), s, m.root, m.pin); e != (expectation{2, true, 0}) {
			t.Errorf("expects %+v", e)
		}
		var out Outcome
		for probe, want := range []int64{1, 2} {
			m.client = nil
			rawtuf.NoErr(t, m.cycle(t.Context(), s.hosts, &out))
			if m.root != want {
				t.Errorf("probe %d came to root v%d, want v%d", probe+1, m.root, want)
			}
		}
	}
}

// The oracle reports clients of the other branch of a fork that do not complete the move.
func TestOracleOfForks(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t)
	keys := slices.Concat(repotest.OldKeys, repotest.ReviewKeys)
	renew := func(priority int) func(*repo.Repo) (*repo.Draft, error) {
		return func(r *repo.Repo) (*repo.Draft, error) {
			return r.Stage(t.Context(), func(tx *repo.Tx) error { tx.Root().Locations[0].Priority = priority; return nil })
		}
	}
	other := &repotest.Moving{T: t, Now: w.Now, Store: storage.Overlay(w.Store)}
	other.Publish(other.Repo(keys...), renew(11))
	w.Publish(w.Repo(keys...), renew(12))
	fork, err := other.Store.Read(t.Context(), "metadata/2.root.json")
	rawtuf.NoErr(t, err)
	p := prepared(t, w, keys, func(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(ctx, func(tx *repo.Tx) error { return tx.Heal(fork) })
	})
	out, err := p.runFork(t.Context())
	rawtuf.NoErr(t, err)
	demand(t, out.Violations, "")
	if out.Converged == 0 || out.Converged != out.Clients {
		t.Errorf("%+v", out)
	}
	p.well = p.everywhere(host{unreachable: true})
	out, err = p.runFork(t.Context())
	rawtuf.NoErr(t, err)
	demand(t, out.Violations, "L1")
}

// The oracle detects a rollback of a client that lost its state.
func TestOracleOfLostState(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		world func(p *play) map[string]host
		want  string
	}{
		"with healthy locations": {func(p *play) map[string]host { return p.well }, "S4"},
		"with the old location only": {func(p *play) map[string]host {
			out := p.everywhere(host{unreachable: true})
			out[p.base("a")] = host{files: "before", roots: 1, content: true}
			return out
		}, "S2 S4"},
		"with older content": {func(p *play) map[string]host {
			out := p.everywhere(host{files: "yesterday", content: true})
			out[p.base("a")] = host{unreachable: true}
			return out
		}, "S4 S5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := retiring(t)
			for _, forgets := range []bool{false, true} {
				m, err := p.member(t.Context(), 0, true)
				rawtuf.NoErr(t, err)
				var out Outcome
				rawtuf.NoErr(t, m.cycle(t.Context(), p.well, &out))
				want := ""
				if forgets {
					m.store, m.client, want = client.MemStore(), nil, x.want
				}
				rawtuf.NoErr(t, m.cycle(t.Context(), x.world(p), &out))
				demand(t, out.Violations, want)
			}
		})
	}
}

// The oracle also detects violations that correct clients can't show.
func TestOracleOfRefreshes(t *testing.T) {
	t.Parallel()
	foreign := repotest.NewMoving(t, func(r *repo.Root) { r.Locations[0].Priority++ }).Tip()
	for name, x := range map[string]struct {
		shows func(p *play, s *sight)
		want  string
	}{
		"nothing wrong":              {func(*play, *sight) {}, ""},
		"a root of other keys":       {func(_ *play, s *sight) { s.root = foreign }, "S1"},
		"a future root":              {func(p *play, s *sight) { p.after = p.after[:3] }, "S1"},
		"an older root":              {func(p *play, s *sight) { s.root = p.after[2] }, "S2"},
		"a request to the old host":  {func(p *play, s *sight) { s.asked[0].base = p.base("a") }, "S4"},
		"a request to another host":  {func(_ *play, s *sight) { s.asked[0].base = "" }, "S6"},
		"content below the floor":    {func(p *play, s *sight) { s.timestamp = p.tip().Charter().Floors().Timestamp - 1 }, "S5"},
		"content under an old root":  {func(p *play, s *sight) { p.now = p.now.AddDate(50, 0, 0) }, "S12"},
		"an old root and no content": {func(p *play, s *sight) { p.now, s.err = p.now.AddDate(50, 0, 0), errUnreachable }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := retiring(t)
			m, err := p.member(t.Context(), 0, true)
			rawtuf.NoErr(t, err)
			m.root = p.tip().Version()
			s := sight{root: p.tip(), timestamp: p.tip().Charter().Floors().Timestamp, asked: []request{{p.base("b"), "a request"}}}
			x.shows(p, &s)
			var out Outcome
			known := m.check(s, &out)
			if known != (x.want != "S1") {
				t.Errorf("known: %v", known)
			}
			demand(t, out.Violations, x.want)
			if known && m.root != p.tip().Version() {
				t.Errorf("the client trusts root v%d, the oracle recorded v%d", p.tip().Version(), m.root)
			}
		})
	}
}

// The oracle distinguishes a standard TUF client that follows a forked root from one
// that ignores it.
func TestOracleOfStandardClients(t *testing.T) {
	t.Parallel()
	p := cutting(t)
	l := p.locations[slices.IndexFunc(p.locations, func(l tuf.Location) bool { return l.ID == "a" })]
	h := host{files: "before", roots: 3, content: true, fork: p.fork, forkAt: 3}
	check := func(scenario, want string) {
		t.Helper()
		out := Outcome{Roots: map[int64]int{}}
		rawtuf.NoErr(t, p.stock(t.Context(), scene{scenario, map[string]host{l.Base: h}}, l, p.after[0], &out))
		if got := fmt.Sprint(out.Violations); !strings.Contains(got, want) || want == "" && len(out.Violations) > 0 {
			t.Errorf("got %s, want %q", got, want)
		}
	}
	check("forked", "")
	h.roots = 2
	check("forked", "ignores a forked root")
	h.roots = 3
	p.reviewed(t)
	h.fork = p.fork
	check("forked", "trusts a root v3 that is not in the chain")
	h = host{files: "before", content: true}
	check("frozen", "")
	check(allHealthy, "is at root v2, the location serves v3")
}

// A client that follows a recovery before the end of the waiting period violates S1.
func TestOracleOfRecovery(t *testing.T) {
	t.Parallel()
	w := repotest.NewMoving(t, repotest.Recoverable)
	p := prepared(t, w, slices.Concat(repotest.NewKeys, repotest.ReviewKeys), func(_ context.Context, r *repo.Repo) (*repo.Draft, error) { return w.StageRecovery(r) })
	rule := p.rule(2)
	for name, x := range map[string]struct {
		from, to int // roots
		ahead    time.Duration
		searches int
		want     string
	}{
		"waited":            {1, 2, rule.Hold, rule.MinTicks, ""},
		"too short":         {1, 2, rule.Hold - 1, rule.MinTicks, "S1"},
		"one check too few": {1, 2, rule.Hold, rule.MinTicks - 1, "S1"},
		"has not waited":    {1, 2, 0, 0, "S1"},
		"has the root":      {2, 2, 0, 0, ""},
		"stays":             {1, 1, 0, 0, ""},
	} {
		m, err := p.member(t.Context(), 0, false)
		rawtuf.NoErr(t, err)
		m.name = name
		m.root, m.ahead, m.searches = int64(x.from), x.ahead, x.searches
		var out Outcome
		m.check(sight{root: p.after[x.to-1], err: errUnreachable}, &out)
		demand(t, out.Violations, x.want)
	}
}
