package client_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// shop is a web whose repository lists releases of a product called tool.
type shop struct{ *web }

func newShop(t *testing.T) shop { return shop{newWeb(t)} }

// list lists a release by both parties; edit changes its fields.
func (s shop) list(seq int, version string, edit ...func(rawtuf.Doc)) string {
	rel := rawtuf.Doc{"product": "tool", "version": version, "channel": "stable", "platform": "any", "sequence": seq}
	for _, fn := range edit {
		fn(rel)
	}
	path := "agent/tool-" + version
	s.repo.AddTarget(path, "tool "+version, rel, "vendor-agent", "review-agent")
	renew(s.repo)
	return path
}

func with(name string, value any) func(rawtuf.Doc) {
	return func(rel rawtuf.Doc) { rel[name] = value }
}

// offers requires the version ("" for none), and the error with the reason.
func (s shop) offers(c *client.Client, q client.Query, want string, reason error) client.Release {
	s.t.Helper()
	q.Product, q.Channel, q.Platform = "tool", "stable", "linux/amd64"
	rel, err := s.good(c, 1).Latest(s.t.Context(), q)
	if rel.Version != want || (want == "") != errors.Is(err, client.ErrUpToDate) {
		s.t.Fatalf("offered %q, want %q: %v", rel.Version, want, err)
	}
	if want == "" && reason != nil && !errors.Is(err, reason) {
		s.t.Fatalf("got %v, want %v", err, reason)
	}
	if want != "" && rel.Approved.IsZero() || want == "" && !rel.Approved.IsZero() {
		s.t.Fatalf("%+v", rel)
	}
	return rel
}

// A release that requires a newer version than the installed one is offered after the
// intermediate one.
func TestMinVersion(t *testing.T) {
	s := newShop(t)
	s.list(1, "1.0.0")
	s.list(2, "2.0.0")
	s.list(3, "2.1.0", with("min_version", "1.0.0"))
	s.list(4, "3.0.0", with("min_version", "2.0.0"))
	s.list(5, "4.0.0", with("min_version", "v3"))
	// Releases that the query does not match are not offered.
	s.list(9, "9.0.0", with("channel", "beta"))
	s.list(9, "9.1.0", with("product", "other"))
	s.list(9, "9.2.0", with("platform", "plan9/amd64"))
	c := s.client()
	q := func(version string) client.Query { return client.Query{Installed: version} }
	rel := s.offers(c, q("1.0.0"), "2.1.0", nil)
	if len(rel.Decisions) != 3 || rel.Decisions[0].Reason != "min-version" || rel.Decisions[1].Reason != "min-version" || !rel.Decisions[2].Accepted {
		t.Errorf("%+v", rel.Decisions)
	}
	s.offers(c, q("2.1.0"), "3.0.0", nil)
	s.offers(c, q("3.0.0"), "4.0.0", nil)
	s.offers(c, q("4.0.0"), "", nil)
	s.offers(c, q(""), "4.0.0", nil) // nothing is installed
	s.offers(c, q("v2.0.0-rc1"), "2.1.0", nil)
	s.offers(c, q("0.9"), "2.0.0", nil)
	s.offers(c, q("3.0.0-rc.1"), "3.0.0", nil)
	s.list(7, "5.0.0", with("min_version", "4.1"))
	s.offers(c, q("4.0.0"), "", client.ErrMinVersion)
}

func TestRollout(t *testing.T) {
	s := newShop(t)
	s.list(1, "1.0.0")
	s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 25}))
	got := 0
	for range 100 {
		inMemory := func(cfg *client.Config) { cfg.Dir, cfg.Store = "", client.MemStore() }
		c := s.client(inMemory)
		rel, err := s.good(c, 1).Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: "1.0.0"})
		if err == nil && rel.Version == "2.0.0" {
			got++
		} else if !errors.Is(err, client.ErrRollout) {
			t.Fatal(err)
		}
	}
	if got < 8 || got > 45 {
		t.Errorf("%d of 100 machines are included at 25 %%", got)
	}
	c := s.client()
	first, firstErr := s.good(c, 1).Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: "1.0.0"})
	for range 5 { // the seed is drawn once
		again, err := s.good(s.client(), 1).Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: "1.0.0"})
		if again.Version != first.Version || (err == nil) != (firstErr == nil) {
			t.Fatalf("%v, then %v", firstErr, err)
		}
	}
	s.offers(c, client.Query{Installed: "1.0.0", Manual: true}, "2.0.0", nil)
	s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 100}))
	s.offers(c, client.Query{Installed: "1.0.0"}, "2.0.0", nil)
	s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 0}))
	s.offers(c, client.Query{Installed: "1.0.0"}, "", client.ErrRollout)
	s.offers(c, client.Query{Installed: ""}, "1.0.0", nil)
	// A halted rollout is halted for manual updates and for critical releases, too.
	s.offers(c, client.Query{Installed: "1.0.0", Manual: true}, "", client.ErrRollout)
	s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 0}), with("critical", true))
	s.offers(c, client.Query{Installed: "1.0.0", Manual: true}, "", client.ErrRollout)
	s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 1}), with("critical", true))
	s.offers(c, client.Query{Installed: "1.0.0"}, "2.0.0", nil)
	for _, bad := range []any{101, 150, -1, "50", rawtuf.Doc{}} {
		s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": bad}))
		s.offers(c, client.Query{Installed: "1.0.0", Manual: true}, "", tuf.ErrRelease) // the meaning is undefined
	}
}

