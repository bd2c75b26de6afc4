package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/visum-dev/visum/client"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func fields(product, version string, seq int) rawtuf.Doc {
	return rawtuf.Doc{"product": product, "version": version, "channel": "stable", "platform": "any", "sequence": seq}
}

// evil adds a role delegated by the vendor, with its own key, that lists a release
// under a path.
func (s shop) evil(path, content string, rel rawtuf.Doc) {
	if s.repo.Roles["evil"] == nil {
		s.repo.Roles["evil"], s.repo.Signers["evil"] = rawtuf.Targets(), []string{"attacker"}
		s.repo.Delegate("vendor-agent", "evil", rawtuf.Doc{"paths": []any{"agent/*"}}, "attacker")
	}
	s.repo.AddTarget(path, content, rel, "evil")
	renew(s.repo)
}

// An attacker with the vendor's keys, or with a key that the vendor delegates to, lists
// approved targets with other release fields: no older version, and no other product,
// channel or platform, is offered because of that.
func TestFieldsOfOneRoleOfferNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		approved rawtuf.Doc
		claim    rawtuf.Doc
	}{
		"an older release":      {fields("tool", "1.0.0", 1), fields("tool", "999", 999)},
		"the installed release": {fields("tool", "v5", 5), fields("tool", "999", 999)},
		"another product":       {fields("debug", "9.0.0", 9), fields("tool", "6.0.0", 6)},
		"another channel":       {rawtuf.Doc{"product": "tool", "version": "9", "channel": "nightly", "platform": "any", "sequence": 9}, fields("tool", "6.0.0", 6)},
		"another platform":      {rawtuf.Doc{"product": "tool", "version": "9", "channel": "stable", "platform": "plan9/arm", "sequence": 9}, fields("tool", "6.0.0", 6)},
		"a plain file":          {nil, fields("tool", "6.0.0", 6)},
		"a later min_version": {rawtuf.Doc{"product": "tool", "version": "9", "channel": "stable", "platform": "any", "sequence": 9, "min_version": "8"},
			fields("tool", "6.0.0", 6)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			s.list(5, "5.0.0")
			s.repo.AddTarget("agent/other", "other", tt.approved, "vendor-agent", "review-agent")
			s.evil("agent/other", "other", tt.claim)
			rel := s.offers(s.client(), client.Query{Installed: "5.0.0"}, "", nil)
			for _, d := range rel.Decisions {
				if d.Accepted || d.Release != nil && d.Release.Version == tt.claim["version"] && d.Reason == "approved" {
					t.Errorf("%+v", d)
				}
			}
			// A release that both parties list is still found.
			s.list(7, "7.0.0")
			s.offers(s.client(), client.Query{Installed: "5.0.0"}, "7.0.0", nil)
		})
	}
}

// team adds a product's role delegated by the vendor, with one release that the review
// centre lists too.
func (s shop) team(name string) {
	s.repo.Roles[name], s.repo.Signers[name] = rawtuf.Targets(), []string{name}
	s.repo.Delegate("vendor-agent", name, rawtuf.Doc{"paths": []any{"agent/" + name + "-*"}}, name)
	s.repo.AddTarget("agent/"+name+"-1", name, fields(name, "1.0.0", 1), name, "review-agent")
}

