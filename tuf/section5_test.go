package tuf_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// A row for each MUST of section 5 of the TUF specification 1.0.34, by number. Each row confronts
// a client that knows the healthy repository, which then verifies the healthy repository again
// (see run).
//
// Other packages implement and test the requirements of section 5 on the network and the disk:
//
//	5.1            one fixed time: Root.Timestamp takes it once, and no later step takes another; client.Refresh reads the clock once
//	5.2            the source of the trusted root: TestPin
//	5.3.1, 5.3.3   the update of roots, and its end: client (TestRequestsOfARefresh, TestFollowsAMove); W is row 5.3.3
//	5.3.12         consistent snapshots: TestNamesWithoutConsistentSnapshots
//	5.3.8, 5.4.5, 5.5.7, 5.6.6   files on disk: client
//	5.4.1, 5.5.1, 5.6.1   names and lengths of requested files: rows here and TestTrap12ListedLengthDoesNotRaiseTheCap
//	5.7.3          the target's own bytes: client (TestSave)
//
// Stricter than the specification on purpose: a root of the trusted version under the next
// one's name is refused like older ones (5.3.5; the trusted root stays, and the caller may
// continue with it); with a charter consistent_snapshot must be true (5.3.12); a key id that
// signs twice is refused rather than counted once (5.x "unique KEYID"); a search that exceeds
// the visits or needs an unavailable role is an error rather than "no such target" (5.6.7).

// musts are the steps of section 5 with a MUST, or that a client can get wrong.
var musts = strings.Fields("5.1 5.2 5.3.1 5.3.3 5.3.4 5.3.5 5.3.6 5.3.8 5.3.9 5.3.10 5.3.11 5.3.12 5.4.1 5.4.2 5.4.3.1 5.4.3.2 5.4.4 5.4.5 " +
	"5.5.1 5.5.2 5.5.3 5.5.4 5.5.5 5.5.6 5.5.7 5.6.1 5.6.2 5.6.3 5.6.4 5.6.5 5.6.6 5.6.7 5.6.7.1 5.6.7.2 5.6.7.2.1 5.6.7.2.2 5.7.2 5.7.3")

func TestSection5NamesEveryMUST(t *testing.T) {
	src, err := os.ReadFile("section5_test.go")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := bytes.Cut(src, []byte("var musts"))
	_, after, _ := bytes.Cut(rest, []byte("\nfunc "))
	src = append(before, after...)
	for _, n := range musts {
		// A row of a table, or a comment that names the test.
		if !regexp.MustCompile(`(?m)("|^//.*\b)` + regexp.QuoteMeta(n) + `[ ,:]`).Match(src) {
			t.Errorf("%s has no test", n)
		}
	}
}

// rootRow returns an attack: an edit of the next root of a repository without a charter.
func rootRow(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
	return func(r *rawtuf.Repo) { r.NextRoot(func() { change(r) }) }
}

// newRootKey replaces the root key; signers sign the next root.
func newRootKey(signers ...string) func(*rawtuf.Repo) {
	return rootRow(func(r *rawtuf.Repo) {
		r.AddKeys(r.Root, "root2")
		rawtuf.At(r.Root, "roles")["root"] = r.Role(1, "root2")
		r.Signers["root"] = signers
	})
}

// signAgain signs a role's document again under the id "again".
func signAgain(r *rawtuf.Repo, file, key string, signed doc) {
	envelope(r, file, func(s []any) []any {
		return append(s, doc{"keyid": "again", "sig": hex.EncodeToString(r.Signature(signed, key))})
	})
}

// signTwice repeats the first signature.
func signTwice(s []any) []any { return append(s, rawtuf.Copy(s[0])) }

