package tuf_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// newRoot returns an attack: an edit of the next root, signed by all root keys.
func newRoot(change func(r *rawtuf.Repo, charter doc)) func(*rawtuf.Repo) {
	return func(r *rawtuf.Repo) { r.NextRoot(func() { change(r, r.Charter()) }) }
}

func location(i int, name string, v any) func(*rawtuf.Repo) {
	return newRoot(func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "locations", i)[name] = v })
}

func member(name string, v any) func(*rawtuf.Repo) {
	return newRoot(func(_ *rawtuf.Repo, c doc) { c[name] = v })
}

func class(change func(r *rawtuf.Repo, class doc)) func(*rawtuf.Repo) {
	return newRoot(func(r *rawtuf.Repo, c doc) { change(r, rawtuf.At(c, "classes", 0)) })
}

// Roots that both parties signed but that break a rule: the error names the rule.
func TestHardRules(t *testing.T) {
	breaks := func(rule, name string, mutate func(*rawtuf.Repo)) attack {
		return attack{rule + " " + name, mutate, tuf.ErrCharter, "root v2: breaks the charter's rules: " + rule + ":"}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		breaks("H1", "root of another product", member("repo_id", strings.Repeat("ab", 16))),
		breaks("H1", "no repo_id", newRoot(func(_ *rawtuf.Repo, c doc) { delete(c, "repo_id") })),
		breaks("H1", "upper case", member("repo_id", strings.ToUpper(rawtuf.RepoID))),
		breaks("H2", "seq back", newRoot(func(_ *rawtuf.Repo, c doc) { c["seq"] = 0 })),
		breaks("H2", "seq stays though the charter changes", newRoot(func(_ *rawtuf.Repo, c doc) { c["seq"], c["x-new"] = 0, 1 })),
		breaks("H2", "prev_root_sha256 of another form", member("prev_root_sha256", "abc")),
		breaks("H3", "epoch skipped", epoch(func(r *rawtuf.Repo, c doc) { c["epoch"] = 3 })),
		breaks("H3", "epoch back", epoch(func(r *rawtuf.Repo, c doc) { c["epoch"] = 0 })),
		breaks("H3", "new online keys within an epoch", epoch(func(r *rawtuf.Repo, c doc) { c["epoch"] = 1 })),
		breaks("H3", "an online key more within an epoch", newRoot(func(r *rawtuf.Repo, _ doc) {
			r.AddKeys(r.Root, "ts2")
			r.Root["roles"].(doc)["timestamp"] = r.Role(1, "timestamp", "ts2")
		})),
		breaks("H3", "snapshot key stays at an epoch", epoch(func(r *rawtuf.Repo, c doc) { r.Root["roles"].(doc)["snapshot"] = r.Role(1, "snapshot") })),
		breaks("H3", "timestamp key becomes the snapshot key", epoch(func(r *rawtuf.Repo, c doc) { r.Root["roles"].(doc)["snapshot"] = r.Role(1, "timestamp") })),
		breaks("H3", "timestamp floor lowered", member("floors", doc{"timestamp": 0, "snapshot": 1, "targets": 1})),
		breaks("H3", "snapshot floor lowered", member("floors", doc{"timestamp": 1, "snapshot": 0, "targets": 1})),
		breaks("H3", "targets floor lowered at an epoch", epoch(func(r *rawtuf.Repo, c doc) { c["floors"] = doc{"timestamp": 0, "snapshot": 0, "targets": 0} })),
		breaks("H4", "http", location(0, "base", "http://updates.vendor.example/r/")),
		breaks("H4", "LAN address", location(1, "base", "https://192.168.1.4/r/")),
		breaks("H4", "retired host not a host", member("retired", []any{doc{"id": "attic", "hosts": []any{"old.vendor.example", "https://x/"}}})),
		breaks("H5", "..", location(0, "paths", doc{"metadata": "../metadata/", "targets": "targets/"})),
		breaks("H5", ". in the middle", location(0, "paths", doc{"metadata": "a/./b/", "targets": "targets/"})),
		breaks("H5", "escaped", location(0, "paths", doc{"metadata": "%2e%2e/", "targets": "targets/"})),
		breaks("H5", "absolute", location(0, "paths", doc{"metadata": "metadata/", "targets": "/targets/"})),
		breaks("H5", "no slash at the end", location(0, "paths", doc{"metadata": "metadata", "targets": "targets/"})),
		breaks("H5", "only a slash", location(0, "paths", doc{"metadata": "/", "targets": "targets/"})),
		breaks("H5", "URL", location(0, "paths", doc{"metadata": "https://evil.example/", "targets": "targets/"})),
		breaks("H5", "a primary without targets", location(0, "paths", doc{"metadata": "metadata/"})),
		breaks("H5", "no metadata", location(2, "paths", doc{"targets": "targets/"})),
		breaks("H6", "id twice", location(1, "id", "main")),
		breaks("H6", "retired id in capitals", member("retired", []any{doc{"id": "attic", "hosts": []any{"old.vendor.example"}}, doc{"id": "Attic", "hosts": []any{"x.example"}}})),
		breaks("H6", "retired id twice", member("retired", []any{doc{"id": "attic", "hosts": []any{"old.vendor.example"}}, doc{"id": "attic", "hosts": []any{"x.example"}}})),
		breaks("H6", "id of a retired location", location(1, "id", "attic")),
		breaks("H6", "id in upper case", location(1, "id", "CDN")),
		breaks("H6", "id too long", location(1, "id", strings.Repeat("a", 33))),
		breaks("H6", "unknown tier", location(1, "tier", "secondary")),
		breaks("H6", "no operator", location(1, "operator", "")),
		breaks("H7", "every location has use_until", newRoot(func(_ *rawtuf.Repo, c doc) {
			for i := range 2 {
				rawtuf.At(c, "locations", i)["use_until"] = "2031-01-01T00:00:00Z"
			}
		})),
		breaks("H7", "only a legacy location and the rendezvous remain", newRoot(func(_ *rawtuf.Repo, c doc) {
			rawtuf.At(c, "locations", 0)["tier"] = "legacy"
			c["locations"] = slices.Delete(c["locations"].([]any), 1, 2)
		})),
		breaks("H7", "no locations", member("locations", []any{})),
		breaks("H8", "retired host listed", location(1, "base", "https://old.vendor.example/r/")),
		breaks("H8", "retired host listed with a port", location(1, "base", "https://old.vendor.example:8443/r/")),
		breaks("H8", "retired entry dropped", member("retired", []any{})),
		breaks("H8", "retired host dropped", member("retired", []any{doc{"id": "attic", "hosts": []any{"other.vendor.example"}}})),
		breaks("H8", "retired entry without hosts", member("retired", []any{doc{"id": "attic", "hosts": []any{}}})),
		breaks("H9", "threshold lowered", newRoot(func(r *rawtuf.Repo, _ doc) { rawtuf.At(r.Root, "roles", "root")["threshold"] = 2 })),
		breaks("H9", "one key in both parties", newRoot(func(r *rawtuf.Repo, c doc) {
			rawtuf.At(c, "parties", 0)["keyids"] = r.IDs("vendor1", "vendor2", "review1")
		})),
		breaks("H9", "one public key under two ids", newRoot(func(r *rawtuf.Repo, _ doc) {
			_, key := r.KeyDoc("vendor1")
			key["x"] = "another id for it"
			rawtuf.At(r.Root, "keys")["alias"] = key
		})),
		breaks("H9", "a root key of no party", newRoot(func(r *rawtuf.Repo, _ doc) {
			r.AddKeys(r.Root, "third")
			r.Root["roles"].(doc)["root"] = r.Role(4, "vendor1", "vendor2", "review1", "review2", "third")
		})),
		breaks("H9", "a party key that is no root key", newRoot(func(r *rawtuf.Repo, _ doc) {
			r.Root["roles"].(doc)["root"] = r.Role(3, "vendor1", "vendor2", "review1", "va")
		})),
		breaks("H9", "a party key that is not there", newRoot(func(r *rawtuf.Repo, _ doc) { delete(rawtuf.At(r.Root, "keys"), r.IDs("review2")[0].(string)) })),
		breaks("H9", "a party key of an unknown kind", newRoot(func(r *rawtuf.Repo, _ doc) {
			rawtuf.At(r.Root, "keys", r.IDs("review2")[0].(string))["keytype"] = "ml-dsa"
		})),
		breaks("H9", "a release key of an unknown kind", newRoot(func(r *rawtuf.Repo, _ doc) {
			rawtuf.At(r.Root, "keys", r.IDs("ra")[0].(string))["keytype"] = "ml-dsa"
		})),
		breaks("H9", "minimum 0", newRoot(func(r *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 1)["min"] = 0 })),
		breaks("H9", "minimum above the keys", newRoot(func(r *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 1)["min"] = 3 })),
		breaks("H9", "a party alone", newRoot(func(r *rawtuf.Repo, c doc) {
			c["parties"] = []any{doc{"name": "vendor", "min": 1, "keyids": r.IDs(oldSigners...)}}
		})),
		breaks("H9", "two parties of one name", newRoot(func(r *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 1)["name"] = "vendor" })),
		breaks("H9", "vendor's root key signs releases for review", class(func(r *rawtuf.Repo, cl doc) {
			rawtuf.At(cl, "roles", 1)["keyids"] = r.IDs("vendor1")
		})),
		breaks("H9", "one release key for two parties", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["keyids"] = r.IDs("va") })),
		breaks("H9", "release threshold above the keys", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["threshold"] = 2 })),
		breaks("H9", "a release key that is not there", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["keyids"] = r.IDs("ghost") })),
		breaks("H10", "charter stripped", func(r *rawtuf.Repo) { r.NextRoot(func() { delete(r.Root, "x-visum") }) }),
		breaks("H10", "class without a role of review", class(func(r *rawtuf.Repo, cl doc) { cl["roles"] = cl["roles"].([]any)[:1] })),
		breaks("H10", "role of an unknown party", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["party"] = "press" })),
		breaks("H10", "one role for both parties", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["role"] = "vendor-agent" })),
		breaks("H10", "role named like a top-level one", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["role"] = "snapshot" })),
		breaks("H10", "role name that climbs", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "roles", 1)["role"] = "../x" })),
		breaks("H10", "hold named like a release role", class(func(r *rawtuf.Repo, cl doc) { rawtuf.At(cl, "hold")["role"] = "review-agent" })),
		breaks("H10", "hold without an end", class(func(r *rawtuf.Repo, cl doc) { delete(rawtuf.At(cl, "hold"), "max_seconds") })),
		breaks("H10", "prefixes overlap", newRoot(func(r *rawtuf.Repo, c doc) {
			other := rawtuf.Copy(rawtuf.At(c, "classes", 0)).(doc)
			other["name"], other["prefix"] = "beta", "agent/beta/"
			delete(other, "hold")
			rawtuf.At(other, "roles", 0)["role"], rawtuf.At(other, "roles", 1)["role"] = "vendor-beta", "review-beta"
			c["classes"] = append(c["classes"].([]any), other)
		})),
		breaks("H10", "prefix of everything", class(func(r *rawtuf.Repo, cl doc) { cl["prefix"] = "" })),
		breaks("H10", "prefix in the middle of a name", class(func(r *rawtuf.Repo, cl doc) { cl["prefix"] = "agen" })),
	})
}

