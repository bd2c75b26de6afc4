package tuf_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// below adds a chain of roles under vendor-agent, all signed with the vendor's key, and returns
// the name of the last one.
func below(r *rawtuf.Repo, depth int) string {
	last := "vendor-agent"
	for i := range depth {
		name := fmt.Sprintf("level-%d", i)
		r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"va"}
		r.Delegate(last, name, doc{"paths": []any{"agent/deep*"}}, "va")
		last = name
	}
	return last
}

// A role that root or the charter names has one owner. Delegations to it from other roles are
// refused, at any depth, by name, by a name that differs in case, and by hash bins of which one
// has the name.
func TestNamesOfTheCharterHaveOneOwner(t *testing.T) {
	all := doc{"paths": []any{"agent/*"}}
	for _, depth := range []int{0, 1, 3} {
		for _, name := range []string{"review-agent", "vendor-agent", "hold", "Review-Agent", "HOLD", "root", "timestamp", "snapshot", "targets"} {
			r := rawtuf.New()
			r.Delegate(below(r, depth), name, all, "attacker")
			r.Publish()
			_, err := newClient(t, r).find(r, "agent/deep")
			want(t, err, tuf.ErrMalformed, "")
		}
		r := rawtuf.New() // the healthy twin
		r.Roles["review-agent-2"], r.Signers["review-agent-2"] = rawtuf.Targets(), []string{"k"}
		r.Delegate(below(r, depth), "review-agent-2", all, "k")
		r.Publish()
		_, err := newClient(t, r).find(r, "agent/deep")
		want(t, err, tuf.ErrNoTarget, "")
		want(t, newClient(t, r).walk(r), nil, "")
	}
	bins := func(prefix string) *rawtuf.Repo {
		r := rawtuf.New()
		rawtuf.At(r.Charter(), "classes", 0, "roles", 1)["role"] = "review-0a"
		r.Roles["review-0a"], r.Signers["review-0a"] = r.Roles["review-agent"], r.Signers["review-agent"]
		delete(r.Roles, "review-agent")
		rawtuf.At(r.Roles["targets"], "delegations", "roles", 0)["name"] = "review-0a"
		d := r.Role(1, "k")
		d["bit_length"], d["name_prefix"] = 8, prefix
		r.Roles["vendor-agent"]["delegations"] = doc{"succinct_roles": d}
		r.AddKeys(rawtuf.At(r.Roles["vendor-agent"], "delegations"), "k")
		r.PublishRoot()
		r.Publish()
		return r
	}
	for prefix, sentinel := range map[string]error{"review": tuf.ErrMalformed, "Review": tuf.ErrMalformed, "vendor": nil, "review-": nil, "review-0": nil} {
		r := bins(prefix)
		want(t, newClient(t, r).walk(r), sentinel, "")
	}
	// The same in the parties' other roles and in a hold.
	for _, by := range []string{"review-agent", "hold"} {
		r := rawtuf.New()
		r.Delegate(by, "vendor-agent", all, "attacker")
		r.Publish()
		want(t, newClient(t, r).walk(r), tuf.ErrMalformed, by+" v5: malformed: delegates to vendor-agent, which is the charter's role vendor-agent")
	}
	// A repository without a charter reserves only root's names.
	r := rawtuf.NewPlain()
	r.Roles["hold"], r.Signers["hold"] = rawtuf.Targets(), []string{"k"}
	r.Delegate("targets", "hold", doc{"paths": []any{"x"}}, "k")
	r.Publish()
	_, err := mustSnapshot(t, r).UnsafeTarget("x", from(r))
	want(t, err, tuf.ErrNoTarget, "")
}

// targets.json delegates to the release roles for standard TUF clients, with any keys; it must
// not delegate to a hold.
func TestTargetsMayDelegateToReleaseRoles(t *testing.T) {
	open := func(r *rawtuf.Repo) error {
		r.Publish()
		snap := mustSnapshot(t, r)
		top, err := snap.Role("targets", from(r))
		if err == nil {
			_, err = snap.Delegated(top, "review-agent", from(r))
		}
		return err
	}
	want(t, open(rawtuf.New()), nil, "")
	r := rawtuf.New()
	rawtuf.At(r.Roles["targets"], "delegations", "roles", 0)["keyids"] = r.IDs("old")
	want(t, open(r), tuf.ErrThreshold, "") // with keys that are not the role's it opens nothing
	want(t, newClient(t, r).walk(r), nil, "")
	r = rawtuf.New()
	r.Delegate("targets", "hold", doc{"paths": []any{"agent/*"}}, "ra")
	want(t, open(r), tuf.ErrMalformed, "targets v5: malformed: delegates to hold")
}

