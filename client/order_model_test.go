package client_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// spellings are versions in order; those of one row are equal.
var spellings = [][]string{
	{"0.9", "v0.9.0"}, {"1-rc.2", "1.0.0-rc.2"}, {"1-rc.10", "v1.0-rc.10+b"}, {"1", "v1.0.0", "1.0+x"}, {"1.2.9", "1.2.9.0"}, {"1.4", "1.04.0"}, {"1.10", "v1.10"}, {"2.0.0.1"}, {"2024.1.5", "2024.01.05"},
}

// item is a release of the model.
type item struct {
	version, min               int // rows of spellings; min -1: none
	platform, channel, product string
	unlisted                   int // 1: by the vendor, 2: by the review, 0: listed by both
	held, recalled, malformed  bool
	halted                     bool
}

func (x item) agreed() bool { return x.unlisted == 0 }

// question is a client's configuration and query.
type question struct {
	installed int // -1: nothing
	back      bool
	deny      int // -1: none
	platform  string
	channel   string
	product   string
}

// oracle applies the rules one after the other, and returns which items may be the
// answer; nil for none. known is whether anything is listed.
func oracle(items []item, q question) (answer []int, known bool) {
	meant := func(x item) bool {
		return x.product == q.product && x.channel == q.channel && (x.platform == q.platform || x.platform == "any")
	}
	shadowed := func(x item) bool {
		return x.platform != q.platform && slices.ContainsFunc(items, func(o item) bool {
			return meant(o) && o.agreed() && !o.malformed && o.platform == q.platform && o.version == x.version
		})
	}
	// Ignoring a hold: it causes no downgrade, but a recall of the same release does.
	safe := func(x item) bool {
		return meant(x) && x.agreed() && !x.malformed && x.version != q.deny && !shadowed(x) && !x.recalled
	}
	best := -1
	stays := false
	for _, x := range items {
		known = known || meant(x)
		stays = stays || x.version == q.installed && safe(x)
		if !safe(x) || x.held || x.halted || x.version == q.installed || q.installed >= 0 && x.min > q.installed {
			continue
		}
		if x.version > q.installed || q.back {
			best = max(best, x.version)
		}
	}
	if best < 0 || best < q.installed && stays {
		return nil, known
	}
	for i, x := range items {
		if safe(x) && !x.held && !x.halted && x.version == best && !(q.installed >= 0 && x.min > q.installed) {
			answer = append(answer, i)
		}
	}
	return answer, known
}

