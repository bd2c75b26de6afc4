package tuf_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// tree builds a repository of delegations without a charter, one "parent > child[!]:
// pattern" a line, in order of priority; "!" is terminating. "role = path" lists a target
// whose content is the role's name.
func tree(t testing.TB, lines ...string) *rawtuf.Repo {
	t.Helper()
	r := rawtuf.NewPlain()
	r.Roles["targets"], r.Roles["lib"] = rawtuf.Targets(), rawtuf.Targets()
	grow(t, r, "targets", lines...)
	return r
}

func grow(t testing.TB, r *rawtuf.Repo, top string, lines ...string) {
	t.Helper()
	role := func(name string) string {
		name = strings.Replace(name, "^", top, 1)
		if r.Roles[name] == nil {
			r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"key-" + name}
		}
		return name
	}
	for _, l := range lines {
		if name, path, ok := strings.Cut(l, " = "); ok {
			r.AddTarget(path, name, nil, role(name))
			continue
		}
		edge, pattern, _ := strings.Cut(l, ": ")
		by, child, _ := strings.Cut(edge, " > ")
		child, last := strings.CutSuffix(child, "!")
		r.Delegate(role(by), role(child), doc{"paths": []any{pattern}, "terminating": last}, "key-"+child)
	}
	r.Publish()
}

// visits records which roles were fetched, in order.
func visits(r *rawtuf.Repo) (get tuf.Fetch, seen *[]string) {
	seen = new([]string)
	return func(f tuf.RoleFile) ([]byte, error) {
		*seen = append(*seen, f.Role)
		return from(r)(f)
	}, seen
}

var trees = []struct {
	name  string
	lines []string
	path  string
	found string // the role that lists it; "" for none
	order string // the visited roles below the top one
}{
	{"first in priority wins", []string{"^ > a: x/*", "^ > b: x/*", "a = x/1", "b = x/1"}, "x/1", "a", "a"},
	{"next in priority where the first lacks it", []string{"^ > a: x/*", "^ > b: x/*", "b = x/1"}, "x/1", "b", "a b"},
	{"depth before breadth", []string{"^ > a: x/*", "^ > b: x/*", "a > c: x/*", "b = x/1", "c = x/1"}, "x/1", "c", "a c"},
	{"all of a tree before the next", []string{"^ > a: x/*", "^ > b: x/*", "a > c: x/*", "c > d: x/*", "a > e: x/*", "b = x/1"}, "x/1", "b", "a c d e b"},
	{"a terminating role ends the search", []string{"^ > a!: x/*", "^ > b: x/*", "b = x/1"}, "x/1", "", "a"},
	{"also from below", []string{"^ > a: x/*", "^ > b: x/*", "a > c!: x/*", "a > d: x/*", "b = x/1", "d = x/1"}, "x/1", "", "a c"},
	{"terminating does not touch other paths", []string{"^ > a!: y/*", "^ > b: x/*", "b = x/1"}, "x/1", "b", "b"},
	{"what lies below a terminating role is searched", []string{"^ > a!: x/*", "a > c: x/*", "c = x/1"}, "x/1", "c", "a c"},
	{"a cycle ends", []string{"^ > a: x/*", "a > b: x/*", "b > a: x/*", "^ > c: x/*", "c = x/1"}, "x/1", "c", "a b c"},
	{"a role delegates to itself", []string{"^ > a: x/*", "a > a: x/*"}, "x/1", "", "a"},
	{"a role has only the paths it was given", []string{"^ > a: x/*", "a = y/1"}, "y/1", "", ""},
	{"and hands on no more than it has", []string{"^ > a: x/*", "a > b: y/*", "b = y/1"}, "y/1", "", ""},
}

func TestDelegations(t *testing.T) {
	for _, tt := range trees {
		t.Run(tt.name, func(t *testing.T) {
			r := tree(t, tt.lines...)
			get, seen := visits(r)
			a, err := mustSnapshot(t, r).UnsafeTarget(tt.path, get)
			if tt.found == "" {
				want(t, err, tuf.ErrNoTarget, tt.path)
			} else if err != nil || a.Signoffs()[0].Role != tt.found {
				t.Errorf("found %v, %v; want %s", a, err, tt.found)
			}
			if got := strings.Join((*seen)[1:], " "); got != tt.order {
				t.Errorf("looked at %q, want %q", got, tt.order)
			}
		})
	}
}

