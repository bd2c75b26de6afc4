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

// agree adds a group to the top role's delegations.
func agree(r *rawtuf.Repo, min any, terminating bool, roles ...any) {
	d := rawtuf.At(r.Roles["targets"], "delegations")
	groups, _ := d[layout.AgreementMember].([]any)
	d[layout.AgreementMember] = append(groups, doc{"roles": roles, "min_roles_in_agreement": min, "terminating": terminating})
	r.Bump("targets")
	r.Publish()
}

// Several delegated roles must list the same bytes (similar to TAP 3). In these trees a
// target's content is the name of the role that lists it, except that the roles in
// "same" list the same content.
func TestAgreement(t *testing.T) {
	three := []string{"^ > a: x/*", "^ > b: x/*", "^ > c: x/*"}
	for _, tt := range []struct {
		name        string
		lines       []string
		same        string // roles that list x/1 with the same content
		min         int
		terminating bool
		err         error
		by          string // the counted roles, highest priority first
		order       string
	}{
		{"two of three, the first two", three, "a b", 2, true, nil, "a b", "a b c"},
		{"two of three, the last two", append([]string{"a = x/1"}, three...), "b c", 2, true, nil, "b c", "a b c"},
		{"all three", three, "a b c", 3, true, nil, "a b c", "a b c"},
		{"one is not two", three, "a", 2, true, tuf.ErrNotApproved, "", "a b c"},
		{"different bytes don't add up", append([]string{"a = x/1", "b = x/1", "c = x/1"}, three...), "", 2, true, tuf.ErrNotApproved, "", "a b c"},
		{"no role lists it", three, "", 2, true, tuf.ErrNoTarget, "", "a b c"},
		{"one is enough where one is asked", three, "b", 1, true, nil, "b", "a b c"},
		{"too few, and others come after", append([]string{}, append(three, "^ > d: x/*", "d = x/1")...), "a", 2, false, nil, "d", "a b c d"},
		{"too few, and the group is the end", append([]string{}, append(three, "^ > d: x/*", "d = x/1")...), "a", 2, true, tuf.ErrNotApproved, "", "a b c"},
		{"what a role delegates to speaks for it", append([]string{}, append(three, "b > e: x/*")...), "a e", 2, true, nil, "a e", "a b e c"},
		{"a role that is asked before them, and lacks it", append([]string{"^ > d: x/*"}, three...), "a b", 2, true, nil, "a b", "d a b c"},
		{"a role that is asked before them, and has it", append([]string{"^ > d: x/*", "d = x/1"}, three...), "a b", 2, true, nil, "d", "d"},
		{"no role lists it, and others follow", append(append([]string{}, three...), "^ > d: x/*", "d = x/1"), "", 2, true, tuf.ErrNoTarget, "", "a b c"},
		{"no role lists it, and another terminating delegation follows", append(append([]string{}, three...), "^ > d!: x/*", "d = x/1"), "", 2, true, tuf.ErrNoTarget, "", "a b c"},
		{"no role lists it, and the group is not terminating", append(append([]string{}, three...), "^ > d!: x/*", "d = x/1"), "", 2, false, nil, "d", "a b c d"},
		{"a role without the path does not count", []string{"^ > a: x/*", "^ > b: y/*", "^ > c: x/*"}, "a b c", 2, true, nil, "a c", "a c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tree(t, tt.lines...)
			if tt.same != "" {
				r.AddTarget("x/1", "the same", nil, strings.Fields(tt.same)...)
			}
			agree(r, tt.min, tt.terminating, "a", "b", "c")
			get, seen := visits(r)
			a, err := mustSnapshot(t, r).UnsafeTarget("x/1", get)
			if tt.err != nil {
				want(t, err, tt.err, "x/1")
			} else if err != nil {
				t.Fatal(err)
			}
			var by []string
			for _, s := range a.Signoffs() {
				by = append(by, s.Role)
			}
			if got := strings.Join(by, " "); got != tt.by {
				t.Errorf("counted %q, want %q", got, tt.by)
			}
			if got := strings.Join((*seen)[1:], " "); got != tt.order {
				t.Errorf("looked at %q, want %q", got, tt.order)
			}
		})
	}
}