func TestSection5Root(t *testing.T) {
	run(t, rawtuf.NewPlain, "top.txt", []attack{
		{"5.3.3 more than W bytes", func(r *rawtuf.Repo) {
			rootRow(func(r *rawtuf.Repo) { r.Root["x"] = strings.Repeat("x", 512<<10) })(r)
		}, tuf.ErrTooLarge, "at most 524288"},
		{"5.3.3 a gap is not jumped over", func(r *rawtuf.Repo) {
			rootRow(func(*rawtuf.Repo) {})(r)
			rootRow(func(*rawtuf.Repo) {})(r)
			delete(r.Files, "2.root.json")
		}, nil, ""},
		{"5.3.4 (1) signed by the trusted root's threshold", newRootKey("root2"), tuf.ErrThreshold, "root v2: not enough signatures: 0 of 1 needed keys of the trusted root"},
		{"5.3.4 (2) signed by the new root's threshold", newRootKey("root"), tuf.ErrThreshold, "root v2: not enough signatures: 0 of 1 needed keys of the new root"},
		{"5.3.4 signed by both", newRootKey("root", "root2"), nil, ""},
		{"5.3.4 not signed", newRootKey(), tuf.ErrThreshold, "0 of 1"},
		{"5.3.4 the threshold of both", rootRow(func(r *rawtuf.Repo) {
			r.AddKeys(r.Root, "root2", "root3")
			rawtuf.At(r.Root, "roles")["root"] = r.Role(2, "root", "root2", "root3")
		}), tuf.ErrThreshold, "1 of 2 needed keys of the new root"},
		{"5.3.4 a key contributes one signature", func(r *rawtuf.Repo) {
			rootRow(func(r *rawtuf.Repo) {
				_, key := r.KeyDoc("root")
				rawtuf.At(key, "keyval")["public"] = strings.ToUpper(rawtuf.At(key, "keyval")["public"].(string))
				rawtuf.At(r.Root, "keys")["again"] = key
				rawtuf.At(r.Root, "roles")["root"] = doc{"keyids": append(r.IDs("root"), "again"), "threshold": 2}
			})(r)
			signAgain(r, "2.root.json", "root", r.Root)
		}, tuf.ErrThreshold, "1 of 2 needed keys of the new root"},
		{"5.3.4 a key id contributes one signature", func(r *rawtuf.Repo) {
			rootRow(func(r *rawtuf.Repo) {
				r.AddKeys(r.Root, "root2")
				rawtuf.At(r.Root, "roles")["root"] = r.Role(2, "root", "root2")
			})(r)
			envelope(r, "2.root.json", signTwice)
		}, tuf.ErrMalformed, "two signatures"},
		{"5.3.5 not the same version again", func(r *rawtuf.Repo) { r.Files["2.root.json"] = r.Files["1.root.json"] }, tuf.ErrRollback, "root v1"},
		{"5.3.5 not a version more than one ahead", func(r *rawtuf.Repo) {
			rootRow(func(r *rawtuf.Repo) { r.Root["version"] = 3 })(r)
			r.Files["2.root.json"] = r.Files["3.root.json"]
			delete(r.Files, "3.root.json")
		}, tuf.ErrMismatch, "the root after v1 must be v2"},
		{"5.3.6 an intermediate root may be past its date", func(r *rawtuf.Repo) {
			good := r.Root["expires"]
			rootRow(func(r *rawtuf.Repo) { r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(-1, 0, 0)) })(r)
			rootRow(func(r *rawtuf.Repo) { r.Root["expires"] = good })(r)
		}, nil, ""},
		{"5.3.9 each step is taken from the root before it", func(r *rawtuf.Repo) {
			newRootKey("root", "root2")(r)
			r.Signers["root"] = []string{"root"} // the key that root 2 removed
			rootRow(func(*rawtuf.Repo) {})(r)
		}, tuf.ErrThreshold, "root v3: not enough signatures: 0 of 1 needed keys of the trusted root"},
	})
}

