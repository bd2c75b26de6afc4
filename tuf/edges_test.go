package tuf_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// Values on both sides of each limit, and checks whose absence the attacks above would
// not reveal.

func TestEdgesOfMetadata(t *testing.T) {
	raw := func(role, member string, v any) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump("lib"); r.Roles[role][member] = v; r.Publish() }
	}
	entry := func(change func(e doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump("lib")
			r.Publish()
			change(rawtuf.At(r.Roles["snapshot"], "meta", "lib.json"))
			r.PublishSnapshot()
		}
	}
	by := func(change func(d doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump("targets")
			change(rawtuf.At(r.Roles["targets"], "delegations"))
			r.Publish()
		}
	}
	first := func(member string, v any) func(*rawtuf.Repo) {
		return by(func(d doc) { rawtuf.At(d, "roles", 0)[member] = v })
	}
	target := func(change func(x doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump("lib")
			change(rawtuf.At(r.Roles["lib"], "targets", "lib/a.txt"))
			r.Publish()
		}
	}
	padded := func(n int) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump()
			r.Publish()
			data := r.Files["timestamp.json"]
			r.Files["timestamp.json"] = append(data, bytes.Repeat([]byte(" "), n-len(data))...)
		}
	}
	run(t, rawtuf.NewPlain, "lib/a.txt", []attack{
		{"as large as the limit", padded(16 << 10), nil, ""},
		{"a byte larger", padded(16<<10 + 1), tuf.ErrTooLarge, "16385 bytes"},
		{"signatures that are an object", func(r *rawtuf.Repo) {
			env := parse(r.Files["timestamp.json"])
			env["signatures"] = doc{}
			r.Files["timestamp.json"] = rawtuf.Marshal(env)
		}, tuf.ErrMalformed, "signatures an array"},
		{"signed that is an array", func(r *rawtuf.Repo) {
			edit(r, "timestamp.json", `"signed":{`, `"signed":[{`)
			edit(r, "timestamp.json", "}}", "}]}")
		},
			tuf.ErrMalformed, ""},
		{"a signature with junk behind it", func(r *rawtuf.Repo) {
			envelope(r, "timestamp.json", func(s []any) []any { s[0].(doc)["sig"] = s[0].(doc)["sig"].(string) + "zz"; return s })
		}, tuf.ErrThreshold, "0 of 1"},
		{"spec_version 1", raw("lib", "spec_version", "1"), nil, ""},
		{"spec_version 1x", raw("lib", "spec_version", "1x"), tuf.ErrMalformed, "spec_version"},
		{"a hash that is no hex", entry(func(e doc) { e["hashes"] = doc{"sha256": strings.Repeat("z", 64)} }), tuf.ErrMalformed, "not 64 hex digits"},
		{"a sha512 of the length of a sha256", entry(func(e doc) { e["hashes"] = doc{"sha512": strings.Repeat("0", 64)} }), tuf.ErrMalformed, "not 128 hex digits"},
		{"hashes that are an array", entry(func(e doc) { e["hashes"] = []any{} }), tuf.ErrMalformed, "hashes must be an object"},
		{"a length that is text", entry(func(e doc) { e["length"] = fmt.Sprint(e["length"]) }), tuf.ErrMalformed, "length is"},
		{"a negative length", entry(func(e doc) { e["length"] = -1 }), tuf.ErrMalformed, "length is -1"},
		{"a length in another case is listed", entry(func(e doc) { e["Length"] = 1 }), tuf.ErrMalformed, "wrong case"},
		{"hashes of unknown algorithms only", entry(func(e doc) { e["hashes"] = doc{"md5": "00"} }), tuf.ErrMalformed, "no hash of a known algorithm"},
		{"targets that are an array", raw("lib", "targets", []any{}), tuf.ErrMalformed, "object was expected"},
		{"another target that is a number", raw("lib", "targets", doc{"lib/b.txt": 1}), tuf.ErrMalformed, `"lib/b.txt" must be an object`},
		{"version 0 is listed", entry(func(e doc) { e["version"] = 0 }), tuf.ErrMalformed, "version must be a positive integer, is 0"},
		{"a target's length that is text", target(func(x doc) { x["length"] = "1" }), tuf.ErrMalformed, "length is"},
		{"a target's length in another case", target(func(x doc) { x["Length"] = 7 }), tuf.ErrMalformed, "wrong case"},
		{"a truncated sha256 with a sha512", target(func(x doc) { x["hashes"] = doc{"sha256": "ab", "sha512": strings.Repeat("0", 128)} }),
			tuf.ErrMalformed, "not 64 hex digits"},
		{"a target's custom in another case", target(func(x doc) { x["custom"] = doc{"Visum": doc{}} }), tuf.ErrMalformed, "wrong case"},
		{"roles that are an object", by(func(d doc) { d["roles"] = doc{} }), tuf.ErrMalformed, "roles must be an array"},
		{"paths that are text", first("paths", "lib/*"), tuf.ErrMalformed, "array of strings"},
		{"paths with a number", first("paths", []any{"lib/*", 7}), tuf.ErrMalformed, "string was expected"},
		{"terminating that is text", first("terminating", "no"), tuf.ErrMalformed, "true or false"},
		{"no terminating", by(func(d doc) { delete(rawtuf.At(d, "roles", 0), "terminating") }), tuf.ErrMalformed, "true or false"},
		{"threshold 65536", first("threshold", 1<<16), tuf.ErrThreshold, "1 of 65536"},
		{"threshold 65537", first("threshold", 1<<16+1), tuf.ErrMalformed, "threshold is 65537"},
		{"a threshold that wraps to 1 in 32 bits", first("threshold", 1<<32+1), tuf.ErrMalformed, "threshold is 4294967297"},
		{"a threshold that is text", first("threshold", "1"), tuf.ErrMalformed, "integer was expected"},
		{"key ids that are text", first("keyids", "x"), tuf.ErrMalformed, "array of strings"},
	})
}