// The same below the review's role, while the vendor lists all of it directly: a delegated
// role counts for the party that delegates to it and for no other.
func TestDelegationsOfAParty(t *testing.T) {
	for _, tt := range trees {
		t.Run(tt.name, func(t *testing.T) {
			lines := make([]string, len(tt.lines))
			for i, l := range tt.lines {
				lines[i] = strings.NewReplacer("x/", "agent/x-", "y/", "agent/y-").Replace(l)
			}
			path := strings.NewReplacer("x/", "agent/x-", "y/", "agent/y-").Replace(tt.path)
			r := rawtuf.New()
			if tt.found != "" {
				r.AddTarget(path, tt.found, nil, "vendor-agent")
			} else {
				r.AddTarget(path, "the vendor's", nil, "vendor-agent")
			}
			grow(t, r, "review-agent", lines...)
			get, seen := visits(r)
			a, err := mustSnapshot(t, r).Approve(path, get)
			if tt.found == "" {
				want(t, err, tuf.ErrNotApproved, "but not by review")
			} else if err != nil || a.Signoffs()[1].Role != tt.found || a.Signoffs()[1].Party != "review" || a.Signoffs()[0].Role != "vendor-agent" {
				t.Errorf("found %v, %v; want %s", a, err, tt.found)
			}
			var below []string
			for _, role := range *seen {
				if len(role) == 1 {
					below = append(below, role)
				}
			}
			if got := strings.Join(below, " "); got != tt.order {
				t.Errorf("looked at %q, want %q", got, tt.order)
			}
		})
	}
	// A role that the vendor delegates to does not count for review.
	r := rawtuf.New()
	grow(t, r, "vendor-agent", "^ > sub: agent/*", "sub = agent/x")
	_, err := mustSnapshot(t, r).Approve("agent/x", from(r))
	want(t, err, tuf.ErrNotApproved, "but not by review")
}

// Every delegated role is checked like the top-level roles.
func TestAttackDelegatedRole(t *testing.T) {
	again := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump("lib"); change(r); r.Publish() }
	}
	by := func(change func(r *rawtuf.Repo, d doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump("targets")
			change(r, rawtuf.At(r.Roles["targets"], "delegations"))
			r.Publish()
		}
	}
	run(t, rawtuf.NewPlain, "lib/a.txt", []attack{
		{"other bytes", func(r *rawtuf.Repo) { edit(r, "5.lib.json", "2030", "2031") }, tuf.ErrMismatch, "lib v5: does not match: sha256"},
		{"rollback", func(r *rawtuf.Repo) { r.Bump(); r.Roles["lib"]["version"] = 4; r.Publish() }, tuf.ErrRollback, "lists lib.json v4, trusted v5"},
		{"gone from the snapshot", func(r *rawtuf.Repo) { r.Bump(); delete(r.Roles, "lib"); r.Publish() }, tuf.ErrRollback, "lib.json is no longer listed"},
		{"withheld", func(r *rawtuf.Repo) { delete(r.Files, "5.lib.json") }, errNotServed, ""},
		{"expired", again(func(r *rawtuf.Repo) { r.Roles["lib"]["expires"] = rawtuf.Stamp(rawtuf.Now) }), tuf.ErrExpired, "lib v6"},
		{"another key", again(func(r *rawtuf.Repo) { r.Signers["lib"] = []string{"targets"} }), tuf.ErrThreshold, "0 of 1 needed keys of lib"},
		{"another type", again(func(r *rawtuf.Repo) { r.Roles["lib"]["_type"] = "snapshot" }), tuf.ErrMalformed, "lib v6"},
		{"a target that is null", again(func(r *rawtuf.Repo) { rawtuf.At(r.Roles["lib"], "targets")["z"] = nil }), tuf.ErrMalformed, "lib v6"},
		{"negative length", again(func(r *rawtuf.Repo) { rawtuf.At(r.Roles["lib"], "targets", "lib/a.txt")["length"] = -1 }), tuf.ErrMalformed, "length is -1"},
		{"threshold of two", by(func(r *rawtuf.Repo, d doc) { rawtuf.At(d, "roles", 0)["threshold"] = 2 }), tuf.ErrThreshold, "1 of 2"},
		{"threshold 0", by(func(r *rawtuf.Repo, d doc) { rawtuf.At(d, "roles", 0)["threshold"] = 0 }), tuf.ErrMalformed, "threshold is 0"},
		{"key gone", by(func(r *rawtuf.Repo, d doc) { d["keys"] = doc{} }), tuf.ErrThreshold, "0 of 1"},
		{"no keys member", by(func(r *rawtuf.Repo, d doc) { delete(d, "keys") }), tuf.ErrMalformed, "targets v6"},
		{"delegated twice", by(func(r *rawtuf.Repo, d doc) { d["roles"] = append(d["roles"].([]any), d["roles"].([]any)[0]) }), tuf.ErrMalformed, "two delegations to role"},
		{"paths and hash prefixes", by(func(r *rawtuf.Repo, d doc) { rawtuf.At(d, "roles", 0)["path_hash_prefixes"] = []any{} }), tuf.ErrMalformed, "either"},
		{"neither", by(func(r *rawtuf.Repo, d doc) { delete(rawtuf.At(d, "roles", 0), "paths") }), tuf.ErrMalformed, "either"},
		{"roles and bins", by(func(r *rawtuf.Repo, d doc) { d["succinct_roles"] = r.Role(1, "lib") }), tuf.ErrMalformed, "either"},
		{"no name", by(func(r *rawtuf.Repo, d doc) { rawtuf.At(d, "roles", 0)["name"] = "" }), tuf.ErrMalformed, "invalid name"},
	})
}