// 5.3.5: rollback of the version, from a later trusted root.
func TestSection5RootRollback(t *testing.T) {
	r := rawtuf.NewPlain()
	c := newClient(t, r)
	r.NextRoot(func() {})
	r.NextRoot(func() {})
	want(t, find(c, r, "top.txt"), nil, "")
	for _, v := range []int{1, 2, 3} {
		_, err := c.root.Next(r.Files[fmt.Sprintf("%d.root.json", v)])
		want(t, err, tuf.ErrRollback, fmt.Sprintf("root v%d: rollback: the root after v3 must be v4", v))
		_, err = c.root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now) // the update continues with the trusted root
		want(t, err, nil, "")
	}
}

func find(c *client, r *rawtuf.Repo, path string) error {
	_, err := c.find(r, path)
	return err
}

// 5.3.10: the last root must be unexpired at the start of the update; "higher than" the start,
// so that the exact second is too late.
func TestSection5RootExpiry(t *testing.T) {
	for _, tt := range []struct {
		expires time.Time
		want    error
	}{{rawtuf.Now.Add(time.Second), nil}, {rawtuf.Now, tuf.ErrExpired}, {rawtuf.Now.Add(-time.Second), tuf.ErrExpired}} {
		r := rawtuf.NewPlain()
		c := newClient(t, r)
		good := r.Root["expires"]
		r.NextRoot(func() { r.Root["expires"] = rawtuf.Stamp(tt.expires) })
		want(t, find(c, r, "top.txt"), tt.want, "")
		r.NextRoot(func() { r.Root["expires"] = good })
		want(t, find(c, r, "top.txt"), nil, "")
	}
	// 5.2: the trusted root itself may be expired if there is a newer one.
	r := rawtuf.NewPlain()
	good := r.Root["expires"]
	r.Root["expires"] = rawtuf.Stamp(rawtuf.Now.AddDate(-1, 0, 0))
	r.PublishRoot()
	want(t, find(newClient(t, r), r, "top.txt"), tuf.ErrExpired, "root v1")
	r.NextRoot(func() { r.Root["expires"] = good })
	want(t, find(newClient(t, r), r, "top.txt"), nil, "")
}

// 5.3.11: after a rotation of the timestamp and snapshot keys, versions inflated with the old
// keys do not count (fast-forward). Without a rotation they do.
func TestSection5FastForward(t *testing.T) {
	const far = 1 << 40
	for _, tt := range []struct {
		name   string
		driven []string // roles with inflated versions
		change []string // roles that get new keys
		want   error
	}{
		{"timestamp", []string{"timestamp"}, []string{"timestamp"}, nil},
		{"timestamp and snapshot", []string{"timestamp", "snapshot"}, []string{"timestamp", "snapshot"}, nil},
		{"all, both changed", []string{"timestamp", "snapshot", "targets", "lib"}, []string{"timestamp", "snapshot"}, nil},
		{"timestamp, nothing changed", []string{"timestamp"}, nil, tuf.ErrRollback},
		{"snapshot, nothing changed", []string{"snapshot"}, nil, tuf.ErrRollback},
		{"lib, nothing changed", []string{"lib"}, nil, tuf.ErrRollback},
		{"snapshot, its key alone changed", []string{"snapshot"}, []string{"snapshot"}, nil},
		{"timestamp, the snapshot's key alone changed", []string{"timestamp"}, []string{"snapshot"}, nil},
		{"lib, the timestamp's key alone changed", []string{"lib"}, []string{"timestamp"}, nil},
		{"timestamp, the root's keys changed", []string{"timestamp"}, []string{"root"}, tuf.ErrRollback},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			c := newClient(t, r)
			attacker := r.Clone()
			for _, role := range tt.driven {
				attacker.Roles[role]["version"] = far
			}
			attacker.Publish()
			want(t, find(c, attacker, "lib/a.txt"), nil, "")
			r.NextRoot(func() {
				for _, role := range tt.change {
					r.AddKeys(r.Root, role+"2")
					rawtuf.At(r.Root, "roles")[role] = r.Role(1, role+"2")
					r.Signers[role] = []string{role + "2"}
					if role == "root" {
						r.Signers[role] = []string{role, role + "2"}
					}
				}
			})
			r.Bump("targets", "lib")
			r.Publish()
			want(t, find(c, r, "lib/a.txt"), tt.want, "")
		})
	}
}

