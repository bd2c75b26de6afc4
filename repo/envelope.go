package repo

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
	"github.com/visum-dev/visum/tuf"
)

// envelope is a parsed metadata file whose signatures are not verified yet.
type envelope struct {
	signed  wire.Value
	typ     string
	version int64
	sigs    map[string][]byte
}

func openEnvelope(data []byte) (e envelope, err error) {
	v, err := wire.Canonical(data)
	if err != nil {
		return e, err
	}
	var sigs, typ, version wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &e.signed}, wire.Field{Name: "signatures", To: &sigs}); err != nil {
		return e, err
	}
	if err := e.signed.Fields(wire.Field{Name: "_type", To: &typ}, wire.Field{Name: "version", To: &version}); err != nil {
		return e, err
	}
	if e.typ, err = typ.Text(); err != nil {
		return e, err
	}
	if e.version, err = version.Int(); err != nil {
		return e, err
	}
	e.sigs, err = layout.Signatures(sigs, tuf.Limits{}.WithDefaults().Signatures)
	return e, err
}

// signers counts the distinct keys with a valid signature.
func (e *envelope) signers(keys map[string]tuf.Key) int {
	return len(tuf.Signers(e.signed, e.sigs, keys))
}

// delegatedKeys returns the keys that t names for the roles it delegates to.
func delegatedKeys(t *tuf.Targets) ([]keySet, error) {
	v, err := wire.Canonical(t.Bytes())
	if err != nil {
		return nil, fmt.Errorf("repo: %s: %w", roleText(t.Role()), err)
	}
	return keysIn(t.Role(), member(v, "signed"))
}

// keySet holds the keys and the threshold of a role.
type keySet struct {
	role      string
	bins      int // number of hex digits after the prefix role in the names of hash bins; 0: role is no such prefix
	keys      map[string]tuf.Key
	threshold int
}

// member returns a member of an object, or nil if there is none.
func member(v wire.Value, name string) wire.Value {
	for n, m := range v.Members() {
		if n.Compare(name) == 0 {
			return m
		}
	}
	return nil
}

// memberOf returns a member of a verified role's signed part, or nil if there is none.
func memberOf(t *tuf.Targets, name string) (m wire.Value, err error) {
	v, err := wire.Canonical(t.Bytes())
	if err != nil {
		return nil, err
	}
	var signed wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return nil, err
	}
	err = signed.Fields(wire.Field{Name: name, To: &m})
	return m, err
}

// canonical returns the canonical JSON form of v.
func canonical(v any) (wire.Value, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return wire.Canonical(data)
}

// canonicalText returns a string in canonical JSON form.
func canonicalText(s string) wire.Value { return wire.AppendString(nil, s) }

func sum256(data []byte) string { s := sha256.Sum256(data); return hex.EncodeToString(s[:]) }

// parseEntry reads the entry of a target in a repository with a charter.
func parseEntry(v wire.Value) (layout.Entry, error) {
	e, err := layout.ParseEntry(v)
	if err == nil && e.Hashes.SHA256 == "" {
		err = errors.New("no sha256")
	}
	return e, err
}

// newEntry builds the entry of a target; rel may be nil.
func newEntry(length int64, sha256 []byte, rel *tuf.Release) (wire.Value, error) {
	out := append(make([]byte, 0, 112), '{')
	if rel != nil {
		v, err := canonical(rel)
		if err != nil {
			return nil, err
		}
		out = append(out, `"custom":{"`+layout.ReleaseMember+`":`...)
		out = append(append(out, v...), `},`...)
	}
	out = append(out, `"hashes":{"sha256":"`...)
	out = hex.AppendEncode(out, sha256)
	out = append(out, `"},"length":`...)
	return slices.Clip(append(strconv.AppendInt(out, length, 10), '}')), nil
}

// releaseOf reads the release data of an entry; ok is false if there is none. If the
// data is invalid, product, version, channel and platform are returned as written, and
// of the other fields only the valid ones. See checkReleaseFields.
func releaseOf(v wire.Value) (rel tuf.Release, ok bool) {
	e, err := parseEntry(v)
	if err != nil || e.Release == nil {
		return rel, false
	}
	if rel, err = tuf.ParseRelease(e.Release.JSON()); err != nil { // releases that earlier tools listed must be identifiable
		for name, to := range map[string]*string{"product": &rel.Product, "version": &rel.Version, "channel": &rel.Channel, "platform": &rel.Platform} {
			*to, _ = member(e.Release, name).Text()
		}
	}
	return rel, true
}

// isPlain reports whether an entry has no release data. It searches the bytes first,
// since a repository may have very many files and most of them have no release data.
func isPlain(v wire.Value) bool {
	if !bytes.Contains(v, []byte(`"`+layout.ReleaseMember+`":`)) {
		return true
	}
	e, err := parseEntry(v)
	return err != nil || e.Release == nil
}

// checkReleaseFields returns an error for an entry whose release data clients refuse.
func checkReleaseFields(target string, v wire.Value) error {
	e, err := parseEntry(v)
	if err == nil && e.Release != nil {
		_, err = tuf.ParseRelease(e.Release.JSON())
	}
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return nil
}

// listed is a target as a role lists it.
type listed struct {
	path           string
	name           string // in storage
	length         int64
	sha256, sha512 string     // lower-case hex; one of them may be empty, with a charter only sha512
	release        wire.Value // the release fields, canonical; nil for a target without release data
	unstorable     error      // why no Storage can hold a file of this name; nil if one can
}

func parseListed(path string, v wire.Value) (x listed, err error) {
	e, err := layout.ParseEntry(v)
	if err != nil {
		return x, err
	}
	x = listed{path: path, length: e.Length, sha256: e.Hashes.SHA256, sha512: e.Hashes.SHA512, release: e.Release}
	x.name = layout.TargetName(path, cmp.Or(x.sha256, x.sha512))
	x.unstorable = storage.CheckName(x.name)
	return x, nil
}

// without returns an object without the named members; nil stays nil.
func without(v wire.Value, names ...string) wire.Value {
	if v == nil {
		return nil
	}
	out := wire.Value{'{'}
	for n, m := range v.Members() {
		if slices.ContainsFunc(names, func(s string) bool { return n.Compare(s) == 0 }) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), n...), '"', ':'), m...)
	}
	return append(out, '}')
}

// keysIn returns the keys that a role's signed part names for the roles it delegates
// to.
func keysIn(role string, signed wire.Value) ([]keySet, error) {
	v := member(signed, "delegations")
	if v == nil {
		return nil, nil
	}
	d := &metadata.Delegations{}
	if err := json.Unmarshal(v.JSON(), d); err != nil {
		return nil, fmt.Errorf("repo: %s: %w", roleText(role), err)
	}
	set := func(role string, ids []string, threshold, bins int) keySet {
		k := keySet{role, bins, map[string]tuf.Key{}, threshold}
		for _, id := range ids {
			if key := d.Keys[id]; key != nil {
				k.keys[id] = tuf.Key{Type: key.Type, Scheme: key.Scheme, Public: key.Value.PublicKey}
			}
		}
		return k
	}
	var out []keySet
	for _, r := range d.Roles {
		out = append(out, set(r.Name, r.KeyIDs, r.Threshold, 0))
	}
	if s := d.SuccinctRoles; s != nil {
		out = append(out, set(s.NamePrefix, s.KeyIDs, s.Threshold, (s.BitLength+3)/4))
	}
	return out, nil
}

func expiryOf(signed wire.Value) (time.Time, error) {
	when, err := member(signed, "expires").Text()
	if err != nil {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, when)
}
