package tuf_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

// The traps of our dependencies that concern this package, by their number in the list of
// measured traps: TestTrapNN, here or next to the tested code. Packages client and repo test the
// traps of delivery.
var traps = map[int]string{
	2: "a role is trusted for its delegator only", 4: "agreement is required, and an unavailable role is not an absent one",
	6: "new online keys end inflated versions", 7: "keys are counted, not key ids", 8: "spec_version and version are checked",
	9: "nothing panics", 10: "invalid signatures cost little", 12: "a listed length does not raise the limit", 13: "unusable keys and signatures are skipped",
	14: "the received bytes are verified, not a re-encoding", 15: "hash prefixes are hex", 16: "sha256 is preferred",
	17: "a delegated role can't have a top-level role's name", 18: "the key determines the scheme of its signatures", 19: "key ids are those of TUF, and reading one writes nothing",
	24: "a large role is parsed in one pass", 27: "type, scheme, curve and size belong together",
}

func TestTrapsAreTested(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	found := regexp.MustCompile(`(?m)^func TestTrap(\d\d)`).FindAllSubmatch(all, -1)
	have := map[string]bool{}
	for _, f := range found {
		have[string(f[1])] = true
	}
	for n, what := range traps {
		if !have[fmt.Sprintf("%02d", n)] {
			t.Errorf("trap %d, %s, has no test", n, what)
		}
		delete(have, fmt.Sprintf("%02d", n))
	}
	for n := range have {
		t.Errorf("trap %s is not in the list", n)
	}
}

// Trap 4: for an agreement, an absent number is not zero, an unavailable role does not make room
// for another one, and paths match in the same way on every system.
func TestTrap04AgreementIsRequired(t *testing.T) {
	build := func() *rawtuf.Repo {
		r := tree(t, "^ > a: x/*", "^ > b: x/*", "^ > c: x/*", "a = x/1")
		r.AddTarget("x/1", "evil", nil, "c")
		return r
	}
	r := build()
	rawtuf.At(r.Roles["targets"], "delegations")[layout.AgreementMember] = []any{doc{"roles": []any{"a", "b"}}}
	r.Publish()
	_, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	want(t, err, tuf.ErrMalformed, "0 of 2 roles in agreement")
	r = build()
	agree(r, 2, false, "a", "b")
	delete(r.Files, "5.b.json")
	_, err = mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	want(t, err, errNotServed, "")
	r = tree(t, `^ > a: x\\*`, "^ > b: x/*", "b = x/1", `a = x\1`)
	a, err := mustSnapshot(t, r).UnsafeTarget("x/1", from(r))
	if err != nil || a.Signoffs()[0].Role != "b" {
		t.Error(a, err)
	}
}

// Trap 6: an attacker inflated the versions with compromised online keys (fast-forward). With
// new, disjoint keys a client that accepted them recovers; with the old keys it can't.
func TestTrap06FastForward(t *testing.T) {
	r := rawtuf.New()
	c := newClient(t, r)
	honest := r.Clone()
	r.Roles["timestamp"]["version"], r.Roles["snapshot"]["version"], r.Roles["targets"]["version"] = 1<<40, 1<<40, 1<<40
	r.Publish()
	want(t, c.walk(r), nil, "")
	r = honest
	r.Bump()
	r.Publish()
	want(t, c.walk(r), tuf.ErrRollback, "trusted v1099511627776")
	epoch(func(r *rawtuf.Repo, c doc) {})(r)
	r.Publish()
	want(t, c.walk(r), nil, "")
}

