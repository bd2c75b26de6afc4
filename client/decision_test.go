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
	"github.com/visum-dev/visum/internal/tuftest"
)

// Each error of Refresh, with a View that reports it and answers nothing; and the
// client recovers from each when the repository works again.
func TestStates(t *testing.T) {
	t.Parallel()
	for state, tt := range map[client.State]struct {
		err   error
		world func(w *web)
		heal  func(w *web)
	}{
		client.StateOK:        {nil, func(*web) {}, func(*web) {}},
		client.StateDark:      {client.ErrDark, func(w *web) { w.does(unreachable, vendorHost, cdnHost, reviewHost) }, nil},
		client.StateNoContent: {client.ErrNoContent, func(w *web) { w.does(status(500, "timestamp.json", nil), vendorHost, cdnHost) }, nil},
		client.StateStale:     {client.ErrStale, func(w *web) { w.now = w.now.AddDate(1, 0, 0) }, func(w *web) { w.now = tuftest.Now }},
		client.StateBehind: {client.ErrBehind, func(w *web) {
			must(w.t, os.RemoveAll(w.state("roots")))
			w.does(status(404, "2.root.json", nil), vendorHost, cdnHost, reviewHost)
		}, nil},
		client.StatePartial: {client.ErrPartial, func(w *web) {
			w.shows(hundreds(), vendorHost, cdnHost, reviewHost)
			must(w.t, os.RemoveAll(w.dir))
		}, func(w *web) { w.repo = hundreds() }},
	} {
		t.Run(string(state), func(t *testing.T) {
			w := newWeb(t)
			w.repo.NextRoot(nothing)
			w.good(w.client(), 2)
			tt.world(w)
			view, err := w.client().Refresh(t.Context())
			if view == nil || view.State() != state || !errors.Is(err, tt.err) || view.Err() != err {
				t.Fatalf("%v, %v", view, err)
			}
			for _, other := range []error{client.ErrDark, client.ErrNoContent, client.ErrStale, client.ErrBehind, client.ErrPartial} {
				if other != tt.err && errors.Is(err, other) {
					t.Errorf("is %v too", other)
				}
			}
			d := view.Decide(t.Context(), tuftest.Path)
			if ok := tt.err == nil; ok != (view.Timestamp() > 0) || ok != (view.Place() != "") || ok != d.Accepted || !errors.Is(d.Err, tt.err) || view.RootVersion() < 1 || view.Root().Version() != view.RootVersion() {
				t.Errorf("timestamp v%d from %q, %v", view.Timestamp(), view.Place(), d)
			}
			if _, err := view.Status(t.Context(), tuftest.Path, ""); !errors.Is(err, tt.err) {
				t.Errorf("Status: %v", err)
			}
			w.does(nil, vendorHost, cdnHost, reviewHost)
			w.shows(nil, vendorHost, cdnHost, reviewHost)
			root := int64(2)
			if tt.heal != nil {
				tt.heal(w)
			}
			if state == client.StatePartial {
				root = 300
			}
			if view := w.good(w.client(), root); view.State() != client.StateOK {
				t.Errorf("then %s", view.State())
			}
		})
	}
}

