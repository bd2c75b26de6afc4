package client_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// rel is a release of tool, stable and for any platform unless edited.
func rel(version string, edit ...func(rawtuf.Doc)) rawtuf.Doc {
	d := rawtuf.Doc{"product": "tool", "version": version, "channel": "stable", "platform": "any"}
	for _, fn := range edit {
		fn(d)
	}
	return d
}

var (
	linux    = with("platform", "linux/amd64")
	darwin   = with("platform", "darwin/arm64")
	beta     = with("channel", "beta")
	halted   = with("rollout", rawtuf.Doc{"percent": 0})
	critical = with("critical", true)
)

// lists makes both parties list the releases, one file each, in place of earlier ones.
func (s shop) lists(rels ...rawtuf.Doc) {
	for _, role := range []string{"vendor-agent", "review-agent"} {
		maps.DeleteFunc(rawtuf.At(s.repo.Roles[role], "targets"), func(path string, _ any) bool { return strings.HasPrefix(path, "agent/file-") })
	}
	for i, r := range rels {
		path := fmt.Sprintf("agent/file-%d", i)
		s.repo.AddTarget(path, path, r, "vendor-agent", "review-agent")
	}
	renew(s.repo)
}

// query is a query and its expected answer.
type query struct {
	q      client.Query
	want   string // the version, and after a space the platform where that is not any; "" for none
	reason error  // in addition to client.ErrUpToDate; nil: no other
}

func on(installed string) client.Query { return client.Query{Installed: installed} }

// answers queries from linux/amd64, in the channel stable unless the query names one.
func (s shop) answers(c *client.Client, asks ...query) {
	s.t.Helper()
	view := s.good(c, 1)
	for _, a := range asks {
		q := a.q
		q.Product, q.Platform = "tool", "linux/amd64"
		if q.Channel == "" {
			q.Channel = "stable"
		}
		got, err := view.Latest(s.t.Context(), q)
		offered := strings.TrimSuffix(got.Version+" "+got.Platform, " any")
		if strings.TrimSpace(offered) != a.want || (err == nil) != (a.want != "") || got.Approved.IsZero() != (a.want == "") {
			s.t.Errorf("%+v: offered %q, want %q: %v", a.q, offered, a.want, err)
		}
		if err != nil && (!errors.Is(err, client.ErrUpToDate) || a.reason != nil && !errors.Is(err, a.reason) || a.reason == nil && errors.Is(err, tuf.ErrUntrusted)) {
			s.t.Errorf("%+v: got %v, want %v", a.q, err, a.reason)
		}
	}
}

