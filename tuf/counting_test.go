package tuf_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"testing"

	"github.com/visum-dev/visum/internal/rawtuf"
	"github.com/visum-dev/visum/tuf"
)

// fingerprintOf is the fingerprint of a named key.
func fingerprintOf(t *testing.T, r *rawtuf.Repo, name string) string {
	t.Helper()
	k, err := tuf.NewKey(r.Key(name).Public())
	if err != nil {
		t.Fatal(err)
	}
	fp, err := k.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	return fp
}

// unusable are the cases of a key id without a usable key.
var unusable = map[string]func(doc, string){
	"no such key": func(keys doc, id string) { delete(keys, id) },
	"an unknown type": func(keys doc, id string) {
		keys[id] = doc{"keytype": "later", "scheme": "later", "keyval": doc{"public": "00"}}
	},
	"an invalid key": func(keys doc, id string) {
		keys[id] = doc{"keytype": "ed25519", "scheme": "ed25519", "keyval": doc{"public": "00"}}
	},
	"a key without val": func(keys doc, id string) { keys[id] = doc{"keytype": "ed25519", "scheme": "ed25519"} },
}

// One signature counts once, whatever key ids are listed in addition to the signer's: ids
// that begin or end with it, with its fingerprint, or without a key. The healthy twin has
// a second key that signed.
func TestOneSignatureMeetsNoThresholdOfTwo(t *testing.T) {
	aliases := func(id, fp string) []string {
		return []string{id + fp, fp + id, id + " " + fp, id + "\n" + fp, id + "\x00", "", fp}
	}
	// holders are the objects that hold a role's key ids, and the keys.
	holders := func(r *rawtuf.Repo, role string) (ids, keys doc) {
		if role == "lib" {
			d := rawtuf.At(r.Roles["targets"], "delegations")
			return rawtuf.At(d, "roles", 0), rawtuf.At(d, "keys")
		}
		return rawtuf.At(r.Root, "roles", role), rawtuf.At(r.Root, "keys")
	}
	for _, role := range []string{"root", "timestamp", "snapshot", "targets", "lib"} {
		t.Run(role, func(t *testing.T) {
			r := rawtuf.NewPlain()
			id := r.IDs(role)[0].(string)
			for _, alias := range aliases(id, fingerprintOf(t, r, role)) {
				for name, spoil := range unusable {
					r := rawtuf.NewPlain()
					ids, keys := holders(r, role)
					ids["keyids"], ids["threshold"] = []any{id, alias}, 2
					spoil(keys, alias)
					r.PublishRoot()
					r.Publish()
					_, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
					if role != "root" {
						_, err = newClient(t, r).find(r, "lib/a.txt")
					}
					if err == nil {
						t.Fatalf("%q, %s: one signature met a threshold of 2", alias, name)
					}
					want(t, err, tuf.ErrThreshold, "1 of 2 needed keys")
				}
			}
			ids, keys := holders(r, role)
			second, key := r.KeyDoc("second")
			ids["keyids"], ids["threshold"], keys[second] = []any{id, second}, 2, key
			r.Signers[role] = []string{role, "second"}
			r.PublishRoot()
			r.Publish()
			_, err := newClient(t, r).find(r, "lib/a.txt")
			want(t, err, nil, "")
		})
	}
}