// A role that names another repository is refused: it was signed for a staging repository, or
// for another vendor with the same key.
func TestRolesOfAnotherRepository(t *testing.T) {
	other := strings.Repeat("ab", 16)
	for _, role := range []string{"vendor-agent", "review-agent", "hold", "level-2"} {
		for id, sentinel := range map[any]error{rawtuf.RepoID: nil, other: tuf.ErrMismatch, "": tuf.ErrMismatch, strings.ToUpper(rawtuf.RepoID): tuf.ErrMismatch, 7: tuf.ErrMalformed, nil: tuf.ErrMalformed} {
			r := rawtuf.New()
			r.AddTarget("agent/deep", "x", nil, below(r, 3), "review-agent")
			r.Roles[role][layout.RepoMember] = id
			r.Publish()
			_, err := newClient(t, r).find(r, "agent/deep")
			want(t, err, sentinel, map[bool]string{true: role + " v5"}[sentinel != nil])
		}
	}
	r := rawtuf.New()
	r.Roles["targets"][layout.RepoMember] = other
	r.Publish()
	_, err := mustSnapshot(t, r).Role("targets", from(r))
	want(t, err, tuf.ErrMismatch, "signed for repository "+other+", this is "+rawtuf.RepoID)
	// A repository without a charter has no identity: a role that names one is refused.
	p := rawtuf.NewPlain()
	p.Roles["lib"][layout.RepoMember] = other
	p.Publish()
	_, err = newClient(t, p).find(p, "lib/a.txt")
	want(t, err, tuf.ErrMismatch, "lib v5")
}

// A role that names another role is refused, for every role and for delegated ones: one key
// often signs several roles.
func TestContentOfAnotherRole(t *testing.T) {
	for _, role := range []string{"vendor-agent", "review-agent", "hold", "level-2"} {
		for name, sentinel := range map[any]error{role: nil, "targets": tuf.ErrMismatch, "": tuf.ErrMismatch, strings.ToUpper(role): tuf.ErrMismatch, 7: tuf.ErrMalformed, nil: tuf.ErrMalformed} {
			r := rawtuf.New()
			r.AddTarget("agent/deep", "x", nil, below(r, 3), "review-agent")
			r.Roles[role][layout.RoleMember] = name
			r.Publish()
			_, err := newClient(t, r).find(r, "agent/deep")
			want(t, err, sentinel, map[bool]string{true: role + " v5"}[sentinel != nil])
		}
	}
}

// An agreement together with hash bins can't be interpreted, so it is refused, not ignored.
func TestAgreementWithBins(t *testing.T) {
	build := func(agreement any) error {
		r := rawtuf.NewPlain()
		d := r.Role(1, "bins")
		d["bit_length"], d["name_prefix"] = 1, "bin"
		r.Roles["targets"]["delegations"] = doc{"succinct_roles": d}
		if agreement != nil {
			rawtuf.At(r.Roles["targets"], "delegations")[layout.AgreementMember] = agreement
		}
		r.AddKeys(rawtuf.At(r.Roles["targets"], "delegations"), "bins")
		for _, name := range []string{"bin-0", "bin-1"} {
			r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"bins"}
			r.AddTarget("x", "x", nil, name)
		}
		r.Publish()
		_, err := newClient(t, r).find(r, "x")
		return err
	}
	want(t, build(nil), nil, "")
	for _, agreement := range []any{[]any{doc{"roles": []any{"bin-0", "bin-1"}, "min_roles_in_agreement": 2}}, []any{}, "x", doc{}} {
		want(t, build(agreement), tuf.ErrMalformed, "together with succinct_roles")
	}
}

