package tuf_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func release(product, version string, seq int) doc {
	return doc{"product": product, "version": version, "channel": "stable", "platform": "any", "sequence": seq}
}

// product adds a role below the vendor's, signed by its own team, that lists one release
// below agent/NAME/, which the review role lists too.
func product(r *rawtuf.Repo, name string) {
	r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{name}
	r.Delegate("vendor-agent", name, doc{"paths": []any{"agent/" + name + "/*"}}, name)
	r.AddTarget("agent/"+name+"/1", name, release(name, "1", 1), name, "review-agent")
}

// summary renders candidates: approved paths, refused ones, and unreadable roles.
func summary(list []tuf.Candidate) (approved, refused, roles []string) {
	for _, c := range list {
		switch {
		case c.Role != "":
			roles = append(roles, c.Role)
		case c.Err == nil:
			approved = append(approved, c.Path)
		default:
			refused = append(refused, c.Path)
		}
	}
	return approved, refused, roles
}

// The unconfirmed entry of one role only selects a path: want is called again with the
// agreed fields, and the candidate has these.
func TestClaimsDoNotDecide(t *testing.T) {
	newer := func(rel tuf.Release) bool {
		return rel.Product == "agent" && rel.Channel == "stable" && rel.Sequence > 7
	}
	for name, claim := range map[string]doc{
		"a higher sequence":         release("agent", "999", 999),
		"another product's release": release("agent", "12", 8),
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.New()
			path := rawtuf.Path // sequence 7
			if name == "another product's release" {
				path = "agent/debug"
				r.AddTarget(path, "debug", release("debug", "0.1", 99), "vendor-agent", "review-agent")
			}
			r.Roles["evil"], r.Signers["evil"] = rawtuf.Targets(), []string{"attacker"}
			r.Delegate("vendor-agent", "evil", doc{"paths": []any{"agent/*"}}, "attacker")
			r.AddTarget(path, "the agent", claim, "evil")
			r.AddTarget("agent/new", "new", release("agent", "12", 8), "vendor-agent", "review-agent")
			r.Publish()
			list, err := mustSnapshot(t, r).Candidates(t.Context(), newer, from(r))
			if err != nil || len(list) != 1 || list[0].Path != "agent/new" || !list[0].Agreed || list[0].Claim.Sequence != 8 {
				t.Fatalf("%+v, %v", list, err)
			}
			// If all releases are wanted, the candidate has the agreed fields.
			list, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range list {
				if rel, ok := c.Approved.Release(); !ok || c.Claim != rel || !c.Agreed {
					t.Errorf("%+v", c)
				}
			}
		})
	}
	// If the agreed entry is found only by a hash prefix, and another role lists the path,
	// the candidate has the agreed fields too.
	prefixed := rawtuf.New()
	prefixed.Roles["hashed"], prefixed.Signers["hashed"] = rawtuf.Targets(), []string{"k"}
	prefixed.Delegate("vendor-agent", "hashed", doc{"path_hash_prefixes": []any{""}}, "k")
	prefixed.Roles["evil"], prefixed.Signers["evil"] = rawtuf.Targets(), []string{"attacker"}
	prefixed.Delegate("vendor-agent", "evil", doc{"paths": []any{"agent/*"}}, "attacker")
	prefixed.AddTarget("agent/new", "new", release("agent", "12", 8), "hashed", "review-agent")
	prefixed.AddTarget("agent/new", "new", release("agent", "999", 999), "evil")
	prefixed.Publish()
	if list, err := mustSnapshot(t, prefixed).Candidates(t.Context(), newer, from(prefixed)); err != nil || len(list) != 1 || list[0].Err != nil || list[0].Claim.Version != "12" {
		t.Errorf("%+v, %v", list, err)
	}
	// A file that both parties list without release fields is no release, whatever one role lists.
	r := rawtuf.New()
	r.AddTarget("agent/plain", "plain", nil, "vendor-agent", "review-agent")
	r.Roles["evil"], r.Signers["evil"] = rawtuf.Targets(), []string{"attacker"}
	r.Delegate("vendor-agent", "evil", doc{"paths": []any{"agent/*"}}, "attacker")
	r.AddTarget("agent/plain", "plain", release("agent", "999", 999), "evil")
	r.Publish()
	list, err := mustSnapshot(t, r).Candidates(t.Context(), newer, from(r))
	if err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// A release that one party lists alone is a Claim without agreement.
	r = rawtuf.New()
	r.AddTarget("agent/x", "x", release("agent", "8", 8), "vendor-agent")
	r.Publish()
	list, err = mustSnapshot(t, r).Candidates(t.Context(), newer, from(r))
	if err != nil || len(list) != 1 || list[0].Agreed || !errors.Is(list[0].Err, tuf.ErrNotApproved) || list[0].Claim.Version != "8" {
		t.Errorf("%+v, %v", list, err)
	}
	// A held release is agreed on but not approved.
	r = rawtuf.New()
	r.AddTarget(rawtuf.Path, "", doc{"reason": "x", "until": rawtuf.Stamp(rawtuf.Now.Add(time.Hour))}, "hold")
	r.Publish()
	list, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
	if err != nil || len(list) != 1 || !list[0].Agreed || !errors.Is(list[0].Err, tuf.ErrHeld) || !list[0].Approved.IsZero() || list[0].Claim.Version != "11.4.0" {
		t.Errorf("%+v, %v", list, err)
	}
}

