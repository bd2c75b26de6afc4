package tuf_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

func parse(data []byte) doc {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v doc
	if err := d.Decode(&v); err != nil {
		panic(err)
	}
	return v
}

// attack is one fault of a healthy repository.
type attack struct {
	name   string
	mutate func(r *rawtuf.Repo)
	want   error
	part   string // of the message: names, versions, actual and required values
}

// run confronts a client that has seen the healthy repository with each attack, and then
// with later versions of the healthy repository.
func run(t *testing.T, healthy func() *rawtuf.Repo, path string, rows []attack) {
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			r := healthy()
			c := newClient(t, r)
			if _, err := c.find(r, path); err != nil {
				t.Fatalf("healthy: %v", err)
			}
			bad := r.Clone()
			row.mutate(bad)
			before := c.root.Bytes()
			_, err := c.find(bad, path)
			want(t, err, row.want, row.part)
			if row.want == tuf.ErrCharter {
				// A root that breaks a rule changes nothing; its bytes are evidence.
				var e *tuf.Error
				if !errors.As(err, &e) || !bytes.Equal(e.Evidence, bad.Files["2.root.json"]) || !bytes.Equal(c.root.Bytes(), before) {
					t.Errorf("evidence is %.40q", e.Evidence)
				}
			}
			// Metadata accepted in the attack stays trusted; versions do not become smaller again.
			for _, role := range r.Roles {
				role["version"] = 100
			}
			r.Publish()
			if _, err := c.find(r, path); err != nil {
				t.Errorf("healed: %v", err)
			}
		})
	}
}

func TestAttackRoot(t *testing.T) {
	next := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.NextRoot(func() { change(r) }) }
	}
	set := func(name string, v any) func(*rawtuf.Repo) {
		return next(func(r *rawtuf.Repo) { r.Root[name] = v })
	}
	served := func(change func(data []byte) []byte) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.NextRoot(func() {})
			r.Files["2.root.json"] = change(r.Files["2.root.json"])
		}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		{"two of three keys", next(func(r *rawtuf.Repo) { r.Signers["root"] = []string{"vendor1", "review1"} }),
			tuf.ErrThreshold, "root v2: not enough signatures: 2 of 3 needed keys of the trusted root"},
		{"new vendor keys that did not sign", next(func(r *rawtuf.Repo) { newVendorKeys(r); r.Signers["root"] = oldSigners }),
			tuf.ErrThreshold, "0 of 1 needed keys of party vendor in the new root"},
		{"not signed", next(func(r *rawtuf.Repo) { r.Signers["root"] = nil }), tuf.ErrThreshold, "party vendor in the trusted root"},
		{"version skipped", set("version", 3), nil, ""}, // served as 3.root.json, which is not requested
		{"version skipped under the name of the next", func(r *rawtuf.Repo) {
			set("version", 3)(r)
			r.Files["2.root.json"] = r.Files["3.root.json"]
		}, tuf.ErrMismatch, "root v3: unexpected version: the root after v1 must be v2"},
		{"same version again", func(r *rawtuf.Repo) { r.Files["2.root.json"] = r.Files["1.root.json"] },
			tuf.ErrRollback, "root v1: rollback: the root after v1"},
		{"another type", set("_type", "snapshot"), tuf.ErrMalformed, `want "root"`},
		{"spec_version 2.0", set("spec_version", "2.0"), tuf.ErrMalformed, "spec_version"},
		{"version negative", served(func(b []byte) []byte { return bytes.Replace(b, []byte(`"version":2`), []byte(`"version":-2`), 1) }),
			tuf.ErrMalformed, "version must be a positive integer, is -2"},
		{"no expiry", set("expires", nil), tuf.ErrMalformed, "expires"},
		{"names without versions", set("consistent_snapshot", false), tuf.ErrMalformed, "consistent_snapshot"},
		{"garbage", served(func(b []byte) []byte { return []byte("<html>please log in</html>") }), tuf.ErrMalformed, ""},
		{"empty", served(func(b []byte) []byte { return nil }), tuf.ErrMalformed, ""},
		{"truncated", served(func(b []byte) []byte { return b[:len(b)/2] }), tuf.ErrMalformed, ""},
		{"something after the end", served(func(b []byte) []byte { return append(b, "{}"...) }), tuf.ErrMalformed, "after the end"},
		{"member twice", served(func(b []byte) []byte { return bytes.Replace(b, []byte(`"_type"`), []byte(`"_type":"root","_type"`), 1) }),
			tuf.ErrMalformed, "duplicate member"},
		{"member in another case", set("Version", 2), tuf.ErrMalformed, "wrong case"},
		{"one key id signs twice", func(r *rawtuf.Repo) {
			r.NextRoot(func() {})
			envelope(r, "2.root.json", func(s []any) []any { return append(s, s[0]) })
		}, tuf.ErrMalformed, "two signatures"},
		{"junk signatures", func(r *rawtuf.Repo) {
			r.NextRoot(func() {})
			envelope(r, "2.root.json", func(s []any) []any {
				for i := range 1100 {
					s = append(s, doc{"keyid": string(rune('a'+i%26)) + strings.Repeat("x", i), "sig": ""})
				}
				return s
			})
		}, tuf.ErrTooLarge, ""},
		{"endless", served(func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 600<<10)...) }), tuf.ErrTooLarge, "at most 524288"},
		{"threshold 0", next(func(r *rawtuf.Repo) { rawtuf.At(r.Root, "roles", "timestamp")["threshold"] = 0 }), tuf.ErrMalformed, "threshold is 0"},
		{"key id listed twice", next(func(r *rawtuf.Repo) {
			rawtuf.At(r.Root, "roles", "timestamp")["keyids"] = r.IDs("timestamp", "timestamp")
		}),
			tuf.ErrMalformed, "listed twice"},
		{"no snapshot role", next(func(r *rawtuf.Repo) { delete(r.Root["roles"].(doc), "snapshot") }), tuf.ErrMalformed, "no role snapshot"},
		{"changed after signing", func(r *rawtuf.Repo) { r.NextRoot(func() {}); edit(r, "2.root.json", "2030-02-15", "2039-02-15") },
			tuf.ErrThreshold, "0 of 1 needed keys of party vendor"},
	})
}