// Trap 17: a delegated role with the name of a top-level role would share its file.
func TestTrap17DelegatedRoleNamedSnapshot(t *testing.T) {
	for _, name := range []string{"root", "timestamp", "snapshot", "targets"} {
		r := rawtuf.NewPlain()
		rawtuf.At(r.Roles["targets"], "delegations", "roles", 0)["name"] = name
		r.Publish()
		_, err := mustSnapshot(t, r).UnsafeTarget("lib/a.txt", from(r))
		want(t, err, tuf.ErrMalformed, "invalid name of a delegated role")
	}
}

func TestVisitBudget(t *testing.T) {
	var lines []string
	for i := range 70 {
		lines = append(lines, fmt.Sprintf("^ > r%02d: x/*", i))
	}
	r := tree(t, append(lines, "r62 = x/in", "r63 = x/out")...)
	snap := mustSnapshot(t, r)
	if a, err := snap.UnsafeTarget("x/in", from(r)); err != nil || a.Signoffs()[0].Role != "r62" {
		t.Error(a, err)
	}
	_, err := snap.UnsafeTarget("x/out", from(r))
	want(t, err, tuf.ErrTooLarge, "more than 64 roles visited")
}

// A chain of delegations is bounded, in a search and inside an agreement.
func TestDepthBudget(t *testing.T) {
	chain := func(n int) *rawtuf.Repo {
		lines := []string{"^ > d01: x/*"}
		for i := 2; i <= n; i++ {
			lines = append(lines, fmt.Sprintf("d%02d > d%02d: x/*", i-1, i))
		}
		return tree(t, append(lines, fmt.Sprintf("d%02d = x/1", n))...)
	}
	r := chain(32)
	a, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	if err != nil || a.Signoffs()[0].Role != "d32" {
		t.Error(a, err)
	}
	r = chain(33)
	get, seen := visits(r)
	_, err = mustSnapshot(t, r).UnsafeTarget("x/1", get)
	want(t, err, tuf.ErrTooLarge, `more than 32 delegations deep, the last to d33`)
	if n := len(*seen); n != 33 { // the top and 32 more; the last is not requested
		t.Errorf("fetched %d roles", n)
	}
	d := rawtuf.At(r.Roles["d32"], "delegations")
	d[layout.AgreementMember] = []any{doc{"roles": []any{"d33"}, "min_roles_in_agreement": 1}}
	r.Bump("d32")
	r.Publish()
	_, err = mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	want(t, err, tuf.ErrTooLarge, `more than 32 delegations deep, the last to d33`)

	// The caller may set a lower limit.
	r = chain(3)
	for depth, sentinel := range map[int]error{2: tuf.ErrTooLarge, 3: nil} {
		root, err := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Depth: depth}})
		if err != nil {
			t.Fatal(err)
		}
		err = find(&client{root: root}, r, "x/1")
		want(t, err, sentinel, "")
	}
}