// Parts of a charter that may be absent, and values at their limits.
func TestEdgesOfTheCharter(t *testing.T) {
	open := func(change func(r *rawtuf.Repo, c doc)) (*tuf.Charter, error) {
		r := rawtuf.New()
		change(r, r.Charter())
		r.PublishRoot()
		root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		if err != nil {
			return nil, err
		}
		return root.Charter(), nil
	}
	c, err := open(func(_ *rawtuf.Repo, c doc) {
		delete(c, "floors")
		delete(c, "probe")
		delete(rawtuf.At(c, "classes", 0), "hold")
	})
	if err != nil || c.Floors() != (tuf.Floors{}) || c.Recovery() != nil || c.Classes()[0].Hold != nil ||
		c.Probe() != (tuf.Probe{MinOperators: 2, Every: 6 * time.Hour, MaxAge: 30 * 24 * time.Hour}) {
		t.Fatalf("%+v, %v", c, err)
	}
	probe := func(ops, every, age any, mode string) func(*rawtuf.Repo, doc) {
		return func(_ *rawtuf.Repo, c doc) {
			c["probe"] = doc{"min_operators": ops, "every_seconds": every, "max_age_seconds": age, "mode": mode}
		}
	}
	c, err = open(probe(32, 1, 2, "enforce"))
	if err != nil || c.Probe() != (tuf.Probe{MinOperators: 32, Every: time.Second, MaxAge: 2 * time.Second, Enforce: true}) {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = open(probe(1, 1, 1, "warn")); err != nil || c.Probe().Enforce {
		t.Errorf("%+v, %v", c, err)
	}
	many := func(n int, name string, one func(i int) any) func(*rawtuf.Repo, doc) {
		return func(_ *rawtuf.Repo, c doc) {
			list := c[name].([]any)
			for i := len(list); i < n; i++ {
				list = append(list, one(i))
			}
			c[name] = list
		}
	}
	locations := func(n int) func(*rawtuf.Repo, doc) {
		return many(n, "locations", func(i int) any {
			l := rawtuf.Copy(rawtuf.Locations()[0]).(doc)
			l["id"] = fmt.Sprint("location-", i)
			return l
		})
	}
	retired := func(n int) func(*rawtuf.Repo, doc) {
		return many(n, "retired", func(i int) any { return doc{"id": fmt.Sprint("old-", i), "hosts": []any{"x.example"}} })
	}
	classes := func(n int) func(*rawtuf.Repo, doc) {
		return func(r *rawtuf.Repo, c doc) {
			many(n, "classes", func(i int) any {
				cl := rawtuf.Copy(rawtuf.At(r.Charter(), "classes", 0)).(doc)
				cl["name"], cl["prefix"] = fmt.Sprint("c", i), fmt.Sprintf("c%d/", i)
				delete(cl, "hold")
				for j := range 2 {
					rawtuf.At(cl, "roles", j)["role"] = fmt.Sprintf("role-%d-%d", i, j)
				}
				return cl
			})(r, c)
		}
	}
	parties := func(n int) func(*rawtuf.Repo, doc) {
		return func(r *rawtuf.Repo, c doc) {
			c["classes"] = []any{}
			var list, names = []any{}, []string{}
			for i := range n {
				name := fmt.Sprint("party", i)
				r.AddKeys(r.Root, name)
				names = append(names, name)
				list = append(list, doc{"name": name, "keyids": r.IDs(name), "min": 1})
			}
			c["parties"] = list
			rawtuf.At(r.Root, "roles")["root"], r.Signers["root"] = r.Role(n, names...), names
		}
	}
	sized := func(n int) func(*rawtuf.Repo, doc) {
		return func(_ *rawtuf.Repo, c doc) {
			c["x"] = ""
			c["x"] = strings.Repeat("x", n-len(rawtuf.Marshal(c)))
		}
	}
	set := func(name string, v any) func(*rawtuf.Repo, doc) { return func(_ *rawtuf.Repo, c doc) { c[name] = v } }
	hold := func(seconds any) func(*rawtuf.Repo, doc) {
		return func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "classes", 0, "hold")["max_seconds"] = seconds }
	}
	class := func(name, prefix string) func(*rawtuf.Repo, doc) { // a second one, before the first
		return func(r *rawtuf.Repo, c doc) {
			classes(2)(r, c)
			rawtuf.At(c, "classes", 1)["name"], rawtuf.At(c, "classes", 1)["prefix"] = name, prefix
			slices.Reverse(c["classes"].([]any))
		}
	}
	const decade = 10 * 366 * 24 * 3600
	for _, tt := range []struct {
		name   string
		change func(*rawtuf.Repo, doc)
		want   error
		part   string
	}{
		{"32 locations", locations(32), nil, ""},
		{"33 locations", locations(33), tuf.ErrMalformed, "more than 32 locations"},
		{"64 retired", retired(64), nil, ""},
		{"65 retired", retired(65), tuf.ErrMalformed, "more than 64 retired"},
		{"32 classes", classes(32), nil, ""},
		{"33 classes", classes(33), tuf.ErrMalformed, "more than 32 classes"},
		{"8 parties", parties(8), nil, ""},
		{"9 parties", parties(9), tuf.ErrMalformed, "more than 8 parties"},
		{"64 KiB", sized(64 << 10), nil, ""},
		{"a byte more", sized(64<<10 + 1), tuf.ErrMalformed, "at most 65536"},
		{"2^53 - 1", set("x", 1<<53-1), nil, ""},
		{"-(2^53 - 1)", set("x", -(1<<53 - 1)), nil, ""},
		{"-2^53", set("x", -(1 << 53)), tuf.ErrMalformed, "2^53"},
		{"a null behind others", set("x", []any{"a", doc{"b": true, "c": []any{1, nil}}}), tuf.ErrMalformed, "null"},
		{"a null in a second member", set("x", doc{"a": 1, "b": nil}), tuf.ErrMalformed, "null"},
		{"probe of 33 operators", probe(33, 1, 1, "warn"), tuf.ErrMalformed, "min_operators 33"},
		{"probe of no operator", probe(0, 1, 1, "warn"), tuf.ErrMalformed, "min_operators 0"},
		{"probe without a pause", probe(2, 0, 1, "warn"), tuf.ErrMalformed, "every 0s"},
		{"probe that is always too old", probe(2, 1, 0, "warn"), tuf.ErrMalformed, "max age 0s"},
		{"hold of ten years", hold(decade), nil, ""},
		{"and a second", hold(decade + 1), tuf.ErrMalformed, "duration"},
		{"hold of no time", hold(0), tuf.ErrCharter, "H10"},
		// A later valid member does not hide the first error.
		{"seq that is text", set("seq", "1"), tuf.ErrMalformed, "integer was expected"},
		{"repo_id that is a number", set("repo_id", 1), tuf.ErrMalformed, "string was expected"},
		{"prev_root_sha256 that is a number", set("prev_root_sha256", 1), tuf.ErrMalformed, "string was expected"},
		{"key ids with a number", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 0)["keyids"] = []any{1} }, tuf.ErrMalformed, "string was expected"},
		{"key ids of a role with a number", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "classes", 0, "roles", 0)["keyids"] = []any{1} },
			tuf.ErrMalformed, "string was expected"},
		{"a role that is text", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "classes", 0)["roles"].([]any)[0] = "va" }, tuf.ErrMalformed, "object was expected"},
		{"a party that is text", func(_ *rawtuf.Repo, c doc) { c["parties"].([]any)[0] = "vendor" }, tuf.ErrMalformed, "object was expected"},
		{"a party's name that is a number", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 0)["name"] = 1 }, tuf.ErrMalformed, "string was expected"},
		{"a retired id that is a number", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "retired", 0)["id"] = 1 }, tuf.ErrMalformed, "string was expected"},
		{"use_from that is a number", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "locations", 0)["use_from"] = 7 }, tuf.ErrMalformed, "string was expected"},
		{"locations that are an object", set("locations", doc{}), tuf.ErrMalformed, "locations must be an array"},
		{"a second class", class("beta", "beta/"), nil, ""},
		{"a class of a name in capitals", class("Beta", "beta/"), tuf.ErrCharter, `H10: class name "Beta"`},
		{"two classes of one name", class("agent", "beta/"), tuf.ErrCharter, `H10: class name "agent"`},
		{"a prefix that climbs", class("beta", "a/../"), tuf.ErrCharter, `H10: class beta has prefix "a/../"`},
		{"a prefix of another's, first", class("beta", "agent/beta/"), tuf.ErrCharter, "H10: classes beta and agent overlap"},
		{"an additional role of no party", func(_ *rawtuf.Repo, c doc) {
			role := rawtuf.Copy(rawtuf.At(c, "classes", 0, "roles", 0)).(doc)
			role["role"], role["party"] = "press-agent", "press"
			rawtuf.At(c, "classes", 0)["roles"] = append(rawtuf.At(c, "classes", 0)["roles"].([]any), role)
		}, tuf.ErrCharter, `H10: class agent: role press-agent belongs to the unknown party "press"`},
		{"no repo_id", func(_ *rawtuf.Repo, c doc) { delete(c, "repo_id") }, tuf.ErrCharter, `H1: repo_id ""`},
		{"repo_id in capitals", set("repo_id", strings.ToUpper(rawtuf.RepoID)), tuf.ErrCharter, "H1"},
		{"a retired location without hosts", set("retired", []any{doc{"id": "old", "hosts": []any{}}}), tuf.ErrCharter, "H8: retired old names no host"},
		{"a retired address with a zone", set("retired", []any{doc{"id": "old", "hosts": []any{"[2001:db8::1%eth0]"}}}), tuf.ErrCharter, "H4: retired host"},
		{"prev_root_sha256 of 65 digits", set("prev_root_sha256", strings.Repeat("0", 65)), tuf.ErrCharter, "H2"},
		{"prev_root_sha256 of 62 digits", set("prev_root_sha256", strings.Repeat("0", 62)), tuf.ErrCharter, "H2"},
		{"prev_root_sha256", set("prev_root_sha256", strings.Repeat("0", 64)), nil, ""},
		{"a primary alone", func(_ *rawtuf.Repo, c doc) { c["locations"] = c["locations"].([]any)[:1] }, nil, ""},
		{"a mirror alone", func(_ *rawtuf.Repo, c doc) { c["locations"] = c["locations"].([]any)[1:2] }, nil, ""},
		{"a rendezvous alone", func(_ *rawtuf.Repo, c doc) { c["locations"] = c["locations"].([]any)[2:] }, tuf.ErrCharter, "H7"},
		{"a rendezvous without targets", func(_ *rawtuf.Repo, c doc) { delete(rawtuf.At(c, "locations", 2, "paths"), "targets") }, nil, ""},
		{"keys of unknown kinds", func(r *rawtuf.Repo, _ doc) {
			for _, id := range []string{"a", "b"} {
				rawtuf.At(r.Root, "keys")[id] = doc{"keytype": "ml-dsa", "scheme": "ml-dsa-65", "keyval": doc{"public": "00"}}
			}
		}, nil, ""},
		{"a party without a name", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 0)["name"] = "" }, tuf.ErrCharter, `H9: party name ""`},
		{"a party of a name in capitals", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 0)["name"] = "Vendor" }, tuf.ErrCharter, `H9: party name "Vendor"`},
		{"more needed than there are", func(r *rawtuf.Repo, c doc) {
			rawtuf.At(c, "parties", 1)["min"] = 3
			rawtuf.At(r.Root, "roles", "root")["threshold"] = 5
		}, tuf.ErrCharter, "H9: party review: minimum is 3 of 2 keys"},
		{"a minimum that wraps to 1 in 32 bits", func(_ *rawtuf.Repo, c doc) { rawtuf.At(c, "parties", 1)["min"] = 1<<32 + 1 }, tuf.ErrCharter, "H9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := open(tt.change)
			want(t, err, tt.want, tt.part)
		})
	}
	r := rawtuf.New()
	edit(r, "1.root.json", `"seq":1`, `"seq":9223372036854775808`)
	_, err = tuf.OpenRoot(r.Files["1.root.json"], nil)
	want(t, err, tuf.ErrMalformed, "integer 9223372036854775808 is not below 2^53")
}