// epoch returns a valid step to the next epoch with a change.
func epoch(change func(r *rawtuf.Repo, charter doc)) func(*rawtuf.Repo) {
	return newRoot(func(r *rawtuf.Repo, c doc) {
		r.AddKeys(r.Root, "ts2", "sn2")
		r.Root["roles"].(doc)["timestamp"], r.Root["roles"].(doc)["snapshot"] = r.Role(1, "ts2"), r.Role(1, "sn2")
		r.Signers["timestamp"], r.Signers["snapshot"] = []string{"ts2"}, []string{"sn2"}
		c["epoch"] = 2
		change(r, c)
	})
}

// H11: the signatures of a root. The compromised keys are not enough.
func TestHardRuleSignatures(t *testing.T) {
	forge := func(keys ...string) func(*rawtuf.Repo) {
		return newRoot(func(r *rawtuf.Repo, c doc) {
			r.Signers["root"] = keys
			rawtuf.At(c, "locations", 0)["base"] = "https://evil.example/r/"
		})
	}
	again := func(keys []string, as func(i int, s doc) any) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			forge(keys...)(r)
			envelope(r, "2.root.json", func(s []any) []any {
				for i := range 3 {
					s = append(s, as(i, s[0].(doc)))
				}
				return s
			})
		}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		{"all vendor keys", forge("vendor1", "vendor2", "va", "targets", "timestamp", "snapshot"), tuf.ErrThreshold, "0 of 1 needed keys of party review in the trusted root"},
		{"all vendor keys and one of review where three are needed of four", forge("vendor1", "review1"), tuf.ErrThreshold, "2 of 3"},
		{"all review keys", forge("review1", "review2", "ra"), tuf.ErrThreshold, "0 of 1 needed keys of party vendor"},
		{"one key signs four times", again([]string{"vendor1", "review1"}, func(_ int, s doc) any { return s }), tuf.ErrMalformed, "two signatures"},
		{"one key signs under other ids", again([]string{"vendor1", "review1"}, func(i int, s doc) any {
			return doc{"keyid": fmt.Sprint("id", i), "sig": s["sig"]}
		}), tuf.ErrThreshold, "2 of 3"},
		{"two parties of the attacker", newRoot(func(r *rawtuf.Repo, c doc) {
			own := []string{"evil1", "evil2", "evil3", "evil4"}
			r.AddKeys(r.Root, own...)
			r.Root["roles"].(doc)["root"] = r.Role(3, own...)
			rawtuf.At(c, "parties", 0)["keyids"], rawtuf.At(c, "parties", 1)["keyids"] = r.IDs(own[:2]...), r.IDs(own[2:]...)
			r.Signers["root"] = append(own, "vendor1", "vendor2")
		}), tuf.ErrThreshold, "party review in the trusted root"},
		{"new review keys without proof that they exist", newRoot(func(r *rawtuf.Repo, c doc) {
			r.AddKeys(r.Root, "review3")
			r.Root["roles"].(doc)["root"] = r.Role(3, "vendor1", "vendor2", "review3")
			rawtuf.At(c, "parties", 1)["keyids"] = r.IDs("review3")
		}), tuf.ErrThreshold, "0 of 1 needed keys of party review in the new root"},
	})
}

