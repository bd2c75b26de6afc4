package tuf_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/visum-dev/visum/internal/tuftest"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// Traps that no other test of this package shows us to avoid. The numbers are
// those of the list of measured traps; TestTrapNN stands elsewhere for 02, 07,
// 13, 14, 15 and 17.

// Trap 6: a thief of the online keys drove the versions up. With new, disjoint
// keys a client that saw them comes back; with the old ones it can't.
func TestTrap06FastForwardHeals(t *testing.T) {
	r := tuftest.New()
	c := newClient(t, r)
	honest := r.Clone()
	r.Roles["timestamp"]["version"], r.Roles["snapshot"]["version"], r.Roles["targets"]["version"] = 1<<40, 1<<40, 1<<40
	r.Publish()
	want(t, c.walk(r), nil, "")
	r = honest
	r.Bump()
	r.Publish()
	want(t, c.walk(r), tuf.ErrRollback, "trusted v1099511627776")
	epoch(func(r *tuftest.Repo, c doc) {})(r)
	r.Publish()
	want(t, c.walk(r), nil, "")
}

// Trap 8: spec_version and version are looked at, in every role.
func TestTrap08SpecVersionAndVersion(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets", "lib"} {
		for name, values := range map[string][]any{
			"spec_version": {"2.0", "0.9", "10.0", "1", "", 1, nil, "one"},
			"version":      {-5, 0, "5", nil},
		} {
			for _, v := range values {
				r := tuftest.NewPlain()
				r.Roles[role][name] = v
				r.Publish()
				_, err := newClient(t, r).find(r, "lib/a.txt")
				if v == "1" {
					want(t, err, nil, "")
					continue
				}
				want(t, err, tuf.ErrMalformed, "")
			}
		}
	}
}

// Trap 9: what is missing or null is refused, not a panic, before and after the
// signatures were checked.
func TestTrap09NothingPanics(t *testing.T) {
	junk := []any{nil, "x", 7, true, []any{}, []any{nil}, doc{}, doc{"a": nil}, doc{"snapshot.json": nil}, doc{"snapshot.json": doc{}},
		doc{"lib.json": nil}, doc{"lib.json": doc{"version": nil}}, doc{"keys": nil, "roles": nil}, doc{"keys": doc{"k": nil}, "roles": []any{}},
		doc{"keys": doc{}, "roles": []any{nil}}, doc{"keys": doc{}, "succinct_roles": nil}}
	members := map[string][]string{"root": {"keys", "roles", "consistent_snapshot", "x-visum"}, "timestamp": {"meta"}, "snapshot": {"meta"}, "targets": {"targets", "delegations"}, "lib": {"targets", "delegations"}}
	for role, names := range members {
		for _, name := range append(names, "_type", "version", "expires", "spec_version") {
			for i, v := range junk {
				r := tuftest.NewPlain()
				try := func() { // an error is fine, and so is success
					root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
					if err != nil {
						return
					}
					if snap, err := (&client{root: root}).refresh(r); err == nil {
						snap.UnsafeTarget("lib/a.txt", from(r))
						snap.UnsafeTarget("a", from(r))
					}
				}
				switch role {
				case "root":
					r.Root[name] = v
					r.PublishRoot()
				case "timestamp":
					r.Roles[role][name] = v
					r.PublishTimestamp()
				case "snapshot":
					r.Roles[role][name] = v
					r.PublishSnapshot()
				default:
					r.Roles[role][name] = v
					r.Publish()
				}
				func() {
					defer func() {
						if p := recover(); p != nil {
							t.Fatalf("%s with %s of kind %d: %v", role, name, i, p)
						}
					}()
					try()
				}()
			}
		}
	}
}

// Trap 10: signatures are counted, and the count bounded, before any is checked.
func TestTrap10ManySignatures(t *testing.T) {
	r := tuftest.NewPlain()
	var sigs bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&sigs, `{"keyid":"%d","sig":""},`, i)
	}
	edit(r, "1.root.json", `"signatures":[`, `"signatures":[`+sigs.String())
	_, err := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Root: 4 << 20}})
	want(t, err, tuf.ErrTooLarge, "more than 1024 signatures")
	// As many as the limit says are none too many.
	_, err = tuf.OpenRoot(tuftest.NewPlain().Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Signatures: 1}})
	want(t, err, nil, "")
}

// Trap 12: the length that the timestamp or snapshot promises is a promise to
// read less than the cap, never more.
func TestTrap12ListedLengthDoesNotRaiseTheCap(t *testing.T) {
	for _, tt := range []struct{ listed, want int64 }{{100 << 20, 16 << 20}, {1000, 1000}, {0, 16 << 20}} {
		r := tuftest.NewPlain()
		c := newClient(t, r)
		tuftest.At(r.Roles["timestamp"], "meta", "snapshot.json")["length"] = tt.listed
		r.PublishTimestamp()
		ts, err := c.root.Timestamp(r.Files["timestamp.json"], nil, tuftest.Now)
		if err != nil || ts.SnapshotFile() != (tuf.RoleFile{Role: "snapshot", Version: 5, MaxLength: tt.want}) {
			t.Errorf("listed %d: read up to %+v, %v", tt.listed, ts.SnapshotFile(), err)
		}
	}
	r := tuftest.NewPlain()
	tuftest.At(r.Roles["snapshot"], "meta", "lib.json")["length"] = 1 << 40
	r.PublishSnapshot()
	f, err := mustSnapshot(t, r).RoleFile("lib")
	if err != nil || f.MaxLength != 64<<20 {
		t.Error(f, err)
	}
	// And the caps are the judge's own, whoever read the bytes.
	small := &tuf.Options{Limits: tuf.Limits{Snapshot: 10, Targets: 10}}
	root, err := tuf.OpenRoot(r.Files["1.root.json"], small)
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&client{root: root}).refresh(r)
	want(t, err, tuf.ErrTooLarge, "at most 10")
}

// Trap 16: with several hashes the sha256 is taken. Without one a sha512 is
// enough where nobody reviews; what has neither is refused.
func TestTrap16SHA256(t *testing.T) {
	r := tuftest.NewPlain()
	f := tuftest.At(r.Roles["targets"], "targets", "top.txt")
	sha256 := tuftest.At(f, "hashes")["sha256"]
	tuftest.At(f, "hashes")["sha512"], tuftest.At(f, "hashes")["md5"] = strings.Repeat("AB", 64), "00"
	r.Publish()
	a, err := mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	if err != nil || a.SHA256() != sha256 || a.SHA512() != strings.Repeat("ab", 64) {
		t.Error(a, err)
	}
	delete(tuftest.At(f, "hashes"), "sha256")
	r.Publish()
	a, err = mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	if err != nil || a.SHA256() != "" || a.Hash() != strings.Repeat("ab", 64) {
		t.Error(a, err)
	}
	delete(tuftest.At(f, "hashes"), "sha512")
	delete(tuftest.At(f, "hashes"), "md5")
	r.Publish()
	_, err = mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	want(t, err, tuf.ErrMalformed, "no hash")
}

// Trap 19: ids are those of metadata.Key.ID (see also TestKeyKinds), and asking
// for them writes nothing.
func TestTrap19KeyIDIsNotRacy(t *testing.T) {
	k, err := tuf.NewKey(tuftest.New().Key("k").Public())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			id := k.ID()
			if m, err := gotuf.Key(k).ID(); m != id || err != nil {
				t.Error(id, m, err)
			}
		})
	}
	wg.Wait()
}
