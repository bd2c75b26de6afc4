package tuf

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// document is one metadata file: strictly parsed, not yet verified.
type document struct {
	role    string // for messages
	raw     []byte // as received
	signed  wire.Value
	version int64
	expires time.Time
	sigs    map[string][]byte  // by key id; nil if the signature can't be decoded
	checked map[checkedBy]bool // results of verifications: several rules count the same signatures
}

// checkedBy identifies the verification of a signature with a key. It is no joined
// string: ids are arbitrary strings, and two pairs could be joined to the same one.
type checkedBy struct{ id, fingerprint string }

// open reads a metadata file of the given type. role is its name for messages;
// fields are the members of the signed part that the caller wants besides the
// common ones.
func open(data []byte, role, typ string, lim Limits, fields ...wire.Field) (*document, error) {
	d := &document{role: role, checked: map[checkedBy]bool{}}
	if max := lim.forType(typ); int64(len(data)) > max {
		return nil, refuse(role, 0, ErrTooLarge, "%d bytes, at most %d", len(data), max)
	}
	signatures, err := d.envelope(data)
	if err != nil {
		return nil, err
	}
	var vType, vSpec, vVersion, vExpires wire.Value
	fields = append(fields, wire.Field{Name: "_type", To: &vType}, wire.Field{Name: "spec_version", To: &vSpec},
		wire.Field{Name: "version", To: &vVersion}, wire.Field{Name: "expires", To: &vExpires})
	if err := d.signed.Fields(fields...); err != nil {
		return nil, malformed(role, 0, err)
	}
	if d.version, err = vVersion.Int(); err != nil || d.version < 1 {
		return nil, refuse(role, 0, ErrMalformed, "version must be a positive integer, is %s", vVersion)
	}
	if t, err := vType.Text(); err != nil || t != typ {
		return nil, refuse(role, d.version, ErrMalformed, "_type is %s, want %q", vType, typ)
	}
	if s, err := vSpec.Text(); err != nil || s != "1" && !strings.HasPrefix(s, "1.") {
		return nil, refuse(role, d.version, ErrMalformed, "spec_version is %s, want 1.x", vSpec)
	}
	s, _ := vExpires.Text()
	if d.expires, err = time.Parse(time.RFC3339, s); err != nil || !dateForm.MatchString(s) {
		return nil, refuse(role, d.version, ErrMalformed, "expires is %s, want RFC 3339", vExpires)
	}
	return d, d.signatures(signatures, lim.Signatures)
}

// envelope reads signed and signatures, without looking into them.
func (d *document) envelope(data []byte) (signatures wire.Value, err error) {
	// The caller may reuse the buffer; verified bytes must not change.
	d.raw = clone(data)
	env, err := wire.Canonical(d.raw)
	if err != nil {
		return nil, malformed(d.role, 0, err)
	}
	if err := env.Fields(wire.Field{Name: "signed", To: &d.signed}, wire.Field{Name: "signatures", To: &signatures}); err != nil {
		return nil, malformed(d.role, 0, err)
	}
	if d.signed.Kind() != '{' || signatures.Kind() != '[' {
		return nil, refuse(d.role, 0, ErrMalformed, "signed must be an object and signatures an array")
	}
	return signatures, nil
}

func (d *document) signatures(v wire.Value, limit int) (err error) {
	d.sigs, err = layout.Signatures(v, limit)
	if errors.Is(err, layout.ErrManySignatures) {
		return refuse(d.role, d.version, ErrTooLarge, "more than %d signatures", limit)
	} else if err != nil {
		return malformed(d.role, d.version, err)
	}
	return nil
}

// dateForm is the form of RFC 3339; time.Parse is more lenient.
var dateForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// keyring holds the keys of a delegator, by id.
type keyring map[string]ringKey

type ringKey struct {
	Key
	pub         crypto.PublicKey // nil: unusable
	fingerprint string           // "" for an unusable key
	prime       func() bool      // see [primeModulus], computed once; nil for a key other than RSA
}

func newRingKey(k Key) ringKey {
	rk := ringKey{Key: k}
	if pub, err := k.cheapPublic(); err == nil {
		rk.pub, rk.fingerprint = pub, fingerprint(pub)
		if _, ok := pub.(*rsa.PublicKey); ok {
			rk.prime = sync.OnceValue(func() bool { return primeModulus(pub) })
		}
	}
	return rk
}

// sound does the expensive checks of a usable key. It is called only after a
// signature by the key was found valid.
func (k ringKey) sound() bool { return k.prime == nil || !k.prime() }

// roleKeys are the key ids and the threshold of a role.
type roleKeys struct {
	keyIDs    []string
	threshold int
}

// signers returns the fingerprints of the distinct keys among ids that signed d,
// and their ids, sorted. All signatures of this package are counted here: those of
// root, the top-level roles, delegated roles and parties.
func (d *document) signers(ids []string, keys keyring) (fingerprints, keyIDs []string) {
	for _, id := range ids {
		k, sig := keys[id], d.sigs[id]
		if k.pub == nil || len(sig) == 0 || slices.Contains(fingerprints, k.fingerprint) {
			continue // no such key, an unusable key, no signature, or a key that was counted already
		}
		by := checkedBy{id, k.fingerprint}
		valid, known := d.checked[by]
		if !known {
			valid = verifies(k.pub, d.signed, sig) && k.sound()
			d.checked[by] = valid
		}
		if valid {
			fingerprints = append(fingerprints, k.fingerprint)
			keyIDs = append(keyIDs, id)
		}
	}
	slices.Sort(keyIDs)
	return fingerprints, keyIDs
}