// With a threshold above the least one the parties' minima still apply by themselves.
func TestPartyMinimum(t *testing.T) {
	r := rawtuf.New()
	rawtuf.At(r.Charter(), "parties", 1)["min"] = 2
	rawtuf.At(r.Root, "roles", "root")["threshold"] = 4
	r.PublishRoot()
	if _, err := tuf.OpenRoot(r.Files["1.root.json"], nil); err != nil {
		t.Fatal(err)
	}
	r.Signers["root"] = []string{"vendor1", "vendor2", "review1"}
	r.PublishRoot()
	_, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	want(t, err, tuf.ErrThreshold, "1 of 2 needed keys of party review")
}

// The form of a charter, checked before the rules.
func TestCharterForm(t *testing.T) {
	var many []any
	for i := range 33 {
		l := rawtuf.Copy(rawtuf.Locations()[0]).(doc)
		l["id"] = fmt.Sprint("location-", i)
		many = append(many, l)
	}
	bad := func(name string, mutate func(*rawtuf.Repo), part string) attack {
		return attack{name, mutate, tuf.ErrMalformed, part}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		bad("schema 2", member("schema", 2), "schema is 2"),
		bad("no schema", newRoot(func(_ *rawtuf.Repo, c doc) { delete(c, "schema") }), "schema is 0"),
		bad("object was expected", func(r *rawtuf.Repo) { r.NextRoot(func() { r.Root["x-visum"] = "yes" }) }, "object"),
		bad("null", func(r *rawtuf.Repo) { r.NextRoot(func() { r.Root["x-visum"] = nil }) }, "null"),
		bad("a null in it", member("x", []any{nil}), "null"),
		bad("2^53", member("x", 1<<53), "2^53"),
		bad("member in another case", member("Locations", []any{}), "wrong case"),
		bad("the member's own name in another case", func(r *rawtuf.Repo) { r.NextRoot(func() { r.Root["X-Visum"] = doc{} }) }, "wrong case"),
		bad("33 locations", member("locations", many), "more than 32 locations"),
		bad("64 KiB", member("x", strings.Repeat("x", 64<<10)), "at most 65536"),
		bad("negative epoch", member("epoch", -1), "negative"),
		bad("no signed_at", newRoot(func(_ *rawtuf.Repo, c doc) { delete(c, "signed_at") }), "signed_at"),
		bad("time with fractions", member("signed_at", "2030-01-01T00:00:00.5Z"), "want the form"),
		bad("time with an offset", location(0, "use_from", "2030-01-01T00:00:00+00:00"), "want the form"),
		bad("empty use_until", location(0, "use_until", ""), "want the form"),
		bad("probe of no mode", member("probe", doc{"min_operators": 2, "every_seconds": 60, "max_age_seconds": 60, "mode": "off"}), "probe mode"),
		bad("probe of no operator", member("probe", doc{"min_operators": 0, "every_seconds": 60, "max_age_seconds": 60, "mode": "warn"}), "min_operators 0"),
		bad("hold of a century", class(func(_ *rawtuf.Repo, cl doc) { rawtuf.At(cl, "hold")["max_seconds"] = 1 << 40 }), "duration"),
	})
}