// rsaKey is an RSA key in the form of metadata, with any numbers.
func rsaKey(t *testing.T, n *big.Int, e int) tuf.Key {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: n, E: e})
	if err != nil {
		t.Fatal(err)
	}
	return tuf.Key{Type: "rsa", Scheme: "rsassa-pss-sha256", Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// primeSigner signs for an RSA key whose modulus is a prime number, with the public key
// only.
type primeSigner struct{ p *big.Int }

func (s primeSigner) Public() crypto.PublicKey { return &rsa.PublicKey{N: s.p, E: 65537} }

func (s primeSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	k := (s.p.BitLen() + 7) / 8
	em := pss(digest, s.p.BitLen()-1)
	d := new(big.Int).ModInverse(big.NewInt(65537), new(big.Int).Sub(s.p, big.NewInt(1)))
	return new(big.Int).Exp(new(big.Int).SetBytes(em), d, s.p).FillBytes(make([]byte, k)), nil
}

// pss is EMSA-PSS of RFC 8017 with SHA-256 and an empty salt.
func pss(digest []byte, bits int) []byte {
	size := (bits + 7) / 8
	h := sha256.Sum256(append(make([]byte, 8), digest...))
	em := make([]byte, size)
	db := em[:size-sha256.Size-1]
	db[len(db)-1] = 1
	for i, mask := 0, []byte(nil); i < len(db); i++ {
		if i%sha256.Size == 0 {
			sum := sha256.Sum256(append(h[:], 0, 0, 0, byte(i/sha256.Size)))
			mask = sum[:]
		}
		db[i] ^= mask[i%sha256.Size]
	}
	db[0] &= 0xff >> (8*size - bits)
	copy(em[len(db):], h[:])
	em[size-1] = 0xbc
	return em
}

// RSA keys for which no one, or everyone, can sign are refused: as single keys, as keys of
// a charter, and in a count of signatures.
func TestUnsoundRSAKeys(t *testing.T) {
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	prime, err := rand.Prime(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	even := new(big.Int).SetBit(good.N, 0, 0)
	if _, err := rsaKey(t, good.N, 65537).Fingerprint(); err != nil {
		t.Errorf("the healthy key: %v", err)
	}
	if _, err := rsaKey(t, good.N, 1<<31-1).Fingerprint(); err != nil {
		t.Errorf("a large exponent: %v", err)
	}
	for name, k := range map[string]tuf.Key{
		"e=1": rsaKey(t, good.N, 1), "e=2": rsaKey(t, good.N, 2), "e=3": rsaKey(t, good.N, 3), "e=65535": rsaKey(t, good.N, 65535), "e=65536": rsaKey(t, good.N, 65536), "e=65538": rsaKey(t, good.N, 65538),
		"an even modulus": rsaKey(t, even, 65537), "a prime modulus": rsaKey(t, prime, 65537),
	} {
		if _, err := k.Fingerprint(); err == nil {
			t.Errorf("%s: has a fingerprint", name)
		}
		r := rawtuf.New()
		id := k.ID()
		rawtuf.At(r.Root, "keys")[id] = doc{"keytype": k.Type, "scheme": k.Scheme, "keyval": doc{"public": k.Public}}
		rawtuf.At(r.Charter(), "classes", 0, "roles", 0)["keyids"] = []any{id}
		r.PublishRoot()
		_, err := tuf.OpenRoot(r.Files["1.root.json"], nil)
		want(t, err, tuf.ErrCharter, "H9: key")
		// The same as a next root, and as a proposal.
		r = rawtuf.New()
		c := newClient(t, r)
		r.NextRoot(func() {
			rawtuf.At(r.Root, "keys")[id] = doc{"keytype": k.Type, "scheme": k.Scheme, "keyval": doc{"public": k.Public}}
			rawtuf.At(r.Charter(), "classes", 0, "roles", 0)["keyids"] = []any{id}
		})
		_, err = c.root.Next(r.Files["2.root.json"])
		want(t, err, tuf.ErrCharter, "H9: key")
		_, err = c.root.Propose(r.Files["2.root.json"])
		want(t, err, tuf.ErrCharter, "H9: key")
	}
	// Signatures for a prime modulus are valid but do not count.
	for name, key := range map[string]crypto.Signer{"sound": good, "prime": primeSigner{prime}} {
		r := rawtuf.NewPlain()
		r.Keys["rsa"] = key
		r.AddKeys(r.Root, "rsa")
		rawtuf.At(r.Root, "roles")["targets"] = r.Role(1, "rsa")
		r.Signers["targets"] = []string{"rsa"}
		r.PublishRoot()
		r.Publish()
		_, err := newClient(t, r).find(r, "top.txt")
		if name == "sound" {
			want(t, err, nil, "")
			continue
		}
		want(t, err, tuf.ErrThreshold, "0 of 1 needed keys of targets")
		digest := sha256.Sum256([]byte("payload"))
		sig, _ := key.Sign(nil, digest[:], nil)
		if err := rsa.VerifyPSS(&rsa.PublicKey{N: prime, E: 65537}, crypto.SHA256, digest[:], sig, nil); err != nil {
			t.Fatalf("the attack is none: %v", err)
		}
		if rsaKey(t, prime, 65537).Verifies([]byte("payload"), sig) {
			t.Error("a signature for a prime modulus verifies")
		}
	}
}
