package tuf

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
)

// Root is a verified root. Only [OpenRoot], [OpenPin], [Root.Next] and
// [Recovery.Accept] create one. Functions and methods that verify with a Root refuse
// the zero value.
type Root struct {
	doc     *document
	opt     *Options
	keys    keyring
	roles   map[string]roleKeys
	charter *Charter // nil in a plain TUF repository
	// consistent is consistent_snapshot: names of content include a version or a hash.
	// Always true with a charter.
	consistent bool
	sum        string // sha256 of the signed part
	// force is what is in force under the root; nil: what the root itself says.
	force *logForce
}

// Version is the root's version number.
func (r *Root) Version() int64 { return r.doc.version }

// Expires is the root's own expiry.
func (r *Root) Expires() time.Time { return r.doc.expires }

// CheckExpiry returns an error that wraps [ErrExpired] if the root is expired at now
// (specification, 5.3.10).
func (r *Root) CheckExpiry(now time.Time) error {
	if r == nil || r.doc == nil {
		return refuse("root", 0, ErrUntrusted, "zero Root")
	}
	if !now.Before(r.doc.expires) {
		return expired("root", r.doc.version, r.doc.expires, now)
	}
	return nil
}

// Bytes returns a copy of the root as received; nil for the zero value.
func (r *Root) Bytes() []byte {
	if r == nil || r.doc == nil {
		return nil
	}
	return clone(r.doc.raw)
}

// SHA256 is the hash of the canonical signed part, in hex. A successor has it as
// prev_root_sha256.
func (r *Root) SHA256() string { return r.sum }

// ConsistentSnapshot reports whether the names of content include a version or a
// hash. It is always true with a charter.
func (r *Root) ConsistentSnapshot() bool { return r != nil && r.consistent }

// Charter returns the agreement of the parties; nil in a TUF repository without one.
func (r *Root) Charter() *Charter { return r.charter }

// Keys returns the keys with the given ids, by id.
func (r *Root) Keys(ids []string) map[string]Key {
	out := map[string]Key{}
	for _, id := range ids {
		if k, ok := r.keys[id]; ok {
			out[id] = k.Key
		}
	}
	return out
}

// RoleKeys returns the key ids and threshold of a top-level role.
func (r *Root) RoleKeys(role string) (ids []string, threshold int) {
	k := r.roles[role]
	return slices.Clone(k.keyIDs), k.threshold
}

// KeySet is a fingerprint of the public keys with the given ids. It is equal for
// equal sets of public keys, independent of their order and ids. Keys that can't be
// used do not count.
func (r *Root) KeySet(ids []string) string {
	var fps []string
	for _, id := range ids {
		if k := r.keys[id]; k.pub != nil {
			fps = append(fps, k.fingerprint)
		}
	}
	slices.Sort(fps)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(fps), " ")))
	return hex.EncodeToString(sum[:])
}

// OnlineKeys is the [Root.KeySet] of timestamp and snapshot together. If it differs
// from the value under which a timestamp and a snapshot were trusted, both must be
// discarded, even if the keys of one of them are unchanged: pass nil as prior
// (specification, 5.3.11, fast-forward).
func (r *Root) OnlineKeys() string {
	return r.KeySet(r.roles["timestamp"].keyIDs) + r.KeySet(r.roles["snapshot"].keyIDs)
}

// Signed returns, sorted, the ids whose keys signed payload; each public key counts
// once, even if it has several ids. sigs holds the signatures by key id. Signed is
// for payloads other than metadata, and counts as for metadata.
func (r *Root) Signed(payload []byte, sigs map[string][]byte, ids []string) []string {
	if r == nil || r.doc == nil {
		return nil
	}
	return signersOf(payload, sigs, ids, r.keys)
}

func signersOf(payload []byte, sigs map[string][]byte, ids []string, keys keyring) []string {
	d := &document{signed: payload, sigs: sigs, checked: map[checkedBy]bool{}}
	_, counted := d.signers(ids, keys)
	return counted
}

// Signers returns, sorted, the ids whose keys signed payload, counted as for metadata:
// each public key once. sigs holds the signatures, and keys the keys, by key id. It is
// for authoring tools and auditors, which have keys without a verified root; the keys
// are trusted as far as their source is.
func Signers(payload []byte, sigs map[string][]byte, keys map[string]Key) []string {
	ring, ids := keyring{}, slices.Sorted(maps.Keys(keys))
	for id, k := range keys {
		if len(sigs[id]) > 0 { // no other key counts
			ring[id] = newRingKey(k)
		}
	}
	return signersOf(payload, sigs, ids, ring)
}