// A release with malformed fields is found by its readable fields and refused with the
// reason. The other releases are decided on as without it.
func TestMalformedReleasesAreFound(t *testing.T) {
	odd := doc{"product": "agent", "version": "12", "channel": "stable ", "platform": "any", "rollout": doc{"percent": 150}}
	of := func(product string) func(tuf.Release) bool {
		return func(rel tuf.Release) bool {
			return rel.Product == product && (rel.Channel == "" || rel.Channel == "stable")
		}
	}
	r := rawtuf.New()
	r.AddTarget("agent/odd", "odd", odd, "vendor-agent", "review-agent")
	r.Publish()
	snap := mustSnapshot(t, r)
	list, err := snap.Candidates(t.Context(), of("agent"), from(r))
	if err != nil || len(list) != 2 || list[0].Err != nil || list[1].Path != "agent/odd" || !list[1].Agreed || !list[1].Approved.IsZero() ||
		list[1].Claim != (tuf.Release{Product: "agent", Version: "12", Platform: "any"}) {
		t.Fatalf("%+v, %v", list, err)
	}
	want(t, list[1].Err, tuf.ErrRelease, `channel "stable " begins or ends with a space`)
	if list, err := snap.Candidates(t.Context(), of("other"), from(r)); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	// If one party lists it, it is a Claim without agreement.
	delete(rawtuf.At(r.Roles["review-agent"], "targets"), "agent/odd")
	r.Publish()
	list, err = mustSnapshot(t, r).Candidates(t.Context(), of("agent"), from(r))
	if err != nil || len(list) != 2 || list[1].Agreed || !errors.Is(list[1].Err, tuf.ErrNotApproved) || list[1].Claim.Version != "12" {
		t.Errorf("%+v, %v", list, err)
	}
	// One role's malformed entry hides nothing, and creates no release of another product.
	r = rawtuf.New()
	r.Roles["evil"], r.Signers["evil"] = rawtuf.Targets(), []string{"attacker"}
	r.Delegate("vendor-agent", "evil", doc{"paths": []any{"agent/*"}}, "attacker")
	r.AddTarget("agent/new", "new", release("agent", "12", 8), "vendor-agent", "review-agent")
	r.AddTarget("agent/new", "new", doc{"product": "other"}, "evil")
	r.Publish()
	snap = mustSnapshot(t, r)
	if list, err := snap.Candidates(t.Context(), of("agent"), from(r)); err != nil || len(list) != 2 || list[1].Err != nil || list[1].Claim.Version != "12" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := snap.Candidates(t.Context(), of("other"), from(r)); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// If a role below a release role fails, its releases are missing and it is reported; the
// releases of other teams are decided on. Each decision by itself fails closed.
func TestFailureOfOneTeam(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(r *rawtuf.Repo)
		want  error
		role  string
	}{
		"nothing":        {func(*rawtuf.Repo) {}, nil, ""},
		"expired":        {func(r *rawtuf.Repo) { r.Roles["b"]["expires"] = rawtuf.Stamp(rawtuf.Now) }, tuf.ErrExpired, "b"},
		"another key":    {func(r *rawtuf.Repo) { r.Signers["b"] = []string{"attacker"} }, tuf.ErrThreshold, "b"},
		"no JSON":        {func(r *rawtuf.Repo) { r.Roles["b"]["targets"] = 7 }, tuf.ErrMalformed, "b"},
		"another's role": {func(r *rawtuf.Repo) { r.Roles["b"][layout.RepoMember] = strings.Repeat("0", 32) }, tuf.ErrMismatch, "b"},
		"delegates to the review": {func(r *rawtuf.Repo) { r.Delegate("b", "review-agent", doc{"paths": []any{"*"}}, "b") },
			tuf.ErrMalformed, "b"},
		"a malformed entry": {func(r *rawtuf.Repo) { rawtuf.At(r.Roles["b"], "targets", "agent/b/1")["length"] = -1 }, tuf.ErrMalformed, "b"},
		"65 roles below it": {func(r *rawtuf.Repo) {
			for i := range 65 {
				name := fmt.Sprintf("b-%02d", i)
				r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"b"}
				r.Delegate("b", name, doc{"paths": []any{"agent/b/x*"}}, "b")
			}
		}, tuf.ErrTooLarge, "b"},
		"deep roles below it": {func(r *rawtuf.Repo) {
			by := "b"
			for i := range 40 {
				name := fmt.Sprintf("b-%02d", i)
				r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"b"}
				r.Delegate(by, name, doc{"paths": []any{"agent/b/x*"}}, "b")
				by = name
			}
		}, tuf.ErrTooLarge, "b-30"},
		"roles of other teams' names": {func(r *rawtuf.Repo) {
			r.Delegate("b", "c", doc{"paths": []any{"agent/b/x*"}}, "b")
		}, tuf.ErrThreshold, "c"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.New()
			for _, p := range []string{"a", "b", "c"} {
				product(r, p)
			}
			r.AddTarget("agent/c/2", "not reviewed yet", release("c", "2", 2), "c")
			tt.spoil(r)
			r.Publish()
			snap := mustSnapshot(t, r)
			list, err := snap.Candidates(t.Context(), nil, from(r))
			if err != nil {
				t.Fatal(err)
			}
			approved, refused, roles := summary(list)
			if !slices.Contains(refused, "agent/c/2") {
				t.Errorf("what c alone lists was not read: %+v", list)
			}
			for _, path := range []string{"agent/a/1", "agent/c/1", rawtuf.Path} {
				if !slices.Contains(approved, path) {
					t.Errorf("%s is not approved: %+v", path, list)
				}
			}
			if tt.want == nil {
				if len(approved) != 4 || len(roles) != 0 {
					t.Errorf("%+v", list)
				}
				return
			}
			if !slices.Contains(roles, tt.role) {
				t.Fatalf("nothing reports %s: %+v", tt.role, list)
			}
			for _, c := range list {
				if c.Role == tt.role && !errors.Is(c.Err, tt.want) || c.Err == nil && c.Approved.IsZero() || c.Err != nil && !c.Approved.IsZero() {
					t.Errorf("%+v", c)
				}
			}
			if _, err := snap.Approve("agent/b/1", from(r)); errors.Is(err, tuf.ErrNoTarget) || slices.Contains(roles, "b") && !errors.Is(tt.want, tuf.ErrTooLarge) && !errors.Is(err, tt.want) {
				t.Errorf("Approve: %v", err)
			}
		})
	}
}