// Typical situations of products: no machine is left behind forever, and none is
// downgraded.
func TestOrderOfReleases(t *testing.T) {
	back := client.Query{Installed: "2.0.0-beta.5", AllowDowngrade: true}
	for name, tt := range map[string]struct {
		rels []rawtuf.Doc
		asks []query
	}{
		"a late fix of an older version": {[]rawtuf.Doc{rel("1.2.8", with("sequence", 1)), rel("1.4.0", with("sequence", 2)), rel("1.2.9", with("sequence", 3))},
			[]query{{on("1.4.0"), "", nil}, {on("1.2.9"), "1.4.0", nil}, {on("1.2.8"), "1.4.0", nil}, {on(""), "1.4.0", nil}}},
		"a version number that was reused": {[]rawtuf.Doc{rel("1.0.0", with("sequence", 1)), rel("2.0.1", with("sequence", 2))}, // 2.0.0 was withdrawn
			[]query{{on("2.0.0"), "2.0.1", nil}, {on("1.0.0"), "2.0.1", nil}, {on("2.0.1"), "", nil}}},
		"no versions": {[]rawtuf.Doc{rel("1.0.0"), rel("2.0.0", with("sequence", 0))}, []query{{on("1.0.0"), "2.0.0", nil}}},
		"from a file for each platform to one for any": {[]rawtuf.Doc{rel("1.0.0", linux, with("sequence", 1)), rel("1.1.0", linux, with("sequence", 2)), rel("1.2.0", linux, with("sequence", 3)), rel("2.0.0", with("sequence", 1))},
			[]query{{on("1.2.0"), "2.0.0", nil}, {on("2.0.0"), "", nil}}},
		"from one for any to a file for each platform": {[]rawtuf.Doc{rel("1.9.0", with("sequence", 9)), rel("2.0.0", linux, with("sequence", 1)), rel("2.0.0", darwin, with("sequence", 1))},
			[]query{{on("1.9.0"), "2.0.0 linux/amd64", nil}}},
		"a newer one for another platform": {[]rawtuf.Doc{rel("1.0.0", linux), rel("3.0.0", darwin)}, []query{{on("1.0.0"), "", nil}, {on(""), "1.0.0 linux/amd64", nil}}},
		"the platform's own before any, whatever the order of paths": {[]rawtuf.Doc{rel("2.0.0"), rel("v2", linux), rel("2.0", darwin)},
			[]query{{on("1.0.0"), "v2 linux/amd64", nil}, {on("2"), "", nil}}},
		"a newer one for any before the platform's own": {[]rawtuf.Doc{rel("2.0.1"), rel("2.0.0", linux)}, []query{{on("1.0.0"), "2.0.1", nil}}},
		"the platform's own is halted": {[]rawtuf.Doc{rel("2.0.0"), rel("2.0.0", linux, halted), rel("1.5.0")},
			[]query{{on("1.0.0"), "1.5.0", nil}, {on("1.5.0"), "", client.ErrPlatform}, {on("1.5.0"), "", client.ErrRollout}}},
		"versions of four numbers": {[]rawtuf.Doc{rel("10.0.19041.1"), rel("10.0.22000.5", with("min_version", "10.0.19041.1"))},
			[]query{{on("10.0.19041.1"), "10.0.22000.5", nil}, {on("10.0.19041"), "10.0.19041.1", nil}, {on("v10.0.22000.5.0"), "", nil}}},
		"versions that are dates":                {[]rawtuf.Doc{rel("2024.9.1"), rel("2024.10.1")}, []query{{on("2024.09.01"), "2024.10.1", nil}}},
		"with and without v, and build metadata": {[]rawtuf.Doc{rel("v1.2.0+linux")}, []query{{on("1.2"), "", nil}, {on("1.2.0+other"), "", nil}, {on("1.2.0-rc.1"), "v1.2.0+linux", nil}}},
		"from beta to stable": {[]rawtuf.Doc{rel("2.0.0-beta.4", beta, with("sequence", 4)), rel("2.0.0-beta.5", beta, with("sequence", 5)), rel("1.8.0", with("sequence", 1))},
			[]query{{on("2.0.0-beta.5"), "", nil}, {back, "1.8.0", nil}, {on("1.7"), "1.8.0", nil}, {client.Query{Installed: "1.8.0", Channel: "beta"}, "2.0.0-beta.5", nil}}},
		"from beta to stable, which has come": {[]rawtuf.Doc{rel("2.0.0-beta.5", beta), rel("2.0.0"), rel("1.8.0")},
			[]query{{on("2.0.0-beta.5"), "2.0.0", nil}, {back, "2.0.0", nil}}},
		"a promoted beta": {[]rawtuf.Doc{rel("2.0.0", beta, with("sequence", 40)), rel("2.0.0", with("sequence", 3)), rel("2.0.1", with("sequence", 4))},
			[]query{{on("2.0.0"), "2.0.1", nil}, {client.Query{Installed: "2.0.0", Channel: "beta"}, "", nil}}},
		"min_version does not apply to other products": {[]rawtuf.Doc{rel("1.0.0"), rel("2.0.0", beta), rel("3.0.0", with("min_version", "2.0.0-a"))},
			[]query{{on("1.0.0"), "", client.ErrMinVersion}, {on("2.0.0"), "3.0.0", nil}, {on(""), "3.0.0", nil}}},
		"each intermediate release in turn": {[]rawtuf.Doc{rel("1.5.0"), rel("2.0.0", with("min_version", "1.5")), rel("2.1.0", with("min_version", "2")), rel("3.0.0", with("min_version", "2.1.0"))},
			[]query{{on("1.0.0"), "1.5.0", nil}, {on("1.5.0"), "2.0.0", nil}, {on("2.0.0"), "2.1.0", nil}, {on("2.1.0"), "3.0.0", nil}, {on("3.0.0"), "", nil}}},
		"a halted release that is critical": {[]rawtuf.Doc{rel("1.0.0"), rel("2.0.0", halted, critical)},
			[]query{{client.Query{Installed: "1.0.0", Manual: true}, "", client.ErrRollout}, {on(""), "1.0.0", nil}}},
		"a malformed one among others": {[]rawtuf.Doc{rel("1.0.0"), rel("3.0.0", with("rollout", rawtuf.Doc{"percent": 150})), rel("2.0.0")},
			[]query{{on("1.0.0"), "2.0.0", nil}, {on("2.0.0"), "", tuf.ErrRelease}, {on("3.0.0"), "", nil}, {on(""), "2.0.0", nil}}},
		"a malformed one for this platform does not cost the one for any": {[]rawtuf.Doc{rel("2.0.0"), rel("2.0.0", linux, with("rollout", rawtuf.Doc{"percent": 150}))},
			[]query{{on("1.0.0"), "2.0.0", nil}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.lists(tt.rels...)
			s.answers(s.client(), tt.asks...)
		})
	}
}