func TestSection5Timestamp(t *testing.T) {
	again := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump(); change(r); r.Publish() }
	}
	at := func(when time.Time) func(*rawtuf.Repo) {
		return again(func(r *rawtuf.Repo) { r.Roles["timestamp"]["expires"] = rawtuf.Stamp(when) })
	}
	run(t, rawtuf.NewPlain, "top.txt", []attack{
		{"5.4.1 more than X bytes", again(func(r *rawtuf.Repo) { r.Roles["timestamp"]["x"] = strings.Repeat("x", 16<<10) }), tuf.ErrTooLarge, "timestamp"},
		{"5.4.2 signed by a threshold", again(func(r *rawtuf.Repo) { r.Signers["timestamp"] = []string{"targets"} }), tuf.ErrThreshold, "0 of 1 needed keys of timestamp"},
		{"5.4.2 a key id contributes one signature", func(r *rawtuf.Repo) { envelope(r, "timestamp.json", signTwice) }, tuf.ErrMalformed, "two signatures"},
		{"5.4.3.1 timestamp rollback", func(r *rawtuf.Repo) { r.Roles["timestamp"]["version"] = 4; r.Publish() }, tuf.ErrRollback, "timestamp v4: rollback: trusted v5"},
		{"5.4.3.1 the same version is no error", func(r *rawtuf.Repo) { r.Roles["timestamp"]["x"] = 1; r.Publish() }, nil, ""},
		{"5.4.3.2 rollback of the snapshot in it", again(func(r *rawtuf.Repo) { r.Roles["snapshot"]["version"] = 4 }), tuf.ErrRollback, "lists snapshot v4, trusted v5"},
		{"5.4.3.2 the same snapshot is fine", func(r *rawtuf.Repo) { r.Roles["timestamp"]["version"] = 6; r.PublishTimestamp() }, nil, ""},
		{"5.4.4 past its date", at(rawtuf.Now.Add(-time.Second)), tuf.ErrExpired, "timestamp v6"},
		{"5.4.4 at its date", at(rawtuf.Now), tuf.ErrExpired, "timestamp v6"},
		{"5.4.4 a second before", at(rawtuf.Now.Add(time.Second)), nil, ""},
	})
}