// The administrator's rules apply to critical releases and to manual updates, too.
func TestAdministrator(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.list(1, "1.0.0")
	s.list(2, "1.1.0")
	s.list(3, "2.0.0", with("critical", true))
	for _, tt := range []struct {
		name   string
		cfg    func(*client.Config)
		want   string
		reason error
	}{
		{"nothing", func(*client.Config) {}, "2.0.0", nil},
		{"deny", func(c *client.Config) { c.DenyVersions = []string{"2.0.0"} }, "1.1.0", nil},
		{"deny all", func(c *client.Config) { c.DenyVersions = []string{"2.0.0", "1.1.0"} }, "", client.ErrDenied},
		{"only one", func(c *client.Config) { c.AllowVersion = "1.1.0" }, "1.1.0", nil},
		{"only a line", func(c *client.Config) { c.AllowVersion = "1." }, "1.1.0", nil},
		{"only, none of them", func(c *client.Config) { c.AllowVersion = "1" }, "", client.ErrDenied},
		{"deny, other spelling", func(c *client.Config) { c.DenyVersions = []string{"v2+x"} }, "1.1.0", nil},
		{"deny another", func(c *client.Config) { c.DenyVersions = []string{"2.0.0-rc.1"} }, "2.0.0", nil},
		{"only one, other spelling", func(c *client.Config) { c.AllowVersion = "v1.1" }, "1.1.0", nil},
		{"only a prefix, other spelling", func(c *client.Config) { c.AllowVersion = "v01." }, "1.1.0", nil},
		{"only a longer prefix", func(c *client.Config) { c.AllowVersion = "1.1.0.0." }, "1.1.0", nil},
		{"only a prefix that ends with 0", func(c *client.Config) { c.AllowVersion = "1.0." }, "", client.ErrDenied},
		{"only a partial number", func(c *client.Config) { c.AllowVersion = "20." }, "", client.ErrDenied},
		{"only a prefix, but one of it", func(c *client.Config) { c.AllowVersion, c.DenyVersions = "2.", []string{"2"} }, "", client.ErrDenied},
		{"defer", func(c *client.Config) { c.DeferFor = time.Hour }, "", client.ErrDeferred},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.web.t, s.dir = t, t.TempDir()
			s.offers(s.client(tt.cfg), client.Query{Installed: "1.0.0", Manual: true}, tt.want, tt.reason)
		})
	}
}

// Each release is deferred from when this machine first saw it approved; setting the
// clock back does not shorten that, nor extend it forever.
func TestDefer(t *testing.T) {
	s := newShop(t)
	wait := func(c *client.Config) { c.DeferFor = 24 * time.Hour }
	s.list(1, "1.0.0")
	s.offers(s.client(wait), client.Query{}, "", client.ErrDeferred)
	s.now = s.now.Add(23 * time.Hour)
	s.list(2, "2.0.0")
	s.offers(s.client(wait), client.Query{}, "", client.ErrDeferred)
	s.now = s.now.Add(time.Hour)
	s.offers(s.client(wait), client.Query{}, "1.0.0", nil)
	s.now = s.now.Add(23 * time.Hour)
	s.offers(s.client(wait), client.Query{Installed: "1.0.0"}, "2.0.0", nil)
	s.list(3, "3.0.0")
	now := s.now
	s.now = now.Add(5 * 24 * time.Hour) // a clock far ahead
	s.offers(s.client(wait), client.Query{Installed: "2.0.0"}, "", client.ErrDeferred)
	s.now = now
	s.offers(s.client(wait), client.Query{Installed: "2.0.0"}, "", client.ErrDeferred)
	s.now = now.Add(24 * time.Hour)
	s.offers(s.client(wait), client.Query{Installed: "2.0.0"}, "3.0.0", nil)
}