// One client follows the four roots of a move and a renewal.
func TestMove(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	steps := []struct {
		name string
		step func()
		seq  int64
	}{
		{"renewal", func() {
			newRoot(func(_ *rawtuf.Repo, c doc) {
				c["signed_at"], c["prev_root_sha256"] = "2030-01-15T13:00:00Z", firstHash(t, r)
			})(r)
		}, 1},
		{"announce", newStep(r, func(c doc) {
			b := rawtuf.Copy(rawtuf.At(c, "locations", 0)).(doc)
			b["id"], b["operator"], b["base"], b["use_from"] = "new", "vendor-de", "https://updates.new.example/r/", "2030-02-01T00:00:00Z"
			c["locations"] = append(c["locations"].([]any), b)
		}), 2},
		{"cut over", func() {
			epoch(func(r *rawtuf.Repo, c doc) {
				newVendorKeys(r)
				a := rawtuf.At(c, "locations", 0)
				a["tier"], a["use_until"] = "legacy", "2030-06-01T00:00:00Z"
				c["floors"] = doc{"timestamp": 1, "snapshot": 1, "targets": 5}
			})(r)
			for _, role := range []string{"timestamp", "snapshot"} {
				r.Roles[role]["version"] = 1 // a new epoch ends versions inflated with compromised keys
			}
			r.Publish()
		}, 3},
		{"retire", newStep(r, func(c doc) {
			c["locations"] = slices.Delete(c["locations"].([]any), 0, 1)
			c["retired"] = append(c["retired"].([]any), doc{"id": "main", "hosts": []any{"updates.vendor.example"}})
		}), 4},
	}
	want(t, c.walk(r), nil, "")
	for i, s := range steps {
		s.step()
		if err := c.walk(r); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if v, seq := c.root.Version(), c.root.Charter().Seq(); v != int64(i+2) || seq != s.seq {
			t.Errorf("%s: root v%d with seq %d, want seq %d", s.name, v, seq, s.seq)
		}
	}
	// A pin from before the move has the old host; the charter forbids it.
	charter := c.root.Charter()
	for _, l := range newClient(t, r).root.Charter().Locations() {
		if got := charter.Usable(l, rawtuf.Now); got != (l.ID != "main") {
			t.Errorf("%s usable: %v", l.ID, got)
		}
	}
	// A client that was offline during the move completes it.
	want(t, newClient(t, r).walk(r), nil, "")
}

