package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
)

// Each error of Refresh, with a View that reports it and answers nothing; and the
// client recovers from each when the repository works again.
func TestErrorsOfAView(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err   error
		world func(w *web)
		heal  func(w *web)
	}{
		"none":        {nil, func(*web) {}, func(*web) {}},
		"unreachable": {client.ErrUnreachable, func(w *web) { w.does(unreachable, vendorHost, cdnHost, reviewHost) }, nil},
		"no content":  {client.ErrNoContent, func(w *web) { w.does(status(500, "timestamp.json", nil), vendorHost, cdnHost) }, nil},
		"stale":       {client.ErrStale, func(w *web) { w.now = w.now.AddDate(1, 0, 0) }, func(w *web) { w.now = rawtuf.Now }},
		"root rollback": {client.ErrRootRollback, func(w *web) {
			must(w.t, os.RemoveAll(w.state("roots")))
			w.does(status(404, "2.root.json", nil), vendorHost, cdnHost, reviewHost)
		}, nil},
		"more roots": {client.ErrMoreRoots, func(w *web) {
			w.shows(hundreds(), vendorHost, cdnHost, reviewHost)
			must(w.t, os.RemoveAll(w.dir))
		}, func(w *web) { w.repo = hundreds() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWeb(t)
			w.repo.NextRoot(nothing)
			w.good(w.client(), 2)
			tt.world(w)
			view, err := w.client().Refresh(t.Context())
			failed, _ := errors.AsType[*client.RefreshError](err)
			if !errors.Is(err, tt.err) || (view == nil) != (failed != nil) || failed != nil && failed.Root.Version() < 1 {
				t.Fatalf("%v, %v", view, err)
			}
			for _, other := range []error{client.ErrUnreachable, client.ErrNoContent, client.ErrStale, client.ErrRootRollback, client.ErrMoreRoots} {
				if other != tt.err && errors.Is(err, other) {
					t.Errorf("is %v too", other)
				}
			}
			if tt.err == nil {
				d := view.Decide(t.Context(), rawtuf.Path)
				if view.TimestampVersion() < 1 || view.Location() == "" || !d.Accepted || d.Err != nil || view.Root().Version() < 1 {
					t.Errorf("timestamp v%d from %q, %v", view.TimestampVersion(), view.Location(), d)
				}
				if _, err := view.CheckInstalled(t.Context(), rawtuf.Path, ""); err != nil {
					t.Errorf("CheckInstalled: %v", err)
				}
			}
			w.does(nil, vendorHost, cdnHost, reviewHost)
			w.shows(nil, vendorHost, cdnHost, reviewHost)
			root := int64(2)
			if tt.heal != nil {
				tt.heal(w)
			}
			if tt.err == client.ErrMoreRoots {
				root = 300
			}
			w.good(w.client(), root)
		})
	}
}

// reasons are those that the package gives; the comment of Decision lists each.
func reasons(t *testing.T) (out []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "decision.go", nil, parser.ParseComments)
	must(t, err)
	listed := ""
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			listed += d.Doc.Text()
		case *ast.FuncDecl:
			if d.Name.Name != "reason" {
				continue
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok {
					s, err := strconv.Unquote(lit.Value)
					must(t, err)
					out = append(out, s)
				}
				return true
			})
		}
	}
	for _, reason := range out {
		if !strings.Contains(listed, reason) {
			t.Errorf("the comment of Decision does not list %q", reason)
		}
	}
	return out
}

var sentence = regexp.MustCompile(`^[^\n]+ is (accepted|refused): [^\n]+[^\n.]$`)