// A raised threshold of the same keys does not lift version floors: a file that one of the keys
// signed remains a floor, but is not trusted.
func TestPriorsAfterARaisedThreshold(t *testing.T) {
	build := func() *rawtuf.Repo {
		r := rawtuf.NewPlain()
		for _, role := range []string{"timestamp", "snapshot"} {
			r.AddKeys(r.Root, role+"2")
			rawtuf.At(r.Root, "roles")[role] = r.Role(1, role, role+"2")
		}
		r.PublishRoot()
		r.Publish()
		return r
	}
	raise := func(r *rawtuf.Repo) {
		r.NextRoot(func() {
			for _, role := range []string{"timestamp", "snapshot"} {
				rawtuf.At(r.Root, "roles", role)["threshold"] = 2
				r.Signers[role] = []string{role, role + "2"}
			}
		})
	}
	r := build()
	old := r.Clone()
	r.Bump("targets")
	r.Publish()
	c := newClient(t, r)
	if _, err := c.refresh(r); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*rawtuf.Repo{r, old} {
		raise(x)
		x.Publish()
	}
	trusted := *c
	_, err := c.refresh(r) // the same versions, signed by two
	want(t, err, nil, "")
	*c = trusted
	_, err = c.refresh(old) // the versions before, signed by two
	want(t, err, tuf.ErrRollback, "timestamp v5")
	// The snapshot too, under a timestamp without a prior.
	*c = trusted
	c.ts = nil
	_, err = c.refresh(old)
	want(t, err, tuf.ErrRollback, "snapshot v5")
	// A prior with too few signatures is only a floor: it is not the result.
	*c = trusted
	next, err := c.root.Next(r.Files["2.root.json"])
	if err != nil {
		t.Fatal(err)
	}
	ts, err := next.Timestamp(r.Files["timestamp.json"], c.ts, rawtuf.Now)
	if err != nil || string(ts.Bytes()) != string(r.Files["timestamp.json"]) {
		t.Errorf("%v", err)
	}
	_, err = next.Timestamp(c.ts, c.ts, rawtuf.Now)
	want(t, err, tuf.ErrThreshold, "1 of 2")
	// A file that none of the keys signed is no floor.
	foreign := r.Clone()
	foreign.Roles["timestamp"]["version"] = 99
	foreign.Signers["timestamp"] = []string{"attacker"}
	foreign.PublishTimestamp()
	ts, err = next.Timestamp(r.Files["timestamp.json"], foreign.Files["timestamp.json"], rawtuf.Now)
	if err != nil || ts.Version() != 6 {
		t.Error(ts, err)
	}
}

// No hold lasts longer than the charter's max_seconds, whatever its at is. A malformed hold
// stops the path.
func TestHoldsEndInTime(t *testing.T) {
	day := func(n int) string { return rawtuf.Stamp(rawtuf.Now.AddDate(0, 0, n)) }
	for _, tt := range []struct {
		name  string
		hold  doc
		at    int // days after the hold was published
		want  error
		until string
	}{
		{"lawful", doc{"at": day(0), "until": day(7)}, 6, tuf.ErrHeld, day(7)},
		{"lawful, over", doc{"at": day(0), "until": day(7)}, 7, nil, ""},
		{"too long, cut", doc{"at": day(0), "until": day(400)}, 6, tuf.ErrHeld, day(7)},
		{"too long, over", doc{"at": day(0), "until": day(400)}, 7, nil, ""},
		{"no at", doc{"until": day(7)}, 0, tuf.ErrHeld, day(7)},
		{"no at, over", doc{"until": day(7)}, 7, nil, ""},
		{"no at, too long", doc{"until": day(8)}, 0, tuf.ErrMalformed, ""},
		{"no at, for ever", doc{"until": day(4000)}, 0, tuf.ErrMalformed, ""},
		{"no at, for ever, later", doc{"until": day(4000)}, 20, tuf.ErrMalformed, ""},
		{"at to come", doc{"at": day(1), "until": day(7)}, 0, tuf.ErrHeld, day(7)},
		{"at to come, too long", doc{"at": day(1), "until": day(8)}, 0, tuf.ErrMalformed, ""},
		{"at far to come", doc{"at": day(4000), "until": day(4001)}, 0, tuf.ErrMalformed, ""},
		{"at far to come, later", doc{"at": day(4000), "until": day(4001)}, 20, tuf.ErrMalformed, ""},
		{"at that has come", doc{"at": day(1), "until": day(30)}, 7, tuf.ErrHeld, day(8)},
		{"at that has come, over", doc{"at": day(1), "until": day(30)}, 8, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rawtuf.New()
			tt.hold["reason"] = "wait"
			r.AddTarget(rawtuf.Path, "the agent", tt.hold, "hold")
			r.Publish()
			root := newClient(t, r).root
			ts, err := root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now.AddDate(0, 0, tt.at))
			if err != nil {
				t.Fatal(err)
			}
			snap, err := ts.Snapshot(r.Files["5.snapshot.json"], nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = snap.Approve(rawtuf.Path, from(r))
			want(t, err, tt.want, tt.until)
			if tt.want == tuf.ErrMalformed && errors.Is(err, tuf.ErrHeld) {
				t.Error(err)
			}
		})
	}
}