func TestSection5Snapshot(t *testing.T) {
	again := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) { r.Bump(); change(r); r.Publish() }
	}
	// relist changes the snapshot's entry in a new timestamp.
	relist := func(change func(r *rawtuf.Repo, entry doc)) func(*rawtuf.Repo) {
		return func(r *rawtuf.Repo) {
			again(func(*rawtuf.Repo) {})(r)
			change(r, rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json"))
			r.PublishTimestamp()
		}
	}
	at := func(when time.Time) func(*rawtuf.Repo) {
		return again(func(r *rawtuf.Repo) { r.Roles["snapshot"]["expires"] = rawtuf.Stamp(when) })
	}
	run(t, rawtuf.NewPlain, "lib/a.txt", []attack{
		{"5.5.1 more bytes than listed", relist(func(r *rawtuf.Repo, e doc) { delete(e, "hashes"); e["length"] = 10 }), tuf.ErrMismatch, "10 are listed"},
		{"5.5.2 another sha256 than listed", relist(func(r *rawtuf.Repo, e doc) { e["hashes"] = doc{"sha256": strings.Repeat("0", 64)} }), tuf.ErrMismatch, "sha256 differs"},
		{"5.5.2 another sha512 than listed", relist(func(r *rawtuf.Repo, e doc) { rawtuf.At(e, "hashes")["sha512"] = strings.Repeat("0", 128) }), tuf.ErrMismatch, "sha512 differs"},
		{"5.5.2 no hashes are listed", relist(func(r *rawtuf.Repo, e doc) { delete(e, "hashes") }), nil, ""},
		{"5.5.3 signed by a threshold", again(func(r *rawtuf.Repo) { r.Signers["snapshot"] = []string{"targets"} }), tuf.ErrThreshold, "0 of 1 needed keys of snapshot"},
		{"5.5.3 a key id contributes one signature", relist(func(r *rawtuf.Repo, e doc) {
			envelope(r, "6.snapshot.json", signTwice)
			delete(e, "hashes")
			delete(e, "length")
		}), tuf.ErrMalformed, "two signatures"},
		{"5.5.4 another version than listed", relist(func(r *rawtuf.Repo, e doc) {
			e["version"] = 7
			r.Files["7.snapshot.json"] = r.Files["6.snapshot.json"]
		}), tuf.ErrMismatch, "snapshot v6: unexpected version: the timestamp lists v7"},
		{"5.5.5 rollback of targets", again(func(r *rawtuf.Repo) { r.Roles["targets"]["version"] = 4 }), tuf.ErrRollback, "lists targets.json v4, trusted v5"},
		{"5.5.5 rollback of a delegated role", again(func(r *rawtuf.Repo) { r.Roles["lib"]["version"] = 4 }), tuf.ErrRollback, "lists lib.json v4, trusted v5"},
		{"5.5.5 targets is gone", func(r *rawtuf.Repo) {
			again(func(*rawtuf.Repo) {})(r)
			delete(rawtuf.At(r.Roles["snapshot"], "meta"), "targets.json")
			r.PublishSnapshot()
		}, tuf.ErrRollback, "targets.json is no longer listed"},
		{"5.5.5 a delegated role is gone", again(func(r *rawtuf.Repo) { delete(r.Roles, "lib") }), tuf.ErrRollback, "lib.json is no longer listed"},
		{"5.5.6 past its date", at(rawtuf.Now.Add(-time.Second)), tuf.ErrExpired, "snapshot v6"},
		{"5.5.6 at its date", at(rawtuf.Now), tuf.ErrExpired, "snapshot v6"},
		{"5.5.6 a second before", at(rawtuf.Now.Add(time.Second)), nil, ""},
	})
}

// everyRole lists each way to reach a targets role.
var everyRole = []struct {
	name    string
	healthy func(t *testing.T) *rawtuf.Repo
	role    string
	path    string
}{
	{"top level", func(*testing.T) *rawtuf.Repo { return rawtuf.NewPlain() }, "targets", "top.txt"},
	{"delegated", func(*testing.T) *rawtuf.Repo { return rawtuf.NewPlain() }, "lib", "lib/a.txt"},
	{"delegated twice", func(t *testing.T) *rawtuf.Repo { return tree(t, "^ > a: x/*", "a > b: x/*", "b = x/1") }, "b", "x/1"},
	{"on the way to another", func(t *testing.T) *rawtuf.Repo { return tree(t, "^ > a: x/*", "a > b: x/*", "b = x/1") }, "a", "x/1"},
	{"hash prefix", func(t *testing.T) *rawtuf.Repo {
		r := tree(t, "a = x/1")
		r.Delegate("targets", "a", doc{"path_hash_prefixes": []any{""}}, "key-a")
		r.Publish()
		return r
	}, "a", "x/1"},
	{"succinct bin", func(t *testing.T) *rawtuf.Repo {
		r := tree(t)
		for _, bin := range []string{"bin-0", "bin-1"} {
			r.Roles[bin], r.Signers[bin] = rawtuf.Targets(), []string{"bins"}
			r.AddTarget("x/1", "x", nil, bin)
		}
		bins := r.Role(1, "bins")
		bins["bit_length"], bins["name_prefix"] = 1, "bin"
		r.Roles["targets"]["delegations"] = doc{"succinct_roles": bins}
		r.AddKeys(rawtuf.At(r.Roles["targets"], "delegations"), "bins")
		r.Publish()
		return r
	}, "bin-0", "x/1"},
	{"party", func(*testing.T) *rawtuf.Repo { return rawtuf.New() }, "vendor-agent", rawtuf.Path},
	{"review", func(*testing.T) *rawtuf.Repo { return rawtuf.New() }, "review-agent", rawtuf.Path},
	{"hold", func(*testing.T) *rawtuf.Repo { return rawtuf.New() }, "hold", rawtuf.Path},
}

