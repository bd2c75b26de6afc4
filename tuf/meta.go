package tuf

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// RoleFile names one version of a metadata file.
type RoleFile struct {
	Role    string // as in metadata; not escaped for URLs or file names
	Version int64  // listed version
	// MaxLength is the greatest number of bytes to read: the listed length, or
	// [Limits].Unlisted if none is listed, and at most the limit of the role's kind. A
	// longer file is refused before it is parsed ([ErrTooLarge]).
	MaxLength int64

	single bool // root does not set consistent_snapshot: one file for all versions
}

// Name is the file's name below metadata/, not escaped: 5.snapshot.json, or
// snapshot.json if root does not set consistent_snapshot (specification, 5.5.1,
// 5.6.1 and 5.6.7). In the second case a publication replaces the file, and a
// concurrent read may return another version.
func (f RoleFile) Name() string {
	if f.single {
		return f.Role + ".json"
	}
	return fmt.Sprintf("%d.%s.json", f.Version, f.Role)
}

// roleFile takes the smaller of the listed length and the limit: an attacker with
// the timestamp key must not be able to exhaust memory.
func (r *Root) roleFile(role string, m metaFile, limit int64) RoleFile {
	length := m.length
	if length == 0 {
		length = r.unlisted()
	}
	return RoleFile{role, m.version, min(limit, length), !r.consistent}
}

// unlisted is Limits.Unlisted or its default for the kind of repository.
func (r *Root) unlisted() int64 {
	switch l := r.opt.Limits.Unlisted; {
	case l > 0:
		return l
	case r.charter != nil:
		return 1 << 20
	}
	return 16 << 20
}

// check compares received bytes with their listed length and hashes. It runs before
// parsing, which costs more than hashing.
func (r *Root) check(role string, m metaFile, limit int64, data []byte) error {
	if max := r.roleFile(role, m, limit).MaxLength; m.length == 0 && int64(len(data)) > max {
		return refuse(role, m.version, ErrTooLarge, "%d bytes, at most %d without a listed length", len(data), max)
	}
	return m.check(role, data)
}

// metaFile is an entry of a timestamp or snapshot for another metadata file
// (METAFILES; specification, 4.4).
type metaFile struct {
	version int64
	length  int64 // 0: not listed
	hashes  layout.Hashes
}

func parseMetaFile(v wire.Value) (metaFile, error) {
	var version, length, hv wire.Value
	if err := v.Fields(wire.Field{Name: "version", To: &version}, wire.Field{Name: "length", To: &length}, wire.Field{Name: "hashes", To: &hv}); err != nil {
		return metaFile{}, err
	}
	var m metaFile
	var err error
	if m.version, err = version.Int(); err != nil || m.version < 1 {
		return m, syntaxf("version must be a positive integer, is %s", version)
	}
	if length != nil {
		if m.length, err = length.Int(); err != nil || m.length < 0 {
			return m, syntaxf("length is %s", length)
		}
	}
	m.hashes, err = layout.ParseHashes(hv)
	return m, err
}

// check compares received bytes with the listed length and hashes.
func (m metaFile) check(role string, data []byte) error {
	if m.length > 0 && int64(len(data)) != m.length {
		return refuse(role, m.version, ErrMismatch, "%d bytes, %d are listed", len(data), m.length)
	}
	if m.hashes.SHA256 != "" && hexSum256(data) != m.hashes.SHA256 {
		return refuse(role, m.version, ErrMismatch, "sha256 differs from the listed one")
	}
	if m.hashes.SHA512 != "" {
		if sum := sha512.Sum512(data); hex.EncodeToString(sum[:]) != m.hashes.SHA512 {
			return refuse(role, m.version, ErrMismatch, "sha512 differs from the listed one")
		}
	}
	return nil
}

// index holds the members of a large object, sorted by name as in the canonical
// form. Values are decoded on demand.
type index []entry

type entry struct {
	name wire.Name
	val  wire.Value
}

func newIndex(v wire.Value) (index, error) {
	if v.Kind() != '{' {
		return nil, syntaxf("an object was expected")
	}
	// Allocated once for most members: growing to 100,000 takes five times the memory.
	x := make(index, 0, len(v)/128)
	for name, val := range v.Members() {
		if val.Kind() != '{' {
			return nil, syntaxf("%s must be an object", text.Bytes(name))
		}
		x = append(x, entry{name, val})
	}
	return x, nil
}

func (x index) find(name string) (wire.Value, bool) {
	i, ok := slices.BinarySearchFunc(x, name, func(e entry, name string) int { return e.name.Compare(name) })
	if !ok {
		return nil, false
	}
	return x[i].val, true
}