// The status of installed bytes: approved, held, recalled by one party, replaced,
// removed.
func TestStatus(t *testing.T) {
	s := newShop(t)
	path := s.list(1, "1.0.0")
	c := s.client()
	a, err := s.good(c, 1).Find(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	status := func(accepted bool, want string, contains string) {
		t.Helper()
		d, err := s.good(c, 1).CheckInstalled(t.Context(), path, a.SHA256())
		if err != nil || d.Accepted != accepted || d.Reason != want || !strings.Contains(d.String(), contains) {
			t.Fatalf("%v, %+v", err, d)
		}
	}
	status(true, "approved", "tool 1.0.0 is accepted: "+path+", 10 bytes")
	s.repo.AddTarget(path, "", rawtuf.Doc{"reason": "crashes", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
	renew(s.repo)
	status(false, "held", "is refused: client: tuf: "+path+": held by review: until")
	s.repo.Roles["hold"]["targets"] = rawtuf.Doc{}
	s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{rawtuf.Doc{"path": path, "sha256": a.SHA256(), "reason": "eats files", "at": rawtuf.Stamp(rawtuf.Now)}}
	renew(s.repo)
	status(false, "recalled", `recalled by review at 2030-01-15T12:00:00Z: "eats files"`)
	s.offers(c, client.Query{}, "", tuf.ErrRecalled) // although both still list it
	// The same bytes under another path are refused too, by every call.
	alias := "agent/tool-latest"
	s.repo.AddTarget(alias, "tool 1.0.0", nil, "vendor-agent", "review-agent")
	renew(s.repo)
	view := s.good(c, 1)
	if d := view.Decide(t.Context(), alias); d.Accepted || d.Reason != "recalled" || !strings.Contains(d.String(), "as "+path) {
		t.Errorf("%+v", d)
	}
	for _, sum := range []string{a.SHA256(), strings.ToUpper(a.SHA256())} {
		if d, err := view.CheckInstalled(t.Context(), alias, sum); err != nil || d.Reason != "recalled" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	delete(rawtuf.At(s.repo.Roles["review-agent"], "targets"), alias)
	delete(rawtuf.At(s.repo.Roles["vendor-agent"], "targets"), alias)
	// Other bytes of this name are not the installed ones.
	rawtuf.At(s.repo.Roles["review-agent"], "x-visum-recalled", 0)["sha256"] = strings.Repeat("ab", 32)
	renew(s.repo)
	status(true, "approved", "")
	s.offers(c, client.Query{}, "1.0.0", nil)
	delete(s.repo.Roles["review-agent"], "x-visum-recalled")
	s.repo.AddTarget(path, "other bytes", nil, "vendor-agent", "review-agent")
	renew(s.repo)
	status(false, "not-listed", "other bytes are listed by now")
	delete(rawtuf.At(s.repo.Roles["review-agent"], "targets"), path)
	renew(s.repo)
	status(false, "not-approved", "listed by vendor")
	s.list(1, "1.0.0")
	status(true, "approved", "")
}

// A decision is a record: approvals, target, versions, time, and one sentence.
func TestDecisionAsJSON(t *testing.T) {
	s := newShop(t)
	path := s.list(1, "1.0.0")
	view := s.good(s.client(), 1)
	d := view.Decide(t.Context(), path)
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"accepted":true`, `"reason":"approved"`, `"path":"agent/tool-1.0.0"`, `"version":"1.0.0"`, `"length":10`, `"root":1`,
		`"timestamp":6`, `"at":"2030-01-15T12:00:00Z"`, `"party":"vendor","role":"vendor-agent","version":6`} {
		if !strings.Contains(string(data), part) {
			t.Errorf("lacks %s: %s", part, data)
		}
	}
	for path, want := range map[string]string{"agent/none": "not-listed", "elsewhere": "not-approved"} {
		if d := view.Decide(t.Context(), path); d.Accepted || d.Reason != want || !strings.HasPrefix(d.Sentence, path+" is refused: ") || strings.Contains(d.Sentence, "\n") {
			t.Errorf("%+v", d)
		}
	}
}