// The MUSTs of 5.6 for every role that can list or hold a target: the same rows for delegated
// roles as for the top-level one.
func TestSection5Targets(t *testing.T) {
	for _, e := range everyRole {
		role := e.role
		again := func(change func(r *rawtuf.Repo)) func(*rawtuf.Repo) {
			return func(r *rawtuf.Repo) { r.Bump(role); change(r); r.Publish() }
		}
		relist := func(change func(r *rawtuf.Repo, entry doc)) func(*rawtuf.Repo) {
			return func(r *rawtuf.Repo) {
				again(func(*rawtuf.Repo) {})(r)
				change(r, rawtuf.At(r.Roles["snapshot"], "meta", role+".json"))
				r.PublishSnapshot()
			}
		}
		at := func(when time.Time) func(*rawtuf.Repo) {
			return again(func(r *rawtuf.Repo) { r.Roles[role]["expires"] = rawtuf.Stamp(when) })
		}
		t.Run(e.name, func(t *testing.T) {
			healthy := func() *rawtuf.Repo { return e.healthy(t) }
			run(t, healthy, e.path, []attack{
				{"5.6.1 more bytes than listed", relist(func(r *rawtuf.Repo, e doc) { delete(e, "hashes"); e["length"] = 10 }), tuf.ErrMismatch, role + " v6: does not match"},
				{"5.6.2 another sha256 than listed", relist(func(r *rawtuf.Repo, e doc) { e["hashes"] = doc{"sha256": strings.Repeat("0", 64)} }), tuf.ErrMismatch, "sha256 differs"},
				{"5.6.2 another sha512 than listed", relist(func(r *rawtuf.Repo, e doc) { rawtuf.At(e, "hashes")["sha512"] = strings.Repeat("0", 128) }), tuf.ErrMismatch, "sha512 differs"},
				{"5.6.2 no hashes are listed", relist(func(r *rawtuf.Repo, e doc) { delete(e, "hashes") }), nil, ""},
				{"5.6.3 signed by a threshold", again(func(r *rawtuf.Repo) { r.Signers[role] = []string{"somebody"} }), tuf.ErrThreshold, "0 of 1 needed keys"},
				{"5.6.3 not signed", again(func(r *rawtuf.Repo) { r.Signers[role] = nil }), tuf.ErrThreshold, "0 of 1 needed keys"},
				{"5.6.3 signed, then changed", relist(func(r *rawtuf.Repo, e doc) {
					edit(r, "6."+role+".json", "2030-02-15", "2039-02-15")
					delete(e, "hashes")
				}), tuf.ErrThreshold, "0 of 1 needed keys"},
				{"5.6.3 a key id contributes one signature", relist(func(r *rawtuf.Repo, e doc) {
					envelope(r, "6."+role+".json", signTwice)
					delete(e, "hashes")
					delete(e, "length")
				}), tuf.ErrMalformed, "two signatures"},
				{"5.6.4 another version than listed", relist(func(r *rawtuf.Repo, e doc) {
					e["version"] = 7
					r.Files["7."+role+".json"] = r.Files["6."+role+".json"]
				}), tuf.ErrMismatch, role + " v6: unexpected version: snapshot v6 lists v7"},
				{"5.6.5 past its date", at(rawtuf.Now.Add(-time.Second)), tuf.ErrExpired, role + " v6"},
				{"5.6.5 at its date", at(rawtuf.Now), tuf.ErrExpired, role + " v6"},
				{"5.6.5 a second before", at(rawtuf.Now.Add(time.Second)), nil, ""},
				{"5.6.7 can't be downloaded", func(r *rawtuf.Repo) { delete(r.Files, "5."+role+".json") }, errNotServed, ""},
			})
		})
	}
}