// threshold returns an error unless enough distinct keys signed. by names the
// owner of the keys in the message. The result is the ids that counted.
func (d *document) threshold(r roleKeys, keys keyring, by string) ([]string, error) {
	have, ids := d.signers(r.keyIDs, keys)
	if r.threshold < 1 || len(have) < r.threshold {
		e := refuse(d.role, d.version, ErrThreshold, "%d of %d needed keys of %s signed", len(have), r.threshold, by)
		e.Have, e.Want, e.KeyIDs, e.Evidence = len(have), r.threshold, ids, d.raw
		if kinds, n := d.unknownKinds(r.keyIDs, keys); n > 0 && len(have)+n >= r.threshold {
			e.Err = ErrUnknownKey
			e.Detail += ", " + strconv.Itoa(n) + " more can't be checked: kind " + strings.Join(kinds, ", ")
		}
		return nil, e
	}
	return ids, nil
}

// unknownKinds counts the keys of an unsupported kind with a signature in d, and
// names some of these kinds.
func (d *document) unknownKinds(ids []string, keys keyring) (kinds []string, n int) {
	for _, id := range ids {
		k, listed := keys[id]
		if _, signed := d.sigs[id]; !listed || !signed || k.knownKind() {
			continue
		}
		n++
		kind := text.Quote(k.Type) + " with scheme " + text.Quote(k.Scheme)
		if len(kinds) < 3 && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, n
}

// signedByAny reports whether one of the role's keys signed, under whatever id.
// One key suffices for a prior file: it was trusted as a whole before, perhaps
// under a lower threshold, and its versions must remain floors.
func (d *document) signedByAny(r roleKeys, keys keyring) bool {
	if have, _ := d.signers(r.keyIDs, keys); len(have) > 0 {
		return true
	}
	tries := maxOtherIDs
	for _, id := range r.keyIDs {
		k := keys[id]
		if k.pub == nil {
			continue
		}
		for _, sig := range d.sigs {
			if tries--; tries < 0 {
				return false
			}
			if len(sig) > 0 && verifies(k.pub, d.signed, sig) && k.sound() {
				return true
			}
		}
	}
	return false
}

// maxOtherIDs bounds the verifications of signatures with keys of other ids.
const maxOtherIDs = 64

// parseKeyring reads a "keys" object.
func parseKeyring(v wire.Value) (keyring, error) {
	ring := keyring{}
	if v.Kind() != '{' {
		return nil, wire.ErrSyntax
	}
	for id, kv := range v.Members() {
		k, err := parseKey(kv)
		if err != nil {
			return nil, err
		}
		ring[id.String()] = newRingKey(k)
	}
	return ring, nil
}

// remember copies results of expensive key checks from the previous ring.
func (ring keyring) remember(before keyring) {
	for id, k := range ring {
		if was := before[id]; k.prime != nil && was.prime != nil && was.fingerprint == k.fingerprint {
			k.prime = was.prime
			ring[id] = k
		}
	}
}

// parseRoleKeys reads {"keyids":[...],"threshold":n}.
func parseRoleKeys(v wire.Value, extra ...wire.Field) (roleKeys, error) {
	var ids, threshold wire.Value
	if err := v.Fields(append(extra, wire.Field{Name: "keyids", To: &ids}, wire.Field{Name: "threshold", To: &threshold})...); err != nil {
		return roleKeys{}, err
	}
	n, err := threshold.Int()
	if err != nil {
		return roleKeys{}, err
	}
	list, err := parseStrings(ids)
	if err != nil {
		return roleKeys{}, err
	}
	if n < 1 || n > 1<<16 {
		return roleKeys{}, syntaxf("threshold is %d", n)
	}
	if dup := duplicate(list); dup != "" {
		return roleKeys{}, syntaxf("key id %s listed twice", text.Name(dup))
	}
	return roleKeys{list, int(n)}, nil
}

func parseStrings(v wire.Value) ([]string, error) {
	if v.Kind() != '[' {
		return nil, syntaxf("an array of strings was expected")
	}
	var list []string
	for e := range v.Elements() {
		s, err := e.Text()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// duplicate returns an element that is in list twice, or "".
func duplicate(list []string) string {
	seen := make(map[string]bool, len(list))
	for _, s := range list {
		if seen[s] {
			return s
		}
		seen[s] = true
	}
	return ""
}

func clone(b []byte) []byte { return bytes.Clone(b) }

// dropNull treats null as an absent member.
func dropNull(v *wire.Value) {
	if v.Kind() == 'n' {
		*v = nil
	}
}

func isTopLevel(role string) bool {
	return role == "root" || role == "timestamp" || role == "snapshot" || role == "targets"
}