var oldSigners = []string{"vendor1", "vendor2", "review1", "review2"}

// newVendorKeys adds two new keys of the vendor to root and lets them sign too.
func newVendorKeys(r *rawtuf.Repo) {
	r.AddKeys(r.Root, "vendor3", "vendor4")
	r.Root["roles"].(doc)["root"] = r.Role(3, "vendor3", "vendor4", "review1", "review2")
	rawtuf.At(r.Charter(), "parties", 0)["keyids"] = r.IDs("vendor3", "vendor4")
	r.Signers["root"] = append(slices.Clone(oldSigners), "vendor3", "vendor4")
}

// The last root of the chain must not be expired; intermediate roots may be.
func TestExpiredRoots(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	good := r.Root["expires"]
	r.NextRoot(func() { r.Root["expires"] = rawtuf.Stamp(rawtuf.Now) })
	err := c.walk(r)
	want(t, err, tuf.ErrExpired, "root v2: expired: on 2030-01-15T12:00:00Z, now is 2030-01-15T12:00:00Z")
	var e *tuf.Error
	if !errors.As(err, &e) || !e.Expires.Equal(rawtuf.Now) || errors.Is(err, tuf.ErrUntrusted) {
		t.Errorf("%#v", e)
	}
	r.NextRoot(func() { r.Root["expires"] = good })
	want(t, c.walk(r), nil, "")
}