// 5.4.2, 5.5.3, 5.6.3: a key contributes one signature, by its bytes and not by its id, for
// roles with keys in root and for roles with keys in delegations. Each role here needs two keys;
// one of its three ids is a second id of the first key.
func TestSection5KeysCountOnce(t *testing.T) {
	for section, role := range map[string]string{"5.4.2": "timestamp", "5.5.3": "snapshot", "5.6.3": "targets", "5.6.3 delegated": "lib"} {
		healthy := func() *rawtuf.Repo {
			r := rawtuf.NewPlain()
			to, roles := r.Root, rawtuf.At(r.Root, "roles")
			if role == "lib" {
				to = rawtuf.At(r.Roles["targets"], "delegations")
			}
			r.AddKeys(to, role, "other")
			_, key := r.KeyDoc(role)
			rawtuf.At(key, "keyval")["public"] = strings.ToUpper(rawtuf.At(key, "keyval")["public"].(string))
			rawtuf.At(to, "keys")["again"] = key
			entry := doc{"keyids": append(r.IDs(role, "other"), "again"), "threshold": 2}
			if role == "lib" {
				maps.Copy(rawtuf.At(to, "roles", 0), entry)
			} else {
				roles[role] = entry
			}
			r.Signers[role] = []string{role, "other"}
			r.PublishRoot()
			r.Publish()
			return r
		}
		run(t, healthy, "lib/a.txt", []attack{{section + " a key contributes one signature", func(r *rawtuf.Repo) {
			r.Signers[role] = []string{role}
			if role == "targets" || role == "lib" {
				r.Bump(role)
			} else {
				r.Bump()
			}
			r.Publish()
			file := fmt.Sprintf("6.%s.json", role)
			if role == "timestamp" {
				file = "timestamp.json"
			}
			signAgain(r, file, role, r.Roles[role])
			var entry doc
			switch role {
			case "snapshot":
				entry = rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json")
			case "targets", "lib":
				entry = rawtuf.At(r.Roles["snapshot"], "meta", role+".json")
			}
			delete(entry, "hashes")
			delete(entry, "length")
			switch role {
			case "snapshot":
				r.PublishTimestamp()
			case "targets", "lib":
				r.PublishSnapshot()
			}
		}, tuf.ErrThreshold, role + " v6: not enough signatures: 1 of 2 needed keys of " + role}})
	}
}

// 5.4.2, 5.5.3, 5.6.3: the keys are those of the trusted root, not of an earlier one.
func TestSection5DismissedKeys(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets"} {
		healthy := func() *rawtuf.Repo {
			r := rawtuf.NewPlain()
			r.NextRoot(func() {
				r.AddKeys(r.Root, "new")
				rawtuf.At(r.Root, "roles")[role] = r.Role(1, "new")
			})
			r.Signers[role] = []string{"new"}
			r.Publish()
			return r
		}
		run(t, healthy, "top.txt", []attack{{role, func(r *rawtuf.Repo) {
			r.Bump("targets")
			r.Signers[role] = []string{role}
			r.Publish()
		}, tuf.ErrThreshold, role + " v6: not enough signatures: 0 of 1 needed keys of " + role}})
	}
}