func newStep(r *rawtuf.Repo, change func(charter doc)) func() {
	return func() { newRoot(func(_ *rawtuf.Repo, c doc) { change(c) })(r) }
}

// firstHash is the prev_root_sha256 of root v2.
func firstHash(t *testing.T, r *rawtuf.Repo) string { return newClient(t, r).root.SHA256() }

// A location past its use_until is not contacted, whatever other list has its host.
func TestUsable(t *testing.T) {
	r := rawtuf.New()
	end := rawtuf.Now.Add(time.Hour)
	rawtuf.At(r.Charter(), "locations", 0)["use_until"] = rawtuf.Stamp(end)
	r.PublishRoot()
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	c := root.Charter()
	pinned := tuf.Location{ID: "pin", Tier: tuf.Primary, Base: "https://updates.vendor.example/elsewhere/"}
	retired := tuf.Location{ID: "pin", Tier: tuf.Primary, Base: "https://old.vendor.example:444/r/"}
	unknown := tuf.Location{ID: "pin", Tier: tuf.Primary, Base: "https://updates.other.example/r/"}
	ended := unknown
	ended.UseUntil = end
	for _, tt := range []struct {
		l    tuf.Location
		now  time.Time
		want bool
	}{
		{c.Locations()[0], end.Add(-time.Second), true},
		{c.Locations()[0], end, false},
		{pinned, end.Add(-time.Second), true},
		{pinned, end, false},
		{retired, rawtuf.Now, false},
		{unknown, end, true},
		{ended, end.Add(-time.Second), true},
		{ended, end, false},
	} {
		if got := c.Usable(tt.l, tt.now); got != tt.want {
			t.Errorf("%s at %s: usable is %v", tt.l.Base, rawtuf.Stamp(tt.now), got)
		}
	}
}