func TestAttackTimestamp(t *testing.T) {
	set := func(name string, v any) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump(); r.Roles["timestamp"][name] = v; r.Publish() }
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		{"rollback", func(r *rawtuf.Repo) { r.Roles["timestamp"]["version"] = 4; r.Publish() },
			tuf.ErrRollback, "timestamp v4: rollback: trusted v5"},
		{"rollback of the snapshot in it", func(r *rawtuf.Repo) { r.Bump(); r.Roles["snapshot"]["version"] = 4; r.Publish() },
			tuf.ErrRollback, "timestamp v6: rollback: lists snapshot v4, trusted v5"},
		{"expired", set("expires", rawtuf.Stamp(rawtuf.Now)), tuf.ErrExpired, "timestamp v6: expired"},
		{"another key", func(r *rawtuf.Repo) { r.Signers["timestamp"] = []string{"snapshot"}; r.Publish() },
			tuf.ErrThreshold, "0 of 1 needed keys of timestamp"},
		{"another type", set("_type", "snapshot"), tuf.ErrMalformed, ""},
		{"below the charter's floor", func(r *rawtuf.Repo) {
			r.NextRoot(func() { rawtuf.At(r.Charter(), "floors")["timestamp"] = 6 })
		}, tuf.ErrRollback, "timestamp v5: rollback: with snapshot v5, the charter's floors are v6 and v1"},
		{"its snapshot below the charter's floor", func(r *rawtuf.Repo) {
			r.NextRoot(func() { rawtuf.At(r.Charter(), "floors")["snapshot"] = 6 })
		}, tuf.ErrRollback, "the charter's floors are v1 and v6"},
		{"no snapshot in it", func(r *rawtuf.Repo) {
			r.Bump()
			r.Roles["timestamp"]["meta"] = doc{}
			r.PublishTimestamp()
		}, tuf.ErrMalformed, ""},
		{"too large", func(r *rawtuf.Repo) {
			r.Files["timestamp.json"] = append(r.Files["timestamp.json"], bytes.Repeat([]byte(" "), 16<<10)...)
		}, tuf.ErrTooLarge, "at most 16384"},
	})
}

// Two timestamps of one version: the first that was trusted stays (5.4.3).
func TestTimestampOfEqualVersion(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	first := r.Files["timestamp.json"]
	r.Roles["snapshot"]["version"] = 6
	r.Publish()
	ts, err := c.root.Timestamp(r.Files["timestamp.json"], first, rawtuf.Now)
	if err != nil || !bytes.Equal(ts.Bytes(), first) || ts.SnapshotFile().Version != 5 {
		t.Fatal(ts.SnapshotFile(), err)
	}
}

