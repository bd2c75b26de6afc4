package tuf_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// Without consistent snapshots file names have no versions and hashes (specification, 5.5.1,
// 5.6.1, 5.7.3), as in tufup, TAF and python-tuf's own test data. An absent
// consistent_snapshot means false.
func TestNamesWithoutConsistentSnapshots(t *testing.T) {
	for _, says := range []any{false, nil} {
		r := rawtuf.NewPlain()
		r.Files = map[string][]byte{}
		r.Root["consistent_snapshot"] = says
		if says == nil {
			delete(r.Root, "consistent_snapshot")
		}
		r.PublishRoot()
		r.Publish()
		for _, name := range []string{"1.root.json", "timestamp.json", "snapshot.json", "targets.json", "lib.json"} {
			if r.Files[name] == nil || len(r.Files) != 5 {
				t.Fatalf("no %s is served", name)
			}
		}
		c := newClient(t, r)
		for path, file := range map[string]string{"top.txt": "top.txt", "lib/a.txt": "lib/a.txt"} {
			a, err := c.find(r, path)
			want(t, err, nil, "")
			if a.File() != file {
				t.Errorf("%s is served as %s", path, a.File())
			}
		}
		if c.root.ConsistentSnapshot() {
			t.Error("consistent snapshots")
		}
		r.NextRoot(func() { r.Root["consistent_snapshot"] = true })
		r.Publish()
		a, err := c.find(r, "lib/a.txt")
		want(t, err, nil, "")
		if a.File() != "lib/"+a.SHA256()+".a.txt" || !c.root.ConsistentSnapshot() {
			t.Errorf("it is served as %s", a.File())
		}
		r.NextRoot(func() { r.Root["consistent_snapshot"] = "yes" })
		_, err = c.find(r, "lib/a.txt")
		want(t, err, tuf.ErrMalformed, "root v3: malformed")
	}
	// With a charter old and new files must exist at the same time.
	for _, says := range []any{false, nil} {
		r := rawtuf.New()
		r.NextRoot(func() { r.Root["consistent_snapshot"] = says })
		_, err := newClient(t, r).find(r, rawtuf.Path)
		want(t, err, tuf.ErrMalformed, "root v2: malformed")
	}
	if f := (tuf.RoleFile{Role: "snapshot", Version: 5}); f.Name() != "5.snapshot.json" {
		t.Errorf("%s", f.Name())
	}
}

// The flag of the newest root determines the names of content.
func TestRootsBeforeConsistentSnapshots(t *testing.T) {
	r := rawtuf.NewPlain()
	r.Root["consistent_snapshot"] = false
	r.PublishRoot()
	c := newClient(t, r) // with the first root
	for _, says := range []bool{true, false, true} {
		r.NextRoot(func() { r.Root["consistent_snapshot"] = says })
	}
	r.Publish()
	_, err := c.find(r, "top.txt")
	want(t, err, nil, "")
	if c.root.Version() != 4 {
		t.Errorf("root v%d", c.root.Version())
	}
}

// Without a listed length at most the limit is read.
func TestUnlistedWithoutConsistentSnapshots(t *testing.T) {
	r := rawtuf.NewPlain()
	r.Root["consistent_snapshot"] = false
	r.PublishRoot()
	r.Publish()
	for _, list := range []rawtuf.Doc{rawtuf.At(r.Roles["snapshot"], "meta", "targets.json"), rawtuf.At(r.Roles["snapshot"], "meta", "lib.json")} {
		delete(list, "length")
		delete(list, "hashes")
	}
	r.Roles["timestamp"]["meta"] = doc{"snapshot.json": doc{"version": 5}}
	r.PublishRole("snapshot")
	r.PublishTimestamp()
	opt := &tuf.Options{Limits: tuf.Limits{Unlisted: 4096}}
	root, err := tuf.OpenRoot(r.Files["1.root.json"], opt)
	want(t, err, nil, "")
	open := func() error {
		ts, err := root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
		want(t, err, nil, "")
		if f := ts.SnapshotFile(); f.Name() != "snapshot.json" || f.MaxLength != 4096 {
			t.Errorf("%+v", f)
		}
		snap, err := ts.Snapshot(r.Files["snapshot.json"], nil)
		want(t, err, nil, "")
		_, err = snap.UnsafeTarget("lib/a.txt", func(f tuf.RoleFile) ([]byte, error) {
			if f.MaxLength != 4096 {
				t.Errorf("%+v", f)
			}
			return r.Files[f.Name()], nil
		})
		return err
	}
	want(t, open(), nil, "")
	r.Files["lib.json"] = append(r.Files["lib.json"], bytes.Repeat([]byte(" "), 4096)...)
	want(t, open(), tuf.ErrTooLarge, "lib v5")
}

