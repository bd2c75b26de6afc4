package layout

import (
	"fmt"

	"github.com/visum-dev/visum/internal/wire"
)

// Entry is what a targets role lists of a target (TUF 4.5).
type Entry struct {
	Length  int64
	Hashes  Hashes     // at least one
	Release wire.Value // the release fields, canonical; nil for a target without release data
}

// ParseEntry reads the entry of a target.
func ParseEntry(v wire.Value) (e Entry, err error) {
	var length, hashes, custom wire.Value
	if err := v.Fields(wire.Field{Name: "length", To: &length}, wire.Field{Name: "hashes", To: &hashes}, wire.Field{Name: "custom", To: &custom}); err != nil {
		return e, err
	}
	if e.Length, err = length.Int(); err != nil || e.Length < 0 {
		return e, fmt.Errorf("%w: length is %s", wire.ErrSyntax, length)
	}
	if e.Hashes, err = ParseHashes(hashes); err != nil {
		return e, err
	}
	if e.Hashes == (Hashes{}) {
		return e, fmt.Errorf("%w: no hash", wire.ErrSyntax)
	}
	if custom.Kind() == '{' {
		err = custom.Fields(wire.Field{Name: ReleaseMember, To: &e.Release})
	}
	return e, err
}