// A release that only one party lists for this platform does not hide the approved one
// for any.
func TestReleaseOfOnePartyHidesNothing(t *testing.T) {
	for _, role := range []string{"vendor-agent", "review-agent"} {
		s := newShop(t)
		s.lists(rel("1.0.0"), rel("2.0.0"))
		s.repo.AddTarget("agent/claim", "x", rel("2.0.0", linux), role)
		renew(s.repo)
		s.answers(s.client(), askOf("1.0.0", "2.0.0"))
		s.repo.AddTarget("agent/claim", "x", rel("2.0.0", linux), "vendor-agent", "review-agent")
		renew(s.repo)
		s.answers(s.client(), askOf("1.0.0", "2.0.0 linux/amd64"))
	}
}

// A product that moves to another class is the same product: its versions continue.
func TestOrderAcrossClasses(t *testing.T) {
	s := shop{newWeb(t, func(r *rawtuf.Repo) {
		r.Charter()["classes"] = append(r.Charter()["classes"].([]any), rawtuf.Doc{"name": "lib", "prefix": "lib/", "roles": []any{
			rawtuf.Doc{"party": "vendor", "role": "vendor-lib", "keyids": r.IDs("va"), "threshold": 1},
			rawtuf.Doc{"party": "review", "role": "review-lib", "keyids": r.IDs("ra"), "threshold": 1}}})
		for role, key := range map[string]string{"vendor-lib": "va", "review-lib": "ra"} {
			r.Roles[role], r.Signers[role] = rawtuf.Targets(), []string{key}
		}
		r.AddTarget("lib/2", "two", rel("2.0.0", with("sequence", 1)), "vendor-lib", "review-lib")
	})}
	s.lists(rel("1.0.0", with("sequence", 7)), rel("1.1.0", with("sequence", 8)))
	s.answers(s.client(), query{on("1.1.0"), "2.0.0", nil}, query{on("2.0.0"), "", nil})
}