func TestEdgesOfApproval(t *testing.T) {
	const p = rawtuf.Path
	at := func(r *rawtuf.Repo, role string) doc { return rawtuf.At(r.Roles[role], "targets", p) }
	publish := func(r *rawtuf.Repo) *tuf.Snapshot {
		r.Bump("vendor-agent", "review-agent", "hold")
		r.Publish()
		return mustSnapshot(t, r)
	}
	all := func(r *rawtuf.Repo) ([]tuf.Candidate, error) {
		return publish(r).Candidates(t.Context(), nil, from(r))
	}

	// Further hashes than sha256: of one party, or the same of both.
	for _, roles := range [][]string{{"vendor-agent"}, {"review-agent"}, {"vendor-agent", "review-agent"}} {
		r := rawtuf.New()
		for _, role := range roles {
			rawtuf.At(at(r, role), "hashes")["sha512"] = strings.Repeat("0", 128)
		}
		a, err := publish(r).Approve(p, from(r))
		if err != nil || a.SHA512() != strings.Repeat("0", 128) {
			t.Errorf("%v: %v, %v", roles, a, err)
		}
	}
	// A class without a hold needs none.
	r := rawtuf.New()
	delete(rawtuf.At(r.Charter(), "classes", 0), "hold")
	r.PublishRoot()
	delete(r.Roles, "hold")
	r.Publish()
	want(t, newClient(t, r).walk(r), nil, "")
	// A hold ends at its until, also before the charter's limit.
	held := func(r *rawtuf.Repo, at, until time.Time) {
		f := rawtuf.FileOf(nil)
		f["custom"] = doc{"visum": doc{"reason": "wait", "at": rawtuf.Stamp(at), "until": rawtuf.Stamp(until)}}
		rawtuf.At(r.Roles["hold"], "targets")[p] = f
	}
	r = rawtuf.New()
	held(r, rawtuf.Now.Add(-time.Hour), rawtuf.Now)
	_, err := publish(r).Approve(p, from(r))
	want(t, err, nil, "")
	// A held or malformed release is a candidate without approval; an unavailable role is an error.
	held(r, rawtuf.Now, rawtuf.Now.Add(time.Hour))
	list, err := all(r)
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, tuf.ErrHeld) || !list[0].Approved.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	rawtuf.At(r.Roles["hold"], "targets")[p] = rawtuf.FileOf(nil)
	list, err = all(r)
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, tuf.ErrMalformed) {
		t.Errorf("%+v, %v", list, err)
	}
	snap := publish(r)
	delete(r.Files, fmt.Sprintf("%v.hold.json", r.Roles["hold"]["version"]))
	_, err = snap.Candidates(t.Context(), nil, from(r))
	want(t, err, errNotServed, "")
	// A malformed entry.
	r = rawtuf.New()
	at(r, "review-agent")["length"] = -1
	list, err = all(r)
	want(t, err, nil, "")
	if len(list) != 2 || list[0].Role != "" || !errors.Is(list[0].Err, tuf.ErrMalformed) || list[1].Role != "review-agent" || list[1].Path != p || !errors.Is(list[1].Err, tuf.ErrMalformed) {
		t.Errorf("%+v", list)
	}
	// The Claim is that of the first party.
	r = rawtuf.New()
	rawtuf.At(at(r, "review-agent"), "custom", "visum")["version"] = "12"
	list, err = all(r)
	if err != nil || len(list) != 1 || list[0].Claim.Version != "11.4.0" || !errors.Is(list[0].Err, tuf.ErrNotApproved) {
		t.Errorf("%+v, %v", list, err)
	}
	// Malformed release fields: refused under a charter, ignored in a repository without review.
	odd := doc{"product": "of a later day"}
	r = rawtuf.New()
	r.AddTarget("agent/odd", "odd", odd, "vendor-agent", "review-agent")
	_, err = publish(r).Approve("agent/odd", from(r))
	want(t, err, tuf.ErrRelease, "version is missing")
	plain := rawtuf.NewPlain()
	plain.AddTarget("odd", "odd", odd, "targets")
	plain.Publish()
	a, err := mustSnapshot(t, plain).UnsafeTarget("odd", from(plain))
	if rel, ok := a.Release(); err != nil || ok || rel != (tuf.Release{}) {
		t.Errorf("%+v, %v", rel, err)
	}
	// The text form.
	if s := (tuf.Approved{}).String(); s != "no approved target" {
		t.Error(s)
	}
	r = rawtuf.New()
	two := rawtuf.At(r.Charter(), "classes", 0, "roles", 0)
	r.AddKeys(r.Root, "va2")
	two["keyids"], two["threshold"] = r.IDs("va", "va2"), 2
	r.PublishRoot()
	r.Signers["vendor-agent"] = []string{"va", "va2"}
	r.Publish()
	a, err = mustSnapshot(t, r).Approve(p, from(r))
	if err != nil || !strings.HasSuffix(a.String(), "listed by vendor (vendor-agent v5, 2 keys) and review (review-agent v5, 1 key)") {
		t.Error(a, err)
	}
}