// An unavailable role of the group stops the search: it is not a role that lists
// nothing.
func TestAgreementMissingRole(t *testing.T) {
	r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*")
	r.AddTarget("x/1", "the same", nil, "a", "b", "c")
	agree(r, 2, true, "a", "b", "c")
	snap := mustSnapshot(t, r)
	lost := true
	get := func(f tuf.RoleFile) ([]byte, error) {
		if f.Role == "c" && lost {
			return nil, errNotServed
		}
		return from(r)(f)
	}
	if _, err := snap.UnsafeTarget("x/1", get); !errors.Is(err, errNotServed) {
		t.Fatalf("got %v", err)
	}
	lost = false
	if _, err := snap.UnsafeTarget("x/1", get); err != nil {
		t.Fatal(err)
	}
}

// Release fields count only if the agreeing roles agree on them too.
func TestAgreementOnReleaseFields(t *testing.T) {
	r := tree(t, "^ > a: x/*", "^ > b: x/*")
	release := doc{"product": "p", "version": "1", "channel": "c", "platform": "any", "sequence": 1}
	r.AddTarget("x/1", "the same", release, "a", "b")
	r.AddTarget("x/2", "the same", release, "a")
	r.AddTarget("x/2", "the same", nil, "b")
	agree(r, 2, true, "a", "b")
	snap := mustSnapshot(t, r)
	for path, wantFields := range map[string]bool{"x/1": true, "x/2": false} {
		a, err := snap.UnsafeTarget(path, from(r))
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := a.Release(); ok != wantFields {
			t.Errorf("%s: release fields %v, want %v", path, ok, wantFields)
		}
	}
}