// Releases without a readable version are reported, with the field, for every query
// that their other fields match; other products are not affected.
func TestMalformedReleasesAreExplained(t *testing.T) {
	for field, tt := range map[string]struct {
		value any
		says  string
	}{
		"product":     {"tool ", `product "tool " begins or ends with a space`},
		"version":     {"newest", "version newest: not numbers separated by dots"},
		"channel":     {"stable\n", `channel "stable\n" begins or ends with a space`},
		"platform":    {"linux/", `platform "linux/" is neither GOOS/GOARCH`},
		"min_version": {">=1.0", `min_version ">=1.0": `},
		"sequence":    {-1, "sequence -1 is not between"},
		"rollout":     {rawtuf.Doc{"percent": 150}, "rollout of 150 percent"},
		"notes":       {7, "notes: "},
	} {
		t.Run(field, func(t *testing.T) {
			s := newShop(t)
			s.lists(rel("1.0.0"), rel("9.0.0", with(field, tt.value)), rel("2.0.0", with("product", "other")))
			view := s.good(s.client(), 1)
			s.asked("")
			ask := func(product, installed string) (client.Release, error) {
				return view.Latest(t.Context(), client.Query{Product: product, Channel: "stable", Platform: "linux/amd64", Installed: installed})
			}
			got, err := ask("tool", "1.0.0")
			if !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tuf.ErrRelease) || len(got.Decisions) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			d := got.Decisions[0]
			if d.Accepted || d.Reason != "malformed" || d.Path != "agent/file-1" || d.Role != "" || !strings.Contains(d.Sentence, tt.says) || rawtuf.BadText(d.Sentence) != "" {
				t.Errorf("%+v", d)
			}
			if got, err := ask("tool", ""); err != nil || got.Version != "1.0.0" {
				t.Errorf("%+v, %v", got, err)
			}
			if got, err := ask("other", "1.0.0"); err != nil || got.Version != "2.0.0" || len(got.Decisions) > 1 && field != "product" {
				t.Errorf("%+v, %v", got, err)
			}
			if d := view.Decide(t.Context(), "agent/file-1"); d.Reason != "malformed" || !errors.Is(d.Err, tuf.ErrRelease) {
				t.Errorf("%+v", d)
			}
			if d, err := view.CheckInstalled(t.Context(), "agent/file-1", strings.Repeat("0", 64)); err != nil || d.Accepted || d.Reason != "malformed" {
				t.Errorf("%+v, %v", d, err)
			}
			// It is a statement of the parties, not of a location: no other location is
			// asked.
			if asked := s.asked(cdnHost); len(asked) != 0 {
				t.Errorf("asked %q", asked)
			}
			s.lists(rel("1.0.0"), rel("9.0.0"))
			s.answers(s.client(), askOf("1.0.0", "9.0.0"))
		})
	}
}

func askOf(installed, want string) query { return query{on(installed), want, nil} }

// A Query.Installed that is not a version is an error of the caller.
func TestInstalledMustBeAVersion(t *testing.T) {
	s := newShop(t)
	s.lists(rel("1.0.0"))
	view := s.good(s.client(), 1)
	for _, bad := range []string{"nightly", "1.x", " 1.0", "1.0\n", "7 ", "v", strings.Repeat("1", 129)} {
		for _, back := range []bool{false, true} {
			got, err := view.Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: bad, AllowDowngrade: back})
			if !errors.Is(err, client.ErrInstalled) || errors.Is(err, client.ErrUpToDate) || errors.Is(err, tuf.ErrUntrusted) || !got.Approved.IsZero() || got.Decisions != nil || rawtuf.BadText(err.Error()) != "" {
				t.Errorf("%q: %+v, %v", bad, got, err)
			}
		}
	}
	s.does(unreachable, vendorHost, cdnHost, reviewHost)
	view, _ = s.client().Refresh(t.Context())
	if _, err := view.Latest(t.Context(), client.Query{Installed: "nightly"}); !errors.Is(err, client.ErrInstalled) {
		t.Error(err)
	}
}