// Several branches that are larger than the limit of a call take turns.
func TestBranchesTakeTurns(t *testing.T) {
	r := rawtuf.New()
	for _, p := range []string{"a", "b", "c"} {
		product(r, p)
		if p == "c" {
			continue
		}
		for i := range 64 { // a and b have each as many roles as a call reads
			name := fmt.Sprintf("%s-%02d", p, i)
			r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{p}
			r.Delegate(p, name, doc{"paths": []any{"agent/" + p + "/*"}}, p)
		}
	}
	r.Roles["c-1"], r.Signers["c-1"] = rawtuf.Targets(), []string{"c"}
	r.Delegate("c", "c-1", doc{"paths": []any{"agent/c/x*"}}, "c")
	r.AddTarget("agent/c/x1", "x", release("c", "2", 2), "c-1", "review-agent")
	r.Publish()
	get, seen := visits(r)
	list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, get)
	if err != nil {
		t.Fatal(err)
	}
	if approved, _, roles := summary(list); len(approved) != 5 || len(roles) != 1 {
		t.Errorf("%q, %q", approved, roles)
	}
	count := map[byte]int{}
	for _, role := range *seen {
		count[role[0]]++
	}
	if count['a'] < 30 || count['b'] < 30 || count['c'] != 2 || count['a']+count['b']+count['c'] != 63 {
		t.Errorf("%v", count)
	}
}