// point is an ECDSA key as go-tuf wrote it before v2, for example in sigstore's first roots: the
// hex of an uncompressed point.
func point(t *testing.T, s crypto.Signer) string {
	t.Helper()
	raw, err := s.Public().(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(raw)
}

func TestECDSAInHex(t *testing.T) {
	p224, p256, p384 := ec(t, elliptic.P224()), ec(t, elliptic.P256()), ec(t, elliptic.P384())
	const s256, s384 = "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"
	good := point(t, p256)
	off := good[:len(good)-1] + map[bool]string{true: "1", false: "0"}[good[len(good)-1] == '0']
	for _, tt := range []struct {
		name, typ, scheme, public string
		signer                    crypto.Signer
		good                      bool
	}{
		{"type ecdsa", "ecdsa", s256, good, p256, true},
		{"type ecdsa-sha2-nistp256", s256, s256, good, p256, true},
		{"upper case", s256, s256, string(bytes.ToUpper([]byte(good))), p256, true},
		{"P-384", s384, s384, point(t, p384), p384, true},
		{"P-384 of type ecdsa", "ecdsa", s384, point(t, p384), p384, true},
		{"P-384 under the scheme of P-256", "ecdsa", s256, point(t, p384), p384, false},
		{"P-256 under the scheme of P-384", "ecdsa", s384, good, p256, false},
		{"P-256 of the type of P-384", s384, s256, good, p256, false},
		{"P-224", "ecdsa", s256, point(t, p224), p224, false},
		{"not on the curve", s256, s256, off, p256, false},
		{"compressed", s256, s256, "02" + good[2:66], p256, false},
		{"not hex", s256, s256, "zz" + good[2:], p256, false},
		{"too long", s256, s256, good + "00", p256, false},
		{"called RSA", "rsa", "rsassa-pss-sha256", good, p256, false},
		{"called ed25519", "ed25519", "ed25519", good, p256, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			r.Keys["hex"] = tt.signer
			rawtuf.At(r.Root, "keys")["hex-id"] = doc{"keytype": tt.typ, "scheme": tt.scheme, "keyval": doc{"public": tt.public}, "keyid_hash_algorithms": []any{"sha256"}}
			// The key signs root too, as in sigstore's roots.
			for _, role := range []string{"root", "timestamp"} {
				rawtuf.At(r.Root, "roles", role)["keyids"] = append([]any{"hex-id"}, rawtuf.At(r.Root, "roles", role)["keyids"].([]any)...)
			}
			need := func(threshold int) error {
				rawtuf.At(r.Root, "roles", "root")["threshold"], rawtuf.At(r.Root, "roles", "timestamp")["threshold"] = threshold, threshold
				r.PublishRoot()
				r.PublishTimestamp()
				for file, signed := range map[string]doc{"1.root.json": r.Root, "timestamp.json": r.Roles["timestamp"]} {
					sig := hex.EncodeToString(r.Signature(signed, "hex"))
					envelope(r, file, func(s []any) []any { return append([]any{doc{"keyid": "hex-id", "sig": sig}}, s...) })
				}
				root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
				if err == nil {
					_, err = root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
				}
				return err
			}
			want(t, need(1), nil, "") // the key causes no error
			if err := need(2); tt.good {
				want(t, err, nil, "")
			} else {
				want(t, err, tuf.ErrThreshold, "1 of 2")
			}
			if _, err := (tuf.Key{Type: tt.typ, Scheme: tt.scheme, Public: tt.public}).Fingerprint(); (err == nil) != tt.good {
				t.Errorf("fingerprint: %v", err)
			}
		})
	}
}

// One key in two encodings under two ids counts once.
func TestECDSAInHexIsTheKeyInPEM(t *testing.T) {
	s := ec(t, elliptic.P256())
	k, err := tuf.NewKey(s.Public())
	want(t, err, nil, "")
	inHex := tuf.Key{Type: "ecdsa-sha2-nistp256", Scheme: "ecdsa-sha2-nistp256", Public: point(t, s)}
	r := rawtuf.NewPlain()
	r.Keys["k"] = s
	for id, k := range map[string]tuf.Key{"pem": k, "hex": inHex} {
		rawtuf.At(r.Root, "keys")[id] = doc{"keytype": k.Type, "scheme": k.Scheme, "keyval": doc{"public": k.Public}}
	}
	for threshold, wants := range map[int]error{1: nil, 2: tuf.ErrThreshold} {
		rawtuf.At(r.Root, "roles")["timestamp"] = doc{"keyids": []any{"pem", "hex"}, "threshold": threshold}
		r.PublishRoot()
		r.Files["timestamp.json"] = rawtuf.Marshal(doc{"signed": r.Roles["timestamp"], "signatures": []any{
			doc{"keyid": "pem", "sig": hex.EncodeToString(r.Signature(r.Roles["timestamp"], "k"))},
			doc{"keyid": "hex", "sig": hex.EncodeToString(r.Signature(r.Roles["timestamp"], "k"))}}})
		_, err := newClient(t, r).find(r, "top.txt")
		want(t, err, wants, "")
	}
}

// renamed gives the key of a role another id in root and in the signature of its file.
func renamed(r *rawtuf.Repo, role, id string) {
	old, key := r.KeyDoc(role)
	delete(rawtuf.At(r.Root, "keys"), old)
	rawtuf.At(r.Root, "keys")[id] = key
	rawtuf.At(r.Root, "roles", role)["keyids"] = []any{id}
}

