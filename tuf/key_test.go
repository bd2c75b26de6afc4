package tuf_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
	"github.com/visum-dev/visum/tuf/gotuf"
)

func ec(t testing.TB, c elliptic.Curve) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var rsaKeys = sync.OnceValue(func() map[int]crypto.Signer {
	out := map[int]crypto.Signer{}
	for _, bits := range []int{1024, 2048} {
		k, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		out[bits] = k
	}
	return out
})

// Every kind of key that NewKey returns signs metadata that we and go-tuf accept.
func TestKeyKinds(t *testing.T) {
	for name, s := range map[string]crypto.Signer{
		"ed25519": rawtuf.New().Key("k"), "P-256": ec(t, elliptic.P256()), "P-384": ec(t, elliptic.P384()), "RSA": rsaKeys()[2048],
	} {
		t.Run(name, func(t *testing.T) {
			signer, err := tuf.NewSigner(s)
			if err != nil {
				t.Fatal(err)
			}
			k := signer.Key()
			if id, err := gotuf.Key(k).ID(); err != nil || id != k.ID() {
				t.Errorf("id is %s, with go-tuf %s, %v", k.ID(), id, err)
			}
			if stock, err := metadata.KeyFromPublicKey(s.Public()); err != nil || stock.Type != k.Type || stock.Value.PublicKey != k.Public {
				t.Errorf("%+v, with go-tuf %+v, %v", k, stock, err)
			}
			r := rawtuf.NewPlain()
			rawtuf.At(r.Root, "keys")[k.ID()] = doc{"keytype": k.Type, "scheme": k.Scheme, "keyval": doc{"public": k.Public}}
			rawtuf.At(r.Root, "roles")["timestamp"] = doc{"keyids": []any{k.ID()}, "threshold": 1}
			r.PublishRoot()
			sign := func() {
				msg := canonical(t, r.Roles["timestamp"])
				sig, err := signer.Sign(t.Context(), msg)
				if err != nil {
					t.Fatal(err)
				}
				r.Files["timestamp.json"] = rawtuf.Marshal(doc{"signed": r.Roles["timestamp"],
					"signatures": []any{doc{"keyid": k.ID(), "sig": hex.EncodeToString(sig)}}})
			}
			sign()
			_, err = newClient(t, r).find(r, "top.txt")
			want(t, err, nil, "")
			want(t, stockVerify(r, "timestamp"), nil, "")
			edit(r, "timestamp.json", "2030-02-15", "2031-02-15")
			_, err = newClient(t, r).find(r, "top.txt")
			want(t, err, tuf.ErrThreshold, "timestamp")
		})
	}
}