// 5.6.7 and 5.7: the search. TestDelegations has all orders and visits.
func TestSection5Search(t *testing.T) {
	withheld := func(r *rawtuf.Repo) { delete(r.Files, "5.a.json") }
	for _, tt := range []struct {
		name   string
		lines  []string
		mutate func(r *rawtuf.Repo)
		found  string
		want   error
		part   string
	}{
		{"5.6.7 what can't be downloaded ends the search", []string{"^ > a: x/*", "^ > b: x/*", "b = x/1"}, withheld, "", errNotServed, ""},
		{"5.6.7 what is not valid ends the search", []string{"^ > a: x/*", "^ > b: x/*", "b = x/1"}, func(r *rawtuf.Repo) { r.Signers["a"] = nil; r.Publish() }, "", tuf.ErrThreshold, "a v5"},
		{"5.6.7.1 a role is visited once", []string{"^ > a: x/*", "a > b: x/*", "b > a: x/*"}, nil, "", tuf.ErrNoTarget, "x/1"},
		{"5.6.7.1 the top-level role first", []string{"^ = x/1", "^ > a!: x/*", "a = x/1"}, nil, "targets", nil, ""},
		{"5.6.7.2 in order of appearance", []string{"^ > a: x/*", "^ > b: x/*", "a = x/1", "b = x/1"}, nil, "a", nil, ""},
		{"5.6.7.2 depth first", []string{"^ > a: x/*", "^ > b: x/*", "a > c: x/*", "b = x/1", "c = x/1"}, nil, "c", nil, ""},
		{"5.6.7.2.1 a terminating delegation ends the search", []string{"^ > a!: x/*", "^ > b: x/*", "b = x/1"}, nil, "", tuf.ErrNoTarget, "x/1"},
		{"5.6.7.2.1 below another one too", []string{"^ > a: x/*", "^ > b: x/*", "a > c!: x/*", "b = x/1"}, nil, "", tuf.ErrNoTarget, "x/1"},
		{"5.6.7.2.2 the next where a delegation is not terminating", []string{"^ > a: x/*", "^ > b: x/*", "b = x/1"}, nil, "b", nil, ""},
		{"5.7.2 there is no such target", []string{"^ = x/2"}, nil, "", tuf.ErrNoTarget, "x/1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := tree(t, tt.lines...)
			healthy := r.Clone()
			if tt.mutate != nil {
				tt.mutate(r)
			}
			a, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
			want(t, err, tt.want, tt.part)
			if tt.want == nil && (len(a.Signoffs()) != 1 || a.Signoffs()[0].Role != tt.found) {
				t.Errorf("listed by %v, want %s", a.Signoffs(), tt.found)
			}
			// Healthy, with the target listed at the top: the earlier state does not interfere.
			healthy.AddTarget("x/1", "healed", nil, "targets")
			healthy.Publish()
			_, err = mustSnapshot(t, healthy).UnsafeTarget("x/1", from(healthy))
			want(t, err, nil, "")
		})
	}
	t.Run("5.6.7.1 a maximum of roles", func(t *testing.T) {
		var lines []string
		for i := range 70 {
			lines = append(lines, fmt.Sprintf("^ > r%02d: x/*", i))
		}
		r := tree(t, append(lines, "r69 = x/1")...)
		_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
		want(t, err, tuf.ErrTooLarge, "roles visited")
	})
}

// 5.1, 5.4.4 to 5.6.5: one time for the whole update. Metadata that is unexpired at its start
// stays valid to its end; the next update checks again.
func TestSection5FixedTime(t *testing.T) {
	r := rawtuf.NewPlain()
	r.Roles["lib"]["expires"] = rawtuf.Stamp(rawtuf.Now.Add(time.Second))
	r.Publish()
	root := newClient(t, r).root
	for _, tt := range []struct {
		now  time.Time
		want error
	}{{rawtuf.Now, nil}, {rawtuf.Now.Add(time.Second), tuf.ErrExpired}, {rawtuf.Now, nil}} {
		ts, err := root.Timestamp(r.Files["timestamp.json"], nil, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := ts.Snapshot(r.Files["5.snapshot.json"], nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = snap.UnsafeTarget("lib/a.txt", from(r))
		want(t, err, tt.want, "")
		if !bytes.Equal(snap.Bytes(), r.Files["5.snapshot.json"]) {
			t.Error("not the bytes that were served")
		}
	}
}
