package metafile

import (
	"cmp"

	"github.com/visum-dev/visum/internal/layout"
	"github.com/visum-dev/visum/internal/wire"
	"github.com/visum-dev/visum/repo/storage"
)

// Target is a target as a role lists it.
type Target struct {
	Path           string
	Name           string // in storage
	Length         int64
	SHA256, SHA512 string     // lower-case hex; one of them may be empty, with a charter only sha512
	Release        wire.Value // the release fields, canonical; nil for a target without release data
	Unstorable     error      // why no Storage can hold a file of this name; nil if one can
}

// ParseTarget reads the entry of a path.
func ParseTarget(path string, v wire.Value) (x Target, err error) {
	e, err := layout.ParseEntry(v)
	if err != nil {
		return x, err
	}
	x = Target{Path: path, Length: e.Length, SHA256: e.Hashes.SHA256, SHA512: e.Hashes.SHA512, Release: e.Release}
	x.Name = layout.TargetName(path, cmp.Or(x.SHA256, x.SHA512))
	x.Unstorable = storage.CheckName(x.Name)
	return x, nil
}