// Traps 9, 13, 27: an unknown, weak or malformed key does not count, and causes no error if
// other keys meet the threshold.
func TestTrap13UnusableKeysAreSkipped(t *testing.T) {
	pub := func(s crypto.Signer) string {
		k, err := metadata.KeyFromPublicKey(s.Public())
		if err != nil {
			t.Fatal(err)
		}
		return k.Value.PublicKey
	}
	key := func(typ, scheme, public string) doc {
		return doc{"keytype": typ, "scheme": scheme, "keyval": doc{"public": public}}
	}
	p224, p256, p384, p521 := ec(t, elliptic.P224()), ec(t, elliptic.P256()), ec(t, elliptic.P384()), ec(t, elliptic.P521())
	rsa1024, rsa2048, ed := rsaKeys()[1024], rsaKeys()[2048], rawtuf.New().Key("k")
	for _, tt := range []struct {
		name   string
		key    any
		signer crypto.Signer
	}{
		{"P-224", key("ecdsa", "ecdsa-sha2-nistp256", pub(p224)), p224},
		{"P-521", key("ecdsa", "ecdsa-sha2-nistp256", pub(p521)), p521},
		{"P-384 under the scheme of P-256", key("ecdsa", "ecdsa-sha2-nistp256", pub(p384)), p384},
		{"P-256 under the scheme of P-384", key("ecdsa", "ecdsa-sha2-nistp384", pub(p256)), p256},
		{"P-384 of the type of P-256", key("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", pub(p384)), p384},
		{"P-256 of the type of P-384", key("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp256", pub(p256)), p256},
		{"RSA called ECDSA", key("ecdsa", "ecdsa-sha2-nistp256", pub(rsa2048)), rsa2048},
		{"ed25519 with junk behind it", key("ed25519", "ed25519", pub(ed)+"zz"), ed},
		{"ECDSA called RSA", key("rsa", "rsassa-pss-sha256", pub(p256)), p256},
		{"RSA-1024", key("rsa", "rsassa-pss-sha256", pub(rsa1024)), rsa1024},
		{"RSA of an unknown scheme", key("rsa", "rsa-pkcs1v15-sha256", pub(rsa2048)), rsa2048},
		{"ed25519 too short", key("ed25519", "ed25519", pub(ed)[2:]), ed},
		{"ed25519 too long", key("ed25519", "ed25519", pub(ed)+"00"), ed},
		{"ed25519 empty", key("ed25519", "ed25519", ""), ed},
		{"ed25519 not hex", key("ed25519", "ed25519", "zz"), ed},
		{"ed25519 of another scheme", key("ed25519", "ed25519ph", pub(ed)), ed},
		{"unknown type", key("ml-dsa", "ml-dsa-65", "00"), ed},
		{"PEM that is none", key("ecdsa", "ecdsa-sha2-nistp256", "-----BEGIN"), p256},
		{"no keyval", doc{"keytype": "sigstore-oidc", "scheme": "Fulcio", "identity": "a@example.org"}, ed},
		{"members of other types", doc{"keytype": 1, "scheme": []any{}, "keyval": "x"}, ed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			r.Keys["odd"] = tt.signer
			rawtuf.At(r.Root, "keys")["odd-id"] = tt.key
			// It is one of the keys of root and timestamp, and signs both.
			for _, role := range []string{"root", "timestamp"} {
				ids := rawtuf.At(r.Root, "roles", role)
				ids["keyids"] = append([]any{"odd-id"}, ids["keyids"].([]any)...)
			}
			publish := func() {
				r.PublishRoot()
				r.PublishTimestamp()
				for file, signed := range map[string]doc{"1.root.json": r.Root, "timestamp.json": r.Roles["timestamp"]} {
					sig := hex.EncodeToString(r.Signature(signed, "odd"))
					envelope(r, file, func(s []any) []any { return append([]any{doc{"keyid": "odd-id", "sig": sig}}, s...) })
				}
			}
			publish()
			_, err := newClient(t, r).find(r, "top.txt")
			want(t, err, nil, "")
			rawtuf.At(r.Root, "roles", "timestamp")["threshold"] = 2
			publish()
			_, err = newClient(t, r).find(r, "top.txt")
			want(t, err, tuf.ErrThreshold, "1 of 2")
		})
	}
}

// For a point of small order a signature can be computed without a private key; it is valid for
// at least one of eight messages. It does not count.
func TestSmallOrderKeys(t *testing.T) {
	var points [][]byte
	for _, y := range []string{strings.Repeat("00", 32), "01" + strings.Repeat("00", 31), "ec" + strings.Repeat("ff", 30) + "7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"ed" + strings.Repeat("ff", 30) + "7f", "ee" + strings.Repeat("ff", 30) + "7f"} {
		for _, sign := range []byte{0, 0x80} {
			p, err := hex.DecodeString(y)
			if err != nil {
				t.Fatal(err)
			}
			p[31] |= sign
			points = append(points, p)
		}
	}
	forged := 0
	for _, point := range points {
		r := rawtuf.NewPlain()
		rawtuf.At(r.Root, "keys")["unknown"] = doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": hex.EncodeToString(point)}}
		rawtuf.At(r.Root, "roles")["timestamp"] = doc{"keyids": []any{"unknown"}, "threshold": 1}
		r.PublishRoot()
		// R is one of the points too, S is zero; some message fits.
		sig := make([]byte, 64)
		fits := func() bool {
			msg := canonical(t, r.Roles["timestamp"])
			for _, R := range points {
				if copy(sig, R); ed25519.Verify(point, msg, sig) {
					return true
				}
			}
			return false
		}
		found := false
		for i := 0; i < 200 && !found; i++ {
			r.Roles["timestamp"]["x"] = i
			found = fits()
		}
		if found {
			forged++
		}
		r.PublishTimestamp()
		envelope(r, "timestamp.json", func([]any) []any { return []any{doc{"keyid": "unknown", "sig": hex.EncodeToString(sig)}} })
		want(t, find(newClient(t, r), r, "top.txt"), tuf.ErrThreshold, "0 of 1 needed keys of timestamp")
		_, err := tuf.NewKey(ed25519.PublicKey(point))
		want(t, err, tuf.ErrMalformed, "key")
	}
	if forged < 8 { // crypto/ed25519 does not decode the other encodings
		t.Errorf("%d of %d points can be signed for: the test proves little", forged, len(points))
	}
}