// Only and Deny must be versions, or New refuses them: an administrator's rule must not
// be ignored silently.
func TestOnlyAndDenyMustBeVersions(t *testing.T) {
	w := newWeb(t)
	made := func(only string, deny ...string) error {
		_, err := client.New(w.pin(), &client.Config{Dir: t.TempDir(), AllowVersion: only, DenyVersions: deny})
		return err
	}
	for _, only := range []string{"", "1", "v1.2.3", "1.2-rc.1", "1.", "v11.4.", "01.2.3.4."} {
		if err := made(only, "1.0", "v2", "2.0.0-rc.1+x"); err != nil {
			t.Errorf("%q: %v", only, err)
		}
	}
	for _, only := range []string{"x", "1.x", "1.*", ".", "v.", "1..", " 1", "1.0 ", ">=1", "1.0-rc.", "1+2.", "1,2", "\n"} {
		if err := made(only); err == nil || !strings.Contains(err.Error(), "Config.AllowVersion") || rawtuf.BadText(err.Error()) != "" {
			t.Errorf("Only %q: %v", only, err)
		}
	}
	for _, deny := range []string{"", "1.x", "1.", "latest", "1.0 ", "\u202e1"} {
		if err := made("", "1.0", deny); err == nil || !strings.Contains(err.Error(), "Config.DenyVersions[1]") || rawtuf.BadText(err.Error()) != "" {
			t.Errorf("Deny %q: %v", deny, err)
		}
	}
}