// There is a case for every reason, with its code and its sentence.
func TestEveryReason(t *testing.T) {
	q := client.Query{Product: "tool", Channel: "stable", Platform: "any", Installed: "1.0.0"}
	latest := func(s shop, cfg func(*client.Config)) client.Decision {
		s.t.Helper()
		rel, _ := s.good(s.client(cfg), 1).Latest(s.t.Context(), q)
		if len(rel.Decisions) != 1 {
			s.t.Fatalf("%+v", rel.Decisions)
		}
		return rel.Decisions[0]
	}
	decide := func(s shop, path string) client.Decision {
		view, err := s.client().Refresh(s.t.Context())
		if failed, ok := errors.AsType[*client.RefreshError](err); ok {
			return failed.Decide(path)
		}
		must(s.t, err)
		return view.Decide(s.t.Context(), path)
	}
	plain := func(*client.Config) {}
	cases := map[string]struct {
		decide func(s shop) client.Decision
		says   string
	}{
		"approved": {func(s shop) client.Decision { s.list(2, "2.0.0"); return latest(s, plain) }, "tool 2.0.0 is accepted: agent/tool-2.0.0, 10 bytes"},
		"not-approved": {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			delete(rawtuf.At(s.repo.Roles["review-agent"], "targets"), "agent/tool-2.0.0")
			renew(s.repo)
			return latest(s, plain)
		}, "tool 2.0.0 is refused: tuf: agent/tool-2.0.0: not approved: listed by vendor (vendor-agent v7), but not by review (review-agent v7)"},
		"not-logged": {func(s shop) client.Decision {
			s.repo.NextRoot(func() { s.repo.Charter()["log"] = logRule("enforce", logName) })
			return decide(s, rawtuf.Path)
		}, rawtuf.Path + " is refused: client: no location delivers valid content; not in the public log: 2.5.tlog-proof: no location has a valid one; "},
		"malformed": {func(s shop) client.Decision {
			s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 150}))
			return latest(s, plain)
		}, "tool 2.0.0 is refused: tuf: agent/tool-2.0.0: malformed release fields: rollout of 150 percent is not between 0 and 100"},
		"platform": {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			s.repo.AddTarget("agent/own", "x", rawtuf.Doc{"product": "tool", "version": "2", "channel": "stable", "platform": "linux/amd64", "rollout": rawtuf.Doc{"percent": 0}}, "vendor-agent", "review-agent")
			renew(s.repo)
			rel, err := s.good(s.client(), 1).Latest(s.t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "linux/amd64", Installed: "1.0.0"})
			if len(rel.Decisions) != 2 || rel.Decisions[0].Reason != "rollout" || !errors.Is(err, client.ErrPlatform) {
				s.t.Fatalf("%+v, %v", rel.Decisions, err)
			}
			return rel.Decisions[1]
		}, "the version has a release for this platform: tool 2.0.0 for any is not offered in place of the one for linux/amd64"},
		"not-listed": {func(s shop) client.Decision { return decide(s, "agent/none") }, "agent/none is refused: "},
		"held": {func(s shop) client.Decision {
			s.repo.AddTarget(s.list(2, "2.0.0"), "", rawtuf.Doc{"reason": "crashes", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
			renew(s.repo)
			return latest(s, plain)
		}, "held by review: until 2030-01-15T13:00:00Z"},
		"recalled": {func(s shop) client.Decision {
			path := s.list(2, "2.0.0")
			sum := rawtuf.At(s.repo.Roles["vendor-agent"], "targets", path, "hashes")["sha256"]
			s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{rawtuf.Doc{"path": path, "sha256": sum, "reason": "eats files", "at": rawtuf.Stamp(rawtuf.Now)}}
			renew(s.repo)
			return latest(s, plain)
		}, `agent/tool-2.0.0: recalled: by review at 2030-01-15T12:00:00Z: "eats files"`},
		"rollout": {func(s shop) client.Decision {
			s.list(2, "2.0.0", with("rollout", rawtuf.Doc{"percent": 0}))
			return latest(s, plain)
		}, "not yet rolled out to this machine: tool 2.0.0: the rollout is halted"},
		"min-version": {func(s shop) client.Decision {
			s.list(1, "1.0.0")
			s.list(2, "2.0.0", with("min_version", "1.5.0"))
			return latest(s, plain)
		}, "an intermediate release is required first: tool 2.0.0 requires 1.5.0 or newer, installed is 1.0.0"},
		"deferred": {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			return latest(s, func(c *client.Config) { c.DeferFor = time.Hour })
		}, "deferred by the administrator: tool 2.0.0 until 2030-01-15T13:00:00Z"},
		"denied": {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			return latest(s, func(c *client.Config) { c.DenyVersions = []string{"2.0.0"} })
		}, "not allowed by the administrator: tool 2.0.0 is denied"},
		"expired": {func(s shop) client.Decision {
			s.now = s.now.AddDate(1, 0, 0)
			return decide(s, rawtuf.Path)
		}, rawtuf.Path + " is refused: client: trusted root is expired or unconfirmed and no newer root is available"},
		"untrusted": {func(s shop) client.Decision {
			s.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost)
			return decide(s, rawtuf.Path)
		}, rawtuf.Path + " is refused: client: no location delivers valid content; main: "},
		"unavailable": {func(s shop) client.Decision {
			s.does(unreachable, vendorHost, cdnHost, reviewHost)
			return decide(s, rawtuf.Path)
		}, rawtuf.Path + " is refused: client: no repository location is reachable; "},
	}
	all := reasons(t)
	if len(all) != len(cases) {
		t.Errorf("the package has the reasons %q", all)
	}
	for _, reason := range all {
		t.Run(reason, func(t *testing.T) {
			c, ok := cases[reason]
			if !ok {
				t.Fatal("no case")
			}
			s := newShop(t)
			d := c.decide(s)
			if d.Reason != reason || d.Accepted != (reason == "approved") || d.Accepted != (d.Err == nil) {
				t.Errorf("%+v", d)
			}
			if d.String() != d.Sentence || !sentence.MatchString(d.Sentence) || !strings.Contains(d.Sentence, c.says) {
				t.Errorf("sentence is %q", d.Sentence)
			}
			// The JSON record contains the same.
			var back client.Decision
			data, err := json.Marshal(d)
			must(t, err)
			must(t, json.Unmarshal(data, &back))
			if back.Reason != d.Reason || back.Accepted != d.Accepted || back.Sentence != d.Sentence || back.Path != d.Path || !back.At.Equal(d.At) || back.SHA256 != d.SHA256 || fmt.Sprint(back.By) != fmt.Sprint(d.By) {
				t.Errorf("%+v\n%s", back, data)
			}
		})
	}
}