// A root with another id for the same key does not lift floors: previously trusted files are
// still priors.
func TestPriorUnderAnotherKeyID(t *testing.T) {
	r := rawtuf.NewPlain()
	old := bytes.Clone(r.Files["timestamp.json"])
	r.Bump()
	r.Publish()
	c := newClient(t, r)
	_, err := c.refresh(r)
	want(t, err, nil, "")
	ids := map[string]string{}
	for _, role := range []string{"timestamp", "snapshot"} {
		ids[role], _ = r.KeyDoc(role)
	}
	r.NextRoot(func() {
		renamed(r, "timestamp", "t")
		renamed(r, "snapshot", "s")
	})
	rename := func() {
		r.Files["timestamp.json"] = bytes.ReplaceAll(r.Files["timestamp.json"], []byte(ids["timestamp"]), []byte("t"))
	}
	old = bytes.ReplaceAll(old, []byte(ids["timestamp"]), []byte("t"))
	publish := func() {
		data := bytes.ReplaceAll(r.Sign(r.Roles["snapshot"], "snapshot"), []byte(ids["snapshot"]), []byte("s"))
		f := rawtuf.FileOf(data)
		f["version"] = r.Roles["snapshot"]["version"]
		r.Files[fmt.Sprintf("%v.snapshot.json", f["version"])] = data
		r.Roles["timestamp"]["meta"] = doc{"snapshot.json": f}
		r.PublishTimestamp()
		rename()
	}
	r.Bump()
	publish()
	now := r.Files["timestamp.json"]
	r.Files["timestamp.json"] = old
	_, err = c.refresh(r)
	want(t, err, tuf.ErrRollback, "timestamp v5: rollback: trusted v6")
	if !c.root.IsPrior(c.ts) || !c.root.IsPrior(old) || c.root.IsPrior(edited(c.ts)) || c.root.IsPrior(nil) || new(tuf.Root).IsPrior(old) {
		t.Error("what is prior, and what is not")
	}
	r.Files["timestamp.json"] = now
	_, err = c.refresh(r)
	want(t, err, nil, "")
	// With other keys they are not.
	r.NextRoot(func() { rawtuf.At(r.Root, "keys")["t"] = func() doc { _, k := r.KeyDoc("t2"); return k }() })
	root, err := c.root.Next(r.Files["3.root.json"])
	want(t, err, nil, "")
	if root.IsPrior(now) {
		t.Error("prior under another key")
	}
}

// edited returns a file with another signed part.
func edited(data []byte) []byte {
	return bytes.Replace(data, []byte("2030-02-15"), []byte("2031-02-15"), 1)
}

// Empty values as Go programs write them, such as go-tuf before v2.
func TestNullIsAbsent(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(r *rawtuf.Repo, lib doc)
		path   string
		err    error
	}{
		"paths and null prefixes": {func(r *rawtuf.Repo, lib doc) { lib["paths"], lib["path_hash_prefixes"] = nil, []any{""} }, "lib/a.txt", nil},
		"prefixes and null paths": {func(r *rawtuf.Repo, lib doc) { lib["path_hash_prefixes"] = nil }, "lib/a.txt", nil},
		"paths alone":             {func(r *rawtuf.Repo, lib doc) { lib["paths"] = nil }, "lib/a.txt", tuf.ErrNoTarget},
		"neither is there":        {func(r *rawtuf.Repo, lib doc) { delete(lib, "paths") }, "lib/a.txt", tuf.ErrMalformed},
		"both are there":          {func(r *rawtuf.Repo, lib doc) { lib["path_hash_prefixes"] = []any{} }, "lib/a.txt", tuf.ErrMalformed},
		"delegations":             {func(r *rawtuf.Repo, lib doc) { r.Roles["targets"]["delegations"] = nil }, "top.txt", nil},
		"keys and roles":          {func(r *rawtuf.Repo, lib doc) { r.Roles["targets"]["delegations"] = doc{"keys": nil, "roles": nil} }, "top.txt", nil},
		"custom":                  {func(r *rawtuf.Repo, lib doc) { rawtuf.At(r.Roles["targets"], "targets", "top.txt")["custom"] = nil }, "top.txt", nil},
		"hashes of a target":      {func(r *rawtuf.Repo, lib doc) { rawtuf.At(r.Roles["targets"], "targets", "top.txt")["hashes"] = nil }, "top.txt", tuf.ErrMalformed},
		"hashes in the snapshot": {func(r *rawtuf.Repo, lib doc) {
			rawtuf.At(r.Roles["snapshot"], "meta", "targets.json")["hashes"] = nil
			r.PublishSnapshot()
		}, "top.txt", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			_, err := newClient(t, r).find(r, tt.path)
			want(t, err, nil, "")
			tt.change(r, rawtuf.At(r.Roles["targets"], "delegations", "roles", 0))
			if name != "hashes in the snapshot" {
				r.Publish()
			}
			_, err = newClient(t, r).find(r, tt.path)
			want(t, err, tt.err, "")
		})
	}
}