// Small sets of releases against the rules in their simplest form.
func TestLatestFollowsTheRules(t *testing.T) {
	t.Parallel()
	rounds := 50
	switch {
	case rawtuf.Long:
		rounds = 2_000
	case testing.Short():
		rounds = 20
	}
	rng := rand.New(rand.NewPCG(11, 4))
	offered, backward, none, unknown := 0, 0, 0, 0
	for round := range rounds {
		s := newShop(t)
		items := make([]item, rng.IntN(7))
		recalls := []any{}
		one := func(of ...string) string { return of[rng.IntN(len(of))] }
		for i := range items {
			x := item{version: rng.IntN(len(spellings)), min: -1, platform: one("any", "linux/amd64", "darwin/arm64"), channel: one("stable", "stable", "beta"), product: one("tool", "tool", "tool", "other"),
				held: rng.IntN(8) == 0, recalled: rng.IntN(8) == 0, malformed: rng.IntN(8) == 0, halted: rng.IntN(6) == 0}
			if rng.IntN(3) == 0 && x.version > 0 {
				x.min = rng.IntN(x.version)
			}
			if rng.IntN(5) == 0 {
				x.unlisted = 1 + rng.IntN(2)
			}
			items[i] = x
			fields := rawtuf.Doc{"product": x.product, "version": one(spellings[x.version]...), "channel": x.channel, "platform": x.platform, "sequence": rng.IntN(9), "critical": rng.IntN(2) == 0}
			if x.min >= 0 {
				fields["min_version"] = one(spellings[x.min]...)
			}
			if x.halted {
				fields["rollout"] = rawtuf.Doc{"percent": 0}
			}
			if x.malformed {
				fields["rollout"] = rawtuf.Doc{"percent": 150}
			}
			path := fmt.Sprintf("agent/file-%d", i)
			s.repo.AddTarget(path, path, fields, [][]string{{"vendor-agent", "review-agent"}, {"review-agent"}, {"vendor-agent"}}[x.unlisted]...)
			if x.held {
				s.repo.AddTarget(path, "", rawtuf.Doc{"reason": "x", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
			}
			if x.recalled {
				recalls = append(recalls, rawtuf.Doc{"path": path, "sha256": rawtuf.FileOf([]byte(path))["hashes"].(rawtuf.Doc)["sha256"], "reason": "x", "at": rawtuf.Stamp(rawtuf.Now)})
			}
		}
		s.repo.Roles["review-agent"]["x-visum-recalled"] = recalls
		renew(s.repo)
		for deny := -1; deny < len(spellings); deny += 1 + rng.IntN(8) {
			view := s.good(s.client(func(c *client.Config) {
				if deny >= 0 {
					c.DenyVersions = []string{one(spellings[deny]...)}
				}
			}), 1)
			for installed := -1; installed < len(spellings); installed++ {
				q := question{installed: installed, back: rng.IntN(2) == 0, deny: deny, platform: one("linux/amd64", "darwin/arm64", "any"), channel: one("stable", "beta"), product: one("tool", "tool", "other")}
				ask := client.Query{Product: q.product, Channel: q.channel, Platform: q.platform, AllowDowngrade: q.back, Manual: rng.IntN(2) == 0}
				if installed >= 0 {
					ask.Installed = one(spellings[installed]...)
				}
				answer, known := oracle(items, q)
				got, err := view.Latest(t.Context(), ask)
				switch {
				case answer != nil:
					if i := slices.IndexFunc(answer, func(i int) bool { return got.Approved.Path() == fmt.Sprintf("agent/file-%d", i) }); err != nil || i < 0 {
						t.Fatalf("round %d, %+v of %+v: got %s %v, want %v", round, ask, items, got.Approved.Path(), err, answer)
					}
					offered++
					if items[answer[0]].version < installed {
						backward++
					}
				case known:
					none++
					if !errors.Is(err, client.ErrUpToDate) {
						t.Fatalf("round %d, deny %d, %+v of %+v: got %s %v, want none", round, deny, ask, items, got.Approved.Path(), err)
					}
				default:
					unknown++
					if !errors.Is(err, client.ErrUnknownProduct) {
						t.Fatalf("round %d, %+v of %+v: got %s %v, want nothing known", round, ask, items, got.Approved.Path(), err)
					}
				}
				inOrder(t, got, ask)
			}
		}
	}
	if min(offered, backward, none, unknown) < rounds/2 {
		t.Errorf("%d offered, %d of them backward, %d up to date, %d unknown: the random cases are incomplete", offered, backward, none, unknown)
	}
}

// inOrder requires that decisions come newest first, are about versions above the
// installed one, and that at most one accepts: the last one about a release.
func inOrder(t *testing.T, got client.Release, q client.Query) {
	t.Helper()
	var last tuf.Version
	for i, d := range got.Decisions {
		if d.Accepted != (d.Err == nil) || d.Accepted && i != len(got.Decisions)-1 || d.Release == nil {
			t.Fatalf("%+v", d)
		}
		v, err := tuf.ParseVersion(d.Release.Version)
		if err != nil || i > 0 && v.Compare(last) > 0 {
			t.Fatalf("%+v", got.Decisions)
		}
		if last = v; q.Installed == "" || q.AllowDowngrade {
			continue
		}
		if have, err := tuf.ParseVersion(q.Installed); err != nil || v.Compare(have) <= 0 {
			t.Fatalf("%s is installed: %+v", q.Installed, d)
		}
	}
}

// The invariant of Latest, whatever release fields contain: an offered release is
// approved by both parties with fields that obey the rules, matches the query, is not
// denied, and is above the installed version unless a downgrade was allowed.
func FuzzLatest(f *testing.F) {
	f.Add("1.0.0", "v2", "1.4-rc.1", "1.2.9", "linux/amd64", "2.0", uint8(0))
	f.Add("10.0.19041.1", "10.0.22000.5", "", "9", "any", "", uint8(1))
	f.Add("1", "1.0", "0.9", "1.x", "linux/", "v1", uint8(255))
	f.Fuzz(func(t *testing.T, a, b, min, installed, platform, deny string, bits uint8) {
		bit := func(n int) bool { return bits>>n&1 == 1 }
		s := newShop(t)
		first, second := rel(a, with("min_version", min)), rel(b, with("platform", platform))
		if bit(0) {
			first["rollout"] = rawtuf.Doc{"percent": int(bits)}
		}
		s.repo.AddTarget("agent/a", "a", first, "vendor-agent", "review-agent")
		s.repo.AddTarget("agent/b", "b", second, "vendor-agent", "review-agent")
		s.repo.AddTarget("agent/c", "c", rel(b+"9", with("channel", a)), "vendor-agent", "review-agent")
		s.repo.AddTarget("agent/claim", "x", rel("9"+a), "vendor-agent")
		if bit(1) {
			s.repo.AddTarget("agent/a", "", rawtuf.Doc{"reason": "x", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
		}
		renew(s.repo)
		cfg := func(c *client.Config) {
			if deny != "" {
				c.DenyVersions = []string{deny}
			}
		}
		denied, badDeny := tuf.ParseVersion(deny)
		if deny != "" && badDeny != nil {
			if _, err := client.New(s.pin(), &client.Config{Dir: s.dir, DenyVersions: []string{deny}}); err == nil {
				t.Fatalf("%q is not a version, and denied", deny)
			}
			cfg = func(*client.Config) {}
		}
		q := client.Query{Product: "tool", Channel: "stable", Platform: "linux/amd64", Installed: installed, AllowDowngrade: bit(2), Manual: bit(3)}
		got, err := s.good(s.client(cfg), 1).Latest(t.Context(), q)
		have, bad := tuf.ParseVersion(installed)
		if err != nil {
			if errors.Is(err, client.ErrInstalled) != (installed != "" && bad != nil) || !got.Approved.IsZero() || rawtuf.BadText(err.Error()) != "" {
				t.Fatal(err)
			}
			if !errors.Is(err, client.ErrInstalled) && !errors.Is(err, client.ErrUpToDate) && !errors.Is(err, client.ErrUnknownProduct) {
				t.Fatal(err)
			}
			return
		}
		v, err := tuf.ParseVersion(got.Version)
		agreed, ok := got.Approved.Release()
		if err != nil || !ok || agreed.Check() != nil || agreed.Version != got.Version || len(got.Approved.Signoffs()) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		if c := v.Compare(have); c == 0 || c < 0 && !q.AllowDowngrade {
			t.Fatalf("%s is installed, %s is offered", installed, got.Version)
		}
		if got.Product != q.Product || got.Channel != q.Channel || got.Platform != q.Platform && got.Platform != "any" || got.Rollout != nil && got.Rollout.Percent == 0 {
			t.Fatalf("%+v", got)
		}
		if deny != "" && badDeny == nil && v.Compare(denied) == 0 || bit(1) && got.Approved.Path() == "agent/a" {
			t.Fatalf("%s is denied or held, %+v is offered", deny, got)
		}
	})
}