// Trap 13, continued: key ids without a key, and signatures that are not hex.
func TestTrap13SignaturesThatCannotBeRead(t *testing.T) {
	r := rawtuf.NewPlain()
	ids := rawtuf.At(r.Root, "roles", "timestamp")
	ids["keyids"] = append([]any{"ghost"}, ids["keyids"].([]any)...)
	r.PublishRoot()
	envelope(r, "timestamp.json", func(s []any) []any {
		return append([]any{doc{"keyid": "ghost", "sig": "00"}, doc{"keyid": "a", "sig": "not hex"}, doc{"keyid": "b", "sig": ""},
			nil, 7, doc{"sig": "00"}, doc{"keyid": 7, "sig": "00"}, doc{"keyid": "c"}, doc{"keyid": "d", "sig": 7},
			doc{"keyid": r.IDs("snapshot")[0], "sig": strings.Repeat("00", 64)}}, s...)
	})
	_, err := newClient(t, r).find(r, "top.txt")
	want(t, err, nil, "")
}

// Trap 7: thresholds count keys, not key ids or encodings of a key.
func TestTrap07OneKeyUnderTwoIDsCountsOnce(t *testing.T) {
	for name, s := range map[string]crypto.Signer{"ed25519": rawtuf.New().Key("k"), "P-256": ec(t, elliptic.P256()), "RSA": rsaKeys()[2048]} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			r.Keys["one"] = s
			id, key := r.KeyDoc("one")
			other := rawtuf.Copy(key).(doc)
			if _, ok := s.(ed25519.PrivateKey); ok {
				rawtuf.At(other, "keyval")["public"] = strings.ToUpper(rawtuf.At(key, "keyval")["public"].(string))
			} else {
				rawtuf.At(other, "keyval")["public"] = "\n" + rawtuf.At(key, "keyval")["public"].(string) + "\n"
			}
			keys := rawtuf.At(r.Root, "keys")
			keys[id], keys["other"] = key, other
			role := doc{"keyids": []any{id, "other"}, "threshold": 2}
			rawtuf.At(r.Root, "roles")["timestamp"] = role
			r.Signers["timestamp"] = []string{"one"}
			publish := func() {
				r.PublishRoot()
				r.PublishTimestamp()
				envelope(r, "timestamp.json", func(s []any) []any {
					return append(s, doc{"keyid": "other", "sig": hex.EncodeToString(r.Signature(r.Roles["timestamp"], "one"))})
				})
			}
			publish()
			_, err := newClient(t, r).find(r, "top.txt")
			want(t, err, tuf.ErrThreshold, "1 of 2 needed keys of timestamp")
			role["threshold"] = 1
			publish()
			_, err = newClient(t, r).find(r, "top.txt")
			want(t, err, nil, "")
		})
	}
}