func TestAttackSnapshot(t *testing.T) {
	again := func(change func(r *rawtuf.Repo, meta doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			r.Bump()
			change(r, rawtuf.At(r.Roles["snapshot"], "meta"))
			r.PublishSnapshot()
		}
	}
	run(t, rawtuf.New, rawtuf.Path, []attack{
		{"other bytes of the same length", func(r *rawtuf.Repo) {
			edit(r, "5.snapshot.json", "2030-02-15", "2031-02-15")
		}, tuf.ErrMismatch, "snapshot v5: does not match: sha256 differs"},
		{"longer", func(r *rawtuf.Repo) { r.Files["5.snapshot.json"] = append(r.Files["5.snapshot.json"], ' ') },
			tuf.ErrMismatch, "are listed"},
		{"sha512 differs", func(r *rawtuf.Repo) {
			r.Bump()
			r.PublishSnapshot()
			rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json")["hashes"] = doc{"sha512": strings.Repeat("ab", 64)}
			r.PublishTimestamp()
		}, tuf.ErrMismatch, "sha512 differs"},
		{"another version than the timestamp lists", func(r *rawtuf.Repo) {
			r.Bump()
			r.PublishSnapshot()
			m := rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json")
			m["version"] = 7
			r.Files["7.snapshot.json"] = r.Files["6.snapshot.json"]
			r.PublishTimestamp()
		}, tuf.ErrMismatch, "snapshot v6: unexpected version: the timestamp lists v7"},
		{"rollback of a role", func(r *rawtuf.Repo) { r.Bump(); r.Roles["review-agent"]["version"] = 4; r.Publish() },
			tuf.ErrRollback, "lists review-agent.json v4, trusted v5"},
		{"a role gone", again(func(r *rawtuf.Repo, meta doc) { delete(meta, "targets.json") }),
			tuf.ErrRollback, "targets.json is no longer listed"},
		{"expired", again(func(r *rawtuf.Repo, _ doc) { r.Roles["snapshot"]["expires"] = rawtuf.Stamp(rawtuf.Now) }),
			tuf.ErrExpired, "snapshot v6: expired"},
		{"another key", again(func(r *rawtuf.Repo, _ doc) { r.Signers["snapshot"] = []string{"timestamp"} }),
			tuf.ErrThreshold, "0 of 1 needed keys of snapshot"},
		{"an entry that is null", again(func(r *rawtuf.Repo, meta doc) { meta["x.json"] = nil }), tuf.ErrMalformed, "must be an object"},
		{"hashes of no known kind", again(func(r *rawtuf.Repo, meta doc) { rawtuf.At(meta, "hold.json")["hashes"] = doc{"md5": "00"} }),
			tuf.ErrMalformed, "no hash of a known algorithm"},
		{"a hash cut short", again(func(r *rawtuf.Repo, meta doc) { rawtuf.At(meta, "hold.json")["hashes"] = doc{"sha256": "abcd"} }),
			tuf.ErrMalformed, "not 64 hex digits"},
		{"targets below the charter's floor", func(r *rawtuf.Repo) {
			r.NextRoot(func() { rawtuf.At(r.Charter(), "floors")["targets"] = 6 })
		}, tuf.ErrRollback, "targets v5"},
	})
}

// The snapshot's own version must not go back either, even if the prior timestamp is lost.
func TestSnapshotRollbackWithoutTimestamp(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	old := r.Clone()
	r.Bump()
	r.Publish()
	want(t, c.walk(r), nil, "")
	c.ts = nil
	want(t, c.walk(old), tuf.ErrRollback, "snapshot v5: rollback: trusted v6")
	want(t, c.walk(r), nil, "")
}

// Without a Fetch, decisions need open roles; otherwise the error reports it.
func TestNoFetch(t *testing.T) {
	r := rawtuf.New()
	snap := mustSnapshot(t, r)
	_, err := snap.Approve(rawtuf.Path, nil)
	want(t, err, tuf.ErrUntrusted, "vendor-agent v5: not trusted: not opened yet")
	want(t, snap.OpenRoles(nil), tuf.ErrUntrusted, "not opened yet")
	want(t, snap.OpenRoles(from(r)), nil, "")
	_, err = snap.Approve(rawtuf.Path, nil)
	want(t, err, nil, "")
	for _, role := range []string{"vendor-agent", "review-agent", "hold"} {
		if snap.RoleBytes(role) == nil {
			t.Errorf("%s was not opened", role)
		}
	}
	if snap.RoleBytes("targets") != nil {
		t.Error("targets was opened needlessly")
	}
	for _, role := range []string{"vendor-agent", "review-agent", "hold"} {
		bad := r.Clone()
		delete(bad.Files, "5."+role+".json")
		want(t, mustSnapshot(t, bad).OpenRoles(from(bad)), errNotServed, "")
	}
	want(t, new(tuf.Snapshot).OpenRoles(from(r)), tuf.ErrUntrusted, "zero Snapshot")
	want(t, (*tuf.Snapshot)(nil).OpenRoles(from(r)), tuf.ErrUntrusted, "zero Snapshot")
	plain := rawtuf.NewPlain()
	want(t, mustSnapshot(t, plain).OpenRoles(from(plain)), tuf.ErrNotApproved, "no charter")
}

