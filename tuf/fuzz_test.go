package tuf_test

import (
	"bytes"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// sealed signs any JSON; nil if the input is not JSON.
func sealed(r *rawtuf.Repo, signed []byte, keys ...string) []byte {
	v, err := wire.Canonical(signed)
	if err != nil {
		return nil
	}
	env := parse(r.Sign(doc{}, keys...))
	for _, s := range env["signatures"].([]any) {
		for _, k := range keys {
			if s.(doc)["keyid"] == r.IDs(k)[0] {
				s.(doc)["sig"] = hexSign(r, k, v)
			}
		}
	}
	return append(append([]byte(`{"signatures":`), rawtuf.Marshal(env["signatures"])...), append(append([]byte(`,"signed":`), signed...), '}')...)
}

// Invariants of a root: no panic, and an accepted root is accepted again from its own bytes
// with the same content. The input is used as a file, as a pin, and as a signed part that
// both parties sign.
func FuzzOpenRoot(f *testing.F) {
	healthy, plain := rawtuf.New(), rawtuf.NewPlain()
	for _, r := range []*rawtuf.Repo{healthy, plain} {
		f.Add(r.Files["1.root.json"])
		f.Add(rawtuf.Marshal(r.Root))
		r.NextRoot(func() {})
		f.Add(rawtuf.Marshal(r.Root))
	}
	f.Add(rawtuf.Marshal(healthy.Pin()))
	trusted := newClient(f, healthy).root
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := tuf.OpenPin(data, nil); err == nil {
			q, err := tuf.OpenPin(data, nil)
			if err != nil || q.Fingerprint() != p.Fingerprint() {
				t.Fatal(err)
			}
		}
		for _, file := range [][]byte{data, sealed(healthy, data, oldSigners...), sealed(plain, data, "root")} {
			if next, err := trusted.Next(file); err == nil && next.Version() != 2 {
				t.Fatalf("root v%d after v1", next.Version())
			}
			root, err := tuf.OpenRoot(file, nil)
			if err != nil {
				continue
			}
			again, err := tuf.OpenRoot(root.Bytes(), nil)
			if err != nil || again.SHA256() != root.SHA256() || again.Version() != root.Version() || !bytes.Equal(again.Bytes(), file) {
				t.Fatalf("accepted once: %v\n%s", err, file)
			}
			if c := root.Charter(); c != nil {
				for _, l := range c.Locations() {
					c.Usable(l, rawtuf.Now)
				}
			}
		}
	})
}

// The same for the lists: an accepted file is accepted again, also with itself as prior, and
// then nothing older is accepted.
func FuzzLists(f *testing.F) {
	r := rawtuf.NewPlain()
	ts := parse(rawtuf.Marshal(r.Roles["timestamp"]))
	delete(rawtuf.At(ts, "meta", "snapshot.json"), "hashes")
	delete(rawtuf.At(ts, "meta", "snapshot.json"), "length")
	f.Add(rawtuf.Marshal(ts), rawtuf.Marshal(r.Roles["snapshot"]))
	f.Add(rawtuf.Marshal(r.Roles["timestamp"]), rawtuf.Marshal(r.Roles["snapshot"]))
	odd := parse(rawtuf.Marshal(r.Roles["snapshot"]))
	odd["meta"] = doc{"targets.json": doc{"version": 1, "length": 0, "hashes": doc{}}, "\x00.json": doc{}, "x": doc{"version": "1"}}
	f.Add(rawtuf.Marshal(ts), rawtuf.Marshal(odd))
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		file := sealed(r, one, "timestamp")
		ts, err := root.Timestamp(file, nil, rawtuf.Now)
		if err != nil {
			return
		}
		again, err := root.Timestamp(ts.Bytes(), file, rawtuf.Now)
		if err != nil || again.Version() != ts.Version() || !bytes.Equal(again.Bytes(), file) || again.SnapshotFile() != ts.SnapshotFile() {
			t.Fatalf("accepted once: %v\n%s", err, file)
		}
		if f := ts.SnapshotFile(); f.Version < 1 || f.MaxLength < 1 || f.MaxLength > 16<<20 {
			t.Fatalf("%+v", f)
		}
		if old, err := root.Timestamp(r.Files["timestamp.json"], file, rawtuf.Now); err == nil && old.Version() < ts.Version() {
			t.Fatalf("v%d after v%d", old.Version(), ts.Version())
		}
		file = sealed(r, two, "snapshot")
		snap, err := ts.Snapshot(file, nil)
		if err != nil {
			return
		}
		same, err := ts.Snapshot(snap.Bytes(), file)
		if err != nil || same.Version() != snap.Version() || !bytes.Equal(same.Bytes(), file) {
			t.Fatalf("accepted once: %v\n%s", err, file)
		}
		for _, role := range snap.Roles() {
			a, err := snap.RoleFile(role)
			b, err2 := same.RoleFile(role)
			if a != b || (err == nil) != (err2 == nil) || err == nil && (a.Version < 1 || a.MaxLength < 1 || a.MaxLength > 64<<20) {
				t.Fatalf("%+v, %v; %+v, %v", a, err, b, err2)
			}
		}
		snap.UnsafeTarget("lib/a.txt", from(r))
	})
}

// The same for a targets role, whose signed part is the input.
func FuzzTargets(f *testing.F) {
	r := rawtuf.NewPlain()
	for _, seed := range []doc{rawtuf.New().Roles["targets"], rawtuf.New().Roles["review-agent"], r.Roles["targets"], r.Roles["lib"]} {
		f.Add(rawtuf.Marshal(seed), "lib/a.txt")
	}
	bins := rawtuf.Targets()
	bins["delegations"] = doc{"keys": doc{}, "succinct_roles": doc{"keyids": []any{}, "threshold": 1, "bit_length": 4, "name_prefix": "bin"}}
	f.Add(rawtuf.Marshal(bins), "x")
	hashed := rawtuf.Targets()
	hashed["delegations"] = doc{"keys": doc{}, "roles": []any{doc{"name": "a", "keyids": []any{}, "threshold": 1, "terminating": true, "path_hash_prefixes": []any{"0"}}}}
	f.Add(rawtuf.Marshal(hashed), "\x00[")
	entry := rawtuf.At(r.Roles["snapshot"], "meta", "targets.json")
	delete(entry, "hashes")
	delete(entry, "length")
	r.PublishSnapshot()
	f.Fuzz(func(t *testing.T, data []byte, path string) {
		file := sealed(r, data, "targets")
		snap := mustSnapshot(t, r)
		tg, err := snap.Targets(file)
		if err != nil {
			return
		}
		again, err := mustSnapshot(t, r).Targets(tg.Bytes())
		if err != nil || again.Version() != tg.Version() || !bytes.Equal(again.Bytes(), file) {
			t.Fatalf("accepted once: %v\n%s", err, file)
		}
		a, err := snap.UnsafeTarget(path, from(r))
		if err == nil && (a.IsZero() || a.Path() != path || a.Length() < 0 || len(a.SHA256()) != 64) {
			t.Fatalf("%+v", a)
		}
	})
}