// A class that can't be decided on does not stop another class: its roles are reported.
// If no class can be decided on, that is the error.
func TestFailureOfOneClass(t *testing.T) {
	build := func() *rawtuf.Repo {
		r := rawtuf.New()
		classes := r.Charter()["classes"].([]any)
		rules := doc{"name": "rules", "prefix": "rules/", "roles": []any{
			doc{"party": "vendor", "role": "vendor-rules", "keyids": r.IDs("va"), "threshold": 1},
			doc{"party": "review", "role": "review-rules", "keyids": r.IDs("ra"), "threshold": 1},
		}, "hold": doc{"role": "hold-rules", "keyids": r.IDs("ra"), "threshold": 1, "max_seconds": 3600}}
		r.Charter()["classes"] = append(classes, rules)
		for role, key := range map[string]string{"vendor-rules": "va", "review-rules": "ra", "hold-rules": "ra"} {
			r.Roles[role], r.Signers[role] = rawtuf.Targets(), []string{key}
		}
		r.AddTarget("rules/1", "rules", release("rules", "1", 1), "vendor-rules", "review-rules")
		r.PublishRoot()
		r.Publish()
		return r
	}
	r := build()
	list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
	if approved, _, roles := summary(list); err != nil || len(approved) != 2 || len(roles) != 0 {
		t.Fatal(approved, roles, err)
	}
	for _, role := range []string{"vendor-rules", "review-rules", "hold-rules"} {
		r := build()
		r.Roles[role]["expires"] = rawtuf.Stamp(rawtuf.Now)
		for _, top := range []string{"vendor-agent", "review-agent"} {
			r.Roles[top]["x-visum-recalled"] = []any{doc{"path": rawtuf.Path, "sha256": strings.Repeat("0", 64), "reason": "x", "at": rawtuf.Stamp(rawtuf.Now)}}
		}
		r.Publish()
		snap := mustSnapshot(t, r)
		list, err := snap.Candidates(t.Context(), nil, from(r))
		approved, _, roles := summary(list)
		if err != nil || !slices.Equal(approved, []string{rawtuf.Path}) || !slices.Equal(roles, []string{role}) || !errors.Is(list[0].Err, tuf.ErrExpired) {
			t.Errorf("%+v, %v", list, err)
		}
		// The other class's recalls are returned together with the error.
		recalls, err := snap.Recalls(from(r))
		if len(recalls) != 2 || (err == nil) != (role == "hold-rules") || err != nil && !errors.Is(err, tuf.ErrExpired) {
			t.Errorf("%+v, %v", recalls, err)
		}
		r.Roles["review-agent"]["expires"] = rawtuf.Stamp(rawtuf.Now)
		r.Publish()
		list, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
		want(t, err, tuf.ErrExpired, "")
		if list != nil {
			t.Errorf("%+v", list)
		}
	}
}

// forest is a repository with a role of many delegations without a match and one
// delegation to many releases.
func forest(t testing.TB, releases, delegations int, how func(i int) doc) *rawtuf.Repo {
	t.Helper()
	r := rawtuf.New()
	product(r, "honest")
	r.Roles["big"], r.Signers["big"] = rawtuf.Targets(), []string{"va"}
	for i := range releases {
		r.AddTarget(fmt.Sprintf("agent/r%d", i), "x", release("big", "1", i+1), "big")
	}
	list := rawtuf.At(r.Roles["vendor-agent"], "delegations")["roles"].([]any)
	ids := r.IDs("va")
	for i := range delegations {
		d := doc{"name": fmt.Sprintf("d%d", i), "keyids": ids, "threshold": 1, "terminating": false}
		for name, v := range how(i) {
			d[name] = v
		}
		list = append(list, d)
	}
	rawtuf.At(r.Roles["vendor-agent"], "delegations")["roles"] = list
	r.Delegate("vendor-agent", "big", doc{"paths": []any{"agent/r*"}}, "va")
	r.Publish()
	return r
}