// Trap 8: spec_version and version are checked in every role.
func TestTrap08SpecVersionAndVersion(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot", "targets", "lib"} {
		for name, values := range map[string][]any{
			"spec_version": {"2.0", "0.9", "10.0", "1", "", 1, nil, "one"},
			"version":      {-5, 0, "5", nil},
		} {
			for _, v := range values {
				r := rawtuf.NewPlain()
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

// Trap 9: missing or null members are refused without a panic, before and after the signatures
// were checked.
func TestTrap09NothingPanics(t *testing.T) {
	junk := []any{nil, "x", 7, true, []any{}, []any{nil}, doc{}, doc{"a": nil}, doc{"snapshot.json": nil}, doc{"snapshot.json": doc{}},
		doc{"lib.json": nil}, doc{"lib.json": doc{"version": nil}}, doc{"keys": nil, "roles": nil}, doc{"keys": doc{"k": nil}, "roles": []any{}},
		doc{"keys": doc{}, "roles": []any{nil}}, doc{"keys": doc{}, "succinct_roles": nil}}
	members := map[string][]string{"root": {"keys", "roles", "consistent_snapshot", "x-visum"}, "timestamp": {"meta"}, "snapshot": {"meta"}, "targets": {"targets", "delegations"}, "lib": {"targets", "delegations"}}
	for role, names := range members {
		for _, name := range append(names, "_type", "version", "expires", "spec_version") {
			for i, v := range junk {
				r := rawtuf.NewPlain()
				try := func() { // an error and success are both allowed
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

// Trap 10: the number of signatures is bounded before any is verified.
func TestTrap10ManySignatures(t *testing.T) {
	r := rawtuf.NewPlain()
	var sigs bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&sigs, `{"keyid":"%d","sig":""},`, i)
	}
	edit(r, "1.root.json", `"signatures":[`, `"signatures":[`+sigs.String())
	_, err := tuf.OpenRoot(r.Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Root: 4 << 20}})
	want(t, err, tuf.ErrTooLarge, "more than 1024 signatures")
	// Exactly as many as the limit are accepted.
	_, err = tuf.OpenRoot(rawtuf.NewPlain().Files["1.root.json"], &tuf.Options{Limits: tuf.Limits{Signatures: 1}})
	want(t, err, nil, "")
}

// Trap 12: a listed length can only reduce the number of bytes to read below the limit, never
// raise it.
func TestTrap12ListedLengthDoesNotRaiseTheCap(t *testing.T) {
	for _, tt := range []struct{ listed, want int64 }{{100 << 20, 16 << 20}, {1000, 1000}, {0, 16 << 20}} {
		r := rawtuf.NewPlain()
		c := newClient(t, r)
		rawtuf.At(r.Roles["timestamp"], "meta", "snapshot.json")["length"] = tt.listed
		r.PublishTimestamp()
		ts, err := c.root.Timestamp(r.Files["timestamp.json"], nil, rawtuf.Now)
		if err != nil || ts.SnapshotFile() != (tuf.RoleFile{Role: "snapshot", Version: 5, MaxLength: tt.want}) {
			t.Errorf("listed %d: read up to %+v, %v", tt.listed, ts.SnapshotFile(), err)
		}
	}
	r := rawtuf.NewPlain()
	rawtuf.At(r.Roles["snapshot"], "meta", "lib.json")["length"] = 1 << 40
	r.PublishSnapshot()
	f, err := mustSnapshot(t, r).RoleFile("lib")
	if err != nil || f.MaxLength != 64<<20 {
		t.Error(f, err)
	}
	// Package tuf checks the limits itself, too.
	small := &tuf.Options{Limits: tuf.Limits{Snapshot: 10, Targets: 10}}
	root, err := tuf.OpenRoot(r.Files["1.root.json"], small)
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&client{root: root}).refresh(r)
	want(t, err, tuf.ErrTooLarge, "at most 10")
}

// Trap 16: of several hashes the sha256 is used. Without one a sha512 is enough in a repository
// without review; a target with neither is refused.
func TestTrap16SHA256(t *testing.T) {
	r := rawtuf.NewPlain()
	f := rawtuf.At(r.Roles["targets"], "targets", "top.txt")
	sha256 := rawtuf.At(f, "hashes")["sha256"]
	rawtuf.At(f, "hashes")["sha512"], rawtuf.At(f, "hashes")["md5"] = strings.Repeat("AB", 64), "00"
	r.Publish()
	a, err := mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	if err != nil || a.SHA256() != sha256 || a.SHA512() != strings.Repeat("ab", 64) {
		t.Error(a, err)
	}
	delete(rawtuf.At(f, "hashes"), "sha256")
	r.Publish()
	a, err = mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	if err != nil || a.SHA256() != "" || a.Hash() != strings.Repeat("ab", 64) {
		t.Error(a, err)
	}
	delete(rawtuf.At(f, "hashes"), "sha512")
	delete(rawtuf.At(f, "hashes"), "md5")
	r.Publish()
	_, err = mustSnapshot(t, r).UnsafeTarget("top.txt", from(r))
	want(t, err, tuf.ErrMalformed, "no hash")
}

// Trap 18: a signer's key names its scheme. TestKeyKinds verifies each with go-tuf.
func TestTrap18SchemesOfSigners(t *testing.T) {
	for _, tt := range []struct {
		signer      crypto.Signer
		typ, scheme string
	}{
		{rawtuf.New().Key("k"), "ed25519", "ed25519"},
		{ec(t, elliptic.P256()), "ecdsa", "ecdsa-sha2-nistp256"},
		{ec(t, elliptic.P384()), "ecdsa", "ecdsa-sha2-nistp384"},
		{rsaKeys()[2048], "rsa", "rsassa-pss-sha256"},
	} {
		s, err := tuf.NewSigner(tt.signer)
		if err != nil {
			t.Fatal(err)
		}
		if k := s.Key(); k.Type != tt.typ || k.Scheme != tt.scheme {
			t.Errorf("%s %s, want %s %s", k.Type, k.Scheme, tt.typ, tt.scheme)
		}
		msg := []byte("message")
		sig, err := s.Sign(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Key().Verifies(msg, sig) || s.Key().Verifies([]byte("another"), sig) {
			t.Errorf("%s does not verify", tt.scheme)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := s.Sign(ctx, msg); !errors.Is(err, context.Canceled) {
			t.Errorf("%s signs for a removed key: %v", tt.scheme, err)
		}
	}
}

// Trap 24: a role in canonical form is parsed in one pass, with one copy and a list of the
// positions of its targets.
func TestTrap24LargeRolesAreReadOnce(t *testing.T) {
	r := rawtuf.NewPlain()
	for i := range 5000 {
		path := fmt.Sprintf("pool/package-%06d.tar.gz", i)
		r.AddTarget(path, path, doc{"product": "package", "version": fmt.Sprint(i), "channel": "stable", "platform": "linux/amd64", "sequence": i + 1}, "targets")
	}
	r.Publish()
	data := r.Files["5.targets.json"]
	snap := mustSnapshot(t, r)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := snap.UnsafeTarget("pool/package-004999.tar.gz", func(tuf.RoleFile) ([]byte, error) { return data, nil })
	runtime.ReadMemStats(&after)
	if err != nil || a.Length() != int64(len(a.Path())) {
		t.Fatal(a, err)
	}
	if took := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(data)); took > 2 {
		t.Errorf("%.1f times its %d bytes", took, len(data))
	}
}

// Trap 19: ids are those of metadata.Key.ID (see also TestKeyKinds), and reading them writes
// nothing.
func TestTrap19KeyIDIsNotRacy(t *testing.T) {
	k, err := tuf.NewKey(rawtuf.New().Key("k").Public())
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

// Trap 27: of all combinations of type, scheme and key only these verify.
func TestTrap27KeyCombinations(t *testing.T) {
	publics := map[string]string{"text": "key"}
	for name, s := range map[string]crypto.Signer{"ed25519": rawtuf.New().Key("k"), "P-224": ec(t, elliptic.P224()), "P-256": ec(t, elliptic.P256()),
		"P-384": ec(t, elliptic.P384()), "P-521": ec(t, elliptic.P521()), "RSA-1024": rsaKeys()[1024], "RSA-2048": rsaKeys()[2048]} {
		k, err := metadata.KeyFromPublicKey(s.Public())
		if err != nil {
			t.Fatal(err)
		}
		publics[name] = k.Value.PublicKey
	}
	good := map[string]bool{"ed25519 ed25519 ed25519": true, "rsa rsassa-pss-sha256 RSA-2048": true,
		"ecdsa ecdsa-sha2-nistp256 P-256": true, "ecdsa ecdsa-sha2-nistp384 P-384": true,
		"ecdsa-sha2-nistp256 ecdsa-sha2-nistp256 P-256": true, "ecdsa-sha2-nistp384 ecdsa-sha2-nistp384 P-384": true}
	types := []string{"ed25519", "ecdsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa", "", "RSA"}
	schemes := []string{"ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsassa-pss-sha256", "rsa-pkcs1v15-sha256", ""}
	n := 0
	for _, typ := range types {
		for _, scheme := range schemes {
			for name, public := range publics {
				_, err := tuf.Key{Type: typ, Scheme: scheme, Public: public}.Fingerprint()
				if how := typ + " " + scheme + " " + name; (err == nil) != good[how] {
					t.Errorf("%s: %v", how, err)
				}
				n++
			}
		}
	}
	if n != len(types)*len(schemes)*8 {
		t.Error(n)
	}
}
