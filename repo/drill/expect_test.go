package drill

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/repotest"
	"github.com/visum-dev/visum/repo"
	"github.com/visum-dev/visum/tuf"
)

// Expectations of the oracle for a client with root 2, whose pin lists one more
// location than the roots do.
func TestExpectation(t *testing.T) {
	t.Parallel()
	p := cutting(t)
	a, b, z, x := p.base("a"), p.base("b"), p.base("z"), "https://x.example.org/"
	var doc map[string]any
	rawtuf.NoErr(t, json.Unmarshal(p.pins[0], &doc))
	list := doc["locations"].([]any)
	more := maps.Clone(list[0].(map[string]any))
	more["id"], more["base"], more["operator"] = "x", x, "host-x"
	doc["locations"] = append(list, more)
	data, err := json.Marshal(doc)
	rawtuf.NoErr(t, err)
	pin, err := tuf.OpenPin(data, nil)
	rawtuf.NoErr(t, err)
	status := func(code int) host { return host{answer: func(string) (int, []byte) { return code, nil }} }
	well, frozen, unreachable := host{files: "after", content: true}, host{files: "before", content: true}, host{unreachable: true}
	roots, content := host{files: "after"}, host{files: "after", content: true, roots: 2}
	forks := host{files: "before", content: true, fork: p.fork, forkAt: 3}
	for name, tt := range map[string]struct {
		a, b, z, x host
		want       expectation
	}{
		"all locations healthy":         {well, well, roots, well, expectation{3, true, 0}},
		"total outage":                  {unreachable, unreachable, unreachable, unreachable, expectation{2, false, 0}},
		"one reports none":              {frozen, well, roots, unreachable, expectation{3, true, 0}},
		"two report none":               {frozen, well, unreachable, frozen, expectation{3, true, 0}},
		"three report none":             {frozen, well, status(404), frozen, expectation{3, true, 0}},
		"two hide it":                   {status(403), well, status(404), unreachable, expectation{3, true, 0}},
		"two are broken":                {status(500), well, status(451), unreachable, expectation{3, true, 0}},
		"the rendezvous alone":          {unreachable, unreachable, roots, unreachable, expectation{3, false, 0}},
		"the rendezvous has content":    {unreachable, unreachable, well, unreachable, expectation{3, false, 0}},
		"a location of the pin only":    {unreachable, unreachable, unreachable, well, expectation{3, false, 0}},
		"content and root apart":        {unreachable, content, unreachable, roots, expectation{3, true, 0}},
		"content that is not valid yet": {frozen, unreachable, roots, unreachable, expectation{3, false, 0}},
		"another root 3":                {forks, unreachable, unreachable, unreachable, expectation{2, true, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			s := scene{hosts: map[string]host{a: tt.a, b: tt.b, z: tt.z, x: tt.x}}
			if got := p.expect(t.Context(), s, 2, pin); got != tt.want {
				t.Errorf("expects %+v, want %+v", got, tt.want)
			}
		})
	}
	// A charter with min_operators 1 lets a client stop if one operator reports no next
	// Root and there is content.
	rests := prepared(t, repotest.NewMoving(t, func(r *repo.Root) {
		r.Probe = tuf.Probe{MinOperators: 1, Every: time.Hour, MaxAge: 1000 * time.Hour}
		r.Locations = append(r.Locations, repotest.Location("b", tuf.Mirror, 30))
	}), slices.Concat(repotest.OldKeys, repotest.ReviewKeys), func(ctx context.Context, r *repo.Repo) (*repo.Draft, error) {
		return r.Stage(ctx, func(tx *repo.Tx) error { tx.RenewRoot(); return nil })
	})
	one, err := tuf.OpenPin(rests.pins[0], nil)
	rawtuf.NoErr(t, err)
	for name, tt := range map[string]struct {
		a, b host
		want expectation
	}{
		"one reports none":                          {host{files: "before", content: true, roots: 1}, well, expectation{2, true, 1}},
		"one reports none, and there is no content": {host{files: "before", roots: 1}, host{files: "after"}, expectation{2, false, 0}},
		"none reports none":                         {unreachable, well, expectation{2, true, 0}},
	} {
		s := scene{hosts: map[string]host{a: tt.a, b: tt.b, z: unreachable}}
		if got := rests.expect(t.Context(), s, 1, one); got != tt.want {
			t.Errorf("%s: expects %+v, want %+v", name, got, tt.want)
		}
	}
	// After its use_until a location does not count.
	p.now = p.now.AddDate(1, 0, 0)
	p.valid[validKey{3, a, "after", true}] = true
	s := scene{hosts: map[string]host{a: well, b: unreachable, z: unreachable, x: unreachable}}
	if got, want := p.expect(t.Context(), s, 3, pin), (expectation{root: 3}); got != want {
		t.Errorf("expects %+v, want %+v", got, want)
	}
}