// Each release field by itself: accepted values, and that they are returned.
func TestReleaseFields(t *testing.T) {
	full := doc{"product": "agent", "version": "11.4.0", "channel": "stable", "platform": "any", "sequence": 1, "min_version": "10.0.0",
		"source": doc{"uri": "git+https://src.example/agent", "revision": "abc"}, "notes": "better", "critical": true, "rollout": doc{"percent": 25}, "x-new": 1}
	open := func(change func(visum doc)) (tuf.Release, error) {
		r := rawtuf.New()
		visum := rawtuf.Copy(full).(doc)
		change(visum)
		r.AddTarget(rawtuf.Path, "the agent", visum, "vendor-agent", "review-agent")
		r.Publish()
		a, err := mustSnapshot(t, r).Approve(rawtuf.Path, from(r))
		rel, ok := a.Release()
		if ok != (err == nil) {
			t.Errorf("release fields %v, %v", ok, err)
		}
		return rel, err
	}
	all := tuf.Release{Product: "agent", Version: "11.4.0", Channel: "stable", Platform: "any", Sequence: 1, MinVersion: "10.0.0",
		Source: tuf.SourceRef{URI: "git+https://src.example/agent", Revision: "abc"}, Notes: "better", Critical: true, Rollout: &tuf.Rollout{Percent: 25}}
	if rel, err := open(func(doc) {}); err != nil || !reflect.DeepEqual(rel, all) {
		t.Errorf("%+v, %v", rel, err)
	}
	for _, name := range []string{"min_version", "source", "notes", "critical", "rollout", "x-new"} {
		if rel, err := open(func(v doc) { delete(v, name) }); err != nil || reflect.DeepEqual(rel, all) != (name == "x-new") {
			t.Errorf("without %s: %+v, %v", name, rel, err)
		}
	}
	set := func(name string, v any) func(doc) { return func(visum doc) { visum[name] = v } }
	for _, tt := range []struct {
		name   string
		change func(doc)
		ok     bool
	}{
		{"all machines", set("rollout", doc{"percent": 100}), true},
		{"no machine", set("rollout", doc{"percent": 0}), true},
		{"more than all machines", set("rollout", doc{"percent": 101}), false},
		{"far more than all machines", set("rollout", doc{"percent": 1<<32 + 7}), false},
		{"a rollout of no share", set("rollout", doc{}), false},
		{"a rollout that is a number", set("rollout", 25), false},
		{"a negative rollout", set("rollout", doc{"percent": -1}), false},
		{"no sequence", func(v doc) { delete(v, "sequence") }, true},
		{"a negative sequence", set("sequence", -1), false},
		{"sequence that is text", set("sequence", "1"), false},
		{"critical that is text", set("critical", "yes"), false},
		{"source that is text", set("source", "git"), false},
		{"notes that are a number", set("notes", 1), false},
		{"product that is a number", set("product", 1), false},
		{"a member in another case", set("Product", "agent"), false},
	} {
		_, err := open(tt.change)
		if want(t, err, map[bool]error{true: nil, false: tuf.ErrRelease}[tt.ok], ""); t.Failed() {
			t.Fatal(tt.name)
		}
	}
}