// reasons are those that the package declares.
func reasons(t *testing.T) (out []client.Reason) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "decision.go", nil, 0)
	must(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && fmt.Sprint(v.Type) == "Reason" {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			must(t, err)
			out = append(out, client.Reason(s))
		}
		return true
	})
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
		view, _ := s.client().Refresh(s.t.Context())
		return view.Decide(s.t.Context(), path)
	}
	plain := func(*client.Config) {}
	cases := map[client.Reason]struct {
		decide func(s shop) client.Decision
		says   string
	}{
		client.ReasonApproved: {func(s shop) client.Decision { s.list(2, "2.0.0"); return latest(s, plain) }, "tool 2.0.0 is accepted: agent/tool-2.0.0, 10 bytes"},
		client.ReasonNotApproved: {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			delete(tuftest.At(s.repo.Roles["review-agent"], "targets"), "agent/tool-2.0.0")
			renew(s.repo)
			return latest(s, plain)
		}, "tool 2.0.0 is refused: tuf: agent/tool-2.0.0: not approved: listed by vendor (vendor-agent v7), but not by review (review-agent v7)"},
		client.ReasonMalformed: {func(s shop) client.Decision {
			s.list(2, "2.0.0", with("rollout", tuftest.Doc{"percent": 150}))
			return latest(s, plain)
		}, "tool 2.0.0 is refused: tuf: agent/tool-2.0.0: malformed release fields: rollout of 150 percent is not between 0 and 100"},
		client.ReasonPlatform: {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			s.repo.AddTarget("agent/own", "x", tuftest.Doc{"product": "tool", "version": "2", "channel": "stable", "platform": "linux/amd64", "rollout": tuftest.Doc{"percent": 0}}, "vendor-agent", "review-agent")
			renew(s.repo)
			rel, err := s.good(s.client(), 1).Latest(s.t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "linux/amd64", Installed: "1.0.0"})
			if len(rel.Decisions) != 2 || rel.Decisions[0].Reason != client.ReasonRollout || !errors.Is(err, client.ErrPlatform) {
				s.t.Fatalf("%+v, %v", rel.Decisions, err)
			}
			return rel.Decisions[1]
		}, "the version has a release for this platform: tool 2.0.0 for any is not offered in place of the one for linux/amd64"},
		client.ReasonNotListed: {func(s shop) client.Decision { return decide(s, "agent/none") }, "agent/none is refused: "},
		client.ReasonHeld: {func(s shop) client.Decision {
			s.repo.AddTarget(s.list(2, "2.0.0"), "", tuftest.Doc{"reason": "crashes", "until": tuftest.Stamp(tuftest.Now.Add(time.Hour))}, "hold")
			renew(s.repo)
			return latest(s, plain)
		}, "held by review: until 2030-01-15T13:00:00Z"},
		client.ReasonRecalled: {func(s shop) client.Decision {
			path := s.list(2, "2.0.0")
			sum := tuftest.At(s.repo.Roles["vendor-agent"], "targets", path, "hashes")["sha256"]
			s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{tuftest.Doc{"path": path, "sha256": sum, "reason": "eats files", "at": tuftest.Stamp(tuftest.Now)}}
			renew(s.repo)
			return latest(s, plain)
		}, `agent/tool-2.0.0: recalled: by review at 2030-01-15T12:00:00Z: "eats files"`},
		client.ReasonRollout: {func(s shop) client.Decision {
			s.list(2, "2.0.0", with("rollout", tuftest.Doc{"percent": 0}))
			return latest(s, plain)
		}, "not yet rolled out to this machine: tool 2.0.0: the rollout is halted"},
		client.ReasonMinVersion: {func(s shop) client.Decision {
			s.list(1, "1.0.0")
			s.list(2, "2.0.0", with("min_version", "1.5.0"))
			return latest(s, plain)
		}, "an intermediate release is required first: tool 2.0.0 requires 1.5.0 or newer, installed is 1.0.0"},
		client.ReasonDeferred: {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			return latest(s, func(c *client.Config) { c.Defer = time.Hour })
		}, "deferred by the administrator: tool 2.0.0 until 2030-01-15T13:00:00Z"},
		client.ReasonDenied: {func(s shop) client.Decision {
			s.list(2, "2.0.0")
			return latest(s, func(c *client.Config) { c.Deny = []string{"2.0.0"} })
		}, "not allowed by the administrator: tool 2.0.0 is denied"},
		client.ReasonExpired: {func(s shop) client.Decision {
			s.now = s.now.AddDate(1, 0, 0)
			return decide(s, tuftest.Path)
		}, tuftest.Path + " is refused: client: trusted root is expired or unconfirmed and no newer root is available"},
		client.ReasonUntrusted: {func(s shop) client.Decision {
			s.does(body("timestamp.json", []byte("{}")), vendorHost, cdnHost)
			return decide(s, tuftest.Path)
		}, tuftest.Path + " is refused: client: no location delivers valid content; main: "},
		client.ReasonUnavailable: {func(s shop) client.Decision {
			s.does(unreachable, vendorHost, cdnHost, reviewHost)
			return decide(s, tuftest.Path)
		}, tuftest.Path + " is refused: client: no repository location is reachable; "},
	}
	all := reasons(t)
	if len(all) != len(cases) {
		t.Errorf("the package has the reasons %q", all)
	}
	for _, reason := range all {
		t.Run(string(reason), func(t *testing.T) {
			c, ok := cases[reason]
			if !ok {
				t.Fatal("no case")
			}
			s := newShop(t)
			d := c.decide(s)
			if d.Reason != reason || d.Accepted != (reason == client.ReasonApproved) || d.Accepted != (d.Err == nil) {
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