func TestNewKeyRefuses(t *testing.T) {
	for name, s := range map[string]crypto.Signer{"P-224": ec(t, elliptic.P224()), "P-521": ec(t, elliptic.P521()), "RSA-1024": rsaKeys()[1024]} {
		_, err := tuf.NewKey(s.Public())
		want(t, err, tuf.ErrMalformed, "key")
		if _, err := tuf.NewSigner(s); err == nil {
			t.Errorf("%s: a signer", name)
		}
	}
	for _, pub := range []crypto.PublicKey{nil, "key", ed25519.PublicKey("short")} {
		if _, err := tuf.NewKey(pub); err == nil {
			t.Errorf("%T: a key", pub)
		}
	}
	for bits, ok := range map[uint]bool{2047: false, 2048: true, 8192: true, 8193: false} {
		n := new(big.Int).SetBit(big.NewInt(1), int(bits)-1, 1)
		k, err := tuf.NewKey(&rsa.PublicKey{N: n, E: 65537})
		if (err == nil) != ok {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
		if _, err := k.Fingerprint(); (err == nil) != ok {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
	}
	if fp, err := (tuf.Key{}).Fingerprint(); fp != "" || err == nil {
		t.Errorf("the zero Key has fingerprint %q", fp)
	}
}

// Signed counts public keys, as for metadata, whatever their ids.
func TestSignedCountsKeys(t *testing.T) {
	r := rawtuf.NewPlain()
	id, key := r.KeyDoc("targets")
	twin := strings.Repeat("0", 64)
	r.Root["keys"].(doc)[twin] = rawtuf.Copy(key)
	r.AddKeys(r.Root, "other")
	r.PublishRoot()
	root, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
	if err != nil {
		t.Fatal(err)
	}
	other := r.IDs("other")[0].(string)
	sign := func(name string) []byte {
		s, err := tuf.NewSigner(r.Key(name))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := s.Sign(t.Context(), []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	ids := []string{id, twin, other, "unknown"}
	for name, x := range map[string]struct {
		sigs map[string][]byte
		want int
	}{
		"one key, two ids": {map[string][]byte{id: sign("targets"), twin: sign("targets")}, 1},
		"two keys":         {map[string][]byte{twin: sign("targets"), other: sign("other")}, 2},
		"another's":        {map[string][]byte{id: sign("other"), other: sign("targets"), "unknown": sign("other")}, 0},
		"nothing":          {nil, 0},
	} {
		if got := root.Signed([]byte("payload"), x.sigs, ids); len(got) != x.want {
			t.Errorf("%s: %v", name, got)
		}
		if got := root.Signed([]byte("other"), x.sigs, ids); len(got) != 0 {
			t.Errorf("%s: another payload: %v", name, got)
		}
	}
	var zero *tuf.Root
	if zero.Signed([]byte("payload"), map[string][]byte{id: sign("targets")}, ids) != nil {
		t.Error("a zero Root counts")
	}
}

// If enough keys signed, but some are of an unsupported kind, the error reports it: the product
// is outdated and there is no attack. Keys without a signature and weak or malformed keys of
// supported kinds do not have this effect.
func TestKeysOfAnUnknownKind(t *testing.T) {
	quantum := doc{"keytype": "ml-dsa", "scheme": "ml-dsa-44/1", "keyval": doc{"public": "-----BEGIN PUBLIC KEY-----\n"}}
	for name, tt := range map[string]struct {
		key       doc
		signs     bool
		threshold int
		want      error
		says      string
	}{
		"a new kind":        {quantum, true, 1, tuf.ErrUnknownKey, `timestamp v5: not enough signatures by keys of a supported kind: 0 of 1 needed keys of timestamp signed, 1 more can't be checked: kind "ml-dsa" with scheme "ml-dsa-44/1"`},
		"a new scheme":      {doc{"keytype": "ed25519", "scheme": "ed25519ph", "keyval": doc{"public": "00"}}, true, 1, tuf.ErrUnknownKey, `"ed25519ph"`},
		"did not sign":      {quantum, false, 1, tuf.ErrThreshold, "0 of 1 needed keys of timestamp"},
		"one of two":        {quantum, true, 2, tuf.ErrThreshold, "0 of 2 needed keys of timestamp"},
		"broken, not new":   {doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": "00"}}, true, 1, tuf.ErrThreshold, "0 of 1 needed keys of timestamp"},
		"one that is known": {nil, true, 1, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := rawtuf.NewPlain()
			known, _ := r.KeyDoc("timestamp")
			ids := []any{known}
			if tt.key != nil {
				ids = []any{"new"}
				rawtuf.At(r.Root, "keys")["new"] = tt.key
			}
			rawtuf.At(r.Root, "roles")["timestamp"] = doc{"keyids": ids, "threshold": tt.threshold}
			r.PublishRoot()
			envelope(r, "timestamp.json", func(sigs []any) []any {
				if tt.key != nil && tt.signs {
					return []any{doc{"keyid": "new", "sig": "c2ln"}} // not even hex
				}
				return sigs
			})
			err := find(newClient(t, r), r, "top.txt")
			want(t, err, tt.want, tt.says)
			if tt.want == tuf.ErrThreshold && errors.Is(err, tuf.ErrUnknownKey) {
				t.Error(err)
			}
		})
	}
}