// Malformed roots, refused before their signatures are checked.
func TestEdgesOfRoot(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(r *rawtuf.Repo)
		part   string
	}{
		{"keys that are an array", func(r *rawtuf.Repo) { r.Root["keys"] = []any{} }, "root"},
		{"a key that is text", func(r *rawtuf.Repo) { rawtuf.At(r.Root, "keys")["x"] = "key" }, "object was expected"},
		{"a key whose keyval has the wrong case", func(r *rawtuf.Repo) {
			rawtuf.At(r.Root, "keys")["x"] = doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"Public": "00"}}
		}, "wrong case"},
		{"a key of the wrong case", func(r *rawtuf.Repo) { rawtuf.At(r.Root, "keys")["x"] = doc{"Keytype": "ed25519"} }, "wrong case"},
		{"roles that are an array", func(r *rawtuf.Repo) { r.Root["roles"] = []any{} }, "roles must be an object"},
		{"a role that is text", func(r *rawtuf.Repo) { rawtuf.At(r.Root, "roles")["x"] = "role" }, "object was expected"},
		{"an unused role of threshold 0", func(r *rawtuf.Repo) { rawtuf.At(r.Root, "roles")["x"] = r.Role(0, "root") }, "threshold is 0"},
		{"consistent_snapshot that is text", func(r *rawtuf.Repo) { r.Root["consistent_snapshot"] = "true" }, "consistent_snapshot: "},
		{"a charter that is text", func(r *rawtuf.Repo) { r.Root["x-visum"] = "charter" }, "object was expected"},
	} {
		r := rawtuf.NewPlain()
		tt.change(r)
		r.PublishRoot()
		_, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		if want(t, err, tuf.ErrMalformed, tt.part); t.Failed() {
			t.Fatal(tt.name)
		}
		var e *tuf.Error
		if !errors.As(err, &e) || !bytes.Equal(e.Evidence, r.Files["1.root.json"]) {
			t.Fatalf("%s: evidence is %.20q", tt.name, e.Evidence)
		}
	}
}