// If one team's role fails, that team's product stops and is reported; the others
// continue.
func TestOneTeamDoesNotStopTheOthers(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil  func(s shop)
		reason string
		err    error
	}{
		"expired":           {func(s shop) { s.repo.Roles["pump"]["expires"] = rawtuf.Stamp(rawtuf.Now) }, "expired", tuf.ErrExpired},
		"malformed":         {func(s shop) { s.repo.Roles["pump"]["targets"] = 1 }, "untrusted", tuf.ErrMalformed},
		"a malformed entry": {func(s shop) { rawtuf.At(s.repo.Roles["pump"], "targets", "agent/pump-1")["length"] = "x" }, "untrusted", tuf.ErrMalformed},
		"forged":            {func(s shop) { s.repo.Signers["pump"] = []string{"attacker"} }, "untrusted", tuf.ErrThreshold},
		"too many below it": {func(s shop) {
			for i := range 70 {
				name := fmt.Sprintf("pump-%d", i)
				s.repo.Roles[name], s.repo.Signers[name] = rawtuf.Targets(), []string{"pump"}
				s.repo.Delegate("pump", name, rawtuf.Doc{"paths": []any{"agent/pump-*"}}, "pump")
			}
		}, "untrusted", tuf.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t)
			for _, team := range []string{"meter", "pump", "valve"} {
				s.team(team)
			}
			tt.spoil(s)
			renew(s.repo)
			view := s.good(s.client(), 1)
			for _, product := range []string{"meter", "pump", "valve"} {
				rel, err := view.Latest(t.Context(), client.Query{Product: product, Channel: "stable", Platform: "any"})
				i := slices.IndexFunc(rel.Decisions, func(d client.Decision) bool { return d.Role == "pump" })
				if i < 0 || rel.Decisions[i].Reason != tt.reason || rel.Decisions[i].Accepted || !errors.Is(rel.Decisions[i].Err, tt.err) || rel.Decisions[i].Sentence == "" {
					t.Errorf("%s: nothing reports the role: %+v", product, rel.Decisions)
				}
				if product != "pump" || tt.err == tuf.ErrTooLarge {
					if err != nil || rel.Version != "1.0.0" {
						t.Errorf("%s: %v", product, err)
					}
					continue
				}
				if !errors.Is(err, client.ErrUpToDate) || !errors.Is(err, tt.err) || !rel.Approved.IsZero() {
					t.Errorf("%s: %v", product, err)
				}
			}
		})
	}
}

// A role that one location lacks is fetched from the next one; if none has it, only the
// releases that it lists are affected.
func TestTeamRoleIsFetchedElsewhere(t *testing.T) {
	s := newShop(t)
	for _, team := range []string{"meter", "pump"} {
		s.team(team)
	}
	renew(s.repo)
	q := func(product string) client.Query {
		return client.Query{Product: product, Channel: "stable", Platform: "any"}
	}
	for name, a := range map[string]answer{"absent": status(404, "5.pump.json", nil), "junk": body("5.pump.json", []byte("{}")), "broken": status(500, "5.pump.json", nil)} {
		s.dir = quickDir(t)
		s.does(a, vendorHost)
		view := s.good(s.client(), 1)
		if rel, err := view.Latest(t.Context(), q("pump")); err != nil || len(rel.Decisions) != 1 {
			t.Errorf("%s: %+v, %v", name, rel.Decisions, err)
		}
		s.dir = quickDir(t)
		s.does(a, vendorHost, cdnHost)
		view = s.good(s.client(), 1)
		if rel, err := view.Latest(t.Context(), q("meter")); err != nil || rel.Decisions[len(rel.Decisions)-1].Role != "pump" {
			t.Errorf("%s: %+v, %v", name, rel.Decisions, err)
		}
		if _, err := view.Latest(t.Context(), q("pump")); !errors.Is(err, client.ErrUpToDate) || name == "junk" && !errors.Is(err, tuf.ErrUntrusted) {
			t.Errorf("%s: %v", name, err)
		}
		s.does(nil, vendorHost, cdnHost)
	}
}