// Each of two groups has the position of its own roles.
func TestAgreementsInOrder(t *testing.T) {
	for roles, by := range map[string]string{"a b": "a b", "c d": "c d", "a b c d": "a b", "b c": ""} {
		r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*", "^ > d: x/*")
		r.AddTarget("x/1", "the same", nil, strings.Fields(roles)...)
		agree(r, 2, false, "a", "b")
		agree(r, 2, true, "c", "d")
		a, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
		if by == "" {
			want(t, err, tuf.ErrNotApproved, "roles c, d must agree")
			continue
		}
		var got []string
		for _, s := range a.Signoffs() {
			got = append(got, s.Role)
		}
		if err != nil || strings.Join(got, " ") != by {
			t.Errorf("listed by %s: counted %q, %v", roles, got, err)
		}
	}
}

// A terminating group below a role ends the search above too.
func TestAgreementBelowEndsTheSearch(t *testing.T) {
	for last, err := range map[bool]error{true: tuf.ErrNoTarget, false: nil} {
		r := tree(t, "^ > e: x/*", "^ > d: x/*", "e > a: x/*", "e > b: x/*", "d = x/1")
		rawtuf.At(r.Roles["e"], "delegations")[layout.AgreementMember] = []any{doc{"roles": []any{"a", "b"}, "min_roles_in_agreement": 2, "terminating": last}}
		r.Bump("e")
		r.Publish()
		want(t, find(newClient(t, r), r, "x/1"), err, "")
	}
}

// The sha512 that only some roles list must be right too, and the counted roles agree
// on it.
func TestAgreementOnSHA512(t *testing.T) {
	x, y := strings.Repeat("1", 128), strings.Repeat("2", 128)
	for _, tt := range []struct {
		a, b, c string
		min     int
		sum     string // "-": refused
	}{
		{"", "", "", 3, ""},
		{"", "", x, 3, x},
		{"", x, x, 3, x},
		{x, "", "", 3, x},
		{"", x, y, 2, x},
		{"", y, x, 2, y},
		{"", x, y, 3, "-"},
		{x, "", y, 3, "-"},
		{x, y, "", 3, "-"},
	} {
		r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*")
		r.AddTarget("x/1", "the same", nil, "a", "b", "c")
		for role, sum := range map[string]string{"a": tt.a, "b": tt.b, "c": tt.c} {
			if sum != "" {
				rawtuf.At(r.Roles[role], "targets", "x/1", "hashes")["sha512"] = sum
			}
		}
		agree(r, tt.min, true, "a", "b", "c")
		a, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
		if tt.sum == "-" {
			want(t, err, tuf.ErrNotApproved, "3 of the roles")
		} else if err != nil || a.SHA512() != tt.sum {
			t.Errorf("%+v: sha512 is %.4q, %v", tt, a.SHA512(), err)
		}
	}
}

// A group that can't be interpreted is refused: ignoring it would let one role decide
// alone.
func TestAgreementMalformed(t *testing.T) {
	for name, group := range map[string]any{
		"object was expected": "a b",
		"no roles":            doc{"roles": []any{}, "min_roles_in_agreement": 0},
		"zero":                doc{"roles": []any{"a", "b"}, "min_roles_in_agreement": 0},
		"no number":           doc{"roles": []any{"a", "b"}},
		"more than there":     doc{"roles": []any{"a", "b"}, "min_roles_in_agreement": 3},
		"unknown role":        doc{"roles": []any{"a", "z"}, "min_roles_in_agreement": 2},
		"a role twice":        doc{"roles": []any{"a", "a"}, "min_roles_in_agreement": 2},
		"past the last":       doc{"roles": []any{"c", "z"}, "min_roles_in_agreement": 2},
		"not adjacent":        doc{"roles": []any{"a", "c"}, "min_roles_in_agreement": 2},
		"wrong case":          doc{"roles": []any{"a", "b"}, "Min_roles_in_agreement": 2, "min_roles_in_agreement": 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*", "a = x/1")
			d := rawtuf.At(r.Roles["targets"], "delegations")
			d[layout.AgreementMember] = []any{group}
			r.Bump("targets")
			r.Publish()
			_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
			want(t, err, tuf.ErrMalformed, "targets")
			delete(d, layout.AgreementMember)
			r.Bump("targets")
			r.Publish()
			_, err = mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
			want(t, err, nil, "")
		})
	}
	r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*", "a = x/1")
	agree(r, 2, true, "a", "b")
	agree(r, 2, true, "b", "c")
	_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	want(t, err, tuf.ErrMalformed, "in two")
}

// Cyclic groups exhaust the limit of depth, wide ones that of visits.
func TestAgreementCycle(t *testing.T) {
	r := tree(t, "^ > a: x/*", "^ > b: x/*", "a > c: x/*", "a > d: x/*", "c > a: x/*", "d > b: x/*")
	agree(r, 2, true, "a", "b")
	d := rawtuf.At(r.Roles["a"], "delegations")
	d[layout.AgreementMember] = []any{doc{"roles": []any{"c", "d"}, "min_roles_in_agreement": 2}}
	r.Bump("a")
	r.Publish()
	_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	want(t, err, tuf.ErrTooLarge, "delegations deep")
	for i, err := range []error{tuf.ErrTooLarge, nil} {
		r = tree(t, "^ > a: x/*", "^ > b: x/*", "a > c: x/*", "b > d: x/*")
		agree(r, 2, true, "a", "b")
		root, err2 := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Visits: 4 + i}})
		if err2 != nil {
			t.Fatal(err2)
		}
		r.AddTarget("x/1", "the same", nil, "c", "d")
		r.Bump("c", "d")
		r.Publish()
		want(t, find(&client{root: root}, r, "x/1"), err, "")
	}
}

// A group of too many roles is refused before it is processed.
func TestAgreementOfTooMany(t *testing.T) {
	for n, err := range map[int]error{64: nil, 65: tuf.ErrMalformed} {
		r := tree(t)
		var names []any
		for i := range n {
			name := fmt.Sprintf("r%02d", i)
			r.Delegate("targets", name, doc{"paths": []any{"y/*"}}, "k")
			names = append(names, name)
		}
		agree(r, 1, true, names...)
		r.AddTarget("x/1", "x", nil, "targets")
		r.Publish()
		want(t, find(newClient(t, r), r, "x/1"), err, "")
	}
}

// A recall names bytes: those of its class under any path, and no others. One party is
// enough.
func TestRecalledBytes(t *testing.T) {
	const path, alias = rawtuf.Path, "agent/latest"
	for _, role := range []string{"vendor-agent", "review-agent"} {
		r := rawtuf.New()
		r.AddTarget(path, "bad", nil, "vendor-agent", "review-agent")
		r.AddTarget(alias, "bad", nil, "vendor-agent", "review-agent")
		r.AddTarget("agent/good", "good", nil, "vendor-agent", "review-agent")
		sum := rawtuf.At(r.Roles[role], "targets", path, "hashes")["sha256"].(string)
		for name, x := range map[string]struct {
			path, sum string
			want      error
		}{
			"the bytes":             {path, sum, tuf.ErrRecalled},
			"in upper case":         {path, strings.ToUpper(sum), tuf.ErrRecalled},
			"by a name of the past": {"agent/old", sum, tuf.ErrRecalled},
			"other bytes":           {path, strings.Repeat("ab", 32), nil},
			"of another class":      {"rules/old", sum, nil},
		} {
			good := doc{"path": "agent/x", "sha256": strings.Repeat("00", 32), "reason": "another", "at": "2026-01-02T03:04:05Z"}
			r.Roles[role][layout.RecallMember] = []any{good, doc{"path": x.path, "sha256": x.sum, "reason": "crashes", "at": "2026-01-02T03:04:05Z"}}
			r.Bump(role)
			r.Publish()
			for _, p := range []string{path, alias} {
				contains := ""
				if x.want != nil {
					contains = `at 2026-01-02T03:04:05Z`
				}
				if a, err := mustSnapshot(t, r).Approve(p, from(r)); !errors.Is(err, x.want) || a.IsZero() != (x.want != nil) || err != nil && !strings.Contains(err.Error(), contains) {
					t.Errorf("%s, %s, %s: %v, want %v", role, name, p, err, x.want)
				}
			}
			if _, err := mustSnapshot(t, r).Approve("agent/good", from(r)); err != nil {
				t.Errorf("%s, %s: %v", role, name, err)
			}
		}
	}
}

func TestRecalls(t *testing.T) {
	r := rawtuf.New()
	sum := strings.Repeat("Ab", 32)
	recall := func(change func(doc)) []any {
		d := doc{"path": rawtuf.Path, "sha256": sum, "reason": "crashes at start", "at": "2026-01-02T03:04:05Z"}
		if change != nil {
			change(d)
		}
		return []any{d}
	}
	set := func(role string, list any) {
		r.Roles[role][layout.RecallMember] = list
		r.Bump(role)
		r.Publish()
	}
	get := func() ([]tuf.Recall, error) { return mustSnapshot(t, r).Recalls(from(r)) }

	if list, err := get(); err != nil || len(list) != 0 {
		t.Fatal(list, err)
	}
	set("review-agent", recall(nil))
	list, err := get()
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if x := list[0]; x.Path != rawtuf.Path || x.SHA256 != strings.ToLower(sum) || x.Reason != "crashes at start" || x.Party != "review" ||
		x.Class != "agent" || x.Role != "review-agent" || x.Version < 2 || x.At.Year() != 2026 {
		t.Fatalf("%+v", x)
	}
	set("review-agent", recall(func(d doc) { d["path"] = "rules/other" }))
	if list, err := get(); err != nil || len(list) != 0 {
		t.Fatal("a recall outside the role's class counts:", list, err)
	}
	for name, bad := range map[string]any{
		"object":  doc{},
		"no path": recall(func(d doc) { delete(d, "path") }),
		"no hash": recall(func(d doc) { d["sha256"] = "12" }),
		"no time": recall(func(d doc) { delete(d, "at") }),
		"time":    recall(func(d doc) { d["at"] = "yesterday" }),
	} {
		set("review-agent", bad)
		if _, err := get(); !errors.Is(err, tuf.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	set("review-agent", []any{})
	if _, err := get(); err != nil {
		t.Fatal(err)
	}
	if _, err := new(tuf.Snapshot).Recalls(from(r)); !errors.Is(err, tuf.ErrUntrusted) {
		t.Errorf("zero Snapshot: %v", err)
	}
}