// Differences that [tuf.Root.KeySet] detects, and those that it ignores.
func TestKeySet(t *testing.T) {
	r := rawtuf.New()
	r.AddKeys(r.Root, "a", "b", "c")
	keys := rawtuf.At(r.Root, "keys")
	a, b, c := r.IDs("a")[0].(string), r.IDs("b")[0].(string), r.IDs("c")[0].(string)
	keys[c].(doc)["keytype"] = "ml-dsa"
	r.PublishRoot()
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	both := root.KeySet([]string{a, b})
	for _, ids := range [][]string{{b, a}, {a, b, a}, {a, c, b}, {b, "unknown", a}} {
		if root.KeySet(ids) != both {
			t.Errorf("%.8q: another set", ids)
		}
	}
	for _, ids := range [][]string{{}, {a}, {b}, {a, a}, {c}} {
		if root.KeySet(ids) == both {
			t.Errorf("%.8q: the same set", ids)
		}
	}
}

// Zero values are refused.
func TestNilIsRefused(t *testing.T) {
	var root *tuf.Root
	var ts *tuf.Timestamp
	var snap *tuf.Snapshot
	for name, call := range map[string]func() error{
		"Root.Next":             func() error { _, err := root.Next(nil); return err },
		"Root.Timestamp":        func() error { _, err := root.Timestamp(nil, nil, rawtuf.Now); return err },
		"Root.CheckExpiry":      func() error { return root.CheckExpiry(rawtuf.Now) },
		"Root.Recovery":         func() error { _, err := root.Recovery(nil, nil, rawtuf.Now); return err },
		"zero Root.Recovery":    func() error { _, err := new(tuf.Root).Recovery(nil, nil, rawtuf.Now); return err },
		"Timestamp.Snapshot":    func() error { _, err := ts.Snapshot(nil, nil); return err },
		"Snapshot.Targets":      func() error { _, err := snap.Targets(nil); return err },
		"Snapshot.Approve":      func() error { _, err := snap.Approve("x", nil); return err },
		"Snapshot.Candidates":   func() error { _, err := snap.Candidates(t.Context(), nil, nil); return err },
		"Snapshot.UnsafeTarget": func() error { _, err := snap.UnsafeTarget("x", nil); return err },
		"Snapshot.RoleFile":     func() error { _, err := snap.RoleFile("x"); return err },
		"Snapshot.Recalls":      func() error { _, err := snap.Recalls(nil); return err },
		"Snapshot.Role":         func() error { _, err := snap.Role("x", nil); return err },
		"Snapshot.Delegated":    func() error { _, err := snap.Delegated(nil, "x", nil); return err },
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), tuf.ErrUntrusted, "zero ") })
	}
	if new(tuf.Root).Bytes() != nil || new(tuf.Timestamp).Bytes() != nil || new(tuf.Snapshot).Bytes() != nil || new(tuf.Targets).Bytes() != nil {
		t.Error("bytes of zero values")
	}
	if root.Bytes() != nil || ts.Bytes() != nil || snap.Bytes() != nil || (*tuf.Targets)(nil).Bytes() != nil {
		t.Error("bytes of nothing")
	}
}