func TestPathPatterns(t *testing.T) {
	for _, tt := range []struct {
		pattern, path string
		want          bool
	}{
		{"x/*", "x/1", true}, {"x/*", "x/", true}, {"x/*", "x/1/2", false}, {"x/*", "x", false}, {"*", "x", true}, {"*", "x/1", false},
		{"*/1", "x/1", true}, {"x/?", "x/1", true}, {"x/?", "x/12", false}, {"x?1", "x/1", false}, {"x[!-0]1", "x/1", false}, {"x[!-0]1/[/y]z", "x/1/z", false},
		{`x[^a]b[/y]c`, "x/byc", false}, {"x/1", "x/1", true}, {"X/1", "x/1", false}, {"x/[", "x/[", false}, {"", "", true}, {"", "x", false}, {"x/*.txt", "x/a.txt", true},
	} {
		r := tree(t, "^ > a: "+tt.pattern, "a = "+tt.path)
		_, err := mustSnapshot(t, r).UnsafeTarget(tt.path, from(r))
		if got := err == nil; got != tt.want {
			t.Errorf("%q matches %q: %v, %v", tt.pattern, tt.path, got, err)
		}
		stock := metadata.DelegatedRole{Paths: []string{tt.pattern}}
		if got, _ := stock.IsDelegatedPath(tt.path); got != tt.want {
			t.Errorf("go-tuf returns %v for %q and %q", got, tt.pattern, tt.path)
		}
	}
}

// Trap 15: path_hash_prefixes are hex.
func TestTrap15HashBins(t *testing.T) {
	sum := sha256.Sum256([]byte("x/1"))
	digest := hex.EncodeToString(sum[:])
	for prefix, found := range map[string]bool{digest[:1]: true, digest[:3]: true, strings.ToUpper(digest[:8]): true, digest: true,
		digest + "0": false, "zz": false, string(digest[1]) + digest[:1] + "00": false} {
		r := tree(t, "a = x/1")
		r.Delegate("targets", "a", doc{"path_hash_prefixes": []any{"0000000000", prefix}}, "key-a")
		r.Publish()
		_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
		if found {
			want(t, err, nil, "")
		} else {
			want(t, err, tuf.ErrNoTarget, "")
		}
	}
}

// Succinct bins (TAP 15) have the same names as in go-tuf.
func TestSuccinctBins(t *testing.T) {
	for _, bits := range []int{1, 3, 4, 5, 8, 10, 16, 19, 20} {
		stock := metadata.SuccinctRoles{BitLength: bits, NamePrefix: "bin"}
		r := tree(t)
		d := r.Role(1, "bins")
		d["bit_length"], d["name_prefix"] = bits, "bin"
		r.Roles["targets"]["delegations"] = doc{"succinct_roles": d}
		r.AddKeys(rawtuf.At(r.Roles["targets"], "delegations"), "bins")
		for i := range 20 {
			path := fmt.Sprint("x/", i)
			name := stock.GetRolesForTarget(path)[0].Name
			if r.Roles[name] == nil {
				r.Roles[name], r.Signers[name] = rawtuf.Targets(), []string{"bins"}
			}
			r.AddTarget(path, path, nil, name)
		}
		r.Publish()
		snap := mustSnapshot(t, r)
		for i := range 20 {
			path := fmt.Sprint("x/", i)
			a, err := snap.UnsafeTarget(path, from(r))
			if err != nil || a.Signoffs()[0].Role != stock.GetRolesForTarget(path)[0].Name {
				t.Errorf("%d bits: %v, %v", bits, a, err)
			}
		}
	}
	for _, bits := range []any{0, 21, 32, 33, -1, "8", nil} {
		r := tree(t)
		d := r.Role(1, "bins")
		d["bit_length"], d["name_prefix"] = bits, "bin"
		r.Roles["targets"]["delegations"] = doc{"keys": doc{}, "succinct_roles": d}
		r.Publish()
		_, err := mustSnapshot(t, r).UnsafeTarget("x", from(r))
		want(t, err, tuf.ErrMalformed, "bit_length")
	}
}