// The release roles and the hold are checked like the top-level roles.
func TestAttackReleaseRoles(t *testing.T) {
	for _, role := range []string{"vendor-agent", "review-agent", "hold"} {
		again := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
			return func(r *rawtuf.Repo) { r.Bump(role); change(r); r.Publish() }
		}
		relist := func(change func(r *rawtuf.Repo, entry doc)) func(*rawtuf.Repo) {
			return func(r *rawtuf.Repo) {
				r.Bump()
				change(r, rawtuf.At(r.Roles["snapshot"], "meta", role+".json"))
				r.PublishSnapshot()
			}
		}
		t.Run(role, func(t *testing.T) {
			run(t, rawtuf.New, rawtuf.Path, []attack{
				{"other bytes", func(r *rawtuf.Repo) { edit(r, "5."+role+".json", "2030", "2031") }, tuf.ErrMismatch, "sha256 differs"},
				{"unlisted bytes", relist(func(r *rawtuf.Repo, e doc) { delete(e, "hashes"); e["length"] = 3 }), tuf.ErrMismatch, "3 are listed"},
				{"another version", relist(func(r *rawtuf.Repo, e doc) {
					e["version"] = 6
					r.Files["6."+role+".json"] = r.Files["5."+role+".json"]
				}), tuf.ErrMismatch, role + " v5: unexpected version: snapshot v6 lists v6"},
				{"expired", again(func(r *rawtuf.Repo) { r.Roles[role]["expires"] = rawtuf.Stamp(rawtuf.Now) }), tuf.ErrExpired, role + " v6"},
				{"another key", again(func(r *rawtuf.Repo) { r.Signers[role] = []string{"targets"} }), tuf.ErrThreshold, "0 of 1 needed keys of "},
				{"not signed", again(func(r *rawtuf.Repo) { r.Signers[role] = nil }), tuf.ErrThreshold, "0 of 1"},
				{"another type", again(func(r *rawtuf.Repo) { r.Roles[role]["_type"] = "root" }), tuf.ErrMalformed, ""},
				{"garbage", again(func(r *rawtuf.Repo) { r.Roles[role]["targets"] = "all" }), tuf.ErrMalformed, role + " v6"},
				{"withheld", func(r *rawtuf.Repo) { delete(r.Files, "5."+role+".json") }, errNotServed, "not served"},
			})
		})
		// A role that the snapshot never listed: the first check must fail too.
		t.Run(role+"/not listed", func(t *testing.T) {
			r := rawtuf.New()
			delete(rawtuf.At(r.Roles["snapshot"], "meta"), role+".json")
			r.PublishSnapshot()
			want(t, newClient(t, r).walk(r), tuf.ErrMismatch, role+": does not match: snapshot v5 does not list the role")
		})
	}
}

