package repo

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/tuf"
)

// listing is a targets role as it is edited: what one metadata file says. Entries
// are canonical, shared between lists and never changed: to approve is to list
// the same bytes.
type listing struct {
	role        string
	doc         wire.Value   // the signed part that it was read from; nil for a new one
	from        *tuf.Targets // as it is published and verified, where it delegates; nil for a new one
	targets     map[string]wire.Value
	delegations *metadata.Delegations // nil: none
	members     map[string]wire.Value // what else the signed part says, such as recalls
	changed     bool
	renewed     bool // all below is to be signed again too
}

func newListing(role string) *listing {
	return &listing{role: role, targets: map[string]wire.Value{}, members: map[string]wire.Value{}}
}

// openListing reads a listing from a verified role.
func openListing(t *tuf.Targets) (*listing, error) {
	l, err := parseListing(t.Role(), t.Bytes())
	if err == nil && l.delegations != nil {
		l.from = t // what delegates nothing needs it no more, and there may be thousands
	}
	return l, err
}

// parseListing reads a file of which nobody says that it is verified.
func parseListing(role string, data []byte) (*listing, error) {
	l := newListing(role)
	fail := func(err error) (*listing, error) { return nil, fmt.Errorf("repo: %s: %w", roleText(l.role), err) }
	v, err := wire.Canonical(data)
	if err != nil {
		return fail(err)
	}
	var signed wire.Value
	if err := v.Fields(wire.Field{Name: "signed", To: &signed}); err != nil {
		return fail(err)
	}
	if err := l.take(signed); err != nil {
		return fail(err)
	}
	return l, nil
}

// take reads a signed part.
func (l *listing) take(signed wire.Value) error {
	l.doc = signed
	for name, v := range signed.Members() {
		switch string(name) {
		case "_type", "version", "expires", "spec_version":
		case "targets":
			for path, entry := range v.Members() {
				l.targets[path.String()] = entry
			}
		case "delegations":
			l.delegations = &metadata.Delegations{}
			if err := json.Unmarshal(v.JSON(), l.delegations); err != nil {
				return err
			}
			if s := l.delegations.SuccinctRoles; s != nil && (s.BitLength < 1 || s.BitLength > maxBits) {
				return fmt.Errorf("hash bins of %d bits, at most %d can be edited: %w", s.BitLength, maxBits, tuf.ErrTooLarge)
			}
		default:
			l.members[name.String()] = v
		}
	}
	return nil
}

// bind names the repository and the role in the signed part. Otherwise a role
// verifies in every repository that has its keys, and where one key signs several
// roles one verifies in the place of another.
func (l *listing) bind(repoID string) {
	l.members[tuf.RepoMember], l.members[tuf.RoleMember] = canonicalText(repoID), canonicalText(l.role)
}

// signed builds the canonical signed part.
func (l *listing) signed(version int64, expires time.Time) (wire.Value, error) {
	members := maps.Clone(l.members)
	members["_type"] = canonicalText("targets")
	members["spec_version"] = canonicalText(metadata.SPECIFICATION_VERSION)
	members["expires"] = canonicalText(stamp(expires))
	members["version"] = strconv.AppendInt(nil, version, 10)
	if l.delegations != nil {
		v, err := canonical(l.delegations)
		if err != nil {
			return nil, err
		}
		members["delegations"] = v
	}
	members["targets"] = nil // written in place: it may be large
	size := 2
	for path, entry := range l.targets {
		size += len(path) + len(entry) + 4
	}
	for name, v := range members {
		size += len(name) + len(v) + 4
	}
	out := append(make([]byte, 0, size), '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(wire.AppendString(out, name), ':')
		if name != "targets" {
			out = append(out, members[name]...)
			continue
		}
		out = append(out, '{')
		for i, path := range slices.Sorted(maps.Keys(l.targets)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(wire.AppendString(out, path), ':')
			out = append(out, l.targets[path]...)
		}
		out = append(out, '}')
	}
	// What was put together by hand must be what it is taken for.
	if out = append(out, '}'); bytes.ContainsFunc(out, unicode.IsControl) {
		out = wire.Value(out).JSON()
	}
	return wire.Canonical(out)
}

// canonical is the canonical form of what marshals to JSON.
func canonical(v any) (wire.Value, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return wire.Canonical(data)
}

// canonicalText is a string in canonical form.
func canonicalText(s string) wire.Value { return wire.AppendString(nil, s) }

// newEntry is a target's entry; rel may be nil.
func newEntry(length int64, sha256 []byte, rel *tuf.Release) (wire.Value, error) {
	out := append(make([]byte, 0, 112), '{')
	if rel != nil {
		v, err := canonical(rel)
		if err != nil {
			return nil, err
		}
		out = append(out, `"custom":{"`+tuf.ReleaseMember+`":`...)
		out = append(append(out, v...), `},`...)
	}
	out = append(out, `"hashes":{"sha256":"`...)
	out = hex.AppendEncode(out, sha256)
	out = append(out, `"},"length":`...)
	return slices.Clip(append(strconv.AppendInt(out, length, 10), '}')), nil
}

// entry is what a list says of a target.
type entry struct {
	length  int64
	sha256  string     // lower-case hex
	release wire.Value // the release fields, canonical; nil for a plain file
}

func parseEntry(v wire.Value) (e entry, err error) {
	var length, hashes, custom, sum wire.Value
	if err = v.Fields(wire.Field{Name: "length", To: &length}, wire.Field{Name: "hashes", To: &hashes}, wire.Field{Name: "custom", To: &custom}); err != nil {
		return e, err
	}
	if e.length, err = length.Int(); err != nil {
		return e, err
	}
	if err = hashes.Fields(wire.Field{Name: "sha256", To: &sum}); err != nil {
		return e, err
	}
	if e.sha256, err = sum.Text(); err != nil {
		return e, err
	}
	if custom.Kind() == '{' {
		err = custom.Fields(wire.Field{Name: tuf.ReleaseMember, To: &e.release})
	}
	return e, err
}

// releaseOf reads the release fields of an entry: product, version, channel and
// platform as they stand, of the others those that are good; false for a plain file.
// See judged.
func releaseOf(v wire.Value) (rel tuf.Release, ok bool) {
	e, err := parseEntry(v)
	if err != nil || e.release == nil {
		return rel, false
	}
	if rel, err = tuf.ParseRelease(e.release.JSON()); err != nil { // what an earlier tool has listed has a name too
		for name, to := range map[string]*string{"product": &rel.Product, "version": &rel.Version, "channel": &rel.Channel, "platform": &rel.Platform} {
			*to, _ = member(e.release, name).Text()
		}
	}
	return rel, true
}

// judged refuses an entry with release fields that clients refuse.
func judged(target string, v wire.Value) error {
	e, err := parseEntry(v)
	if err == nil && e.release != nil {
		_, err = tuf.ParseRelease(e.release.JSON())
	}
	if err != nil {
		return fmt.Errorf("repo: %s: %w", text.Name(target), err)
	}
	return nil
}

// memberOf returns a member of a verified role's signed part; nil for none.
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
