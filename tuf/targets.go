package tuf

import (
	"fmt"
	"time"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/text"
	"github.com/visum-dev/visum/internal/wire"
)

// Targets is a verified targets role: the top-level one, a release role or hold of
// the charter, or a delegated role.
type Targets struct {
	doc         *document
	name        string
	keyIDs      []string // the keys that counted towards the threshold
	files       index
	delegations []delegation
	keys        keyring
	recalls     []Recall
	recalled    map[string][]int // of recalls, by SHA256
}

// Role is the role's name.
func (t *Targets) Role() string { return t.name }

// Version is the role's version number.
func (t *Targets) Version() int64 { return t.doc.version }

// Expires is the role's own expiry.
func (t *Targets) Expires() time.Time { return t.doc.expires }

// Bytes returns a copy of the role as received; nil for the zero value.
func (t *Targets) Bytes() []byte {
	if t == nil || t.doc == nil {
		return nil
	}
	return clone(t.doc.raw)
}

// target is one role's entry for one path.
type target struct {
	length int64
	hashes layout.Hashes
	visum  wire.Value // custom.visum, canonical; nil if absent
}

// file returns this role's own entry for path.
func (t *Targets) file(path string) (target, bool, error) {
	v, ok := t.files.find(path)
	if !ok {
		return target{}, false, nil
	}
	x, err := parseTarget(v)
	if err != nil {
		return target{}, false, refuse(t.name, t.doc.version, ErrMalformed, "target %s: %v", text.Name(path), err)
	}
	return x, true, nil
}

func parseTarget(v wire.Value) (target, error) {
	e, err := layout.ParseEntry(v)
	return target{e.Length, e.Hashes, e.Release}, err
}

// differs names the first difference of two listings of a path; "" if they agree.
func (t target) differs(o target) string {
	if what := t.differsInBytes(o); what != "" {
		return what
	}
	if string(t.visum) != string(o.visum) {
		return "release fields"
	}
	return ""
}

func (t target) differsInBytes(o target) string {
	switch {
	case t.length != o.length:
		return fmt.Sprintf("lengths (%d and %d)", t.length, o.length)
	case t.hashes.SHA256 != o.hashes.SHA256:
		return fmt.Sprintf("sha256 (%.16s and %.16s)", t.hashes.SHA256, o.hashes.SHA256)
	case t.hashes.SHA512 != "" && o.hashes.SHA512 != "" && t.hashes.SHA512 != o.hashes.SHA512:
		return "sha512"
	}
	return ""
}