// In a repository with very many targets each party keeps them in hash bins. A look-up reads
// the snapshot, a role and a bin of each party, and no other bin; if the parties sign the
// same bins, one bin.
func TestOneLookupReadsOneBinOfEachParty(t *testing.T) {
	const bits = 14
	path := "agent/pool/package-123456.tar.gz"
	sum := sha256.Sum256([]byte(path))
	bin := fmt.Sprintf("%04x", int(sum[0])<<6|int(sum[1])>>2)
	for name, prefixes := range map[string]map[string]string{
		"bins of its own": {"vendor-agent": "vendor-bin", "review-agent": "review-bin"},
		"the same bins":   {"vendor-agent": "bin", "review-agent": "bin"},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.New()
			signers := map[string][]string{}
			for role, prefix := range prefixes {
				d := r.Role(1, role+"-bins")
				d["bit_length"], d["name_prefix"] = bits, prefix
				r.Roles[role]["delegations"] = doc{"succinct_roles": d}
				r.AddKeys(rawtuf.At(r.Roles[role], "delegations"), role+"-bins")
				signers[prefix+"-"+bin] = append(signers[prefix+"-"+bin], role+"-bins")
			}
			for role, keys := range signers {
				r.Roles[role], r.Signers[role] = rawtuf.Targets(), keys
				r.AddTarget(path, "x", nil, role)
			}
			r.Publish()
			meta := rawtuf.At(r.Roles["snapshot"], "meta")
			for i := range 1 << bits { // the others are listed by version only, without files
				for _, prefix := range prefixes {
					if other := fmt.Sprintf("%s-%04x.json", prefix, i); meta[other] == nil {
						meta[other] = doc{"version": 1}
					}
				}
			}
			r.PublishSnapshot()
			get, seen := visits(r)
			a, err := mustSnapshot(t, r).Approve(path, get)
			if err != nil || len(a.Signoffs()) != 2 {
				t.Fatal(a, err)
			}
			if n := len(*seen); n != 3+len(signers) { // two roles and the hold
				t.Errorf("read %v", *seen)
			}
			for i, party := range []string{"vendor-agent", "review-agent"} {
				if by := a.Signoffs()[i]; by.Role != prefixes[party]+"-"+bin || by.KeyIDs[0] != r.IDs(party + "-bins")[0] {
					t.Errorf("%+v", by)
				}
			}
		})
	}
}

// Trap 2: a role that one delegator's keys signed is not verified for another one, and a
// role verified for both is not fetched again.
func TestTrap02RoleReachedByTwoDelegators(t *testing.T) {
	build := func(signers ...string) *rawtuf.Repo {
		r := tree(t, "^ > a: x/*", "^ > b: y/*", "a > shared: x/*", "shared = x/1", "shared = y/1")
		r.Delegate("b", "shared", doc{"paths": []any{"y/*"}}, "key-b-for-shared")
		r.Signers["shared"] = signers
		r.Publish()
		return r
	}
	r := build("key-shared")
	snap := mustSnapshot(t, r)
	_, err := snap.UnsafeTarget("x/1", from(r))
	want(t, err, nil, "")
	_, err = snap.UnsafeTarget("y/1", from(r))
	want(t, err, tuf.ErrThreshold, "shared v5")

	r = build("key-shared", "key-b-for-shared")
	snap = mustSnapshot(t, r)
	get, seen := visits(r)
	for _, path := range []string{"x/1", "y/1", "x/1"} {
		a, err := snap.UnsafeTarget(path, get)
		if err != nil {
			t.Fatal(err)
		}
		key := map[string]string{"x/1": "key-shared", "y/1": "key-b-for-shared"}[path]
		if got := a.Signoffs()[0].KeyIDs; !reflect.DeepEqual(got, []string{r.IDs(key)[0].(string)}) {
			t.Errorf("%s was vouched for by %v", path, got)
		}
	}
	if got := strings.Join(*seen, " "); got != "targets a shared b" {
		t.Errorf("fetched %s", got)
	}
}