// One call has one budget for patterns, plain paths and hash prefixes. It returns its
// results so far, reports the rest, and reserves a share for every role. Each search has
// its own limit too.
func TestBudgetOfOneCall(t *testing.T) {
	rawtuf.Sequential(t)
	many := func(n int, one string) (out []any) {
		for range n {
			out = append(out, one)
		}
		return out
	}
	long := strings.Repeat("a", 500)
	for name, tt := range map[string]struct {
		delegations int
		how         doc
	}{
		"hash prefixes": {1, doc{"path_hash_prefixes": many(40_000, "x")}},
		"plain paths":   {1, doc{"paths": many(40_000, "agent/x")}},
		"patterns":      {1, doc{"paths": many(4_000, "agent/*"+long+"b")}},
		"delegations":   {20_000, doc{"paths": []any{}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := forest(t, 3_000, tt.delegations, func(int) doc { return tt.how })
			snap := mustSnapshot(t, r)
			var list []tuf.Candidate
			var err error
			took := cost(func() { list, err = snap.Candidates(t.Context(), nil, from(r)) })
			if err != nil {
				t.Fatal(err)
			}
			approved, _, roles := summary(list)
			if !slices.Contains(roles, "big") || !slices.Contains(approved, "agent/honest/1") || !slices.Contains(approved, rawtuf.Path) {
				t.Errorf("approved %q, not read %q", approved, roles)
			}
			for _, c := range list {
				if c.Role == "big" {
					want(t, c.Err, tuf.ErrTooLarge, "too many for one call")
				}
			}
			t.Logf("%d candidates, %s", len(list), took)
		})
	}
	// A repository of realistic size stays within the budget.
	r := forest(t, 3_000, 20, func(i int) doc { return doc{"paths": []any{fmt.Sprintf("agent/p%d/*", i)}} })
	for i := range 20 {
		name := fmt.Sprintf("d%d", i)
		r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"va"}
	}
	r.Publish()
	list, err := mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
	if _, refused, roles := summary(list); err != nil || len(roles) != 0 || len(refused) != 3_000 {
		t.Error(len(refused), roles, err)
	}
}

// endsAfter is a context that ends after a number of checks.
type endsAfter struct {
	context.Context
	asked *int
	at    int
}

func (c endsAfter) Err() error {
	if *c.asked++; *c.asked > c.at {
		return context.Canceled
	}
	return nil
}

// The end of ctx ends a call everywhere, within a few milliseconds of work.
func TestContextEndsCandidates(t *testing.T) {
	r := forest(t, 500, 4_000, func(int) doc { return doc{"path_hash_prefixes": []any{"x"}} })
	snap := mustSnapshot(t, r)
	asked := 0
	if _, err := snap.Candidates(endsAfter{t.Context(), &asked, 1 << 30}, nil, from(r)); err != nil {
		t.Fatal(err)
	}
	if asked < 500 {
		t.Errorf("asked %d times", asked)
	}
	for _, at := range []int{0, 1, 5, 50, 300, asked - 2} {
		n := 0
		list, err := snap.Candidates(endsAfter{t.Context(), &n, at}, nil, from(r))
		if !errors.Is(err, context.Canceled) || list != nil || n > at+8 {
			t.Errorf("ended after %d, asked %d times: %d, %v", at, n, len(list), err)
		}
	}
	// No decision that needs a Fetch starts after the end.
	failing := rawtuf.New()
	failing.Delegate("vendor-agent", "absent", doc{"path_hash_prefixes": []any{""}}, "k")
	failing.Roles["absent"], failing.Signers["absent"] = rawtuf.Targets(), []string{"k"}
	for i := range 100 {
		failing.AddTarget(fmt.Sprintf("agent/r%d", i), "x", release("r", "1", i+1), "review-agent")
	}
	failing.Publish()
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	list, err := mustSnapshot(t, failing).Candidates(ctx, nil, func(f tuf.RoleFile) ([]byte, error) {
		if f.Role != "absent" {
			return from(failing)(f)
		}
		if calls++; calls == 3 {
			cancel()
		}
		return nil, errNotServed
	})
	if !errors.Is(err, context.Canceled) || list != nil || calls != 3 {
		t.Errorf("%d calls: %v", calls, err)
	}
	// The same for the entries of a large role.
	ctx, cancel = context.WithCancel(t.Context())
	calls = 0
	_, err = mustSnapshot(t, forest(t, 3_000, 0, nil)).Candidates(ctx, func(rel tuf.Release) bool {
		if calls++; rel.Product == "big" {
			cancel()
		}
		return true
	}, from(forest(t, 3_000, 0, nil)))
	if !errors.Is(err, context.Canceled) || calls > 300 {
		t.Errorf("%d calls: %v", calls, err)
	}
	// A single long decision checks ctx too.
	one := forest(t, 1, 1, func(int) doc {
		var paths []any
		for range 3_000 {
			paths = append(paths, "agent/*"+strings.Repeat("r", 1000)+"b")
		}
		return doc{"paths": paths}
	})
	one.AddTarget("agent/"+strings.Repeat("r", 4000), "x", release("big", "1", 1), "big")
	one.Publish()
	n := 0
	if _, err := mustSnapshot(t, one).Candidates(endsAfter{t.Context(), &n, 1 << 30}, nil, from(one)); err != nil || n < 40 {
		t.Errorf("asked %d times: %v", n, err)
	}
}
