package tuf

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/visum-dev/visum/internal/wire"
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
}

// OpenRoot reads a root that the caller trusts already, for example because it is
// embedded in the product. It checks that the root meets its own threshold and, with
// a charter, each party's minimum and the charter's rules. It does not check expiry:
// an update may start from an expired root (specification, 5.2 and 5.3.10). opt may
// be nil. Errors wrap [ErrUntrusted].
func OpenRoot(data []byte, opt *Options) (*Root, error) {
	r, err := parseRoot(data, opt)
	if err == nil {
		err = r.signedBy(r)
	}
	if err == nil {
		err = r.checkSound()
	}
	if err != nil {
		attach(err, data)
		return nil, err
	}
	return r, nil
}

// Next reads the successor of r (specification, 5.3.4 and 5.3.5). Its version must
// be exactly one more. It must meet the thresholds of both roots and, with a
// charter, each party's minimum in both. The new charter must obey rules H1 to H12.
// Next does not check expiry: intermediate roots may be expired (5.3.10). Errors
// wrap [ErrUntrusted] and hold the refused bytes as Evidence.
func (r *Root) Next(data []byte) (next *Root, err error) {
	defer func() { attach(err, data) }()
	if r == nil || r.doc == nil {
		return nil, refuse("root", 0, ErrUntrusted, "zero Root")
	}
	if next, err = r.readNext(data); err != nil {
		return nil, err
	}
	if err := next.signedBy(r); err != nil {
		return nil, err
	}
	if err := next.signedBy(next); err != nil {
		return nil, err
	}
	if err := r.checkSuccessor(next); err != nil {
		return nil, err
	}
	return next, nil
}

// readNext reads the successor of r and checks its version and form, not its
// signatures.
func (r *Root) readNext(data []byte) (*Root, error) {
	next, err := parseRoot(data, r.opt)
	if err != nil {
		return nil, err
	}
	if next.doc.version != r.doc.version+1 {
		e := refuse("root", next.doc.version, ErrVersion, "the root after v%d must be v%d", r.doc.version, r.doc.version+1)
		if next.doc.version <= r.doc.version {
			e.Err = ErrRollback
		}
		return nil, e
	}
	next.keys.remember(r.keys)
	return next, nil
}

// signedBy returns an error unless r meets the threshold of by's root role and each
// party's minimum in by.
func (r *Root) signedBy(by *Root) error {
	whose := "the new root"
	if by != r {
		whose = "the trusted root"
	}
	if c := by.charter; c != nil {
		for _, p := range c.parties {
			if _, err := r.doc.threshold(roleKeys{p.KeyIDs, p.Min}, by.keys, "party "+p.Name+" in "+whose); err != nil {
				return err
			}
		}
	}
	_, err := r.doc.threshold(by.roles["root"], by.keys, whose)
	return err
}

func parseRoot(data []byte, opt *Options) (*Root, error) {
	if opt == nil {
		opt = &Options{}
	}
	o := *opt
	o.Limits = o.Limits.WithDefaults()
	var keys, roles, consistent, charter wire.Value
	doc, err := open(data, "root", "root", o.Limits, wire.Field{Name: "keys", To: &keys}, wire.Field{Name: "roles", To: &roles},
		wire.Field{Name: "consistent_snapshot", To: &consistent}, wire.Field{Name: CharterMember, To: &charter})
	if err != nil {
		return nil, err
	}
	r := &Root{doc: doc, opt: &o, roles: map[string]roleKeys{}, sum: hexSum256(doc.signed)}
	fail := func(err error) (*Root, error) { return nil, malformed("root", doc.version, err) }
	// The member may be absent without a charter (specification, 4.3). With a charter
	// every published name must include a version or a hash; otherwise old and new
	// files could not exist at the same time.
	if consistent != nil {
		if r.consistent, err = consistent.Bool(); err != nil {
			return fail(syntaxf("consistent_snapshot: %v", err))
		}
	}
	if charter != nil && !r.consistent {
		return fail(syntaxf("consistent_snapshot must be true with a charter"))
	}
	if r.keys, err = parseKeyring(keys); err != nil {
		return fail(err)
	}
	if roles.Kind() != '{' {
		return fail(syntaxf("roles must be an object"))
	}
	for name, v := range roles.Members() {
		k, err := parseRoleKeys(v)
		if err != nil {
			return fail(err)
		}
		r.roles[name.String()] = k
	}
	for _, name := range []string{"root", "timestamp", "snapshot", "targets"} {
		if _, ok := r.roles[name]; !ok {
			return fail(syntaxf("no role %s", name))
		}
	}
	if charter != nil {
		if r.charter, err = parseCharter(charter); err != nil {
			return fail(err)
		}
		if err := r.checkCharter(); err != nil {
			return nil, err
		}
	}
	return r, nil
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
	d := &document{signed: payload, sigs: sigs, checked: map[checkedBy]bool{}}
	_, counted := d.signers(ids, r.keys)
	return counted
}