// A downgrade is offered if the caller allows it, to the newest release that may be
// installed, and only if the installed version may not stay.
func TestAllowDowngrade(t *testing.T) {
	back := func(installed string) client.Query { return client.Query{Installed: installed, AllowDowngrade: true} }
	s := newShop(t)
	s.lists(rel("1.0.0"), rel("1.1.0"), rel("2.0.0", with("min_version", "1.1")), rel("9.0.0", beta))
	s.answers(s.client(),
		query{back("9.0.0"), "2.0.0", nil}, // nothing of this channel is installed
		query{on("9.0.0"), "", nil},
		query{back("2.0.0"), "", nil}, // the newest there is
		query{back("v2.0"), "", nil},
		query{back("1.1.0"), "2.0.0", nil}, // an update, as usual
		query{back("1.0.0"), "1.1.0", nil}, // and step by step
		query{back("1.0.5"), "1.1.0", nil},
		query{back(""), "2.0.0", nil})
	deny := func(list ...string) func(*client.Config) { return func(c *client.Config) { c.DenyVersions = list } }
	s.answers(s.client(deny("2.0.0")), query{back("2.0.0"), "1.1.0", nil}, query{back("9.0.0"), "1.1.0", nil}, query{on("2.0.0"), "", nil}, query{back("1.1.0"), "", client.ErrDenied})
	s.answers(s.client(deny("2.0.0", "1.1", "1")), query{back("2.0.0"), "", client.ErrDenied})
	s.answers(s.client(func(c *client.Config) { c.AllowVersion = "1.0." }), query{back("2.0.0"), "1.0.0", nil})

	// A rollout, a deferral or a hold of the installed version causes no downgrade.
	s.lists(rel("1.0.0"), rel("2.0.0", halted))
	s.answers(s.client(), query{back("2.0.0"), "", nil}, query{back("3.0.0"), "1.0.0", nil})
	s.answers(s.client(func(c *client.Config) { c.DeferFor = time.Hour }), query{back("2.0.0"), "", nil})
	s.lists(rel("1.0.0"), rel("2.0.0"))
	s.repo.AddTarget("agent/file-1", "", rawtuf.Doc{"reason": "crashes", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
	renew(s.repo)
	s.answers(s.client(), query{back("2.0.0"), "", nil}, query{back("3.0.0"), "1.0.0", nil}, query{back("1.0.0"), "", tuf.ErrHeld})
	s.repo.Roles["hold"]["targets"] = rawtuf.Doc{}

	// A recall does, as does a party that no longer lists it.
	sum := rawtuf.At(s.repo.Roles["vendor-agent"], "targets", "agent/file-1", "hashes")["sha256"]
	s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{rawtuf.Doc{"path": "agent/file-1", "sha256": sum, "reason": "eats files", "at": rawtuf.Stamp(rawtuf.Now)}}
	renew(s.repo)
	s.answers(s.client(), query{back("2.0.0"), "1.0.0", nil}, query{on("2.0.0"), "", nil}, query{back("1.0.0"), "", tuf.ErrRecalled})
	delete(s.repo.Roles["review-agent"], "x-visum-recalled")
	delete(rawtuf.At(s.repo.Roles["review-agent"], "targets"), "agent/file-1")
	renew(s.repo)
	s.answers(s.client(), query{back("2.0.0"), "1.0.0", nil}, query{on("2.0.0"), "", nil})
}

// An attacker who blocks a role, or lets it expire, cannot force a downgrade.
func TestNoDowngradeWithoutAllRoles(t *testing.T) {
	s := newShop(t)
	s.lists(rel("1.0.0"))
	s.team("pump") // a role that may list newer ones
	renew(s.repo)
	q := client.Query{Installed: "2.0.0", AllowDowngrade: true}
	s.answers(s.client(), query{q, "1.0.0", nil})
	s.repo.Roles["pump"]["expires"] = rawtuf.Stamp(rawtuf.Now)
	renew(s.repo)
	s.answers(s.client(), query{q, "", tuf.ErrExpired}, query{client.Query{Installed: "0.9", AllowDowngrade: true}, "1.0.0", nil})
	s.repo.Roles["pump"]["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(0, 1, 0))
	renew(s.repo)
	s.answers(s.client(), query{q, "1.0.0", nil})
}

// A mistake in the query is distinguished from being up to date; no single party can
// turn one into the other.
func TestUnknownProduct(t *testing.T) {
	s := newShop(t)
	s.lists(rel("1.0.0", linux), rel("1.1.0", beta), rel("1.0.0", with("product", "other thing")))
	latest := func(product, channel, platform, installed string) error {
		t.Helper()
		got, err := s.good(s.client(), 1).Latest(t.Context(), client.Query{Product: product, Channel: channel, Platform: platform, Installed: installed})
		if err == nil || !got.Approved.IsZero() || errors.Is(err, client.ErrUnknownProduct) == errors.Is(err, client.ErrUpToDate) || rawtuf.BadText(err.Error()) != "" {
			t.Fatalf("%+v, %v", got, err)
		}
		return err
	}
	unknown := func(product, channel, platform, says string) {
		t.Helper()
		for _, installed := range []string{"", "0.1", "1.0.0", "99"} {
			if err := latest(product, channel, platform, installed); !errors.Is(err, client.ErrUnknownProduct) || !strings.HasSuffix(err.Error(), says) {
				t.Errorf("%s %s %s: %v", product, channel, platform, err)
			}
		}
	}
	unknown("tol", "stable", "linux/amd64", `: product tol; available: agent, "other thing", tool`)
	unknown("", "stable", "linux/amd64", `: product ""; available: agent, "other thing", tool`)
	unknown("tool\n", "stable", "linux/amd64", `: product "tool\n"; available: agent, "other thing", tool`)
	unknown("tool", "stabel", "linux/amd64", ": tool in channel stabel; available: beta, stable")
	unknown("tool", "stable", "plan9/arm", ": tool stable for platform plan9/arm; available: linux/amd64")
	unknown("tool", "stable", "any", ": tool stable for platform any; available: linux/amd64")
	// Known, and nothing newer.
	for _, installed := range []string{"1.0.0", "99"} {
		if err := latest("tool", "stable", "linux/amd64", installed); !errors.Is(err, client.ErrUpToDate) || errors.Is(err, tuf.ErrUntrusted) {
			t.Error(err)
		}
	}
	// A product that only one role lists is not up to date silently: the error names
	// the party that does not agree.
	s.repo.AddTarget("agent/claim", "x", rel("0.5", with("product", "tol")), "vendor-agent")
	renew(s.repo)
	for _, installed := range []string{"", "0.5", "99"} {
		if err := latest("tol", "stable", "linux/amd64", installed); !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tuf.ErrNotApproved) {
			t.Errorf("installed %s: %v", installed, err)
		}
	}
	unknown("tal", "stable", "linux/amd64", `available: agent, "other thing", tool`) // releases of one party are not named
	// A party that no longer lists a product does not make it unknown.
	delete(rawtuf.At(s.repo.Roles["review-agent"], "targets"), "agent/file-0")
	renew(s.repo)
	if err := latest("tool", "stable", "linux/amd64", "1.0.0"); !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tuf.ErrNotApproved) {
		t.Error(err)
	}
	delete(rawtuf.At(s.repo.Roles["vendor-agent"], "targets"), "agent/file-0")
	renew(s.repo)
	unknown("tool", "stable", "linux/amd64", ": tool in channel stable; available: beta")
	// A held product is known.
	s.repo.AddTarget("agent/file-1", "", rawtuf.Doc{"reason": "crashes", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
	renew(s.repo)
	if err := latest("tool", "beta", "linux/amd64", "1.1"); !errors.Is(err, client.ErrUpToDate) {
		t.Error(err)
	}
	// A role that cannot be read may list it.
	s.team("pump")
	s.repo.Roles["pump"]["expires"] = rawtuf.Stamp(rawtuf.Now)
	renew(s.repo)
	for _, product := range []string{"pump", "tal"} {
		if err := latest(product, "stable", "linux/amd64", "1.0.0"); !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tuf.ErrExpired) {
			t.Error(err)
		}
	}
}

// Of many names only a few are listed.
func TestUnknownProductNamesAFew(t *testing.T) {
	s := newShop(t)
	var list []rawtuf.Doc
	for i := range 300 {
		list = append(list, rel("1.0", with("product", fmt.Sprintf("%03d%s", i, strings.Repeat("é", 60)))))
	}
	s.lists(list...)
	_, err := s.good(s.client(), 1).Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any"})
	if !errors.Is(err, client.ErrUnknownProduct) || !strings.Contains(err.Error(), "; available: \"000") || !strings.HasSuffix(err.Error(), "and 293 more") || rawtuf.BadText(err.Error()) != "" {
		t.Error(err)
	}
}

// Machines that were cloned with their state share a seed, and get releases together;
// machines with seeds of their own each have their own number, which never changes.
func TestRolloutSeed(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.lists(rel("1.0.0"), rel("2.0.0", with("rollout", rawtuf.Doc{"percent": 50})))
	turn := func(seed string) bool {
		t.Helper()
		view := s.good(s.client(func(c *client.Config) { c.RolloutSeed = seed }), 1)
		_, err := view.Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: "1.0.0"})
		if err != nil && !errors.Is(err, client.ErrRollout) {
			t.Fatal(err)
		}
		return err == nil
	}
	clones, turns := 0, 0
	for i := range 40 { // all with one state directory
		if first, second := turn(""), turn(""); first == second {
			clones++
		}
		seed := fmt.Sprint("serial ", i)
		if first := turn(seed); first != turn(seed) {
			t.Errorf("%s was included once of twice", seed)
		} else if first {
			turns++
		}
	}
	if clones != 40 || turns < 8 || turns > 32 {
		t.Errorf("%d of 40 clones agree, %d of 40 machines are included", clones, turns)
	}
	// An offered release stays offered when the share grows.
	for _, percent := range []int{75, 100} {
		had := map[string]bool{}
		for i := range 20 {
			had[fmt.Sprint(i)] = turn(fmt.Sprint(i))
		}
		s.lists(rel("1.0.0"), rel("2.0.0", with("rollout", rawtuf.Doc{"percent": percent})))
		for seed, was := range had {
			if now := turn(seed); was && !now || percent == 100 && !now {
				t.Errorf("%s is excluded at %d percent", seed, percent)
			}
		}
	}
}

// More releases than are remembered are deferred, too.
func TestDeferOfMany(t *testing.T) {
	s := newShop(t)
	var list []rawtuf.Doc
	for i := range 260 {
		list = append(list, rel(fmt.Sprint(i+1)))
	}
	s.lists(list...)
	wait := s.client(func(c *client.Config) { c.DeferFor = time.Hour })
	s.answers(wait, query{on(""), "", client.ErrDeferred})
	s.now = s.now.Add(time.Hour)
	s.answers(wait, query{on(""), "260", nil})
}