// A recall counts even if another party's role cannot be read; other targets cannot be
// decided then.
func TestRecallWithUnreadableRole(t *testing.T) {
	s := newShop(t)
	path := s.list(1, "1.0.0")
	sum := rawtuf.FileOf([]byte("tool 1.0.0"))["hashes"].(rawtuf.Doc)["sha256"].(string)
	s.repo.Roles["review-agent"]["x-visum-recalled"] = []any{rawtuf.Doc{"path": path, "sha256": sum, "reason": "eats files", "at": rawtuf.Stamp(rawtuf.Now)}}
	renew(s.repo)
	s.good(s.client(), 1)
	s.lose("vendor-agent")
	view, err := s.client().Refresh(t.Context())
	must(t, err)
	d, err := view.CheckInstalled(t.Context(), path, sum)
	if err != nil || d.Reason != "recalled" {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := view.CheckInstalled(t.Context(), path, strings.Repeat("0", 64)); err == nil {
		t.Errorf("decided without the vendor's role: %+v", d)
	}
	rel, err := view.Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any"})
	if err == nil || errors.Is(err, client.ErrUpToDate) {
		t.Errorf("%+v, %v", rel, err)
	}
	s.does(nil, vendorHost, cdnHost)
	if d, err := s.good(s.client(), 1).CheckInstalled(t.Context(), path, sum); err != nil || d.Reason != "recalled" {
		t.Errorf("%+v, %v", d, err)
	}
}

// lose removes a role's file from the state and from every location.
func (s shop) lose(role string) {
	s.t.Helper()
	names, err := client.DirStore(s.state()).List("roles")
	must(s.t, err)
	for name := range names {
		if strings.HasSuffix(name, "."+role+".json") {
			must(s.t, client.DirStore(s.state()).Remove("roles/"+name))
		}
	}
	s.does(func(name string, r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(name, "."+role+".json") {
			return respond(r, 404, strings.NewReader("")), nil
		}
		return nil, nil
	}, vendorHost, cdnHost)
}

// A class with an unreadable role is not reported as up to date, and does not stop the
// products of another class.
func TestOneClassDoesNotStopTheOthers(t *testing.T) {
	for _, role := range []string{"vendor-rules", "review-rules", "hold-rules"} {
		s := shop{newWeb(t, func(r *rawtuf.Repo) {
			r.Charter()["classes"] = append(r.Charter()["classes"].([]any), rawtuf.Doc{"name": "rules", "prefix": "rules/", "roles": []any{
				rawtuf.Doc{"party": "vendor", "role": "vendor-rules", "keyids": r.IDs("va"), "threshold": 1},
				rawtuf.Doc{"party": "review", "role": "review-rules", "keyids": r.IDs("ra"), "threshold": 1},
			}, "hold": rawtuf.Doc{"role": "hold-rules", "keyids": r.IDs("ra"), "threshold": 1, "max_seconds": 3600}})
			for role, key := range map[string]string{"vendor-rules": "va", "review-rules": "ra", "hold-rules": "ra"} {
				r.Roles[role], r.Signers[role] = rawtuf.Targets(), []string{key}
			}
			r.AddTarget("rules/1", "rules", fields("rules", "1.0.0", 1), "vendor-rules", "review-rules")
		})}
		s.list(1, "1.0.0")
		q := func(product string, installed string) client.Query {
			return client.Query{Product: product, Channel: "stable", Platform: "any", Installed: installed}
		}
		view := s.good(s.client(), 1)
		for _, product := range []string{"tool", "rules"} {
			if rel, err := view.Latest(t.Context(), q(product, "")); err != nil || rel.Version != "1.0.0" {
				t.Fatal(product, err)
			}
		}
		s.lose(role)
		view, err := s.client().Refresh(t.Context())
		must(t, err)
		if rel, err := view.Latest(t.Context(), q("tool", "")); err != nil || rel.Version != "1.0.0" || rel.Decisions[len(rel.Decisions)-1].Role != role {
			t.Errorf("%s: %+v, %v", role, rel.Decisions, err)
		}
		for _, product := range []string{"rules", "tool"} { // newer releases cannot be excluded
			if rel, err := view.Latest(t.Context(), q(product, "1.0.0")); err == nil || errors.Is(err, client.ErrUpToDate) || !rel.Approved.IsZero() {
				t.Errorf("%s: %+v, %v", role, rel.Decisions, err)
			}
		}
	}
}

// A context that has ended ends Latest, whatever the roles contain, and changes
// nothing.
func TestLatestEndsWithItsContext(t *testing.T) {
	s := newShop(t)
	s.list(1, "1.0.0")
	view := s.good(s.client(), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if rel, err := view.Latest(ctx, client.Query{Product: "tool", Channel: "stable", Platform: "any"}); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUpToDate) || rel.Decisions != nil {
		t.Errorf("%+v, %v", rel, err)
	}
	if rel, err := view.Latest(t.Context(), client.Query{Product: "tool", Channel: "stable", Platform: "any"}); err != nil || rel.Version != "1.0.0" {
		t.Errorf("%+v, %v", rel, err)
	}
}