func TestAttackApproval(t *testing.T) {
	const p = rawtuf.Path
	listed := func(role string, change func(targets doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump(role); change(rawtuf.At(r.Roles[role], "targets")); r.Publish() }
	}
	gone := func(targets doc) { delete(targets, p) }
	held := func(until time.Time, since ...time.Time) func(*rawtuf.Repo) {
		return listed("hold", func(targets doc) {
			f := rawtuf.FileOf(nil)
			visum := doc{"reason": "crashes on boot", "until": rawtuf.Stamp(until)}
			if len(since) > 0 {
				visum["at"] = rawtuf.Stamp(since[0])
			}
			f["custom"] = doc{"visum": visum}
			targets[p] = f
		})
	}
	visum := func(name string, v any) func(*rawtuf.Repo) {
		return listed("vendor-agent", func(targets doc) { rawtuf.At(targets, p, "custom", "visum")[name] = v })
	}
	run(t, rawtuf.New, p, []attack{
		{"vendor alone", listed("review-agent", gone), tuf.ErrNotApproved, "listed by vendor (vendor-agent v5), but not by review (review-agent v6)"},
		{"review alone", listed("vendor-agent", gone), tuf.ErrNotApproved, "listed by review (review-agent v5), but not by vendor (vendor-agent v6)"},
		{"no role lists it", func(r *rawtuf.Repo) { listed("vendor-agent", gone)(r); listed("review-agent", gone)(r) },
			tuf.ErrNoTarget, "listed by none of vendor (vendor-agent v6), review (review-agent v6)"},
		{"another length", listed("vendor-agent", func(targets doc) { rawtuf.At(targets, p)["length"] = 10 }), tuf.ErrNotApproved, "lengths (10 and 9)"},
		{"another sha256", listed("review-agent", func(targets doc) { rawtuf.At(targets, p)["hashes"] = doc{"sha256": strings.Repeat("0", 64)} }),
			tuf.ErrNotApproved, "different sha256"},
		{"another sha512", func(r *rawtuf.Repo) {
			for role, digit := range map[string]string{"vendor-agent": "0", "review-agent": "1"} {
				listed(role, func(targets doc) { rawtuf.At(targets, p, "hashes")["sha512"] = strings.Repeat(digit, 128) })(r)
			}
		}, tuf.ErrNotApproved, "different sha512"},
		{"another release field", visum("sequence", 8), tuf.ErrNotApproved, "different release fields"},
		{"one more release field", visum("x-new", 1), tuf.ErrNotApproved, "different release fields"},
		{"no release fields at one party", listed("vendor-agent", func(targets doc) { delete(rawtuf.At(targets, p), "custom") }),
			tuf.ErrNotApproved, "different release fields"},
		{"no hash", listed("review-agent", func(targets doc) { rawtuf.At(targets, p)["hashes"] = doc{} }), tuf.ErrMalformed, "no hash"},
		{"no sha256 at one party", listed("review-agent", func(targets doc) {
			rawtuf.At(targets, p)["hashes"] = doc{"sha512": strings.Repeat("ab", 64)}
		}), tuf.ErrNotApproved, "different sha256"},
		{"no sha256 at any party", func(r *rawtuf.Repo) {
			for _, role := range []string{"vendor-agent", "review-agent"} {
				listed(role, func(targets doc) { rawtuf.At(targets, p)["hashes"] = doc{"sha512": strings.Repeat("ab", 64)} })(r)
			}
		}, tuf.ErrMalformed, "no sha256"},
		{"held", held(rawtuf.Now.Add(time.Hour)), tuf.ErrHeld, `until 2030-01-15T13:00:00Z: "crashes on boot"`},
		{"the hold has passed", held(rawtuf.Now), nil, ""},
		{"held for long, the charter allows a week", held(rawtuf.Now.AddDate(1, 0, 0), rawtuf.Now.AddDate(0, 0, -6)), tuf.ErrHeld, "until 2030-01-16T12:00:00Z"},
		{"held for long, the week is over", held(rawtuf.Now.AddDate(1, 0, 0), rawtuf.Now.AddDate(0, 0, -7)), nil, ""},
		{"sha512 by one party only", listed("review-agent", func(targets doc) {
			rawtuf.At(targets, p, "hashes")["sha512"] = strings.Repeat("0", 128)
		}), nil, ""},
		{"held without an end", listed("hold", func(targets doc) {
			f := rawtuf.FileOf(nil)
			f["custom"] = doc{"visum": doc{"reason": "wait"}}
			targets[p] = f
		}), tuf.ErrMalformed, "hold v6"},
		{"hold without fields", listed("hold", func(targets doc) { targets[p] = rawtuf.FileOf(nil) }), tuf.ErrMalformed, "hold v6"},
	})
	t.Run("outside every class", func(t *testing.T) {
		r := rawtuf.New()
		r.AddTarget("else/x", "x", nil, "targets", "vendor-agent", "review-agent")
		r.Publish()
		for _, path := range []string{"else/x", "", "agent", "/agent/", "Agent/agent-11.4.0.tar.gz"} {
			_, err := newClient(t, r).find(r, path)
			want(t, err, tuf.ErrNotApproved, "in no class")
		}
	})
	t.Run("not the way of a charter", func(t *testing.T) {
		r := rawtuf.New()
		_, err := mustSnapshot(t, r).UnsafeTarget(p, from(r))
		want(t, err, tuf.ErrNotApproved, "has a charter")
		r = rawtuf.NewPlain()
		_, err = mustSnapshot(t, r).Approve("top.txt", from(r))
		want(t, err, tuf.ErrNotApproved, "no review")
		_, err = mustSnapshot(t, r).Candidates(t.Context(), nil, from(r))
		want(t, err, tuf.ErrNotApproved, "no review")
	})
}