// seq never decreases, increases with changes of the charter, and may increase by any amount.
// A renewal does not change the charter.
func TestSeq(t *testing.T) {
	const was = 7
	for name, tt := range map[string]struct {
		seq    int
		change func(charter doc)
		ok     bool
	}{
		"renewed":                        {was, nil, true},
		"renewed, one more":              {was + 1, nil, true},
		"renewed, many more":             {was + 1_000_000, nil, true},
		"renewed, the largest there is":  {1<<53 - 1, nil, true},
		"renewed, one less":              {was - 1, nil, false},
		"renewed with all that may vary": {was, func(c doc) { c["signed_at"], c["prev_root_sha256"] = "2030-01-16T12:00:00Z", strings.Repeat("ab", 32) }, true},
		"changed":                        {was + 1, func(c doc) { c["x-new"] = 1 }, true},
		"changed, many more":             {was + 50, func(c doc) { c["x-new"] = 1 }, true},
		"changed, the same":              {was, func(c doc) { c["x-new"] = 1 }, false},
		"changed, one less":              {was - 1, func(c doc) { c["x-new"] = 1 }, false},
	} {
		r := rawtuf.New()
		r.Charter()["seq"] = was
		r.PublishRoot()
		root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.NextRoot(func() {
			if tt.change != nil {
				tt.change(r.Charter())
			}
		})
		r.Charter()["seq"] = tt.seq
		r.PublishRoot()
		_, nextErr := root.Next(r.Files["2.root.json"])
		_, proposeErr := root.Propose(r.Files["2.root.json"])
		for _, err := range []error{nextErr, proposeErr} {
			if tt.ok && err != nil || !tt.ok && (!errors.Is(err, tuf.ErrCharter) || !strings.Contains(err.Error(), "H2: seq is")) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// Clients with different roots of one version both accept a next root whose seq is above both,
// whatever the changes of either charter.
func TestSeqHealsFork(t *testing.T) {
	r := rawtuf.New()
	base := r.Clone()
	at := func(r *rawtuf.Repo, priority int) {
		r.NextRoot(func() { rawtuf.At(r.Charter(), "locations", 0)["priority"] = priority })
	}
	at(r, 11)
	fork := base.Clone()
	at(fork, 12)
	fork.Charter()["seq"] = 40
	fork.PublishRoot()
	one, other := newClient(t, r), newClient(t, fork)
	want(t, one.walk(r), nil, "")
	want(t, other.walk(fork), nil, "")
	at(r, 13)
	want(t, one.walk(r), nil, "")
	want(t, other.walk(r), tuf.ErrCharter, "H2: seq is 3, was 40")
	r.Charter()["seq"] = 41
	r.PublishRoot()
	// The healthy twin has not accepted the previous root: its hash is different now.
	one = newClient(t, r)
	want(t, one.walk(r), nil, "")
	want(t, other.walk(r), nil, "")
	if one.root.SHA256() != other.root.SHA256() || one.root.Version() != 3 {
		t.Errorf("at root v%d and v%d", one.root.Version(), other.root.Version())
	}
}

// Two charters that differ only in names of unknown members are different: a name that looks
// like two members does not hide the change.
func TestNamesDoNotJoin(t *testing.T) {
	for name, change := range map[string]func(c doc){
		"as it was": func(doc) {},
		"one name that reads like two members": func(c doc) {
			delete(c, "x-a")
			delete(c, "x-b")
			c[`x-a":1,"x-b`] = 2
		},
	} {
		r := rawtuf.New()
		r.Charter()["x-a"], r.Charter()["x-b"] = 1, 2
		r.PublishRoot()
		root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		if err != nil {
			t.Fatal(err)
		}
		r.NextRoot(func() { change(r.Charter()) })
		r.Charter()["seq"] = 1
		r.PublishRoot()
		_, err = root.Next(r.Files["2.root.json"])
		if name == "as it was" {
			want(t, err, nil, "")
		} else {
			want(t, err, tuf.ErrCharter, "H2: seq is still 1, but the charter changed")
		}
	}
}