// Each error wraps itself, and ErrUntrusted unless it is a condition.
func TestGroupsOfErrors(t *testing.T) {
	for name, sentinel := range sentinels {
		err := error(&tuf.Error{Err: sentinel})
		state := sentinel == tuf.ErrExpired || sentinel == tuf.ErrHeld || sentinel == tuf.ErrWaiting || sentinel == tuf.ErrNoTarget
		if !errors.Is(err, sentinel) || errors.Is(err, tuf.ErrUntrusted) == state || errors.Is(err, errNotServed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Each limit that is not set has its default.
func TestLimits(t *testing.T) {
	all := tuf.Limits{Root: 512 << 10, Timestamp: 16 << 10, Snapshot: 16 << 20, Targets: 64 << 20, Signatures: 1024, Visits: 64, Depth: 32}
	if got := (tuf.Limits{}).WithDefaults(); got != all {
		t.Errorf("%+v", got)
	}
	if got := (tuf.Limits{Root: -1, Timestamp: -1, Snapshot: -1, Targets: -1, Signatures: -1, Visits: -1, Depth: -1}).WithDefaults(); got != all {
		t.Errorf("%+v", got)
	}
	one := tuf.Limits{Root: 1, Timestamp: 1, Snapshot: 1, Targets: 1, Signatures: 1, Visits: 1, Depth: 1}
	if got := one.WithDefaults(); got != one {
		t.Errorf("%+v", got)
	}
	// A repository without a charter keeps the caller's Limits from root to root.
	r := rawtuf.NewPlain()
	root, err := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Timestamp: 100}})
	if err != nil {
		t.Fatal(err)
	}
	r.NextRoot(func() {})
	want(t, find(&client{root: root}, r, "top.txt"), tuf.ErrTooLarge, "at most 100")
}