// A refusal holds the refused bytes and the keys that signed: the evidence for an
// operator of a forged root.
func TestEvidence(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	newRoot(func(r *rawtuf.Repo, _ doc) { r.Signers["root"] = []string{"vendor1", "review2"} })(r)
	forged := r.Files["2.root.json"]
	_, err := c.root.Next(forged)
	var e *tuf.Error
	ids := r.IDs("vendor1", "review2")
	slices.SortFunc(ids, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	if !errors.As(err, &e) || !bytes.Equal(e.Evidence, forged) || e.Have != 2 || e.Want != 3 || e.Version != 2 ||
		len(e.KeyIDs) != 2 || e.KeyIDs[0] != ids[0] || e.KeyIDs[1] != ids[1] {
		t.Errorf("%+v", e)
	}
	for _, junk := range []string{"", "{}", "<html>", string(forged) + "x", strings.Replace(string(forged), `"version":2`, `"version":7`, 1)} {
		if _, err := c.root.Next([]byte(junk)); !errors.As(err, &e) || string(e.Evidence) != junk {
			t.Errorf("%.20q: evidence is %.20q", junk, e.Evidence)
		}
		if _, err := c.root.Timestamp([]byte(junk), nil, rawtuf.Now); !errors.As(err, &e) || string(e.Evidence) != junk {
			t.Errorf("timestamp %.20q: evidence is %.20q", junk, e.Evidence)
		}
	}
}

// Errors of lower roles hold the refused bytes too.
func TestEvidenceOfContent(t *testing.T) {
	r := rawtuf.New()
	ts, err := newClient(t, r).root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
	if err != nil {
		t.Fatal(err)
	}
	var e *tuf.Error
	if _, err := ts.Snapshot([]byte("junk"), nil); !errors.As(err, &e) || string(e.Evidence) != "junk" {
		t.Errorf("%v: evidence is %.20q", err, e.Evidence)
	}
	_, err = mustSnapshot(t, r).Approve(rawtuf.Path, func(tuf.RoleFile) ([]byte, error) { return []byte("junk"), nil })
	if !errors.As(err, &e) || string(e.Evidence) != "junk" || e.Role != "vendor-agent" {
		t.Errorf("%v: evidence is %.20q", err, e.Evidence)
	}
}

// Until is the earliest expiry of the opened roles, and changes as more are opened.
func TestUntil(t *testing.T) {
	r := rawtuf.New()
	soon := rawtuf.Now.Add(time.Hour)
	r.Roles["review-agent"]["expires"] = rawtuf.Stamp(soon)
	r.Roles["targets"]["expires"] = rawtuf.Stamp(soon.Add(-time.Minute)) // not needed
	r.Publish()
	snap := mustSnapshot(t, r)
	if !snap.Until().Equal(snap.Expires()) || !snap.Expires().Equal(rawtuf.Now.AddDate(0, 1, 0)) {
		t.Error(snap.Until())
	}
	want(t, snap.OpenRoles(from(r)), nil, "")
	if !snap.Until().Equal(soon) {
		t.Error(snap.Until())
	}
	// A charter with a floor for targets requires a listed targets.json, one without does not.
	r = rawtuf.New()
	delete(r.Roles, "targets")
	r.Publish()
	want(t, newClient(t, r).walk(r), tuf.ErrMismatch, "targets: does not match: snapshot v5 does not list the role")
	r = rawtuf.New()
	delete(r.Charter(), "floors")
	r.PublishRoot()
	delete(r.Roles, "targets")
	r.Publish()
	want(t, newClient(t, r).walk(r), nil, "")
}
